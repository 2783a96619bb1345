//! A kept body and what its sender says of it → plain bytes, their encoding and their format.
//!
//! *Owns* the choice of format and the bound on decoding. *Must not know* rules or names.
//! *Spec*: RFC 9110, sections 8.3 and 8.4; RFC 7303 (XML); RFC 2046, section 5.1.1 (multipart).

use std::borrow::Cow;

use crate::charset::Charset;
use crate::operation::Kept;
use crate::protocol::http1::content;

/// Most bytes a content coding may decode to; more is left undecoded.
pub(super) const MAX_DECODED: usize = 256 << 10;
/// Bytes in which the root of an XML document stands that says nothing of itself.
const MAX_ROOT: usize = 256;

/// The formats keys are looked for in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Xml,
    /// `application/x-www-form-urlencoded`
    Form,
    /// A GraphQL document by itself
    GraphQl,
    Other,
}

impl Format {
    /// By the first byte where that is JSON's or XML's, whatever the label: PHP says `text/html` of all it sends, and curl
    /// says that it sends a form. Else by content type.
    pub fn of(content_type: Option<&[u8]>, body: &[u8]) -> Self {
        let essence = essence(content_type.unwrap_or_default());
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        let ends = |end: &str| {
            let at = essence.len().checked_sub(end.len());
            at.and_then(|at| essence.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
        };
        if ends("/json") || ends("+json") {
            return Format::Json;
        }
        let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
        match start.first() {
            Some(b'{' | b'[') => Format::Json,
            Some(b'<') if ends("/xml") || (ends("+xml") && !is("image/svg+xml") && !ends("xhtml+xml")) => {
                Format::Xml
            }
            Some(b'<') if !ends("+xml") && is_xml(start) => Format::Xml,
            _ if is("application/x-www-form-urlencoded") => Format::Form,
            _ if is("application/graphql") => Format::GraphQl,
            _ => Format::Other,
        }
    }
}

/// A content type without its parameters.
fn essence(content_type: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let essence = content_type.get(..end).unwrap_or(content_type);
    std::str::from_utf8(essence).map_or(essence.trim_ascii(), |essence| essence.trim().as_bytes())
}

/// XML that says so, or that has a root which nothing else has: a page is none.
fn is_xml(start: &[u8]) -> bool {
    let head = start.get(..MAX_ROOT).unwrap_or(start);
    let has = |text: &str| memchr::memmem::find(head, text.as_bytes()).is_some();
    (start.starts_with(b"<?xml") && !has("<!DOCTYPE html") && !has("<html"))
        || has("/soap/envelope/")
        || has("/soap-envelope")
        || start.starts_with(b"<methodCall>")
        || start.starts_with(b"<methodResponse>")
}

/// Of `multipart/form-data` (RFC 2046, section 5.1.1).
pub(super) fn boundary(content_type: Option<&[u8]>) -> Option<Vec<u8>> {
    let end = memchr::memchr(b';', content_type?);
    let essence = content_type?.get(..end.unwrap_or(usize::MAX)).or(content_type)?.trim_ascii();
    let is_form = essence.eq_ignore_ascii_case(b"multipart/form-data");
    let boundary = parameter(content_type, "boundary").filter(|_| is_form)?;
    (1..=70).contains(&boundary.len()).then(|| boundary.as_bytes().to_vec())
}

/// The action of SOAP 1.2 (RFC 3902, section 2).
pub(super) fn soap_action(content_type: Option<&[u8]>) -> Option<&str> {
    parameter(content_type, "action")
}

/// A parameter of a content type, without its quotes (RFC 9110, section 5.6.6).
fn parameter<'a>(content_type: Option<&'a [u8]>, wanted: &str) -> Option<&'a str> {
    let content_type = content_type?;
    memchr::memchr(b';', content_type)?;
    std::str::from_utf8(content_type).ok()?.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

