//! Captures of real clients and a real RabbitMQ, against what tshark's dissector counts in them.
//!
//! How the captures were made is in `tests/fixtures/amqp/README.md`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Command;

use spoor_core::operation::amqp::{Action, ActionKind, Content, Publish, PublishOutcome, Settlement};
use spoor_core::operation::{Detail, OpSide, Operation};
use spoor_core::protocol::amqp::AmqpSession;
use spoor_core::protocol::{Discard, End, Event, Events, Session as _};
use spoor_core::record::{Mark, Role, Sender, Worker};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::recorded::fixtures;

/// The broker's port in all captures.
const PORT: u16 = 25_672;

const CAPTURES: [&str; 10] = [
    "pika_life_cycle",
    "java_confirms",
    "node_streams",
    "aio_pika",
    "amqp_tools",
    "bunny",
    "go_amqp091",
    "kombu",
    "lapin",
    "php_amqplib",
];
/// Those of them whose messages have no identifiers of their own.
const ANONYMOUS: [&str; 2] = ["amqp_tools", "kombu"];

fn path(name: &str) -> PathBuf {
    fixtures().join("amqp").join(format!("{name}.pcap"))
}

/// Bytes one side sent, at some position of its stream.
#[derive(Clone, Debug)]
struct Segment {
    /// The client's port: which connection.
    connection: u16,
    from: Sender,
    pos: u64,
    bytes: Vec<u8>,
}

/// The TCP payload of a capture of the loopback device, which reorders nothing but may send something twice.
fn read(name: &str) -> Vec<Segment> {
    let file = std::fs::read(path(name)).expect("the capture can be read");
    let u16_at = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let little = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert!(matches!(little(0), 0xa1b2_c3d4 | 0xa1b2_3c4d) && little(20) == 1, "pcap, Ethernet");
    let mut starts: HashMap<(u16, Sender), (u32, u64)> = HashMap::new();
    let mut segments = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let len = little(at + 8) as usize;
        let packet = &file[at + 16..at + 16 + len];
        at += 16 + len;
        let ip = &packet[14..];
        let tcp = &ip[usize::from(ip[0] & 15) * 4..usize::from(u16_at(ip, 2))];
        let (source, target, sequence) = (u16_at(tcp, 0), u16_at(tcp, 2), u32_at(tcp, 4));
        let (from, connection) =
            if source == PORT { (Sender::Server, target) } else { (Sender::Client, source) };
        if tcp[13] & 2 != 0 {
            starts.insert((connection, from), (sequence.wrapping_add(1), 0));
            continue;
        }
        let bytes = tcp[usize::from(tcp[12] >> 4) * 4..].to_vec();
        let (start, next) = starts.get_mut(&(connection, from)).expect("the connection's start is there");
        let pos = u64::from(sequence.wrapping_sub(*start));
        if !bytes.is_empty() && pos == *next {
            *next += bytes.len() as u64;
            segments.push(Segment { connection, from, pos, bytes });
        }
    }
    segments
}

/// The segments of each connection: positions mean nothing across them.
fn by_connection(name: &str) -> Vec<Vec<Segment>> {
    let mut connections: BTreeMap<u16, Vec<Segment>> = BTreeMap::new();
    for segment in read(name) {
        connections.entry(segment.connection).or_default().push(segment);
    }
    connections.into_values().collect()
}

/// Every operation of every connection, in the order they were closed, and the bytes discarded.
fn replay(segments: &[Segment], role: Role) -> (Vec<Operation>, u64) {
    let mut sessions: BTreeMap<u16, (AmqpSession, [Option<u64>; 2])> = BTreeMap::new();
    let mut events = Events::default();
    for segment in segments {
        let (session, next) = sessions
            .entry(segment.connection)
            .or_insert_with(|| (AmqpSession::new(role, &Protocols::default()), [None; 2]));
        let next = &mut next[segment.from as usize];
        let mark =
            Mark { at: BootTime::from_nanos(1), thread: Worker::default(), other_pos: 0, awaited_by: None };
        let gap = segment.pos - next.unwrap_or(segment.pos);
        session.gap(segment.from, segment.pos - gap, gap, mark, &mut events);
        session.bytes(segment.from, segment.pos, &segment.bytes, mark, &mut events);
        *next = Some(segment.pos + segment.bytes.len() as u64);
    }
    for (session, _) in sessions.values_mut() {
        session.end(End::Closed, BootTime::from_nanos(2), &mut events);
    }
    let mut operations = Vec::new();
    let mut discarded = 0;
    while let Some(event) = events.pop() {
        match event {
            Event::Closed(operation) => operations.push(*operation),
            Event::Discarded { reason, bytes } => {
                assert_ne!(reason, Discard::Limit);
                discarded += bytes;
            }
            _ => {}
        }
    }
    (operations, discarded)
}

