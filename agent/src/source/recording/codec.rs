//! A [`Record`] → the payload of a recording's record, and back.
//!
//! ```text
//!   1 clock         u64 boot_ns, u64 unix_ns
//!   2 conn          u64 at, u64 id, u8 transport, u8 role, u8 flags, u32 netns, u64 cgroup, u32 tgid, u32 tid,
//!                   endpoint local, endpoint remote, str comm, u32 wire egress, u32 wire ingress, u64 peer
//!   3 data          u64 at, u64 conn, u8 direction, u8 flags, u64 pos, u64 other_pos, u32 len, u32 tgid, u32 tid,
//!                   u32 the goroutine that waits for it (0: none known), u32 captured length, the captured bytes
//!   4 close         u64 at, u64 conn, u8 reset
//!   5 process       u64 at, u32 tgid, u8 kind (0 fork, 1 exec, 2 exit, 3 thread), u32 parent (fork: process,
//!                   thread: thread), u32 tid (thread)
//!   6 process info  u64 at, u32 tgid, u64 start_ns, str exe, str comm, str service, u8 flags,
//!                   str namespace, str container ID, u16 number of attributes, that many times str key, str value
//!   7 lost          u64 at, u64 records, u64 bytes
//!   8 chain         u64 at, u64 conn, u32 tgid, u32 tid, u8 number of tasks (0: it broke; at most 8), that many times u64 task
//!
//!   endpoint        u8 kind: 0 unknown
//!                            1 IPv4  [u8; 4], u16 port
//!                            2 IPv6  [u8; 16], u16 port, u32 flow information, u32 scope ID
//!                            3 Unix  str path
//!   transport       0 TCP, 1 MPTCP, 2 Unix      role  0 unknown, 1 client, 2 server     direction  0 ingress, 1 egress
//!   conn flags      1 from_start, 2 wire known, 4 peer known
//!   data flags      1 unreadable, 2 budget, 4 plaintext, 8 position uncertain
//!   info flags      1 namespace known, 2 container ID known
//! ```
//!
//! Version 1 grew by appending: in a data record the goroutine comes last, in a process record the tid is there for
//! threads only, and its first files have neither these nor the attributes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use bytes::Bytes;

use super::MAX_PAYLOAD;
use spoor_common::chain::TASKS;
use spoor_core::record::*;
use spoor_core::time::{BootTime, WallTime};

const CLOCK: u8 = 1;
const CONN: u8 = 2;
const DATA: u8 = 3;
const CLOSE: u8 = 4;
const PROCESS: u8 = 5;
const PROCESS_INFO: u8 = 6;
const LOST: u8 = 7;
const CHAIN: u8 = 8;

/// Most attributes of a process that are recorded.
const MAX_ATTRIBUTES: usize = 64;
/// Room for a data record's fields beside its bytes.
const DATA_FIELDS: usize = 64;

