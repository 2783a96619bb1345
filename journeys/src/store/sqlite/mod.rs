//! The store in one SQLite file, and the keys beside it.
//!
//! *Owns* connections: one that writes, some that read. *Spec*: SQLite documentation, "Write-Ahead Logging": readers do not
//! wait for the writer, and what was committed survives `kill -9`; with `synchronous=FULL` also the loss of power.
//!
//! ```text
//! FOLDER/journeys.db        orders (facts sealed), tags of numbers and traces, counters
//! FOLDER/keys/              index.key, one key for each day
//! FOLDER/lock               locked by the process that writes
//! ```

mod agents;
mod alerts;
mod dictionary;
mod forget;
mod join;
mod learn;
mod outbox;
mod read;
mod retention;
mod schema;
mod traces;
mod watch;
mod write;

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::broadcast;

pub use self::forget::Forgotten;
use self::learn::Lessons;
#[cfg(test)]
pub(crate) use self::schema::make_older;
use super::seal::{Keys, Master, SealError, TAG_LEN};
use super::{
    Changes, Counts, Group, Ingested, Look, Order, OrderId, Page, Query, Retained, Retention, Store,
    StoreError, Trace, TraceId,
};
use crate::facts::{At, Beat, Fact, Key};
use crate::intake::now;
use crate::model::{Model, Usual};
use crate::private;
use crate::rules::RuleSet;

/// Idle connections that read and are kept for the next one.
const MAX_READERS: usize = 8;
/// Batches of changes that somebody who listens may be behind.
const MAX_CHANGES: usize = 64;
/// A reader of another process, such as a backup, may hold the file for so long.
const BUSY: Duration = Duration::from_secs(10);

/// A store in a folder.
#[derive(Debug)]
pub struct Sqlite {
    file: PathBuf,
    keys: Keys,
    model: Model,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    usual: Mutex<Arc<Usual>>,
    /// `None`: nobody is warned of anything.
    rules: RwLock<Option<Arc<RuleSet>>>,
    /// Somebody is warned when a server runs: what is changed without one is looked at then.
    is_watched: bool,
    /// Agents that were silent when that was looked at last.
    silent: Mutex<BTreeSet<String>>,
    /// Tags of people who are taken out of what comes.
    forgotten: RwLock<BTreeSet<[u8; TAG_LEN]>>,
    changed: broadcast::Sender<Arc<BTreeSet<OrderId>>>,
    /// Held while this process may write; the system gives it back, however the process ends.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens or makes the store in `folder` to write to it, which one process does at a time: what another one has learned
    /// and counted would be lost.
    pub fn open(folder: &Path, master: Master, model: Model) -> Result<Self, StoreError> {
        let lock = Self::lock(folder)?;
        let keys = Keys::open(&folder.join("keys"), master)?;
        let file = folder.join("journeys.db");
        private::file(&file).map_err(failed("make a file in", folder))?;
        let mut writer = Connection::open(&file).map_err(doing("cannot open the store's file"))?;
        schema::prepare(&mut writer)?;
        schema::follow(&mut writer, "model", &model)?;
        let store = Self::with(file, keys, model, writer, Some(lock))?;
        // Nobody could say anything to a server that was not there.
        let now = now();
        store.change_usual(|usual| usual.agents.values_mut().for_each(|agent| agent.awaited_from = now));
        Ok(store)
    }

    /// Keeps others from writing to the store in `folder`, as long as it is held.
    pub fn lock(folder: &Path) -> Result<File, StoreError> {
        private::folder(folder).map_err(failed("make the folder", folder))?;
        let lock = private::file(&folder.join("lock")).map_err(failed("make a file in", folder))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(folder.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", folder)(source)),
        }
    }

