//! Plans, the service's log and exported spans → correct, missing and wrong causes.
//!
//! A span is known for an operation by its nonce, its kind and the process it is of. Its nearest ancestor that is known
//! must be the operation that caused it. Spans without a nonce (settlements, BEGIN and COMMIT) are not judged, only passed
//! on the way up.
//!
//! *Owns* the comparison. *Must not know* runtimes, how the load was made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::plan::{Kind, Nonce, Planned};
use crate::forest::{CLIENT, CONSUMER, PRODUCER, SERVER, Span};

/// Wrong causes and places that are told in full.
const EXAMPLES: usize = 40;

/// A request that was answered so recently may still be worked on.
const JUST_NS: u64 = 1_000_000_000;

/// Who did an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Driver,
    Proxy,
    Service,
    Backend,
}

/// What spans are of which side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sides {
    pub driver_pid: u64,
    pub backend_pid: u64,
    /// The proxy's service name.
    pub proxy: Option<String>,
}

/// What is known of a cause from the operation's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It and its cause name the order, and nothing else of that order was in flight in the process, or had just been.
    Keyed,
    /// It names the order, of which the process worked on several requests at the time, or had just answered another.
    Twin,
    /// It or its cause does not name the order.
    Plain,
    /// It does not name the order and was done together with others, handed to other threads where there are any.
    Parallel,
    /// It began after its request had been answered.
    After,
    /// A proxy's request to the service.
    Proxied,
    /// The other end of a connection, or a message's way.
    Wire,
    /// The same of what does not name the order: two agents that share nothing cannot know.
    Unnamed,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Keyed => "keyed",
            Class::Twin => "twin",
            Class::Plain => "plain",
            Class::Parallel => "parallel",
            Class::After => "after",
            Class::Proxied => "proxied",
            Class::Wire => "wire",
            Class::Unnamed => "unnamed",
        }
    }
}

/// Causes found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub correct: usize,
    pub missing: usize,
    pub wrong: usize,
}

impl Tally {
    pub fn sum(self) -> usize {
        self.correct + self.missing + self.wrong
    }

    pub fn add(&mut self, other: Tally) {
        self.correct += other.correct;
        self.missing += other.missing;
        self.wrong += other.wrong;
    }
}

/// Spans by the order they name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The right order, or none where there is none.
    pub right: usize,
    pub none: usize,
    pub wrong: usize,
}

/// The verdict on one load.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub requests: usize,
    /// Operations that the service did, and how many of their ends have a span.
    pub expected: usize,
    pub seen: usize,
    pub edges: BTreeMap<Class, Tally>,
    /// Edges by rule; missing ones have none.
    pub rules: BTreeMap<String, Tally>,
    pub places: Places,
    /// What is wrong, for people.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Edges inside the process under test: the ones that have to be inferred.
    pub fn inferred(&self) -> Tally {
        let mut sum = Tally::default();
        let is_inferred = |class: &Class| !matches!(class, Class::Wire | Class::Unnamed);
        self.edges.iter().filter(|(class, _)| is_inferred(class)).for_each(|(_, tally)| sum.add(*tally));
        sum
    }

    /// All edges.
    pub fn all(&self) -> Tally {
        let mut sum = Tally::default();
        self.edges.values().for_each(|tally| sum.add(*tally));
        sum
    }

    pub fn of(&self, class: Class) -> Tally {
        self.edges.get(&class).copied().unwrap_or_default()
    }
}

/// What the service says it did: each operation's cause. Fails where something went wrong in it.
pub fn read_log(text: &str) -> Result<HashMap<Nonce, Nonce>> {
    let mut done = HashMap::new();
    for line in text.lines() {
        let Some((nonce, cause)) = line.split_once(' ').filter(|(nonce, _)| *nonce != "!") else {
            bail!("the service failed: {line}");
        };
        done.insert(Nonce(nonce.to_owned()), Nonce(cause.to_owned()));
    }
    Ok(done)
}

/// What was planned and has not been done yet.
pub fn undone(planned: &[Planned], done: &HashMap<Nonce, Nonce>) -> usize {
    planned.iter().filter(|planned| !done.contains_key(&planned.nonce)).count()
}

type Point = (Nonce, Side, u64);

