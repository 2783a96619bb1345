//! Numbers and wishes → orders. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Row};

use super::{Sqlite, doing, join};
use crate::facts::{At, Fact, Key};
use crate::fold::{self, Outcome};
use crate::model::Usual;
use crate::store::seal::TAG_LEN;
use crate::store::{Counts, Cursor, Group, Head, MAX_PAGE, Order, OrderId, Page, Query, Sort, StoreError};

/// A reader may look at so many rows for one list: what is rarer is found with another filter.
const MAX_SCAN: i64 = 20_000;
/// Problems that a check reports one by one.
const MAX_PROBLEMS: usize = 100;

/// As the file has it: numbers are never given to another outcome.
pub(super) fn outcome_number(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Moving => 0,
        Outcome::Waiting => 1,
        Outcome::Stuck => 2,
        Outcome::Lost => 3,
        Outcome::Failed => 4,
        Outcome::Finished => 5,
        Outcome::Quiet => 6,
    }
}

fn outcome(number: i64) -> Outcome {
    Outcome::ALL.into_iter().find(|outcome| outcome_number(*outcome) == number).unwrap_or(Outcome::Quiet)
}

/// Rows that stand for an order with this tag.
pub(super) fn find(db: &Connection, tag: &[u8; TAG_LEN]) -> Result<Vec<OrderId>, StoreError> {
    db.prepare_cached(
        "SELECT DISTINCT coalesce(orders.joined_to, orders.id) FROM keys JOIN orders ON orders.id = keys.order_id
         WHERE keys.tag = ?1 ORDER BY 1 LIMIT 50",
    )
    .and_then(|mut statement| statement.query_map([tag], |row| row.get(0).map(OrderId))?.collect())
    .map_err(doing("cannot look for a number"))
}

fn head(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        id: OrderId(row.get(0)?),
        stage: row.get(1)?,
        stage_since: row.get::<_, Option<i64>>(2)?.map(At),
        outcome: outcome(row.get(3)?),
        group: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
        since: At(row.get(5)?),
        first_at: At(row.get(6)?),
        last_at: At(row.get(7)?),
        pinned: row.get(8)?,
    })
}

impl Sqlite {
    pub(super) fn read_order(
        &self,
        db: &Connection,
        id: OrderId,
        usual: &Usual,
        now: At,
    ) -> Result<Option<Order>, StoreError> {
        let head = db
            .prepare_cached(
                "SELECT orders.id, stage.text, stage_since, outcome, grp.text, since, first_at, last_at, pinned
                 FROM orders LEFT JOIN dictionary stage ON stage.id = orders.stage
                 LEFT JOIN dictionary grp ON grp.id = orders.grp
                 WHERE orders.id = (SELECT coalesce(joined_to, id) FROM orders WHERE id = ?1)",
            )
            .and_then(|mut statement| statement.query_row([id.0], head).optional())
            .map_err(doing("cannot read an order's state"))?;
        head.map(|head| self.open_order(db, head, usual, now)).transpose()
    }

    /// Opens the facts of an order and judges it.
    fn open_order(&self, db: &Connection, head: Head, usual: &Usual, now: At) -> Result<Order, StoreError> {
        let others: Vec<i64> = db
            .prepare_cached("SELECT id FROM orders WHERE joined_to = ?1")
            .and_then(|mut statement| statement.query_map([head.id.0], |row| row.get(0))?.collect())
            .map_err(doing("cannot read the parts of an order"))?;
        let mut facts = self.open_row(db, head.id.0)?;
        for other in others {
            facts.extend(self.open_row(db, other)?);
        }
        let facts = fold::gather(&facts).facts;
        let journey = fold::journey(&facts, &self.model);
        let verdict = fold::verdict(&journey, &self.model, usual, now);
        Ok(Order { head, facts, journey, verdict })
    }

