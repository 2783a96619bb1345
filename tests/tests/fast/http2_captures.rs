//! Captures of real HTTP/2 clients and servers, against what tshark's dissector counts in them; then the same bytes cut,
//! holed, and joined in the middle.
//!
//! How the captures were made is in `tests/fixtures/http2/README.md`.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use spoor::config::Services;
use spoor::source;
use spoor_core::conn::{Connections, Stats};
use spoor_core::operation::http::Exchange;
use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::{Discard, End, Event, Events, Protocol, Session, http1, http2};
use spoor_core::record::{Mark, Record, Role, Sender, Worker};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::captures::http2::{NAMES, PORT, Segment, path, segments};

fn exchange(operation: &Operation) -> &Exchange {
    let Detail::Http(exchange) = &operation.detail else { panic!("not HTTP: {operation:?}") };
    exchange
}

/// How often each method, status and gRPC status occurs, and the bytes of all bodies.
type Counts = BTreeMap<String, u64>;

fn count<'a>(operations: impl IntoIterator<Item = &'a Operation>) -> Counts {
    let mut counts = Counts::new();
    for operation in operations {
        let exchange = exchange(operation);
        let mut add = |name: String, by: u64| *counts.entry(name).or_default() += by;
        add(format!("method {}", exchange.method), 1);
        if let Some(status) = exchange.status {
            add(format!("status {status}"), 1);
        }
        if let Some(status) = exchange.grpc_field("grpc-status") {
            add(format!("grpc-status {}", String::from_utf8_lossy(status)), 1);
        }
        add("body bytes".to_owned(), exchange.request_body.len + exchange.response_body.len);
    }
    counts
}

/// The independent count. `None`: there is no tshark.
fn dissected(name: &str) -> Option<Counts> {
    let output = Command::new("tshark")
        .args(["-r", path(name).to_str()?, "-d", &format!("tcp.port=={PORT},http"), "-Y", "http or http2"])
        .args(["-T", "fields", "-E", "separator=^", "-E", "aggregator=|", "-e", "http.request.method"])
        .args([
            "-e",
            "http2.headers.method",
            "-e",
            "http2.headers.status",
            "-e",
            "http2.type",
            "-e",
            "http2.length",
        ])
        .args(["-e", "http2.pad_length", "-e", "http2.header.name", "-e", "http2.header.value"])
        .args(["-e", "http2.flags.padded", "-e", "http.content_length"])
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut counts = Counts::new();
    let mut add = |name: String, by: u64| *counts.entry(name).or_default() += by;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let columns: Vec<Vec<&str>> = line.split('^').map(|column| column.split('|').collect()).collect();
        let column = |at: usize| columns.get(at).into_iter().flatten().filter(|text| !text.is_empty());
        column(0).chain(column(1)).for_each(|method| add(format!("method {method}"), 1));
        // The body of a request that asks for the upgrade comes before it.
        column(9).for_each(|len| add("body bytes".to_owned(), len.parse().expect("a number")));
        let is_final = |status: &&&str| !status.starts_with('1');
        column(2).filter(is_final).for_each(|status| add(format!("status {status}"), 1));
        // DATA and HEADERS have a padding each, which is zero where there is none, and a flag that says whether there is one.
        let flags = column(8).map(|flag| u64::from(matches!(*flag, "1" | "True")));
        let mut paddings =
            column(5).zip(flags).map(|(len, flag)| len.parse::<u64>().expect("a number") + flag);
        for (kind, len) in column(3).zip(column(4)) {
            let padding = if matches!(*kind, "0" | "1") { paddings.next().unwrap_or(0) } else { 0 };
            if *kind == "0" {
                let len: u64 = len.parse().expect("a number");
                add("body bytes".to_owned(), len - padding);
            }
        }
        for (name, value) in columns.get(6).into_iter().flatten().zip(columns.get(7).into_iter().flatten()) {
            if *name == "grpc-status" {
                add(format!("grpc-status {value}"), 1);
            }
        }
    }
    Some(counts)
}

