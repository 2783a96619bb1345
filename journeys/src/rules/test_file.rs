//! A file that says what happens and which alerts that should make → what differs.
//!
//! ```yaml
//! start: 2026-11-30T09:00:00Z
//! given:
//!   - { at: 0m, order: "4711", service: mes, table: mes_orders, status: new }
//! until: 2h
//! expect:
//!   - { at: 30m, rule: pricing-late, order: "4711" }
//! ```
//!
//! All alerts of the house's own rules must be expected, and those of every rule that is named.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;

use super::trial::{Trial, Warned};
use super::{RuleSet, RulesError};
use crate::facts::{
    At, Fact, FactId, Key, Person, PersonRole, Sent, Settled, Status, Step, Trouble, TroubleKind,
};
use crate::model::{Model, Usual, parse_limit};
use crate::time::SECOND;

/// A Monday.
const START: &str = "2026-11-30T00:00:00Z";

/// What happens, and what is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    start: Option<String>,
    given: Vec<Given>,
    /// How long after the start it is looked.
    until: String,
    #[serde(default)]
    expect: Vec<Expected>,
}

/// One operation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    at: String,
    order: String,
    service: String,
    /// It wrote this status into this table.
    table: Option<String>,
    status: Option<String>,
    /// It sent a message there; `outcome` is returned or refused.
    publish: Option<String>,
    outcome: Option<String>,
    /// It took the last message from this queue; `settled` is ack, reject or unknown.
    takes: Option<String>,
    settled: Option<String>,
    /// It failed with this code.
    error: Option<String>,
    partner: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    at: String,
    rule: String,
    order: Option<String>,
    place: Option<String>,
    /// When it is over.
    ends: Option<String>,
}

impl TestFile {
    pub fn parse(yaml: &str) -> Result<Self, RulesError> {
        serde_saphyr::from_str(yaml).map_err(|error| {
            let error = error.without_snippet();
            let at = error.location();
            RulesError {
                line: at.map_or(1, |at| at.line()),
                column: at.map_or(1, |at| at.column()),
                message: error.to_string(),
            }
        })
    }

    /// What differs from what is expected; empty when nothing does.
    pub fn run(&self, set: &RuleSet, model: &Model) -> Result<Vec<String>, String> {
        let start = self.start.as_deref().unwrap_or(START);
        let start: Timestamp = start.parse().map_err(|_| format!("`{start}` is no time"))?;
        let start = At(start.as_microsecond());
        let until = offset(&self.until, start)?;
        let usual = Usual::default();
        let mut trial = Trial::new(set, model, &usual, At(i64::MIN), until);
        let mut orders: Vec<&str> = self.given.iter().map(|given| given.order.as_str()).collect();
        orders.sort_unstable();
        orders.dedup();
        for order in orders {
            let mut facts = Vec::new();
            let of = self.given.iter().enumerate().filter(|(_, given)| given.order == order);
            for (number, given) in of {
                let fact = given.fact(number, start, &facts)?;
                facts.push(fact);
            }
            trial.order(facts);
        }
        let is_meant = |rule: &str| {
            set.rule(rule).is_some_and(|rule| rule.is_own)
                || self.expect.iter().any(|expected| expected.rule == rule)
        };
        let found = trial.finish();
        let found = found.iter().filter(|warned| is_meant(&warned.rule));
        let mut found: BTreeSet<String> = found.map(|warned| shown(warned, start)).collect();
        let mut differences = Vec::new();
        for expected in &self.expect {
            let line = expected.shown(start)?;
            let fits = found.iter().find(|found| expected.fits(found, &line)).cloned();
            match fits {
                Some(fits) => drop(found.remove(&fits)),
                None => differences.push(format!("missing: {line}")),
            }
        }
        differences.extend(found.into_iter().map(|line| format!("not expected: {line}")));
        Ok(differences)
    }
}

