//! Truth entries and exported spans → what is missing, misplaced or too much.
//!
//! An entry and a span match when process, kind and facts agree and their times overlap. Entries and spans are assigned to
//! each other one to one, as many as possible, first within the same order; what is left then tells the difference.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::sql::shape;
use super::{Entry, Fact};
use crate::forest::{CLIENT, CONSUMER, PRODUCER, SERVER, Span};

/// How far the clocks of a service and of the agent may be apart, with the service's own work around the operation.
const TOLERANCE_NS: u64 = 20_000_000;

/// Entries that say what a process' clock is.
const MIN_CERTAIN: usize = 8;

/// What the comparison found. Empty lists are what one wants to see.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Entries of orders, and how many of them have a span in their order.
    pub of_orders: usize,
    pub found: usize,
    /// Entries without a span.
    pub missing: Vec<String>,
    /// Entries whose span names another order or none, or is for no order and names one.
    pub misplaced: Vec<String>,
    /// Entries whose span says that it is incomplete, and has no answer: of a TLS connection of which one direction was opened, say.
    pub incomplete: Vec<String>,
    /// Spans of the services without an entry, which look whole.
    pub extra: Vec<String>,
    /// The same of such that say themselves that they have no answer.
    pub doubtful: Vec<String>,
    /// Orders with spans in several traces, and traces with several orders.
    pub scattered: Vec<String>,
    pub edges: Edges,
}

/// Parents of spans against the causes in the logs.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    pub correct: usize,
    /// Spans without a parent that should have one.
    pub orphans: Vec<String>,
    /// Spans with a parent that did not cause them.
    pub wrong: Vec<String>,
}

impl Report {
    /// Every operation of every order is a span of that order's one trace, and no more parents are wrong than the design
    /// allows: one in a thousand.
    pub fn is_complete(&self) -> bool {
        let unsure = [&self.incomplete, &self.doubtful];
        let lists = [&self.missing, &self.misplaced, &self.extra, &self.scattered].into_iter().chain(unsure);
        let wrong = self.edges.wrong.len();
        let judged = wrong + self.edges.correct + self.edges.orphans.len();
        lists.into_iter().all(Vec::is_empty) && wrong * 1000 <= judged
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edges = &self.edges;
        writeln!(
            f,
            "{} of {} operations of orders are spans in their order's trace",
            self.found, self.of_orders
        )?;
        writeln!(
            f,
            "parents: {} correct, {} without, {} wrong",
            edges.correct,
            edges.orphans.len(),
            edges.wrong.len()
        )?;
        let lists = [
            ("without a span", &self.missing),
            ("in the wrong place", &self.misplaced),
            ("with a span that says that it is incomplete", &self.incomplete),
            ("without an operation", &self.extra),
            ("without an operation, which say that they have no answer", &self.doubtful),
            ("scattered", &self.scattered),
            ("with a wrong parent", &edges.wrong),
            ("without their parent", &edges.orphans),
        ];
        for (what, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            writeln!(f, "{} {what}:", list.len())?;
            for line in list.iter().take(12) {
                writeln!(f, "  {line}")?;
            }
            if list.len() > 12 {
                writeln!(f, "  … and {} more", list.len() - 12)?;
            }
        }
        Ok(())
    }
}

