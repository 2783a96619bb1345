//! An order's number → its sentence, stages and events as text.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use jiff::tz::TimeZone;

use super::Place;
use crate::facts::Key;
use crate::fold::StageState;
use crate::intake::now;
use crate::model::Model;
use crate::sentence::{self, Language, Words, sentence};
use crate::store::{Order, Store};

/// Nobody named the order.
const NOT_FOUND: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The number, with its numbering system if it is not the usual one: 4711, crm:SO-77
    number: String,
    /// ru or en; the language of the environment when not given
    #[arg(long)]
    lang: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let key = Key::parse(&options.number).context("this is no order's number")?;
    let model = options.place.model()?;
    let store = options.place.open_to_read(model.clone())?;
    let words = Words { language: language(options.lang.as_deref()), zone: TimeZone::system() };
    let found = store.find(&key)?;
    if found.is_empty() {
        eprintln!("{}", not_found(words.language, &key));
        return Ok(ExitCode::from(NOT_FOUND));
    }
    for id in found {
        if let Some(order) = store.order(id, now())? {
            print!("{}", page(&order, &model, &words));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn language(given: Option<&str>) -> Language {
    let from_environment = || {
        ["LC_ALL", "LC_MESSAGES", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    };
    given
        .map(str::to_owned)
        .or_else(from_environment)
        .and_then(|text| Language::parse(&text))
        .unwrap_or(Language::En)
}

fn not_found(language: Language, key: &Key) -> String {
    match language {
        Language::Ru => format!("Номер {key} не называла ни одна система."),
        Language::En => format!("No system named the number {key}."),
    }
}

/// All that fits on a screen.
fn page(order: &Order, model: &Model, words: &Words) -> String {
    let now = now();
    let told = sentence(&order.verdict, &order.journey, model, words, now);
    let ru = words.language == Language::Ru;
    let mut keys = order.journey.keys.iter().map(Key::to_string);
    let mut out = format!("{} {}", if ru { "Заказ" } else { "Order" }, keys.next().unwrap_or_default());
    for other in keys {
        out.push_str(&format!(" ({other})"));
    }
    out.push_str(&format!("   {}\n\n  {}\n", told.state.to_uppercase(), told.text));
    for line in &told.unseen {
        out.push_str(&format!("  {line}\n"));
    }
    out.push('\n');
    for mark in &order.journey.stages {
        let sign = match mark.state.under(order.verdict.outcome) {
            StageState::Done => '✓',
            StageState::Current => '▶',
            StageState::Failed => '✖',
            StageState::Skipped => '–',
            StageState::Ahead => ' ',
        };
        let at = mark.at.map(|at| words.exact(at, now)).unwrap_or_default();
        out.push_str(&format!("  {sign} {at:<23}  {}\n", sentence::stage(model, words.language, &mark.name)));
    }
    out.push('\n');
    for event in sentence::events(&order.journey, model, words, now) {
        out.push_str(&format!("  {}  {}: {}", words.exact(event.at, now), event.system, event.text));
        if !event.how.is_empty() {
            out.push_str(&format!("  [{}]", event.how));
        }
        out.push('\n');
    }
    out
}
