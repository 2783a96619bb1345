//! Guesses and what turned out to be true in, how far guesses of that kind can be believed out.
//!
//! How a program hands work to its threads cannot be seen; what comes of it can. Wherever a key says what caused an
//! operation, the rules that look at threads and reading are asked too, and their answers counted, for each process on its
//! own. Where others could be the cause as well, such a rule makes an edge only in a process in which it has been right.
//!
//! *Owns* the counts. *Must not know* operations.

use crate::record::BootNs;

/// A kind of guess that is counted on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The thread serves one request.
    Serving,
    /// The thread answered that request next.
    Answers,
    /// The thread answered that request last and has read no other since.
    Answered,
    /// The thread was begun by the one that served that request.
    Begun,
    /// The thread that waited for it served that request, and the thread that wrote it writes all of its connection.
    Awaited,
    /// The same, but of the connection nothing was known yet.
    AwaitedAtFirst,
    /// The thread read it last, and nothing else was in flight.
    ReadAlone,
    /// The thread read the request itself last, this long before, while others were in flight.
    ReadRequest(Gap),
    /// The thread read a response last, on another connection.
    ReadResponse(Gap),
    /// The thread read a response last, on the connection it then wrote on.
    ReadAndReuse(Gap),
    /// Work is done before its request is answered.
    InFlight,
    /// What names an order is done before the request that names it is answered.
    NamedInFlight,
    /// What names an order is done for a request or message that names it too.
    Named,
    /// Where an operation and its cause both show a fact, it is the same.
    Facts,
    /// An answer is written by the thread that read the request.
    SameThreadAnswers,
    /// The answer to a call is read by the thread that made the call.
    SameThreadReads,
    /// Nothing else was in flight, in a process that does nothing unasked.
    Alone,
    /// Of an order's requests, only one is worked on at a time.
    OneOfOrder,
}

/// How long before an operation its thread had read something: one of [`Gap::COUNT`] classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap(u8);

impl Gap {
    const LIMITS_NS: [u64; 5] = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
    const COUNT: usize = Self::LIMITS_NS.len() + 1;

    pub(super) fn of(ns: BootNs) -> Self {
        Self(Self::LIMITS_NS.partition_point(|limit| *limit <= ns) as u8)
    }
}

/// What is known of one kind of guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) right: u32,
    pub(super) wrong: u32,
}

/// From this many on, both counts are halved: programs change.
const FULL: u32 = 20_000;
/// Right guesses before a kind of guess is believed, and how many more for each wrong one.
pub(super) const PROOF: u32 = 300;
/// Fewer will do for what nearly every program does; one that does otherwise shows it soon.
pub(super) const PROOF_OF_THE_USUAL: u32 = 6;
/// Work that goes on after an answer mostly begins within this time.
pub(super) const SOON_NS: BootNs = 30_000_000;
const PROOF_PER_WRONG: u32 = 4000;
const PROOF_OF_THE_USUAL_PER_WRONG: u32 = 400;
/// Several requests of one order at once are usual when they are more than one in this many.
const SEVERAL_ONE_IN: u32 = 200;
/// A kind of guess is refuted when more than one in this many is wrong, and at least two.
const REFUTED_ONE_IN: u32 = 50;

/// The counts of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    counts: [Count; SIGNALS],
}

/// Kinds of guesses.
const SIGNALS: usize = 15 + 3 * Gap::COUNT;

impl Default for Proof {
    fn default() -> Self {
        Self { counts: [Count::default(); SIGNALS] }
    }
}

impl Proof {
    /// All counts, in an order that is part of what is handed to the next agent (`learned`).
    pub(super) fn counts(&self) -> impl Iterator<Item = Count> {
        self.counts.iter().copied()
    }

    /// Nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Goes on from such counts. `None`: no process can have them.
    pub(super) fn resumed(counts: impl Iterator<Item = Count>) -> Option<Self> {
        let counts: Vec<Count> = counts.take(SIGNALS + 1).collect();
        let is_possible = |count: &Count| count.right.saturating_add(count.wrong) < FULL;
        let all = counts.iter().all(is_possible).then_some(counts)?;
        Some(Self { counts: all.try_into().ok()? })
    }

    pub(super) fn count(&mut self, signal: Signal, right: bool) {
        let count = &mut self.counts[signal.index()];
        if right {
            count.right += 1;
        } else {
            count.wrong += 1;
        }
        if count.right + count.wrong >= FULL {
            count.right /= 2;
            count.wrong /= 2;
        }
    }

    /// It has been right often enough to be believed although something else could be the cause.
    pub(super) fn holds(&self, signal: Signal) -> bool {
        let Count { right, wrong } = self.counts[signal.index()];
        let (proof, per_wrong) = match signal {
            Signal::Named | Signal::Awaited => (PROOF_OF_THE_USUAL, PROOF_OF_THE_USUAL_PER_WRONG),
            _ => (PROOF, PROOF_PER_WRONG),
        };
        right >= proof + wrong.saturating_mul(per_wrong)
    }

