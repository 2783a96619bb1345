//! Counters of the last minutes and what is usual → the places where many orders go wrong.
//!
//! *Owns* which counters there are ([`counted`]), and the rules that read them. A store keeps them by the minute; a trial
//! makes them from the facts it is given.

use std::collections::{BTreeMap, BTreeSet};

use super::limit::{Known, Level, Limited, Share, together};
use super::{Held, Measured, Pattern, Standing};
use crate::facts::{At, Fact, Step};
use crate::fold::{self, Length};
use crate::model::{Kind, Model, Times, Usual, What};
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
            WindowWhen::Volume { .. } | WindowWhen::ServiceSilent { .. } | WindowWhen::ChannelBroken => None,
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
mod tests {
    use super::*;
    use crate::model::class;
    use crate::testing::fact;
    use crate::time::SECOND;

    struct Counted {
        times: BTreeMap<What, Times>,
        /// Created orders by hour.
        created: Vec<(i64, u64)>,
    }

    impl Past for Counted {
        type Error = std::convert::Infallible;
        fn times(&self, _: At) -> Result<BTreeMap<What, Times>, Self::Error> {
            Ok(self.times.clone())
        }
        fn volume(&self, _: Event, from: At, to: At) -> Result<u64, Self::Error> {
            let hours = self.created.iter().filter(|(hour, _)| (from.0..to.0).contains(&(hour * HOUR)));
            Ok(hours.map(|(_, orders)| orders).sum())
        }
    }

    fn what(kind: Kind, of: &str, with: &str) -> What {
        What { kind, of: of.to_owned(), with: with.to_owned() }
    }

    fn times(micros: i64, count: i64, failed: i64) -> Times {
        let mut times = Times::default();
        times.add(class(micros), count, failed);
        times
    }

    fn holding(when: &WindowWhen, past: &Counted, usual: &Usual, now: At) -> Vec<String> {
        let Ok(found) = places(when, past, usual, &Model::default(), now);
        let found = found.into_iter().filter(|(_, standing)| matches!(standing, Standing::Holds(_)));
        found.map(|(name, _)| name).collect()
    }

    #[test]
    fn shares_count_from_enough_on_only() {
        let past = Counted {
            times: [
                (what(Kind::Served, "mes", "POST /orders"), times(SECOND, 10, 1)),
                (what(Kind::Taken, "queue", "mes"), times(SECOND, 10, 3)),
                (what(Kind::Served, "shop", "GET /"), times(SECOND, 3, 3)),
                (what(Kind::Called, "crm", "api.dpd.ru"), times(SECOND, 20, 10)),
                (what(Kind::Unseen, "mes", "gap"), times(SECOND, 2, 0)),
            ]
            .into(),
            created: Vec::new(),
        };
        let rate = |place, above| {
            let when = WindowWhen::ErrorRate { place, above: Share(above), min: 5, window: 10 * MINUTE };
            holding(&when, &past, &Usual::default(), At(DAY))
        };
        assert_eq!(rate(PlacePattern::Service(Pattern::any()), 1_999), ["mes"]);
        assert!(rate(PlacePattern::Service(Pattern::any()), 2_000).is_empty(), "not above");
        assert_eq!(rate(PlacePattern::Outside(Pattern::new("api.*")), 100), ["api.dpd.ru"]);
        let coverage =
            WindowWhen::Coverage { service: Pattern::any(), above: Share(500), min: 1, window: MINUTE };
        assert_eq!(holding(&coverage, &past, &Usual::default(), At(DAY)), ["mes"]);
    }

    #[test]
    fn slowness_is_measured_by_route_and_against_what_is_usual() {
        let past = Counted {
            times: [
                (what(Kind::Served, "mes", "POST /b2b/orders"), times(3 * SECOND, 10, 0)),
                (what(Kind::Served, "mes", "GET /health"), times(1, 1_000, 0)),
            ]
            .into(),
            created: Vec::new(),
        };
        let slow = |above| Slow { percent: 95, above, min: 1, window: MINUTE };
        let when = |route, above| WindowWhen::ResponseTime {
            service: Pattern::any(),
            route: Pattern::new(route),
            length: slow(above),
        };
        let usual = |count| Usual {
            times: [(what(Kind::Served, "mes", ""), times(SECOND, count, 0).into())].into(),
            ..Usual::default()
        };
        let exact = Limited::Micros(2 * SECOND);
        assert_eq!(holding(&when("/b2b/*", exact), &past, &usual(0), At(DAY)), ["mes"]);
        assert!(holding(&when("*", exact), &past, &usual(0), At(DAY)).is_empty(), "most are quick");
        let Ok(learned) = serde_json::from_value::<Limited>("usual * 2".into()) else { panic!("a limit") };
        assert_eq!(holding(&when("/b2b/*", learned), &past, &usual(50), At(DAY)), ["mes"]);
        let Ok(found) = places(&when("/b2b/*", learned), &past, &usual(49), &Model::default(), At(DAY));
        assert_eq!(found, [("mes".to_owned(), Standing::Sleeps { next: None })]);
    }

