//! A journey → what happened, line by line, with how each line is known.

use super::{Language, Told, Words, en, ru, system};
use crate::facts::{At, FactId, Person, PersonRole, Sent, Settled, Work};
use crate::fold::{Certainty, Change, Journey, Message, OpenWork, Record, Verdict};
use crate::model::Model;

/// One thing that happened to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: At,
    /// What people call the system.
    pub system: String,
    pub kind: EventKind,
    pub text: String,
    /// Who did it, by number.
    pub who: Vec<Person>,
    /// How it is known.
    pub how: &'static str,
    pub evidence: Vec<FactId>,
}

/// What sort of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    Change,
    Message,
    Failure,
    /// It was not over when it was told last.
    Open,
}

/// Changes, messages and failures, oldest first.
pub fn events(journey: &Journey, model: &Model, words: &Words, now: At) -> Vec<Event> {
    let told = Told { words, model, now };
    let changes = journey
        .records
        .iter()
        .flat_map(|record| record.changes.iter().map(move |change| (record, change)))
        .map(|(record, change)| changed(&told, record, change));
    let messages = journey.messages.iter().flat_map(|message| passed(&told, message));
    let failures = journey.incidents.iter().filter(|incident| !incident.passed_on).map(|incident| {
        let text = match words.language {
            Language::Ru => ru::trouble(&incident.trouble),
            Language::En => en::trouble(&incident.trouble),
        };
        Event {
            at: incident.at,
            system: told.service(&incident.service),
            kind: EventKind::Failure,
            text: if incident.operation.is_empty() {
                text
            } else {
                format!("{}: {text}", incident.operation)
            },
            who: Vec::new(),
            how: "",
            evidence: incident.evidence.clone(),
        }
    });
    let open = journey.open.iter().map(|open| goes_on(&told, open));
    let mut events: Vec<Event> = changes.chain(messages).chain(failures).chain(open).collect();
    // Stable: changes of one transaction stay in their order.
    events.sort_by_key(|event| (event.at, event.kind));
    events
}

/// Those of an order's events that prove its verdict.
pub fn proofs<'a>(events: &'a [Event], verdict: &Verdict) -> impl Iterator<Item = &'a Event> {
    events.iter().filter(|event| event.evidence.iter().any(|id| verdict.evidence.contains(id)))
}

fn changed(told: &Told<'_>, record: &Record, change: &Change) -> Event {
    let text = match (told.words.language, &change.from) {
        (Language::Ru, Some(from)) => format!("статус {from} → {}", change.to),
        (Language::Ru, None) => format!("статус {}", change.to),
        (Language::En, Some(from)) => format!("status {from} → {}", change.to),
        (Language::En, None) => format!("status {}", change.to),
    };
    Event {
        at: change.at,
        system: system(told.model, told.words.language, &record.service, &record.collection),
        kind: EventKind::Change,
        text,
        who: change.by.clone(),
        how: certainty(change.certainty, told.words.language),
        evidence: change.evidence.clone(),
    }
}

/// Work that was not over when it was told last.
fn goes_on(told: &Told<'_>, open: &OpenWork) -> Event {
    let ru = told.words.language == Language::Ru;
    let text = match (&open.work, ru) {
        (Work::Waiting { queue, destination, .. }, true) => {
            format!("сообщение ждёт в очереди {}", queue.as_ref().unwrap_or(destination))
        }
        (Work::Waiting { queue, destination, .. }, false) => {
            format!("the message waits in queue {}", queue.as_ref().unwrap_or(destination))
        }
        (_, true) => format!("не закончено: {}", open.operation),
        (_, false) => format!("has not ended: {}", open.operation),
    };
    let is_known = open.is_known(told.now);
    let how = match (ru, is_known) {
        (true, true) => "сообщается, пока длится",
        (true, false) => "больше не сообщается; конец не виден",
        (false, true) => "told as long as it lasts",
        (false, false) => "not told any more; its end was not seen",
    };
    Event {
        at: open.since,
        system: told.service(&open.service),
        kind: EventKind::Open,
        text,
        who: Vec::new(),
        how,
        evidence: vec![open.evidence],
    }
}

