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

use std::hash::RandomState;
use std::sync::Arc;

use crate::bounded::Bounded;
use crate::operation::postgres::{Statement, StatementKind, TEXT_CUT};
use crate::operation::{Completeness, Detail, Operation};
use crate::protocol::Shared;
use crate::record::{Conn, Endpoint, Role};

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
    texts: Bounded<String, Option<Arc<str>>, RandomState>,
    bytes: usize,
    /// The database that a service uses on a server; `None` when it uses several, so that a connection whose start-up was not
    /// seen may be to any.
    databases: Bounded<String, Option<Arc<str>>, RandomState>,
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
        (0, _) | (_, "") => format!("{}\0{server}", conn.thread.tgid),
        (cgroup, comm) => format!("{cgroup}\0{comm}\0{server}"),
    })
}

/// A name of words: no digest, and no counter as drivers give them, decimal or hexadecimal.
pub(crate) fn is_chosen_name(name: &str) -> bool {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is_counter = |word: &str| word.len() < 2 || word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let last = words.last().unwrap_or_default();
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
mod tests {
    use super::*;
    use crate::operation::{Extent, OpSide};
    use crate::record::{ConnId, Data, DataFlags, Direction, OpId, Worker};
    use crate::time::BootTime;

    const PGX: &str = "stmtcache_3d4a6c1d9f0b52e1c0de3d4a6c1d9f0b52e1c0de3d4a6c1d";

    fn operation(name: &str, text: Option<&str>, completeness: Completeness) -> Operation {
        let statement = Statement {
            kind: StatementKind::Extended,
            prepared_name: name.to_owned(),
            text: text.map(str::to_owned),
            ..Statement::default()
        };
        Operation {
            id: OpId(1),
            shape: OpSide::Outgoing,
            role: Role::Client,
            request: Extent::default(),
            response: None,
            ended_at: BootTime::ZERO,
            completeness,
            detail: Detail::Postgres(Box::new(statement)),
        }
    }

    fn text_of(revealed: &mut Revealed, name: &str, text: Option<&str>) -> Option<String> {
        let mut operation = operation(name, text, Completeness::Complete);
        revealed.closed(&mut operation, &conn(7));
        match operation.detail {
            Detail::Postgres(statement) => statement.text,
            _ => None,
        }
    }

    /// A connection of a process to a server.
    fn conn(tgid: u32) -> Conn {
        let data = Data {
            at: BootTime::ZERO,
            conn: ConnId(1),
            direction: Direction::Egress,
            pos: 0,
            other_pos: 0,
            len: 0,
            bytes: bytes::Bytes::new(),
            thread: Worker::new(tgid, tgid),
            awaited_by: None,
            flags: DataFlags::default(),
        };
        let remote = Endpoint::Inet("10.0.0.2:5432".parse().expect("an address"));
        Conn { role: Some(Role::Client), remote, ..Conn::unannounced(&data) }
    }

    /// A statement with a parameter on such a connection: its text afterwards, and whether that is not known.
    fn named(
        revealed: &mut Revealed,
        conn: &Conn,
        name: &str,
        text: Option<&str>,
        database: Option<&str>,
    ) -> (String, bool) {
        let mut operation = operation(name, text, Completeness::Complete);
        operation.role = conn.role.unwrap_or(Role::Client);
        if let Detail::Postgres(statement) = &mut operation.detail {
            statement.database = database.map(str::to_owned);
        }
        let is_blind = revealed.closed(&mut operation, conn);
        match operation.detail {
            Detail::Postgres(statement) => (statement.text.unwrap_or_default(), is_blind),
            _ => unreachable!("it was one"),
        }
    }

    #[test]
    fn names_that_an_application_chose() {
        for (name, expected) in [
            ("order_by_id", true),
            ("getOrder", true),
            ("fetch-orders", true),
            ("S_1", false),
            ("_pg3_0", false),
            ("__asyncpg_stmt_1f__", false),
            ("__asyncpg_stmt_a__", false),
            ("__asyncpg_stmt_fade__", false),
            ("a1", false),
            ("pdo_stmt_00000001", false),
            ("dbdpg_p4711_2", false),
            ("sqlx_s_1", false),
            ("order_v2", false),
            ("", false),
            (PGX, false),
        ] {
            assert_eq!(is_chosen_name(name), expected, "{name}");
        }
    }

    #[test]
    fn a_chosen_name_means_its_text_in_one_service_and_database() {
        let mut revealed = Revealed::default();
        let (shop, other) = (conn(7), conn(8));
        let blind = (String::new(), true);
        assert_eq!(named(&mut revealed, &shop, "order_by_id", None, None), blind, "nothing is known yet");
        named(&mut revealed, &shop, "order_by_id", Some("SELECT $1"), Some("shop"));
        assert_eq!(named(&mut revealed, &shop, "order_by_id", None, None), ("SELECT $1".to_owned(), false));
        assert_eq!(named(&mut revealed, &other, "order_by_id", None, None), blind, "another service");
        assert_eq!(named(&mut revealed, &shop, "order_by_id", None, Some("crm")), blind, "another database");
        // Since it is known to use two, an old connection may be to either.
        assert_eq!(named(&mut revealed, &shop, "order_by_id", None, None), blind);
        assert_eq!(named(&mut revealed, &shop, "order_by_id", None, Some("shop")).0, "SELECT $1");
    }

    #[test]
    fn workers_of_one_service_tell_each_other_and_servers_nobody() {
        let mut revealed = Revealed::default();
        let worker = |tgid| Conn { cgroup: 9, comm: "gunicorn".to_owned(), ..conn(tgid) };
        named(&mut revealed, &worker(7), "order_by_id", Some("SELECT $1"), Some("shop"));
        assert_eq!(named(&mut revealed, &worker(8), "order_by_id", None, None).0, "SELECT $1");
        let server = |tgid| Conn { role: Some(Role::Server), ..worker(tgid) };
        named(&mut revealed, &server(1), "fetch_all", Some("SELECT 1"), Some("shop"));
        assert_eq!(named(&mut revealed, &server(2), "fetch_all", None, None).0, "");
    }

    #[test]
    fn another_number_of_parameters_is_another_statement() {
        let mut revealed = Revealed::default();
        named(&mut revealed, &conn(7), "order_by_id", Some("SELECT 1"), Some("shop"));
        let mut operation = operation("order_by_id", None, Completeness::Complete);
        if let Detail::Postgres(statement) = &mut operation.detail {
            statement.parameters = vec![crate::operation::postgres::Parameter { type_oid: 23, value: None }];
        }
        assert!(revealed.closed(&mut operation, &conn(7)));
    }

    #[test]
    fn a_text_that_was_cut_is_nobody_s_text() {
        let mut revealed = Revealed::default();
        named(&mut revealed, &conn(7), "order_by_id", Some("SELECT …"), Some("shop"));
        assert_eq!(named(&mut revealed, &conn(7), "order_by_id", None, None).0, "");
    }

    #[test]
    fn names_that_are_digests() {
        for (name, expected) in [
            (PGX, true),
            ("9e107d9d372bb6826bd81d3542a419d6", true),
            ("lrupsc_1_0", false),
            ("__asyncpg_stmt_1f__", false),
            ("_pg3_12", false),
            ("S_1", false),
            ("order_by_id_1234567890123456", false),
            ("", false),
        ] {
            assert_eq!(is_digest(name), expected, "{name}");
        }
    }

    #[test]
    fn a_text_seen_on_one_connection_names_the_statement_on_another() {
        let mut revealed = Revealed::default();
        assert_eq!(text_of(&mut revealed, PGX, None), None);
        assert_eq!(text_of(&mut revealed, PGX, Some("SELECT $1")).as_deref(), Some("SELECT $1"));
        assert_eq!(text_of(&mut revealed, PGX, None).as_deref(), Some("SELECT $1"));
        assert_eq!(text_of(&mut revealed, "S_1", Some("SELECT 1")).as_deref(), Some("SELECT 1"));
        assert_eq!(text_of(&mut revealed, "S_1", None), None);
    }

    #[test]
    fn a_name_with_two_texts_names_none_any_more() {
        let mut revealed = Revealed::default();
        for text in ["SELECT 1", "SELECT 2", "SELECT 1"] {
            text_of(&mut revealed, PGX, Some(text));
        }
        assert_eq!(text_of(&mut revealed, PGX, None), None);
    }

    #[test]
    fn a_text_with_a_hole_reveals_nothing() {
        let mut revealed = Revealed::default();
        revealed.closed(&mut operation(PGX, Some("SELECT"), Completeness::Gap(7)), &conn(7));
        assert_eq!(text_of(&mut revealed, PGX, None), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut revealed = Revealed::default();
        let text = "x".repeat(16 << 10);
        for n in 0..10_000u64 {
            let name = format!("a{:031x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0xa0);
            revealed.closed(&mut operation(&name, Some(&text), Completeness::Complete), &conn(7));
            assert!(revealed.texts.len() <= MAX_NAMES && revealed.bytes <= MAX_BYTES);
            assert_eq!(revealed.forgotten(), n + 1 - revealed.texts.len() as u64);
        }
    }
}
