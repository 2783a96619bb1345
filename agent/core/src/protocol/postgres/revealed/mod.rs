//! Statements of all connections → the same, with the text of those that were prepared before they could be seen.
//!
//! One that prepares a statement before our eyes reveals it for those that did earlier, where the name means the text:
//!
//! | name | means the same text | because |
//! |---|---|---|
//! | a digest (pgx: `stmtcache_` and 48 hexadecimal digits) | everywhere | it is computed from the text |
//! | words (`order_by_id`, node-postgres' `name:`) | in one service, towards one server and database, with as many parameters | the application chose it for the text |
//! | a counter (`S_1`, `_pg3_0`, `__asyncpg_stmt_a__`) | nowhere else | each connection counts for itself |
//!
//! *Owns* that table and its bounds. *Must not know* messages.

use std::sync::Arc;

use crate::bounded::Bounded;
use crate::hash::Keyed;
use crate::operation::postgres::{Statement, StatementKind, TEXT_CUT};
use crate::operation::{Completeness, Detail, Operation};
use crate::protocol::Shared;
use crate::record::{CgroupId, Conn, Endpoint, Role};

/// Hexadecimal digits in a row that make a name a digest: 64 bits, which counters do not reach and chance does not repeat.
const MIN_DIGEST_DIGITS: usize = 16;
/// Names remembered.
const MAX_NAMES: usize = 4096;
/// Bytes of their texts.
const MAX_BYTES: usize = 4 << 20;

/// Services with their servers whose databases are remembered.
const MAX_PLACES: usize = 1024;

/// What names stand for.
#[derive(Debug)]
pub(super) struct Revealed {
    /// `None`: two texts were seen for the name, so it is none.
    texts: Bounded<String, Option<Arc<str>>, Keyed>,
    bytes: usize,
    /// The database that a service uses on a server; `None` when it uses several, so that a connection whose start-up was not
    /// seen may be to any.
    databases: Bounded<String, Option<Arc<str>>, Keyed>,
}

impl Default for Revealed {
    fn default() -> Self {
        Self {
            texts: Bounded::for_foreign_keys(MAX_NAMES),
            bytes: 0,
            databases: Bounded::for_foreign_keys(MAX_PLACES),
        }
    }
}

impl Shared for Revealed {
    /// Learns from an operation with its text, or gives the text to one without it.
    fn closed(&mut self, operation: &mut Operation, conn: &Conn) -> bool {
        let is_complete = operation.completeness == Completeness::Complete;
        let role = operation.role;
        let Detail::Postgres(statement) = &mut operation.detail else { return false };
        if statement.kind != StatementKind::Extended && statement.text.is_none() {
            return false;
        }
        if let Some(key) = self.key(statement, (role, conn), is_complete) {
            match &statement.text {
                Some(text) if is_complete && !text.ends_with(TEXT_CUT) => self.learn(&key, text),
                Some(_) => {}
                None => self.fill(&key, statement),
            }
        }
        statement.text.is_none() && !statement.skipped
    }

    fn forgotten(&self) -> u64 {
        self.texts.forgotten()
    }
}

impl Revealed {
    /// What a statement's name means the same text under. `None`: under nothing that is known.
    fn key(&mut self, statement: &Statement, end: (Role, &Conn), is_complete: bool) -> Option<String> {
        let name = statement.prepared_name.as_str();
        if is_digest(name) {
            return Some(name.to_owned());
        }
        // Of a Bind with a hole, the number of parameters is not known.
        if !is_chosen_name(name) || !is_complete {
            return None;
        }
        let place = place(end)?;
        let database = match &statement.database {
            Some(database) => {
                self.seen(&place, database);
                Arc::from(database.as_str())
            }
            None => self.databases.get(&place)?.clone()?,
        };
        Some(format!("{place}\0{database}\0{}\0{name}", statement.parameters.len()))
    }

    fn seen(&mut self, place: &str, database: &str) {
        match self.databases.get_mut(place) {
            Some(known) => {
                known.take_if(|known| **known != *database);
            }
            None => {
                self.databases.insert(place.to_owned(), Some(database.into()));
            }
        }
    }

    fn learn(&mut self, name: &str, text: &str) {
        if let Some(known) = self.texts.get_mut(name) {
            if known.as_ref().is_some_and(|known| **known != *text) {
                self.bytes = self.bytes.saturating_sub(known.take().map_or(0, |known| known.len()));
            }
            return;
        }
        self.bytes = self.bytes.saturating_add(name.len() + text.len());
        let forgotten = self.texts.insert(name.to_owned(), Some(text.into()));
        self.account(forgotten);
        while self.bytes > MAX_BYTES && self.texts.len() > 1 {
            let forgotten = self.texts.forget_oldest();
            self.account(forgotten);
        }
    }

    fn account(&mut self, forgotten: Option<(String, Option<Arc<str>>)>) {
        let len = |(name, text): (String, Option<Arc<str>>)| name.len() + text.map_or(0, |text| text.len());
        self.bytes = self.bytes.saturating_sub(forgotten.map_or(0, len));
    }

    fn fill(&self, key: &str, statement: &mut Statement) {
        if let Some(Some(text)) = self.texts.get(key) {
            statement.text = Some(text.to_string());
        }
    }
}

/// A service and the server it is a client of. A server's own processes serve everybody.
fn place((role, conn): (Role, &Conn)) -> Option<String> {
    if role != Role::Client {
        return None;
    }
    let server = match &conn.remote {
        Endpoint::Inet(address) => address.to_string(),
        Endpoint::Unix(path) if !path.is_empty() => path.clone(),
        Endpoint::Unix(_) | Endpoint::Unknown => return None,
    };
    // Workers of one service are processes of one name in one control group.
    Some(match (conn.cgroup, conn.comm.as_str()) {
        (CgroupId::UNKNOWN, _) | (_, "") => format!("{}\0{server}", conn.thread.tgid),
        (cgroup, comm) => format!("{cgroup}\0{comm}\0{server}"),
    })
}

/// A name of words: no digest, and no counter as drivers give them, decimal or hexadecimal.
pub(crate) fn is_chosen_name(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is_counter = |word: &str| word.len() < 2 || word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let last = words.next_back().unwrap_or_default();
    name.len() >= 4 && !name.bytes().any(|byte| byte.is_ascii_digit()) && !is_counter(last)
}

/// Whether a name holds so many hexadecimal digits in a row, of both kinds.
fn is_digest(name: &str) -> bool {
    let runs = name.split(|c: char| !c.is_ascii_hexdigit());
    runs.filter(|run| run.len() >= MIN_DIGEST_DIGITS).any(|run| {
        run.bytes().any(|byte| byte.is_ascii_digit()) && run.bytes().any(|byte| byte.is_ascii_alphabetic())
    })
}

#[cfg(test)]
mod tests;
