//! Processes that were met → what the kernel is told of the runtime in each, so that it can follow who waits for whom.
//!
//! ```text
//!   first connection of a process ─▶ its maps and files ─▶ symbols ─▶ its memory ─▶ Runtime ─▶ the kernel's map
//! ```
//!
//! *Owns* when a process is looked at, how often again, and when it is left alone for good. *Must not know* how the kernel
//! walks, nor what is made of a chain.
//!
//! Everything is read, nothing is stopped, written or probed. A process is looked at on a thread of its own, for reading
//! files takes its time. Meanwhile it may become another program, or its number another process's: an answer counts only for the
//! question that is open. Where anything is not as it must be, the process has no chains, and the cause is counted.

mod memory;
mod node;
mod python;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use spoor_common::chain::Runtime;
use spoor_common::limits::RUNTIMES;
use spoor_core::bounded::Bounded;
use spoor_core::record::{ProcessEventKind, Record, Tgid};
use spoor_core::time::BootTime;

pub use memory::ProcessMemory;

/// Questions and answers that wait.
const QUEUE: usize = 1024;
/// Processes remembered: those that have no runtime that is known are not looked at for each of their connections.
const MAX_PROCESSES: usize = 16_384;
/// A program that has not loaded all of its runtime when it first speaks, or is just about to, is looked at again so long afterwards.
const AGAIN: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(300),
];
/// Chains of one process from which on it is judged by how many of them broke, …
const JUDGED_FROM: u64 = 1000;
/// … which may be one in so many. A broken one is a mistake in what is known of the runtime, or a page that was away.
const BROKEN_ONE_IN: u64 = 1000;

/// Why a process has no chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no runtime whose tasks can be followed")]
    Unknown,
    #[error("a version of its runtime that is not known")]
    Version,
    #[error("its memory is not laid out as its version says")]
    Layout,
    #[error("its runtime has no tasks yet")]
    NotYet,
    #[error("the process is gone")]
    Gone,
    #[error("the system does not let its memory be read")]
    Denied,
    #[error("too many of its chains broke")]
    Broken,
    #[error("as many processes as can be are followed")]
    Full,
}

impl Refusal {
    /// All, in the order of their names in metrics.
    pub const ALL: [Self; 8] = [
        Self::Broken,
        Self::Denied,
        Self::Full,
        Self::Gone,
        Self::Layout,
        Self::NotYet,
        Self::Unknown,
        Self::Version,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Version => "version",
            Self::Layout => "layout",
            Self::NotYet => "not_yet",
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Broken => "broken",
            Self::Full => "full",
        }
    }
}

/// What became of processes, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Processes whose tasks are followed now.
    pub followed: u64,
    /// Processes that were refused so far, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Questions that had no place.
    pub crowded: u64,
}

/// What the kernel is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Follow(Tgid, Box<Runtime>),
    /// The process is another one by now, or its chains break.
    Leave(Tgid),
}

/// What the thread is asked: the runtime of a process that had a number at a moment.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// No two have the same.
    number: u64,
    tgid: Tgid,
    at: BootTime,
}

type Answer = (Question, Result<Runtime, Refusal>);

/// What is known of one process.
#[derive(Clone, Copy, Debug)]
enum State {
    /// It is being looked at, by the question of this number, for that many times.
    Asked {
        question: u64,
        times: usize,
    },
    Followed {
        chains: u64,
        broken: u64,
    },
    Refused,
}

/// Looks for runtimes in the processes that records name.
#[derive(Debug)]
pub struct Seeker {
    ask: SyncSender<Question>,
    found: Receiver<Answer>,
    /// Questions so far: the number of the last one.
    asked: u64,
    known: Bounded<Tgid, State>,
    /// Questions to be asked again, in the order of time.
    again: VecDeque<(Instant, Question)>,
    orders: VecDeque<Order>,
    totals: Totals,
}

