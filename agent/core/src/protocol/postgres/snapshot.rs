//! The core's state in, what the next agent's session cannot see again out, and back.
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

use super::catalog::Prepared;
use super::core::{Core, Phase, What};
use super::parse::{Column, MAX_COLUMNS, MAX_NAME_BYTES, MAX_PARAMETERS};
use crate::protocol::snapshot::{Column as LearnedColumn, Postgres, Statement, Texts};

impl Core {
    /// `between_messages`: both directions stand there.
    pub(super) fn export(&self, between_messages: bool, texts: &mut Texts) -> Option<Postgres> {
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
        Some(Postgres {
            at_rest: between_messages && self.is_at_rest(),
            database: self.open.database.clone(),
            backslash_escapes: self.backslash_escapes,
            transaction: self.open.block.current(),
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

    pub(super) fn import(&mut self, learned: &Postgres, texts: &[Arc<str>], unbroken: bool) {
        self.open.database = learned.database.as_deref().map(short);
        self.backslash_escapes = learned.backslash_escapes;
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
    let columns = prepared.columns.iter().map(|column| LearnedColumn {
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

fn column(learned: &LearnedColumn) -> Column {
    Column {
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