/// Appends a record's payload and returns its type.
pub(super) fn encode(record: &Record, to: &mut Vec<u8>) -> u8 {
    let mut e = Encoder(to);
    match record {
        Record::Clock(clock) => {
            e.clocks(*clock);
            CLOCK
        }
        Record::Conn(conn) => {
            encode_conn(conn, &mut e);
            CONN
        }
        Record::Data(data) => {
            e.boot(data.at);
            e.u64(data.conn.0);
            e.u8(match data.direction {
                Direction::Ingress => 0,
                Direction::Egress => 1,
            });
            let f = data.flags;
            e.flags([f.unreadable, f.budget, f.plaintext, f.position_uncertain]);
            e.u64(data.pos);
            e.u64(data.other_pos);
            e.u32(data.len);
            e.thread(data.thread);
            e.u32(data.awaited_by.map_or(0, |tid| tid.0));
            let captured = data.bytes.get(..MAX_PAYLOAD - DATA_FIELDS).unwrap_or(&data.bytes);
            e.u32(captured.len() as u32);
            e.0.extend_from_slice(captured);
            DATA
        }
        Record::Chain(chain) => {
            e.boot(chain.at);
            e.u64(chain.conn.0);
            e.thread(chain.thread);
            e.u8(chain.tasks.len().min(TASKS) as u8);
            chain.tasks.iter().take(TASKS).for_each(|task| e.u64(task.0));
            CHAIN
        }
        Record::Close(close) => {
            e.boot(close.at);
            e.u64(close.conn.0);
            e.u8(close.reset.into());
            CLOSE
        }
        Record::Process(process) => {
            e.boot(process.at);
            e.u32(process.tgid.0);
            let (kind, parent, tid) = match process.kind {
                ProcessEventKind::Fork { parent_tgid } => (0, parent_tgid.0, 0),
                ProcessEventKind::Exec => (1, 0, 0),
                ProcessEventKind::Exit => (2, 0, 0),
                ProcessEventKind::Thread { creator, tid } => (3, creator.0, tid.0),
            };
            e.u8(kind);
            e.u32(parent);
            e.u32(tid);
            PROCESS
        }
        Record::ProcessInfo(info) => {
            e.boot(info.at);
            e.u32(info.tgid.0);
            e.boot(info.started_at);
            e.string(&info.exe);
            e.string(&info.comm);
            e.string(&info.service);
            e.flags([info.service_namespace.is_some(), info.container_id.is_some(), false, false]);
            e.string(info.service_namespace.as_deref().unwrap_or_default());
            e.string(info.container_id.as_deref().unwrap_or_default());
            e.u16(info.attributes.len().min(MAX_ATTRIBUTES) as u16);
            for (key, value) in info.attributes.iter().take(MAX_ATTRIBUTES) {
                e.string(key);
                e.string(value);
            }
            PROCESS_INFO
        }
        Record::Lost(lost) => {
            e.boot(lost.at);
            e.u64(lost.records);
            e.u64(lost.bytes);
            LOST
        }
    }
}

fn encode_conn(conn: &Conn, e: &mut Encoder<'_>) {
    e.boot(conn.at);
    e.u64(conn.id.0);
    e.u8(match conn.transport {
        Transport::Tcp => 0,
        Transport::Mptcp => 1,
        Transport::Unix => 2,
    });
    e.u8(match conn.role {
        None => 0,
        Some(Role::Client) => 1,
        Some(Role::Server) => 2,
    });
    e.flags([conn.from_start, conn.wire.is_some(), conn.peer.is_some(), false]);
    e.u32(conn.netns.0);
    e.u64(conn.cgroup.0);
    e.thread(conn.thread);
    e.endpoint(&conn.local);
    e.endpoint(&conn.remote);
    e.string(&conn.comm);
    let wire = conn.wire.unwrap_or(WireBase { egress: 0, ingress: 0 });
    e.u32(wire.egress);
    e.u32(wire.ingress);
    e.u64(conn.peer.map_or(0, |peer| peer.0));
}

/// A payload of a type in a file of a version that is read. `None`: a type of a later version.
pub(super) fn decode(version: u16, kind: u8, payload: &[u8]) -> Result<Option<Record>, &'static str> {
    let first = version == 1;
    let mut d = Decoder(payload);
    let record = match kind {
        CLOCK => (|| Some(Record::Clock(d.clocks()?)))(),
        CONN => decode_conn(&mut d).map(|conn| Record::Conn(Box::new(conn))),
        DATA => decode_data(&mut d, first).map(Record::Data),
        CLOSE => {
            (|| Some(Record::Close(Close { at: d.boot()?, conn: ConnId(d.u64()?), reset: d.u8()? != 0 })))()
        }
        PROCESS => decode_process(&mut d, first).map(Record::Process),
        PROCESS_INFO => decode_info(&mut d, first).map(|info| Record::ProcessInfo(Box::new(info))),
        CHAIN => decode_chain(&mut d).map(|chain| Record::Chain(Box::new(chain))),
        LOST => (|| Some(Record::Lost(Lost { at: d.boot()?, records: d.u64()?, bytes: d.u64()? })))(),
        _ => return Ok(None),
    };
    match record {
        Some(record) => Ok(Some(record)),
        None => Err(match kind {
            CLOCK => "a clock record is malformed",
            CONN => "a connection record is malformed",
            DATA => "a data record is malformed",
            CLOSE => "a close record is malformed",
            PROCESS => "a process record is malformed",
            PROCESS_INFO => "a process information record is malformed",
            CHAIN => "a chain record is malformed",
            _ => "a loss record is malformed",
        }),
    }
}

