//! What RabbitMQ does with messages, one situation after the other: which publish each delivery is found to be of.
//!
//! Two agents watch: one sees the broker, the other one leaves it out and has only what its clients write and read. Every
//! path that is expected is there, and no other.
//!
//! Long because the situations are one table.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spoor_tests::agent::{self, Agent};
use spoor_tests::customers::unix_ns;
use spoor_tests::forest::{CLIENT, CONSUMER, INTERNAL, PRODUCER, Span};
use spoor_tests::peers::{Process, Rabbit, Scratch, run};
use spoor_tests::skip::skip;

/// A situation: who does what, and what is expected.
struct Situation {
    name: &'static str,
    /// Each is started when the one before it is ready.
    actors: Vec<Value>,
    /// From publish to delivery. A publish is called by its message ID or, without one, by its number; a delivery by its
    /// consumer's tag and the message ID or delivery tag; a dwell by its queue.
    through_the_broker: &'static [&'static str],
    without_it: &'static [&'static str],
}

fn situations() -> Vec<Situation> {
    let id = |id: &str| json!({ "message_id": id });
    vec![
        Situation {
            name: "the default exchange",
            actors: vec![
                json!([
                    ["queue", "plain"],
                    ["consume", "plain", "c"],
                    ["ready"],
                    ["receive", 1],
                    ["settle", 0, "ack"]
                ]),
                json!([["publish", "", "plain", "one", id("m1")]]),
            ],
            through_the_broker: &["m1 > dwell plain > c:m1"],
            without_it: &["m1 > c:m1"],
        },
        Situation {
            name: "a direct exchange, and a message that no queue takes",
            actors: vec![
                json!([
                    ["exchange", "direct", "direct"],
                    ["queue", "direct.a"],
                    ["bind", "direct.a", "direct", "a"],
                    ["consume", "direct.a", "c"],
                    ["ready"],
                    ["receive", 1],
                    ["settle", 0, "ack"]
                ]),
                json!([
                    ["publish", "direct", "b", "one", id("m1")],
                    ["publish", "direct", "a", "one", id("m2")]
                ]),
            ],
            through_the_broker: &["m1", "m2 > dwell direct.a > c:m2"],
            without_it: &["m1", "m2 > c:m2"],
        },
        Situation {
            name: "a topic exchange with two queues",
            actors: vec![
                json!([
                    ["exchange", "topic", "topic"],
                    ["queue", "topic.new"],
                    ["queue", "topic.all"],
                    ["bind", "topic.new", "topic", "order.*.new"],
                    ["bind", "topic.all", "topic", "order.#"],
                    ["consume", "topic.new", "n"],
                    ["consume", "topic.all", "a"],
                    ["ready"],
                    ["receive", 3],
                    ["settle", 0, "ack"],
                    ["settle", 1, "ack"],
                    ["settle", 2, "ack"]
                ]),
                json!([
                    ["confirm"],
                    ["publish", "topic", "order.big.new", "one", id("m1")],
                    ["publish", "topic", "order.big.done", "two", id("m2")]
                ]),
            ],
            through_the_broker: &[
                "m1 > dwell topic.all > a:m1",
                "m1 > dwell topic.new > n:m1",
                "m2 > dwell topic.all > a:m2",
            ],
            without_it: &["m1 > a:m1", "m1 > n:m1", "m2 > a:m2"],
        },
        Situation {
            name: "a fanout exchange: several copies, without an ID",
            actors: vec![
                json!([
                    ["exchange", "fanout", "fanout"],
                    ["queue", "fan.1"],
                    ["queue", "fan.2"],
                    ["queue", "fan.3"],
                    ["bind", "fan.1", "fanout", ""],
                    ["bind", "fan.2", "fanout", ""],
                    ["bind", "fan.3", "fanout", ""],
                    ["consume", "fan.1", "x"],
                    ["ready"],
                    ["receive", 1],
                    ["settle", 0, "ack"]
                ]),
                json!([["consume", "fan.2", "y", true], ["ready"], ["receive", 1], ["wait", 20]]),
                json!([["consume", "fan.3", "z"], ["ready"], ["receive", 1], ["settle", 0, "ack"]]),
                json!([["publish", "fanout", "", "copies"]]),
            ],
            through_the_broker: &[
                "p1 > dwell fan.1 > x:1",
                "p1 > dwell fan.2 > y:1",
                "p1 > dwell fan.3 > z:1",
            ],
            without_it: &["p1 > x:1", "p1 > y:1", "p1 > z:1"],
        },
        Situation {
            name: "a headers exchange",
            actors: vec![
                json!([
                    ["exchange", "headers", "headers"], ["queue", "head.new"], ["queue", "head.any"],
                    ["bind", "head.new", "headers", "", { "x-match": "all", "kind": "new", "size": 3 }],
                    ["bind", "head.any", "headers", "", { "x-match": "any", "kind": "old", "size": 3 }],
                    ["consume", "head.new", "n"], ["consume", "head.any", "a"], ["ready"],
                    ["receive", 3], ["settle", 0, "ack"],
                    ["settle", 1, "ack"],
                    ["settle", 2, "ack"]
                ]),
                json!([
                    ["publish", "headers", "k", "one", { "message_id": "m1", "headers": { "kind": "new", "size": 3 } }],
                    ["publish", "headers", "k", "one", { "message_id": "m2", "headers": { "kind": "old", "size": 4 } }]
                ]),
            ],
            through_the_broker: &[
                "m1 > dwell head.any > a:m1",
                "m1 > dwell head.new > n:m1",
                "m2 > dwell head.any > a:m2",
            ],
            without_it: &["m1 > a:m1", "m1 > n:m1", "m2 > a:m2"],
        },
        Situation {
            name: "several consumers of one queue",
            actors: vec![
                json!([
                    ["queue", "shared"],
                    ["prefetch", 1],
                    ["consume", "shared", "c"],
                    ["ready"],
                    ["take_all", "shared", 4]
                ]),
                json!([["prefetch", 1], ["consume", "shared", "c"], ["ready"], ["take_all", "shared", 4]]),
                json!([
                    ["publish", "", "shared", "1", id("m1")],
                    ["publish", "", "shared", "2", id("m2")],
                    ["publish", "", "shared", "3", id("m3")],
                    ["publish", "", "shared", "4", id("m4")]
                ]),
            ],
            through_the_broker: &[
                "m1 > dwell shared > c:m1",
                "m2 > dwell shared > c:m2",
                "m3 > dwell shared > c:m3",
                "m4 > dwell shared > c:m4",
            ],
            without_it: &["m1 > c:m1", "m2 > c:m2", "m3 > c:m3", "m4 > c:m4"],
        },
        Situation {
            name: "copies by the CC header",
            actors: vec![
                json!([
                    ["queue", "cc.1"],
                    ["queue", "cc.2"],
                    ["consume", "cc.1", "x"],
                    ["consume", "cc.2", "y"],
                    ["ready"],
                    ["receive", 2],
                    ["settle", 0, "ack"],
                    ["settle", 1, "ack"]
                ]),
                json!([["publish", "", "cc.1", "one", { "message_id": "m1", "headers": { "CC": ["cc.2"] } }]]),
            ],
            through_the_broker: &["m1 > dwell cc.1 > x:m1", "m1 > dwell cc.2 > y:m1"],
            without_it: &["m1 > x:m1", "m1 > y:m1"],
        },
        Situation {
            name: "a batch with prefetch, settled at once",
            actors: vec![
                json!([
                    ["queue", "batch"],
                    ["prefetch", 10],
                    ["consume", "batch", "c"],
                    ["ready"],
                    ["receive", 4],
                    ["wait", 30],
                    ["settle", 3, "ack up to"]
                ]),
                json!([
                    ["publish", "", "batch", "1"],
                    ["publish", "", "batch", "2"],
                    ["publish", "", "batch", "3"],
                    ["publish", "", "batch", "4"]
                ]),
            ],
            through_the_broker: &[
                "p1 > dwell batch > c:1",
                "p2 > dwell batch > c:2",
                "p3 > dwell batch > c:3",
                "p4 > dwell batch > c:4",
            ],
            without_it: &["p1 > c:1", "p2 > c:2", "p3 > c:3", "p4 > c:4"],
        },
        Situation {
            name: "redelivery after a requeue",
            actors: vec![
                json!([
                    ["queue", "again"],
                    ["consume", "again", "c"],
                    ["ready"],
                    ["receive", 1],
                    ["settle", 0, "requeue"],
                    ["receive", 1],
                    ["settle", 0, "ack"]
                ]),
                json!([["publish", "", "again", "one"]]),
            ],
            through_the_broker: &["p1 > dwell again > c:1", "p1 > dwell again > c:2"],
            without_it: &["p1 > c:1", "p1 > c:2"],
        },
        Situation {
            name: "redelivery after a lost connection",
            actors: vec![
                json!([
                    ["queue", "lost"],
                    ["consume", "lost", "c"],
                    ["ready"],
                    ["receive", 2],
                    ["lose"],
                    ["consume", "lost", "d"],
                    ["receive", 2],
                    ["settle", 1, "ack up to"]
                ]),
                json!([["publish", "", "lost", "one", id("m1")], ["publish", "", "lost", "two"]]),
            ],
            through_the_broker: &[
                "m1 > dwell lost > c:m1",
                "m1 > dwell lost > d:m1",
                "p2 > dwell lost > c:2",
                "p2 > dwell lost > d:2",
            ],
            without_it: &["m1 > c:m1", "m1 > d:m1", "p2 > c:2", "p2 > d:2"],
        },
        Situation {
            name: "dead letters",
            actors: vec![
                json!([
                    ["exchange", "graveyard", "fanout"], ["queue", "dead"], ["bind", "dead", "graveyard", ""],
                    ["queue", "deadly", { "x-dead-letter-exchange": "graveyard" }],
                    ["consume", "deadly", "c"], ["consume", "dead", "d"], ["ready"],
                    ["receive", 1], ["settle", 0, "reject"], ["receive", 1], ["settle", 0, "ack"]
                ]),
                json!([["publish", "", "deadly", "one"]]),
            ],
            through_the_broker: &["p1 > dwell dead > d:2", "p1 > dwell deadly > c:1"],
            without_it: &["p1 > c:1", "p1 > d:2"],
        },
        Situation {
            name: "a delayed retry: dead letters that wait and come back, twice",
            actors: vec![
                json!([
                    ["exchange", "work", "direct"], ["exchange", "delay", "direct"],
                    ["queue", "retried", { "x-dead-letter-exchange": "delay", "x-dead-letter-routing-key": "later" }],
                    ["queue", "delayed", { "x-dead-letter-exchange": "work", "x-dead-letter-routing-key": "now",
                        "x-message-ttl": 150 }],
                    ["bind", "retried", "work", "now"], ["bind", "delayed", "delay", "later"],
                    ["consume", "retried", "c"], ["ready"],
                    ["receive", 1], ["settle", 0, "reject"], ["receive", 1], ["settle", 0, "reject"],
                    ["receive", 1], ["settle", 0, "ack"]
                ]),
                json!([["publish", "work", "now", "one"]]),
            ],
            through_the_broker: &[
                "p1 > dwell retried > c:1",
                "p1 > dwell retried > c:2",
                "p1 > dwell retried > c:3",
            ],
            without_it: &["p1 > c:1", "p1 > c:2", "p1 > c:3"],
        },
        Situation {
            name: "a message that expired before anybody took it",
            actors: vec![
                json!([
                    ["exchange", "expired", "fanout"], ["queue", "late"], ["bind", "late", "expired", ""],
                    ["queue", "short", { "x-dead-letter-exchange": "expired" }],
                    ["consume", "late", "c"], ["ready"], ["receive", 1], ["settle", 0, "ack"]
                ]),
                json!([["publish", "", "short", "one", { "expiration": "100" }]]),
            ],
            through_the_broker: &["p1 > dwell late > c:1"],
            without_it: &["p1 > c:1"],
        },
        Situation {
            name: "identical messages, settled in another order than they left",
            actors: vec![
                json!([
                    ["queue", "same"],
                    ["consume", "same", "c"],
                    ["ready"],
                    ["receive", 1],
                    ["settle", 0, "ack"],
                    ["receive", 4],
                    ["settle", 2, "ack"],
                    ["settle", 1, "ack"],
                    ["settle", 3, "ack"],
                    ["settle", 0, "ack"]
                ]),
                json!([
                    ["publish", "", "same", "first"],
                    ["wait", 200],
                    ["publish", "", "same", "same"],
                    ["publish", "", "same", "same"],
                    ["publish", "", "same", "same"],
                    ["publish", "", "same", "same"]
                ]),
            ],
            through_the_broker: &[
                "p1 > dwell same > c:1",
                "p2 > dwell same > c:2",
                "p3 > dwell same > c:3",
                "p4 > dwell same > c:4",
                "p5 > dwell same > c:5",
            ],
            without_it: &["p1 > c:1", "p2 > c:2", "p3 > c:3", "p4 > c:4", "p5 > c:5"],
        },
        Situation {
            name: "a call with an answer, by a queue for answers",
            actors: vec![
                json!([
                    ["queue", "calls"],
                    ["consume", "calls", "s"],
                    ["ready"],
                    ["receive", 1],
                    ["answer", 0, "five"],
                    ["settle", 0, "ack"]
                ]),
                json!([
                    ["queue", "answers"], ["consume", "answers", "c"],
                    ["publish", "", "calls", "two and three", { "reply_to": "answers", "correlation_id": "k-1" }],
                    ["receive", 1], ["settle", 0, "ack"]
                ]),
            ],
            through_the_broker: &["p1 > dwell calls > s:1 > p2 > dwell answers > c:1"],
            without_it: &["p1 > s:1 > p2 > c:1"],
        },
        Situation {
            name: "a call with a direct answer",
            actors: vec![
                json!([
                    ["queue", "direct.calls"],
                    ["consume", "direct.calls", "s"],
                    ["ready"],
                    ["receive", 1],
                    ["answer", 0, "five"],
                    ["settle", 0, "ack"]
                ]),
                json!([
                    ["consume", "amq.rabbitmq.reply-to", "c", true],
                    ["publish", "", "direct.calls", "two and three",
                        { "reply_to": "amq.rabbitmq.reply-to", "correlation_id": "k-1" }],
                    ["receive", 1]
                ]),
            ],
            through_the_broker: &["p1 > dwell direct.calls > s:1 > p2 > dwell amq.rabbitmq.reply-to > c:1"],
            without_it: &["p1 > s:1 > p2 > c:1"],
        },
        Situation {
            name: "messages that are asked for",
            actors: vec![
                json!([
                    ["queue", "pulled"],
                    ["ready"],
                    ["get", "pulled"],
                    ["settle", 0, "ack"],
                    ["get", "pulled"],
                    ["settle", 0, "ack"]
                ]),
                json!([["publish", "", "pulled", "one", id("m1")], ["publish", "", "pulled", "two"]]),
            ],
            // Nobody is caused to ask: what is asked for is linked.
            through_the_broker: &["get:2 ~ p2", "get:m1 ~ m1", "m1 > dwell pulled", "p2 > dwell pulled"],
            without_it: &["get:2 ~ p2", "get:m1 ~ m1", "m1", "p2"],
        },
    ]
}

