//! What every source hands to the core: one [`Record`] per fact seen in the kernel, a recording or a pcap file.
//!
//! *Owns* the vocabulary of the border (connections, directions, threads, clocks).
//! *Must not know* where a record came from, nor any protocol.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spoor_common::chain::node::{CONNECTION, CONSUMER_LEN, DELIVERY, delivery};
use spoor_common::record::GOROUTINE;

use crate::time::{BootTime, WallTime};

/// One socket, for as long as it lives: the kernel's socket cookie, or a number invented by a file source.
///
/// A connection between two local processes is two `ConnId`s, one per end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// A number that names something in the kernel. Shown bare.
macro_rules! number {
    ($(#[$docs:meta])* $name:ident($number:ty)) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A thread group, which is a process, as the initial PID namespace numbers it; 0 when unknown.
    Tgid(u32)
}

number! {
    /// A thread, as the initial PID namespace numbers it; of a Go program the goroutine, as a number above all threads.
    Tid(u32)
}

impl Tid {
    /// It is a goroutine, on whatever thread.
    pub fn is_goroutine(self) -> bool {
        self.0 & GOROUTINE != 0
    }

    /// The thread that a border names by `number`, where 0 is nobody.
    pub fn some(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

number! {
    /// A network namespace, by the inode that it has in every process; 0 when unknown.
    NetNs(u32)
}

impl NetNs {
    pub const UNKNOWN: Self = Self(0);
}

number! {
    /// A cgroup of version 2, by its identifier; 0 when unknown.
    CgroupId(u64)
}

impl CgroupId {
    pub const UNKNOWN: Self = Self(0);
    /// The root of a hierarchy (`cgroup_get_from_id` of the kernel: the inode number of its root): whoever is in none of its own.
    pub const ROOT: Self = Self(1);
}

/// Where bytes moved, seen from the process that owns the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Read from the socket.
    Ingress,
    /// Written to the socket.
    Egress,
}

impl Direction {
    /// The other direction.
    pub fn opposite(self) -> Self {
        match self {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        }
    }
}

/// Which side of a connection the socket's owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It connected.
    Client,
    /// It accepted.
    Server,
}

/// Who moves bytes: a kernel thread, or a goroutine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Worker {
    pub tgid: Tgid,
    pub tid: Tid,
}

impl Worker {
    /// From the two numbers by which a border names it.
    pub fn new(tgid: u32, tid: u32) -> Self {
        Self { tgid: Tgid(tgid), tid: Tid(tid) }
    }
}

/// Who sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    Client,
    Server,
}

/// The moment and the thread at which the observed process moved a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub at: BootTime,
    pub thread: Worker,
    /// The only goroutine that waited for what this one did, where that is known.
    pub awaited_by: Option<Tid>,
    /// Position of the other direction of the connection at that moment.
    pub other_pos: u64,
}

impl Mark {
    /// A byte that was moved then.
    pub fn point(self, pos: u64) -> Point {
        Point { at: self.at, pos, thread: self.thread, awaited_by: self.awaited_by }
    }
}

/// A byte of one direction of a connection: where it is and when it was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub at: BootTime,
    pub pos: u64,
    pub thread: Worker,
    /// As in [`Mark`].
    pub awaited_by: Option<Tid>,
}

impl Point {
    /// The moment of this byte, with the other direction at `other_pos`.
    pub fn mark(self, other_pos: u64) -> Mark {
        Mark { at: self.at, thread: self.thread, awaited_by: self.awaited_by, other_pos }
    }
}

/// An operation of this pipeline run. Never exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// The address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// TCP over IPv4 or IPv6. IPv4-mapped IPv6 addresses are given as IPv4.
    Inet(SocketAddr),
    /// A Unix socket and its path, `@name` for abstract ones, empty when unnamed.
    Unix(String),
    /// Not known.
    Unknown,
}

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// Multipath TCP: positions are counted, but there is no wire identity.
    Mptcp,
    /// A Unix stream socket.
    Unix,
}

