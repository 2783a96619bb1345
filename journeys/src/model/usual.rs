//! What usually happens, learned from all orders: how often messages arrive, how long things take.
//!
//! Absence is evidence only where presence is usual: a message that nobody was seen to take is lost only if nearly all
//! messages to that destination are seen to be taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::time::At;

/// So many messages of a destination must be known before its rule is believed.
const ENOUGH: u64 = 100;
/// And so many in a thousand of them must have been seen to arrive.
const NEARLY_ALL: u64 = 990;
/// So many times must be known before their middle is called usual.
const ENOUGH_TIMES: u64 = 20;
/// And so many in a hundred orders must have gone on to a stage for it to be the usual next one.
const MOST: u64 = 60;

/// What stands for a word that may be a number, and for an address of mail.
const NUMBER: char = '#';

/// What was learned. All names are as [`shape`] leaves them, so nothing here is of any one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    /// Messages by destination: published, and of those seen to be taken by a consumer.
    pub destinations: BTreeMap<String, (u64, u64)>,
    /// Shared with whoever reads: a batch that teaches something of one thing copies what is known of that one.
    pub times: BTreeMap<What, Arc<Times>>,
    /// When each service was last heard of.
    pub heard: BTreeMap<String, At>,
    /// Services that answered at an address, as callers name it; the last one, since this program runs.
    pub answer_at: BTreeMap<String, String>,
    /// Agents that said that they are there, by their machines' identifiers.
    pub agents: BTreeMap<String, Agent>,
}

/// An agent, as it said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What people call its machine.
    pub node: String,
    /// When it was heard, by the listener's clock.
    pub at: At,
    /// Since when it could be heard, where that is later: nobody hears while the listener is away.
    pub awaited_from: At,
    /// How often it says something, in microseconds.
    pub every: i64,
    pub services: BTreeSet<String>,
}

/// An agent that was not heard so many times is silent.
const MISSED: i64 = 3;

impl Agent {
    /// When it is silent, unless it is heard before.
    pub fn silent_from(&self) -> At {
        self.at.max(self.awaited_from).after(self.every.saturating_mul(MISSED))
    }
}

/// Something that takes time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct What {
    pub kind: Kind,
    /// The stage that is left, the queue, the service that works, or the stages of a way.
    pub of: String,
    /// The stage that follows, whom the service works with, or how the way ended.
    pub with: String,
}

/// What sort of thing takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// From one stage to the next one that was reached.
    Stage,
    /// From the first sign of an order to its good end.
    Whole,
    /// A message's time in a queue.
    Queue,
    /// A consumer's time with a message; with: the service.
    Taken,
    /// A service's answers.
    Served,
    /// A service's calls of another place.
    Called,
    /// A service's statements that change a table, and those that read one.
    Wrote,
    Read,
    /// A service's operations that were not seen whole; with: why.
    Unseen,
    /// All stages of an order that ended, in the order in which it came to them; with: how it ended.
    Way,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Stage,
        Kind::Whole,
        Kind::Queue,
        Kind::Taken,
        Kind::Served,
        Kind::Called,
        Kind::Wrote,
        Kind::Read,
        Kind::Unseen,
        Kind::Way,
    ];
}

impl Usual {
    /// The same with what is known since this program runs.
    pub fn and_lately(mut self, before: &Self) -> Self {
        self.answer_at.clone_from(&before.answer_at);
        for (id, agent) in &mut self.agents {
            let known = before.agents.get(id).map(|known| known.awaited_from);
            agent.awaited_from = known.unwrap_or(agent.awaited_from);
        }
        self
    }

    /// Whom a caller means by an address: the service that answers there, where one was seen to.
    pub fn named<'a>(&'a self, peer: &'a str) -> &'a str {
        self.answer_at.get(peer).map_or(peer, String::as_str)
    }

    /// Agents that are silent at `now`.
    pub fn silent(&self, now: At) -> impl Iterator<Item = (&str, &Agent)> {
        let is_silent = move |agent: &Agent| now >= agent.silent_from();
        self.agents.iter().filter(move |(_, agent)| is_silent(agent)).map(|(id, agent)| (id.as_str(), agent))
    }

