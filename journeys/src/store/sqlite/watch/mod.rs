//! Orders and places that are looked at → rows of alerts, and of the outbox, in the same transaction.
//!
//! An order is looked at when its facts change or a time comes that its rules named; nobody looks at all of them. What
//! fires is told once on each channel; many at one place become one group.

mod leave;
mod past;
mod row;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

pub(super) use self::leave::{after, forget_ended, forget_in_alert};
pub(super) use self::past::is_watched;
use self::past::{Db, is_grown};
use self::row::severity_number;
pub(super) use self::row::{ALERTS, Kept, Raw, Sealed, open, raw, seal, state, state_number};
use super::{Sqlite, doing, learn, outbox, schema};
use crate::facts::At;
use crate::fold::Reason;
use crate::rules::storm::{Company, WITHIN, company};
use crate::rules::window::{WindowWhen, places};
use crate::rules::{
    Held, Measured, Rule, RuleSet, Severity, Standing, State, Step, Subject, When, stand, step, trial,
};
use crate::store::alerts::AlertId;
use crate::store::{Store, StoreError, alerts};
use crate::time::MINUTE;

/// Counters are kept for at least so long.
const SHORTEST: i64 = 10 * MINUTE;

impl Sqlite {
    /// From now on orders are looked at by these rules. Where they are others than before, all orders are looked at again.
    pub fn watch(&self, set: RuleSet, now: At) -> Result<(), StoreError> {
        schema::follow(&mut self.writer(), "rules", &set.rules)?;
        self.end_empty_groups(&set, now)?;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(set));
        Ok(())
    }

    pub(super) fn rule_set(&self) -> Option<Arc<RuleSet>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at one order: its alerts become what they are at `now`. When to look again.
    pub(super) fn watch_order(
        &self,
        db: &Connection,
        row: i64,
        order: &Subject<'_>,
        now: At,
    ) -> Result<Option<At>, StoreError> {
        let Some(set) = self.rule_set() else { return Ok(self.is_watched.then_some(now)) };
        let found = self.open_alerts(db, Some(&set), row, now)?;
        let mut open_ones: BTreeMap<String, Kept> =
            found.into_iter().map(|kept| (kept.rule.clone(), kept)).collect();
        let number = || order.journey.keys.first().map(ToString::to_string).unwrap_or_default();
        let mut next: Option<At> = None;
        for rule in &set.rules {
            let When::Order(when) = &rule.when else { continue };
            let standing = stand(when, &rule.filter, order, now);
            let due =
                self.go_on(db, &set, rule, open_ones.remove(&rule.id), Some(row), number, &standing, now)?;
            next = next.into_iter().chain(due).min();
        }
        // Nothing of it becomes due while nobody looks.
        if matches!(order.verdict.reason, Reason::NotSeen { .. }) {
            next = next.map(|next| next.max(now.after(MINUTE)));
        }
        // Rules that are there no more.
        for (_, kept) in open_ones {
            self.end(db, Some(&set), kept, now)?;
        }
        Ok(next)
    }

    /// An alert that does not open is gone: what it was about is looked at anew.
    fn opened(
        &self,
        db: &Connection,
        set: Option<&RuleSet>,
        raw: Raw,
        now: At,
    ) -> Result<Option<Kept>, StoreError> {
        let (id, group) = (raw.0.id, group_of(&raw.0));
        match open(&self.keys, raw) {
            Ok(kept) => Ok(Some(kept)),
            Err(error) if error.is_of_one_row() => {
                tracing::error!(id, %error, "an alert does not open: it begins anew");
                delete(db, id)?;
                self.member_left(db, set, group, now)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one look: all of it is what the look is about")]
    fn go_on(
        &self,
        db: &Connection,
        set: &RuleSet,
        rule: &Rule,
        before: Option<Kept>,
        order: Option<i64>,
        number: impl Fn() -> String,
        standing: &Standing,
        now: At,
    ) -> Result<Option<At>, StoreError> {
        let was = before.as_ref().map(|kept| kept.life.clone());
        let (life, what, next) = step(was.clone(), standing, rule.hold, rule.keep, now);
        match (before, life) {
            (None, None) => {}
            (Some(kept), None) => delete(db, kept.id)?,
            (Some(kept), Some(life)) if was.as_ref() == Some(&life) => drop(kept),
            (Some(mut kept), Some(life)) => {
                kept.life = life;
                self.write_alert(db, &mut kept)?;
                self.changed(db, set, rule, &kept, what, now)?;
            }
            (None, Some(life)) => {
                let sealed = Sealed { number: number(), ..Sealed::default() };
                let severity = self.severity(db, rule, now)?;
                let mut kept = Kept {
                    id: 0,
                    rule: rule.id.clone(),
                    order,
                    is_group: false,
                    severity,
                    life,
                    acked_at: None,
                    snoozed_until: None,
                    grouped_in: None,
                    members: 0,
                    most_members: 0,
                    day: now.day(),
                    sealed,
                };
                self.write_alert(db, &mut kept)?;
                self.changed(db, set, rule, &kept, what, now)?;
            }
        }
        Ok(next)
    }

    fn changed(
        &self,
        db: &Connection,
        set: &RuleSet,
        rule: &Rule,
        kept: &Kept,
        what: Step,
        now: At,
    ) -> Result<(), StoreError> {
        match what {
            Step::Fired => self.fire(db, set, rule, kept, now),
            Step::Resolved => self.over(db, Some(set), kept, now),
            Step::Stays | Step::Gone => Ok(()),
        }
    }

    /// As the rule says; what is built in only informs while nearly nothing is learned.
    fn severity(&self, db: &Connection, rule: &Rule, now: At) -> Result<Severity, StoreError> {
        if rule.is_own || is_grown(db, now)? { Ok(rule.severity) } else { Ok(Severity::Info) }
    }

    /// Inserts or updates the row.
    fn write_alert(&self, db: &Connection, kept: &mut Kept) -> Result<(), StoreError> {
        let life = &kept.life;
        let micros = |at: Option<At>| at.map(|at| at.0);
        if kept.id == 0 {
            kept.id = db
                .prepare_cached(
                    "INSERT INTO alerts(rule, order_id, place, is_group, severity, state, since, due, day, sealed)
                     VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0, ?6, x'') RETURNING id",
                )
                .and_then(|mut statement| {
                    let severity = severity_number(kept.severity);
                    let given = (&kept.rule, kept.order, &life.held.place, kept.is_group, severity, kept.day);
                    statement.query_row(given, |row| row.get(0))
                })
                .map_err(doing("cannot add an alert"))?;
        }
        db.prepare_cached(
            "UPDATE alerts SET place = ?2, state = ?3, since = ?4, due = ?5, fired_at = ?6, resolved_at = ?7,
               clear_at = ?8, late = ?9, members = ?10, grouped_in = ?11 WHERE id = ?1",
        )
        .and_then(|mut statement| {
            statement.execute((
                kept.id,
                &life.held.place,
                state_number(life.state),
                life.held.since.0,
                life.held.due.0,
                micros(life.fired_at),
                micros(life.resolved_at),
                micros(life.clear_at),
                life.late,
                i64::try_from(kept.members).unwrap_or(i64::MAX),
                kept.grouped_in,
            ))
        })
        .map_err(doing("cannot write an alert"))?;
        kept.sealed.until = life.held.until;
        kept.sealed.measured = life.held.measured;
        seal(&self.keys, db, kept.id, kept.day, &kept.sealed)
    }

    /// Has an alert told, by itself or in company.
    fn fire(
        &self,
        db: &Connection,
        set: &RuleSet,
        rule: &Rule,
        kept: &Kept,
        now: At,
    ) -> Result<(), StoreError> {
        let place = &kept.life.held.place;
        let is_channel = matches!(rule.when, When::Window(WindowWhen::ChannelBroken));
        let except = is_channel.then_some(place.as_str());
        if kept.order.is_none() {
            return outbox::tell(db, set, rule, kept, except, now);
        }
        let group: Option<i64> = db
            .prepare_cached(
                // An empty one is about to end: who joined it would never be told of.
                "SELECT id FROM alerts WHERE rule = ?1 AND place = ?2 AND is_group = 1 AND state = 1 AND members > 0
                 LIMIT 1",
            )
            .and_then(|mut statement| statement.query_row((&rule.id, place), |row| row.get(0)).optional())
            .map_err(doing("cannot look for a group of alerts"))?;
        let others =
            "FROM alerts WHERE rule = ?1 AND place = ?2 AND is_group = 0 AND state = 1 AND fired_at > ?3
            AND grouped_in IS NULL AND order_id IS NOT NULL AND id <> ?4";
        let given = (&rule.id, place, now.0.saturating_sub(WITHIN), kept.id);
        let count: i64 = match group {
            Some(_) => 0,
            None => db
                .prepare_cached(&format!("SELECT count(*) {others}"))
                .and_then(|mut statement| statement.query_row(given, |row| row.get(0)))
                .map_err(doing("cannot count the alerts of a place"))?,
        };
        match (company(group.is_some(), u64::try_from(count).unwrap_or(0)), group) {
            (Company::Joins, Some(group)) => join(db, group, &[kept.id]),
            (Company::Founds, _) => {
                let mut members: Vec<i64> = db
                    .prepare_cached(&format!("SELECT id {others}"))
                    .and_then(|mut statement| statement.query_map(given, |row| row.get(0))?.collect())
                    .map_err(doing("cannot read the alerts of a place"))?;
                members.push(kept.id);
                let mut group = Kept {
                    id: 0,
                    order: None,
                    is_group: true,
                    members: 0,
                    most_members: 0,
                    day: now.day(),
                    sealed: Sealed::default(),
                    acked_at: None,
                    snoozed_until: None,
                    grouped_in: None,
                    ..kept.clone()
                };
                self.write_alert(db, &mut group)?;
                join(db, group.id, &members)?;
                // Whoever has not been told of one of them yet hears of all of them at once.
                members.iter().try_for_each(|member| outbox::take_back(db, *member))?;
                outbox::tell(db, set, rule, &group, None, now)
            }
            _ => outbox::tell(db, set, rule, kept, except, now),
        }
    }

    /// Has the end told to whom the beginning was told.
    fn over(&self, db: &Connection, set: Option<&RuleSet>, kept: &Kept, now: At) -> Result<(), StoreError> {
        outbox::tell_end(db, set, kept, now)?;
        self.member_left(db, set, kept.grouped_in, now)
    }

    /// An alert that fired is out of its group, if it was in one, whatever became of it: a group ends with its last member.
    fn member_left(
        &self,
        db: &Connection,
        set: Option<&RuleSet>,
        group: Option<i64>,
        now: At,
    ) -> Result<(), StoreError> {
        let Some(group) = group else { return Ok(()) };
        let left: Option<i64> = db
            .prepare_cached("UPDATE alerts SET members = max(members - 1, 0) WHERE id = ?1 AND state = 1 RETURNING members")
            .and_then(|mut statement| statement.query_row([group], |row| row.get(0)).optional())
            .map_err(doing("cannot count the members of a group"))?;
        if left == Some(0)
            && let Some(group) = by_id(db, group)?
            && let Some(group) = self.opened(db, set, group, now)?
        {
            self.end(db, set, group, now)?;
        }
        Ok(())
    }

    /// Ends an alert, whatever it was about.
    fn end(&self, db: &Connection, set: Option<&RuleSet>, mut kept: Kept, now: At) -> Result<(), StoreError> {
        if kept.life.state == State::Pending {
            return delete(db, kept.id);
        }
        kept.life.state = State::Resolved;
        kept.life.resolved_at = Some(now);
        self.write_alert(db, &mut kept)?;
        self.over(db, set, &kept, now)
    }

    /// Looks at what many orders do, by counters.
    pub(super) fn look_at_places(&self, now: At) -> Result<(), StoreError> {
        let Some(set) = self.rule_set() else { return Ok(()) };
        let usual = self.usual();
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to look at places"))?;
        let longest = set.rules.iter().filter_map(|rule| match &rule.when {
            When::Window(when) => when.window(),
            When::Order(_) => None,
        });
        let longest = longest.max().unwrap_or(0).max(SHORTEST);
        learn::forget_minutes(&transaction, At(now.0.saturating_sub(longest + MINUTE)))?;
        let mut open_ones = self.open_places(&transaction, &set, now)?;
        for rule in &set.rules {
            let When::Window(when) = &rule.when else { continue };
            let mut before: BTreeMap<String, Kept> = open_ones.remove(&rule.id).unwrap_or_default();
            if *when == WindowWhen::ChannelBroken {
                // Whoever sends says so. Of a channel that the file does not name any more nobody ever will.
                for (_, kept) in before.into_iter().filter(|(place, _)| set.channel(place).is_none()) {
                    self.end(&transaction, Some(&set), kept, now)?;
                }
                continue;
            }
            let found = places(when, &Db(&transaction), &usual, &self.model, now)?;
            let mut found: BTreeMap<String, Standing> = found.into_iter().collect();
            for place in before.keys() {
                found.entry(place.clone()).or_insert(Standing::NEVER);
            }
            for (place, standing) in found {
                let kept = before.remove(&place);
                let standing = trial::since_then(standing, kept.as_ref().map(|kept| &kept.life));
                self.go_on(&transaction, &set, rule, kept, None, String::new, &standing, now)?;
            }
        }
        // Rules that are there no more; their groups end with them.
        for kept in open_ones.into_values().flat_map(BTreeMap::into_values) {
            if set.rule(&kept.rule).is_none() {
                self.end(&transaction, Some(&set), kept, now)?;
            }
        }
        transaction.commit().map_err(doing("cannot commit what was seen of places"))
    }

    /// An earlier version let members leave their groups unseen. A group of this one ends with its last member.
    fn end_empty_groups(&self, set: &RuleSet, now: At) -> Result<(), StoreError> {
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to look at groups"))?;
        let found: Vec<Raw> = transaction
            .prepare_cached(&format!("{ALERTS} WHERE state = 1 AND is_group = 1 AND members = 0"))
            .and_then(|mut statement| statement.query_map([], raw)?.collect())
            .map_err(doing("cannot look for groups without members"))?;
        for one in found {
            if let Some(group) = self.opened(&transaction, Some(set), one, now)? {
                self.end(&transaction, Some(set), group, now)?;
            }
        }
        transaction.commit().map_err(doing("cannot end groups without members"))
    }

    /// Open alerts of places, by rule.
    fn open_places(
        &self,
        db: &Connection,
        set: &RuleSet,
        now: At,
    ) -> Result<BTreeMap<String, BTreeMap<String, Kept>>, StoreError> {
        let found: Vec<Raw> = db
            .prepare_cached(&format!("{ALERTS} WHERE state IN (0, 1) AND order_id IS NULL AND is_group = 0"))
            .and_then(|mut statement| statement.query_map([], raw)?.collect())
            .map_err(doing("cannot read the alerts of places"))?;
        let mut by_rule: BTreeMap<String, BTreeMap<String, Kept>> = BTreeMap::new();
        for one in found {
            if let Some(kept) = self.opened(db, Some(set), one, now)? {
                by_rule.entry(kept.rule.clone()).or_default().insert(kept.life.held.place.clone(), kept);
            }
        }
        Ok(by_rule)
    }

    /// Opens or ends an alert of the program's own.
    pub(super) fn stand_own(&self, rule: &str, place: &str, holds: bool, now: At) -> Result<(), StoreError> {
        let Some(set) = self.rule_set() else { return Ok(()) };
        let Some(rule) = set.rule(rule) else { return Ok(()) };
        let mut db = self.writer();
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to write"))?;
        let mut open_ones = self.open_places(&transaction, &set, now)?;
        let kept = open_ones.remove(&rule.id).and_then(|mut of| of.remove(place));
        let held =
            Held { since: now, due: now, until: None, place: place.to_owned(), measured: Measured::Fact };
        let standing = if holds { Standing::Holds(held) } else { Standing::NEVER };
        let standing = trial::since_then(standing, kept.as_ref().map(|kept| &kept.life));
        self.go_on(&transaction, &set, rule, kept, None, String::new, &standing, now)?;
        transaction.commit().map_err(doing("cannot commit an alert"))
    }

    /// Open alerts of an order's row.
    fn open_alerts(
        &self,
        db: &Connection,
        set: Option<&RuleSet>,
        row: i64,
        now: At,
    ) -> Result<Vec<Kept>, StoreError> {
        let found: Vec<Raw> = db
            .prepare_cached(&format!("{ALERTS} WHERE order_id = ?1 AND state < 2"))
            .and_then(|mut statement| statement.query_map([row], raw)?.collect())
            .map_err(doing("cannot read the alerts of an order"))?;
        let mut opened = Vec::with_capacity(found.len());
        for one in found {
            opened.extend(self.opened(db, set, one, now)?);
        }
        Ok(opened)
    }
}

/// The group that counts an alert.
fn group_of(kept: &Kept) -> Option<i64> {
    kept.grouped_in.filter(|_| kept.life.state == State::Firing)
}

pub(super) fn by_id(db: &Connection, id: i64) -> Result<Option<Raw>, StoreError> {
    db.prepare_cached(&format!("{ALERTS} WHERE id = ?1"))
        .and_then(|mut statement| statement.query_row([id], raw).optional())
        .map_err(doing("cannot read an alert"))
}

fn join(db: &Connection, group: i64, members: &[i64]) -> Result<(), StoreError> {
    for member in members {
        db.prepare_cached("UPDATE alerts SET grouped_in = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute((member, group)))
            .map_err(doing("cannot put an alert into a group"))?;
    }
    db.prepare_cached(
        "UPDATE alerts SET members = members + ?2, most_members = max(most_members, members + ?2) WHERE id = ?1",
    )
        .and_then(|mut statement| {
            statement.execute((group, i64::try_from(members.len()).unwrap_or(i64::MAX)))
        })
        .map(|_| ())
        .map_err(doing("cannot count the members of a group"))
}

fn delete(db: &Connection, id: i64) -> Result<(), StoreError> {
    for sql in [
        // Of a group that is gone nobody is a member: lists would not show who was.
        "UPDATE alerts SET grouped_in = NULL WHERE grouped_in = ?1",
        "DELETE FROM outbox WHERE alert_id = ?1",
        "DELETE FROM alerts WHERE id = ?1",
    ] {
        db.prepare_cached(sql)
            .and_then(|mut statement| statement.execute([id]))
            .map_err(doing("cannot delete an alert"))?;
    }
    Ok(())
}

/// Alerts that do not open.
pub(super) fn wrong_alerts(store: &Sqlite, db: &Connection) -> Result<Vec<String>, StoreError> {
    let all: Vec<Raw> = db
        .prepare(&format!("{ALERTS} ORDER BY id"))
        .and_then(|mut statement| statement.query_map([], raw)?.collect())
        .map_err(doing("cannot list all alerts"))?;
    let wrong = all.into_iter().filter_map(|one| {
        let id = one.0.id;
        open(&store.keys, one).err().map(|error| format!("alert {id}: {error}"))
    });
    Ok(wrong.take(alerts::MAX_ALERTS).collect())
}

/// As pages name it.
pub(super) fn id(id: i64) -> AlertId {
    AlertId(id)
}

#[cfg(test)]
mod tests;
