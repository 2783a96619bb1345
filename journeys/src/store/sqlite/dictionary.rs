//! Names that are in clear in the file ⇄ their numbers; each stands there once, and so many of them and no more.
//!
//! *Owns* the dictionary. Names come as [`crate::model::shape`] leaves them.

use rusqlite::{Connection, OptionalExtension};

use super::doing;
use crate::facts::forget_in;
use crate::store::StoreError;

/// Words of one store: names of services, queues, statuses, codes. What comes after is *other*: a service that writes free
/// text into its status does not fill the disk.
const MAX_WORDS: i64 = 20_000;
const OTHER: &str = "other";

/// The number of a word in the dictionary.
pub(super) fn word(db: &Connection, text: &str) -> Result<i64, StoreError> {
    if let Some(id) = known_word(db, text)? {
        return Ok(id);
    }
    let words: i64 = db
        .prepare_cached("SELECT n FROM words")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(doing("cannot count the words of the dictionary"))?;
    let text = if words >= MAX_WORDS { OTHER } else { text };
    if let Some(id) = known_word(db, text)? {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO dictionary(text) VALUES (?1) RETURNING id")
        .and_then(|mut statement| statement.query_row([text], |row| row.get(0)))
        .map_err(doing("cannot write to the dictionary"))
}

/// The number of a word that the dictionary has.
pub(super) fn known_word(db: &Connection, text: &str) -> Result<Option<i64>, StoreError> {
    db.prepare_cached("SELECT id FROM dictionary WHERE text = ?1")
        .and_then(|mut statement| statement.query_row([text], |row| row.get(0)).optional())
        .map_err(doing("cannot read the dictionary"))
}

/// A word by its number.
pub(super) fn text(db: &Connection, word: i64) -> Result<Option<String>, StoreError> {
    db.prepare_cached("SELECT text FROM dictionary WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([word], |row| row.get(0)).optional())
        .map_err(doing("cannot read the dictionary"))
}

/// Words that no list, no counter and nothing usual has. Rows that another one stands for may still have the number of one:
/// they show it to nobody and get new words when they stand for themselves. What was learned from an order and is not kept
/// any more need not be taken back. The last word stays, so that no number is given twice.
pub(super) fn forget_words(db: &Connection) -> Result<(), StoreError> {
    db.execute_batch(&format!(
        "DELETE FROM counts WHERE orders = 0;
         DELETE FROM groups WHERE orders = 0;
         DELETE FROM dictionary WHERE id < (SELECT max(id) FROM dictionary) AND id NOT IN ({SAID});"
    ))
    .map_err(doing("cannot forget words that nothing says any more"))
}

/// Words that something has.
const SAID: &str = "SELECT stage FROM counts UNION SELECT grp FROM groups UNION SELECT destination FROM usual
    UNION SELECT service FROM heard UNION SELECT what FROM times UNION SELECT whom FROM times
    UNION SELECT what FROM counted UNION SELECT whom FROM counted";

/// Words in which a person's number stands. Services are the house's own.
pub(super) fn words_of(db: &Connection, person: &str) -> Result<Vec<i64>, StoreError> {
    let words: Vec<(i64, String)> = db
        .prepare("SELECT id, text FROM dictionary WHERE id NOT IN (SELECT service FROM heard)")
        .and_then(|mut statement| statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(doing("cannot read the dictionary"))?;
    let named = words.into_iter().filter_map(|(id, mut text)| forget_in(&mut text, person).then_some(id));
    Ok(named.collect())
}

/// Takes out of the file what was learned and counted under these words, and the words.
pub(super) fn forget_named(db: &Connection, words: &[i64]) -> Result<(), StoreError> {
    let each = |sqls: &[&str]| {
        words.iter().try_for_each(|word| {
            sqls.iter().try_for_each(|sql| db.prepare_cached(sql)?.execute([word]).map(|_| ()))
        })
    };
    each(&[
        "DELETE FROM minutes WHERE ?1 IN (what, whom)",
        "DELETE FROM counted WHERE ?1 IN (what, whom)",
        "DELETE FROM times WHERE ?1 IN (what, whom)",
        "DELETE FROM usual WHERE destination = ?1",
    ])
    .map_err(doing("cannot forget what was learned under a word"))?;
    forget_words(db)?;
    // The last word keeps its number, not its text. No shape has a control character.
    let without_text =
        format!("UPDATE dictionary SET text = char(1) || id WHERE id = ?1 AND id NOT IN ({SAID})");
    each(&[&without_text]).map_err(doing("cannot forget a word"))
}
