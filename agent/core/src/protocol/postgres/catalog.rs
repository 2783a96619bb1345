//! What a connection has prepared: named statements with their texts, and portals bound to them.
//!
//! *Owns* their lifetimes and the bounds on them. *Must not know* operations.
//! *Spec*: PostgreSQL documentation, section 55.2.3 "Extended Query".

use std::collections::HashMap;
use std::sync::Arc;

use super::parse::{Column, Formats};
use crate::operation::postgres::{Cell, Parameter};
use crate::record::Point;

/// Prepared statements kept per connection.
const MAX_STATEMENTS: usize = 4096;
/// Bytes of their texts and names kept per connection.
const MAX_STATEMENT_BYTES: usize = 1 << 20;
/// Portals kept per connection.
const MAX_PORTALS: usize = 1024;
/// Bytes of their parameters kept per connection.
const MAX_PORTAL_BYTES: usize = 1 << 20;

/// A place that an operation is going to have: assigned at its first message, before it is known to be executed.
pub(super) type Key = u64;

/// The first message of a statement to come: which operation it belongs to if it is executed before the next Sync.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claim {
    pub(super) key: Key,
    pub(super) start: Point,
    pub(super) segment: u64,
}

/// A prepared statement. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Prepared {
    /// `None`: prepared before it could be seen.
    pub(super) text: Option<Arc<str>>,
    pub(super) oids: Arc<[u32]>,
    pub(super) columns: Arc<[Column]>,
    /// Bytes of its Parse that were not captured.
    pub(super) missing: u64,
    /// By its Parse, until a Bind takes it.
    pub(super) claim: Option<Claim>,
    /// Of one that is bound: this is the first Bind after its Parse.
    pub(super) is_fresh: bool,
    /// Prepared by SQL: whoever writes `PREPARE` uses a name again for another text.
    pub(super) by_sql: bool,
    used: u64,
}

impl Prepared {
    pub(super) fn new(text: String, oids: Vec<u32>, claim: Claim) -> Self {
        Self { text: Some(text.into()), oids: oids.into(), claim: Some(claim), ..Self::default() }
    }

    /// One that was prepared before an earlier agent's eyes.
    pub(super) fn known(text: Arc<str>, oids: Vec<u32>, columns: Vec<Column>, missing: u64) -> Self {
        Self { text: Some(text), oids: oids.into(), columns: columns.into(), missing, ..Self::default() }
    }
}

/// A portal: a statement with its parameters.
#[derive(Debug, Default)]
pub(super) struct Portal {
    pub(super) statement: String,
    pub(super) prepared: Prepared,
    pub(super) parameters: Vec<Parameter>,
    /// Bytes of the Bind that were not captured.
    pub(super) missing: u64,
    /// Its Bind was not seen.
    pub(super) is_unseen: bool,
    pub(super) results: Formats,
    pub(super) claim: Claim,
    /// The operation that executes it.
    pub(super) executing: Option<Key>,
    /// Bytes of its parameters when it was opened; the catalog counts them.
    pub(super) bytes: usize,
}

/// Statements and portals by name; the empty name is the unnamed one.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    statements: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    portal_bytes: usize,
    bytes: usize,
    clock: u64,
}

fn cost(name: &str, prepared: &Prepared) -> usize {
    name.len() + prepared.text.as_ref().map_or(0, |text| text.len()) + prepared.oids.len() * 4
}

fn held_by_parameter(parameter: &Parameter) -> usize {
    let text = if let Some(Cell::Text(text)) = &parameter.value { text.len() } else { 0 };
    size_of::<Parameter>() + text
}

impl Catalog {
    /// Defines a statement. Returns what had the name, and how many others had to go.
    pub(super) fn define(&mut self, name: &str, mut prepared: Prepared) -> (Option<Prepared>, usize) {
        let previous = self.undefine(name);
        self.clock += 1;
        prepared.used = self.clock;
        self.bytes += cost(name, &prepared);
        self.statements.insert(name.to_owned(), prepared);
        (previous, self.evict())
    }

    /// Keeps to the bounds by forgetting the quarter that was used least recently.
    fn evict(&mut self) -> usize {
        if self.statements.len() <= MAX_STATEMENTS && self.bytes <= MAX_STATEMENT_BYTES {
            return 0;
        }
        let mut uses: Vec<u64> = self.statements.values().map(|prepared| prepared.used).collect();
        uses.sort_unstable();
        let oldest = uses.get(uses.len() / 4).copied().unwrap_or(0);
        let before = self.statements.len();
        self.statements.retain(|_, prepared| prepared.used > oldest);
        self.bytes = self.statements.iter().map(|(name, prepared)| cost(name, prepared)).sum();
        before - self.statements.len()
    }

