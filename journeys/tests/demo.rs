//! Spans that the agent exported of real services: each order's state, sentence and chains are those that the services had.

use std::fmt::Write;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use jiff::tz::TimeZone;
use spoor_journeys::facts::{At, Fact, Key};
use spoor_journeys::fold::{Certainty, Outcome, gather, journey, verdict};
use spoor_journeys::intake::lines;
use spoor_journeys::model::{Model, Usual};
use spoor_journeys::sentence::{Language, Words, sentence};
use spoor_journeys::store::seal::Master;
use spoor_journeys::store::sqlite::Sqlite;
use spoor_journeys::store::{Order, Store};
use spoor_journeys::time::MINUTE;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/journeys")
}

fn model() -> Model {
    Model::parse(include_str!("../../deploy/journeys/model.yaml")).expect("the demo's model")
}

/// The facts of all spans, request by request, and how many spans were of no order.
fn facts() -> Vec<Vec<Fact>> {
    let packed = std::fs::read(fixtures().join("demo.jsonl.zst")).expect("the demo's spans");
    let mut from = BufReader::new(zstd::Decoder::new(packed.as_slice()).expect("zstd"));
    let mut requests = Vec::new();
    while let Some(read) = lines::next(&mut from, 1, &["order.id".to_owned()]).expect("OTLP") {
        assert_eq!((read.no_order, read.invalid), (0, 0));
        requests.push(read.facts);
    }
    requests
}

fn of(order: u32, facts: &[Vec<Fact>]) -> Vec<Fact> {
    let key = Key::parse(&order.to_string()).expect("a number");
    facts.iter().flatten().filter(|fact| fact.key == key).cloned().collect()
}

#[test]
fn each_order_is_where_the_services_left_it() {
    let (facts, model) = (facts(), model());
    let mut told = String::new();
    for order in 1..=6 {
        let journey = journey(&gather(of(order, &facts)), &model);
        // A while later, when nobody tries again.
        let now = At(journey.last.0 + 10 * MINUTE);
        let verdict = verdict(&journey, &model, &Usual::default(), now);
        let words = Words { language: Language::En, zone: TimeZone::UTC };
        let sentence = sentence(&verdict, &journey, &model, &words, now);
        // Without the time of day, which another recording has differently.
        let _ = writeln!(told, "order {order}: {}", verdict.outcome.name());
        let _ = writeln!(told, "  {}", without_times(&sentence.text));
        for record in &journey.records {
            let chain: Vec<&str> = record.changes.iter().map(|change| change.to.as_str()).collect();
            let _ = writeln!(told, "  {}: {}", record.name(), chain.join(" → "));
            assert!(
                record.changes.iter().all(|change| change.certainty == Certainty::Committed),
                "{record:?}"
            );
        }
    }
    expect_file![fixtures().join("demo.expected.txt")].assert_eq(&told);
}

/// `09:08 (UTC)` is `TIME`, and how long it took is `LONG`.
fn without_times(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<&str> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or("");
        let is_clock = word.len() == 5 && word.as_bytes().get(2) == Some(&b':');
        match *word {
            _ if is_clock => out.push("TIME"),
            _ if word.starts_with("(UTC)") => out.push(word.trim_start_matches("(UTC)")),
            _ if next.starts_with("ms.") || next.starts_with("s.") => out.push("LONG"),
            word if word == "ms." || word == "s." => {}
            word => out.push(word),
        }
    }
    out.join(" ").replace(" :", ":").replace(" .", ".")
}

#[test]
fn the_store_tells_the_same_whichever_way_the_spans_came() {
    let requests = facts();
    let all: Vec<Fact> = requests.iter().flatten().cloned().collect();
    let open = || {
        let folder = tempfile::tempdir().expect("a folder");
        let master = Master::from_bytes(&[1; 32]).expect("a key");
        let store = Sqlite::open(folder.path(), master, model()).expect("a store");
        (folder, store)
    };
    let now = At(all.iter().map(|fact| fact.to.0).max().unwrap_or(0) + 10 * MINUTE);
    let orders = |store: &Sqlite| -> Vec<Order> {
        let order = |number: u32| {
            let found = store.find(&Key::parse(&number.to_string()).expect("a number")).expect("found");
            assert_eq!(found.len(), 1);
            store.order(found[0], now).expect("read").expect("an order")
        };
        (1..=6).map(order).collect()
    };
    let (_first_folder, first) = open();
    for request in requests {
        first.ingest(request, now).expect("kept");
    }
    let (_second_folder, second) = open();
    for part in all.chunks(7).rev() {
        let mut part = part.to_vec();
        part.reverse();
        second.ingest(part.clone(), now).expect("kept");
        assert_eq!(second.ingest(part, now).expect("kept").new, 0, "a repetition");
    }
    let told = |orders: Vec<Order>| -> Vec<_> {
        orders.into_iter().map(|order| (order.facts, order.journey, order.verdict)).collect()
    };
    assert_eq!(told(orders(&first)), told(orders(&second)));
    assert_eq!(first.counts().expect("counts"), second.counts().expect("counts"));
    let finished = first.counts().expect("counts").outcomes.contains(&(Outcome::Finished, 3));
    assert!(finished, "three of the six go well");
    assert_eq!(second.check().expect("checked"), Vec::<String>::new());
}
