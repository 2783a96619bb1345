//! A kept body and what its sender says of it → plain bytes and their format.
//!
//! *Owns* the choice of format and the bound on decoding. *Must not know* rules or names.

use std::borrow::Cow;

use crate::operation::Kept;
use crate::protocol::http1::content;

/// Most bytes a content coding may decode to; more is left undecoded.
pub(super) const MAX_DECODED: usize = 256 << 10;

/// The formats keys are looked for in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data` with its boundary
    Multipart(Vec<u8>),
    Other,
}

impl Format {
    /// By content type; by the first byte when the type says nothing.
    pub fn of(content_type: Option<&[u8]>, body: &[u8]) -> Self {
        let content_type = String::from_utf8_lossy(content_type.unwrap_or_default());
        let essence = content_type.split(';').next().unwrap_or("").trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        let ends = |end: &str| {
            let at = essence.len().checked_sub(end.len());
            at.and_then(|at| essence.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        };
        if ends("/json") || ends("+json") {
            Format::Json
        } else if is("") || is("text/plain") || is("application/octet-stream") {
            let first = body.iter().find(|b| !b.is_ascii_whitespace());
            if matches!(first, Some(b'{' | b'[')) { Format::Json } else { Format::Other }
        } else if is("application/x-www-form-urlencoded") {
            Format::Form
        } else if is("multipart/form-data") {
            boundary(&content_type).map_or(Format::Other, Format::Multipart)
        } else {
            Format::Other
        }
    }
}

/// RFC 2046, section 5.1.1.
fn boundary(content_type: &str) -> Option<Vec<u8>> {
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    (1..=70).contains(&parameter.len()).then(|| parameter.as_bytes().to_vec())
}

/// Undoes the content coding. Returns the bytes and whether they are the whole body; `None` when the coding is not known or
/// nothing can be decoded.
pub fn plain<'a>(coding: Option<&[u8]>, kept: &'a Kept) -> Option<(Cow<'a, [u8]>, bool)> {
    let coding = coding.and_then(|coding| std::str::from_utf8(coding).ok()).unwrap_or("").trim();
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return Some((Cow::Borrowed(&kept.bytes), kept.is_whole()));
    }
    let plain = content::decode(coding, &kept.bytes, MAX_DECODED)?;
    let whole = kept.is_whole() && plain.len() < MAX_DECODED;
    Some((Cow::Owned(plain), whole))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn kept(bytes: Vec<u8>) -> Kept {
        Kept { len: bytes.len() as u64, bytes, holed: false }
    }

    #[test]
    fn format_is_told_by_type_then_by_first_byte() {
        let of = |content_type: &str, body: &str| Format::of(Some(content_type.as_bytes()), body.as_bytes());
        assert_eq!(of("application/json; charset=utf-8", ""), Format::Json);
        assert_eq!(of("application/problem+json", ""), Format::Json);
        assert_eq!(of("Application/X-WWW-Form-Urlencoded", "{"), Format::Form);
        assert_eq!(of("multipart/form-data; boundary=\"a b\"", ""), Format::Multipart(b"a b".to_vec()));
        assert_eq!(of("multipart/form-data", ""), Format::Other);
        assert_eq!(of("text/html", "{"), Format::Other);
        assert_eq!(Format::of(None, b" \n{"), Format::Json);
        assert_eq!(Format::of(None, b"order_id=17"), Format::Other);
    }

    #[test]
    fn codings_are_undone_within_a_bound() {
        let text = br#"{"order_id":17}"#;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).expect("in memory");
        let gzip = gzip.finish().expect("in memory");
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(text).expect("in memory");
        let zlib = zlib.finish().expect("in memory");
        let check = |coding: &str, body: Vec<u8>, whole| {
            let body = kept(body);
            let (plain, is_whole) = plain(Some(coding.as_bytes()), &body).expect("decodes");
            assert_eq!((&*plain, is_whole), (&text[..], whole), "{coding}");
        };
        check("gzip", gzip.clone(), true);
        check("X-GZIP", gzip, true);
        check("deflate", zlib.clone(), true);
        check("deflate", zlib[2..].to_vec(), true);
        check("identity", text.to_vec(), true);
        assert!(plain(Some(b"compress"), &kept(vec![1])).is_none());

        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b' '; 8 << 20]).expect("in memory");
        let bomb = kept(bomb.finish().expect("in memory"));
        let (plain, whole) = plain(Some(b"gzip"), &bomb).expect("a known coding");
        assert!(plain.len() <= MAX_DECODED && !whole);
    }

    #[test]
    fn a_coding_cut_off_gives_what_it_has() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gzip.write_all(&[b'x'; 1000]).expect("in memory");
        let gzip = gzip.finish().expect("in memory");
        for cut in 0..gzip.len() {
            let body = Kept { bytes: gzip[..cut].to_vec(), len: gzip.len() as u64, holed: false };
            let decoded = plain(Some(b"gzip"), &body);
            assert!(decoded.is_none_or(|(plain, whole)| !whole && plain.iter().all(|b| *b == b'x')));
        }
    }
}
