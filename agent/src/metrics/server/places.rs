//! Connections → places, of which there is always one for whoever comes next.
//!
//! ```text
//!   all places taken, a connection of P comes ─▶ the peer with most places gives up its oldest one ─▶ P has a place
//! ```
//!
//! Whoever opens connections and holds them open (slow requests, answers that are not read) takes places from itself. A place is
//! nobody else's for `MIN_HELD`, in which a probe asks and is answered: those who come faster than that wait in the kernel's queue.
//! *Must not know* what connections are for.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

/// A place is kept at least this long. A client writes its request right after it has connected, but on a busy machine the scheduler may
/// let others go first, for some milliseconds each. With 128 places it lets 6,400 connections a second in, so that one that waits
/// behind a whole queue of [`super::BACKLOG`] is served within a second.
const MIN_HELD: Duration = Duration::from_millis(20);

/// All places.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    taken: Mutex<Taken>,
    /// Told when a place is free again.
    freed: Notify,
}

#[derive(Debug)]
struct Taken {
    max: usize,
    next: u64,
    /// By peer, oldest first.
    by_peer: HashMap<IpAddr, VecDeque<Holder>>,
    count: usize,
    given_up: u64,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    since: Instant,
    /// Dropped to tell the connection that its place is taken.
    _leave: oneshot::Sender<()>,
}

/// A place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    peer: IpAddr,
    number: u64,
    left: oneshot::Receiver<()>,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        let taken = Taken { max: max.max(1), next: 0, by_peer: HashMap::new(), count: 0, given_up: 0 };
        Self(Arc::new(Shared { taken: Mutex::new(taken), freed: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there is a place for the next connection: a free one, or one that was held for long enough to be given up.
    pub(super) async fn room(&self) {
        loop {
            // Asked for before looking, so that a place that is freed in between is not missed.
            let freed = self.0.freed.notified();
            let held = self.lock().held_by_next_to_leave();
            match held.and_then(|held| MIN_HELD.checked_sub(held)).filter(|wait| !wait.is_zero()) {
                Some(wait) => _ = tokio::time::timeout(wait, freed).await,
                None => return,
            }
        }
    }

    /// A place for a connection that has come. When all are taken, another one has to leave.
    pub(super) fn take(&self, peer: IpAddr) -> Place {
        let (leave, left) = oneshot::channel();
        let mut taken = self.lock();
        if taken.count >= taken.max {
            taken.make_room();
        }
        let number = taken.next;
        taken.next += 1;
        taken.count += 1;
        taken.by_peer.entry(peer).or_default().push_back(Holder {
            number,
            since: Instant::now(),
            _leave: leave,
        });
        Place { places: self.clone(), peer, number, left }
    }

    /// Connections that had to leave before they were done.
    pub(super) fn given_up(&self) -> u64 {
        self.lock().given_up
    }
}

impl Taken {
    /// Of the peer with most places the oldest one has to leave; of several such peers the one whose oldest one is oldest.
    fn next_to_leave(&self) -> Option<IpAddr> {
        let rank = |holders: &VecDeque<Holder>| {
            (holders.len(), std::cmp::Reverse(holders.front().map_or(0, |oldest| oldest.number)))
        };
        self.by_peer.iter().max_by_key(|(_, holders)| rank(holders)).map(|(peer, _)| *peer)
    }

    /// How long that one has held its place; none while there are free ones.
    fn held_by_next_to_leave(&self) -> Option<Duration> {
        if self.count < self.max {
            return None;
        }
        Some(self.by_peer.get(&self.next_to_leave()?)?.front()?.since.elapsed())
    }

    fn make_room(&mut self) {
        let Some(peer) = self.next_to_leave() else { return };
        let Some(holders) = self.by_peer.get_mut(&peer) else { return };
        if holders.pop_front().is_some() {
            self.count = self.count.saturating_sub(1);
            self.given_up += 1;
        }
        if holders.is_empty() {
            self.by_peer.remove(&peer);
        }
    }
}

impl Place {
    /// Returns when another connection got this place.
    pub(super) async fn left(&mut self) {
        let _ = (&mut self.left).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let Some(holders) = taken.by_peer.get_mut(&self.peer) else { return };
        let before = holders.len();
        holders.retain(|holder| holder.number != self.number);
        let (freed, is_empty) = (before - holders.len(), holders.is_empty());
        taken.count = taken.count.saturating_sub(freed);
        if is_empty {
            taken.by_peer.remove(&self.peer);
        }
        drop(taken);
        self.places.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn has_left(place: &mut Place) -> bool {
        place.left.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn who_holds_most_gives_up_its_oldest() {
        let places = Places::new(4);
        let mut few = places.take(peer(1));
        let mut many: Vec<Place> = (0..3).map(|_| places.take(peer(2))).collect();
        let mut new = places.take(peer(3));
        assert_eq!(many.iter_mut().map(has_left).collect::<Vec<_>>(), [true, false, false]);
        let mut more = places.take(peer(2));
        assert_eq!(many.iter_mut().map(has_left).collect::<Vec<_>>(), [true, true, false]);
        assert!(!has_left(&mut few) && !has_left(&mut new) && !has_left(&mut more));
        assert_eq!(places.given_up(), 2);
    }

    #[test]
    fn alone_a_peer_has_all_places_and_ties_go_by_age() {
        let places = Places::new(2);
        let (mut first, mut second) = (places.take(peer(2)), places.take(peer(1)));
        let mut third = places.take(peer(3));
        assert!(has_left(&mut first) && !has_left(&mut second));
        drop((first, second));
        let mut fourth = places.take(peer(3));
        assert!(!has_left(&mut third) && !has_left(&mut fourth));
        let _fifth = places.take(peer(3));
        assert!(has_left(&mut third));
    }

    #[tokio::test]
    async fn there_is_room_when_one_is_free_or_was_held_for_long_enough() {
        let places = Places::new(2);
        let first = places.take(peer(1));
        let before = Instant::now();
        places.room().await;
        let mut second = places.take(peer(1));
        places.room().await;
        assert!(before.elapsed() >= MIN_HELD, "both are taken, and young");
        assert!(!has_left(&mut second), "a place is taken by who comes, not by who waits");
        drop(first);
        places.room().await;

        let (held, places) = (places.take(peer(2)), places.clone());
        let waits = tokio::spawn(async move { places.room().await });
        drop(held);
        waits.await.unwrap();
    }

    #[test]
    fn places_that_are_left_are_free_and_forgotten() {
        let places = Places::new(3);
        for round in 0..100_u8 {
            let held: Vec<Place> = (0..3).map(|_| places.take(peer(round))).collect();
            drop(held);
        }
        let taken = places.lock();
        assert_eq!((taken.count, taken.by_peer.len(), taken.given_up), (0, 0, 0));
    }
}
