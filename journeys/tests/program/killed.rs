//! `spoor-serve` is killed while it takes spans: what it acknowledged is there, once.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use spoor_journeys::facts::{At, Key};
use spoor_journeys::model::Model;
use spoor_journeys::store::Store;
use spoor_journeys::store::seal::Master;
use spoor_journeys::store::sqlite::Sqlite;

use crate::server::{self, Server, http, under_key};

const KILLS: u32 = 6;

/// One write of order `number`, span by span.
fn request(number: u64, spans: u64) -> Value {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let span = |n: u64| {
        json!({
            "traceId": format!("{number:032x}"),
            "spanId": format!("{:016x}", n + 1),
            "name": "UPDATE orders",
            "kind": 3,
            "startTimeUnixNano": (1_700_000_000_000_000_000 + n * 1_000_000).to_string(),
            "endTimeUnixNano": (1_700_000_000_000_500_000 + n * 1_000_000).to_string(),
            "attributes": [
                text("order.id", &number.to_string()),
                text("order.status", &format!("status-{n}")),
                text("db.system.name", "postgresql"),
                text("db.query.summary", "UPDATE orders"),
            ],
        })
    };
    let spans: Vec<Value> = (0..spans).map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "shop")] },
        "scopeSpans": [{ "spans": spans }],
    }] })
}

/// Sends a request; `true` when it was acknowledged.
fn send(to: SocketAddr, body: &Value) -> bool {
    http(to, "POST", "/v1/traces", &body.to_string()).is_some()
}

#[test]
fn what_was_acknowledged_survives_kills_and_is_there_once() {
    let folder = server::folder();
    let mut acknowledged = Vec::new();
    let mut number = 0;
    for kill in 0..KILLS {
        let server = Server::start(under_key(folder.path(), "run"));
        let otlp = server.otlp;
        // At another moment each time, in the middle of what others send.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(u64::from(kill) * 37 + 60));
            drop(server);
        });
        loop {
            number += 1;
            // As a sender does that heard nothing the last time: all again.
            let body = request(number, 5);
            if !send(otlp, &body) {
                break;
            }
            acknowledged.push(number);
            if number % 3 == 0 {
                send(otlp, &body);
            }
        }
        killer.join().expect("the server was killed");
    }
    assert!(!acknowledged.is_empty(), "nothing was acknowledged between kills");
    let key = std::fs::read(folder.path().join("master.key")).expect("a key");
    let master = Master::from_bytes(&key).expect("a key");
    let store = Sqlite::open(&folder.path().join("data"), master, Model::default()).expect("a store");
    for number in &acknowledged {
        let found = store.find(&Key::parse(&number.to_string()).expect("a number")).expect("found");
        assert_eq!(found.len(), 1, "order {number}, which was acknowledged");
        let order = store.order(found[0], At(0)).expect("read").expect("an order");
        assert_eq!(order.facts.len(), 5);
        assert_eq!(order.journey.records[0].changes.len(), 5);
    }
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    println!("{} acknowledged requests, {KILLS} kills", acknowledged.len());
}
