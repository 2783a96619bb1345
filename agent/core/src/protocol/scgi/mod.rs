//! SCGI: a netstring of variables, then a request's body; a CGI answer until the close.
//!
//! *Owns* the frame. Variables, answers and the order of things are `cgi`'s. *Must not know* spans, orders, other connections.
//! *Spec*: "SCGI: A Simple Common Gateway Interface alternative", protocol 1 (Neil Schemenauer); netstrings (D. J. Bernstein).

use super::cgi::once::{Block, Framing, Once};
use super::detect::Sniff;
use super::registry::Spec;
/// Nothing: each request says all there is to know.
pub use super::snapshot::Nothing as Learned;
use crate::operation::Interaction;
use crate::record::Sender;

pub(super) const SPEC: Spec = Spec {
    name: "scgi",
    title: "SCGI",
    interaction: Interaction::Call,
    ports: &[],
    sniff,
    weak_sender: None,
    session: |role, limits| Box::new(Once::<Scgi>::new(role, limits)),
    shared: None,
    #[cfg(test)]
    example: tests::example,
};

/// "The first header must have the name CONTENT_LENGTH" (section 3).
const FIRST: &[u8] = b"CONTENT_LENGTH\0";
/// Digits of a length that is read.
const MAX_DIGITS: usize = 7;

#[derive(Debug)]
struct Scgi;

impl Framing for Scgi {
    const NAME: &'static str = "scgi";

    fn block(bytes: &[u8], bound: usize) -> Block {
        let Some((digits, len)) = length(bytes) else { return Block::Invalid };
        let (Some(len), start) = (len, digits + 1) else { return Block::Incomplete };
        let end = start.saturating_add(len);
        if len > bound {
            return Block::Invalid;
        }
        match bytes.get(end) {
            None => Block::Incomplete,
            Some(b',') => Block::Whole { start, len, end: end + 1 },
            Some(_) => Block::Invalid,
        }
    }

    /// `name NUL value NUL`, one after the other.
    fn variables(block: &[u8]) -> Vec<(&[u8], &[u8])> {
        let mut parts = block.strip_suffix(b"\0").unwrap_or(block).split(|byte| *byte == 0);
        std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect()
    }
}

/// The digits of a netstring's length and the length, once its colon came. `None`: it is no netstring.
fn length(bytes: &[u8]) -> Option<(usize, Option<usize>)> {
    let digits = bytes.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let zero = digits > 1 && bytes.first() == Some(&b'0');
    if digits > MAX_DIGITS || zero {
        return None;
    }
    match bytes.get(digits) {
        None => Some((digits, None)),
        Some(b':') if digits > 0 => {
            let text = std::str::from_utf8(bytes.get(..digits)?).ok()?;
            Some((digits, text.parse().ok()))
        }
        Some(_) => None,
    }
}

fn sniff(bytes: &[u8]) -> Sniff {
    let Some((digits, len)) = length(bytes) else { return Sniff::No };
    let Some(len) = len else { return Sniff::Maybe };
    let name = bytes.get(digits + 1..).unwrap_or_default();
    let common = name.len().min(FIRST.len());
    match (name.get(..common) == FIRST.get(..common), common == FIRST.len()) {
        _ if len < FIRST.len() => Sniff::No,
        (true, true) => Sniff::Yes(Sender::Client),
        (true, false) => Sniff::Maybe,
        (false, _) => Sniff::No,
    }
}

#[cfg(test)]
mod tests;
