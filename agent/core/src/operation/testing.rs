//! A detail → an operation of it: what tests of every floor begin with.

use super::{Completeness, Detail, Extent, OpSide, Operation};
use crate::record::{OpId, Role};
use crate::time::BootTime;

/// One that a client asked for and that is over, at no particular time.
pub(crate) fn operation(detail: Detail) -> Operation {
    Operation {
        id: OpId(1),
        shape: OpSide::Outgoing,
        role: Role::Client,
        request: Extent::default(),
        response: None,
        ended_at: BootTime::ZERO,
        completeness: Completeness::Complete,
        detail,
    }
}
