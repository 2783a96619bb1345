//! Our PostgreSQL session against postgres-protocol, another implementation, on the same bytes: what it writes is read as it
//! was meant, and the servers' messages in the captures say the same to both.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use proptest::prelude::*;
use spoor_core::operation::postgres::{Cell, Statement};
use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::End;
use spoor_core::protocol::postgres::PostgresSession;
use spoor_core::record::{Role, Sender};
use spoor_core::settings::Protocols;
use spoor_tests::captures;
use spoor_tests::recorded::fixtures;
use spoor_tests::transcript::wire;

fn statement(operation: &Operation) -> &Statement {
    match &operation.detail {
        Detail::Postgres(statement) => statement,
        other => panic!("{other:?}"),
    }
}

/// StartupMessage and the server's readiness.
fn start() -> [(Sender, Vec<u8>); 2] {
    let mut startup = BytesMut::new();
    frontend::startup_message([("user", "shop"), ("database", "orders")], &mut startup).unwrap();
    let ready = [wire::pg(b'R', &[0; 4]), wire::pg(b'Z', b"I")].concat();
    [(Sender::Client, startup.to_vec()), (Sender::Server, ready)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_prepared_statement_it_writes_is_read_as_meant(
        name in "[a-z0-9_]{0,30}",
        portal in "[a-z]{0,5}",
        text in "SELECT [a-z0-9$=, ()]{0,200}",
        values in prop::collection::vec(prop::option::of("[a-zä0-9]{0,40}"), 0..6),
        max_rows in 0i32..3,
        piece in 1usize..300,
        rows in 0u16..4,
    ) {
        let mut sent = BytesMut::new();
        frontend::parse(&name, &text, values.iter().map(|_| 25), &mut sent).unwrap();
        frontend::describe(b'S', &name, &mut sent).unwrap();
        let write = |value: Option<String>, to: &mut BytesMut| {
            Ok(match value {
                Some(value) => {
                    to.extend_from_slice(value.as_bytes());
                    IsNull::No
                }
                None => IsNull::Yes,
            })
        };
        let bound = frontend::bind(&portal, &name, [], values.clone(), write, [], &mut sent);
        prop_assert!(bound.is_ok());
        frontend::execute(&portal, max_rows, &mut sent).unwrap();
        frontend::close(b'P', &portal, &mut sent).unwrap();
        frontend::sync(&mut sent);
        let types: Vec<u8> = values.iter().flat_map(|_| 25u32.to_be_bytes()).collect();
        let count = (values.len() as u16).to_be_bytes();
        let answers = [
            wire::pg(b'1', b""),
            wire::pg(b't', &[&count[..], &types].concat()),
            wire::pg(b'n', b""),
            wire::pg(b'2', b""),
            wire::pg(b'D', b"\0\x01\0\0\0\x01x").repeat(usize::from(rows)),
            wire::pg(b'C', b"SELECT 1\0"),
            wire::pg(b'3', b""),
            wire::pg(b'Z', b"I"),
        ];
        let [hello, ready] = start();
        let all = [hello, ready, (Sender::Client, sent.to_vec()), (Sender::Server, answers.concat())];
        let operations = captures::closed(PostgresSession::new(Role::Client, &Protocols::default()), &all, piece);
        let [operation] = operations.as_slice() else { panic!("{operations:?}") };
        prop_assert_eq!(operation.completeness, Completeness::Complete);
        let s = statement(operation);
        prop_assert_eq!(s.text.as_deref(), Some(text.as_str()));
        prop_assert_eq!(&s.prepared_name, &name);
        prop_assert_eq!((s.user.as_deref(), s.database.as_deref()), (Some("shop"), Some("orders")));
        prop_assert_eq!(s.returned_rows, u64::from(rows));
        let found: Vec<_> = s.parameters.iter().map(|parameter| parameter.value.clone()).collect();
        let expected: Vec<_> = values.into_iter().map(|value| value.map(Cell::Text)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn simple_queries_and_copies_it_writes_are_read_as_meant(
        queries in prop::collection::vec("SELECT [a-z0-9=, ]{0,60}", 1..6),
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..5),
        piece in 1usize..300,
    ) {
        let [hello, ready] = start();
        let mut all = vec![hello, ready];
        for query in &queries {
            let mut sent = BytesMut::new();
            frontend::query(query, &mut sent).unwrap();
            all.push((Sender::Client, sent.to_vec()));
            all.push((Sender::Server, wire::done("SELECT 0", b'I')));
        }
        let mut copy = BytesMut::new();
        frontend::query("COPY items FROM STDIN", &mut copy).unwrap();
        all.push((Sender::Client, copy.to_vec()));
        all.push((Sender::Server, wire::pg(b'G', b"\0\0\x01\0\0")));
        let mut copied = BytesMut::new();
        for part in &data {
            frontend::CopyData::new(bytes::Bytes::from(part.clone())).unwrap().write(&mut copied);
        }
        frontend::copy_done(&mut copied);
        all.push((Sender::Client, copied.to_vec()));
        all.push((Sender::Server, wire::done("COPY 1", b'I')));
        let operations = captures::closed(PostgresSession::new(Role::Client, &Protocols::default()), &all, piece);
        let texts: Vec<_> = operations.iter().map(|op| statement(op).text.clone().unwrap()).collect();
        let mut expected: Vec<String> = queries.iter().map(|query| query.trim_end().to_owned()).collect();
        expected.push("COPY items FROM STDIN".to_owned());
        prop_assert_eq!(texts, expected);
        let len: usize = data.iter().map(Vec::len).sum();
        prop_assert_eq!(operations.last().map(|op| statement(op).copy_len), Some(len as u64));
    }
}

/// What a server said about statements: tags, codes of errors, and rows.
#[derive(Debug, Default, PartialEq)]
struct Said {
    tags: Vec<String>,
    errors: Vec<String>,
    rows: u64,
}

fn said_by_postgres_protocol(stream: &[u8]) -> Said {
    let mut said = Said::default();
    let mut stream = BytesMut::from(stream);
    loop {
        // It knows neither NegotiateProtocolVersion nor the server's part of replication and function calls.
        if matches!(stream.first(), Some(b'v' | b'V' | b'K')) && stream.len() >= 5 {
            let len = u32::from_be_bytes([stream[1], stream[2], stream[3], stream[4]]) as usize;
            drop(stream.split_to(len + 1));
            continue;
        }
        match Message::parse(&mut stream).expect("the capture's messages can be read") {
            Some(Message::CommandComplete(body)) => said.tags.push(body.tag().unwrap().to_owned()),
            Some(Message::DataRow(_)) => said.rows += 1,
            Some(Message::ErrorResponse(body)) => {
                let mut fields = body.fields();
                while let Some(field) = fields.next().unwrap() {
                    if field.type_() == b'C' {
                        said.errors.push(String::from_utf8_lossy(field.value_bytes()).into_owned());
                    }
                }
            }
            Some(_) => {}
            None => return said,
        }
    }
}

#[test]
fn captures_say_the_same_to_both() {
    let folder = fixtures().join("postgres");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the captures are there") {
        let path = entry.expect("the captures can be listed").path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".pcap").or(name.strip_suffix(".pcap.gz")) else { continue };
        let counts = std::fs::read_to_string(folder.join(format!("{stem}.json"))).expect("counts are there");
        let counts: serde_json::Value = serde_json::from_str(&counts).expect("counts are JSON");
        let port = counts["port"].as_u64().unwrap() as u16;
        for connection in captures::connections(&path, &[port]) {
            let by_server = connection.packets.iter().filter(|packet| packet.from == Sender::Server);
            let mut stream: Vec<u8> = by_server.flat_map(|packet| packet.data.iter().copied()).collect();
            // The answer to a request for encryption is no message.
            if stream.first() == Some(&b'N') && stream.get(1) != Some(&0) {
                stream.remove(0);
            }
            let expected = said_by_postgres_protocol(&stream);
            let new = Box::new(PostgresSession::new(Role::Client, &Protocols::default()));
            let told = captures::run(new, &connection.packets, None, usize::MAX, End::Closed);
            let statements = || told.operations.iter().map(statement);
            let found = Said {
                tags: statements().filter_map(|s| s.command_tag.clone()).collect(),
                errors: statements().filter_map(|s| Some(s.error.as_ref()?.code.clone())).collect(),
                rows: statements().map(|s| s.returned_rows).sum(),
            };
            assert_eq!(found, expected, "{name}");
            seen += found.tags.len();
        }
    }
    assert!(seen > 300, "{seen} statements");
}
