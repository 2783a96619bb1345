//! What a batch teaches → counters in the file and in memory, changed by differences, so that a repetition teaches nothing.
//!
//! *Owns* the dictionary and what is usual. Everything here is in clear: names come as [`crate::model::shape`] leaves them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::doing;
use crate::facts::{At, Fact};
use crate::fold::{self, Deliveries, Length};
use crate::model::{Kind, Times, Usual, What, class};
use crate::rules::window;
use crate::store::StoreError;
use crate::time::DAY;

/// Destinations whose messages are counted, and things whose times are; of later ones nothing is usual.
const MAX_DESTINATIONS: usize = 5_000;
const MAX_WHATS: usize = 5_000;
const MAX_SERVICES: usize = 1_000;
/// Days that are counted together. What is usual is what was so in this period and the one before.
const PERIOD_DAYS: i64 = 28;

/// As the file has it: numbers are never given to another kind.
fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Stage => 0,
        Kind::Whole => 1,
        Kind::Queue => 2,
        Kind::Taken => 3,
        Kind::Served => 4,
        Kind::Called => 5,
        Kind::Wrote => 6,
        Kind::Read => 7,
        Kind::Unseen => 8,
        Kind::Way => 9,
    }
}

fn kind(number: u8) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind_number(*kind) == number)
}

fn period(at: At) -> i64 {
    at.day().div_euclid(PERIOD_DAYS)
}

/// What a batch teaches, summed up before it is written.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    deliveries: BTreeMap<String, (i64, i64)>,
    /// By class of length: how many, and how many of them failed.
    times: BTreeMap<What, BTreeMap<u16, (i64, i64)>>,
    heard: BTreeMap<String, At>,
    /// By minute: what happened, for rules that look at many orders.
    minutes: BTreeMap<(i64, What), BTreeMap<u16, (i64, i64)>>,
}

/// What was learned from one order, as its row remembers it: kind, two words and the class of the length.
type Learned = BTreeSet<(u8, i64, i64, u16)>;

impl Lessons {
    /// Messages of an order's row: what it tells now and did not tell before.
    pub(super) fn deliveries(&mut self, before: &Deliveries, after: &Deliveries) {
        let signed = |(published, delivered): (u64, u64)| {
            (i64::try_from(published).unwrap_or(i64::MAX), i64::try_from(delivered).unwrap_or(i64::MAX))
        };
        for (destination, counts) in after {
            let (was, is) = (signed(before.get(destination).copied().unwrap_or_default()), signed(*counts));
            if was != is {
                let of = self.deliveries.entry(destination.clone()).or_default();
                *of = (of.0 + is.0 - was.0, of.1 + is.1 - was.1);
            }
        }
    }

