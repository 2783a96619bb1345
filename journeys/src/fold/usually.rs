//! Where an order is and what was learned → what orders usually do from there.

use serde::{Deserialize, Serialize};

use super::{Journey, Reason};
use crate::facts::FactId;
use crate::model::{Model, Usual};

/// What orders usually do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Usually {
    /// They take so long from the beginning to a good end.
    Take { micros: i64 },
    /// They come to this stage so long after they came to the one where this order is.
    GoOn { stage: String, micros: i64 },
    /// What hangs is over after so long.
    Last { micros: i64 },
}

/// Where the order goes its way, or should: after a failure nothing is usual.
pub(super) fn usually(
    reason: &Reason,
    evidence: &[FactId],
    journey: &Journey,
    model: &Model,
    usual: &Usual,
) -> Option<Usually> {
    match reason {
        Reason::Hangs { .. } | Reason::InQueue { .. } => {
            let open = journey.open.iter().find(|open| evidence.contains(&open.evidence))?;
            open.usually(usual).map(|micros| Usually::Last { micros })
        }
        Reason::Finished { .. } => usual.whole().map(|micros| Usually::Take { micros }),
        Reason::SomebodysTurn { .. } | Reason::NoProgress { .. } | Reason::Moving { .. } => {
            let (stage, micros) = usual.next(&model.in_clear(&journey.stage()?.name))?;
            Some(Usually::GoOn { stage: stage.to_owned(), micros })
        }
        Reason::Refused { .. }
        | Reason::Broke { .. }
        | Reason::NotSettled { .. }
        | Reason::Lost(_)
        | Reason::Disagree { .. }
        | Reason::NotSeen { .. }
        | Reason::Nothing => None,
    }
}
