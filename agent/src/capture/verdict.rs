//! What user space has decided, into the kernel: a [`ConnId`] and a [`Verdict`] → map entries.

use std::fmt;

use aya::maps::{Array, HashMap, Map, MapData};
use spoor_common::verdict::{self as layout, InheritKey};

use super::{error::CaptureError, load::map_error};
use spoor_core::record::{ConnId, NetNs, Role, Tgid};

/// How much of a connection the kernel copies from now on. Positions go on either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No records any more. Cannot be taken back: the kernel no longer looks.
    Ignore,
    /// Copy up to `turn_bytes` of each turn; the rest is reported as a length without bytes. Bytes before the
    /// given positions are left out: a large body whose end is known.
    Capture { turn_bytes: u32, skip_egress_until: u64, skip_ingress_until: u64 },
}

impl Verdict {
    /// Copies up to `turn_bytes` of each turn.
    pub fn capture(turn_bytes: u32) -> Self {
        Verdict::Capture { turn_bytes, skip_egress_until: 0, skip_ingress_until: 0 }
    }

    fn layout(self) -> layout::Verdict {
        let mut to = layout::Verdict::filled(0);
        match self {
            Verdict::Ignore => to.kind = layout::IGNORE,
            Verdict::Capture { turn_bytes, skip_egress_until, skip_ingress_until } => {
                to.kind = layout::CAPTURE;
                to.turn_bytes = u64::from(turn_bytes);
                to.skip_egress_until = skip_egress_until;
                to.skip_ingress_until = skip_ingress_until;
            }
        }
        to
    }
}

/// Connections to come that a verdict is inherited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    pub netns: NetNs,
    /// Port of the server's end.
    pub server_port: u16,
    pub tgid: Tgid,
    pub role: Role,
}

/// The kernel's verdict maps. The tables drop the entries that were unused for longest when they are full.
pub struct Verdicts {
    by_cookie: HashMap<MapData, u64, [u64; layout::Verdict::LEN]>,
    /// How often `by_cookie` was written: the probes look into it only then.
    set: Array<MapData, u64>,
    set_count: u64,
    inherited: HashMap<MapData, [u32; InheritKey::LEN], [u64; layout::Verdict::LEN]>,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts").field("set_count", &self.set_count).finish_non_exhaustive()
    }
}

impl Verdicts {
    pub(super) fn new(by_cookie: Map, set: Map, inherited: Map) -> Result<Self, CaptureError> {
        Ok(Self {
            by_cookie: by_cookie.try_into().map_err(map_error)?,
            set: set.try_into().map_err(map_error)?,
            set_count: 0,
            inherited: inherited.try_into().map_err(map_error)?,
        })
    }

    /// Decides about one connection; it takes effect at the connection's next operation.
    pub fn set(&mut self, conn: ConnId, verdict: Verdict) -> Result<(), CaptureError> {
        self.by_cookie.insert(conn.0, verdict.layout().words(), 0).map_err(map_error)?;
        self.set_count += 1;
        self.set.set(0, self.set_count, 0).map_err(map_error)
    }

    /// Decides about connections to come.
    pub fn inherit(&mut self, kind: Kind, verdict: Verdict) -> Result<(), CaptureError> {
        let role = match kind.role {
            Role::Client => spoor_common::record::ROLE_CLIENT,
            Role::Server => spoor_common::record::ROLE_SERVER,
        };
        let key = InheritKey {
            netns: kind.netns.0,
            server_port: u32::from(kind.server_port),
            tgid: kind.tgid.0,
            role: u32::from(role),
        };
        self.inherited.insert(key.words(), verdict.layout().words(), 0).map_err(map_error)
    }
}
