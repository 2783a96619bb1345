//! The core's state ⇄ what the next agent's session cannot see again.
//!
//! *Owns* what of a connection is worth keeping, and what is certain enough. *Must not know* files, other connections.
//!
//! | kept | unbroken | after bytes nobody saw |
//! |---|---|---|
//! | named statements with text and types | yes | yes, as over lost records: drivers give each text a name of its own |
//! | the unnamed statement, the transaction block | yes | no |
//! | portals, what waits for an answer | no | no |
//!
//! A text is worth its place only with a name; a statement whose text was never seen is as unknown as one never heard of.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catalog::Prepared;
use super::core::{Core, Phase, What};
use super::parse::{Column as ParsedColumn, MAX_COLUMNS, MAX_NAME_BYTES, MAX_PARAMETERS};
use crate::charset::Charset;
use crate::privacy::is_telling;
use crate::protocol::snapshot::{Counts, Discretion, LearnedState, Texts};

/// What a session has learned of its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Both directions stand between two messages, and nothing waits for an answer.
    pub at_rest: bool,
    /// Of the start-up message.
    pub database: Option<String>,
    /// `standard_conforming_strings` is off.
    pub backslash_escapes: bool,
    /// Name of `client_encoding`, where it is not UTF-8.
    pub charset: Option<String>,
    /// Number of the transaction block that is open, and of the last one there was.
    pub transaction: Option<u64>,
    pub transaction_count: u64,
    /// Least recently used first.
    pub statements: Vec<Statement>,
}

/// A prepared statement whose text is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statement {
    pub name: String,
    /// Place in [`Texts`].
    pub text: Option<u32>,
    /// Bytes of its Parse that were not captured.
    pub missing: u64,
    /// Types of its parameters.
    pub oids: Vec<u32>,
    pub columns: Vec<Column>,
}

/// A column of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Column {
    pub name: String,
    pub table: u32,
    pub type_oid: u32,
    pub binary: bool,
}

impl LearnedState for Learned {
    fn counts(&self) -> Counts {
        Counts { statements: self.statements.len() as u64, consumers: 0 }
    }

    fn cost(&self) -> usize {
        let columns = |statement: &Statement| -> usize {
            statement.columns.iter().map(|column| column.name.len() + 48).sum()
        };
        let cost =
            |statement: &Statement| statement.name.len() + 64 + statement.oids.len() * 6 + columns(statement);
        self.statements.iter().map(cost).sum()
    }

    fn move_texts(&mut self, place: &mut dyn FnMut(u32) -> Option<u32>) {
        for statement in &mut self.statements {
            statement.text = statement.text.and_then(&mut *place);
        }
        self.statements.retain(|statement| statement.text.is_some());
    }

    fn make_harmless(&mut self, discretion: Discretion) {
        self.database.take_if(|database| discretion.is_telling(database));
        self.statements.retain(|statement| !is_telling(&statement.name));
        for statement in &mut self.statements {
            let is_named = statement.columns.iter().all(|column| !is_telling(&column.name));
            if !is_named {
                statement.columns.clear();
            }
        }
    }
}

impl Core {
    /// `between_messages`: both directions stand there.
    pub(super) fn export(&self, between_messages: bool, texts: &mut Texts) -> Option<Learned> {
        if !matches!(self.phase, Phase::Ready) {
            return None;
        }
        // Whether the server took the new text of a name is not known until it says so.
        let doubtful: HashSet<&str> = self.units.iter().filter_map(redefined).collect();
        let statements = self.catalog.statements().into_iter().filter(|(name, _)| !doubtful.contains(name));
        let statements = statements.filter_map(|(name, prepared)| {
            let text = texts.place(prepared.text.as_ref()?)?;
            Some(statement(name, text, prepared))
        });
        Some(Learned {
            at_rest: between_messages && self.is_at_rest(),
            database: self.open.database.clone(),
            backslash_escapes: self.backslash_escapes,
            charset: (self.charset != Charset::UTF8).then(|| self.charset.name().to_owned()),
            transaction: self.open.block.current().map(|block| block.number.0),
            transaction_count: self.open.block.count(),
            statements: statements.collect(),
        })
    }

