//! What is kept and for how long in; what expired or is too much gone, with the keys of its days.

use std::sync::{Arc, PoisonError};

use rusqlite::Connection;

use super::learn;
use super::{Sqlite, doing};
use crate::facts::At;
use crate::store::{Retained, Retention, Store, StoreError};

/// Orders that leave in one transaction: senders wait for no more than that.
const BATCH: i64 = 1_000;

impl Sqlite {
    pub(super) fn let_go(&self, retention: Retention, now: At) -> Result<Retained, StoreError> {
        let mut gone = Retained::default();
        let before = now.0.saturating_sub(retention.keep_micros);
        self.delete_aside(before)?;
        self.delete_alerts(before)?;
        loop {
            let count = self.delete_oldest(before, now)?;
            gone.expired += count;
            if count < BATCH.unsigned_abs() {
                break;
            }
        }
        if self.used_bytes()? > retention.max_bytes {
            self.delete_aside(i64::MAX)?;
        }
        while self.used_bytes()? > retention.max_bytes {
            let count = self.delete_oldest(i64::MAX, now)?;
            gone.evicted += count;
            if count == 0 {
                break;
            }
        }
        self.forget_times(now)?;
        self.give_back()?;
        self.destroy_keys(now)?;
        Ok(gone)
    }

    /// One batch of those of which nothing happened since `before` and nothing was told since that day, longest silent
    /// first: an old recording that is read today is kept as long as what happens today. Pinned ones stay.
    fn delete_oldest(&self, before: i64, now: At) -> Result<u64, StoreError> {
        self.changing(now, |db, usual, lessons| {
            // All rows of an order leave together, when the last of them is due; then nothing points to what is gone.
            let rows: Vec<i64> = db
                .prepare_cached(
                    "SELECT id FROM orders WHERE last_at < ?1 AND day < ?3 AND pinned = 0
                       AND NOT EXISTS (SELECT 1 FROM orders whole
                         WHERE (whole.id = orders.joined_to OR whole.joined_to = coalesce(orders.joined_to, orders.id))
                           AND (whole.pinned = 1 OR whole.last_at >= ?1 OR whole.day >= ?3))
                     ORDER BY last_at, id LIMIT ?2",
                )
                .and_then(|mut statement| {
                    statement.query_map((before, BATCH, At(before).day()), |row| row.get(0))?.collect()
                })
                .map_err(doing("cannot look for expired orders"))?;
            rows.iter().try_for_each(|row| self.delete(db, *row, now))?;
            // A batch may end inside an order: what is left of it stands for itself.
            let orphans = db
                .prepare_cached("SELECT id FROM orders WHERE joined_to IS NOT NULL AND joined_to NOT IN (SELECT id FROM orders)")
                .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
                .map_err(doing("cannot look for what is left of orders"))?;
            let mut changed = self.judge(db, orphans, usual, lessons, now)?;
            changed.extend(&rows);
            Ok((rows.len() as u64, changed))
        })
    }

    /// What was put aside before that time, because it did not open: it is kept as long as an order that is not heard of,
    /// and leaves before any order does when there is no room.
    fn delete_aside(&self, before: i64) -> Result<(), StoreError> {
        self.writer()
            .execute("DELETE FROM quarantine WHERE at < ?1", [before])
            .map(|_| ())
            .map_err(doing("cannot delete what was put aside"))
    }

    /// Alerts of places that ended before that time; those of orders leave with their orders.
    fn delete_alerts(&self, before: i64) -> Result<(), StoreError> {
        let db = self.writer();
        for sql in [
            // Of a group that is gone nobody is a member: lists would not show who was.
            "UPDATE alerts SET grouped_in = NULL WHERE grouped_in IN
               (SELECT id FROM alerts WHERE order_id IS NULL AND state = 2 AND resolved_at < ?1)",
            "DELETE FROM alerts WHERE order_id IS NULL AND state = 2 AND resolved_at < ?1",
            "DELETE FROM outbox WHERE at < ?1 AND alert_id NOT IN (SELECT id FROM alerts)",
        ] {
            db.execute(sql, [before]).map_err(doing("cannot delete alerts that ended"))?;
        }
        Ok(())
    }

    /// What an order taught stays when it leaves, and goes when it is not usual any more.
    fn forget_times(&self, now: At) -> Result<(), StoreError> {
        let db = self.writer();
        if learn::forget(&db, now)? {
            let usual = learn::usual(&db)?.and_lately(&Store::usual(self));
            *self.usual.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(usual);
        }
        Ok(())
    }

    /// Bytes in use: pages that are free will be used again and do not count.
    fn used_bytes(&self) -> Result<u64, StoreError> {
        let db = self.writer();
        let ask = |name| {
            db.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(doing("cannot ask for the file's size"))
        };
        let used =
            ask("page_count")?.saturating_sub(ask("freelist_count")?).saturating_mul(ask("page_size")?);
        Ok(u64::try_from(used).unwrap_or(0))
    }

    /// Gives free pages back to the disk.
    fn give_back(&self) -> Result<(), StoreError> {
        self.writer()
            .execute_batch("PRAGMA incremental_vacuum(10000)")
            .map_err(doing("cannot give pages back"))
    }

    /// Keys of days that nothing is sealed under any more, no order and nothing put aside; today's stays.
    fn destroy_keys(&self, now: At) -> Result<(), StoreError> {
        // While the writer is held no row can be sealed under a key that is about to go.
        let db = self.writer();
        let mut days = days(&db)?;
        days.push(now.day());
        self.keys.keep_days(&days)?;
        Ok(())
    }
}

fn days(db: &Connection) -> Result<Vec<i64>, StoreError> {
    db.prepare_cached("SELECT day FROM orders UNION SELECT day FROM quarantine UNION SELECT day FROM alerts")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(doing("cannot ask for the days there are"))
}
