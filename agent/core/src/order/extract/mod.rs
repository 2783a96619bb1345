//! One operation → its [`Found`], by the compiled rules.
//!
//! *Owns* which places an operation has. *Must not know* what a name or a value means; `Collector` does.

use std::borrow::Cow;

use super::body::{self, Format};
use super::collect::Collector;
use super::compile::RuleId;
pub use super::compile::Rules;
use super::context::{self, InBand};
use super::explain::{Notes, Place};
use super::path::Path;
use super::rules::{AmqpProperty, Part, UploadFact};
use super::{Call, Found, call, form, protobuf, sql};
use crate::charset::Charset;
use crate::operation::amqp::{Content, Properties, Value as Field};
use crate::operation::http::{self, Exchange};
use crate::operation::{Detail, Kept, Operation};
use crate::privacy::is_personal;
use crate::sql::shapes::Seen;
use crate::trace::Value;

/// A field of a form that names its encoding.
const CHARSET_FIELD: &[u8] = b"_charset_";
/// Marks statements over the configured bound.
const SLOW: &str = "spoor.slow";

impl Rules {
    /// What the operation's own bytes say about its order. Takes nothing from a place that no rule names.
    pub fn extract(&self, op: &Operation) -> Found {
        self.extract_counting(op).0
    }

    /// The same, with the number of bytes that content codings were undone to.
    pub fn extract_counting(&self, op: &Operation) -> (Found, usize) {
        self.extract_seen(op, None)
    }

    /// The same, with what is known of a statement by its shape.
    pub fn extract_seen(&self, op: &Operation, seen: Option<&Seen<'_>>) -> (Found, usize) {
        self.gather(op, seen, &mut None)
    }

    /// The same with what was taken where, and what else was shown.
    pub(super) fn explained(&self, op: &Operation) -> (Found, Notes) {
        let mut notes = Some(Box::default());
        let (found, _) = self.gather(op, None, &mut notes);
        (found, notes.map(|notes| *notes).unwrap_or_default())
    }

    fn gather(
        &self,
        op: &Operation,
        seen: Option<&Seen<'_>>,
        notes: &mut Option<Box<Notes>>,
    ) -> (Found, usize) {
        let path = match &op.detail {
            Detail::Http(exchange) => Some(Path::new(exchange.path())),
            _ => None,
        };
        let mut collector = Collector::new(self, &op.detail, path.as_ref());
        collector.notes = notes.take();
        let found = self.all(op, path.as_ref(), seen, &mut collector);
        *notes = collector.notes.take();
        (found, collector.decoded_len)
    }

    fn all(
        &self,
        op: &Operation,
        path: Option<&Path<'_>>,
        seen: Option<&Seen<'_>>,
        collector: &mut Collector<'_>,
    ) -> Found {
        match &op.detail {
            Detail::Http(exchange) => {
                let route = self.http(exchange, path, collector);
                let InBand { context, trace_id } =
                    context::read(|name| only_header(&exchange.request_headers, name));
                let mut found = Found { route, context, trace_id, ..collector.finish() };
                self.export_headers(&self.spans.request_headers, &exchange.request_headers, &mut found);
                self.export_headers(&self.spans.response_headers, &exchange.response_headers, &mut found);
                found
            }
            Detail::Amqp(action) => {
                let Some(content) = action.kind.content() else { return Found::default() };
                self.amqp(content, collector);
                let header = |name: &str| only_entry(&content.properties, name);
                let InBand { context, trace_id } = context::read(header);
                Found { context, trace_id, ..collector.finish() }
            }
            Detail::Postgres(statement) => {
                sql::offer(self, statement, seen, collector);
                let InBand { context, trace_id } = sql::context(statement).unwrap_or_default();
                let mut found = Found { context, trace_id, ..collector.finish() };
                let took = op.ended_at.since(op.request.start.at);
                if !self.spans.slow_statement.is_zero() && took >= self.spans.slow_statement {
                    found.attributes.push((SLOW.to_owned(), Value::Bool(true)));
                }
                found
            }
        }
    }

