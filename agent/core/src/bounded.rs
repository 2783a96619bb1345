//! Entries → the same entries, at most so many: the oldest are forgotten first, and counted.
//!
//! Every table of the agent that grows with traffic is one of these. An entry's age counts from its first insertion, or
//! from its last [`Bounded::touch`], for tables whose entries are of use for as long as they are used.
//!
//! ```text
//!   places: hash of the key ─▶ slot         entries: [ key, value, older ◀─▶ newer ]     oldest ─▶ … ─▶ newest
//! ```
//!
//! Keys stand only in the slab, the hash table holds four bytes an entry. So it may have twice the slots that it needs, as
//! hash tables do whose entries come and go, and cost little. Every operation is O(1); memory grows with the entries that
//! there have been at once, never with the capacity.
//!
//! *Owns* the order of age and the count of what was forgotten. *Must not know* what the entries mean.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::hash::Keyed;

/// Where an entry is. Valid until it is removed or forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// The end of a chain.
const NONE: Slot = Slot(u32::MAX);

#[derive(Clone, Debug)]
struct Entry<K, V> {
    /// `None`: the slot is free, and `newer` is the next free one.
    content: Option<(K, V)>,
    older: Slot,
    newer: Slot,
}

/// A map of bounded size that counts what it forgets.
#[derive(Clone)]
pub struct Bounded<K, V, S = FxBuildHasher> {
    capacity: usize,
    hasher: S,
    places: HashTable<u32>,
    entries: Vec<Entry<K, V>>,
    free: Slot,
    oldest: Slot,
    newest: Slot,
    forgotten: u64,
}

impl<K: Eq + Hash, V> Bounded<K, V> {
    /// An empty map for at most `capacity` entries, at least one and fewer than 2³² of them. Its keys are identifiers that
    /// no traffic chooses.
    pub fn new(capacity: usize) -> Self {
        Self::with_hasher(capacity, FxBuildHasher)
    }
}

impl<K: Eq + Hash, V> Bounded<K, V, Keyed> {
    /// The same for keys that traffic chooses: nobody can make them meet in one place.
    pub fn for_foreign_keys(capacity: usize) -> Self {
        Self::with_hasher(capacity, Keyed::new())
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Bounded<K, V, S> {
    fn with_hasher(capacity: usize, hasher: S) -> Self {
        Self {
            capacity: capacity.clamp(1, u32::MAX as usize - 1),
            hasher,
            places: HashTable::new(),
            entries: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            forgotten: 0,
        }
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Entries at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The next new key makes it forget one.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Entries that were forgotten for newer ones. Those that were taken out are not among them.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.at(self.slot(key)?)
    }

    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.at_mut(self.slot(key)?)
    }

    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.slot(key).is_some()
    }

