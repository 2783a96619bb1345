//! Lines of OTLP/JSON as `spoor run --print otlp-json` writes them → spans and their trees.
//!
//! Read as plain JSON and not through the agent's types: this is what any other consumer sees.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// OTLP's numbers of span kinds.
pub const INTERNAL: u64 = 1;
pub const SERVER: u64 = 2;
pub const CLIENT: u64 = 3;
pub const PRODUCER: u64 = 4;
pub const CONSUMER: u64 = 5;

/// One exported span.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    /// Empty for roots.
    pub parent_id: String,
    pub name: String,
    pub kind: u64,
    pub start_ns: u64,
    pub end_ns: u64,
    /// `STATUS_CODE_ERROR`.
    pub failed: bool,
    /// What its status says besides.
    pub message: String,
    pub service: String,
    pub pid: Option<u64>,
    pub links: Vec<Link>,
    attributes: BTreeMap<String, Value>,
}

/// A reference to another span.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    pub trace_id: String,
    pub span_id: String,
    /// `spoor.link.rule`.
    pub rule: String,
}

impl Span {
    /// An attribute as text, whatever its type.
    pub fn text(&self, key: &str) -> Option<String> {
        match self.attributes.get(key)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.get(key)
    }

    /// The order it belongs to.
    pub fn order(&self) -> Option<String> {
        self.text("order.id")
    }

    pub fn attributes(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.attributes.iter().map(|(key, value)| (key.as_str(), value))
    }
}

/// Reads lines of `ExportTraceServiceRequest`s. An unfinished last line (the agent still writes) is left out.
pub fn parse(lines: &str) -> Result<Vec<Span>> {
    let mut spans = Vec::new();
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    for (number, line) in whole.lines().enumerate() {
        let request: Value =
            serde_json::from_str(line).with_context(|| format!("line {} is not JSON", number + 1))?;
        for resource_spans in list(&request, "resourceSpans") {
            let resource = attributes(&resource_spans["resource"]);
            for scope_spans in list(resource_spans, "scopeSpans") {
                for span in list(scope_spans, "spans") {
                    spans.push(read(span, &resource).with_context(|| format!("line {}", number + 1))?);
                }
            }
        }
    }
    Ok(spans)
}

fn read(span: &Value, resource: &BTreeMap<String, Value>) -> Result<Span> {
    let text = |key: &str| span[key].as_str().unwrap_or("").to_owned();
    let time = |key: &str| -> Result<u64> {
        // 64-bit integers are strings in OTLP/JSON.
        span[key]
            .as_str()
            .and_then(|time| time.parse().ok())
            .with_context(|| format!("{key} is no time: {}", span[key]))
    };
    let read = Span {
        trace_id: text("traceId"),
        span_id: text("spanId"),
        parent_id: text("parentSpanId"),
        name: text("name"),
        kind: span["kind"].as_u64().unwrap_or(0),
        start_ns: time("startTimeUnixNano")?,
        end_ns: time("endTimeUnixNano")?,
        failed: span["status"]["code"] == 2,
        message: span["status"]["message"].as_str().unwrap_or("").to_owned(),
        service: resource.get("service.name").and_then(Value::as_str).unwrap_or("").to_owned(),
        pid: resource.get("process.pid").and_then(Value::as_u64),
        links: list(span, "links").map(link).collect(),
        attributes: attributes(span),
    };
    ensure!(read.trace_id.len() == 32 && read.span_id.len() == 16, "identifiers of the wrong length: {span}");
    ensure!(read.end_ns >= read.start_ns, "it ends before it starts: {span}");
    Ok(read)
}

fn link(link: &Value) -> Link {
    let text = |key: &str| link[key].as_str().unwrap_or("").to_owned();
    let rule = attributes(link).get("spoor.link.rule").and_then(Value::as_str).unwrap_or("").to_owned();
    Link { trace_id: text("traceId"), span_id: text("spanId"), rule }
}

