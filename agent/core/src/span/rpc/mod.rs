//! A gRPC call → its part of a span.
//!
//! *Owns* gRPC's names, statuses and attributes. *Must not know* orders, HTTP spans beyond what calls share with them.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "gRPC"; gRPC over HTTP/2; gRPC, "Status codes and their use".

use std::time::Duration;

use super::build::{Draft, Placed, int, set_peer};
use super::http::{Original, client_address, text, user_agent};
use crate::operation::http::{Exchange, Reset};
use crate::operation::{Completeness, Operation};
use crate::percent;
use crate::privacy::messages;
use crate::protocol::http2::error_name;
use crate::record::{Role, Sender};
use crate::span::{SpanKind, semconv};

/// Status codes by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// On a server, the other codes are the caller's mistake.
const SERVER_ERRORS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
/// Longest method exported.
const MAX_METHOD: usize = 256;

pub(super) fn draft(placed: &Placed<'_>, exchange: &Exchange) -> Draft {
    let is_server = placed.op.role == Role::Server;
    let mut draft = Draft::new(placed.op, if is_server { SpanKind::Server } else { SpanKind::Client });
    let attributes = &mut draft.attributes;
    attributes.set(semconv::RPC_SYSTEM_NAME, semconv::GRPC);
    let original = Original::of(exchange, is_server);
    let scheme = original.scheme(exchange, placed.conn.tls.is_some());
    let conn = &placed.conn.conn;
    let socket = if is_server { &conn.local } else { &conn.remote };
    original.address(exchange, scheme, socket, attributes);
    if is_server {
        client_address(placed, &original, attributes);
    }
    set_peer(attributes, &conn.remote);
    attributes.set(semconv::NETWORK_PROTOCOL_NAME, "http");
    attributes.set(semconv::NETWORK_PROTOCOL_VERSION, "2");
    user_agent(exchange, attributes);
    super::http::sizes(exchange, attributes);
    let messages = [
        (semconv::SPOOR_RPC_REQUEST_MESSAGES, exchange.http2.request_messages),
        (semconv::SPOOR_RPC_RESPONSE_MESSAGES, exchange.http2.response_messages),
    ];
    for (key, count) in messages {
        if let Some(count) = count {
            attributes.set(key, int(count));
        }
    }
    super::http::stream_facts(exchange, attributes);
    // The name must be the full method; where that is not known, the system (section "Name").
    draft.name = match method(exchange) {
        Some(method) => {
            draft.attributes.set(semconv::RPC_METHOD, method);
            method.to_owned()
        }
        None => semconv::GRPC.to_owned(),
    };
    outcome(placed.op, exchange, is_server, &mut draft);
    draft
}

/// `package.Service/Method`: the path without its first slash.
fn method(exchange: &Exchange) -> Option<&str> {
    let method = exchange.target.strip_prefix('/')?;
    let (service, name) = method.rsplit_once('/')?;
    let printable = method.bytes().all(|byte| byte.is_ascii_graphic());
    (!service.is_empty() && !name.is_empty() && printable && method.len() <= MAX_METHOD).then_some(method)
}

fn outcome(op: &Operation, exchange: &Exchange, is_server: bool, draft: &mut Draft) {
    let Some(code) = status(op, exchange, is_server) else {
        if op.completeness == Completeness::Cut && !is_server {
            draft.error("no_status", String::new());
        }
        return;
    };
    draft.attributes.set(semconv::RPC_RESPONSE_STATUS_CODE, code.as_str());
    if exchange.status.is_some_and(|status| status != 200) {
        draft
            .attributes
            .set(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(exchange.status.unwrap_or_default()));
    }
    let failed = if is_server { SERVER_ERRORS.contains(&code.as_str()) } else { code != "OK" };
    if failed {
        let message = exchange.grpc_field("grpc-message").and_then(|text| std::str::from_utf8(text).ok());
        let message = message.and_then(|text| percent::decode(text, false));
        draft.error(code, message.map_or_else(String::new, |text| messages::application(&text)));
    }
}

/// The call's status: as the server sent it, else as gRPC maps what came instead.
fn status(op: &Operation, exchange: &Exchange, is_server: bool) -> Option<String> {
    if let Some(value) = exchange.grpc_field("grpc-status") {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
        let name = number.and_then(|number| CODES.get(number as usize).copied());
        return Some(name.map_or_else(|| "UNKNOWN".to_owned(), str::to_owned));
    }
    if let Some(reset) = exchange.http2.reset {
        return Some(of_reset(op, exchange, reset, is_server).to_owned());
    }
    // A proxy's or another server's answer (gRPC, "HTTP to gRPC Status Code Mapping").
    let by_http = match exchange.status? {
        200 => return None,
        400 => "INTERNAL",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "UNIMPLEMENTED",
        429 | 502..=504 => "UNAVAILABLE",
        _ => "UNKNOWN",
    };
    Some(by_http.to_owned())
}

/// gRPC over HTTP/2, "Errors": what a stream's end by RST_STREAM or GOAWAY means to the caller.
fn of_reset(op: &Operation, exchange: &Exchange, reset: Reset, is_server: bool) -> &'static str {
    if reset.goaway {
        return "UNAVAILABLE";
    }
    match (error_name(reset.code), reset.by) {
        // A caller that gives up at its deadline cancels; the deadline is in the request.
        (Some("CANCEL" | "NO_ERROR"), Sender::Client) if !is_server && is_past_deadline(op, exchange) => {
            "DEADLINE_EXCEEDED"
        }
        (Some("CANCEL"), _) | (Some("NO_ERROR"), Sender::Client) => "CANCELLED",
        (Some("REFUSED_STREAM"), _) => "UNAVAILABLE",
        (Some("ENHANCE_YOUR_CALM"), _) => "RESOURCE_EXHAUSTED",
        (Some("INADEQUATE_SECURITY"), _) => "PERMISSION_DENIED",
        (Some("STREAM_CLOSED" | "HTTP_1_1_REQUIRED") | None, _) => "UNKNOWN",
        _ => "INTERNAL",
    }
}

/// The call lasted as long as its `grpc-timeout`, within the 1 % to which clients round it up.
fn is_past_deadline(op: &Operation, exchange: &Exchange) -> bool {
    let timeout = text(&exchange.request_headers, "grpc-timeout").and_then(timeout);
    let took = op.ended_at.since(op.request.start.at);
    timeout.is_some_and(|timeout| took >= timeout - timeout / 100)
}

/// At most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    let plausible = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    unit.checked_mul(digits.parse().ok().filter(|_| plausible)?)
}

#[cfg(test)]
mod tests;
