//! What was planned and exported spans → what is missing, invented, joined and wrong.
//!
//! A span is known for an operation by its nonce and its kind. Its nearest ancestor that is known must be what caused it:
//! the request or message that it is a step of, the proxy's own request, the other end of the connection. Spans without a
//! nonce (BEGIN and COMMIT, settlements, the broker's) are only passed on the way up.
//!
//! *Owns* the comparison. *Must not know* how the load was made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::drive::{Kind, Nonce, Planned};
use crate::forest::{CLIENT, CONSUMER, PRODUCER, SERVER, Span};

/// Wrong causes and missing ones that are told in full.
const EXAMPLES: usize = 12;

/// What stands between the client, the application and its servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Between {
    /// Service names of the proxies before the application, the first one first.
    pub proxies: &'static [&'static str],
    /// Service name of what forwards statements.
    pub pooler: Option<&'static str>,
    /// The process that makes the orders.
    pub driver_pid: u64,
    /// Where PostgreSQL listens.
    pub database_port: u16,
}

/// The verdict on one load.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub requests: usize,
    pub messages: usize,
    /// Requests of the application to a service of its own.
    pub calls: usize,
    /// Statements in PostgreSQL's log, and statements of the application that have a span.
    pub logged: usize,
    pub statements: usize,
    /// Ends of requests and messages that have no span, statements that were logged and have none.
    pub missing: usize,
    /// Spans of planned operations beyond the one of each, statements beyond the logged ones.
    pub invented: usize,
    /// Outgoing operations that name the order.
    pub outgoing: usize,
    /// Their parent is what caused them.
    pub joined: usize,
    /// They are in a trace of their own order.
    pub placed: usize,
    /// Their parent is something else, or their trace another order's.
    pub wrong: usize,
    /// Of those that are not joined: what the agent says itself that it cannot know, the text of a statement that was prepared
    /// before it came, or header fields that HTTP/2 named before it came.
    pub unknown: usize,
    /// Other ends of requests and messages: server spans below client spans, deliveries below publishes.
    pub hops: usize,
    pub hops_joined: usize,
    /// Joined ones by rule.
    pub rules: BTreeMap<String, usize>,
    pub examples: Vec<String>,
}

/// A planned operation's end: what, which kind of span, whose.
type Point = (Nonce, u64, Side);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Side {
    Driver,
    /// The proxy of that number.
    Proxy(usize),
    Application,
    Pooler,
}

/// Compares all spans of a run with what was planned for it. `logged`: statements in PostgreSQL's log meanwhile.
pub fn judge(planned: &[Planned], logged: usize, spans: &[Span], between: &Between) -> Verdict {
    let orders: HashMap<&Nonce, u64> =
        planned.iter().map(|planned| (&planned.nonce, planned.order)).collect();
    let of_kind = |kind| planned.iter().filter(|planned| planned.kind == kind).count();
    let mut verdict = Verdict {
        requests: of_kind(Kind::Request),
        messages: of_kind(Kind::Message),
        calls: of_kind(Kind::Call),
        logged,
        ..Verdict::default()
    };
    let points: Vec<Option<Point>> = spans
        .iter()
        .map(|span| point(span, between).filter(|(nonce, ..)| orders.contains_key(nonce)))
        .collect();
    let mut found: HashMap<&Point, Vec<usize>> = HashMap::new();
    for (index, point) in points.iter().enumerate() {
        if let Some(point) = point {
            found.entry(point).or_default().push(index);
        }
    }
    let forest = Forest::new(spans, &points, &orders);
    verdict.count_statements(spans, between);
    let mut unidentified = 0;
    for planned in planned {
        for (point, cause) in ends(planned, between) {
            let of_point = found.get(&point).map_or(&[][..], Vec::as_slice);
            let wanted = if point.1 == CONSUMER { planned.deliveries } else { 1 };
            verdict.invented += of_point.len().saturating_sub(wanted);
            if !of_point.is_empty() {
                verdict.missing += wanted.saturating_sub(of_point.len());
            }
            let is_outgoing = matches!(point.1, CLIENT | PRODUCER) && point.2 != Side::Driver;
            if of_point.is_empty() {
                // Statements are counted as a whole: those whose text is not known have spans, but no nonce.
                unidentified += usize::from(planned.kind == Kind::Statement);
                verdict.missing += if planned.kind == Kind::Statement { 0 } else { wanted };
                verdict.outgoing += usize::from(is_outgoing);
                verdict.hops += usize::from(!is_outgoing && cause.is_some());
                verdict.example(|| format!("there is no span of {point:?}, order {}", planned.order));
                continue;
            }
            let Some(cause) = cause else { continue };
            for index in of_point {
                verdict.edge(is_outgoing, &cause, *index, planned.order, &forest);
            }
        }
    }
    let own_port = |span: &&Span| of_database(span, between);
    let unknown = spans.iter().filter(own_port).filter(|span| span.text("spoor.db.text_unknown").is_some());
    verdict.unknown += unknown.count().min(unidentified);
    verdict
}

