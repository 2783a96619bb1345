//! Captures of real programs, cut anywhere: what a second pipeline, given what the first one learned, makes of the rest is what
//! one pipeline makes of it that saw everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use spoor::config::Services;
use spoor::run::state::file;
use spoor::source;
use spoor_core::conn::snapshot::Connection;
use spoor_core::pipeline::Pipeline;
use spoor_core::pipeline::snapshot::{Snapshot, Stats};
use spoor_core::protocol;
use spoor_core::record::{Conn, ConnId, Record, Role};
use spoor_core::span::Span;
use spoor_core::time::{BootTime, WallTime};
use spoor_core::trace::SpanId;
use spoor_tests::{recorded, whole_core};

const MINUTE: Duration = Duration::from_secs(60);
/// Places at which each capture is cut.
const CUTS: usize = 24;
/// Records behind a cut that nobody sees.
const UNSEEN: usize = 7;

fn records(name: &str) -> Vec<Record> {
    let mut source = source::open(&recorded::fixtures().join(name), &Services::default()).expect("a capture");
    let mut records = Vec::new();
    while let Some(mut record) = source.next().expect("an undamaged capture") {
        // Captures know no network namespaces, and no processes.
        if let Record::Conn(conn) = &mut record {
            conn.netns = spoor_core::record::NetNs(1);
        }
        records.push(record);
    }
    records
}

fn pipeline() -> Pipeline {
    Pipeline::new(whole_core::settings()).expect("the rules compile")
}

fn spans(mut pipeline: Pipeline, records: &[Record]) -> Vec<Span> {
    let end = records.last().map_or(BootTime::ZERO, Record::at) + MINUTE;
    records.iter().for_each(|record| pipeline.handle_record(record.clone()));
    pipeline.handle_timeout(end);
    pipeline.finish(end);
    std::iter::from_fn(|| pipeline.poll_span()).collect()
}

/// What the kernel says of the connections that are open, as soon as they speak to another agent.
fn introductions(before: &[Record], at: BootTime) -> Vec<Record> {
    let mut open: BTreeMap<ConnId, Conn> = BTreeMap::new();
    for record in before {
        match record {
            Record::Conn(conn) => {
                open.insert(conn.id, Conn { at, from_start: false, ..Conn::clone(conn) });
            }
            Record::Close(close) => {
                open.remove(&close.conn);
            }
            _ => {}
        }
    }
    open.into_values().map(|conn| Record::Conn(Box::new(conn))).collect()
}

/// The first agent's file, as the second one reads it.
fn left(before: &[Record]) -> Snapshot {
    let mut first = pipeline();
    let at = before.last().map_or(BootTime::ZERO, Record::at);
    before.iter().for_each(|record| first.handle_record(record.clone()));
    first.handle_timeout(at);
    let bytes = file::encode(&first.snapshot()).expect("it is not too large");
    file::decode(&bytes, Path::new("file")).expect("it can be read")
}

/// What the second agent makes of the rest, of which it does not see the first `unseen` records.
fn second(
    before: &[Record],
    rest: &[Record],
    unseen: usize,
    learned: Option<Snapshot>,
) -> (Vec<Span>, Stats) {
    let (missed, seen) = rest.split_at(unseen.min(rest.len()));
    let at = seen.first().map_or(BootTime::ZERO, Record::at);
    let mut next = pipeline();
    if let Some(learned) = learned {
        next.restore(learned, at);
    }
    let all = [before, missed].concat();
    let clock = before.iter().find(|record| matches!(record, Record::Clock(_))).cloned();
    let mut records: Vec<Record> = clock.into_iter().collect();
    records.extend(introductions(&all, at));
    records.extend(seen.iter().cloned());
    for record in &records {
        next.handle_record(record.clone());
    }
    let restored = next.restored();
    (spans(next, &records[records.len()..]), restored)
}

/// What a span says, except for what the trees it is in say of it.
fn said(span: &Span) -> String {
    let own = span.attributes.iter().filter(|(key, _)| !key.starts_with("spoor.") && *key != "order.id");
    let mut own: Vec<String> = own.map(|(key, value)| format!("{key}={value:?}")).collect();
    own.sort();
    format!("{} {:?} {}", span.name, span.kind, own.join(" "))
}

