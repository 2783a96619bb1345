//! What sessions have learned that the stream does not say again ⇄ plain values for the next agent.
//!
//! ```text
//!   session ─export─▶ Snapshot, Texts ─ a file, another agent ─▶ Snapshot, texts ─import─▶ session
//! ```
//!
//! A connection that goes on while no agent watches may change: [`Past::unbroken`] tells whether every byte since was seen.
//! Where it is false, a session keeps what it keeps over lost records, by the same code, and forgets the rest.
//!
//! *Owns* what all protocols' states have in common, and the bound on their texts. Each state, and what of it may be written
//! down, is in the `snapshot` of its folder. *Must not know* whose connection it is, files. Texts are as they were on the wire.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Snapshot;
use crate::privacy::is_telling;
use crate::time::BootTime;

/// Bytes of all texts together.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// What one protocol's sessions learn.
pub(super) trait LearnedState {
    /// What is kept by name: prepared statements and consumers.
    fn counts(&self) -> Counts {
        Counts::default()
    }

    /// About how many bytes it takes in a file, without shared texts.
    fn cost(&self) -> usize;

    /// Puts its texts at other places; a text that has none is not known any more.
    fn move_texts(&mut self, place: &mut dyn FnMut(u32) -> Option<u32>) {
        let _ = place;
    }

    /// Takes out what no span may hold.
    fn make_harmless(&mut self, discretion: Discretion);
}

/// What the configuration says of what may be written down.
#[derive(Clone, Copy, Debug)]
pub struct Discretion {
    /// Keys leave as hashes only: what can hold them in another form, such as addresses of messages, not at all.
    pub hashed: bool,
}

impl Discretion {
    /// The name of a place, such as a database, may hold a key, or tells what no span would.
    pub fn is_telling(self, place: &str) -> bool {
        (self.hashed && place.contains(|c: char| c.is_ascii_digit())) || is_telling(place)
    }
}

/// The state of a protocol whose sessions learn nothing that the stream does not say again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nothing {}

impl LearnedState for Nothing {
    fn cost(&self) -> usize {
        match *self {}
    }

    fn make_harmless(&mut self, _: Discretion) {
        match *self {}
    }
}

impl Snapshot {
    /// What is kept by name: prepared statements and consumers.
    pub fn counts(&self) -> Counts {
        self.state().counts()
    }

    /// About how many bytes it takes in a file, without shared texts.
    pub fn cost(&self) -> usize {
        self.state().cost().saturating_add(256)
    }

    /// The same with its texts at other places; a text that has none is not known any more.
    pub fn with_texts(mut self, mut place: impl FnMut(u32) -> Option<u32>) -> Self {
        self.state_mut().move_texts(&mut place);
        self
    }

    /// The same without what no span may hold.
    pub fn harmless(mut self, discretion: Discretion) -> Self {
        self.state_mut().make_harmless(discretion);
        self
    }
}

/// What an earlier session of the same connection had learned.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    pub learned: &'a Snapshot,
    /// By place.
    pub texts: &'a [Arc<str>],
    /// No byte moved since. Else the session keeps what it would keep over lost bytes.
    pub unbroken: bool,
    /// Now.
    pub at: BootTime,
}

/// How much a session knows by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub statements: u64,
    pub consumers: u64,
}

/// Texts that several connections have in common, once each: the connections of a pool prepare the same statements.
#[derive(Debug, Default)]
pub struct Texts {
    places: HashMap<Arc<str>, u32>,
    list: Vec<Arc<str>>,
    bytes: usize,
}

impl Texts {
    /// The place of a text. `None`: there is no room for another one.
    pub fn place(&mut self, text: &Arc<str>) -> Option<u32> {
        if let Some(place) = self.places.get(text) {
            return Some(*place);
        }
        let bytes = self.bytes.saturating_add(text.len());
        let place = u32::try_from(self.list.len()).ok().filter(|_| bytes <= MAX_TEXT_BYTES)?;
        self.bytes = bytes;
        self.places.insert(text.clone(), place);
        self.list.push(text.clone());
        Some(place)
    }

    /// All of them, by place.
    pub fn into_list(self) -> Vec<Arc<str>> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_place_however_many_ask() {
        let mut texts = Texts::default();
        let (one, same, other): (Arc<str>, Arc<str>, Arc<str>) = ("a".into(), "a".into(), "b".into());
        assert_eq!((texts.place(&one), texts.place(&other), texts.place(&same)), (Some(0), Some(1), Some(0)));
        assert_eq!(texts.into_list(), [one, other]);
    }

    #[test]
    fn texts_are_bounded() {
        let mut texts = Texts::default();
        let long = "x".repeat(MAX_TEXT_BYTES / 2 - 8);
        for n in 0..4 {
            let place = texts.place(&format!("{n}{long}").into());
            assert_eq!(place, (n < 2).then_some(n));
        }
        assert_eq!(texts.place(&"short".into()), Some(2), "a shorter one may still fit");
    }
}
