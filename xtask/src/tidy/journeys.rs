//! Files of the journeys' server → the names they must not know and the HTML they must not hold.

use super::rust::{begins, code, paths, without_tests};
use super::{File, Finding};

/// Folders below `journeys/src/` without I/O, clock or task.
const PURE: &[&str] = &["facts/", "fold/", "model/", "rules/", "sentence/"];

/// Beginnings of paths that these do not name, and what each would bring in.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "a runtime"),
    ("axum", "the network"),
    ("tonic", "the network"),
    ("rusqlite", "the store"),
    ("std::fs", "the file system"),
    ("std::net", "the network"),
    ("std::env", "the environment"),
    ("std::process", "other processes"),
    ("std::thread", "threads"),
    ("std::time", "a clock"),
    ("crate::access", "the shell"),
    ("crate::cli", "the shell"),
    ("crate::intake", "the shell"),
    ("crate::store", "the shell"),
    ("crate::web", "the shell"),
];

/// Functions that ask for the time of day.
const CLOCKS: &[&str] = &["Timestamp::now", "ZonedDateTime::now", "TimeZone::system"];

/// Where SQL may be.
const SQL: &[&str] = &["store/", "access/directory.rs"];

/// What a template may not hold: the page's policy refuses the first ones, the last lets foreign text be markup.
const MARKUP: &[&str] = &["<script>", " style=", " onclick=", "|safe", "| safe"];
/// The one way a script may be named.
const OWN_SCRIPT: &str = "<script type=\"module\" src=\"/assets/";

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    if file.path.starts_with("journeys/templates/") {
        markup(file, findings);
    }
    manifest(file, findings);
    let Some(inner) = file.path.strip_prefix("journeys/src/") else { return };
    if !file.is_rust() || file.is_tests() {
        return;
    }
    let source = code(&file.text);
    let named = paths(without_tests(&source));
    for (line, path) in &named {
        let impure = IMPURE.iter().find(|(start, _)| begins(path, start)).map(|(_, brings)| *brings);
        let clock = CLOCKS.iter().any(|clock| path.ends_with(clock)).then_some("a clock");
        if let Some(brings) = impure.or(clock).filter(|_| PURE.iter().any(|part| inner.starts_with(part))) {
            findings.push(file.finding(
                *line,
                format!("`{path}`: facts, fold, model, rules and sentence are pure, this brings in {brings}"),
            ));
        }
        if begins(path, "rusqlite") && !SQL.iter().any(|place| inner.starts_with(place)) {
            findings.push(file.finding(*line, format!("`{path}`: only {} name SQL", SQL.join(" and "))));
        }
    }
}

/// OTLP is the border: neither the agent nor the server knows the other.
fn manifest(file: &File, findings: &mut Vec<Finding>) {
    let depends = |line: &str, on: &[&str]| {
        let name = line.split(['.', ' ', '=']).next().unwrap_or("");
        on.contains(&name)
    };
    let (other, agent) = match file.path.as_str() {
        "journeys/Cargo.toml" => (&["spoor", "spoor-common", "spoor-core"][..], false),
        "agent/Cargo.toml" | "agent/core/Cargo.toml" | "common/Cargo.toml" => (&["spoor-journeys"][..], true),
        _ => return,
    };
    for (at, line) in file.text.lines().enumerate().filter(|(_, line)| depends(line, other)) {
        let who =
            if agent { "the agent carries no server" } else { "the server knows the agent by OTLP only" };
        findings.push(file.finding(at + 1, format!("`{}`: {who}", line.trim())));
    }
}

fn markup(file: &File, findings: &mut Vec<Finding>) {
    for (at, line) in file.text.lines().enumerate() {
        let script = line.matches("<script").count() > line.matches(OWN_SCRIPT).count();
        let found = MARKUP.iter().find(|word| line.contains(**word));
        if let Some(word) = found.or(script.then_some(&"<script")) {
            findings.push(file.finding(
                at + 1,
                format!(
                    "`{}`: pages have our own script only, nothing inline, and all text is escaped",
                    word.trim()
                ),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let mut findings = Vec::new();
        check(&file, &mut findings);
        findings.len()
    }

    #[test]
    fn each_border_is_watched() {
        for (path, text, expected) in [
            ("journeys/src/fold/mod.rs", "use std::fs;", 1),
            ("journeys/src/fold/mod.rs", "use crate::{facts::At, store::Store};", 1),
            ("journeys/src/sentence/words.rs", "let now = jiff::Timestamp::now();", 1),
            ("journeys/src/sentence/words.rs", "use jiff::Timestamp;", 0),
            ("journeys/src/intake/writer.rs", "use std::time::SystemTime;", 0),
            ("journeys/src/web/lists.rs", "use rusqlite::Connection;", 1),
            ("journeys/src/store/sqlite/read.rs", "use rusqlite::Connection;", 0),
            ("journeys/src/fold/tests.rs", "use std::fs;", 0),
            ("journeys/src/fold/tests/late.rs", "use std::fs;", 0),
            ("journeys/src/fold/contests.rs", "use std::fs;", 1),
            ("journeys/Cargo.toml", "spoor-core.workspace = true", 1),
            ("journeys/Cargo.toml", "serde.workspace = true", 0),
            ("agent/Cargo.toml", "spoor-journeys = { path = \"x\" }", 1),
            ("journeys/templates/order.html", "<p>{{ text|safe }}</p>", 1),
            ("journeys/templates/order.html", "<p onclick=\"x\">", 1),
            ("journeys/templates/order.html", "<p>{{ text }}</p>", 0),
            ("journeys/templates/base.html", "<script type=\"module\" src=\"/assets/{{ x }}\"></script>", 0),
            ("journeys/templates/base.html", "<script src=\"https://elsewhere.example/x.js\"></script>", 1),
        ] {
            assert_eq!(findings(path, text), expected, "{path}: {text}");
        }
    }
}
