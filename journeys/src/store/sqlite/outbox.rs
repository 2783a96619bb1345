//! Changes of alerts → messages that wait for their channels, each once; and what became of them.
//!
//! A message is claimed before it is sent and comes again when nobody says what became of it: a crash repeats it at most, and
//! its number says that it is the same one.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::watch::{ALERTS, Kept, by_id, open, raw};
use super::{Sqlite, doing};
use crate::facts::At;
use crate::rules::channel::channels_of;
use crate::rules::storm::PATIENCE;
use crate::rules::{Rule, RuleSet, State};
use crate::store::StoreError;
use crate::store::alerts::{Alert, Message, OutboxCounts, Result as Told, What};
use crate::time::MINUTE;

/// Who claimed a message and says nothing for so long has lost it.
const LEASE: i64 = 5 * MINUTE;

/// As the file has it: numbers are never given to another word.
pub(super) fn what_number(what: What) -> i64 {
    match what {
        What::Fired => 0,
        What::Resolved => 1,
        What::Still => 2,
    }
}

pub(super) fn what(number: i64) -> What {
    What::ALL.into_iter().find(|what| what_number(*what) == number).unwrap_or(What::Still)
}

/// Has an alert told that fires.
pub(super) fn tell(
    db: &Connection,
    set: &RuleSet,
    rule: &Rule,
    kept: &Kept,
    except: Option<&str>,
    now: At,
) -> Result<(), StoreError> {
    let about = (rule.id.as_str(), kept.life.held.place.as_str(), kept.severity);
    for channel in channels_of(&set.channels, &set.routes, &rule.notify, about) {
        if Some(channel.name.as_str()) != except {
            let due = channel.may_tell(kept.severity, now.after(PATIENCE));
            add(db, kept.id, &channel.name, What::Fired, due)?;
        }
    }
    Ok(())
}

/// A message waits from when it is due: it is tried for a day from then on, however long before it was written.
fn add(db: &Connection, alert: i64, channel: &str, what: What, due: At) -> Result<(), StoreError> {
    db.prepare_cached(
        // Some before it may have been taken back.
        "INSERT INTO outbox(alert_id, channel, what, nth, at, due_at) VALUES (?1, ?2, ?3,
           (SELECT coalesce(max(nth) + 1, 0) FROM outbox WHERE alert_id = ?1 AND channel = ?2 AND what = ?3), ?4, ?4)",
    )
    .and_then(|mut statement| statement.execute((alert, channel, what_number(what), due.0)))
    .map(|_| ())
    .map_err(doing("cannot write a message"))
}

/// Has it told again at `due`, and at no other time that was meant before. One that was tried already may have arrived: it
/// is not the same message as the one to come.
fn add_still(db: &Connection, alert: i64, channel: &str, due: At) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM outbox WHERE alert_id = ?1 AND channel = ?2 AND what = 2 AND due_at IS NOT NULL AND attempts = 0",
        "UPDATE outbox SET due_at = NULL, result = 'later' WHERE alert_id = ?1 AND channel = ?2 AND what = 2
           AND due_at IS NOT NULL",
    ] {
        db.prepare_cached(sql)
            .and_then(|mut statement| statement.execute((alert, channel)))
            .map_err(doing("cannot take a message back"))?;
    }
    add(db, alert, channel, What::Still, due)
}

/// Nobody is told what nobody was told yet.
pub(super) fn take_back(db: &Connection, alert: i64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM outbox WHERE alert_id = ?1 AND due_at IS NOT NULL AND attempts = 0")
        .and_then(|mut statement| statement.execute([alert]))
        .map(|_| ())
        .map_err(doing("cannot take a message back"))
}

