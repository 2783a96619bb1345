//! Copies of what stacks pointed to while a connection was at work → its secrets, and where the next connection's will lie.
//!
//! ```text
//!   LEARN  every object ─ the client's random lies in it ─▶ which object it is
//!   FOLLOW what that one points to ─ a secret opens a record ─▶ by which pointer
//!   USE    a few hundred bytes of each connection ─▶ its secrets
//! ```
//!
//! TLS 1.3's secrets lie in OpenSSL's object for the connection, TLS 1.2's in that for the session, which the former points to.
//! What was learned is believed by nobody: a wrong place costs tests, and a secret is one that opens a record of its connection.
//!
//! *Owns* the copies until their connection is asked for, wiped after seconds, and what was learned of each process. *Must not know*
//! how copies are made ([`spoor_common::look`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use spoor_common::look::{FOLLOW, LEARN, POINTEE_BYTES, WINDOW_BYTES};
use spoor_core::bounded::Bounded;
use spoor_core::record::{ConnId, Tgid};
use spoor_core::tls::search::{Search, Shape};
use spoor_core::tls::{ClientRandom, Known, Proof};

use super::{Room, scan};
use crate::capture::look::Copied;

/// How long a copy waits for its connection to be asked for: that is with its first record of data, which is a moment later.
const KEPT: Duration = Duration::from_secs(10);
/// Bytes of copies that wait. One send that is learned from has 192 KiB.
const MAX_BYTES: usize = 8 << 20;
/// Processes of which something is known.
const MAX_PROCESSES: usize = 4096;
/// Words at the beginning of an object among which the one is that tells it from others: a pointer to what never changes, as
/// OpenSSL's to its methods, in the second or third word.
const SIGNATURES: usize = 8;
/// Connections in a row that copies of the learned place did not open: it is another one by now.
const MAX_VAIN: u32 = 32;
/// Times that a process is learned from, or followed, in vain.
const MAX_TRIES: u32 = 4;

/// What is learned of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Learn,
    Follow(Signature),
    Use { signature: Signature, window_at: Option<u64>, pointer: Option<Pointer> },
}

/// An object is the one that has this word at this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    pub at: u64,
    pub word: u64,
}

impl Signature {
    fn is_of(&self, object: &[u8]) -> bool {
        let word = usize::try_from(self.at).ok().and_then(|at| object.get(at..)?.first_chunk());
        word.is_some_and(|word| u64::from_ne_bytes(*word) == self.word)
    }
}

/// Where an object has a pointer, and where what is copied begins behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub at: u64,
    pub pointee_at: u64,
}

/// What is known of a process so far.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    signature: Option<Signature>,
    window_at: Option<u64>,
    pointer: Option<Pointer>,
    /// What the kernel side was told.
    told: Option<Plan>,
    vain: u32,
    followed: u32,
    relearned: u32,
}

impl Learned {
    fn plan(&self) -> Plan {
        match self.signature {
            Some(signature) if self.window_at.is_some() || self.pointer.is_some() => {
                Plan::Use { signature, window_at: self.window_at, pointer: self.pointer }
            }
            Some(signature) => Plan::Follow(signature),
            None => Plan::Learn,
        }
    }
}

struct Kept {
    until: Instant,
    copied: Copied,
    _room: Room,
}

impl Kept {
    /// Of an object that may be the one.
    fn is_object(&self) -> bool {
        !self.copied.of.is_pointee && matches!(self.copied.of.mode, LEARN | FOLLOW)
    }
}

pub(super) struct Objects {
    kept: VecDeque<Kept>,
    bytes: usize,
    learned: Bounded<Tgid, Learned>,
}

impl Default for Objects {
    fn default() -> Self {
        Self { kept: VecDeque::new(), bytes: 0, learned: Bounded::new(MAX_PROCESSES) }
    }
}

