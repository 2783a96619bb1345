//! Processes of which is copied what a thread's stack points to: a [`Look`] → map entries; and the copies, taken out and wiped.
//!
//! *Must not know* what the copies are for.

use std::fmt;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use spoor_common::look::{Look, SLOT_WORDS, SMALL_SLOT_WORDS, WINDOW_BYTES};
use spoor_common::names::{self, JUMP_DATA, JUMP_LOOK};
use spoor_core::record::Tgid;
use zeroize::Zeroizing;

use super::decode::Told;
use super::error::CaptureError;
use super::jumps::Jumps;
use super::load::{map_error, take};

/// A flag of `bpf_map_update_elem`: an entry is replaced, and none is made.
const BPF_EXIST: u64 = 2;

/// A copy of a process' memory. It is wiped when it is dropped, and shown nowhere.
pub struct Copied {
    pub of: Told,
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copied").field("of", &self.of).field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// The kernel's maps of who is looked at, and of what was copied.
pub struct Looked {
    looks: HashMap<MapData, u32, [u64; Look::LEN]>,
    /// How often `looks` was changed: a socket looks into it only then.
    set: Array<MapData, u64>,
    set_count: u64,
    slots: Array<MapData, [u64; SLOT_WORDS]>,
    small: Array<MapData, [u64; SMALL_SLOT_WORDS]>,
}

impl fmt::Debug for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looked").field("set_count", &self.set_count).finish_non_exhaustive()
    }
}

impl Looked {
    /// Loads the program that looks and makes it known to the one that sees sends.
    pub(super) fn new(ebpf: &mut Ebpf, jumps: &mut Jumps) -> Result<Self, CaptureError> {
        jumps.need(ebpf, &[JUMP_DATA, JUMP_LOOK])?;
        let looks = take(ebpf, names::LOOKS)?.try_into().map_err(map_error)?;
        let set = take(ebpf, names::LOOKS_SET)?.try_into().map_err(map_error)?;
        let slots = take(ebpf, names::SLOTS)?.try_into().map_err(map_error)?;
        let small = take(ebpf, names::SMALL_SLOTS)?.try_into().map_err(map_error)?;
        Ok(Self { looks, set, set_count: 0, slots, small })
    }

    /// Looks at a process from its next sends on. Unless it `is_new`, only where it still is the one that was named: the kernel side
    /// has left it, if it became another program meanwhile.
    pub fn look(&mut self, tgid: Tgid, look: &Look, is_new: bool) -> Result<(), CaptureError> {
        self.looks.insert(tgid.0, look.words(), if is_new { 0 } else { BPF_EXIST }).map_err(map_error)?;
        self.changed()
    }

    /// No more.
    pub fn leave(&mut self, tgid: Tgid) -> Result<(), CaptureError> {
        // One that is gone already was taken out by the kernel side.
        let _ = self.looks.remove(&tgid.0);
        self.changed()
    }

    fn changed(&mut self) -> Result<(), CaptureError> {
        self.set_count += 1;
        self.set.set(0, self.set_count, 0).map_err(map_error)
    }

    /// Takes a copy out, and wipes it where it was. `None`: another one is there by now.
    pub fn take(&mut self, of: Told) -> Option<Copied> {
        let bytes = if of.len > WINDOW_BYTES {
            take_out(&mut self.slots, of)?
        } else {
            take_out(&mut self.small, of)?
        };
        Some(Copied { of, bytes })
    }
}

fn take_out<const WORDS: usize>(
    slots: &mut Array<MapData, [u64; WORDS]>,
    of: Told,
) -> Option<Zeroizing<Vec<u8>>> {
    let slot = Zeroizing::new(slots.get(&of.slot, 0).ok()?);
    let (seal, words) = slot.split_first()?;
    if *seal != of.seal {
        return None;
    }
    let _ = slots.set(of.slot, [0; WORDS], 0);
    // Never moved: there is room from the beginning.
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * WORDS));
    for word in words.iter().take(of.len / 8) {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    Some(bytes)
}
