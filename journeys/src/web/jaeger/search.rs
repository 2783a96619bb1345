//! What is looked for → traces, names and dependencies: one walk over what is kept, bounded in time and in amount.
//!
//! A walk goes from what was heard of last to what is older and ends when it has enough or its time is over; which of the two
//! it was is said. Span counts, names and dependencies are those of operations that belong to orders: others are not kept.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::query::Wanted;
use super::span::{Kind, kind};
use crate::facts::{At, Fact, FactId};
use crate::store::{Look, Store, StoreError, Trace, TraceId};

/// One question may take so long: Jaeger's page gives up after ten seconds. A walk looks at some three thousand orders of seventy
/// operations a second (0.85 s for 2,406 of the demo's, with a load of eight on two processors).
const BUDGET: Duration = Duration::from_secs(2);
/// Names of operations come from so many orders, those last heard of; a service has at most so many names.
const ORDERS_FOR_NAMES: usize = 1_000;
const MAX_NAMES: usize = 1_000;
/// Dependencies come from so many orders, and there are at most so many of them.
const ORDERS_FOR_DEPENDENCIES: usize = 10_000;
const MAX_DEPENDENCIES: usize = 1_000;

/// What was found, and whether that is all there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Found<T> {
    pub(super) what: T,
    pub(super) all: bool,
}

/// When it has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn from_now() -> Self {
        Self(Instant::now() + BUDGET)
    }

    #[cfg(test)]
    pub(super) fn over() -> Self {
        Self(Instant::now())
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Traces with an operation that is what is looked for, the latest first. What is wanted of each is made of it when it is read,
/// so that no more of them are held at a time than have `most` operations together.
pub(super) fn traces<T>(
    store: &dyn Store,
    wanted: &Wanted,
    people: bool,
    (now, deadline): (At, Deadline),
    most: usize,
    make: impl Fn(TraceId, Trace) -> T,
) -> Result<Found<Vec<T>>, StoreError> {
    let mut search =
        Search { wanted, people, deadline, found: Vec::new(), seen: BTreeSet::new(), late: false };
    // Who names an order is not shown others on the way, and does not wait for them.
    let orders = wanted.key().map(|key| store.find(&key)).transpose()?.unwrap_or_default();
    for order in &orders {
        search.see(store.order(*order, now)?.map(|order| order.facts).unwrap_or_default());
    }
    if orders.is_empty() {
        store.walk(wanted.from, wanted.to, &mut search)?;
    }
    let Search { found, late, .. } = search;
    let mut read = by_id(store, found.into_iter().take(wanted.limit), Some(deadline), most, make)?;
    read.what.sort_by_key(|(began, ..)| Reverse(*began));
    Ok(Found { what: read.what.into_iter().map(|(_, made)| made).collect(), all: read.all && !late })
}

/// Traces by their IDs, with when they began: as many as have `most` operations together, and one in any case.
pub(super) fn by_id<T>(
    store: &dyn Store,
    ids: impl Iterator<Item = TraceId>,
    deadline: Option<Deadline>,
    most: usize,
    make: impl Fn(TraceId, Trace) -> T,
) -> Result<Found<Vec<(At, T)>>, StoreError> {
    let (mut read, mut spans) = (Vec::new(), 0);
    for id in ids {
        let is_over = spans >= most || deadline.is_some_and(Deadline::is_over);
        if is_over && !read.is_empty() {
            return Ok(Found { what: read, all: false });
        }
        let trace = store.trace(&id)?;
        spans += trace.facts.len();
        let began = trace.facts.first().map_or(At(0), |fact| fact.from);
        read.push((began, make(id, trace)));
    }
    Ok(Found { what: read, all: true })
}

struct Search<'a> {
    wanted: &'a Wanted,
    people: bool,
    deadline: Deadline,
    found: Vec<TraceId>,
    seen: BTreeSet<TraceId>,
    /// The time was over before there was enough.
    late: bool,
}

impl Look for Search<'_> {
    fn goes_on(&mut self) -> bool {
        if self.found.len() >= self.wanted.limit {
            return false;
        }
        self.late = self.deadline.is_over();
        !self.late
    }

    fn see(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            if !self.seen.contains(&fact.id.trace) && self.wanted.is(&fact, self.people) {
                self.seen.insert(fact.id.trace);
                self.found.push(fact.id.trace);
            }
        }
    }
}

/// Names and kinds of a service's operations.
pub(super) fn names(
    store: &dyn Store,
    service: &str,
    now: At,
    deadline: Deadline,
) -> Result<BTreeSet<(String, Kind)>, StoreError> {
    let mut names = Names { service, left: ORDERS_FOR_NAMES, deadline, names: BTreeSet::new() };
    store.walk(At(0), now.after(1), &mut names)?;
    Ok(names.names)
}

struct Names<'a> {
    service: &'a str,
    left: usize,
    deadline: Deadline,
    names: BTreeSet<(String, Kind)>,
}

impl Look for Names<'_> {
    fn goes_on(&mut self) -> bool {
        self.left > 0 && self.names.len() < MAX_NAMES && !self.deadline.is_over()
    }

    fn see(&mut self, facts: Vec<Fact>) {
        self.left -= 1;
        for fact in facts.iter().filter(|fact| fact.service == self.service && !fact.name.is_empty()) {
            if self.names.len() >= MAX_NAMES {
                return;
            }
            self.names.insert((fact.name.clone(), kind(&fact.step)));
        }
    }
}

/// Who asks, who is asked, how often.
pub(super) type Dependencies = BTreeMap<(String, String), u64>;

/// Which service's operations were caused by which other's, of operations that began in a time.
pub(super) fn dependencies(
    store: &dyn Store,
    (from, to): (At, At),
    deadline: Deadline,
) -> Result<Found<Dependencies>, StoreError> {
    let links = Dependencies::new();
    let mut seen = Links { from, to, left: ORDERS_FOR_DEPENDENCIES, deadline, links, all: true };
    store.walk(from, to, &mut seen)?;
    Ok(Found { what: seen.links, all: seen.all })
}

struct Links {
    from: At,
    to: At,
    left: usize,
    deadline: Deadline,
    links: Dependencies,
    all: bool,
}

impl Look for Links {
    fn goes_on(&mut self) -> bool {
        self.all &= self.left > 0 && !self.deadline.is_over();
        self.all
    }

    fn see(&mut self, facts: Vec<Fact>) {
        self.left -= 1;
        let services: BTreeMap<FactId, &str> =
            facts.iter().map(|fact| (fact.id, fact.service.as_str())).collect();
        for fact in facts.iter().filter(|fact| (self.from..self.to).contains(&fact.from)) {
            // Whose parent is not kept depends on nobody that is known.
            let parent = fact.parent_id().and_then(|id| services.get(&id).copied());
            let Some(parent) = parent.filter(|parent| *parent != fact.service) else { continue };
            let link = (parent.to_owned(), fact.service.clone());
            if let Some(count) = self.links.get_mut(&link) {
                *count = count.saturating_add(1);
            } else if self.links.len() < MAX_DEPENDENCIES {
                self.links.insert(link, 1);
            } else {
                self.all = false;
            }
        }
    }
}
