//! The live kernel as a source: a running [`Capture`] → [`Record`]s in the order of their time.
//!
//! *Owns* waiting for the rings, the order between connections and their data, clock samples, loss reports, handing on
//! what the kernel side says, and leaving out the agent's own traffic.
//! *Must not know* protocols.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use spoor_common::{Counter, chain::Runtime, look::Look, names::LOG_TARGET};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Interval, MissedTickBehavior},
};

use crate::capture::decode::{Event, Seen, Told};
use crate::capture::load::Totals;
use crate::capture::log::KernelLog;
use crate::capture::look::Copied;
use crate::capture::verdict::{Kind, Verdict};
use crate::capture::{Capture, CaptureError, Options};
use crate::telemetry::Seldom;
use spoor_core::record::{Chain, Close, Conn, ConnId, Data, Direction, Lost, Record, Tgid, WireBase};
use spoor_core::time::BootTime;

#[cfg(test)]
mod tests;
mod time;

/// The rings are read at least this often.
pub const POLL: Duration = Duration::from_millis(20);
/// Clock samples and loss reports.
const REPORT: Duration = Duration::from_secs(1);
/// A change of the wall clock by more than this is reported at once.
const STEP: Duration = Duration::from_millis(1);
/// A record has its time before it is in the ring: it may come this much later.
const RESERVED: Duration = Duration::from_millis(20);
/// Data records read in one batch.
const BATCH: usize = 16 * 1024;
/// Connections whose introduction is remembered. Beyond it the ones unused for longest are forgotten, which costs
/// their addresses only if they speak again.
const MAX_KNOWN: usize = 1 << 18;
/// Data waiting for its connection.
const MAX_HELD: usize = 64 * 1024;
/// Chains of tasks whose data is still to come: it is the next record of the same thread, …
const MAX_CHAINS: usize = 64;
/// … written right behind it, by programs of the kernel of which one goes on in the other. Beyond this its data was lost, and what
/// comes is another send's.
const BEHIND_CHAIN: Duration = Duration::from_millis(1);
/// Wire identities of the agent's own connections.
const MAX_OWN: usize = 4096;

/// Records from the live kernel.
#[derive(Debug)]
pub struct Live {
    wake: [AsyncFd<OwnedFd>; 2],
    tick: Interval,
    capture: Capture,
    order: Order,
    clock: time::Clock,
    reported_at: BootTime,
    settled_until: BootTime,
    reported: Lost,
    refused: Refused,
    /// What was copied and is not yet taken.
    copied: Vec<Copied>,
}

