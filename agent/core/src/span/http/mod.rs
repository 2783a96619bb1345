//! An HTTP exchange → its part of a span.
//!
//! *Owns* HTTP's names, statuses and attributes. *Must not know* orders; a route comes from configured templates only.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "HTTP spans".

use std::borrow::Cow;

use compact_str::ToCompactString;

use super::build::{Draft, Placed, int, ip_text, set_peer};
use crate::operation::http::{Exchange, Headers, Reset};
use crate::operation::{Completeness, Kept};
use crate::privacy::{self, redact};
use crate::protocol::http2::error_name;
use crate::record::{Endpoint, Role, Sender};
use crate::span::{SpanKind, calls, s3, semconv};
use crate::trace::Attributes;

mod forwarded;

pub(super) use self::forwarded::Original;

/// RFC 9110, section 9; PATCH (RFC 5789); QUERY (RFC 10008).
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// Longest `User-Agent` exported.
const MAX_USER_AGENT: usize = 256;

pub(super) fn draft(placed: &Placed<'_>, exchange: &Exchange) -> Draft {
    let is_server = placed.op.role == Role::Server;
    let mut draft = Draft::new(placed.op, if is_server { SpanKind::Server } else { SpanKind::Client });
    let attributes = &mut draft.attributes;
    let method = method(exchange, attributes);
    let original = Original::of(exchange, is_server);
    let scheme = original.scheme(exchange, placed.conn.tls.is_some());
    if exchange.target_cut {
        attributes.set(semconv::SPOOR_TRUNCATED, cut_part(exchange, is_server));
    }
    if is_server {
        server_side(placed, exchange, &original, scheme, attributes);
    } else {
        client_side(placed, exchange, scheme, attributes);
    }
    if let Some(gateway) = &exchange.gateway {
        attributes.set(semconv::NETWORK_PROTOCOL_NAME, gateway.protocol);
    }
    if !exchange.version.is_empty() {
        attributes.set(semconv::NETWORK_PROTOCOL_VERSION, exchange.version);
    }
    user_agent(exchange, attributes);
    sizes(exchange, attributes);
    stream_facts(exchange, attributes);
    if !exchange.uploads.is_empty() {
        attributes.set(semconv::SPOOR_UPLOAD_COUNT, int(exchange.uploads.len() as u64));
        let size = exchange.uploads.iter().try_fold(0u64, |sum, upload| sum.checked_add(upload.len?));
        if let Some(size) = size {
            attributes.set(semconv::SPOOR_UPLOAD_SIZE, int(size));
        }
    }
    if exchange.ambiguous_framing {
        attributes.set(semconv::SPOOR_AMBIGUOUS_FRAMING, true);
    }
    // The object's path template is S3's own; else it is the configured route.
    let template = s3::describe(exchange, attributes).or(placed.found.route.as_deref());
    draft.name = match template {
        Some(template) => {
            let key = if is_server { semconv::HTTP_ROUTE } else { semconv::URL_TEMPLATE };
            draft.attributes.set(key, template);
            [method, " ", template].concat()
        }
        None => method.to_owned(),
    };
    outcome(placed, exchange, is_server, &mut draft);
    if let Some(call) = &placed.found.call {
        calls::describe(call, &mut draft);
    }
    draft
}

/// Sets the method's attributes; returns what the span's name begins with.
fn method<'a>(exchange: &'a Exchange, attributes: &mut Attributes) -> &'a str {
    if METHODS.contains(&exchange.method.as_str()) {
        attributes.set(semconv::HTTP_REQUEST_METHOD, exchange.method.as_str());
        return &exchange.method;
    }
    attributes.set(semconv::HTTP_REQUEST_METHOD, semconv::OTHER);
    if !exchange.method.is_empty() {
        attributes.set(semconv::HTTP_REQUEST_METHOD_ORIGINAL, exchange.method.as_str());
    }
    "HTTP"
}

/// The attribute that a target which was not kept as a whole goes into.
fn cut_part(exchange: &Exchange, is_server: bool) -> Vec<String> {
    let name = match exchange.query() {
        _ if !is_server => semconv::URL_FULL,
        Some(_) => semconv::URL_QUERY,
        None => semconv::URL_PATH,
    };
    vec![name.to_owned()]
}

/// A span shows something of this header, whose name is in lower case. Others are forgotten before an operation's tree is complete.
pub(crate) fn is_shown(header: &[u8]) -> bool {
    matches!(
        header,
        b"authorization"
            | b"content-type"
            | b"forwarded"
            | b"grpc-message"
            | b"grpc-status"
            | b"grpc-timeout"
            | b"user-agent"
            | b"x-amz-bucket-region"
            | b"x-amz-content-sha256"
            | b"x-amz-copy-source"
            | b"x-amz-id-2"
            | b"x-amz-request-id"
            | b"x-amz-target"
            | b"x-amzn-requestid"
            | b"x-real-ip"
    ) || header.starts_with(b"x-forwarded-")
}

/// The request did not come into view: nothing is known of its target.
fn is_unseen(exchange: &Exchange) -> bool {
    exchange.target.is_empty()
}

fn server_side(
    placed: &Placed<'_>,
    exchange: &Exchange,
    original: &Original<'_>,
    scheme: &str,
    attributes: &mut Attributes,
) {
    attributes.set(semconv::URL_SCHEME, scheme);
    if !is_unseen(exchange) {
        attributes.set(semconv::URL_PATH, exchange.path());
        if let Some(query) = exchange.query().filter(|query| !query.is_empty()) {
            attributes.set(semconv::URL_QUERY, query);
        }
    }
    original.address(exchange, scheme, &placed.conn.conn.local, attributes);
    client_address(placed, original, attributes);
    set_peer(attributes, &placed.conn.conn.remote);
}