/// References that lead nowhere, as sentences: parents and links that are not among these spans, and links to a span's own
/// parent, which back ends with one reference to a span take for it. A parent that trace context names is exported by whoever
/// wrote the context.
pub fn dangling(spans: &[Span]) -> Vec<String> {
    let known: HashSet<(&str, &str)> =
        spans.iter().map(|span| (span.trace_id.as_str(), span.span_id.as_str())).collect();
    let mut dangling = Vec::new();
    for span in spans {
        let by_context = span.text("spoor.parent.rule").as_deref() == Some("context");
        if !span.parent_id.is_empty()
            && !by_context
            && !known.contains(&(span.trace_id.as_str(), span.parent_id.as_str()))
        {
            dangling.push(format!("the parent of {} {} {:?}", span.service, span.kind, described(span)));
        }
        for link in &span.links {
            if (&link.trace_id, &link.span_id) == (&span.trace_id, &span.parent_id) {
                dangling.push(format!("a link by {} of {} to its parent", link.rule, described(span)));
            }
        }
        for link in span.links.iter().filter(|link| link.rule != "context") {
            if !known.contains(&(link.trace_id.as_str(), link.span_id.as_str())) {
                let what = described(span);
                dangling.push(format!("a link by {} of {} {} {what:?}", link.rule, span.service, span.kind));
            }
        }
    }
    dangling
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// OTLP's list of typed values as plain ones.
fn attributes(owner: &Value) -> BTreeMap<String, Value> {
    let read = |attribute: &Value| {
        let value = &attribute["value"];
        let integer =
            value["intValue"].as_str().and_then(|number| number.parse::<i64>().ok()).map(Value::from);
        let plain = ["stringValue", "intValue", "doubleValue", "boolValue", "arrayValue"];
        let plain = plain.into_iter().find_map(|kind| value.get(kind)).cloned();
        Some((attribute["key"].as_str()?.to_owned(), integer.or(plain)?))
    };
    list(owner, "attributes").filter_map(read).collect()
}

/// All spans, each trace as an indented tree, with what tells them apart: for a look at what a test complains of.
pub fn listing(spans: &[Span]) -> String {
    let mut traces: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        traces.entry(span.trace_id.as_str()).or_default().push(span);
    }
    let mut traces: Vec<Vec<&Span>> = traces.into_values().collect();
    traces.sort_by_key(|spans| spans.iter().map(|span| span.start_ns).min());
    let first = spans.iter().map(|span| span.start_ns).min().unwrap_or(0);
    let mut out = String::new();
    for own in &traces {
        let trace = own.first().map_or("", |span| span.trace_id.as_str());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "trace {trace}   {} spans", own.len());
        indented(&mut out, own, first, |span| {
            span.order().map_or(String::new(), |order| format!("  order {order}"))
        });
    }
    out
}

/// A line for each of `own`, children below the parents that are among them, siblings by time; behind it what `more` says.
fn indented(out: &mut String, own: &[&Span], first: u64, more: impl Fn(&Span) -> String) {
    let ids: HashMap<&str, &Span> = own.iter().map(|span| (span.span_id.as_str(), *span)).collect();
    let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in own {
        let parent = if ids.contains_key(span.parent_id.as_str()) { span.parent_id.as_str() } else { "" };
        children.entry(parent).or_default().push(span);
    }
    children.values_mut().for_each(|children| children.sort_by_key(|span| (span.start_ns, span.end_ns)));
    let mut stack: Vec<(usize, &Span)> =
        children.get("").into_iter().flatten().rev().map(|span| (0, *span)).collect();
    while let Some((depth, span)) = stack.pop() {
        line(out, span, depth, first, &more(span));
        let below = children.get(span.span_id.as_str()).into_iter().flatten().rev();
        stack.extend(below.map(|child| (depth + 1, *child)));
    }
}

/// The name of a span kind's number.
pub fn kind(number: u64) -> &'static str {
    match number {
        INTERNAL => "internal",
        SERVER => "server",
        CLIENT => "client",
        PRODUCER => "producer",
        CONSUMER => "consumer",
        _ => "?",
    }
}

fn line(out: &mut String, span: &Span, depth: usize, first: u64, more: &str) {
    let kind = kind(span.kind);
    let what = format!("{}{} {kind} {}", "  ".repeat(depth), span.service, described(span));
    let at = span.start_ns.saturating_sub(first) as f64 / 1e6;
    let took = (span.end_ns - span.start_ns) as f64 / 1e6;
    let rule = span.text("spoor.parent.rule").map_or(String::new(), |rule| format!("  by {rule}"));
    let failed = if span.failed {
        format!("  FAILED {}", span.text("error.type").unwrap_or_default())
    } else {
        String::new()
    };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{at:9.1} ms {took:8.1} ms  {what:<76}{rule}{more}{failed}");
}

/// The name, with the path where the name is only a method.
fn described(span: &Span) -> String {
    let status =
        span.text("http.response.status_code").map_or(String::new(), |status| format!(" → {status}"));
    let path = span.text("url.path").or_else(|| {
        let url = span.text("url.full")?;
        let path = url.split_once("://")?.1;
        path.find('/').map(|at| path[at..].to_owned())
    });
    match path {
        Some(path) => {
            let method = span.name.split(' ').next().unwrap_or("");
            format!("{method} {path}{status}")
        }
        None => span.name.clone(),
    }
}
