//! The tables of all rules → one list that can be shown: name, evidence, how sure, which proof it takes.
//!
//! *Owns* the rows of the rules between processes, which need no proof, and how a table is written. *Must not know* what is done
//! with an edge.

use std::fmt::Write as _;

use super::{Confidence, Rule};

/// A row of a table that needs no proof: how sure an edge by it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub rule: Rule,
    pub confidence: Confidence,
    evidence: &'static str,
}

impl Row {
    pub(crate) const fn new(rule: Rule, confidence: f32, evidence: &'static str) -> Self {
        Self { rule, confidence: Confidence(confidence), evidence }
    }

    pub(super) fn describe(&self) -> Described {
        let (alone, contested) = (Some(self.confidence), Some(self.confidence));
        Described { rule: self.rule, evidence: self.evidence, alone, contested, proof: "none".to_owned() }
    }
}

/// The operation says itself which span it belongs to.
pub const CONTEXT: Row = Row::new(
    Rule::Context,
    1.0,
    "`traceparent`, `b3` or `uber-trace-id` in the operation's own bytes that does not say \"not sampled\", from a process that is trusted",
);
/// Both ends compute the same from sequence numbers that the two kernels agreed on.
pub const WIRE: Row = Row::new(
    Rule::Wire,
    1.0,
    "both ends of a connection saw the operation: same initial sequence numbers, same position",
);
/// The same, but the other end is computed instead of seen: the other agent may have lost it.
pub const WIRE_ELSEWHERE: Row =
    Row::new(Rule::Wire, 0.99, "the same, where another agent sees the other end");
/// The broker was watched, and the message has an ID.
pub const MESSAGE_WITH_ID: Row = Row::new(
    Rule::Message,
    1.0,
    "the broker forwarded this very message: same address, properties and body, and an ID of its own",
);
/// Equal messages are told apart by their order in the queue, as far as that is known.
pub const MESSAGE: Row = Row::new(
    Rule::Message,
    0.99,
    "the same without an ID, first in first out among equals, where nothing older can be left in the queue",
);
/// Only the broker's clients were watched: what else came into the queue is not known, but the ID is the message's own.
pub const MESSAGE_UNBROKERED_WITH_ID: Row =
    Row::new(Rule::Message, 0.97, "the same with an ID, where no agent sees the broker");
/// Neither an ID nor the broker: an equal message of a client that is not watched may have been in the queue.
pub const MESSAGE_UNBROKERED: Row =
    Row::new(Rule::Message, 0.9, "the same without an ID, where no agent sees the broker");

/// A row as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub rule: Rule,
    /// What the row goes by, in a sentence without its end.
    pub evidence: &'static str,
    /// How sure it is where nothing else could be the cause. `None`: it then says nothing.
    pub alone: Option<Confidence>,
    /// How sure it is where something else could. `None`: it then says nothing.
    pub contested: Option<Confidence>,
    /// What a process must have shown before the row is believed in it.
    pub proof: String,
}

/// All rows, in the order in which they are asked.
pub fn describe() -> Vec<Described> {
    let across = [
        CONTEXT,
        WIRE,
        WIRE_ELSEWHERE,
        MESSAGE_WITH_ID,
        MESSAGE,
        MESSAGE_UNBROKERED_WITH_ID,
        MESSAGE_UNBROKERED,
    ];
    across.iter().map(Row::describe).chain(super::inside::rules::describe()).collect()
}

/// All rows as a table in Markdown.
pub fn markdown() -> String {
    let mut out =
        String::from("| rule | evidence | alone | among others | proof it takes |\n|---|---|---|---|---|\n");
    let sure = |confidence: Option<Confidence>| {
        confidence.map_or_else(|| "–".to_owned(), |confidence| format!("{:.2}", confidence.0))
    };
    for row in describe() {
        let Described { rule, evidence, alone, contested, proof } = row;
        let (rule, alone, contested) = (rule.name(), sure(alone), sure(contested));
        // Writing to a text cannot fail.
        let _ = writeln!(out, "| `{rule}` | {evidence} | {alone} | {contested} | {proof} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_a_row_and_every_confidence_is_one() {
        let rows = describe();
        let described: BTreeSet<Rule> = rows.iter().map(|row| row.rule).collect();
        assert_eq!(described, Rule::ALL.into_iter().collect());
        for row in &rows {
            let sure: Vec<f32> =
                [row.alone, row.contested].into_iter().flatten().map(|sure| sure.0).collect();
            assert!(!sure.is_empty() && sure.iter().all(|sure| (0.0..=1.0).contains(sure)), "{row:?}");
        }
    }

    #[test]
    fn no_row_is_below_the_confidence_that_edges_need_by_default() {
        let least = crate::causality::settings::Joining::default().min_confidence;
        for row in describe() {
            for sure in [row.alone, row.contested].into_iter().flatten() {
                assert!(sure.0 >= least, "{row:?}");
            }
        }
    }

    #[test]
    fn the_table_in_markdown_has_a_line_for_each_row() {
        let text = markdown();
        assert_eq!(text.lines().count(), describe().len() + 2);
        let value = "| `value` | it carries the order ID of exactly one request in flight in its process | 0.97 | 0.97 | none |";
        assert!(text.lines().any(|line| line == value), "{text}");
    }
}
