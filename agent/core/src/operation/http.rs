//! An HTTP exchange.

use std::fmt;
use std::net::IpAddr;

use super::Kept;
use crate::record::Sender;

/// One request and its response (RFC 9110, section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// `1.0`, `1.1` or `2`: of the request, or of the response when the request was not seen.
    pub version: &'static str,
    /// As sent; empty when the request was not seen.
    pub method: String,
    /// Request target as sent: path and query, absolute form, authority form or `*`. At most [`MAX_TARGET`] bytes of it.
    pub target: String,
    /// The rest of a longer target was left out.
    pub target_cut: bool,
    /// The host of an absolute-form target, else `Host` or `:authority`; empty when absent. Without user information.
    pub authority: String,
    pub request_headers: Headers,
    pub request_body: Kept,
    /// Final status; `None` when no response was seen.
    pub status: Option<u16>,
    pub response_headers: Headers,
    pub response_body: Kept,
    /// Files in a multipart request body.
    pub uploads: Vec<Upload>,
    /// Two recipients may disagree where one of the messages ends: `Content-Length` beside `Transfer-Encoding`,
    /// contradicting lengths, an unknown transfer coding (RFC 9112, sections 6.3 and 11.2: request smuggling).
    pub ambiguous_framing: bool,
    /// What only HTTP/2 has.
    pub http2: Http2,
    /// The web server handed the request on by another protocol than HTTP.
    pub gateway: Option<Gateway>,
}

/// What a web server tells an application of a request that it hands on (RFC 3875, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `fastcgi`, `scgi`, `uwsgi`.
    pub protocol: &'static str,
    /// Who sent the request to the web server (`REMOTE_ADDR`).
    pub client: Option<IpAddr>,
    /// The request came over TLS (`HTTPS`, `REQUEST_SCHEME`).
    pub is_https: bool,
}

/// What HTTP/2 tells of an exchange beside its messages (RFC 9113); nothing of it for other versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http2 {
    /// Identifier of its stream; 0 for other versions.
    pub stream: u32,
    /// The request says that it came over TLS (`:scheme`), before a proxy perhaps.
    pub is_https: bool,
    /// Fields after the response's body; gRPC's status is there.
    pub trailers: Headers,
    /// The stream was ended before its response was.
    pub reset: Option<Reset>,
    /// Header fields that are not in `request_headers`, `response_headers` and `trailers`, because name or value stand in
    /// bytes from before the connection was joined, or in bytes that were lost.
    pub unknown_fields: u32,
    /// Length-prefixed messages of a gRPC call; `None` when it is none, or when they could not be counted.
    pub request_messages: Option<u64>,
    pub response_messages: Option<u64>,
}

/// How an HTTP/2 stream was ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    pub by: Sender,
    /// RFC 9113, section 7.
    pub code: u32,
    /// The server never took the request up: its stream is above the last one of a GOAWAY.
    pub goaway: bool,
}

/// A file inside a multipart body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    pub field: String,
    /// Base name, without any directories the client sent.
    pub file_name: String,
    pub content_type: String,
    /// Bytes of the file; `None` when its end was not seen.
    pub len: Option<u64>,
}

/// Bytes of a request target that are kept. Servers refuse more: nginx and Apache 8 KiB, Tomcat 8 KiB for the whole header section.
/// HTTP/2 can name one that stands in its table with one byte, and each exchange would hold and export another copy.
pub const MAX_TARGET: usize = 8 << 10;

/// Longest value of a header that outlives the search for keys. Of those that spans show, none is longer but by malice.
const MAX_SHOWN_VALUE: usize = 8 << 10;

/// Longest host with its port that is kept: names have at most 253 characters (RFC 1035, section 2.3.4). A longer one is none.
const MAX_AUTHORITY: usize = 512;

