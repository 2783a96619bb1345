//! Commands about rules and channels → what is wrong, what they would have said, whether somebody hears it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::Place;
use crate::channels;
use crate::facts::At;
use crate::intake::now;
use crate::model::{Model, parse_limit};
use crate::rules::test_file::TestFile;
use crate::rules::trial::{Trial, Warned, messages};
use crate::rules::{RuleSet, When};
use crate::store::Store;
use crate::store::alerts::Alerts;
use crate::time::DAY;

/// Alerts that a trial shows one by one.
const EXAMPLES: usize = 10;

#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// Print all rules that are in force
    List(Files),
    /// Read a file and say what is wrong with it
    Check(Files),
    /// Say whether rules do what files of tests expect
    Test {
        #[command(flatten)]
        files: Files,
        /// Files that say what happens and which alerts that should make
        #[arg(required = true)]
        tests: Vec<PathBuf>,
    },
    /// Say which alerts rules would have made of the orders that are kept
    Try {
        #[command(flatten)]
        place: Box<Place>,
        /// How far back, such as 28d
        #[arg(long, default_value = "28d", value_parser = last)]
        last: i64,
        /// Only this rule
        #[arg(long)]
        rule: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Files {
    /// File with rules and channels; the built-in rules when none is given
    #[arg(long, env = "SPOOR_SERVE_RULES")]
    rules: Option<PathBuf>,
    /// File with the names of systems, stages and limits
    #[arg(long, env = "SPOOR_SERVE_MODEL")]
    model: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Send a test to a channel
    Test {
        #[command(flatten)]
        files: Files,
        /// The channel's name in the file
        channel: String,
    },
}

fn last(text: &str) -> Result<i64, String> {
    let last = parse_limit(text).filter(|last| last.0 <= 400 * DAY);
    last.map(|last| last.0).ok_or_else(|| format!("`{text}` is no time such as 28d"))
}

/// Reads rules over the built-in ones.
pub(super) fn read(file: Option<&Path>, model: &Model) -> Result<RuleSet> {
    let text = match file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => String::new(),
    };
    let place = || match file {
        Some(file) => format!("in {}", file.display()),
        None => "in the built-in rules".to_owned(),
    };
    let set = RuleSet::parse(&text, model).with_context(place)?;
    for channel in &set.channels {
        let checked = channels::check(channel).map_err(anyhow::Error::msg);
        checked.with_context(|| format!("channel `{}`", channel.name)).with_context(place)?;
    }
    Ok(set)
}

impl Files {
    fn read(&self) -> Result<(RuleSet, Model)> {
        let model = super::model(self.model.as_deref())?;
        Ok((read(self.rules.as_deref(), &model)?, model))
    }
}

pub(super) fn rules(command: &RulesCommand) -> Result<ExitCode> {
    match command {
        RulesCommand::List(files) => {
            let (set, _) = files.read()?;
            for rule in &set.rules {
                println!("- {}", rule.source.replace('\n', "\n  "));
            }
        }
        RulesCommand::Check(files) => {
            let (set, _) = files.read()?;
            let own = set.rules.iter().filter(|rule| rule.is_own).count();
            println!(
                "{} rules, {own} of them the house's own; {} channels",
                set.rules.len(),
                set.channels.len()
            );
            for channel in &set.channels {
                println!("channel {} ({})", channel.name, channel.kind.name());
            }
        }
        RulesCommand::Test { files, tests } => return test(files, tests),
        RulesCommand::Try { place, last, rule } => try_on_past(place, *last, rule.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn test(files: &Files, tests: &[PathBuf]) -> Result<ExitCode> {
    let (set, model) = files.read()?;
    let mut failed = 0;
    for file in tests {
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        let test = TestFile::parse(&text).with_context(|| format!("in {name}"))?;
        let differences =
            test.run(&set, &model).map_err(anyhow::Error::msg).with_context(|| format!("in {name}"))?;
        if differences.is_empty() {
            println!("{name}: as expected");
        } else {
            failed += 1;
            println!("{name}: differs");
            differences.iter().for_each(|line| println!("  {line}"));
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn try_on_past(place: &Place, last: i64, only: Option<&str>) -> Result<()> {
    let model = place.model()?;
    let mut set = read(place.rules.as_deref(), &model)?;
    if let Some(only) = only {
        set.rules.retain(|rule| rule.id == only);
        if set.rules.is_empty() {
            bail!("there is no rule `{only}`");
        }
    }
    let store = place.open_to_read(model.clone())?;
    let now = now();
    let from = At(now.0.saturating_sub(last));
    let usual = store.usual();
    let mut trial = Trial::new(&set, &model, &usual, from, now);
    let orders = store.each_order(from, u64::MAX, &mut |facts| trial.order(facts))?;
    let warned = trial.finish();
    println!("{orders} orders; what is usual is what it is today");
    let mut by_rule: BTreeMap<&str, Vec<&Warned>> = BTreeMap::new();
    for one in &warned {
        by_rule.entry(&one.rule).or_default().push(one);
    }
    for rule in &set.rules {
        let of = by_rule.remove(rule.id.as_str()).unwrap_or_default();
        let count = of.len();
        let over = of.iter().filter(|one| one.resolved_at.is_some()).count();
        let own: Vec<Warned> = of.iter().map(|one| (*one).clone()).collect();
        let what = if matches!(rule.when, When::Order(_)) { "orders" } else { "places" };
        println!(
            "{}: {count} alerts of {what}, {} messages; {over} ended by themselves",
            rule.id,
            messages(&own)
        );
        for one in of.iter().take(EXAMPLES) {
            let order = one.order.as_ref().map(ToString::to_string).unwrap_or_default();
            let end = one.resolved_at.map_or("still".to_owned(), shown);
            println!("  {} – {end}  {order}  {}", shown(one.fired_at), one.place);
        }
        if count > EXAMPLES {
            println!("  and {} more", count - EXAMPLES);
        }
    }
    Ok(())
}

fn shown(at: At) -> String {
    Timestamp::from_microsecond(at.0)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

pub(super) fn notify(command: &NotifyCommand) -> Result<ExitCode> {
    let NotifyCommand::Test { files, channel } = command;
    let (set, _) = files.read()?;
    let Some(found) = set.channel(channel) else {
        let names: Vec<&str> = set.channels.iter().map(|channel| channel.name.as_str()).collect();
        bail!("there is no channel `{channel}`; there are: {}", names.join(", "));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let content = channels::test_content(found, set.pages.as_deref(), now());
    let told = runtime.block_on(channels::deliver(found, &[content]));
    // A name that is still being looked for, or a file that does not end, is not waited for.
    runtime.shutdown_background();
    match told {
        Ok(()) => {
            println!("{channel} took it");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("{channel}: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_channel_can_never_send_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rules.yaml");
        let given = |template: &str| {
            let text =
                format!("channels:\n  hook: {{ webhook: {{ url: 'https://x', template: '{template}' }} }}\n");
            fs::write(&file, text).expect("written");
            read(Some(&file), &Model::default()).map_err(|error| format!("{error:#}"))
        };
        assert!(given("{{ spoor.title }}").is_ok());
        let error = given("{{ spoor.titel }}").expect_err("there is no such field");
        assert!(error.contains("rules.yaml: channel `hook`: the template failed"), "{error}");
    }
}
