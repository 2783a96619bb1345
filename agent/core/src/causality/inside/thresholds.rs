//! What the rules inside a process count and measure → the numbers they go by, each with its unit, its reason and the
//! measurement behind it.
//!
//! Where nothing was measured, the comment names what the number must exceed. "Replays" are recordings of `cargo xtask accuracy`
//! (services of 13 or 14 runtimes, 1 to 200 requests in flight) that were judged again. How sure a rule is stands in the table of
//! rules ([`super::rules`]). Bounds of memory are at the end: they decide nothing unless a process is far larger than usual.

use std::time::Duration;

// Time: how long what is known holds.

/// How long an operation that is over is remembered as a possible cause.
///
/// Twice the default of `joining.decide_within`: a cause has to be there when the last operation that it may have caused is
/// decided.
pub(super) const REMEMBER: Duration = Duration::from_secs(20);

/// How long an operation without evidence waits, after its end, for a request that becomes known late.
///
/// A connection that is older than the agent shows what it speaks some messages after it has spoken. Seen once in the reference
/// flow: the call was already traced back to a request that had just been answered. Not measured; it must exceed the time
/// between two messages of a busy connection, and every root is shown this much later.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long an operation waits, after its end, for its process to show that it does nothing for answered requests, where only that is
/// missing to know the cause.
///
/// A process shows it with each request that is answered, [`AFTER`] and [`GRACE`] later. Not measured; it must exceed both and
/// leave time for [`PROOF_BESIDE_ANSWERED`] orders of a busy service, and be less than `joining.decide_within`.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long after its answer a request may still be worked on, before keys have shown how long.
///
/// Not measured; it must exceed what programs do right after an answer (a mail, an audit row, a publish) on a machine that is so
/// busy that everything takes ten times as long.
pub(super) const AFTER: Duration = Duration::from_secs(1);

/// How long after an answer reading alone traces work back to the request.
///
/// Shorter than [`AFTER`], for reading is the weakest evidence there is: it covers a thread that answers first and writes a
/// moment later, not a job for later. Not measured; it must exceed the moments a thread waits for a processor (some 10 ms).
pub(super) const READ_AFTER_ANSWER: Duration = Duration::from_millis(100);

/// After this many observed delays we trust the longest one …
///
/// Not measured; 20 observations leave, at 95 %, fewer than one in seven beyond the longest, …
pub(super) const ENOUGH_AFTER: u32 = 20;

/// … and take a request to be finished after this many times the longest delay, …
///
/// … which the margin is there for.
pub(super) const AFTER_MARGIN: u32 = 4;

/// … but never sooner than this: scheduling noise on a busy machine.
pub(super) const AFTER_LEAST: Duration = Duration::from_millis(10);

/// Within this time after an answer, full proof is needed that work which names an order is done before answers; later less
/// will do ([`PROOF_OF_THE_USUAL`]).
///
/// Work that goes on after an answer mostly begins at once. It came when a replay showed edges missing where a client asks
/// several things about one order in quick succession: after the change, no wrong edge in 1,073,776.
pub(super) const SOON: Duration = Duration::from_millis(30);

/// How long a process must have had nothing to do, and have done nothing, before what it does is taken to be asked for.
///
/// Must exceed the period of what programs do by themselves: pollers, health checks and flushes run every second to every
/// minute. The loads of the accuracy runs never rest so long; the tests in virtual time do.
pub(super) const QUIET: Duration = Duration::from_secs(60);

/// A loss is found out when its stream goes on: operations that began this long before that are in doubt, …
///
/// Not measured; it must exceed the pause of a connection that is kept open between two uses. Counted from the operation to the
/// discovery.
pub(super) const NEAR_LOSS_AFTER: Duration = Duration::from_secs(5);

/// … and those that began this long after it.
///
/// Not measured; it must exceed how much later than the loss what was lost is still worked on: [`AFTER`], for the same reason.
pub(super) const NEAR_LOSS_BEFORE: Duration = Duration::from_secs(1);

/// Losses closer to each other than this count as one.
///
/// Far below [`NEAR_LOSS_BEFORE`], so that nothing changes but the length of the list.
pub(super) const LOSS_STEP: Duration = Duration::from_millis(100);

/// Within this time after a write that held messages of several threads, a thread still comes to write what it then finds
/// written.
///
/// In a replay of Java clients whose threads flush one connection, this was the last wrong edge of 531,593. 100 ms at first;
/// 40 ms gives up fewer edges (112 of 20,000 without a key at 100 ms) and still has none wrong. It must exceed the wait of a
/// thread for a processor.
pub(super) const INTERLEAVED_FOR: Duration = Duration::from_millis(40);

// Counts: how often a kind of guess must have been right.

/// Right guesses before a kind of guess is believed where something else could be the cause.
///
/// 12 at first, then 30: in replays of 13 runtimes the wrong edges that were left came from rules that were believed too early.
/// 300 without an error say, by the rule of three, that fewer than 1 in 100 are wrong, at 95 %; a live run with work that no rule
/// had been tried on had none wrong in 466,422 edges.
pub(super) const PROOF: u32 = 300;

