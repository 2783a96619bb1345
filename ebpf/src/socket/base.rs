//! Where a socket's positions start: a `struct sock` → the bases of its state.
//!
//! *Owns* the bases, wire identity and the role the socket shows. *Must not know* operations.

use spoor_common::{
    Counter,
    record::{ROLE_CLIENT, ROLE_SERVER, TRANSPORT_TCP},
};

use super::{FROM_START, KNOWN, RCV_SHUTDOWN, SEND_SHUTDOWN, State, WIRE, cookie, shutdown, tcp, transport};
use crate::{kernel::Object, maps::offset, rare::rare};

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
        } else {
            rare(Counter::WireUnknown, 1, state.cookie);
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
