//! Rows of alerts ⇄ what pages and channels see of them.

use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use super::watch::{ALERTS, Kept, Raw, Sealed, by_id, id, open, raw, seal, state, state_number};
use super::{Sqlite, doing, outbox};
use crate::digest::hex;
use crate::facts::{At, Fact, tidy};
use crate::rules::{RuleSet, State};
use crate::store::alerts::{
    Alert, AlertCounts, AlertId, Alerts, MAX_ALERTS, MAX_NOTE, MAX_NOTES, Message, Note, OutboxCounts,
    Result as Told, Told as Row, Wanted,
};
use crate::store::{OrderId, StoreError};

/// Bytes of a fingerprint: enough that no two alerts of a house share one.
const FINGERPRINT: usize = 8;
/// Messages of one alert that are shown.
const MAX_TOLD: i64 = 100;

impl Sqlite {
    /// An opened row as others see it.
    pub(super) fn shown(&self, db: &Connection, kept: Kept, with_told: bool) -> Result<Alert, StoreError> {
        let told = if with_told { told(db, kept.id)? } else { Vec::new() };
        let tag = self.keys.alert_tag(kept.id);
        let Sealed { number, taken_by, notes, .. } = kept.sealed;
        Ok(Alert {
            id: id(kept.id),
            rule: kept.rule,
            order: kept.order.map(OrderId),
            number,
            // When it is over nobody is left: it tells of how many it was.
            members: kept.is_group.then_some(match kept.life.state {
                State::Resolved => kept.most_members,
                State::Pending | State::Firing => kept.members,
            }),
            grouped_in: kept.grouped_in.map(AlertId),
            severity: kept.severity,
            state: kept.life.state,
            held: kept.life.held,
            fired_at: kept.life.fired_at,
            resolved_at: kept.life.resolved_at,
            late: kept.life.late,
            taken: taken_by.zip(kept.acked_at),
            snoozed_until: kept.snoozed_until,
            notes,
            told,
            fingerprint: hex(tag.get(..FINGERPRINT).unwrap_or_default()),
        })
    }

    /// Changes what people say of an open alert.
    fn say(
        &self,
        alert: AlertId,
        columns: &'static str,
        value: i64,
        change: impl FnOnce(&mut Sealed),
        after: impl FnOnce(&Connection) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to write"))?;
        let Some(raw) = by_id(&transaction, alert.0)? else { return Ok(false) };
        let mut kept = open(&self.keys, raw)?;
        if kept.life.state != State::Firing {
            return Ok(false);
        }
        change(&mut kept.sealed);
        transaction
            .execute(columns, (kept.id, value))
            .map_err(doing("cannot write what somebody says of an alert"))?;
        seal(&self.keys, &transaction, kept.id, kept.day, &kept.sealed)?;
        after(&transaction)?;
        transaction.commit().map_err(doing("cannot write what somebody says of an alert"))?;
        drop(db);
        self.tell(kept.order.into_iter().collect());
        Ok(true)
    }
}

/// A note of bounded length; an empty one is none.
fn write(sealed: &mut Sealed, mut note: Note) {
    note.text = tidy(&note.text, MAX_NOTE);
    if !note.text.trim().is_empty() && sealed.notes.len() < MAX_NOTES {
        sealed.notes.push(note);
    }
}

fn told(db: &Connection, alert: i64) -> Result<Vec<Row>, StoreError> {
    db.prepare_cached(
        "SELECT channel, what, at, attempts, done_at, result, due_at FROM outbox WHERE alert_id = ?1 ORDER BY id LIMIT ?2",
    )
    .and_then(|mut statement| {
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Row {
                channel: row.get(0)?,
                what: outbox::what(row.get(1)?),
                at: At(row.get(2)?),
                attempts: row.get(3)?,
                done_at: row.get::<_, Option<i64>>(4)?.map(At),
                result: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            })
        };
        statement.query_map((alert, MAX_TOLD), row)?.collect()
    })
    .map_err(doing("cannot read what was told of an alert"))
}

impl Alerts for Sqlite {
    fn rules(&self) -> Option<Arc<RuleSet>> {
        self.rule_set()
    }

