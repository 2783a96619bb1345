//! Ring buffer bytes into facts: one record's bytes → an [`Event`].
//!
//! *Owns* the meaning of the layouts in [`spoor_common::record`]. Pure: no input panics.

use std::{
    mem::offset_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bytes::Bytes;
use spoor_common::{
    VERSION,
    limits::{COMM_LEN, PATH_LEN},
    record::{
        self, ChainRecord, CloseRecord, ConnRecord, DataHeader, ObjectRecord, ProcessRecord, UnixConnRecord,
    },
};

use spoor_core::record::{
    CgroupId, Chain, Close, Conn, ConnId, Data, DataFlags, Direction, Endpoint, NetNs, ProcessEvent,
    ProcessEventKind, Role, TaskId, Tgid, Tid, Transport, WireBase, Worker,
};
use spoor_core::time::BootTime;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// What a record of the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Conn(Box<Seen>),
    Data(Data),
    /// It goes with the next data of the same thread on the same connection.
    /// And whether it was read at a write or at a read.
    Chain(Chain, Direction),
    /// A copy waits to be taken.
    Object(Told),
    Close(Close),
    Process(ProcessEvent),
}

/// Where a copy of what a stack points to is, and what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub conn: ConnId,
    pub tgid: Tgid,
    /// A mode of [`spoor_common::look`].
    pub mode: u64,
    /// It is behind a pointer of the object, not of the object itself.
    pub is_pointee: bool,
    pub object: u64,
    /// Of its first byte.
    pub address: u64,
    pub len: usize,
    pub(super) slot: u32,
    pub(super) seal: u64,
}

#[cfg(test)]
impl Told {
    pub(crate) fn of(
        conn: ConnId,
        tgid: Tgid,
        mode: u64,
        (object, address): (u64, u64),
        is_pointee: bool,
    ) -> Self {
        Self { conn, tgid, mode, is_pointee, object, address, len: 0, slot: 0, seal: 0 }
    }
}

/// A connection as the kernel reported it, with what [`Conn`] has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub conn: Conn,
    /// It is the agent's own.
    pub own: bool,
}

