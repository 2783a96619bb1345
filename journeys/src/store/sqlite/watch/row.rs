//! A row of an alert ⇄ what is kept in clear and what is sealed.

use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use super::super::doing;
use crate::facts::At;
use crate::rules::{Held, Life, Measured, Severity, State};
use crate::store::StoreError;
use crate::store::alerts::Note;
use crate::store::seal::Keys;

/// Number of the format of what is sealed.
const FORMAT: u8 = 1;

/// What is sealed of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::sqlite) struct Sealed {
    pub(in crate::store::sqlite) number: String,
    pub(in crate::store::sqlite) until: Option<At>,
    pub(in crate::store::sqlite) measured: Measured,
    pub(in crate::store::sqlite) taken_by: Option<String>,
    pub(in crate::store::sqlite) notes: Vec<Note>,
}

/// A row, opened.
#[derive(Clone, Debug)]
pub(in crate::store::sqlite) struct Kept {
    pub(in crate::store::sqlite) id: i64,
    pub(in crate::store::sqlite) rule: String,
    pub(in crate::store::sqlite) order: Option<i64>,
    pub(in crate::store::sqlite) is_group: bool,
    pub(in crate::store::sqlite) severity: Severity,
    pub(in crate::store::sqlite) life: Life,
    pub(in crate::store::sqlite) acked_at: Option<At>,
    pub(in crate::store::sqlite) snoozed_until: Option<At>,
    pub(in crate::store::sqlite) grouped_in: Option<i64>,
    pub(in crate::store::sqlite) members: u64,
    /// So many a group had at most.
    pub(in crate::store::sqlite) most_members: u64,
    pub(in crate::store::sqlite) day: i64,
    pub(in crate::store::sqlite) sealed: Sealed,
}

/// As the file has it: numbers are never given to another state.
pub(in crate::store::sqlite) fn state_number(state: State) -> i64 {
    match state {
        State::Pending => 0,
        State::Firing => 1,
        State::Resolved => 2,
    }
}

pub(in crate::store::sqlite) fn state(number: i64) -> State {
    State::ALL.into_iter().find(|state| state_number(*state) == number).unwrap_or(State::Resolved)
}

pub(super) fn severity_number(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    }
}

pub(super) fn severity(number: i64) -> Severity {
    let found = Severity::ALL.into_iter().find(|severity| severity_number(*severity) == number);
    found.unwrap_or_default()
}

/// Columns as `kept` reads them; which rows is still to say.
pub(in crate::store::sqlite) const ALERTS: &str =
    "SELECT id, rule, order_id, place, is_group, severity, state, since, due, fired_at,
    resolved_at, clear_at, late, acked_at, snoozed_until, grouped_in, members, day, sealed, most_members FROM alerts";

/// A row before it is opened.
pub(in crate::store::sqlite) type Raw = (Kept, Vec<u8>);

pub(in crate::store::sqlite) fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let at = |column| row.get::<_, Option<i64>>(column).map(|at| at.map(At));
    let count = |column| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
    let held = Held {
        since: At(row.get(7)?),
        due: At(row.get(8)?),
        until: None,
        place: row.get(3)?,
        measured: Measured::Fact,
    };
    let life = Life {
        state: state(row.get(6)?),
        held,
        fired_at: at(9)?,
        resolved_at: at(10)?,
        clear_at: at(11)?,
        late: row.get(12)?,
    };
    let kept = Kept {
        id: row.get(0)?,
        rule: row.get(1)?,
        order: row.get(2)?,
        is_group: row.get(4)?,
        severity: severity(row.get(5)?),
        life,
        acked_at: at(13)?,
        snoozed_until: at(14)?,
        grouped_in: row.get(15)?,
        members: count(16)?,
        most_members: count(19)?,
        day: row.get(17)?,
        sealed: Sealed::default(),
    };
    Ok((kept, row.get(18)?))
}

/// Opens what is sealed of a row.
pub(in crate::store::sqlite) fn open(keys: &Keys, (mut kept, sealed): Raw) -> Result<Kept, StoreError> {
    let plain = keys.unseal_alert(kept.day, kept.id, &sealed)?;
    let of = plain.split_first().filter(|(format, _)| **format == FORMAT);
    let of = of.and_then(|(_, rest)| postcard::from_bytes::<Sealed>(rest).ok());
    kept.sealed = of.ok_or(StoreError::Damaged("an alert is not as it was written"))?;
    kept.life.held.until = kept.sealed.until;
    kept.life.held.measured = kept.sealed.measured;
    Ok(kept)
}

/// Writes what is sealed of a row.
pub(in crate::store::sqlite) fn seal(
    keys: &Keys,
    db: &Connection,
    id: i64,
    day: i64,
    sealed: &Sealed,
) -> Result<(), StoreError> {
    let plain = postcard::to_stdvec(sealed).map_err(|_| StoreError::Damaged("an alert cannot be written"))?;
    let plain = [[FORMAT].as_slice(), &plain].concat();
    let sealed = keys.seal_alert(day, id, &plain)?;
    db.prepare_cached("UPDATE alerts SET sealed = ?2 WHERE id = ?1")
        .and_then(|mut statement| statement.execute((id, sealed)))
        .map(|_| ())
        .map_err(doing("cannot seal an alert"))
}