    /// Nothing waits, and nothing is in doubt.
    fn is_at_rest(&self) -> bool {
        self.units.is_empty()
            && self.copy_in.is_none()
            && self.early.is_none()
            && self.lost.is_none()
            && self.unseen == 0
            && self.unfollowed == 0
            && !self.skipping
            && !self.unpaired
    }

    pub(super) fn import(&mut self, learned: &Learned, texts: &[Arc<str>], unbroken: bool) {
        self.open.database = learned.database.as_deref().map(short);
        self.backslash_escapes = learned.backslash_escapes;
        let charset = learned.charset.as_deref().and_then(|name| Charset::named(name.as_bytes()));
        self.charset = charset.unwrap_or_default();
        for statement in &learned.statements {
            let text = statement.text.and_then(|place| texts.get(usize::try_from(place).ok()?));
            let Some(text) = text else { continue };
            let oids = statement.oids.iter().take(MAX_PARAMETERS).copied().collect();
            let columns = statement.columns.iter().take(MAX_COLUMNS).map(column).collect();
            let prepared = Prepared::known(text.clone(), oids, columns, statement.missing);
            self.catalog.define(&short(&statement.name), prepared);
        }
        self.open.block.resume(learned.transaction, learned.transaction_count);
        if !unbroken {
            self.catalog.client_lost();
            self.open.block.lost();
        }
    }
}

/// A name that was given another text, as long as that is not confirmed.
fn redefined(unit: &super::core::Unit) -> Option<&str> {
    match &unit.what {
        What::Parse { name, previous: Some(_) } => Some(name),
        _ => None,
    }
}

fn statement(name: &str, text: u32, prepared: &Prepared) -> Statement {
    let columns = prepared.columns.iter().map(|column| Column {
        name: column.name.clone(),
        table: column.table,
        type_oid: column.type_oid,
        binary: column.binary,
    });
    Statement {
        name: name.to_owned(),
        text: Some(text),
        missing: prepared.missing,
        oids: prepared.oids.to_vec(),
        columns: columns.collect(),
    }
}

fn column(learned: &Column) -> ParsedColumn {
    ParsedColumn {
        name: short(&learned.name),
        table: learned.table,
        type_oid: learned.type_oid,
        binary: learned.binary,
    }
}

/// A name within the bound that names from the wire have.
fn short(name: &str) -> String {
    name.get(..name.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Snapshot;

    #[test]
    fn a_statement_whose_text_has_no_place_is_left_out() {
        let statement = |name: &str, text| Statement { name: name.into(), text, ..Statement::default() };
        let statements = vec![statement("a", Some(0)), statement("b", Some(1)), statement("c", None)];
        let learned = Snapshot::Postgres(Learned { statements, ..Learned::default() });
        let Snapshot::Postgres(moved) = learned.with_texts(|place| (place == 1).then_some(7)) else {
            panic!()
        };
        assert_eq!(moved.statements, [statement("b", Some(7))]);
    }

    #[test]
    fn names_that_tell_of_people_are_not_kept() {
        const PERSON: &str = "jane.roe@example.org";
        let statement = |name: &str, column: &str| Statement {
            name: name.to_owned(),
            text: Some(0),
            columns: vec![Column { name: column.to_owned(), ..Default::default() }],
            ..Default::default()
        };
        let statements = vec![statement("s1", "id"), statement("s2", PERSON), statement(PERSON, "id")];
        let mut postgres = Learned { database: Some(PERSON.to_owned()), statements, ..Default::default() };
        postgres.make_harmless(Discretion { hashed: false });
        assert!(!format!("{postgres:?}").contains(PERSON), "{postgres:?}");
        assert_eq!(postgres.statements.len(), 2);
    }
}
