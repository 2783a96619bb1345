//! The words of a request → what is looked for, or what is wrong with them in Jaeger's words.
//!
//! *Spec*: Jaeger 1.x `api/traces` (times in microseconds, durations as Go writes them), Jaeger API v3
//! (`query_service.openapi.yaml`: RFC 3339, `query.*`, and the names in snake case that older callers use).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde_json::Value as Json;

use super::Refusal;
use super::span::{Kind, Span, span};
use crate::facts::{At, Fact, Key};
use crate::store::TraceId;
use crate::time::{DAY, HOUR, MILLI, MINUTE, SECOND};

/// Traces of one answer, as many as Jaeger's page asks for at most.
pub(super) const MAX_TRACES: usize = 1_500;
/// And when nobody says how many.
const TRACES: usize = 100;
/// Attributes that are looked for at a time, and traces that are asked for by their IDs.
const MAX_TAGS: usize = 32;
/// Without a beginning, Jaeger looks so far back; dependencies so far.
const LOOK_BACK: i64 = 2 * DAY;
const DEPENDENCIES: i64 = DAY;

/// The parameters of a request's query, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Given {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        Ok(Self(pairs.map(|pairs| pairs.0).unwrap_or_default()))
    }
}

impl Given {
    /// The first of these names that says something.
    pub(super) fn get(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.all(name).find(|value| !value.is_empty()))
    }

    fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn read<T>(&self, names: &[&str], read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
        let malformed = || Refusal::bad(format!("malformed parameter {}", names.first().unwrap_or(&"")));
        self.get(names).map(|text| read(text).ok_or_else(malformed)).transpose()
    }
}

/// Which traces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub(super) service: Option<String>,
    pub(super) operation: Option<String>,
    pub(super) tags: Vec<(String, String)>,
    /// Operations that began in this time.
    pub(super) from: At,
    pub(super) to: At,
    /// Microseconds that one of them took.
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
    pub(super) limit: usize,
}

impl Wanted {
    /// `GET /api/traces`: all names are optional here.
    pub(super) fn v1(given: &Given, now: At) -> Result<Self, Refusal> {
        let micros = |name| given.read(&[name], |text| text.parse().ok().map(At));
        let to = micros("end")?.unwrap_or(now);
        let back = given.get(&["lookback"]).and_then(lookback).unwrap_or(LOOK_BACK);
        let from = micros("start")?.unwrap_or(to.after(-back));
        let mut tags = given.read(&["tags"], tags)?.unwrap_or_default();
        for tag in given.all("tag") {
            let pair = tag.split_once(':').ok_or_else(|| {
                Refusal::bad(format!(
                    "malformed 'tag' parameter, expecting key:value, received: {}",
                    short(tag)
                ))
            })?;
            tags.push((pair.0.to_owned(), pair.1.to_owned()));
        }
        let limit = given.read(&["limit"], |text| text.parse().ok())?;
        let (min, max) = (given.read(&["minDuration"], duration)?, given.read(&["maxDuration"], duration)?);
        Self {
            service: given.get(&["service"]).map(str::to_owned),
            // How Jaeger's page says that any will do.
            operation: given.get(&["operation"]).filter(|name| *name != "all").map(str::to_owned),
            tags,
            from,
            to,
            min,
            max,
            limit: limit.unwrap_or(TRACES),
        }
        .bounded()
    }

    /// `GET /api/v3/traces` and `/api/v3/trace-summaries`.
    pub(super) fn v3(given: &Given) -> Result<Self, Refusal> {
        if given.get(&["query.filter"]).is_some() {
            return Err(Refusal::bad("query.filter is not known here: use query.attributes".to_owned()));
        }
        let depth = ["query.searchDepth", "query.search_depth", "query.num_traces"];
        let limit = given.read(&depth, |text| text.parse().ok())?;
        let (from, to) = range(
            given,
            &["query.startTimeMin", "query.start_time_min"],
            &["query.startTimeMax", "query.start_time_max"],
        )?;
        Self {
            service: given.get(&["query.serviceName", "query.service_name"]).map(str::to_owned),
            operation: given.get(&["query.operationName", "query.operation_name"]).map(str::to_owned),
            tags: given.read(&["query.attributes"], tags)?.unwrap_or_default(),
            from,
            to,
            min: given.read(&["query.durationMin", "query.duration_min"], duration)?,
            max: given.read(&["query.durationMax", "query.duration_max"], duration)?,
            limit: limit.unwrap_or(TRACES),
        }
        .bounded()
    }

