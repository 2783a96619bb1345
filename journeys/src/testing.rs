//! Facts for the tests of this crate.

use crate::facts::{At, Fact, FactId, Key, Status, Step};
use crate::time::SECOND;

/// A fact of order `order` by `service`, span `id`, from second `at` on for 10 ms.
pub(crate) fn fact(order: &str, id: u64, at: i64, service: &str, step: Step) -> Fact {
    Fact {
        from: At(at * SECOND),
        id: FactId { trace: [1; 16], span: id.to_be_bytes() },
        to: At(at * SECOND + 10_000),
        parent: None,
        service: service.to_owned(),
        instance: format!("{service}-1"),
        name: String::new(),
        key: Key::parse(order).expect("a number"),
        also: Vec::new(),
        people: Vec::new(),
        step,
        status: None,
        artifact: None,
        trouble: None,
        unseen: None,
        joined: None,
    }
}

/// `service` wrote a status of an order into a table.
pub(crate) fn wrote(order: &str, id: u64, at: i64, service: &str, table: &str, status: &str) -> Fact {
    let step = Step::Wrote { collection: table.to_owned(), rows: 1, transaction: None };
    let status = Some(Status { value: status.to_owned(), written_at: None });
    Fact { name: format!("UPDATE {table}"), status, ..fact(order, id, at, service, step) }
}
