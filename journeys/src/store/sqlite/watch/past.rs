//! Counters in the store → what rules that look at many orders ask for.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use super::super::{doing, learn};
use crate::facts::At;
use crate::model::{Times, What};
use crate::rules::window::{Event, Past};
use crate::store::StoreError;
use crate::time::DAY;

/// Built-in rules only inform until a store has orders that are so old: what is usual is being learned.
const YOUNG: i64 = 7 * DAY;

/// Counters in the file.
pub(super) struct Db<'a>(pub(super) &'a Connection);

impl Past for Db<'_> {
    type Error = StoreError;

    fn times(&self, from: At) -> Result<BTreeMap<What, Times>, StoreError> {
        learn::minutes(self.0, from)
    }

    fn volume(&self, event: Event, from: At, to: At) -> Result<u64, StoreError> {
        self.of_orders(event, from, to, "count(*)")
    }

    fn any(&self, event: Event, from: At, to: At) -> Result<bool, StoreError> {
        self.of_orders(event, from, to, "1").map(|any| any > 0)
    }
}

impl Db<'_> {
    fn of_orders(&self, event: Event, from: At, to: At, what: &'static str) -> Result<u64, StoreError> {
        let outcome = match event {
            Event::Created => None,
            Event::Finished => Some(crate::fold::Outcome::Finished),
            Event::Failed => Some(crate::fold::Outcome::Failed),
            Event::Lost => Some(crate::fold::Outcome::Lost),
        };
        let sql = match outcome {
            None => format!(
                "SELECT {what} FROM orders WHERE joined_to IS NULL AND first_at >= ?1 AND first_at < ?2 AND ?3 IS NULL LIMIT 1"
            ),
            Some(_) => format!(
                "SELECT {what} FROM orders WHERE joined_to IS NULL AND outcome = ?3 AND since >= ?1 AND since < ?2 LIMIT 1"
            ),
        };
        let outcome = outcome.map(super::super::read::outcome_number);
        let count: Option<i64> = self
            .0
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement.query_row((from.0, to.0, outcome), |row| row.get(0)).optional()
            })
            .map_err(doing("cannot count orders"))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }
}

/// Rules were in force here.
pub(in crate::store::sqlite) fn is_watched(db: &Connection) -> Result<bool, StoreError> {
    db.query_row("SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'rules')", [], |row| row.get(0))
        .map_err(doing("cannot read the rules of the store"))
}

/// Some order is so old that limits are learned.
pub(super) fn is_grown(db: &Connection, now: At) -> Result<bool, StoreError> {
    let oldest: Option<i64> = db
        .prepare_cached("SELECT min(first_at) FROM orders WHERE joined_to IS NULL")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(doing("cannot ask for the oldest order"))?;
    // A row that is being added has no time yet.
    Ok(oldest.is_some_and(|oldest| oldest > 0 && now.since(At(oldest)) >= YOUNG))
}
