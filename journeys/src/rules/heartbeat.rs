//! Who is told, again and again, that the server works: a watcher elsewhere that warns when it hears nothing.

use std::path::PathBuf;

use serde::Deserialize;

use crate::model::Limit;
use crate::time::{DAY, MINUTE, SECOND};

/// Where a house says nothing else.
const EVERY: i64 = MINUTE;
/// More often is no use, more seldom no warning.
const BOUNDS: std::ops::RangeInclusive<i64> = 10 * SECOND..=DAY;

/// A dead man's switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub to: To,
    /// Microseconds.
    pub every: i64,
    /// Its address may be of this machine or of a private network.
    pub allow_private: bool,
}

/// An address, which is mostly a secret: who has it can keep the watcher quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    Url(String),
    File(PathBuf),
}

/// As it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeartbeatText {
    url: Option<String>,
    url_file: Option<PathBuf>,
    every: Option<Limit>,
    #[serde(default)]
    allow_private: bool,
}

impl HeartbeatText {
    pub(super) fn read(self) -> Result<Heartbeat, String> {
        let to = match (self.url, self.url_file) {
            (Some(url), None) if url.starts_with("https://") || url.starts_with("http://") => To::Url(url),
            (None, Some(file)) => To::File(file),
            (Some(_), None) => return Err("`url` is an address: https://watcher.example/ping".to_owned()),
            _ => return Err("a heartbeat has either `url` or `url_file`".to_owned()),
        };
        let every = self.every.map_or(EVERY, |every| every.0);
        if !BOUNDS.contains(&every) {
            return Err("`every` is from 10s to 1d".to_owned());
        }
        Ok(Heartbeat { to, every, allow_private: self.allow_private })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::rules::RuleSet;

    #[test]
    fn a_heartbeat_has_one_address_and_a_sensible_pace() {
        let read = |text: &str| {
            RuleSet::parse(&format!("heartbeat: {{ {text} }}"), &Model::default()).map(|set| set.heartbeat)
        };
        let url = To::Url("https://watcher.example/ping".to_owned());
        assert_eq!(
            read("url: https://watcher.example/ping"),
            Ok(Some(Heartbeat { to: url.clone(), every: MINUTE, allow_private: false }))
        );
        assert_eq!(
            read("url_file: /run/x, every: 30s, allow_private: true"),
            Ok(Some(Heartbeat { to: To::File("/run/x".into()), every: 30 * SECOND, allow_private: true }))
        );
        for (wrong, said) in [
            ("every: 1m", "either `url` or `url_file`"),
            ("url: 'https://x', url_file: y", "either `url` or `url_file`"),
            ("url: watcher", "`url` is an address"),
            ("url: 'https://x', every: 1s", "from 10s to 1d"),
            ("url: 'https://x', often: 1m", "often"),
        ] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
        assert_eq!(RuleSet::parse("", &Model::default()).expect("none").heartbeat, None);
    }
}
