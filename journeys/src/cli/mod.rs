//! The command line of `spoor-serve` → an exit code.
//!
//! *Owns* options, starting and stopping. Errors end here as one line with their causes.

mod keep;
mod order;
mod people;
mod rules;
mod serve;
mod sign_on;

use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::access::{AccessLog, Directory};
use crate::intake::{self, now};
use crate::model::Model;
use crate::private;
use crate::store::Store;
use crate::store::seal::{Keys, Master};
use crate::store::sqlite::Sqlite;

/// Where is order 4711? Takes spans over OTLP, keeps orders, shows where each one is.
#[derive(Debug, Parser)]
#[command(name = "spoor-serve", version, propagate_version = true)]
struct Command {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Receive spans and serve pages until SIGINT or SIGTERM
    Run(Box<serve::Options>),
    /// Read files of OTLP/JSON lines, as `spoor replay --print otlp-json` writes them, while no server runs
    Import {
        #[command(flatten)]
        place: Place,
        /// Files to read; `-` is the standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Say where an order is; exit code 3 when nobody named it
    Order(order::Options),
    /// Read everything that is kept and say what is wrong with it
    Check(Place),
    /// Copy everything but the master key, also while a server runs, and read the copy
    Backup(keep::BackupOptions),
    /// Bring a copy to where there is no store yet, and read it
    Restore(keep::RestoreOptions),
    /// Forget a person, or an order, while no server runs
    Forget(keep::ForgetOptions),
    /// Invite, list and disable the people who may look
    User {
        #[command(subcommand)]
        command: people::UserCommand,
    },
    /// Make a token for a program
    Token(people::TokenOptions),
    /// Say who saw an order, or check that the log is whole
    AccessLog(people::LogOptions),
    /// Check, test and try the rules by which alerts are made
    Rules {
        #[command(subcommand)]
        command: rules::RulesCommand,
    },
    /// Tell a channel something
    Notify {
        #[command(subcommand)]
        command: rules::NotifyCommand,
    },
    /// Make a master key
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Write a new key to a file that does not exist yet
    New { file: PathBuf },
    /// Put all keys under a new master key, while no server runs
    Rotate(keep::RotateOptions),
}

/// Where everything is kept.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// Folder of the store
    #[arg(long, env = "SPOOR_SERVE_DATA", default_value = "/var/lib/spoor-serve")]
    data: PathBuf,
}

/// Where orders are kept and how they are read.
#[derive(Debug, Args)]
pub(crate) struct Place {
    #[command(flatten)]
    folder: Folder,
    /// File with the master key, made by `spoor-serve key new`
    #[arg(long, env = "SPOOR_SERVE_KEY_FILE", default_value = "/etc/spoor-serve/master.key")]
    key_file: PathBuf,
    /// File with the names of systems, stages and limits
    #[arg(long, env = "SPOOR_SERVE_MODEL")]
    model: Option<PathBuf>,
    /// File with rules, channels and routes of alerts; the built-in rules hold without one
    #[arg(long, env = "SPOOR_SERVE_RULES")]
    rules: Option<PathBuf>,
    /// Attribute of spans that names an order; may be given several times
    #[arg(
        long = "order-attribute",
        env = "SPOOR_SERVE_ORDER_ATTRIBUTES",
        value_delimiter = ',',
        default_value = "order.id"
    )]
    order_attributes: Vec<String>,
}

impl Place {
    fn model(&self) -> Result<Model> {
        model(self.model.as_deref())
    }

    fn master(&self) -> Result<Master> {
        let key = fs::read(&self.key_file).with_context(|| {
            format!(
                "cannot read the master key {}; `spoor-serve key new FILE` makes one",
                self.key_file.display()
            )
        })?;
        Master::from_bytes(&key).with_context(|| format!("in {}", self.key_file.display()))
    }

    /// The store, to write to it. Nobody is warned of what a command does; the server looks at it when it runs.
    fn open(&self, model: Model) -> Result<Arc<Sqlite>> {
        let store = Sqlite::open(&self.folder.data, self.master()?, model);
        Ok(Arc::new(store.with_context(|| self.cannot_open())?))
    }

