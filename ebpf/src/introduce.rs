//! A socket's first word to user space: its state and its process → a connection record, once.
//!
//! *Owns* when a connection is reported again, and that the agent's own sockets are left alone.

use aya_ebpf::helpers::generated::bpf_get_ns_current_pid_tgid;
use spoor_common::{
    record::{self, TRANSPORT_UNIX},
    verdict::{IGNORE, InheritKey},
};

use crate::{
    budget,
    emit::{self, Owner},
    kernel::Object,
    maps::{TRACED, offset, setting},
    socket::{self, State},
    verdict,
};

/// Tells user space about the socket, once, and again when the other end of a Unix socket becomes known. False when its
/// cgroup may not introduce more for now.
#[inline(always)]
pub(crate) fn introduce(state: &mut State, sk: Object, mut owner: Owner) -> bool {
    if state.transport == TRANSPORT_UNIX && state.flags & socket::PEER_SENT == 0 {
        let unix = socket::unix(sk);
        if !unix.is_null() {
            let peer = socket::unix_peer(unix);
            if peer != 0 {
                state.peer = peer;
                state.flags = (state.flags | socket::PEER_SENT) & !socket::SENT;
            }
        }
    }
    if state.flags & socket::SENT != 0 {
        return true;
    }
    if state.flags & socket::PEER_SENT == 0 {
        socket::settle_cookie(state, sk);
    }
    let net = sk.follow(offset!(sk_net));
    owner.netns = net.load(offset!(netns_inum));
    if own() {
        state.flags |= socket::OWN;
        state.verdict = IGNORE as u32;
    } else if state.role != 0 && u64::from(state.verdict) == 0 {
        let server_port = if state.role == record::ROLE_SERVER {
            u32::from(sk.load::<u16>(offset!(sk_num)))
        } else {
            u32::from(u16::from_be(sk.load::<u16>(offset!(sk_dport))))
        };
        let key =
            InheritKey { netns: owner.netns, server_port, tgid: owner.tgid, role: u32::from(state.role) };
        verdict::inherit(state, &key);
    }
    if !budget::admits_connection(state.cgroup) {
        return false;
    }
    let _ = TRACED.insert(owner.tgid, 0, 0);
    if emit::connection(state, sk, &owner) {
        state.flags |= socket::SENT;
    }
    true
}

/// Whether the current process is the agent.
#[inline(always)]
fn own() -> bool {
    #[repr(C)]
    struct Ids {
        pid: u32,
        tgid: u32,
    }
    let mut ids = Ids { pid: 0, tgid: 0 };
    // SAFETY: the destination is a local of the given size. The helper fails for tasks of other PID namespaces.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            setting!(pidns_dev),
            setting!(pidns_ino),
            (&raw mut ids).cast(),
            size_of::<Ids>() as u32,
        )
    };
    failed == 0 && u64::from(ids.tgid) == setting!(own_tgid)
}
