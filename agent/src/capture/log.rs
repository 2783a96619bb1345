//! What the kernel side says of its rare events → lines of the agent's own log, at debug level.
//!
//! *Owns* the log's ring and the level that the programs are loaded with. *Must not know* what the lines say.
//!
//! Where nobody asked for them, the level is zero: the verifier then removes what makes the lines, nobody reads the
//! ring, and it is as small as a ring can be.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use spoor_common::names::{LOG_RING, LOG_TARGET};

use super::{error::CaptureError, load::chain};

/// A ring is at least a page, and a page is at most this on the architectures that are supported (arm64 has up to
/// 64 KiB).
const SMALLEST_RING: u32 = 64 << 10;
/// No line has this level.
const SILENT: u8 = 0;
const DEBUG: u8 = aya_log::Level::Debug as u8;

/// Whether the agent's log wants such lines.
pub fn is_wanted() -> bool {
    tracing::enabled!(target: LOG_TARGET, tracing::Level::DEBUG)
}

/// Tells the loader whether the programs may say anything.
pub(super) fn prepare<'a>(loader: &mut EbpfLoader<'a>, wanted: bool) {
    let level: &'a u8 = if wanted { &DEBUG } else { &SILENT };
    loader.override_global(aya_log::LEVEL, level, true);
    if !wanted {
        loader.map_max_entries(LOG_RING, SMALLEST_RING);
    }
}

/// The reader of the log's ring.
pub struct KernelLog {
    logger: EbpfLogger<Lines>,
    lines: Lines,
}

impl fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelLog").finish_non_exhaustive()
    }
}

impl KernelLog {
    /// Takes the ring of a loaded object, before its programs are loaded.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, CaptureError> {
        let lines = Lines::default();
        let logger = EbpfLogger::init_with_logger(ebpf, lines.clone());
        let logger = logger.map_err(|error| CaptureError::Object(chain(&error)))?;
        Ok(Self { logger, lines })
    }

    /// What was said since the last time. Of one cause there is a line in ten seconds at most.
    pub fn read(&mut self) -> Vec<String> {
        self.logger.flush();
        std::mem::take(&mut *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where the library hands its lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
    }

    fn flush(&self) {}
}
