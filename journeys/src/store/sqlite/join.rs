//! Rows whose numbers meet → the rows that are one order.
//!
//! An operation may name an order by two numbers (`order:19`, `crm:SO-77`), and another operation by the second one alone.
//! Rows are never merged: which of them are one order is a function of all numbers known, so it does not matter in which
//! order they became known, and what turns out to be wrong comes apart again.
//!
//! `row 1: order:19, crm:SO-77 · row 2: crm:SO-77 ⇒ one order`; `row 3: order:20, crm:SO-77` besides ⇒ 19 and 20 are two
//! values of one numbering system, so nothing is joined.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::doing;
use crate::facts::Key;
use crate::store::StoreError;

/// An order has at most so many rows; what would be more is no order.
const MAX_ROWS: usize = 16;

/// All rows that numbers connect with `row`, itself included, in ascending order. One more than allowed means: too many.
pub(super) fn connected(db: &Connection, row: i64) -> Result<BTreeSet<i64>, StoreError> {
    let mut statement = db
        .prepare_cached(
            "SELECT DISTINCT other.order_id FROM keys own JOIN keys other ON other.tag = own.tag WHERE own.order_id = ?1 LIMIT ?2",
        )
        .map_err(doing("cannot ask for numbers of an order"))?;
    let mut found = BTreeSet::from([row]);
    let mut open = vec![row];
    while let Some(row) = open.pop() {
        let limit = i64::try_from(MAX_ROWS + 1).unwrap_or(i64::MAX);
        let others = statement
            .query_map((row, limit), |row| row.get::<_, i64>(0))
            .and_then(Iterator::collect::<Result<Vec<i64>, _>>)
            .map_err(doing("cannot read the numbers of an order"))?;
        for other in others {
            if found.len() > MAX_ROWS {
                return Ok(found);
            }
            if found.insert(other) {
                open.push(other);
            }
        }
    }
    Ok(found)
}

/// Whether rows with these numbers may be one order.
pub(super) fn is_one<'a>(rows: usize, keys: impl Iterator<Item = &'a Key>) -> bool {
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    let mut agree = true;
    for key in keys {
        agree &= *values.entry(&key.namespace).or_insert(&key.value) == key.value;
    }
    agree && rows <= MAX_ROWS
}
