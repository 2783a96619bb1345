//! Where a socket stands in its streams: a `struct sock` and the bytes moved in, 64-bit positions out.
//!
//! *Owns* positions, wire identity and the role it shows. *Must not know* what is done with a position.
//!
//! TCP positions come from sequence numbers; where there are none, bytes moved are counted, also when a record is lost.

use spoor_common::{
    config::MISSING,
    record::{EGRESS, INGRESS, ROLE_CLIENT, ROLE_SERVER, TRANSPORT_TCP},
};

use super::{
    FROM_START, Flow, KNOWN, MANY_READERS, MANY_WRITERS, Place, RCV_SHUTDOWN, SEND_SHUTDOWN, State, WIRE,
    cookie, shutdown, tcp, transport,
};
use crate::{kernel::Object, maps::offset};

/// Fills the state of a socket whose handshake has just ended. Its positions are zero.
#[inline(always)]
pub(crate) fn begin(state: &mut State, sk: Object, role: u8) {
    state.transport = transport(sk);
    state.role = role;
    state.cookie = cookie(sk);
    let tcp = tcp(sk);
    if !tcp.is_null() {
        // Linux counts the SYN as acknowledged data on the connecting side only.
        let counted = u32::from(role == ROLE_CLIENT);
        let acked: u64 = tcp.load(offset!(bytes_acked));
        let received: u64 = tcp.load(offset!(bytes_received));
        state.egress.base =
            tcp.load::<u32>(offset!(snd_una)).wrapping_sub(acked as u32).wrapping_add(counted);
        state.ingress.base = tcp.load::<u32>(offset!(rcv_nxt)).wrapping_sub(received as u32);
        state.flags |= WIRE;
    }
    state.flags |= FROM_START | KNOWN;
}

/// Fills the state of a socket that is older than the agent, at the completion of its operation of `moved` bytes.
#[inline(always)]
pub(crate) fn join(state: &mut State, sk: Object, transport: u8, direction: u8, moved: u64) {
    state.transport = transport;
    state.cookie = cookie(sk);
    let tcp = if transport == TRANSPORT_TCP { tcp(sk) } else { Object(core::ptr::null()) };
    if !tcp.is_null() {
        let shutdown = shutdown(sk);
        let fin_sent = u32::from(shutdown & SEND_SHUTDOWN != 0);
        // First sample of both directions, then a second one: another CPU may be between two stores.
        let una: u32 = tcp.load(offset!(snd_una));
        let acked: u64 = tcp.load(offset!(bytes_acked));
        let next: u32 = tcp.load(offset!(snd_nxt));
        let sent: u64 = tcp.load(offset!(bytes_sent));
        let again: u64 = tcp.load(offset!(bytes_retrans));
        let rcv_nxt: u32 = tcp.load(offset!(rcv_nxt));
        let received: u64 = tcp.load(offset!(bytes_received));
        let acked_base = una.wrapping_sub(acked as u32);
        let sent_base = next.wrapping_sub(sent as u32).wrapping_add(again as u32);
        let ingress_base = rcv_nxt.wrapping_sub(received as u32);
        let received_again: u64 = tcp.load(offset!(bytes_received));
        let steady = ingress_base == tcp.load::<u32>(offset!(rcv_nxt)).wrapping_sub(received_again as u32);

        // `bytes_acked` counts the SYN on the connecting side only, `bytes_sent` on neither. A FIN that was sent is
        // in `snd_nxt`.
        let counted = sent_base.wrapping_sub(acked_base).wrapping_sub(fin_sent);
        let role = match counted {
            0 => ROLE_SERVER,
            1 => ROLE_CLIENT,
            _ => 0,
        };
        state.role = role;
        let syn = if role == ROLE_CLIENT { 1 } else { 0 };
        state.egress.base = acked_base.wrapping_add(syn);
        state.ingress.base = ingress_base;
        if role != 0 && steady {
            state.flags |= WIRE;
        }
        let write_seq: u32 = tcp.load(offset!(write_seq));
        let copied: u32 = tcp.load(offset!(copied_seq));
        let fin_read = shutdown & RCV_SHUTDOWN != 0 && copied == rcv_nxt;
        let egress = acked
            .wrapping_sub(u64::from(syn))
            .wrapping_add(u64::from(write_seq.wrapping_sub(una).wrapping_sub(fin_sent)));
        let ingress =
            received.wrapping_sub(u64::from(rcv_nxt.wrapping_sub(copied))).wrapping_sub(u64::from(fin_read));
        state.egress.end = egress;
        state.ingress.end = ingress;
        let flow = state.flow(direction);
        flow.end = flow.end.wrapping_sub(moved);
        if state.egress.end == 0 && state.ingress.end == 0 {
            state.flags |= FROM_START;
        }
        state.egress.settled = state.egress.end;
        state.ingress.settled = state.ingress.end;
    }
    state.flags |= KNOWN;
}

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