    pub(super) fn read_page(
        &self,
        db: &Connection,
        query: &Query,
        usual: &Usual,
        now: At,
    ) -> Result<Page, StoreError> {
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut heads = match query.sort {
            Sort::Oldest => oldest(db, query, limit + 1)?,
            Sort::Latest => latest(db, query, limit + 1)?,
        };
        let more = heads.len() > limit;
        heads.truncate(limit);
        let at = |head: &Head| match query.sort {
            Sort::Oldest => head.since,
            Sort::Latest => head.last_at,
        };
        let next = heads.last().filter(|_| more).map(|head| Cursor { at: at(head), id: head.id });
        let mut orders = Vec::with_capacity(heads.len());
        for head in heads {
            match self.open_order(db, head, usual, now) {
                Ok(order) => orders.push(order),
                // One damaged order does not hide all others; a check names it.
                Err(error) if error.is_of_one_row() => {
                    tracing::warn!(%error, "an order is left out of a list")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Page { orders, next })
    }

    pub(super) fn read_recent(&self, db: &Connection, limit: usize) -> Result<Vec<Key>, StoreError> {
        let limit = i64::try_from(limit.min(MAX_PAGE)).unwrap_or(0);
        let rows: Vec<i64> = db
            .prepare_cached("SELECT id FROM orders ORDER BY last_at DESC, id DESC LIMIT ?1")
            .and_then(|mut statement| statement.query_map([limit], |row| row.get(0))?.collect())
            .map_err(doing("cannot read the latest orders"))?;
        let mut keys = Vec::new();
        for row in rows {
            match self.open_row(db, row) {
                Ok(facts) => keys.extend(facts.first().map(|fact| fact.key.clone())),
                Err(error) if error.is_of_one_row() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(keys)
    }

    /// Everything that is wrong.
    pub(super) fn read_everything(&self, db: &Connection) -> Result<Vec<String>, StoreError> {
        let mut problems: Vec<String> = db
            .prepare("PRAGMA integrity_check")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .map_err(doing("cannot check the store's file"))?;
        problems.retain(|problem| problem != "ok");
        let rows: Vec<i64> = db
            .prepare("SELECT id FROM orders ORDER BY id")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .map_err(doing("cannot list all orders"))?;
        for row in rows {
            match self.open_row(db, row) {
                Ok(facts) => problems.extend(wrong_numbers(self, db, row, &facts)?),
                Err(error) => problems.push(format!("row {row}: {error}")),
            }
            if problems.len() >= MAX_PROBLEMS {
                problems.push("and perhaps more".to_owned());
                return Ok(problems);
            }
        }
        problems.extend(wrong_counts(db)?);
        let aside: i64 = db
            .query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))
            .map_err(doing("cannot count what was put aside"))?;
        if aside > 0 {
            problems.push(format!("{aside} sealed rows did not open and were put aside"));
        }
        Ok(problems)
    }
}

/// A number of a row that would not find it.
fn wrong_numbers(
    store: &Sqlite,
    db: &Connection,
    row: i64,
    facts: &[Fact],
) -> Result<Option<String>, StoreError> {
    let keys: BTreeSet<&Key> = facts.iter().map(|fact| &fact.key).collect();
    for key in keys {
        let connected = join::connected(db, row)?;
        let found = db
            .prepare_cached("SELECT order_id FROM keys WHERE tag = ?1")
            .and_then(|mut statement| {
                statement
                    .query_map([store.keys.tag(key)], |row| row.get(0))?
                    .collect::<Result<BTreeSet<i64>, _>>()
            })
            .map_err(doing("cannot look for a number"))?;
        if !found.contains(&row) || !found.is_subset(&connected) {
            return Ok(Some(format!("row {row}: one of its numbers does not lead to it")));
        }
    }
    Ok(None)
}

/// Counters that differ from what is there.
fn wrong_counts(db: &Connection) -> Result<Option<String>, StoreError> {
    let read = |sql: &str| -> Result<BTreeMap<(i64, i64), i64>, StoreError> {
        db.prepare(sql)
            .and_then(|mut statement| {
                statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?.collect()
            })
            .map_err(doing("cannot compare counters"))
    };
    let kept = read("SELECT stage, outcome, orders FROM counts WHERE orders <> 0")?;
    let there = read(
        "SELECT coalesce(stage, 0), outcome, count(*) FROM orders WHERE joined_to IS NULL GROUP BY 1, 2",
    )?;
    Ok((kept != there).then(|| format!("counters say {kept:?}, the rows {there:?}")))
}

const COLUMNS_OLDEST: &str =
    "SELECT orders.id, stage.text, stage_since, outcome, grp.text, since, first_at, last_at, pinned
     FROM orders LEFT JOIN dictionary stage ON stage.id = orders.stage
     LEFT JOIN dictionary grp ON grp.id = orders.grp
     WHERE joined_to IS NULL AND outcome = ?1 AND since <= ?2 AND (since, orders.id) > (?3, ?4)
       AND (?5 IS NULL OR stage.text = ?5) AND (?6 IS NULL OR grp.text = ?6)
     ORDER BY since, orders.id LIMIT ?7";

/// Longest in its state first: one walk over the index for each outcome, joined here.
fn oldest(db: &Connection, query: &Query, limit: usize) -> Result<Vec<Head>, StoreError> {
    let outcomes = if query.outcomes.is_empty() { Outcome::ALL.to_vec() } else { query.outcomes.clone() };
    let until = query.since_until.map_or(i64::MAX, |at| at.0);
    let after = query.after.map_or((i64::MIN, i64::MIN), |after| (after.at.0, after.id.0));
    let rows = i64::try_from(limit).unwrap_or(MAX_SCAN).min(MAX_SCAN);
    let mut heads: Vec<Head> = Vec::new();
    for wanted in outcomes {
        let found: Vec<Head> = db
            .prepare_cached(COLUMNS_OLDEST)
            .and_then(|mut statement| {
                let given =
                    (outcome_number(wanted), until, after.0, after.1, &query.stage, &query.group, rows);
                statement.query_map(given, head)?.collect()
            })
            .map_err(doing("cannot list orders"))?;
        heads.extend(found);
    }
    heads.sort_by_key(|head| (head.since, head.id));
    heads.truncate(limit);
    Ok(heads)
}

/// Last heard of first.
fn latest(db: &Connection, query: &Query, limit: usize) -> Result<Vec<Head>, StoreError> {
    let wanted = if query.outcomes.is_empty() { &Outcome::ALL } else { query.outcomes.as_slice() };
    let mask = wanted.iter().fold(0_i64, |mask, outcome| mask | 1 << outcome_number(*outcome));
    let after = query.after.map_or((i64::MAX, i64::MAX), |after| (after.at.0, after.id.0));
    let rows = i64::try_from(limit).unwrap_or(MAX_SCAN).min(MAX_SCAN);
    let until = query.since_until.map_or(i64::MAX, |at| at.0);
    db.prepare_cached(
        "SELECT orders.id, stage.text, stage_since, outcome, grp.text, since, first_at, last_at, pinned
         FROM orders LEFT JOIN dictionary stage ON stage.id = orders.stage
         LEFT JOIN dictionary grp ON grp.id = orders.grp
         WHERE joined_to IS NULL AND (1 << outcome) & ?1 <> 0 AND since <= ?2 AND (last_at, orders.id) < (?3, ?4)
           AND (?5 IS NULL OR stage.text = ?5) AND (?6 IS NULL OR grp.text = ?6)
         ORDER BY last_at DESC, orders.id DESC LIMIT ?7",
    )
    .and_then(|mut statement| {
        statement.query_map((mask, until, after.0, after.1, &query.stage, &query.group, rows), head)?.collect()
    })
    .map_err(doing("cannot list orders"))
}

pub(super) fn groups(db: &Connection, limit: usize) -> Result<Vec<Group>, StoreError> {
    let limit = i64::try_from(limit.min(MAX_PAGE)).unwrap_or(0);
    db.prepare_cached(
        "SELECT dictionary.text, groups.outcome, groups.orders,
           (SELECT since FROM orders WHERE joined_to IS NULL AND grp = groups.grp ORDER BY since, id LIMIT 1),
           (SELECT id FROM orders WHERE joined_to IS NULL AND grp = groups.grp ORDER BY since, id LIMIT 1)
         FROM groups JOIN dictionary ON dictionary.id = groups.grp
         WHERE groups.orders > 0 ORDER BY groups.orders DESC, 1 LIMIT ?1",
    )
    .and_then(|mut statement| {
        let group = |row: &Row<'_>| {
            Ok(Group {
                group: row.get(0)?,
                outcome: outcome(row.get(1)?),
                orders: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
                oldest: At(row.get::<_, Option<i64>>(3)?.unwrap_or(0)),
                example: OrderId(row.get::<_, Option<i64>>(4)?.unwrap_or(0)),
            })
        };
        statement.query_map([limit], group)?.collect()
    })
    .map_err(doing("cannot list groups"))
}

pub(super) fn counts(db: &Connection) -> Result<Counts, StoreError> {
    let rows: Vec<(Option<String>, i64, i64)> = db
        .prepare_cached(
            "SELECT dictionary.text, counts.outcome, counts.orders
             FROM counts LEFT JOIN dictionary ON dictionary.id = counts.stage WHERE counts.orders > 0",
        )
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
        .map_err(doing("cannot read counters"))?;
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    let mut stages = Vec::new();
    for (stage, number, orders) in rows {
        let orders = u64::try_from(orders).unwrap_or(0);
        let of = outcomes.entry(outcome(number)).or_default();
        *of = of.saturating_add(orders);
        if let Some(stage) = stage {
            stages.push((stage, outcome(number), orders));
        }
    }
    stages.sort();
    Ok(Counts { outcomes: outcomes.into_iter().collect(), stages })
}

pub(super) fn usual(db: &Connection) -> Result<Usual, StoreError> {
    let rows: Vec<(String, (i64, i64))> = db
        .prepare(
            "SELECT dictionary.text, published, delivered FROM usual JOIN dictionary ON dictionary.id = usual.destination",
        )
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.collect()
        })
        .map_err(doing("cannot read what is usual"))?;
    let positive = |number| u64::try_from(number).unwrap_or(0);
    let destinations = rows
        .into_iter()
        .map(|(name, (published, delivered))| (name, (positive(published), positive(delivered))));
    Ok(Usual { destinations: destinations.collect() })
}