/// The sending of a message, and each time somebody took it.
fn passed(told: &Told<'_>, message: &Message) -> Vec<Event> {
    let ru = told.words.language == Language::Ru;
    let sent = match (ru, message.sent) {
        (true, Sent::Confirmed) => "принято брокером сообщений",
        (true, Sent::Unconfirmed) => "подтверждение не запрашивалось",
        (true, Sent::Refused) => "брокер не принял",
        (true, Sent::Returned) => "ни одна очередь не приняла",
        (false, Sent::Confirmed) => "taken by the message broker",
        (false, Sent::Unconfirmed) => "no confirmation was asked for",
        (false, Sent::Refused) => "refused by the broker",
        (false, Sent::Returned) => "no queue took it",
    };
    let destination = &message.destination;
    let mut events = vec![Event {
        at: message.at,
        system: told.service(&message.service),
        kind: EventKind::Message,
        text: if ru {
            format!("отправлено сообщение {destination}")
        } else {
            format!("sent message {destination}")
        },
        who: Vec::new(),
        how: sent,
        evidence: message.evidence.clone(),
    }];
    for handling in &message.handled {
        let queue = &handling.queue;
        events.push(Event {
            at: handling.from,
            system: told.service(&handling.service),
            kind: EventKind::Message,
            text: if ru {
                format!("взято сообщение из очереди {queue}")
            } else {
                format!("took a message from queue {queue}")
            },
            who: Vec::new(),
            how: settled(handling.settled, told.words.language),
            evidence: vec![handling.evidence],
        });
    }
    events
}

fn settled(settled: Settled, language: Language) -> &'static str {
    match (language, settled) {
        (Language::Ru, Settled::Acknowledged) => "подтверждено",
        (Language::Ru, Settled::Automatic) => "без подтверждения",
        (Language::Ru, Settled::PutBack) => "возвращено в очередь",
        (Language::Ru, Settled::Rejected) => "отклонено",
        (Language::Ru, Settled::Unknown) => "исход не виден",
        (Language::En, Settled::Acknowledged) => "acknowledged it",
        (Language::En, Settled::Automatic) => "needs no acknowledgement",
        (Language::En, Settled::PutBack) => "put it back",
        (Language::En, Settled::Rejected) => "rejected it",
        (Language::En, Settled::Unknown) => "what became of it was not seen",
    }
}

/// How a change is known, in a word.
pub fn certainty(certainty: Certainty, language: Language) -> &'static str {
    match (language, certainty) {
        (Language::Ru, Certainty::Committed) => "записано в базу и зафиксировано",
        (Language::Ru, Certainty::Written) => "записано в базу; фиксация не видна",
        (Language::Ru, Certainty::Announced) => "сообщено и принято",
        (Language::Ru, Certainty::Observed) => "прочитано; изменилось не позже",
        (Language::En, Certainty::Committed) => "written and committed",
        (Language::En, Certainty::Written) => "written; the commit was not seen",
        (Language::En, Certainty::Announced) => "told and agreed to",
        (Language::En, Certainty::Observed) => "read; changed at the latest then",
    }
}

/// What a person is to an order.
pub fn role(role: PersonRole, language: Language) -> &'static str {
    match (language, role) {
        (Language::Ru, PersonRole::User) => "клиент",
        (Language::Ru, PersonRole::Seller) => "продавец",
        (Language::Ru, PersonRole::Operator) => "оператор",
        (Language::Ru, PersonRole::Partner) => "партнёр",
        (Language::En, PersonRole::User) => "customer",
        (Language::En, PersonRole::Seller) => "seller",
        (Language::En, PersonRole::Operator) => "operator",
        (Language::En, PersonRole::Partner) => "partner",
    }
}