/// A field of a layout as an integer of the machine's byte order.
macro_rules! field {
    ($bytes:expr, $layout:ty, $field:ident, $int:ty) => {
        <$int>::from_ne_bytes(part($bytes, offset_of!($layout, $field))?)
    };
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Reads one record. `None`: too short, or of another kind or version.
pub fn event(bytes: &[u8]) -> Option<Event> {
    let [kind, version]: [u8; 2] = part(bytes, 0)?;
    if version != VERSION {
        return None;
    }
    match kind {
        record::DATA => data(bytes).map(Event::Data),
        record::CHAIN => tasks(bytes).map(|(chain, direction)| Event::Chain(chain, direction)),
        record::OBJECT => object(bytes).map(Event::Object),
        record::CONN => connection(bytes).map(|seen| Event::Conn(Box::new(seen))),
        record::UNIX_CONN => unix_connection(bytes).map(|seen| Event::Conn(Box::new(seen))),
        record::CLOSE => Some(Event::Close(Close {
            at: BootTime::from_nanos(field!(bytes, CloseRecord, at_ns, u64)),
            conn: ConnId(field!(bytes, CloseRecord, cookie, u64)),
            reset: field!(bytes, CloseRecord, flags, u32) & record::CLOSE_RESET != 0,
        })),
        record::PROCESS => process(bytes).map(Event::Process),
        _ => None,
    }
}

fn data(bytes: &[u8]) -> Option<Data> {
    let flags = field!(bytes, DataHeader, flags, u8);
    let len = field!(bytes, DataHeader, len, u32);
    let captured = field!(bytes, DataHeader, captured, u32);
    if captured > len {
        return None;
    }
    let start = size_of::<DataHeader>();
    let payload = bytes.get(start..start.checked_add(captured as usize)?)?;
    Some(Data {
        at: BootTime::from_nanos(field!(bytes, DataHeader, at_ns, u64)),
        conn: ConnId(field!(bytes, DataHeader, cookie, u64)),
        direction: direction(field!(bytes, DataHeader, direction, u8))?,
        pos: field!(bytes, DataHeader, pos, u64),
        other_pos: field!(bytes, DataHeader, other_pos, u64),
        len,
        bytes: Bytes::copy_from_slice(payload),
        thread: Worker::new(field!(bytes, DataHeader, tgid, u32), field!(bytes, DataHeader, tid, u32)),
        awaited_by: Tid::some(field!(bytes, DataHeader, awaited_by, u32)),
        flags: DataFlags {
            unreadable: flags & record::DATA_UNREADABLE != 0,
            budget: flags & record::DATA_BUDGET != 0,
            plaintext: flags & record::DATA_PLAINTEXT != 0,
            position_uncertain: flags & record::DATA_UNCERTAIN != 0,
        },
    })
}

fn direction(number: u8) -> Option<Direction> {
    match number {
        record::EGRESS => Some(Direction::Egress),
        record::INGRESS => Some(Direction::Ingress),
        _ => None,
    }
}

fn tasks(bytes: &[u8]) -> Option<(Chain, Direction)> {
    let is_broken = field!(bytes, ChainRecord, is_broken, u8) != 0;
    let count = if is_broken { 0 } else { field!(bytes, ChainRecord, len, u8) };
    let all = bytes.get(offset_of!(ChainRecord, tasks)..size_of::<ChainRecord>())?;
    let (all, _) = all.as_chunks::<8>();
    let tasks = all.get(..usize::from(count))?;
    let chain = Chain {
        at: BootTime::from_nanos(field!(bytes, ChainRecord, at_ns, u64)),
        conn: ConnId(field!(bytes, ChainRecord, cookie, u64)),
        thread: Worker::new(field!(bytes, ChainRecord, tgid, u32), field!(bytes, ChainRecord, tid, u32)),
        tasks: tasks.iter().map(|task| TaskId(u64::from_ne_bytes(*task))).collect(),
    };
    Some((chain, direction(u8::try_from(field!(bytes, ChainRecord, direction, u32)).ok()?)?))
}

fn object(bytes: &[u8]) -> Option<Told> {
    Some(Told {
        conn: ConnId(field!(bytes, ObjectRecord, cookie, u64)),
        tgid: Tgid(field!(bytes, ObjectRecord, tgid, u32)),
        mode: u64::from(field!(bytes, ObjectRecord, mode, u8)),
        is_pointee: field!(bytes, ObjectRecord, is_pointee, u8) != 0,
        object: field!(bytes, ObjectRecord, object, u64),
        address: field!(bytes, ObjectRecord, address, u64),
        len: field!(bytes, ObjectRecord, len, u32) as usize,
        slot: field!(bytes, ObjectRecord, slot, u32),
        seal: field!(bytes, ObjectRecord, seal, u64),
    })
}

fn connection(bytes: &[u8]) -> Option<Seen> {
    let flags = field!(bytes, ConnRecord, flags, u32);
    let family = field!(bytes, ConnRecord, family, u16);
    let local: [u8; 16] = part(bytes, offset_of!(ConnRecord, local))?;
    let remote: [u8; 16] = part(bytes, offset_of!(ConnRecord, remote))?;
    let comm: [u8; COMM_LEN] = part(bytes, offset_of!(ConnRecord, comm))?;
    let peer = field!(bytes, ConnRecord, peer, u64);
    let conn = Conn {
        at: BootTime::from_nanos(field!(bytes, ConnRecord, at_ns, u64)),
        id: ConnId(field!(bytes, ConnRecord, cookie, u64)),
        transport: match field!(bytes, ConnRecord, transport, u8) {
            record::TRANSPORT_TCP => Transport::Tcp,
            record::TRANSPORT_MPTCP => Transport::Mptcp,
            record::TRANSPORT_UNIX => Transport::Unix,
            _ => return None,
        },
        local: endpoint(family, local, field!(bytes, ConnRecord, local_port, u16)),
        remote: endpoint(family, remote, field!(bytes, ConnRecord, remote_port, u16)),
        netns: NetNs(field!(bytes, ConnRecord, netns, u32)),
        role: match field!(bytes, ConnRecord, role, u8) {
            record::ROLE_CLIENT => Some(Role::Client),
            record::ROLE_SERVER => Some(Role::Server),
            _ => None,
        },
        from_start: flags & record::CONN_FROM_START != 0,
        thread: Worker::new(field!(bytes, ConnRecord, tgid, u32), field!(bytes, ConnRecord, tid, u32)),
        comm: text(comm.split(|&b| b == 0).next().unwrap_or_default()),
        cgroup: CgroupId(field!(bytes, ConnRecord, cgroup, u64)),
        wire: (flags & record::CONN_WIRE != 0).then_some(WireBase {
            egress: field!(bytes, ConnRecord, egress_base, u32),
            ingress: field!(bytes, ConnRecord, ingress_base, u32),
        }),
        peer: (peer != 0).then_some(ConnId(peer)),
    };
    Some(Seen { conn, own: flags & record::CONN_OWN != 0 })
}

fn unix_connection(bytes: &[u8]) -> Option<Seen> {
    let mut seen = connection(bytes)?;
    let path: [u8; PATH_LEN] = part(bytes, offset_of!(UnixConnRecord, path))?;
    let len = field!(bytes, UnixConnRecord, path_len, u32) as usize;
    let path = Endpoint::Unix(unix_path(path.get(..len)?));
    let unnamed = Endpoint::Unix(String::new());
    (seen.conn.local, seen.conn.remote) = match field!(bytes, UnixConnRecord, side, u32) {
        record::PATH_NONE => (unnamed.clone(), unnamed),
        record::PATH_LOCAL => (path, unnamed),
        record::PATH_REMOTE => (unnamed, path),
        _ => return None,
    };
    Some(seen)
}

/// `sun_path`: ends at its first NUL, except that a NUL in front marks an abstract name, shown as `@`.
fn unix_path(path: &[u8]) -> String {
    match path.split_first() {
        None => String::new(),
        Some((0, name)) => format!("@{}", text(name)),
        Some(_) => text(path.split(|&b| b == 0).next().unwrap_or_default()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An IPv4-mapped IPv6 address is an IPv4 address.
fn endpoint(family: u16, address: [u8; 16], port: u16) -> Endpoint {
    let [a, b, c, d, ..] = address;
    let ip = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        AF_INET6 => Ipv6Addr::from(address).to_canonical(),
        _ => return Endpoint::Unknown,
    };
    Endpoint::Inet(SocketAddr::new(ip, port))
}

fn process(bytes: &[u8]) -> Option<ProcessEvent> {
    Some(ProcessEvent {
        at: BootTime::from_nanos(field!(bytes, ProcessRecord, at_ns, u64)),
        tgid: Tgid(field!(bytes, ProcessRecord, tgid, u32)),
        kind: match field!(bytes, ProcessRecord, event, u8) {
            record::PROCESS_FORK => {
                ProcessEventKind::Fork { parent_tgid: Tgid(field!(bytes, ProcessRecord, parent, u32)) }
            }
            record::PROCESS_THREAD => ProcessEventKind::Thread {
                tid: Tid(field!(bytes, ProcessRecord, tid, u32)),
                creator: Tid(field!(bytes, ProcessRecord, parent, u32)),
            },
            record::PROCESS_EXEC => ProcessEventKind::Exec,
            record::PROCESS_EXIT => ProcessEventKind::Exit,
            _ => return None,
        },
    })
}