/// Compares all spans of a run with what was planned and done for one load.
pub fn judge(
    planned: &[Planned],
    done: &HashMap<Nonce, Nonce>,
    spans: &[Span],
    sides: &Sides,
) -> Result<Verdict> {
    let truth: HashMap<&Nonce, &Planned> = planned.iter().map(|planned| (&planned.nonce, planned)).collect();
    for (nonce, planned) in &truth {
        let cause = done.get(*nonce).context("an operation was not done")?;
        let agrees =
            planned.cause.as_ref().is_none_or(|planned| planned == cause || planned_is_message(cause, nonce));
        if !agrees {
            bail!("{nonce:?} was done for {cause:?} and planned for {:?}", planned.cause);
        }
    }
    let mut verdict = Verdict {
        requests: planned.iter().filter(|planned| planned.kind == Kind::Request).count(),
        ..Verdict::default()
    };
    let mut points: HashMap<Point, usize> = HashMap::new();
    let mut of_span: Vec<Option<Point>> = Vec::with_capacity(spans.len());
    let mut by_id: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, span) in spans.iter().enumerate() {
        by_id.insert((&span.trace_id, &span.span_id), index);
        let point = point(span, sides).filter(|(nonce, ..)| truth.contains_key(nonce));
        if let Some(point) = &point {
            points.insert(point.clone(), index);
        }
        of_span.push(point);
    }
    let work = Work::new(&points, spans, &truth);
    for planned in planned {
        for (kind, side, cause) in ends(planned, sides.proxy.is_some()) {
            verdict.expected += 1;
            let point = (planned.nonce.clone(), side, kind);
            let Some(&index) = points.get(&point) else { continue };
            verdict.seen += 1;
            let span = &spans[index];
            verdict.place(planned, span);
            let ancestor = ancestor(span, spans, &by_id, &of_span);
            let class = work.class(planned, side, kind, span);
            verdict.edge(class, cause, ancestor, span, planned);
        }
    }
    verdict.check_traces(spans, &of_span, &truth);
    Ok(verdict)
}

/// The log gives a message itself as the cause of its own handling.
fn planned_is_message(cause: &Nonce, nonce: &Nonce) -> bool {
    cause == nonce
}

/// The ends of one operation that have a span: kind, side, and the end that caused it.
fn ends(planned: &Planned, proxied: bool) -> Vec<(u64, Side, Option<Point>)> {
    let own = |side, kind| Some((planned.nonce.clone(), side, kind));
    // Work is caused by a request, which the service sees as a server, or by a message.
    let cause = |kind| planned.cause.clone().map(|cause| (cause, Side::Service, kind));
    match planned.kind {
        Kind::Request if proxied => vec![
            (CLIENT, Side::Driver, None),
            (SERVER, Side::Proxy, own(Side::Driver, CLIENT)),
            (CLIENT, Side::Proxy, own(Side::Proxy, SERVER)),
            (SERVER, Side::Service, own(Side::Proxy, CLIENT)),
        ],
        Kind::Request => {
            vec![(CLIENT, Side::Driver, None), (SERVER, Side::Service, own(Side::Driver, CLIENT))]
        }
        Kind::Http => {
            vec![(CLIENT, Side::Service, cause(SERVER)), (SERVER, Side::Backend, own(Side::Service, CLIENT))]
        }
        Kind::Sql => vec![(CLIENT, Side::Service, cause(SERVER))],
        Kind::Publish => vec![
            (PRODUCER, Side::Service, cause(SERVER)),
            (CONSUMER, Side::Service, own(Side::Service, PRODUCER)),
        ],
    }
}

fn point(span: &Span, sides: &Sides) -> Option<Point> {
    if !matches!(span.kind, SERVER | CLIENT | PRODUCER | CONSUMER) {
        return None;
    }
    // Settlements are of a message too, but are no operation of a plan.
    if span.kind == CLIENT && span.text("messaging.system").is_some() {
        return None;
    }
    const PLACES: [&str; 4] =
        ["url.path", "url.full", "db.query.text", "messaging.rabbitmq.destination.routing_key"];
    let nonce = PLACES.iter().find_map(|place| Nonce::find(&span.text(place)?))?;
    let side = match span.pid {
        Some(pid) if pid == sides.driver_pid => Side::Driver,
        Some(pid) if pid == sides.backend_pid => Side::Backend,
        _ if sides.proxy.as_ref() == Some(&span.service) => Side::Proxy,
        _ => Side::Service,
    };
    Some((nonce, side, span.kind))
}

/// The nearest span above that is known.
fn ancestor<'a>(
    span: &Span,
    spans: &[Span],
    by_id: &HashMap<(&str, &str), usize>,
    of_span: &'a [Option<Point>],
) -> Option<&'a Point> {
    let mut at = span;
    // No tree is this deep; a circle is.
    for _ in 0..64 {
        let index = *by_id.get(&(at.trace_id.as_str(), at.parent_id.as_str()))?;
        if let Some(point) = &of_span[index] {
            return Some(point);
        }
        at = &spans[index];
    }
    None
}

impl Verdict {
    fn place(&mut self, planned: &Planned, span: &Span) {
        let named = span.order();
        let truth = planned.order.map(|order| order.to_string());
        match (&named, &truth) {
            (named, truth) if named == truth => self.places.right += 1,
            (None, Some(_)) => self.places.none += 1,
            _ => {
                self.places.wrong += 1;
                self.example(format!("{} of order {truth:?} is in {named:?}'s trace", described(span)));
            }
        }
    }

