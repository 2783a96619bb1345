//! PostgreSQL by its start-up packets and by tagged messages whose lengths lead exactly from one to the next
//! (PostgreSQL documentation, chapter "Frontend/Backend Protocol", section "Message Formats").

mod shape;

use self::shape::{
    bind, command_tag, data_row, is_only_text, notice, parse, row_description, take_text, take_u16, take_u32,
};
use crate::protocol::detect::Sniff;
use crate::record::Sender;

/// Messages must be shorter than this to be believed: their length begins with a byte below 0x10. No four characters of
/// text are as small a length.
const MAX_MESSAGE_LEN: usize = 1 << 28;
/// Longest start-up packet the server takes.
const MAX_STARTUP_LEN: usize = 10_000;
/// Messages looked at in one record.
const MAX_MESSAGES: usize = 64;
/// Points that prove a sender; see [`Fit`].
const PROOF: u32 = 2;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// A start-up packet, or messages that only one side sends and that fit to the byte.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    match startup(bytes) {
        Sniff::No => {}
        sniff => return sniff,
    }
    let (frontend, backend) = (walk(bytes, frontend_fit), walk(bytes, backend_fit));
    match (frontend, backend) {
        (None, None) => Sniff::No,
        (frontend, backend) => match (frontend.unwrap_or(0), backend.unwrap_or(0)) {
            (front, back) if front >= PROOF && front > back => Sniff::Yes(Sender::Client),
            (front, back) if back >= PROOF && back > front => Sniff::Yes(Sender::Server),
            _ => Sniff::Maybe,
        },
    }
}

/// The side that alone sends such messages, though others than PostgreSQL may, too.
pub(super) fn weak_sender(bytes: &[u8]) -> Option<Sender> {
    match (walk(bytes, frontend_fit), walk(bytes, backend_fit)) {
        (Some(points), None) if points > 0 => Some(Sender::Client),
        (None, Some(points)) if points > 0 => Some(Sender::Server),
        _ => None,
    }
}

/// StartupMessage, SSLRequest, GSSENCRequest, CancelRequest: length and code, without a tag.
fn startup(bytes: &[u8]) -> Sniff {
    let Some((len, rest)) = take_u32(bytes) else {
        return if !bytes.is_empty() && bytes.iter().take(2).all(|byte| *byte == 0) {
            Sniff::Maybe
        } else {
            Sniff::No
        };
    };
    let len = len as usize;
    if !(8..=MAX_STARTUP_LEN).contains(&len) {
        return Sniff::No;
    }
    let Some((code, parameters)) = take_u32(rest) else { return Sniff::Maybe };
    match (code, code >> 16) {
        (SSL_REQUEST | GSSENC_REQUEST, _) if len == 8 => Sniff::Yes(Sender::Client),
        // A key of four bytes, or up to 256 since protocol 3.2.
        (CANCEL_REQUEST, _) if (16..=268).contains(&len) && bytes.len() >= len => Sniff::Yes(Sender::Client),
        (CANCEL_REQUEST, _) if (16..=268).contains(&len) => Sniff::Maybe,
        (_, 3) if code & 0xffff <= 9 => startup_parameters(parameters, len - 8),
        _ => Sniff::No,
    }
}

/// Names and values, each with a NUL, and a last NUL; `user` must be among them.
fn startup_parameters(parameters: &[u8], len: usize) -> Sniff {
    let name_end = parameters.iter().position(|byte| !(byte.is_ascii_lowercase() || *byte == b'_'));
    match name_end {
        None => Sniff::Maybe,
        Some(end) if end > 0 && parameters.get(end) == Some(&0) => match parameters.get(..len) {
            Some(whole) if whole.ends_with(b"\0\0") && whole.windows(5).any(|name| name == b"user\0") => {
                Sniff::Yes(Sender::Client)
            }
            Some(_) => Sniff::No,
            None => Sniff::Maybe,
        },
        _ => Sniff::No,
    }
}

/// How well a message's content fits its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It does not, or the other side alone has the tag.
    No,
    /// Both sides send it: no points.
    Both,
    /// Few bytes say so: one point.
    Weak,
    /// Nothing else looks like this: proof.
    Strong,
}

/// Points of all messages, or `None` when one does not fit. `fit` gets tag, content and whether all of it is there.
fn walk(bytes: &[u8], fit: fn(u8, &[u8], bool) -> Fit) -> Option<u32> {
    let mut rest = bytes;
    let mut points = 0;
    for _ in 0..MAX_MESSAGES {
        let Some((&tag, after_tag)) = rest.split_first() else { break };
        let Some((len, after_len)) = take_u32(after_tag) else {
            // Cut within the header: the tag must do.
            let may_be = fit(tag, b"", false) != Fit::No && after_tag.first().is_none_or(|byte| *byte < 0x10);
            return may_be.then_some(points);
        };
        let content_len = (len as usize).checked_sub(4).filter(|_| (len as usize) < MAX_MESSAGE_LEN)?;
        let (content, is_whole) = match after_len.get(..content_len) {
            Some(content) => (content, true),
            None => (after_len, false),
        };
        points += match fit(tag, content, is_whole) {
            Fit::No => return None,
            Fit::Both => 0,
            Fit::Weak => u32::from(is_whole),
            Fit::Strong => PROOF,
        };
        if !is_whole {
            break;
        }
        rest = after_len.get(content_len..).unwrap_or_default();
    }
    Some(points)
}