/// Everything that connects publishes and deliveries, as paths and links.
fn paths(spans: &[Span]) -> Vec<String> {
    let is =
        |span: &Span, operation: &str| span.text("messaging.operation.name").as_deref() == Some(operation);
    let of_kind = |kind: u64, operation: &'static str| {
        let mut found: Vec<&Span> =
            spans.iter().filter(|span| span.kind == kind && is(span, operation)).collect();
        found.sort_by_key(|span| span.start_ns);
        found
    };
    let id = |span: &Span| span.text("messaging.message.id");
    let tag = |span: &Span| {
        let tag = span.text("messaging.rabbitmq.message.delivery_tag").unwrap_or_default();
        id(span).unwrap_or(tag)
    };
    let mut named: Vec<(&Span, String)> = Vec::new();
    for (number, span) in of_kind(PRODUCER, "publish").into_iter().enumerate() {
        named.push((span, id(span).unwrap_or_else(|| format!("p{}", number + 1))));
    }
    for span in of_kind(INTERNAL, "dwell") {
        named.push((span, format!("dwell {}", span.text("messaging.destination.name").unwrap_or_default())));
    }
    for span in of_kind(CONSUMER, "process") {
        let consumer = span.text("spoor.messaging.consumer_tag").unwrap_or_default();
        named.push((span, format!("{consumer}:{}", tag(span))));
    }
    for span in of_kind(CLIENT, "get").into_iter().filter(|span| !tag(span).is_empty()) {
        named.push((span, format!("get:{}", tag(span))));
    }
    let name_of = |trace: &str, span: &str| {
        named.iter().find(|(known, _)| known.trace_id == trace && known.span_id == span)
    };
    let mut lines = Vec::new();
    for (span, name) in &named {
        if span.kind == CLIENT {
            for link in &span.links {
                let linked = name_of(&link.trace_id, &link.span_id);
                lines.push(format!("{name} ~ {}", linked.map_or("nothing", |(_, name)| name.as_str())));
            }
            continue;
        }
        let has_children = named.iter().any(|(other, _)| other.parent_id == span.span_id);
        if has_children {
            continue;
        }
        let mut path = vec![name.as_str()];
        let mut at = *span;
        while let Some((parent, name)) = name_of(&at.trace_id, &at.parent_id) {
            path.push(name);
            at = parent;
        }
        path.reverse();
        lines.push(path.join(" > "));
    }
    lines.sort();
    lines
}