/// What tshark 4.0.17 counted.
fn recorded(name: &str) -> Counts {
    let text = std::fs::read_to_string(path(name).with_extension("counts")).unwrap_or_default();
    let line = |line: &str| {
        let (name, count) = line.rsplit_once(' ').expect("a name and a count");
        (name.to_owned(), count.parse().expect("a number"))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// What tshark leaves out: on one connection (`nghttp -c 256`) the server's first header block begins with a table size update
/// to zero, which tshark's decoder refuses, with all blocks behind it.
const NOT_DISSECTED: [(&str, &str, u64); 2] =
    [("nghttp_nginx", "status 200", 2), ("nghttp_nginx", "status 302", 1)];

fn expected(name: &str) -> Counts {
    let mut counts = recorded(name);
    for (_, line, by) in NOT_DISSECTED.iter().filter(|(capture, _, _)| *capture == name) {
        *counts.entry((*line).to_owned()).or_default() += by;
    }
    counts
}

/// Through the reader, reassembly, detection and the sessions: the exchanges as both ends see them.
fn replay(name: &str) -> (Vec<Operation>, Stats) {
    let file = std::io::Cursor::new(std::fs::read(path(name)).expect("the capture can be read"));
    let mut source = source::read(name.to_owned(), file, &Services::default()).expect("a capture");
    let mut connections = Connections::new(&Protocols::default(), 100);
    let mut now = BootTime::ZERO;
    while let Some(record) = source.next().expect("a whole capture") {
        now = now.max(record.at());
        match record {
            Record::Conn(conn) => connections.handle_conn(*conn),
            Record::Data(data) => connections.handle_data(data),
            Record::Close(close) => connections.handle_close(close),
            _ => {}
        }
    }
    connections.finish(now + Duration::from_secs(1));
    let mut operations = Vec::new();
    while let Some((_, event)) = connections.poll_event() {
        if let Event::Closed(operation) = event {
            operations.push(*operation);
        }
    }
    (operations, *connections.stats())
}

#[test]
fn every_exchange_tshark_sees_is_seen() {
    for name in NAMES {
        match dissected(name) {
            Some(counts) => {
                if std::env::var_os("UPDATE_EXPECT").is_some() {
                    let lines: String =
                        counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
                    std::fs::write(path(name).with_extension("counts"), lines).expect("writing the counts");
                }
                assert_eq!(counts, recorded(name), "{name}: the recorded counts are tshark's");
            }
            None => println!("skipped: no tshark to confirm the recorded counts of {name}"),
        }
        let (operations, stats) = replay(name);
        for role in [Role::Client, Role::Server] {
            let of_role = operations.iter().filter(|operation| operation.role == role);
            assert_eq!(count(of_role), expected(name), "{name}, {role:?}");
        }
        let discarded = (stats.invalid, stats.limit, stats.unsynchronised, stats.opaque, stats.not_ours);
        assert_eq!(discarded, (0, 0, 0, 0, 0), "{name}");
        assert!(stats.detected[Protocol::Http2] > 0 || name == "upgrades_go", "{name}");
    }
}

/// One line per exchange.
fn describe(operation: &Operation) -> String {
    let exchange = exchange(operation);
    let http2 = &exchange.http2;
    let mut text = format!(
        "{} {} {} HTTP/{} {:?}, {} up, {} down",
        http2.stream,
        exchange.method,
        exchange.target,
        exchange.version,
        exchange.status.unwrap_or_default(),
        exchange.request_body.len,
        exchange.response_body.len
    );
    if exchange.is_grpc() {
        let status =
            exchange.grpc_field("grpc-status").map(|text| String::from_utf8_lossy(text).into_owned());
        text.push_str(&format!(
            ", gRPC {}, messages {:?} {:?}",
            status.unwrap_or_default(),
            http2.request_messages.unwrap_or_default(),
            http2.response_messages.unwrap_or_default()
        ));
    }
    if let Some(reset) = http2.reset {
        text.push_str(&format!(", reset {} by {:?}", reset.code, reset.by));
    }
    if operation.completeness != Completeness::Complete {
        text.push_str(&format!(", {:?}", operation.completeness));
    }
    if http2.unknown_fields > 0 {
        text.push_str(&format!(", {} unknown", http2.unknown_fields));
    }
    text + "\n"
}

/// What happens to one direction of one connection.
#[derive(Clone, Debug)]
enum Step {
    Bytes(Sender, Vec<u8>),
    Gap(Sender, u64),
}

impl Step {
    fn len(&self) -> usize {
        match self {
            Step::Bytes(_, bytes) => bytes.len(),
            Step::Gap(_, len) => *len as usize,
        }
    }
}

/// Each connection of a capture, and whether it begins as HTTP/1.1.
fn connections(name: &str) -> Vec<(bool, Vec<Step>)> {
    let mut found: BTreeMap<u16, Vec<Step>> = BTreeMap::new();
    let mut order = Vec::new();
    for Segment { connection, from, bytes } in segments(name) {
        if !found.contains_key(&connection) {
            order.push(connection);
        }
        found.entry(connection).or_default().push(Step::Bytes(from, bytes));
    }
    let steps = order.iter().filter_map(|connection| found.remove(connection));
    steps.map(|steps| (name == "upgrades_go", steps)).collect()
}

/// Runs one connection that is seen from position `start` of each direction.
fn run(upgrades: bool, start: u64, steps: &[Step]) -> (Vec<Operation>, Vec<(Discard, u64)>) {
    let limits = Protocols::default();
    let mut session: Box<dyn Session> = match upgrades {
        true => Box::new(http1::Http1Session::new(Role::Server, &limits)),
        false => Box::new(http2::Http2Session::new(Role::Server, &limits)),
    };
    let mut out = Events::default();
    let mut pos = [start; 2];
    for (step, at) in steps.iter().zip(1..) {
        let (Step::Bytes(from, _) | Step::Gap(from, _)) = step;
        let side = *from as usize;
        let mark = Mark {
            at: BootTime::from_nanos(at),
            thread: Worker::new(1, 1),
            other_pos: pos[1 - side],
            awaited_by: None,
        };
        match step {
            Step::Bytes(_, bytes) => {
                session.bytes(*from, pos[side], bytes, mark, &mut out);
                pos[side] += bytes.len() as u64;
            }
            Step::Gap(_, len) => {
                session.gap(*from, pos[side], *len, mark, &mut out);
                pos[side] += len;
            }
        }
    }
    session.end(End::Closed, BootTime::from_nanos(1_000_000), &mut out);
    let (mut operations, mut discards) = (Vec::new(), Vec::new());
    while let Some(event) = out.pop() {
        match event {
            Event::Closed(operation) => operations.push(*operation),
            Event::Discarded { reason, bytes } => discards.push((reason, bytes)),
            _ => {}
        }
    }
    (operations, discards)
}

#[test]
fn captures_give_their_exchanges_however_they_are_cut() {
    for name in NAMES {
        let mut all = String::new();
        for (upgrades, steps) in connections(name) {
            let (operations, discards) = run(upgrades, 0, &steps);
            assert_eq!(discards, [], "{name}");
            all.extend(operations.iter().map(describe));
            for size in [1, 2, 3, 7, 9, 64, 1000] {
                let pieces: Vec<Step> = steps
                    .iter()
                    .flat_map(|step| {
                        let Step::Bytes(from, bytes) = step else { unreachable!() };
                        bytes.chunks(size).map(|piece| Step::Bytes(*from, piece.to_vec()))
                    })
                    .collect();
                let (cut, discards) = run(upgrades, 0, &pieces);
                assert_eq!(discards, [], "{name} in pieces of {size}");
                let whole: Vec<_> = operations.iter().map(describe).collect();
                assert_eq!(cut.iter().map(describe).collect::<Vec<_>>(), whole, "{name} in pieces of {size}");
            }
        }
        expect_test::expect_file![path(name).with_extension("expected")].assert_eq(&all);
    }
}

/// Connections up to this size are cut after every byte.
const SMALL: usize = 12 << 10;

#[test]
fn a_prefix_of_a_capture_is_never_invalid_and_never_wrong() {
    let mut every = 0;
    for name in NAMES {
        for (upgrades, steps) in connections(name) {
            let (truth, _) = run(upgrades, 0, &steps);
            let size: usize = steps.iter().map(Step::len).sum();
            for n in 0..steps.len() {
                let Step::Bytes(from, bytes) = &steps[n] else { unreachable!() };
                let step = if size <= SMALL { 1 } else { bytes.len() / 20 + 1 };
                every += if size <= SMALL { bytes.len() } else { 0 };
                for len in (0..bytes.len()).step_by(step) {
                    let mut prefix = steps[..n].to_vec();
                    prefix.push(Step::Bytes(*from, bytes[..len].to_vec()));
                    let (found, discards) = run(upgrades, 0, &prefix);
                    let what = format!("{name}, segment {n}, {len} bytes");
                    let refused = discards.iter().any(|(reason, _)| *reason != Discard::Unsynchronised);
                    assert!(!refused, "{what}: {discards:?}");
                    // Up to the end of its head, `101` is the only answer to a request for an upgrade.
                    if !upgrades {
                        assert_not_invented(&truth, &found, [0; 2], &what);
                    }
                    assert_complete_is_exact(&truth, &found, &what);
                }
            }
        }
    }
    assert!(every > 10_000, "{every} cuts of small connections, after every byte");
}

/// What is called complete, with every field known, is as it was.
fn assert_complete_is_exact(truth: &[Operation], found: &[Operation], what: &str) {
    for operation in found {
        if operation.completeness != Completeness::Complete || exchange(operation).http2.unknown_fields > 0 {
            continue;
        }
        let start = operation.request.start.pos;
        let same = truth.iter().find(|known| known.request.start.pos == start).expect("it is not invented");
        // A stream whose response is over may still get a reset.
        let of = |operation: &Operation| {
            let extents = (operation.request, operation.response.map(|response| response.start));
            (extents, operation.completeness, exchange(operation).clone())
        };
        assert_eq!(of(operation), of(same), "{what}: called complete");
        assert!(operation.ended_at <= same.ended_at, "{what}: called complete");
    }
}

/// Every exchange found is one of the true ones, at its place, with the same facts or fewer.
fn assert_not_invented(truth: &[Operation], found: &[Operation], shift: [u64; 2], what: &str) {
    for operation in found {
        let start = operation.request.start.pos + shift[0];
        let same = truth.iter().find(|known| known.request.start.pos == start);
        let Some(same) = same else { panic!("{what}: invented {}", describe(operation)) };
        let (ours, theirs) = (exchange(operation), exchange(same));
        let is = |ours: &str, theirs: &str| ours.is_empty() || ours == theirs;
        let known = is(&ours.method, &theirs.method)
            && is(&ours.target, &theirs.target)
            && is(&ours.authority, &theirs.authority)
            && (ours.status.is_none() || ours.status == theirs.status)
            && ours
                .request_headers
                .iter()
                .all(|field| theirs.request_headers.iter().any(|other| other == field))
            && ours
                .response_headers
                .iter()
                .all(|field| theirs.response_headers.iter().any(|other| other == field))
            && theirs.request_body.bytes.starts_with(&ours.request_body.bytes)
            && theirs.response_body.bytes.starts_with(&ours.response_body.bytes);
        assert!(known, "{what}: {}{}", describe(operation), describe(same));
    }
}

/// Segments of a connection after which nothing is open, and where the next request begins.
fn quiet_after(truth: &[Operation], from_segment: usize) -> Option<BootTime> {
    // The n-th segment moved at time n + 1.
    let at = BootTime::from_nanos(from_segment as u64 + 1);
    let begins = truth
        .iter()
        .filter(|operation| operation.request.start.at > at)
        .map(|op| op.request.start.at)
        .min()?;
    let open =
        truth.iter().any(|operation| operation.request.start.at < begins && operation.ended_at >= begins);
    (!open).then_some(begins)
}

#[test]
fn with_any_record_lost_the_rest_is_there_and_nothing_is_invented() {
    let mut later = 0;
    for name in NAMES {
        for (upgrades, steps) in connections(name) {
            let (truth, _) = run(upgrades, 0, &steps);
            for lost in 0..steps.len() {
                let what = format!("{name} without segment {lost}");
                let Step::Bytes(from, bytes) = &steps[lost] else { unreachable!() };
                let mut holed = steps.clone();
                holed[lost] = Step::Gap(*from, bytes.len() as u64);
                let (found, _) = run(upgrades, 0, &holed);
                assert_not_invented(&truth, &found, [0; 2], &what);
                assert_complete_is_exact(&truth, &found, &what);
                let at = BootTime::from_nanos(lost as u64 + 1);
                let is_there = |operation: &Operation| {
                    found.iter().find(|found| found.request.start.pos == operation.request.start.pos)
                };
                for operation in truth.iter().filter(|operation| operation.ended_at < at) {
                    assert_eq!(is_there(operation).map(describe), Some(describe(operation)), "{what}");
                }
                // HTTP/1.1 decides itself what a lost upgrade was.
                let Some(begins) = quiet_after(&truth, lost).filter(|_| !upgrades) else { continue };
                for operation in truth.iter().filter(|operation| operation.request.start.at >= begins) {
                    let found =
                        is_there(operation).unwrap_or_else(|| panic!("{what}: no {}", describe(operation)));
                    let bodies = |operation: &Operation| {
                        (exchange(operation).request_body.len, exchange(operation).response_body.len)
                    };
                    assert_eq!(bodies(found), bodies(operation), "{what}: {}", describe(operation));
                    assert_eq!(found.ended_at, operation.ended_at, "{what}: {}", describe(operation));
                    later += 1;
                }
            }
        }
    }
    assert!(later > 1000, "{later} exchanges after losses");
}

#[test]
fn joined_anywhere_the_rest_is_there_and_nothing_is_invented() {
    let mut later = 0;
    for name in NAMES {
        for (upgrades, steps) in connections(name) {
            let (truth, _) = run(upgrades, 0, &steps);
            for first in 1..steps.len() {
                let Step::Bytes(from, bytes) = &steps[first] else { unreachable!() };
                // Between two segments, and inside one.
                for inside in [0, bytes.len() / 3] {
                    let what = format!("{name} from segment {first}, byte {inside}");
                    let mut rest = steps[first..].to_vec();
                    rest[0] = Step::Bytes(*from, bytes[inside..].to_vec());
                    let mut skipped = [0_u64; 2];
                    for step in &steps[..first] {
                        let Step::Bytes(from, bytes) = step else { unreachable!() };
                        skipped[*from as usize] += bytes.len() as u64;
                    }
                    skipped[*from as usize] += inside as u64;
                    if skipped[0] == 0 {
                        continue;
                    }
                    let start = 1 << 30;
                    let (found, _) = run(false, start, &rest);
                    let shift = skipped.map(|skipped| skipped.wrapping_sub(start));
                    let moved: Vec<Operation> = found
                        .into_iter()
                        .map(|mut operation| {
                            operation.request.start.pos = operation.request.start.pos.wrapping_add(shift[0]);
                            operation
                        })
                        .collect();
                    assert_not_invented(&truth, &moved, [0; 2], &what);
                    if upgrades {
                        continue;
                    }
                    let Some(begins) = quiet_after(&truth, first) else { continue };
                    for operation in truth.iter().filter(|operation| operation.request.start.at >= begins) {
                        let found =
                            moved.iter().any(|found| found.request.start.pos == operation.request.start.pos);
                        assert!(found, "{what}: no {}", describe(operation));
                        later += 1;
                    }
                }
            }
        }
    }
    assert!(later > 1000, "{later} exchanges after joining");
}
