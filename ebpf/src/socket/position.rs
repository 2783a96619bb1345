//! Where a socket stands in its streams: a `struct sock` and the bytes moved → 64-bit positions.
//!
//! *Owns* positions. *Must not know* what is done with a position.
//!
//! TCP positions come from sequence numbers; where there are none, bytes moved are counted, also when a record is lost.

use spoor_common::{
    config::MISSING,
    record::{EGRESS, INGRESS, TRANSPORT_TCP},
};

use super::{Flow, MANY_READERS, MANY_WRITERS, Place, RCV_SHUTDOWN, SEND_SHUTDOWN, State, shutdown, tcp};
use crate::{kernel::Object, maps::offset};

/// Extends the sequence number `now` to the position nearest to `near`.
#[inline(always)]
fn position(base: u32, near: u64, now: u32) -> u64 {
    let ahead = now.wrapping_sub(base.wrapping_add(near as u32)) as i32;
    near.wrapping_add(ahead as i64 as u64)
}

/// Moves the state past an operation of `moved` bytes. The kernel's counter is `ahead` by what later ones have moved.
#[inline(always)]
pub(crate) fn advance(
    state: &mut State,
    sk: Object,
    direction: u8,
    moved: u64,
    ahead: u64,
    tid: u32,
) -> Place {
    let many = if direction == EGRESS { MANY_WRITERS } else { MANY_READERS };
    let flow = state.flow(direction);
    if flow.tid == 0 {
        flow.tid = tid;
    } else if flow.tid != tid {
        state.flags |= many;
    }
    let tcp = if state.transport == TRANSPORT_TCP { tcp(sk) } else { Object(core::ptr::null()) };
    if tcp.is_null() {
        let other_pos = state.flow(direction ^ 1).end;
        let pos = claim(state.flow(direction), moved);
        return Place { pos, other_pos, certain: true };
    }
    if offset!(ulp_ops) != MISSING && !tcp.follow(offset!(ulp_ops)).is_null() {
        // Kernel TLS: the program's bytes are plaintext, the sequence numbers count ciphertext.
        let other_pos = state.flow(direction ^ 1).end;
        let pos = claim(state.flow(direction), moved);
        return Place { pos, other_pos, certain: false };
    }
    let shutdown = shutdown(sk);
    let (seq, fin): (u32, u8) = if direction == EGRESS {
        (tcp.load(offset!(write_seq)), SEND_SHUTDOWN)
    } else {
        (tcp.load(offset!(copied_seq)), RCV_SHUTDOWN)
    };
    let (other_seq, other_fin): (u32, u8) = if direction == EGRESS {
        (tcp.load(offset!(copied_seq)), RCV_SHUTDOWN)
    } else {
        (tcp.load(offset!(write_seq)), SEND_SHUTDOWN)
    };

    let other = state.flow(direction ^ 1);
    let mut other_pos = position(other.base, other.end, other_seq);
    // A FIN takes a sequence number but is no byte.
    if shutdown & other_fin != 0 && other_pos == other.end.wrapping_add(1) {
        other_pos = other.end;
    }

    let shared = state.flags & many != 0;
    let flow = state.flow(direction);
    let mut now = position(flow.base, flow.end, seq);
    now = now.wrapping_sub(ahead);
    let expected = flow.end.wrapping_add(moved);
    if shutdown & fin != 0 && now == expected.wrapping_add(1) {
        now = expected;
    }
    let pos = now.wrapping_sub(moved);
    if !shared && pos as i64 > flow.end as i64 {
        // What lies between has no event. One thread that reads may have moved it with `splice`. Where one writes, a
        // second one that has not reported yet is as likely, until the gap is still the same at the next operation.
        if direction == INGRESS || pos as u32 == flow.jumped_to {
            flow.end = now;
            flow.settled = now;
        } else {
            claim(flow, moved);
            flow.jumped_to = now as u32;
        }
        return Place { pos, other_pos, certain: direction == INGRESS };
    }
    // All bytes below `settled` have been reported. Where the counter is ahead of it by this operation only, this is
    // its place, whatever other threads report meanwhile.
    let is_next = pos == flow.settled;
    let reported = claim(flow, moved);
    let end = reported.wrapping_add(moved);
    // Read after the claim: the counter is never behind what is reported, so equal means that nothing is under way.
    let counter: u32 = tcp.load(if direction == EGRESS { offset!(write_seq) } else { offset!(copied_seq) });
    let counter = position(flow.base, end, counter).wrapping_sub(ahead);
    if counter == end {
        flow.settled = end;
    } else if (end as i64) > counter as i64 {
        // What was taken for a gap without an event has been reported after all.
        claim(flow, counter.wrapping_sub(end));
    }
    Place { pos: if shared { reported } else { pos }, other_pos, certain: is_next && reported == pos }
}

/// Takes the next `moved` bytes of a direction, also against other CPUs.
#[inline(always)]
fn claim(flow: &mut Flow, moved: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut before = moved;
        // SAFETY: one atomic instruction on an aligned field of a map value.
        unsafe {
            core::arch::asm!(
                "{value} = atomic_fetch_add((u64 *)({address} + 0), {value})",
                value = inout(reg) before,
                address = in(reg) &raw mut flow.end,
            );
        }
        before
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let before = flow.end;
        flow.end = before.wrapping_add(moved);
        before
    }
}
