//! Publishes and broker acknowledgements of one channel → which publish an acknowledgement means.
//!
//! With `confirm.select` seen, the n-th publish after it has tag n. On a channel older than the agent, or after lost
//! bytes, the tag of the next publish is only known to be *at least* some number: every acknowledgement raises that
//! bound. When the acknowledgement of the publish just below the bound came and then none for [`QUIET`], nothing is on
//! its way any more, and the bound is the number. That acknowledgements and publishes take turns says nothing: so they do
//! when a window of many is kept full. An acknowledgement that contradicts the number ends the belief, and nothing is
//! matched until it is learned again.
//!
//! ```text
//!   Off ──confirm.select──▶ Exact{next} ──lost bytes──▶ Learning{next ≥} ──quiet──▶ Inferred{next}
//!                                ▲                            ▲                         │
//!                         channel.open                        └────── contradicted ─────┘
//! ```
//!
//! *Owns* the numbering. *Must not know* operations.
//!
//! *Spec*: RabbitMQ, "Consumer Acknowledgements and Publisher Confirms".

use std::time::Duration;

use super::snapshot::Confirm as Learned;
use crate::time::BootTime;

/// No acknowledgement is on its way any more after this long without one. "The latency for `basic.ack` can reach a few
/// hundred milliseconds" (RabbitMQ, "Publisher Confirms").
const QUIET: Duration = Duration::from_secs(2);

/// What is known of a channel's confirm mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirm {
    /// The channel was opened before our eyes and never asked for confirms.
    Off,
    /// Confirm mode from its beginning: the next publish has this tag.
    Exact { next: u64 },
    /// The next publish has at least this tag. `in_step_at`: when the tag before it was acknowledged, if nothing came since.
    Learning { next: u64, in_step_at: Option<BootTime> },
    /// Taken as the tag of the next publish.
    Inferred { next: u64 },
}

impl Confirm {
    /// A channel that was there before us.
    pub(super) const JOINED: Confirm = Confirm::Learning { next: 1, in_step_at: None };

    /// What the next agent can go on with. An acknowledgement seen long ago says nothing about the silence since.
    pub(super) fn learned(self) -> Learned {
        match self {
            Confirm::Off => Learned::Off,
            Confirm::Exact { next } => Learned::Exact(next),
            Confirm::Inferred { next } => Learned::Inferred(next),
            Confirm::Learning { next, .. } => Learned::Learning(next),
        }
    }

    /// Goes on where an earlier agent stopped.
    pub(super) fn resumed(learned: Learned) -> Self {
        match learned {
            Learned::Off => Confirm::Off,
            Learned::Exact(next) => Confirm::Exact { next },
            Learned::Inferred(next) => Confirm::Inferred { next },
            Learned::Learning(next) => Confirm::Learning { next, in_step_at: None },
            Learned::Unknown => Confirm::JOINED,
        }
    }

    /// `confirm.select` went by.
    pub(super) fn select(&mut self) {
        if *self == Confirm::Off {
            *self = Confirm::Exact { next: 1 };
        }
        // On a channel we joined it may be the second one, which does not restart the count.
    }

    /// A publish went by at `at`. Its tag, when an acknowledgement with that tag will mean it.
    pub(super) fn publish(&mut self, at: BootTime) -> Option<u64> {
        if let Confirm::Learning { next, in_step_at: Some(since) } = *self
            && at.since(since) >= QUIET
        {
            *self = Confirm::Inferred { next };
        }
        match self {
            Confirm::Off => None,
            Confirm::Learning { next, in_step_at } => {
                *next = next.saturating_add(1);
                *in_step_at = None;
                None
            }
            Confirm::Exact { next } | Confirm::Inferred { next } => {
                let tag = *next;
                *next = next.saturating_add(1);
                Some(tag)
            }
        }
    }

