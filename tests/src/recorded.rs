//! Transcripts of real programs: text → what each side sent.
//!
//! A line is a comment (`#`), one read (`client "…"` or `server "…"`, escaped as in a Rust byte string), or `close`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use spoor_core::record::Sender;

/// One connection as it was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// File name without extension.
    pub name: String,
    /// Who sent what, read by read.
    pub reads: Vec<(Sender, Vec<u8>)>,
}

/// The folder with all fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// All transcripts of a protocol, by name.
pub fn transcripts(protocol: &str) -> anyhow::Result<Vec<Recorded>> {
    let folder = fixtures().join(protocol);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let reads = read(&text).with_context(|| format!("reading {}", path.display()))?;
            found.push(Recorded { name, reads });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn read(text: &str) -> anyhow::Result<Vec<(Sender, Vec<u8>)>> {
    let mut reads = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && *line != "close") {
        let (sender, quoted) = match line.split_once(' ') {
            Some(("client", quoted)) => (Sender::Client, quoted),
            Some(("server", quoted)) => (Sender::Server, quoted),
            _ => bail!("neither client, server nor close: {line}"),
        };
        let escaped = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let bytes =
            escaped.and_then(unescape).with_context(|| format!("not a quoted byte string: {line}"))?;
        reads.push((sender, bytes));
    }
    Ok(reads)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let mut digit = || (rest.next()? as char).to_digit(16);
                    u8::try_from(digit()? << 4 | digit()?).ok()?
                }
                literal @ (b'\\' | b'"') => literal,
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

/// Marks of `privacy/marked.spoor` that show, by where they stand, and why. Names of places and identifiers of messages are what an operator asks a trace
/// for, and nothing in their form tells a secret from them: an application that puts secrets there shows them to its broker's
/// operators too.
pub const MARKS_THAT_SHOW: [(&str, &str); 7] = [
    ("AMQP vhost", "the name of a place"),
    ("AMQP routing key", "a word of an address: no form tells it from `user.created`"),
    ("AMQP correlation_id (token)", "the conventions' conversation ID"),
    ("AMQP message_id", "the conventions' message ID"),
    ("AMQP type", "what the default rules of orders ask for"),
    ("order.status json text", "what the default rules of orders ask for"),
    ("order_id that is a phone", "the key of the order: what an order's key is, the rules say"),
];
