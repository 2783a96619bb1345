//! A statement's span → what it did to a table.
//!
//! *Must not know* SQL beyond the first words of `db.query.summary`, which the tracer wrote: `UPDATE orders`.

use super::attributes::Attributes;
use super::text::tidy;
use super::{End, Step, Transaction};

const MAX_NAME: usize = 128;

/// `None` when the span is of no database.
pub(super) fn step(attributes: Attributes<'_>, name: &str) -> Option<Step> {
    attributes.text("db.system.name").or_else(|| attributes.text("db.system"))?;
    let summary = attributes.text("db.query.summary").unwrap_or(name);
    let mut words = summary.split_whitespace();
    let verb =
        attributes.text("db.operation.name").or_else(|| words.next()).unwrap_or("").to_ascii_uppercase();
    let collection = attributes.text("db.collection.name").or_else(|| summary.split_whitespace().nth(1));
    let collection = tidy(collection.unwrap_or(""), MAX_NAME);
    let transaction = transaction(attributes);
    if let (Some(transaction), Some(how)) = (&transaction, ending(&verb, attributes)) {
        return Some(Step::Ended { transaction: transaction.clone(), how });
    }
    Some(match verb.as_str() {
        "INSERT" | "UPDATE" | "MERGE" | "UPSERT" | "REPLACE" | "DELETE" | "COPY" => {
            // Tracers that do not count rows say nothing: the statement then counts unless it failed.
            let rows = attributes.int("spoor.db.affected_rows").unwrap_or(1);
            Step::Wrote { collection, rows, transaction }
        }
        "SELECT" | "FETCH" | "WITH" | "SHOW" | "TABLE" => Step::Read { collection },
        _ => Step::Other,
    })
}

fn transaction(attributes: Attributes<'_>) -> Option<Transaction> {
    if let Some(id) = attributes.text("spoor.db.transaction.id") {
        let how = match attributes.text("spoor.db.transaction.outcome") {
            Some("committed") => Some(End::Committed),
            Some("rolled_back") => Some(End::RolledBack),
            Some("unknown") => Some(End::Unknown),
            _ => None,
        };
        return Some(Transaction::Id(tidy(id, MAX_NAME), how));
    }
    attributes.int("spoor.db.transaction").map(Transaction::Number)
}

/// A `COMMIT` that fails rolls back.
fn ending(verb: &str, attributes: Attributes<'_>) -> Option<End> {
    match verb {
        "COMMIT" | "END" if attributes.text("error.type").is_none() => Some(End::Committed),
        "COMMIT" | "END" | "ROLLBACK" | "ABORT" => Some(End::RolledBack),
        _ => None,
    }
}
