//! The content of a gRPC call's side and the field paths that are wanted → the values found there.
//!
//! *Owns* the length-prefixed messages of gRPC, and protobuf's wire format as far as paths of field numbers need it.
//! *Must not know* rules, nor what a value means.
//! *Spec*: gRPC over HTTP/2, "Length-Prefixed-Message"; protocol buffers, "Encoding".
//!
//! Without a schema a field is a number and a wire type. `1.3` is field 3 of the message in field 1. A length-delimited value
//! is given as text if it is UTF-8 without control characters; an integer as a decimal, not negative; zigzag and
//! floating-point numbers look like integers and are no keys. Only whole fields count: a value that was cut off is none.

use std::borrow::Cow;

use super::body;
use crate::protocol::http1::content;

/// Steps of a path.
const MAX_STEPS: usize = 8;
/// The largest field number ("Field numbers").
const MAX_FIELD: u32 = (1 << 29) - 1;
/// Messages of one side that are looked into.
const MAX_MESSAGES: usize = 64;
/// Longest text given.
const MAX_TEXT: usize = 256;
/// Length of the prefix of a message: a flag and four bytes.
const PREFIX_LEN: usize = 5;

/// A path of field numbers, from the outermost.
pub(super) type Steps = Box<[u32]>;

/// `1.3` as its numbers.
pub(super) fn parse_path(text: &str) -> Result<Steps, String> {
    let steps = text.split('.').map(|step| {
        let number = step.parse().ok().filter(|number| (1..=MAX_FIELD).contains(number));
        number.filter(|_| step.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let steps: Option<Steps> = steps.collect();
    match steps {
        Some(steps) if steps.len() <= MAX_STEPS => Ok(steps),
        Some(_) => Err(format!("`{text}` has more than {MAX_STEPS} steps")),
        None => Err(format!("`{text}` is not a path of field numbers such as `1.3`")),
    }
}

/// Gives every value that stands at one of the `paths`, with that path's index. `bytes` are the beginning of one side's
/// content, `coding` is its `grpc-encoding`.
pub(super) fn visit(
    bytes: &[u8],
    coding: Option<&[u8]>,
    paths: &[&[u32]],
    give: &mut dyn FnMut(usize, &str),
) {
    let mut rest = bytes;
    for _ in 0..MAX_MESSAGES {
        let Some((prefix, after)) = rest.split_at_checked(PREFIX_LEN) else { return };
        let (flag, len) = match *prefix {
            [flag, a, b, c, d] => (flag, u32::from_be_bytes([a, b, c, d]) as usize),
            _ => return,
        };
        let message = after.get(..len).unwrap_or(after);
        let plain = match flag {
            0 => Some(Cow::Borrowed(message)),
            1 => coding
                .and_then(|coding| std::str::from_utf8(coding).ok())
                .and_then(|coding| content::decode(coding, message, body::MAX_DECODED))
                .map(Cow::Owned),
            // The other bits are reserved; this is no gRPC.
            _ => return,
        };
        if let Some(plain) = plain {
            let wanted: Vec<(usize, &[u32])> = paths.iter().copied().enumerate().collect();
            fields(&plain, &wanted, give);
        }
        rest = after.get(len..).unwrap_or_default();
    }
}

/// One message. Each level looks at its bytes once, and paths have few steps, so work is linear.
fn fields(bytes: &[u8], wanted: &[(usize, &[u32])], give: &mut dyn FnMut(usize, &str)) {
    let mut rest = bytes;
    while let Some(tag) = varint(&mut rest) {
        let Ok(number) = u32::try_from(tag >> 3) else { return };
        let Some(value) = value(&mut rest, tag & 7) else { return };
        let here = wanted.iter().filter_map(|(path, steps)| match steps.split_first() {
            Some((first, later)) if *first == number => Some((*path, later)),
            _ => None,
        });
        let mut deeper = Vec::new();
        for (path, later) in here {
            if later.is_empty() { value.give(path, give) } else { deeper.push((path, later)) }
        }
        if let (Value::Bytes(message), false) = (&value, deeper.is_empty()) {
            fields(message, &deeper, give);
        }
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Groups are not used any more.
    Other,
}

impl Value<'_> {
    fn give(&self, path: usize, give: &mut dyn FnMut(usize, &str)) {
        match self {
            Value::Number(number) if i64::try_from(*number).is_ok() => give(path, &number.to_string()),
            Value::Bytes(bytes) if bytes.len() <= MAX_TEXT => {
                let text = std::str::from_utf8(bytes).ok();
                if let Some(text) = text.filter(|text| !text.contains(|c: char| c.is_control())) {
                    give(path, text);
                }
            }
            _ => {}
        }
    }
}

/// The value behind a tag. `None`: it is cut off, or not protobuf.
fn value<'a>(rest: &mut &'a [u8], wire_type: u64) -> Option<Value<'a>> {
    let mut take = |len: usize| {
        let (taken, after) = rest.split_at_checked(len)?;
        *rest = after;
        Some(taken)
    };
    match wire_type {
        0 => Some(Value::Number(varint(rest)?)),
        1 => Some(Value::Number(u64::from_le_bytes(*take(8)?.first_chunk()?))),
        5 => Some(Value::Number(u64::from(u32::from_le_bytes(*take(4)?.first_chunk()?)))),
        2 => {
            let len = usize::try_from(varint(rest)?).ok()?;
            let (taken, after) = rest.split_at_checked(len)?;
            *rest = after;
            Some(Value::Bytes(taken))
        }
        3 | 4 => Some(Value::Other),
        _ => None,
    }
}

/// At most ten bytes, seven bits each, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (at, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            *rest = rest.get(at + 1..).unwrap_or_default();
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(bytes: &[u8], paths: &[&str]) -> Vec<String> {
        let paths: Vec<Steps> = paths.iter().map(|path| parse_path(path).expect("a path")).collect();
        let paths: Vec<&[u32]> = paths.iter().map(|path| &**path).collect();
        let mut found = Vec::new();
        visit(bytes, Some(b"gzip"), &paths, &mut |path, value| found.push(format!("{path}={value}")));
        found
    }

    fn message(content: &[u8]) -> Vec<u8> {
        [&[0][..], &(content.len() as u32).to_be_bytes(), content].concat()
    }

    /// `1 { 3: 17, 2: "SO-17" }, 4: 300 (fixed32), 1 { 3: 18 }`
    const ORDER: &[u8] = b"\x0a\x09\x18\x11\x12\x05SO-17\x25\x2c\x01\x00\x00\x0a\x02\x18\x12";

    #[test]
    fn values_are_found_by_path() {
        let order = message(ORDER);
        assert_eq!(found(&order, &["1.3"]), ["0=17", "0=18"]);
        assert_eq!(found(&order, &["1.2", "4"]), ["0=SO-17", "1=300"]);
        assert_eq!(found(&order, &["1.3.1", "3", "2", "1.4"]), Vec::<String>::new());
        assert_eq!(found(&[order, message(b"\x20\x05")].concat(), &["4"]), ["0=300", "0=5"]);
    }

    #[test]
    fn numbers_that_may_be_negative_and_bytes_that_are_no_text_are_none() {
        assert_eq!(
            found(&message(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), &["1"]),
            Vec::<String>::new()
        );
        assert_eq!(found(&message(b"\x0a\x02\xff\xfe\x0a\x02a\x01"), &["1"]), Vec::<String>::new());
        assert_eq!(found(&message(b"\x09\x11\0\0\0\0\0\0\0"), &["1"]), ["0=17"]);
    }

    #[test]
    fn what_is_cut_off_is_none() {
        let order = message(ORDER);
        let whole = found(&order, &["1.3", "1.2", "4"]);
        for len in 0..order.len() {
            let cut = found(&order[..len], &["1.3", "1.2", "4"]);
            assert!(whole.starts_with(&cut), "{len}: {cut:?}");
        }
    }

    #[test]
    fn compressed_messages_are_decoded() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(ORDER).expect("in memory");
        let mut coded = message(&gzip.finish().expect("in memory"));
        coded[0] = 1;
        assert_eq!(found(&coded, &["1.3"]), ["0=17", "0=18"]);
        coded[0] = 2;
        assert_eq!(found(&coded, &["1.3"]), Vec::<String>::new());
    }

    #[test]
    fn paths_are_field_numbers() {
        assert_eq!(*parse_path("1.3").expect("a path"), [1, 3]);
        for wrong in ["", "1.", "0", "a", "1.-3", "+1", "536870912", "1.1.1.1.1.1.1.1.1"] {
            assert!(parse_path(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_something_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            found(&message(&bytes), &["1", "1.1", "2.3.4"]);
            found(&bytes, &["1", "1.1", "2.3.4"]);
        }
    }
}
