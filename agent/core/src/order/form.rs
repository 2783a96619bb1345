//! Form bodies and queries → names with their values.
//!
//! *Spec*: WHATWG URL, `application/x-www-form-urlencoded`; RFC 7578 (`multipart/form-data`).
//! A value that was cut off is not told. *Must not know* which names matter.

use std::borrow::Cow;

use memchr::memmem;

use crate::charset::Charset;
use crate::percent;

/// Longer names and values are passed over.
const MAX_VALUE: usize = 1024;
/// Pairs and parts looked at.
const MAX_PAIRS: usize = 256;

/// Visits the pairs of a query or an urlencoded body, in the encoding that the form names of itself (`_charset_`), else in
/// `charset`. `whole`: nothing follows `text`.
pub fn pairs(text: &[u8], whole: bool, charset: Charset, found: &mut dyn FnMut(&str, &str)) {
    // Past the last `&` of a body that was cut off nothing is certain.
    let end = if whole { text.len() } else { memchr::memrchr(b'&', text).unwrap_or(0) };
    let text = text.get(..end).unwrap_or_default();
    let pairs = || text.split(|b| *b == b'&').take(MAX_PAIRS).filter(|pair| pair.len() <= 6 * MAX_VALUE);
    let own = pairs().find_map(|pair| pair.strip_prefix(b"_charset_=")).and_then(Charset::named);
    let charset = own.unwrap_or(charset);
    for pair in pairs() {
        let Some((name, value)) = memchr::memchr(b'=', pair).and_then(|at| pair.split_at_checked(at)) else {
            continue;
        };
        let name = percent::bytes(name, true);
        let value = percent::bytes(value.get(1..).unwrap_or_default(), true);
        if let (Some(name), Some(value)) = (charset.exact_or_utf8(&name), charset.exact_or_utf8(&value)) {
            found(&name, &value);
        }
    }
}

/// The path of a nested form name: `order[id]` and `order.id` are `order`, `id`. `None` for plain names and lists (`id[]`).
pub fn nested(name: &str) -> Option<Vec<&str>> {
    if let Some((first, rest)) = name.split_once('[') {
        let inner = rest.strip_suffix(']')?;
        let path: Vec<&str> = std::iter::once(first).chain(inner.split("][")).collect();
        return path.iter().all(|step| !step.is_empty() && !step.contains(['[', ']'])).then_some(path);
    }
    let path: Vec<&str> = name.split('.').collect();
    (path.len() > 1 && path.iter().all(|step| !step.is_empty())).then_some(path)
}

/// A part of a multipart body.
#[derive(Debug, PartialEq, Eq)]
pub struct FormPart<'a> {
    pub name: Cow<'a, [u8]>,
    /// `application/json` or the like, as sent; empty when not given.
    pub content_type: &'a [u8],
    pub value: &'a [u8],
}