    /// Operations that are new.
    pub(super) fn facts<'a>(&mut self, facts: impl Iterator<Item = &'a Fact>, now: At) {
        for fact in facts {
            window::counted(fact).for_each(|length| self.count(&length, now));
            for length in fold::length(fact).into_iter().chain(fold::unseen(fact)) {
                self.add(length.what, class(length.micros), 1, i64::from(length.failed));
            }
            match self.heard.get_mut(&fact.service) {
                Some(last) => *last = (*last).max(fact.to),
                None => {
                    self.heard.insert(fact.service.clone(), fact.to);
                }
            }
        }
    }

    /// How long an order was where: what was learned from its row before is taken back.
    pub(super) fn order(
        &mut self,
        db: &Connection,
        row: i64,
        lengths: &[Length],
        now: At,
    ) -> Result<(), StoreError> {
        let before: Option<Vec<u8>> = db
            .prepare_cached("SELECT learned FROM orders WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([row], |row| row.get(0)))
            .map_err(doing("cannot read what was learned from an order"))?;
        let before: Learned = before.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let mut after = Learned::new();
        for length in lengths {
            let (of, with) = (word(db, &length.what.of)?, word(db, &length.what.with)?);
            let lesson = (kind_number(length.what.kind), of, with, class(length.micros));
            if length.what.kind == Kind::Stage && !before.contains(&lesson) {
                self.count(length, now);
            }
            after.insert(lesson);
        }
        if before == after {
            return Ok(());
        }
        for ((number, of, with, class), by) in before
            .difference(&after)
            .map(|old| (old, -1))
            .chain(after.difference(&before).map(|new| (new, 1)))
        {
            if let (Some(kind), Some(of), Some(with)) = (kind(*number), text(db, *of)?, text(db, *with)?) {
                self.add(What { kind, of, with }, *class, by, 0);
            }
        }
        let learned =
            postcard::to_stdvec(&after).map_err(|_| StoreError::Damaged("lengths cannot be written"))?;
        db.prepare_cached("UPDATE orders SET learned = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute((row, learned)))
            .map(|_| ())
            .map_err(doing("cannot write what was learned from an order"))
    }

    /// Counts something in the minute in which it was over, unless that was long ago.
    fn count(&mut self, length: &Length, now: At) {
        if !window::is_recent(length.at, now) {
            return;
        }
        let of = self.minutes.entry((window::minute(length.at), length.what.clone())).or_default();
        let of = of.entry(class(length.micros)).or_default();
        *of = (of.0 + 1, of.1 + i64::from(length.failed));
    }

    fn add(&mut self, what: What, class: u16, count: i64, failed: i64) {
        let of = self.times.entry(what).or_default().entry(class).or_default();
        *of = (of.0 + count, of.1 + failed);
    }

    /// Writes all of it, and tells it to `usual`.
    pub(super) fn write(self, db: &Connection, usual: &mut Arc<Usual>, now: At) -> Result<(), StoreError> {
        for (destination, (published, delivered)) in self.deliveries {
            let is_new = !usual.destinations.contains_key(&destination);
            if (published, delivered) == (0, 0) || (is_new && usual.destinations.len() >= MAX_DESTINATIONS) {
                continue;
            }
            let id = word(db, &destination)?;
            let known: (i64, i64) = db
                .prepare_cached(
                    "INSERT INTO usual(destination, published, delivered) VALUES (?1, max(?2, 0), max(?3, 0))
                     ON CONFLICT DO UPDATE SET published = max(published + ?2, 0), delivered = max(delivered + ?3, 0)
                     RETURNING published, delivered",
                )
                .and_then(|mut statement| {
                    statement.query_row((id, published, delivered), |row| Ok((row.get(0)?, row.get(1)?)))
                })
                .map_err(doing("cannot write what is usual"))?;
            let known = (u64::try_from(known.0).unwrap_or(0), u64::try_from(known.1).unwrap_or(0));
            Arc::make_mut(usual).destinations.insert(destination, known);
        }
        for (service, at) in self.heard {
            let known = usual.heard.get(&service).copied();
            if known >= Some(at) || (known.is_none() && usual.heard.len() >= MAX_SERVICES) {
                continue;
            }
            let id = word(db, &service)?;
            db.prepare_cached(
                "INSERT INTO heard(service, at) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET at = excluded.at",
            )
            .and_then(|mut statement| statement.execute((id, at.0)))
            .map_err(doing("cannot write when a service was heard of"))?;
            Arc::make_mut(usual).heard.insert(service, at);
        }
        for ((minute, what), classes) in self.minutes {
            let (of, with) = (word(db, &what.of)?, word(db, &what.with)?);
            for (class, (count, failed)) in classes {
                db.prepare_cached(
                    "INSERT INTO minutes(minute, kind, what, whom, class, count, failed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT DO UPDATE SET count = count + ?6, failed = failed + ?7",
                )
                .and_then(|mut statement| {
                    statement.execute((minute, kind_number(what.kind), of, with, class, count, failed))
                })
                .map_err(doing("cannot count what happened in a minute"))?;
            }
        }
        for (what, classes) in self.times {
            if !usual.times.contains_key(&what) && usual.times.len() >= MAX_WHATS {
                continue;
            }
            let (of, with) = (word(db, &what.of)?, word(db, &what.with)?);
            for (class, (count, failed)) in classes.into_iter().filter(|(_, counts)| *counts != (0, 0)) {
                db.prepare_cached(
                    "INSERT INTO times(kind, what, whom, period, class, orders, failed)
                     VALUES (?1, ?2, ?3, ?4, ?5, max(?6, 0), max(?7, 0))
                     ON CONFLICT DO UPDATE SET orders = max(orders + ?6, 0), failed = max(failed + ?7, 0)",
                )
                .and_then(|mut statement| {
                    let kind = kind_number(what.kind);
                    statement.execute((kind, of, with, period(now), class, count, failed))
                })
                .map_err(doing("cannot write how long things take"))?;
                Arc::make_mut(usual).times.entry(what.clone()).or_default().add(class, count, failed);
            }
        }
        Ok(())
    }
}

/// Lets go what was so long ago that it is not usual any more; whether there was any.
pub(super) fn forget(db: &Connection, now: At) -> Result<bool, StoreError> {
    let times = db
        .execute("DELETE FROM times WHERE period < ?1", [period(now) - 1])
        .map_err(doing("cannot forget what is not usual any more"))?;
    forget_minutes(db, At(now.0.saturating_sub(window::LONGEST)))?;
    let silent_since = now.0.saturating_sub(2 * PERIOD_DAYS * DAY);
    let heard = db
        .execute("DELETE FROM heard WHERE at < ?1", [silent_since])
        .map_err(doing("cannot forget a service that is not heard of any more"))?;
    Ok(times + heard > 0)
}

/// Counters of the minutes from `from` on.
pub(super) fn minutes(db: &Connection, from: At) -> Result<BTreeMap<What, Times>, StoreError> {
    let rows: Vec<(u8, String, String, u16, i64, i64)> = db
        .prepare_cached(
            "SELECT kind, a.text, b.text, class, sum(count), sum(failed)
             FROM minutes JOIN dictionary a ON a.id = minutes.what JOIN dictionary b ON b.id = minutes.whom
             WHERE minute >= ?1 GROUP BY kind, what, whom, class",
        )
        .and_then(|mut statement| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            };
            statement.query_map([window::minute(from)], row)?.collect()
        })
        .map_err(doing("cannot read what happened in the last minutes"))?;
    let mut times: BTreeMap<What, Times> = BTreeMap::new();
    for (number, of, with, class, count, failed) in rows {
        if let Some(kind) = kind(number) {
            times.entry(What { kind, of, with }).or_default().add(class, count, failed);
        }
    }
    Ok(times)
}

