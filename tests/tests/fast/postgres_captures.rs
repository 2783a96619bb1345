//! Captures of real clients against a real server: what we report is what the server's log and another dissector counted,
//! whole and joined late. What is told with packets missing is in `postgres_losses`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use spoor_core::operation::postgres::{Cell, Statement};
use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::postgres::PostgresSession;
use spoor_core::protocol::{End, Event, Events, Session as _};
use spoor_core::record::{Mark, Role, Worker};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::captures::{self, Packet};
use spoor_tests::recorded::fixtures;

/// Every client that was captured.
const CLIENTS: [&str; 20] = [
    "asyncpg",
    "jdbc",
    "large_objects",
    "lib_pq",
    "negotiate",
    "node_pg",
    "pg8000",
    "pg_dump",
    "pgbench_extended",
    "pgbench_pipeline",
    "pgbench_prepared",
    "pgbench_simple",
    "pgx",
    "protocol_32",
    "psql",
    "psycopg2",
    "psycopg3",
    "ruby_pg",
    "sqlx",
    "tokio_postgres",
];

fn folder() -> PathBuf {
    fixtures().join("postgres")
}

/// What others counted; see `make/make.py`.
struct Counted {
    port: u16,
    command_complete: usize,
    errors: usize,
    statements: Vec<String>,
}

fn counted(client: &str) -> Counted {
    let path = folder().join(client).with_extension("json");
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let number = |key: &str| json[key].as_u64().unwrap() as usize;
    Counted {
        port: number("port") as u16,
        command_complete: number("command_complete"),
        errors: number("errors"),
        statements: json["statements"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_str().unwrap().to_owned())
            .collect(),
    }
}

/// The connections of a capture file, by the client's port.
fn connections(client: &str, server_port: u16) -> BTreeMap<u16, Vec<Packet>> {
    let plain = folder().join(client).with_extension("pcap");
    let packed = folder().join(client).with_extension("pcap.gz");
    let path = if plain.exists() { plain } else { packed };
    let found = captures::connections(&path, &[server_port]);
    found.into_iter().map(|connection| (connection.client, connection.packets)).collect()
}

/// Each packet of a small capture; of a large one some, spread evenly.
fn chosen(packets: &[Packet], first: usize) -> impl Iterator<Item = usize> {
    (first..packets.len()).step_by(packets.len() / 400 + 1)
}

fn mark(at: BootTime) -> Mark {
    Mark { at, thread: Worker::new(1, 1), other_pos: 0, awaited_by: None }
}

/// Runs packets through a session in reads of at most `piece` bytes.
fn run(packets: &[Packet], piece: usize) -> Vec<Operation> {
    let mut session = PostgresSession::new(Role::Client, &Protocols::default());
    let mut out = Events::default();
    let mut operations = Vec::new();
    for packet in packets {
        let mut pos = packet.pos;
        for part in packet.data.chunks(piece) {
            session.bytes(packet.from, pos, part, mark(packet.at), &mut out);
            pos += part.len() as u64;
        }
    }
    session.end(End::Closed, packets.last().map_or(BootTime::ZERO, |packet| packet.at), &mut out);
    while let Some(event) = out.pop() {
        match event {
            Event::Closed(operation) => operations.push(*operation),
            Event::Discarded { reason, bytes } if piece != usize::MAX => {
                panic!("{bytes} bytes discarded: {reason:?}: {:?}", packets.last())
            }
            _ => {}
        }
    }
    operations
}

fn statement(operation: &Operation) -> &Statement {
    match &operation.detail {
        Detail::Postgres(statement) => statement,
        other => panic!("{other:?}"),
    }
}

/// One line per operation, without times.
fn shown(operation: &Operation) -> String {
    let s = statement(operation);
    let cell = |cell: &Option<Cell>| match cell {
        None => "NULL".to_owned(),
        Some(Cell::Text(text)) => text.clone(),
        Some(Cell::Opaque(len)) => format!("<{len}>"),
    };
    let text: String = s.text.as_deref().unwrap_or("?").split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().take(100).collect();
    let mut line = format!("{:?} {text}", s.kind);
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            line.push_str(&format!(" | {name} {value}"));
        }
    };
    let name: String = s.prepared_name.chars().take(24).collect();
    add("name", name);
    add("params", s.parameters.iter().map(|p| cell(&p.value)).collect::<Vec<_>>().join(","));
    let tables =
        |index: usize| if s.column_tables.get(index).is_some_and(|table| *table > 0) { "" } else { "=" };
    let columns = s.columns.iter().enumerate().map(|(index, name)| format!("{}{name}", tables(index)));
    add("columns", columns.collect::<Vec<_>>().join(","));
    let row = |row: &Vec<Option<Cell>>| row.iter().map(cell).collect::<Vec<_>>().join(",");
    let volatile = text.contains("clock_timestamp") || text.contains("now()") || text.contains("pg_catalog");
    if !volatile {
        add("first", s.first_rows.first().map(row).unwrap_or_default());
    }
    add("returned", if s.returned_rows > 0 { s.returned_rows.to_string() } else { String::new() });
    add("tag", s.command_tag.clone().unwrap_or_default());
    add(
        "error",
        s.error.as_ref().map(|e| format!("{} {} {}", e.severity, e.code, e.constraint)).unwrap_or_default(),
    );
    add("skipped", if s.skipped { "yes".to_owned() } else { String::new() });
    add("block", s.transaction.map(|block| block.number.to_string()).unwrap_or_default());
    add("copied", if s.copy_len > 0 { s.copy_len.to_string() } else { String::new() });
    if operation.completeness != Completeness::Complete {
        add("but", format!("{:?}", operation.completeness));
    }
    line
}

