//! HTTP/2 of real programs through the live kernel: every stream is a span at both ends, with what the programs' own logs say
//! of it.
//!
//! A server of Node.js, its client, one that had connected before the agent was there, curl and h2load where they are
//! installed. They need root and the agent with its eBPF object.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use spoor_tests::agent::{self, Agent};
use spoor_tests::forest::{self, Span};
use spoor_tests::peers::{Process, Scratch, free_port, run};
use spoor_tests::skip::skip;
use spoor_tests::tools::program;

/// Requests of the client that is older than the agent.
const OLDER: usize = 40;
/// Requests of the client that is not, besides every tenth upload and call.
const NEWER: usize = 100;
/// Requests of h2load.
const LOAD: usize = 1000;

/// How often each stream of a kind occurs: method, path and status, or a call's name and status.
type Counts = BTreeMap<String, usize>;

fn peers(arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("services/http2/peers.js");
    let mut command = Command::new("node");
    command.arg(script).args(arguments);
    command
}

const CODES: [&str; 6] = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"];

/// What a program says it did, without the request that was before the agent.
fn logged(path: &Path) -> Result<Counts> {
    let mut counts = Counts::new();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    for line in text.lines() {
        let stream: serde_json::Value = serde_json::from_str(line).context("a line of JSON")?;
        let (method, path) = (stream["method"].as_str(), stream["path"].as_str());
        let (method, path) = (method.context("a method")?, path.context("a path")?);
        let key = match stream["grpc"].as_u64() {
            Some(code) => format!("{} {}", path.trim_start_matches('/'), CODES[code as usize]),
            None => format!("{method} {path} {}", stream["status"]),
        };
        if path != "/orders/before" {
            *counts.entry(key).or_default() += 1;
        }
    }
    Ok(counts)
}

fn seen<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Counts {
    let mut counts = Counts::new();
    for span in spans {
        let text = |key: &str| span.text(key).unwrap_or_default();
        let key = match span.text("rpc.method") {
            Some(method) => format!("{method} {}", text("rpc.response.status_code")),
            None => {
                let full = text("url.full");
                let path = full.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
                let path = path.map_or_else(|| text("url.path"), str::to_owned);
                let status = span.text("http.response.status_code").unwrap_or_else(|| "0".to_owned());
                format!("{} {path} {status}", text("http.request.method"))
            }
        };
        *counts.entry(key).or_default() += 1;
    }
    counts
}

#[track_caller]
fn assert_same(what: &str, seen: &Counts, logged: &Counts) {
    let differs = |key: &&String| seen.get(*key) != logged.get(*key);
    let keys: BTreeSet<&String> = seen.keys().chain(logged.keys()).filter(differs).collect();
    let lines: Vec<String> = keys
        .iter()
        .map(|key| format!("{key}: {:?} seen, {:?} logged", seen.get(*key), logged.get(*key)))
        .collect();
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

#[test]
fn every_stream_of_real_programs_is_a_span_at_both_ends() {
    let binary = match agent::binary() {
        Ok(binary) => binary,
        Err(reason) => return skip(&reason),
    };
    if program("node").is_none() {
        return skip("there is no node");
    }
    trace(&binary).expect("the programs run");
}

fn trace(binary: &Path) -> Result<()> {
    let mut scratch = Scratch::new("http2")?;
    let dir = scratch.path().to_owned();
    let port = free_port()?.to_string();
    let path = |name: &str| dir.join(name);
    let text = |name: &str| path(name).to_string_lossy().into_owned();
    let (served, older, newer, go) = (text("served"), text("older"), text("newer"), text("go"));

    let mut server = Process::start("server", &mut peers(&["serve", &port, &served]), &path("server.log"))?;
    server.wait_for_line("listening")?;
    let streams = OLDER.to_string();
    let mut waiting = peers(&["wait", &port, &older, &streams, &go]);
    let mut waiting = Process::start("older client", &mut waiting, &path("older.log"))?;
    waiting.wait_for_line("connected")?;
    let agent = Agent::start(binary, &dir, "agent", &[])?;

    std::fs::write(&go, "")?;
    let is_done = |log: &Path| std::fs::read_to_string(log).is_ok_and(|log| log.contains("done"));
    while !is_done(waiting.log()) {
        ensure!(spoor_tests::peers::go_on().is_ok(), "interrupted");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run(&mut peers(&["call", &port, &newer, &NEWER.to_string()]))?;
    let url = format!("http://127.0.0.1:{port}");
    let mut others = 0;
    if program("curl").is_some() {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "--http2-prior-knowledge", "-d", "{\"order_id\": 17}"]);
        run(curl.arg(format!("{url}/orders")))?;
        others += 1;
    }
    if program("h2load").is_some() {
        let mut load = Command::new("h2load");
        load.args(["-n", &LOAD.to_string(), "-c", "4", "-m", "20"]);
        run(load.arg(format!("{url}/orders/17")))?;
        others += LOAD;
    }
    let spans = agent.stop()?;
    server.stop()?;

    let ours = |kind: u64| {
        let port = &port;
        spans
            .iter()
            .filter(move |span| span.kind == kind && span.text("server.port").as_deref() == Some(port))
    };
    let log = logged(Path::new(&served))?;
    // Five more beside every tenth request, and two that are given up.
    let own = OLDER + NEWER + 5 * (NEWER / 10) + 2;
    assert_eq!(log.values().sum::<usize>(), own + others, "{log:?}");
    assert_same("the server", &seen(ours(forest::SERVER)), &log);
    assert_same("its clients", &seen(ours(forest::CLIENT)), &log);
    // The clients that keep a log agree with the server.
    let mut clients = logged(Path::new(&older))?;
    for (key, count) in logged(Path::new(&newer))? {
        *clients.entry(key).or_default() += count;
    }
    assert_eq!(clients.values().sum::<usize>() + others, log.values().sum::<usize>());
    // Each stream's two ends are one parent and child.
    let ids: BTreeSet<&str> = ours(forest::CLIENT).map(|span| span.span_id.as_str()).collect();
    let parents: BTreeSet<&str> = ours(forest::SERVER).map(|span| span.parent_id.as_str()).collect();
    assert_eq!(ids.len(), log.values().sum::<usize>());
    assert_eq!(ids, parents);
    assert!(ours(forest::SERVER).all(|span| span.text("spoor.parent.rule").as_deref() == Some("wire")));
    scratch.discard();
    Ok(())
}
