//! uwsgi: a packet of variables, then a request's body; an HTTP or CGI answer until its length or the close.
//!
//! *Owns* the frame. Variables, answers and the order of things are `cgi`'s. *Must not know* spans, orders, other connections.
//! *Spec*: uWSGI documentation, "The uwsgi (lowercase) Protocol": modifier1 (1 octet), size of the rest (2 octets, little-endian),
//! modifier2 (1 octet), then per variable the size of its name (2, little-endian), name, size of its value, value.

use super::cgi::once::{Block, Framing, Once};
use super::detect::Sniff;
use super::registry::Spec;
/// Nothing: each request says all there is to know.
pub use super::snapshot::Nothing as Learned;
use crate::operation::Interaction;
use crate::record::Sender;

pub(super) const SPEC: Spec = Spec {
    name: "uwsgi",
    title: "uwsgi",
    interaction: Interaction::Call,
    ports: &[3031..=3031],
    sniff,
    weak_sender: None,
    session: |role, limits| Box::new(Once::<Uwsgi>::new(role, limits)),
    shared: None,
    #[cfg(test)]
    example: tests::example,
};

const HEADER: usize = 4;
/// Requests for an application: WSGI 0, Perl 5, Lua 6, Ruby 7, CGI 9, PHP 14, Mono 15 and so on; above are commands.
const LAST_MODIFIER: u8 = 30;
/// Names that a web server's first variable has, or begins with.
const FIRST: [&[u8]; 9] = [
    b"QUERY_STRING",
    b"REQUEST_",
    b"CONTENT_",
    b"SERVER_",
    b"DOCUMENT_",
    b"REMOTE_",
    b"HTTP_",
    b"PATH_INFO",
    b"SCRIPT_",
];

#[derive(Debug)]
struct Uwsgi;

impl Framing for Uwsgi {
    const NAME: &'static str = "uwsgi";

    fn block(bytes: &[u8], _: usize) -> Block {
        let Some([modifier, low, high, _]) = bytes.first_chunk::<HEADER>() else { return Block::Incomplete };
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let end = HEADER + len;
        match sniff(bytes) {
            _ if *modifier > LAST_MODIFIER => Block::Invalid,
            Sniff::No => Block::Invalid,
            _ if bytes.len() < end => Block::Incomplete,
            _ => Block::Whole { start: HEADER, len, end },
        }
    }

    fn variables(block: &[u8]) -> Vec<(&[u8], &[u8])> {
        let mut rest = block;
        std::iter::from_fn(|| Some((string(&mut rest)?, string(&mut rest)?))).collect()
    }
}

/// A size and so many bytes.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (size, after) = rest.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*size)))?;
    *rest = after;
    Some(text)
}

/// The first variable is one that every web server sends. Its name tells more than the four bytes before it.
fn sniff(bytes: &[u8]) -> Sniff {
    let Some(modifier) = bytes.first() else { return Sniff::Maybe };
    if *modifier > LAST_MODIFIER || bytes.get(3).is_some_and(|modifier2| *modifier2 != 0) {
        return Sniff::No;
    }
    let le16 =
        |at: usize| bytes.get(at..)?.first_chunk::<2>().map(|size| usize::from(u16::from_le_bytes(*size)));
    let Some(len) = le16(1) else { return Sniff::Maybe };
    let Some(name_len) = le16(HEADER) else { return if len > 4 { Sniff::Maybe } else { Sniff::No } };
    if name_len.saturating_add(4) > len || !(4..=64).contains(&name_len) {
        return Sniff::No;
    }
    let after = bytes.get(HEADER + 2..).unwrap_or_default();
    let name = after.get(..name_len).unwrap_or(after);
    let fits = |known: &&&[u8]| {
        let common = known.len().min(name.len());
        known.get(..common) == name.get(..common)
    };
    if !FIRST.iter().any(|known| fits(&known))
        || !name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
    {
        return Sniff::No;
    }
    let Some(value_len) = le16(HEADER + 2 + name_len) else { return Sniff::Maybe };
    if name_len.saturating_add(4).saturating_add(value_len) > len {
        Sniff::No
    } else {
        Sniff::Yes(Sender::Client)
    }
}

#[cfg(test)]
mod tests;
