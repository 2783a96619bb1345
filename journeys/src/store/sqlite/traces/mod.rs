//! A trace → the operations that are kept of it; a time → all rows of that time, one after the other.
//!
//! Which rows have operations of a trace is an index of blind tags: an order's trace ID is made of its number by the agent,
//! so in clear it would tell the number to whoever tries all of them.
//!
//! `trace ID ─ HMAC ─▶ tag ─▶ rows ─ open ─▶ those facts that are of the trace`

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, TransactionBehavior};

use super::{Sqlite, doing};
use crate::facts::{At, Fact, FactId};
use crate::fold::Gathered;
use crate::store::seal::TAG_LEN;
use crate::store::{Look, StoreError, Trace, TraceId};

/// Rows of one trace that are opened: an order has one or a few, a trace of a batch may be of thousands of orders.
const MAX_ROWS: usize = 512;
/// Operations of one trace that are given: about ten megabytes. The first ones in time of each row.
const MAX_FACTS: usize = 10_000;
/// Rows that are looked at between two questions whether to go on.
const BATCH: i64 = 256;

impl Sqlite {
    /// Writes of which traces a row has operations now. An order that has more operations than are kept loses some of them,
    /// and the traces that only those were of: the index grows no further than the row.
    pub(super) fn index_traces(
        &self,
        db: &Connection,
        row: i64,
        gathered: &Gathered,
    ) -> Result<(), StoreError> {
        let wanted = self.tags_of(&gathered.facts);
        let known = tags(db, row)?;
        for (sql, mut tags) in [
            ("INSERT INTO traces(tag, order_id) VALUES (?1, ?2)", wanted.difference(&known)),
            ("DELETE FROM traces WHERE tag = ?1 AND order_id = ?2", known.difference(&wanted)),
        ] {
            tags.try_for_each(|tag| db.prepare_cached(sql)?.execute((tag, row)).map(|_| ()))
                .map_err(doing("cannot write the traces of an order"))?;
        }
        Ok(())
    }

    fn tags_of(&self, facts: &[Fact]) -> BTreeSet<[u8; TAG_LEN]> {
        let traces: BTreeSet<&TraceId> = facts.iter().map(|fact| &fact.id.trace).collect();
        traces.into_iter().map(|trace| self.keys.trace_tag(trace)).collect()
    }