/// Messages of the frontend. Incomplete content is judged by what is there.
fn frontend_fit(tag: u8, content: &[u8], is_whole: bool) -> Fit {
    match tag {
        b'Q' => sql_text(content, is_whole),
        b'P' if is_whole => strong_if(parse(content).is_some()),
        b'P' => match take_text(content) {
            Some((_, query)) => sql_text(query.split(|byte| *byte == 0).next().unwrap_or_default(), false),
            None => Fit::Weak,
        },
        b'B' if is_whole => strong_if(bind(content).is_some()),
        b'B' => Fit::Weak,
        // Describe and Close: a statement or a portal, and its name.
        b'D' | b'C' => match content.split_first() {
            Some((b'S' | b'P', name)) => weak_if(!is_whole || is_only_text(name)),
            Some(_) => Fit::No,
            None => weak_if(!is_whole),
        },
        // Execute: portal, limit of rows.
        b'E' => weak_if(
            !is_whole
                || take_text(content)
                    .and_then(|(_, rest)| take_u32(rest))
                    .is_some_and(|(_, rest)| rest.is_empty()),
        ),
        b'S' | b'H' | b'X' => weak_if(content.is_empty()),
        b'f' => weak_if(!is_whole || is_only_text(content)),
        b'F' => weak_if(!is_whole || content.len() >= 10),
        b'p' if content.starts_with(b"SCRAM-SHA-256\0") || content.starts_with(b"SCRAM-SHA-256-PLUS\0") => {
            Fit::Strong
        }
        b'p' => weak_if(!is_whole || !content.is_empty()),
        b'd' => Fit::Both,
        b'c' if content.is_empty() => Fit::Both,
        _ => Fit::No,
    }
}

/// Messages of the backend.
fn backend_fit(tag: u8, content: &[u8], is_whole: bool) -> Fit {
    let partly = !is_whole;
    match tag {
        b'Z' => match content {
            [b'I' | b'T' | b'E'] => Fit::Strong,
            [] if partly => Fit::Weak,
            _ => Fit::No,
        },
        // Authentication requests: AuthenticationOk to SASLFinal.
        b'R' => match take_u32(content) {
            Some((0 | 2 | 7 | 9, [])) | Some((3, [])) => strong_if(is_whole),
            Some((5, salt)) if is_whole => strong_if(salt.len() == 4),
            Some((5, salt)) => weak_if(salt.len() < 4),
            Some((8 | 10..=12, _)) => Fit::Strong,
            Some(_) => Fit::No,
            None => weak_if(partly),
        },
        b'T' if is_whole => strong_if(row_description(content).is_some()),
        b'D' if is_whole => strong_if(data_row(content).is_some()),
        b'T' | b'D' => weak_if(content.first().is_none_or(|byte| *byte < 0x10)),
        b'C' => completion(content, is_whole),
        b'E' | b'N' => match content {
            [b'S', rest @ ..] if is_whole => strong_if(notice(rest)),
            [] | [b'S', ..] if partly => Fit::Weak,
            _ => Fit::No,
        },
        // ParameterStatus: two texts.
        b'S' => {
            let both =
                || take_text(content).is_some_and(|(name, value)| !name.is_empty() && is_only_text(value));
            weak_if(partly || both())
        }
        b'K' => weak_if(partly || (8..=260).contains(&content.len())),
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' => weak_if(content.is_empty()),
        b't' => match take_u16(content) {
            Some((count, rest)) => weak_if(partly || rest.len() == usize::from(count) * 4),
            None => weak_if(partly),
        },
        // CopyInResponse, CopyOutResponse, CopyBothResponse: format, columns and their formats.
        b'G' | b'H' | b'W' => match content {
            [0 | 1, rest @ ..] => match take_u16(rest) {
                Some((count, formats)) => weak_if(partly || formats.len() == usize::from(count) * 2),
                None => weak_if(partly),
            },
            _ => weak_if(partly && content.is_empty()),
        },
        b'A' => {
            let texts = || {
                let (_, rest) = take_u32(content)?;
                let (_, payload) = take_text(rest)?;
                is_only_text(payload).then_some(())
            };
            weak_if(partly || texts().is_some())
        }
        b'V' => weak_if(partly || content.len() >= 4),
        b'v' => weak_if(partly || content.len() >= 8),
        b'd' => Fit::Both,
        b'c' if content.is_empty() => Fit::Both,
        _ => Fit::No,
    }
}

fn strong_if(fits: bool) -> Fit {
    if fits { Fit::Strong } else { Fit::No }
}

fn weak_if(fits: bool) -> Fit {
    if fits { Fit::Weak } else { Fit::No }
}

/// CommandComplete: a statement's first words and numbers, in capitals.
fn completion(content: &[u8], is_whole: bool) -> Fit {
    let text = match content.split_last() {
        Some((0, text)) if is_whole => text,
        _ if is_whole => return Fit::No,
        _ => content,
    };
    let in_capitals =
        text.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ');
    match in_capitals {
        true if is_whole => strong_if(command_tag(text)),
        fits => weak_if(fits),
    }
}

/// SQL and its NUL. Cut text proves something only when it begins like a statement.
fn sql_text(content: &[u8], is_whole: bool) -> Fit {
    let (text, ends) = match content.split_last() {
        Some((0, text)) if is_whole => (text, true),
        _ => (content, false),
    };
    if ends != is_whole || text.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace()) {
        return Fit::No;
    }
    let is_statement = command_tag(text.trim_ascii_start());
    match text.len() {
        16.. if is_statement => Fit::Strong,
        4.. if is_whole => Fit::Strong,
        _ => Fit::Weak,
    }
}
