//! Verdicts → a table for people, JSON or CSV, and whether the promises hold.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::judge::{Class, Tally, Verdict};
use super::runtime::Model;

/// One runtime under one load.
#[derive(Clone, Debug)]
pub struct Cell {
    pub runtime: &'static str,
    pub model: Model,
    pub concurrency: usize,
    pub verdict: Verdict,
    /// Two agents saw it.
    pub apart: bool,
    /// References between spans that lead nowhere: of all loads of the runtime, with the last.
    pub dangling: Vec<String>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub cells: Vec<Cell>,
    /// Runtimes that could not run here, and why.
    pub skipped: Vec<(String, String)>,
}

/// At most this share of edges is wrong, everywhere.
const MAX_WRONG: f64 = 0.001;
/// At least this share of the promised edges is correct.
const MIN_CORRECT: f64 = 0.99;
/// Up to so many requests in flight.
const PROMISED_IN_FLIGHT: usize = 50;

impl Report {
    /// Promises that do not hold, as sentences.
    pub fn broken(&self) -> Vec<String> {
        self.cells.iter().flat_map(Cell::broken).collect()
    }

    pub fn to_json(&self) -> Value {
        let skipped: BTreeMap<_, _> = self.skipped.iter().cloned().collect();
        let cells: Vec<Value> = self.cells.iter().map(Cell::to_json).collect();
        json!({ "cells": cells, "skipped": skipped, "broken": self.broken() })
    }

    /// A line for each cell, as `docs/measurements/` keeps them; a percentage is empty where there was no such work.
    pub fn to_csv(&self) -> String {
        let mut text = "runtime,in_flight,inferred_edges,correct,missing,wrong,keyed_percent,several_of_one_order_percent,\
                        plain_percent,parallel_percent,after_answer_percent,spans_right,spans_no_order,spans_wrong_order\n"
            .to_owned();
        for cell in &self.cells {
            let (inferred, places) = (cell.verdict.inferred(), cell.verdict.places);
            let mut values = vec![cell.runtime.to_owned(), cell.concurrency.to_string()];
            let edges = [inferred.sum(), inferred.correct, inferred.missing, inferred.wrong];
            values.extend(edges.map(|count| count.to_string()));
            let shares = SHOWN.map(|class| percent(cell.verdict.of(class)));
            values.extend(shares.map(|share| share.map(|share| format!("{share:.1}")).unwrap_or_default()));
            values.extend([places.right, places.none, places.wrong].map(|count| count.to_string()));
            text += &(values.join(",") + "\n");
        }
        text
    }
}

impl Cell {
    fn broken(&self) -> Vec<String> {
        let place = format!("{} with {} in flight", self.runtime, self.concurrency);
        let all = self.verdict.all();
        let mut broken = Vec::new();
        if share(all.wrong, all.sum()) > MAX_WRONG {
            broken.push(format!("{place}: {} of {} edges are wrong", all.wrong, all.sum()));
        }
        if let Some(first) = self.dangling.first() {
            broken.push(format!(
                "{place}: {} references lead nowhere, the first: {first}",
                self.dangling.len()
            ));
        }
        if self.verdict.places.wrong > 0 {
            broken.push(format!("{place}: {} spans are in a wrong order's trace", self.verdict.places.wrong));
        }
        if self.concurrency <= PROMISED_IN_FLIGHT {
            for class in self.promised() {
                let tally = self.verdict.of(class);
                if tally.sum() > 0 && share(tally.correct, tally.sum()) < MIN_CORRECT {
                    let (correct, sum) = (tally.correct, tally.sum());
                    broken.push(format!("{place}: {correct} of {sum} {} edges are correct", class.name()));
                }
            }
        }
        broken
    }

    /// Classes of which nearly all causes must be found.
    fn promised(&self) -> Vec<Class> {
        match self.model {
            Model::ThreadPerRequest => vec![Class::Keyed, Class::Plain, Class::Wire],
            Model::Shared => vec![Class::Keyed, Class::Wire],
        }
    }