    /// Copies the store's file as it is at one moment, also while it is written to. The keys are not in it.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let to = to.to_str().ok_or(StoreError::Damaged("the copy's path is no text"))?;
        open_reader(&self.file)?
            .execute("VACUUM INTO ?1", [to])
            .map(|_| ())
            .map_err(doing("cannot copy the store's file"))
    }

    /// Opens the store in `folder` to read it, also beside a process that writes. Nothing is made and nothing is changed.
    pub fn open_to_read(folder: &Path, master: Master, model: Model) -> Result<Self, StoreError> {
        let file = folder.join("journeys.db");
        if !file.exists() {
            return Err(StoreError::NoStore(folder.to_owned()));
        }
        let keys = Keys::open_to_read(&folder.join("keys"), master)?;
        let reader = open_reader(&file)?;
        schema::check(&reader)?;
        Self::with(file, keys, model, reader, None)
    }

    fn with(
        file: PathBuf,
        keys: Keys,
        model: Model,
        writer: Connection,
        lock: Option<File>,
    ) -> Result<Self, StoreError> {
        let usual = Mutex::new(Arc::new(learn::usual(&writer)?));
        let forgotten = RwLock::new(forget::forgotten(&writer)?);
        let (rules, is_watched) = (RwLock::default(), watch::is_watched(&writer)?);
        let (writer, readers) = (Mutex::new(writer), Mutex::default());
        let changed = broadcast::Sender::new(MAX_CHANGES);
        Ok(Self {
            file,
            keys,
            model,
            writer,
            readers,
            usual,
            rules,
            is_watched,
            silent: Mutex::default(),
            forgotten,
            changed,
            _lock: lock,
        })
    }

    /// The file may grow to so many bytes; a batch beyond is refused as on a full disk.
    pub fn set_max_bytes(&self, bytes: u64) -> Result<(), StoreError> {
        let writer = self.writer();
        let page_len: i64 = writer
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .map_err(doing("cannot ask for the size of pages"))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page_len.max(1);
        writer
            .pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))
            .map_err(doing("cannot bound the file"))
    }

    fn change_usual(&self, change: impl FnOnce(&mut Usual)) {
        change(Arc::make_mut(&mut self.usual.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic while writing rolled its transaction back: the connection is as good as before.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes rows in one transaction, and what they teach with them. What is usual is read when the writer is held already
    /// and told to readers only once all is committed: who reads it before would put back what another one learned meanwhile.
    /// `change` gives, beside its result, the rows that may be others now.
    fn changing<T>(
        &self,
        now: At,
        change: impl FnOnce(&Connection, &Usual, &mut Lessons) -> Result<(T, BTreeSet<i64>), StoreError>,
    ) -> Result<T, StoreError> {
        let mut db = self.writer();
        let mut usual = self.usual();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to write"))?;
        let mut lessons = Lessons::at(now);
        let (done, changed) = change(&transaction, &usual, &mut lessons)?;
        lessons.write(&transaction, &mut usual)?;
        transaction.commit().map_err(doing("cannot commit a change"))?;
        *self.usual.lock().unwrap_or_else(PoisonError::into_inner) = usual;
        self.tell(changed);
        Ok(done)
    }

    /// Tells those who listen; that nobody does is no matter.
    fn tell(&self, rows: BTreeSet<i64>) {
        if !rows.is_empty() && self.changed.receiver_count() > 0 {
            let _ = self.changed.send(Arc::new(rows.into_iter().map(OrderId).collect()));
        }
    }

    /// Reads in one snapshot, which a writer does not disturb.
    fn reading<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => open_reader(&self.file)?,
        };
        let snapshot = reader.transaction().map_err(doing("cannot begin to read"))?;
        let found = read(&snapshot);
        drop(snapshot);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < MAX_READERS {
            readers.push(reader);
        }
        found
    }
}

fn failed(doing: &'static str, folder: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = folder.to_owned();
    move |source| StoreError::Seal(SealError::File { doing, path, source })
}

fn open_reader(file: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(file, flags).map_err(doing("cannot open the store to read"))?;
    reader.busy_timeout(BUSY).map_err(doing("cannot set how long to wait"))?;
    Ok(reader)
}

impl Store for Sqlite {
    fn ingest(&self, facts: Vec<Fact>, now: At) -> Result<Ingested, StoreError> {
        self.write(facts, now)
    }

    fn alive(&self, beats: Vec<Beat>, now: At) -> Result<(), StoreError> {
        self.agents_alive(beats, now)
    }

    fn find(&self, key: &Key) -> Result<Vec<OrderId>, StoreError> {
        let tag = self.keys.tag(key);
        self.reading(|db| read::find(db, &tag))
    }

    fn order(&self, id: OrderId, now: At) -> Result<Option<Order>, StoreError> {
        let usual = self.usual();
        self.reading(|db| self.read_order(db, id, &usual, now))
    }

    fn list(&self, query: &Query, now: At) -> Result<Page, StoreError> {
        let usual = self.usual();
        self.reading(|db| self.read_page(db, query, &usual, now))
    }

    fn groups(&self, limit: usize) -> Result<Vec<Group>, StoreError> {
        self.reading(|db| read::groups(db, limit))
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.reading(read::counts)
    }

    fn recent(&self, limit: usize) -> Result<Vec<Key>, StoreError> {
        self.reading(|db| self.read_recent(db, limit))
    }

    fn trace(&self, id: &TraceId) -> Result<Trace, StoreError> {
        self.reading(|db| self.read_trace(db, id))
    }

    fn walk(&self, from: At, to: At, look: &mut dyn Look) -> Result<(), StoreError> {
        self.reading(|db| self.walk_rows(db, from, to, look))
    }

    fn judge_due(&self, now: At, limit: usize) -> Result<usize, StoreError> {
        self.judge_again(now, limit)
    }

    fn pin(&self, id: OrderId, pinned: bool) -> Result<(), StoreError> {
        let writer = self.writer();
        let pin = writer.execute("UPDATE orders SET pinned = ?2 WHERE id = ?1", (id.0, pinned));
        pin.map_err(doing("cannot pin an order"))?;
        self.tell([id.0].into());
        Ok(())
    }

    fn retain(&self, retention: Retention, now: At) -> Result<Retained, StoreError> {
        self.let_go(retention, now)
    }

    fn usual(&self) -> Arc<Usual> {
        self.usual.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn changes(&self) -> Changes {
        self.changed.subscribe()
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        self.reading(|db| self.read_everything(db))
    }
}

/// Adds to an error what was being done. A full disk is an error of its own: its remedy is another one.
fn doing(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full(source),
        _ => StoreError::Sqlite { doing: what, source },
    }
}

#[cfg(test)]
mod tests;
