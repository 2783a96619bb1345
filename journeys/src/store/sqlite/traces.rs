//! A trace → the operations that are kept of it; a time → all rows of that time, one after the other.
//!
//! Which rows have operations of a trace is an index of blind tags: an order's trace ID is made of its number by the agent,
//! so in clear it would tell the number to whoever tries all of them.
//!
//! `trace ID ─ HMAC ─▶ tag ─▶ rows ─ open ─▶ those facts that are of the trace`

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, TransactionBehavior};

use super::{Sqlite, doing};
use crate::facts::{At, Fact, FactId};
use crate::fold::Gathered;
use crate::store::seal::TAG_LEN;
use crate::store::{Look, StoreError, Trace, TraceId};

/// Rows of one trace that are opened: an order has one or a few, a trace of a batch may be of thousands of orders.
const MAX_ROWS: usize = 512;
/// Operations of one trace that are given: about ten megabytes. The first ones in time of each row.
const MAX_FACTS: usize = 10_000;
/// Rows that are looked at between two questions whether to go on.
const BATCH: i64 = 256;

impl Sqlite {
    /// Writes of which traces a row has operations now. An order that has more operations than are kept loses some of them,
    /// and the traces that only those were of: the index grows no further than the row.
    pub(super) fn index_traces(
        &self,
        db: &Connection,
        row: i64,
        gathered: &Gathered,
    ) -> Result<(), StoreError> {
        let wanted = self.tags_of(&gathered.facts);
        let known = tags(db, row)?;
        for (sql, mut tags) in [
            ("INSERT INTO traces(tag, order_id) VALUES (?1, ?2)", wanted.difference(&known)),
            ("DELETE FROM traces WHERE tag = ?1 AND order_id = ?2", known.difference(&wanted)),
        ] {
            tags.try_for_each(|tag| db.prepare_cached(sql)?.execute((tag, row)).map(|_| ()))
                .map_err(doing("cannot write the traces of an order"))?;
        }
        Ok(())
    }

    fn tags_of(&self, facts: &[Fact]) -> BTreeSet<[u8; TAG_LEN]> {
        let traces: BTreeSet<&TraceId> = facts.iter().map(|fact| &fact.id.trace).collect();
        traces.into_iter().map(|trace| self.keys.trace_tag(trace)).collect()
    }