impl Expected {
    fn shown(&self, start: At) -> Result<String, String> {
        let at = offset(&self.at, start)?.since(start) / SECOND;
        let order = self.order.as_deref().unwrap_or("");
        let ends = match &self.ends {
            Some(ends) => format!("{} s", offset(ends, start)?.since(start) / SECOND),
            None => "*".to_owned(),
        };
        let place = self.place.as_deref().unwrap_or("*");
        Ok(format!("{} of order `{order}` at `{place}`, from {at} s to {ends}", self.rule))
    }

    /// `*` in the expected line stands for whatever was found.
    fn fits(&self, found: &str, line: &str) -> bool {
        super::Pattern::new(line).fits(found)
    }
}

fn shown(warned: &Warned, start: At) -> String {
    let order = warned.order.as_ref().map(ToString::to_string).unwrap_or_default();
    let ends =
        warned.resolved_at.map_or("the end".to_owned(), |at| format!("{} s", at.since(start) / SECOND));
    let at = warned.fired_at.since(start) / SECOND;
    format!("{} of order `{order}` at `{}`, from {at} s to {ends}", warned.rule, warned.place)
}

/// `90m` after the start.
fn offset(text: &str, start: At) -> Result<At, String> {
    if matches!(text.trim(), "0" | "0s" | "0m" | "") {
        return Ok(start);
    }
    parse_limit(text)
        .map(|limit| start.after(limit.0))
        .ok_or_else(|| format!("`{text}` is no time such as 30m"))
}

impl Given {
    fn fact(&self, number: usize, start: At, before: &[Fact]) -> Result<Fact, String> {
        let at = offset(&self.at, start)?;
        let key = Key::parse(&self.order).ok_or_else(|| format!("`{}` is no order's number", self.order))?;
        let (step, parent) = self.step(before)?;
        let trouble = self.error.as_ref().map(|code| Trouble {
            kind: TroubleKind::Other,
            code: code.clone(),
            message: String::new(),
        });
        let person = |id: &String| Person { role: PersonRole::Partner, id: id.clone() };
        let id = u64::try_from(number).unwrap_or(u64::MAX).saturating_add(1);
        Ok(Fact {
            from: at,
            id: FactId { trace: [1; 16], span: id.to_be_bytes() },
            to: at,
            parent,
            service: self.service.clone(),
            instance: String::new(),
            name: String::new(),
            key,
            also: Vec::new(),
            people: self.partner.iter().map(person).collect(),
            step,
            status: self.status.clone().map(|value| Status { value, written_at: None }),
            artifact: None,
            trouble,
            unseen: None,
            joined: None,
        })
    }

    fn step(&self, before: &[Fact]) -> Result<(Step, Option<[u8; 8]>), String> {
        Ok(match (&self.publish, &self.takes, &self.table) {
            (Some(destination), None, None) => {
                let outcome = match self.outcome.as_deref() {
                    None => Sent::Confirmed,
                    Some("returned") => Sent::Returned,
                    Some("refused") => Sent::Refused,
                    Some(other) => return Err(format!("a message is returned or refused, not `{other}`")),
                };
                (Step::Published { destination: destination.clone(), outcome }, None)
            }
            (None, Some(queue), None) => {
                let settled = match self.settled.as_deref() {
                    None | Some("ack") => Settled::Acknowledged,
                    Some("reject") => Settled::Rejected,
                    Some("unknown") => Settled::Unknown,
                    Some(other) => return Err(format!("`settled` is ack, reject or unknown, not `{other}`")),
                };
                let sent = before.iter().rev().find(|fact| matches!(fact.step, Step::Published { .. }));
                let step = Step::Handled { queue: queue.clone(), settled, redelivered: false };
                (step, sent.map(|fact| fact.id.span))
            }
            (None, None, Some(table)) => {
                (Step::Wrote { collection: table.clone(), rows: 1, transaction: None }, None)
            }
            (None, None, None) if self.error.is_some() => {
                (Step::Served { answer: Some(500), changes: true }, None)
            }
            _ => {
                return Err(
                    "what happens is one of `table` with `status`, `publish`, `takes`, `error`".to_owned()
                );
            }
        })
    }
}
