//! The store in one SQLite file, and the keys beside it.
//!
//! *Owns* connections: one that writes, some that read. *Spec*: SQLite documentation, "Write-Ahead Logging": readers do not
//! wait for the writer, and what was committed survives `kill -9`; with `synchronous=FULL` also the loss of power.
//!
//! ```text
//! FOLDER/journeys.db        orders (facts sealed), tags, counters
//! FOLDER/keys/              index.key, one key for each day
//! ```

mod join;
mod read;
mod retention;
mod schema;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::seal::{Keys, Master};
use super::{Counts, Group, Ingested, Order, OrderId, Page, Query, Retained, Retention, Store, StoreError};
use crate::facts::{At, Fact, Key};
use crate::model::{Model, Usual};

/// Idle connections that read and are kept for the next one.
const MAX_READERS: usize = 8;
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
}

impl Sqlite {
    /// Opens or makes the store in `folder`. Another process may not write to it at the same time.
    pub fn open(folder: &Path, master: Master, model: Model) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|source| super::seal::SealError::File {
            doing: "make the folder",
            path: folder.to_owned(),
            source,
        })?;
        let keys = Keys::open(&folder.join("keys"), master)?;
        let file = folder.join("journeys.db");
        let mut writer = Connection::open(&file).map_err(doing("cannot open the store's file"))?;
        schema::prepare(&mut writer)?;
        let usual = read::usual(&writer)?;
        Ok(Self {
            file,
            keys,
            model,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            usual: Mutex::new(Arc::new(usual)),
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

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic while writing rolled its transaction back: the connection is as good as before.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usual(&self) -> Arc<Usual> {
        self.usual.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads in one snapshot, which a writer does not disturb.
    fn reading<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => self.new_reader()?,
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

    fn new_reader(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader =
            Connection::open_with_flags(&self.file, flags).map_err(doing("cannot open the store to read"))?;
        reader.busy_timeout(BUSY).map_err(doing("cannot set how long to wait"))?;
        Ok(reader)
    }
}

impl Store for Sqlite {
    fn ingest(&self, facts: Vec<Fact>, now: At) -> Result<Ingested, StoreError> {
        self.write(facts, now)
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

    fn judge_due(&self, now: At, limit: usize) -> Result<usize, StoreError> {
        self.judge_again(now, limit)
    }

    fn pin(&self, id: OrderId, pinned: bool) -> Result<(), StoreError> {
        let writer = self.writer();
        let pin = writer.execute("UPDATE orders SET pinned = ?2 WHERE id = ?1", (id.0, pinned));
        pin.map(|_| ()).map_err(doing("cannot pin an order"))
    }

    fn retain(&self, retention: Retention, now: At) -> Result<Retained, StoreError> {
        self.let_go(retention, now)
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
