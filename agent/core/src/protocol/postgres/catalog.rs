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
/// Bytes of their names, texts, types and columns kept per connection: half of it for a thousand statements of a thousand
/// characters, as much for what they return.
const MAX_STATEMENT_BYTES: usize = 2 << 20;
/// Portals kept per connection.
const MAX_PORTALS: usize = 1024;
/// Bytes kept of them per connection: parameters, and text and columns of their statements, which may be gone from the catalog.
const MAX_PORTAL_BYTES: usize = 4 << 20;

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
    /// Bytes that it holds with its statement; the catalog counts them.
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
    let text = prepared.text.as_ref().map_or(0, |text| text.len());
    name.len() + text + prepared.oids.len() * size_of::<u32>() + column_bytes(&prepared.columns)
}

/// Bytes of a result's description: names that a client chose, 64 times 512 bytes of them at most.
fn column_bytes(columns: &[Column]) -> usize {
    size_of_val(columns) + columns.iter().map(|column| column.name.capacity()).sum::<usize>()
}

fn held_by_portal(name: &str, portal: &Portal) -> usize {
    let parameters: usize = portal.parameters.iter().map(held_by_parameter).sum();
    // Names are bounded; the text and the columns are most often the catalog's as well, which nobody tells when they are not.
    cost(name, &portal.prepared).saturating_add(portal.statement.len()).saturating_add(parameters)
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
        self.retain(|_, prepared| prepared.used > oldest);
        before - self.statements.len()
    }

    /// Forgets the statements that are not to be kept.
    fn retain(&mut self, keep: impl Fn(&str, &Prepared) -> bool) {
        self.statements.retain(|name, prepared| {
            let is_kept = keep(name, prepared);
            if !is_kept {
                self.bytes = self.bytes.saturating_sub(cost(name, prepared));
            }
            is_kept
        });
        debug_assert!(!self.statements.is_empty() || self.bytes == 0, "what is held has drifted");
    }

    pub(super) fn undefine(&mut self, name: &str) -> Option<Prepared> {
        let (name, previous) = self.statements.remove_entry(name)?;
        self.bytes = self.bytes.saturating_sub(cost(&name, &previous));
        Some(previous)
    }

    /// Forgets all but the unnamed statement.
    pub(super) fn undefine_named(&mut self) {
        self.retain(|name, _| name.is_empty());
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

    /// The server said more of a statement. Returns how many others had to go.
    pub(super) fn describe(&mut self, name: &str, change: impl FnOnce(&mut Prepared)) -> usize {
        let Some(prepared) = self.statements.get_mut(name) else { return 0 };
        let before = cost(name, prepared);
        change(prepared);
        self.bytes = (self.bytes + cost(name, prepared)).saturating_sub(before);
        self.evict()
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
        portal.bytes = held_by_portal(&name, &portal);
        let previous = self.close(&name);
        let room = self.make_room(1, portal.bytes);
        self.portal_bytes = self.portal_bytes.saturating_add(portal.bytes);
        self.portals.insert(name, portal);
        (previous, room)
    }

    /// Whether there is room for so many portals more and their bytes; where there is none, all that are open go.
    fn make_room(&mut self, portals: usize, bytes: usize) -> bool {
        let has_room = self.portals.len() + portals <= MAX_PORTALS
            && self.portal_bytes.saturating_add(bytes) <= MAX_PORTAL_BYTES;
        if !has_room {
            self.portals.clear();
            self.portal_bytes = 0;
        }
        has_room
    }

    /// The server told the columns of what a portal returns.
    pub(super) fn describe_portal(&mut self, name: &str, columns: &Arc<[Column]>) {
        let Some(portal) = self.portals.get(name) else { return };
        let more = column_bytes(columns).saturating_sub(column_bytes(&portal.prepared.columns));
        self.make_room(0, more);
        let Some(portal) = self.portals.get_mut(name) else { return };
        portal.prepared.columns = columns.clone();
        portal.bytes = portal.bytes.saturating_add(more);
        self.portal_bytes = self.portal_bytes.saturating_add(more);
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
        self.retain(|_, prepared| !prepared.by_sql);
        self.close("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Prepared {
        Prepared::known(text.into(), vec![23, 25], Vec::new(), 0)
    }

    /// So many columns with names of `len` bytes.
    fn columns(count: usize, len: usize) -> Arc<[Column]> {
        let column = Column { name: "c".repeat(len), table: 1, type_oid: 23, binary: false };
        vec![column; count].into()
    }

    #[test]
    fn columns_count_against_the_bound_and_leave_with_their_statement() {
        let mut catalog = Catalog::default();
        catalog.define("a", prepared("SELECT 1"));
        let before = catalog.held();
        assert_eq!(catalog.describe("a", |prepared| prepared.columns = columns(64, 500)), 0);
        let more = catalog.held() - before;
        assert!(more >= 64 * 500, "{more}");
        // The same again is no more.
        catalog.describe("a", |prepared| prepared.columns = columns(64, 500));
        assert_eq!(catalog.held() - before, more);
        let mut forgotten = 0;
        for number in 0..200 {
            let name = format!("s{number}");
            forgotten += catalog.define(&name, prepared("SELECT 1")).1;
            forgotten += catalog.describe(&name, |prepared| prepared.columns = columns(64, 500));
            assert!(catalog.bytes <= MAX_STATEMENT_BYTES, "{number}: {}", catalog.bytes);
        }
        assert_eq!(forgotten + catalog.statements.len(), 201);
        assert!(forgotten > 0 && catalog.statement("s199").is_some(), "the least used ones go");
        catalog.undefine_named();
        assert_eq!(catalog.bytes, 0);
    }

    #[test]
    fn a_portal_counts_with_the_statement_that_only_it_still_has() {
        let mut catalog = Catalog::default();
        let text = "x".repeat(10_000);
        for number in 0..1000 {
            catalog.define("", prepared(&text));
            let bound = catalog.bind("", 0).expect("it is known");
            catalog.open(format!("p{number}"), Portal { prepared: bound, ..Portal::default() });
            assert!(catalog.portal_bytes >= catalog.portals.len() * text.len());
            assert!(catalog.portal_bytes <= MAX_PORTAL_BYTES);
        }
        let open = catalog.portals.len();
        catalog.describe_portal("p999", &columns(2, 100));
        assert!(catalog.portal_bytes > open * text.len() + 200);
        // One that takes the place of another needs only its own room.
        catalog.define("", prepared("SELECT 1"));
        let bound = catalog.bind("", 0).expect("it is known");
        let (_, had_room) = catalog.open("p999".to_owned(), Portal { prepared: bound, ..Portal::default() });
        assert!(had_room);
        catalog.end_transaction(0);
        assert_eq!((catalog.portal_bytes, catalog.portals.len()), (0, 0));
    }
}
