//! Captures of real PostgreSQL clients without any one of their packets: what is told is true, what was over before and what
//! comes after the next ReadyForQuery is told in full.

use std::collections::BTreeMap;
use std::path::PathBuf;

use spoor_core::operation::postgres::{Cell, Statement, StatementKind};
use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::Session;
use spoor_core::protocol::postgres::PostgresSession;
use spoor_core::record::{Role, Sender};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::captures::losses::{Judge, Tally, without_any_packet};
use spoor_tests::captures::{Packet, connections};
use spoor_tests::recorded::fixtures;

fn folder() -> PathBuf {
    fixtures().join("postgres")
}

/// Each capture and the port of its server.
fn captures() -> Vec<(PathBuf, u16)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("counts are there");
        let counts: serde_json::Value = serde_json::from_str(&text).expect("counts are JSON");
        let port = counts["port"].as_u64().expect("a port") as u16;
        let plain = path.with_extension("pcap");
        found.push((if plain.exists() { plain } else { path.with_extension("pcap.gz") }, port));
    }
    found.sort();
    assert!(found.len() >= 19, "{} captures", found.len());
    found
}

fn session() -> Box<dyn Session> {
    Box::new(PostgresSession::new(Role::Client, &Protocols::default()))
}

fn statement(operation: &Operation) -> &Statement {
    match &operation.detail {
        Detail::Postgres(statement) => statement,
        other => panic!("{other:?}"),
    }
}

/// A message as far as turns are concerned: when it was over, who sent it, its tag (0 without one).
#[derive(Clone, Copy, Debug)]
struct Message {
    at: BootTime,
    from: Sender,
    tag: u8,
}

/// The messages of a connection, by walking over tags and lengths.
fn messages(packets: &[Packet]) -> Vec<Message> {
    let mut found = Vec::new();
    let mut streams: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    let mut ends: [Vec<(usize, BootTime)>; 2] = [Vec::new(), Vec::new()];
    for packet in packets {
        let side = packet.from as usize;
        streams[side].extend_from_slice(&packet.data);
        ends[side].push((streams[side].len(), packet.at));
    }
    let mut negotiations = 0;
    for from in [Sender::Client, Sender::Server] {
        let (stream, ends) = (&streams[from as usize], &ends[from as usize]);
        let word = |at: usize| {
            let bytes = stream.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
        };
        // The server answers each request for encryption with a byte; here it refuses.
        let mut at = if from == Sender::Server { negotiations } else { 0 };
        while at < stream.len() {
            let tag = stream[at];
            let (head, tag) = if from == Sender::Client && tag == 0 { (0, 0) } else { (1, tag) };
            let Some(len) = word(at + head) else { break };
            if tag == 0 && word(4 + at).is_some_and(|code| matches!(code, 80_877_103 | 80_877_104)) {
                negotiations += 1;
            }
            at += head + len as usize;
            let end = ends.iter().find(|(end, _)| *end >= at).map_or(BootTime::MAX, |(_, when)| *when);
            found.push(Message { at: end, from, tag });
        }
    }
    // Messages of one packet stay in their order; packets are in that of time.
    found.sort_by_key(|message| message.at);
    found
}

/// When nothing is asked that has no answer, and when the client first asked before it had its answers.
#[derive(Debug, Default)]
struct Turns {
    idle_at: Vec<BootTime>,
    pipelined_at: Option<BootTime>,
}

fn turns(packets: &[Packet]) -> Turns {
    let mut turns = Turns::default();
    // The start of the connection ends with ReadyForQuery as well.
    let (mut outstanding, mut last) = (1_i64, 0);
    for message in messages(packets) {
        match (message.from, message.tag) {
            (Sender::Client, tag @ (b'Q' | b'S' | b'F')) => {
                if outstanding > 0 {
                    turns.pipelined_at.get_or_insert(message.at);
                }
                outstanding += 1;
                last = tag;
            }
            // A Sync that was sent before the data of a COPY is not answered.
            (Sender::Server, b'G') if last == b'S' => outstanding -= 1,
            (Sender::Server, b'Z') => {
                outstanding -= 1;
                if outstanding == 0 {
                    turns.idle_at.push(message.at);
                }
            }
            _ => {}
        }
        let asks = message.from == Sender::Client && matches!(message.tag, b'Q' | b'P' | b'B' | b'E' | b'D');
        let ended = outstanding - i64::from(message.tag == b'Q');
        if asks && ended > 0 {
            turns.pipelined_at.get_or_insert(message.at);
        }
    }
    turns
}

struct Statements;

/// A value of a type that was not told is not decoded.
fn is_cell_part(found: &Option<Cell>, whole: &Option<Cell>) -> bool {
    match (found, whole) {
        (Some(Cell::Opaque(_)), Some(_)) => true,
        (found, whole) => found == whole,
    }
}

impl Judge for Statements {
    fn normal(&self, operation: &Operation) -> Operation {
        Operation { id: Default::default(), ..operation.clone() }
    }

