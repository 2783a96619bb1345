//! Guesses and what turned out to be true → how far guesses of that kind can be believed.
//!
//! How a program hands work to its threads cannot be seen; what comes of it can. Wherever a key says what caused an
//! operation, the rules that look at threads and reading are asked too, and their answers are counted, for each process on its
//! own. Where others could be the cause as well, such a rule makes an edge only in a process in which it has been right.
//!
//! *Owns* the counts, each by a name that is also its name in the file of what was learned. *Must not know* operations, which
//! rule counts what.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::thresholds::{
    FULL, GAPS, PROOF, PROOF_OF_THE_USUAL, PROOF_OF_THE_USUAL_PER_WRONG, PROOF_PER_WRONG, REFUTED_LEAST,
    REFUTED_ONE_IN, SEVERAL_ONE_IN, SOON,
};

/// Declares the kinds of guesses and the counts of each, by name. Those `by_gap` have a count for each class of [`Gap`].
macro_rules! signals {
    (
        one { $($(#[$doc:meta])* $name:ident: $signal:ident,)* }
        by_gap { $($(#[$gap_doc:meta])* $gap_name:ident: $gap_signal:ident,)* }
    ) => {
        /// A kind of guess that is counted on its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Signal {
            $($(#[$doc])* $signal,)*
            $($(#[$gap_doc])* $gap_signal(Gap),)*
        }

        /// The counts of one process.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub(super) struct Trust {
            $(#[serde(skip_serializing_if = "Count::is_empty")] $name: Count,)*
            $(#[serde(skip_serializing_if = "are_empty")] $gap_name: [Count; Gap::COUNT],)*
        }

        impl Trust {
            fn of(&self, signal: Signal) -> Count {
                match signal {
                    $(Signal::$signal => self.$name,)*
                    $(Signal::$gap_signal(gap) => self.$gap_name[gap.class()],)*
                }
            }

            fn of_mut(&mut self, signal: Signal) -> &mut Count {
                match signal {
                    $(Signal::$signal => &mut self.$name,)*
                    $(Signal::$gap_signal(gap) => &mut self.$gap_name[gap.class()],)*
                }
            }

            fn counts(&self) -> impl Iterator<Item = Count> {
                [$(self.$name,)*].into_iter() $(.chain(self.$gap_name))*
            }
        }
    };
}

signals! {
    one {
        /// A task that waited for it answered the request.
        chain: Chain,
        /// The tasks that waited for it answered exactly one request that was open then.
        chain_ends: ChainEnds,
        /// A task that was made for the request works for it.
        chain_bound: ChainBound,
        /// What goes where a message asks for its reply is the reply.
        replies: Replies,
        /// What carries the trace ID of a request in flight is done for it.
        carried: Carried,
        /// What carries one trace ID that was made here is done for one request.
        made: Made,
        /// What has the content of a request around it is that request, passed on.
        forwarded: Forwarded,
        /// The thread serves one request.
        serving: Serving,
        /// The thread answered that request next.
        answers: Answers,
        /// The thread answered that request last and has read no other since.
        answered: Answered,
        /// The thread was begun by the one that served that request.
        begun: Begun,
        /// The thread that waited for it served that request, and the thread that wrote it writes all of its connection.
        awaited: Awaited,
        /// The same, but of the connection nothing was known yet.
        awaited_at_first: AwaitedAtFirst,
        /// The thread read it last, and nothing else was in flight.
        read_alone: ReadAlone,
        /// Work is done before its request is answered.
        in_flight: InFlight,
        /// What names an order is done before the request that names it is answered.
        named_in_flight: NamedInFlight,
        /// Once a request that names an order is answered, nothing that names it is begun for a while. Never counted as wrong: what is begun
        /// then is counted by `NamedInFlight`, where it is known that it was done for an answered request.
        rested: Rested,
        /// What names an order is done for a request or message that names it too.
        named: Named,
        /// Where an operation and its cause both show a fact, it is the same.
        facts: Facts,
        /// An answer is written by the thread that read the request.
        same_thread_answers: SameThreadAnswers,
        /// The answer to a call is read by the thread that made the call.
        same_thread_reads: SameThreadReads,
        /// Nothing else was in flight, in a process that does nothing unasked.
        alone: Alone,
        /// Of an order's requests, only one is worked on at a time.
        one_of_order: OneOfOrder,
    }
    by_gap {
        /// The thread read the request itself last, this long before, while others were in flight.
        read_request: ReadRequest,
        /// The thread read a response last, on another connection.
        read_response: ReadResponse,
        /// The thread read a response last, on the connection it then wrote on.
        read_and_reuse: ReadAndReuse,
    }
}

/// How long before an operation its thread had read something: one of [`Gap::COUNT`] classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap(u8);

impl Gap {
    const COUNT: usize = GAPS.len() + 1;

    pub(super) fn of(gap: Duration) -> Self {
        Self(GAPS.partition_point(|limit| *limit <= gap) as u8)
    }

    /// All classes, the shortest first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    fn class(self) -> usize {
        usize::from(self.0)
    }
}

/// What is known of one kind of guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) right: u32,
    pub(super) wrong: u32,
}

impl Count {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// So many right guesses were counted, and enough more for each wrong one.
    fn shows(self, proof: Proof) -> bool {
        self.right >= proof.right.saturating_add(self.wrong.saturating_mul(proof.per_wrong))
    }
}

fn are_empty(counts: &[Count; Gap::COUNT]) -> bool {
    counts.iter().all(Count::is_empty)
}

/// How often a kind of guess must have been right to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) right: u32,
    /// So many more for each wrong one.
    pub(super) per_wrong: u32,
}

impl Proof {
    /// For what programs may do or not.
    pub(super) const FULL: Self = Self { right: PROOF, per_wrong: PROOF_PER_WRONG };
    /// For what nearly every program does.
    pub(super) const USUAL: Self =
        Self { right: PROOF_OF_THE_USUAL, per_wrong: PROOF_OF_THE_USUAL_PER_WRONG };
}

impl Trust {
    /// Nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A process can have counted so.
    pub(super) fn is_possible(&self) -> bool {
        self.counts().all(|count| count.right.saturating_add(count.wrong) < FULL)
    }

    pub(super) fn count(&mut self, signal: Signal, right: bool) {
        let count = self.of_mut(signal);
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

    /// Enters what was counted before.
    pub(super) fn set(&mut self, signal: Signal, count: Count) {
        *self.of_mut(signal) = count;
    }

    /// It has been right often enough to be believed although something else could be the cause.
    pub(super) fn holds(&self, signal: Signal, proof: Proof) -> bool {
        self.of(signal).shows(proof)
    }

    /// It was never counted.
    pub(super) fn has_no(&self, signal: Signal) -> bool {
        self.of(signal).is_empty()
    }

    /// It has been wrong too often to be believed at all.
    pub(super) fn is_refuted(&self, signal: Signal) -> bool {
        let Count { right, wrong } = self.of(signal);
        wrong >= REFUTED_LEAST && wrong.saturating_mul(REFUTED_ONE_IN) > right
    }

    /// Several requests of one order are often worked on at once: where one of them is missing, another one names the order too.
    pub(super) fn has_several_of_order(&self) -> bool {
        let Count { right, wrong } = self.one_of_order;
        wrong > 0 && wrong.saturating_mul(SEVERAL_ONE_IN) > right
    }

    /// Work moves between threads: what one thread does in a row need not be of one request.
    pub(super) fn work_moves(&self) -> bool {
        self.is_refuted(Signal::SameThreadAnswers) || self.is_refuted(Signal::SameThreadReads)
    }

    /// Nothing is done for requests that have been answered.
    pub(super) fn ends_with_answer(&self) -> bool {
        self.holds(Signal::InFlight, Proof::FULL)
    }

    /// Work was seen to be done for requests that had been answered.
    pub(super) fn goes_on(&self) -> bool {
        self.in_flight.wrong > 0
    }

    /// What names an order was never seen to be done for a request that had been answered, so often: it was done before, or nothing was
    /// done after.
    pub(super) fn was_never_late(&self, seen: u32) -> bool {
        let counted = self.named_in_flight.right.saturating_add(self.rested.right);
        self.named_in_flight.wrong == 0 && counted >= seen
    }

    /// Nothing that names an order is done for requests that have been answered: work without a name, of a timer say,
    /// proves nothing about it.
    ///
    /// Some programs go on with a request after its answer, but not with each: so soon after an answer (`since`) that
    /// takes more proof.
    pub(super) fn names_before_answer(&self, since: Duration) -> bool {
        let right = if since < SOON { PROOF } else { PROOF_OF_THE_USUAL };
        self.named_in_flight.shows(Proof { right, ..Proof::USUAL })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Signal = Signal::ReadRequest(Gap(0));

    #[test]
    fn a_guess_is_believed_after_it_was_right_often_and_for_each_error_much_more_often() {
        let mut trust = Trust::default();
        let holds = |trust: &Trust| trust.holds(READ, Proof::FULL);
        assert!(!holds(&trust) && !trust.is_refuted(READ));
        (0..PROOF).for_each(|_| trust.count(READ, true));
        assert!(holds(&trust));
        assert!(!trust.holds(Signal::ReadRequest(Gap(1)), Proof::FULL), "another gap is another guess");
        trust.count(READ, false);
        assert!(!holds(&trust));
        (0..PROOF_PER_WRONG).for_each(|_| trust.count(READ, true));
        assert!(holds(&trust));
    }

    #[test]
    fn a_guess_is_refuted_by_more_than_a_few_errors() {
        let mut trust = Trust::default();
        trust.count(Signal::Serving, false);
        assert!(!trust.is_refuted(Signal::Serving), "one error may be the key's");
        trust.count(Signal::Serving, false);
        assert!(trust.is_refuted(Signal::Serving));
        (0..2 * REFUTED_ONE_IN).for_each(|_| trust.count(Signal::Serving, true));
        assert!(!trust.is_refuted(Signal::Serving));
    }

    #[test]
    fn classes_of_gaps_cover_all_times() {
        assert_eq!(Gap::of(Duration::ZERO), Gap(0));
        assert_eq!(Gap::of(Duration::MAX), Gap(5));
        assert_eq!(Gap::all().last(), Some(Gap(5)));
    }

    #[test]
    fn counts_are_written_by_name() {
        let mut trust = Trust::default();
        trust.count(Signal::Awaited, true);
        let text = serde_json::to_string(&trust).unwrap();
        assert_eq!(text, r#"{"awaited":{"right":1,"wrong":0}}"#);
        assert_eq!(serde_json::from_str::<Trust>(&text).unwrap(), trust);
        assert_eq!(serde_json::from_str::<Trust>(r#"{"of_another_version":7}"#).unwrap(), Trust::default());
    }
}