    /// The headers that the configuration asks for, as the conventions name them.
    fn export_headers(&self, wanted: &[(String, String)], headers: &http::Headers, found: &mut Found) {
        for (name, attribute) in wanted {
            let values = headers.get_all(name).filter_map(|value| std::str::from_utf8(value).ok());
            let values: Vec<String> = values.filter(|value| !is_personal(value)).map(str::to_owned).collect();
            if !values.is_empty() {
                found.attributes.push((attribute.clone(), Value::Texts(values)));
            }
        }
    }

    /// Returns the route: the first configured one that fits, else the first template of a key without `**` that fits with
    /// a value of its type.
    fn http(
        &self,
        exchange: &Exchange,
        path: Option<&Path<'_>>,
        collector: &mut Collector<'_>,
    ) -> Option<std::sync::Arc<str>> {
        let (request, response) = (&exchange.request_headers, &exchange.response_headers);
        // Rules may hold for a call only, and what is called stands in the body.
        if self.asks_calls {
            http_body(request, &exchange.request_body, Some(response), collector);
        }
        let mut route = None;
        if let Some(path) = path.filter(|_| exchange.path().starts_with('/')) {
            route = self.spans.routes.iter().find(|route| route.fits(path)).map(|route| route.route(path));
            collector.place = Place::Path;
            if let Some(notes) = &mut collector.notes {
                notes.show_path(exchange.path());
            }
            for (template, rule) in &self.paths {
                let mut taken = false;
                template.visit(path, &mut |segment| taken |= collector.offer(*rule, segment));
                if taken && route.is_none() && template.is_route() {
                    route = Some(template.route(path));
                }
            }
        }
        if let Some(query) = exchange.query() {
            collector.place = Place::Query;
            form::pairs(query.as_bytes(), true, charset_of(Some(response)), &mut |name, value| {
                collector.show(name, "query", value);
                collector.offer_all(self.query.find_field(name.as_bytes()), value);
                if name == "query" && collector.call.is_none() && exchange.path().ends_with("/graphql") {
                    collector.call = call::graphql(value, None);
                }
            });
        }
        self.headers(request, collector);
        if !self.asks_calls {
            http_body(request, &exchange.request_body, Some(response), collector);
        }
        self.messages(exchange, request, &exchange.request_body, collector);
        if let [upload] = exchange.uploads.as_slice() {
            for (fact, rule) in &self.uploads {
                collector.place = Place::Upload;
                self.upload(*fact, *rule, upload, collector);
            }
        }
        collector.part(Part::Response);
        self.headers(response, collector);
        http_body(response, &exchange.response_body, None, collector);
        self.messages(exchange, response, &exchange.response_body, collector);
        self.created(exchange, collector);
        if let Some(Call::GraphQl { shown, .. }) = &mut collector.call {
            *shown = self.spans.graphql_operations;
        }
        route
    }