fn is_whole(span: &Span) -> bool {
    !span.attributes.iter().any(|(key, _)| key.starts_with("spoor.incomplete"))
}

/// What spans say that was learned before.
const LEARNED: [&str; 5] =
    ["db.query.text", "db.query.summary", "db.namespace", "rpc.method", "messaging.destination.name"];

/// One says what the other says to be something else. A destination that is known in part is no contradiction.
fn contradicts(before: &Span, now: &Span) -> bool {
    LEARNED.iter().any(|key| {
        let (before, now) = (whole_core::text(before, key), whole_core::text(now, key));
        !now.is_empty() && !before.starts_with(&now)
    })
}

/// Spans of all cuts that are there without a cut, too.
#[derive(Debug, Default)]
struct Found {
    /// The same to the last attribute.
    same: usize,
    /// Of those that say less or more.
    other: BTreeSet<String>,
    wrong: BTreeSet<String>,
}

impl Found {
    fn compare(&mut self, expected: &BTreeMap<SpanId, &Span>, found: &[Span]) {
        for span in found.iter().filter(|span| is_whole(span)) {
            let Some(before) = expected.get(&span.span_id).filter(|before| is_whole(before)) else {
                continue;
            };
            let pair = (said(before), said(span));
            let line = || format!("{}\n  now {}", pair.0, pair.1);
            if contradicts(before, span) {
                self.wrong.insert(line());
            } else if pair.0 == pair.1 {
                self.same += 1;
            } else {
                self.other.insert(line());
            }
        }
    }
}

/// Every connection stood between two messages.
fn is_at_rest(learned: &Snapshot, before: &[Record]) -> bool {
    let rests = |connection: &Connection| {
        connection.stands.is_some()
            && match &connection.learned {
                protocol::Snapshot::Postgres(postgres) => postgres.at_rest,
                protocol::Snapshot::Amqp(amqp) => amqp.at_rest,
                protocol::Snapshot::Http1(_)
                | protocol::Snapshot::Http2(_)
                | protocol::Snapshot::FastCgi(_)
                | protocol::Snapshot::Scgi(_)
                | protocol::Snapshot::Uwsgi(_) => true,
            }
    };
    learned.connections.iter().all(rests)
        && learned.connections.len() == introductions(before, BootTime::ZERO).len()
}

/// A moment after the first record behind a cut, as spans tell the time.
fn moment_after(before: &[Record], rest: &[Record]) -> WallTime {
    let clocks = before.iter().filter_map(|record| match record {
        Record::Clock(clock) => Some(clock),
        _ => None,
    });
    let clock = clocks.last().expect("captures begin with the time");
    clock.wall_at(rest.first().map_or(BootTime::ZERO, Record::at)) + Duration::from_millis(1)
}

/// At every cut the second agent says nothing that one agent would not have said, and at a cut at rest exactly that; and without
/// what the first one learned it says otherwise (so that this can fail).
#[track_caller]
fn check(name: &str) {
    let records = records(name);
    let whole = spans(pipeline(), &records);
    let expected: BTreeMap<SpanId, &Span> = whole.iter().map(|span| (span.span_id, span)).collect();
    let [mut rested, mut with, mut without, mut after_gap] = [(); 4].map(|()| Found::default());
    let (mut rests, mut broken) = (0, 0);
    for cut in (1..CUTS).map(|n| records.len() * n / CUTS) {
        let (before, rest) = records.split_at(cut);
        let learned = left(before);
        let (found, stats) = second(before, rest, 0, Some(learned.clone()));
        assert_eq!(stats.connections.impossible + stats.connections.changed, 0, "{name} at {cut}: {stats:?}");
        if is_at_rest(&learned, before) && stats.connections.broken == 0 {
            rests += 1;
            // What one end of a connection saw before the cut, and the other one after it, belongs to both agents.
            let from = moment_after(before, rest);
            let after: Vec<Span> = found.iter().filter(|span| span.start > from).cloned().collect();
            rested.compare(&expected, &after);
        }
        with.compare(&expected, &found);
        without.compare(&expected, &second(before, rest, 0, None).0);
        let (found, stats) = second(before, rest, UNSEEN, Some(learned));
        broken += stats.connections.broken;
        after_gap.compare(&expected, &found);
    }
    eprintln!(
        "{name}: same {}, without {}, after a gap {}; {rests} cuts at rest, {broken} connections with a gap",
        with.same, without.same, after_gap.same
    );
    assert!(rested.other.is_empty() && rested.wrong.is_empty(), "{name}: {rested:#?}");
    assert!(rests > 0 && rested.same > 5, "{name}: {rests} cuts at rest, {} spans", rested.same);
    let wrong = [&with, &after_gap].map(|found| &found.wrong);
    assert!(wrong.iter().all(|wrong| wrong.is_empty()), "{name}: {wrong:#?}");
    assert!(with.same > without.same, "{name}: nothing had to be learned");
}

