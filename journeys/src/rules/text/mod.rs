//! An alert and what it is about → the words in which it is told, by a template of the house or the built-in one.
//!
//! Nothing personal is in them: an order's number, stages, systems, queues, times and counts; of a failure its code, not its
//! message. Words that came from traffic lose what may be a number or an address of somebody; the house's own stay as they
//! are. *Must not know* how they are sent: whoever puts them into HTML escapes them.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::window::{Event, WindowWhen};
use super::{Held, Measured, OrderWhen, Rule, Severity, When};
use crate::facts::At;
use crate::fold::{Incident, Journey, Lost, Place, Reason, Says, Usually, Verdict};
use crate::model::{Model, Title, shape};
use crate::sentence::{self, Language, Words, sentence};

/// Longest text that a template may make, in characters.
const MAX_TEXT: usize = 2_000;
/// Steps that a template may take: a loop without an end is none.
const FUEL: u64 = 50_000;

/// What templates may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The order's number; empty where it is about a place.
    pub order: String,
    /// How many orders, of a group.
    pub orders: u64,
    pub rule: String,
    pub severity: &'static str,
    pub stage: String,
    pub place: String,
    /// Since when, and for how long.
    pub since: String,
    pub age: String,
    pub limit: String,
    /// What was measured: a share, a length, a number.
    pub value: String,
    /// The sentence of the order's page, without messages of failures.
    pub reason: String,
    pub link: String,
    /// It is told long after it was due.
    pub late: bool,
    pub resolved: bool,
}

/// An order, where an alert is about one.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub journey: &'a Journey,
    pub verdict: &'a Verdict,
}

/// What is told of an alert at `now`.
#[derive(Clone, Copy, Debug)]
pub struct Alerted<'a> {
    pub rule: &'a Rule,
    pub severity: Severity,
    pub held: &'a Held,
    /// The order's number as the alert has it; empty where it is about a place. An order that does not open is told by it.
    pub number: &'a str,
    pub about: Option<About<'a>>,
    /// Of a group.
    pub orders: Option<u64>,
    pub late: bool,
    pub resolved: bool,
    pub link: &'a str,
}

impl Alerted<'_> {
    fn told(&self, model: &Model, words: &Words, now: At) -> Told {
        let held = self.held;
        let (value, limit) = measured(held.measured, words);
        let journey = self.about.map(|about| about.journey);
        let stage = journey.and_then(Journey::stage).map(|mark| model.in_clear(&mark.name));
        let reason = self.about.map(|about| {
            let verdict = without_messages(about.verdict, model);
            sentence(&verdict, about.journey, model, words, now).text
        });
        let order = journey.and_then(|journey| journey.keys.first()).map(ToString::to_string);
        let order = order.unwrap_or_else(|| self.number.to_owned());
        Told {
            orders: self.orders.unwrap_or(u64::from(!order.is_empty())),
            order,
            rule: self.rule.id.clone(),
            severity: self.severity.name(),
            stage: stage.map(|stage| sentence::stage(model, words.language, &stage)).unwrap_or_default(),
            place: place(self.rule, &held.place, model, words.language),
            since: words.time(held.since, now),
            age: words.duration(now.since(held.since)),
            limit,
            value,
            reason: reason.unwrap_or_default(),
            link: self.link.to_owned(),
            late: self.late,
            resolved: self.resolved,
        }
    }

    /// One line: what it is.
    pub fn title(&self, model: &Model, words: &Words, now: At) -> String {
        let told = self.told(model, words, now);
        let ru = words.language == Language::Ru;
        let title = match self.orders {
            Some(orders) => {
                let count = i64::try_from(orders).unwrap_or(i64::MAX);
                let many = words.plural(
                    count,
                    if ru { "заказ" } else { "order" },
                    "заказа",
                    if ru { "заказов" } else { "orders" },
                );
                let what = group_title(&self.rule.when, &told, ru);
                format!("{} {many}: {what}", words.number(count))
            }
            None => self.own_text(&told, words).unwrap_or_else(|| title(&self.rule.when, &told, ru)),
        };
        match (self.resolved, self.late, ru) {
            (true, _, true) => format!("Закончилось: {title}"),
            (true, _, false) => format!("Over: {title}"),
            (false, true, true) => format!("{title} (сообщено с опозданием)"),
            (false, true, false) => format!("{title} (told late)"),
            (false, false, _) => title,
        }
    }

    /// What else there is to say: the sentence, since when.
    pub fn text(&self, model: &Model, words: &Words, now: At) -> String {
        let told = self.told(model, words, now);
        let since = match words.language {
            Language::Ru => format!("С {} ({}).", told.since, told.age),
            Language::En => format!("Since {} ({}).", told.since, told.age),
        };
        if told.reason.is_empty() { since } else { told.reason }
    }

    /// By the house's own template; `None` where there is none for the language or it fails.
    fn own_text(&self, told: &Told, words: &Words) -> Option<String> {
        let template = match words.language {
            Language::Ru => &self.rule.text.ru,
            Language::En => &self.rule.text.en,
        };
        let template = Some(template.as_str()).filter(|template| !template.is_empty())?;
        // It was tried when the file was read.
        render(template, told).ok()
    }
}