/// Visits the parts that are no files and were seen to their end.
pub fn parts<'a>(body: &'a [u8], boundary: &[u8], found: &mut dyn FnMut(FormPart<'a>)) {
    let delimiter = [b"\r\n--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    // The first delimiter needs no line break before it.
    let Some(mut rest) = body
        .strip_prefix(delimiter.get(2..).unwrap_or_default())
        .or_else(|| finder.find(body).and_then(|at| body.get(at + delimiter.len()..)))
    else {
        return;
    };
    for _ in 0..MAX_PAIRS {
        let Some(line) = memmem::find(rest, b"\r\n") else { return };
        if rest.starts_with(b"--") {
            return;
        }
        // From the delimiter's own line break on, so that a part without headers has its empty line.
        rest = rest.get(line..).unwrap_or_default();
        let Some(end) = finder.find(rest.get(2..).unwrap_or_default()).map(|at| at + 2) else { return };
        let part = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + delimiter.len()..).unwrap_or_default();
        let Some(blank) = memmem::find(part, b"\r\n\r\n") else { continue };
        let Some(head) = part.get(..blank) else { continue };
        let value = part.get(blank + 4..).unwrap_or_default();
        let header = |name: &str| {
            head.split(|byte| *byte == b'\n').find_map(|line| {
                let (field, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
                let is_wanted = field.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
                is_wanted.then(|| value.get(1..).unwrap_or_default().trim_ascii())
            })
        };
        let disposition = header("content-disposition").unwrap_or_default();
        if parameter(disposition, "filename").is_some() || parameter(disposition, "filename*").is_some() {
            continue;
        }
        if let Some(name) = parameter(disposition, "name") {
            found(FormPart { name, content_type: header("content-type").unwrap_or_default(), value });
        }
    }
}

/// A parameter of `Content-Disposition`, quoted or not (RFC 6266, section 4.1), in whatever encoding.
fn parameter<'a>(header: &'a [u8], wanted: &str) -> Option<Cow<'a, [u8]>> {
    let mut rest = split(header, b';')?.1;
    loop {
        let (name, after) = split(rest, b'=')?;
        let after = after.trim_ascii_start();
        let (value, next) = match after.strip_prefix(b"\"") {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.iter().position(|byte| {
                    let ends = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    ends
                })?;
                let (value, next) = quoted.split_at_checked(end)?;
                let value = match value.contains(&b'\\') {
                    true => Cow::Owned(value.iter().copied().filter(|byte| *byte != b'\\').collect()),
                    false => Cow::Borrowed(value),
                };
                (value, next.get(1..).unwrap_or_default())
            }
            None => {
                let end = memchr::memchr(b';', after).unwrap_or(after.len());
                let (value, next) = after.split_at_checked(end)?;
                (Cow::Borrowed(value.trim_ascii()), next)
            }
        };
        if name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(value);
        }
        rest = next.trim_ascii_start().strip_prefix(b";")?;
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (head, tail) = bytes.split_at_checked(memchr::memchr(at, bytes)?)?;
    Some((head, tail.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs_of(text: &str, whole: bool) -> Vec<String> {
        let mut out = Vec::new();
        pairs(text.as_bytes(), whole, Charset::UTF8, &mut |name, value| out.push(format!("{name}={value}")));
        out
    }

    #[test]
    fn pairs_are_decoded_and_cut_ones_left_out() {
        assert_eq!(pairs_of("order_id=17&x=a+b%26&flag&=", true), ["order_id=17", "x=a b&", "="]);
        assert_eq!(pairs_of("a=1&order_id=17", false), ["a=1"]);
        assert_eq!(pairs_of("order_id=17", false), Vec::<String>::new());
    }

    #[test]
    fn forms_name_their_encoding() {
        let form = "_charset_=windows-1251&%ED%EE%EC%E5%F0=%C0-17";
        assert_eq!(pairs_of(form, true), ["_charset_=windows-1251", "номер=А-17"]);
        let mut out = Vec::new();
        let koi8 = Charset::named(b"koi8-r").expect("a known encoding");
        pairs(b"\xce\xcf\xcd\xc5\xd2=%E1-17&a=%D0%90", true, koi8, &mut |name, value| {
            out.push(format!("{name}={value}"))
        });
        assert_eq!(out, ["номер=А-17", "a=А"]);
        assert_eq!(pairs_of("%ED=1", true), Vec::<String>::new());
    }

    #[test]
    fn nested_names() {
        assert_eq!(nested("order[id]"), Some(vec!["order", "id"]));
        assert_eq!(nested("order[line][0]"), Some(vec!["order", "line", "0"]));
        assert_eq!(nested("order.id"), Some(vec!["order", "id"]));
        for plain in ["order_id", "id[]", "[id]", "order[id", "order[id]x", ".", "a."] {
            assert_eq!(nested(plain), None, "{plain}");
        }
    }

    const BODY: &str = concat!(
        "--XX\r\nContent-Disposition: form-data; name=\"order_id\"\r\n\r\n17\r\n",
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"order_id=9.stl\"\r\n\r\nname=\"order_id\"\r\n\r\n99\r\n",
        "--XX\r\ncontent-type: application/json\r\ncontent-disposition: form-data; name=meta\r\n\r\n{\"a\":1}\r\n",
        "--XX--\r\n",
    );

    fn parts_of(body: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        parts(body, b"XX", &mut |part| {
            out.push(format!(
                "{} [{}] {}",
                String::from_utf8_lossy(&part.name),
                String::from_utf8_lossy(part.content_type),
                String::from_utf8_lossy(part.value)
            ));
        });
        out
    }

    #[test]
    fn parts_are_fields_without_files() {
        let expected = ["order_id [] 17", "meta [application/json] {\"a\":1}"];
        assert_eq!(parts_of(BODY.as_bytes()), expected);
        assert_eq!(parts_of(format!("preamble\r\n{BODY}").as_bytes()), expected);
    }

    proptest! {
        #[test]
        fn a_cut_body_tells_only_what_the_whole_tells(cut in 0usize..BODY.len()) {
            prop_assert!(parts_of(BODY.as_bytes()).starts_with(&parts_of(&BODY.as_bytes()[..cut])));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            pairs(&bytes, whole, Charset::UTF8, &mut |name, _| { nested(name); });
            parts(&bytes, b"X", &mut |_| ());
            parts(&[b"--X\r\nContent-Disposition: form-data; ".as_slice(), &bytes, b"\r\n\r\n\r\n--X"].concat(), b"X", &mut |_| ());
        }
    }
}
