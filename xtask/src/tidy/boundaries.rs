//! Who may name whom: one file in, the names it must not know out.

use super::rust::{code, paths, without_tests, words};
use super::{File, Finding};

/// Files of the pure core, relative to `agent/src/`: a folder ends in `/`.
const CORE: &[&str] = &[
    "record.rs",
    "conn/",
    "stream/",
    "protocol/",
    "operation/",
    "sql/",
    "causality/",
    "order/",
    "span/",
    "journey/",
    "pipeline.rs",
    "pipeline/",
];

/// What each part of the core may name of the others: a later stage never calls an earlier one, and a type is named from
/// where it is defined. What is not listed may name all of the core.
const LAYERS: &[(&str, &[&str])] = &[
    ("record.rs", &[]),
    ("sql/", &[]),
    ("stream/", &["record", "protocol"]),
    ("operation/", &["record", "protocol"]),
    // PostgreSQL's simple query splits its text into statements.
    ("protocol/", &["record", "operation", "sql", "config"]),
    ("conn/", &["record", "stream", "protocol", "operation", "config"]),
    ("order/", &["record", "conn", "protocol", "operation", "sql", "span", "config"]),
    ("causality/", &["record", "conn", "protocol", "operation", "order", "config"]),
    ("span/", &["record", "conn", "protocol", "operation", "sql", "order", "causality", "config"]),
];

/// Path beginnings the pure core does not name, and what each would bring in.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "a runtime"),
    ("aya", "the kernel"),
    ("aya_log", "the kernel"),
    ("procfs", "the file system"),
    ("tonic", "the network"),
    ("hyper", "the network"),
    ("opentelemetry", "an exporter"),
    ("std::fs", "the file system"),
    ("std::env", "the environment"),
    ("std::process", "other processes"),
    ("std::thread", "threads"),
    ("std::os", "the operating system"),
    ("std::io::stdin", "the terminal"),
    ("std::io::stdout", "the terminal"),
    ("std::io::stderr", "the terminal"),
    ("crate::admin", "the shell"),
    ("crate::capture", "the shell"),
    ("crate::source", "the shell"),
    ("crate::process", "the shell"),
    ("crate::export", "the shell"),
    ("crate::cli", "the shell"),
    ("crate::run", "the shell"),
    ("crate::clock", "the shell"),
    ("crate::telemetry", "the shell"),
    ("crate::config::load", "the shell"),
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
const PROTOCOL_WORDS: &[&str] = &[
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
    "traceparent",
    "span",
];

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    if !file.is_rust() {
        return;
    }
    let source = code(&file.text);
    let named = paths(without_tests(&source));
    if let Some(inner) = file.path.strip_prefix("agent/src/") {
        if is_core(inner) {
            core(file, &named, findings);
            layers(file, inner, &named, findings);
        }
        only_in(file, &named, "opentelemetry", &["export/", "telemetry.rs"], findings);
        only_in(file, &named, "aya", &["capture/", "source/live.rs"], findings);
    }
    if file.path.starts_with("ebpf/src/") || file.path.starts_with("common/src/") {
        kernel(file, &named, findings);
    }
}

fn is_core(inner: &str) -> bool {
    let is_test = inner.ends_with("tests.rs") || inner.contains("/tests/");
    !is_test && CORE.iter().any(|part| inner == *part || (part.ends_with('/') && inner.starts_with(part)))
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

fn layers(file: &File, inner: &str, named: &[(usize, String)], findings: &mut Vec<Finding>) {
    let Some((layer, may)) = LAYERS.iter().find(|(layer, _)| inner.starts_with(layer)) else { return };
    let own = layer.trim_end_matches(".rs").trim_end_matches('/');
    for (line, path) in named {
        let Some(other) = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next()) else {
            continue;
        };
        let is_core = CORE.iter().any(|part| part.trim_end_matches(".rs").trim_end_matches('/') == other);
        if is_core && other != own && !may.contains(&other) {
            let may = if may.is_empty() { "nothing".to_owned() } else { may.join(", ") };
            findings
                .push(file.finding(*line, format!("`{own}` names `{path}`: of the core it may know {may}")));
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
    if is_core(inner) || places.iter().any(|place| inner.starts_with(place)) {
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

/// `path` is `start`, lies below it, or is a crate of its family (`opentelemetry_sdk` of `opentelemetry`).
fn begins(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with("::") || (start == "opentelemetry" && rest.starts_with('_'))
    })
}
