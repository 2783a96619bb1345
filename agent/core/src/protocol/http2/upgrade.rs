//! `HTTP2-Settings` of an upgrade request → what it allows the server.
//!
//! *Owns* that field. *Must not know* frames.
//! *Spec*: RFC 7540, section 3.2.1: the payload of a SETTINGS frame in base64url without padding (RFC 4648, section 5).

use super::control;
use crate::operation::http::Exchange;

/// Longer values are not read: there are six settings of six octets.
const MAX_VALUE_LEN: usize = 1024;

/// The client's `SETTINGS_HEADER_TABLE_SIZE`, if it sent one.
pub(super) fn header_table_size(exchange: &Exchange) -> Option<u32> {
    let value = exchange.request_header("http2-settings").filter(|value| value.len() <= MAX_VALUE_LEN)?;
    let payload = base64url(value)?;
    control::settings(&payload)
        .filter(|(id, _)| *id == control::HEADER_TABLE_SIZE)
        .last()
        .map(|(_, size)| size)
}

fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 & 0xffff | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<u32>) {
        let exchange = Exchange {
            request_headers: [("HTTP2-Settings", value)].into_iter().collect(),
            ..Exchange::default()
        };
        assert_eq!(header_table_size(&exchange), expected, "{value}");
    }

    #[test]
    fn the_table_size_is_read_out_of_the_field() {
        // curl 7.88: MAX_CONCURRENT_STREAMS 100, INITIAL_WINDOW_SIZE 32 MiB, ENABLE_PUSH 0.
        check("AAMAAABkAAQCAAAAAAIAAAAA", None);
        check("AAEAAQAA", Some(65_536));
        check("AAEAABAAAAEAACAA", Some(8192));
        check("AAEAABAAAAEAACAA==", Some(8192));
        check("", None);
        check("AAE*", None);
    }
}
