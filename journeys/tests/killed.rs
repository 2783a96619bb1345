//! `spoor-serve` is killed while it takes spans: what it acknowledged is there, once.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spoor_journeys::facts::{At, Key};
use spoor_journeys::model::Model;
use spoor_journeys::store::Store;
use spoor_journeys::store::seal::Master;
use spoor_journeys::store::sqlite::Sqlite;

const KILLS: u32 = 6;
/// A busy machine may take this long to start a process.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; dropping it kills it.
struct Server {
    child: Child,
    http: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

fn start(folder: &Path) -> Server {
    let (grpc, http, pages) = (free(), free(), free());
    let child = Command::new(env!("CARGO_BIN_EXE_spoor-serve"))
        .args(["run", "--data"])
        .arg(folder.join("data"))
        .arg("--key-file")
        .arg(folder.join("master.key"))
        .args([
            "--otlp-grpc",
            &grpc.to_string(),
            "--otlp-http",
            &http.to_string(),
            "--listen",
            &pages.to_string(),
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("spoor-serve starts");
    let server = Server { child, http };
    let begin = Instant::now();
    while TcpStream::connect(http).is_err() {
        assert!(begin.elapsed() < PATIENCE, "spoor-serve does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

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
    let body = body.to_string();
    let Ok(mut stream) = TcpStream::connect(to) else { return false };
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = String::new();
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn what_was_acknowledged_survives_kills_and_is_there_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("master.key");
    let made = Command::new(env!("CARGO_BIN_EXE_spoor-serve")).args(["key", "new"]).arg(&key).status();
    assert!(made.expect("a process").success());
    let mut acknowledged = Vec::new();
    let mut number = 0;
    for kill in 0..KILLS {
        let server = start(folder.path());
        let http = server.http;
        // At another moment each time, in the middle of what others send.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(u64::from(kill) * 37 + 60));
            drop(server);
        });
        loop {
            number += 1;
            // As a sender does that heard nothing the last time: all again.
            let body = request(number, 5);
            if !send(http, &body) {
                break;
            }
            acknowledged.push(number);
            if number % 3 == 0 {
                send(http, &body);
            }
        }
        killer.join().expect("the server was killed");
    }
    assert!(!acknowledged.is_empty(), "nothing was acknowledged between kills");
    let master = Master::from_bytes(&std::fs::read(&key).expect("a key")).expect("a key");
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