/// Plays a situation; when it began and ended, Unix nanoseconds.
fn play(situation: &Situation, url: &str, dir: &Path) -> Result<(u64, u64)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("services/broker/actor.py");
    let began = unix_ns();
    let mut running = Vec::new();
    for (number, steps) in situation.actors.iter().enumerate() {
        let log = dir.join(format!("{}-{number}.log", situation.name.replace([' ', ',', ':'], "-")));
        let mut python = Command::new("/usr/bin/python3");
        python.arg(&script).arg(url).arg(steps.to_string());
        let mut actor = Process::start("a client of the broker", &mut python, &log)?;
        let gets_ready = steps.as_array().into_iter().flatten().any(|step| step[0] == "ready");
        if gets_ready {
            actor.wait_for_line("ready")?;
        }
        running.push(actor);
    }
    for mut actor in running {
        let ended_well = actor.wait()?;
        ensure!(ended_well, "a client failed: see {}", actor.log().display());
    }
    Ok((began, unix_ns()))
}

#[test]
fn every_delivery_is_joined_to_its_publish_and_to_no_other() {
    let reason = agent::binary().err().or_else(missing);
    if let Some(reason) = reason {
        return skip(&reason);
    }
    if let Err(error) = check_all() {
        panic!("{error:#}");
    }
}