    /// The thing that a request created, where only `Location` names it (RFC 9110, sections 15.3.2 and 15.4.4).
    fn created(&self, exchange: &Exchange, collector: &mut Collector<'_>) {
        let creates =
            matches!(exchange.status, Some(201 | 303)) && matches!(&*exchange.method, "POST" | "PUT");
        if !creates || collector.has_keys() || exchange.is_grpc() {
            return;
        }
        let location = only_header(&exchange.response_headers, "location");
        let Some(location) = location.and_then(|value| std::str::from_utf8(value).ok()) else { return };
        let there = Exchange { target: location.trim().to_owned(), ..Exchange::default() };
        let path = match there.absolute() {
            Some((host, _)) if is_own_host(host, exchange) => there.path(),
            // Somebody else's order.
            Some(_) => return,
            None => there.path(),
        };
        // `//host/path` names a host, too (RFC 3986, section 4.2).
        let path = match path.strip_prefix("//").filter(|_| there.absolute().is_none()) {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let (host, path) = rest.split_at(end);
                if !is_own_host(host, exchange) {
                    return;
                }
                path
            }
            None => path,
        };
        if !path.starts_with('/') {
            return;
        }
        let path = Path::new(path);
        collector.place = Place::Location;
        for (template, rule) in &self.paths {
            template.visit(&path, &mut |segment| {
                collector.offer(*rule, segment);
            });
        }
    }

    /// Fields of the messages that one side of a gRPC call sent.
    fn messages(
        &self,
        exchange: &Exchange,
        headers: &http::Headers,
        kept: &Kept,
        collector: &mut Collector<'_>,
    ) {
        let holds = |(_, rule): &&(protobuf::Steps, RuleId)| collector.holds(*rule);
        let wanted: Vec<_> = self.protobuf_paths.iter().filter(holds).collect();
        if wanted.is_empty() || !exchange.is_grpc() {
            return;
        }
        collector.place = Place::Grpc;
        let paths: Vec<&[u32]> = wanted.iter().map(|(steps, _)| &**steps).collect();
        protobuf::visit(&kept.bytes, only_header(headers, "grpc-encoding"), &paths, &mut |path, value| {
            if let Some((_, rule)) = wanted.get(path) {
                collector.offer(*rule, value);
            }
        });
    }

    fn headers(&self, fields: &http::Headers, collector: &mut Collector<'_>) {
        collector.place = Place::Header;
        for (name, value) in fields.iter_bytes() {
            if collector.notes.is_some()
                && let Ok(name) = std::str::from_utf8(name)
                && name.starts_with("x-")
            {
                collector.show(name, "header", &String::from_utf8_lossy(value));
            }
            let rules = self.headers.find_field(name);
            if let (false, Ok(value)) = (rules.is_empty(), std::str::from_utf8(value)) {
                collector.offer_all(rules, value);
            }
        }
    }

    fn upload(&self, fact: UploadFact, rule: RuleId, upload: &http::Upload, collector: &mut Collector<'_>) {
        // Some browsers send a path.
        let name = upload.file_name.rsplit(['/', '\\']).next().unwrap_or("");
        match fact {
            UploadFact::FileName => collector.offer(rule, name),
            UploadFact::Size => upload.len.is_some_and(|len| collector.offer(rule, &len.to_string())),
            UploadFact::Extension => {
                let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
                extension.is_some_and(|extension| collector.offer(rule, &extension))
            }
            UploadFact::ContentType => collector.offer(rule, &upload.content_type),
        };
    }

    fn amqp(&self, content: &Content, collector: &mut Collector<'_>) {
        let properties = &content.properties;
        collector.place = Place::MessageHeader;
        for (name, value) in &properties.headers {
            match value {
                _ if collector.notes.is_none() => {}
                Field::Int(n) => collector.show(name, "header", &n.to_string()),
                Field::Text(text) => collector.show(name, "header", &String::from_utf8_lossy(text)),
                _ => {}
            }
            let rules = self.amqp_headers.find(name.as_bytes());
            if rules.is_empty() {
                continue;
            }
            match value {
                Field::Int(n) => collector.offer_all(rules, &n.to_string()),
                Field::Uint(n) => collector.offer_all(rules, &n.to_string()),
                Field::Text(text) | Field::Bytes(text) => {
                    if let Ok(text) = std::str::from_utf8(text) {
                        collector.offer_all(rules, text);
                    }
                }
                _ => {}
            }
        }
        collector.place = Place::MessageProperty;
        for (property, rule) in &self.amqp_properties {
            let value = match property {
                AmqpProperty::CorrelationId => &properties.correlation_id,
                AmqpProperty::MessageId => &properties.message_id,
                AmqpProperty::Type => &properties.kind,
                AmqpProperty::AppId => &properties.app_id,
                AmqpProperty::ReplyTo => &properties.reply_to,
            };
            if let Some(value) = value {
                collector.offer(*rule, value);
            }
        }
        let content_type = properties.content_type.as_deref().map(str::as_bytes);
        let coding = properties.content_encoding.as_deref().map(str::as_bytes);
        body(content_type, coding, None, None, &content.body, collector);
    }
}

/// A form that says nothing of its encoding is sent in that of its page, which the answer mostly has, too: `page`.
fn http_body(
    headers: &http::Headers,
    kept: &Kept,
    page: Option<&http::Headers>,
    collector: &mut Collector<'_>,
) {
    if !kept.bytes.is_empty() {
        let header = |name| only_header(headers, name);
        let action = header("soapaction").and_then(|action| std::str::from_utf8(action).ok());
        body(header("content-type"), header("content-encoding"), action, page, kept, collector);
    }
}

