//! Finished spans → traces as indented trees for people.
//!
//! ```text
//! order 17  trace 5b8aa5a2d2c872e8321cf37308d69df2  4 spans, 3 services, 182.4 ms  2026-11-20 09:12:33.120 UTC
//!     +0.0 ms   182.4 ms  shop ← POST /orders  201
//!     +1.2 ms    12.4 ms  ├─ shop → INSERT orders  [thread 0.95]
//!    +15.0 ms    80.1 ms  └─ shop → POST /confirmations  200  [thread 0.95]
//!    +16.3 ms    77.9 ms     └─ crm ← POST /confirmations  200  [wire 1.00]
//! ```
//!
//! *Owns* the layout. `←` is work that came in (server, consumer), `→` work asked of others (client, producer).
//! A trace is printed when nothing was added to it for a while; what comes later is printed as its continuation.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::clock;
use spoor_core::bounded::Bounded;
use spoor_core::hash::Keyed;
use spoor_core::privacy::steers;
use spoor_core::span::{Span, SpanKind, Status};
use spoor_core::time::{WallTime, nanoseconds};
use spoor_core::trace::{SpanId, TraceId, Value};

/// Spans kept before the oldest trace is printed early.
const MAX_SPANS: usize = 100_000;
/// What stays of them then: printing early is for many at once, so that it is seldom.
const KEPT_SPANS: usize = MAX_SPANS / 4 * 3;
/// Traces remembered as printed, to say so when they go on.
const MAX_PRINTED: usize = 10_000;
/// Levels that are drawn; deeper ones say how deep they are. A line is bounded so, and a tree as long as it has spans.
const MAX_DEPTH: usize = 64;

/// How trees look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    pub colour: bool,
    /// Columns of the terminal; `None` does not cut lines.
    pub width: Option<usize>,
}

impl Style {
    /// For standard output: colour and width only when it is a terminal (and `NO_COLOR` is not set).
    pub fn of_stdout() -> Self {
        let terminal = io::IsTerminal::is_terminal(&io::stdout());
        let width = terminal.then(terminal_size::terminal_size).flatten();
        Self {
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
            width: width.map(|(width, _)| usize::from(width.0)),
        }
    }
}

/// Collects spans of traces and prints them.
#[derive(Debug)]
pub struct TreePrinter<W> {
    out: W,
    style: Style,
    quiet: Duration,
    traces: HashMap<TraceId, Trace>,
    span_count: usize,
    printed: Bounded<TraceId, (), Keyed>,
}

#[derive(Debug, Default)]
struct Trace {
    spans: Vec<Span>,
    last_added: Duration,
}

impl<W: Write> TreePrinter<W> {
    /// Prints a trace after nothing was added to it for `quiet`, in the time given to [`Self::tick`].
    pub fn new(out: W, style: Style, quiet: Duration) -> Self {
        Self {
            out,
            style,
            quiet,
            traces: HashMap::new(),
            span_count: 0,
            printed: Bounded::for_foreign_keys(MAX_PRINTED),
        }
    }

    /// Adds a span at `now`, counted from any moment that stays the same.
    pub fn push(&mut self, span: Span, now: Duration) -> io::Result<()> {
        let trace = self.traces.entry(span.trace_id).or_default();
        trace.last_added = now;
        trace.spans.push(span);
        self.span_count += 1;
        if self.span_count <= MAX_SPANS {
            return Ok(());
        }
        let mut oldest: Vec<_> =
            self.traces.iter().map(|(id, trace)| (trace.last_added, *id, trace.spans.len())).collect();
        oldest.sort_unstable();
        let mut left = self.span_count;
        let early = oldest.into_iter().take_while(|(_, _, spans)| {
            let goes = left > KEPT_SPANS;
            left = left.saturating_sub(*spans);
            goes
        });
        let early = early.map(|(_, id, _)| id).collect();
        self.print_all(early)
    }

    /// Prints the traces that have been quiet.
    pub fn tick(&mut self, now: Duration) -> io::Result<()> {
        let quiet = |trace: &Trace| now.saturating_sub(trace.last_added) >= self.quiet;
        let due: Vec<_> = self.traces.iter().filter(|(_, trace)| quiet(trace)).map(|(id, _)| *id).collect();
        self.print_all(due)
    }

    /// Prints everything that is left.
    pub fn finish(&mut self) -> io::Result<()> {
        let left = self.traces.keys().copied().collect();
        self.print_all(left)
    }

    fn print_all(&mut self, mut ids: Vec<TraceId>) -> io::Result<()> {
        let start = |id: &TraceId| self.traces.get(id).and_then(|t| t.spans.iter().map(|s| s.start).min());
        ids.sort_by_key(|id| (start(id), *id));
        for id in ids {
            self.print(id)?;
        }
        Ok(())
    }

    /// Spans of trees that are not printed yet.
    pub fn held(&self) -> usize {
        self.span_count
    }

    fn print(&mut self, id: TraceId) -> io::Result<()> {
        let Some(trace) = self.traces.remove(&id) else { return Ok(()) };
        self.span_count = self.span_count.saturating_sub(trace.spans.len());
        let continued = self.printed.contains_key(&id);
        self.printed.insert(id, ());
        render(&mut self.out, id, &trace.spans, continued, self.style)?;
        self.out.flush()
    }
}

