//! Facts → rows, tags and counters, in one transaction.
//!
//! `facts ─ by number ─▶ row: open, add, seal ─▶ rows that numbers connect: fold, judge ─▶ head columns, counters`

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension};

use super::dictionary::word;
use super::learn::Lessons;
use super::{Sqlite, doing, join, read};
use crate::facts::{At, Fact, FactId, Key, Step};
use crate::fold::{self, Gathered, Hang, Length, Lost, Outcome, Reason, Verdict};
use crate::model::{Usual, shape};
use crate::rules::Subject;
use crate::store::{Ingested, StoreError, blob};

impl Sqlite {
    pub(super) fn write(&self, mut facts: Vec<Fact>, now: At) -> Result<Ingested, StoreError> {
        self.without_forgotten(&mut facts);
        let mut by_key: BTreeMap<Key, Vec<Fact>> = BTreeMap::new();
        for fact in facts {
            by_key.entry(fact.key.clone()).or_default().push(fact);
        }
        self.changing(now, |db, usual, lessons| {
            let mut done = Ingested::default();
            let mut touched = BTreeSet::new();
            for (key, facts) in by_key {
                let given = facts.len() as u64;
                let (row, new) = self.add(db, &key, facts, lessons, now)?;
                done.new += new;
                done.repeated += given.saturating_sub(new);
                if new > 0 {
                    done.orders += 1;
                    touched.extend(join::connected(db, row)?);
                }
            }
            let judged = self.judge(db, touched, usual, lessons, now)?;
            Ok((done, judged))
        })
    }

