//! Statements of all connections → the same, with the text of those that were prepared before they could be seen.
//!
//! Some drivers name a prepared statement by a digest of its text (pgx: `stmtcache_` and 48 hexadecimal digits), so that
//! the same name means the same text on every connection: one that prepares it before our eyes reveals it for those that
//! did earlier.
//!
//! *Owns* that table and its bounds. *Must not know* connections, messages.

use std::hash::RandomState;
use std::sync::Arc;

use crate::bounded::Bounded;
use crate::operation::postgres::Statement;
use crate::operation::{Completeness, Detail, Operation};
use crate::protocol::Shared;

/// Hexadecimal digits in a row that make a name a digest: 64 bits, which counters do not reach and chance does not repeat.
const MIN_DIGEST_DIGITS: usize = 16;
/// Names remembered.
const MAX_NAMES: usize = 4096;
/// Bytes of their texts.
const MAX_BYTES: usize = 4 << 20;

/// What digest-like names stand for.
#[derive(Debug)]
pub(super) struct Revealed {
    /// `None`: two texts were seen for the name, so it is none.
    texts: Bounded<String, Option<Arc<str>>, RandomState>,
    bytes: usize,
}

impl Default for Revealed {
    fn default() -> Self {
        Self { texts: Bounded::for_foreign_keys(MAX_NAMES), bytes: 0 }
    }
}

impl Shared for Revealed {
    /// Learns from an operation with its text, or gives the text to one without it.
    fn closed(&mut self, operation: &mut Operation) {
        let is_complete = operation.completeness == Completeness::Complete;
        let Detail::Postgres(statement) = &mut operation.detail else { return };
        if !is_digest(&statement.prepared_name) {
            return;
        }
        match &statement.text {
            Some(text) if is_complete => self.learn(&statement.prepared_name, text),
            Some(_) => {}
            None => self.fill(statement),
        }
    }

    fn forgotten(&self) -> u64 {
        self.texts.forgotten()
    }
}

impl Revealed {
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

    fn fill(&self, statement: &mut Statement) {
        if let Some(Some(text)) = self.texts.get(&statement.prepared_name) {
            statement.text = Some(text.to_string());
        }
    }
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
    use crate::record::{OpId, Role};
    use crate::time::BootTime;

    const PGX: &str = "stmtcache_3d4a6c1d9f0b52e1c0de3d4a6c1d9f0b52e1c0de3d4a6c1d";

    fn operation(name: &str, text: Option<&str>, completeness: Completeness) -> Operation {
        let statement = Statement {
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
        revealed.closed(&mut operation);
        match operation.detail {
            Detail::Postgres(statement) => statement.text,
            _ => None,
        }
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
        revealed.closed(&mut operation(PGX, Some("SELECT"), Completeness::Gap(7)));
        assert_eq!(text_of(&mut revealed, PGX, None), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut revealed = Revealed::default();
        let text = "x".repeat(16 << 10);
        for n in 0..10_000u64 {
            let name = format!("a{:031x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0xa0);
            revealed.closed(&mut operation(&name, Some(&text), Completeness::Complete));
            assert!(revealed.texts.len() <= MAX_NAMES && revealed.bytes <= MAX_BYTES);
            assert_eq!(revealed.forgotten(), n + 1 - revealed.texts.len() as u64);
        }
    }
}
