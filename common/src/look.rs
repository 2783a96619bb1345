//! What a thread's stack points to, at a send: a process that may be read → pieces of its memory.
//!
//! A library that keeps something for a connection, and sends for it, has the address of what it keeps on the thread's stack. So
//! the thread itself shows, in the middle of its system call, what user space would find too late.
//!
//! ```text
//!   LEARN  every object that the stack points to          ─▶ which one it is, and where in it what is looked for
//!   FOLLOW what all pointers of that one object point to  ─▶ by which pointer that is reached
//!   USE    some bytes of it, and behind that pointer
//! ```
//!
//! *Owns* the layout of what the kernel side is told, and of what it hands out. *Must not know* what is looked for.

use crate::words::words;

/// Every object that the stack points to is copied.
pub const LEARN: u64 = 1;
/// The object with the signature is copied, and what its pointers point to.
pub const FOLLOW: u64 = 2;
/// What was learned is copied.
pub const USE: u64 = 3;

/// An offset that nothing has.
pub const NOWHERE: u64 = u64::MAX;

/// Words of a stack that are looked at: in 53 of 53 sends and receives of OpenSSL 3.0 the object was among the first 192.
pub const STACK_WORDS: usize = 192;
/// Bytes of an object.
pub const OBJECT_BYTES: usize = 4096;
/// Bytes of what a pointer in an object points to.
pub const POINTEE_BYTES: usize = 256;
/// Bytes around what is looked for, in an object that is known.
pub const WINDOW_BYTES: usize = 512;
/// Objects that one send hands out while it is learned which one it is, and pointees of that one.
pub const MAX_OBJECTS: u64 = 48;
pub const MAX_POINTEES: u64 = 112;
/// The same once it is known: two are one more than there ever were.
pub const MAX_USED: u64 = 4;
/// Sends of one connection that are looked at: a handshake has up to five before the first answer.
pub const MAX_LOOKS: u32 = 8;
/// Bytes that are copied in a second, of all processes; half of it where something is learned, so that what is known comes through.
pub const BYTES_PER_SECOND: u64 = 8 << 20;

/// Places for copies of objects, of one CPU and of all; what is not taken in time is written over. Four CPUs have some of their own,
/// further ones share them.
pub const SLOTS_PER_CPU: u32 = 64;
pub const SLOTS: usize = 4 * SLOTS_PER_CPU as usize;
/// The same for all other copies: those of a second with 200 new connections on one CPU, for an agent that is starved so long.
pub const SMALL_SLOTS_PER_CPU: u32 = 1024;
pub const SMALL_SLOTS: usize = 4 * SMALL_SLOTS_PER_CPU as usize;
/// Processes that are looked at.
pub const PROCESSES: usize = 1024;
/// Kinds of connections of each.
pub const KINDS: usize = 4;

words! {
    /// What is looked at in a process. Entries go with the process, and when it becomes another program.
    pub struct Look : u64 {
        /// [`LEARN`], [`FOLLOW`] or [`USE`].
        mode,
        /// So many more sends, of all connections.
        left,
        /// The object is the one with this word at this offset.
        signature_at,
        signature,
        /// [`USE`]: where [`WINDOW_BYTES`] of it begin, or [`NOWHERE`].
        window_at,
        /// Where it has a pointer, or [`NOWHERE`], and where what is copied begins behind it: [`POINTEE_BYTES`].
        pointer_at,
        pointee_at,
        /// Which connections: see [`kind`].
        kind_0,
        kind_1,
        kind_2,
        kind_3,
    }
}

/// A kind of connections: those of a process to or from one port.
pub const fn kind(role: u8, server_port: u16) -> u64 {
    (role as u64) << 16 | server_port as u64
}

/// A copy of an object.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// As in the record of it, or another copy is there by now.
    pub seal: u64,
    pub words: [u64; OBJECT_BYTES / 8],
}

/// A copy of [`WINDOW_BYTES`] or [`POINTEE_BYTES`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SmallSlot {
    pub seal: u64,
    pub words: [u64; WINDOW_BYTES / 8],
}

/// Slots as words.
pub const SLOT_WORDS: usize = size_of::<Slot>() / 8;
pub const SMALL_SLOT_WORDS: usize = size_of::<SmallSlot>() / 8;

const _: () = {
    assert!(size_of::<Slot>() == OBJECT_BYTES + 8);
    assert!(size_of::<Look>() == 88);
    assert!(WINDOW_BYTES < OBJECT_BYTES && POINTEE_BYTES <= WINDOW_BYTES);
    assert!(MAX_OBJECTS < SLOTS_PER_CPU as u64 && MAX_POINTEES < SMALL_SLOTS_PER_CPU as u64);
};