/// The text that a template makes.
pub fn render(template: &str, told: &impl Serialize) -> Result<String, String> {
    Ok(render_body(template, told)?.chars().take(MAX_TEXT).collect())
}

/// The whole body that a template makes.
pub fn render_body(template: &str, told: &impl Serialize) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let text = environment.render_str(template, Value::from(Serde(told)));
    text.map_err(|error| first_line(&error.to_string()))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Whether a house's templates name only what there is.
pub(super) fn check(text: &Title) -> Result<(), String> {
    for template in [&text.ru, &text.en] {
        render(template, &Told::default())
            .map_err(|error| format!("the text `{template}` cannot be used: {error}"))?;
    }
    Ok(())
}

/// Names of stages and systems as people know them.
fn place(rule: &Rule, place: &str, model: &Model, language: Language) -> String {
    let is_stage = matches!(
        rule.when,
        When::Order(OrderWhen::StageAge { .. } | OrderWhen::NoProgress { .. } | OrderWhen::Skipped { .. })
            | When::Window(WindowWhen::StageDuration { .. })
    );
    let as_stage = model.stages.iter().any(|stage| stage.name == place);
    if is_stage || as_stage {
        return sentence::stage(model, language, &model.in_clear(place));
    }
    sentence::service(model, language, place)
}

fn measured(measured: Measured, words: &Words) -> (String, String) {
    let share = |share: u32| {
        let point = if words.language == Language::Ru { ',' } else { '.' };
        match share % 100 {
            0 => format!("{} %", share / 100),
            rest => format!("{}{point}{rest:02} %", share / 100),
        }
    };
    let number = |count: u64| words.number(i64::try_from(count).unwrap_or(i64::MAX));
    match measured {
        Measured::Fact => (String::new(), String::new()),
        Measured::Age { limit_micros } => (String::new(), words.duration(limit_micros)),
        Measured::Share { share: found, limit, .. } => (share(found), share(limit)),
        Measured::Length { micros, limit_micros, .. } => {
            (words.duration(micros), words.duration(limit_micros))
        }
        Measured::Count { count, limit } => (number(count), number(limit)),
    }
}