    /// It has been wrong too often to be believed at all.
    pub(super) fn is_refuted(&self, signal: Signal) -> bool {
        let Count { right, wrong } = self.counts[signal.index()];
        wrong >= 2 && wrong.saturating_mul(REFUTED_ONE_IN) > right
    }

    /// Several requests of one order are often worked on at once: where one of them is missing, another one names the order too.
    pub(super) fn has_several_of_order(&self) -> bool {
        let Count { right, wrong } = self.counts[Signal::OneOfOrder.index()];
        wrong > 0 && wrong.saturating_mul(SEVERAL_ONE_IN) > right
    }

    /// Work moves between threads: what one thread does in a row need not be of one request.
    pub(super) fn work_moves(&self) -> bool {
        self.is_refuted(Signal::SameThreadAnswers) || self.is_refuted(Signal::SameThreadReads)
    }

    /// Nothing is done for requests that have been answered.
    pub(super) fn ends_with_answer(&self) -> bool {
        self.holds(Signal::InFlight)
    }

    /// Work was seen to be done for requests that had been answered.
    pub(super) fn goes_on(&self) -> bool {
        self.counts[Signal::InFlight.index()].wrong > 0
    }

    /// Nothing that names an order is done for requests that have been answered: work without a name, of a timer say,
    /// proves nothing about it.
    ///
    /// Some programs go on with a request after its answer, but not with each: so soon after an answer (`since_ns`) that
    /// takes more proof.
    pub(super) fn names_before_answer(&self, since_ns: BootNs) -> bool {
        let Count { right, wrong } = self.counts[Signal::NamedInFlight.index()];
        let proof = if since_ns < SOON_NS { PROOF } else { PROOF_OF_THE_USUAL };
        right >= proof + wrong.saturating_mul(PROOF_OF_THE_USUAL_PER_WRONG)
    }
}

impl Signal {
    fn index(self) -> usize {
        match self {
            Signal::Serving => 0,
            Signal::Answers => 1,
            Signal::Answered => 2,
            Signal::ReadAlone => 3,
            Signal::InFlight => 4,
            Signal::SameThreadAnswers => 5,
            Signal::SameThreadReads => 6,
            Signal::Named => 7,
            Signal::NamedInFlight => 8,
            Signal::Facts => 9,
            Signal::Begun => 10,
            Signal::Alone => 11,
            Signal::OneOfOrder => 12,
            Signal::Awaited => 13,
            Signal::AwaitedAtFirst => 14,
            Signal::ReadRequest(gap) => 15 + usize::from(gap.0),
            Signal::ReadResponse(gap) => 15 + Gap::COUNT + usize::from(gap.0),
            Signal::ReadAndReuse(gap) => 15 + 2 * Gap::COUNT + usize::from(gap.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Signal = Signal::ReadRequest(Gap(0));

    #[test]
    fn a_guess_is_believed_after_it_was_right_often_and_for_each_error_much_more_often() {
        let mut proof = Proof::default();
        assert!(!proof.holds(READ) && !proof.is_refuted(READ));
        (0..PROOF).for_each(|_| proof.count(READ, true));
        assert!(proof.holds(READ));
        assert!(!proof.holds(Signal::ReadRequest(Gap(1))), "another gap is another guess");
        proof.count(READ, false);
        assert!(!proof.holds(READ));
        (0..PROOF_PER_WRONG).for_each(|_| proof.count(READ, true));
        assert!(proof.holds(READ));
    }

    #[test]
    fn a_guess_is_refuted_by_more_than_a_few_errors() {
        let mut proof = Proof::default();
        proof.count(Signal::Serving, false);
        assert!(!proof.is_refuted(Signal::Serving), "one error may be the key's");
        proof.count(Signal::Serving, false);
        assert!(proof.is_refuted(Signal::Serving));
        (0..2 * REFUTED_ONE_IN).for_each(|_| proof.count(Signal::Serving, true));
        assert!(!proof.is_refuted(Signal::Serving));
    }

    #[test]
    fn every_signal_has_a_count_of_its_own() {
        let gaps = || (0..Gap::COUNT as u8).map(Gap);
        let mut signals = vec![
            Signal::Serving,
            Signal::Answers,
            Signal::Answered,
            Signal::ReadAlone,
            Signal::InFlight,
            Signal::SameThreadAnswers,
            Signal::SameThreadReads,
            Signal::Named,
            Signal::NamedInFlight,
            Signal::Facts,
            Signal::Begun,
            Signal::Alone,
            Signal::OneOfOrder,
            Signal::Awaited,
            Signal::AwaitedAtFirst,
        ];
        signals.extend(gaps().map(Signal::ReadRequest));
        signals.extend(gaps().map(Signal::ReadResponse));
        signals.extend(gaps().map(Signal::ReadAndReuse));
        let mut indices: Vec<usize> = signals.iter().map(|signal| signal.index()).collect();
        indices.sort_unstable();
        let all: Vec<usize> = (0..SIGNALS).collect();
        assert_eq!(indices, all);
        assert_eq!(Gap::of(0), Gap(0));
        assert_eq!(Gap::of(u64::MAX), Gap(5));
    }
}
