//! Facts → rows, tags and counters, in one transaction.
//!
//! `facts ─ by number ─▶ row: open, add, seal ─▶ rows that numbers connect: fold, judge ─▶ head columns, counters`

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{Sqlite, doing, join, read};
use crate::facts::{At, Fact, Key};
use crate::fold::{self, Lost, Outcome, Reason, Verdict};
use crate::model::{DAY, Usual};
use crate::store::{Ingested, StoreError, blob};

impl Sqlite {
    pub(super) fn write(&self, facts: Vec<Fact>, now: At) -> Result<Ingested, StoreError> {
        let mut by_key: BTreeMap<Key, Vec<Fact>> = BTreeMap::new();
        for fact in facts {
            by_key.entry(fact.key.clone()).or_default().push(fact);
        }
        let mut db = self.writer();
        let mut usual = Usual::clone(&self.usual());
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to write"))?;
        let mut done = Ingested::default();
        let mut touched = BTreeSet::new();
        for (key, facts) in by_key {
            let given = facts.len() as u64;
            let (row, new) = self.add(&transaction, &key, facts, &mut usual, now)?;
            done.new += new;
            done.repeated += given.saturating_sub(new);
            if new > 0 {
                done.orders += 1;
                touched.extend(join::connected(&transaction, row)?);
            }
        }
        self.judge(&transaction, touched, &usual, now)?;
        transaction.commit().map_err(doing("cannot commit a batch"))?;
        *self.usual.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = std::sync::Arc::new(usual);
        Ok(done)
    }

