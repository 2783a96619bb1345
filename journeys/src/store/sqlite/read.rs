//! Numbers and wishes → orders. Nothing is written here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Row};

use super::dictionary::known_word;
use super::{Sqlite, doing, join, traces, watch};
use crate::facts::{At, Fact, Key};
use crate::fold::{self, Gathered, Outcome};
use crate::model::Usual;
use crate::store::seal::TAG_LEN;
use crate::store::{Counts, Cursor, Group, Head, MAX_PAGE, Order, OrderId, Page, Query, Sort, StoreError};

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

pub(super) fn outcome(number: i64) -> Outcome {
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

/// Heads of orders; where, in which order and how many is still to say.
const HEADS: &str =
    "SELECT orders.id, stage.text, stage_since, outcome, grp.text, since, first_at, last_at, pinned
     FROM orders LEFT JOIN dictionary stage ON stage.id = orders.stage
     LEFT JOIN dictionary grp ON grp.id = orders.grp";

/// What a list is filtered by, as the file has it.
struct Wanted {
    stage: Option<i64>,
    group: Option<i64>,
}

/// One walk over one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Walk {
    by: By,
    sort: Sort,
    /// The number of one outcome, or one bit for each.
    outcomes: i64,
}

/// What a walk goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// One outcome of one stage.
    Stage,
    /// One group, which nearly always has one outcome.
    Group,
    Outcome,
    /// All orders in the order in which they were last heard of.
    Heard,
}

/// The walks that a wish needs. Whatever has an index of its own is asked for by equality, so that a rare word in a store of
/// millions is as quick as a frequent one.
fn walks(query: &Query, wanted: &Wanted) -> Vec<Walk> {
    let outcomes = if query.outcomes.is_empty() { Outcome::ALL.as_slice() } else { &query.outcomes };
    let mask = outcomes.iter().fold(0, |mask, outcome| mask | 1 << outcome_number(*outcome));
    let sort = query.sort;
    let by = match (sort, wanted.group, wanted.stage) {
        (Sort::Heard, ..) => By::Heard,
        (_, Some(_), _) => By::Group,
        (_, None, Some(_)) => By::Stage,
        (_, None, None) => By::Outcome,
    };
    match by {
        By::Group | By::Heard => vec![Walk { by, sort, outcomes: mask }],
        By::Stage | By::Outcome => {
            outcomes.iter().map(|outcome| Walk { by, sort, outcomes: outcome_number(*outcome) }).collect()
        }
    }
}

impl Walk {
    /// Before the first row.
    fn beginning(self) -> (i64, i64) {
        if self.sort == Sort::Oldest { (i64::MIN, i64::MIN) } else { (i64::MAX, i64::MAX) }
    }