    /// The store, beside a server that writes to it.
    fn open_to_read(&self, model: Model) -> Result<Sqlite> {
        Sqlite::open_to_read(&self.folder.data, self.master()?, model).with_context(|| self.cannot_open())
    }

    fn cannot_open(&self) -> String {
        format!("cannot open the store in {}", self.folder.data.display())
    }
}

impl Folder {
    fn directory(&self) -> Result<Directory> {
        private::folder(&self.data).with_context(|| format!("cannot make {}", self.data.display()))?;
        let file = self.data.join("access.db");
        Directory::open(&file).with_context(|| format!("cannot open {}", file.display()))
    }
}

/// The model in a file, or what there is without one.
fn model(file: Option<&Path>) -> Result<Model> {
    let Some(file) = file else { return Ok(Model::default()) };
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Model::parse(&text).with_context(|| format!("in {}", file.display()))
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match run(Command::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Sub) -> Result<ExitCode> {
    match command {
        Sub::Run(options) => serve::run(&options)?,
        Sub::Import { place, files } => import(&place, &files)?,
        Sub::Order(options) => return order::run(&options),
        Sub::Check(place) => return check_store(&place.folder.data, place.master()?),
        Sub::Backup(options) => return keep::backup(&options),
        Sub::Restore(options) => return keep::restore(&options),
        Sub::Forget(options) => return keep::forget(&options),
        Sub::User { command } => people::user(&command)?,
        Sub::Token(options) => people::token(&options)?,
        Sub::AccessLog(options) => return people::access_log(&options),
        Sub::Rules { command } => return rules::rules(&command),
        Sub::Notify { command } => return rules::notify(&command),
        Sub::Key { command: KeyCommand::New { file } } => new_key(&file)?,
        Sub::Key { command: KeyCommand::Rotate(options) } => keep::rotate(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn import(place: &Place, files: &[PathBuf]) -> Result<()> {
    let store = place.open(place.model()?)?;
    for file in files {
        let name = file.display();
        if file.as_os_str() == "-" {
            import_one(place, &store, &mut std::io::stdin().lock()).context("in the standard input")?;
        } else {
            let mut from =
                BufReader::new(fs::File::open(file).with_context(|| format!("cannot open {name}"))?);
            import_one(place, &store, &mut from).with_context(|| format!("in {name}"))?;
        }
    }
    Ok(())
}

fn import_one(place: &Place, store: &Sqlite, from: &mut impl std::io::BufRead) -> Result<()> {
    let (mut spans, mut new, mut no_order) = (0_u64, 0_u64, 0_u64);
    for line in 1.. {
        let Some(read) = intake::lines::next(from, line, &place.order_attributes)? else { break };
        spans += read.facts.len() as u64 + read.no_order + read.signposts + read.invalid;
        no_order += read.no_order;
        new += store.ingest(read.facts, now())?.new;
    }
    println!("{spans} spans, {new} new facts, {no_order} spans of no order");
    Ok(())
}

/// What is wrong with a store and its access log.
fn check_store(folder: &Path, master: Master) -> Result<ExitCode> {
    let key = Keys::log_key(&folder.join("keys"), &master)?;
    let store = Sqlite::open_to_read(folder, master, Model::default());
    let mut problems =
        store.with_context(|| format!("cannot open the store in {}", folder.display()))?.check()?;
    let log = folder.join("access");
    if log.exists()
        && let Err(error) = AccessLog::to_read(&log, key).verify()
    {
        problems.push(error.to_string());
    }
    if problems.is_empty() {
        println!("nothing is wrong");
        return Ok(ExitCode::SUCCESS);
    }
    problems.iter().for_each(|problem| println!("{problem}"));
    Ok(ExitCode::FAILURE)
}

fn new_key(file: &Path) -> Result<()> {
    let key = Master::generate()?;
    // A key that is in use is not overwritten.
    let opened = private::options().write(true).create_new(true).open(file);
    let mut to = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists: a store that was made with that key would not open any more", file.display())
        }
        opened => opened.with_context(|| format!("cannot make {}", file.display()))?,
    };
    to.write_all(format!("{}\n", key.to_hex()).as_bytes())
        .and_then(|()| to.sync_all())
        .with_context(|| format!("cannot write {}", file.display()))
}