/// Has the end told to those who were told the beginning, or may have been.
pub(super) fn tell_end(
    db: &Connection,
    set: Option<&RuleSet>,
    kept: &Kept,
    now: At,
) -> Result<(), StoreError> {
    take_back(db, kept.id)?;
    let told: Vec<String> = db
        .prepare_cached("SELECT DISTINCT channel FROM outbox WHERE alert_id = ?1 AND what = 0")
        .and_then(|mut statement| statement.query_map([kept.id], |row| row.get(0))?.collect())
        .map_err(doing("cannot ask who was told"))?;
    db.prepare_cached(
        "UPDATE outbox SET due_at = NULL, result = 'over' WHERE alert_id = ?1 AND due_at IS NOT NULL",
    )
    .and_then(|mut statement| statement.execute([kept.id]))
    .map_err(doing("cannot take a message back"))?;
    for name in told {
        let channel = set.and_then(|set| set.channel(&name));
        let due = channel.map_or(now, |channel| channel.may_tell(kept.severity, now));
        add(db, kept.id, &name, What::Resolved, due)?;
    }
    Ok(())
}

/// Has it told again at `at` to those who were told.
pub(super) fn tell_still(db: &Connection, alert: i64, at: At) -> Result<(), StoreError> {
    let told: Vec<String> = db
        .prepare_cached(
            "SELECT DISTINCT channel FROM outbox WHERE alert_id = ?1 AND what = 0 AND done_at IS NOT NULL",
        )
        .and_then(|mut statement| statement.query_map([alert], |row| row.get(0))?.collect())
        .map_err(doing("cannot ask who was told"))?;
    told.iter().try_for_each(|channel| add_still(db, alert, channel, at))
}

