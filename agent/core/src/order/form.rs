//! Form bodies and queries → names with their values.
//!
//! *Spec*: WHATWG URL, `application/x-www-form-urlencoded`; RFC 7578 (`multipart/form-data`).
//! A value that was cut off is not told. *Must not know* which names matter.

use std::borrow::Cow;

use memchr::memmem;

use crate::percent;

/// Longer names and values are passed over.
const MAX_VALUE: usize = 1024;
/// Pairs and parts looked at.
const MAX_PAIRS: usize = 256;

/// Visits the pairs of a query or an urlencoded body. `whole`: nothing follows `text`.
pub fn pairs(text: &[u8], whole: bool, found: &mut dyn FnMut(&str, &str)) {
    // Past the last `&` of a body that was cut off nothing is certain.
    let end = if whole { text.len() } else { memchr::memrchr(b'&', text).unwrap_or(0) };
    let text = text.get(..end).unwrap_or_default();
    for pair in text.split(|b| *b == b'&').take(MAX_PAIRS).filter(|pair| pair.len() <= 2 * MAX_VALUE) {
        let Ok(pair) = std::str::from_utf8(pair) else { continue };
        let Some((name, value)) = pair.split_once('=') else { continue };
        if let (Some(name), Some(value)) = (percent::decode(name, true), percent::decode(value, true)) {
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
    pub name: Cow<'a, str>,
    /// `application/json` or the like, as sent; empty when not given.
    pub content_type: &'a str,
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
        let Some(head) = part.get(..blank).and_then(|head| std::str::from_utf8(head).ok()) else { continue };
        let value = part.get(blank + 4..).unwrap_or_default();
        let header = |name: &str| {
            head.split("\r\n").find_map(|line| {
                let (field, value) = line.split_once(':')?;
                field.trim().eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let disposition = header("content-disposition").unwrap_or("");
        if parameter(disposition, "filename").is_some() || parameter(disposition, "filename*").is_some() {
            continue;
        }
        if let Some(name) = parameter(disposition, "name") {
            found(FormPart { name, content_type: header("content-type").unwrap_or(""), value });
        }
    }
}

/// A parameter of `Content-Disposition`, quoted or not (RFC 6266, section 4.1).
fn parameter<'a>(header: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })?;
                let (value, next) = quoted.split_at(end);
                let value = if value.contains('\\') {
                    Cow::Owned(value.replace('\\', ""))
                } else {
                    Cow::Borrowed(value)
                };
                (value, next.get(1..).unwrap_or(""))
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (Cow::Borrowed(after.get(..end).unwrap_or("").trim()), after.get(end..).unwrap_or(""))
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next.trim_start().strip_prefix(';')?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs_of(text: &str, whole: bool) -> Vec<String> {
        let mut out = Vec::new();
        pairs(text.as_bytes(), whole, &mut |name, value| out.push(format!("{name}={value}")));
        out
    }

    #[test]
    fn pairs_are_decoded_and_cut_ones_left_out() {
        assert_eq!(pairs_of("order_id=17&x=a+b%26&flag&=", true), ["order_id=17", "x=a b&", "="]);
        assert_eq!(pairs_of("a=1&order_id=17", false), ["a=1"]);
        assert_eq!(pairs_of("order_id=17", false), Vec::<String>::new());
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
                part.name,
                part.content_type,
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
            pairs(&bytes, whole, &mut |name, _| { nested(name); });
            parts(&bytes, b"X", &mut |_| ());
            parts(&[b"--X\r\nContent-Disposition: form-data; ".as_slice(), &bytes, b"\r\n\r\n\r\n--X"].concat(), b"X", &mut |_| ());
        }
    }
}
