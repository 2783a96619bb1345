//! A connection → one with the tables of this version and the settings that keep promises.

use std::fmt::Debug;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::{BUSY, doing};
use crate::store::{StoreError, set_pragmas};

/// One text for each version of the file, applied in order; `user_version` says how many were.
const MIGRATIONS: &[&str] = &[
    "
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
",
    "
    -- A list of one stage and one outcome is one walk, whatever else is at the stage.
    DROP INDEX orders_stage;
    CREATE INDEX orders_stage ON orders(stage, outcome, since, id) WHERE joined_to IS NULL;
    -- What the row has taught, so that it can be taken back.
    ALTER TABLE orders ADD COLUMN learned BLOB;
    -- How often something took how long, by classes of lengths that each are a tenth longer than the one before.
    CREATE TABLE times(kind INTEGER NOT NULL, what INTEGER NOT NULL, whom INTEGER NOT NULL, period INTEGER NOT NULL,
        class INTEGER NOT NULL, orders INTEGER NOT NULL, failed INTEGER NOT NULL,
        PRIMARY KEY(kind, what, whom, period, class)) WITHOUT ROWID, STRICT;
    -- When each service was last heard of.
    CREATE TABLE heard(service INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;
    -- People who are not kept again, blind.
    CREATE TABLE forgotten(tag BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID, STRICT;
",
    "
    -- Under which model the orders were judged.
    CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;
",
    "
    -- In which period an order taught what it has taught, so that it is taken back there.
    ALTER TABLE orders ADD COLUMN learned_in INTEGER;
    -- When messages of a destination were last counted.
    ALTER TABLE usual ADD COLUMN period INTEGER NOT NULL DEFAULT 0;
    UPDATE usual SET period = coalesce((SELECT max(period) FROM times), unixepoch() / 86400 / 28);
    -- How many words there are: kept as they come and go.
    CREATE TABLE words(n INTEGER NOT NULL) STRICT;
    INSERT INTO words SELECT count(*) FROM dictionary;
    CREATE TRIGGER word_came AFTER INSERT ON dictionary BEGIN UPDATE words SET n = n + 1; END;
    CREATE TRIGGER word_went AFTER DELETE ON dictionary BEGIN UPDATE words SET n = n - 1; END;
",
    "
    -- What was warned of. `order_id` is NULL for places and groups; who took it and what they wrote is sealed.
    CREATE TABLE alerts(
        id INTEGER PRIMARY KEY,
        rule TEXT NOT NULL,
        order_id INTEGER,
        place TEXT NOT NULL,
        is_group INTEGER NOT NULL DEFAULT 0,
        severity INTEGER NOT NULL,
        state INTEGER NOT NULL,
        since INTEGER NOT NULL,
        due INTEGER NOT NULL,
        fired_at INTEGER,
        resolved_at INTEGER,
        clear_at INTEGER,
        late INTEGER NOT NULL DEFAULT 0,
        acked_at INTEGER,
        snoozed_until INTEGER,
        grouped_in INTEGER,
        members INTEGER NOT NULL DEFAULT 0,
        day INTEGER NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
    CREATE INDEX alerts_order ON alerts(order_id) WHERE order_id IS NOT NULL;
    CREATE INDEX alerts_place ON alerts(rule, place, is_group, fired_at) WHERE state = 1;
    CREATE INDEX alerts_state ON alerts(state, fired_at, id);
    CREATE INDEX alerts_group ON alerts(grouped_in) WHERE grouped_in IS NOT NULL;
    CREATE INDEX alerts_day ON alerts(day);
    -- What channels are told, once for each change; `due_at` is NULL when that is done.
    CREATE TABLE outbox(
        id INTEGER PRIMARY KEY,
        alert_id INTEGER NOT NULL,
        channel TEXT NOT NULL,
        what INTEGER NOT NULL,
        nth INTEGER NOT NULL,
        at INTEGER NOT NULL,
        due_at INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        done_at INTEGER,
        result TEXT,
        UNIQUE(alert_id, channel, what, nth)
    ) STRICT;
    CREATE INDEX outbox_due ON outbox(channel, due_at) WHERE due_at IS NOT NULL;
    -- Counters of the last minutes, for rules that speak of many orders.
    CREATE TABLE minutes(minute INTEGER NOT NULL, kind INTEGER NOT NULL, what INTEGER NOT NULL, whom INTEGER NOT NULL,
        class INTEGER NOT NULL, count INTEGER NOT NULL, failed INTEGER NOT NULL,
        PRIMARY KEY(minute, kind, what, whom, class)) WITHOUT ROWID, STRICT;
    CREATE INDEX orders_first ON orders(first_at) WHERE joined_to IS NULL;
",
    "
    -- How many members a group had at most: when it ends it has none.
    ALTER TABLE alerts ADD COLUMN most_members INTEGER NOT NULL DEFAULT 0;
    UPDATE alerts SET most_members = max(members, (SELECT count(*) FROM alerts member WHERE member.grouped_in = alerts.id))
        WHERE is_group = 1;
    -- What is counted in minutes, and when it was last: so many things and no more.
    CREATE TABLE counted(kind INTEGER NOT NULL, what INTEGER NOT NULL, whom INTEGER NOT NULL, minute INTEGER NOT NULL,
        PRIMARY KEY(kind, what, whom)) WITHOUT ROWID, STRICT;
    INSERT INTO counted SELECT kind, what, whom, max(minute) FROM minutes GROUP BY kind, what, whom;
",
    "
    -- Of which traces an order's operations are, blind.
    CREATE TABLE traces(tag BLOB NOT NULL, order_id INTEGER NOT NULL, PRIMARY KEY(tag, order_id)) WITHOUT ROWID, STRICT;
    CREATE INDEX traces_order ON traces(order_id);
    -- Rows up to this one were written before there was that index, and are indexed little by little.
    CREATE TABLE untraced(upto INTEGER NOT NULL) STRICT;
    INSERT INTO untraced SELECT coalesce(max(id), 0) FROM orders;
",
    "
    -- When each agent last said that it is there, how often it does, and which services it sees.
    CREATE TABLE agents(id TEXT PRIMARY KEY, node TEXT NOT NULL, at INTEGER NOT NULL, every INTEGER NOT NULL,
        services TEXT NOT NULL) WITHOUT ROWID, STRICT;
",
];

pub(super) fn prepare(db: &mut Connection) -> Result<(), StoreError> {
    db.busy_timeout(BUSY).map_err(doing("cannot set how long to wait"))?;
    let pragmas = [
        // Freed pages can be given back to the disk; has no effect on a file that has tables already.
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
    ];
    set_pragmas(db, &pragmas).map_err(doing("cannot prepare the store's file"))?;
    migrate(db)
}

/// Whether a file that is only read has the tables of this version.
pub(super) fn check(db: &Connection) -> Result<(), StoreError> {
    let (found, known) = versions(db)?;
    if found < known { Err(StoreError::Older { found, known }) } else { Ok(()) }
}

/// The version of the file, which is none that is not known here, and that of this program.
fn versions(db: &Connection) -> Result<(i64, i64), StoreError> {
    let found: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(doing("cannot read the version of the store's file"))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok((found, known)) }
}

/// Has all orders judged again when what they are judged by (`name` is what it is) is not what it was when they were.
pub(super) fn follow(db: &mut Connection, name: &'static str, by: &impl Debug) -> Result<(), StoreError> {
    let digest: [u8; 32] = Sha256::digest(format!("{by:?}").as_bytes()).into();
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(doing("cannot look at what orders were judged by"))?;
    let known: Option<[u8; 32]> = transaction
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(doing("cannot read what orders were judged by"))?;
    if known == Some(digest) {
        return Ok(());
    }
    // Little by little: they are due at once, and each call judges so many.
    let orders = transaction
        .execute("UPDATE orders SET due_at = 0 WHERE joined_to IS NULL", [])
        .map_err(doing("cannot have orders judged again"))?;
    transaction
        .execute("INSERT OR REPLACE INTO meta(name, value) VALUES (?1, ?2)", (name, digest))
        .map_err(doing("cannot write what orders are judged by"))?;
    transaction.commit().map_err(doing("cannot have orders judged again"))?;
    if orders > 0 {
        tracing::info!(name, orders, "they are others than before: all orders are judged again");
    }
    Ok(())
}

fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(doing("cannot look at the version of the store's file"))?;
    let (found, known) = versions(&transaction)?;
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

/// The version that this program writes.
#[cfg(test)]
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Makes a file as the version before the last `back` ones made it.
#[cfg(test)]
pub(crate) fn make_older(file: &std::path::Path, back: usize) {
    let db = Connection::open(file).expect("a file");
    let version = MIGRATIONS.len() - back;
    MIGRATIONS.iter().take(version).for_each(|migration| db.execute_batch(migration).expect("tables"));
    db.pragma_update(None, "user_version", version as i64).expect("set");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_older_versions_become_what_a_new_one_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = |db: &Connection| -> Vec<(String, String)> {
            db.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name")
                .and_then(|mut statement| {
                    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
                })
                .expect("tables")
        };
        let mut new = Connection::open_in_memory().expect("a database");
        prepare(&mut new).expect("tables");
        for back in 1..=MIGRATIONS.len() {
            let file = folder.path().join(back.to_string());
            make_older(&file, back);
            let mut db = Connection::open(&file).expect("a file");
            prepare(&mut db).expect("brought up");
            assert_eq!(tables(&db), tables(&new), "{back} versions before");
        }
    }
}
