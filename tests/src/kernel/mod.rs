//! The live kernel under test: a scenario of the trap program → what the probes made of it.
//!
//! *Owns* a recording agent on a thread of its own; the trap program is in `trap`, the comparison of both in
//! `streams`.
//!
//! The trap must be another process: the agent leaves its own sockets out.

mod cgroup;
mod streams;
mod trap;

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use self::cgroup::Cgroup;
pub use self::streams::{Stream, check_streams, check_streams_from, check_wire, stream};
pub use self::trap::{Facts, Moved, Trap, Way, pattern, run, trap_path};
use crate::skip::skip;
use spoor::capture::load::Totals;
use spoor::capture::verdict::Verdict;
use spoor::capture::{CaptureError, Options};
use spoor::source::live::Live;
use spoor_core::record::{Close, Conn, ConnId, Data, Record};

/// Longest wait for something that must happen. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Name of the trap's process.
const COMM: &str = "spoor-trap";

/// What the agent has seen of trap processes.
#[derive(Debug, Default)]
pub struct Seen {
    pub conns: HashMap<ConnId, Conn>,
    pub data: HashMap<ConnId, Vec<Data>>,
    pub closes: HashMap<ConnId, Close>,
    /// Everything that is not a connection or its data.
    pub other: Vec<Record>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    stop: AtomicBool,
    paused: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Order {
    Verdict(ConnId, Verdict),
    Totals(mpsc::Sender<Totals>),
}

/// An agent that records what trap processes do and ignores all others.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    orders: Mutex<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// Name of the rung in use.
    pub rung: char,
}

impl Agent {
    /// Loads the probes and starts reading.
    pub fn start(options: Options) -> Result<Self, CaptureError> {
        let shared = Arc::new(Shared::default());
        let (orders, receive) = mpsc::channel();
        let (started, outcome) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a tokio runtime").block_on(record(options, &theirs, &receive, &started));
        });
        let rung = outcome.recv().expect("an outcome of loading")?;
        Ok(Self { shared, orders: Mutex::new(orders), thread: Some(thread), rung })
    }

    /// The agent of this test process, or `None` after saying why live tests are skipped here.
    pub fn shared() -> Option<&'static Agent> {
        static AGENT: OnceLock<Option<Agent>> = OnceLock::new();
        let options = Options {
            ring_bytes: 64 << 20,
            first_look_bytes: 64 << 20,
            // Whatever cgroup the tests are in: they say themselves what may be lost.
            cgroup_percent: 0,
            rung: None,
            explain: false,
            chains: false,
            objects: false,
        };
        // Every test that asks is counted as skipped, not only the one that tried.
        static REASON: OnceLock<String> = OnceLock::new();
        let agent = AGENT.get_or_init(|| match Agent::start_if_possible(options) {
            Ok(agent) => Some(agent),
            Err(reason) => {
                let _ = REASON.set(reason);
                None
            }
        });
        if agent.is_none() {
            skip(REASON.get().map_or("", String::as_str));
        }
        agent.as_ref()
    }

    /// Starts an agent; `None` where this machine cannot, after counting the test as skipped.
    pub fn start_or_skip(options: Options) -> Option<Agent> {
        Self::start_if_possible(options).map_err(|reason| skip(&reason)).ok()
    }

    /// Starts an agent, or says why this machine cannot. Anything else that goes wrong is a failure.
    fn start_if_possible(options: Options) -> Result<Agent, String> {
        match Agent::start(options) {
            Ok(agent) => Ok(agent),
            Err(
                error @ (CaptureError::NoObject
                | CaptureError::NotPermitted { .. }
                | CaptureError::NoBtf(_)
                | CaptureError::NoRung { .. }),
            ) => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until `look` finds what it wants. Panics with `what` after [`PATIENCE`].
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.shared.seen();
        loop {
            if let Some(found) = look(&seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} in vain: {what}");
            seen = self
                .shared
                .changed
                .wait_timeout(seen, left)
                .map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
    }

    /// Looks at what was seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen())
    }

    /// Sets a verdict. It is in the kernel when this returns.
    pub fn verdict(&self, conn: ConnId, verdict: Verdict) {
        self.order(Order::Verdict(conn, verdict));
        self.totals();
    }

    /// The kernel's counters.
    pub fn totals(&self) -> Totals {
        let (reply, totals) = mpsc::channel();
        self.order(Order::Totals(reply));
        totals.recv_timeout(PATIENCE).expect("the agent's thread is alive")
    }

    /// Stops reading the rings until [`Agent::resume`].
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        // Orders are served after a read: once one is answered, no read is under way.
        self.totals();
    }

    /// Reads again.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    fn order(&self, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.send(order).expect("the agent's thread is alive");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The rung that `SPOOR_TEST_RUNG` names: the tests then run on that one, where it works.
fn wanted_rung() -> Option<char> {
    std::env::var("SPOOR_TEST_RUNG").ok().and_then(|name| name.chars().next())
}

async fn record(
    mut options: Options,
    shared: &Shared,
    orders: &mpsc::Receiver<Order>,
    started: &mpsc::Sender<Result<char, CaptureError>>,
) {
    options.rung = wanted_rung();
    let mut live = match Live::start(options) {
        Ok(live) => live,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(live.rung().name));
    let mut batch = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.paused.load(Ordering::SeqCst) {
            tokio::time::sleep(spoor::source::live::POLL).await;
        } else {
            live.next_batch(&mut batch).await.expect("the rings can be read");
        }
        let mut ignore = Vec::new();
        let mut seen = shared.seen();
        for record in batch.drain(..) {
            match record {
                Record::Conn(conn) if conn.comm == COMM || seen.conns.contains_key(&conn.id) => {
                    seen.conns.insert(conn.id, *conn);
                }
                Record::Conn(conn) => ignore.push(conn.id),
                Record::Data(data) if seen.conns.contains_key(&data.conn) => {
                    seen.data.entry(data.conn).or_default().push(data);
                }
                Record::Data(_) => {}
                Record::Close(close) => {
                    seen.closes.insert(close.conn, close);
                }
                other => seen.other.push(other),
            }
        }
        drop(seen);
        shared.changed.notify_all();
        for conn in ignore {
            live.set_verdict(conn, Verdict::Ignore);
        }
        for order in orders.try_iter() {
            match order {
                Order::Verdict(conn, verdict) => live.set_verdict(conn, verdict),
                Order::Totals(reply) => {
                    let _ = reply.send(live.counters().expect("the counters"));
                }
            }
        }
        assert_eq!(live.gauges().refused_verdicts, 0, "the kernel takes every verdict");
    }
}