/// The ends of one operation that have a span, each with what caused it.
fn ends(planned: &Planned, between: &Between) -> Vec<(Point, Option<Point>)> {
    let nonce = &planned.nonce;
    let own = |kind, side| (nonce.clone(), kind, side);
    match planned.kind {
        Kind::Request => {
            let mut ends = vec![(own(CLIENT, Side::Driver), None)];
            let mut last = own(CLIENT, Side::Driver);
            for number in 0..between.proxies.len() {
                let side = Side::Proxy(number);
                ends.push((own(SERVER, side), Some(last)));
                ends.push((own(CLIENT, side), Some(own(SERVER, side))));
                last = own(CLIENT, side);
            }
            ends.push((own(SERVER, Side::Application), Some(last)));
            ends
        }
        Kind::Statement => {
            let mut ends = vec![(own(CLIENT, Side::Application), served(nonce))];
            if between.pooler.is_some() {
                ends.push((own(CLIENT, Side::Pooler), Some(own(CLIENT, Side::Application))));
            }
            ends
        }
        Kind::Message => {
            let mut ends = vec![(own(PRODUCER, Side::Application), served(nonce))];
            if planned.deliveries > 0 {
                ends.push((own(CONSUMER, Side::Application), Some(own(PRODUCER, Side::Application))));
            }
            ends
        }
        Kind::Call => vec![
            (own(CLIENT, Side::Application), served(nonce)),
            (own(SERVER, Side::Application), Some(own(CLIENT, Side::Application))),
        ],
    }
}

/// The request, call or message that an operation is a step of.
fn served(nonce: &Nonce) -> Option<Point> {
    let cause = nonce.cause()?;
    let kind = if cause.is_message() { CONSUMER } else { SERVER };
    Some((cause, kind, Side::Application))
}

fn point(span: &Span, between: &Between) -> Option<Point> {
    if !matches!(span.kind, SERVER | CLIENT | PRODUCER | CONSUMER) {
        return None;
    }
    // Settlements are of a message too, but are no operation of a plan.
    if span.kind == CLIENT && span.text("messaging.system").is_some() {
        return None;
    }
    let nonce = Nonce::all(&span.text("nonce")?).next()?;
    let proxy = between.proxies.iter().position(|proxy| *proxy == span.service);
    let side = match (span.pid, proxy) {
        (Some(pid), _) if pid == between.driver_pid => Side::Driver,
        (_, Some(number)) => Side::Proxy(number),
        _ if between.pooler == Some(&span.service) => Side::Pooler,
        _ => Side::Application,
    };
    Some((nonce, span.kind, side))
}

/// A statement to this run's PostgreSQL, or to what forwards it.
fn of_database(span: &Span, between: &Between) -> bool {
    let is_statement = span.kind == CLIENT && span.text("db.system.name").as_deref() == Some("postgresql");
    is_statement && span.text("server.port") == Some(between.database_port.to_string())
}

struct Forest<'a> {
    spans: &'a [Span],
    points: &'a [Option<Point>],
    by_id: HashMap<(&'a str, &'a str), usize>,
    /// Orders of the known spans of a trace, by what was planned.
    of_trace: HashMap<&'a str, BTreeSet<u64>>,
}

impl<'a> Forest<'a> {
    fn new(spans: &'a [Span], points: &'a [Option<Point>], orders: &HashMap<&Nonce, u64>) -> Self {
        let mut of_trace: HashMap<&str, BTreeSet<u64>> = HashMap::new();
        for (span, point) in spans.iter().zip(points) {
            if let Some(order) = point.as_ref().and_then(|(nonce, ..)| orders.get(nonce)) {
                of_trace.entry(&span.trace_id).or_default().insert(*order);
            }
        }
        let ids = spans.iter().enumerate();
        let by_id = ids.map(|(at, span)| ((span.trace_id.as_str(), span.span_id.as_str()), at)).collect();
        Self { spans, points, by_id, of_trace }
    }

    /// The nearest span above that is known.
    fn ancestor(&self, index: usize) -> Option<&'a Point> {
        let mut at = &self.spans[index];
        // No tree is this deep; a circle is.
        for _ in 0..64 {
            let index = *self.by_id.get(&(at.trace_id.as_str(), at.parent_id.as_str()))?;
            if let Some(point) = &self.points[index] {
                return Some(point);
            }
            at = &self.spans[index];
        }
        None
    }

    /// `Some(true)`: its trace is its order's; `Some(false)`: another order's, or one of several.
    fn is_placed(&self, index: usize, order: u64) -> Option<bool> {
        let span = &self.spans[index];
        let alone = self.of_trace.get(span.trace_id.as_str()).is_some_and(|orders| orders.len() == 1);
        match span.order() {
            Some(named) => Some(alone && named == order.to_string()),
            None if alone => None,
            None => Some(false),
        }
    }
}

