//! The text of a file over the built-in rules → [`RuleSet`], or what is wrong, with line, column and the nearest name.
//!
//! A rule of the file with the `id` of another one replaces single fields of it. Which fields a kind of rule has is checked
//! when both are together: `stage` says nothing to a rule about queues, and is refused there.

mod given;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_saphyr::Spanned;

use self::given::{Given, Place, PlaceText, RuleText, lines, parse, unknown, written};
use super::calendar::Calendar;
use super::channel::{Channel, ChannelText, Route};
use super::heartbeat::Heartbeat;
use super::window::{Event, LONGEST, PlacePattern, Slow, WindowWhen};
use super::{Entered, Level, Limited, OrderWhen, Pattern, Rule, Share, When, text};
use crate::fold::Outcome;
use crate::model::{Limit, Model};
use crate::time::{DAY, HOUR, MINUTE};

/// The rules that are there without a file, as one could write them.
pub const BUILT_IN: &str = include_str!("../built_in.yaml");

/// So long an event is told, where its rule does not say how long: an order that failed or is lost a week, others a day.
const LASTS: i64 = DAY;
const LASTS_LONG: i64 = 7 * DAY;
const WINDOW: i64 = HOUR;
const MIN: u64 = 20;
/// Rules of one house.
const MAX_RULES: usize = 500;
const MAX_CHANNELS: usize = 50;

/// Kinds of rule whose facts no agent tells yet, and what they wait for.
const NOT_YET: &[(&str, &str)] = &[(
    "open_operation",
    "there is no such rule yet; `enters` with `outcome: stuck` says in what an order hangs",
)];

/// All that a house wants to be warned of, and where it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
    pub channels: Vec<Channel>,
    pub routes: Vec<Route>,
    /// Where people reach the pages, for links in messages.
    pub pages: Option<String>,
    /// Who hears that the server works, and misses it when it does not.
    pub heartbeat: Option<Heartbeat>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesError {
    pub line: u64,
    pub column: u64,
    pub message: String,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for RulesError {}

impl RuleSet {
    /// The built-in rules alone.
    pub fn built_in(model: &Model) -> Result<Self, RulesError> {
        Self::parse("", model)
    }

    /// Reads and checks the text of a file, over the built-in rules. `model` names the stages and systems there are.
    pub fn parse(yaml: &str, model: &Model) -> Result<Self, RulesError> {
        let built_in = parse(BUILT_IN)?;
        let file = parse(yaml)?;
        let mut texts: Vec<(RuleText, Place, bool)> =
            built_in.rules.into_iter().map(|rule| (rule.value, Place::default(), false)).collect();
        let mut own = BTreeSet::new();
        for rule in file.rules {
            let place = Place::of(&rule);
            let text = rule.value;
            if text.id.is_empty()
                || !text.id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            {
                return Err(place.says("a rule needs an `id` of letters, digits, - and _"));
            }
            if !own.insert(text.id.clone()) {
                return Err(place.says(format!("rule `{}` is there twice", text.id)));
            }
            match texts.iter_mut().find(|(known, ..)| known.id == text.id) {
                Some(known) => *known = (known.0.clone().under(text), place, true),
                None => texts.push((text, place, true)),
            }
        }
        if texts.len() > MAX_RULES {
            return Err(Place::default().says(format!("more than {MAX_RULES} rules")));
        }
        let calendars = file.calendars.iter().map(|(name, text)| {
            let calendar = text.value.read(name).map_err(|error| Place::of(text).says(error))?;
            Ok((name.clone(), calendar))
        });
        let calendars: BTreeMap<String, Calendar> = calendars.collect::<Result<_, _>>()?;
        let channels = read_channels(file.channels)?;
        let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        let is_channel =
            |place: Place, to: &[String]| match to.iter().find(|to| !names.contains(&to.as_str())) {
                Some(to) => Err(place.says(unknown("channel", to, &names))),
                None => Ok(()),
            };
        let mut sources = written(BUILT_IN);
        for (id, fields) in written(yaml) {
            sources.entry(id).or_default().extend(fields);
        }
        let mut rules = Vec::new();
        for (text, place, is_own) in texts {
            if let Some(notify) = &text.notify {
                is_channel(Place::of(notify), &notify.value)?;
            }
            let house = House { model, calendars: &calendars };
            let source = sources.get(&text.id).map(lines).unwrap_or_default();
            rules.extend(house.rule(text, source, place, is_own)?);
        }
        let mut routes = Vec::new();
        for route in file.routes {
            let place = Place::of(&route);
            is_channel(place, &route.value.to)?;
            if route.value.to.is_empty() {
                return Err(place.says("a route leads to a channel: `to` names none"));
            }
            routes.push(route.value.read());
        }
        let pages = file.pages.map(|pages| {
            let place = Place::of(&pages);
            let url = pages.value.trim_end_matches('/').to_owned();
            let good = url.starts_with("https://") || url.starts_with("http://");
            if good { Ok(url) } else { Err(place.says("`pages` is an address: https://spoor.example")) }
        });
        let heartbeat = file.heartbeat.map(|text| {
            let place = Place::of(&text);
            text.value.read().map_err(|error| place.says(error))
        });
        Ok(Self { rules, channels, routes, pages: pages.transpose()?, heartbeat: heartbeat.transpose()? })
    }

    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name == name)
    }
}