    /// Of the agents that see one of these services and are silent, the one that has been for longest.
    pub fn blind<'a>(&self, now: At, services: impl Iterator<Item = &'a str> + Clone) -> Option<&Agent> {
        let sees = |agent: &Agent| services.clone().any(|service| agent.services.contains(service));
        self.silent(now).map(|(_, agent)| agent).filter(|agent| sees(agent)).min_by_key(|agent| agent.at)
    }

    /// Messages to `destination` are seen to arrive.
    pub fn is_expected(&self, destination: &str) -> bool {
        self.destinations.get(&shape(destination)).is_some_and(|(published, delivered)| {
            *published >= ENOUGH && delivered.saturating_mul(1_000) >= published.saturating_mul(NEARLY_ALL)
        })
    }

    /// All times of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&What, &Times)> {
        let of = self.times.iter().filter(move |(what, _)| what.kind == kind);
        of.map(|(what, times)| (what, &**times))
    }

    /// Adds, or takes away, so many of a class and of failures to how long something takes.
    pub fn add(&mut self, what: &What, class: u16, count: i64, failed: i64) {
        match self.times.get_mut(what) {
            Some(times) => Arc::make_mut(times).add(class, count, failed),
            None => Arc::make_mut(self.times.entry(what.clone()).or_default()).add(class, count, failed),
        }
    }

    /// The stage that usually follows, and after how many microseconds, where one clearly does.
    pub fn next(&self, stage: &str) -> Option<(&str, i64)> {
        let ways = || self.of(Kind::Stage).filter(|(what, _)| what.of == stage);
        let all = ways().fold(0_u64, |all, (_, times)| all.saturating_add(times.count()));
        let (what, times) = ways().max_by_key(|(_, times)| times.count())?;
        let is_usual = times.count().saturating_mul(100) >= all.saturating_mul(MOST);
        Some((what.with.as_str(), times.usual()?)).filter(|_| is_usual)
    }

    /// How long the whole way usually takes.
    pub fn whole(&self) -> Option<i64> {
        self.of(Kind::Whole).next()?.1.usual()
    }
}

/// How long one thing took, all the times that it was seen: how often each length, to a twentieth. Counts only, so what was
/// learned can be unlearned, and it does not matter in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    lengths: BTreeMap<u16, u64>,
    pub failed: u64,
}

/// Each class of lengths is so much longer than the one before: what is told of it is right to a twentieth.
const RATIO: f64 = 1.1;

/// The last class. From a microsecond to a century are 363 of them; this one and all that is longer stand for 134,000 years.
const LAST: u16 = 450;

/// The class of a length.
pub fn class(micros: i64) -> u16 {
    let class = (micros.max(1) as f64).ln() / RATIO.ln();
    // Neither less than nothing nor more than 458: the conversion cuts off nothing.
    (class.round() as u16).min(LAST)
}

/// The length that stands for a class.
fn length(class: u16) -> i64 {
    RATIO.powi(i32::from(class.min(LAST))) as i64
}

impl Times {
    /// Adds, or takes away, so many of a class and of failures.
    pub fn add(&mut self, class: u16, count: i64, failed: i64) {
        // A file may say anything.
        let class = class.min(LAST);
        let of = self.lengths.entry(class).or_default();
        *of = of.saturating_add_signed(count);
        if *of == 0 {
            self.lengths.remove(&class);
        }
        self.failed = self.failed.saturating_add_signed(failed);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Times) {
        for (class, count) in &other.lengths {
            let of = self.lengths.entry(*class).or_default();
            *of = of.saturating_add(*count);
        }
        self.failed = self.failed.saturating_add(other.failed);
    }

    pub fn count(&self) -> u64 {
        self.lengths.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Microseconds that so many in a hundred did not exceed; 0 of nothing.
    pub fn percentile(&self, percent: u64) -> i64 {
        // In 128 bits: a count times a hundred must not stop at the end of 64.
        let wanted = (u128::from(self.count()) * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut below = 0_u128;
        let found = self.lengths.iter().find(|(_, count)| {
            below += u128::from(**count);
            below >= wanted
        });
        found.map_or(0, |(class, _)| length(*class))
    }

    /// The middle, where there are enough to speak of one.
    pub fn usual(&self) -> Option<i64> {
        (self.count() >= ENOUGH_TIMES).then(|| self.percentile(50))
    }
}

/// A foreign name with `#` for each address of mail and each word that has a digit: what all names of one kind have in
/// common, and nothing of any order or person. `order.4711.created` ⇒ `order.#.created`.
pub fn shape(name: &str) -> String {
    // Between words what was there stays: a queue is found again by its name.
    let parts = name.split_inclusive(char::is_whitespace).map(|part| {
        let word = part.trim_end();
        let shape = if word.contains('@') { NUMBER.to_string() } else { without_numbers(word) };
        shape + part.get(word.len()..).unwrap_or_default()
    });
    parts.collect()
}

fn without_numbers(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let is_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != is_word).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        if part.chars().any(char::is_numeric) {
            out.push(NUMBER);
        } else {
            out.push_str(part);
        }
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, HOUR, MINUTE, SECOND};

