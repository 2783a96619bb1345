//! What a batch teaches → counters in the file and in memory, changed by differences, so that a repetition teaches nothing.
//!
//! *Owns* what is usual and what is counted. Everything here is in clear: names come as [`crate::model::shape`] leaves them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::dictionary::{forget_words, known_word, text, word};
use super::doing;
use crate::facts::{At, Fact, Step};
use crate::fold::{self, Deliveries, Length};
use crate::model::{Kind, Times, Usual, What, class};
use crate::rules::window;
use crate::store::StoreError;
use crate::time::DAY;

/// Destinations whose messages are counted, and things whose times are; of later ones nothing is usual.
const MAX_DESTINATIONS: usize = 5_000;
const MAX_WHATS: usize = 5_000;
const MAX_SERVICES: usize = 1_000;
/// Addresses whose service is known. They are in memory only: an address is somebody else's tomorrow.
const MAX_PEERS: usize = 5_000;
/// Things that are counted by the minute.
const MAX_COUNTED: i64 = 5_000;
/// Messages of one destination that are counted one by one.
const MAX_MESSAGES: i64 = 10_000;
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

/// By class of length: how many, and how many of them failed.
type ByClass = BTreeMap<u16, (i64, i64)>;

/// What a batch teaches, summed up before it is written.
#[derive(Debug)]
pub(super) struct Lessons {
    now: At,
    deliveries: BTreeMap<String, (i64, i64)>,
    /// By period and class of length: how many, and how many of them failed. What is taken back and was counted nobody knows
    /// when has no period.
    times: BTreeMap<(What, Option<i64>), ByClass>,
    heard: BTreeMap<String, At>,
    /// Who answers at an address.
    answers: BTreeMap<String, String>,
    /// By minute: what happened, for rules that look at many orders.
    minutes: BTreeMap<(i64, What), BTreeMap<u16, (i64, i64)>>,
}

/// What was learned from one order, as its row remembers it: kind, two words and the class of the length.
type Learned = BTreeSet<(u8, i64, i64, u16)>;

impl Lessons {
    pub(super) fn at(now: At) -> Self {
        Self {
            now,
            deliveries: BTreeMap::new(),
            times: BTreeMap::new(),
            heard: BTreeMap::new(),
            answers: BTreeMap::new(),
            minutes: BTreeMap::new(),
        }
    }

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

    /// Who answers at which address, by an order's row.
    pub(super) fn answers(&mut self, facts: &[Fact]) {
        let answers = fold::answers(facts).into_iter();
        self.answers.extend(answers.map(|(peer, service)| (peer.to_owned(), service.to_owned())));
    }