    /// Adds facts to the row of their number; the row and how many were new.
    fn add(
        &self,
        db: &Connection,
        key: &Key,
        facts: Vec<Fact>,
        lessons: &mut Lessons,
        now: At,
    ) -> Result<(i64, u64), StoreError> {
        let tag = self.keys.tag(key);
        let row: Option<i64> = db
            .prepare_cached("SELECT id FROM orders WHERE tag = ?1")
            .and_then(|mut statement| statement.query_row([tag], |row| row.get(0)).optional())
            .map_err(doing("cannot look for an order"))?;
        let known = match row.map(|row| (row, self.open_row(db, row))) {
            None => Gathered::default(),
            Some((_, Ok(known))) => known,
            Some((row, Err(error))) if error.is_of_one_row() => {
                put_aside(db, row, now, &error)?;
                Gathered::default()
            }
            Some((_, Err(error))) => return Err(error),
        };
        let (sent_before, was_truncated) = (fold::deliveries(&known.facts), known.truncated);
        let told_before = told_otherwise(&known, &facts);
        let (gathered, new) = known.with(facts);
        if let Some(row) = row
            && new.is_empty()
            && gathered.truncated == was_truncated
            && !gathered.facts.is_empty()
        {
            return Ok((row, 0));
        }
        let first = gathered.facts.first().map_or(now.0, |fact| fact.from.0);
        // Nothing was heard of later than now, whatever a sender's clock says: an order of the year 2100 expires like others.
        let last = gathered.facts.iter().map(|fact| fact.to.0).max().unwrap_or(now.0).min(now.0);
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
        let sealed = self.keys.seal(now.day(), row, &blob::pack(&gathered).map_err(StoreError::Damaged)?)?;
        db.prepare_cached(
            "UPDATE orders SET first_at = ?2, last_at = ?3, day = ?4, sealed = ?5 WHERE id = ?1",
        )
        .and_then(|mut statement| statement.execute((row, first, last, now.day(), sealed)))
        .map_err(doing("cannot write an order"))?;
        let numbers: BTreeSet<&Key> = gathered.facts.iter().flat_map(Fact::keys).collect();
        for number in numbers {
            db.prepare_cached("INSERT OR IGNORE INTO keys(tag, order_id) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute((self.keys.tag(number), row)))
                .map_err(doing("cannot write a number of an order"))?;
        }
        self.index_traces(db, row, &gathered)?;
        if gathered.facts.iter().any(|fact| {
            new.contains(&fact.id) && matches!(fact.step, Step::Served { .. } | Step::Called { .. })
        }) {
            lessons.answers(&gathered.facts);
        }
        lessons.deliveries(&sent_before, &fold::deliveries(&gathered.facts));
        let told = gathered.facts.iter().filter(|fact| new.contains(&fact.id));
        lessons.facts(told.map(|fact| (fact, told_before.get(&fact.id))));
        Ok((row, new.len() as u64))
    }

    /// Opens the facts of a row.
    pub(super) fn open_row(&self, db: &Connection, row: i64) -> Result<Gathered, StoreError> {
        let (day, sealed): (i64, Vec<u8>) = db
            .prepare_cached("SELECT day, sealed FROM orders WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([row], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(doing("cannot read an order"))?;
        blob::unpack(&self.keys.unseal(day, row, &sealed)?).map_err(StoreError::Damaged)
    }

    /// Judges rows and all that numbers connect with them, and keeps what lists show; the rows that may be others now.
    pub(super) fn judge(
        &self,
        db: &Connection,
        mut rows: BTreeSet<i64>,
        usual: &Usual,
        lessons: &mut Lessons,
        now: At,
    ) -> Result<BTreeSet<i64>, StoreError> {
        let mut judged = BTreeSet::new();
        while let Some(row) = rows.pop_first() {
            let connected = join::connected(db, row)?;
            judged.extend(&connected);
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
            let keys = opened.iter().flat_map(|(_, gathered)| &gathered.facts).flat_map(Fact::keys);
            // The oldest row stands for all.
            let row = connected.first().copied().unwrap_or(row);
            if join::is_one(connected.len(), keys) {
                let all = opened.into_iter().map(|(_, gathered)| gathered).reduce(Gathered::and);
                for member in connected.iter().filter(|member| **member != row) {
                    set_head(db, *member, None, Some(row))?;
                    lessons.order(db, *member, &[])?;
                    self.follow(db, *member, row, now)?;
                }
                let (head, lengths) = self.head(db, row, &all.unwrap_or_default(), usual, now)?;
                set_head(db, row, Some(&head), None)?;
                lessons.order(db, row, &lengths)?;
            } else {
                for (member, gathered) in &opened {
                    let (head, lengths) = self.head(db, *member, gathered, usual, now)?;
                    set_head(db, *member, Some(&head), None)?;
                    lessons.order(db, *member, &lengths)?;
                }
            }
        }
        Ok(judged)
    }

    /// What lists show of an order, and how long it was where. On the way its alerts become what they are now.
    fn head(
        &self,
        db: &Connection,
        row: i64,
        gathered: &Gathered,
        usual: &Usual,
        now: At,
    ) -> Result<(NewHead, Vec<Length>), StoreError> {
        let journey = fold::journey(gathered, &self.model);
        let verdict = fold::verdict(&journey, &self.model, usual, now);
        let order = Subject { journey: &journey, verdict: &verdict, model: &self.model, usual };
        let due = self.watch_order(db, row, &order, now)?;
        let stage = journey.stage();
        let head = NewHead {
            stage: stage.map(|stage| self.model.in_clear(&stage.name)),
            stage_since: stage.and_then(|stage| stage.at),
            group: group(&verdict),
            outcome: verdict.outcome,
            since: verdict.since,
            due: verdict.due.into_iter().chain(due).min(),
        };
        Ok((head, fold::lengths(&journey, &self.model)))
    }

    pub(super) fn judge_again(&self, now: At, limit: usize) -> Result<usize, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.changing(now, |db, usual, lessons| {
            let due: BTreeSet<i64> = db
                .prepare_cached(
                    "SELECT id FROM orders WHERE joined_to IS NULL AND due_at <= ?1 ORDER BY due_at LIMIT ?2",
                )
                .and_then(|mut statement| statement.query_map((now.0, limit), |row| row.get(0))?.collect())
                .map_err(doing("cannot ask for due orders"))?;
            let count = due.len();
            // The same facts as before teach something else under another model only.
            let judged = self.judge(db, due, usual, lessons, now)?;
            Ok((count, judged))
        })
    }

    /// Deletes a row with its numbers and its alerts, and out of the counters. What it taught stays.
    pub(super) fn delete(&self, db: &Connection, row: i64, now: At) -> Result<(), StoreError> {
        uncount(db, row)?;
        self.forget_alerts(db, row, now)?;
        for sql in [
            "DELETE FROM keys WHERE order_id = ?1",
            "DELETE FROM traces WHERE order_id = ?1",
            "DELETE FROM orders WHERE id = ?1",
        ] {
            db.prepare_cached(sql)
                .and_then(|mut statement| statement.execute([row]))
                .map_err(doing("cannot delete an order"))?;
        }
        Ok(())
    }
}

/// What is known of operations that are told again with other words: the longer story will count in its place.
fn told_otherwise(known: &Gathered, facts: &[Fact]) -> BTreeMap<FactId, Fact> {
    let given: BTreeMap<FactId, &Fact> = facts.iter().map(|fact| (fact.id, fact)).collect();
    let differs = |fact: &&Fact| given.get(&fact.id).is_some_and(|given| *given != *fact);
    known.facts.iter().filter(differs).map(|fact| (fact.id, fact.clone())).collect()
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
fn uncount(db: &Connection, row: i64) -> Result<(), StoreError> {
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

/// What orders with the same trouble have in common: kind, place, code. Names no order and no person: it is in clear, so
/// what other tracers and systems say freely goes in without what may be a number.
fn group(verdict: &Verdict) -> Option<String> {
    group_of(&verdict.reason, verdict.outcome)
}

fn group_of(reason: &Reason, outcome: Outcome) -> Option<String> {
    Some(match reason {
        Reason::Refused { says, by: None } => format!("refused {} {}", says.service, shape(&says.status)),
        Reason::Refused { by: Some(by), .. } | Reason::Broke { by, .. } => {
            format!("failed {} {}", by.service, code(&by.trouble.code))
        }
        Reason::NotSettled { service, queue, .. } => format!("not_settled {service} {}", shape(queue)),
        Reason::Hangs { service, on, .. } => match on {
            Hang::Answer(peer) => format!("hangs {service} {peer}"),
            Hang::Database => format!("hangs {service} database"),
            Hang::Itself => format!("hangs {service}"),
        },
        Reason::InQueue { queue, .. } => format!("in_queue {}", shape(queue)),
        Reason::Lost(Lost::Returned { destination, .. }) => format!("returned {}", shape(destination)),
        Reason::Lost(Lost::Refused { destination, .. }) => format!("broker_refused {}", shape(destination)),
        Reason::Lost(Lost::NotTaken { destination, .. }) => format!("not_taken {}", shape(destination)),
        Reason::Lost(Lost::Rejected { service, queue, .. }) => format!("rejected {service} {}", shape(queue)),
        Reason::Lost(Lost::NoSuchOrder { service, .. }) => format!("no_such_order {service}"),
        Reason::Disagree { ahead, behind } => format!("disagree {} {}", ahead.service, behind.service),
        Reason::SomebodysTurn { who, stage, .. } if outcome == Outcome::Stuck => {
            format!("late {stage} {who}")
        }
        Reason::NoProgress { says, .. } => match says {
            Some(says) => format!("no_progress {} {}", says.service, shape(&says.status)),
            None => "no_progress".to_owned(),
        },
        // Where it is nobody sees.
        Reason::NotSeen { before, .. } => return group_of(before, outcome),
        Reason::SomebodysTurn { .. } | Reason::Moving { .. } | Reason::Finished { .. } | Reason::Nothing => {
            return None;
        }
    })
}

/// Longest code of a protocol, in characters: SQLSTATE has five, HTTP and AMQP three.
const MAX_CODE: usize = 5;

/// A protocol's code as it is; what is longer may be any text.
fn code(text: &str) -> String {
    let is_code = text.len() <= MAX_CODE && text.chars().all(|c| c.is_ascii_alphanumeric());
    if is_code { text.to_owned() } else { shape(text) }
}
