//! Recordings in which every secret is marked, through the program → no mark in any of its outputs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use spoor_tests::receiver::Receiver;
use spoor_tests::recorded::{MARKS_THAT_SHOW, fixtures};

use crate::report::Outcome;
use crate::seen::{Seen, Watch};

/// Which of the recordings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Secrets {
    Marked,
    Hashed,
}

/// What the hashed recording is about: an order and a user.
const HASHED: [&str; 2] = ["470811", "88123"];

impl Secrets {
    pub(crate) fn run(self, binary: &Path) -> Result<Outcome> {
        let dir = fixtures().join("privacy");
        // Each mark, and where it stands.
        let (recording, config, marks): (_, _, BTreeMap<String, String>) = match self {
            Secrets::Marked => {
                let marks = fs::read_to_string(dir.join("marked.json")).context("cannot read the marks")?;
                ("marked.spoor", None, serde_json::from_str(&marks)?)
            }
            Secrets::Hashed => {
                let marks = HASHED.map(|key| (key.to_owned(), "the hashed key".to_owned())).into();
                ("hashed.spoor", Some(dir.join("hashed.yaml")), marks)
            }
        };
        let replay = |options: &[&str]| -> Result<Output> {
            let mut command = Command::new(binary);
            command.arg("replay").arg(dir.join(recording)).args(["--log", "trace"]).args(options);
            command.args(config.iter().flat_map(|file| [Path::new("--config"), file]));
            command.env_remove("SPOOR_AGENT").env_remove("SPOOR_SKIPPED").stdin(Stdio::null());
            let output = command.output().context("cannot replay")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "replay failed: {said}");
            Ok(output)
        };
        let receiver = Receiver::start(Seen::by(Watch { text: true, ..Watch::default() }))?;
        let tree = replay(&["--print", "tree"])?;
        let json = replay(&["--print", "otlp-json"])?;
        let sent = replay(&["--otlp-endpoint", &receiver.url()])?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let outputs = [
            ("the tree", text(&tree.stdout)),
            ("printed JSON", text(&json.stdout)),
            ("OTLP", receiver.seen().text.clone()),
            ("the log", [text(&tree.stderr), text(&json.stderr), text(&sent.stderr)].concat()),
        ];
        let mut outcome = Outcome::default();
        for (output, text) in &outputs {
            ensure!(!text.is_empty(), "there is nothing in {output}");
            let shown: Vec<&str> = marks
                .iter()
                .filter(|(mark, place)| {
                    text.contains(*mark) && !MARKS_THAT_SHOW.iter().any(|(known, _)| known == place)
                })
                .map(|(_, place)| place.as_str())
                .collect();
            if !shown.is_empty() {
                outcome.faults.push(format!("{} shown in {output}: {}", shown.len(), shown.join(", ")));
            }
        }
        let spans = receiver.seen().spans;
        outcome.spans = Some(spans);
        outcome.notes.push(format!(
            "{} marks looked for in {spans} spans and {} KB of log",
            marks.len(),
            outputs[3].1.len() >> 10
        ));
        if matches!(self, Secrets::Marked) {
            outcome.notes.push(format!("{} places are documented to stay", MARKS_THAT_SHOW.len()));
        }
        Ok(outcome)
    }
}