/// Writes one trace, with a line for each span and an empty line at the end.
fn render(
    out: &mut impl Write,
    id: TraceId,
    spans: &[Span],
    continued: bool,
    style: Style,
) -> io::Result<()> {
    let paint = Paint(style.colour);
    let first = spans.iter().map(|span| span.start).min().unwrap_or_default();
    out.write_all(header(id, spans, continued, first, &paint).as_bytes())?;
    walk(spans, |row| out.write_all(line(row, first, style.width, &paint).as_bytes()))?;
    out.write_all(b"\n")
}

fn line(row: &Row<'_>, first: WallTime, width: Option<usize>, paint: &Paint) -> String {
    let span = row.span;
    let offset = format!("+{}", milliseconds(span.start.since(first)));
    let duration = milliseconds(span.end.since(span.start));
    let times = format!("{offset:>11}  {duration:>10}  ");
    let guide = row.guide();
    let (service, arrow) = (clean(&span.resource.service), arrow(span.kind));
    let tail = tail(span, row);
    let tail_width: usize = tail.iter().map(|(part, _)| part.width() + 2).sum();
    let fixed = times.width() + guide.width() + service.width() + 3 + tail_width;
    let room = width.map(|width| width.saturating_sub(fixed).max(12));
    let name = shortened(&clean(&title(span)), room);
    let mut text = paint.dim(&times);
    text += &paint.dim(&guide);
    text += &paint.bold(&service);
    text += &format!(" {} {name}", paint.dim(arrow));
    for (part, tone) in tail {
        text += "  ";
        text += &match tone {
            Tone::Plain => part,
            Tone::Dim => paint.dim(&part),
            Tone::Good => paint.green(&part),
            Tone::Bad => paint.red(&part),
        };
    }
    text.push('\n');
    text
}

fn header(id: TraceId, spans: &[Span], continued: bool, first: WallTime, paint: &Paint) -> String {
    let last = spans.iter().map(|span| span.end).max().unwrap_or(first);
    let services: HashSet<&str> = spans.iter().map(|span| span.resource.service.as_str()).collect();
    let order = spans.iter().find_map(order_id).map(|order| format!("order {order}  ")).unwrap_or_default();
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    format!(
        "{}{}  {}, {}, {}  {}{}\n",
        paint.bold(&order),
        paint.dim(&format!("trace {id}")),
        count(spans.len(), "span"),
        count(services.len(), "service"),
        milliseconds(last.since(first)),
        paint.dim(&utc(first)),
        if continued { "  (continued)" } else { "" },
    )
}

/// The name, with the path where the name is the method alone: a path is too varied for a name, not for a person.
fn title(span: &Span) -> String {
    let method = span.attributes.get("http.request.method").map(plain);
    if method.as_deref() != Some(span.name.as_str()) {
        return span.name.clone();
    }
    let path = span.attributes.get("url.path").map(plain).or_else(|| {
        let url = plain(span.attributes.get("url.full")?);
        let (_, rest) = url.split_once("://")?;
        let path = rest.get(rest.find('/')?..)?;
        Some(path.split(['?', '#']).next().unwrap_or_default().to_owned())
    });
    path.map_or_else(|| span.name.clone(), |path| format!("{} {path}", span.name))
}

/// What stands after the name: status, error, order, rule.
fn tail(span: &Span, row: &Row<'_>) -> Vec<(String, Tone)> {
    let mut tail = Vec::new();
    let failed = matches!(span.status, Status::Error(_));
    let code = ["http.response.status_code", "rpc.response.status_code", "db.response.status_code"]
        .iter()
        .find_map(|key| span.attributes.get(key))
        .map(|code| clean(&plain(code)));
    if let Some(code) = &code {
        tail.push((code.clone(), if failed { Tone::Bad } else { Tone::Good }));
    }
    if let Status::Error(message) = &span.status {
        let error = span.attributes.get("error.type").map(plain).unwrap_or_default();
        let text = if message.is_empty() { clean(&error) } else { clean(message) };
        match (text.is_empty(), code.as_deref() == Some(text.as_str())) {
            (true, false) if code.is_none() => tail.push(("ERROR".to_owned(), Tone::Bad)),
            (false, false) => tail.push((format!("ERROR {}", shortened(&text, Some(100))), Tone::Bad)),
            _ => {}
        }
    }
    if let Some(order) = order_id(span)
        && row.above_order.and_then(order_id).as_deref() != Some(order.as_str())
    {
        tail.push((format!("order {order}"), Tone::Plain));
    }
    if let Some(evidence) = span.evidence {
        tail.push((format!("[{} {:.2}]", evidence.rule.name(), evidence.confidence.0), Tone::Dim));
    }
    if span.attributes.get("spoor.incomplete").is_some_and(|value| *value != Value::Bool(false)) {
        tail.push(("(incomplete)".to_owned(), Tone::Dim));
    }
    if row.orphan {
        tail.push(("(parent is not here)".to_owned(), Tone::Dim));
    }
    tail
}

