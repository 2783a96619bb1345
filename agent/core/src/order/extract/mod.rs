//! One operation → its [`Found`], by the compiled rules.
//!
//! *Owns* which places an operation has. *Must not know* what a name or a value means; `Collector` does.

use std::borrow::Cow;

use super::body::{self, Format};
use super::collect::Collector;
use super::compile::RuleId;
pub use super::compile::Rules;
use super::path::Path;
use super::rules::{AmqpProperty, Part, UploadFact};
use super::{Found, context, form, protobuf, sql};
use crate::operation::amqp::{Content, Properties, Value as Field};
use crate::operation::http::{self, Exchange};
use crate::operation::{Detail, Kept, Operation};
use crate::percent;
use crate::privacy::is_personal;
use crate::trace::Value;

/// Marks statements over the configured bound.
const SLOW: &str = "spoor.slow";

impl Rules {
    /// What the operation's own bytes say about its order. Takes nothing from a place that no rule names.
    pub fn extract(&self, op: &Operation) -> Found {
        self.extract_counting(op).0
    }

    /// The same, with the number of bytes that content codings were undone to.
    pub fn extract_counting(&self, op: &Operation) -> (Found, usize) {
        let mut collector = Collector::new(self, &op.detail);
        let found = self.all(op, &mut collector);
        (found, collector.decoded_len)
    }

    fn all(&self, op: &Operation, collector: &mut Collector<'_>) -> Found {
        match &op.detail {
            Detail::Http(exchange) => {
                let route = self.http(exchange, collector);
                let context = context::read(|name| only_header(&exchange.request_headers, name));
                let mut found = Found { route, context, ..collector.finish() };
                self.export_headers(&self.spans.request_headers, &exchange.request_headers, &mut found);
                self.export_headers(&self.spans.response_headers, &exchange.response_headers, &mut found);
                found
            }
            Detail::Amqp(action) => {
                let Some(content) = action.kind.content() else { return Found::default() };
                self.amqp(content, collector);
                let header = |name: &str| only_entry(&content.properties, name);
                Found { context: context::read(header), ..collector.finish() }
            }
            Detail::Postgres(statement) => {
                sql::offer(self, statement, collector);
                let mut found = Found { context: sql::context(statement), ..collector.finish() };
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
    fn http(&self, exchange: &Exchange, collector: &mut Collector<'_>) -> Option<std::sync::Arc<str>> {
        let mut route = None;
        if exchange.path().starts_with('/') {
            let path = Path::new(exchange.path());
            route = self.spans.routes.iter().find(|route| route.fits(&path)).map(|route| route.route(&path));
            for (template, rule) in &self.paths {
                let mut taken = false;
                template.visit(&path, &mut |segment| {
                    if let Some(value) = percent::decode(segment, false) {
                        taken |= collector.offer(*rule, &value);
                    }
                });
                if taken && route.is_none() && template.is_route() {
                    route = Some(template.route(&path));
                }
            }
        }
        if let Some(query) = exchange.query() {
            form::pairs(query.as_bytes(), true, &mut |name, value| {
                collector.offer_all(self.query.find(name.as_bytes()), value);
            });
        }
        self.headers(&exchange.request_headers, collector);
        http_body(&exchange.request_headers, &exchange.request_body, collector);
        self.messages(exchange, &exchange.request_headers, &exchange.request_body, collector);
        if let [upload] = exchange.uploads.as_slice() {
            for (fact, rule) in &self.uploads {
                self.upload(*fact, *rule, upload, collector);
            }
        }
        collector.part(Part::Response);
        self.headers(&exchange.response_headers, collector);
        http_body(&exchange.response_headers, &exchange.response_body, collector);
        self.messages(exchange, &exchange.response_headers, &exchange.response_body, collector);
        route
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
        let paths: Vec<&[u32]> = wanted.iter().map(|(steps, _)| &**steps).collect();
        protobuf::visit(&kept.bytes, only_header(headers, "grpc-encoding"), &paths, &mut |path, value| {
            if let Some((_, rule)) = wanted.get(path) {
                collector.offer(*rule, value);
            }
        });
    }

    fn headers(&self, fields: &http::Headers, collector: &mut Collector<'_>) {
        for field in fields.iter() {
            let rules = self.headers.find(field.name.as_bytes());
            if let (false, Ok(value)) = (rules.is_empty(), std::str::from_utf8(field.value)) {
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
        for (name, value) in &properties.headers {
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
        let coding = properties.content_encoding.as_deref();
        // Clients put a character encoding here (pika, Celery: `utf-8`), which is no coding.
        let coding =
            coding.filter(|coding| !coding.to_ascii_lowercase().starts_with("utf")).map(str::as_bytes);
        body(content_type, coding, &content.body, collector);
    }
}

fn http_body(headers: &http::Headers, kept: &Kept, collector: &mut Collector<'_>) {
    if !kept.bytes.is_empty() {
        body(only_header(headers, "content-type"), only_header(headers, "content-encoding"), kept, collector);
    }
}

fn body(content_type: Option<&[u8]>, coding: Option<&[u8]>, kept: &Kept, collector: &mut Collector<'_>) {
    let Some((bytes, whole)) = body::plain(coding, kept) else { return };
    if let Cow::Owned(decoded) = &bytes {
        collector.decoded_len += decoded.len();
    }
    match Format::of(content_type, &bytes) {
        Format::Json => collector.json(&bytes, whole),
        Format::Form => form::pairs(&bytes, whole, &mut |name, value| collector.field(name, value)),
        Format::Multipart(boundary) => form::parts(&bytes, &boundary, &mut |part| {
            if Format::of(Some(part.content_type.as_bytes()), part.value) == Format::Json {
                collector.json(part.value, true);
            }
            if let Ok(value) = std::str::from_utf8(part.value) {
                collector.field(&part.name, value);
            }
        }),
        Format::Other => {}
    }
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
mod tests;
