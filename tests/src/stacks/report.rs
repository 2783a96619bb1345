//! Verdicts → a table for people, JSON for programs, and what is broken.
//!
//! *Owns* the goals. *Must not know* how a verdict came about.

use std::fmt;

use serde_json::{Value, json};

use super::judge::Verdict;
use super::stack::Stack;

/// Outgoing operations that name the order have to be joined: parts of a thousand.
const GOAL: usize = 990;

/// When the agent comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the stack is started.
    First,
    /// After it has served for a while.
    Later,
}

impl When {
    pub fn name(self) -> &'static str {
        match self {
            When::First => "first",
            When::Later => "later",
        }
    }

    pub fn words(self) -> String {
        format!("agent {}", self.name())
    }
}

/// A stack with the agent in one way, any number of times.
#[derive(Clone, Debug)]
pub struct Row {
    pub stack: &'static str,
    pub when: When,
    pub verdicts: Vec<Verdict>,
    /// Runs that did not come to an end, as sentences.
    pub failures: Vec<String>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rows: Vec<Row>,
    pub skipped: Vec<(String, String)>,
}

impl Row {
    pub fn new(stack: &Stack, when: When) -> Self {
        Self { stack: stack.name, when, verdicts: Vec::new(), failures: Vec::new() }
    }

    pub fn add(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
    }

    fn sum(&self, of: impl Fn(&Verdict) -> usize) -> usize {
        self.verdicts.iter().map(of).sum()
    }

    /// The goals that it breaks.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.failures.clone();
        if self.verdicts.is_empty() {
            return broken;
        }
        let counted = [
            ("operations without a span", self.sum(|verdict| verdict.missing)),
            ("spans of nothing", self.sum(|verdict| verdict.invented)),
            ("wrong causes or traces", self.sum(|verdict| verdict.wrong)),
        ];
        broken.extend(counted.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")));
        let known = self.sum(|verdict| verdict.outgoing - verdict.unknown);
        let hops = self.sum(|verdict| verdict.hops);
        let edges = [
            ("outgoing operations that name the order are joined", self.sum(|v| v.joined), known),
            ("outgoing operations are in the trace of their order", self.sum(|v| v.placed), known),
            ("other ends are joined", self.sum(|verdict| verdict.hops_joined), hops),
        ];
        let short = edges.iter().filter(|(_, joined, all)| joined * 1000 < all * GOAL);
        broken.extend(short.map(|(what, joined, all)| format!("only {joined} of {all} {what}")));
        broken
    }

    /// In a line, while others still run.
    pub fn short(&self) -> String {
        let broken = self.broken();
        if broken.is_empty() { "as it should be".to_owned() } else { broken.join("; ") }
    }

    fn line(&self) -> [String; 12] {
        let n = |of: fn(&Verdict) -> usize| self.sum(of).to_string();
        let share = |some: usize, all: usize| match (some * 1000).checked_div(all) {
            // Never 100 % by rounding.
            Some(parts) => format!("{}.{} %", parts / 10, parts % 10),
            None => "–".to_owned(),
        };
        let known = self.sum(|verdict| verdict.outgoing - verdict.unknown);
        [
            self.stack.to_owned(),
            self.when.name().to_owned(),
            n(|verdict| verdict.requests),
            n(|verdict| verdict.logged),
            n(|verdict| verdict.messages + verdict.calls),
            format!("{} / {}", n(|verdict| verdict.missing), n(|verdict| verdict.invented)),
            n(|verdict| verdict.outgoing),
            n(|verdict| verdict.unknown),
            share(self.sum(|verdict| verdict.joined), known),
            share(self.sum(|verdict| verdict.placed), known),
            share(self.sum(|verdict| verdict.hops_joined), self.sum(|verdict| verdict.hops)),
            n(|verdict| verdict.wrong),
        ]
    }

    fn to_json(&self) -> Value {
        let of = |verdict: &Verdict| {
            json!({
                "requests": verdict.requests, "messages": verdict.messages, "calls": verdict.calls,
                "statements_logged": verdict.logged, "statements_seen": verdict.statements,
                "missing": verdict.missing, "invented": verdict.invented, "outgoing": verdict.outgoing,
                "unknown": verdict.unknown, "joined": verdict.joined, "placed": verdict.placed,
                "hops": verdict.hops, "hops_joined": verdict.hops_joined, "wrong": verdict.wrong,
                "rules": verdict.rules, "examples": verdict.examples,
            })
        };
        json!({
            "stack": self.stack,
            "agent": self.when.name(),
            "runs": self.verdicts.iter().map(of).collect::<Vec<_>>(),
            "broken": self.broken(),
        })
    }
}

impl Report {
    /// What breaks a goal, as sentences.
    pub fn broken(&self) -> Vec<String> {
        let of = |row: &Row| {
            let head = format!("{}, {}", row.stack, row.when.words());
            row.broken().into_iter().map(move |what| format!("{head}: {what}")).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of).collect()
    }

    pub fn to_json(&self) -> Value {
        let skipped = self.skipped.iter().map(|(stack, why)| json!({ "stack": stack, "why": why }));
        json!({
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
        })
    }
}

const HEADS: [&str; 12] = [
    "stack",
    "agent",
    "requests",
    "statements",
    "messages, calls",
    "missing / invented",
    "outgoing",
    "unknown",
    "joined",
    "in trace",
    "hops",
    "wrong",
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<[String; 12]> = self.rows.iter().map(Row::line).collect();
        let width = |column: usize| {
            let cells = lines.iter().map(|line| line[column].chars().count());
            cells.chain([HEADS[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
        let mut row = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            writeln!(f, "| {} |", cells.collect::<Vec<_>>().join(" | "))
        };
        row(&HEADS.map(str::to_owned))?;
        let rules = widths.iter().enumerate().map(|(column, width)| match column {
            0 | 1 => "-".repeat(*width),
            _ => format!("{}:", "-".repeat(width - 1)),
        });
        row(&rules.collect::<Vec<_>>())?;
        lines.iter().try_for_each(|line| row(line))?;
        writeln!(f)?;
        for (stack, reason) in &self.skipped {
            writeln!(f, "skipped {stack}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Verdict) -> Row {
        Row { stack: "x", when: When::Later, verdicts: vec![verdict], failures: Vec::new() }
    }

    #[test]
    fn a_row_breaks_its_goal_by_one_wrong_cause_or_more_than_one_in_a_hundred_left_open() {
        let good = Verdict { outgoing: 200, joined: 198, placed: 200, ..Verdict::default() };
        assert_eq!(row(good.clone()).broken(), Vec::<String>::new());
        let wrong = Verdict { wrong: 1, ..good.clone() };
        assert_eq!(row(wrong).broken(), ["1 wrong causes or traces"]);
        let open = Verdict { joined: 197, ..good.clone() };
        let sentence = "only 197 of 200 outgoing operations that name the order are joined";
        assert_eq!(row(open.clone()).broken(), [sentence]);
        let told = Verdict { unknown: 2, placed: 198, ..open };
        assert_eq!(
            row(told).broken(),
            Vec::<String>::new(),
            "what the agent says it cannot know is no break"
        );
    }
}