fn decode_conn(d: &mut Decoder<'_>) -> Option<Conn> {
    let (at, id) = (d.boot()?, ConnId(d.u64()?));
    let transport = match d.u8()? {
        0 => Transport::Tcp,
        1 => Transport::Mptcp,
        2 => Transport::Unix,
        _ => return None,
    };
    let role = match d.u8()? {
        0 => None,
        1 => Some(Role::Client),
        2 => Some(Role::Server),
        _ => return None,
    };
    let [from_start, has_wire, has_peer, _] = d.flags()?;
    let (netns, cgroup, thread) = (NetNs(d.u32()?), CgroupId(d.u64()?), d.thread()?);
    let (local, remote, comm) = (d.endpoint()?, d.endpoint()?, d.string()?);
    let wire = WireBase { egress: d.u32()?, ingress: d.u32()? };
    let peer = ConnId(d.u64()?);
    let (wire, peer) = (has_wire.then_some(wire), has_peer.then_some(peer));
    Some(Conn { at, id, transport, local, remote, netns, role, from_start, thread, comm, cgroup, wire, peer })
}

fn decode_data(d: &mut Decoder<'_>, first: bool) -> Option<Data> {
    let (at, conn) = (d.boot()?, ConnId(d.u64()?));
    let direction = match d.u8()? {
        0 => Direction::Ingress,
        1 => Direction::Egress,
        _ => return None,
    };
    let [unreadable, budget, plaintext, position_uncertain] = d.flags()?;
    let flags = DataFlags { unreadable, budget, plaintext, position_uncertain };
    let (pos, other_pos, len, thread) = (d.u64()?, d.u64()?, d.u32()?, d.thread()?);
    let awaited_by = if first { None } else { Some(d.u32()?) };
    let captured = d.u32()?;
    if captured > len {
        return None;
    }
    let bytes = Bytes::copy_from_slice(d.take(captured as usize)?);
    let awaited_by = awaited_by.or_else(|| d.u32()).and_then(Tid::some);
    Some(Data { at, conn, direction, pos, other_pos, len, bytes, thread, awaited_by, flags })
}

fn decode_chain(d: &mut Decoder<'_>) -> Option<Chain> {
    let (at, conn, thread, count) = (d.boot()?, ConnId(d.u64()?), d.thread()?, d.u8()?);
    if usize::from(count) > TASKS {
        return None;
    }
    let tasks = (0..count).map(|_| Some(TaskId(d.u64()?))).collect::<Option<_>>()?;
    Some(Chain { at, conn, thread, tasks })
}

fn decode_process(d: &mut Decoder<'_>, first: bool) -> Option<ProcessEvent> {
    let (at, tgid, kind, parent) = (d.boot()?, Tgid(d.u32()?), d.u8()?, d.u32()?);
    let tid = if first && kind != 3 { 0 } else { d.u32()? };
    let kind = match kind {
        0 => ProcessEventKind::Fork { parent_tgid: Tgid(parent) },
        1 => ProcessEventKind::Exec,
        2 => ProcessEventKind::Exit,
        3 => ProcessEventKind::Thread { creator: Tid(parent), tid: Tid(tid) },
        _ => return None,
    };
    Some(ProcessEvent { at, tgid, kind })
}