impl Verdict {
    fn count_statements(&mut self, spans: &[Span], between: &Between) {
        let own = spans.iter().filter(|span| of_database(span, between));
        self.statements = own.count();
        self.missing += self.logged.saturating_sub(self.statements);
        self.invented += self.statements.saturating_sub(self.logged);
    }

    fn edge(&mut self, is_outgoing: bool, cause: &Point, index: usize, order: u64, forest: &Forest<'_>) {
        let span = &forest.spans[index];
        let rule = span.text("spoor.parent.rule").unwrap_or_else(|| "none".to_owned());
        let found = forest.ancestor(index);
        let joined = found == Some(cause);
        let placed = forest.is_placed(index, order);
        let wrong = (found.is_some() && !joined) || placed == Some(false);
        if is_outgoing {
            self.outgoing += 1;
            let is_open = !wrong && (!joined || placed.is_none());
            if is_open && span.text("spoor.http2.unknown_fields").is_some() {
                self.unknown += 1;
                return;
            }
            self.joined += usize::from(joined);
            self.placed += usize::from(placed == Some(true));
        } else {
            self.hops += 1;
            self.hops_joined += usize::from(joined);
        }
        self.wrong += usize::from(wrong);
        if joined {
            *self.rules.entry(rule.clone()).or_default() += 1;
        }
        if wrong || !joined {
            self.example(|| {
                let what = span.text("db.query.text").unwrap_or_else(|| span.name.clone());
                let of = span.order();
                format!(
                    "{}: {} {what:?} of order {order} in {of:?}'s trace is below {found:?} by {rule}, caused by {cause:?}",
                    if wrong { "wrong" } else { "left open" },
                    span.service,
                )
            });
        }
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::forest::parse;

    const DRIVER: u64 = 7;
    const REQUEST: &str = "zzbcdfghjklmnp";

    /// A span of order 1 with a nonce: kind, own number, its parent's.
    fn span(kind: u64, pid: u64, id: u64, parent: u64, nonce: &str) -> Value {
        let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        let mut attributes = vec![text("nonce", nonce), text("order.id", "1")];
        if nonce.ends_with("-a") {
            attributes.extend([text("db.system.name", "postgresql"), text("server.port", "5432")]);
        }
        let span = json!({
            "traceId": "0".repeat(32), "spanId": format!("{id:016x}"), "kind": kind, "name": "a span",
            "parentSpanId": if parent == 0 { String::new() } else { format!("{parent:016x}") },
            "startTimeUnixNano": "1", "endTimeUnixNano": "2", "attributes": attributes,
        });
        let process = json!({ "key": "process.pid", "value": { "intValue": pid.to_string() } });
        json!({ "resourceSpans": [{
            "resource": { "attributes": [process] }, "scopeSpans": [{ "spans": [span] }],
        }] })
    }

    /// One request with one statement, which PostgreSQL has logged.
    fn verdict(spans: &[Value]) -> Verdict {
        let lines: String = spans.iter().map(|span| format!("{span}\n")).collect();
        let planned = |nonce, kind| Planned { nonce, kind, order: 1, deliveries: 0 };
        let request = Nonce(REQUEST.to_owned());
        let all = [planned(request.step('a'), Kind::Statement), planned(request, Kind::Request)];
        let between = Between { driver_pid: DRIVER, database_port: 5432, ..Between::default() };
        judge(&all, 1, &parse(&lines).expect("OTLP/JSON"), &between)
    }

    #[test]
    fn a_statement_belongs_below_its_own_request() {
        let step = format!("{REQUEST}-a");
        let (client, server) = (span(CLIENT, DRIVER, 1, 0, REQUEST), span(SERVER, 8, 2, 1, REQUEST));
        let of = |spans: &[Value]| {
            let verdict = verdict(spans);
            (verdict.missing, verdict.invented, verdict.joined, verdict.wrong)
        };
        let below = |parent| span(CLIENT, 8, 3, parent, &step);
        assert_eq!(of(&[client.clone(), server.clone(), below(2)]), (0, 0, 1, 0));
        assert_eq!(of(&[client.clone(), server.clone(), below(0)]), (0, 0, 0, 0), "left open");
        assert_eq!(of(&[client.clone(), server.clone(), below(1)]), (0, 0, 0, 1), "below the client's span");
        assert_eq!(of(&[client.clone(), server.clone()]), (1, 0, 0, 0), "no span of the statement");
        assert_eq!(of(&[client.clone(), below(0)]), (1, 0, 0, 0), "no span of the server");
        let twice = span(CLIENT, 8, 4, 2, &step);
        let (_, invented, ..) = of(&[client, server, below(2), twice]);
        assert!(invented > 0, "two spans of one statement");
    }
}
