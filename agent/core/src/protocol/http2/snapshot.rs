//! The session's header compression in, what the next agent's session needs to go on out, and back.
//!
//! A header block refers to all blocks before it, so this is of use only where not a byte was missed, and where both
//! directions stand between two frames. Open streams are not kept: what they were about went with the agent that saw it,
//! and their frames are stepped over.
//!
//! *Owns* when that is so. *Must not know* files, other connections, which values may be written down.

use super::feed::State;
use super::{Session, Way};
use crate::protocol::snapshot::{Http2, Way as Snapshot};

impl Session {
    pub(super) fn learned(&self) -> Option<Http2> {
        let at_rest = [&self.request, &self.response].iter().all(|way| {
            way.state == State::Frames && way.reader.is_empty() && way.block.is_none() && !way.is_first
        });
        at_rest.then(|| Http2 {
            last_stream: self.last_stream,
            request: self.request.learned(),
            response: self.response.learned(),
        })
    }

    pub(super) fn resume(&mut self, learned: &Http2) {
        self.last_stream = learned.last_stream;
        self.request.resume(&learned.request);
        self.response.resume(&learned.response);
    }
}

impl Way {
    fn learned(&self) -> Snapshot {
        Snapshot { max_frame: self.max_frame, ..self.hpack.export() }
    }

    fn resume(&mut self, learned: &Snapshot) {
        *self = Way::new(State::Frames, false, false);
        self.hpack.import(learned);
        self.max_frame = learned.max_frame;
    }
}