/// The initial sequence numbers of both directions, the part of a connection that both ends agree on, through NAT.
///
/// Each is the sequence number of the first *data* byte (initial sequence number + 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WireBase {
    /// First data byte sent by the socket's owner.
    pub egress: u32,
    /// First data byte received by the socket's owner.
    pub ingress: u32,
}

/// First sight of a connection. Sent before its first [`Data`] by the kernel; file sources keep that order.
/// A second `Conn` for the same identifier updates what was unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conn {
    pub at: BootTime,
    pub id: ConnId,
    pub transport: Transport,
    pub local: Endpoint,
    pub remote: Endpoint,
    pub netns: NetNs,
    /// Known from the handshake or from the listening table.
    pub role: Option<Role>,
    /// The source saw the connection being opened, so positions start at its first byte.
    pub from_start: bool,
    /// The process at first sight.
    pub thread: Worker,
    /// Its `comm`, at most 15 bytes; empty when unknown. All there is to name a process that is gone too soon.
    pub comm: String,
    pub cgroup: CgroupId,
    /// What identifies the connection on the wire. `None`: this connection cannot be matched with its other end
    /// by sequence numbers.
    pub wire: Option<WireBase>,
    /// The other end of a Unix socket.
    pub peer: Option<ConnId>,
}

impl Conn {
    /// What the data of a connection tells about it, when its introduction was lost or does not exist.
    pub fn unannounced(data: &Data) -> Self {
        Self {
            at: data.at,
            id: data.conn,
            transport: Transport::Tcp,
            local: Endpoint::Unknown,
            remote: Endpoint::Unknown,
            netns: NetNs::UNKNOWN,
            role: None,
            from_start: false,
            thread: data.thread,
            comm: String::new(),
            cgroup: CgroupId::UNKNOWN,
            wire: None,
            peer: None,
        }
    }
}

/// Facts about one [`Data`] record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataFlags {
    /// The buffer could not be read (`sendfile`, `splice`, `io_uring`, a fault): length without bytes.
    pub unreadable: bool,
    /// Capture was cut on purpose by a verdict or a budget.
    pub budget: bool,
    /// The bytes are plaintext of a TLS connection; positions count plaintext.
    pub plaintext: bool,
    /// The position could not be made certain: this record gives no wire identity.
    pub position_uncertain: bool,
}

/// Bytes that moved through a socket in one direction: `len` of them starting at `pos`, of which `bytes` were captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Completion of the socket call.
    pub at: BootTime,
    pub conn: ConnId,
    pub direction: Direction,
    /// Position of the first byte, counted from the connection's first data byte (or from first sight when
    /// the connection is older than the source and has no sequence numbers).
    pub pos: u64,
    /// Position of the *other* direction at that moment: what had been read when this was written, or the reverse.
    pub other_pos: u64,
    /// Bytes moved. The stream continues at `pos + len`.
    pub len: u32,
    /// The first bytes of the interval; may be shorter than `len`, may be empty.
    pub bytes: Bytes,
    pub thread: Worker,
    /// The only goroutine that waited for what this one did, where that is known.
    pub awaited_by: Option<Tid>,
    pub flags: DataFlags,
}

impl Data {
    /// When and by whom its bytes were moved.
    pub fn mark(&self) -> Mark {
        Mark { at: self.at, thread: self.thread, awaited_by: self.awaited_by, other_pos: self.other_pos }
    }
}

number! {
    /// A task of a program, as its runtime numbers it, which gives no number twice; 0 for one with a name in its place. In a runtime
    /// whose tasks have no numbers, a connection of the program or a message: [`TaskId::is_of_request`].
    TaskId(u64)
}

impl TaskId {
    /// It is the connection on which requests come, or a message.
    pub fn is_of_request(self) -> bool {
        self.0 & (CONNECTION | DELIVERY) != 0
    }