    /// Indexes rows that were written before there was an index, the latest first; how many it were. None when all are.
    pub fn index_older(&self, limit: usize) -> Result<usize, StoreError> {
        let mut db = self.writer();
        let upto = untraced(&db)?;
        if upto == 0 {
            return Ok(0);
        }
        let transaction = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(doing("cannot begin to index traces"))?;
        let rows: Vec<i64> = transaction
            .prepare_cached("SELECT id FROM orders WHERE id <= ?1 ORDER BY id DESC LIMIT ?2")
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                statement.query_map((upto, limit), |row| row.get(0))?.collect()
            })
            .map_err(doing("cannot list orders"))?;
        for row in &rows {
            match self.open_row(&transaction, *row) {
                Ok(gathered) => self.index_traces(&transaction, *row, &gathered)?,
                // What does not open is of no trace.
                Err(error) if error.is_of_one_row() => {}
                Err(error) => return Err(error),
            }
        }
        let upto = if rows.len() < limit { 0 } else { rows.last().map_or(0, |last| last - 1) };
        transaction
            .execute("UPDATE untraced SET upto = ?1", [upto])
            .map_err(doing("cannot write how far traces are indexed"))?;
        transaction.commit().map_err(doing("cannot commit an index of traces"))?;
        Ok(rows.len())
    }

    pub(super) fn read_trace(&self, db: &Connection, id: &TraceId) -> Result<Trace, StoreError> {
        let limit = i64::try_from(MAX_ROWS + 1).unwrap_or(i64::MAX);
        let mut rows: Vec<i64> = db
            .prepare_cached("SELECT order_id FROM traces WHERE tag = ?1 ORDER BY order_id LIMIT ?2")
            .and_then(|mut statement| {
                statement.query_map((self.keys.trace_tag(id), limit), |row| row.get(0))?.collect()
            })
            .map_err(doing("cannot look for a trace"))?;
        let mut truncated = rows.len() > MAX_ROWS;
        rows.truncate(MAX_ROWS);
        let mut facts: BTreeMap<FactId, Fact> = BTreeMap::new();
        for row in rows {
            let gathered = match self.open_row(db, row) {
                Ok(gathered) => gathered,
                Err(error) if error.is_of_one_row() => {
                    tracing::warn!(%error, "an order is left out of a trace");
                    truncated = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            truncated |= gathered.truncated;
            for fact in gathered.facts.into_iter().filter(|fact| fact.id.trace == *id) {
                if facts.len() >= MAX_FACTS {
                    truncated = true;
                    break;
                }
                facts.insert(fact.id, fact);
            }
        }
        let mut facts: Vec<Fact> = facts.into_values().collect();
        facts.sort();
        Ok(Trace { facts, truncated, all_indexed: untraced(db)? == 0 })
    }

    /// Shows the operations of all rows that were heard of in a time, last heard of first, until `look` has seen enough.
    pub(super) fn walk_rows(
        &self,
        db: &Connection,
        from: At,
        to: At,
        look: &mut dyn Look,
    ) -> Result<(), StoreError> {
        let mut after = (i64::MAX, i64::MAX);
        loop {
            let batch: Vec<(i64, i64, i64)> = db
                .prepare_cached(WALK)
                .and_then(|mut statement| {
                    let given = (from.0, after.0, after.1, BATCH);
                    statement.query_map(given, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
                })
                .map_err(doing("cannot walk through orders"))?;
            let Some((id, _, last)) = batch.last() else { return Ok(()) };
            after = (*last, *id);
            for (row, first, _) in batch {
                if !look.goes_on() {
                    return Ok(());
                }
                if first >= to.0 {
                    continue;
                }
                match self.open_row(db, row) {
                    Ok(gathered) => look.see(gathered.facts),
                    Err(error) if error.is_of_one_row() => {
                        tracing::warn!(%error, "an order is left out of a search");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// A row whose traces do not lead to it, or that is found by others.
    pub(super) fn wrong_traces(
        &self,
        db: &Connection,
        row: i64,
        facts: &[Fact],
    ) -> Result<Option<String>, StoreError> {
        let is_indexed = row > untraced(db)?;
        let is_wrong = is_indexed && tags(db, row)? != self.tags_of(facts);
        Ok(is_wrong.then(|| format!("row {row}: its traces are not those that lead to it")))
    }
}

/// One step of a walk over the index of times.
const WALK: &str = "SELECT id, first_at, last_at FROM orders
    WHERE last_at >= ?1 AND (last_at, id) < (?2, ?3) ORDER BY last_at DESC, id DESC LIMIT ?4";

/// Rows up to this one may not be indexed yet; 0 when all are.
fn untraced(db: &Connection) -> Result<i64, StoreError> {
    db.prepare_cached("SELECT upto FROM untraced")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(doing("cannot read how far traces are indexed"))
}

fn tags(db: &Connection, row: i64) -> Result<BTreeSet<[u8; TAG_LEN]>, StoreError> {
    db.prepare_cached("SELECT tag FROM traces WHERE order_id = ?1")
        .and_then(|mut statement| statement.query_map([row], |row| row.get(0))?.collect())
        .map_err(doing("cannot read the traces of an order"))
}

/// Traces that lead to rows that are gone.
pub(super) fn orphans(db: &Connection) -> Result<Option<String>, StoreError> {
    let orphans: i64 = db
        .query_row("SELECT count(*) FROM traces WHERE order_id NOT IN (SELECT id FROM orders)", [], |row| {
            row.get(0)
        })
        .map_err(doing("cannot compare traces with orders"))?;
    Ok((orphans > 0).then(|| format!("{orphans} traces lead to orders that are gone")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::schema;
    use super::*;
    use crate::facts::Key;
    use crate::model::Model;
    use crate::store::seal::Master;
    use crate::store::{Retention, Store};
    use crate::testing::wrote;
    use crate::time::{DAY, SECOND};

    const NOW: At = At(20_000 * DAY);

    fn open(folder: &std::path::Path) -> Sqlite {
        let master = Master::from_bytes(&[7; 32]).expect("a key");
        Sqlite::open(folder, master, Model::default()).expect("a store")
    }

    fn of(order: &str, trace: u8, span: u64, at: i64) -> Fact {
        let fact = wrote(order, span, at, "shop", "orders", "created");
        Fact { id: FactId { trace: [trace; 16], ..fact.id }, ..fact }
    }

    fn spans(store: &Sqlite, trace: u8) -> Vec<u64> {
        let trace = store.trace(&[trace; 16]).expect("read");
        trace.facts.iter().map(|fact| u64::from_be_bytes(fact.id.span)).collect()
    }

    #[test]
    fn a_trace_is_found_with_the_operations_of_all_its_orders_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let facts = vec![of("1", 1, 10, 30), of("1", 2, 11, 1), of("2", 1, 12, 20), of("2", 1, 13, 40)];
        store.ingest(facts, NOW).expect("kept");
        assert_eq!(spans(&store, 1), [12, 10, 13]);
        assert_eq!(spans(&store, 2), [11]);
        assert_eq!(spans(&store, 3), [0_u64; 0]);
        let trace = store.trace(&[1; 16]).expect("read");
        assert!(!trace.truncated && trace.all_indexed);
        assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    }

    #[test]
    fn the_file_says_no_trace_without_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        store.ingest(vec![of("1", 0xAB, 1, 1)], NOW).expect("kept");
        assert_eq!(spans(&store, 0xAB), [1]);
        for file in fs::read_dir(folder.path()).expect("files").flatten().filter(|file| file.path().is_file())
        {
            let bytes = fs::read(file.path()).expect("a file");
            for form in [[0xAB; 16].as_slice(), "ab".repeat(16).as_bytes()] {
                let has = bytes.windows(form.len()).any(|part| part == form);
                assert!(!has, "a trace ID is in {}", file.path().display());
            }
        }
    }

    #[test]
    fn what_leaves_takes_its_traces_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        store.ingest(vec![of("1", 1, 1, 1), of("2", 1, 2, 2), of("3", 3, 3, 3)], NOW).expect("kept");
        store.forget_order(&Key::parse("1").expect("a number"), NOW).expect("forgotten");
        assert_eq!(spans(&store, 1), [2]);
        let retention = Retention { keep_micros: DAY, max_bytes: u64::MAX };
        assert_eq!(store.retain(retention, NOW.after(3 * DAY)).expect("retained").expired, 2);
        let left: i64 =
            store.writer().query_row("SELECT count(*) FROM traces", [], |row| row.get(0)).expect("counted");
        assert_eq!(left, 0);
        assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    }

    #[test]
    fn an_order_of_endless_traces_has_no_more_tags_than_operations() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let many = crate::fold::MAX_FACTS as u64 + 500;
        let fact = |n: u64| {
            let mut fact = of("1", 1, n, 1 + n as i64);
            fact.id.trace[..8].copy_from_slice(&n.to_be_bytes());
            fact
        };
        for from in [1, many / 2] {
            store.ingest((from..from + many / 2).map(fact).collect(), NOW).expect("kept");
        }
        let tags: i64 =
            store.writer().query_row("SELECT count(*) FROM traces", [], |row| row.get(0)).expect("counted");
        let id = store.find(&Key::parse("1").expect("a number")).expect("found")[0];
        let facts = store.order(id, NOW).expect("read").expect("an order").facts.len();
        assert_eq!(usize::try_from(tags), Ok(facts));
        assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    }

    #[test]
    fn a_store_of_an_older_version_is_indexed_little_by_little() {
        let folder = tempfile::tempdir().expect("a folder");
        {
            let store = open(folder.path());
            for n in 1..=5_u64 {
                let fact = of(&n.to_string(), n as u8, n, n as i64);
                store.ingest(vec![fact], NOW).expect("kept");
            }
            // As the version before left it.
            let undo = "DROP TABLE traces; DROP TABLE untraced";
            store.writer().execute_batch(undo).expect("undone");
            store.writer().pragma_update(None, "user_version", schema::VERSION - 1).expect("set");
        }
        let store = open(folder.path());
        assert_eq!(spans(&store, 5), [0_u64; 0]);
        assert!(!store.trace(&[5; 16]).expect("read").all_indexed, "it is said that one may be missing");
        store.ingest(vec![of("6", 6, 6, 6), of("1", 1, 7, 9)], NOW).expect("kept");
        assert_eq!(
            (spans(&store, 6), spans(&store, 1)),
            (vec![6], vec![1, 7]),
            "what comes is indexed at once"
        );
        assert_eq!(store.check().expect("checked"), Vec::<String>::new());
        assert_eq!(store.index_older(2).expect("indexed"), 2);
        assert_eq!((spans(&store, 5), spans(&store, 3)), (vec![5], vec![]), "the latest first");
        while store.index_older(2).expect("indexed") > 0 {}
        for trace in 2..=5 {
            assert_eq!(spans(&store, trace), [u64::from(trace)]);
        }
        assert!(store.trace(&[9; 16]).expect("read").all_indexed);
        assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    }

    #[test]
    fn a_check_finds_traces_that_lead_astray() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        store.ingest(vec![of("1", 1, 1, 1), of("2", 2, 2, 2)], NOW).expect("kept");
        for (damage, said) in [
            ("UPDATE traces SET order_id = 3 - order_id", "row 1: its traces"),
            ("DELETE FROM traces", "row 2: its traces"),
            ("INSERT INTO traces VALUES (x'00', 99)", "1 traces lead to orders that are gone"),
        ] {
            store.writer().execute_batch(damage).expect("damaged");
            let problems = store.check().expect("checked").join("\n");
            assert!(problems.contains(said), "{damage}: {problems}");
        }
    }

    /// Counts, and has enough after so many.
    struct Few(Vec<u64>, usize);

    impl Look for Few {
        fn goes_on(&mut self) -> bool {
            self.0.len() < self.1
        }

        fn see(&mut self, facts: Vec<Fact>) {
            self.0.extend(facts.iter().map(|fact| u64::from_be_bytes(fact.id.span)));
        }
    }

    #[test]
    fn a_walk_shows_what_a_time_touches_and_ends_when_it_is_told_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        for n in 1..=600_u64 {
            store.ingest(vec![of(&n.to_string(), 1, n, n as i64)], NOW).expect("kept");
        }
        let walk = |from: i64, to: i64, most| {
            let mut few = Few(Vec::new(), most);
            store.walk(At(from * SECOND), At(to * SECOND), &mut few).expect("walked");
            few.0
        };
        assert_eq!(walk(0, 1_000, 1_000).len(), 600);
        assert_eq!(walk(599, 1_000, 1_000), [600, 599]);
        assert_eq!(walk(0, 3, 1_000), [2, 1]);
        assert_eq!(walk(0, 1_000, 3), [600, 599, 598]);
        let plan: Vec<String> = store
            .writer()
            .prepare(&format!("EXPLAIN QUERY PLAN {WALK}"))
            .expect("a statement")
            .query_map((0, 0, 0, 0), |row| row.get(3))
            .and_then(Iterator::collect)
            .expect("a plan");
        let plan = plan.join("\n");
        assert!(plan.contains("USING INDEX orders_last") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}
