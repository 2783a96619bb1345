//! Counters of the last minutes and what is usual → the places where many orders go wrong.
//!
//! *Owns* which counters there are ([`counted`]), and the rules that read them. A store keeps them by the minute; a trial
//! makes them from the facts it is given.

use std::collections::{BTreeMap, BTreeSet};

use super::limit::{Known, Level, Limited, Share, together};
use super::{Held, Measured, Pattern, Standing};
use crate::facts::{At, Fact, Step};
use crate::fold::{self, Length};
use crate::model::{Agent, Kind, Model, Times, Usual, What};
use crate::time::{DAY, HOUR, MINUTE};

/// Counters are kept for so long: the longest window there can be.
pub const LONGEST: i64 = DAY;
/// What is so is looked at again after so long.
pub const EVERY: i64 = 15 * crate::time::SECOND;
/// A number of orders is compared with the same time of the week in so many weeks before.
const WEEKS: i64 = 4;
/// And so many of them must have had orders.
const ENOUGH_WEEKS: usize = 2;
/// Orders that must be known of those weeks.
const ENOUGH_ORDERS: u64 = 50;

/// What may be so of many orders at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowWhen {
    /// So many of a place's operations fail.
    ErrorRate { place: PlacePattern, above: Share, min: u64, window: i64 },
    /// Too few or too many orders come, or come to an end.
    Volume { event: Event, below: Option<Level>, above: Option<Level>, window: i64 },
    /// Orders take longer from a stage to the next.
    StageDuration { stage: Pattern, length: Slow },
    /// A service answers slowly.
    ResponseTime { service: Pattern, route: Pattern, length: Slow },
    /// A service's statements take long.
    StatementDuration { service: Pattern, length: Slow },
    /// So many operations of a service are not seen whole.
    Coverage { service: Pattern, above: Share, min: u64, window: i64 },
    /// Nothing was heard of a service for so long.
    ServiceSilent { service: Pattern, limit_micros: i64 },
    /// An agent does not say any more that it is there; for so long at least.
    AgentSilent { limit_micros: i64 },
    /// A channel does not take what it is told: whoever sends says so, not a counter.
    ChannelBroken,
}

/// So many in a hundred take longer than a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    pub percent: u64,
    pub above: Limited,
    pub min: u64,
    pub window: i64,
}

/// Where operations fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacePattern {
    Service(Pattern),
    /// A host that is called.
    Outside(Pattern),
}

/// What becomes of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    Created,
    Finished,
    Failed,
    Lost,
}

impl Event {
    pub const ALL: [Event; 4] = [Event::Created, Event::Finished, Event::Failed, Event::Lost];