fn order_id(span: &Span) -> Option<String> {
    span.attributes.get("order.id").map(|value| clean(&plain(value)))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Texts(texts) => texts.join(", "),
    }
}

fn arrow(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Server | SpanKind::Consumer => "←",
        SpanKind::Client | SpanKind::Producer => "→",
        SpanKind::Internal => "·",
    }
}

/// A span with its place in the tree.
#[derive(Debug)]
struct Row<'a> {
    span: &'a Span,
    /// For each level from the second one to this one, [`MAX_DEPTH`] at most: nothing more follows on it.
    lasts: &'a [bool],
    depth: usize,
    /// The nearest span above that names an order.
    above_order: Option<&'a Span>,
    /// It names a parent that is not among the spans.
    orphan: bool,
}

impl Row<'_> {
    /// The lines in front of it.
    fn guide(&self) -> String {
        let mut guide = String::new();
        if let Some((last, above)) = self.lasts.split_last() {
            above.iter().for_each(|last| guide.push_str(if *last { "   " } else { "│  " }));
            match self.depth > MAX_DEPTH {
                true => guide.push_str(&format!("⋯{} ", self.depth)),
                false => guide.push_str(if *last { "└─ " } else { "├─ " }),
            }
        }
        if self.orphan {
            guide.push_str("┄ ");
        }
        guide
    }
}

/// A span on the way of [`walk`].
struct Step<'a> {
    index: usize,
    depth: usize,
    last: bool,
    above_order: Option<&'a Span>,
}

/// Visits all spans, each after its parent, siblings by start. Takes time and memory by the number of spans, however they hang
/// together.
fn walk<E>(spans: &[Span], mut visit: impl FnMut(&Row<'_>) -> Result<(), E>) -> Result<(), E> {
    let ids: HashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
    let mut children: HashMap<SpanId, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        match span.parent.filter(|parent| ids.contains(parent) && *parent != span.span_id) {
            Some(parent) => children.entry(parent).or_default().push(index),
            None => roots.push(index),
        }
    }
    let by_start = |indices: &mut Vec<usize>| {
        indices.sort_by_key(|index| spans.get(*index).map(|span| (span.start, span.end)));
    };
    by_start(&mut roots);
    children.values_mut().for_each(by_start);

    let mut seen = vec![false; spans.len()];
    let mut lasts = Vec::new();
    // A stack of our own: a chain of spans can be longer than the thread's stack is deep.
    let mut stack: Vec<Step<'_>> = Vec::new();
    // Spans that are each other's ancestors have no root: they are printed like orphans, each once.
    let rest = 0..spans.len();
    for root in roots.into_iter().chain(rest) {
        stack.push(Step { index: root, depth: 0, last: true, above_order: None });
        while let Some(Step { index, depth, last, above_order }) = stack.pop() {
            let (Some(span), Some(seen)) = (spans.get(index), seen.get_mut(index)) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            if depth > 0 {
                lasts.truncate((depth - 1).min(MAX_DEPTH - 1));
                lasts.push(last);
            }
            let drawn = lasts.get(..depth.min(MAX_DEPTH)).unwrap_or_default();
            let orphan = span.parent.is_some_and(|parent| !ids.contains(&parent));
            visit(&Row { span, lasts: drawn, depth, above_order, orphan })?;
            let above_order = if order_id(span).is_some() { Some(span) } else { above_order };
            let below = children.get(&span.span_id).map(Vec::as_slice).unwrap_or_default();
            for (position, child) in below.iter().enumerate().rev() {
                let last = position + 1 == below.len();
                stack.push(Step { index: *child, depth: depth + 1, last, above_order });
            }
        }
    }
    Ok(())
}

/// `182.4 ms`, `0.12 ms`, `3.2 s`, `2 h 5 min`.
fn milliseconds(duration: Duration) -> String {
    let ms = nanoseconds(duration) as f64 / 1e6;
    let seconds = duration.as_secs();
    match seconds {
        _ if duration.is_zero() => "0 ms".to_owned(),
        _ if duration < Duration::from_millis(1) => format!("{ms:.2} ms"),
        0..10 => format!("{ms:.1} ms"),
        10..600 => format!("{:.1} s", ms / 1e3),
        600..36_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `2026-11-20 09:12:33.120 UTC`
fn utc(wall: WallTime) -> String {
    let since_epoch = wall.since(WallTime::ZERO);
    let (date, ms) = (clock::utc(since_epoch), since_epoch.subsec_millis());
    let (hour, minute, second) = (date.hour, date.minute, date.second);
    format!(
        "{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}.{ms:03} UTC",
        date.year, date.month, date.day
    )
}

/// Names come from the traffic: nothing in them may steer the terminal or break the layout.
fn clean(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// The beginning of a text that fits `columns`, marked when it was cut.
fn shortened(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut width = 1;
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        if width > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[derive(Clone, Copy, Debug)]
enum Tone {
    Plain,
    Dim,
    Good,
    Bad,
}

/// ANSI colours, or none.
struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }
}

#[cfg(test)]
mod tests;
