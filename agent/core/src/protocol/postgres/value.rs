//! One parameter or result cell → its text form.
//!
//! Keys are compared as text, so that a number sent in binary by one client and in text by another is the same key. A value
//! that is too long or of a type that is not decoded stays a length: part of a value would be another value.
//!
//! *Owns* the binary forms of the types keys come in. *Must not know* statements.
//! *Spec*: `src/backend/utils/adt/*.c`, the `*send` functions; object identifiers from `pg_type.dat`.

use super::body::Body;
use crate::charset::Charset;
use crate::operation::postgres::Cell;

/// Object identifiers of built-in types.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const OID: u32 = 26;
    pub(super) const JSON: u32 = 114;
    pub(super) const UNKNOWN: u32 = 705;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const UUID: u32 = 2950;
    pub(super) const JSONB: u32 = 3802;
    /// Element types of arrays start here; the array's own identifiers are listed in `array_of`.
    pub(super) const FIRST_USER: u32 = 16384;
}

/// How a value is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// 0: not known.
    pub(super) type_oid: u32,
    pub(super) binary: bool,
    /// Of texts.
    pub(super) charset: Charset,
}

/// Decodes a value if it is at most `max` bytes long.
pub(super) fn decode(form: Form, bytes: &[u8], max: usize) -> Cell {
    let Form { type_oid, binary, charset } = form;
    let text = match bytes.len() <= max {
        false => None,
        true if binary => decode_binary(type_oid, bytes, charset),
        true if type_oid == oid::BYTEA => None,
        true => text(bytes, charset),
    };
    text.map_or(Cell::Opaque(u32::try_from(bytes.len()).unwrap_or(u32::MAX)), Cell::Text)
}

fn text(bytes: &[u8], charset: Charset) -> Option<String> {
    charset.exact(bytes).map(|text| text.into_owned())
}