impl Sqlite {
    /// Claims what is due for a channel.
    pub(super) fn claim(&self, channel: &str, now: At, limit: usize) -> Result<Vec<Message>, StoreError> {
        let set = self.rule_set();
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to claim messages"))?;
        let rows: Vec<(i64, i64, i64, u32, i64)> = transaction
            .prepare_cached(
                "SELECT id, alert_id, what, attempts, at FROM outbox WHERE channel = ?1 AND due_at <= ?2
                 ORDER BY due_at, id LIMIT ?3",
            )
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let row = |row: &rusqlite::Row<'_>| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                };
                statement.query_map((channel, now.0, limit), row)?.collect()
            })
            .map_err(doing("cannot read what is to be told"))?;
        let mut messages = Vec::new();
        for (id, alert, number, attempts, at) in rows {
            let Some(alert) = self.alert_to_tell(&transaction, alert)? else {
                settle(&transaction, id, None, Some(now), "gone")?;
                continue;
            };
            let what = what(number);
            if let Some(until) = alert.snoozed_until.filter(|until| *until > now && what != What::Resolved) {
                put_off(&transaction, id, until, "snoozed")?;
                continue;
            }
            // It is told again only as long as nobody took it.
            if what == What::Still && (alert.state != State::Firing || alert.taken.is_some()) {
                settle(&transaction, id, None, Some(now), "taken")?;
                continue;
            }
            // What is told again, or was not taken at first, becomes due at any hour.
            let told_by = set.as_ref().and_then(|set| set.channel(channel));
            let may = told_by.map_or(now, |channel| channel.may_tell(alert.severity, now));
            if may > now {
                put_off(&transaction, id, may, "quiet")?;
                continue;
            }
            transaction
                .prepare_cached("UPDATE outbox SET attempts = attempts + 1, due_at = ?2 WHERE id = ?1")
                .and_then(|mut statement| statement.execute((id, now.after(LEASE).0)))
                .map_err(doing("cannot claim a message"))?;
            let attempts = attempts.saturating_add(1);
            messages.push(Message { id, channel: channel.to_owned(), what, attempts, at: At(at), alert });
        }
        transaction.commit().map_err(doing("cannot claim messages"))?;
        Ok(messages)
    }

    fn alert_to_tell(&self, db: &Connection, id: i64) -> Result<Option<Alert>, StoreError> {
        let Some(raw) = by_id(db, id)? else { return Ok(None) };
        match open(&self.keys, raw) {
            Ok(kept) => self.shown(db, kept, false).map(Some),
            Err(error) if error.is_of_one_row() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What became of a message.
    pub(super) fn settle(&self, message: &Message, told: &Told, now: At) -> Result<(), StoreError> {
        let repeat = self.rule_set().and_then(|set| set.channel(&message.channel)?.repeat);
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to write"))?;
        match told {
            Told::Sent => {
                settle(&transaction, message.id, None, Some(now), "sent")?;
                if let (Some(repeat), What::Fired | What::Still) = (repeat, message.what) {
                    let id = message.alert.id.0;
                    add_still(&transaction, id, &message.channel, now.after(repeat))?;
                }
            }
            Told::Again(at, why) => settle(&transaction, message.id, Some(*at), None, why)?,
            Told::Dropped(why) => settle(&transaction, message.id, None, Some(now), why)?,
        }
        transaction.commit().map_err(doing("cannot write what became of a message"))
    }

    /// What a channel was told and that is not over.
    pub(super) fn firing_for(&self, channel: &str, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.reading(|db| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let found: Vec<super::watch::Raw> = db
                .prepare_cached(&format!(
                    "{ALERTS} WHERE state = 1 AND id IN (SELECT alert_id FROM outbox WHERE channel = ?1 AND what = 0
                       AND done_at IS NOT NULL) ORDER BY fired_at DESC LIMIT ?2"
                ))
                .and_then(|mut statement| statement.query_map((channel, limit), raw)?.collect())
                .map_err(doing("cannot read what still fires"))?;
            let opened = found.into_iter().filter_map(|raw| open(&self.keys, raw).ok());
            opened.map(|kept| self.shown(db, kept, false)).collect()
        })
    }

    pub(super) fn waiting(&self) -> Result<OutboxCounts, StoreError> {
        self.reading(|db| {
            let waiting = db
                .prepare_cached(
                    "SELECT channel, count(*), min(at) FROM outbox WHERE due_at IS NOT NULL AND what <> 2 GROUP BY channel",
                )
                .and_then(|mut statement| {
                    let row = |row: &rusqlite::Row<'_>| {
                        let count = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                        Ok((row.get(0)?, count, At(row.get(2)?)))
                    };
                    statement.query_map([], row)?.collect()
                })
                .map_err(doing("cannot count what is to be told"))?;
            Ok(OutboxCounts { waiting })
        })
    }

    /// When the next message is due, for any channel.
    pub fn next_message(&self) -> Result<Option<At>, StoreError> {
        self.reading(|db| {
            db.prepare_cached("SELECT min(due_at) FROM outbox WHERE due_at IS NOT NULL")
                .and_then(|mut statement| {
                    statement.query_row([], |row| row.get::<_, Option<i64>>(0)).optional()
                })
                .map(|due| due.flatten().map(At))
                .map_err(doing("cannot ask when the next message is due"))
        })
    }
}

/// A message waits until then, and its day begins then.
fn put_off(db: &Connection, id: i64, until: At, result: &str) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE outbox SET at = ?2, due_at = ?2, result = ?3 WHERE id = ?1")
        .and_then(|mut statement| statement.execute((id, until.0, result)))
        .map(|_| ())
        .map_err(doing("cannot put a message off"))
}

fn settle(
    db: &Connection,
    id: i64,
    due: Option<At>,
    done: Option<At>,
    result: &str,
) -> Result<(), StoreError> {
    // Taken back meanwhile, because it is over: then it is not told again.
    db.prepare_cached(
        "UPDATE outbox SET due_at = CASE WHEN due_at IS NULL THEN NULL ELSE ?2 END, done_at = ?3, result = ?4 WHERE id = ?1",
    )
    .and_then(|mut statement| statement.execute((id, due.map(|due| due.0), done.map(|done| done.0), result)))
    .map(|_| ())
    .map_err(doing("cannot write what became of a message"))
}
