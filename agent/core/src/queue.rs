//! Moments with what is to happen at each → the earliest first. For moments that come nearly in order.
//!
//! Nearly all that the core waits for is due a constant time after something that happened now: what is entered last is due last,
//! but for the few constants that one queue has. So a queue is a few lanes, each of which is in order, and what fits behind the
//! end of none of them goes to a tree. It behaves as an ordered set would; entering and taking out costs a tenth.
//!
//! ```text
//!   lane 0:  decided  ─▶ [ 17.1 s, 17.4 s, 18.0 s ]
//!   lane 1:  forgotten ─▶ [ 35.9 s, ──────, 36.2 s, 36.3 s ]      ── taken out: leaves with the others, or when half are
//!   late:                 { 17.3 s }
//! ```
//!
//! *Owns* the order. *Must not know* what is waited for.

use std::collections::{BTreeSet, VecDeque};

use crate::time::BootTime;

/// Fewer places that were taken out are left where they are.
const SPARE: usize = 32;
/// Less room is kept for what comes.
const MIN_ROOM: usize = 1024;

/// An ordered set of moments and what is due then.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T, const LANES: usize = 1> {
    lanes: [Lane<T>; LANES],
    /// What fits behind the end of no lane.
    late: BTreeSet<(BootTime, T)>,
    len: usize,
    /// What is due first: asked for far more often than it changes.
    first: Option<(BootTime, T)>,
}

/// Entries in order. The first and the last are never gone.
#[derive(Clone, Debug)]
struct Lane<T> {
    entries: VecDeque<Entry<T>>,
    gone: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    key: (BootTime, T),
    /// It was taken out.
    is_gone: bool,
}

impl<T, const LANES: usize> Default for Queue<T, LANES> {
    fn default() -> Self {
        let lanes = std::array::from_fn(|_| Lane { entries: VecDeque::new(), gone: 0 });
        Self { lanes, late: BTreeSet::new(), len: 0, first: None }
    }
}

impl<T: Copy + Ord, const LANES: usize> Queue<T, LANES> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Enters what is not there yet.
    pub(crate) fn insert(&mut self, at: BootTime, what: T) {
        let key = (at, what);
        debug_assert!(!self.contains(at, what), "it is there already");
        self.len += 1;
        if self.first.is_none_or(|first| key < first) {
            self.first = Some(key);
        }
        // The lane whose end is nearest: those of other constants stay as they are.
        let fits = self.lanes.iter_mut().filter(|lane| lane.last().is_none_or(|end| end < key));
        match fits.max_by_key(|lane| lane.last()) {
            Some(lane) => lane.entries.push_back(Entry { key, is_gone: false }),
            None => {
                self.late.insert(key);
            }
        }
    }

    pub(crate) fn contains(&self, at: BootTime, what: T) -> bool {
        let key = (at, what);
        self.lanes.iter().any(|lane| lane.position(key).is_some())
            || (!self.late.is_empty() && self.late.contains(&key))
    }

    /// Takes it out. Returns whether it was there.
    pub(crate) fn remove(&mut self, at: BootTime, what: T) -> bool {
        let key = (at, what);
        let was_there = self.lanes.iter_mut().any(|lane| lane.remove(key))
            || (!self.late.is_empty() && self.late.remove(&key));
        self.len -= usize::from(was_there);
        if was_there && self.first == Some(key) {
            let lanes = self.lanes.iter().filter_map(Lane::first).min();
            self.first = lanes.into_iter().chain(self.late.first().copied()).min();
        }
        was_there
    }

    /// What is due first.
    pub(crate) fn first(&self) -> Option<(BootTime, T)> {
        self.first
    }

    /// Takes out what is due first, if that is not after `now`.
    pub(crate) fn pop_due(&mut self, now: BootTime) -> Option<(BootTime, T)> {
        let (at, what) = self.first().filter(|(at, _)| *at <= now)?;
        self.remove(at, what);
        Some((at, what))
    }

    /// All that is due up to a moment, in order.
    pub(crate) fn up_to(&self, at: BootTime) -> impl Iterator<Item = T> {
        let mut lanes = self.lanes.each_ref().map(|lane| {
            let there = lane.entries.iter().filter(|entry| !entry.is_gone).map(|entry| entry.key);
            there.peekable()
        });
        let mut late = self.late.iter().copied().peekable();
        std::iter::from_fn(move || {
            let first = lanes.iter_mut().filter_map(|lane| lane.peek().copied()).min();
            let first = [first, late.peek().copied()].into_iter().flatten().min()?;
            if first.0 > at {
                return None;
            }
            if late.next_if_eq(&first).is_none() {
                lanes.iter_mut().find_map(|lane| lane.next_if_eq(&first));
            }
            Some(first.1)
        })
    }
}

impl<T: Copy + Ord> Lane<T> {
    fn first(&self) -> Option<(BootTime, T)> {
        self.entries.front().map(|entry| entry.key)
    }

    fn last(&self) -> Option<(BootTime, T)> {
        self.entries.back().map(|entry| entry.key)
    }

