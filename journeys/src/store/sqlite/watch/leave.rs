//! Orders that leave or become one, and people who leave → what is left of their alerts.

use rusqlite::Connection;

use super::super::{Sqlite, doing};
use super::{ALERTS, Raw, delete, group_of, open, raw, seal};
use crate::facts::{At, without_word};
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

/// Takes a person's number out of what was written about the alerts of an order that named them, and lets go those that
/// ended.
pub(in crate::store::sqlite) fn forget_words(keys: &Keys, db: &Connection, row: i64, person: &str) -> Result<(), StoreError> {
    let of: Vec<Raw> = db
        .prepare_cached(&format!(
            "{ALERTS} WHERE order_id = (SELECT coalesce(joined_to, id) FROM orders WHERE id = ?1)"
        ))
        .and_then(|mut statement| statement.query_map([row], raw)?.collect())
        .map_err(doing("cannot read the alerts of an order"))?;
    for one in of {
        if one.0.life.state == State::Resolved {
            delete(db, one.0.id)?;
            continue;
        }
        let Ok(mut kept) = open(keys, one) else { continue };
        for note in &mut kept.sealed.notes {
            if let Some(without) = without_word(&note.text, person) {
                note.text = without;
            }
        }
        seal(keys, db, kept.id, kept.day, &kept.sealed)?;
    }
    Ok(())
}