/// Compares what happened from `since_ns` (Unix) on: the agent was ready then.
pub fn compare(entries: &[Entry], spans: &[Span], since_ns: u64) -> Report {
    let entries: Vec<&Entry> = entries.iter().filter(|entry| entry.start_ns >= since_ns).collect();
    let mut matching = Matching::new(&entries, spans);
    matching.assign(|entry, span| !is_unanswered(span) && entry.order == span.order());
    let placed = matching.of_entry.clone();
    matching.assign(|_, span| !is_unanswered(span));
    // What is only likely is no evidence of causes.
    let edges = edges(&entries, spans, &matching);
    let whole = matching.of_entry.clone();
    matching.assign(|_, _| true);

    let mut report = Report {
        of_orders: entries.iter().filter(|entry| entry.order.is_some()).count(),
        edges,
        ..Report::default()
    };
    for (index, entry) in entries.iter().enumerate() {
        match (placed[index], whole[index]) {
            (Some(_), _) => report.found += usize::from(entry.order.is_some()),
            (None, None) if matching.of_entry[index].is_some() => report.incomplete.push(entry.describe()),
            (None, None) if entry.order.is_some() => report.missing.push(entry.describe()),
            // Work for no order may be left out of sight: nothing is promised about it but that it is in no order's trace.
            (None, None) => {}
            (None, Some(span)) => {
                let order =
                    spans[span].order().map_or("no order".to_owned(), |order| format!("order {order}"));
                let rule =
                    spans[span].text("spoor.parent.rule").map_or(String::new(), |rule| format!(" by {rule}"));
                report.misplaced.push(format!("{}: its span is in {order}{rule}", entry.describe()));
            }
        }
    }
    let services: BTreeSet<u64> = entries.iter().map(|entry| entry.pid).collect();
    for (index, span) in spans.iter().enumerate() {
        let of_service = span.pid.is_some_and(|pid| services.contains(&pid));
        if of_service
            && span.start_ns >= since_ns
            && matching.of_span[index].is_none()
            && !is_housekeeping(span)
        {
            let (from, to) = (ms(span.start_ns, since_ns), ms(span.end_ns, since_ns));
            let facts: Vec<String> = ["http.response.status_code", "spoor.incomplete"]
                .into_iter()
                .filter_map(|key| Some(format!(", {key} {}", span.text(key)?)))
                .collect();
            let list = if is_unanswered(span) { &mut report.doubtful } else { &mut report.extra };
            list.push(format!(
                "{} {} of order {:?}, {from} to {to} ms{}",
                span.service,
                span.name,
                span.order(),
                facts.concat()
            ));
        }
    }
    scattered(spans, &mut report);
    report
}

/// Which entry and which span belong together, by index.
struct Matching<'a> {
    entries: &'a [&'a Entry],
    spans: &'a [Span],
    /// Spans that could be an entry's.
    candidates: Vec<Vec<usize>>,
    of_entry: Vec<Option<usize>>,
    of_span: Vec<Option<usize>>,
}

impl<'a> Matching<'a> {
    fn new(entries: &'a [&'a Entry], spans: &'a [Span]) -> Self {
        let mut by_key: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
        for (index, span) in spans.iter().enumerate() {
            by_key.entry((span.pid.unwrap_or(0), span.kind)).or_default().push(index);
        }
        let fitting = |entry: &&Entry| -> Vec<usize> {
            let close = by_key.get(&(entry.pid, kind(entry))).into_iter().flatten();
            close.copied().filter(|index| fits(entry, &spans[*index])).collect()
        };
        let mut candidates: Vec<Vec<usize>> = entries.iter().map(fitting).collect();
        let ahead = ahead(entries, spans, &candidates);
        for (entry, fitting) in entries.iter().zip(&mut candidates) {
            let ahead = ahead.get(&entry.pid).copied().unwrap_or_default();
            fitting.sort_by_key(|index| distance(entry, ahead, &spans[*index]));
        }
        Self {
            entries,
            spans,
            candidates,
            of_entry: vec![None; entries.len()],
            of_span: vec![None; spans.len()],
        }
    }

    /// Assigns as many entries as possible to spans that `may` be theirs. What was assigned before stays.
    fn assign(&mut self, may: impl Fn(&Entry, &Span) -> bool) {
        let fixed = self.of_span.clone();
        for entry in 0..self.entries.len() {
            if self.of_entry[entry].is_none() {
                let mut tried = BTreeSet::new();
                self.augment(entry, &may, &fixed, &mut tried);
            }
        }
    }

    /// Finds a span for the entry, moving others along if need be (augmenting paths).
    fn augment(
        &mut self,
        entry: usize,
        may: &impl Fn(&Entry, &Span) -> bool,
        fixed: &[Option<usize>],
        tried: &mut BTreeSet<usize>,
    ) -> bool {
        let usable: Vec<usize> = self.candidates[entry]
            .iter()
            .copied()
            .filter(|span| fixed[*span].is_none() && may(self.entries[entry], &self.spans[*span]))
            .collect();
        // The closest free one; only where there is none, another entry has to move.
        let free = usable.iter().copied().find(|span| self.of_span[*span].is_none());
        let span = free.or_else(|| {
            usable.into_iter().find(|span| {
                let other = self.of_span[*span];
                tried.insert(*span) && other.is_some_and(|other| self.augment(other, may, fixed, tried))
            })
        });
        if let Some(span) = span {
            self.of_span[span] = Some(entry);
            self.of_entry[entry] = Some(span);
        }
        span.is_some()
    }
}