    fn bounded(self) -> Result<Self, Refusal> {
        if self.min.zip(self.max).is_some_and(|(min, max)| max < min) {
            return Err(Refusal::bad("'maxDuration' should be greater than 'minDuration'".to_owned()));
        }
        if self.from >= self.to {
            return Err(Refusal::bad("the time begins after it ends".to_owned()));
        }
        if self.tags.len() > MAX_TAGS {
            return Err(Refusal::bad(format!("more than {MAX_TAGS} tags")));
        }
        Ok(Self { limit: self.limit.clamp(1, MAX_TRACES), ..self })
    }

    /// The number of an order that is looked for, where one is: it is found without looking at others.
    pub(super) fn key(&self) -> Option<Key> {
        let tag = |name: &str| self.tags.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (tag("order.id"), tag(crate::facts::KEYS)) {
            (Some(id), _) => match tag("order.namespace") {
                Some(namespace) => Key::new(namespace, id),
                None => Key::parse(&format!("order:{id}")),
            },
            (None, Some(key)) => Key::parse(key),
            (None, None) => None,
        }
    }

    /// Whether one operation is what is looked for; `people`: whether who looks may see numbers of people.
    pub(super) fn is(&self, fact: &Fact, people: bool) -> bool {
        let took = fact.to.since(fact.from);
        let fits = (self.from..self.to).contains(&fact.from)
            && self.service.as_ref().is_none_or(|service| fact.service == *service)
            && self.operation.as_ref().is_none_or(|name| fact.name == *name)
            && self.min.is_none_or(|min| took >= min)
            && self.max.is_none_or(|max| took <= max);
        if !fits || self.tags.is_empty() {
            return fits;
        }
        let span = span(fact, people);
        self.tags.iter().all(|(key, value)| has(&span, key, value))
    }
}

/// Whether a span has an attribute, under its own name or that which Jaeger has for what OTLP says elsewhere.
fn has(span: &Span<'_>, key: &str, wanted: &str) -> bool {
    match key {
        "error" => span.error.is_some().to_string() == wanted,
        "otel.status_code" => span.error.is_some() && wanted == "ERROR",
        "span.kind" => span.kind.name() == wanted,
        "service.name" => span.service == wanted,
        _ => span.tags.iter().chain(&span.resource).any(|(name, value)| *name == key && value.is(wanted)),
    }
}

/// `GET /api/dependencies`: until when in milliseconds, and for how long before.
pub(super) fn dependencies_v1(given: &Given, now: At) -> Result<(At, At), Refusal> {
    let millis =
        |name| given.read(&[name], |text| text.parse::<i64>().ok().and_then(|ms| ms.checked_mul(MILLI)));
    let to = millis("endTs")?.map_or(now, At);
    let back = millis("lookback")?.unwrap_or(DEPENDENCIES);
    Ok((to.after(-back.max(0)), to))
}

/// `GET /api/v3/dependencies`.
pub(super) fn dependencies_v3(given: &Given) -> Result<(At, At), Refusal> {
    range(given, &["startTime", "start_time"], &["endTime", "end_time"])
}

fn range(given: &Given, from: &[&str], to: &[&str]) -> Result<(At, At), Refusal> {
    let names = |names: &[&str]| names.first().copied().unwrap_or("").to_owned();
    match (given.read(from, time)?, given.read(to, time)?) {
        (Some(begin), Some(end)) if begin < end => Ok((begin, end)),
        (Some(_), Some(_)) => Err(Refusal::bad(format!("{} must be before {}", names(from), names(to)))),
        _ => Err(Refusal::bad(format!("{} and {} are required", names(from), names(to)))),
    }
}