/// The host that the request was sent to, by its own word or by that of the proxy nearest to the client. Ports do not count: what listens
/// beside a service is of the same owner.
fn is_own_host(authority: &str, exchange: &Exchange) -> bool {
    let wanted = host(authority);
    let forwarded = only_header(&exchange.request_headers, "x-forwarded-host");
    let forwarded = forwarded.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("");
    let first = forwarded.split(',').next().unwrap_or("").trim();
    !wanted.is_empty()
        && [exchange.authority.as_str(), first].into_iter().any(|own| host(own).eq_ignore_ascii_case(wanted))
}

/// Without user and port; a colon in brackets is part of an IPv6 address.
fn host(authority: &str) -> &str {
    let host = authority.rsplit('@').next().unwrap_or("");
    match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    }
}

fn charset_of(page: Option<&http::Headers>) -> Charset {
    let content_type = page.and_then(|headers| only_header(headers, "content-type"));
    content_type.and_then(Charset::of_content_type).unwrap_or_default()
}

fn body(
    content_type: Option<&[u8]>,
    coding: Option<&[u8]>,
    action: Option<&str>,
    page: Option<&http::Headers>,
    kept: &Kept,
    collector: &mut Collector<'_>,
) {
    collector.place = Place::Body;
    let (coding, own) = coding.map(body::codings).unzip();
    let Some((bytes, whole)) = body::plain(coding.as_deref(), kept) else { return };
    if let Cow::Owned(decoded) = &bytes {
        collector.decoded_len += decoded.len();
    }
    let declared = content_type.and_then(Charset::of_content_type).or(own.flatten());
    let form_charset = || declared.unwrap_or_else(|| charset_of(page));
    if let Some(boundary) = body::boundary(content_type) {
        multipart(&bytes, &boundary, form_charset(), collector);
        return;
    }
    let bytes = declared.or_else(|| Charset::of_xml(&bytes)).unwrap_or_default().utf8(bytes);
    match Format::of(content_type, &bytes) {
        Format::Json => collector.json(&bytes, whole, is_problem(content_type)),
        Format::Xml => {
            let text = text_of(&bytes);
            let action = action.or_else(|| body::soap_action(content_type));
            collector.xml(text, whole && text.len() == bytes.len(), action);
        }
        Format::Form => {
            form::pairs(&bytes, whole, form_charset(), &mut |name, value| collector.field(name, value));
        }
        Format::GraphQl => {
            if collector.call.is_none() {
                collector.call = call::graphql(text_of(&bytes), None);
            }
        }
        Format::Other => {}
    }
}

fn multipart(bytes: &[u8], boundary: &[u8], charset: Charset, collector: &mut Collector<'_>) {
    // "the value of the `_charset_` field is the default for all parts" (RFC 7578, section 4.6).
    let mut default = charset;
    if memchr::memmem::find(bytes, CHARSET_FIELD).is_some() {
        form::parts(bytes, boundary, &mut |part| {
            if *part.name == *CHARSET_FIELD {
                default = Charset::named(part.value).unwrap_or(default);
            }
        });
    }
    form::parts(bytes, boundary, &mut |part| {
        let charset = Charset::of_content_type(part.content_type).unwrap_or(default);
        let value = charset.utf8(Cow::Borrowed(part.value));
        match Format::of(Some(part.content_type), &value) {
            Format::Json => collector.json(&value, true, false),
            Format::Xml => collector.xml(text_of(&value), true, None),
            _ => {}
        }
        if let (Some(name), Ok(value)) = (charset.exact_or_utf8(&part.name), std::str::from_utf8(&value)) {
            collector.field(&name, value);
        }
    });
}

/// As far as bytes are text.
fn text_of(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// What tells what went wrong (RFC 9457).
fn is_problem(content_type: Option<&[u8]>) -> bool {
    let content_type = content_type.unwrap_or_default().get(..24).unwrap_or_default();
    content_type.eq_ignore_ascii_case(b"application/problem+json")
}

/// A header that is there once.
fn only_header<'a>(headers: &'a http::Headers, name: &'a str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name);
    let first = values.next();
    first.filter(|_| values.next().is_none())
}

/// A text entry of a header table; names there keep their case, contexts are written in lower or mixed case.
fn only_entry<'a>(properties: &'a Properties, name: &str) -> Option<&'a [u8]> {
    let mut values = properties.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (Some((_, Field::Text(text) | Field::Bytes(text))), None) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod places;
#[cfg(test)]
pub(super) mod tests;