fn title(when: &When, told: &Told, ru: bool) -> String {
    let Told { order, stage, place, age, limit, value, .. } = told;
    match when {
        When::Order(when) => match (when, ru) {
            (OrderWhen::StageAge { .. }, true) => {
                format!("Заказ {order}: на этапе «{place}» {age}, предел {limit}")
            }
            (OrderWhen::StageAge { .. }, false) => {
                format!("Order {order}: at stage “{place}” for {age}, the limit is {limit}")
            }
            (OrderWhen::NoProgress { .. }, true) => {
                format!("Заказ {order}: ничего не происходит {age}, этап «{stage}»")
            }
            (OrderWhen::NoProgress { .. }, false) => {
                format!("Order {order}: nothing has happened for {age}, stage “{stage}”")
            }
            (OrderWhen::QueueWithoutConsumer { .. }, true) => {
                format!("Заказ {order}: сообщение лежит в очереди {place} {age}, получателей нет")
            }
            (OrderWhen::QueueWithoutConsumer { .. }, false) => {
                format!(
                    "Order {order}: a message has been in queue {place} for {age}, and nobody takes from it"
                )
            }
            (OrderWhen::MessageWaits { .. }, true) => {
                format!("Заказ {order}: сообщение в {place} никто не берёт {age}")
            }
            (OrderWhen::MessageWaits { .. }, false) => {
                format!("Order {order}: nobody has taken the message to {place} for {age}")
            }
            (OrderWhen::Lost { .. }, true) => format!("Заказ {order}: сообщение потеряно ({place})"),
            (OrderWhen::Lost { .. }, false) => format!("Order {order}: a message was lost ({place})"),
            (OrderWhen::Enters { .. }, true) => format!("Заказ {order}: {} ({place})", entered(when, true)),
            (OrderWhen::Enters { .. }, false) => format!("Order {order}: {} ({place})", entered(when, false)),
            (OrderWhen::Backwards { .. }, true) => {
                format!("Заказ {order}: {place} вернул его на прежний этап")
            }
            (OrderWhen::Backwards { .. }, false) => {
                format!("Order {order}: {place} put it back to an earlier stage")
            }
            (OrderWhen::Skipped { .. }, true) => format!("Заказ {order}: пропущен этап «{place}»"),
            (OrderWhen::Skipped { .. }, false) => format!("Order {order}: stage “{place}” was skipped"),
            (OrderWhen::Disagree { .. }, true) => {
                format!("Заказ {order}: системы расходятся {age}, отстаёт {place}")
            }
            (OrderWhen::Disagree { .. }, false) => {
                format!("Order {order}: systems have disagreed for {age}, {place} is behind")
            }
            (OrderWhen::Repeated { to, .. }, true) => {
                format!("Заказ {order}: {place} дважды записал «{}»", shape(to))
            }
            (OrderWhen::Repeated { to, .. }, false) => {
                format!("Order {order}: {place} came to “{}” twice", shape(to))
            }
            (OrderWhen::UnknownStatus { .. }, true) => format!("Заказ {order}: незнакомый статус в {place}"),
            (OrderWhen::UnknownStatus { .. }, false) => {
                format!("Order {order}: {place} has a status that is not known")
            }
            (OrderWhen::EntersQueue { .. }, true) => {
                format!("Заказ {order}: сообщение попало в очередь {place}")
            }
            (OrderWhen::EntersQueue { .. }, false) => {
                format!("Order {order}: a message came to queue {place}")
            }
        },
        When::Window(when) => match (when, ru) {
            (WindowWhen::ErrorRate { .. }, true) => {
                format!("{place}: {value} операций с ошибкой, предел {limit}")
            }
            (WindowWhen::ErrorRate { .. }, false) => {
                format!("{place}: {value} of operations fail, the limit is {limit}")
            }
            (WindowWhen::Volume { event, .. }, true) => {
                format!("{}: {value}, предел {limit}", of_event(*event, true))
            }
            (WindowWhen::Volume { event, .. }, false) => {
                format!("{}: {value}, the limit is {limit}", of_event(*event, false))
            }
            (WindowWhen::StageDuration { .. }, true) => {
                format!("Этап «{place}» идёт дольше: {value}, предел {limit}")
            }
            (WindowWhen::StageDuration { .. }, false) => {
                format!("Stage “{place}” takes longer: {value}, the limit is {limit}")
            }
            (WindowWhen::ResponseTime { .. }, true) => {
                format!("{place} отвечает медленно: {value}, предел {limit}")
            }
            (WindowWhen::ResponseTime { .. }, false) => {
                format!("{place} answers slowly: {value}, the limit is {limit}")
            }
            (WindowWhen::StatementDuration { .. }, true) => {
                format!("{place}: запросы к базе идут долго: {value}, предел {limit}")
            }
            (WindowWhen::StatementDuration { .. }, false) => {
                format!("{place}: statements take long: {value}, the limit is {limit}")
            }
            (WindowWhen::Coverage { .. }, true) => {
                format!("{place}: {value} операций видны не целиком, предел {limit}")
            }
            (WindowWhen::Coverage { .. }, false) => {
                format!("{place}: {value} of operations are not seen whole, the limit is {limit}")
            }
            (WindowWhen::ChannelBroken, true) => format!("Канал {place} не принимает сообщения"),
            (WindowWhen::ChannelBroken, false) => format!("Channel {place} does not take messages"),
            (WindowWhen::AgentSilent { .. }, true) => {
                format!("Агент на машине {place} молчит {age}: что там происходит, не видно")
            }
            (WindowWhen::AgentSilent { .. }, false) => {
                format!("The agent on {place} has been silent for {age}: what happens there is not seen")
            }
            (WindowWhen::ServiceSilent { .. }, true) => format!("{place}: ничего не слышно {age}"),
            (WindowWhen::ServiceSilent { .. }, false) => format!("{place}: nothing has been heard for {age}"),
        },
    }
}

