//! HTTP/1.x by its start lines (RFC 9112, sections 3 and 4).

use super::start_line;
use crate::protocol::detect::Sniff;
use crate::record::Sender;

/// A target this long without a line end still makes a request line: nothing else begins with a method and goes on so.
const LONG_TARGET: usize = 1 << 10;

/// A request line of any method, or a status line.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    let text = skip_blank_lines(bytes);
    if text.is_empty() || text == b"\r" {
        // Blank lines alone say nothing.
        return Sniff::Maybe;
    }
    match memchr::memchr(b'\n', text) {
        Some(end) => {
            let line = text.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if start_line::status_line(line).is_some() {
                Sniff::Yes(Sender::Server)
            } else if start_line::request_line(line).is_some() {
                Sniff::Yes(Sender::Client)
            } else {
                Sniff::No
            }
        }
        // `HTTP/1.` is a token too: it must not pass for a method.
        None if text.starts_with(b"HTTP/") => {
            if start_line::may_be_status(text) {
                Sniff::Maybe
            } else {
                Sniff::No
            }
        }
        None if !start_line::may_be_request(text) || !is_printable(text) => {
            if start_line::may_be_status(text) { Sniff::Maybe } else { Sniff::No }
        }
        None if text.len() >= LONG_TARGET && has_target(text) => Sniff::Yes(Sender::Client),
        None => Sniff::Maybe,
    }
}

/// A known method and the beginning of a target: enough on a port of HTTP.
pub(super) fn weak_sender(bytes: &[u8]) -> Option<Sender> {
    let text = skip_blank_lines(bytes);
    (memchr::memchr(b'\n', text).is_none() && has_target(text) && is_printable(text))
        .then_some(Sender::Client)
}

fn has_target(text: &[u8]) -> bool {
    let after_method = || memchr::memchr(b' ', text).and_then(|at| text.get(at + 1..));
    let forms: [&[u8]; 3] = [b"/", b"http://", b"https://"];
    start_line::has_known_method(text)
        && after_method().is_some_and(|rest| forms.iter().any(|form| rest.starts_with(form)))
}

fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || matches!(byte, b'\r' | b'\n'))
}

fn skip_blank_lines(mut bytes: &[u8]) -> &[u8] {
    for _ in 0..4 {
        bytes = match bytes {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
            _ => return bytes,
        };
    }
    bytes
}
