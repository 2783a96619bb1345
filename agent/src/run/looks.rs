//! Processes of which the kernel side copies what stacks point to: those of which a connection waits for its secret.
//!
//! *Owns* that nobody else is looked at: a process is named with its first connection that waits, which only a selected one has, and
//! is left when it ends, becomes another program, or may not be read any more.

use std::collections::HashMap;

use spoor_common::look::{self, KINDS, Look, NOWHERE, PROCESSES};

use crate::secrets::memory::objects::{Plan, Pointer};
use crate::source::live::Live;
use spoor_core::conn::ConnInfo;
use spoor_core::record::{Endpoint, Role, Tgid};

/// Sends of a process that are learned from at a time: those of some five connections, 1.5 MiB as most programs' stacks are.
const LEARNED_FROM: u64 = 16;
/// Times that it is learned again where it came to nothing. Programs that hand what they encrypt to other code have nothing on
/// the stack.
const MAX_AGAIN: u32 = 8;
/// Connections that wait from one such time to the next.
const AGAIN_AFTER: u32 = 50;

#[derive(Debug)]
struct Process {
    kinds: [u64; KINDS],
    plan: Plan,
    /// Connections since it was told, and how often it was learned again.
    waited: u32,
    again: u32,
}

#[derive(Debug, Default)]
pub(super) struct Looks {
    processes: HashMap<Tgid, Process>,
}

impl Looks {
    /// A connection of a process waits for its secret.
    pub(super) fn want(&mut self, tgid: Tgid, info: &ConnInfo, live: &mut Live) {
        let Some(kind) = kind(info).filter(|_| live.can_look()) else { return };
        if self.processes.len() >= PROCESSES && !self.processes.contains_key(&tgid) {
            return;
        }
        let is_unknown = !self.processes.contains_key(&tgid);
        let process = self.processes.entry(tgid).or_insert(Process {
            kinds: [0; KINDS],
            plan: Plan::Learn,
            waited: 0,
            again: 0,
        });
        process.waited = process.waited.saturating_add(1);
        let is_again = !matches!(process.plan, Plan::Use { .. })
            && process.waited >= AGAIN_AFTER
            && process.again < MAX_AGAIN;
        let is_known = process.kinds.contains(&kind);
        let free = process.kinds.iter_mut().find(|place| **place == 0).filter(|_| !is_known);
        let is_new = free.map(|place| *place = kind).is_some();
        if is_again {
            (process.waited, process.again) = (0, process.again + 1);
        }
        if is_new || is_again {
            live.look(tgid, &process.look(), is_unknown);
        }
    }

    /// More is known of a process.
    pub(super) fn plan(&mut self, tgid: Tgid, plan: Plan, live: &mut Live) {
        // One that was left meanwhile stays so.
        if let Some(process) = self.processes.get_mut(&tgid) {
            (process.plan, process.waited, process.again) = (plan, 0, 0);
            live.look(tgid, &process.look(), false);
        }
    }

    /// The process is over, or another program. The kernel side has left it, unless it was named while it became that.
    pub(super) fn forget(&mut self, tgid: Tgid, live: &mut Live) {
        if self.processes.remove(&tgid).is_some() {
            live.leave(tgid);
        }
    }

    /// Nobody is looked at any more.
    pub(super) fn leave(&mut self, live: &mut Live) {
        for tgid in std::mem::take(&mut self.processes).into_keys() {
            live.leave(tgid);
        }
    }
}

impl Process {
    fn look(&self) -> Look {
        let mut look = Look::filled(0);
        [look.kind_0, look.kind_1, look.kind_2, look.kind_3] = self.kinds;
        (look.window_at, look.pointer_at) = (NOWHERE, NOWHERE);
        (look.mode, look.left) = (look::LEARN, LEARNED_FROM);
        match self.plan {
            Plan::Learn => {}
            Plan::Follow(signature) => {
                (look.mode, look.signature_at, look.signature) = (look::FOLLOW, signature.at, signature.word);
            }
            Plan::Use { signature, window_at, pointer } => {
                (look.mode, look.signature_at, look.signature) = (look::USE, signature.at, signature.word);
                look.left = u64::MAX;
                look.window_at = window_at.unwrap_or(NOWHERE);
                if let Some(Pointer { at, pointee_at }) = pointer {
                    (look.pointer_at, look.pointee_at) = (at, pointee_at);
                }
            }
        }
        look
    }
}

/// Which connections of the process are like this one.
fn kind(info: &ConnInfo) -> Option<u64> {
    let (role, server) = match info.role? {
        Role::Client => (spoor_common::record::ROLE_CLIENT, &info.conn.remote),
        Role::Server => (spoor_common::record::ROLE_SERVER, &info.conn.local),
    };
    let Endpoint::Inet(server) = server else { return None };
    Some(look::kind(role, server.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::memory::objects::Signature;

    fn told(plan: Plan) -> Look {
        Process { kinds: [look::kind(2, 443), 0, 0, 0], plan, waited: 0, again: 0 }.look()
    }

    #[test]
    fn what_is_not_known_is_not_copied() {
        let signature = Signature { at: 8, word: 0x7f00_0000_1000 };
        let learn = told(Plan::Learn);
        assert_eq!((learn.mode, learn.left), (look::LEARN, LEARNED_FROM), "a bounded number of sends");
        let follow = told(Plan::Follow(signature));
        assert_eq!((follow.mode, follow.left), (look::FOLLOW, LEARNED_FROM));
        assert_eq!((follow.signature_at, follow.signature), (8, 0x7f00_0000_1000));
        let used = told(Plan::Use { signature, window_at: Some(1680), pointer: None });
        assert_eq!((used.mode, used.window_at, used.pointer_at), (look::USE, 1680, NOWHERE));
        let pointer = Some(Pointer { at: 0x918, pointee_at: 0 });
        let used = told(Plan::Use { signature, window_at: None, pointer });
        assert_eq!((used.window_at, used.pointer_at, used.pointee_at), (NOWHERE, 0x918, 0));
        assert_eq!([used.kind_0, used.kind_1], [2 << 16 | 443, 0]);
    }
}
