//! A message of the outbox → what a channel says of it, in its language.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::House;
use crate::facts::At;
use crate::fold::{StageMark, StageState};
use crate::model::Model;
use crate::rules::channel::Channel;
use crate::rules::text::{About, Alerted};
use crate::rules::{Held, Measured, RuleSet, Severity, State};
use crate::sentence::{self, Language, Words};
use crate::store::alerts::{Alert, AlertId, Message, What};

/// An alert goes on for so long, as far as an Alertmanager knows, when nobody says anything any more.
const LASTS: i64 = 4 * crate::time::MINUTE;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The same number is the same message again.
    pub id: i64,
    pub what: What,
    pub attempts: u32,
    pub alert: Alert,
    pub language: Language,
    pub title: String,
    pub text: String,
    /// Where people read more; empty where nobody said where the pages are.
    pub link: String,
    pub runbook: Option<String>,
    /// The order's stages: name, and whether it is done, here, failed or ahead.
    pub stages: Vec<(String, StageState)>,
    pub at: At,
    pub pages: String,
}

/// Opens what a message is about and finds the words.
pub fn house_content(
    store: &dyn House,
    set: &RuleSet,
    model: &Model,
    zone: &TimeZone,
    channel: &Channel,
    message: &Message,
    now: At,
) -> Content {
    let alert = &message.alert;
    // An order that does not open is told all the same, without its sentence.
    let order = alert.order.and_then(|order| store.order(order, now).ok().flatten());
    let about = order.as_ref().map(|order| About { journey: &order.journey, verdict: &order.verdict });
    let words = Words { language: channel.language, zone: zone.clone() };
    let pages = set.pages.clone().unwrap_or_default();
    let link = if pages.is_empty() { String::new() } else { format!("{pages}/alerts/{}", alert.id.0) };
    let rule = set.rule(&alert.rule);
    let told = rule.map(|rule| Alerted {
        rule,
        severity: alert.severity,
        held: &alert.held,
        number: &alert.number,
        about,
        orders: alert.members,
        late: alert.late,
        resolved: message.what == What::Resolved,
        link: &link,
    });
    let (title, text) = match &told {
        Some(told) => (told.title(model, &words, now), told.text(model, &words, now)),
        // The rule is no more; its end is told.
        None => (format!("{} {}", alert.rule, alert.number), String::new()),
    };
    let marks: &[StageMark] = order.as_ref().map(|order| order.journey.stages.as_slice()).unwrap_or_default();
    let stage = |mark: &StageMark| {
        (sentence::stage(model, channel.language, &model.in_clear(&mark.name)), mark.state)
    };
    Content {
        id: message.id,
        what: message.what,
        attempts: message.attempts,
        alert: alert.clone(),
        language: channel.language,
        title,
        text,
        link,
        runbook: rule.and_then(|rule| rule.runbook.clone()),
        stages: marks.iter().map(stage).collect(),
        at: now,
        pages,
    }
}

/// Contents that have as little as a real one may have, and as much, to try templates with: one of an order, one of a place
/// that is over.
pub(super) fn samples(channel: &Channel) -> [Content; 2] {
    let now = At(0);
    let place = test_content(channel, None, now);
    let mut order = place.clone();
    order.alert.number = "4711".to_owned();
    order.alert.members = Some(2);
    order.pages = "https://spoor.example".to_owned();
    order.link = "https://spoor.example/alerts/1".to_owned();
    order.runbook = Some("https://runbooks.example".to_owned());
    [order, Content { what: What::Resolved, ..place }]
}

/// What `notify test` says.
pub fn test_content(channel: &Channel, pages: Option<&str>, now: At) -> Content {
    let held = Held { since: now, due: now, until: None, place: "test".to_owned(), measured: Measured::Fact };
    let alert = Alert {
        id: AlertId(0),
        rule: "test".to_owned(),
        order: None,
        number: String::new(),
        members: None,
        grouped_in: None,
        severity: Severity::Info,
        state: State::Firing,
        held,
        fired_at: Some(now),
        resolved_at: None,
        late: false,
        taken: None,
        snoozed_until: None,
        notes: Vec::new(),
        told: Vec::new(),
        fingerprint: format!("{:016x}", now.0),
    };
    let (title, text) = match channel.language {
        Language::Ru => (
            "Проверка: канал работает",
            "Это сообщение отправил администратор Spoor, делать ничего не нужно.",
        ),
        Language::En => {
            ("A test: the channel works", "An administrator of Spoor sent this, nothing is to be done.")
        }
    };
    let pages = pages.unwrap_or("").to_owned();
    Content {
        id: now.0,
        what: What::Fired,
        attempts: 1,
        alert,
        language: channel.language,
        title: title.to_owned(),
        text: text.to_owned(),
        link: pages.clone(),
        runbook: None,
        stages: Vec::new(),
        at: now,
        pages,
    }
}

impl Content {
    pub(super) fn is_over(&self) -> bool {
        self.what == What::Resolved
    }

    pub(super) fn status(&self) -> &'static str {
        if self.is_over() { "resolved" } else { "firing" }
    }

    /// The same message has the same key, however often it comes.
    pub(super) fn key(&self) -> String {
        format!("{}-{}", self.alert.fingerprint, self.id)
    }

    /// Labels as Alertmanager and those like it want them.
    pub(super) fn labels(&self, with_order: bool) -> Value {
        let mut labels = json!({
            "alertname": self.alert.rule,
            "rule": self.alert.rule,
            "severity": self.alert.severity.name(),
            "place": self.alert.held.place,
            // Alerts of orders at one place are several, and the number is not for everybody.
            "alert": self.alert.fingerprint,
            "source": "spoor",
        });
        if with_order && !self.alert.number.is_empty() {
            labels["order"] = json!(self.alert.number);
        }
        labels
    }

    pub(super) fn annotations(&self) -> Value {
        let mut annotations = json!({ "summary": self.title, "description": self.text });
        if let Some(runbook) = &self.runbook {
            annotations["runbook_url"] = json!(runbook);
        }
        annotations
    }

    pub(super) fn starts_at(&self) -> String {
        rfc3339(self.alert.fired_at.unwrap_or(self.at))
    }

    /// Of what fires a while from now: when nobody says anything any more, it is over.
    pub(super) fn ends_at(&self) -> String {
        rfc3339(if self.is_over() { self.alert.resolved_at.unwrap_or(self.at) } else { self.at.after(LASTS) })
    }

    /// The colour that goes with it.
    pub(super) fn colour(&self) -> &'static str {
        match (self.is_over(), self.alert.severity) {
            (true, _) => "#17703f",
            (_, Severity::Info) => "#2563c9",
            (_, Severity::Warning) => "#8a5a00",
            (_, Severity::Critical) => "#a81f18",
        }
    }
}

pub(super) fn rfc3339(at: At) -> String {
    Timestamp::from_microsecond(at.0).unwrap_or_default().to_string()
}
