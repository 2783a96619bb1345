//! A view of one operation → what each rule takes for its cause, how sure that is, and whether it is believed.
//!
//! *Owns* the table of the rules inside a process: in which order they are asked, their confidences, the proof that each needs, and
//! what each counts. [`decide`](super::decide) walks it to make an edge, and to learn from what keys say: a rule that stands in
//! it cannot be forgotten by either. One rule a file; a new one is a file and a row. *Must not know* how the table of operations is
//! filled.
//!
//! Confidences rank the rows; they are not measured rates. What was measured, with the proofs below: of 466,422 inferred edges of
//! a live run with work that no rule had been tried on, by all rows together, none is wrong, nor is one of 1,073,776 in replays.
//! The distance to 1 is for what those programs did not do, and the comment at each number says what that is.
//! `joining.min_confidence` cuts the table from below.

mod alone;
mod answers;
mod awaited;
mod begun;
mod carried;
pub(super) mod chain;
mod forwarded;
pub(super) mod reading;
mod reply;
mod serving;
pub(super) mod transaction;
pub(super) mod value;

use self::Needs::{NoRefutation, ProofIfContested, ProofIfWorkMoves, ProofOf, ProofOrEnds};
use self::Sure::{Alone, Both, Contested};
use super::table::conflict;
use super::thresholds::{PROOF_OF_THE_USUAL, PROOF_PER_WRONG, SEQUENTIAL_CALLS};
use super::trust::{Gap, Proof, Signal};
use super::view::View;
use crate::causality::rules::{Described, Row};
use crate::causality::{Confidence, Rule};
use crate::record::OpId;

/// What a rule takes for the cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    pub(super) cause: OpId,
    /// Something else could be the cause.
    pub(super) contested: bool,
}