/// How badly the times agree: by how much the inner one of the two is outside the other, then by their starts. What a
/// service asks of others happens within its own account; what it serves is longer than that.
fn distance(entry: &Entry, ahead: i64, span: &Span) -> (u64, u64) {
    let [start, end] = [entry.start_ns, entry.end_ns].map(|at| at.saturating_add_signed(-ahead));
    let (inner, outer) = ((span.start_ns, span.end_ns), (start, end));
    let (inner, outer) = match entry.fact {
        Fact::Served { .. } | Fact::Delivered { .. } => (outer, inner),
        Fact::Called { .. } | Fact::Statement { .. } | Fact::Published { .. } => (inner, outer),
    };
    let outside = outer.0.saturating_sub(inner.0) + inner.1.saturating_sub(outer.1);
    (outside, span.start_ns.abs_diff(start))
}

/// By how much the clock of each process is ahead of the agent's, in nanoseconds: the median of entries that can be one span only.
/// Node.js sets its clock once, at its start, and 3.5 ms off are enough to mistake one of two equal requests for the other.
fn ahead(entries: &[&Entry], spans: &[Span], candidates: &[Vec<usize>]) -> HashMap<u64, i64> {
    let mut all: HashMap<u64, Vec<i64>> = HashMap::new();
    for (entry, fitting) in entries.iter().zip(candidates) {
        if let [span] = fitting.as_slice() {
            all.entry(entry.pid).or_default().push(entry.start_ns as i64 - spans[*span].start_ns as i64);
        }
    }
    let median = |(pid, mut ahead): (u64, Vec<i64>)| {
        let half = ahead.len() / 2;
        (ahead.len() >= MIN_CERTAIN).then(|| (pid, *ahead.select_nth_unstable(half).1))
    };
    all.into_iter().filter_map(median).collect()
}

fn kind(entry: &Entry) -> u64 {
    match entry.fact {
        Fact::Served { .. } => SERVER,
        Fact::Called { .. } | Fact::Statement { .. } => CLIENT,
        Fact::Published { .. } => PRODUCER,
        Fact::Delivered { .. } => CONSUMER,
    }
}

/// The span could be this operation; orders are not looked at.
fn fits(entry: &Entry, span: &Span) -> bool {
    let overlaps =
        span.start_ns <= entry.end_ns + TOLERANCE_NS && entry.start_ns <= span.end_ns + TOLERANCE_NS;
    overlaps && fits_facts(&entry.fact, span)
}

fn fits_facts(fact: &Fact, span: &Span) -> bool {
    let is = |key: &str, value: &str| span.text(key).as_deref() == Some(value);
    match fact {
        Fact::Served { method, path, status } => {
            is("http.request.method", method)
                && is("url.path", path)
                && (is("http.response.status_code", &status.to_string()) || is_unanswered(span))
        }
        Fact::Called { method, path, status } => {
            is("http.request.method", method)
                && span.text("url.full").is_some_and(|url| path_of(&url) == path)
                && (is("http.response.status_code", &status.to_string()) || is_unanswered(span))
        }
        Fact::Statement { text, error } => {
            is("db.system.name", "postgresql")
                && span.text("db.response.status_code") == *error
                // A statement prepared before the agent started has no text.
                && span.text("db.query.text").is_none_or(|seen| shape(&seen) == shape(text))
        }
        Fact::Published { exchange, routing_key, .. } => {
            is("messaging.operation.type", "send")
                && is("messaging.rabbitmq.destination.routing_key", routing_key)
                && is("messaging.destination.name", &format!("{exchange}:{routing_key}"))
        }
        Fact::Delivered { exchange, routing_key, queue, .. } => {
            let name = span.text("messaging.destination.name").unwrap_or_default();
            let (short, long) =
                (format!("{exchange}:{routing_key}"), format!("{exchange}:{routing_key}:{queue}"));
            // The queue's name is not on the wire of a subscription older than the agent.
            is("messaging.operation.type", "process") && (name == short || name == long)
        }
    }
}

fn ms(at: u64, since: u64) -> u64 {
    at.saturating_sub(since) / 1_000_000
}

/// A request of which the agent says itself that it did not see the answer.
fn is_unanswered(span: &Span) -> bool {
    span.text("spoor.incomplete").is_some()
        && span.text("http.request.method").is_some()
        && span.text("http.response.status_code").is_none()
}

fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    path.split('?').next().unwrap_or(path)
}

/// What drivers do on their own: session settings, declarations, settlements. They have no entry and belong to no order,
/// except settlements, which belong to the message's.
fn is_housekeeping(span: &Span) -> bool {
    let settles = span.text("messaging.operation.type").as_deref() == Some("settle");
    let is_method = span.text("messaging.system").is_some() && !matches!(span.kind, PRODUCER | CONSUMER);
    let query = span.text("db.query.text").unwrap_or_default();
    let is_session = span.text("db.system.name").is_some() && (query.starts_with("SET ") || query.is_empty());
    settles || (span.order().is_none() && (is_method || is_session))
}