    /// Whether publishes of the channel are acknowledged, and which acknowledgement means which.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Confirm::Learning { .. })
    }

    /// Tags are known, not inferred.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self, Confirm::Exact { .. })
    }

    /// The broker acknowledged `tag` at `at`. `false`: that contradicts the numbering, so that inferred tags mean nothing.
    pub(super) fn acknowledged(&mut self, tag: u64, at: BootTime) -> bool {
        let after = tag.saturating_add(1);
        match *self {
            Confirm::Exact { next } | Confirm::Inferred { next } if tag < next => true,
            Confirm::Learning { next, .. } if tag < next => {
                *self = Confirm::Learning { next, in_step_at: (after == next).then_some(at) };
                true
            }
            _ => {
                *self = Confirm::Learning { next: after, in_step_at: Some(at) };
                false
            }
        }
    }

    /// Bytes of the publisher were lost: there may have been publishes among them.
    pub(super) fn lost_publishes(&mut self) {
        if let Confirm::Exact { next } | Confirm::Inferred { next } | Confirm::Learning { next, .. } = *self {
            *self = Confirm::Learning { next, in_step_at: None };
        }
    }

    /// Bytes of the broker were lost: there may have been acknowledgements among them.
    pub(super) fn lost_acknowledgements(&mut self) {
        if let Confirm::Learning { in_step_at, .. } = self {
            *in_step_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ns;

    /// A time long after that of the last acknowledgement.
    const LATER: BootTime = ns(20_000_000_000);

    #[test]
    fn numbering_from_confirm_select_is_exact() {
        let mut confirm = Confirm::Off;
        assert_eq!(confirm.publish(BootTime::ZERO), None, "before confirm.select nothing is counted");
        confirm.select();
        assert_eq!((confirm.publish(ns(1)), confirm.publish(ns(2))), (Some(1), Some(2)));
        assert!(confirm.acknowledged(2, ns(3)) && confirm.acknowledged(1, ns(4)));
        confirm.select();
        assert_eq!(confirm.publish(ns(5)), Some(3), "a second confirm.select does not restart the count");
    }

    #[test]
    fn a_joined_channel_is_believed_after_silence() {
        let mut confirm = Confirm::JOINED;
        assert_eq!(confirm.publish(BootTime::ZERO), None);
        assert!(!confirm.acknowledged(41, ns(1)), "the first tag is news");
        for tag in 42..50 {
            assert_eq!(confirm.publish(ns(tag)), None);
            assert!(confirm.acknowledged(tag, ns(tag)), "taking turns proves nothing");
        }
        assert_eq!(confirm.publish(ns(49) + QUIET), Some(50));
    }

    #[test]
    fn silence_after_lost_or_outstanding_acknowledgements_proves_nothing() {
        let mut lost = Confirm::JOINED;
        lost.acknowledged(41, ns(1));
        lost.lost_acknowledgements();
        assert_eq!(lost.publish(LATER), None);
        let mut outstanding = Confirm::JOINED;
        outstanding.acknowledged(41, ns(1));
        outstanding.publish(ns(2));
        assert_eq!(outstanding.publish(LATER), None);
    }

    #[test]
    fn a_publisher_with_a_full_window_is_never_believed() {
        let mut confirm = Confirm::JOINED;
        assert!(!confirm.acknowledged(10, BootTime::ZERO));
        // Two are outstanding all the time, 11 and 12, which were not seen: 13 looks like 11.
        for tag in 11..40 {
            assert_eq!(confirm.publish(ns(tag)), None, "{tag}");
            confirm.acknowledged(tag, ns(tag));
        }
    }

    #[test]
    fn a_contradiction_ends_belief() {
        let mut confirm = Confirm::Inferred { next: 5 };
        assert_eq!(confirm.publish(BootTime::ZERO), Some(5));
        assert!(!confirm.acknowledged(9, ns(1)));
        assert_eq!(confirm.publish(ns(2)), None);
    }

    #[test]
    fn lost_publishes_end_exactness() {
        let mut confirm = Confirm::Exact { next: 5 };
        confirm.lost_publishes();
        assert_eq!(confirm.publish(LATER), None);
        let mut off = Confirm::Off;
        off.lost_publishes();
        assert_eq!(off, Confirm::Off);
    }
}
