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
    for file in fs::read_dir(folder.path()).expect("files").flatten().filter(|file| file.path().is_file()) {
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
        let undo = "DROP TABLE traces; DROP TABLE untraced; DROP TABLE agents";
        store.writer().execute_batch(undo).expect("undone");
        store.writer().pragma_update(None, "user_version", schema::VERSION - 2).expect("set");
    }
    let store = open(folder.path());
    assert_eq!(spans(&store, 5), [0_u64; 0]);
    assert!(!store.trace(&[5; 16]).expect("read").all_indexed, "it is said that one may be missing");
    store.ingest(vec![of("6", 6, 6, 6), of("1", 1, 7, 9)], NOW).expect("kept");
    assert_eq!((spans(&store, 6), spans(&store, 1)), (vec![6], vec![1, 7]), "what comes is indexed at once");
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