    pub fn name(self) -> &'static str {
        match self {
            Event::Created => "created",
            Event::Finished => "finished",
            Event::Failed => "failed",
            Event::Lost => "lost",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

impl WindowWhen {
    pub fn name(&self) -> &'static str {
        match self {
            WindowWhen::ErrorRate { .. } => "error_rate",
            WindowWhen::Volume { .. } => "volume",
            WindowWhen::StageDuration { .. } => "stage_duration",
            WindowWhen::ResponseTime { .. } => "response_time",
            WindowWhen::StatementDuration { .. } => "statement_duration",
            WindowWhen::Coverage { .. } => "coverage",
            WindowWhen::ServiceSilent { .. } => "service_silent",
            WindowWhen::AgentSilent { .. } => "agent_silent",
            WindowWhen::ChannelBroken => "channel_broken",
        }
    }

    /// How far back it looks, in counters of minutes.
    pub fn window(&self) -> Option<i64> {
        match self {
            WindowWhen::ErrorRate { window, .. } | WindowWhen::Coverage { window, .. } => Some(*window),
            WindowWhen::StageDuration { length, .. }
            | WindowWhen::ResponseTime { length, .. }
            | WindowWhen::StatementDuration { length, .. } => Some(length.window),
            WindowWhen::Volume { .. }
            | WindowWhen::ServiceSilent { .. }
            | WindowWhen::AgentSilent { .. }
            | WindowWhen::ChannelBroken => None,
        }
    }
}

/// What is counted of an operation, in the minute in which it was over.
pub fn counted(fact: &Fact) -> impl Iterator<Item = Length> {
    let whole = fold::length(fact).map(|length| match &fact.step {
        Step::Served { .. } => Length { what: What { with: route_of(&fact.name), ..length.what }, ..length },
        _ => length,
    });
    whole.into_iter().chain(fold::unseen(fact))
}

/// Longest route that is told apart, in characters, and its parts.
const MAX_ROUTE: usize = 100;
const MAX_PART: usize = 32;
const MAX_MIXED: usize = 3;
/// Methods that spans are named by.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What of the name of an answered request may be kept in clear: its route, `GET /b2b/orders/{id}`, or the procedure,
/// `shop.v1.Orders/Confirm`; empty where the name is of another form, as whoever traces names as they like.
///
/// *Spec*: OpenTelemetry, "HTTP spans", *Name*: `{method} {http.route}`, and only the method where no route is known; "RPC
/// spans", *Name*: `{service}/{method}`. Of a path that is no route after all, what is no word goes.
fn route_of(name: &str) -> String {
    if name.chars().count() > MAX_ROUTE {
        return String::new();
    }
    if METHODS.contains(&name) || is_procedure(name) {
        return name.to_owned();
    }
    let Some((method, path)) = name.split_once(' ') else { return String::new() };
    let Some(path) = path.strip_prefix('/').filter(|_| METHODS.contains(&method)) else {
        return String::new();
    };
    let parts: Vec<&str> = path.split('/').map(part_of_route).collect();
    format!("{method} /{}", parts.join("/"))
}

/// A word of a route, a placeholder, or `#` for what is neither and may be somebody's number or name. Of words with digits
/// only short ones are left: `b2b`, `v1`, `s3`.
fn part_of_route(part: &str) -> &str {
    let is_word = |part: &str| {
        part.len() <= MAX_PART && part.chars().all(|c| c.is_ascii_alphabetic() || "-_.".contains(c))
    };
    let is_short = part.len() <= MAX_MIXED
        && part.starts_with(|c: char| c.is_ascii_lowercase())
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = [("{", "}"), ("<", ">"), (":", "")]
        .iter()
        .find_map(|(from, to)| part.strip_prefix(from)?.strip_suffix(to));
    let is_kept = matches!(part, "*" | "**") || is_word(part) || is_short || inside.is_some_and(is_word);
    if is_kept { part } else { "#" }
}

/// Names as those who describe services write them, `package.Service/Method`; without a package it may be anything.
fn is_procedure(name: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphabetic())
    };
    let is_package = |name: &str| {
        name.len() <= MAX_PART
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let Some((service, method)) = name.split_once('/') else { return false };
    let Some((package, service)) = service.rsplit_once('.') else { return false };
    package.split('.').all(is_package) && is_name(service) && is_name(method)
}

/// What was counted, by whoever keeps it.
pub trait Past {
    type Error;

    /// Counters of the minutes from `from` on.
    fn times(&self, from: At) -> Result<BTreeMap<What, Times>, Self::Error>;

    /// Whether there were any.
    fn any(&self, event: Event, from: At, to: At) -> Result<bool, Self::Error> {
        self.volume(event, from, to).map(|count| count > 0)
    }

    /// Orders to which something happened from `from` up to `to`.
    fn volume(&self, event: Event, from: At, to: At) -> Result<u64, Self::Error>;
}

