//! The board → pages of metrics, few at a time and each made once for all who ask within a second.
//!
//! *Owns* the memory that pages take while somebody reads them, or does not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Board;
use crate::metrics::prometheus::Format;

/// Pages being read at once.
const MAX_READERS: usize = 8;
/// The numbers on the board are no newer: whoever asks again and again costs nothing.
const FRESH: Duration = Duration::from_secs(1);

/// Pages that were made lately.
#[derive(Debug)]
pub(super) struct Pages {
    readers: Arc<Semaphore>,
    made: Mutex<HashMap<Format, (Instant, Bytes)>>,
}

impl Default for Pages {
    fn default() -> Self {
        Self { readers: Arc::new(Semaphore::new(MAX_READERS)), made: Mutex::default() }
    }
}

impl Pages {
    /// A page to be read. `None`: too many are being read.
    pub(super) fn take(&self, board: &Board, format: Format) -> Option<Body> {
        let reader = self.readers.clone().try_acquire_owned().ok()?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = made.get(&format).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, page)| page.clone());
        let page = fresh.unwrap_or_else(|| {
            let page = Bytes::from(board.page(format));
            made.insert(format, (Instant::now(), page.clone()));
            page
        });
        Some(Full::new(Held { bytes: page, _reader: Some(reader) }))
    }
}

/// The body of an answer.
pub(super) type Body = Full<Held>;

/// Bytes on their way, and the reader's place until all of a page have left.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Bytes,
    _reader: Option<OwnedSemaphorePermit>,
}

impl From<String> for Held {
    fn from(text: String) -> Self {
        Self { bytes: text.into(), _reader: None }
    }
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