fn read_channels(texts: BTreeMap<String, Spanned<ChannelText>>) -> Result<Vec<Channel>, RulesError> {
    if texts.len() > MAX_CHANNELS {
        return Err(Place::default().says(format!("more than {MAX_CHANNELS} channels")));
    }
    let read = |(name, text): (String, Spanned<ChannelText>)| {
        let place = Place::of(&text);
        text.value.read(&name).map_err(|error| place.says(format!("channel `{name}`: {error}")))
    };
    texts.into_iter().map(read).collect()
}

/// What rules may name.
struct House<'a> {
    model: &'a Model,
    calendars: &'a BTreeMap<String, Calendar>,
}

/// Fields by kind.
const KINDS: &[(&str, &[&str])] = &[
    ("stage_age", &["stage", "stages", "limit", "calendar"]),
    ("no_progress", &["stages", "limit", "calendar"]),
    ("message_waits", &["queue", "limit"]),
    ("queue_without_consumer", &["queue", "limit"]),
    ("lost", &["lasts"]),
    ("enters", &["stage", "outcome", "lasts"]),
    ("backwards", &["lasts"]),
    ("skipped", &["stage", "before", "lasts"]),
    ("disagree", &["records", "limit"]),
    ("repeated", &["record", "to", "lasts"]),
    ("unknown_status", &["lasts"]),
    ("enters_queue", &["queue", "lasts"]),
    ("error_rate", &["place", "above", "min", "window"]),
    ("volume", &["event", "below", "above", "window"]),
    ("stage_duration", &["stage", "quantile", "above", "min", "window"]),
    ("response_time", &["service", "route", "quantile", "above", "min", "window"]),
    ("statement_duration", &["service", "quantile", "above", "min", "window"]),
    ("coverage", &["service", "above", "min", "window"]),
    ("service_silent", &["service", "limit"]),
    ("agent_silent", &["limit"]),
    ("channel_broken", &[]),
];

