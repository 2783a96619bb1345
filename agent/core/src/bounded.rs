//! Facts by key, bounded by number: the oldest are forgotten first.

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// What is remembered of each kind for operations that come later than their tree: what a hash table of 131,072 slots
/// holds without growing while entries come and go, and a tree with them.
const REMEMBERED: usize = 53_248;

#[derive(Debug)]
pub(crate) struct Remembered<K, V> {
    facts: FxHashMap<K, V>,
    age: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { facts: FxHashMap::default(), age: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Remembered<K, V> {
    pub(crate) fn insert(&mut self, key: K, fact: V) {
        if self.facts.insert(key, fact).is_none() {
            self.age.push_back(key);
        }
    }

    /// Keeps to the bound. Not while a tree is placed: a large one would lose spans of its own.
    pub(crate) fn forget_oldest(&mut self) {
        let over = self.age.len().saturating_sub(REMEMBERED);
        for oldest in self.age.drain(..over) {
            self.facts.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.facts.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.facts.get_mut(&key)
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        self.facts.remove(&key)
    }
}