fn action(operation: &Operation) -> &Action {
    let Detail::Amqp(action) = &operation.detail else { panic!("{operation:?}") };
    action
}

fn kinds(operations: &[Operation]) -> impl Iterator<Item = &ActionKind> {
    operations.iter().map(|operation| &action(operation).kind)
}

fn publishes(operations: &[Operation]) -> Vec<&Publish> {
    kinds(operations)
        .filter_map(|kind| match kind {
            ActionKind::Publish(publish) => Some(publish),
            _ => None,
        })
        .collect()
}

fn message_id(content: &Content) -> &str {
    content.properties.message_id.as_deref().unwrap_or_default()
}

/// What a capture holds: how often each method that is or answers an operation, and of messages, their body bytes.
type Counts = BTreeMap<String, u64>;

/// Our side of the count.
fn count(operations: &[Operation]) -> Counts {
    let mut counts = Counts::new();
    let mut add = |name: &str, by: u64| *counts.entry(name.to_owned()).or_default() += by;
    for operation in operations {
        let kind = &action(operation).kind;
        match kind {
            ActionKind::Publish(publish) => {
                add("basic.publish", 1);
                if matches!(publish.outcome, PublishOutcome::Returned { .. }) {
                    add("basic.return", 1);
                    // Its content went over the wire a second time.
                    add("body bytes", publish.content.body.len);
                }
            }
            ActionKind::Return(_) => add("basic.return", 1),
            ActionKind::Deliver(_) => add("basic.deliver", 1),
            ActionKind::Get(None) => add("basic.get-empty", 1),
            ActionKind::Get(Some(_)) => add("basic.get-ok", 1),
            ActionKind::Settle(settle) => match settle.settlement {
                Settlement::Ack => add("basic.ack", 1),
                Settlement::Nack { .. } => add("basic.nack", 1),
                Settlement::Reject { .. } => add("basic.reject", 1),
            },
            ActionKind::Method(method) => add(&method.name, 1),
        }
        // What a method says was lost went over the wire as the publish that it was.
        if let Some(content) = kind.content().filter(|_| !matches!(kind, ActionKind::Method(_))) {
            add("body bytes", content.body.len);
        }
    }
    counts
}

/// tshark's side of the count, where it is installed.
fn dissected(name: &str) -> Option<Counts> {
    let output = Command::new("tshark")
        .args([
            "-r",
            path(name).to_str()?,
            "-d",
            &format!("tcp.port=={PORT},amqp"),
            "-Y",
            "amqp",
            "-T",
            "fields",
        ])
        .args(["-e", "tcp.srcport", "-e", "amqp.method.class", "-e", "amqp.method.method"])
        .args(["-e", "amqp.header.body-size"])
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut counts = Counts::new();
    let mut add = |name: &str, by: u64| *counts.entry(name.to_owned()).or_default() += by;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let mut columns = line.split('\t');
        let by_client = columns.next() != Some("25672");
        let numbers = |column: Option<&str>| -> Vec<u64> {
            let column = column.unwrap_or_default();
            column.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()).collect()
        };
        let (classes, methods) = (numbers(columns.next()), numbers(columns.next()));
        assert_eq!(classes.len(), methods.len(), "{line}");
        for (class, method) in classes.into_iter().zip(methods) {
            if let Some(name) = operation_of(class, method, by_client) {
                add(name, 1);
            }
        }
        add("body bytes", numbers(columns.next()).into_iter().sum());
    }
    Some(counts)
}

/// The methods that stand for an operation each, by the numbers of the specification.
fn operation_of(class: u64, method: u64, by_client: bool) -> Option<&'static str> {
    Some(match (class, method) {
        (10, 11) => "connection.start-ok",
        (10, 40) => "connection.open",
        (10, 50) => "connection.close",
        (20, 10) => "channel.open",
        (20, 40) => "channel.close",
        (40, 10) => "exchange.declare",
        (40, 20) => "exchange.delete",
        (40, 30) => "exchange.bind",
        (40, 40) => "exchange.unbind",
        (50, 10) => "queue.declare",
        (50, 20) => "queue.bind",
        (50, 30) => "queue.purge",
        (50, 40) => "queue.delete",
        (60, 10) => "basic.qos",
        (60, 20) => "basic.consume",
        (60, 30) => "basic.cancel",
        (60, 40) => "basic.publish",
        (60, 50) => "basic.return",
        (60, 60) => "basic.deliver",
        (60, 71) => "basic.get-ok",
        (60, 72) => "basic.get-empty",
        (60, 80) if by_client => "basic.ack",
        (60, 90) => "basic.reject",
        (60, 120) if by_client => "basic.nack",
        (85, 10) => "confirm.select",
        (90, 10) => "tx.select",
        (60, 110) => "basic.recover",
        (90, 20) => "tx.commit",
        (90, 30) => "tx.rollback",
        _ => return None,
    })
}