impl House<'_> {
    /// A rule, unless it is switched off.
    fn rule(
        &self,
        text: RuleText,
        source: String,
        place: Place,
        is_own: bool,
    ) -> Result<Option<Rule>, RulesError> {
        let Some(when) = &text.when else {
            return Err(place.says(format!("rule `{}` does not say `when`: it is no built-in one", text.id)));
        };
        let (kind, at) = (when.value.as_str(), Place::of(when));
        if let Some((_, why)) = NOT_YET.iter().find(|(name, _)| *name == kind) {
            return Err(at.says(format!("rules of the kind `{kind}` cannot be yet: {why}")));
        }
        let Some((name, known)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            return Err(at.says(unknown("kind of rule", kind, &names)));
        };
        if let Some((field, at)) = text.beside(known) {
            let fields = known.join(", ");
            return Err(at
                .unwrap_or(place)
                .says(format!("`{field}` says nothing to a rule of the kind `{name}`; it has {fields}")));
        }
        let when = match self.order(name, &text, place)? {
            Some(when) => When::Order(when),
            None => When::Window(self.window(name, &text, place)?),
        };
        if matches!(when, When::Window(_)) && text.filter.is_some() {
            let at = text.filter.as_ref().map_or(place, Place::of);
            return Err(at.says(format!("a rule of the kind `{name}` counts all orders: it has no `filter`")));
        }
        if let Some(given) = &text.text {
            text::check(&given.value).map_err(|error| Place::of(given).says(error))?;
        }
        let off = text.off.is_some_and(|off| off.value);
        let micros = |limit: Given<Limit>| limit.map_or(0, |limit| limit.value.0);
        let rule = Rule {
            id: text.id,
            when,
            hold: micros(text.hold),
            keep: micros(text.keep_firing_for),
            severity: text.severity.map(|given| given.value).unwrap_or_default(),
            filter: text.filter.map(|given| given.value).unwrap_or_default(),
            notify: text.notify.map(|given| given.value).unwrap_or_default(),
            text: text.text.map(|given| given.value).unwrap_or_default(),
            runbook: text.runbook.map(|given| given.value),
            is_own,
            source,
        };
        Ok((!off).then_some(rule))
    }

    fn order(&self, kind: &str, text: &RuleText, place: Place) -> Result<Option<OrderWhen>, RulesError> {
        let lasts = |usually: i64| text.lasts.as_ref().map_or(usually, |lasts| lasts.value.0);
        Ok(Some(match kind {
            "stage_age" => OrderWhen::StageAge {
                stages: self.stages(text)?,
                limit: text.limit.as_ref().map_or(Limited::Stage, |limit| limit.value),
                calendar: self.calendar(text)?,
            },
            "no_progress" => OrderWhen::NoProgress {
                stages: self.stages(text)?,
                limit: needed(&text.limit, "limit", place)?.value,
                calendar: self.calendar(text)?,
            },
            "message_waits" => OrderWhen::MessageWaits {
                queue: pattern(&text.queue),
                limit: not_of_stage(needed(&text.limit, "limit", place)?)?,
            },
            "queue_without_consumer" => OrderWhen::QueueWithoutConsumer {
                queue: pattern(&text.queue),
                limit_micros: exact(needed(&text.limit, "limit", place)?)?,
            },
            "lost" => OrderWhen::Lost { lasts: lasts(LASTS_LONG) },
            "enters" => OrderWhen::Enters { what: self.entered(text, place)?, lasts: lasts(LASTS_LONG) },
            "backwards" => OrderWhen::Backwards { lasts: lasts(LASTS) },
            "skipped" => OrderWhen::Skipped {
                stage: self.stage(needed(&text.stage, "stage", place)?)?,
                before: text.before.as_ref().map(|before| self.stage(before)).transpose()?,
                lasts: lasts(LASTS),
            },
            "disagree" => OrderWhen::Disagree {
                records: self.records(&text.records)?,
                limit_micros: exact(needed(&text.limit, "limit", place)?)?,
            },
            "repeated" => OrderWhen::Repeated {
                record: text.record.as_ref().map(|record| self.record(record)).transpose()?,
                to: needed(&text.to, "to", place)?.value.clone(),
                lasts: lasts(LASTS),
            },
            "unknown_status" => OrderWhen::UnknownStatus { lasts: lasts(LASTS) },
            "enters_queue" => OrderWhen::EntersQueue {
                queue: Pattern::new(&needed(&text.queue, "queue", place)?.value),
                lasts: lasts(LASTS),
            },
            _ => return Ok(None),
        }))
    }

    fn window(&self, kind: &str, text: &RuleText, place: Place) -> Result<WindowWhen, RulesError> {
        let window = match &text.window {
            Some(window) if window.value.0 > LONGEST => {
                return Err(Place::of(window).says("counters are kept for a day: `window` is at most 1d"));
            }
            Some(window) if window.value.0 < MINUTE => {
                return Err(Place::of(window).says("counters are by the minute: `window` is at least 1m"));
            }
            Some(window) => window.value.0,
            None => WINDOW,
        };
        let min = text.min.as_ref().map_or(MIN, |min| min.value);
        let share = || -> Result<Share, RulesError> {
            let above = needed(&text.above, "above", place)?;
            above.value.read().map_err(|error| Place::of(above).says(error))
        };
        let slow = || -> Result<Slow, RulesError> {
            let above = needed(&text.above, "above", place)?;
            let limit: Limited = above.value.read().map_err(|error| Place::of(above).says(error))?;
            if limit == Limited::Stage && kind != "stage_duration" {
                return Err(Place::of(above).says("only stages have a limit of their own"));
            }
            Ok(Slow { percent: percent(&text.quantile)?, above: limit, min, window })
        };
        Ok(match kind {
            "error_rate" => WindowWhen::ErrorRate {
                place: match text.place.as_ref().map(|place| &place.value) {
                    Some(PlaceText::Service(name)) => PlacePattern::Service(Pattern::new(name)),
                    Some(PlaceText::Of(of)) => PlacePattern::Outside(Pattern::new(&of.outside)),
                    None => PlacePattern::Service(Pattern::any()),
                },
                above: share()?,
                min,
                window,
            },
            "volume" => self.volume(text, window, place)?,
            "stage_duration" => {
                if let Some(stage) = text.stage.as_ref().filter(|stage| !stage.value.contains('*')) {
                    self.stage(stage)?;
                }
                WindowWhen::StageDuration { stage: pattern(&text.stage), length: slow()? }
            }
            "response_time" => WindowWhen::ResponseTime {
                service: pattern(&text.service),
                route: pattern(&text.route),
                length: slow()?,
            },
            "statement_duration" => {
                WindowWhen::StatementDuration { service: pattern(&text.service), length: slow()? }
            }
            "coverage" => {
                WindowWhen::Coverage { service: pattern(&text.service), above: share()?, min, window }
            }
            "agent_silent" => WindowWhen::AgentSilent {
                limit_micros: text.limit.as_ref().map(exact).transpose()?.unwrap_or(0),
            },
            "channel_broken" => WindowWhen::ChannelBroken,
            _ => WindowWhen::ServiceSilent {
                service: pattern(&text.service),
                limit_micros: exact(needed(&text.limit, "limit", place)?)?,
            },
        })
    }

    fn volume(&self, text: &RuleText, window: i64, place: Place) -> Result<WindowWhen, RulesError> {
        let event = needed(&text.event, "event", place)?;
        let names = || Event::ALL.map(Event::name);
        let found = Event::from_name(&event.value)
            .ok_or_else(|| Place::of(event).says(unknown("event", &event.value, &names())))?;
        let above: Option<Level> = match &text.above {
            Some(above) => Some(above.value.read().map_err(|error| Place::of(above).says(error))?),
            None => None,
        };
        let below = text.below.as_ref().map(|below| below.value);
        if below.is_none() && above.is_none() {
            return Err(place.says("a rule of the kind `volume` says `below` or `above` what number"));
        }
        Ok(WindowWhen::Volume { event: found, below, above, window })
    }

    fn entered(&self, text: &RuleText, place: Place) -> Result<Entered, RulesError> {
        match (&text.stage, &text.outcome) {
            (Some(stage), None) => Ok(Entered::Stage(self.stage(stage)?)),
            (None, Some(outcome)) => {
                Outcome::from_name(&outcome.value).map(Entered::Outcome).ok_or_else(|| {
                    Place::of(outcome).says(unknown(
                        "outcome",
                        &outcome.value,
                        &Outcome::ALL.map(Outcome::name),
                    ))
                })
            }
            _ => Err(place.says("a rule of the kind `enters` says one of `stage` and `outcome`")),
        }
    }

    /// A stage of the model; any status where there is no model.
    fn stage(&self, given: &Spanned<String>) -> Result<String, RulesError> {
        let names: Vec<&str> = self.model.stages.iter().map(|stage| stage.name.as_str()).collect();
        if !names.is_empty() && !names.contains(&given.value.as_str()) {
            return Err(Place::of(given).says(unknown("stage", &given.value, &names)));
        }
        Ok(given.value.clone())
    }

    fn stages(&self, text: &RuleText) -> Result<Vec<Pattern>, RulesError> {
        let one = text.stage.iter().map(|stage| (stage.value.clone(), Place::of(stage)));
        let many = text.stages.iter();
        let many = many.flat_map(|stages| {
            let place = Place::of(stages);
            stages.value.iter().map(move |stage| (stage.clone(), place))
        });
        let names: Vec<&str> = self.model.stages.iter().map(|stage| stage.name.as_str()).collect();
        let read = |(stage, place): (String, Place)| {
            if !names.is_empty() && !stage.contains('*') && !names.contains(&stage.as_str()) {
                return Err(place.says(unknown("stage", &stage, &names)));
            }
            Ok(Pattern::new(&stage))
        };
        one.chain(many).map(read).collect()
    }

    fn record(&self, given: &Spanned<String>) -> Result<String, RulesError> {
        Ok(self
            .records(&Some(Spanned::new(vec![given.value.clone()], given.referenced, given.defined)))?
            .remove(0))
    }

    /// Systems of the model; services where there is no model.
    fn records(&self, given: &Given<Vec<String>>) -> Result<Vec<String>, RulesError> {
        let Some(given) = given else { return Ok(Vec::new()) };
        let names: Vec<&str> = self.model.records.keys().map(String::as_str).collect();
        match given.value.iter().find(|name| !names.is_empty() && !names.contains(&name.as_str())) {
            Some(name) => Err(Place::of(given).says(unknown("record", name, &names))),
            None => Ok(given.value.clone()),
        }
    }

    fn calendar(&self, text: &RuleText) -> Result<Option<Calendar>, RulesError> {
        let Some(given) = &text.calendar else { return Ok(None) };
        let names: Vec<&str> = self.calendars.keys().map(String::as_str).collect();
        let calendar = self.calendars.get(&given.value);
        let calendar =
            calendar.ok_or_else(|| Place::of(given).says(unknown("calendar", &given.value, &names)))?;
        if text.limit.as_ref().is_some_and(|limit| limit.value.is_learned()) {
            return Err(Place::of(given)
                .says("what is usual is learned by the clock, nights and all: a rule with a calendar needs a time such as 30m"));
        }
        Ok(Some(calendar.clone()))
    }
}