    #[test]
    fn orders_that_stop_coming_are_missed_when_they_came_at_that_time_of_other_weeks() {
        let Ok(third) = serde_json::from_value::<Level>("usual / 3".into()) else { panic!("a level") };
        let when =
            WindowWhen::Volume { event: Event::Created, below: Some(third), above: None, window: HOUR };
        let now = At(50 * 7 * DAY);
        let before = |week: i64| (now.0 / HOUR - week * 7 * 24 - 1, 30);
        let past = |created| Counted { times: BTreeMap::new(), created };
        let usual = Usual::default();
        assert_eq!(holding(&when, &past(vec![before(1), before(2)]), &usual, now), ["created"]);
        let enough = (now.0 / HOUR - 1, 10);
        assert!(holding(&when, &past(vec![before(1), before(2), enough]), &usual, now).is_empty());
        assert!(holding(&when, &past(vec![before(1)]), &usual, now).is_empty(), "one week is no habit");
        assert!(holding(&when, &past(vec![]), &usual, now).is_empty());
    }

    #[test]
    fn of_names_that_tracers_give_only_routes_and_procedures_are_kept() {
        for (name, expected) in [
            ("POST /b2b/orders", "POST /b2b/orders"),
            ("GET /v1/orders/{order_id}/files/*", "GET /v1/orders/{order_id}/files/*"),
            ("GET /orders/:id", "GET /orders/:id"),
            ("GET /Home/Index.cshtml", "GET /Home/Index.cshtml"),
            ("GET /", "GET /"),
            ("PUT", "PUT"),
            ("shop.v1.Orders/Confirm", "shop.v1.Orders/Confirm"),
            // Paths that are no routes.
            ("GET /orders/4711", "GET /orders/#"),
            ("GET /users/anna@example.org/x", "GET /users/#/x"),
            ("GET /users/%D0%90%D0%BD%D0%BD%D0%B0", "GET /users/#"),
            ("GET /users/Анна", "GET /users/#"),
            ("GET /orders?user=anna", "GET /#"),
            ("GET /orders/a123", "GET /orders/#"),
            ("GET /orders/{4711}", "GET /orders/#"),
            // Names of another form.
            ("Confirm the order of Anna Petrova", ""),
            ("anna", ""),
            ("users/anna", ""),
            ("Users/anna", ""),
            ("Users/Anna", ""),
            ("GET https://shop/anna", ""),
            ("FIND /anna", ""),
            ("", ""),
        ] {
            let fact = Fact {
                name: name.to_owned(),
                ..fact("4711", 1, 10, "mes", Step::Served { answer: Some(200), changes: true })
            };
            let kept: Vec<String> = counted(&fact).map(|length| length.what.with).collect();
            assert_eq!(kept, [expected], "{name}");
        }
        assert_eq!(route_of(&format!("GET /{}", "orders/".repeat(20))), "", "as long as no route is");
        assert!(is_route(&Pattern::new("/b2b/*"), &route_of("POST /b2b/orders")), "as the example has it");
    }

    #[test]
    fn silence_is_told_once_it_lasts() {
        let usual = Usual { heard: [("mes".to_owned(), At(0))].into(), ..Usual::default() };
        let when = WindowWhen::ServiceSilent { service: Pattern::any(), limit_micros: HOUR };
        let past = Counted { times: BTreeMap::new(), created: Vec::new() };
        assert!(holding(&when, &past, &usual, At(HOUR - 1)).is_empty());
        assert_eq!(holding(&when, &past, &usual, At(HOUR)), ["mes"]);
    }
}
