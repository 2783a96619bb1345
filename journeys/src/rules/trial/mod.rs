//! The facts of past orders → the alerts that rules would have made of them, had they run then.
//!
//! *Owns* nothing that lasts: it goes through the same looks as a running server, with the times of the facts for a clock.
//! What is usual is what it is today: of what was usual then nothing is kept.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::life::earlier;
use super::storm::{Company, WITHIN, company};
use super::window::{self, Event, Past, places};
use super::{Life, Rule, RuleSet, Severity, State, Step, Subject, When, stand, step};
use crate::facts::{At, Fact, Key};
use crate::fold::{self, Gathered, Journey, Outcome};
use crate::model::{Model, Times, Usual, What};
use crate::time::MINUTE;

/// Looks at one order: more would be a rule that never comes to rest.
const MAX_LOOKS: usize = 20_000;
/// Counters are looked at once a minute here.
const LOOK: i64 = MINUTE;

/// An alert of the past.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warned {
    pub fired_at: At,
    pub rule: String,
    /// `None`: it is about a place.
    pub order: Option<Key>,
    pub place: String,
    pub severity: Severity,
    /// `None`: it would still fire.
    pub resolved_at: Option<At>,
    pub late: bool,
}

/// Goes through the past, order by order.
#[derive(Debug)]
pub struct Trial<'a> {
    rules: &'a [Rule],
    model: &'a Model,
    usual: &'a Usual,
    from: At,
    to: At,
    warned: Vec<Warned>,
    counted: Counted,
}

/// Counters as a store would have had them.
#[derive(Debug, Default)]
struct Counted {
    minutes: BTreeMap<i64, BTreeMap<What, Times>>,
    events: BTreeMap<Event, Vec<At>>,
    now: i64,
}

impl Past for Counted {
    type Error = Infallible;

    fn times(&self, from: At) -> Result<BTreeMap<What, Times>, Infallible> {
        let mut all: BTreeMap<What, Times> = BTreeMap::new();
        for (what, times) in self.minutes.range(window::minute(from)..=self.now).flat_map(|(_, of)| of) {
            all.entry(what.clone()).or_default().merge(times);
        }
        Ok(all)
    }

    fn volume(&self, event: Event, from: At, to: At) -> Result<u64, Infallible> {
        let times = self.events.get(&event).map(Vec::as_slice).unwrap_or_default();
        Ok(times.iter().filter(|at| (from..to).contains(at)).count() as u64)
    }
}

impl<'a> Trial<'a> {
    /// Alerts that fire from `from` up to `to` are told.
    pub fn new(set: &'a RuleSet, model: &'a Model, usual: &'a Usual, from: At, to: At) -> Self {
        let (warned, counted) = (Vec::new(), Counted::default());
        Self { rules: &set.rules, model, usual, from, to, warned, counted }
    }

    /// An order with all its facts.
    pub fn order(&mut self, mut facts: Vec<Fact>) {
        facts.retain(|fact| fact.to <= self.to);
        facts.sort_by_key(|fact| (fact.to, fact.id));
        for length in facts.iter().flat_map(window::counted) {
            self.counted.add(&length);
        }
        let mut lives: BTreeMap<&str, Life> = BTreeMap::new();
        let mut known: Vec<Fact> = Vec::new();
        let mut coming = facts.into_iter().peekable();
        let mut next = coming.peek().map(|fact| fact.to);
        let mut last = None;
        for _ in 0..MAX_LOOKS {
            let Some(now) = next.filter(|now| *now <= self.to) else { break };
            while coming.peek().is_some_and(|fact| fact.to <= now) {
                known.extend(coming.next());
            }
            let (gathered, _) = Gathered::default().with(known.clone());
            let journey = fold::journey(&gathered, self.model);
            let due = self.look(&journey, &mut lives, now);
            // Nothing is looked at twice at one time.
            next = earlier(due.filter(|due| *due > now), coming.peek().map(|fact| fact.to.max(now)));
            last = Some((journey, now));
        }
        if let Some((journey, now)) = last {
            self.ended(&journey, lives, now);
        }
    }

    /// Looks at an order once; when to look again.
    fn look(&mut self, journey: &Journey, lives: &mut BTreeMap<&'a str, Life>, now: At) -> Option<At> {
        let verdict = fold::verdict(journey, self.model, self.usual, now);
        let subject = Subject { journey, verdict: &verdict, model: self.model, usual: self.usual };
        let mut next = verdict.due;
        for rule in self.rules {
            let When::Order(when) = &rule.when else { continue };
            let standing = stand(when, &rule.filter, &subject, now);
            let (life, what, due) =
                step(lives.remove(rule.id.as_str()), &standing, rule.hold, rule.keep, now);
            next = earlier(next, due);
            match (what, life) {
                (Step::Resolved, Some(life)) => self.tell(rule, journey.keys.first(), &life),
                (_, Some(life)) => {
                    lives.insert(&rule.id, life);
                }
                (_, None) => {}
            }
        }
        next
    }

