//! A verdict and its journey → a sentence that support can read to the customer, in Russian and English.
//!
//! *Owns* every word that a person without technical knowledge reads about an order. Pure: the time of day and the time
//! zone are given. *Must not know* HTML: its texts contain foreign words, which pages escape.
//!
//! The languages are two files of functions, not tables of texts: plural forms and cases of Russian are checked by the
//! same compiler as the reasons they speak of, and a reason without a sentence does not compile.

mod en;
mod evidence;
mod ru;
mod words;

pub use self::evidence::{Event, EventKind, certainty, events, proofs, role};
pub use self::words::{Language, Words};
use crate::facts::{At, Unseen};
use crate::fold::{self, Gap, Journey, Outcome, Reason, Verdict};
use crate::model::Model;

/// So many things that were not seen are told one by one.
const MAX_UNSEEN: usize = 5;

/// What stands on top of an order's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// One word for how it is, and for how long: `stuck · 41 min`.
    pub state: String,
    pub text: String,
    /// What was not seen and may matter.
    pub unseen: Vec<String>,
}

/// The sentence about an order at `now`.
pub fn sentence(verdict: &Verdict, journey: &Journey, model: &Model, words: &Words, now: At) -> Sentence {
    let told = Told { words, model, now };
    let mut text = match words.language {
        Language::Ru => ru::reason(&told, &verdict.reason),
        Language::En => en::reason(&told, &verdict.reason),
    };
    if let Some(usual) = &verdict.usual {
        text.push(' ');
        text.push_str(&match words.language {
            Language::Ru => ru::usually(&told, usual),
            Language::En => en::usually(&told, usual),
        });
    }
    if let Some(again) = fold::again(journey, model) {
        text.push(' ');
        text.push_str(&match words.language {
            Language::Ru => ru::again(&told, &again),
            Language::En => en::again(&told, &again),
        });
    }
    Sentence { state: state(verdict, words, now), text, unseen: unseen(journey, &told) }
}

/// What the sentences need to know beside the reason.
struct Told<'a> {
    words: &'a Words,
    model: &'a Model,
    now: At,
}

impl Told<'_> {
    /// What people call a system.
    fn system(&self, service: &str, collection: &str) -> String {
        system(self.model, self.words.language, service, collection)
    }

    /// What people call the system of a service, whatever table it is about.
    fn service(&self, service: &str) -> String {
        self::service(self.model, self.words.language, service)
    }

    /// What people call a stage.
    fn stage(&self, name: &str) -> String {
        stage(self.model, self.words.language, name)
    }
}

fn title(title: &crate::model::Title, language: Language) -> &str {
    match language {
        Language::Ru if !title.ru.is_empty() => &title.ru,
        Language::En if !title.en.is_empty() => &title.en,
        _ if title.ru.is_empty() => &title.en,
        _ => &title.ru,
    }
}

/// What people call a record: the model's title, else the service.
pub fn system(model: &Model, language: Language, service: &str, collection: &str) -> String {
    let named = model.record(service, collection).map(|(_, record)| title(&record.title, language));
    named.filter(|name| !name.is_empty()).unwrap_or(service).to_owned()
}

/// What people call the system of a service, whatever table it is about.
pub fn service(model: &Model, language: Language, name: &str) -> String {
    let record = model.records.values().find(|record| record.matches.service == name);
    let named = record.map(|record| title(&record.title, language)).filter(|title| !title.is_empty());
    named.unwrap_or(name).to_owned()
}

/// What people call a stage: the model's title, else the status itself.
pub fn stage(model: &Model, language: Language, name: &str) -> String {
    let named =
        model.stages.iter().find(|stage| stage.name == name).map(|stage| title(&stage.title, language));
    named.filter(|name| !name.is_empty()).unwrap_or(name).to_owned()
}

/// One word for an outcome.
pub fn outcome(outcome: Outcome, language: Language) -> &'static str {
    match (outcome, language) {
        (Outcome::Moving, Language::Ru) => "в работе",
        (Outcome::Waiting, Language::Ru) => "ждёт",
        (Outcome::Stuck, Language::Ru) => "завис",
        (Outcome::Lost, Language::Ru) => "потерян",
        (Outcome::Failed, Language::Ru) => "остановлен",
        (Outcome::Finished, Language::Ru) => "готов",
        (Outcome::Quiet, Language::Ru) => "без движения",
        (Outcome::Moving, Language::En) => "in progress",
        (Outcome::Waiting, Language::En) => "waiting",
        (Outcome::Stuck, Language::En) => "stuck",
        (Outcome::Lost, Language::En) => "lost",
        (Outcome::Failed, Language::En) => "stopped",
        (Outcome::Finished, Language::En) => "finished",
        (Outcome::Quiet, Language::En) => "no movement",
    }
}

fn state(verdict: &Verdict, words: &Words, now: At) -> String {
    if let Reason::NotSeen { since, .. } = &verdict.reason {
        let word = if words.language == Language::Ru { "не видно" } else { "not seen" };
        return format!("{word} · {}", words.duration(now.since(*since)));
    }
    let word = outcome(verdict.outcome, words.language);
    match verdict.outcome {
        Outcome::Finished => word.to_owned(),
        _ => format!("{word} · {}", words.duration(now.since(verdict.since))),
    }
}

fn unseen(journey: &Journey, told: &Told<'_>) -> Vec<String> {
    let ru = told.words.language == Language::Ru;
    let mut lines: Vec<String> =
        journey.gaps.iter().take(MAX_UNSEEN).map(|gap| gap_line(gap, told)).collect();
    let more = journey.gaps.len().saturating_sub(MAX_UNSEEN);
    if more > 0 {
        let more = told.words.number(i64::try_from(more).unwrap_or(i64::MAX));
        lines.push(if ru {
            format!("И ещё таких мест: {more}.")
        } else {
            format!("And {more} more such places.")
        });
    }
    if journey.truncated {
        lines.push(
            if ru {
                "Операций больше, чем хранится: изменения и ошибки сохранены все до предела, из остального — начало и конец."
            } else {
                "There are more operations than are kept: of changes and failures up to the limit, of the rest the beginning and the end."
            }
            .to_owned(),
        );
    }
    if journey.records.is_empty() {
        lines.push(
            if ru {
                "Ни одна запись статуса этого заказа не видна."
            } else {
                "No write of this order's status can be seen."
            }
            .to_owned(),
        );
    }
    lines
}

fn gap_line(gap: &Gap, told: &Told<'_>) -> String {
    let (service, at) = (told.service(&gap.service), told.words.time(gap.from, told.now));
    match (told.words.language, gap.cause) {
        (Language::Ru, Unseen::Gap) => format!("{service}, {at}: часть данных не захвачена."),
        (Language::Ru, Unseen::Cut) => {
            format!("{service}, {at}: соединение оборвалось, конец операции не виден.")
        }
        (Language::Ru, Unseen::Open) => {
            format!("{service}, {at}: операция не завершилась, пока за ней следили.")
        }
        (Language::Ru, Unseen::Start) => format!("{service}, {at}: начало операции не видно."),
        (Language::En, Unseen::Gap) => format!("{service}, {at}: some bytes were not captured."),
        (Language::En, Unseen::Cut) => {
            format!("{service}, {at}: the connection ended, the operation's end was not seen.")
        }
        (Language::En, Unseen::Open) => {
            format!("{service}, {at}: the operation had not ended while it was watched.")
        }
        (Language::En, Unseen::Start) => format!("{service}, {at}: the operation's beginning was not seen."),
    }
}

#[cfg(test)]
mod tests;
