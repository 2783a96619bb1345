//! One line → a request line or status line.
//!
//! *Owns* what a start line looks like. *Must not know* what follows it.
//! *Spec*: RFC 9112, sections 3 and 4; RFC 9110, section 5.6.2 (tokens).

/// Longest method accepted. The longest registered one has 17 characters (`UPDATEREDIRECTREF`).
pub(crate) const MAX_METHOD_LEN: usize = 32;

/// The parts of a request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) version: &'static str,
}

/// The parts of a status line that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusLine {
    pub(crate) version: &'static str,
    pub(crate) status: u16,
}

/// A character of a token (RFC 9110, section 5.6.2).
#[inline]
pub(crate) fn is_token(byte: u8) -> bool {
    // Looked up, for every byte of every name is asked for.
    const TOKEN: [bool; 256] = {
        let mut all = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            all[byte] = matches!(byte as u8,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
                | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z');
            byte += 1;
        }
        all
    };
    TOKEN[usize::from(byte)]
}

/// `method SP request-target SP HTTP-version`, without its line end.
///
/// Blanks inside the target are let through: some clients send them, and the version at the end keeps it certain.
pub(crate) fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let method_end = memchr::memchr(b' ', line)?;
    let (method, rest) = line.split_at_checked(method_end)?;
    let rest = trim_blanks(rest);
    let (target, version) = rest.split_at_checked(memchr::memrchr(b' ', rest)?)?;
    let (target, version) = (trim_blanks(target), version_name(trim_blanks(version))?);
    let printable = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
    let fits = !method.is_empty()
        && method.len() <= MAX_METHOD_LEN
        && method.iter().copied().all(is_token)
        && !target.is_empty()
        && target.iter().all(printable);
    fits.then_some(RequestLine { method, target, version })
}

/// `HTTP-version SP status-code SP [ reason-phrase ]`, without its line end.
///
/// Servers leave out the reason and the blank before it, and put more blanks than one.
pub(crate) fn status_line(line: &[u8]) -> Option<StatusLine> {
    let (version, rest) = line.split_at_checked(8)?;
    let version = version_name(version)?;
    let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
    let rest = rest.get(blanks..).filter(|_| blanks > 0)?;
    let (code, after) = rest.split_at_checked(3)?;
    if !after.first().is_none_or(|byte| matches!(byte, b' ' | b'\t')) {
        return None;
    }
    let status = code.iter().try_fold(0u16, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0'))
    })?;
    (100..=999).contains(&status).then_some(StatusLine { version, status })
}

/// Whether bytes without a line end yet may become a request line. Only the method is looked at, so that asking again
/// for a longer beginning costs nothing.
pub(crate) fn may_be_request(bytes: &[u8]) -> bool {
    let head = bytes.get(..MAX_METHOD_LEN + 1).unwrap_or(bytes);
    match head.iter().position(|byte| !is_token(*byte)) {
        None => head.len() <= MAX_METHOD_LEN,
        Some(end) => end > 0 && head.get(end) == Some(&b' '),
    }
}

/// Whether bytes without a line end yet may become a status line.
pub(crate) fn may_be_status(bytes: &[u8]) -> bool {
    const SHAPE: &[u8; 10] = b"HTTP/1.d d";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit() || *byte == b' ',
        _ => byte == shape,
    };
    bytes.iter().zip(SHAPE).all(fits)
}

/// Methods of the IANA registry, and a few that are widely used without being in it. Most frequent first.
const KNOWN_METHODS: [&[u8]; 45] = [
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"PATCH",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"QUERY",
    // WebDAV and its kin.
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"SEARCH",
    b"ACL",
    b"BASELINE-CONTROL",
    b"BIND",
    b"CHECKIN",
    b"CHECKOUT",
    b"LABEL",
    b"LINK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKREDIRECTREF",
    b"MKWORKSPACE",
    b"ORDERPATCH",
    b"REBIND",
    b"REPORT",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UPDATE",
    b"UPDATEREDIRECTREF",
    b"VERSION-CONTROL",
    // Caches and devices.
    b"PURGE",
    b"BAN",
    b"REFRESH",
    b"NOTIFY",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
];

/// Bytes that begin with a known method and a blank: a request line for certain enough to give up an unfinished guess
/// for it.
pub(crate) fn has_known_method(bytes: &[u8]) -> bool {
    let end = bytes.iter().take(MAX_METHOD_LEN + 1).position(|byte| *byte == b' ');
    end.and_then(|end| bytes.get(..end)).is_some_and(is_known_method)
}