/// `server`, or the number that OTLP has for it; any of them when it says nothing else.
pub(super) fn kind(given: &Given) -> Option<Kind> {
    let wanted = given.get(&["spanKind", "span_kind"])?.to_ascii_lowercase();
    let all = [Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
    all.into_iter().find(|kind| kind.name() == wanted)
}

/// Traces that are asked for by their IDs: `GET /api/traces?traceID=…&traceID=…`.
pub(super) fn traces(given: &Given) -> Result<Vec<TraceId>, Refusal> {
    given.all("traceID").take(MAX_TAGS).map(trace).collect()
}

/// A trace ID in hexadecimal digits: 32, or fewer where those before are zero.
pub(super) fn trace(text: &str) -> Result<TraceId, Refusal> {
    let is_id = !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = is_id.then(|| u128::from_str_radix(text, 16).ok()).flatten().filter(|id| *id != 0);
    id.map(u128::to_be_bytes).ok_or_else(|| Refusal::bad("malformed parameter traceID".to_owned()))
}

/// RFC 3339. Grafana writes the `+` of a zone as it is, which a query reads as a blank.
fn time(text: &str) -> Option<At> {
    let at = text.replace(' ', "+").parse::<jiff::Timestamp>().ok()?;
    Some(At(at.as_microsecond()))
}

/// A JSON object of texts.
fn tags(text: &str) -> Option<Vec<(String, String)>> {
    let Json::Object(tags) = serde_json::from_str(text).ok()? else { return None };
    let one = |(key, value): (String, Json)| match value {
        Json::String(text) => Some((key, text)),
        Json::Bool(_) | Json::Number(_) => Some((key, value.to_string())),
        _ => None,
    };
    tags.into_iter().map(one).collect()
}

/// `1h`, `2d`, `3w`: how Jaeger's page says since when.
fn lookback(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return None,
    };
    number.parse::<i64>().ok().filter(|number| *number > 0)?.checked_mul(unit)
}

/// As Go writes lengths of time (`time.ParseDuration`): `1.5s`, `1h30m`, `200us`; in microseconds.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    // Whoever needs more digits than that does not look for operations.
    if text.is_empty() || text.len() > 40 {
        return None;
    }
    let (mut rest, mut total) = (text, 0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let micros = match unit {
            "ns" => 0.001,
            // Both signs for a millionth: U+00B5 and U+03BC.
            "us" | "µs" | "μs" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 6e7,
            "h" => 3.6e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * micros;
        rest = after;
    }
    // A century: beyond that nothing is kept.
    (total <= 3.2e15).then(|| format!("{:.0}", total.floor()).parse().ok()).flatten()
}

