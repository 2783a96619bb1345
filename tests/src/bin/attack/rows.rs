//! The rows of the table: a name and what is tried → what is started.

use crate::attackers::{context, short};
use crate::collector::Misbehaviour;
use crate::course::Course;
use crate::secrets::Secrets;
use crate::seen::{Seen, Watch};
use crate::spools::Spool;

/// A row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Course(Box<Course>),
    Spool(Spool),
    Secrets(Secrets),
}

pub(crate) fn rows() -> Vec<Row> {
    [nothing(), traffic(), metrics(), admin(), selection(), collectors(), spools(), secrets()]
        .into_iter()
        .flatten()
        .collect()
}

fn course(name: &'static str, what: &'static str, course: Course) -> Row {
    Row { name, what, kind: Kind::Course(Box::new(course)) }
}

fn mallory(arguments: &[&'static str]) -> Course {
    Course { attacks: vec![("mallory", arguments.to_vec())], ..Course::default() }
}

fn nothing() -> Vec<Row> {
    vec![course("alone", "nothing: what the victim loses by itself", Course::default())]
}

fn traffic() -> Vec<Row> {
    vec![
        course(
            "hpack",
            "HPACK: a path of 56 KB, named by one byte of 2,000 requests",
            mallory(&["hpack", "2000", "56000"]),
        ),
        course("hpack-more", "the same path, 20,000 requests", mallory(&["hpack", "20000", "56000"])),
        course(
            "hpack-nginx",
            "a path of 4 KB in the table of an innocent nginx, 20,000 requests",
            Course { nginx: true, ..mallory(&["hpack-at", "NGINX", "20000"]) },
        ),
        course(
            "brotli",
            "2,400 bodies a second of a few bytes of brotli, each 256 KiB, for 10 s",
            mallory(&["brotli", "2400", "10"]),
        ),
        course(
            "bodies",
            "bodies that never end, 62 KB each, on 4,000 connections",
            mallory(&["bodies", "4000"]),
        ),
        course(
            "hung",
            "a request hangs, 2,000 queries of 60 KB below it",
            mallory(&["hung", "2000", "60000", "200"]),
        ),
        course("hung-small", "the same, 20,000 queries of 7 KB", mallory(&["hung", "20000", "7000", "2000"])),
        course(
            "amqp-bodies",
            "AMQP messages that never end, 20 connections of 120 channels",
            mallory(&["amqp-bodies", "20", "120"]),
        ),
        course(
            "prepared",
            "60 prepared statements of 15 KB on each of 150 connections",
            mallory(&["prepared", "150", "60"]),
        ),
        course(
            "deliveries",
            "8,000 unsettled deliveries of one order, and as many publishes",
            mallory(&["deliveries", "8000"]),
        ),
        course(
            "chain",
            "a program that calls itself 4,000 deep, printed as a tree",
            Course {
                options: &["--print", "tree"],
                watch: Watch { path: Some("/deep/"), ..Watch::default() },
                check: Some(|seen| match seen.watched {
                    0..4000 => vec![format!("{} spans of 8,002 calls: nothing was tried", seen.watched)],
                    _ => Vec::new(),
                }),
                ..mallory(&["chain", "4000"])
            },
        ),
    ]
}

fn metrics() -> Vec<Row> {
    let attacks = vec![
        ("statements", vec!["statements", "4100"]),
        ("targets", vec!["targets", "4100"]),
        ("services", vec!["services", "300"]),
    ];
    vec![course(
        "series",
        "thousands of tables, peers and services; then a new service must have its series",
        Course { attacks, newcomer: true, ..Course::default() },
    )]
}

fn admin() -> Vec<Row> {
    let row = |name, what, arguments: &[&'static str]| {
        course(name, what, Course { probes: &["/live", "/ready"], ..mallory(arguments) })
    };
    vec![
        row(
            "admin-idle",
            "64 connections to the admin port that say nothing",
            &["admin-idle", "ADMIN", "64", "12"],
        ),
        row("admin-drip", "64 that send a byte at a time", &["admin-drip", "ADMIN", "64", "12"]),
        row("admin-alive", "64 that stay and ask again and again", &["admin-alive", "ADMIN", "64", "12"]),
        row(
            "admin-unread",
            "64 that ask hundreds of times and read nothing",
            &["admin-unread", "ADMIN", "64", "12"],
        ),
    ]
}

fn selection() -> Vec<Row> {
    let watch = Watch { path: Some(short::PATH), ..Watch::default() };
    let none = |seen: &Seen| match seen.watched {
        0 => Vec::new(),
        some => vec![format!("{some} spans of programs that are not traced")],
    };
    let row = |name, what, config| {
        let attack = mallory(&["short", "1000"]);
        course(name, what, Course { config, watch: watch.clone(), check: Some(none), ..attack })
    };
    let foreign = Course {
        attacks: vec![("shop", vec!["shop", "PORT", "8"]), ("mallory", vec!["context", "PORT", "8"])],
        watch: Watch { path: Some(context::PATH), foreign: Some(context::TRACE), text: false },
        check: Some(|seen| {
            let mut faults = Vec::new();
            if seen.moved > 0 {
                faults.push(format!("{} of {} spans of the shop's own work moved", seen.moved, seen.watched));
            }
            if seen.foreign == 0 {
                faults.push("the attacker's own request is not in its trace: nothing was tried".to_owned());
            }
            if seen.watched < 200 {
                faults.push(format!("{} spans of the shop's own work", seen.watched));
            }
            faults
        }),
        ..Course::default()
    };
    vec![
        row(
            "short-excluded",
            "1,000 programs that are excluded and end at once",
            "select:\n  exclude:\n    - exe: \"@BIN@/short\"\n",
        ),
        row(
            "short-others",
            "the same, where only the victim is included",
            "select:\n  include:\n    - exe: \"@BIN@/victim\"\n",
        ),
        course("context", "a foreign trace context hangs while the shop works on that order", foreign),
    ]
}

fn collectors() -> Vec<Row> {
    const HTTP: &[&str] = &["--otlp-protocol", "http/protobuf"];
    let row = |name, what, collector, options| {
        let collector = Some(collector);
        course(name, what, Course { collector, options, probes: &["/live"], ..mallory(&["targets", "3000"]) })
    };
    vec![
        row(
            "collector-hangs",
            "the back end takes connections and says nothing (gRPC)",
            Misbehaviour::Hang,
            &[],
        ),
        row("collector-hangs-http", "the same over HTTP", Misbehaviour::Hang, HTTP),
        row("collector-resets", "it breaks every connection off", Misbehaviour::Reset, HTTP),
        row("collector-later", "it says 429, Retry-After 99999999", Misbehaviour::Later, HTTP),
        row("collector-crawls", "its answer comes a byte a second", Misbehaviour::Crawl, HTTP),
        row(
            "collector-garbage",
            "it answers with bytes that are no answer (gRPC)",
            Misbehaviour::Garbage,
            &[],
        ),
        row("collector-garbage-http", "the same over HTTP", Misbehaviour::Garbage, HTTP),
        row("collector-endless", "its answer does not end", Misbehaviour::Endless, HTTP),
    ]
}

fn spools() -> Vec<Row> {
    let row = |name, what, kind| Row { name, what, kind: Kind::Spool(kind) };
    vec![
        row("spool-link", "a spool of somebody else's, with a link to a file of root's in it", Spool::Link),
        row("spool-taken", "a spool that another agent uses", Spool::Taken),
        row("spool-read-only", "a spool that cannot be written", Spool::ReadOnly),
        row("spool-full", "a spool on a full disk, the back end away", Spool::Full),
        row("spool-fifo", "FIFOs and directories in the place of the spool's files", Spool::Fifo),
    ]
}

fn secrets() -> Vec<Row> {
    let row = |name, what, kind| Row { name, what, kind: Kind::Secrets(kind) };
    vec![
        row("secrets", "169 marked secrets: OTLP, printed JSON, tree, logs at trace", Secrets::Marked),
        row("hashed", "an order and a user under `privacy.hash`: the same outputs", Secrets::Hashed),
    ]
}