    /// A message that was delivered to the consumer with this tag. `None`: chains cannot name it.
    pub fn of_delivery(consumer_tag: &str, delivery_tag: u64) -> Option<Self> {
        let mut bytes = [0; CONSUMER_LEN];
        bytes
            .get_mut(..consumer_tag.len())
            .filter(|to| !to.is_empty())?
            .copy_from_slice(consumer_tag.as_bytes());
        let (words, _) = bytes.as_chunks::<8>();
        let mut consumer = [0; CONSUMER_LEN / 8];
        consumer.iter_mut().zip(words).for_each(|(to, from)| *to = u64::from_le_bytes(*from));
        Some(Self(delivery(consumer, delivery_tag))).filter(|task| task.is_numbered())
    }

    /// It has a number, by which it is known for good.
    pub fn is_numbered(self) -> bool {
        self != Self::default()
    }
}

/// Who waited for whom when a process wrote to a connection, or read from it: the record comes before that [`Data`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// As that of the data.
    pub at: BootTime,
    pub conn: ConnId,
    pub thread: Worker,
    /// The task that wrote, the one that waits for it, and so on up to one for which nobody waits. None: the chain broke while it
    /// was followed, and says nothing.
    pub tasks: Vec<TaskId>,
}

impl Chain {
    /// Something could not be read, or was not what it must be.
    pub fn is_broken(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    pub at: BootTime,
    pub conn: ConnId,
    /// Reset instead of an orderly close, where known.
    pub reset: bool,
}

/// A process started, replaced its image, or ended, or a thread of it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessEvent {
    pub at: BootTime,
    pub tgid: Tgid,
    pub kind: ProcessEventKind,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEventKind {
    Fork {
        parent_tgid: Tgid,
    },
    Exec,
    Exit,
    /// A thread of it began. Reported only of processes with connections.
    Thread {
        tid: Tid,
        /// The thread that began it.
        creator: Tid,
    },
}

/// What the shell learned about a process from the system. Part of recordings, so that a replay has names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessInfo {
    pub at: BootTime,
    pub tgid: Tgid,
    /// When the process started, in 10 ms ticks as `/proc` gives it.
    #[serde(rename = "start_ns")]
    pub started_at: BootTime,
    /// Path of the executable.
    pub exe: String,
    /// `comm`, at most 15 bytes.
    pub comm: String,
    /// Service name, decided by the shell (configuration, `OTEL_SERVICE_NAME`, unit, container, executable, script).
    pub service: String,
    pub service_namespace: Option<String>,
    pub container_id: Option<String>,
    /// Further resource attributes: Kubernetes, the process' own declaration.
    pub attributes: Vec<(String, String)>,
}

/// Two clocks read at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockPair {
    pub boot: BootTime,
    pub wall: WallTime,
}

impl ClockPair {
    /// No clock has been read.
    pub const UNKNOWN: Self = Self { boot: BootTime::ZERO, wall: WallTime::ZERO };

    /// What the clock on the wall showed at a moment.
    pub fn wall_at(self, moment: BootTime) -> WallTime {
        match moment.checked_since(self.boot) {
            Some(after) => self.wall + after,
            None => self.wall - self.boot.since(moment),
        }
    }
}

/// The source lost something: totals since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub at: BootTime,
    /// Records the kernel could not deliver.
    pub records: u64,
    /// Bytes those records would have carried.
    pub bytes: u64,
}

/// One fact from a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Clock(ClockPair),
    Conn(Box<Conn>),
    Data(Data),
    Chain(Box<Chain>),
    Close(Close),
    Process(ProcessEvent),
    ProcessInfo(Box<ProcessInfo>),
    Lost(Lost),
}

impl Record {
    /// When it happened, where the record says so.
    pub fn at(&self) -> BootTime {
        match self {
            Record::Clock(c) => c.boot,
            Record::Conn(c) => c.at,
            Record::Data(d) => d.at,
            Record::Chain(c) => c.at,
            Record::Close(c) => c.at,
            Record::Process(p) => p.at,
            Record::ProcessInfo(p) => p.at,
            Record::Lost(l) => l.at,
        }
    }
}