impl Live {
    /// Loads the probes. Must be called within a tokio runtime.
    pub fn start(options: Options) -> Result<Self, CaptureError> {
        let capture = Capture::start(options)?;
        #[expect(deprecated, reason = "its replacement is unsafe; an `OwnedFd` keeps what that one asks for")]
        let watch = |fd| AsyncFd::with_interest(fd, Interest::READABLE);
        let wake = capture.rings.fds().and_then(|[data, control]| Ok([watch(data)?, watch(control)?]));
        let wake = wake.map_err(|source| CaptureError::Io { attempt: "wait for the ring buffer", source })?;
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            wake,
            tick,
            capture,
            order: Order::default(),
            clock: time::Clock::default(),
            reported_at: BootTime::ZERO,
            settled_until: BootTime::ZERO,
            reported: Lost { at: BootTime::ZERO, records: 0, bytes: 0 },
            refused: Refused::new(),
            copied: Vec::new(),
        })
    }

    /// Waits until something may have happened, at most [`POLL`], and appends what has. The first record ever is a
    /// [`Record::Clock`]. Cancelling loses nothing.
    pub async fn next_batch(&mut self, out: &mut Vec<Record>) -> Result<(), CaptureError> {
        let [data, control] = &self.wake;
        let ready = |source: io::Error| CaptureError::Io { attempt: "wait for the ring buffer", source };
        tokio::select! {
            _ = self.tick.tick() => {}
            guard = data.readable() => guard.map_err(ready)?.clear_ready(),
            guard = control.readable() => guard.map_err(ready)?.clear_ready(),
        }
        self.read(out)
    }

    /// The hooks in use.
    pub fn rung(&self) -> &'static spoor_common::names::Rung {
        self.capture.rung
    }

    /// A time up to which every record has been handed out: time that has passed for whoever handles records.
    pub fn settled_until(&self) -> BootTime {
        self.settled_until
    }

    /// Appends what waits now, without waiting. For the last batch before the end.
    pub fn read(&mut self, out: &mut Vec<Record>) -> Result<(), CaptureError> {
        let now = self.clock.sample(out);
        let drained = {
            let order = &mut self.order;
            let read = self.capture.rings.read(BATCH, |event| order.take(event));
            // A connection is reported before its data: what is still unknown has arrived meanwhile.
            if !order.held.is_empty() {
                self.capture.rings.read(0, |event| order.take(event));
            }
            read < BATCH
        };
        // Taken at once, whoever wants them: they are wiped where they were.
        for told in self.order.objects.drain(..) {
            self.copied.extend(self.capture.looked.as_mut().and_then(|looked| looked.take(told)));
        }
        if drained {
            self.settled_until = now - RESERVED;
        }
        self.order.release(drained, out);
        for line in self.capture.log.iter_mut().flat_map(KernelLog::read) {
            tracing::debug!(target: LOG_TARGET, "kernel side: {line}");
        }
        for conn in self.order.ignore.drain(..) {
            let told = self.capture.verdicts.set(conn, Verdict::Ignore);
            self.refused.note(told);
        }
        if now.since(self.reported_at) >= REPORT {
            self.reported_at = now;
            self.report(now, out)?;
        }
        Ok(())
    }

    /// Appends the totals of what was lost, if they have changed.
    pub fn report(&mut self, now: BootTime, out: &mut Vec<Record>) -> Result<(), CaptureError> {
        let totals = self.counters()?;
        let malformed = self.capture.rings.malformed;
        let sum = |counters: &[Counter]| counters.iter().map(|counter| totals.of(*counter)).sum::<u64>();
        let records = sum(&[Counter::DataLost, Counter::CgroupLost, Counter::StateFailed]) + malformed;
        let bytes = sum(&[Counter::DataLostBytes, Counter::CgroupLostBytes]);
        let lost = Lost { at: now, records, bytes };
        if (lost.records, lost.bytes) != (self.reported.records, self.reported.bytes) {
            self.reported = lost;
            out.push(Record::Lost(lost));
        }
        Ok(())
    }

    /// Tells the kernel how much of a connection to copy. What it does not take is counted and told.
    pub fn set_verdict(&mut self, conn: ConnId, verdict: Verdict) {
        let told = self.capture.verdicts.set(conn, verdict);
        self.refused.note(told);
    }

    /// Tells the kernel how much of connections to come to copy. What it does not take is counted and told.
    pub fn inherit_verdict(&mut self, kind: Kind, verdict: Verdict) {
        let told = self.capture.verdicts.inherit(kind, verdict);
        self.refused.note(told);
    }

    /// Whether the kernel can follow anybody's tasks.
    pub fn can_follow(&self) -> bool {
        self.capture.followed.is_some()
    }

    /// Follows a process's tasks from now on, or no more. What the kernel does not take is told.
    pub fn follow(&mut self, tgid: Tgid, runtime: Option<&Runtime>) {
        let Some(followed) = &mut self.capture.followed else { return };
        let told = match runtime {
            Some(runtime) => followed.follow(tgid, runtime),
            None => followed.leave(tgid),
        };
        if let Err(error) = told {
            tracing::warn!("the kernel does not follow process {tgid}: {error}");
        }
    }

    /// Whether the kernel can copy what stacks point to.
    pub fn can_look(&self) -> bool {
        self.capture.looked.is_some()
    }

    /// Copies what a process' stacks point to from now on. Unless it `is_new`, only if it still is the one that was named.
    pub fn look(&mut self, tgid: Tgid, look: &Look, is_new: bool) {
        let told = self.capture.looked.as_mut().map(|looked| looked.look(tgid, look, is_new));
        if let Some(Err(error)) = told {
            tracing::debug!("the kernel does not look at process {tgid}: {error}");
        }
    }

    /// No more.
    pub fn leave(&mut self, tgid: Tgid) {
        let told = self.capture.looked.as_mut().map(|looked| looked.leave(tgid));
        if let Some(Err(error)) = told {
            tracing::warn!("the kernel does not leave process {tgid}: {error}");
        }
    }

    /// What was copied since it was asked last. It comes before the records of the batch that it was read with.
    pub fn take_copied(&mut self) -> Vec<Copied> {
        std::mem::take(&mut self.copied)
    }

    /// What the kernel has counted so far.
    pub fn counters(&self) -> Result<Totals, CaptureError> {
        self.capture.counters.read()
    }

    /// Connections known, data held for unknown ones, and records introduced without their connection.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            known: self.order.known.len(),
            held: self.order.held.len(),
            unintroduced: self.order.unintroduced,
            refused_verdicts: self.refused.count,
            unclaimed_chains: self.order.unclaimed,
        }
    }
}

