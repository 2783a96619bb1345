//! A running `spoor-serve` whose orders go wrong on purpose: who is told, how often, how soon; and what a trial says of it.
//!
//! With Debian's Alertmanager and promtool where `cargo xtask setup` brought them; without them it says what it skips.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::server::{
    self, PATIENCE, Process, Server, address, http, output, spoor_serve, under_key, wait_until,
};
use crate::tools::{program, skip};

const SECOND: u64 = 1_000_000_000;

/// A receiver of webhooks: bodies as they come.
fn receiver() -> (SocketAddr, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (heard, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Some(body) = receive(stream)
                && heard.send(body).is_err()
            {
                return;
            }
        }
    });
    (address, bodies)
}

fn receive(mut stream: TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut part = [0; 4_096];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let len: usize = head.split("content-length:").nth(1)?.lines().next()?.trim().parse().ok()?;
            if bytes.len() >= end + 4 + len {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .ok()?;
                return serde_json::from_slice(&bytes[end + 4..end + 4 + len]).ok();
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(len) => bytes.extend(&part[..len]),
        }
    }
}

/// A server with rules of its own.
struct House {
    folder: tempfile::TempDir,
    server: Server,
}

impl House {
    fn start(rules: &str) -> Self {
        let folder = server::folder();
        fs::write(folder.path().join("rules.yaml"), rules).expect("written");
        let server = Server::start(command(folder.path(), "run"));
        Self { folder, server }
    }

    /// Writes a status of an order, so many seconds ago.
    fn write(&self, order: &str, span: u64, seconds_ago: u64, status: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        let at = now - seconds_ago * SECOND;
        let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        let request = json!({ "resourceSpans": [{
            "resource": { "attributes": [text("service.name", "mes")] },
            "scopeSpans": [{ "spans": [{
                "traceId": "00000000000000000000000000000001",
                "spanId": format!("{span:016x}"),
                "name": "UPDATE orders",
                "kind": 3,
                "startTimeUnixNano": at.to_string(),
                "endTimeUnixNano": at.to_string(),
                "attributes": [
                    text("order.id", order),
                    text("order.status", status),
                    text("user.id", "customer-4242"),
                    text("db.system.name", "postgresql"),
                    text("db.query.summary", "UPDATE orders"),
                ],
            }] }],
        }] });
        assert!(http(self.server.otlp, "POST", "/v1/traces", &request.to_string()).is_some(), "acknowledged");
    }

    fn says(&self, words: &str) -> String {
        output(&mut command(self.folder.path(), words))
    }

    fn metrics(&self) -> Option<String> {
        http(self.server.metrics, "GET", "/metrics", "")
    }
}

fn command(folder: &Path, words: &str) -> Command {
    let mut command = under_key(folder, words);
    command.arg("--rules").arg(folder.join("rules.yaml"));
    command
}

#[test]
fn an_order_that_waits_is_told_once_soon_after_it_is_due_and_so_is_its_end() {
    let (address, bodies) = receiver();
    let house = House::start(&format!(
        "rules:\n  - {{ id: waits, when: stage_age, stage: new, limit: 5s, severity: critical }}\nchannels:\n  hook: {{ webhook: {{ url: 'http://{address}/' }}, allow_private: true, language: en }}\n"
    ));
    house.write("4711", 1, 0, "new");
    let begin = Instant::now();
    let fired = bodies.recv_timeout(PATIENCE).expect("told");
    let took = begin.elapsed();
    assert_eq!((&fired["status"], &fired["spoor"]["order"]), (&"firing".into(), &"4711".into()), "{fired}");
    assert!(took > Duration::from_secs(5), "not before it is due: {took:?}");
    assert!(!fired.to_string().contains("4242"), "nothing personal: {fired}");
    house.write("4711", 2, 0, "done");
    let over = bodies.recv_timeout(PATIENCE).expect("told");
    assert_eq!(over["status"], "resolved", "{over}");
    assert!(bodies.try_recv().is_err(), "once");
    let page = house.metrics().expect("metrics");
    assert!(page.contains("spoor_notifications_total{channel=\"hook\",result=\"sent\"} 2"), "{page}");
    assert!(page.contains("spoor_alerts{rule=\"waits\",state=\"firing\"} 0"), "{page}");
    if let Some(promtool) = program("promtool") {
        let mut check = Command::new(promtool);
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut check = check.spawn().expect("promtool starts");
        check.stdin.take().expect("its input").write_all(page.as_bytes()).expect("written");
        let output = check.wait_with_output().expect("it ends");
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    } else {
        skip("metrics_by_promtool", "promtool is not here: `cargo xtask setup` brings it");
    }
    let tried = house.says("rules try --rule waits --last 1d");
    assert!(tried.contains("waits: 1 alerts of orders, 1 messages; 1 ended by themselves"), "{tried}");
}