    fn alerts(&self, wanted: &Wanted) -> Result<Vec<Alert>, StoreError> {
        let limit = i64::try_from(wanted.limit.clamp(1, MAX_ALERTS)).unwrap_or(1);
        // One walk over one index, whatever else there is.
        let (filter, order) = match (wanted.order, wanted.group, wanted.state) {
            (Some(_), ..) => ("order_id = ?2 AND ?1 IS NOT NULL", "id DESC"),
            (_, Some(_), _) => ("grouped_in = ?3 AND ?1 IS NOT NULL", "id DESC"),
            (_, _, Some(_)) => ("state = ?1 AND grouped_in IS NULL", "fired_at DESC, id DESC"),
            (_, _, None) => ("state = 1 AND grouped_in IS NULL AND ?1 IS NOT NULL", "fired_at DESC, id DESC"),
        };
        self.reading(|db| {
            let found: Vec<Raw> = db
                .prepare_cached(&format!(
                    "{ALERTS} WHERE {filter} AND (?4 IS NULL OR rule = ?4) AND (?2 IS NULL OR ?2 IS NOT NULL)
                       AND (?3 IS NULL OR ?3 IS NOT NULL) ORDER BY {order} LIMIT ?5"
                ))
                .and_then(|mut statement| {
                    let state = wanted.state.map_or(-1, state_number);
                    let (order, group) = (wanted.order.map(|id| id.0), wanted.group.map(|id| id.0));
                    statement.query_map((state, order, group, &wanted.rule, limit), raw)?.collect()
                })
                .map_err(doing("cannot list alerts"))?;
            // One that does not open does not hide the others; a check names it.
            let opened = found.into_iter().filter_map(|raw| open(&self.keys, raw).ok());
            opened.map(|kept| self.shown(db, kept, true)).collect()
        })
    }

    fn alert(&self, alert: AlertId) -> Result<Option<Alert>, StoreError> {
        self.reading(|db| {
            let Some(raw) = by_id(db, alert.0)? else { return Ok(None) };
            self.shown(db, open(&self.keys, raw)?, true).map(Some)
        })
    }

    fn acknowledge(&self, alert: AlertId, note: Note) -> Result<bool, StoreError> {
        let at = note.at;
        let change = |sealed: &mut Sealed| {
            sealed.taken_by = Some(note.by.clone());
            write(sealed, note);
        };
        self.say(alert, "UPDATE alerts SET acked_at = ?2 WHERE id = ?1", at.0, change, |_| Ok(()))
    }

    fn snooze(&self, alert: AlertId, until: At, note: Note) -> Result<bool, StoreError> {
        let sql = "UPDATE alerts SET snoozed_until = ?2 WHERE id = ?1";
        self.say(
            alert,
            sql,
            until.0,
            |sealed| write(sealed, note),
            |db| outbox::tell_still(db, alert.0, until),
        )
    }

    fn alert_counts(&self) -> Result<AlertCounts, StoreError> {
        self.reading(|db| {
            db.prepare_cached("SELECT rule, state, count(*) FROM alerts WHERE state IN (0, 1) AND is_group = 0 GROUP BY rule, state")
                .and_then(|mut statement| {
                    let row = |row: &rusqlite::Row<'_>| {
                        Ok((row.get(0)?, state(row.get(1)?), u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0)))
                    };
                    statement.query_map([], row)?.collect()
                })
                .map_err(doing("cannot count alerts"))
        })
    }

    fn watch_agents(&self, now: At) -> Result<(), StoreError> {
        self.look_at_agents(now)
    }

    fn watch_places(&self, now: At) -> Result<(), StoreError> {
        self.look_at_places(now)
    }

    fn due_messages(&self, channel: &str, now: At, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.claim(channel, now, limit)
    }

    fn told(&self, message: &Message, result: &Told, now: At) -> Result<(), StoreError> {
        self.settle(message, result, now)
    }

    fn still_firing(&self, channel: &str, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.firing_for(channel, limit)
    }

    fn own_alert(&self, rule: &str, place: &str, holds: bool, now: At) -> Result<(), StoreError> {
        self.stand_own(rule, place, holds, now)
    }

    fn outbox_counts(&self) -> Result<OutboxCounts, StoreError> {
        self.waiting()
    }

    fn each_order(&self, since: At, limit: u64, each: &mut dyn FnMut(Vec<Fact>)) -> Result<u64, StoreError> {
        let (mut last, mut count) = (0, 0);
        loop {
            let rows: Vec<i64> = self.reading(|db| {
                db.prepare_cached(
                    "SELECT id FROM orders WHERE joined_to IS NULL AND id > ?1 AND last_at >= ?2 ORDER BY id LIMIT 500",
                )
                .and_then(|mut statement| statement.query_map((last, since.0), |row| row.get(0))?.collect())
                .map_err(doing("cannot list orders"))
            })?;
            let Some(end) = rows.last() else { return Ok(count) };
            last = *end;
            for row in rows {
                if count >= limit {
                    return Ok(count);
                }
                let facts = self.reading(|db| self.open_whole(db, row));
                match facts {
                    Ok(gathered) => each(gathered.facts),
                    Err(error) if error.is_of_one_row() => continue,
                    Err(error) => return Err(error),
                }
                count += 1;
            }
        }
    }
}