fn missing() -> Option<String> {
    let has_pika = run(Command::new("/usr/bin/python3").args(["-c", "import pika"])).is_ok();
    let has_rabbit = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists();
    (!has_pika || !has_rabbit).then(|| "RabbitMQ or pika is missing: run `cargo xtask setup`".to_owned())
}

fn check_all() -> Result<()> {
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let mut scratch = Scratch::new("broker")?;
    let dir = scratch.path().to_owned();
    let mut rabbit = Rabbit::start(&dir, None)?;
    rabbit.wait_until_ready()?;
    let options = |name: &str, exclude: &str| -> Result<Vec<String>> {
        let config = dir.join(format!("{name}.yaml"));
        std::fs::write(
            &config,
            format!("services: {{ exclude: [{exclude}] }}\nadmin: {{ listen: \"\" }}\n"),
        )?;
        Ok(vec!["--config".to_owned(), config.to_string_lossy().into_owned()])
    };
    let with = Agent::start(&binary, &dir, "with", &options("with", "")?)?;
    let without = Agent::start(&binary, &dir, "without", &options("without", "\"**/beam.smp\"")?)?;
    let situations = situations();
    let mut times = Vec::new();
    for situation in &situations {
        eprintln!("{}", situation.name);
        let time = play(situation, &rabbit.url(), &dir).with_context(|| situation.name)?;
        times.push(time);
    }
    let (with, without) = (with.stop()?, without.stop()?);
    let mut wrong = String::new();
    for (situation, (began, ended)) in situations.iter().zip(times) {
        let of_situation = |spans: &[Span]| -> Vec<Span> {
            spans.iter().filter(|span| (began..=ended).contains(&span.start_ns)).cloned().collect()
        };
        for (view, spans, expected) in [
            ("through the broker", &with, situation.through_the_broker),
            ("without it", &without, situation.without_it),
        ] {
            let spans = of_situation(spans);
            let found = paths(&spans);
            if found != expected {
                wrong.push_str(&format!(
                    "{}, {view}:\n  expected {expected:#?}\n  found {found:#?}\n",
                    situation.name
                ));
            }
            for span in spans.iter().filter(|span| is_settlement(span)) {
                if span.name.ends_with(&format!(":{}", rabbit.port)) {
                    wrong.push_str(&format!("{}, {view}: {} has no queue\n", situation.name, span.name));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    scratch.discard();
    Ok(())
}

fn is_settlement(span: &Span) -> bool {
    span.text("messaging.operation.type").as_deref() == Some("settle")
}
