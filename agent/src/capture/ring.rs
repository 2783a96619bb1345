//! The kernel's rings: waiting bytes → decoded [`Event`]s.
//!
//! *Owns* the two ring buffers and the order they are read in: control before data, so that a connection is known
//! before its bytes.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::{Map, MapData, RingBuf};

use super::{
    decode::{self, Event},
    error::CaptureError,
    load::map_error,
};

/// Both ring buffers.
pub struct Rings {
    control: RingBuf<MapData>,
    data: RingBuf<MapData>,
    /// Records whose bytes made no sense.
    pub malformed: u64,
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rings").field("malformed", &self.malformed).finish_non_exhaustive()
    }
}

impl Rings {
    pub(super) fn new(data: Map, control: Map) -> Result<Self, CaptureError> {
        Ok(Self {
            control: control.try_into().map_err(map_error)?,
            data: data.try_into().map_err(map_error)?,
            malformed: 0,
        })
    }

    /// Descriptors that become readable when the data ring fills up, or a connection appears.
    pub fn fds(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.data.as_fd().try_clone_to_owned()?, self.control.as_fd().try_clone_to_owned()?])
    }

    /// Reads what waits in the control ring and up to `limit` data records, in order. Returns their number: at the
    /// limit there may be more.
    pub fn read(&mut self, limit: usize, mut to: impl FnMut(Event)) -> usize {
        while let Some(item) = self.control.next() {
            match decode::event(&item) {
                Some(event) => to(event),
                None => self.malformed += 1,
            }
        }
        let mut count = 0;
        while count < limit
            && let Some(item) = self.data.next()
        {
            count += 1;
            match decode::event(&item) {
                Some(event) => to(event),
                None => self.malformed += 1,
            }
        }
        count
    }
}
