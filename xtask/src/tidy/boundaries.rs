//! One file → the names it must not know: who may name whom, where the compiler cannot say it.

use super::rust::{begins, code, paths, without_tests, words};
use super::{File, Finding};

/// Where the pure core stands. Crates that bring effects are missing from its `Cargo.toml`, so that the compiler refuses
/// them; what the standard library brings, and the order of the rooms, is checked here.
const CORE: &str = "agent/core/src/";

/// The rooms of the core, from the ground up: each may name those before it. A type is named from where it is defined.
const FLOORS: &[&str] = &[
    "account",
    "hash",
    "bounded",
    "time",
    "queue",
    "record",
    "work",
    "trace",
    "settings",
    "percent",
    "charset",
    "sql",
    "stream",
    "tls",
    "privacy",
    "operation",
    "protocol",
    "conn",
    "order",
    "causality",
    "span",
    "trees",
    "pipeline",
];

/// Path beginnings the pure core does not name, and what each would bring in.
const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "the file system"),
    ("std::env", "the environment"),
    ("std::process", "other processes"),
    ("std::thread", "threads"),
    ("std::os", "the operating system"),
    ("std::io::stdin", "the terminal"),
    ("std::io::stdout", "the terminal"),
    ("std::io::stderr", "the terminal"),
];

/// Words the pure core does not use, by whatever path they came.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("Instant", "a clock"),
    ("SystemTime", "a clock"),
    ("TcpStream", "a socket"),
    ("TcpListener", "a socket"),
    ("UdpSocket", "a socket"),
    ("UnixStream", "a socket"),
    ("UnixListener", "a socket"),
    ("UnixDatagram", "a socket"),
    ("println", "the terminal"),
    ("eprintln", "the terminal"),
];

/// Words that would mean that the kernel side knows what it copies.
pub(super) const PROTOCOL_WORDS: &[&str] = &[
    "http",
    "http1",
    "http2",
    "https",
    "grpc",
    "amqp",
    "rabbitmq",
    "postgres",
    "postgresql",
    "sql",
    "fastcgi",
    "scgi",
    "uwsgi",
    "traceparent",
    "span",
];

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    if !file.is_rust() {
        return;
    }
    let source = code(&file.text);
    let named = paths(without_tests(&source));
    if let Some(inner) = file.path.strip_prefix(CORE) {
        if !file.is_tests() {
            core(file, &named, findings);
            floors(file, inner, &named, findings);
        }
    } else if file.path.starts_with("agent/src/") {
        only_in(file, &named, "opentelemetry", &["export/"], findings);
        only_in(file, &named, "aya", &["capture/", "source/live/"], findings);
    }
    if file.path.starts_with("ebpf/src/") || file.path.starts_with("common/src/") {
        kernel(file, &named, findings);
    }
}

fn core(file: &File, named: &[(usize, String)], findings: &mut Vec<Finding>) {
    for (line, path) in named {
        let impure = IMPURE.iter().find(|(start, _)| begins(path, start));
        let word = || IMPURE_WORDS.iter().find(|(word, _)| path.split("::").any(|part| part == *word));
        if let Some((_, brings)) = impure.or_else(word) {
            findings.push(file.finding(
                *line,
                format!("the pure core names `{path}`: it has no I/O, no clock and no task, this brings in {brings}"),
            ));
        }
    }
}

/// A room names only rooms on floors below its own, and every room has a floor.
fn floors(file: &File, inner: &str, named: &[(usize, String)], findings: &mut Vec<Finding>) {
    let own = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
    if own == "lib" {
        return;
    }
    let floor = |room: &str| FLOORS.iter().position(|other| *other == room);
    let Some(mine) = floor(own) else {
        findings.push(file.finding(1, format!("`{own}` has no floor: give it one in {}", file!())));
        return;
    };
    for (line, path) in named {
        let Some(other) = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next()) else {
            continue;
        };
        if floor(other).is_some_and(|other| other > mine) {
            findings.push(file.finding(
                *line,
                format!("`{own}` names `{path}`, which stands above it: data runs one way, a type is named from where it is defined"),
            ));
        }
    }
}

/// `krate` is named in these places of the agent only.
fn only_in(
    file: &File,
    named: &[(usize, String)],
    krate: &str,
    places: &[&str],
    findings: &mut Vec<Finding>,
) {
    let inner = file.path.trim_start_matches("agent/src/");
    if places.iter().any(|place| inner.starts_with(place)) {
        return;
    }
    for (line, path) in named.iter().filter(|(_, path)| begins(path, krate)) {
        let places = places.join(" and ");
        findings.push(file.finding(
            *line,
            format!("`{path}`: only {places} name `{krate}`, the rest must not depend on it"),
        ));
    }
}

fn kernel(file: &File, named: &[(usize, String)], findings: &mut Vec<Finding>) {
    for (line, path) in named {
        if let Some(word) = words(path).into_iter().find(|word| PROTOCOL_WORDS.contains(&word.as_str())) {
            findings.push(file.finding(
                *line,
                format!("`{path}` speaks of `{word}`: the kernel side copies bytes and knows no protocol"),
            ));
        }
    }
}