/// Sizes of what [`Live`] remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    pub known: usize,
    pub held: usize,
    /// Connections whose record never came; their data was delivered without addresses.
    pub unintroduced: u64,
    /// Verdicts the kernel's maps did not take. They cost copies made in vain, or made too short.
    pub refused_verdicts: u64,
    /// Chains of tasks without the data that they were read for.
    pub unclaimed_chains: u64,
}

/// How often refused verdicts are told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Verdicts the kernel did not take. A map without memory to spare is no reason to stop tracing.
#[derive(Debug)]
struct Refused {
    count: u64,
    seldom: Seldom,
}

impl Refused {
    fn new() -> Self {
        Self { count: 0, seldom: Seldom::new(TELL_EVERY) }
    }

    fn note(&mut self, told: Result<(), CaptureError>) {
        let Err(error) = told else { return };
        self.count += 1;
        if self.seldom.due(Instant::now()).is_some() {
            tracing::warn!(total = self.count, "the kernel did not take a verdict: {error}");
        }
    }
}

/// Puts what comes from two rings into one order.
///
/// Each ring is ordered in itself. Control is read first, so a close can overtake data that is older, and data that
/// arrives while the rings are read can overtake its connection. Times decide: a batch is sorted by them, and what
/// may be followed by something older waits for the next batch.
#[derive(Debug, Default)]
struct Order {
    /// Introduced connections, with the batch of their last record.
    known: HashMap<ConnId, u64>,
    batch: u64,
    /// This batch.
    records: Vec<Record>,
    /// Data of connections not introduced yet.
    held: Vec<(u64, Option<Chain>, Data)>,
    /// Chains that come before their data.
    chains: Vec<(Chain, Direction)>,
    /// Copies that wait to be taken.
    objects: Vec<Told>,
    /// Own connections, as their other ends see them.
    own: HashSet<(u32, u32)>,
    own_ids: HashMap<ConnId, (u32, u32)>,
    /// Wire identities of introduced connections.
    wires: HashMap<(u32, u32), ConnId>,
    wire_of: HashMap<ConnId, (u32, u32)>,
    /// Connections to the agent: to be ignored.
    ignore: Vec<ConnId>,
    ignored: HashSet<ConnId>,
    unintroduced: u64,
    unclaimed: u64,
}

impl Order {
    fn take(&mut self, event: Event) {
        match event {
            Event::Conn(seen) => self.connection(*seen),
            Event::Data(data) => {
                // Whatever becomes of the data: what is left would be taken for that of a later send.
                let chain = self.claim(&data);
                if self.ignored.contains(&data.conn) {
                    return;
                }
                match self.known.get_mut(&data.conn) {
                    Some(batch) => {
                        *batch = self.batch;
                        self.data(chain, data);
                    }
                    None => self.held.push((self.batch, chain, data)),
                }
            }
            Event::Chain(chain, direction) => {
                if self.chains.len() >= MAX_CHAINS {
                    self.chains.remove(0);
                    self.unclaimed += 1;
                }
                self.chains.push((chain, direction));
            }
            Event::Object(told) => self.objects.push(told),
            Event::Close(close) => {
                if let Some(wire) = self.own_ids.remove(&close.conn) {
                    self.own.remove(&wire);
                } else if !self.ignored.remove(&close.conn) {
                    self.records.push(Record::Close(close));
                }
            }
            Event::Process(process) => self.records.push(Record::Process(process)),
        }
    }