/// The beginning of a request target, and whether there was more. It ends where a part of it does: half a value would be another
/// one, and half a secret is not known as one.
pub fn bounded_target(target: &[u8]) -> (String, bool) {
    if target.len() <= MAX_TARGET {
        return (String::from_utf8_lossy(target).into_owned(), false);
    }
    let head = target.get(..MAX_TARGET).unwrap_or_default();
    let end = match memchr::memchr2(b'?', b'#', head) {
        Some(query) => memchr::memrchr(b'&', head).filter(|last| *last > query).unwrap_or(query),
        None => memchr::memrchr(b'/', head).map_or(0, |last| last + 1),
    };
    (String::from_utf8_lossy(head.get(..end).unwrap_or_default()).into_owned(), true)
}

/// A host with its port as a message names it, without user information; empty when it is longer than one can be.
pub fn bounded_authority(named: &str) -> String {
    let host = named.rsplit_once('@').map_or(named, |(_, host)| host);
    if host.len() <= MAX_AUTHORITY { host.to_owned() } else { String::new() }
}

impl Upload {
    /// Bytes that it holds.
    pub(crate) fn held(&self) -> usize {
        size_of::<Self>() + self.field.capacity() + self.file_name.capacity() + self.content_type.capacity()
    }
}

impl Exchange {
    /// Bytes that it holds beside its own fields.
    pub(crate) fn held(&self) -> usize {
        let texts = self.method.capacity() + self.target.capacity() + self.authority.capacity();
        let headers = [&self.request_headers, &self.response_headers, &self.http2.trailers];
        let uploads: usize = self.uploads.iter().map(Upload::held).sum();
        texts
            + headers.map(Headers::held).iter().sum::<usize>()
            + self.request_body.held()
            + self.response_body.held()
            + uploads
    }

    /// Forgets bodies, names of files, and all headers but those that spans show.
    pub(super) fn forget_values(&mut self, is_shown: fn(&[u8]) -> bool) {
        self.request_body.forget_bytes();
        self.response_body.forget_bytes();
        for headers in [&mut self.request_headers, &mut self.response_headers, &mut self.http2.trailers] {
            headers.retain(|name, value| is_shown(name) && value.len() <= MAX_SHOWN_VALUE);
        }
        for upload in &mut self.uploads {
            *upload = Upload { len: upload.len, ..Upload::default() };
        }
    }

    /// The first value of a request header; `name` in lower case.
    pub fn request_header(&self, name: &str) -> Option<&[u8]> {
        self.request_headers.get(name)
    }

    /// The first value of a response header; `name` in lower case.
    pub fn response_header(&self, name: &str) -> Option<&[u8]> {
        self.response_headers.get(name)
    }

    /// A gRPC call: its content type says so, or its trailers do where that is not known. gRPC-Web is another protocol.
    pub fn is_grpc(&self) -> bool {
        let says = |headers: &Headers| {
            let rest = headers.get("content-type").and_then(|value| value.strip_prefix(b"application/grpc"));
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
        };
        self.http2.stream != 0
            && (says(&self.request_headers)
                || says(&self.response_headers)
                || self.grpc_field("grpc-status").is_some())
    }

    /// A field that gRPC servers send after the body, or in the header section of a response without one.
    pub fn grpc_field(&self, name: &str) -> Option<&[u8]> {
        self.http2.trailers.get(name).or_else(|| self.response_headers.get(name))
    }

    /// The path of the target, without query. `/` for an absolute form without path; `*` and the authority form
    /// of `CONNECT` as they are.
    pub fn path(&self) -> &str {
        let target = match self.absolute() {
            Some((_, rest)) if rest.is_empty() || rest.starts_with(['?', '#']) => "/",
            Some((_, rest)) => rest,
            None => &self.target,
        };
        memchr::memchr2(b'?', b'#', target.as_bytes()).and_then(|end| target.get(..end)).unwrap_or(target)
    }

    /// The query of the target, without `?`; `None` when there is none.
    pub fn query(&self) -> Option<&str> {
        let target = self.target.as_bytes();
        // A fragment ends it, and what begins a fragment begins no query.
        let mark = memchr::memchr2(b'?', b'#', target).filter(|at| target.get(*at) == Some(&b'?'))?;
        let query = self.target.get(mark + 1..)?;
        memchr::memchr(b'#', query.as_bytes()).map_or(Some(query), |end| query.get(..end))
    }