/// One row of the table.
pub(super) struct Entry {
    judge: fn(&View<'_>) -> Option<Guess>,
    /// Under which name it makes edges.
    pub(super) rule: Rule,
    evidence: &'static str,
    sure: Sure,
    needs: Needs,
    counted: Counted,
    asked: Asked,
}

/// How sure a guess is.
#[derive(Clone, Copy)]
enum Sure {
    /// Such a guess is made only where nothing else could be the cause: it never chooses among several.
    Alone(f32),
    /// Such a guess is made only where something else could.
    Contested(f32),
    Both {
        alone: f32,
        contested: f32,
    },
}

/// When a guess is believed.
#[derive(Clone, Copy)]
enum Needs {
    /// Unless such guesses were wrong too often.
    NoRefutation,
    /// Once such guesses were right often enough; where nothing else could be the cause, unless they were wrong too often.
    ProofIfContested(Proof),
    /// Once such guesses were right often enough; in a process whose work stays on its threads, of a thread that does one thing
    /// after the other, unless they were wrong too often.
    ProofIfWorkMoves(Proof),
    /// Once such guesses were right often enough.
    ProofOf(Proof),
    /// The same, or, in a process whose bytes name no orders, once the ends of chains were where they must be so often.
    ProofOrEnds(Proof),
}

/// Chains are read, not guessed: a few show that they are read aright. One that leads elsewhere than keys do ends that, until some
/// thousands that are right, before it or after, make up for it.
const CHAIN_PROOF: Proof = Proof { right: PROOF_OF_THE_USUAL, per_wrong: PROOF_PER_WRONG };

/// Under which kind of guess it is counted whether it was right.
#[derive(Clone, Copy)]
enum Counted {
    As(Signal),
    /// By how long before the operation its thread had read something.
    ByGap(fn(Gap) -> Signal),
}

/// When a rule is asked.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    /// Before keys are, if this holds.
    BeforeKeys(fn(&View<'_>, &Guess) -> bool),
    /// Where keys do not tell the cause.
    AfterKeys,
    /// The same, once nothing else can become known.
    AtLast,
}

/// The rules that look at who did what when, in the order they are asked.
pub(super) const RULES: [Entry; 19] = [
    Entry {
        judge: reply::judge,
        rule: Rule::Message,
        evidence: "it answers that message: it goes where the message asks for it, with its correlation ID",
        // Nothing else has both.
        sure: Alone(0.99),
        needs: NoRefutation,
        counted: Counted::As(Signal::Replies),
        asked: Asked::BeforeKeys(reply::holds_before_keys),
    },
    Entry {
        judge: chain::awaited,
        rule: Rule::Chain,
        evidence: "tasks wait for it, one for another, of which one answered that request, by the process's memory at the write, or when the answer is read",
        // A fact of the program, as sure as the reading of its memory: of 29,000 such none was wrong (CPython).
        sure: Both { alone: 0.99, contested: 0.99 },
        needs: ProofOrEnds(CHAIN_PROOF),
        counted: Counted::As(Signal::Chain),
        asked: Asked::BeforeKeys(chain::holds_before_keys),
    },
    Entry {
        judge: serving::judge,
        rule: Rule::Thread,
        evidence: "the thread had read exactly one request that was still open, and never has several at once",
        // Most of what was measured. With others in flight, work may have been handed over unseen.
        sure: Both { alone: 0.99, contested: 0.95 },
        // To be asked before keys less will do: see `serving::holds_before_keys`.
        needs: ProofOf(Proof::FULL),
        counted: Counted::As(Signal::Serving),
        asked: Asked::BeforeKeys(serving::holds_before_keys),
    },
    Entry {
        judge: carried::passed_on,
        rule: Rule::Carried,
        evidence: "it carries the trace ID of exactly one request in flight in its process",
        // As a key; a program may use one trace for work of its own that goes on beside the request.
        sure: Both { alone: 0.97, contested: 0.95 },
        needs: NoRefutation,
        counted: Counted::As(Signal::Carried),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: carried::made,
        rule: Rule::Carried,
        evidence: "it carries the trace ID that another operation carries which that request caused, and nothing that came in",
        // One step longer, and the step is an edge that may be wrong.
        sure: Both { alone: 0.92, contested: 0.9 },
        // Whatever makes a trace for each request shows it in its first orders; a loop of its own may have one for all.
        needs: ProofIfContested(Proof::USUAL),
        counted: Counted::As(Signal::Made),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: forwarded::judge,
        rule: Rule::Forwarded,
        evidence: "it has the content of that request, which contains it in time",
        // Two requests of one content may be in flight, and one of them be answered from a cache.
        sure: Both { alone: 0.97, contested: 0.9 },
        needs: NoRefutation,
        counted: Counted::As(Signal::Forwarded),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: chain::bound,
        rule: Rule::Chain,
        evidence: "a task works on it that was made for that request: it led there before the answer",
        // One step longer: the task may do something else now that nobody waits.
        sure: Both { alone: 0.97, contested: 0.97 },
        needs: ProofOf(CHAIN_PROOF),
        counted: Counted::As(Signal::ChainBound),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: awaited::by_the_only_writer,
        rule: Rule::Thread,
        evidence: "the goroutine that waits for it had read that request, and one goroutine writes all of the connection",
        // Below `serving` by the chance that a channel on the stack is of another time; more of it where others wait too.
        sure: Both { alone: 0.95, contested: 0.9 },
        // Nearly every Go client works so. A program in which goroutines pool their channels shows it in its first orders.
        needs: ProofIfContested(Proof::USUAL),
        counted: Counted::As(Signal::Awaited),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: awaited::on_a_new_connection,
        rule: Rule::Thread,
        evidence: "the same, on a connection that nobody had written on",
        // The same evidence …
        sure: Both { alone: 0.95, contested: 0.9 },
        // … but the connection may yet turn out to be one that goroutines share.
        needs: ProofIfContested(Proof::FULL),
        counted: Counted::As(Signal::AwaitedAtFirst),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: begun::judge,
        rule: Rule::Thread,
        evidence: "its thread was begun by one that was serving that request",
        // Where others are in flight, the thread may be a pool's, that grew under this request and now works for another.
        sure: Both { alone: 0.95, contested: 0.85 },
        needs: ProofIfContested(Proof::FULL),
        counted: Counted::As(Signal::Begun),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: answers::next,
        rule: Rule::Thread,
        evidence: "its thread, which works on one thing at a time, next wrote the answer to that request",
        // Where others are in flight, the thread may have worked for one that another thread answered.
        sure: Both { alone: 0.95, contested: 0.85 },
        needs: ProofIfWorkMoves(Proof::FULL),
        counted: Counted::As(Signal::Answers),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: answers::last,
        rule: Rule::Thread,
        evidence: "its thread had answered that request last and had read no other since",
        // Less than while the request was in flight: the thread may have been handed something since.
        sure: Both { alone: 0.8, contested: 0.8 },
        needs: ProofIfWorkMoves(Proof::FULL),
        counted: Counted::As(Signal::Answered),
        asked: Asked::AtLast,
    },
    Entry {
        judge: reading::after_answer,
        rule: Rule::LastRead,
        evidence: "its thread had read that request last, which had just been answered, and nothing else was in flight",
        // The weakest evidence of all, just above the default of `joining.min_confidence`.
        sure: Alone(0.65),
        needs: NoRefutation,
        counted: Counted::As(Signal::ReadAlone),
        asked: Asked::AtLast,
    },
    Entry {
        judge: reading::request_alone,
        rule: Rule::LastRead,
        evidence: "its thread had read that request last, and nothing else was in flight",
        // As `begun` alone: only work that nobody asked for could come between.
        sure: Alone(0.95),
        needs: NoRefutation,
        counted: Counted::As(Signal::ReadAlone),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: reading::response_alone,
        rule: Rule::LastRead,
        evidence: "its thread had read the answer to a call of that request last, and nothing else was in flight",
        // One step longer than reading the request itself, and the step is an edge that may be wrong.
        sure: Alone(0.9),
        needs: NoRefutation,
        counted: Counted::As(Signal::ReadAlone),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: reading::request,
        rule: Rule::LastRead,
        evidence: "its thread had read that request last, while others were in flight",
        // The proof holds for the process, not for what it does today.
        sure: Contested(0.8),
        needs: ProofOf(Proof::FULL),
        counted: Counted::ByGap(Signal::ReadRequest),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: reading::response,
        rule: Rule::LastRead,
        evidence: "its thread had read the answer to a call of that request last, on another connection",
        // One step longer.
        sure: Contested(0.75),
        needs: ProofOf(Proof::FULL),
        counted: Counted::ByGap(Signal::ReadResponse),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: reading::reuse,
        rule: Rule::LastRead,
        evidence: "the same, on the same connection, while other connections were idle",
        // The same step; that other connections were idle keeps the pool's next waiter out.
        sure: Contested(0.75),
        needs: ProofOf(Proof::FULL),
        counted: Counted::ByGap(Signal::ReadAndReuse),
        asked: Asked::AfterKeys,
    },
    Entry {
        judge: alone::judge,
        rule: Rule::Alone,
        evidence: "that request was the only one in flight, in a process that was seen to do nothing unasked for a minute",
        // No thread speaks for it. Not measured: the loads of accuracy runs never rest for a minute.
        sure: Alone(0.85),
        needs: NoRefutation,
        counted: Counted::As(Signal::Alone),
        asked: Asked::AtLast,
    },
];

// Rows that are asked at places of their own, with keys and after them.

/// The protocol itself names the cause.
pub(super) const SETTLES: Row =
    Row::new(Rule::Message, 1.0, "the acknowledgement names the delivery by its tag");
/// A key is what a person would go by; it may be the number of something else.
pub(super) const VALUE: Row =
    Row::new(Rule::Value, 0.97, "it carries the order ID of exactly one request in flight in its process");
/// The answer to a request that is still open may name other orders.
pub(super) const VALUE_STILL_OPEN: Row = Row::new(Rule::Value, 0.9, "the same, of a request that hangs");
/// Another request of the order may be what was lost.
pub(super) const VALUE_NEAR_LOSS: Row = Row::new(Rule::Value, 0.7, "the same, around a loss");
/// Work after answers; another request of the order may have been the cause and not be known.
pub(super) const VALUE_ANSWERED: Row =
    Row::new(Rule::Value, 0.8, "the same, of a request that had just been answered");
/// The order is certain; which of its requests it was is told by facts that users configured for another purpose.
pub(super) const VALUE_BY_FACTS: Row =
    Row::new(Rule::Value, 0.9, "of several requests of its order, only one shows the same facts");
/// A request that is answered is seldom worked on, and this process was never seen to; …
pub(super) const VALUE_BESIDE_ANSWERED: Row = Row::new(
    Rule::Value,
    0.85,
    "the same, of the only request of its order in flight, in a process that was never seen to go on after an answer",
);
/// How the work came to this process is not seen.
pub(super) const VALUE_OF_KIN: Row = Row::new(
    Rule::Value,
    0.85,
    "it carries the order ID of exactly one message that another process of its service took, and its own is asked for nothing",
);
/// As sure as what decided the other statement, less the chance that the program uses one transaction for two requests.
pub(super) const TRANSACTION: Row = Row::new(
    Rule::Transaction,
    0.92,
    "it ran in one database transaction with an operation whose cause is known",
);

impl Entry {
    pub(super) fn judge(&self, view: &View<'_>) -> Option<Guess> {
        (self.judge)(view)
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked
    }

    pub(super) fn confidence(&self, guess: &Guess) -> Confidence {
        Confidence(match self.sure {
            Alone(only) | Contested(only) => only,
            Both { alone, contested } => {
                if guess.contested {
                    contested
                } else {
                    alone
                }
            }
        })
    }

    /// What it is counted as whether such a guess was right.
    pub(super) fn signal(&self, view: &View<'_>) -> Signal {
        match self.counted {
            Counted::As(signal) => signal,
            Counted::ByGap(by_gap) => by_gap(reading::gap(view)),
        }
    }

    /// The guess agrees with what the operation itself shows: with its key and facts, or, where keys leave several causes, with
    /// these (`among`).
    pub(super) fn agrees(&self, view: &View<'_>, guess: &Guess, among: &[OpId]) -> bool {
        if among.is_empty() {
            view.candidate(guess.cause)
                .is_some_and(|candidate| !conflict(view.op, candidate) && !view.differs(candidate))
        } else {
            among.contains(&guess.cause) && !matches!(self.sure, Alone(_))
        }
    }

    /// The guess goes by who did what when, and tasks say otherwise, or lead nowhere.
    pub(super) fn yields_to_chains(&self, view: &View<'_>, guess: &Guess) -> bool {
        matches!(self.rule, Rule::Thread | Rule::LastRead | Rule::Alone) && chain::forbids(view, guess.cause)
    }

    /// The process has shown that such a guess is right, or, where that is enough, not that it is wrong.
    pub(super) fn is_believed(&self, view: &View<'_>, guess: &Guess) -> bool {
        let Some(trust) = view.trust() else { return false };
        let signal = self.signal(view);
        match self.needs {
            NoRefutation => !trust.is_refuted(signal),
            ProofIfContested(proof) => {
                trust.holds(signal, proof) || (!guess.contested && !trust.is_refuted(signal))
            }
            ProofIfWorkMoves(proof) => {
                trust.holds(signal, proof)
                    || (!trust.is_refuted(signal) && !trust.work_moves() && does_one_thing_at_a_time(view))
            }
            ProofOf(proof) => trust.holds(signal, proof),
            ProofOrEnds(_) => chain::is_believed(view),
        }
    }
}

/// The thread had nothing else at hand, or has shown that it does one thing after the other; and it read its answer itself.
fn does_one_thing_at_a_time(view: &View<'_>) -> bool {
    let is_sequential = || view.thread().is_some_and(|thread| thread.sequential_calls >= SEQUENTIAL_CALLS);
    (!view.op.start.several_at_hand || is_sequential())
        && view.op.answered_by.is_none_or(|tid| tid == view.tid())
}

/// The table as data, in the order in which its rows are asked.
pub(in crate::causality) fn describe() -> impl Iterator<Item = Described> {
    let before_keys = |entry: &&Entry| matches!(entry.asked, Asked::BeforeKeys(_));
    let by_keys = [
        VALUE,
        VALUE_STILL_OPEN,
        VALUE_NEAR_LOSS,
        VALUE_ANSWERED,
        VALUE_BY_FACTS,
        VALUE_BESIDE_ANSWERED,
        VALUE_OF_KIN,
        TRANSACTION,
    ];
    let first = RULES.iter().filter(before_keys).map(Entry::describe);
    let last = RULES.iter().filter(move |entry| !before_keys(entry)).map(Entry::describe);
    let by_keys = by_keys.into_iter().map(|row| row.describe());
    std::iter::once(SETTLES.describe()).chain(first).chain(by_keys).chain(last)
}

impl Entry {
    fn describe(&self) -> Described {
        let (alone, contested) = match self.sure {
            Alone(alone) => (Some(alone), None),
            Contested(contested) => (None, Some(contested)),
            Both { alone, contested } => (Some(alone), Some(contested)),
        };
        let refuted = "none; not where such guesses were often wrong";
        let proof = match self.needs {
            NoRefutation => refuted.to_owned(),
            ProofOf(proof) => proof.describe(),
            ProofOrEnds(proof) => {
                let ends = format!("where nothing names an order: {}", Proof::FULL.describe());
                format!("{}; {ends}", proof.describe())
            }
            ProofIfContested(proof) => format!("where others could be the cause: {}", proof.describe()),
            ProofIfWorkMoves(proof) => format!("where work moves between threads: {}", proof.describe()),
        };
        Described {
            rule: self.rule,
            evidence: self.evidence,
            alone: alone.map(Confidence),
            contested: contested.map(Confidence),
            proof,
        }
    }
}

impl Proof {
    fn describe(self) -> String {
        format!("right {} times, and {} times more for each error", self.right, self.per_wrong)
    }
}