    fn edge(
        &mut self,
        class: Class,
        cause: Option<Point>,
        found: Option<&Point>,
        span: &Span,
        planned: &Planned,
    ) {
        let rule = span.text("spoor.parent.rule").unwrap_or_else(|| "none".to_owned());
        let mut tally = Tally::default();
        match (&cause, found) {
            // Nothing caused the driver's requests.
            (None, None) => return,
            (Some(cause), Some(found)) if same_cause(cause, found) => tally.correct = 1,
            (Some(cause), None) => {
                tally.missing = 1;
                // Both ends were seen: there is nothing to infer.
                if class == Class::Wire {
                    self.example(format!(
                        "{} {} of {:?} is not below {cause:?}: its parent is `{}`",
                        described(span),
                        span.text("url.full").or_else(|| span.text("url.path")).unwrap_or_default(),
                        planned.order,
                        span.parent_id,
                    ));
                }
            }
            (_, Some(found)) => {
                tally.wrong = 1;
                self.example(format!(
                    "{} ({}) of {:?} is below {found:?} by {rule} ({}), caused by {cause:?}",
                    described(span),
                    class.name(),
                    planned.order,
                    span.text("spoor.parent.confidence").unwrap_or_default(),
                ));
            }
        }
        self.edges.entry(class).or_default().add(tally);
        self.rules.entry(rule).or_default().add(tally);
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text);
        }
    }

    /// A trace has spans of one order only, whatever the spans say of themselves.
    fn check_traces(&mut self, spans: &[Span], of_span: &[Option<Point>], truth: &HashMap<&Nonce, &Planned>) {
        let mut orders: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (span, point) in spans.iter().zip(of_span) {
            if let Some((nonce, ..)) = point
                && let Some(order) = truth.get(nonce).and_then(|planned| planned.order)
            {
                orders.entry(&span.trace_id).or_default().insert(order);
            }
        }
        for (trace, orders) in orders.into_iter().filter(|(_, orders)| orders.len() > 1) {
            self.places.wrong += 1;
            self.example(format!("trace {trace} has spans of the orders {orders:?}"));
        }
    }
}

/// The cause is a request or a message: the plan does not say which.
fn same_cause(cause: &Point, found: &Point) -> bool {
    let serves = |kind| matches!(kind, SERVER | CONSUMER);
    cause.0 == found.0 && cause.1 == found.1 && (cause.2 == found.2 || (serves(cause.2) && serves(found.2)))
}

fn described(span: &Span) -> String {
    format!(
        "{} {} {}",
        span.service,
        span.kind,
        span.text("db.query.text").unwrap_or_else(|| span.name.clone())
    )
}

/// Start and end, Unix nanoseconds.
type Interval = (u64, u64);

/// What the service had in flight, by order.
struct Work {
    /// Requests and messages whose own bytes name their order.
    named: HashSet<Nonce>,
    /// By order and process.
    by_order: HashMap<(u64, Option<u64>), Vec<Interval>>,
    by_nonce: HashMap<Nonce, Interval>,
}

impl Work {
    fn new(points: &HashMap<Point, usize>, spans: &[Span], truth: &HashMap<&Nonce, &Planned>) -> Self {
        let named = truth.values().filter(|planned| planned.carries).map(|planned| planned.nonce.clone());
        let mut work = Self { named: named.collect(), by_order: HashMap::new(), by_nonce: HashMap::new() };
        let serving = points
            .iter()
            .filter(|((_, side, kind), _)| *side == Side::Service && matches!(*kind, SERVER | CONSUMER));
        for ((nonce, _, kind), &index) in serving {
            let mut time = (spans[index].start_ns, spans[index].end_ns);
            // A message that has been delivered and waits in the service counts too.
            if *kind == CONSUMER
                && let Some(&publish) = points.get(&(nonce.clone(), Side::Service, PRODUCER))
            {
                time.0 = spans[publish].start_ns;
            }
            work.by_nonce.insert(nonce.clone(), time);
            if let Some(order) = truth.get(nonce).and_then(|planned| planned.order) {
                work.by_order.entry((order, spans[index].pid)).or_default().push(time);
            }
        }
        work
    }

    fn is_named(&self, planned: &Planned) -> bool {
        planned.cause.as_ref().is_some_and(|cause| self.named.contains(cause))
    }

    fn class(&self, planned: &Planned, side: Side, kind: u64, span: &Span) -> Class {
        match (side, kind) {
            (Side::Proxy, CLIENT) => return Class::Proxied,
            (Side::Service, CLIENT | PRODUCER) => {}
            _ if planned.carries => return Class::Wire,
            _ => return Class::Unnamed,
        }
        let at = span.start_ns;
        let cause = planned.cause.as_ref().and_then(|cause| self.by_nonce.get(cause));
        if cause.is_some_and(|(_, end)| *end < at) {
            return Class::After;
        }
        let Some(order) = planned.order.filter(|_| planned.carries && self.is_named(planned)) else {
            return if planned.together { Class::Parallel } else { Class::Plain };
        };
        let in_flight = self.by_order.get(&(order, span.pid)).into_iter().flatten();
        let count = in_flight.filter(|(start, end)| (*start..=end + JUST_NS).contains(&at)).count();
        if count > 1 { Class::Twin } else { Class::Keyed }
    }
}

#[cfg(test)]
mod tests;