/// What tshark 4.0.17 counted.
fn recorded(name: &str) -> Counts {
    let text = std::fs::read_to_string(path(name).with_extension("counts")).expect("counts are recorded");
    let line = |line: &str| {
        let (name, count) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), count.parse().unwrap())
    };
    text.lines().map(line).collect()
}

#[test]
fn every_operation_tshark_sees_is_seen() {
    for name in CAPTURES {
        match dissected(name) {
            Some(counts) if std::env::var_os("UPDATE_EXPECT").is_some() => {
                let lines = counts.iter().map(|(name, count)| format!("{name} {count}\n"));
                std::fs::write(path(name).with_extension("counts"), lines.collect::<String>()).unwrap();
            }
            Some(counts) => assert_eq!(counts, recorded(name), "{name}: the recorded counts are tshark's"),
            None => println!("skipped: no tshark to confirm the recorded counts of {name}"),
        }
        for role in [Role::Client, Role::Server] {
            let (operations, discarded) = replay(&read(name), role);
            assert_eq!(count(&operations), recorded(name), "{name}");
            assert_eq!(discarded, 0, "{name}");
            for operation in &operations {
                assert_eq!(operation.role, role);
                let shape = match &action(operation).kind {
                    _ if role == Role::Server => OpSide::Relayed,
                    ActionKind::Publish(_) | ActionKind::Get(_) | ActionKind::Settle(_) => OpSide::Outgoing,
                    ActionKind::Deliver(_) => OpSide::Incoming,
                    ActionKind::Return(_) => OpSide::Relayed,
                    ActionKind::Method(_) => continue,
                };
                assert_eq!(operation.shape, shape, "{name}: {operation:?}");
            }
        }
    }
}

#[test]
fn a_message_is_the_same_from_publish_to_delivery() {
    let mut dead_lettered = 0;
    let mut rewritten = 0;
    for name in CAPTURES.into_iter().filter(|name| !ANONYMOUS.contains(name)) {
        let (operations, _) = replay(&read(name), Role::Client);
        let mut published: HashMap<&str, ([u8; 32], &Content)> = HashMap::new();
        for publish in publishes(&operations) {
            let digest = publish.content.canonical_digest().expect("nothing is missing");
            if let Some(id) = publish.content.properties.message_id.as_deref() {
                assert!(published.insert(id, (digest, &publish.content)).is_none(), "{id}");
            }
        }
        let mut digests: Vec<_> = published.values().map(|(digest, _)| digest).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), published.len(), "different messages are different");
        let mut delivered = 0;
        for kind in kinds(&operations) {
            let (ActionKind::Deliver(deliver) | ActionKind::Get(Some(deliver))) = kind else { continue };
            let content = &deliver.content;
            let Some((digest, sent)) = published.get(message_id(content)) else { continue };
            assert_eq!(content.canonical_digest(), Some(*digest), "{name}: {content:?}");
            delivered += 1;
            if content.properties.headers.iter().any(|(name, _)| name == "x-death") {
                dead_lettered += 1;
                assert!(sent.properties.expiration.is_some() && content.properties.expiration.is_none());
            }
            rewritten += u32::from(sent.properties.reply_to != content.properties.reply_to);
        }
        assert!(delivered >= 8, "{name}: {delivered}");
    }
    assert_eq!(dead_lettered, 2, "one rejected, one expired");
    assert_eq!(rewritten, 2, "direct reply-to");
}

#[test]
fn confirms_refusals_and_returns_reach_their_publish() {
    let outcomes = |name: &str| {
        let (operations, _) = replay(&read(name), Role::Client);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for publish in publishes(&operations) {
            *counts.entry(format!("{:?}", publish.outcome)).or_default() += 1;
        }
        counts.into_iter().map(|(outcome, count)| format!("{count} {outcome}")).collect::<Vec<_>>()
    };
    // One is a transaction's.
    assert_eq!(
        outcomes("pika_life_cycle"),
        ["1 Committed", "5 Confirmed", "1 Returned { code: 312, text: \"NO_ROUTE\" }"]
    );
    assert_eq!(outcomes("java_confirms"), ["103 Confirmed", "2 Refused"]);
    assert_eq!(outcomes("node_streams"), ["20 Confirmed", "20 Unconfirmed"]);

    let (operations, _) = replay(&read("java_confirms"), Role::Client);
    let refused = publishes(&operations);
    let refused = refused.iter().filter(|publish| publish.outcome == PublishOutcome::Refused);
    assert_eq!(
        refused.map(|publish| message_id(&publish.content)).collect::<Vec<_>>(),
        ["small-2", "small-3"]
    );
}