    #[test]
    fn words_with_a_digit_and_addresses_of_mail_leave_a_name() {
        for (name, expected) in [
            ("orders", "orders"),
            ("order.4711.created", "order.#.created"),
            ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", "amq.gen-#-#"),
            ("заказ №12/готов", "заказ №#/готов"),
            ("٤٧", "#"),
            ("", ""),
            ("..", ".."),
            ("notify.anna@example.org", "#"),
            ("ask anna@example.org 12", "ask # #"),
            ("in  production\tnow", "in  production\tnow"),
            (" in production ", " in production "),
        ] {
            assert_eq!(shape(name), expected, "{name}");
        }
    }

    #[test]
    fn destinations_of_one_shape_are_learned_together() {
        let usual = Usual { destinations: [("order.#".to_owned(), (200, 199))].into(), ..Usual::default() };
        assert!(usual.is_expected("order.4711") && !usual.is_expected("orders"));
    }

    #[test]
    fn lengths_are_right_to_a_twentieth_and_can_be_taken_back() {
        for micros in [1, 2, 999, SECOND, 41 * MINUTE, 26 * HOUR, 400 * DAY] {
            let told = length(class(micros));
            assert!((told - micros).abs() * 100 <= micros * 5 + 100, "{micros} is told as {told}");
        }
        assert_eq!(class(i64::MAX), LAST);
        assert_eq!((class(-1), class(0)), (0, 0));
        let mut times = Times::default();
        for n in 1..=100 {
            times.add(class(n * SECOND), 1, i64::from(n % 10 == 0));
        }
        let seconds = |percent| times.percentile(percent) as f64 / SECOND as f64;
        assert!(
            (seconds(50) - 50.0).abs() < 3.0
                && (seconds(95) - 95.0).abs() < 5.0
                && (seconds(1) - 1.0).abs() < 0.1
        );
        assert_eq!((times.count(), times.failed), (100, 10));
        for n in 1..=100 {
            times.add(class(n * SECOND), -1, -i64::from(n % 10 == 0));
        }
        assert_eq!(times, Times::default());
        assert_eq!(times.percentile(50), 0);
    }

    #[test]
    fn no_count_is_too_large_and_no_share_too_great() {
        let mut times = Times::default();
        for class in [3, 7, u16::MAX] {
            times.add(class, i64::MAX, 0);
            times.add(class, i64::MAX, 0);
        }
        assert_eq!(times.count(), u64::MAX);
        assert_eq!((times.percentile(50), times.percentile(1)), (length(7), length(3)));
        assert_eq!(times.percentile(1_000), times.percentile(100));
    }

    #[test]
    fn what_nobody_adds_to_is_not_copied() {
        let what = |of: &str| What { kind: Kind::Served, of: of.to_owned(), with: String::new() };
        let mut usual = Usual::default();
        usual.add(&what("shop"), 1, 1, 0);
        usual.add(&what("mes"), 1, 1, 0);
        let before = usual.clone();
        usual.add(&what("mes"), 2, 1, 0);
        let is_shared = |of: &str| Arc::ptr_eq(&usual.times[&what(of)], &before.times[&what(of)]);
        assert!(is_shared("shop") && !is_shared("mes"));
        assert_eq!(before.times[&what("mes")].count(), 1);
    }

    #[test]
    fn what_follows_is_usual_only_where_it_clearly_does() {
        let way = |to: &str, count| {
            let mut times = Times::default();
            times.add(class(HOUR), count, 0);
            (What { kind: Kind::Stage, of: "priced".to_owned(), with: to.to_owned() }, times)
        };
        let next = |ways: Vec<(What, Times)>| {
            let times = ways.into_iter().map(|(what, times)| (what, Arc::new(times))).collect();
            let usual = Usual { times, ..Usual::default() };
            usual.next("priced").map(|(stage, micros)| (stage.to_owned(), micros / MINUTE))
        };
        assert_eq!(next(vec![way("started", 19)]), None, "too few");
        assert_eq!(
            next(vec![way("started", 60), way("rejected", 40)]).map(|(stage, _)| stage).as_deref(),
            Some("started")
        );
        assert_eq!(next(vec![way("started", 50), way("rejected", 50)]), None);
        assert_eq!(next(vec![]), None);
    }
}