    /// Given are time and row of the last one, outcomes, stage, group and how many.
    fn sql(self) -> String {
        let filter = match self.by {
            By::Stage => "stage = ?4 AND outcome = ?3 AND ?5 IS NULL",
            By::Group => "grp = ?5 AND (1 << outcome) & ?3 <> 0 AND (?4 IS NULL OR stage = ?4)",
            By::Outcome => "outcome = ?3 AND ?4 IS NULL AND ?5 IS NULL",
            By::Heard => {
                "(1 << outcome) & ?3 <> 0 AND (?4 IS NULL OR stage = ?4) AND (?5 IS NULL OR grp = ?5)"
            }
        };
        let (after, order) = match self.sort {
            Sort::Oldest => ("(since, orders.id) > (?1, ?2)", "since, orders.id"),
            Sort::Newest => ("(since, orders.id) < (?1, ?2)", "since DESC, orders.id DESC"),
            Sort::Heard => ("(last_at, orders.id) < (?1, ?2)", "last_at DESC, orders.id DESC"),
        };
        format!("{HEADS} WHERE joined_to IS NULL AND {filter} AND {after} ORDER BY {order} LIMIT ?6")
    }
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
            .prepare_cached(&format!(
                "{HEADS} WHERE orders.id = (SELECT coalesce(joined_to, id) FROM orders WHERE id = ?1)"
            ))
            .and_then(|mut statement| statement.query_row([id.0], head).optional())
            .map_err(doing("cannot read an order's state"))?;
        head.map(|head| self.open_order(db, head, usual, now)).transpose()
    }

    /// Opens the facts of an order and judges it.
    fn open_order(&self, db: &Connection, head: Head, usual: &Usual, now: At) -> Result<Order, StoreError> {
        let gathered = self.open_whole(db, head.id.0)?;
        let journey = fold::journey(&gathered, &self.model);
        let verdict = fold::verdict(&journey, &self.model, usual, now);
        Ok(Order { head, facts: gathered.facts, journey, verdict })
    }

    /// All facts of an order, of all its rows.
    pub(super) fn open_whole(&self, db: &Connection, row: i64) -> Result<Gathered, StoreError> {
        let others: Vec<i64> = db
            .prepare_cached("SELECT id FROM orders WHERE joined_to = ?1")
            .and_then(|mut statement| statement.query_map([row], |row| row.get(0))?.collect())
            .map_err(doing("cannot read the parts of an order"))?;
        let mut gathered = self.open_row(db, row)?;
        for other in others {
            gathered = gathered.and(self.open_row(db, other)?);
        }
        Ok(gathered)
    }

    pub(super) fn read_page(
        &self,
        db: &Connection,
        query: &Query,
        usual: &Usual,
        now: At,
    ) -> Result<Page, StoreError> {
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut heads = self.heads(db, query, limit + 1)?;
        let more = heads.len() > limit;
        heads.truncate(limit);
        let at = |head: &Head| match query.sort {
            Sort::Oldest | Sort::Newest => head.since,
            Sort::Heard => head.last_at,
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

    /// What lists show, in the order of the list: each is one walk over the index that has its filter and its order.
    fn heads(&self, db: &Connection, query: &Query, limit: usize) -> Result<Vec<Head>, StoreError> {
        let Some(wanted) = self.wanted(db, query)? else { return Ok(Vec::new()) };
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut heads = Vec::new();
        for walk in walks(query, &wanted) {
            let after = query.after.map_or(walk.beginning(), |after| (after.at.0, after.id.0));
            let found: Vec<Head> = db
                .prepare_cached(&walk.sql())
                .and_then(|mut statement| {
                    let given = (after.0, after.1, walk.outcomes, wanted.stage, wanted.group, rows);
                    statement.query_map(given, head)?.collect()
                })
                .map_err(doing("cannot list orders"))?;
            heads.extend(found);
        }
        match query.sort {
            Sort::Oldest => heads.sort_by_key(|head| (head.since, head.id)),
            Sort::Newest => heads.sort_by_key(|head| Reverse((head.since, head.id))),
            Sort::Heard => heads.sort_by_key(|head| Reverse((head.last_at, head.id))),
        }
        heads.truncate(limit);
        Ok(heads)
    }

    /// Words of a wish as numbers of the dictionary; `None` when no order has that word.
    fn wanted(&self, db: &Connection, query: &Query) -> Result<Option<Wanted>, StoreError> {
        let number = |text: &str| known_word(db, text);
        let stage = query.stage.as_deref().map(|stage| number(&self.model.in_clear(stage))).transpose()?;
        let group = query.group.as_deref().map(number).transpose()?;
        if matches!(stage, Some(None)) || matches!(group, Some(None)) {
            return Ok(None);
        }
        Ok(Some(Wanted { stage: stage.flatten(), group: group.flatten() }))
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
                Ok(gathered) => keys.extend(gathered.facts.first().map(|fact| fact.key.clone())),
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
                Ok(gathered) => {
                    problems.extend(wrong_numbers(self, db, row, &gathered.facts)?);
                    problems.extend(self.wrong_traces(db, row, &gathered.facts)?);
                }
                Err(error) => problems.push(format!("row {row}: {error}")),
            }
            if problems.len() >= MAX_PROBLEMS {
                problems.push("and perhaps more".to_owned());
                return Ok(problems);
            }
        }
        problems.extend(watch::wrong_alerts(self, db)?);
        problems.extend(wrong_counts(db)?);
        problems.extend(traces::orphans(db)?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_one_walk_over_an_index_without_sorting() {
        let mut db = Connection::open_in_memory().expect("a database");
        super::super::schema::prepare(&mut db).expect("tables");
        let indexes = [
            (By::Stage, "USING INDEX orders_stage (stage=? AND outcome=? AND since"),
            (By::Group, "USING INDEX orders_group (grp=? AND since"),
            (By::Outcome, "USING INDEX orders_outcome (outcome=? AND since"),
            (By::Heard, "USING INDEX orders_last (last_at"),
        ];
        for (by, index) in indexes {
            let sorts = if by == By::Heard { vec![Sort::Heard] } else { vec![Sort::Oldest, Sort::Newest] };
            for sort in sorts {
                let sql = format!("EXPLAIN QUERY PLAN {}", Walk { by, sort, outcomes: 0 }.sql());
                let mut statement = db.prepare(&sql).expect("a statement");
                let given = (0, 0, 0, 0, 0, 0);
                let plan: Vec<String> =
                    statement.query_map(given, |row| row.get(3)).and_then(Iterator::collect).expect("a plan");
                let plan = plan.join("\n");
                assert!(plan.contains(index), "{by:?} {sort:?}:\n{plan}");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{by:?} {sort:?}:\n{plan}");
            }
        }
    }
}