    /// Takes the chain that was read for this data, if there is one. What else is left of the thread was read for data that was lost.
    fn claim(&mut self, data: &Data) -> Option<Chain> {
        if self.chains.is_empty() {
            return None;
        }
        let is_own = |(chain, direction): &mut (Chain, Direction)| {
            chain.thread == data.thread && *direction == data.direction
        };
        let own: Vec<_> = self.chains.extract_if(.., is_own).collect();
        let left = own.len() as u64;
        let claimed = own.into_iter().next_back().filter(|(chain, _)| {
            let behind = data.at.checked_since(chain.at);
            chain.conn == data.conn && behind.is_some_and(|behind| behind < BEHIND_CHAIN)
        });
        self.unclaimed += left - u64::from(claimed.is_some());
        claimed.map(|(chain, _)| chain)
    }

    /// Appends data, and before it, at the same time, its chain.
    fn data(&mut self, chain: Option<Chain>, data: Data) {
        self.records.extend(chain.map(|chain| Record::Chain(Box::new(Chain { at: data.at, ..chain }))));
        self.records.push(Record::Data(data));
    }

    fn connection(&mut self, seen: Seen) {
        let conn = seen.conn;
        let mirrored = conn.wire.map(|WireBase { egress, ingress }| (ingress, egress));
        if seen.own {
            // Nobody is told of the agent's own connections, nor of the other ends on this machine.
            if let Some(mirrored) = mirrored {
                if self.own.len() < MAX_OWN {
                    self.own.insert(mirrored);
                    self.own_ids.insert(conn.id, mirrored);
                }
                if let Some(&other) = self.wires.get(&mirrored) {
                    self.forget(other, conn.at);
                }
            }
            return;
        }
        let wire = conn.wire.map(|WireBase { egress, ingress }| (egress, ingress));
        if wire.is_some_and(|wire| self.own.contains(&wire)) {
            self.ignore.push(conn.id);
            self.ignored.insert(conn.id);
            return;
        }
        if let Some(wire) = wire {
            self.wires.insert(wire, conn.id);
            self.wire_of.insert(conn.id, wire);
        }
        self.known.insert(conn.id, self.batch);
        self.records.push(Record::Conn(Box::new(conn)));
    }

    /// Ends a connection that turned out to be one to the agent.
    fn forget(&mut self, id: ConnId, at: BootTime) {
        self.ignore.push(id);
        self.ignored.insert(id);
        self.records.push(Record::Close(Close { at, conn: id, reset: false }));
    }

    /// Moves this batch to `out`, in the order of time. `drained`: the data ring was read to its end.
    fn release(&mut self, drained: bool, out: &mut Vec<Record>) {
        let batch = self.batch;
        self.batch += 1;
        let mut waiting = Vec::new();
        let full = self.held.len() > MAX_HELD;
        for (since, chain, data) in std::mem::take(&mut self.held) {
            if self.ignored.contains(&data.conn) {
                continue;
            }
            if !self.known.contains_key(&data.conn) {
                // One more poll, then the bytes count more than the addresses.
                if since == batch && !full {
                    waiting.push((since, chain, data));
                    continue;
                }
                self.unintroduced += 1;
                self.known.insert(data.conn, batch);
                self.records.push(Record::Conn(Box::new(Conn::unannounced(&data))));
            }
            self.data(chain, data);
        }
        self.held = waiting;
        self.records.sort_by_key(Record::at);
        // Data that is still in the ring is not older than the last one read.
        let last = self.records.iter().rev().find_map(|r| matches!(r, Record::Data(_)).then(|| r.at()));
        let end = match (drained, last) {
            (false, Some(last)) => self.records.partition_point(|r| r.at() <= last),
            _ => self.records.len(),
        };
        let later = self.records.split_off(end);
        for record in &self.records {
            if let Record::Close(close) = record {
                self.known.remove(&close.conn);
                if let Some(wire) = self.wire_of.remove(&close.conn) {
                    self.wires.remove(&wire);
                }
            }
        }
        out.append(&mut self.records);
        self.records = later;
        if self.known.len() > MAX_KNOWN {
            self.shrink();
        }
    }

    /// Forgets the connections unused for longest.
    fn shrink(&mut self) {
        let mut batches: Vec<u64> = self.known.values().copied().collect();
        let middle = batches.len() / 2;
        let (_, &mut median, _) = batches.select_nth_unstable(middle);
        self.known.retain(|_, batch| *batch > median);
        self.wire_of.retain(|conn, _| self.known.contains_key(conn));
        self.wires.retain(|_, conn| self.known.contains_key(conn));
        self.ignored.clear();
    }
}