/// What somebody wrote, as far as it is told back.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(query: &str) -> Given {
        let uri = format!("/x?{query}").parse().expect("an address");
        Given(axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).expect("a query").0)
    }

    #[test]
    fn lengths_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("1.5s", Some(1_500_000)),
            ("1h30m", Some(5_400_000_000)),
            ("100ms", Some(100_000)),
            ("200us", Some(200)),
            ("200µs", Some(200)),
            ("1500ns", Some(1)),
            ("0", Some(0)),
            (".5s", Some(500_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1d", None),
            ("1e3s", None),
            ("999999999999h", None),
            ("1s ", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
        assert_eq!(duration(&"9".repeat(1_000)), None);
        assert_eq!(
            [lookback("1h"), lookback("2d"), lookback("custom"), lookback("ü"), lookback("")],
            [Some(HOUR), Some(2 * DAY), None, None, None]
        );
    }

    #[test]
    fn trace_ids_have_up_to_32_digits() {
        let id = |text: &str| trace(text).ok();
        assert_eq!(id("ff"), Some(255_u128.to_be_bytes()));
        assert_eq!(id(&"aB".repeat(16)), Some([0xAB; 16]));
        for wrong in ["", "0", "xyz", "+ff", &"a".repeat(33)] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_grafana_and_jaegers_page_ask_is_understood() {
        let now = At(100 * DAY);
        // Grafana's data source: `url.Values.Encode` of a search with everything filled in.
        let asked = given(
            "end=1700000000000000&limit=20&maxDuration=5s&minDuration=100ms&operation=GET+%2Forders\
             &service=shop&start=1600000000000000&tags=%7B%22error%22%3A%22true%22%7D",
        );
        let wanted = Wanted {
            service: Some("shop".to_owned()),
            operation: Some("GET /orders".to_owned()),
            tags: vec![("error".to_owned(), "true".to_owned())],
            from: At(1_600_000_000_000_000),
            to: At(1_700_000_000_000_000),
            min: Some(100_000),
            max: Some(5_000_000),
            limit: 20,
        };
        assert_eq!(Wanted::v1(&asked, now), Ok(wanted.clone()));
        // Jaeger's page: `URLSearchParams` of `fetchTraceSummaries`.
        let asked = given(
            "query.serviceName=shop&query.operationName=GET+%2Forders&query.startTimeMin=2020-09-13T12%3A26%3A40.000Z\
             &query.startTimeMax=2023-11-14T22%3A13%3A20.000Z&query.searchDepth=20&query.durationMin=100ms\
             &query.durationMax=5s&query.attributes=%7B%22error%22%3A%22true%22%7D",
        );
        assert_eq!(Wanted::v3(&asked), Ok(wanted.clone()));
        // Grafana of API v3: snake case, and times that are not encoded.
        let asked = given(
            "query.attributes=%7B%22error%22%3A%22true%22%7D&query.duration_max=5s&query.duration_min=100ms\
             &query.operation_name=GET+%2Forders&query.service_name=shop&query.num_traces=20\
             &query.start_time_min=2020-09-13T15:26:40+03:00&query.start_time_max=2023-11-14T22:13:20Z",
        );
        assert_eq!(Wanted::v3(&asked), Ok(wanted));
    }

    #[test]
    fn without_a_time_jaeger_looks_two_days_back_and_nobody_gets_more_than_a_page() {
        let now = At(100 * DAY);
        let wanted = Wanted::v1(&given("limit=99999999&operation=all"), now).expect("good");
        assert_eq!((wanted.from, wanted.to, wanted.limit), (At(98 * DAY), now, MAX_TRACES));
        assert_eq!((wanted.service, wanted.operation), (None, None));
        let wanted = Wanted::v1(&given("lookback=1h"), now).expect("good");
        assert_eq!((wanted.from, wanted.limit), (now.after(-HOUR), TRACES));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (query, said) in [
            ("start=x", "malformed parameter start"),
            ("minDuration=x", "malformed parameter minDuration"),
            ("minDuration=2s&maxDuration=1s", "'maxDuration' should be greater"),
            ("tags=x", "malformed parameter tags"),
            ("tags=%5B%5D", "malformed parameter tags"),
            ("tag=x", "malformed 'tag' parameter"),
            ("start=5&end=5", "begins after it ends"),
            ("limit=-1", "malformed parameter limit"),
        ] {
            let error = Wanted::v1(&given(query), At(100 * DAY)).expect_err(query);
            assert!(error.message.contains(said), "{query}: {}", error.message);
        }
        let times = "query.startTimeMin=2020-01-01T00:00:00Z&query.startTimeMax=2021-01-01T00:00:00Z";
        for (query, said) in [
            ("", "query.startTimeMin and query.startTimeMax are required"),
            (
                "query.startTimeMin=2022-01-01T00:00:00Z&query.startTimeMax=2021-01-01T00:00:00Z",
                "must be before",
            ),
            ("query.startTimeMin=1&query.startTimeMax=2", "malformed parameter query.startTimeMin"),
            (&format!("{times}&query.durationMin=5"), "malformed parameter query.durationMin"),
            (&format!("{times}&query.filter=%7B%7D"), "query.filter is not known"),
        ] {
            let error = Wanted::v3(&given(query)).expect_err(query);
            assert!(error.message.contains(said), "{query}: {}", error.message);
        }
        let many: Vec<String> = (0..=MAX_TAGS).map(|n| format!("tag=a{n}:1")).collect();
        assert!(Wanted::v1(&given(&many.join("&")), At(100 * DAY)).is_err());
    }

    #[test]
    fn the_number_of_an_order_is_recognised_in_the_tags() {
        let key = |tags: &str| Wanted::v1(&given(tags), At(DAY)).expect("good").key();
        assert_eq!(key("tag=order.id:4711"), Key::parse("4711"));
        assert_eq!(key("tag=order.id:SO-77&tag=order.namespace:crm"), Key::parse("crm:SO-77"));
        assert_eq!(key("tag=spoor.order.keys:crm:SO-77"), Key::parse("crm:SO-77"));
        assert_eq!(key("tag=error:true"), None);
    }
}
