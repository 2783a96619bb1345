//! Publishes and broker acknowledgements of one channel in, which publish an acknowledgement means out.
//!
//! With `confirm.select` seen, the n-th publish after it has tag n. On a channel older than the agent, or after lost
//! bytes, the tag of the next publish is only known to be *at least* some number: every acknowledgement raises that
//! bound. When the acknowledgement of the publish just below the bound came and then none for [`QUIET_NS`], nothing is on
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

use crate::protocol::snapshot::Confirm as Snapshot;
use crate::record::BootNs;

/// No acknowledgement is on its way any more after this long without one. "The latency for `basic.ack` can reach a few
/// hundred milliseconds" (RabbitMQ, "Publisher Confirms").
const QUIET_NS: u64 = 2_000_000_000;

/// What is known of a channel's confirm mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirm {
    /// The channel was opened before our eyes and never asked for confirms.
    Off,
    /// Confirm mode from its beginning: the next publish has this tag.
    Exact { next: u64 },
    /// The next publish has at least this tag. `in_step_at`: when the tag before it was acknowledged, if nothing came since.
    Learning { next: u64, in_step_at: Option<BootNs> },
    /// Taken as the tag of the next publish.
    Inferred { next: u64 },
}

impl Confirm {
    /// A channel that was there before us.
    pub(super) const JOINED: Confirm = Confirm::Learning { next: 1, in_step_at: None };

    /// What the next agent can go on with. An acknowledgement seen long ago says nothing about the silence since.
    pub(super) fn learned(self) -> Snapshot {
        match self {
            Confirm::Off => Snapshot::Off,
            Confirm::Exact { next } => Snapshot::Exact(next),
            Confirm::Inferred { next } => Snapshot::Inferred(next),
            Confirm::Learning { next, .. } => Snapshot::Learning(next),
        }
    }

    /// Goes on where an earlier agent stopped.
    pub(super) fn resumed(learned: Snapshot) -> Self {
        match learned {
            Snapshot::Off => Confirm::Off,
            Snapshot::Exact(next) => Confirm::Exact { next },
            Snapshot::Inferred(next) => Confirm::Inferred { next },
            Snapshot::Learning(next) => Confirm::Learning { next, in_step_at: None },
            Snapshot::Unknown => Confirm::JOINED,
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
    pub(super) fn publish(&mut self, at: BootNs) -> Option<u64> {
        if let Confirm::Learning { next, in_step_at: Some(since) } = *self
            && at.saturating_sub(since) >= QUIET_NS
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

    /// Tags are known, not inferred.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self, Confirm::Exact { .. })
    }

    /// The broker acknowledged `tag` at `at`. `false`: that contradicts the numbering, so that inferred tags mean nothing.
    pub(super) fn acknowledged(&mut self, tag: u64, at: BootNs) -> bool {
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

    /// A time long after that of the last acknowledgement.
    const LATER: BootNs = 10 * QUIET_NS;

    #[test]
    fn numbering_from_confirm_select_is_exact() {
        let mut confirm = Confirm::Off;
        assert_eq!(confirm.publish(0), None, "before confirm.select nothing is counted");
        confirm.select();
        assert_eq!((confirm.publish(1), confirm.publish(2)), (Some(1), Some(2)));
        assert!(confirm.acknowledged(2, 3) && confirm.acknowledged(1, 4));
        confirm.select();
        assert_eq!(confirm.publish(5), Some(3), "a second confirm.select does not restart the count");
    }

    #[test]
    fn a_joined_channel_is_believed_after_silence() {
        let mut confirm = Confirm::JOINED;
        assert_eq!(confirm.publish(0), None);
        assert!(!confirm.acknowledged(41, 1), "the first tag is news");
        for tag in 42..50 {
            assert_eq!(confirm.publish(tag), None);
            assert!(confirm.acknowledged(tag, tag), "taking turns proves nothing");
        }
        assert_eq!(confirm.publish(49 + QUIET_NS), Some(50));
    }

    #[test]
    fn silence_after_lost_or_outstanding_acknowledgements_proves_nothing() {
        let mut lost = Confirm::JOINED;
        lost.acknowledged(41, 1);
        lost.lost_acknowledgements();
        assert_eq!(lost.publish(LATER), None);
        let mut outstanding = Confirm::JOINED;
        outstanding.acknowledged(41, 1);
        outstanding.publish(2);
        assert_eq!(outstanding.publish(LATER), None);
    }

    #[test]
    fn a_publisher_with_a_full_window_is_never_believed() {
        let mut confirm = Confirm::JOINED;
        assert!(!confirm.acknowledged(10, 0));
        // Two are outstanding all the time, 11 and 12, which were not seen: 13 looks like 11.
        for tag in 11..40 {
            assert_eq!(confirm.publish(tag), None, "{tag}");
            confirm.acknowledged(tag, tag);
        }
    }

    #[test]
    fn a_contradiction_ends_belief() {
        let mut confirm = Confirm::Inferred { next: 5 };
        assert_eq!(confirm.publish(0), Some(5));
        assert!(!confirm.acknowledged(9, 1));
        assert_eq!(confirm.publish(2), None);
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