/// The client behind all proxies, as far as they tell: in the request, in front of the stream, else by the socket.
pub(super) fn client_address(placed: &Placed<'_>, original: &Original<'_>, attributes: &mut Attributes) {
    let socket = match &placed.conn.conn.remote {
        Endpoint::Inet(address) => Some(address.ip()),
        Endpoint::Unix(_) | Endpoint::Unknown => None,
    };
    if let Some(ip) = original.client.or(placed.conn.client.map(|client| client.ip())).or(socket) {
        attributes.set(semconv::CLIENT_ADDRESS, ip_text(ip));
    }
}

pub(super) fn user_agent(exchange: &Exchange, attributes: &mut Attributes) {
    if let Some(agent) = text(&exchange.request_headers, "user-agent") {
        let is_long = agent.char_indices().nth(MAX_USER_AGENT).is_some();
        if is_long {
            // Looked at before it is cut: half a secret is not known as one.
            let harmless = redact::text(agent, privacy::NO_KEYS);
            attributes
                .set(semconv::USER_AGENT_ORIGINAL, harmless.chars().take(MAX_USER_AGENT).collect::<String>());
        } else {
            attributes.set(semconv::USER_AGENT_ORIGINAL, agent);
        }
    }
}

pub(super) fn sizes(exchange: &Exchange, attributes: &mut Attributes) {
    body_size(attributes, semconv::HTTP_REQUEST_BODY_SIZE, &exchange.request_body);
    body_size(attributes, semconv::HTTP_RESPONSE_BODY_SIZE, &exchange.response_body);
}

/// What HTTP/2 tells beside the messages.
pub(super) fn stream_facts(exchange: &Exchange, attributes: &mut Attributes) {
    let http2 = &exchange.http2;
    if http2.unknown_fields > 0 {
        attributes.set(semconv::SPOOR_HTTP2_UNKNOWN_FIELDS, i64::from(http2.unknown_fields));
    }
    if let Some(reset) = http2.reset {
        attributes.set(semconv::SPOOR_HTTP2_RESET, reset_name(&reset));
        attributes
            .set(semconv::SPOOR_HTTP2_RESET_BY, if reset.by == Sender::Client { "client" } else { "server" });
    }
}

fn reset_name(reset: &Reset) -> String {
    if reset.goaway {
        return "GOAWAY".to_owned();
    }
    error_name(reset.code).map_or_else(|| format!("0x{:x}", reset.code), str::to_owned)
}

fn client_side(placed: &Placed<'_>, exchange: &Exchange, scheme: &str, attributes: &mut Attributes) {
    let remote = &placed.conn.conn.remote;
    if !is_unseen(exchange) {
        let authority = match remote {
            _ if !exchange.authority.is_empty() => Cow::Borrowed(exchange.authority.as_str()),
            Endpoint::Inet(address) => Cow::Owned(address.to_string()),
            _ => Cow::Borrowed(""),
        };
        let path = match exchange.path() {
            path if path.starts_with('/') => path,
            // `*` and the authority form name no resource.
            _ => "",
        };
        let query = exchange.query();
        let mark = if query.is_some() { "?" } else { "" };
        let user = userinfo(&exchange.target);
        let url = [scheme, "://", user, &authority, path, mark, query.unwrap_or_default()].concat();
        attributes.set(semconv::URL_FULL, url);
    }
    Original::default().address(exchange, scheme, remote, attributes);
    set_peer(attributes, remote);
}

/// `user:password@` of an absolute-form target, without either.
fn userinfo(target: &str) -> &'static str {
    let authority =
        target.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => "REDACTED:REDACTED@",
        Some(_) => "REDACTED@",
        None => "",
    }
}

fn body_size(attributes: &mut Attributes, key: &'static str, body: &Kept) {
    if body.len > 0 {
        attributes.set(key, int(body.len));
    }
}

fn outcome(placed: &Placed<'_>, exchange: &Exchange, is_server: bool, draft: &mut Draft) {
    if let Some(status) = exchange.status {
        draft.attributes.set(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(status));
        // 4xx is the client's mistake, not the server's.
        if status >= 500 || (status >= 400 && !is_server) {
            draft.error(status.to_compact_string(), String::new());
            return;
        }
    }
    if let Some(reset) = &exchange.http2.reset {
        // A client that does not want the response any more is no failure.
        let cancelled =
            reset.by == Sender::Client && matches!(error_name(reset.code), Some("CANCEL" | "NO_ERROR"));
        let untouched = is_server && reset.goaway;
        if !(cancelled || untouched) {
            draft.error(reset_name(reset), String::new());
        }
        return;
    }
    if placed.op.completeness == Completeness::Cut && !is_server {
        // A server that loses its connection cannot tell a cancelled request from a failure, its client can.
        let kind = if exchange.status.is_some() { "response_cut" } else { "no_response" };
        draft.error(kind, String::new());
    }
}

/// A header's first value, if it is text.
pub(super) fn text<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    debug_assert!(is_shown(name.as_bytes()), "{name} is forgotten before");
    headers.get(name).and_then(|value| std::str::from_utf8(value).ok()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