#[test]
fn statements_prepared_before_a_cut_are_known_after_it() {
    for name in ["asyncpg", "pgx", "jdbc", "sqlx", "tokio_postgres", "pgbench_prepared"] {
        check(&format!("postgres/{name}.pcap"));
    }
}

#[test]
fn consumers_subscribed_before_a_cut_are_known_after_it() {
    for name in ["pika_life_cycle", "go_amqp091", "bunny", "kombu", "aio_pika", "lapin"] {
        check(&format!("amqp/{name}.pcap"));
    }
}

#[test]
fn header_fields_that_refer_to_what_came_before_a_cut_are_known_after_it() {
    check("http2/grpcio_calls.pcap");
}

#[test]
fn nothing_is_taken_over_from_another_boot() {
    let records = records("postgres/asyncpg.pcap");
    let (before, rest) = records.split_at(records.len() / 2);
    let learned = Snapshot { boot_id: [8; 16], ..left(before) };
    assert!(!learned.connections.is_empty());
    let (found, stats) = second(before, rest, 0, Some(learned.clone()));
    assert_eq!(stats.other_boot, learned.connections.len() as u64);
    let fresh = second(before, rest, 0, None).0;
    let all = |spans: &[Span]| -> BTreeSet<String> { spans.iter().map(said).collect() };
    assert_eq!(all(&found), all(&fresh));
    assert_eq!(
        learned.connections.iter().filter(|one| one.role == Role::Client).count(),
        learned.connections.len() / 2
    );
}

/// Changes a few of the numbers and texts in a value, by chance.
fn spoil(value: &mut serde_json::Value, next: &mut impl FnMut(u64) -> u64) {
    use serde_json::Value;
    match value {
        Value::Number(_) if next(12) == 0 => {
            let numbers = [0, 1, 7, u64::from(u16::MAX), u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
            *value = numbers[next(7) as usize].into();
        }
        Value::String(_) if next(12) == 0 => *value = ["", "x", "\0", ":path"][next(4) as usize].into(),
        Value::Bool(flag) => *flag ^= next(12) == 0,
        Value::Array(values) => {
            values.iter_mut().for_each(|value| spoil(value, next));
            if next(12) == 0 {
                values.reverse();
                values.truncate(next(9) as usize);
            }
        }
        // Variants are objects with one key: the other names stay what they are.
        Value::Object(values) => values.values_mut().for_each(|value| spoil(value, next)),
        _ => {}
    }
}

#[test]
fn nonsense_in_what_was_left_is_survived() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut restored = 0;
    for name in ["postgres/asyncpg.pcap", "amqp/bunny.pcap", "http2/grpcio_calls.pcap"] {
        let records = records(name);
        let (before, rest) = records.split_at(records.len() * 2 / 3);
        let learned = left(before);
        for _ in 0..400 {
            let mut value = serde_json::to_value(&learned.connections).expect("it is JSON");
            // What says who it is stays, mostly: else nothing is taken over.
            for one in value.as_array_mut().expect("an array") {
                spoil(&mut one["learned"], &mut next);
                if next(4) == 0 {
                    spoil(&mut one["stands"], &mut next);
                }
            }
            let Ok(connections) = serde_json::from_value(value) else { continue };
            let spoiled = Snapshot { connections, ..learned.clone() };
            let unseen = if next(2) == 0 { 0 } else { UNSEEN };
            let (_, stats) = second(before, rest, unseen, Some(spoiled));
            restored += stats.connections.unbroken + stats.connections.broken;
        }
    }
    assert!(restored > 100, "{restored} connections were taken over");
}