    pub(super) fn undefine(&mut self, name: &str) -> Option<Prepared> {
        let (name, previous) = self.statements.remove_entry(name)?;
        self.bytes = self.bytes.saturating_sub(cost(&name, &previous));
        Some(previous)
    }

    /// Forgets all but the unnamed statement.
    pub(super) fn undefine_named(&mut self) {
        self.statements.retain(|name, _| name.is_empty());
        self.bytes = self.statements.iter().map(|(name, prepared)| cost(name, prepared)).sum();
    }

    /// The statement to bind, with its claim if it is of this segment. `None`: it is not known.
    pub(super) fn bind(&mut self, name: &str, segment: u64) -> Option<Prepared> {
        self.clock += 1;
        let prepared = self.statements.get_mut(name)?;
        prepared.used = self.clock;
        let claim = prepared.claim.take();
        let is_fresh = claim.is_some();
        Some(Prepared { claim: claim.filter(|claim| claim.segment == segment), is_fresh, ..prepared.clone() })
    }

    pub(super) fn describe(&mut self, name: &str, change: impl FnOnce(&mut Prepared)) {
        if let Some(prepared) = self.statements.get_mut(name) {
            let before = cost(name, prepared);
            change(prepared);
            self.bytes = (self.bytes + cost(name, prepared)).saturating_sub(before);
        }
    }

    pub(super) fn statement(&self, name: &str) -> Option<&Prepared> {
        self.statements.get(name)
    }

    /// Every statement, least recently used first.
    pub(super) fn statements(&self) -> Vec<(&str, &Prepared)> {
        let mut all: Vec<_> =
            self.statements.iter().map(|(name, prepared)| (name.as_str(), prepared)).collect();
        all.sort_unstable_by_key(|(_, prepared)| prepared.used);
        all
    }

    /// Opens a portal. Returns the operation that still executed the one it replaces; `false`: others had to go.
    pub(super) fn open(&mut self, name: String, mut portal: Portal) -> (Option<Key>, bool) {
        portal.bytes = portal.parameters.iter().map(held_by_parameter).sum();
        let room = (self.portals.len() < MAX_PORTALS || self.portals.contains_key(&name))
            && self.portal_bytes.saturating_add(portal.bytes) <= MAX_PORTAL_BYTES;
        if !room {
            self.portals.clear();
            self.portal_bytes = 0;
        }
        self.portal_bytes = self.portal_bytes.saturating_add(portal.bytes);
        let previous = self.portals.insert(name, portal);
        let before = previous.as_ref().map_or(0, |previous| previous.bytes);
        self.portal_bytes = self.portal_bytes.saturating_sub(before);
        (previous.and_then(|previous| previous.executing), room)
    }

    /// Bytes that statements and portals hold.
    pub(super) fn held(&self) -> usize {
        let entries = self.statements.capacity() * size_of::<(String, Prepared)>();
        entries + self.portals.capacity() * size_of::<(String, Portal)>() + self.bytes + self.portal_bytes
    }

    pub(super) fn portal(&mut self, name: &str) -> Option<&mut Portal> {
        self.portals.get_mut(name)
    }

    /// Closes a portal. Returns the operation that still executed it.
    pub(super) fn close(&mut self, name: &str) -> Option<Key> {
        let closed = self.portals.remove(name)?;
        self.portal_bytes = self.portal_bytes.saturating_sub(closed.bytes);
        closed.executing
    }

    /// Whether a portal still executes this operation.
    pub(super) fn is_executing(&self, key: Key) -> bool {
        self.portals.values().any(|portal| portal.executing == Some(key))
    }

    /// The transaction is over: portals opened up to this segment are gone.
    pub(super) fn end_transaction(&mut self, segment: u64) {
        let ended = |portal: &Portal| portal.claim.segment <= segment;
        let gone: usize =
            self.portals.values().filter(|portal| ended(portal)).map(|portal| portal.bytes).sum();
        self.portal_bytes = self.portal_bytes.saturating_sub(gone);
        self.portals.retain(|_, portal| !ended(portal));
    }

    /// Messages of the client were lost: what has no name may have been replaced meanwhile. What has one stays, because
    /// drivers give each text and each cursor a name of its own; who writes SQL does not. Returns the operation that executed the unnamed portal.
    pub(super) fn client_lost(&mut self) -> Option<Key> {
        self.undefine("");
        self.statements.retain(|_, prepared| !prepared.by_sql);
        self.bytes = self.statements.iter().map(|(name, prepared)| cost(name, prepared)).sum();
        self.close("")
    }
}
