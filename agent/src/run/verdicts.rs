//! What the pipeline wants of a connection, as what the kernel can be told.
//!
//! The pipeline names one wish at a time; the kernel's verdict holds all of a connection's.

use std::collections::{HashMap, HashSet};

use crate::capture::verdict::{Kind, Verdict as Order};
use crate::source::live::Live;
use spoor_core::conn::{ConnInfo, Verdict, VerdictUpdate};
use spoor_core::record::{ConnId, Direction, Endpoint, Role};

/// Connections whose verdict is remembered. The kernel's own map is bounded too.
const MAX_CONNECTIONS: usize = 1 << 17;
/// Kinds that are not told again. The kernel's map forgets those unused for longest: telling all of them again now and
/// then keeps it complete.
const MAX_KINDS: usize = spoor_common::limits::INHERITED / 2;

/// The verdicts in force.
#[derive(Debug)]
pub(super) struct Verdicts {
    default_turn: u32,
    by_conn: HashMap<ConnId, Wish>,
    /// Kinds of connections whose verdict is inherited.
    kinds: HashSet<Kind>,
}

/// Which later connections are like this one.
fn kind(info: &ConnInfo) -> Option<Kind> {
    let role = info.role?;
    let server = match role {
        Role::Client => &info.conn.remote,
        Role::Server => &info.conn.local,
    };
    let Endpoint::Inet(server) = server else { return None };
    Some(Kind { netns: info.conn.netns, server_port: server.port(), tgid: info.conn.thread.tgid, role })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wish {
    turn_bytes: u32,
    egress_until: u64,
    ingress_until: u64,
}

impl Verdicts {
    /// `default_turn` is `capture.turn_bytes`: the bound of a turn whatever the pipeline wishes.
    pub(super) fn new(default_turn: u32) -> Self {
        Self { default_turn, by_conn: HashMap::new(), kinds: HashSet::new() }
    }

    /// `info` is the connection's, while it is known.
    pub(super) fn apply(&mut self, update: VerdictUpdate, info: Option<&ConnInfo>, live: &mut Live) {
        let told = self.told(update);
        if let Verdict::Capture { turn_bytes } = update.verdict
            && let Some(kind) = info.and_then(kind)
            && self.is_news(kind)
        {
            // What one process speaks at one port it goes on speaking: the next connection needs no first look.
            let turn_bytes = turn_bytes.min(self.default_turn);
            let to_come = Order::Capture { turn_bytes, skip_egress_until: 0, skip_ingress_until: 0 };
            live.inherit_verdict(kind, to_come);
        }
        live.set_verdict(update.conn, told);
    }

    /// The kernel has not been told of this kind lately.
    fn is_news(&mut self, kind: Kind) -> bool {
        if self.kinds.len() >= MAX_KINDS {
            self.kinds.clear();
        }
        self.kinds.insert(kind)
    }

    /// The connection is over.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.by_conn.remove(&conn);
    }

    fn told(&mut self, update: VerdictUpdate) -> Order {
        if update.verdict == Verdict::Ignore {
            self.forget(update.conn);
            return Order::Ignore;
        }
        let known = self.by_conn.get(&update.conn).copied();
        let mut wish = known.unwrap_or(Wish { turn_bytes: self.default_turn, ..Wish::default() });
        match update.verdict {
            Verdict::Ignore => {}
            Verdict::Capture { turn_bytes } => wish.turn_bytes = turn_bytes.min(self.default_turn),
            Verdict::Skip { direction: Direction::Egress, until_pos } => wish.egress_until = until_pos,
            Verdict::Skip { direction: Direction::Ingress, until_pos } => wish.ingress_until = until_pos,
        }
        if known.is_some() || self.by_conn.len() < MAX_CONNECTIONS {
            self.by_conn.insert(update.conn, wish);
        }
        Order::Capture {
            turn_bytes: wish.turn_bytes,
            skip_egress_until: wish.egress_until,
            skip_ingress_until: wish.ingress_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use spoor_core::record::{NetNs, Tgid};

    use super::*;

    fn update(verdict: Verdict) -> VerdictUpdate {
        VerdictUpdate { conn: ConnId(1), verdict }
    }

    #[test]
    fn kinds_are_told_again_after_many_others() {
        let mut verdicts = Verdicts::new(1000);
        let kind = |tgid| Kind { netns: NetNs(1), server_port: 80, tgid: Tgid(tgid), role: Role::Client };
        assert!(verdicts.is_news(kind(0)));
        assert!(!verdicts.is_news(kind(0)));
        for tgid in 1..=MAX_KINDS as u32 {
            assert!(verdicts.is_news(kind(tgid)));
            assert!(verdicts.kinds.len() <= MAX_KINDS);
        }
        assert!(verdicts.is_news(kind(0)));
    }

    #[test]
    fn wishes_add_up() {
        let mut verdicts = Verdicts::new(1000);
        let told = |turn_bytes, skip_egress_until, skip_ingress_until| Order::Capture {
            turn_bytes,
            skip_egress_until,
            skip_ingress_until,
        };
        let skip = |direction, until_pos| update(Verdict::Skip { direction, until_pos });
        assert_eq!(verdicts.told(skip(Direction::Egress, 50)), told(1000, 50, 0));
        assert_eq!(verdicts.told(skip(Direction::Ingress, 70)), told(1000, 50, 70));
        assert_eq!(verdicts.told(update(Verdict::Capture { turn_bytes: 10 })), told(10, 50, 70));
        assert_eq!(verdicts.told(update(Verdict::Capture { turn_bytes: 5000 })), told(1000, 50, 70));
        assert_eq!(verdicts.told(update(Verdict::Ignore)), Order::Ignore);
        assert_eq!(verdicts.told(skip(Direction::Egress, 5)), told(1000, 5, 0));
    }
}