impl Seeker {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let (seeker, questions, answers) = Self::new();
        std::thread::Builder::new()
            .name("spoor-chains".to_owned())
            .spawn(move || serve(&questions, &answers))?;
        Ok(seeker)
    }

    /// And what its thread works with.
    fn new() -> (Self, Receiver<Question>, SyncSender<Answer>) {
        let (ask, questions) = sync_channel(QUEUE);
        let (answers, found) = sync_channel(QUEUE);
        let seeker = Self {
            ask,
            found,
            asked: 0,
            known: Bounded::new(MAX_PROCESSES),
            again: VecDeque::new(),
            orders: VecDeque::new(),
            totals: Totals::default(),
        };
        (seeker, questions, answers)
    }

    /// Looks at a record of a process that is traced.
    pub fn see(&mut self, record: &Record) {
        match record {
            Record::Conn(conn) => self.meet(conn.thread.tgid, conn.at),
            Record::Process(event) => match event.kind {
                ProcessEventKind::Exec | ProcessEventKind::Exit => self.forget(event.tgid),
                ProcessEventKind::Fork { .. } => self.forget(event.tgid),
                ProcessEventKind::Thread { .. } => {}
            },
            Record::Chain(chain) => self.judge(chain.thread.tgid, chain.is_broken()),
            Record::Clock(_)
            | Record::Data(_)
            | Record::Close(_)
            | Record::ProcessInfo(_)
            | Record::Lost(_) => {}
        }
    }

    /// What the kernel is to be told next.
    pub fn poll(&mut self, now: Instant) -> Option<Order> {
        while let Some((_, question)) = self.again.pop_front_if(|(due, _)| *due <= now) {
            if self.times(question).is_some() {
                self.ask(question);
            }
        }
        while let Ok((question, found)) = self.found.try_recv() {
            self.answered(question, found, now);
        }
        self.orders.pop_front()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn meet(&mut self, tgid: Tgid, at: BootTime) {
        if tgid == Tgid::default() || self.known.contains_key(&tgid) {
            return;
        }
        self.asked += 1;
        let question = Question { number: self.asked, tgid, at };
        let asked = State::Asked { question: question.number, times: 0 };
        if let Some((oldest, State::Followed { .. })) = self.known.insert(tgid, asked) {
            self.totals.followed -= 1;
            self.orders.push_back(Order::Leave(oldest));
        }
        self.ask(question);
    }

    fn ask(&mut self, question: Question) {
        if self.ask.try_send(question).is_err() {
            self.totals.crowded += 1;
            self.known.remove(&question.tgid);
        }
    }

    /// How often a question was answered with nothing yet. `None`: it is not open any more. The process ended meanwhile, or became
    /// another program, of which another question may be open.
    fn times(&self, of: Question) -> Option<usize> {
        match self.known.get(&of.tgid) {
            Some(State::Asked { question, times }) if *question == of.number => Some(*times),
            _ => None,
        }
    }

    fn answered(&mut self, question: Question, found: Result<Runtime, Refusal>, now: Instant) {
        let Some(times) = self.times(question) else { return };
        let tgid = question.tgid;
        match found {
            Ok(_) if self.totals.followed >= RUNTIMES as u64 => self.refuse(tgid, Refusal::Full),
            Ok(runtime) => {
                self.known.insert(tgid, State::Followed { chains: 0, broken: 0 });
                self.totals.followed += 1;
                self.orders.push_back(Order::Follow(tgid, Box::new(runtime)));
                tracing::info!("tasks of process {tgid} are followed");
            }
            // What is just being set up can look as if it were laid out otherwise.
            Err(Refusal::NotYet | Refusal::Layout) if times < AGAIN.len() => {
                self.known.insert(tgid, State::Asked { question: question.number, times: times + 1 });
                let after = AGAIN.get(times).copied().unwrap_or_default();
                let due = now + after;
                let place = self.again.partition_point(|(earlier, _)| *earlier <= due);
                self.again.insert(place, (due, question));
            }
            Err(refusal) => self.refuse(tgid, refusal),
        }
    }

    fn refuse(&mut self, tgid: Tgid, refusal: Refusal) {
        self.known.insert(tgid, State::Refused);
        if let Some(total) = Refusal::ALL
            .iter()
            .position(|other| *other == refusal)
            .and_then(|at| self.totals.refused.get_mut(at))
        {
            *total += 1;
        }
        match refusal {
            Refusal::Unknown | Refusal::Gone => {}
            Refusal::NotYet => tracing::debug!("process {tgid} has no chains: {refusal}"),
            _ => tracing::info!("process {tgid} has no chains: {refusal}"),
        }
    }

    fn judge(&mut self, tgid: Tgid, is_broken: bool) {
        let Some(State::Followed { chains, broken }) = self.known.get_mut(&tgid) else { return };
        *chains += 1;
        *broken += u64::from(is_broken);
        if *chains >= JUDGED_FROM && *broken * BROKEN_ONE_IN > *chains {
            self.totals.followed -= 1;
            self.orders.push_back(Order::Leave(tgid));
            self.refuse(tgid, Refusal::Broken);
        }
    }

    fn forget(&mut self, tgid: Tgid) {
        if let Some(State::Followed { .. }) = self.known.remove(&tgid) {
            self.totals.followed -= 1;
            self.orders.push_back(Order::Leave(tgid));
        }
    }
}

/// The thread: one process after the other.
fn serve(questions: &Receiver<Question>, answers: &SyncSender<Answer>) {
    for question in questions {
        if answers.send((question, find(question.tgid, question.at))).is_err() {
            return;
        }
    }
}

/// The runtime in a process that had this number at a moment.
pub fn find(tgid: Tgid, at: BootTime) -> Result<Runtime, Refusal> {
    if cfg!(not(target_arch = "x86_64")) {
        // Where a thread's own variables lie is known of one architecture only.
        return Err(Refusal::Unknown);
    }
    let memory = ProcessMemory::open(tgid, at)?;
    match python::find(&memory) {
        Err(Refusal::Unknown) => node::find(&memory).map(Runtime::Node),
        found => found.map(Runtime::Python),
    }
}