/// What a list of codings says: those that have to be undone, and the encoding of the text in them. Clients put both there
/// (pika and Celery: `utf-8`; Spring: `gzip:UTF-8` and `gzip, UTF-8`), and what e-mail has for codings.
pub(super) fn codings(list: &[u8]) -> (Cow<'_, [u8]>, Option<Charset>) {
    let separates = |byte: &u8| matches!(byte, b',' | b':' | b';' | b' ');
    let is_none =
        |token: &[u8]| [&b"7bit"[..], b"8bit", b"binary"].iter().any(|none| token.eq_ignore_ascii_case(none));
    let tokens = || list.split(separates).map(<[u8]>::trim_ascii).filter(|token| !token.is_empty());
    let mut charset = None;
    for token in tokens() {
        charset = charset.or_else(|| Charset::named(token));
    }
    if charset.is_none() && !tokens().any(is_none) && !list.contains(&b':') {
        return (Cow::Borrowed(list), None);
    }
    let rest = tokens().filter(|token| !is_none(token) && Charset::named(token).is_none());
    (Cow::Owned(rest.collect::<Vec<_>>().join(&b',')), charset)
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
        Kept { len: bytes.len() as u64, bytes, holed: false, left_out: 0 }
    }

    #[test]
    fn format_is_told_by_type_then_by_first_byte() {
        let of = |content_type: &str, body: &str| Format::of(Some(content_type.as_bytes()), body.as_bytes());
        assert_eq!(of("application/json; charset=utf-8", ""), Format::Json);
        assert_eq!(of("application/problem+json", ""), Format::Json);
        assert_eq!(of("Application/X-WWW-Form-Urlencoded", "a=1"), Format::Form);
        assert_eq!(of("application/x-www-form-urlencoded", "{"), Format::Json);
        assert_eq!(boundary(Some(b"multipart/form-data; boundary=\"a b\"")), Some(b"a b".to_vec()));
        assert_eq!(boundary(Some(b"multipart/form-data; charset=x")), None);
        assert_eq!(boundary(Some(b"multipart/mixed; boundary=x")), None);
        assert_eq!(boundary(Some(b"Multipart/Form-Data ;Boundary=x")), Some(b"x".to_vec()));
        assert_eq!(boundary(Some(b"multipart/form-database; boundary=x")), None);
        let soap = b"application/soap+xml; charset=utf-8; Action=\"urn:shop#Pay\"";
        assert_eq!(soap_action(Some(soap)), Some("urn:shop#Pay"));
        assert_eq!(of("text/html; charset=UTF-8", "\n{"), Format::Json);
        assert_eq!(of("text/javascript", "[1]"), Format::Json);
        assert_eq!(of("text/html", "<html>"), Format::Other);
        assert_eq!(of("text/html", "<?xml version='1.0'?><!DOCTYPE html><html/>"), Format::Other);
        assert_eq!(Format::of(None, b" \n{"), Format::Json);
        assert_eq!(Format::of(None, b"\xef\xbb\xbf{"), Format::Json);
        assert_eq!(Format::of(None, b"order_id=17"), Format::Other);
        for xml in [
            "text/xml",
            "application/xml; charset=windows-1251",
            "application/soap+xml",
            "application/atom+xml",
        ] {
            assert_eq!(of(xml, "<a/>"), Format::Xml, "{xml}");
        }
        for other in ["image/svg+xml", "application/xhtml+xml", "text/plain", "text/html"] {
            assert_eq!(of(other, "<a/>"), Format::Other, "{other}");
        }
        assert_eq!(of("text/plain", "<?xml version='1.0'?><a/>"), Format::Xml);
        let soap = "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">";
        assert_eq!(of("text/html", soap), Format::Xml);
        assert_eq!(of("", "<methodCall>"), Format::Xml);
        assert_eq!(of("application/graphql", "query {a}"), Format::GraphQl);
        assert_eq!(of("application/graphql", "{a}"), Format::Json);
    }

    #[test]
    fn charsets_among_codings_are_no_codings() {
        for (list, codings_left, charset) in [
            ("gzip", "gzip", None),
            ("deflate, gzip", "deflate, gzip", None),
            ("utf-8", "", Some("UTF-8")),
            ("UTF-8", "", Some("UTF-8")),
            ("gzip:UTF-8", "gzip", Some("UTF-8")),
            ("gzip, UTF-8", "gzip", Some("UTF-8")),
            ("UTF-8,gzip", "gzip", Some("UTF-8")),
            ("gzip:windows-1251", "gzip", Some("windows-1251")),
            ("deflate:gzip", "deflate,gzip", None),
            ("binary", "", None),
            ("8bit", "", None),
            ("zipped", "zipped", None),
            ("", "", None),
        ] {
            let (left, found) = codings(list.as_bytes());
            assert_eq!((&*left, found.map(Charset::name)), (codings_left.as_bytes(), charset), "{list}");
        }
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
            let body =
                Kept { bytes: gzip[..cut].to_vec(), len: gzip.len() as u64, holed: false, left_out: 0 };
            let decoded = plain(Some(b"gzip"), &body);
            assert!(decoded.is_none_or(|(plain, whole)| !whole && plain.iter().all(|b| *b == b'x')));
        }
    }
}
