//! Publishes of an address → whether its messages differ from each other.
//!
//! An equal message may have been queued before it could be seen. Where no two messages were ever equal, that is unlikely: most
//! messages carry a number of what they are about.
//!
//! *Owns* the counts. *Must not know* queues.

use std::hash::BuildHasher;

use crate::bounded::Bounded;
use crate::hash::Keyed;

/// Addresses remembered; those where nothing is published are forgotten first.
const MAX_ADDRESSES: usize = 16_384;
/// Different messages, and none of them twice, after which the messages of an address are taken to differ.
///
/// By the rule of three, fewer than one in ten is then equal to another, at 95 %; and a wrong edge takes one whose twin was in the
/// queue when the agent began, and left it after the publish that it is taken for.
const ENOUGH: u32 = 30;

/// Where something is published, one exchange and one routing key, or all of one exchange: keys often carry a number themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub(super) exact: u64,
    /// `None` for the default exchange: it leads to every queue, and what is sent to one says nothing of another.
    pub(super) exchange: Option<u64>,
}

impl Address {
    /// Traffic chooses names: `hasher` is to have a seed that nobody knows.
    pub fn new(hasher: &impl BuildHasher, broker: &str, exchange: &str, routing_key: &str) -> Self {
        Self {
            exact: hasher.hash_one((broker, exchange, routing_key)),
            exchange: (!exchange.is_empty()).then(|| hasher.hash_one((broker, exchange))),
        }
    }

    fn all(self) -> impl Iterator<Item = u64> {
        std::iter::once(self.exact).chain(self.exchange)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    different: u32,
    equal: u32,
}

impl Habit {
    fn differs(self) -> bool {
        self.equal == 0 && self.different >= ENOUGH
    }
}

/// What was published where, as far as it was equal; bounded.
#[derive(Debug)]
pub(super) struct Habits {
    habits: Bounded<u64, Habit, Keyed>,
}

impl Habits {
    pub(super) fn new() -> Self {
        Self { habits: Bounded::for_foreign_keys(MAX_ADDRESSES) }
    }

    /// Something was published; `again`: an equal message had been before. Returns whether the messages there are taken to differ from
    /// now on.
    pub(super) fn published(&mut self, address: Address, again: bool) -> bool {
        let mut is_shown = false;
        for address in address.all() {
            let slot = self.habits.slot_or_insert_with(address, Habit::default);
            self.habits.touch(slot);
            let Some(habit) = self.habits.at_mut(slot) else { continue };
            let before = habit.differs();
            let count = if again { &mut habit.equal } else { &mut habit.different };
            *count = count.saturating_add(1);
            is_shown |= !before && habit.differs();
        }
        is_shown
    }

    /// No two messages there are equal.
    pub(super) fn differ(&self, address: Address) -> bool {
        address.all().any(|address| self.habits.get(&address).is_some_and(|habit| habit.differs()))
    }

    /// Addresses that were forgotten at the bound.
    pub(super) fn forgotten(&self) -> u64 {
        self.habits.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;

    fn address(exchange: &str, routing_key: &str) -> Address {
        Address::new(&BuildHasherDefault::<DefaultHasher>::default(), "b", exchange, routing_key)
    }

    #[test]
    fn messages_differ_where_enough_did_and_none_was_equal_to_another() {
        let (orders, ticks) = (address("shop", "order.new"), address("shop", "tick"));
        let mut habits = Habits::new();
        (1..ENOUGH).for_each(|_| assert!(!habits.published(orders, false)));
        assert!(!habits.differ(orders));
        assert!(habits.published(orders, false));
        assert!(!habits.published(orders, false), "it was known");
        assert!(habits.differ(orders) && habits.differ(address("shop", "order.new.17")));
        assert!(!habits.differ(address("other", "order.new")));
        // What is equal elsewhere in the exchange is nothing of this address.
        habits.published(ticks, true);
        assert!(habits.differ(orders) && !habits.differ(ticks));
        habits.published(orders, true);
        assert!(!habits.differ(orders));
    }

    #[test]
    fn what_is_sent_to_one_queue_says_nothing_of_another() {
        let mut habits = Habits::new();
        let (orders, ticks) = (address("", "orders"), address("", "ticks"));
        for _ in 0..ENOUGH {
            habits.published(orders, false);
        }
        assert!(habits.differ(orders) && !habits.differ(ticks));
    }

    #[test]
    fn it_is_bounded_and_counts_what_it_forgets() {
        let mut habits = Habits::new();
        for n in 0..MAX_ADDRESSES as u64 {
            habits.published(Address { exact: n, exchange: Some(u64::MAX) }, false);
        }
        assert_eq!(habits.forgotten(), 1);
    }
}