/// All places that such a rule has something to say of. One that is not there is quiet.
pub fn places<P: Past>(
    when: &WindowWhen,
    past: &P,
    usual: &Usual,
    model: &Model,
    now: At,
) -> Result<Vec<(String, Standing)>, P::Error> {
    let times = |window: i64| past.times(At(now.0.saturating_sub(window)));
    Ok(match when {
        WindowWhen::ErrorRate { place, above, min, window } => {
            shares(failures(&times(*window)?, place), *above, *min, *window, now)
        }
        WindowWhen::Coverage { service, above, min, window } => {
            shares(unseen(&times(*window)?, service), *above, *min, *window, now)
        }
        WindowWhen::StageDuration { stage, length } => {
            let of =
                |what: &What| (what.kind == Kind::Stage && stage.fits(&what.of)).then(|| what.of.clone());
            slow(
                &times(length.window)?,
                of,
                |name| (Kind::Stage, name.to_owned()),
                *length,
                model,
                usual,
                now,
            )
        }
        WindowWhen::ResponseTime { service, route, length } => {
            let of = |what: &What| {
                let fits = what.kind == Kind::Served && service.fits(&what.of) && is_route(route, &what.with);
                fits.then(|| what.of.clone())
            };
            slow(
                &times(length.window)?,
                of,
                |name| (Kind::Served, name.to_owned()),
                *length,
                model,
                usual,
                now,
            )
        }
        WindowWhen::StatementDuration { service, length } => {
            let of = |what: &What| {
                let fits = matches!(what.kind, Kind::Wrote | Kind::Read) && service.fits(&what.of);
                fits.then(|| what.of.clone())
            };
            slow(
                &times(length.window)?,
                of,
                |name| (Kind::Wrote, name.to_owned()),
                *length,
                model,
                usual,
                now,
            )
        }
        WindowWhen::Volume { event, below, above, window } => {
            vec![(event.name().to_owned(), volume(past, *event, (*below, *above), *window, now)?)]
        }
        WindowWhen::ServiceSilent { service, limit_micros } => {
            let heard = usual.heard.iter().filter(|(name, _)| service.fits(name));
            heard.map(|(name, at)| (name.clone(), silent(name, *at, *limit_micros, now))).collect()
        }
        WindowWhen::AgentSilent { limit_micros } => {
            let silent = |(_, agent): (&str, &Agent)| {
                let limit_micros = (*limit_micros).max(agent.silent_from().since(agent.at));
                (agent.node.clone(), silent(&agent.node, agent.at, limit_micros, now))
            };
            usual.silent(now).map(silent).collect()
        }
        WindowWhen::ChannelBroken => Vec::new(),
    })
}

/// A route as it stands in a span's name, behind the method: `GET /b2b/orders/{id}`.
fn is_route(route: &Pattern, name: &str) -> bool {
    route.fits(name) || name.split_once(' ').is_some_and(|(_, path)| route.fits(path))
}

/// By place: how many, and how many of them badly.
type Shares = BTreeMap<String, (u64, u64)>;

fn failures(times: &BTreeMap<What, Times>, place: &PlacePattern) -> Shares {
    let mut shares = Shares::new();
    for (what, times) in times {
        let name = match (place, what.kind) {
            (PlacePattern::Service(pattern), Kind::Served) => {
                Some(&what.of).filter(|name| pattern.fits(name))
            }
            (PlacePattern::Service(pattern), Kind::Taken) => {
                Some(&what.with).filter(|name| pattern.fits(name))
            }
            (PlacePattern::Outside(pattern), Kind::Called) => {
                Some(&what.with).filter(|name| pattern.fits(name))
            }
            _ => None,
        };
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let of = shares.entry(name.clone()).or_default();
            *of = (of.0.saturating_add(times.count()), of.1.saturating_add(times.failed));
        }
    }
    shares
}

fn unseen(times: &BTreeMap<What, Times>, service: &Pattern) -> Shares {
    let mut shares = Shares::new();
    for (what, times) in times {
        let name = if what.kind == Kind::Taken { &what.with } else { &what.of };
        if !service.fits(name) {
            continue;
        }
        let of = shares.entry(name.clone()).or_default();
        match what.kind {
            Kind::Unseen => of.1 = of.1.saturating_add(times.count()),
            Kind::Served | Kind::Called | Kind::Wrote | Kind::Read | Kind::Taken => {
                of.0 = of.0.saturating_add(times.count());
            }
            Kind::Stage | Kind::Whole | Kind::Queue | Kind::Way => {}
        }
    }
    shares
}

fn shares(shares: Shares, above: Share, min: u64, window: i64, now: At) -> Vec<(String, Standing)> {
    let stand = |(place, (of, bad)): (String, (u64, u64))| {
        let share = Share::of(bad, of);
        let holds = of >= min.max(1) && share > above;
        let measured = Measured::Share { share: share.0, limit: above.0, of };
        let standing = standing(holds, &place, measured, window, now);
        (place, standing)
    };
    shares.into_iter().map(stand).collect()
}

/// It is so from now on; since when is remembered by whoever asks again and again.
fn standing(holds: bool, place: &str, measured: Measured, window: i64, now: At) -> Standing {
    if !holds {
        return Standing::NEVER;
    }
    let since = At(now.0.saturating_sub(window));
    Standing::Holds(Held { since, due: now, until: None, place: place.to_owned(), measured })
}