    /// Authority and the rest of an absolute-form target (RFC 9112, section 3.2.2).
    pub fn absolute(&self) -> Option<(&str, &str)> {
        if self.target.starts_with('/') {
            return None;
        }
        let (scheme, rest) = self.target.split_once("://")?;
        if scheme.is_empty() || scheme.contains(['?', '#', '/']) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        Some(rest.split_at(end))
    }
}

/// One header field, name in lower case, value without surrounding blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a str,
    pub value: &'a [u8],
}

/// The fields of one message's header section, in the order they were sent.
///
/// All of them lie in one block of memory, because most messages have a dozen and few are ever looked at.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Name, value, name, value, …
    block: Vec<u8>,
    fields: Vec<FieldAt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FieldAt {
    start: u32,
    name_len: u32,
    value_len: u32,
}

impl Headers {
    /// Makes room for a header section of about `bytes` bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.block.reserve(bytes);
        self.fields.reserve(bytes / 32 + 1);
    }

    /// Appends a field; the name is stored in lower case. Beyond 4 GiB nothing is added.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let at = |n: usize| u32::try_from(n).ok();
        let (Some(start), Some(name_len), Some(value_len)) =
            (at(self.block.len()), at(name.len()), at(value.len()))
        else {
            return;
        };
        self.block.extend_from_slice(name);
        if let Some(stored) = self.block.get_mut(start as usize..) {
            stored.make_ascii_lowercase();
        }
        self.block.extend_from_slice(value);
        self.fields.push(FieldAt { start, name_len, value_len });
    }

    /// Continues the last field's value after a blank (obsolete line folding, RFC 9112, section 5.2).
    pub fn fold(&mut self, more: &[u8]) {
        let Some(last) = self.fields.last_mut() else { return };
        let Ok(more_len) = u32::try_from(more.len()) else { return };
        let blank = u32::from(last.value_len > 0 && !more.is_empty());
        let Some(value_len) = last.value_len.checked_add(more_len).and_then(|n| n.checked_add(blank)) else {
            return;
        };
        if blank == 1 {
            self.block.push(b' ');
        }
        self.block.extend_from_slice(more);
        last.value_len = value_len;
    }

    /// The first value of a field; `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find_map(|at| self.value_if(at, name))
    }

    /// Every value of a field, in order; `name` in lower case.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields.iter().filter_map(move |at| self.value_if(at, name))
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(|at| {
            let (name, value) = self.parts(at);
            Field { name: std::str::from_utf8(name).unwrap_or_default(), value }
        })
    }

    /// The name of the last field.
    pub fn last_name(&self) -> Option<&str> {
        let (name, _) = self.parts(self.fields.last()?);
        std::str::from_utf8(name).ok()
    }

    /// Names and values as bytes, for who compares them only.
    pub(crate) fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|at| self.parts(at))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes_len(&self) -> usize {
        self.block.len()
    }

    /// Bytes that it holds.
    pub(crate) fn held(&self) -> usize {
        self.block.capacity() + self.fields.capacity() * size_of::<FieldAt>()
    }

    /// Leaves out every field that is not to be kept, and gives the memory back where that is worth it.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        /// Less is left where it is: giving it back costs more than it holds.
        const SPARE: usize = 256;
        let (mut len, mut count) = (0, 0);
        for index in 0..self.fields.len() {
            let Some(at) = self.fields.get(index).copied() else { break };
            let (name, value) = self.parts(&at);
            if !keep(name, value) {
                continue;
            }
            let (start, end) = (at.start as usize, at.start as usize + name.len() + value.len());
            self.block.copy_within(start..end, len);
            if let Some(place) = self.fields.get_mut(count) {
                *place = FieldAt { start: len as u32, ..at };
            }
            len += end - start;
            count += 1;
        }
        self.block.truncate(len);
        self.fields.truncate(count);
        if self.block.capacity() > len + SPARE {
            self.block.shrink_to_fit();
            self.fields.shrink_to_fit();
        }
    }

    fn value_if(&self, at: &FieldAt, wanted: &str) -> Option<&[u8]> {
        if at.name_len as usize != wanted.len() {
            return None;
        }
        let (name, value) = self.parts(at);
        (name == wanted.as_bytes()).then_some(value)
    }

    fn parts(&self, at: &FieldAt) -> (&[u8], &[u8]) {
        let start = at.start as usize;
        let end = start + at.name_len as usize + at.value_len as usize;
        let field = self.block.get(start..end).unwrap_or_default();
        field.split_at_checked(at.name_len as usize).unwrap_or_default()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Headers::default();
        fields.into_iter().for_each(|(name, value)| headers.push(name.as_ref(), value.as_ref()));
        headers
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|field| (field.name, String::from_utf8_lossy(field.value))))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_of_every_form_of_target() {
        let check = |target: &str, path: &str, query: Option<&str>| {
            let exchange = Exchange { target: target.to_owned(), ..Exchange::default() };
            assert_eq!((exchange.path(), exchange.query()), (path, query), "{target}");
        };
        check("/orders/7?full=1", "/orders/7", Some("full=1"));
        check("/orders", "/orders", None);
        check("/go?to=http://other/place", "/go", Some("to=http://other/place"));
        check("http://shop:80/orders?x", "/orders", Some("x"));
        check("http://shop", "/", None);
        check("http://shop?q=/x", "/", Some("q=/x"));
        check("*", "*", None);
        check("shop:443", "shop:443", None);
        check("/a#b?c", "/a", None);
    }

    #[test]
    fn fields_are_found_by_lower_case_name_in_order() {
        let mut headers = Headers::from_iter([("Host", "shop"), ("X-A", "1"), ("x-a", "2")]);
        assert_eq!(headers.get("host"), Some(&b"shop"[..]));
        assert_eq!(headers.get_all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(headers.get("x"), None);
        headers.fold(b"more");
        assert_eq!(headers.get_all("x-a").last(), Some(&b"2 more"[..]));
        assert_eq!(headers.iter().next(), Some(Field { name: "host", value: b"shop" }));
        assert_eq!((headers.len(), headers.is_empty(), headers.last_name()), (3, false, Some("x-a")));
    }

    #[test]
    fn a_long_target_ends_where_a_part_of_it_does() {
        let check = |target: &str, expected: &str| {
            let (kept, cut) = bounded_target(target.as_bytes());
            assert_eq!((kept.as_str(), cut), (expected, target.len() > MAX_TARGET), "{:.40}", target);
        };
        let long = "x".repeat(MAX_TARGET);
        check("/orders/7?full=1", "/orders/7?full=1");
        check(&long, &long);
        check(&format!("/orders/7?a=1&b={long}&order_id=8"), "/orders/7?a=1");
        check(&format!("/orders/7?token={long}"), "/orders/7");
        check(&format!("/orders/7#{long}"), "/orders/7");
        check(&format!("/orders/{long}?a=1"), "/orders/");
        check(&format!("http://{long}/orders"), "http://");
        check(&format!("/заказы/7?a={long}"), "/заказы/7");
        check(&format!("{long}x"), "");
    }

    #[test]
    fn headers_that_are_not_kept_are_gone_with_their_memory() {
        let fields =
            [("Host", "shop"), ("cookie", &*"c".repeat(4000)), ("user-agent", "curl/8"), ("x-a", "1")];
        let mut headers = Headers::from_iter(fields);
        headers.retain(|name, _| matches!(name, b"user-agent" | b"x-a"));
        let left: Vec<(&str, &[u8])> = headers.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(left, [("user-agent", &b"curl/8"[..]), ("x-a", b"1")]);
        assert_eq!((headers.get("cookie"), headers.get("x-a")), (None, Some(&b"1"[..])));
        assert!(headers.held() < 200, "{}", headers.held());
        headers.push(b"y", b"2");
        assert_eq!((headers.get("y"), headers.get("user-agent")), (Some(&b"2"[..]), Some(&b"curl/8"[..])));
        headers.retain(|_, _| false);
        assert!(headers.is_empty());
    }
}