    fn is_same(&self, found: &Operation, whole: &Operation) -> bool {
        // Of a portal that is fetched in parts, or of Parse and Bind apart from Execute, perhaps the end only.
        let ends = |operation: &Operation| operation.response.map(|response| response.end.pos);
        let is_extended = statement(whole).kind != StatementKind::Simple;
        found.request.start.pos == whole.request.start.pos
            || (is_extended && found.request.end.pos == whole.request.end.pos)
            || (is_extended && ends(found).is_some() && ends(found) == ends(whole))
            || (is_extended
                && found.completeness != Completeness::Complete
                && (whole.request.start.pos..whole.request.end.pos).contains(&found.request.start.pos))
            // A portal that is read on.
            || (is_extended
                && found.completeness != Completeness::Complete
                && (whole.request.start.at..whole.ended_at).contains(&found.request.start.at))
    }

    /// That a statement was skipped, and that a portal is not read on, is known later than it ended.
    fn known_at(&self, whole: &Operation) -> BootTime {
        let s = statement(whole);
        if s.command_tag.is_none() && s.error.is_none() { BootTime::MAX } else { whole.ended_at }
    }

    fn is_part(&self, found: &Operation, whole: &Operation) -> bool {
        let is_whole = found.completeness == Completeness::Complete;
        let (f, w) = (statement(found), statement(whole));
        let text = match (&f.text, &w.text) {
            (None, _) => true,
            (Some(f), Some(w)) if !is_whole => w.starts_with(f.as_str()),
            (f, w) => f == w,
        };
        // What is unknown makes it look like the plainer kind.
        let kind = f.kind == w.kind || (w.kind == StatementKind::Copy && !is_whole);
        let parameters = f.parameters.len() <= w.parameters.len()
            && f.parameters.iter().zip(&w.parameters).all(|(f, w)| {
                (f.type_oid == 0 || f.type_oid == w.type_oid) && is_cell_part(&f.value, &w.value)
            });
        let rows = f.first_rows.len() <= w.first_rows.len()
            && f.first_rows
                .iter()
                .zip(&w.first_rows)
                .all(|(f, w)| f.len() <= w.len() && f.iter().zip(w).all(|(f, w)| is_cell_part(f, w)));
        let columns = f.columns.is_empty() || (f.columns == w.columns && f.column_tables == w.column_tables);
        fn known<T: PartialEq>(f: &Option<T>, w: &Option<T>) -> bool {
            f.is_none() || f == w
        }
        text && kind
            && parameters
            && rows
            && columns
            && (f.prepared_name.is_empty() || f.prepared_name == w.prepared_name)
            && f.returned_rows <= w.returned_rows
            && f.copy_len <= w.copy_len
            && known(&f.command_tag, &w.command_tag)
            && known(&f.error, &w.error)
            && known(&f.warning, &w.warning)
            && known(&f.database, &w.database)
            && known(&f.user, &w.user)
            && (w.skipped || !f.skipped)
            && (w.transaction.is_some() || f.transaction.is_none())
            && found.shape == whole.shape
    }

    fn is_exact(&self, found: &Operation, whole: &Operation) -> bool {
        let (f, w) = (statement(found), statement(whole));
        self.is_part(found, whole)
            && found.request == whole.request
            && found.response == whole.response
            && found.ended_at == whole.ended_at
            && f.prepared_name == w.prepared_name
            // What an EXECUTE names may have been prepared in what was lost.
            && (f.parameters.len() == w.parameters.len() || (f.executes.is_none() && w.executes.is_some()))
            && f.first_rows.len() == w.first_rows.len()
            && (f.returned_rows, f.copy_len, f.skipped) == (w.returned_rows, w.copy_len, w.skipped)
            && (&f.command_tag, &f.error, &f.warning) == (&w.command_tag, &w.error, &w.warning)
    }

    fn certain_after(&self, packets: &[Packet], lost: usize) -> Option<BootTime> {
        let turns = turns(packets);
        let at = packets[lost].at;
        let certain = turns.idle_at.iter().copied().find(|idle| *idle > at)?;
        // Whose answer is missing on a pipelined connection is not known before all is quiet.
        let pipelined = turns.pipelined_at.is_some_and(|pipelined| pipelined <= certain);
        (!pipelined).then_some(certain)
    }

    /// What is told to be in one transaction block is.
    fn check_all(&self, found: &[Operation], whole: &[Operation], what: &str) {
        let mut blocks = BTreeMap::new();
        for operation in found {
            let one = whole.iter().find(|one| self.is_same(operation, one) && self.is_part(operation, one));
            let Some(one) = one else { continue };
            if let (Some(f), Some(w)) = (statement(operation).transaction, statement(one).transaction) {
                let (f, w) = (f.number, w.number);
                assert_eq!(*blocks.entry(f).or_insert(w), w, "{what}: two transactions as one");
            }
        }
    }
}

#[test]
fn without_any_packet_the_rest_is_told_exactly_and_nothing_else() {
    let mut all = Tally::default();
    for (path, port) in captures() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        for connection in connections(&path, &[port]) {
            // Of the one large capture, each packet of its beginning and some of the rest.
            let step = connection.packets.len() / 600 + 1;
            let chosen = |lost: usize| lost < 200 || lost.is_multiple_of(step);
            let tally = without_any_packet(&name, &connection.packets, chosen, session, &Statements);
            all.add(tally);
        }
    }
    all.check(10_000);
}

#[test]
fn every_beginning_of_a_connection_is_incomplete_and_never_wrong() {
    for (path, port) in captures() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        for connection in connections(&path, &[port]) {
            // The dump's whole catalog is one kind of message over and over.
            let packets = &connection.packets[..connection.packets.len().min(150)];
            spoor_tests::captures::every_beginning(&name, packets, session);
        }
    }
}
