//! The agent's last words and the services' truth logs → numbers that must agree.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};

/// The counts `spoor run` prints on standard error when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    pub(crate) spans: u64,
    pub(crate) exported: u64,
    pub(crate) spooled: u64,
    /// Cause and count.
    pub(crate) lost: Vec<(String, u64)>,
    /// As they were printed.
    pub(crate) lines: Vec<String>,
}

impl Summary {
    /// `None`: it did not come to its end.
    pub(crate) fn parse(log: &str) -> Option<Self> {
        let line = |start| log.lines().rev().find_map(|line| line.strip_prefix(start));
        let (seen, exported, lost) = (line("seen: ")?, line("exported: ")?, line("lost: ")?);
        let lost_of = |part: &str| {
            let (count, cause) = part.split_once(' ')?;
            Some((cause.to_owned(), count.parse().ok()?))
        };
        Some(Self {
            records: before(seen, " records")?,
            spans: after(seen, "; spans ")?,
            exported: before(exported, " spans")?,
            spooled: before(exported, " wait in the spool").unwrap_or(0),
            lost: match lost {
                "nothing" => Vec::new(),
                causes => causes.split(", ").map(lost_of).collect::<Option<_>>()?,
            },
            lines: vec![format!("seen: {seen}"), format!("exported: {exported}"), format!("lost: {lost}")],
        })
    }

    /// The sum of all causes that contain one of these.
    pub(crate) fn lost_by(&self, causes: &[&str]) -> u64 {
        let matching = self.lost.iter().filter(|(cause, _)| causes.iter().any(|part| cause.contains(part)));
        matching.map(|(_, count)| count).sum()
    }
}

/// The number that ends where `text` begins.
fn before(line: &str, text: &str) -> Option<u64> {
    let head = line.split_once(text)?.0;
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The number that begins where `text` ends.
fn after(line: &str, text: &str) -> Option<u64> {
    let rest = line.split_once(text)?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// How many operations the services have on file, by kind. Read line by line: a long run writes a lot.
pub(crate) fn truth(dir: &Path) -> Result<BTreeMap<String, u64>> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        for line in BufReader::new(File::open(&path)?).lines() {
            let line = line?;
            let json: serde_json::Value =
                serde_json::from_str(&line).with_context(|| format!("in {}: {line}", path.display()))?;
            let kind = json["kind"].as_str().with_context(|| format!("no kind: {line}"))?;
            match kinds.get_mut(kind) {
                Some(count) => *count += 1,
                None => drop(kinds.insert(kind.to_owned(), 1)),
            }
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_read() {
        let log = "ready: capturing\nlost: is also a word of logs\n\
            seen: 120 records, 9000 bytes; 35 operations (http 20, amqp 10, postgresql 5); spans 33, trees 4\n\
            exported: 31 spans, requests 2, 2 wait in the spool\n\
            lost: 3 records the kernel could not deliver, 70 kernel data lost bytes\n";
        let summary = Summary::parse(log).unwrap();
        assert_eq!((summary.records, summary.spans, summary.exported, summary.spooled), (120, 33, 31, 2));
        assert_eq!(summary.lost_by(&["kernel could not", "nothing"]), 3);
        assert_eq!(summary.lost_by(&["data lost"]), 70);
        let none = log.replace(
            "lost: 3 records the kernel could not deliver, 70 kernel data lost bytes",
            "lost: nothing",
        );
        assert_eq!(Summary::parse(&none).unwrap().lost, []);
        assert_eq!(Summary::parse("ready: capturing\n"), None);
    }
}