/// How many more right guesses for each wrong one.
///
/// It keeps a kind of guess below 0.025 % of errors; promised is 0.1 %.
pub(super) const PROOF_PER_WRONG: u32 = 4000;

/// The same for what nearly every program does: one that does otherwise shows it in its first few orders.
///
/// Small, so that a service has its edges after some orders instead of some hundreds. Not measured on its own; the replays with
/// it have no wrong edge in 1,073,776.
pub(super) const PROOF_OF_THE_USUAL: u32 = 6;

/// Work that names an order, all of it done before the answer, and answers after which nothing that names the order was done, after which a statement beside an answered request and an open one of its
/// order is the open one's; a single one that was not ends it.
///
/// With 6, a service that goes on after some of its answers had one statement joined to the wrong of two requests of its order in its
/// first 300 operations (asyncio, 30 November 2026). By the rule of three, 50 leave fewer than 6 % that are done later.
pub(super) const PROOF_BESIDE_ANSWERED: u32 = 50;

/// How many more for each wrong one: 0.25 %, for keys themselves are at times those of another order (a list of them, say).
pub(super) const PROOF_OF_THE_USUAL_PER_WRONG: u32 = 400;

/// A kind of guess is refuted when more than one in this many is wrong …
///
/// 2 %: not measured; it must exceed how often keys themselves are wrong (0.25 % are allowed for), and be far below the errors of
/// a program in which work moves between threads.
pub(super) const REFUTED_ONE_IN: u32 = 50;

/// … and at least so many: one error may be the key's.
pub(super) const REFUTED_LEAST: u32 = 2;

/// Several requests of one order at once are usual when they are more than one in this many operations with a key.
///
/// 0.5 %. Under overload, 10 of 7,686 edges of Go services were wrong because a request was lost with its connection while
/// another one of its order was seen. It must be below the share of such orders in a service where they are usual.
pub(super) const SEVERAL_ONE_IN: u32 = 200;

/// Calls for which a thread has waited, with other work at hand, before it is taken to do one thing after the other.
///
/// An event loop that has just begun has not been seen with two calls at once: a service of Node.js took one of two messages of
/// an order for the other (3 edges, 0.19 %). With eight, three recordings of 14 runtimes have 1 wrong edge in 617,645.
pub(super) const SEQUENTIAL_CALLS: u32 = 8;

/// From this many on, right and wrong counts are halved: programs change.
///
/// Must exceed [`PROOF`] and [`PROOF_PER_WRONG`] by far, so that one error does not forbid a kind of guess for good.
pub(super) const FULL: u32 = 20_000;

/// How long before an operation its thread had read something, in classes that are counted each on their own.
///
/// The longer ago, the more likely it has turned to something else meanwhile; how likely, each process shows for itself. Not
/// measured; half decades from a hand-over inside a process (0.1 ms) to a wait for a processor (10 ms).
pub(super) const GAPS: [Duration; 5] = [
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
];

// Bounds of memory.

/// Steps from cause to cause that are followed to find an order: as many as services call each other in a row, and twice that.
pub(super) const MAX_STEPS: usize = 16;
/// Entries of one list that are looked at for one decision (requests without a key: the latest of [`MAX_UNNAMED`]): it bounds
/// its time.
pub(super) const MAX_LOOKED_AT: usize = 128;
/// Requests of one order that are passed over for one decision, most of which came after the operation: another bound of its time.
pub(super) const MAX_NAMED: usize = 1024;
/// Requests without a key remembered per process.
pub(super) const MAX_UNNAMED: usize = 1024;
/// Waiters of one operation from which on those that no longer wait are looked for.
pub(super) const CROWD: usize = 64;
/// Operations begun that are remembered per thread.
pub(super) const MAX_BEGUN: usize = 64;
/// Answers remembered per thread: those of [`REMEMBER`] at a dozen a second, and of less time on a busier thread.
pub(super) const MAX_ANSWERS: usize = 256;
/// Acts remembered per thread: what it can do between a call and its answer and still not be seen to do.
pub(super) const MAX_ACTS: usize = 16;
/// Work after answers that waits to be counted, per process.
pub(super) const MAX_AFTERMATH: usize = 256;
/// Losses remembered per process: at one each [`LOSS_STEP`], those of 25 s, more than a decision looks back.
pub(super) const MAX_LOSSES: usize = 256;
/// Writes of several threads remembered per process.
pub(super) const MAX_INTERLEAVED: usize = 1024;
/// Causes across the wire and through messages remembered: as many as there are ends that wait for their other end.
pub(super) const MAX_LINKS: usize = 57_344;
/// Open connections that are not read, of all processes: as many as connections are known at once. One that is forgotten never ends
/// for its process, which costs joins and makes none wrong.
pub(super) const MAX_UNREAD: usize = 65_536;
/// Processes from which on idle ones are forgotten.
pub(super) const MAX_PROCESSES: usize = 16_384;
/// Threads remembered per process.
pub(super) const MAX_THREADS: usize = 4096;
