//! What every file has to look like: headers, lengths, leftovers, machine paths, pages' lines, fixtures.

use super::links::{is_page, prose};
use super::rust::{code, without_tests};
use super::{File, Finding};

/// Lines a Rust file may have before its tests, by folder; past it the header says why.
const LENGTHS: &[(&str, usize)] = &[
    ("ebpf/", 200),
    ("agent/", 500),
    ("common/", 500),
    ("journeys/", 500),
    ("xtask/", 500),
    ("tests/", 500),
];

/// The header line that explains a long file.
const REASON: &str = "//! Long because ";

/// Words that mark unfinished work. Spelled in two halves, so that this file does not find itself.
const LEFTOVERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("dbg", "!")];

/// Beginnings of paths that exist on one machine only, in two halves for the same reason.
const MACHINE_PATHS: &[&str] = &[concat!("/wor", "k/"), concat!("/roo", "t/"), concat!("/tmp/", "setup")];

const TEXT: &[&str] =
    &["rs", "toml", "py", "js", "java", "json", "yaml", "yml", "md", "conf", "sql", "sh", "service", "lock"];

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    header(file, findings);
    length(file, findings);
    leftovers(file, findings);
    if is_page(&file.path) {
        sentences(file, findings);
    }
}

/// Conventions that take more than one file to see.
pub(super) fn check_tree(files: &[File], findings: &mut Vec<Finding>) {
    fixtures(files, findings);
    unsafe_is_forbidden(files, findings);
}

fn header(file: &File, findings: &mut Vec<Finding>) {
    let first = file.text.lines().next().unwrap_or("");
    let (missing, form) = match file.path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs") => (!first.starts_with("//! "), "`//!`"),
        Some("py") => (!first.starts_with("\"\"\"") && !first.starts_with("#!"), "a docstring"),
        Some("js" | "java") => (!first.starts_with("/*") && !first.starts_with("//"), "a comment"),
        _ => return,
    };
    // The module has the header of its tests.
    let excepted = file.path.starts_with("tests/fixtures/") || file.is_tests();
    if missing && !excepted {
        findings.push(
            file.finding(
                1,
                format!("starts without {form}: a file opens with what goes in and what comes out"),
            ),
        );
    }
}

fn length(file: &File, findings: &mut Vec<Finding>) {
    let Some((_, limit)) = LENGTHS.iter().find(|(folder, _)| file.path.starts_with(folder)) else { return };
    if !file.is_rust() || file.is_tests() || file.text.lines().any(|line| line.starts_with(REASON)) {
        return;
    }
    let len = without_tests(&code(&file.text)).lines().count();
    if len > *limit {
        findings.push(file.finding(
            limit + 1,
            format!("{len} lines without tests: a file says one thing in at most {limit}; split it, or give a header line `{REASON}…`"),
        ));
    }
}

fn leftovers(file: &File, findings: &mut Vec<Finding>) {
    let extension = file.path.rsplit('.').next().unwrap_or("");
    if !TEXT.contains(&extension) && !file.path.starts_with(".ci/") {
        return;
    }
    for (at, line) in file.text.lines().enumerate() {
        for word in LEFTOVERS.iter().filter(|word| has_word(line, word)) {
            findings.push(
                file.finding(at + 1, format!("`{word}`: what lands is finished, open work has an issue")),
            );
        }
        for path in MACHINE_PATHS.iter().filter(|path| has_path(line, path)) {
            findings.push(file.finding(at + 1, format!("`{path}` exists on one machine only")));
        }
        if file.path.ends_with("package-lock.json") && line.contains("\"resolved\"") {
            findings.push(file.finding(
                at + 1,
                "names a registry: make the lock with `npm install --package-lock-only --omit-lockfile-registry-resolved`",
            ));
        }
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && (word.ends_with('!') || !after.is_some_and(part_of_word))
    })
}

/// `path` stands at the beginning of a path, not in the middle of one.
fn has_path(line: &str, path: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '>');
    line.match_indices(path).any(|(at, _)| !line[..at].chars().next_back().is_some_and(inside))
}

/// One sentence per line, so that a diff shows which sentence changed.
fn sentences(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in prose(&file.text) {
        if !line.starts_with('|') && !line.starts_with("    ") && holds_two_sentences(line) {
            findings.push(file.finding(number, "two sentences on one line: pages have one per line"));
        }
    }
}

fn holds_two_sentences(line: &str) -> bool {
    // The number of a list item ends in a point, too.
    let line = line.trim_start();
    let text = line.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(". ").unwrap_or(line);
    text.char_indices().any(|(at, c)| {
        let (before, after) = (&text[..at], &text[at + c.len_utf8()..]);
        let ends = matches!(c, '.' | '!' | '?')
            && !["e.g", "i.e", "etc", "vs"].iter().any(|abbr| before.ends_with(abbr));
        let mut next = after.chars();
        ends && next.next() == Some(' ')
            && next.next().is_some_and(|c| c.is_uppercase() || matches!(c, '`' | '*' | '['))
    })
}

/// Every file below `tests/fixtures/` is named in the closest README.md above it, by its name or stem or, where that
/// README stands further up, by the folder's: where it is from and what it shows.
fn fixtures(files: &[File], findings: &mut Vec<Finding>) {
    const ROOT: &str = "tests/fixtures";
    for file in files.iter().filter(|file| file.path.starts_with("tests/fixtures/")) {
        if file.path.ends_with("/README.md") {
            continue;
        }
        let mut folder = file.path.as_str();
        let found = loop {
            let Some((above, _)) = folder.rsplit_once('/').filter(|(above, _)| *above != ROOT) else {
                break None;
            };
            folder = above;
            let readme = format!("{folder}/README.md");
            if let Some(readme) = files.iter().find(|other| other.path == readme) {
                break Some(readme);
            }
        };
        let inner = file.path.strip_prefix(folder).unwrap_or(&file.path).trim_start_matches('/');
        let name = inner.split('/').next().unwrap_or(inner);
        let stem = name.split('.').next().unwrap_or(name);
        if !found.is_some_and(|readme| readme.text.contains(stem)) {
            let what = format!("{folder}/README.md does not say where this is from and what it shows");
            findings.push(file.finding(1, what));
        }
    }
}

/// Safe Rust is promised by attribute where it is promised at all.
fn unsafe_is_forbidden(files: &[File], findings: &mut Vec<Finding>) {
    for root in [
        "agent/src/lib.rs",
        "agent/core/src/lib.rs",
        "agent/src/main.rs",
        "common/src/lib.rs",
        "journeys/src/lib.rs",
        "xtask/src/main.rs",
        "tests/src/lib.rs",
    ] {
        if let Some(file) = files.iter().find(|file| file.path == root)
            && !file.text.contains("#![forbid(unsafe_code)]")
        {
            findings.push(file.finding(1, "`#![forbid(unsafe_code)]` is missing"));
        }
    }
}
