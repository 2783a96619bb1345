//! What usually happens, learned from finished orders.
//!
//! Absence is evidence only where presence is usual: a message that nobody was seen to take is lost only if nearly all
//! messages to that destination are seen to be taken.

use std::collections::BTreeMap;

/// So many messages of a destination must be known before its rule is believed.
const ENOUGH: u64 = 100;
/// And so many in a thousand of them must have been seen to arrive.
const NEARLY_ALL: u64 = 990;

/// Counts by destination: published, and of those seen to be taken by a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    pub destinations: BTreeMap<String, (u64, u64)>,
}

impl Usual {
    /// Messages to `destination` are seen to arrive.
    pub fn is_expected(&self, destination: &str) -> bool {
        self.destinations.get(destination).is_some_and(|(published, delivered)| {
            *published >= ENOUGH && delivered.saturating_mul(1_000) >= published.saturating_mul(NEARLY_ALL)
        })
    }
}