fn decode_binary(type_oid: u32, bytes: &[u8], charset: Charset) -> Option<String> {
    match type_oid {
        oid::BOOL => match bytes {
            [0] => Some("f".to_owned()),
            [_] => Some("t".to_owned()),
            _ => None,
        },
        oid::INT2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::INT4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::OID => Some(u32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::INT8 => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::JSON | oid::UNKNOWN => text(bytes, charset),
        // A version byte, then text.
        oid::JSONB => bytes.strip_prefix(&[1]).and_then(|bytes| text(bytes, charset)),
        oid::UUID => uuid(bytes.try_into().ok()?),
        oid::NUMERIC => numeric(bytes),
        // Enumerations and text-like types of extensions and users send their text. A value with control characters
        // is something else (a composite, for one, starts with a count).
        oid::FIRST_USER.. => {
            text(bytes, charset).filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
        }
        _ => array(array_of(type_oid)?, bytes, charset),
    }
}

fn uuid(bytes: [u8; 16]) -> Option<String> {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let part = |from, to| hex.get(from..to);
    Some(format!("{}-{}-{}-{}-{}", part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?))
}

/// `int16` count of base-10000 digits, weight of the first, sign, decimals shown; then the digits.
fn numeric(bytes: &[u8]) -> Option<String> {
    /// Digits before and after the point: far beyond any key, small enough to print.
    const MOST: i32 = 64;
    let mut body = Body::new(bytes);
    let count = body.u16()?;
    let weight = i32::from(body.u16()?.cast_signed());
    let sign = body.u16()?;
    let scale = usize::from(body.u16()?);
    if body.rest().len() != usize::from(count) * 2
        || scale > MOST as usize
        || !(-MOST..MOST).contains(&weight)
    {
        return None;
    }
    let digits: Vec<u16> = (0..count).map_while(|_| body.u16()).collect();
    if digits.iter().any(|digit| *digit > 9999) {
        return None;
    }
    let digit = |place: i32| {
        let index = usize::try_from(weight - place).ok();
        index.and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    let mut out = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        // NaN and the infinities.
        _ => return None,
    };
    out.push_str(&digit(weight.max(0)).to_string());
    for place in (0..weight.max(0)).rev() {
        out.push_str(&format!("{:04}", digit(place)));
    }
    if scale > 0 {
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < scale {
            fraction.push_str(&format!("{:04}", digit(place)));
            place -= 1;
        }
        fraction.truncate(scale);
        out.push('.');
        out.push_str(&fraction);
    }
    Some(out)
}

/// The element type of the array types that keys come in.
fn array_of(type_oid: u32) -> Option<u32> {
    match type_oid {
        1005 => Some(oid::INT2),
        1007 => Some(oid::INT4),
        1009 => Some(oid::TEXT),
        1014 => Some(oid::BPCHAR),
        1015 => Some(oid::VARCHAR),
        1016 => Some(oid::INT8),
        1231 => Some(oid::NUMERIC),
        2951 => Some(oid::UUID),
        _ => None,
    }
}

/// A one-dimensional array as `{…}`: dimensions, flags, element type; per dimension length and lower bound; elements.
fn array(element: u32, bytes: &[u8], charset: Charset) -> Option<String> {
    let mut body = Body::new(bytes);
    let dimensions = body.i32()?;
    body.i32()?;
    if body.u32()? != element {
        return None;
    }
    if dimensions == 0 {
        return Some("{}".to_owned());
    }
    let count = body.i32()?;
    body.i32()?;
    if dimensions != 1 {
        return None;
    }
    let mut out = String::from("{");
    // Each element has at least its length, so the bytes bound the loop, whatever the count says.
    for index in 0..count {
        if index > 0 {
            out.push(',');
        }
        let len = body.i32()?;
        if len == -1 {
            out.push_str("NULL");
            continue;
        }
        let text = decode_binary(element, body.take(usize::try_from(len).ok()?)?, charset)?;
        out.push('"');
        text.chars().for_each(|c| {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        });
        out.push('"');
    }
    out.push('}');
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(type_oid: u32, binary: bool) -> Form {
        Form { type_oid, binary, charset: Charset::UTF8 }
    }

    fn check(type_oid: u32, bytes: &[u8], expected: &str) {
        assert_eq!(decode(form(type_oid, true), bytes, 1024), Cell::Text(expected.to_owned()), "{type_oid}");
    }

    fn opaque(type_oid: u32, binary: bool, bytes: &[u8]) {
        assert_eq!(
            decode(form(type_oid, binary), bytes, 1024),
            Cell::Opaque(bytes.len() as u32),
            "{type_oid} {bytes:?}"
        );
    }

    #[test]
    fn texts_are_in_the_clients_encoding() {
        let charset = Charset::of_postgres(b"KOI8R");
        for form in [form(0, false), form(oid::TEXT, true), form(16_500, true)] {
            let value = decode(Form { charset, ..form }, b"\xef\xd0\xcc\xc1\xde\xc5\xce", 1024);
            assert_eq!(value, Cell::Text("Оплачен".to_owned()), "{form:?}");
        }
        // A code that windows-1251 has no letter for is no text.
        let charset = Charset::of_postgres(b"SJIS");
        assert_eq!(decode(Form { charset, ..form(0, false) }, b"\x81", 1024), Cell::Opaque(1));
    }

    #[test]
    fn binary_forms_become_text() {
        check(oid::BOOL, &[1], "t");
        check(oid::INT2, &[0xff, 0xfe], "-2");
        check(oid::INT4, &17i32.to_be_bytes(), "17");
        check(oid::INT8, &(-1i64).to_be_bytes(), "-1");
        check(oid::TEXT, "é".as_bytes(), "é");
        check(oid::JSONB, b"\x01{}", "{}");
        check(16_500, b"paid", "paid");
        let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes();
        check(oid::UUID, &id, "01234567-89ab-cdef-0123-456789abcdef");
    }

    /// Bytes as PostgreSQL 15 sends them for `SELECT …::numeric` in binary.
    #[test]
    fn numerics_keep_their_scale() {
        let value = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        for (words, expected) in [
            (&[0, 0, 0, 0][..], "0"),
            (&[1, 0, 0, 0, 17], "17"),
            (&[2, 1, 0, 0, 1, 2345], "12345"),
            (&[1, 1, 0, 0, 5], "50000"),
            (&[2, 0, 0x4000, 2, 12, 3400], "-12.34"),
            (&[1, 0xffff, 0, 4, 15], "0.0015"),
            (&[1, 0xfffe, 0, 8, 1], "0.00000001"),
            (&[1, 0, 0, 2, 7], "7.00"),
        ] {
            check(oid::NUMERIC, &value(words), expected);
        }
        opaque(oid::NUMERIC, true, &value(&[0, 0, 0xc000, 0]));
        opaque(oid::NUMERIC, true, &value(&[1, 0x7fff, 0, 0, 1]));
        opaque(oid::NUMERIC, true, &value(&[2, 0, 0, 0, 1]));
    }

    #[test]
    fn arrays_become_their_text_form() {
        let mut bytes = Vec::new();
        for word in [1i32, 0, 25, 3, 1] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(3i32.to_be_bytes());
        bytes.extend(b"a\"b");
        bytes.extend((-1i32).to_be_bytes());
        bytes.extend(1i32.to_be_bytes());
        bytes.extend(b"c");
        check(1009, &bytes, r#"{"a\"b",NULL,"c"}"#);
        opaque(1009, true, &bytes[..bytes.len() - 1]);
        opaque(1007, true, &bytes);
        check(1009, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25], "{}");
    }

    #[test]
    fn what_is_not_decoded_is_a_length() {
        opaque(0, true, b"paid");
        opaque(oid::BYTEA, false, b"\\x00");
        opaque(oid::INT4, true, &[1]);
        opaque(oid::TEXT, true, &[0xff]);
        opaque(oid::TEXT, false, &[b'x'; 1025]);
        opaque(16_500, true, &[0, 0, 0, 2, b'a']);
        assert_eq!(decode(form(0, false), b"17", 1024), Cell::Text("17".to_owned()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(type_oid in prop::sample::select(&[16u32, 20, 21, 23, 25, 1700, 2950, 3802, 1007, 1009, 2951, 1231, 20000]),
                          bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            decode(form(type_oid, true), &bytes, 32);
        }
    }
}