#[test]
fn a_server_ends_though_somebody_who_asked_for_metrics_says_nothing_more() {
    let mut house = House::start("");
    let mut half = TcpStream::connect(house.server.metrics).expect("a connection");
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").expect("written");
    // Its place is taken once another one is answered.
    assert!(http(house.server.metrics, "GET", "/live", "").is_some());
    let server = &mut house.server.process.0;
    rustix::process::kill_process(rustix::process::Pid::from_child(server), rustix::process::Signal::TERM)
        .expect("a signal");
    wait_until("spoor-serve does not end", || server.try_wait().expect("it is ours").is_some());
    assert!(server.wait().expect("it is ours").success());
    drop(half);
}

#[test]
fn a_storm_is_one_message_though_it_goes_on_and_late_is_said() {
    let (address, bodies) = receiver();
    let house = House::start(&format!(
        "rules:\n  - {{ id: waits, when: stage_age, stage: new, limit: 5s, severity: critical }}\nchannels:\n  hook: {{ webhook: {{ url: 'http://{address}/' }}, allow_private: true, language: en }}\n"
    ));
    for order in 0..60 {
        house.write(&format!("{order}"), order + 1, 600, "new");
    }
    let fired = bodies.recv_timeout(PATIENCE).expect("told");
    assert!(fired["spoor"]["orders"].as_u64().is_some_and(|orders| orders > 5), "{fired}");
    assert_eq!(fired["spoor"]["late"], true, "they were due minutes ago: {fired}");
    wait_until("all of them fire", || {
        let page = house.metrics().unwrap_or_default();
        page.contains("spoor_alerts{rule=\"waits\",state=\"firing\"} 60")
    });
    assert!(bodies.recv_timeout(Duration::from_secs(6)).is_err(), "one message");
}

#[test]
fn a_real_alertmanager_takes_alerts_and_their_end() {
    let Some(alertmanager) = program("prometheus-alertmanager") else {
        return skip(
            "a_real_alertmanager",
            "prometheus-alertmanager is not here: `cargo xtask setup` installs it",
        );
    };
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("alertmanager.yml");
    fs::write(&config, "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n").expect("written");
    let mut run = Command::new(alertmanager);
    run.arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", folder.path().join("data").display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .arg("--cluster.listen-address=");
    let (_running, address) = Process::start(run, |line| address(line, "address"));
    wait_until("alertmanager is not ready", || http(address, "GET", "/-/ready", "").is_some());
    let house = House::start(&format!(
        "rules:\n  - {{ id: waits, when: stage_age, stage: new, limit: 1s, severity: critical, runbook: 'https://house.example/waits' }}\nchannels:\n  am: {{ alertmanager: {{ urls: ['http://{address}'], order_label: true }}, allow_private: true, language: en }}\n"
    ));
    house.write("4711", 1, 0, "new");
    let alerts = || -> Vec<Value> {
        let all = http(address, "GET", "/api/v2/alerts", "").unwrap_or_default();
        serde_json::from_str(&all).unwrap_or_default()
    };
    wait_until("alertmanager has the alert", || !alerts().is_empty());
    let alert = alerts().remove(0);
    assert_eq!(
        (&alert["labels"]["alertname"], &alert["labels"]["order"]),
        (&"waits".into(), &"4711".into()),
        "{alert}"
    );
    assert_eq!(alert["annotations"]["runbook_url"], "https://house.example/waits", "{alert}");
    assert_eq!(alert["status"]["state"], "active", "{alert}");
    house.write("4711", 2, 0, "done");
    wait_until("alertmanager has its end", || alerts().is_empty());
    output(spoor_serve("notify test am --rules").arg(house.folder.path().join("rules.yaml")));
    wait_until("alertmanager has the test", || {
        alerts().iter().any(|alert| alert["labels"]["alertname"] == "test")
    });
}