fn entered(when: &OrderWhen, ru: bool) -> String {
    let OrderWhen::Enters { what, .. } = when else { return String::new() };
    let language = if ru { Language::Ru } else { Language::En };
    match (what, ru) {
        (super::Entered::Outcome(outcome), _) => sentence::outcome(*outcome, language).to_owned(),
        (super::Entered::Stage(stage), true) => format!("перешёл на этап «{}»", shape(stage)),
        (super::Entered::Stage(stage), false) => format!("came to stage “{}”", shape(stage)),
    }
}

fn of_event(event: Event, ru: bool) -> &'static str {
    match (event, ru) {
        (Event::Created, true) => "Новых заказов",
        (Event::Finished, true) => "Готовых заказов",
        (Event::Failed, true) => "Остановленных заказов",
        (Event::Lost, true) => "Потерянных заказов",
        (Event::Created, false) => "New orders",
        (Event::Finished, false) => "Finished orders",
        (Event::Failed, false) => "Failed orders",
        (Event::Lost, false) => "Lost orders",
    }
}

/// Of many orders at once: what they have in common.
fn group_title(when: &When, told: &Told, ru: bool) -> String {
    let place = &told.place;
    let When::Order(when) = when else { return place.clone() };
    match (when, ru) {
        (OrderWhen::StageAge { .. }, true) => format!("долго на этапе «{place}»"),
        (OrderWhen::StageAge { .. }, false) => format!("at stage “{place}” for too long"),
        (OrderWhen::NoProgress { .. }, true) => format!("без движения на этапе «{place}»"),
        (OrderWhen::NoProgress { .. }, false) => format!("without progress at stage “{place}”"),
        (OrderWhen::MessageWaits { .. }, true) => format!("сообщения в {place} никто не берёт"),
        (OrderWhen::MessageWaits { .. }, false) => format!("nobody takes messages to {place}"),
        (OrderWhen::QueueWithoutConsumer { .. }, true) => format!("лежат в очереди {place}, получателей нет"),
        (OrderWhen::QueueWithoutConsumer { .. }, false) => {
            format!("in queue {place}, from which nobody takes")
        }
        (OrderWhen::Lost { .. }, true) => format!("сообщения потеряны ({place})"),
        (OrderWhen::Lost { .. }, false) => format!("messages were lost ({place})"),
        (OrderWhen::Enters { .. }, ru) => format!("{} ({place})", entered(when, ru)),
        (OrderWhen::Backwards { .. }, true) => format!("возвращены назад ({place})"),
        (OrderWhen::Backwards { .. }, false) => format!("put back to an earlier stage ({place})"),
        (OrderWhen::Skipped { .. }, true) => format!("пропущен этап «{place}»"),
        (OrderWhen::Skipped { .. }, false) => format!("stage “{place}” was skipped"),
        (OrderWhen::Disagree { .. }, true) => format!("системы расходятся, отстаёт {place}"),
        (OrderWhen::Disagree { .. }, false) => format!("systems disagree, {place} is behind"),
        (OrderWhen::Repeated { .. }, true) => format!("{place}: статус записан дважды"),
        (OrderWhen::Repeated { .. }, false) => format!("{place}: came to a status twice"),
        (OrderWhen::UnknownStatus { .. }, true) => format!("{place}: незнакомые статусы"),
        (OrderWhen::UnknownStatus { .. }, false) => format!("{place}: statuses that are not known"),
        (OrderWhen::EntersQueue { .. }, true) => format!("сообщения попали в очередь {place}"),
        (OrderWhen::EntersQueue { .. }, false) => format!("messages came to queue {place}"),
    }
}

