//! The core routine of every rung: a completed socket operation → its records.
//!
//! *Owns* the order of checks, cheapest first. *Must not know* which hook saw the operation.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
#[cfg(not(feature = "untyped"))]
use spoor_common::names::JUMP_LOOK;
use spoor_common::{
    Counter,
    record::{self, DataHeader, EGRESS, INGRESS, TRANSPORT_UNIX},
};

use crate::{
    budget, copy,
    emit::{self, Owner},
    goroutine,
    introduce::introduce,
    kernel::{Object, current_task},
    maps::{count, offset},
    rare::rare,
    socket, syscall, verdict,
};

pub(crate) const MSG_OOB: i32 = 0x1;
pub(crate) const MSG_PEEK: i32 = 0x2;
const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;

/// When the operation is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// The system call is over: what it was called with is then read from where it outlives the call.
    pub(crate) returned: bool,
    /// Bytes that later operations of the same call have moved by then.
    pub(crate) ahead: u64,
    /// It may be left to another program, which comes back.
    #[cfg_attr(feature = "untyped", expect(dead_code, reason = "only typed hooks ask whose socket it is"))]
    pub(crate) may_jump: bool,
}

impl Moment {
    /// Right after the operation.
    pub(crate) const DONE: Self = Self { returned: false, ahead: 0, may_jump: false };

    /// The same, and who waits for it has not been looked for.
    #[cfg(not(feature = "untyped"))]
    pub(crate) const FIRST: Self = Self { may_jump: true, ..Self::DONE };
}

/// A socket operation that returned `ret`. Cheap refusals come first. Returns the program that it is left to, which comes
/// back.
#[inline(always)]
pub(crate) fn operation(sk: Object, ret: i32, flags: i32, direction: u8, moment: Moment) -> Option<u32> {
    let transport = socket::transport(sk);
    if transport == 0 {
        return None;
    }
    if ret <= 0 {
        nothing_moved(sk, transport, direction);
        return None;
    }
    // Peeking moves nothing. An urgent byte and the error queue are not the stream.
    if flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE) != 0 {
        return None;
    }
    #[cfg_attr(feature = "untyped", expect(unused_mut, reason = "only typed hooks ask whose socket it is"))]
    let mut known = socket::state(sk);
    if let Some(state) = &known
        && verdict::ignored(state)
    {
        count(Counter::Ignored, 1);
        return None;
    }
    #[cfg(not(feature = "untyped"))]
    if moment.may_jump
        && let Some(state) = &mut known
    {
        if direction == EGRESS && crate::look::is_due(state, sk) {
            return Some(JUMP_LOOK);
        }
        if let Some(follower) = crate::chain::follower(state, direction) {
            return Some(follower);
        }
    }
    // Sockets of the kernel itself have no file.
    let socket = sk.follow(offset!(sk_socket));
    if socket.is_null() {
        return None;
    }
    let file = socket.follow(offset!(socket_file));
    if file.is_null() {
        return None;
    }
    let Some(state) = known.or_else(|| socket::state_or_new(sk)) else {
        rare(Counter::StateFailed, 1, u64::from(ret as u32));
        return None;
    };
    if state.flags & socket::KNOWN == 0 {
        socket::join(state, sk, transport, direction, u64::from(ret as u32).wrapping_add(moment.ahead));
    }
    // SAFETY: the helper has no preconditions.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let task = current_task();
    if state.cgroup == 0 {
        state.cgroup = budget::cgroup(task);
    }
    let introduced = introduce(state, sk, Owner { tgid, tid, netns: 0 });
    if verdict::ignored(state) {
        return None;
    }
    verdict::refresh(state);
    if verdict::ignored(state) {
        count(Counter::Ignored, 1);
        return None;
    }

    let place = socket::advance(state, sk, direction, u64::from(ret as u32), moment.ahead, tid);
    let at_ns = emit::now_ns();
    let share = verdict::share(state, direction, place.pos, ret as u32, at_ns);
    let mut source = syscall::source(state, task, file, tid, ret, moment.returned);
    // Bytes thrown away by the caller's wish never reached its buffer.
    if flags & MSG_TRUNC != 0 {
        source.address = 0;
    }
    // Only now: the stream goes on, whether it is reported or not.
    if !introduced || !budget::admits_data(state.cgroup, share.copy, source.segments != 0) {
        count(Counter::CgroupLostBytes, u64::from(ret as u32));
        rare(Counter::CgroupLost, 1, state.cgroup);
        return None;
    }
    let mut data_flags = 0;
    if !place.certain {
        data_flags |= record::DATA_UNCERTAIN;
        rare(Counter::PositionUncertain, 1, state.cookie);
    }
    // Where the call is over, as many programs run as fit the stack without.
    let awaited = direction == EGRESS && !moment.returned;
    let worker = goroutine::worker(task, tid, awaited);
    let header = DataHeader {
        kind: record::DATA,
        version: 0,
        direction,
        flags: data_flags,
        awaited_by: worker.awaited_by,
        at_ns,
        cookie: state.cookie,
        pos: place.pos,
        other_pos: place.other_pos,
        len: 0,
        captured: 0,
        tgid,
        tid: worker.tid,
    };
    copy::operation(header, &source, share, ret as u32);
    None
}

/// An operation that failed or met the end of the stream.
#[inline(always)]
fn nothing_moved(sk: Object, transport: u8, direction: u8) {
    let Some(state) = socket::state(sk) else { return };
    syscall::batch_ended(state);
    // A Unix socket has no hook for its end. Reading the end of the stream after the other end is gone is one.
    if transport == TRANSPORT_UNIX
        && direction == INGRESS
        && state.flags & socket::SENT != 0
        && socket::shutdown(sk) == socket::SHUTDOWN_BOTH
    {
        state.flags &= !(socket::SENT | socket::PEER_SENT);
        emit::close(state.cookie, 0);
        if state.peer != 0 {
            emit::close(state.peer, 0);
        }
    }
}