    /// Adds facts to the row of their number; the row and how many were new.
    fn add(
        &self,
        db: &Connection,
        key: &Key,
        facts: Vec<Fact>,
        usual: &mut Usual,
        now: At,
    ) -> Result<(i64, u64), StoreError> {
        let tag = self.keys.tag(key);
        let row: Option<i64> = db
            .prepare_cached("SELECT id FROM orders WHERE tag = ?1")
            .and_then(|mut statement| statement.query_row([tag], |row| row.get(0)).optional())
            .map_err(doing("cannot look for an order"))?;
        let known = match row.map(|row| (row, self.open_row(db, row))) {
            None => Vec::new(),
            Some((_, Ok(facts))) => facts,
            Some((row, Err(error))) if error.is_of_one_row() => {
                put_aside(db, row, now, &error)?;
                Vec::new()
            }
            Some((_, Err(error))) => return Err(error),
        };
        let all: Vec<Fact> = known.iter().cloned().chain(facts).collect();
        let gathered = fold::gather(&all).facts;
        if gathered == known
            && let Some(row) = row
        {
            return Ok((row, 0));
        }
        let before: BTreeSet<&Fact> = known.iter().collect();
        let new = gathered.iter().filter(|fact| !before.contains(fact)).count() as u64;
        let day = now.0.div_euclid(DAY);
        let first = gathered.first().map_or(now.0, |fact| fact.from.0);
        let last = gathered.iter().map(|fact| fact.to.0).max().unwrap_or(now.0);
        let row = match row {
            Some(row) => row,
            // The seal needs the row's number.
            None => db
                .prepare_cached(
                    "INSERT INTO orders(tag, first_at, last_at, outcome, since, day, sealed, joined_to)
                     VALUES (?1, 0, 0, 0, 0, 0, x'', 0) RETURNING id",
                )
                .and_then(|mut statement| statement.query_row([tag], |row| row.get(0)))
                .map_err(doing("cannot add an order"))?,
        };
        let sealed = self.keys.seal(day, row, &blob::pack(&gathered).map_err(StoreError::Damaged)?)?;
        db.prepare_cached(
            "UPDATE orders SET first_at = ?2, last_at = ?3, day = ?4, sealed = ?5 WHERE id = ?1",
        )
        .and_then(|mut statement| statement.execute((row, first, last, day, sealed)))
        .map_err(doing("cannot write an order"))?;
        let numbers: BTreeSet<&Key> =
            gathered.iter().flat_map(|fact| std::iter::once(&fact.key).chain(&fact.also)).collect();
        for number in numbers {
            db.prepare_cached("INSERT OR IGNORE INTO keys(tag, order_id) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute((self.keys.tag(number), row)))
                .map_err(doing("cannot write a number of an order"))?;
        }
        learn(db, &known, &gathered, usual)?;
        Ok((row, new))
    }

    /// Opens the facts of a row.
    pub(super) fn open_row(&self, db: &Connection, row: i64) -> Result<Vec<Fact>, StoreError> {
        let (day, sealed): (i64, Vec<u8>) = db
            .prepare_cached("SELECT day, sealed FROM orders WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([row], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(doing("cannot read an order"))?;
        blob::unpack(&self.keys.unseal(day, row, &sealed)?).map_err(StoreError::Damaged)
    }

    /// Judges rows and all that numbers connect with them, and keeps what lists show.
    pub(super) fn judge(
        &self,
        db: &Connection,
        mut rows: BTreeSet<i64>,
        usual: &Usual,
        now: At,
    ) -> Result<(), StoreError> {
        while let Some(row) = rows.pop_first() {
            let connected = join::connected(db, row)?;
            let mut opened = Vec::with_capacity(connected.len());
            for member in &connected {
                rows.remove(member);
                match self.open_row(db, *member) {
                    Ok(facts) => opened.push((*member, facts)),
                    // What does not open says nothing about the others.
                    Err(error) if error.is_of_one_row() => {}
                    Err(error) => return Err(error),
                }
            }
            let keys = opened
                .iter()
                .flat_map(|(_, facts)| facts)
                .flat_map(|fact| std::iter::once(&fact.key).chain(&fact.also));
            // The oldest row stands for all.
            let row = connected.first().copied().unwrap_or(row);
            if join::is_one(connected.len(), keys) {
                let facts: Vec<Fact> =
                    opened.iter_mut().flat_map(|(_, facts)| std::mem::take(facts)).collect();
                for member in connected.iter().filter(|member| **member != row) {
                    set_head(db, *member, None, Some(row))?;
                }
                let head = self.head(&facts, usual, now);
                set_head(db, row, Some(&head), None)?;
            } else {
                for (member, facts) in &opened {
                    set_head(db, *member, Some(&self.head(facts, usual, now)), None)?;
                }
            }
        }
        Ok(())
    }

    fn head(&self, facts: &[Fact], usual: &Usual, now: At) -> NewHead {
        let journey = fold::journey(facts, &self.model);
        let verdict = fold::verdict(&journey, &self.model, usual, now);
        let stage = journey.stage();
        NewHead {
            stage: stage.map(|stage| stage.name.clone()),
            stage_since: stage.and_then(|stage| stage.at),
            group: group(&verdict),
            outcome: verdict.outcome,
            since: verdict.since,
            due: verdict.due,
        }
    }

    pub(super) fn judge_again(&self, now: At, limit: usize) -> Result<usize, StoreError> {
        let usual = self.usual();
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to write"))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let due: BTreeSet<i64> = transaction
            .prepare_cached(
                "SELECT id FROM orders WHERE joined_to IS NULL AND due_at <= ?1 ORDER BY due_at LIMIT ?2",
            )
            .and_then(|mut statement| statement.query_map((now.0, limit), |row| row.get(0))?.collect())
            .map_err(doing("cannot ask for due orders"))?;
        let count = due.len();
        self.judge(&transaction, due, &usual, now)?;
        transaction.commit().map_err(doing("cannot commit new verdicts"))?;
        Ok(count)
    }
}

/// Keeps what does not open, so that one damaged row does not stop all senders.
fn put_aside(db: &Connection, row: i64, now: At, error: &StoreError) -> Result<(), StoreError> {
    tracing::error!(row, %error, "an order's facts do not open: they are put aside, and the order begins anew");
    db.execute(
        "INSERT INTO quarantine(order_id, at, day, sealed) SELECT id, ?2, day, sealed FROM orders WHERE id = ?1",
        (row, now.0),
    )
    .map(|_| ())
    .map_err(doing("cannot put a damaged order aside"))
}

/// What lists show of an order.
struct NewHead {
    stage: Option<String>,
    stage_since: Option<At>,
    outcome: Outcome,
    group: Option<String>,
    since: At,
    due: Option<At>,
}

/// Writes what lists show; `joined_to` hides a row behind the one that stands for it.
fn set_head(
    db: &Connection,
    row: i64,
    head: Option<&NewHead>,
    joined_to: Option<i64>,
) -> Result<(), StoreError> {
    uncount(db, row)?;
    let Some(head) = head else {
        return db
            .prepare_cached("UPDATE orders SET joined_to = ?2, due_at = NULL WHERE id = ?1")
            .and_then(|mut statement| statement.execute((row, joined_to)))
            .map(|_| ())
            .map_err(doing("cannot join an order"));
    };
    let stage = head.stage.as_deref().map(|stage| word(db, stage)).transpose()?;
    let group = head.group.as_deref().map(|group| word(db, group)).transpose()?;
    db.prepare_cached(
        "UPDATE orders SET stage = ?2, stage_since = ?3, outcome = ?4, grp = ?5, since = ?6, due_at = ?7, joined_to = NULL
         WHERE id = ?1",
    )
    .and_then(|mut statement| {
        let due = head.due.map(|due| due.0);
        let since = head.stage_since.map(|since| since.0);
        statement.execute((row, stage, since, read::outcome_number(head.outcome), group, head.since.0, due))
    })
    .map_err(doing("cannot write an order's state"))?;
    count(db, row, 1)
}

/// Takes a row out of the counters, if it was in them.
pub(super) fn uncount(db: &Connection, row: i64) -> Result<(), StoreError> {
    count(db, row, -1)
}

/// Rows that stand for an order are counted.
fn count(db: &Connection, row: i64, by: i64) -> Result<(), StoreError> {
    for sql in [
        "INSERT INTO counts(stage, outcome, orders)
         SELECT coalesce(stage, 0), outcome, ?2 FROM orders WHERE id = ?1 AND joined_to IS NULL
         ON CONFLICT DO UPDATE SET orders = orders + excluded.orders",
        "INSERT INTO groups(grp, outcome, orders)
         SELECT grp, outcome, ?2 FROM orders WHERE id = ?1 AND joined_to IS NULL AND grp IS NOT NULL
         ON CONFLICT DO UPDATE SET orders = orders + excluded.orders",
    ] {
        db.prepare_cached(sql)
            .and_then(|mut statement| statement.execute((row, by)))
            .map_err(doing("cannot count an order"))?;
    }
    Ok(())
}

/// Words of one store: names of services, queues, statuses, codes. What comes after is *other*: a service that writes free
/// text into its status does not fill the disk.
const MAX_WORDS: i64 = 20_000;
const OTHER: &str = "other";

/// The number of a word in the dictionary.
fn word(db: &Connection, text: &str) -> Result<i64, StoreError> {
    let known = |text: &str| {
        db.prepare_cached("SELECT id FROM dictionary WHERE text = ?1")
            .and_then(|mut statement| statement.query_row([text], |row| row.get(0)).optional())
            .map_err(doing("cannot read the dictionary"))
    };
    if let Some(id) = known(text)? {
        return Ok(id);
    }
    let last: Option<i64> = db
        .prepare_cached("SELECT max(id) FROM dictionary")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(doing("cannot read the dictionary"))?;
    let text = if last.is_some_and(|last| last >= MAX_WORDS) { OTHER } else { text };
    if let Some(id) = known(text)? {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO dictionary(text) VALUES (?1) RETURNING id")
        .and_then(|mut statement| statement.query_row([text], |row| row.get(0)))
        .map_err(doing("cannot write to the dictionary"))
}

/// Destinations whose messages are counted; of later ones nothing is usual.
const MAX_DESTINATIONS: usize = 5_000;

/// Learns from what a row tells now and did not tell before, so that a repetition teaches nothing.
fn learn(db: &Connection, before: &[Fact], after: &[Fact], usual: &mut Usual) -> Result<(), StoreError> {
    let (before, after) = (fold::deliveries(before), fold::deliveries(after));
    for (destination, (published, delivered)) in after {
        let (known_published, known_delivered) = before.get(&destination).copied().unwrap_or_default();
        let published =
            i64::try_from(published).unwrap_or(i64::MAX) - i64::try_from(known_published).unwrap_or(0);
        let delivered =
            i64::try_from(delivered).unwrap_or(i64::MAX) - i64::try_from(known_delivered).unwrap_or(0);
        let is_new = !usual.destinations.contains_key(&destination);
        if (published, delivered) == (0, 0) || (is_new && usual.destinations.len() >= MAX_DESTINATIONS) {
            continue;
        }
        let id = word(db, &destination)?;
        let now: (i64, i64) = db
            .prepare_cached(
                "INSERT INTO usual(destination, published, delivered) VALUES (?1, max(?2, 0), max(?3, 0))
                 ON CONFLICT DO UPDATE SET published = max(published + ?2, 0), delivered = max(delivered + ?3, 0)
                 RETURNING published, delivered",
            )
            .and_then(|mut statement| {
                statement.query_row((id, published, delivered), |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .map_err(doing("cannot write what is usual"))?;
        let known = (u64::try_from(now.0).unwrap_or(0), u64::try_from(now.1).unwrap_or(0));
        usual.destinations.insert(destination, known);
    }
    Ok(())
}

/// What orders with the same trouble have in common: kind, place, code. Names no order and no person.
fn group(verdict: &Verdict) -> Option<String> {
    Some(match &verdict.reason {
        Reason::Refused { says, by: None } => format!("refused {} {}", says.service, says.status),
        Reason::Refused { by: Some(by), .. } | Reason::Broke { by, .. } => {
            format!("failed {} {}", by.service, by.trouble.code)
        }
        Reason::NotSettled { service, queue, .. } => format!("not_settled {service} {queue}"),
        Reason::Lost(Lost::Returned { destination, .. }) => format!("returned {destination}"),
        Reason::Lost(Lost::Refused { destination, .. }) => format!("broker_refused {destination}"),
        Reason::Lost(Lost::NotTaken { destination, .. }) => format!("not_taken {destination}"),
        Reason::Lost(Lost::Rejected { service, queue, .. }) => format!("rejected {service} {queue}"),
        Reason::Lost(Lost::NoSuchOrder { service, .. }) => format!("no_such_order {service}"),
        Reason::Disagree { ahead, behind } => format!("disagree {} {}", ahead.service, behind.service),
        Reason::SomebodysTurn { who, stage, .. } if verdict.outcome == Outcome::Stuck => {
            format!("late {stage} {who}")
        }
        Reason::NoProgress { says, .. } => match says {
            Some(says) => format!("no_progress {} {}", says.service, says.status),
            None => "no_progress".to_owned(),
        },
        Reason::SomebodysTurn { .. } | Reason::Moving { .. } | Reason::Finished { .. } | Reason::Nothing => {
            return None;
        }
    })
}