/// What a verdict says without what systems and traffic say freely: messages of failures go, names lose what may be a
/// number. No reason is passed on as it is: one that gets a name of traffic must say here what is left of it.
fn without_messages(verdict: &Verdict, model: &Model) -> Verdict {
    let usual = verdict.usual.as_ref().map(|usual| match usual {
        Usually::GoOn { stage, micros } => Usually::GoOn { stage: model.in_clear(stage), micros: *micros },
        Usually::Take { micros } => Usually::Take { micros: *micros },
        Usually::Last { micros } => Usually::Last { micros: *micros },
    });
    Verdict { reason: reason_without_messages(&verdict.reason, model), usual, ..verdict.clone() }
}

fn reason_without_messages(reason: &Reason, model: &Model) -> Reason {
    let incident = |by: &Incident| Box::new(without_message(by));
    let says = |says: &Says| Says { status: model.in_clear(&says.status), ..says.clone() };
    match reason {
        Reason::Finished { says: of, took_micros } => {
            Reason::Finished { says: says(of), took_micros: *took_micros }
        }
        Reason::Refused { says: of, by } => {
            Reason::Refused { says: says(of), by: by.as_ref().map(|by| incident(by)) }
        }
        Reason::Broke { by, says: of } => Reason::Broke { by: incident(by), says: of.as_ref().map(says) },
        Reason::NotSettled { service, queue, since, attempts } => Reason::NotSettled {
            service: service.clone(),
            queue: shape(queue),
            since: *since,
            attempts: *attempts,
        },
        Reason::Hangs { service, operation, on, since } => Reason::Hangs {
            service: service.clone(),
            operation: shape(operation),
            on: on.clone(),
            since: *since,
        },
        Reason::InQueue { queue, since, consumers, depth } => {
            Reason::InQueue { queue: shape(queue), since: *since, consumers: *consumers, depth: *depth }
        }
        Reason::Lost(lost) => Reason::Lost(without_numbers(lost)),
        Reason::Disagree { ahead, behind } => Reason::Disagree { ahead: says(ahead), behind: says(behind) },
        Reason::NotSeen { node, since, at, before } => Reason::NotSeen {
            node: node.clone(),
            since: *since,
            at: *at,
            before: Box::new(reason_without_messages(before, model)),
        },
        Reason::NoProgress { since, says: of } => {
            Reason::NoProgress { since: *since, says: of.as_ref().map(says) }
        }
        Reason::SomebodysTurn { who, stage, since, limit_micros } => Reason::SomebodysTurn {
            who: who.clone(),
            stage: model.in_clear(stage),
            since: *since,
            limit_micros: *limit_micros,
        },
        Reason::Moving { stage, since } => {
            Reason::Moving { stage: stage.as_deref().map(|stage| model.in_clear(stage)), since: *since }
        }
        Reason::Nothing => Reason::Nothing,
    }
}

fn without_message(incident: &Incident) -> Incident {
    let mut incident = incident.clone();
    incident.trouble.message.clear();
    incident.trouble.code = code_in_clear(&incident.trouble.code);
    incident.operation = shape(&incident.operation);
    incident.place = incident.place.map(|place| match place {
        Place::Queue(queue) => Place::Queue(shape(&queue)),
        Place::Storage(bucket) => Place::Storage(shape(&bucket)),
        // Services and hosts are the house's own.
        Place::Service(_) | Place::Outside(_) => place,
    });
    incident
}

fn without_numbers(lost: &Lost) -> Lost {
    let mut lost = lost.clone();
    match &mut lost {
        Lost::Returned { destination, .. }
        | Lost::Refused { destination, .. }
        | Lost::NotTaken { destination, .. } => {
            *destination = shape(destination);
        }
        Lost::Rejected { queue, dead_letter, .. } => {
            *queue = shape(queue);
            *dead_letter = dead_letter.as_deref().map(shape);
        }
        Lost::NoSuchOrder { status, .. } => *status = shape(status),
    }
    lost
}

/// A protocol's code is short, and none is a number of more than five digits (an SQLSTATE); what is longer may be anything.
fn code_in_clear(code: &str) -> String {
    let is_code = code.len() <= 8 && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let digits = code.chars().filter(char::is_ascii_digit).count();
    if is_code && digits <= 5 { code.to_owned() } else { shape(code) }
}

#[cfg(test)]
mod tests;