/// Lets go counters of minutes before that time.
pub(super) fn forget_minutes(db: &Connection, before: At) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM minutes WHERE minute < ?1")
        .and_then(|mut statement| statement.execute([window::minute(before)]))
        .map(|_| ())
        .map_err(doing("cannot forget the minutes before"))
}

/// All that is usual.
pub(super) fn usual(db: &Connection) -> Result<Usual, StoreError> {
    let positive = |number: i64| u64::try_from(number).unwrap_or(0);
    let destinations: Vec<(String, i64, i64)> = db
        .prepare(
            "SELECT dictionary.text, published, delivered FROM usual JOIN dictionary ON dictionary.id = usual.destination",
        )
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
        .map_err(doing("cannot read what is usual"))?;
    let times: Vec<(u8, String, String, u16, i64, i64)> = db
        .prepare(
            "SELECT kind, a.text, b.text, class, sum(orders), sum(failed)
             FROM times JOIN dictionary a ON a.id = times.what JOIN dictionary b ON b.id = times.whom
             GROUP BY kind, what, whom, class",
        )
        .and_then(|mut statement| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            };
            statement.query_map([], row)?.collect()
        })
        .map_err(doing("cannot read how long things take"))?;
    let heard: Vec<(String, i64)> = db
        .prepare("SELECT dictionary.text, at FROM heard JOIN dictionary ON dictionary.id = heard.service")
        .and_then(|mut statement| statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(doing("cannot read when services were heard of"))?;
    let mut usual = Usual {
        heard: heard.into_iter().map(|(service, at)| (service, At(at))).collect(),
        destinations: destinations
            .into_iter()
            .map(|(name, published, delivered)| (name, (positive(published), positive(delivered))))
            .collect(),
        ..Usual::default()
    };
    for (number, of, with, class, count, failed) in times {
        if let Some(kind) = kind(number) {
            usual.times.entry(What { kind, of, with }).or_default().add(class, count, failed);
        }
    }
    Ok(usual)
}

/// Words of one store: names of services, queues, statuses, codes. What comes after is *other*: a service that writes free
/// text into its status does not fill the disk.
const MAX_WORDS: i64 = 20_000;
const OTHER: &str = "other";

/// The number of a word in the dictionary.
pub(super) fn word(db: &Connection, text: &str) -> Result<i64, StoreError> {
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

/// A word by its number.
fn text(db: &Connection, word: i64) -> Result<Option<String>, StoreError> {
    db.prepare_cached("SELECT text FROM dictionary WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([word], |row| row.get(0)).optional())
        .map_err(doing("cannot read the dictionary"))
}
