//! Transcripts → operations; any way of cutting them.

mod build;
mod cuts;
mod snapshot;
mod starts;
mod transcripts;

use super::*;
use crate::operation::postgres::{Cell, Statement};
use crate::operation::{Completeness, Detail, Operation};
use crate::protocol::registry::Conversation;
use crate::protocol::{Discard, Event};
use crate::record::Worker;
use crate::time::ns;

/// A start with a password, a simple query, and two executions of a prepared statement in one batch, of which one fails.
pub(super) fn example() -> Conversation {
    use build::*;
    started(&[
        client(&[query("UPDATE orders SET state = 'paid' WHERE id = 17")]),
        server(&[complete("UPDATE 1"), ready(b'I')]),
        client(&[
            parse("s1", "SELECT n FROM orders WHERE id = $1", &[23]),
            bind("", "s1", &["17"]),
            execute("", 0),
            sync(),
            bind("", "s1", &["x"]),
            execute("", 0),
            sync(),
        ]),
        server(&[
            parse_complete(),
            bind_complete(),
            text_row(&["3"]),
            complete("SELECT 1"),
            ready(b'I'),
            error("22P02", "invalid input syntax"),
            ready(b'I'),
        ]),
    ])
}

/// What one side sent at a time: who, and the bytes. Time is the number of the step, from 1.
type Step = (Sender, Vec<u8>);

fn mark(at: u64) -> Mark {
    Mark { at: ns(at), thread: Worker::new(7, 8), other_pos: 0, awaited_by: None }
}

/// Drives a session and checks the contract of events on the way.
struct Driver {
    session: PostgresSession,
    out: Events,
    positions: [u64; 2],
    events: Vec<Event>,
}

impl Driver {
    fn new(limits: &Protocols) -> Self {
        let session = PostgresSession::new(Role::Client, limits);
        Self { session, out: Events::default(), positions: [0; 2], events: Vec::new() }
    }

    /// Joins a connection that is older.
    fn joined_at(mut self, pos: u64) -> Self {
        self.positions = [pos, pos];
        self
    }

    fn pos(&mut self, from: Sender) -> &mut u64 {
        &mut self.positions[usize::from(from == Sender::Server)]
    }

    fn bytes(&mut self, from: Sender, bytes: &[u8], at: u64) {
        let pos = *self.pos(from);
        *self.pos(from) += bytes.len() as u64;
        self.session.bytes(from, pos, bytes, mark(at), &mut self.out);
        self.drain();
    }

    fn gap(&mut self, from: Sender, len: u64, at: u64) {
        let pos = *self.pos(from);
        *self.pos(from) += len;
        self.session.gap(from, pos, len, mark(at), &mut self.out);
        self.drain();
    }

    fn end(&mut self, end: End, at: u64) {
        self.session.end(end, ns(at), &mut self.out);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(event) = self.out.pop() {
            self.events.push(event);
        }
    }

    /// Each operation: opened once, then at most one request end, closed at most once; in this order.
    fn check_contract(&self, all_closed: bool) {
        let mut stages = std::collections::BTreeMap::new();
        for event in &self.events {
            let (op, from, to) = match event {
                Event::Opened { op, .. } => (*op, 0, 1),
                Event::Requested { op, .. } => (*op, 1, 2),
                Event::Closed(operation) => (operation.id, 2, 3),
                Event::Sent(_) => panic!("no messages: {event:?}"),
                Event::Discarded { .. }
                | Event::Missed { .. }
                | Event::Unread { .. }
                | Event::Hidden { .. }
                | Event::UnreadOver { .. }
                | Event::Read => continue,
            };
            let stage = stages.entry(op).or_insert(0);
            assert!(*stage == from || (to == 3 && *stage == 1), "{op:?} went from {stage} to {to}");
            *stage = to;
        }
        assert!(!all_closed || stages.values().all(|stage| *stage == 3), "left open: {stages:?}");
    }

    fn operations(&self) -> Vec<Operation> {
        let closed = |event: &Event| match event {
            Event::Closed(operation) => Some((**operation).clone()),
            _ => None,
        };
        self.events.iter().filter_map(closed).collect()
    }

    fn discarded(&self, reason: Discard) -> u64 {
        let bytes = |event: &Event| match event {
            Event::Discarded { reason: found, bytes } if *found == reason => Some(*bytes),
            _ => None,
        };
        self.events.iter().filter_map(bytes).sum()
    }
}

fn statement(operation: &Operation) -> &Statement {
    match &operation.detail {
        Detail::Postgres(statement) => statement,
        other => panic!("not a statement: {other:?}"),
    }
}

fn cell(cell: &Option<Cell>) -> String {
    match cell {
        None => "NULL".to_owned(),
        Some(Cell::Text(text)) => text.clone(),
        Some(Cell::Opaque(len)) => format!("<{len}>"),
    }
}

/// An operation on one line: what, when (request start-end, response start-end, end), and all that is known.
fn shown(operation: &Operation) -> String {
    let s = statement(operation);
    let mut line = format!("{:?} {}", s.kind, s.text.as_deref().unwrap_or("<unknown>"));
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            line.push_str(&format!(" | {name} {value}"));
        }
    };
    let list = |cells: &[Option<Cell>]| cells.iter().map(cell).collect::<Vec<_>>().join(",");
    let parameters: Vec<_> = s.parameters.iter().map(|parameter| parameter.value.clone()).collect();
    add("name", s.prepared_name.clone());
    add("params", list(&parameters));
    add("columns", s.columns.join(","));
    add("rows", s.first_rows.iter().map(|row| list(row)).collect::<Vec<_>>().join(";"));
    add("returned", if s.returned_rows > 0 { s.returned_rows.to_string() } else { String::new() });
    add("tag", s.command_tag.clone().unwrap_or_default());
    add(
        "error",
        s.error.as_ref().map(|error| format!("{} {}", error.code, error.message)).unwrap_or_default(),
    );
    add("warning", s.warning.as_ref().map(|warning| warning.code.clone()).unwrap_or_default());
    add("skipped", if s.skipped { "yes".to_owned() } else { String::new() });
    add("block", s.transaction.map(|block| block.number.to_string()).unwrap_or_default());
    add("copied", if s.copy_len > 0 { s.copy_len.to_string() } else { String::new() });
    let response = operation
        .response
        .map(|response| format!(" {}-{}", response.start.at.as_nanos(), response.end.at.as_nanos()));
    let request = operation.request;
    add(
        "at",
        format!(
            "{}-{}{} end {}",
            request.start.at.as_nanos(),
            request.end.at.as_nanos(),
            response.unwrap_or_default(),
            operation.ended_at.as_nanos()
        ),
    );
    match operation.completeness {
        Completeness::Complete => {}
        other => add("but", format!("{other:?}")),
    }
    line
}

/// Runs whole steps through a session seen from its start.
fn run(steps: &[Step]) -> Driver {
    let mut driver = Driver::new(&Protocols::default());
    for (index, (from, bytes)) in steps.iter().enumerate() {
        driver.bytes(*from, bytes, index as u64 + 1);
    }
    driver
}

fn check(steps: &[Step], expected: &[&str]) {
    let mut driver = run(steps);
    driver.end(End::Closed, 99);
    driver.check_contract(true);
    let found: Vec<String> = driver.operations().iter().map(shown).collect();
    assert_eq!(found, expected);
    assert_eq!(driver.discarded(Discard::Invalid) + driver.discarded(Discard::Unsynchronised), 0);
}
