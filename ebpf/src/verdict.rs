//! How much of an operation is copied: the socket's verdict and budgets → a number of bytes.

use spoor_common::{
    limits::TURN_PAUSE_NS,
    record::EGRESS,
    verdict::{CAPTURE, IGNORE, InheritKey, UNDECIDED, Verdict},
};

use crate::{
    maps::{INHERITED, VERDICTS, VERDICTS_SET, setting},
    socket::{LAST_INGRESS, State},
};

#[inline(always)]
fn apply(state: &mut State, verdict: &Verdict) {
    state.verdict = verdict.kind as u32;
    state.turn_bytes = verdict.turn_bytes as u32;
    state.egress.skip_until = verdict.skip_egress_until;
    state.ingress.skip_until = verdict.skip_ingress_until;
}

/// Takes a verdict that waits for this socket.
#[inline(always)]
pub(crate) fn refresh(state: &mut State) {
    // A verdict is in the map before it is counted.
    let Some(&set) = VERDICTS_SET.get(0) else { return };
    if set == state.heard {
        return;
    }
    state.heard = set;
    let cookie = state.cookie;
    // SAFETY: the value is copied word by word at once; an entry re-used meanwhile belongs to another socket whose
    // verdict may then be applied to this one, which costs bytes and harms nothing. LRU entries are re-used only
    // when the map is full.
    if let Some(verdict) = unsafe { VERDICTS.get(cookie) } {
        apply(state, verdict);
        let _ = VERDICTS.remove(cookie);
    }
}

/// Takes the verdict for connections like this one.
#[inline(always)]
pub(crate) fn inherit(state: &mut State, key: &InheritKey) {
    // SAFETY: as in `refresh`.
    if let Some(verdict) = unsafe { INHERITED.get(key) } {
        state.verdict = verdict.kind as u32;
        state.turn_bytes = verdict.turn_bytes as u32;
    }
}

/// Whether the socket is ignored.
#[inline(always)]
pub(crate) fn ignored(state: &State) -> bool {
    u64::from(state.verdict) == IGNORE
}

/// First looks per direction before an undecided connection is down to lengths.
const LOOKS: u32 = 16;

/// Bytes to leave out at the start of an operation and bytes to copy after them.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) skip: u32,
    pub(crate) copy: u32,
}

/// Divides an operation of `moved` bytes at `pos` and charges what will be copied.
#[inline(always)]
pub(crate) fn share(state: &mut State, direction: u8, pos: u64, moved: u32, at_ns: u64) -> Share {
    let last = if state.flags & LAST_INGRESS != 0 { 1 } else { EGRESS };
    if last != direction {
        state.flags ^= LAST_INGRESS;
        state.turn_used = 0;
    }
    // A server may answer before it has read the body: then the next request comes in the same turn, but later.
    if at_ns.wrapping_sub(state.last_at_ns) > TURN_PAUSE_NS {
        state.turn_used = 0;
    }
    state.last_at_ns = at_ns;
    let until = state.flow(direction).skip_until;
    let skip = if until > pos {
        let ahead = until - pos;
        if ahead > u64::from(moved) { moved } else { ahead as u32 }
    } else {
        0
    };
    let wanted = moved - skip;
    let left = match u64::from(state.verdict) {
        UNDECIDED => {
            // A look at every turn, so that a long body does not hide the message behind it from a slow reader of the
            // ring; and a bound on all looks, for connections nobody decides about.
            let look = setting!(first_look_bytes) as u32;
            let turn = look.saturating_sub(state.turn_used);
            let all = look.saturating_mul(LOOKS).saturating_sub(state.flow(direction).looked);
            if turn < all { turn } else { all }
        }
        CAPTURE => state.turn_bytes.saturating_sub(state.turn_used),
        _ => 0,
    };
    let copy = if wanted < left { wanted } else { left };
    if u64::from(state.verdict) == UNDECIDED {
        state.flow(direction).looked = state.flow(direction).looked.saturating_add(copy);
    }
    state.turn_used = state.turn_used.saturating_add(copy);
    Share { skip, copy }
}
