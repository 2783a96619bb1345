//! A connection → one with the tables of this version and the settings that keep promises.

use rusqlite::{Connection, TransactionBehavior};

use super::{BUSY, doing};
use crate::store::StoreError;

/// One text for each version of the file, applied in order; `user_version` says how many were.
const MIGRATIONS: &[&str] = &["
    -- One row for each number that an operation calls its order by. `joined_to` is the row that stands for several.
    CREATE TABLE orders(
        id INTEGER PRIMARY KEY,
        tag BLOB NOT NULL UNIQUE,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        stage INTEGER,
        stage_since INTEGER,
        outcome INTEGER NOT NULL,
        grp INTEGER,
        since INTEGER NOT NULL,
        due_at INTEGER,
        pinned INTEGER NOT NULL DEFAULT 0,
        joined_to INTEGER,
        day INTEGER NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
    CREATE INDEX orders_outcome ON orders(outcome, since, id) WHERE joined_to IS NULL;
    CREATE INDEX orders_group ON orders(grp, since, id) WHERE joined_to IS NULL AND grp IS NOT NULL;
    CREATE INDEX orders_stage ON orders(stage, since, id) WHERE joined_to IS NULL;
    CREATE INDEX orders_last ON orders(last_at, id);
    CREATE INDEX orders_due ON orders(due_at) WHERE joined_to IS NULL AND due_at IS NOT NULL;
    CREATE INDEX orders_joined ON orders(joined_to) WHERE joined_to IS NOT NULL;
    CREATE INDEX orders_day ON orders(day);
    -- All numbers of an order, blind.
    CREATE TABLE keys(tag BLOB NOT NULL, order_id INTEGER NOT NULL, PRIMARY KEY(tag, order_id)) WITHOUT ROWID, STRICT;
    CREATE INDEX keys_order ON keys(order_id);
    CREATE TABLE dictionary(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
    -- Kept with every change of a row: counting half a million rows takes 182 ms.
    CREATE TABLE counts(stage INTEGER NOT NULL, outcome INTEGER NOT NULL, orders INTEGER NOT NULL,
        PRIMARY KEY(stage, outcome)) WITHOUT ROWID, STRICT;
    CREATE TABLE groups(grp INTEGER NOT NULL, outcome INTEGER NOT NULL, orders INTEGER NOT NULL,
        PRIMARY KEY(grp, outcome)) WITHOUT ROWID, STRICT;
    CREATE TABLE usual(destination INTEGER PRIMARY KEY, published INTEGER NOT NULL, delivered INTEGER NOT NULL) STRICT;
    -- Sealed facts that did not open when others came: put aside, not thrown away, in case their key is found.
    CREATE TABLE quarantine(order_id INTEGER NOT NULL, at INTEGER NOT NULL, day INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
"];

pub(super) fn prepare(db: &mut Connection) -> Result<(), StoreError> {
    db.busy_timeout(BUSY).map_err(doing("cannot set how long to wait"))?;
    // Freed pages can be given back to the disk; has no effect on a file that has tables already.
    for (name, value) in [
        ("auto_vacuum", "incremental"),
        ("journal_mode", "wal"),
        // What is acknowledged survives a loss of power.
        ("synchronous", "full"),
        // What was deleted is overwritten.
        ("secure_delete", "on"),
        ("foreign_keys", "on"),
        // The log is written back and begun anew when it is so many pages long.
        ("wal_autocheckpoint", "4000"),
        ("cache_size", "-65536"),
    ] {
        db.pragma_update_and_check(None, name, value, |_| Ok(()))
            .or_else(
                |error| {
                    if matches!(error, rusqlite::Error::QueryReturnedNoRows) { Ok(()) } else { Err(error) }
                },
            )
            .map_err(doing("cannot prepare the store's file"))?;
    }
    migrate(db)
}

fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(doing("cannot look at the version of the store's file"))?;
    let found: i64 = transaction
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(doing("cannot read the version of the store's file"))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction
            .execute_batch(migration)
            .map_err(doing("cannot bring the store's file up to this version"))?;
    }
    transaction
        .pragma_update(None, "user_version", known)
        .map_err(doing("cannot write the version of the store's file"))?;
    transaction.commit().map_err(doing("cannot bring the store's file up to this version"))
}