#[test]
fn deliveries_know_queue_settlement_and_redelivery() {
    let (operations, _) = replay(&read("pika_life_cycle"), Role::Client);
    let deliveries = kinds(&operations).filter_map(|kind| match kind {
        ActionKind::Deliver(deliver) => {
            let queue = deliver.queue.as_deref().unwrap_or("?");
            let again = if deliver.redelivered { " again" } else { "" };
            Some(format!("{queue} {}{again} {:?}", message_id(&deliver.content), deliver.settlement))
        }
        _ => None,
    });
    expect_test::expect![[r#"
        work m-everything again Some(Reject { requeue: false })
        work m-empty Some(Nack { requeue: true })
        work m-empty again Some(Ack)
        work m-large Some(Ack)
        graveyard m-everything Some(Ack)
        graveyard m-expired Some(Ack)
        work m-ask None
        work m-tx None"#]]
    .assert_eq(&deliveries.collect::<Vec<_>>().join("\n"));

    let (operations, _) = replay(&read("node_streams"), Role::Client);
    for kind in kinds(&operations) {
        let ActionKind::Deliver(deliver) = kind else { continue };
        let queue = deliver.queue.as_deref().expect("the subscription was seen");
        assert_eq!(deliver.no_ack, Some(queue.starts_with("amq.gen-")), "{deliver:?}");
        assert_eq!(deliver.settlement.is_some(), queue == "jobs");
    }
}

/// What must not depend on how a capture was cut: address, message and position of each message.
fn essence(operations: &[Operation]) -> Vec<(u64, String)> {
    let essence = |operation: &Operation| {
        let content = action(operation).kind.content()?;
        if matches!(action(operation).kind, ActionKind::Get(_)) {
            return None;
        }
        let digest = content.canonical_digest();
        let what = match &action(operation).kind {
            ActionKind::Deliver(deliver) => format!("deliver {} {}", deliver.exchange, deliver.routing_key),
            ActionKind::Publish(publish) => format!("publish {} {}", publish.exchange, publish.routing_key),
            _ => return None,
        };
        Some((operation.request.start.pos, format!("{what} {digest:?} {}", operation.request.len())))
    };
    let mut all: Vec<_> = operations.iter().filter_map(essence).collect();
    all.sort();
    all
}

#[test]
fn splits_of_a_capture_change_nothing() {
    for name in CAPTURES {
        let segments = read(name);
        let (whole, _) = replay(&segments, Role::Client);
        for size in [1, 2, 7, 8, 13, 1000] {
            let split = segments.iter().flat_map(|segment| {
                segment.bytes.chunks(size).enumerate().map(move |(index, bytes)| Segment {
                    pos: segment.pos + (index * size) as u64,
                    bytes: bytes.to_vec(),
                    ..segment.clone()
                })
            });
            let (operations, discarded) = replay(&split.collect::<Vec<_>>(), Role::Client);
            assert_eq!(operations, whole, "{name} in {size}s");
            assert_eq!(discarded, 0);
        }
    }
}

#[test]
fn joining_at_any_record_or_inside_one_finds_every_later_message() {
    for name in CAPTURES {
        for segments in by_connection(name) {
            let (whole, _) = replay(&segments, Role::Client);
            let whole = essence(&whole);
            for (index, first) in segments.iter().enumerate() {
                for offset in [0, 1, 9, first.bytes.len() / 2] {
                    if offset >= first.bytes.len() {
                        continue;
                    }
                    let mut rest = segments[index..].to_vec();
                    rest[0].pos += offset as u64;
                    rest[0].bytes.drain(..offset);
                    let (operations, _) = replay(&rest, Role::Client);
                    let found = essence(&operations);
                    // Nothing is invented.
                    let complete = |one: &&(u64, String)| !one.1.contains("None");
                    for one in found.iter().filter(complete) {
                        assert!(whole.contains(one), "{name} from {index}+{offset}: {one:?}");
                    }
                    // And nothing that begins in a later record is missed.
                    let later: Vec<_> = messages_after(&segments[index + 1..], &whole);
                    let missed = later.iter().filter(|one| !found.contains(one)).count();
                    assert_eq!(missed, 0, "{name} from {index}+{offset}");
                }
            }
        }
    }
}

/// Messages whose first byte is the first byte of one of these segments: certain to be found.
fn messages_after(segments: &[Segment], whole: &[(u64, String)]) -> Vec<(u64, String)> {
    let starts =
        |from: Sender, pos: u64| segments.iter().any(|segment| segment.from == from && segment.pos == pos);
    let of = |what: &str| if what.starts_with("publish") { Sender::Client } else { Sender::Server };
    whole.iter().filter(|(pos, what)| starts(of(what), *pos)).cloned().collect()
}
