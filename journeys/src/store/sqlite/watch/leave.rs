//! Orders that leave or become one, and people who leave → what is left of their alerts.

use rusqlite::Connection;

use super::super::{Sqlite, doing};
use super::{ALERTS, Raw, delete, group_of, open, raw, seal};
use crate::facts::{At, forget_in};
use crate::rules::State;
use crate::store::StoreError;
use crate::store::seal::Keys;

impl Sqlite {
    /// Alerts of a row that another one stands for now: they are that one's. Of two that are open by one rule the one that
    /// fires stays; of two that fire that of the other row, and the end of this one is told.
    pub(in crate::store::sqlite) fn follow(
        &self,
        db: &Connection,
        row: i64,
        head: i64,
        now: At,
    ) -> Result<(), StoreError> {
        let set = self.rule_set();
        for own in self.open_alerts(db, set.as_deref(), row, now)? {
            let others = self.open_alerts(db, set.as_deref(), head, now)?;
            let Some(other) = others.into_iter().find(|other| other.rule == own.rule) else { continue };
            match (own.life.state, other.life.state) {
                (State::Firing, State::Firing) => self.end(db, set.as_deref(), own, now)?,
                (State::Firing, _) => delete(db, other.id)?,
                _ => delete(db, own.id)?,
            }
        }
        db.prepare_cached("UPDATE alerts SET order_id = ?2 WHERE order_id = ?1")
            .and_then(|mut statement| statement.execute((row, head)))
            .map(|_| ())
            .map_err(doing("cannot move alerts to the order they are of"))
    }

    /// Takes all alerts of a row out of the store, and out of their groups.
    pub(in crate::store::sqlite) fn forget_alerts(
        &self,
        db: &Connection,
        row: i64,
        now: At,
    ) -> Result<(), StoreError> {
        let of: Vec<Raw> = db
            .prepare_cached(&format!("{ALERTS} WHERE order_id = ?1"))
            .and_then(|mut statement| statement.query_map([row], raw)?.collect())
            .map_err(doing("cannot read the alerts of an order"))?;
        let set = self.rule_set();
        for (kept, _) in of {
            delete(db, kept.id)?;
            self.member_left(db, set.as_deref(), group_of(&kept), now)?;
        }
        Ok(())
    }
}

/// So many alerts behind one, as they are in the file.
pub(in crate::store::sqlite) fn after(db: &Connection, id: i64, limit: i64) -> Result<Vec<Raw>, StoreError> {
    db.prepare_cached(&format!("{ALERTS} WHERE id > ?1 ORDER BY id LIMIT ?2"))
        .and_then(|mut statement| statement.query_map((id, limit), raw)?.collect())
        .map_err(doing("cannot list alerts"))
}

/// Takes a person's number out of what was written about an alert, and out of its place.
pub(in crate::store::sqlite) fn forget_in_alert(
    keys: &Keys,
    db: &Connection,
    one: Raw,
    person: &str,
) -> Result<(), StoreError> {
    let mut kept = open(keys, one)?;
    // All of them: `any` would stop at the first.
    let notes =
        kept.sealed.notes.iter_mut().filter_map(|note| forget_in(&mut note.text, person).then_some(()));
    if notes.count() > 0 {
        seal(keys, db, kept.id, kept.day, &kept.sealed)?;
    }
    if forget_in(&mut kept.life.held.place, person) {
        db.prepare_cached("UPDATE alerts SET place = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute((kept.id, &kept.life.held.place)))
            .map_err(doing("cannot write an alert"))?;
    }
    Ok(())
}

/// Lets go the alerts of an order that ended, but those whose end is still to be told.
pub(in crate::store::sqlite) fn forget_ended(db: &Connection, row: i64) -> Result<(), StoreError> {
    let ended: Vec<i64> = db
        .prepare_cached(
            "SELECT id FROM alerts WHERE order_id = (SELECT coalesce(joined_to, id) FROM orders WHERE id = ?1)
               AND state = 2 AND NOT EXISTS (SELECT 1 FROM outbox WHERE alert_id = alerts.id AND due_at IS NOT NULL)",
        )
        .and_then(|mut statement| statement.query_map([row], |row| row.get(0))?.collect())
        .map_err(doing("cannot read the alerts of an order"))?;
    ended.into_iter().try_for_each(|id| delete(db, id))
}
