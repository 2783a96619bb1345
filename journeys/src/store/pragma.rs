//! Settings of a connection to a SQLite file.

use rusqlite::{Connection, Error};

/// Sets them in their order. Some answer with the new value and some with nothing; both is well.
pub(crate) fn set_pragmas(db: &Connection, pragmas: &[(&str, &str)]) -> Result<(), Error> {
    pragmas.iter().try_for_each(|(name, value)| {
        match db.pragma_update_and_check(None, name, value, |_| Ok(())) {
            Err(Error::QueryReturnedNoRows) => Ok(()),
            done => done,
        }
    })
}
