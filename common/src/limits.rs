//! Bounds that both sides rely on.

/// Payload bytes that fit the smallest to the largest size class of a data record. A read of 60 bytes does not
/// reserve 16 KiB.
pub const CLASSES: [usize; 5] = [64, 256, 1024, 4096, 16384];
/// Largest payload of one data record; a longer operation becomes several.
pub const MAX_PAYLOAD: usize = CLASSES[4];
/// Data records of one socket operation. What goes beyond is reported as a length without bytes.
pub const MAX_RECORDS: u32 = 1024;
/// Entries of an `iovec` array: `UIO_MAXIOV`.
pub const MAX_SEGMENTS: u32 = 1024;
/// Segments that are gathered into one record.
pub const SEGMENTS_PER_RECORD: u32 = 128;
/// A pause between two operations of a socket that begins a new turn, in nanoseconds.
pub const TURN_PAUSE_NS: u64 = 2_000_000;
/// Longest path of a Unix socket (`sun_path`).
pub const PATH_LEN: usize = 108;
/// Length of a task's name, with its final NUL.
pub const COMM_LEN: usize = 16;

/// Default size of the data ring in bytes; the loader overrides it.
pub const DATA_RING_BYTES: usize = 16 << 20;
/// Size of the ring for connections and processes in bytes.
pub const CONTROL_RING_BYTES: usize = 1 << 20;
/// Verdicts waiting for the next event of their socket.
pub const VERDICTS: usize = 65_536;
/// Verdicts for connections to come.
pub const INHERITED: usize = 16_384;
/// Processes of which threads are reported. Beyond it the ones without new connections or threads for longest are not.
pub const TRACED: usize = 16_384;
/// Processes whose tasks are followed at once. Those that come when there are so many are not.
pub const RUNTIMES: usize = 1024;
/// Cgroups whose part of the rings is known. Beyond it the ones quiet for longest are forgotten.
pub const CGROUPS: usize = 4096;
/// Sockets whose state is kept where it cannot be stored with the socket. Beyond it the ones unused for longest are
/// introduced again.
pub const SOCKETS: usize = 65_536;
/// Tasks in the middle of a socket call, where entry and return are seen apart.
pub const CALLS: usize = 16_384;

const _: () = {
    assert!(MAX_PAYLOAD == 16384);
    assert!(CONTROL_RING_BYTES.is_power_of_two() && DATA_RING_BYTES.is_power_of_two());
};
