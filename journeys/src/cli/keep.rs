//! Commands of whoever keeps the server → copies, a store from a copy, people and orders forgotten, keys under another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{Place, check_store};
use crate::access::{AccessLog, Entry};
use crate::facts::Key;
use crate::intake::now;
use crate::model::Model;
use crate::private;
use crate::store::seal::{Keys, Master};
use crate::store::sqlite::{Forgotten, Sqlite};

#[derive(Debug, Args)]
pub(super) struct BackupOptions {
    #[command(flatten)]
    place: Place,
    /// Folder for the copy; it must not exist
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreOptions {
    #[command(flatten)]
    place: Place,
    /// Folder with a copy that `spoor-serve backup` made
    from: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ForgetOptions {
    #[command(flatten)]
    place: Place,
    /// The number by which systems know the person: all orders stay, the person leaves them
    #[arg(long, required_unless_present = "order", conflicts_with = "order")]
    person: Option<String>,
    /// An order's number: all that is known of it leaves
    #[arg(long)]
    order: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RotateOptions {
    #[command(flatten)]
    place: Place,
    /// File with the new master key, made by `spoor-serve key new`
    new_key_file: PathBuf,
}

/// Copies everything but the master key, also while a server runs, and reads the copy.
pub(super) fn backup(options: &BackupOptions) -> Result<ExitCode> {
    let (from, to) = (&options.place.folder.data, &options.to);
    ensure!(!to.exists(), "{} exists: a copy is never written over another one", to.display());
    let store = options.place.open_to_read(Model::default())?;
    private::folder(to).with_context(|| format!("cannot make {}", to.display()))?;
    // First the rows, then the keys: each row's key is older than the row.
    store.backup(&to.join("journeys.db")).context("cannot copy the store")?;
    copy_folder(&from.join("keys"), &to.join("keys"))?;
    if from.join("access.db").exists() {
        options.place.folder.directory()?.backup(&to.join("access.db")).context("cannot copy the users")?;
    }
    if from.join("access").exists() {
        copy_folder(&from.join("access"), &to.join("access"))?;
    }
    make_private(to)?;
    println!("copied to {}; the master key is not in it: keep that elsewhere", to.display());
    check_store(to, options.place.master()?)
}

/// Copies a backup to where there is no store yet, and reads it.
pub(super) fn restore(options: &RestoreOptions) -> Result<ExitCode> {
    let to = &options.place.folder.data;
    ensure!(
        options.from.join("journeys.db").exists(),
        "there is no copy of a store in {}",
        options.from.display()
    );
    ensure!(
        !to.join("journeys.db").exists() && !to.join("keys").exists(),
        "there is a store in {}: move it away first",
        to.display()
    );
    // Before anything is written: a copy that another key was used for would never open.
    let master = options.place.master()?;
    Sqlite::open_to_read(&options.from, master.clone(), Model::default())
        .with_context(|| format!("cannot open the copy in {}", options.from.display()))?;
    copy_folder(&options.from, to)?;
    println!("restored to {}", to.display());
    check_store(to, master)
}

pub(super) fn forget(options: &ForgetOptions) -> Result<ExitCode> {
    let master = options.place.master()?;
    let store = options.place.open(options.place.model()?)?;
    let mut entry = Entry {
        who: std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default(),
        via: "command".to_owned(),
        action: "forget".to_owned(),
        ..Entry::default()
    };
    let done = match (&options.person, &options.order) {
        (Some(person), _) => {
            // Whom it was about is not written down again.
            entry.query = "a person".to_owned();
            store.forget_person(person, now())?
        }
        (None, order) => {
            let key = Key::parse(order.as_deref().unwrap_or("")).context("this is no order's number")?;
            entry.orders = vec![key.to_string()];
            store.forget_order(&key, now())?
        }
    };
    let folder = &options.place.folder.data;
    let key = Keys::log_key(&folder.join("keys"), &master)?;
    AccessLog::open(&folder.join("access"), key)?.write(entry, now())?;
    let Forgotten { rows, unread } = done;
    println!("{rows} rows changed or gone");
    if unread > 0 {
        println!("{unread} rows do not open and could not be looked at: `spoor-serve check` names them");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts all keys under another master key. Broken off, it goes on where it was when it is started again.
pub(super) fn rotate(options: &RotateOptions) -> Result<()> {
    let old = options.place.master()?;
    let bytes = fs::read(&options.new_key_file)
        .with_context(|| format!("cannot read {}", options.new_key_file.display()))?;
    let new = Master::from_bytes(&bytes).with_context(|| format!("in {}", options.new_key_file.display()))?;
    let folder = &options.place.folder.data;
    // Nobody may make a key under the old one meanwhile.
    let _lock = Sqlite::lock(folder)?;
    let count = Keys::rotate(&folder.join("keys"), &old, &new)?;
    println!(
        "{count} keys are under {} now: start the server with it and destroy the old one",
        options.new_key_file.display()
    );
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    private::folder(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", from.display()))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else if path.extension().is_none_or(|extension| extension != "new") {
            match fs::copy(&path, &target) {
                Ok(_) => private::adopt(&target)
                    .with_context(|| format!("cannot give {} away", target.display()))?,
                // Retention may let a day go meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot copy {}", path.display())),
            }
        }
    }
    Ok(())
}

/// SQLite makes its copies as the process makes files.
fn make_private(folder: &Path) -> Result<()> {
    for name in ["journeys.db", "access.db"] {
        let path = folder.join(name);
        if path.exists() {
            private::file(&path).with_context(|| format!("cannot make {} private", path.display()))?;
        }
    }
    Ok(())
}