fn needed<'a, T>(given: &'a Given<T>, name: &str, place: Place) -> Result<&'a Spanned<T>, RulesError> {
    given.as_ref().ok_or_else(|| place.says(format!("the key `{name}` is missing")))
}

fn pattern(given: &Given<String>) -> Pattern {
    given.as_ref().map_or_else(Pattern::any, |given| Pattern::new(&given.value))
}

fn exact(limit: &Spanned<Limited>) -> Result<i64, RulesError> {
    match limit.value {
        Limited::Micros(micros) => Ok(micros),
        Limited::Usual(_) | Limited::Stage => {
            Err(Place::of(limit).says("nothing is learned of this: write a time such as 5m"))
        }
    }
}

fn not_of_stage(limit: &Spanned<Limited>) -> Result<Limited, RulesError> {
    match limit.value {
        Limited::Stage => Err(Place::of(limit).says("only stages have a limit of their own")),
        other => Ok(other),
    }
}

/// `0.95` ⇒ 95.
fn percent(quantile: &Given<f64>) -> Result<u64, RulesError> {
    let Some(given) = quantile else { return Ok(95) };
    let percent =
        format!("{:.0}", given.value * 100.0).parse().ok().filter(|percent| (1..=99).contains(percent));
    percent.ok_or_else(|| Place::of(given).says("`quantile` is from 0.01 to 0.99"))
}

#[cfg(test)]
mod tests;