fn slow(
    times: &BTreeMap<What, Times>,
    of: impl Fn(&What) -> Option<String>,
    usual_of: impl Fn(&str) -> (Kind, String),
    length: Slow,
    model: &Model,
    usual: &Usual,
    now: At,
) -> Vec<(String, Standing)> {
    let names: BTreeSet<String> = times.keys().filter_map(&of).collect();
    let stand = |name: String| {
        let now_is = together(times.iter(), |what| of(what).as_deref() == Some(&name));
        let (kind, named) = usual_of(&name);
        let limit = match (length.above, kind) {
            (Limited::Stage, _) => length.above.at_stage(Some(&named), model, usual),
            // Reading and writing are one thing here.
            (_, Kind::Wrote) => length
                .above
                .of(usual, |what| matches!(what.kind, Kind::Wrote | Kind::Read) && what.of == named),
            _ => length.above.of(usual, |what| what.kind == kind && what.of == named),
        };
        let standing = match limit {
            Known::NotYet => Standing::Sleeps { next: None },
            Known::None => Standing::NEVER,
            Known::Micros(limit_micros) => {
                let micros = now_is.percentile(length.percent);
                let holds = now_is.count() >= length.min.max(1) && micros > limit_micros;
                let measured = Measured::Length { micros, limit_micros, of: now_is.count() };
                standing(holds, &name, measured, length.window, now)
            }
        };
        (name, standing)
    };
    names.into_iter().map(stand).collect()
}

fn volume<P: Past>(
    past: &P,
    event: Event,
    (below, above): (Option<Level>, Option<Level>),
    window: i64,
    now: At,
) -> Result<Standing, P::Error> {
    let from = At(now.0.saturating_sub(window));
    let count = past.volume(event, from, now)?;
    let is_learned = [below, above].iter().flatten().any(|level| matches!(level, Level::Usual(_)));
    let usual = if is_learned { usual_volume(past, event, from, now)? } else { Some(0) };
    let Some(usual) = usual else { return Ok(Standing::Sleeps { next: None }) };
    let limit = |level: Level| match level {
        Level::Count(count) => count,
        Level::Usual(factor) => {
            u64::try_from(factor.of(i64::try_from(usual).unwrap_or(i64::MAX))).unwrap_or(0)
        }
    };
    let (low, high) = (below.map(limit), above.map(limit));
    let limit = match (low, high) {
        (Some(low), _) if count < low => Some(low),
        (_, Some(high)) if count > high => Some(high),
        _ => None,
    };
    let measured = Measured::Count { count, limit: limit.unwrap_or(0) };
    Ok(standing(limit.is_some(), event.name(), measured, window, now))
}

/// The middle of the same time in the weeks before, where enough of them are known.
fn usual_volume<P: Past>(past: &P, event: Event, from: At, to: At) -> Result<Option<u64>, P::Error> {
    let mut counts = Vec::new();
    for week in 1..=WEEKS {
        let back = |at: At| At(at.0.saturating_sub(week * 7 * DAY));
        // A week in which nothing came at all is one in which nobody looked.
        let (begin, end) = (back(from), back(to));
        if past.any(event, At(begin.0.saturating_sub(DAY)), end.after(DAY))? {
            counts.push(past.volume(event, begin, end)?);
        }
    }
    counts.sort_unstable();
    let enough = counts.len() >= ENOUGH_WEEKS && counts.iter().sum::<u64>() >= ENOUGH_ORDERS;
    Ok(counts.get(counts.len().saturating_sub(1) / 2).copied().filter(|_| enough))
}

fn silent(name: &str, heard: At, limit_micros: i64, now: At) -> Standing {
    let due = heard.after(limit_micros);
    if now < due {
        return Standing::Quiet { next: Some(due) };
    }
    let measured = Measured::Age { limit_micros };
    Standing::Holds(Held { since: heard, due, until: None, place: name.to_owned(), measured })
}

/// The beginning of the minute in which something is counted.
pub fn minute(at: At) -> i64 {
    at.0.div_euclid(MINUTE)
}

/// What is older is not counted any more when it comes: it would be news of long ago.
pub fn is_recent(at: At, now: At) -> bool {
    now.since(at) < LONGEST && at <= now.after(HOUR)
}

#[cfg(test)]
mod tests;