/// What copies of a connection gave.
#[derive(Default)]
pub(super) struct Found {
    pub(super) secrets: Vec<Known>,
    /// More is known of the process than before.
    pub(super) plan: Option<Plan>,
}

impl Objects {
    /// Keeps a copy until its connection is asked for.
    pub(super) fn keep(&mut self, copied: Copied, room: Room, now: Instant) {
        self.bytes += copied.bytes.len();
        self.kept.push_back(Kept { until: now + KEPT, copied, _room: room });
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.copied.bytes.len();
        }
    }

    /// Wipes what waited long enough.
    pub(super) fn wipe(&mut self, now: Instant) {
        while let Some(kept) = self.kept.pop_front_if(|kept| kept.until <= now) {
            self.bytes -= kept.copied.bytes.len();
        }
    }

    /// When there is something to wipe.
    pub(super) fn wipe_at(&self) -> Option<Instant> {
        self.kept.front().map(|kept| kept.until)
    }

    /// Looks for a connection's secrets in its copies. `is_static`: whether an address of the process is one of a file that it has
    /// mapped, and so the same for all its objects of a kind.
    pub(super) fn look(
        &mut self,
        (conn, tgid): (ConnId, Tgid),
        search: &mut Search,
        name: &ClientRandom,
        is_static: impl Fn(u64) -> bool,
    ) -> Found {
        let mut found = Found::default();
        let mut learned = self.learned.get(&tgid).copied().unwrap_or_default();
        // The last ones were made when most was there.
        let mut own: Vec<&Kept> = self.kept.iter().rev().filter(|kept| kept.copied.of.conn == conn).collect();
        if own.is_empty() {
            return found;
        }
        let is_learned_from = own.iter().any(|kept| kept.copied.of.mode == LEARN);
        if let Some(signature) = learned.signature.filter(|_| is_learned_from) {
            let has_it = |kept: &&Kept| signature.is_of(&kept.copied.bytes);
            if own.iter().any(has_it) {
                own.retain(has_it);
            } else {
                // The process is another one.
                learned = Learned { relearned: learned.relearned, ..Learned::default() };
            }
        }
        // Libraries keep the client's random where they keep the connection, and its secrets. Of a JVM everything that its stack points
        // to was gone over for each record, for nothing: 7 ms each time, while others waited.
        own.retain(|kept| kept.copied.of.mode != LEARN || holds(&kept.copied.bytes, name));
        let is_of_12 = search.proofs().iter().any(Proof::is_of_12);
        let mut at_object = None;
        for kept in &own {
            if search.is_done() {
                break;
            }
            let Copied { of, bytes } = &kept.copied;
            let mut places = Vec::new();
            scan(search, bytes, (of.address, Shape::Words), &mut |at, known| {
                places.push(at);
                found.secrets.push(known);
            });
            let Some(at) = places.first() else { continue };
            if kept.is_object() {
                learned.signature = learned.signature.or_else(|| signature(bytes, &is_static));
                learned.window_at =
                    learned.window_at.or(Some(beginning(at.saturating_sub(of.object), WINDOW_BYTES)));
                at_object = Some(of.object);
            } else if of.mode == FOLLOW
                && let Some(pointer_at) = pointer(&own, of.object, of.address)
            {
                let pointee_at = beginning(at.saturating_sub(of.address), POINTEE_BYTES);
                learned.pointer = Some(Pointer { at: pointer_at, pointee_at });
            }
        }
        if found.secrets.is_empty() {
            learned.vain += 1;
            if learned.signature.is_none()
                && let Some(object) = own.iter().find(|kept| kept.copied.of.mode == LEARN)
            {
                learned.signature = signature(&object.copied.bytes, &is_static);
            }
        } else {
            learned.vain = 0;
        }
        let mut plan = learned.plan();
        if let Plan::Use { signature, window_at: Some(_), pointer: None } = plan
            && is_of_12
            && found.secrets.is_empty()
            && learned.followed < MAX_TRIES
        {
            // One of TLS 1.2 among those of TLS 1.3.
            learned.followed += 1;
            plan = Plan::Follow(signature);
        } else if learned.vain >= MAX_VAIN && learned.relearned < MAX_TRIES {
            let Learned { relearned, told, .. } = learned;
            learned = Learned { relearned: relearned + 1, told, ..Learned::default() };
            plan = Plan::Learn;
        }
        tracing::trace!(
            process = tgid.0,
            conn = conn.0,
            copies = own.len(),
            mode = own.first().map(|kept| kept.copied.of.mode),
            found = found.secrets.len(),
            is_of_12,
            ?learned,
            "copies were searched"
        );
        if learned.told.replace(plan).unwrap_or(Plan::Learn) != plan {
            found.plan = Some(plan);
        }
        self.learned.insert(tgid, learned);
        if let Some(object) = at_object {
            self.keep_only(conn, object);
        }
        found
    }

    /// Wipes a connection's copies of other objects: the other direction's secret, which may be asked for later, is in the same one.
    fn keep_only(&mut self, conn: ConnId, object: u64) {
        self.kept.retain(|kept| kept.copied.of.conn != conn || kept.copied.of.object == object);
        self.bytes = self.kept.iter().map(|kept| kept.copied.bytes.len()).sum();
    }
}

