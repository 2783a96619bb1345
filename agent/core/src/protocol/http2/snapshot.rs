//! The session's header compression ⇄ what the next agent's session needs to go on.
//!
//! A header block refers to all blocks before it, so this is of use only where not a byte was missed, and where both
//! directions stand between two frames. Open streams are not kept: what they were about went with the agent that saw it,
//! and their frames are stepped over.
//!
//! *Owns* when that is so. *Must not know* which fields may be written down, files, other connections.

use serde::{Deserialize, Serialize};

use super::feed::State;
use super::{Http2Session, Way};
use crate::privacy::{MAX_FIELD, is_harmless_field, is_telling};
use crate::protocol::snapshot::{Discretion, LearnedState};

/// What a session has learned of a connection whose directions both stand between two frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Highest stream of the client.
    pub last_stream: u32,
    pub request: Compression,
    pub response: Compression,
}

/// The header compression of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compression {
    /// The dynamic table, oldest entry first; `None` for what is not known of an entry.
    pub fields: Vec<(Option<String>, Option<String>)>,
    /// The table's bound, where it is known.
    pub max: Option<u32>,
    /// No older entries are in the encoder's table.
    pub is_complete: bool,
    /// Largest table the receiver ever allowed, where it is known.
    pub limit: Option<u32>,
    /// Largest frame the receiver ever allowed, where it is known.
    pub max_frame: Option<u32>,
}

impl LearnedState for Learned {
    fn cost(&self) -> usize {
        let len = |part: &Option<String>| part.as_ref().map_or(4, String::len);
        let fields = self.request.fields.iter().chain(&self.response.fields);
        fields.map(|(name, value)| len(name) + len(value) + 8).sum()
    }

    fn make_harmless(&mut self, _: Discretion) {
        for (name, value) in self.request.fields.iter_mut().chain(&mut self.response.fields) {
            let named = name.as_deref().filter(|name| name.len() <= MAX_FIELD && !is_telling(name));
            let is_harmless = named
                .zip(value.as_deref())
                .is_some_and(|(name, value)| is_harmless_field(name, value) && !is_telling(value));
            value.take_if(|_| !is_harmless);
            if named.is_none() {
                *name = None;
            }
        }
    }
}

impl Http2Session {
    pub(super) fn learned(&self) -> Option<Learned> {
        let at_rest = [&self.request, &self.response].iter().all(|way| {
            way.state == State::Frames && way.reader.is_empty() && way.block.is_none() && !way.is_first
        });
        at_rest.then(|| Learned {
            last_stream: self.last_stream,
            request: self.request.learned(),
            response: self.response.learned(),
        })
    }

    pub(super) fn resume(&mut self, learned: &Learned) {
        self.last_stream = learned.last_stream;
        self.request.resume(&learned.request);
        self.response.resume(&learned.response);
    }
}

impl Way {
    fn learned(&self) -> Compression {
        Compression { max_frame: self.max_frame, ..self.hpack.export() }
    }

    fn resume(&mut self, learned: &Compression) {
        *self = Way::new(State::Frames, false, false);
        self.hpack.import(learned);
        self.max_frame = learned.max_frame;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_that_may_be_secrets_are_kept_without_their_values() {
        for (name, value, is_kept) in [
            (":method", "POST", true),
            (":status", "200", true),
            ("content-type", "application/grpc", true),
            ("content-type", "multipart/form-data; boundary=x", false),
            (":authority", "shop.example:443", true),
            (":authority", "jane:pw@shop.example", false),
            (":path", "/shop.v1.Orders/Create", true),
            (":path", "/grpc.health.v1.Health/Check", true),
            (":path", "/orders/17", false),
            (":path", "/shop.Orders/Create?token=x", false),
            (":path", "/shop.Orders/17", false),
            (":path", "/invite.me/aB-3x", false),
            ("authorization", "Bearer x", false),
            ("cookie", "session=1", false),
            ("x-request-id", "1", false),
            ("user-agent", "grpc-go/1.60", true),
            ("user-agent", "bot (jane.roe@example.org)", false),
            ("te", &"t".repeat(MAX_FIELD + 1), false),
        ] {
            let fields = vec![(Some(name.to_owned()), Some(value.to_owned()))];
            let request = Compression { fields, ..Default::default() };
            let mut shown = Learned { request, ..Default::default() };
            shown.make_harmless(Discretion { hashed: false });
            let expected = is_kept.then(|| value.to_owned());
            assert_eq!(shown.request.fields, [(Some(name.to_owned()), expected)], "{name}: {value}");
        }
    }
}
