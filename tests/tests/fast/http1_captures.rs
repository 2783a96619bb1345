//! Captures of real HTTP clients and servers: what we report is what tshark's dissector counted, whole, in reads of any size,
//! cut off anywhere, and without any one packet.
//!
//! How the captures were made is in `tests/fixtures/http1/README.md`.

use std::path::PathBuf;

use spoor_core::operation::http::Exchange;
use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::http1::Http1Session;
use spoor_core::protocol::{End, Session};
use spoor_core::record::Role;
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::captures::{self, Connection, Cost};
use spoor_tests::recorded::fixtures;

const CAPTURES: [&str; 10] = [
    "ab_wrk_nginx",
    "aiohttp",
    "boto3_s3",
    "curl",
    "go_net_http",
    "httpx",
    "java_clients",
    "nginx_proxy",
    "node_clients",
    "requests",
];

fn folder() -> PathBuf {
    fixtures().join("http1")
}

fn json(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(folder().join(name).with_extension("json")).expect("counts are there");
    serde_json::from_str(&text).expect("counts are JSON")
}

fn connections(name: &str) -> Vec<Connection> {
    let ports: Vec<u16> =
        json(name)["ports"].as_array().unwrap().iter().map(|port| port.as_u64().unwrap() as u16).collect();
    captures::connections(&folder().join(name).with_extension("pcap"), &ports)
}

fn session() -> Box<dyn Session> {
    Box::new(Http1Session::new(Role::Client, &Protocols::default()))
}

fn exchange(operation: &Operation) -> &Exchange {
    match &operation.detail {
        Detail::Http(exchange) => exchange,
        other => panic!("{other:?}"),
    }
}

fn exchanges(connection: &Connection) -> Vec<Operation> {
    captures::run(session(), &connection.packets, None, usize::MAX, End::Closed).operations
}

/// One line per exchange, for review.
fn shown(operation: &Operation) -> String {
    let e = exchange(operation);
    let status = e.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let mut line = format!("{} {} {status}", e.method, e.target);
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            line.push_str(&format!(" | {name} {value}"));
        }
    };
    let body = |len: u64| if len > 0 { len.to_string() } else { String::new() };
    add("sent", body(e.request_body.len));
    add("received", body(e.response_body.len));
    let coding = e.response_headers.get("content-encoding").unwrap_or_default();
    add("coding", String::from_utf8_lossy(coding).into_owned());
    for upload in &e.uploads {
        let len = upload.len.map_or_else(|| "?".to_owned(), |len| len.to_string());
        add("upload", format!("{} {} {} {len}", upload.field, upload.file_name, upload.content_type));
    }
    if operation.completeness != Completeness::Complete {
        add("but", format!("{:?}", operation.completeness));
    }
    line
}

#[test]
fn requests_and_statuses_are_those_tshark_counts() {
    for name in CAPTURES {
        let counted = json(name);
        let counted = counted["connections"].as_array().unwrap();
        let connections = connections(name);
        assert_eq!(connections.len(), counted.len(), "{name}");
        for connection in &connections {
            let is_it = |one: &&serde_json::Value| {
                one["client"] == connection.client && one["server"] == connection.server
            };
            let one = counted.iter().find(is_it).expect("tshark saw the connection");
            let found = exchanges(connection);
            let requests: Vec<String> = found
                .iter()
                .map(|operation| format!("{} {}", exchange(operation).method, exchange(operation).target))
                .collect();
            let statuses: Vec<_> = found.iter().map(|operation| exchange(operation).status).collect();
            assert_eq!(serde_json::json!(requests), one["requests"], "{name}: {}", connection.client);
            assert_eq!(serde_json::json!(statuses), one["statuses"], "{name}: {}", connection.client);
            let complete = found.iter().all(|op| op.completeness == Completeness::Complete);
            // A request whose body was refused is all there is of it.
            let refused = statuses.contains(&Some(413));
            assert!(complete || refused, "{name}: {found:?}");
        }
    }
}

#[test]
fn exchanges_are_as_recorded() {
    for name in CAPTURES {
        let lines =
            connections(name).iter().flat_map(exchanges).map(|op| shown(&op) + "\n").collect::<String>();
        let path = folder().join(name).with_extension("exchanges");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &lines).expect("the fixture can be written");
        }
        let recorded = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(lines, recorded, "{name}: UPDATE_EXPECT=1 records it anew");
    }
}

#[test]
fn no_secret_is_retained() {
    for name in CAPTURES {
        for connection in connections(name) {
            let everything = format!("{:?}", exchanges(&connection));
            assert!(!everything.contains("secret"), "{name}");
        }
    }
}

#[test]
fn any_size_of_reads_gives_the_same_exchanges() {
    for name in CAPTURES {
        for connection in connections(name) {
            captures::any_size_of_reads(name, &connection.packets, session);
        }
    }
}

#[test]
fn every_beginning_is_incomplete_and_never_wrong() {
    for name in CAPTURES {
        for connection in connections(name) {
            captures::every_beginning(name, &connection.packets, session);
        }
    }
}

#[test]
fn one_lost_packet_costs_what_it_carried() {
    for name in CAPTURES {
        for connection in connections(name) {
            let pipelined = exchanges(&connection)
                .windows(2)
                .any(|pair| pair[1].request.start.at < pair[0].response.map_or(BootTime::MAX, |r| r.end.at));
            // On a pipelined connection, responses are not paired again until all is quiet: which of them is missing cannot
            // be told.
            let later = if pipelined { usize::MAX } else { 0 };
            captures::without_any_packet(
                name,
                &connection.packets,
                session,
                Cost { later },
                |seen, whole| {
                    // Complete is complete: every header, every kept byte, every length.
                    seen.request.start.pos == whole.request.start.pos && exchange(seen) == exchange(whole)
                },
            );
        }
    }
}