fn scattered(spans: &[Span], report: &mut Report) {
    let mut traces: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut orders: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for span in spans {
        let order = span.order();
        if let Some(order) = &order {
            traces.entry(order.clone()).or_default().insert(&span.trace_id);
        }
        orders.entry(&span.trace_id).or_default().insert(order.unwrap_or_else(|| "none".to_owned()));
    }
    let split = traces.into_iter().filter(|(_, traces)| traces.len() > 1);
    report
        .scattered
        .extend(split.map(|(order, traces)| format!("order {order} is in {} traces", traces.len())));
    let mixed = orders.into_iter().filter(|(_, orders)| orders.len() > 1);
    report.scattered.extend(mixed.map(|(trace, orders)| format!("trace {trace} has the orders {orders:?}")));
}

/// The nearest ancestor that is an operation of the logs must be what caused the operation there.
fn edges(entries: &[&Entry], spans: &[Span], matching: &Matching<'_>) -> Edges {
    let mut edges = Edges::default();
    let by_id: HashMap<(&str, &str), usize> = spans
        .iter()
        .enumerate()
        .map(|(index, span)| ((span.trace_id.as_str(), span.span_id.as_str()), index))
        .collect();
    let causes = Causes::new(entries);
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.order.is_some()) {
        let (Some(span), Some(cause)) = (matching.of_entry[index], causes.of(entry)) else { continue };
        let ancestor = ancestor(&spans[span], spans, &by_id, &matching.of_span);
        let found = ancestor.map(|ancestor| entries[ancestor]);
        match found {
            Some(found) if found.nonce == cause.nonce => edges.correct += 1,
            Some(found) => {
                let rule = spans[span].text("spoor.parent.rule").unwrap_or_default();
                let line = format!(
                    "{}: below {} by {rule}, caused by {}",
                    entry.describe(),
                    found.describe(),
                    cause.describe()
                );
                edges.wrong.push(line);
            }
            None => edges.orphans.push(format!("{}, caused by {}", entry.describe(), cause.describe())),
        }
    }
    edges
}

/// The nearest span above that has an entry: that entry.
fn ancestor(
    span: &Span,
    spans: &[Span],
    by_id: &HashMap<(&str, &str), usize>,
    of_span: &[Option<usize>],
) -> Option<usize> {
    let mut at = span;
    // No tree is this deep; a circle is.
    for _ in 0..64 {
        let index = *by_id.get(&(at.trace_id.as_str(), at.parent_id.as_str()))?;
        if let Some(entry) = of_span[index] {
            return Some(entry);
        }
        at = &spans[index];
    }
    None
}

/// What caused what: within a service by its log, between services by what only one of them can have sent.
struct Causes<'a> {
    by_nonce: HashMap<&'a str, &'a Entry>,
    calls: HashMap<(&'a str, &'a str), Vec<&'a Entry>>,
    publishes: HashMap<&'a str, &'a Entry>,
}

impl<'a> Causes<'a> {
    fn new(entries: &[&'a Entry]) -> Self {
        let mut causes = Self { by_nonce: HashMap::new(), calls: HashMap::new(), publishes: HashMap::new() };
        for entry in entries {
            causes.by_nonce.insert(&entry.nonce, entry);
            match &entry.fact {
                Fact::Called { method, path, .. } => {
                    causes.calls.entry((method, path)).or_default().push(entry)
                }
                Fact::Published { body, .. } => {
                    causes.publishes.insert(body, entry);
                }
                _ => {}
            }
        }
        causes
    }

    fn of(&self, entry: &Entry) -> Option<&'a Entry> {
        if let Some(cause) = &entry.cause {
            return self.by_nonce.get(cause.as_str()).copied();
        }
        match &entry.fact {
            Fact::Served { method, path, .. } => {
                let calls = self.calls.get(&(method.as_str(), path.as_str()))?;
                let around = |call: &&&Entry| {
                    call.order == entry.order
                        && call.start_ns <= entry.start_ns + TOLERANCE_NS
                        && entry.start_ns <= call.end_ns + TOLERANCE_NS
                };
                // The call that began just before; of several at the same time nothing is known.
                let mut around = calls.iter().filter(around);
                match (around.next(), around.next()) {
                    (Some(only), None) => Some(*only),
                    _ => None,
                }
            }
            Fact::Delivered { body, .. } => self.publishes.get(body.as_str()).copied(),
            _ => None,
        }
    }
}