fn all(client: &str) -> Vec<Operation> {
    let packets = connections(client, counted(client).port);
    packets.values().flat_map(|packets| run(packets, usize::MAX)).collect()
}

#[test]
fn operations_are_those_another_dissector_counted() {
    for client in CLIENTS {
        let counted = counted(client);
        let operations = all(client);
        let tags = operations.iter().filter(|op| statement(op).command_tag.is_some()).count();
        let errors = operations.iter().filter(|op| statement(op).error.is_some()).count();
        assert_eq!((tags, errors), (counted.command_complete, counted.errors), "{client}");
        assert!(operations.iter().all(|op| op.completeness == Completeness::Complete), "{client}");
    }
}

#[test]
fn statements_are_those_in_the_servers_log() {
    for client in CLIENTS {
        let mut ours: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let squeeze = |text: &str| {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            text.trim_end_matches([' ', ';']).to_owned()
        };
        for operation in all(client) {
            let s = statement(&operation);
            let count = ours.entry(squeeze(s.text.as_deref().unwrap_or_default())).or_default();
            // The log has no line for what failed before its execution or was skipped, or has it with all its query.
            if s.error.is_some() || s.skipped { count.1 += 1 } else { count.0 += 1 }
        }
        let mut logged: BTreeMap<String, usize> = BTreeMap::new();
        for text in counted(client).statements.iter().flat_map(|text| spoor_core::sql::statements(text)) {
            *logged.entry(squeeze(text)).or_default() += 1;
        }
        for (text, count) in &logged {
            let (sure, maybe) = ours.get(text).copied().unwrap_or_default();
            assert!(
                (sure..=sure + maybe).contains(count),
                "{client}: {count} times in the log, {sure}+{maybe} here: {text}"
            );
        }
        for (text, (sure, _)) in &ours {
            let is_empty = spoor_core::sql::statements(text).is_empty();
            assert!(is_empty || *sure == 0 || logged.contains_key(text), "{client}: not in the log: {text}");
        }
    }
}

#[test]
fn operations_are_as_recorded() {
    for client in CLIENTS {
        let found = all(client).iter().map(|op| shown(op) + "\n").collect::<String>();
        let path = folder().join(client).with_extension("operations");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        assert_eq!(
            found,
            std::fs::read_to_string(&path).unwrap_or_default(),
            "{client}: UPDATE_EXPECT=1 records it anew"
        );
    }
}

#[test]
fn any_size_of_reads_gives_the_same_operations() {
    for client in CLIENTS {
        for packets in connections(client, counted(client).port).values() {
            let whole = run(packets, usize::MAX);
            for piece in [1, 3, 7, 64] {
                let lines = |operations: &[Operation]| operations.iter().map(shown).collect::<Vec<_>>();
                assert_eq!(lines(&run(packets, piece)), lines(&whole), "{client} in pieces of {piece}");
            }
        }
    }
}

/// What two views of one statement must agree on when both claim to be complete.
fn agree(seen: &Operation, whole: &Operation) -> bool {
    let (s, w) = (statement(seen), statement(whole));
    let text = s.text.is_none() || s.text == w.text;
    let values = s.parameters.iter().zip(&w.parameters).all(|(s, w)| match (&s.value, &w.value) {
        (Some(Cell::Opaque(len)), _) => *len > 0,
        (s, w) => s == w,
    });
    text && values && s.command_tag == w.command_tag && s.error == w.error && s.skipped == w.skipped
}

#[test]
fn joined_at_any_packet_nothing_is_wrong() {
    for client in CLIENTS {
        for packets in connections(client, counted(client).port).values() {
            let whole = run(packets, usize::MAX);
            for start in chosen(packets, 1) {
                for operation in run(&packets[start..], usize::MAX) {
                    if operation.completeness != Completeness::Complete {
                        continue;
                    }
                    let known = whole.iter().filter(|w| w.request.end.pos == operation.request.end.pos);
                    let fits = known.clone().any(|w| agree(&operation, w));
                    // A portal that goes on has a new first Execute.
                    let goes_on = whole.iter().any(|w| {
                        statement(w).command_tag == statement(&operation).command_tag
                            && w.response.map(|r| r.end.pos) == operation.response.map(|r| r.end.pos)
                    });
                    assert!(fits || goes_on, "{client} from packet {start}: {}", shown(&operation));
                }
            }
        }
    }
}