    /// Enters a value. One of the same key is replaced and keeps its age; else the oldest entry of a full map is
    /// forgotten, and returned.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        match self.slot(&key) {
            Some(slot) => {
                if let Some(place) = self.at_mut(slot) {
                    *place = value;
                }
                None
            }
            None => self.insert_new(key, value).1,
        }
    }

    /// Enters a value even where that is one too many: [`Bounded::trim`] keeps to the bound. For entries that are of use
    /// together and come one by one.
    pub fn add(&mut self, key: K, value: V) {
        match self.get_mut(&key) {
            Some(place) => *place = value,
            None => drop(self.append(key, value)),
        }
    }

    /// Forgets the oldest entries over the bound.
    pub fn trim(&mut self) {
        while self.len() > self.capacity {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest entry, and returns it.
    pub fn forget_oldest(&mut self) -> Option<(K, V)> {
        self.forget_at(self.oldest)
    }

    /// Forgets an entry for a newer one, and returns it.
    pub fn forget_at(&mut self, slot: Slot) -> Option<(K, V)> {
        let entry = self.take(slot)?;
        self.forgotten = self.forgotten.saturating_add(1);
        Some(entry)
    }

    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.remove_at(self.slot(key)?)
    }

    /// Where the entry of a key is.
    pub fn slot<Q>(&self, key: &Q) -> Option<Slot>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let is_it = |place: &u32| self.key_at(*place).is_some_and(|known| known.borrow() == key);
        self.places.find(self.hasher.hash_one(key), is_it).map(|place| Slot(*place))
    }

    /// Where the entry of a key is; a new one is made if there is none, and the oldest of a full map forgotten for it.
    pub fn slot_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> Slot {
        self.slot(&key).unwrap_or_else(|| self.insert_new(key, value()).0)
    }

    /// As [`Bounded::insert`], for a key that is not there.
    pub fn insert_new(&mut self, key: K, value: V) -> (Slot, Option<(K, V)>) {
        let forgotten = if self.is_full() { self.forget_oldest() } else { None };
        (self.append(key, value), forgotten)
    }

    pub fn at(&self, slot: Slot) -> Option<&V> {
        self.entry(slot)?.content.as_ref().map(|(_, value)| value)
    }

    pub fn at_mut(&mut self, slot: Slot) -> Option<&mut V> {
        self.entry_mut(slot)?.content.as_mut().map(|(_, value)| value)
    }

    pub fn remove_at(&mut self, slot: Slot) -> Option<V> {
        self.take(slot).map(|(_, value)| value)
    }

    /// Makes an entry the newest.
    pub fn touch(&mut self, slot: Slot) {
        if self.newest != slot && self.at(slot).is_some() {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    /// The oldest entry.
    pub fn oldest(&self) -> Option<Slot> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slots in use, the oldest first.
    pub fn by_age(&self) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.oldest(), |slot| {
            self.entry(*slot).map(|entry| entry.newer).filter(|newer| *newer != NONE)
        })
    }

    /// Keys and values, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.by_age().filter_map(|slot| self.entry(slot)?.content.as_ref().map(|(key, value)| (key, value)))
    }

    /// Values, the oldest first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn key_at(&self, place: u32) -> Option<&K> {
        self.entry(Slot(place))?.content.as_ref().map(|(key, _)| key)
    }

    fn entry(&self, slot: Slot) -> Option<&Entry<K, V>> {
        self.entries.get(slot.0 as usize)
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry<K, V>> {
        self.entries.get_mut(slot.0 as usize)
    }

    /// Enters a key that is not there.
    fn append(&mut self, key: K, value: V) -> Slot {
        let hash = self.hasher.hash_one(&key);
        let entry = Entry { content: Some((key, value)), older: NONE, newer: NONE };
        let slot = self.free;
        let slot = match self.entry_mut(slot) {
            Some(place) => {
                let next = std::mem::replace(place, entry).newer;
                self.free = next;
                slot
            }
            None => {
                self.entries.push(entry);
                // Never more entries than the capacity and what one `trim` takes back.
                Slot(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
            }
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let again = |place: &u32| {
            let key = entries.get(*place as usize).and_then(|entry| entry.content.as_ref());
            key.map_or(0, |(key, _)| hasher.hash_one(key))
        };
        self.places.insert_unique(hash, slot.0, again);
        self.link_newest(slot);
        slot
    }

    fn take(&mut self, slot: Slot) -> Option<(K, V)> {
        self.at(slot)?;
        self.unlink(slot);
        let free = self.free;
        let entry = self.entry_mut(slot)?;
        entry.newer = free;
        let content = entry.content.take()?;
        self.free = slot;
        let hash = self.hasher.hash_one(&content.0);
        if let Ok(place) = self.places.find_entry(hash, |place| *place == slot.0) {
            place.remove();
        }
        Some(content)
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

impl<K: Eq + Hash + fmt::Debug, V: fmt::Debug, S: BuildHasher> fmt::Debug for Bounded<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 6;

    /// The same as a plain list, the oldest first.
    #[derive(Default)]
    struct Model {
        entries: Vec<(u64, u64)>,
        forgotten: u64,
    }

    impl Model {
        fn place(&mut self, key: u64) -> Option<&mut (u64, u64)> {
            self.entries.iter_mut().find(|(other, _)| *other == key)
        }

        fn forget(&mut self) -> (u64, u64) {
            self.forgotten += 1;
            self.entries.remove(0)
        }
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list_that_forgets_its_first(
            steps in prop::collection::vec((0u8..6, 0u64..12), 0..300),
        ) {
            let mut bounded = Bounded::new(CAPACITY);
            let mut model = Model::default();
            for (number, (step, key)) in steps.into_iter().enumerate() {
                let value = number as u64;
                match step {
                    0 | 1 => {
                        let expected = match model.place(key) {
                            Some(place) => {
                                place.1 = value;
                                None
                            }
                            None => {
                                let oldest = (model.entries.len() >= CAPACITY).then(|| model.forget());
                                model.entries.push((key, value));
                                oldest
                            }
                        };
                        prop_assert_eq!(bounded.insert(key, value), expected);
                    }
                    2 => {
                        bounded.add(key, value);
                        match model.place(key) {
                            Some(place) => place.1 = value,
                            None => model.entries.push((key, value)),
                        }
                    }
                    3 => {
                        bounded.trim();
                        while model.entries.len() > CAPACITY {
                            model.forget();
                        }
                    }
                    4 => {
                        let expected = model.place(key).map(|(_, value)| *value);
                        model.entries.retain(|(other, _)| *other != key);
                        prop_assert_eq!(bounded.remove(&key), expected);
                    }
                    _ => {
                        if let Some(slot) = bounded.slot(&key) {
                            bounded.touch(slot);
                        }
                        if let Some(index) = model.entries.iter().position(|(other, _)| *other == key) {
                            let entry = model.entries.remove(index);
                            model.entries.push(entry);
                        }
                    }
                }
                let all: Vec<(u64, u64)> = bounded.iter().map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!(&all, &model.entries);
                prop_assert_eq!(bounded.len(), model.entries.len());
                prop_assert_eq!(bounded.forgotten(), model.forgotten);
                prop_assert_eq!(bounded.oldest().and_then(|slot| bounded.at(slot)), all.first().map(|(_, value)| value));
                for key in 0..12 {
                    prop_assert_eq!(bounded.get(&key).copied(), model.place(key).map(|(_, value)| *value));
                }
            }
        }
    }

    #[test]
    fn memory_grows_with_what_is_there_at_once_not_with_the_capacity_nor_with_time() {
        let mut bounded = Bounded::new(1 << 30);
        assert_eq!((bounded.entries.capacity(), bounded.places.capacity()), (0, 0));
        for key in 0..100_000_u64 {
            bounded.insert(key, ());
            bounded.remove(&key.saturating_sub(10));
        }
        assert!(bounded.entries.len() <= 11, "{} slots", bounded.entries.len());
        assert!(bounded.places.capacity() <= 64, "{} places", bounded.places.capacity());
    }

    #[test]
    fn a_full_map_whose_entries_come_and_go_does_not_grow() {
        let mut bounded = Bounded::new(57_344);
        for key in 0..1_000_000_u64 {
            bounded.insert(key, ());
        }
        assert_eq!((bounded.len(), bounded.forgotten()), (57_344, 1_000_000 - 57_344));
        assert_eq!(bounded.entries.len(), 57_344);
        assert!(bounded.places.capacity() <= 114_688, "{} places", bounded.places.capacity());
    }
}