    /// Operations that are new, each with what was known of it before, if anything: that is taken back.
    pub(super) fn facts<'a>(&mut self, facts: impl Iterator<Item = (&'a Fact, Option<&'a Fact>)>) {
        let lengths = |fact| fold::length(fact).into_iter().chain(fold::unseen(fact));
        let is_told_before = |fact: &Fact| matches!(fact.step, Step::Open { .. });
        let current = Some(period(self.now));
        for (fact, before) in facts {
            // What is told again happened once; what was told before its span came, when that came.
            if !is_told_before(fact) && before.is_none_or(is_told_before) {
                window::counted(fact).for_each(|length| self.count(&length));
            }
            for length in before.into_iter().flat_map(lengths) {
                self.add(length.what, None, class(length.micros), -1, -i64::from(length.failed));
            }
            for length in lengths(fact) {
                self.add(length.what, current, class(length.micros), 1, i64::from(length.failed));
            }
            // Nobody was heard of later than now, whatever their clock says.
            let at = fact.to.min(self.now);
            match self.heard.get_mut(&fact.service) {
                Some(last) => *last = (*last).max(at),
                None => {
                    self.heard.insert(fact.service.clone(), at);
                }
            }
        }
    }

    /// How long an order was where: what was learned from its row before is taken back, from the period in which it was
    /// counted, and all of it counts in this one.
    pub(super) fn order(&mut self, db: &Connection, row: i64, lengths: &[Length]) -> Result<(), StoreError> {
        let (before, learned_in): (Option<Vec<u8>>, Option<i64>) = db
            .prepare_cached("SELECT learned, learned_in FROM orders WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([row], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(doing("cannot read what was learned from an order"))?;
        let before: Learned = before.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let mut after = Learned::new();
        for length in lengths {
            let (of, with) = (word(db, &length.what.of)?, word(db, &length.what.with)?);
            let lesson = (kind_number(length.what.kind), of, with, class(length.micros));
            if length.what.kind == Kind::Stage && !before.contains(&lesson) {
                self.count(length);
            }
            after.insert(lesson);
        }
        if before == after {
            return Ok(());
        }
        let current = period(self.now);
        let gone = before.iter().map(|old| (old, learned_in, -1));
        for ((number, of, with, class), period, by) in
            gone.chain(after.iter().map(|new| (new, Some(current), 1)))
        {
            if let (Some(kind), Some(of), Some(with)) = (kind(*number), text(db, *of)?, text(db, *with)?) {
                self.add(What { kind, of, with }, period, *class, by, 0);
            }
        }
        let learned =
            postcard::to_stdvec(&after).map_err(|_| StoreError::Damaged("lengths cannot be written"))?;
        db.prepare_cached("UPDATE orders SET learned = ?2, learned_in = ?3 WHERE id = ?1")
            .and_then(|mut statement| statement.execute((row, learned, current)))
            .map(|_| ())
            .map_err(doing("cannot write what was learned from an order"))
    }

    /// Counts something in the minute in which it was over, unless that was long ago.
    fn count(&mut self, length: &Length) {
        if !window::is_recent(length.at, self.now) {
            return;
        }
        let of = self.minutes.entry((window::minute(length.at), length.what.clone())).or_default();
        let of = of.entry(class(length.micros)).or_default();
        *of = (of.0 + 1, of.1 + i64::from(length.failed));
    }

    fn add(&mut self, what: What, period: Option<i64>, class: u16, count: i64, failed: i64) {
        let of = self.times.entry((what, period)).or_default().entry(class).or_default();
        *of = (of.0 + count, of.1 + failed);
    }

    /// Writes all of it, and tells it to `usual`.
    pub(super) fn write(self, db: &Connection, usual: &mut Arc<Usual>) -> Result<(), StoreError> {
        let current = period(self.now);
        for (destination, (published, delivered)) in self.deliveries {
            let is_new = !usual.destinations.contains_key(&destination);
            if (published, delivered) == (0, 0) || (is_new && usual.destinations.len() >= MAX_DESTINATIONS) {
                continue;
            }
            let known = count_messages(db, word(db, &destination)?, published, delivered, current)?;
            Arc::make_mut(usual).destinations.insert(destination, known);
        }
        for (peer, service) in self.answers {
            let known = usual.answer_at.get(&peer);
            let has_room = known.is_some() || usual.answer_at.len() < MAX_PEERS;
            if known != Some(&service) && has_room {
                Arc::make_mut(usual).answer_at.insert(peer, service);
            }
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
            let Some((of, with)) = counted(db, &what, minute)? else { continue };
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
        for ((what, period), classes) in self.times {
            if !usual.times.contains_key(&what) && usual.times.len() >= MAX_WHATS {
                continue;
            }
            let (of, with) = (word(db, &what.of)?, word(db, &what.with)?);
            for (class, counts) in classes.into_iter().filter(|(_, counts)| *counts != (0, 0)) {
                let (count, failed) =
                    count_times(db, (kind_number(what.kind), of, with, class), period, counts, current)?;
                if (count, failed) != (0, 0) {
                    Arc::make_mut(usual).add(&what, class, count, failed);
                }
            }
        }
        Ok(())
    }
}

/// The words of something that is counted in that minute; `None` when so many others are counted that nothing new is. Only
/// what is counted gets words: names that never come again would take all there are.
fn counted(db: &Connection, what: &What, minute: i64) -> Result<Option<(i64, i64)>, StoreError> {
    let kind = kind_number(what.kind);
    let touch = |of: i64, with: i64| {
        db.prepare_cached(
            "UPDATE counted SET minute = max(minute, ?4) WHERE kind = ?1 AND what = ?2 AND whom = ?3",
        )
        .and_then(|mut statement| statement.execute((kind, of, with, minute)))
        .map_err(doing("cannot write what is counted"))
    };
    if let (Some(of), Some(with)) = (known_word(db, &what.of)?, known_word(db, &what.with)?)
        && touch(of, with)? > 0
    {
        return Ok(Some((of, with)));
    }
    let count: i64 = db
        .prepare_cached("SELECT count(*) FROM counted")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(doing("cannot ask how much is counted"))?;
    if count >= MAX_COUNTED {
        return Ok(None);
    }
    let (of, with) = (word(db, &what.of)?, word(db, &what.with)?);
    // A dictionary that is full has one word for many things.
    if touch(of, with)? == 0 {
        db.prepare_cached("INSERT INTO counted(kind, what, whom, minute) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut statement| statement.execute((kind, of, with, minute)))
            .map_err(doing("cannot write what is counted"))?;
    }
    Ok(Some((of, with)))
}

/// Counts messages of a destination; what is known of it now. The longer ago, the less it counts: beyond so many, all counts
/// are halved, so that a consumer that went away shows.
fn count_messages(
    db: &Connection,
    destination: i64,
    published: i64,
    delivered: i64,
    current: i64,
) -> Result<(u64, u64), StoreError> {
    let failed = || doing("cannot write what is usual");
    let known: (i64, i64) = db
        .prepare_cached(
            "INSERT INTO usual(destination, published, delivered, period) VALUES (?1, max(?2, 0), max(?3, 0), ?4)
             ON CONFLICT DO UPDATE SET
               published = max(published + ?2, 0), delivered = max(delivered + ?3, 0), period = ?4
             RETURNING published, delivered",
        )
        .and_then(|mut statement| {
            let given = (destination, published, delivered, current);
            statement.query_row(given, |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .map_err(failed())?;
    let known = if known.0 > MAX_MESSAGES {
        db.prepare_cached("UPDATE usual SET published = ?2, delivered = ?3 WHERE destination = ?1")
            .and_then(|mut statement| statement.execute((destination, known.0 / 2, known.1 / 2)))
            .map_err(failed())?;
        (known.0 / 2, known.1 / 2)
    } else {
        known
    };
    Ok((u64::try_from(known.0).unwrap_or(0), u64::try_from(known.1).unwrap_or(0)))
}

/// Counts lengths in a period; by how much the counts changed. No count falls below nothing, and what is not kept any more
/// is not taken back: memory then says what the file says.
fn count_times(
    db: &Connection,
    (kind, of, with, class): (u8, i64, i64, u16),
    period: Option<i64>,
    (count, failed): (i64, i64),
    current: i64,
) -> Result<(i64, i64), StoreError> {
    let error = || doing("cannot write how long things take");
    let period = match period {
        Some(period) => period,
        // Where it was counted last.
        None => db
            .prepare_cached(
                "SELECT max(period) FROM times WHERE kind = ?1 AND what = ?2 AND whom = ?3 AND class = ?4 AND orders > 0",
            )
            .and_then(|mut statement| {
                statement.query_row((kind, of, with, class), |row| row.get::<_, Option<i64>>(0))
            })
            .map_err(error())?
            .unwrap_or(current),
    };
    let before: Option<(i64, i64)> = db
        .prepare_cached(
            "SELECT orders, failed FROM times WHERE kind = ?1 AND what = ?2 AND whom = ?3 AND period = ?4 AND class = ?5",
        )
        .and_then(|mut statement| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            statement.query_row((kind, of, with, period, class), row).optional()
        })
        .map_err(error())?;
    let (orders_before, failed_before) = before.unwrap_or_default();
    let orders = orders_before.saturating_add(count).max(0);
    let failures = failed_before.saturating_add(failed).max(0);
    if before.is_none() && (orders, failures) == (0, 0) {
        return Ok((0, 0));
    }
    db.prepare_cached(
        "INSERT INTO times(kind, what, whom, period, class, orders, failed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET orders = excluded.orders, failed = excluded.failed",
    )
    .and_then(|mut statement| statement.execute((kind, of, with, period, class, orders, failures)))
    .map_err(error())?;
    Ok((orders - orders_before, failures - failed_before))
}

/// Lets go what was so long ago that it is not usual any more, and words that nothing says any more; whether what is usual
/// changed.
pub(super) fn forget(db: &Connection, now: At) -> Result<bool, StoreError> {
    let before = period(now) - 1;
    let mut gone = 0;
    for (sql, bound) in [
        ("DELETE FROM times WHERE period < ?1", before),
        ("DELETE FROM usual WHERE period < ?1", before),
        ("DELETE FROM heard WHERE at < ?1", now.0.saturating_sub(2 * PERIOD_DAYS * DAY)),
        // An earlier version believed clocks that were ahead.
        ("UPDATE heard SET at = ?1 WHERE at > ?1", now.0),
    ] {
        gone += db.execute(sql, [bound]).map_err(doing("cannot forget what is not usual any more"))?;
    }
    gone += super::agents::forget(db, now)?;
    forget_minutes(db, At(now.0.saturating_sub(window::LONGEST)))?;
    forget_words(db)?;
    Ok(gone > 0)
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
    for sql in ["DELETE FROM minutes WHERE minute < ?1", "DELETE FROM counted WHERE minute < ?1"] {
        db.prepare_cached(sql)
            .and_then(|mut statement| statement.execute([window::minute(before)]))
            .map_err(doing("cannot forget the minutes before"))?;
    }
    Ok(())
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
        agents: super::agents::all(db)?.into_iter().collect(),
        heard: heard.into_iter().map(|(service, at)| (service, At(at))).collect(),
        destinations: destinations
            .into_iter()
            .map(|(name, published, delivered)| (name, (positive(published), positive(delivered))))
            .collect(),
        ..Usual::default()
    };
    for (number, of, with, class, count, failed) in times {
        if let Some(kind) = kind(number) {
            usual.add(&What { kind, of, with }, class, count, failed);
        }
    }
    Ok(usual)
}
