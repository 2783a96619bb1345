//! The memory of traced processes → secrets of their TLS connections, on a thread of its own.
//!
//! ```text
//!   Wanted ─▶ exact places of earlier secrets ─▶ near the last one ─▶ everything, the fewest candidates first ─▶ Known
//! ```
//!
//! *Owns* which process is read when, and that it costs the machine little. *Must not know* what makes bytes a secret: the core's
//! [`Search`] tells.
//!
//! Only processes that are asked for are read, and only such are asked for as are traced: the selection comes first.
//! One process is read at a time, a piece at a time, and after a millisecond of reading there is a pause as long: readers hold a
//! lock that the process needs for `mmap`.
//!
//! [`Search`]: spoor_core::tls::search::Search

mod jobs;
pub(crate) mod objects;
mod pace;
mod places;
mod process;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use spoor_core::conn::{Unwanted, Wanted};
use spoor_core::record::Tgid;
use spoor_core::tls::Known;
use spoor_core::tls::search::{Effort, Search, Shape};
use tokio::sync::mpsc;

use self::objects::Plan;
use crate::capture::look::Copied;
use worker::Worker;

/// Questions and answers that wait.
const QUEUE: usize = 4096;
/// Bytes of records that questions hold, waiting or searched for: as many as 300 connections with six full records of each direction.
const MAX_HELD: u64 = 64 << 20;

/// What the search may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one core, on average.
    pub cpu_percent: u32,
    /// Bytes of one process that are read for one search.
    pub max_bytes: u64,
}

/// What happened, for metrics.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections asked for.
    pub asked: AtomicU64,
    /// Secrets found, and those of them that were in copies of what stacks point to.
    pub found: AtomicU64,
    pub copied: AtomicU64,
    /// Connections whose secret was not found.
    pub not_found: AtomicU64,
    /// Connections of processes that were gone, or could not be read.
    pub gone: AtomicU64,
    pub denied: AtomicU64,
    /// Connections that had no place.
    pub crowded: AtomicU64,
    pub bytes: AtomicU64,
    pub candidates: AtomicU64,
    pub cpu_ns: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

#[derive(Debug)]
enum Question {
    /// With the room that it takes.
    Wanted(Wanted, Room),
    Unwanted(Unwanted),
    Copied(Copied, Room),
}

/// What comes of looking.
#[derive(Debug)]
pub enum Answer {
    Known(Known),
    /// What is to be copied of a process from now on.
    Look(Tgid, Plan),
}

/// Bytes that a question holds, given back when it goes.
#[derive(Debug)]
struct Room {
    held: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    /// `None`: there is none.
    fn take(held: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        let room = Self { held: held.clone(), bytes };
        // Given back at once where it was too much.
        (held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= MAX_HELD).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Looks for secrets.
#[derive(Debug)]
pub struct Seeker {
    questions: Option<SyncSender<Question>>,
    held: Arc<AtomicU64>,
    found: mpsc::Receiver<Answer>,
    totals: Arc<Totals>,
    thread: Option<JoinHandle<()>>,
}

impl Seeker {
    /// Starts the thread. It counts on where `totals` are.
    pub fn start(limits: Limits, totals: Arc<Totals>) -> std::io::Result<Self> {
        let (asked, questions) = sync_channel(QUEUE);
        let (answers, found) = mpsc::channel(QUEUE);
        let worker = Worker::new(limits, answers, totals.clone());
        let thread = std::thread::Builder::new()
            .name("spoor-secrets".to_owned())
            .spawn(move || worker.run(&questions))?;
        Ok(Self { questions: Some(asked), held: Arc::default(), found, totals, thread: Some(thread) })
    }

    /// Asks for the secrets of a connection. Never waits: what has no room is asked again with a later record.
    pub fn ask(&self, wanted: Wanted) {
        let room = Room::take(&self.held, wanted.proof.held() as u64);
        let question = room.map(|room| Question::Wanted(wanted, room));
        let is_taken = self
            .questions
            .as_ref()
            .zip(question)
            .is_some_and(|(queue, question)| queue.try_send(question).is_ok());
        if !is_taken {
            add(&self.totals.crowded, 1);
        }
    }

    /// A connection's secret is hardly to be found any more, or need not be. What has no room is looked for a little longer.
    pub fn need_not(&self, unwanted: Unwanted) {
        if let Some(queue) = &self.questions {
            let _ = queue.try_send(Question::Unwanted(unwanted));
        }
    }

    /// Hands over a copy of what a stack pointed to. What has no room is wiped.
    pub fn hand(&self, copied: Copied) {
        if let Some(queue) = &self.questions
            && let Some(room) = Room::take(&self.held, copied.bytes.len() as u64)
        {
            let _ = queue.try_send(Question::Copied(copied, room));
        }
    }

    /// The next answer. Never, when the thread has ended.
    pub async fn next(&mut self) -> Answer {
        match self.found.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// The next answer, if there is one.
    pub fn poll(&mut self) -> Option<Answer> {
        self.found.try_recv().ok()
    }
}

impl Drop for Seeker {
    fn drop(&mut self) {
        // The thread looks whether anybody hears it after every piece.
        self.questions = None;
        self.found.close();
        if let Some(thread) = self.thread.take() {
            // It wipes what it holds.
            let _ = thread.join();
        }
    }
}

/// Tries every place of a short piece that lies at an address.
fn scan(
    search: &mut Search,
    piece: &[u8],
    (address, shape): (u64, Shape),
    found: &mut impl FnMut(u64, Known),
) {
    let mut from = 0;
    while let Some(rest) = search.scan(piece, address, from, (shape, Effort::Near), found) {
        from = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_take_a_bounded_number_of_bytes() {
        let held = Arc::default();
        let first = Room::take(&held, MAX_HELD - 10).expect("there is room");
        assert!(Room::take(&held, 11).is_none());
        let second = Room::take(&held, 10).expect("what was refused takes no room");
        drop(first);
        assert!(Room::take(&held, MAX_HELD - 10).is_some());
        drop(second);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