/// Bytes that begin with a known method, or with the beginning of one.
pub(crate) fn may_have_known_method(bytes: &[u8]) -> bool {
    let end = bytes.iter().take(MAX_METHOD_LEN + 1).position(|byte| *byte == b' ');
    match end {
        Some(end) => bytes.get(..end).is_some_and(is_known_method),
        None => KNOWN_METHODS.iter().any(|method| method.starts_with(bytes)),
    }
}

/// See [`KNOWN_METHODS`].
pub(crate) fn is_known_method(method: &[u8]) -> bool {
    KNOWN_METHODS.contains(&method)
}

fn trim_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = bytes {
        bytes = rest;
    }
    bytes
}

/// `HTTP/1.x`. A minor version above 1 speaks 1.1 (RFC 9110, section 2.5).
fn version_name(version: &[u8]) -> Option<&'static str> {
    match version {
        b"HTTP/1.0" => Some("1.0"),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Some("1.1"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_of_any_method_and_form() {
        let check = |line: &str, expected: Option<(&str, &str, &'static str)>| {
            let expected = expected.map(|(method, target, version)| RequestLine {
                method: method.as_bytes(),
                target: target.as_bytes(),
                version,
            });
            assert_eq!(request_line(line.as_bytes()), expected, "{line:?}");
            let prefixes_wait = (0..line.len()).all(|n| may_be_request(&line.as_bytes()[..n]));
            assert!(expected.is_none() || prefixes_wait, "a prefix of {line:?} was refused");
        };
        check("GET / HTTP/1.1", Some(("GET", "/", "1.1")));
        check("PROPFIND /dav HTTP/1.0", Some(("PROPFIND", "/dav", "1.0")));
        check("x-odd! * HTTP/1.1", Some(("x-odd!", "*", "1.1")));
        check("CONNECT shop:443 HTTP/1.1", Some(("CONNECT", "shop:443", "1.1")));
        check("GET http://shop/a HTTP/1.1", Some(("GET", "http://shop/a", "1.1")));
        check("GET /a b HTTP/1.1", Some(("GET", "/a b", "1.1")));
        check("GET /\u{fc} HTTP/1.9", Some(("GET", "/\u{fc}", "1.1")));
        check("GET /  HTTP/1.1 ", Some(("GET", "/", "1.1")));
        check("GET /", None);
        check("GET  HTTP/1.1", None);
        check("PRI * HTTP/2.0", None);
        check("OPTIONS * RTSP/1.0", None);
        check("GET /\u{1} HTTP/1.1", None);
        check("(x) / HTTP/1.1", None);
        check(" GET / HTTP/1.1", None);
        check("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI / HTTP/1.1", None);
    }

    #[test]
    fn status_lines_of_odd_servers() {
        let check = |line: &str, expected: Option<(&'static str, u16)>| {
            let expected = expected.map(|(version, status)| StatusLine { version, status });
            assert_eq!(status_line(line.as_bytes()), expected, "{line:?}");
            let prefixes_wait = (0..line.len()).all(|n| may_be_status(&line.as_bytes()[..n]));
            assert!(expected.is_none() || prefixes_wait, "a prefix of {line:?} was refused");
        };
        check("HTTP/1.1 200 OK", Some(("1.1", 200)));
        check("HTTP/1.0 404 Not Found", Some(("1.0", 404)));
        check("HTTP/1.1 200", Some(("1.1", 200)));
        check("HTTP/1.1 200 ", Some(("1.1", 200)));
        check("HTTP/1.1  204  None", Some(("1.1", 204)));
        check("HTTP/1.1 999 Denied", Some(("1.1", 999)));
        check("HTTP/1.1 20 OK", None);
        check("HTTP/1.1 2000 OK", None);
        check("HTTP/1.1 099 x", None);
        check("HTTP/2.0 200 OK", None);
        check("HTTP/1.1", None);
        check("ICY 200 OK", None);
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_bytes() {
        for bytes in [&b"\x16\x03\x01"[..], b"+OK\r", b"*2\r\n", b" GET", b"\r", b"{\"a\": 1}", b"<html>"] {
            assert!(!may_be_request(bytes), "{bytes:?}");
        }
        assert!(!may_be_status(b"HTTP/2"));
        assert!(!may_be_status(b"HTTP/1.1 x"));
        assert!(may_be_status(b""));
    }
}