    /// Indexes rows that were written before there was an index, the latest first; how many it were. None when all are.
    pub fn index_older(&self, limit: usize) -> Result<usize, StoreError> {
        let mut db = self.writer();
        let upto = untraced(&db)?;
        if upto == 0 {
            return Ok(0);
        }
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to index traces"))?;
        let rows: Vec<i64> = transaction
            .prepare_cached("SELECT id FROM orders WHERE id <= ?1 ORDER BY id DESC LIMIT ?2")
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                statement.query_map((upto, limit), |row| row.get(0))?.collect()
            })
            .map_err(doing("cannot list orders"))?;
        for row in &rows {
            match self.open_row(&transaction, *row) {
                Ok(gathered) => self.index_traces(&transaction, *row, &gathered)?,
                // What does not open is of no trace.
                Err(error) if error.is_of_one_row() => {}
                Err(error) => return Err(error),
            }
        }
        let upto = if rows.len() < limit { 0 } else { rows.last().map_or(0, |last| last - 1) };
        transaction
            .execute("UPDATE untraced SET upto = ?1", [upto])
            .map_err(doing("cannot write how far traces are indexed"))?;
        transaction.commit().map_err(doing("cannot commit an index of traces"))?;
        Ok(rows.len())
    }

    pub(super) fn read_trace(&self, db: &Connection, id: &TraceId) -> Result<Trace, StoreError> {
        let limit = i64::try_from(MAX_ROWS + 1).unwrap_or(i64::MAX);
        let mut rows: Vec<i64> = db
            .prepare_cached("SELECT order_id FROM traces WHERE tag = ?1 ORDER BY order_id LIMIT ?2")
            .and_then(|mut statement| {
                statement.query_map((self.keys.trace_tag(id), limit), |row| row.get(0))?.collect()
            })
            .map_err(doing("cannot look for a trace"))?;
        let mut truncated = rows.len() > MAX_ROWS;
        rows.truncate(MAX_ROWS);
        let mut facts: BTreeMap<FactId, Fact> = BTreeMap::new();
        for row in rows {
            let gathered = match self.open_row(db, row) {
                Ok(gathered) => gathered,
                Err(error) if error.is_of_one_row() => {
                    tracing::warn!(%error, "an order is left out of a trace");
                    truncated = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            truncated |= gathered.truncated;
            for fact in gathered.facts.into_iter().filter(|fact| fact.id.trace == *id) {
                if facts.len() >= MAX_FACTS {
                    truncated = true;
                    break;
                }
                facts.insert(fact.id, fact);
            }
        }
        let mut facts: Vec<Fact> = facts.into_values().collect();
        facts.sort();
        Ok(Trace { facts, truncated, all_indexed: untraced(db)? == 0 })
    }

    /// Shows the operations of all rows that were heard of in a time, last heard of first, until `look` has seen enough.
    pub(super) fn walk_rows(
        &self,
        db: &Connection,
        from: At,
        to: At,
        look: &mut dyn Look,
    ) -> Result<(), StoreError> {
        let mut after = (i64::MAX, i64::MAX);
        loop {
            let batch: Vec<(i64, i64, i64)> = db
                .prepare_cached(WALK)
                .and_then(|mut statement| {
                    let given = (from.0, after.0, after.1, BATCH);
                    statement.query_map(given, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
                })
                .map_err(doing("cannot walk through orders"))?;
            let Some((id, _, last)) = batch.last() else { return Ok(()) };
            after = (*last, *id);
            for (row, first, _) in batch {
                if !look.goes_on() {
                    return Ok(());
                }
                if first >= to.0 {
                    continue;
                }
                match self.open_row(db, row) {
                    Ok(gathered) => look.see(gathered.facts),
                    Err(error) if error.is_of_one_row() => {
                        tracing::warn!(%error, "an order is left out of a search");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// A row whose traces do not lead to it, or that is found by others.
    pub(super) fn wrong_traces(
        &self,
        db: &Connection,
        row: i64,
        facts: &[Fact],
    ) -> Result<Option<String>, StoreError> {
        let is_indexed = row > untraced(db)?;
        let is_wrong = is_indexed && tags(db, row)? != self.tags_of(facts);
        Ok(is_wrong.then(|| format!("row {row}: its traces are not those that lead to it")))
    }
}

/// One step of a walk over the index of times.
const WALK: &str = "SELECT id, first_at, last_at FROM orders
    WHERE last_at >= ?1 AND (last_at, id) < (?2, ?3) ORDER BY last_at DESC, id DESC LIMIT ?4";

/// Rows up to this one may not be indexed yet; 0 when all are.
fn untraced(db: &Connection) -> Result<i64, StoreError> {
    db.prepare_cached("SELECT upto FROM untraced")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(doing("cannot read how far traces are indexed"))
}

fn tags(db: &Connection, row: i64) -> Result<BTreeSet<[u8; TAG_LEN]>, StoreError> {
    db.prepare_cached("SELECT tag FROM traces WHERE order_id = ?1")
        .and_then(|mut statement| statement.query_map([row], |row| row.get(0))?.collect())
        .map_err(doing("cannot read the traces of an order"))
}

/// Traces that lead to rows that are gone.
pub(super) fn orphans(db: &Connection) -> Result<Option<String>, StoreError> {
    let orphans: i64 = db
        .query_row("SELECT count(*) FROM traces WHERE order_id NOT IN (SELECT id FROM orders)", [], |row| {
            row.get(0)
        })
        .map_err(doing("cannot compare traces with orders"))?;
    Ok((orphans > 0).then(|| format!("{orphans} traces lead to orders that are gone")))
}

#[cfg(test)]
mod tests;