    /// Where an entry is that was not taken out. Looked for from the end: what is taken out early has mostly just come.
    fn position(&self, key: (BootTime, T)) -> Option<usize> {
        let of = |at: usize| self.entries.get(at).map(|entry| entry.key);
        let end = self.entries.len();
        if self.last().is_none_or(|last| last < key) || self.first().is_none_or(|first| first > key) {
            return None;
        }
        let mut steps = 1;
        while steps < end && of(end - steps).is_some_and(|there| there > key) {
            steps *= 2;
        }
        let (mut low, mut high) = (end.saturating_sub(steps), end - steps / 2);
        // The first that is not before it.
        while low < high {
            let middle = low + (high - low) / 2;
            if of(middle).is_some_and(|there| there < key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.entries.get(low).filter(|entry| entry.key == key && !entry.is_gone).map(|_| low)
    }

    fn remove(&mut self, key: (BootTime, T)) -> bool {
        if self.first() == Some(key) {
            self.entries.pop_front();
        } else if self.last() == Some(key) {
            self.entries.pop_back();
        } else {
            let Some(entry) = self.position(key).and_then(|at| self.entries.get_mut(at)) else {
                return false;
            };
            entry.is_gone = true;
            self.gone += 1;
            if self.gone > SPARE && self.gone * 2 > self.entries.len() {
                self.entries.retain(|entry| !entry.is_gone);
                self.gone = 0;
            }
        }
        while self.entries.pop_front_if(|entry| entry.is_gone).is_some()
            || self.entries.pop_back_if(|entry| entry.is_gone).is_some()
        {
            self.gone -= 1;
        }
        // Memory follows what there is.
        if self.entries.capacity() > MIN_ROOM && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.capacity() / 4);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::ns;

    fn check<const LANES: usize>(steps: &[(u8, u64, u64)]) {
        let mut queue = Queue::<u64, LANES>::default();
        let mut model: BTreeSet<(BootTime, u64)> = BTreeSet::new();
        let mut now = 0;
        for (step, at, what) in steps.iter().copied() {
            now += at % 3;
            let delays = [1, 7, 40];
            let due = match step {
                0..6 => ns(now + delays[usize::from(step) % 3]),
                _ => ns(at),
            };
            match step {
                0..7 => {
                    if !queue.contains(due, what) {
                        queue.insert(due, what);
                    }
                    model.insert((due, what));
                }
                7 | 8 => {
                    let chosen = model.iter().nth(at as usize % model.len().max(1)).copied();
                    let (due, what) = chosen.unwrap_or((due, what));
                    assert_eq!(queue.remove(due, what), model.remove(&(due, what)));
                    assert!(!queue.remove(due, what));
                }
                _ => {
                    let expected = model.first().copied().filter(|(due, _)| *due <= ns(now));
                    if expected.is_some() {
                        model.pop_first();
                    }
                    assert_eq!(queue.pop_due(ns(now)), expected);
                }
            }
            assert_eq!(queue.first(), model.first().copied());
            assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            let until: Vec<u64> = model.range(..=(ns(at), u64::MAX)).map(|(_, what)| *what).collect();
            assert_eq!(queue.up_to(ns(at)).collect::<Vec<_>>(), until);
            for lane in &queue.lanes {
                let ends = [lane.entries.front(), lane.entries.back()];
                assert!(ends.into_iter().flatten().all(|entry| !entry.is_gone));
                assert_eq!(lane.gone, lane.entries.iter().filter(|entry| entry.is_gone).count());
                assert!(lane.entries.iter().is_sorted_by(|a, b| a.key < b.key), "none is entered twice");
            }
        }
    }

    proptest! {
        #[test]
        fn it_behaves_like_an_ordered_set(
            steps in prop::collection::vec((0u8..11, 0u64..120, 0u64..5), 0..400),
        ) {
            check::<1>(&steps);
            check::<3>(&steps);
        }
    }

    #[test]
    fn places_that_were_taken_out_and_room_that_is_not_used_are_given_back() {
        let mut queue = Queue::<u64, 2>::default();
        for what in 0..100_000 {
            queue.insert(ns(what), what);
        }
        // All but the first and the last.
        for what in 1..99_999 {
            assert!(queue.remove(ns(what), what));
        }
        let lane = &queue.lanes[0];
        assert!(lane.entries.len() <= 2 + SPARE + 1, "{} places", lane.entries.len());
        assert!(lane.entries.capacity() <= 4 * MIN_ROOM, "room for {}", lane.entries.capacity());
        assert_eq!(queue.up_to(BootTime::MAX).collect::<Vec<_>>(), [0, 99_999]);
    }

    #[test]
    fn what_is_due_after_constant_times_needs_no_tree() {
        let mut queue = Queue::<u64, 3>::default();
        for n in 0..1000 {
            for (delay, what) in [(600, 0), (2, 1), (20, 2)] {
                queue.insert(ns(n + delay), 3 * n + what);
            }
            queue.remove(ns(n + 600), 3 * n);
            while queue.pop_due(ns(n)).is_some() {}
            assert!(queue.late.is_empty());
        }
        assert_eq!(queue.len(), 2 + 20);
    }
}
