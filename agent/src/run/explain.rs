//! `spoor replay --explain-keys`: a file → what rules found in it and what they did not, in lines for whoever writes rules.
//!
//! *Owns* the words and the order. *Must not know* how it was found, nor what of it may be shown: the core says.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use spoor_core::order::explain::{Examples, Explanation, Nameless};
use spoor_core::time::BootTime;

use super::{RunError, summary};
use crate::clock;
use crate::config::Config;
use crate::source;

/// Kinds of operations without a key that are listed, those with most operations first.
const MAX_LISTED: usize = 40;

/// Reads a recording or a capture to its end and prints the account. No span leaves.
pub fn explain_keys(config: &Config, file: &Path, keys: &[PathBuf]) -> Result<(), RunError> {
    let mut source = source::open(file, &config.services)?;
    let boot_id = source.header().map(|header| clock::uuid_bytes(&header.boot_id)).unwrap_or_default();
    let mut pipeline = super::replay::offline(config, keys, boot_id)?;
    pipeline.explain_keys();
    let mut now = BootTime::ZERO;
    let mut failed = None;
    loop {
        match source.next() {
            Ok(Some(record)) => {
                now = now.max(record.at());
                for known in source.secrets() {
                    pipeline.handle_secret(known);
                }
                pipeline.handle_record(record);
            }
            Ok(None) => break,
            Err(error) if error.is_warning() => tracing::warn!("{}", summary::chain(&error)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        while pipeline.poll_verdict().is_some() || pipeline.poll_span().is_some() {
            // Nobody asks for them.
        }
    }
    pipeline.finish(now);
    let printed = pipeline.explanation().map_or(Ok(()), |account| print(account, &mut io::stdout().lock()));
    match (failed, printed) {
        (Some(error), _) => Err(error.into()),
        // A reader that has seen enough is no failure.
        (None, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(RunError::Print(error)),
        (None, _) => Ok(()),
    }
}

/// Prints the account.
fn print(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    let Explanation { named, ambiguous, nameless_count, .. } = explanation;
    writeln!(
        out,
        "{named} operations name an order, {ambiguous} name several and so none, {nameless_count} name none."
    )?;
    if !explanation.found.is_empty() {
        writeln!(out, "\nKeys by the rule that found them:")?;
    }
    for ((rule, place), examples) in &explanation.found {
        writeln!(out, "  {rule}, {}: {}{}", place.name(), times(examples.count), values(examples))?;
        for operation in &examples.operations {
            writeln!(out, "      {operation}")?;
        }
    }
    if !explanation.nameless.is_empty() {
        writeln!(out, "\nOperations without a key, and what looks like a number in them:")?;
    }
    let mut kinds: Vec<(&String, &Nameless)> = explanation.nameless.iter().collect();
    kinds.sort_by_key(|(name, nameless)| {
        (nameless.shown.is_empty(), std::cmp::Reverse(nameless.count), *name)
    });
    for (name, nameless) in kinds.iter().take(MAX_LISTED) {
        writeln!(out, "  {name}: {}", times(nameless.count))?;
        for (place, examples) in &nameless.shown {
            writeln!(out, "      {place}: {}{}", times(examples.count), values(examples))?;
        }
    }
    let rest = kinds.len().saturating_sub(MAX_LISTED);
    if rest > 0 {
        writeln!(out, "  and {rest} kinds more")?;
    }
    Ok(())
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// The first few, where they may be shown.
fn values(examples: &Examples) -> String {
    let mut shown = examples.values.join(", ");
    if (examples.values.len() as u64) < examples.count && examples.values.len() > 1 {
        shown += ", …";
    }
    if shown.is_empty() { String::new() } else { format!(" ({shown})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_first_and_then_what_they_miss() {
        let examples = |count, values: &[&str], operation: &str| Examples {
            count,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            operations: vec![operation.to_owned()],
        };
        let mut explanation = Explanation::new(true);
        explanation.named = 2;
        explanation.nameless_count = 4;
        let place = spoor_core::order::explain::Place::Path;
        explanation
            .found
            .insert(("order.keys[0]".to_owned(), place), examples(2, &["17", "18"], "GET /orders/{}"));
        let shown = [("$.doc.no".to_owned(), examples(3, &["SO-1", "SO-2"], "POST /docs"))].into();
        explanation.nameless.insert("GET /health".to_owned(), Nameless { count: 1, ..Nameless::default() });
        explanation.nameless.insert("POST /docs".to_owned(), Nameless { count: 3, shown });
        let mut out = Vec::new();
        print(&explanation, &mut out).expect("memory takes it");
        let expected = "\
2 operations name an order, 0 name several and so none, 4 name none.

Keys by the rule that found them:
  order.keys[0], path: 2 times (17, 18)
      GET /orders/{}

Operations without a key, and what looks like a number in them:
  POST /docs: 3 times
      $.doc.no: 3 times (SO-1, SO-2, …)
  GET /health: once
";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
