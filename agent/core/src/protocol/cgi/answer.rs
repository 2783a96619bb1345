//! A script's answer, as its bytes come → status and fields of an exchange, then the length of its body.
//!
//! *Owns* where the header ends and which status it tells. *Must not know* frames.
//! *Spec*: RFC 3875, sections 6.2 and 6.3. Servers of applications (uWSGI) answer with HTTP's status line instead, which is read, too
//! (section 5.2: "non-parsed header").

use super::push;
use crate::operation::http::Exchange;
use crate::protocol::http1::start_line;

/// The header of one answer.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Head {
    /// A line whose end has not come.
    line: Vec<u8>,
    /// The line is longer than the bound.
    is_too_long: bool,
    is_over: bool,
    /// Bytes of it were lost: its end may be among them, so that no later byte is certain to be of it or of the body.
    is_lost: bool,
}

impl Head {
    /// Every byte of it came: what follows is the body.
    pub(in crate::protocol) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Bytes that it holds.
    pub(in crate::protocol) fn held(&self) -> usize {
        self.line.capacity()
    }

    /// Bytes were lost before its end. What it told until then stays.
    pub(in crate::protocol) fn lose(&mut self) {
        if !self.is_over {
            self.is_lost = true;
            self.line = Vec::new();
        }
    }

    /// Takes what of `bytes` belongs to the header, and returns how many that were: all, once its end cannot be found. At most `bound` bytes of fields are kept.
    pub(in crate::protocol) fn feed(&mut self, bytes: &[u8], bound: usize, exchange: &mut Exchange) -> usize {
        if self.is_lost {
            return bytes.len();
        }
        let mut taken = 0;
        while !self.is_over {
            let rest = bytes.get(taken..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest) else {
                self.hold(rest, bound);
                return bytes.len();
            };
            self.hold(rest.get(..end).unwrap_or_default(), bound);
            taken += end + 1;
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if std::mem::take(&mut self.is_too_long) {
                continue;
            }
            if line.is_empty() {
                self.is_over = true;
                exchange.status = exchange.status.or(Some(silent_status(exchange)));
            } else {
                field(line, bound, exchange);
            }
        }
        taken
    }

    fn hold(&mut self, bytes: &[u8], bound: usize) {
        if self.line.len().saturating_add(bytes.len()) > bound {
            self.is_too_long = true;
            self.line = Vec::new();
        }
        if !self.is_too_long {
            self.line.extend_from_slice(bytes);
        }
    }
}

fn field(line: &[u8], bound: usize, exchange: &mut Exchange) {
    if exchange.status.is_none()
        && let Some(line) = start_line::status_line(line)
    {
        exchange.status = Some(line.status);
        return;
    }
    let Some(colon) = memchr::memchr(b':', line) else { return };
    let (name, value) =
        (line.get(..colon).unwrap_or_default().trim_ascii(), line.get(colon + 1..).unwrap_or_default());
    let value = value.trim_ascii();
    if name.is_empty() || !name.iter().copied().all(start_line::is_token) {
        return;
    }
    if name.eq_ignore_ascii_case(b"status") {
        // "Status = "Status:" status-code SP reason-phrase NL" (section 6.3.3).
        let code = value.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        exchange.status = code.filter(|code| (100..=999).contains(code)).or(exchange.status);
    } else if exchange.response_headers.bytes_len().saturating_add(line.len()) <= bound {
        push(&mut exchange.response_headers, name, value);
    }
}

/// "A client redirect … status code 302" where `Location` is absolute (section 6.2.3), else 200 (section 6.3.3).
fn silent_status(exchange: &Exchange) -> u16 {
    let location = exchange.response_header("location").unwrap_or_default();
    if memchr::memmem::find(location, b"://").is_some() { 302 } else { 200 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, status: u16, body: &str) {
        for split in 0..=answer.len() {
            let (mut head, mut exchange, mut rest) = (Head::default(), Exchange::default(), Vec::new());
            let (first, second) = answer.as_bytes().split_at(split);
            for part in [first, second] {
                let taken = head.feed(part, 1000, &mut exchange);
                rest.extend_from_slice(&part[taken..]);
            }
            assert!(head.is_over(), "{answer:?}");
            assert_eq!(
                (exchange.status, rest.as_slice()),
                (Some(status), body.as_bytes()),
                "{answer:?} at {split}"
            );
            assert_eq!(exchange.response_header("set-cookie").unwrap_or_default(), b"", "a secret");
        }
    }

    #[test]
    fn statuses_of_every_form() {
        check("Status: 404 Not Found\r\nContent-Type: text/html\r\n\r\nno", 404, "no");
        check("Content-Type: text/html\n\nyes", 200, "yes");
        check("content-type: a\r\nstatus:201\r\nSet-Cookie: hunter2\r\n\r\n\r\nx", 201, "\r\nx");
        check("Location: https://shop.example/orders/17\r\n\r\n", 302, "");
        check("Location: /orders/17\r\n\r\n", 200, "");
        check("Location: https://shop/\r\nStatus: 303 See Other\r\n\r\n", 303, "");
        check("HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\n", 500, "");
        check("Status: none\r\nno field\r\n: x\r\n\r\n", 200, "");
    }

    #[test]
    fn what_comes_behind_a_hole_is_neither_header_nor_body() {
        let (mut head, mut exchange) = (Head::default(), Exchange::default());
        head.feed(b"Status: 404 Not Found\r\nX-A", 1000, &mut exchange);
        head.lose();
        // Of a body, as it happens.
        let rest = b"<p>\nStatus: 500\nOrder: 17\n\n</p>";
        assert_eq!(head.feed(rest, 1000, &mut exchange), rest.len());
        assert_eq!((exchange.status, exchange.response_headers.len()), (Some(404), 0));
        assert!(!head.is_over() && head.held() == 0);
        // A hole behind its end is none in it.
        let (mut head, mut exchange) = (Head::default(), Exchange::default());
        head.feed(b"\r\n", 1000, &mut exchange);
        head.lose();
        assert_eq!((head.is_over(), head.feed(b"body", 1000, &mut exchange)), (true, 0));
    }

    #[test]
    fn an_endless_line_costs_no_more_than_the_bound() {
        let (mut head, mut exchange) = (Head::default(), Exchange::default());
        for _ in 0..100 {
            head.feed(&[b'x'; 100], 1000, &mut exchange);
            assert!(head.line.len() <= 1000);
        }
        head.feed(b"\nStatus: 500\n\n", 1000, &mut exchange);
        assert_eq!(exchange.status, Some(500));
        let (mut head, mut exchange) = (Head::default(), Exchange::default());
        for _ in 0..100 {
            head.feed(b"x-name: 0123456789012345678901234567890123456789\n", 1000, &mut exchange);
        }
        assert!(exchange.response_headers.bytes_len() <= 1000);
    }
}
