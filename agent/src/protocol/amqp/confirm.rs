//! Publishes and broker acknowledgements of one channel in, which publish an acknowledgement means out.
//!
//! With `confirm.select` seen, the n-th publish after it has tag n. On a channel older than the agent, or after lost
//! bytes, the tag of the next publish is only known to be *at least* some number: every acknowledgement raises that
//! bound. Once acknowledgements arrive one for one with publishes, and none is outstanding in between, the bound is
//! taken as the number; an acknowledgement that contradicts it ends that, and nothing is matched until it is learned
//! again.
//!
//! ```text
//!   Off ──confirm.select──▶ Exact{next} ──lost bytes──▶ Learning{next ≥} ──in step──▶ Inferred{next}
//!                                ▲                            ▲                           │
//!                         channel.open                        └──── contradicted ─────────┘
//! ```
//!
//! *Owns* the numbering. *Must not know* operations.
//!
//! *Spec*: RabbitMQ, "Consumer Acknowledgements and Publisher Confirms".

/// What is known of a channel's confirm mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirm {
    /// The channel was opened before our eyes and never asked for confirms.
    Off,
    /// Confirm mode from its beginning: the next publish has this tag.
    Exact { next: u64 },
    /// The next publish has at least this tag; `steps` acknowledgements in a row were in step with it.
    Learning { next: u64, steps: u8 },
    /// Taken as the tag of the next publish.
    Inferred { next: u64 },
}

/// Acknowledgements in step after which the numbering is believed.
const STEPS: u8 = 2;

impl Confirm {
    /// A channel that was there before us.
    pub(super) const JOINED: Confirm = Confirm::Learning { next: 1, steps: 0 };

    /// `confirm.select` went by.
    pub(super) fn select(&mut self) {
        if *self == Confirm::Off {
            *self = Confirm::Exact { next: 1 };
        }
        // On a channel we joined it may be the second one, which does not restart the count.
    }

    /// A publish went by. Its tag, when an acknowledgement with that tag will mean it.
    pub(super) fn publish(&mut self) -> Option<u64> {
        match self {
            Confirm::Off => None,
            Confirm::Learning { next, .. } => {
                *next = next.saturating_add(1);
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

    /// The broker acknowledged `tag`. `false`: that contradicts the numbering, so that inferred tags mean nothing.
    pub(super) fn acknowledged(&mut self, tag: u64) -> bool {
        match *self {
            Confirm::Exact { next } | Confirm::Inferred { next } if tag < next => true,
            Confirm::Learning { next, steps } if tag < next => {
                // In step: nothing is outstanding after it. Tag 1 cannot be out of step with anything.
                let steps = if tag.saturating_add(1) == next { steps.saturating_add(1) } else { 0 };
                *self = match steps {
                    STEPS.. => Confirm::Inferred { next },
                    _ => Confirm::Learning { next, steps },
                };
                true
            }
            _ => {
                *self = Confirm::Learning { next: tag.saturating_add(1), steps: 0 };
                false
            }
        }
    }

    /// Bytes of the publisher were lost: there may have been publishes among them.
    pub(super) fn lost_publishes(&mut self) {
        if let Confirm::Exact { next } | Confirm::Inferred { next } | Confirm::Learning { next, .. } = *self {
            *self = Confirm::Learning { next, steps: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbering_from_confirm_select_is_exact() {
        let mut confirm = Confirm::Off;
        assert_eq!(confirm.publish(), None, "before confirm.select nothing is counted");
        confirm.select();
        assert_eq!((confirm.publish(), confirm.publish()), (Some(1), Some(2)));
        assert!(confirm.acknowledged(2) && confirm.acknowledged(1));
        confirm.select();
        assert_eq!(confirm.publish(), Some(3), "a second confirm.select does not restart the count");
    }

    #[test]
    fn a_joined_channel_is_believed_after_two_acknowledgements_in_step() {
        let mut confirm = Confirm::JOINED;
        assert_eq!(confirm.publish(), None);
        assert!(!confirm.acknowledged(41), "the first tag is news");
        assert_eq!(confirm.publish(), None);
        assert!(confirm.acknowledged(42));
        assert_eq!(confirm.publish(), None);
        assert!(confirm.acknowledged(43));
        assert_eq!(confirm.publish(), Some(44));
    }

    #[test]
    fn a_publisher_with_a_full_window_is_never_believed() {
        let mut confirm = Confirm::JOINED;
        assert!(!confirm.acknowledged(10));
        // Two outstanding all the time: publishes 11 to 13, then one more for each acknowledgement.
        for _ in 0..3 {
            assert_eq!(confirm.publish(), None);
        }
        for tag in 11..40 {
            confirm.acknowledged(tag);
            assert_eq!(confirm.publish(), None, "{tag}");
        }
    }

    #[test]
    fn a_contradiction_ends_belief() {
        let mut confirm = Confirm::Inferred { next: 5 };
        assert_eq!(confirm.publish(), Some(5));
        assert!(!confirm.acknowledged(9));
        assert_eq!(confirm.publish(), None);
    }

    #[test]
    fn lost_publishes_end_exactness() {
        let mut confirm = Confirm::Exact { next: 5 };
        confirm.lost_publishes();
        assert_eq!(confirm.publish(), None);
        let mut off = Confirm::Off;
        off.lost_publishes();
        assert_eq!(off, Confirm::Off);
    }
}