    /// What still fires, and what became of the order.
    fn ended(&mut self, journey: &Journey, lives: BTreeMap<&'a str, Life>, now: At) {
        for (id, life) in lives {
            if let Some(rule) = self.rules.iter().find(|rule| rule.id == id) {
                self.tell(rule, journey.keys.first(), &life);
            }
        }
        let verdict = fold::verdict(journey, self.model, self.usual, now);
        let end = match verdict.outcome {
            Outcome::Finished => Some(Event::Finished),
            Outcome::Failed => Some(Event::Failed),
            Outcome::Lost => Some(Event::Lost),
            Outcome::Moving | Outcome::Waiting | Outcome::Stuck | Outcome::Quiet => None,
        };
        self.counted.events.entry(Event::Created).or_default().push(journey.began);
        if let Some(end) = end {
            self.counted.events.entry(end).or_default().push(verdict.since);
        }
        for length in fold::lengths(journey, self.model) {
            self.counted.add(&length);
        }
    }

    fn tell(&mut self, rule: &Rule, order: Option<&Key>, life: &Life) {
        let Some(fired_at) = life.fired_at.filter(|at| *at >= self.from) else { return };
        if life.state == State::Pending {
            return;
        }
        self.warned.push(Warned {
            fired_at,
            rule: rule.id.clone(),
            order: order.cloned(),
            place: life.held.place.clone(),
            severity: rule.severity,
            resolved_at: life.resolved_at,
            late: life.late,
        });
    }

    /// All alerts, in time.
    pub fn finish(mut self) -> Vec<Warned> {
        let rules = self.rules;
        for rule in rules {
            let When::Window(when) = &rule.when else { continue };
            let mut lives: BTreeMap<String, Life> = BTreeMap::new();
            // Where nothing was counted for as long as the rule looks back, nothing is so.
            let reach = when.window().unwrap_or(0).max(window::LONGEST);
            let mut minutes =
                self.counted.minutes.keys().copied().collect::<Vec<i64>>().into_iter().peekable();
            let Some(first) = minutes.peek().map(|minute| At(minute * MINUTE)) else { continue };
            let mut now = first.max(self.from);
            let mut counted_until = first;
            while now <= self.to {
                while minutes.peek().is_some_and(|minute| At(minute * MINUTE) <= now) {
                    counted_until = minutes.next().map_or(now, |minute| At(minute * MINUTE));
                }
                if now.since(counted_until) > reach && lives.is_empty() {
                    match minutes.peek() {
                        Some(minute) => now = At(minute * MINUTE),
                        None => break,
                    }
                }
                self.counted.now = window::minute(now);
                let Ok(found) = places(when, &self.counted, self.usual, self.model, now);
                let mut found: BTreeMap<String, super::Standing> = found.into_iter().collect();
                for place in lives.keys() {
                    found.entry(place.clone()).or_insert(super::Standing::NEVER);
                }
                for (place, standing) in found {
                    let before = lives.remove(&place);
                    let standing = since_then(standing, before.as_ref());
                    let (life, what, _) = step(before, &standing, rule.hold, rule.keep, now);
                    match (what, life) {
                        (Step::Resolved, Some(life)) => self.tell(rule, None, &life),
                        (_, Some(life)) => {
                            lives.insert(place, life);
                        }
                        (_, None) => {}
                    }
                }
                now = now.after(LOOK);
            }
            lives.into_values().for_each(|life| self.tell(rule, None, &life));
        }
        self.warned.sort();
        self.warned
    }
}

/// What is counted knows no beginning: it is so since it was first seen.
pub fn since_then(standing: super::Standing, before: Option<&Life>) -> super::Standing {
    match (standing, before) {
        (super::Standing::Holds(held), Some(life)) => {
            super::Standing::Holds(super::Held { due: life.held.due, since: life.held.since, ..held })
        }
        (standing, _) => standing,
    }
}

impl Counted {
    fn add(&mut self, length: &fold::Length) {
        let of = self.minutes.entry(window::minute(length.at)).or_default();
        let class = crate::model::class(length.micros);
        of.entry(length.what.clone()).or_default().add(class, 1, i64::from(length.failed));
    }
}

/// How many messages a channel would have had of these alerts: storms are one.
pub fn messages(warned: &[Warned]) -> usize {
    let mut count: usize = 0;
    // Rule and place: times at which orders fired, and until when the group there lasts.
    let mut open: BTreeMap<(&str, &str), (Vec<&Warned>, bool)> = BTreeMap::new();
    for alert in warned {
        let (members, has_group) = open.entry((&alert.rule, &alert.place)).or_default();
        members.retain(|other| other.resolved_at.is_none_or(|end| end > alert.fired_at));
        *has_group &= !members.is_empty();
        let recent = members.iter().filter(|other| alert.fired_at.since(other.fired_at) < WITHIN).count();
        match company(*has_group, if alert.order.is_some() { recent as u64 } else { 0 }) {
            Company::Alone => count += 1,
            Company::Joins => {}
            Company::Founds => {
                *has_group = true;
                // Those that came with it at once were not told by themselves.
                let at_once =
                    |other: &&&Warned| alert.fired_at.since(other.fired_at) < super::storm::PATIENCE;
                count = (count + 1).saturating_sub(members.iter().filter(at_once).count());
            }
        }
        members.push(alert);
    }
    count
}

#[cfg(test)]
mod tests;