    fn to_json(&self) -> Value {
        let tally = |tally: Tally| json!({ "correct": tally.correct, "missing": tally.missing, "wrong": tally.wrong });
        let verdict = &self.verdict;
        let edges: BTreeMap<_, _> =
            verdict.edges.iter().map(|(class, edges)| (class.name(), tally(*edges))).collect();
        let rules: BTreeMap<_, _> = verdict.rules.iter().map(|(rule, edges)| (rule, tally(*edges))).collect();
        let places = verdict.places;
        json!({
            "runtime": self.runtime,
            "in_flight": self.concurrency,
            "requests": verdict.requests,
            "operations": { "done": verdict.expected, "seen": verdict.seen },
            "edges": edges,
            "rules": rules,
            "spans": { "right": places.right, "none": places.none, "wrong": places.wrong },
            "broken": self.broken(),
            "dangling": self.dangling.len(),
            "examples": verdict.examples,
        })
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Classes whose share of correct edges is shown.
const SHOWN: [Class; 5] = [Class::Keyed, Class::Twin, Class::Plain, Class::Parallel, Class::After];

/// The share of correct edges; `None` without edges.
fn percent(tally: Tally) -> Option<f64> {
    // Never 100 % by rounding.
    (tally.sum() > 0).then(|| (share(tally.correct, tally.sum()) * 1000.0).floor() / 10.0)
}

impl fmt::Display for Report {
    /// A Markdown table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| runtime | in flight | inferred edges | correct | missing | wrong | with the order's ID | several of one order | without it | without it, in parallel | after the answer | spans right / none / wrong |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")?;
        for cell in &self.cells {
            let verdict = &cell.verdict;
            let inferred = verdict.inferred();
            let mut line = format!("| {} | {} | {}", cell.runtime, cell.concurrency, inferred.sum());
            for part in [inferred.correct, inferred.missing, inferred.wrong] {
                // Writing to a string cannot fail.
                let _ = write!(line, " | {part}");
            }
            for class in SHOWN {
                let share = percent(verdict.of(class)).map(|share| format!("{share:.1} %"));
                let _ = write!(line, " | {}", share.as_deref().unwrap_or("–"));
            }
            let places = verdict.places;
            writeln!(f, "{line} | {} / {} / {} |", places.right, places.none, places.wrong)?;
        }
        writeln!(f)?;
        for cell in &self.cells {
            let verdict = &cell.verdict;
            let rules: Vec<String> = verdict
                .rules
                .iter()
                .map(|(rule, tally)| format!("{rule} {}/{}", tally.correct, tally.wrong))
                .collect();
            let wire = verdict.of(Class::Wire);
            writeln!(
                f,
                "{} × {}: {} requests, {} of {} operations seen; wire {}/{}/{}; correct/wrong by rule: {}",
                cell.runtime,
                cell.concurrency,
                verdict.requests,
                verdict.seen,
                verdict.expected,
                wire.correct,
                wire.missing,
                wire.wrong,
                rules.join(", ")
            )?;
        }
        for cell in self.cells.iter().filter(|cell| cell.apart) {
            let unnamed = cell.verdict.of(Class::Unnamed);
            writeln!(
                f,
                "{} × {}, two agents: {} of what names no order joined across, {} left, {} wrong; {} references lead nowhere",
                cell.runtime,
                cell.concurrency,
                unnamed.correct,
                unnamed.missing,
                unnamed.wrong,
                cell.dangling.len()
            )?;
        }
        for (runtime, reason) in &self.skipped {
            writeln!(f, "skipped {runtime}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::Places;
    use super::*;

    #[test]
    fn a_cell_is_a_line_of_csv_and_a_class_without_work_an_empty_field() {
        let mut verdict = Verdict { places: Places { right: 7, none: 2, wrong: 0 }, ..Verdict::default() };
        verdict.edges.insert(Class::Keyed, Tally { correct: 2999, missing: 1, wrong: 0 });
        verdict.edges.insert(Class::After, Tally { correct: 1, missing: 2, wrong: 0 });
        let cell = Cell {
            runtime: "go",
            model: Model::Shared,
            concurrency: 50,
            verdict,
            apart: false,
            dangling: Vec::new(),
        };
        let csv = Report { cells: vec![cell], skipped: Vec::new() }.to_csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].split(',').count(), 14);
        assert_eq!(lines[1], "go,50,3003,3000,3,0,99.9,,,,33.3,7,2,0", "never 100 % by rounding");
    }
}
