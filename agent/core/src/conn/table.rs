//! Values by key, oldest use first: what a bounded table needs to forget the right one.
//!
//! Entries sit in a slab and are chained by use, so that each record costs one lookup and a few index writes.

use std::collections::HashMap;
use std::hash::Hash;

/// Where an entry is. Valid until it is removed.
pub type Slot = usize;

/// The end of a chain.
const NONE: Slot = usize::MAX;

#[derive(Debug)]
struct Entry<K, T> {
    key: K,
    value: T,
    /// Used next before and next after this one.
    older: Slot,
    newer: Slot,
}

/// A map that knows which entry was used longest ago.
#[derive(Debug)]
pub struct Table<K, T> {
    slots: HashMap<K, Slot>,
    entries: Vec<Option<Entry<K, T>>>,
    free: Vec<Slot>,
    oldest: Slot,
    newest: Slot,
}

impl<K: Copy + Eq + Hash, T> Table<K, T> {
    pub fn new() -> Self {
        Self { slots: HashMap::new(), entries: Vec::new(), free: Vec::new(), oldest: NONE, newest: NONE }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn slot(&self, key: K) -> Option<Slot> {
        self.slots.get(&key).copied()
    }

    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.entry(slot).map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entry_mut(slot).map(|entry| &mut entry.value)
    }

    /// Adds an entry as the newest. The key must be new.
    pub fn insert(&mut self, key: K, value: T) -> Slot {
        debug_assert!(!self.slots.contains_key(&key));
        let entry = Some(Entry { key, value, older: NONE, newer: NONE });
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.entries.get_mut(slot) {
                    *place = entry;
                }
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.slots.insert(key, slot);
        self.link_newest(slot);
        slot
    }

    /// Makes an entry the newest.
    pub fn touch(&mut self, slot: Slot) {
        if self.newest != slot && self.entry(slot).is_some() {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        self.entry(slot)?;
        self.unlink(slot);
        let entry = self.entries.get_mut(slot)?.take()?;
        self.slots.remove(&entry.key);
        self.free.push(slot);
        Some(entry.value)
    }

    /// The entry not used for longest.
    pub fn oldest(&self) -> Option<Slot> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slots in use, oldest use first.
    pub fn by_age(&self) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.oldest(), |slot| {
            self.entry(*slot).map(|entry| entry.newer).filter(|newer| *newer != NONE)
        })
    }

    fn entry(&self, slot: Slot) -> Option<&Entry<K, T>> {
        self.entries.get(slot)?.as_ref()
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry<K, T>> {
        self.entries.get_mut(slot)?.as_mut()
    }

    fn link_newest(&mut self, slot: Slot) {
        let before = self.newest;
        if let Some(entry) = self.entry_mut(slot) {
            entry.older = before;
            entry.newer = NONE;
        }
        match self.entry_mut(before) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: Slot) {
        let Some((older, newer)) = self.entry(slot).map(|entry| (entry.older, entry.newer)) else { return };
        match self.entry_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entry_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_list_ordered_by_use(steps in prop::collection::vec((0u8..3, 0u64..12), 0..200)) {
            let mut table = Table::new();
            let mut model: Vec<u64> = Vec::new();
            for (step, id) in steps {
                let slot = table.slot(id);
                prop_assert_eq!(slot.is_some(), model.contains(&id));
                match (step, slot) {
                    (0, None) => {
                        table.insert(id, id);
                        model.push(id);
                    }
                    (1, Some(slot)) => {
                        table.touch(slot);
                        model.retain(|other| *other != id);
                        model.push(id);
                    }
                    (2, Some(slot)) => {
                        prop_assert_eq!(table.remove(slot), Some(id));
                        prop_assert!(table.get(slot).is_none());
                        model.retain(|other| *other != id);
                    }
                    _ => {}
                }
                let order: Vec<u64> = table.by_age().filter_map(|slot| table.get(slot).copied()).collect();
                prop_assert_eq!(&order, &model);
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.oldest().and_then(|slot| table.get(slot)), model.first());
            }
        }
    }
}
