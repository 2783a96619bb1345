//! Commands of whoever keeps the server → copies, a store from a copy, people and orders forgotten, keys under another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{Place, check_store};
use crate::access::{AccessLog, Entry};
use crate::facts::Key;
use crate::forward::{self, Spool, Whom};
use crate::intake::now;
use crate::model::Model;
use crate::private;
use crate::store::StoreError;
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
    ensure!(
        fs::symlink_metadata(to).is_err(),
        "{} exists: a copy is never written over another one",
        to.display()
    );
    let store = options.place.open_to_read(Model::default())?;
    private::folder(to).with_context(|| format!("cannot make {}", to.display()))?;
    // First the rows, then the keys: each row's key is older than the row.
    store.backup(&to.join("journeys.db")).context("cannot copy the store")?;
    copy(&from.join("keys"), &to.join("keys"))?;
    if from.join("access.db").exists() {
        options.place.folder.directory()?.backup(&to.join("access.db")).context("cannot copy the users")?;
    }
    if from.join("access").exists() {
        copy(&from.join("access"), &to.join("access"))?;
    }
    make_private(to)?;
    println!("copied to {}; the master key is not in it: keep that elsewhere", to.display());
    check_store(to, options.place.master()?)
}

/// Copies a backup to where there is nothing yet, and reads it. One that an older version made is brought up to this one.
pub(super) fn restore(options: &RestoreOptions) -> Result<ExitCode> {
    let to = &options.place.folder.data;
    ensure!(
        options.from.join("journeys.db").exists(),
        "there is no copy of a store in {}",
        options.from.display()
    );
    // Not only a store: what is left of one, such as its log of changes or users, would become a part of the restored one.
    ensure!(is_empty(to)?, "{} is not empty: move away what is there first", to.display());
    // Before anything is written: a copy that another key was used for would never open.
    let master = options.place.master()?;
    let opened = Sqlite::open_to_read(&options.from, master.clone(), Model::default());
    let is_older = match opened {
        Ok(_) => false,
        Err(StoreError::Older { .. }) => true,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot open the copy in {}", options.from.display()));
        }
    };
    // Nobody may begin a store there meanwhile.
    let lock = Sqlite::lock(to)?;
    copy_folder(&options.from, to)?;
    drop(lock);
    if is_older {
        let opened = Sqlite::open(to, master.clone(), Model::default());
        drop(opened.with_context(|| format!("cannot bring {} up to this version", to.display()))?);
    }
    println!("restored to {}", to.display());
    check_store(to, master)
}

/// Nothing is there, or a folder without content; new file systems have a folder of their own.
fn is_empty(folder: &Path) -> Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("cannot list {}", folder.display())),
    }
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
    let Forgotten { rows, unread, numbers, in_log } = done;
    println!("{rows} rows changed or gone");
    let whom = match &options.person {
        Some(person) => Whom::Person(person),
        None => Whom::Order { numbers: &numbers, attributes: &options.place.order_attributes },
    };
    if let Some(waiting) = forget_waiting(folder, &master, whom)? {
        println!("{waiting} requests that wait for another back end changed or gone");
    }
    if unread > 0 {
        println!("{unread} rows do not open and could not be looked at: `spoor-serve check` names them");
    }
    if in_log {
        println!(
            "somebody reads the store, so its log still has what was overwritten: do it again when nobody does"
        );
    }
    Ok(if unread > 0 || in_log { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Forgets in what waits for another back end, where there is one; how many requests changed or left.
fn forget_waiting(folder: &Path, master: &Master, whom: Whom<'_>) -> Result<Option<u64>> {
    let waiting = folder.join("forward");
    if !waiting.exists() {
        return Ok(None);
    }
    let key = Keys::file_key(&folder.join("keys"), master, "forward")?;
    let spool = Spool::open(&waiting, key, u64::MAX, Arc::default())?;
    forward::forget(&spool, whom).map(Some).context("cannot forget in what waits for another back end")
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
        copy(&path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    fs::File::open(to)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot keep {}", to.display()))
}

/// Copies a file, or a folder with all that is in it. A link is refused: whoever has the folder could name any file of the
/// machine by one, which whoever reads the copy would get.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let what = match fs::symlink_metadata(from) {
        Ok(data) => data.file_type(),
        // Retention may let a day go meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", from.display())),
    };
    if what.is_dir() {
        return copy_folder(from, to);
    }
    ensure!(what.is_file(), "{} is neither a file nor a folder: it cannot be copied", from.display());
    // What was about to be written, and who writes.
    if from.extension().is_some_and(|extension| extension == "new")
        || from.file_name() == Some("lock".as_ref())
    {
        return Ok(());
    }
    match private::copy(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        copied => copied.with_context(|| format!("cannot copy {}", from.display())),
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use clap::Parser;

    use super::*;
    use crate::store::sqlite::make_older;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        options: RestoreOptions,
    }

    /// A folder with a copy that an older version made, and its key.
    fn older() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("copy");
        fs::create_dir(&copy).expect("a folder");
        make_older(&copy.join("journeys.db"), 1);
        fs::write(folder.path().join("key"), [7; 32]).expect("a key");
        Keys::open(&copy.join("keys"), Master::from_bytes(&[7; 32]).expect("a key")).expect("keys");
        folder
    }

    fn restored(folder: &Path, to: &str) -> Result<ExitCode> {
        let path = |name: &str| folder.join(name).to_str().expect("text").to_owned();
        let words = [
            "restore".to_owned(),
            "--data".to_owned(),
            path(to),
            "--key-file".to_owned(),
            path("key"),
            path("copy"),
        ];
        restore(&Given::try_parse_from(words).expect("options").options)
    }

    #[test]
    fn a_copy_of_an_older_version_is_brought_up_to_this_one() {
        let folder = older();
        let code = restored(folder.path(), "new").expect("restored");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        let master = Master::from_bytes(&[7; 32]).expect("a key");
        Sqlite::open_to_read(&folder.path().join("new"), master.clone(), Model::default()).expect("a store");
        let copy = Sqlite::open_to_read(&folder.path().join("copy"), master, Model::default());
        assert!(matches!(copy, Err(StoreError::Older { .. })), "the copy stays as it was");
    }

    #[test]
    fn nothing_is_restored_into_a_folder_that_has_anything() {
        let folder = older();
        for name in ["journeys.db-wal", "access.db", "forward"] {
            let to = folder.path().join(format!("with {name}"));
            fs::create_dir(&to).expect("a folder");
            fs::write(to.join(name), "").expect("a file");
            let error = restored(folder.path(), &format!("with {name}")).expect_err("refused");
            assert!(error.to_string().contains("is not empty"), "{error}");
            assert_eq!(fs::read_dir(&to).expect("a folder").count(), 1);
        }
        fs::create_dir_all(folder.path().join("volume/lost+found")).expect("folders");
        restored(folder.path(), "volume").expect("an empty file system");
    }

    #[test]
    fn a_link_in_a_copy_is_refused() {
        let folder = older();
        fs::create_dir(folder.path().join("copy/access")).expect("a folder");
        fs::write(folder.path().join("secret"), "of somebody else").expect("a file");
        symlink(folder.path().join("secret"), folder.path().join("copy/access/2026-11-30.jsonl"))
            .expect("a link");
        let error = restored(folder.path(), "new").expect_err("refused");
        assert!(error.to_string().contains("neither a file nor a folder"), "{error}");
        assert!(!folder.path().join("new/access/2026-11-30.jsonl").exists());
    }
}