fn decode_info(d: &mut Decoder<'_>, first: bool) -> Option<ProcessInfo> {
    let (at, tgid, started_at) = (d.boot()?, Tgid(d.u32()?), d.boot()?);
    let (exe, comm, service) = (d.string()?, d.string()?, d.string()?);
    let [has_namespace, has_container, ..] = d.flags()?;
    let (namespace, container) = (d.string()?, d.string()?);
    let attributes = if first { decode_attributes(d).unwrap_or_default() } else { decode_attributes(d)? };
    Some(ProcessInfo {
        at,
        tgid,
        started_at,
        exe,
        comm,
        service,
        service_namespace: has_namespace.then_some(namespace),
        container_id: has_container.then_some(container),
        attributes,
    })
}

fn decode_attributes(d: &mut Decoder<'_>) -> Option<Vec<(String, String)>> {
    let count = d.u16()?.min(MAX_ATTRIBUTES as u16);
    (0..count).map(|_| Some((d.string()?, d.string()?))).collect()
}

/// Appends little-endian fields.
#[derive(Debug)]
pub(super) struct Encoder<'a>(pub(super) &'a mut Vec<u8>);

impl Encoder<'_> {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn boot(&mut self, moment: BootTime) {
        self.u64(moment.as_nanos());
    }

    pub(super) fn clocks(&mut self, clocks: ClockPair) {
        self.boot(clocks.boot);
        self.u64(clocks.wall.as_nanos());
    }

    /// At most 65,535 bytes of it, cut between characters.
    pub(super) fn string(&mut self, value: &str) {
        let value = value.get(..value.floor_char_boundary(usize::from(u16::MAX))).unwrap_or_default();
        self.u16(value.len() as u16);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn flags(&mut self, flags: [bool; 4]) {
        self.u8(flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
    }

    fn thread(&mut self, thread: Worker) {
        self.u32(thread.tgid.0);
        self.u32(thread.tid.0);
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        match endpoint {
            Endpoint::Unknown => self.u8(0),
            Endpoint::Inet(SocketAddr::V4(address)) => {
                self.u8(1);
                self.0.extend_from_slice(&address.ip().octets());
                self.u16(address.port());
            }
            Endpoint::Inet(SocketAddr::V6(address)) => {
                self.u8(2);
                self.0.extend_from_slice(&address.ip().octets());
                self.u16(address.port());
                self.u32(address.flowinfo());
                self.u32(address.scope_id());
            }
            Endpoint::Unix(path) => {
                self.u8(3);
                self.string(path);
            }
        }
    }
}

/// Takes little-endian fields; `None` when there is not enough, or not what it should be.
#[derive(Debug)]
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn boot(&mut self) -> Option<BootTime> {
        self.u64().map(BootTime::from_nanos)
    }

    pub(super) fn clocks(&mut self) -> Option<ClockPair> {
        Some(ClockPair { boot: self.boot()?, wall: WallTime::from_nanos(self.u64()?) })
    }

    pub(super) fn string(&mut self) -> Option<String> {
        let len = self.u16()?;
        std::str::from_utf8(self.take(len.into())?).ok().map(str::to_owned)
    }

    fn flags(&mut self) -> Option<[bool; 4]> {
        let byte = self.u8()?;
        Some([0, 1, 2, 3].map(|bit| byte >> bit & 1 == 1))
    }

    fn thread(&mut self) -> Option<Worker> {
        Some(Worker::new(self.u32()?, self.u32()?))
    }

    fn endpoint(&mut self) -> Option<Endpoint> {
        Some(match self.u8()? {
            0 => Endpoint::Unknown,
            1 => {
                let ip = Ipv4Addr::from(self.array::<4>()?);
                Endpoint::Inet(SocketAddrV4::new(ip, self.u16()?).into())
            }
            2 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let (port, flowinfo, scope_id) = (self.u16()?, self.u32()?, self.u32()?);
                Endpoint::Inet(SocketAddrV6::new(ip, port, flowinfo, scope_id).into())
            }
            3 => Endpoint::Unix(self.string()?),
            _ => return None,
        })
    }
}
