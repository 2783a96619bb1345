//! A person or an order → gone from every row, and from what comes later.
//!
//! A person is taken out of the facts, of what was written about alerts, and of what stands in clear; the orders stay. What
//! senders repeat, or a recording that is read again, does not bring the person back: the store remembers whom it forgot by
//! a keyed hash.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use rusqlite::{Connection, TransactionBehavior};

use super::{Sqlite, dictionary, doing, join, learn, read, watch};
use crate::facts::{At, Fact, Key};
use crate::store::seal::TAG_LEN;
use crate::store::{StoreError, blob};

/// Rows of one transaction.
const BATCH: i64 = 500;

/// What was done, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Rows that named the person, or were the order.
    pub rows: u64,
    /// Rows that do not open, and rows that were put aside because they did not.
    pub unread: u64,
    /// The numbers by which the order was called and no other one is.
    pub numbers: BTreeSet<Key>,
    /// Somebody reads the store: what was overwritten in the file still stands in its log, until nobody does.
    pub in_log: bool,
}

impl Sqlite {
    /// Takes a person, known by their number, out of all facts there are and all that come.
    pub fn forget_person(&self, person: &str, now: At) -> Result<Forgotten, StoreError> {
        let tag = self.keys.person_tag(person);
        self.writer()
            .execute("INSERT OR IGNORE INTO forgotten(tag, at) VALUES (?1, ?2)", (tag, now.0))
            .map_err(doing("cannot write down whom to forget"))?;
        self.forgotten.write().unwrap_or_else(PoisonError::into_inner).insert(tag);
        let mut done = Forgotten::default();
        let mut last = 0;
        loop {
            let (rows, batch) = self.forget_in_batch(person, last)?;
            done.rows += batch.rows;
            done.unread += batch.unread;
            match rows.last() {
                Some(row) => last = *row,
                None => break,
            }
        }
        done.unread += self.forget_in_alerts(person)?;
        self.forget_in_clear(person, now)?;
        let db = self.writer();
        let aside: i64 = db
            .query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))
            .map_err(doing("cannot count what was put aside"))?;
        done.unread += u64::try_from(aside).unwrap_or(0);
        done.in_log = !write_back(&db)?;
        Ok(done)
    }

    fn forget_in_batch(&self, person: &str, after: i64) -> Result<(Vec<i64>, Forgotten), StoreError> {
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to forget"))?;
        let rows: Vec<i64> = transaction
            .prepare_cached("SELECT id FROM orders WHERE id > ?1 ORDER BY id LIMIT ?2")
            .and_then(|mut statement| statement.query_map((after, BATCH), |row| row.get(0))?.collect())
            .map_err(doing("cannot list orders"))?;
        let mut done = Forgotten::default();
        for row in &rows {
            let mut gathered = match self.open_row(&transaction, *row) {
                Ok(gathered) => gathered,
                Err(error) if error.is_of_one_row() => {
                    done.unread += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // All of them: `any` would stop at the first.
            let changed =
                gathered.facts.iter_mut().filter_map(|fact| fact.forget(person).then_some(())).count();
            if changed == 0 {
                continue;
            }
            let day: i64 = transaction
                .prepare_cached("SELECT day FROM orders WHERE id = ?1")
                .and_then(|mut statement| statement.query_row([row], |row| row.get(0)))
                .map_err(doing("cannot read the day of an order"))?;
            // Under the key of the same day: nothing of it is newer than it was.
            let sealed = self.keys.seal(day, *row, &blob::pack(&gathered).map_err(StoreError::Damaged)?)?;
            transaction
                .prepare_cached("UPDATE orders SET sealed = ?2 WHERE id = ?1")
                .and_then(|mut statement| statement.execute((row, sealed)))
                .map_err(doing("cannot write an order"))?;
            watch::forget_ended(&transaction, *row)?;
            done.rows += 1;
        }
        transaction.commit().map_err(doing("cannot commit what was forgotten"))?;
        Ok((rows, done))
    }

    /// Takes a person out of all alerts; how many do not open.
    fn forget_in_alerts(&self, person: &str) -> Result<u64, StoreError> {
        let (mut last, mut unread) = (0, 0);
        loop {
            let mut db = self.writer();
            let transaction = db
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(doing("cannot begin to forget"))?;
            let batch = watch::after(&transaction, last, BATCH)?;
            let Some((end, _)) = batch.last() else { return Ok(unread) };
            last = end.id;
            for one in batch {
                match watch::forget_in_alert(&self.keys, &transaction, one, person) {
                    Ok(()) => {}
                    Err(error) if error.is_of_one_row() => unread += 1,
                    Err(error) => return Err(error),
                }
            }
            transaction.commit().map_err(doing("cannot commit what was forgotten"))?;
        }
    }

    /// Takes a person out of the dictionary: orders whose state is told by such a word are judged again by what their facts
    /// say now, and what was learned and counted under it goes.
    fn forget_in_clear(&self, person: &str, now: At) -> Result<(), StoreError> {
        let words = dictionary::words_of(&self.writer(), person)?;
        for word in &words {
            let mut last = Some(0);
            while let Some(after) = last {
                last = self.changing(now, |db, usual, lessons| {
                    let rows: BTreeSet<i64> = db
                        .prepare_cached(
                            "SELECT id FROM orders WHERE joined_to IS NULL AND (stage = ?1 OR grp = ?1) AND id > ?2
                             ORDER BY id LIMIT ?3",
                        )
                        .and_then(|mut statement| {
                            statement.query_map((word, after, BATCH), |row| row.get(0))?.collect()
                        })
                        .map_err(doing("cannot look for orders by a word"))?;
                    let last = rows.last().copied();
                    Ok((last, self.judge(db, rows, usual, lessons, now)?))
                })?;
            }
        }
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to forget"))?;
        dictionary::forget_named(&transaction, &words)?;
        let usual = learn::usual(&transaction)?;
        transaction.commit().map_err(doing("cannot commit what was forgotten"))?;
        *self.usual.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(usual);
        Ok(())
    }

    /// Takes out of new facts whom the store forgot.
    pub(super) fn without_forgotten(&self, facts: &mut [Fact]) {
        let forgotten = self.forgotten.read().unwrap_or_else(PoisonError::into_inner);
        if forgotten.is_empty() {
            return;
        }
        for fact in facts {
            // Texts may name somebody whom the operation does not list.
            for word in fact.may_name() {
                if forgotten.contains(&self.keys.person_tag(&word)) {
                    fact.forget(&word);
                }
            }
        }
    }

    /// Deletes all orders of a number, with all their rows. Facts that come later begin a new one.
    pub fn forget_order(&self, key: &Key, now: At) -> Result<Forgotten, StoreError> {
        let tag = self.keys.tag(key);
        let mut done = Forgotten::default();
        // So many orders at a time; each time there are fewer.
        let mut is_more = true;
        while is_more {
            is_more = self.changing(now, |db, usual, lessons| {
                let mut rows = BTreeSet::new();
                let mut others = BTreeSet::new();
                for order in read::find(db, &tag)? {
                    let own: Vec<i64> = db
                        .prepare_cached("SELECT id FROM orders WHERE id = ?1 OR joined_to = ?1")
                        .and_then(|mut statement| statement.query_map([order.0], |row| row.get(0))?.collect())
                        .map_err(doing("cannot read the parts of an order"))?;
                    rows.extend(own);
                    others.extend(join::connected(db, order.0)?);
                }
                for row in &rows {
                    match self.open_row(db, *row) {
                        Ok(gathered) => {
                            done.numbers.extend(gathered.facts.iter().flat_map(Fact::keys).cloned())
                        }
                        Err(error) if error.is_of_one_row() => {}
                        Err(error) => return Err(error),
                    }
                    self.delete(db, *row, now)?;
                    done.rows += delete_aside(db, *row)?;
                }
                // Without it others may be one that were not before.
                let left = others.difference(&rows).copied().collect();
                let mut changed = self.judge(db, left, usual, lessons, now)?;
                changed.extend(&rows);
                done.rows += rows.len() as u64;
                Ok((!rows.is_empty(), changed))
            })?;
        }
        // What another order is called by as well, or was one of several numbers of, is not this one's alone.
        let db = self.writer();
        let mut own = BTreeSet::from([key.clone()]);
        for number in std::mem::take(&mut done.numbers) {
            if read::find(&db, &self.keys.tag(&number))?.is_empty() {
                own.insert(number);
            }
        }
        done.numbers = own;
        done.in_log = !write_back(&db)?;
        Ok(done)
    }
}

/// Deletes what was put aside of a row because it did not open; how many there were.
fn delete_aside(db: &Connection, row: i64) -> Result<u64, StoreError> {
    db.prepare_cached("DELETE FROM quarantine WHERE order_id = ?1")
        .and_then(|mut statement| statement.execute([row]))
        .map(|count| count as u64)
        .map_err(doing("cannot delete what was put aside of an order"))
}

/// What was overwritten in the file still stands in its log until the log is written back and cut, for which nobody may be
/// reading from it; whether that was so.
fn write_back(db: &Connection) -> Result<bool, StoreError> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .map(|busy| busy == 0)
        .map_err(doing("cannot write the log back"))
}

/// Whom the store forgot.
pub(super) fn forgotten(db: &Connection) -> Result<BTreeSet<[u8; TAG_LEN]>, StoreError> {
    db.prepare("SELECT tag FROM forgotten")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(doing("cannot read whom the store forgot"))
}