/// The word by which objects of this kind are told.
fn signature(bytes: &[u8], is_static: impl Fn(u64) -> bool) -> Option<Signature> {
    let (words, _) = bytes.as_chunks::<8>();
    let words = (0..).zip(words).take(SIGNATURES);
    words
        .map(|(index, word)| Signature { at: 8 * index, word: u64::from_ne_bytes(*word) })
        .find(|signature| is_static(signature.word))
}

/// Where in its object a pointer to an address is.
fn pointer(own: &[&Kept], object: u64, to: u64) -> Option<u64> {
    let object = own.iter().find(|kept| kept.is_object() && kept.copied.of.object == object)?;
    let (words, _) = object.copied.bytes.as_chunks::<8>();
    let index = words.iter().position(|word| u64::from_ne_bytes(*word) == to)?;
    Some(8 * index as u64)
}

/// Where bytes begin in whose middle an offset is.
fn beginning(offset: u64, len: usize) -> u64 {
    offset.saturating_sub(len as u64 / 2 - 16) & !15
}

fn holds(bytes: &[u8], name: &ClientRandom) -> bool {
    bytes.windows(name.len()).step_by(4).any(|window| window == name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spoor_common::look::USE;
    use zeroize::Zeroizing;

    use super::*;
    use crate::capture::decode::Told;

    const TGID: Tgid = Tgid(7);
    const NAME: ClientRandom = [0xc1; 32];
    /// What is the same in all objects of a process.
    const METHODS: u64 = 0x7f00_1234_5678;

    struct Play {
        objects: Objects,
        now: Instant,
    }

    impl Play {
        fn new() -> Self {
            Self { objects: Objects::default(), now: Instant::now() }
        }

        fn keep(&mut self, conn: u64, mode: u64, (object, address): (u64, u64), bytes: &[u8]) {
            let of = Told::of(ConnId(conn), TGID, mode, (object, address), object != address && mode != USE);
            let copied = Copied { of, bytes: Zeroizing::new(bytes.to_vec()) };
            let room = Room::take(&Arc::default(), bytes.len() as u64).expect("room");
            self.objects.keep(copied, room, self.now);
        }

        /// Nothing of the connection can be opened here: that is proven with real secrets, in the core and through the live kernel.
        fn look(&mut self, conn: u64) -> Option<Plan> {
            let is_static = |word| word == METHODS;
            self.objects.look((ConnId(conn), TGID), &mut Search::default(), &NAME, is_static).plan
        }
    }

    /// An object as a library's: a version, its methods, pointers, and maybe the client's random.
    fn object(has_name: bool) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[..8].copy_from_slice(&0x0304_u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&METHODS.to_ne_bytes());
        bytes[0x918..0x920].copy_from_slice(&0x5555_0000_u64.to_ne_bytes());
        if has_name {
            bytes[0x168..0x188].copy_from_slice(&NAME);
        }
        bytes
    }

    #[test]
    fn the_object_with_the_clients_random_is_the_one_and_is_followed() {
        let mut play = Play::new();
        play.keep(1, LEARN, (0x1000, 0x1000), &[7; 4096]);
        play.keep(1, LEARN, (0x2000, 0x2000), &object(true));
        let signature = Signature { at: 8, word: METHODS };
        assert_eq!(play.look(1), Some(Plan::Follow(signature)));
        assert_eq!(play.look(1), None, "it was told");
        assert_eq!(play.look(2), None, "of another connection nothing was copied");
    }

    #[test]
    fn an_object_without_what_is_the_same_in_all_is_not_told_from_others() {
        let mut play = Play::new();
        let mut bytes = object(true);
        bytes[8..16].fill(0);
        play.keep(1, LEARN, (0x2000, 0x2000), &bytes);
        assert_eq!(play.look(1), None);
        play.keep(2, LEARN, (0x2000, 0x2000), &object(false));
        assert_eq!(play.look(2), None, "and one of another connection is not taken for this one's");
    }

    #[test]
    fn a_process_that_has_other_objects_is_learned_anew() {
        let mut play = Play::new();
        play.keep(1, LEARN, (0x2000, 0x2000), &object(true));
        assert!(play.look(1).is_some());
        let mut other = object(true);
        other[8..16].copy_from_slice(&0x7fff_0000_u64.to_ne_bytes());
        other[16..24].copy_from_slice(&METHODS.to_ne_bytes());
        play.keep(2, LEARN, (0x2000, 0x2000), &other);
        assert_eq!(play.look(2), Some(Plan::Follow(Signature { at: 16, word: METHODS })));
    }

    #[test]
    fn copies_are_bounded_and_wiped_after_seconds() {
        let mut play = Play::new();
        for conn in 0..3000 {
            play.keep(conn, LEARN, (0x2000, 0x2000), &object(true));
            assert!(play.objects.bytes <= MAX_BYTES);
        }
        assert_eq!(play.look(0), None, "the oldest went");
        assert!(play.look(2999).is_some());
        play.objects.wipe(play.now + KEPT);
        assert_eq!((play.objects.bytes, play.objects.kept.len()), (0, 0));
        assert_eq!(play.objects.wipe_at(), None);
    }

    #[test]
    fn a_pointer_is_found_in_the_copy_of_its_object() {
        let mut play = Play::new();
        play.keep(1, FOLLOW, (0x2000, 0x2000), &object(true));
        play.keep(1, FOLLOW, (0x2000, 0x5555_0000), &[1; 256]);
        let own: Vec<&Kept> = play.objects.kept.iter().collect();
        assert_eq!(pointer(&own, 0x2000, 0x5555_0000), Some(0x918));
        assert_eq!(pointer(&own, 0x2000, 0x5555_0010), None);
        assert_eq!(pointer(&own, 0x3000, 0x5555_0000), None, "of an object that was not copied");
    }

    #[test]
    fn what_is_copied_has_what_is_looked_for_in_its_middle() {
        // OpenSSL 3.0's secrets of the client and of the server: whichever is found first, both are there.
        for offset in [0x744, 0x784] {
            let from = beginning(offset, WINDOW_BYTES);
            assert!(
                from.is_multiple_of(16) && from <= 0x744 && from + WINDOW_BYTES as u64 >= 0x784 + 48,
                "{from:#x}"
            );
        }
        assert_eq!(beginning(0x50, POINTEE_BYTES), 0, "not before the beginning");
    }
}
