use std::fs;
use std::path::Path;

use super::*;
use crate::facts::{Person, PersonRole, Sent, Settled, Step, Trouble, TroubleKind};
use crate::fold::Outcome;
use crate::store::Sort;
use crate::testing::{fact, wrote};
use crate::time::{DAY, HOUR, SECOND};

const NOW: At = At(1_000 * SECOND);

fn master() -> Master {
    Master::from_bytes(&[7; 32]).expect("a key")
}

fn open(folder: &Path) -> Sqlite {
    Sqlite::open(folder, master(), Model::default()).expect("a store")
}

fn key(text: &str) -> Key {
    Key::parse(text).expect("a number")
}

/// The one order of a number.
fn order(store: &Sqlite, number: &str) -> Order {
    let found = store.find(&key(number)).expect("found");
    assert_eq!(found.len(), 1, "orders with number {number}");
    store.order(found[0], NOW).expect("read").expect("an order")
}

/// Numbers of the orders of a list.
fn listed(store: &Sqlite, query: &Query) -> Vec<String> {
    let page = store.list(query, NOW).expect("a list");
    page.orders.iter().map(|order| order.journey.keys[0].to_string()).collect()
}

fn journey_of(number: &str, seed: u64) -> Vec<Fact> {
    vec![
        wrote(number, seed * 10 + 1, 1, "shop", "orders", "created"),
        wrote(number, seed * 10 + 2, 2, "crm", "crm_orders", "new"),
        wrote(number, seed * 10 + 3, 3, "shop", "orders", "submitted"),
    ]
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = open(folder.path()).ingest(journey_of("4711", 1), NOW).expect("kept");
    assert_eq!(done, Ingested { new: 3, repeated: 0, orders: 1 });
    let store = open(folder.path());
    let order = order(&store, "4711");
    assert_eq!(order.facts.len(), 3);
    assert_eq!(order.head.stage.as_deref(), Some("submitted"));
    assert_eq!(order.verdict.outcome, Outcome::Moving);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn a_repeated_batch_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(journey_of("4711", 1), NOW).expect("kept");
    let (before, counts) = (order(&store, "4711"), store.counts().expect("counts"));
    let done = store.ingest(journey_of("4711", 1), NOW.after(DAY)).expect("kept");
    assert_eq!(done, Ingested { new: 0, repeated: 3, orders: 0 });
    assert_eq!(order(&store, "4711"), before);
    assert_eq!(store.counts().expect("counts"), counts);
}

#[test]
fn parts_of_an_order_in_any_order_are_the_order() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let [one, many] = [open(folders[0].path()), open(folders[1].path())];
    one.ingest(journey_of("4711", 1), NOW).expect("kept");
    for fact in journey_of("4711", 1).into_iter().rev() {
        many.ingest(vec![fact.clone(), fact], NOW).expect("kept");
    }
    assert_eq!(order(&one, "4711"), order(&many, "4711"));
    assert_eq!(one.counts().expect("counts"), many.counts().expect("counts"));
}

#[test]
fn numbers_of_two_systems_are_one_order_whichever_comes_first() {
    let mut both = wrote("19", 1, 1, "shop", "orders", "created");
    both.also = vec![key("crm:SO-77")];
    let other = wrote("crm:SO-77", 2, 2, "crm", "crm_orders", "new");
    for batch in [vec![both.clone(), other.clone()], vec![other, both]] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        for fact in batch {
            store.ingest(vec![fact], NOW).expect("kept");
        }
        assert_eq!(store.find(&key("19")).expect("found"), store.find(&key("crm:SO-77")).expect("found"));
        let order = order(&store, "19");
        assert_eq!(order.journey.records.len(), 2);
        let keys: Vec<String> = order.journey.keys.iter().map(Key::to_string).collect();
        assert_eq!(keys, ["19", "crm:SO-77"]);
        assert_eq!(store.counts().expect("counts").outcomes, [(Outcome::Moving, 1)]);
        assert_eq!(listed(&store, &Query { limit: 10, ..Query::default() }), ["19"]);
        assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    }
}

#[test]
fn a_number_that_two_orders_claim_joins_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let claim =
        |order, id| Fact { also: vec![key("crm:SO-77")], ..wrote(order, id, 1, "shop", "orders", "created") };
    store
        .ingest(vec![claim("19", 1), wrote("crm:SO-77", 2, 2, "crm", "crm_orders", "new")], NOW)
        .expect("kept");
    assert_eq!(order(&store, "19").journey.records.len(), 2);
    store.ingest(vec![claim("20", 3)], NOW).expect("kept");
    assert_eq!(order(&store, "19").journey.records.len(), 1);
    assert_eq!(store.find(&key("crm:SO-77")).expect("found").len(), 3, "each of them is shown");
    assert_eq!(store.counts().expect("counts").outcomes, [(Outcome::Moving, 3)]);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn the_file_says_no_number_and_no_status_without_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let mut secret = wrote("SECRET-4711", 1, 1, "shop", "orders", "created");
    secret.name = "SECRET NAME".to_owned();
    // Names that other tracers and services make of numbers, and the state that orders with them are in.
    let destination = || "orders.4711x.created".to_owned();
    let returned =
        fact("1", 2, 1, "shop", Step::Published { destination: destination(), outcome: Sent::Returned });
    let taken =
        fact("2", 3, 1, "shop", Step::Published { destination: destination(), outcome: Sent::Confirmed });
    let unknown = Step::Handled { queue: destination(), settled: Settled::Unknown, redelivered: false };
    let open = Fact { parent: Some(3_u64.to_be_bytes()), ..fact("2", 4, 1, "mes", unknown) };
    let mut failed = wrote("3", 5, 1, "shop", "orders", "order 4711x is ready");
    failed.trouble =
        Some(Trouble { kind: TroubleKind::Other, code: "4711x: gone".to_owned(), message: String::new() });
    let free = wrote("4", 6, 1, "shop", "orders", "order 4711x is ready");
    store.ingest(vec![secret, returned, taken, open, failed, free], NOW).expect("kept");
    store.judge_due(NOW.after(10 * DAY), 100).expect("judged");
    let groups: Vec<String> =
        store.groups(10).expect("groups").into_iter().map(|group| group.group).collect();
    assert!(groups.contains(&"returned orders.#.created".to_owned()), "{groups:?}");
    let by_status = Query { stage: Some("order 4711x is ready".to_owned()), limit: 10, ..Query::default() };
    assert_eq!(listed(&store, &by_status), ["4"], "it is found by the whole text");
    for file in fs::read_dir(folder.path()).expect("files").flatten().filter(|file| file.path().is_file()) {
        let bytes = fs::read(file.path()).expect("a file");
        for word in ["SECRET", "4711x"] {
            let has = bytes.windows(word.len()).any(|bytes| bytes == word.as_bytes());
            assert!(!has, "{word} in {}", file.path().display());
        }
    }
    drop(store);
    let other = Sqlite::open(folder.path(), Master::from_bytes(&[8; 32]).expect("a key"), Model::default());
    assert!(matches!(other, Err(StoreError::Seal(SealError::WrongMaster(_)))));
}

#[test]
fn lists_go_by_state_and_age_page_by_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for number in 1..=5_u64 {
        let at = i64::try_from(number).expect("small");
        let status = if number % 2 == 0 { "failed" } else { "created" };
        store
            .ingest(vec![wrote(&number.to_string(), number, at, "shop", "orders", status)], NOW)
            .expect("kept");
    }
    let failed = Query { outcomes: vec![Outcome::Failed], limit: 10, ..Query::default() };
    assert_eq!(listed(&store, &failed), ["2", "4"]);
    assert_eq!(listed(&store, &Query { sort: Sort::Heard, limit: 2, ..Query::default() }), ["5", "4"]);
    let stage = |stage: &str| Query { stage: Some(stage.to_owned()), limit: 10, ..Query::default() };
    assert_eq!(listed(&store, &stage("created")), ["1", "3", "5"]);
    assert_eq!(listed(&store, &Query { sort: Sort::Newest, ..stage("created") }), ["5", "3", "1"]);
    assert_eq!(listed(&store, &Query { outcomes: vec![Outcome::Failed], ..stage("created") }), [""; 0]);
    assert_eq!(listed(&store, &stage("no such word")), [""; 0]);
    for sort in [Sort::Oldest, Sort::Newest, Sort::Heard] {
        let mut query = Query { sort, limit: 2, ..Query::default() };
        let mut all = Vec::new();
        loop {
            let page = store.list(&query, NOW).expect("a list");
            all.extend(page.orders.iter().map(|order| order.journey.keys[0].to_string()));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        all.sort();
        assert_eq!(all, ["1", "2", "3", "4", "5"], "{sort:?}");
    }
    let groups = store.groups(10).expect("groups");
    assert_eq!(groups.len(), 1);
    assert_eq!((groups[0].group.as_str(), groups[0].orders), ("refused shop failed", 2));
    assert_eq!(
        listed(&store, &Query { group: Some(groups[0].group.clone()), limit: 9, ..Query::default() }),
        ["2", "4"]
    );
}

#[test]
fn an_order_that_is_due_is_judged_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(vec![wrote("7", 1, 1, "shop", "orders", "created")], NOW).expect("kept");
    assert_eq!(store.judge_due(NOW, 100).expect("judged"), 0);
    assert_eq!(store.judge_due(NOW.after(2 * DAY), 100).expect("judged"), 1);
    assert_eq!(store.counts().expect("counts").outcomes, [(Outcome::Stuck, 1)]);
    assert_eq!(store.judge_due(NOW.after(2 * DAY), 100).expect("judged"), 0);
}

#[test]
fn what_is_usual_is_learned_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let sent = || {
        fact("7", 1, 1, "crm", Step::Published { destination: "orders".to_owned(), outcome: Sent::Confirmed })
    };
    let taken = Step::Handled { queue: "q".to_owned(), settled: Settled::Acknowledged, redelivered: false };
    let taken = Fact { parent: Some(1_u64.to_be_bytes()), ..fact("7", 2, 2, "mes", taken) };
    let store = open(folder.path());
    for facts in [vec![sent()], vec![sent()], vec![taken.clone(), sent()], vec![taken]] {
        store.ingest(facts, NOW).expect("kept");
    }
    drop(store);
    assert_eq!(open(folder.path()).usual().destinations, [("orders".to_owned(), (1, 1))].into());
}

#[test]
fn free_text_in_a_status_does_not_fill_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(vec![wrote("1", 1, 1, "shop", "orders", "created")], NOW).expect("kept");
    store.writer().execute("UPDATE words SET n = 20000", []).expect("written");
    for number in 2..6_u64 {
        let status = format!("free text {number}");
        store
            .ingest(vec![wrote(&number.to_string(), number, 1, "shop", "orders", &status)], NOW)
            .expect("kept");
    }
    let stages = store.counts().expect("counts").stages;
    let stages: Vec<(&str, u64)> =
        stages.iter().map(|(stage, _, orders)| (stage.as_str(), *orders)).collect();
    assert_eq!(stages, [("created", 1), ("other", 4)]);
    assert_eq!(
        order(&store, "2").journey.records[0].changes[0].to,
        "free text 2",
        "the order itself keeps it"
    );
}

#[test]
fn words_that_nothing_says_any_more_make_room_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for number in 1..=20_u64 {
        let mut fact = wrote(
            &number.to_string(),
            number,
            1,
            "shop",
            "orders",
            &format!("text {}", "x".repeat(number as usize)),
        );
        fact.service = format!("service {}", "y".repeat(number as usize));
        store.ingest(vec![fact], NOW).expect("kept");
    }
    let words = |store: &Sqlite| -> (i64, i64) {
        let db = store.writer();
        let one = |sql: &str| db.query_row(sql, [], |row| row.get(0)).expect("counted");
        (one("SELECT n FROM words"), one("SELECT count(*) FROM dictionary"))
    };
    let before = words(&store);
    assert!(before.0 >= 40 && before.0 == before.1, "{before:?}");
    let keep = Retention { keep_micros: DAY, max_bytes: u64::MAX };
    store.retain(keep, NOW.after(HOUR)).expect("retained");
    assert_eq!(words(&store).1, before.1, "all are said");
    let counts = store.counts().expect("counts");
    // The orders leave, and what they taught is not usual any more.
    let later = NOW.after(100 * DAY);
    store.ingest(vec![wrote("99", 99, 1, "shop", "orders", "created")], later).expect("kept");
    store.retain(keep, later).expect("retained");
    let after = words(&store);
    assert!(after.0 <= 6 && after.0 == after.1, "{after:?}");
    let stages = store.counts().expect("counts").stages;
    assert_eq!(stages, [("created".to_owned(), Outcome::Stuck, 1)]);
    assert_ne!(counts.stages, stages);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn what_is_taught_while_others_write_is_not_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Nothing is due and nothing is there to forget: they wait for the writer all the time.
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                store.judge_due(NOW, 10).expect("judged");
                store.forget_order(&key("nobody"), NOW).expect("forgotten");
            }
        });
        for n in 1..=60_u64 {
            let fact = wrote(&n.to_string(), n, 1, &format!("service-{}", n % 7), "orders", "created");
            store.ingest(vec![fact], NOW).expect("kept");
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let known = store.usual();
    drop(store);
    assert_eq!(*open(folder.path()).usual(), *known, "memory says what the file says");
    let written: u64 = known.of(crate::model::Kind::Wrote).map(|(_, times)| times.count()).sum();
    assert_eq!(written, 60);
}

#[test]
fn an_operation_that_is_told_again_is_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let whole = Fact { to: At(9 * SECOND), ..wrote("1", 1, 1, "shop", "orders", "created") };
    let part = Fact { to: At(2 * SECOND), unseen: Some(crate::facts::Unseen::Open), ..whole.clone() };
    for facts in [vec![part.clone()], vec![whole.clone()], vec![part], vec![whole]] {
        store.ingest(facts, NOW).expect("kept");
    }
    let count = |store: &Sqlite, kind| -> (u64, i64) {
        let usual = store.usual();
        let times = usual.of(kind).next().map(|(_, times)| (times.count(), times.percentile(50) / SECOND));
        times.unwrap_or_default()
    };
    let check = |store: &Sqlite| {
        let (times, seconds) = count(store, crate::model::Kind::Wrote);
        assert!(times == 1 && (7..10).contains(&seconds), "{times} times {seconds} s");
        assert_eq!(count(store, crate::model::Kind::Unseen).0, 0, "it was seen whole");
    };
    check(&store);
    drop(store);
    check(&open(folder.path()));
}

#[test]
fn what_an_order_taught_is_taken_back_where_it_was_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let month = 28 * DAY;
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    // In the next period it turns out that it was submitted earlier than was known.
    let earlier = wrote("1", 99, 2, "shop", "orders", "submitted");
    store.ingest(vec![earlier], NOW.after(month)).expect("kept");
    let stage = |store: &Sqlite| -> Vec<(u64, i64)> {
        let usual = store.usual();
        let times = usual.of(crate::model::Kind::Stage);
        times.map(|(_, times)| (times.count(), times.percentile(50) / (SECOND / 10))).collect()
    };
    let [(1, tenths)] = stage(&store)[..] else { panic!("{:?}", stage(&store)) };
    assert!((9..12).contains(&tenths), "{tenths}");
    let known = store.usual();
    drop(store);
    assert_eq!(*open(folder.path()).usual(), *known, "memory says what the file says");
}

#[test]
fn a_clock_that_is_ahead_is_not_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let ahead = Fact { to: At(50_000 * DAY), ..wrote("1", 1, 1, "shop", "orders", "created") };
    store.ingest(vec![ahead], NOW).expect("kept");
    assert_eq!(store.usual().heard, [("shop".to_owned(), NOW)].into());
    assert_eq!(order(&store, "1").head.last_at, NOW);
    // As an earlier version wrote it.
    store.writer().execute("UPDATE heard SET at = ?1", [50_000 * DAY]).expect("written");
    let keep = Retention { keep_micros: DAY, max_bytes: u64::MAX };
    assert_eq!(
        store.retain(keep, NOW.after(3 * DAY)).expect("retained").expired,
        1,
        "it expires like others"
    );
    assert_eq!(store.usual().heard, [("shop".to_owned(), NOW.after(3 * DAY))].into());
}

#[test]
fn a_consumer_that_went_away_shows_however_many_messages_it_took_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(vec![wrote("1", 1, 1, "shop", "orders", "created")], NOW).expect("kept");
    let mut usual = store.usual();
    let mut messages = |published: u64, delivered: u64| {
        let mut lessons = Lessons::at(NOW);
        let counts = [("orders".to_owned(), (published, delivered))].into();
        lessons.deliveries(&crate::fold::Deliveries::new(), &counts);
        lessons.write(&store.writer(), &mut usual).expect("written");
        usual.is_expected("orders")
    };
    for _ in 0..2_000 {
        assert!(messages(1_000, 1_000), "two million were taken");
    }
    assert!((0..3).any(|_| !messages(100, 0)), "three hundred were not");
    drop(store);
    let store = open(folder.path());
    assert!(!store.usual().is_expected("orders"));
    // And a destination that nobody sends to any more is not known for ever.
    let keep = Retention { keep_micros: DAY, max_bytes: u64::MAX };
    store.retain(keep, NOW.after(100 * DAY)).expect("retained");
    assert_eq!(store.usual().destinations.len(), 0);
}

#[test]
fn old_orders_leave_with_their_keys_and_pinned_ones_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    store.ingest(journey_of("2", 2), NOW).expect("kept");
    let later = NOW.after(10 * DAY);
    let recent = wrote("3", 99, later.0 / SECOND, "shop", "orders", "created");
    store.ingest(vec![recent], later).expect("kept");
    let pinned = store.find(&key("2")).expect("found")[0];
    store.pin(pinned, true).expect("pinned");
    let keep = Retention { keep_micros: 5 * DAY, max_bytes: u64::MAX };
    let day_keys = || fs::read_dir(folder.path().join("keys")).expect("keys").count();
    assert_eq!(store.retain(keep, later).expect("retained"), Retained { expired: 1, evicted: 0 });
    assert_eq!(store.find(&key("1")).expect("found"), []);
    assert_eq!(order(&store, "2").facts.len(), 3);
    assert_eq!(day_keys(), 3, "of the index and both days: the pinned order still lies under the first");
    store.pin(pinned, false).expect("unpinned");
    assert_eq!(store.retain(keep, later).expect("retained").expired, 1);
    assert_eq!(day_keys(), 2);
    assert_eq!(store.counts().expect("counts").outcomes, [(Outcome::Moving, 1)]);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn an_old_recording_that_is_read_today_is_kept_from_today_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let today = NOW.after(100 * DAY);
    store.ingest(journey_of("1", 1), today).expect("kept");
    let keep = Retention { keep_micros: 5 * DAY, max_bytes: u64::MAX };
    assert_eq!(store.retain(keep, today.after(4 * DAY)).expect("retained").expired, 0);
    assert_eq!(store.retain(keep, today.after(6 * DAY)).expect("retained").expired, 1);
}

#[test]
fn a_store_that_is_too_large_lets_the_longest_silent_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for number in 1..=2_500_u64 {
        let at = i64::try_from(number).expect("small");
        store
            .ingest(vec![wrote(&number.to_string(), number, at, "shop", "orders", "created")], NOW)
            .expect("kept");
    }
    let gone = store.retain(Retention { keep_micros: i64::MAX, max_bytes: 700_000 }, NOW).expect("retained");
    assert!(gone.evicted >= 1_000 && gone.evicted < 2_500, "{gone:?}");
    assert_eq!(store.find(&key("1")).expect("found"), []);
    assert_eq!(order(&store, "2500").facts.len(), 1);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn a_full_disk_refuses_the_batch_and_keeps_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    store.set_max_bytes(150_000).expect("bounded");
    let mut refused = 0;
    for batch in 1..40_u64 {
        let orders = (batch * 10..batch * 10 + 10).flat_map(|number| journey_of(&number.to_string(), number));
        match store.ingest(orders.collect(), NOW) {
            Ok(_) => assert_eq!(refused, 0, "after a refusal there is no more room"),
            Err(StoreError::Full(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    assert_eq!(order(&store, "1").facts.len(), 3);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    store.set_max_bytes(100 << 20).expect("bounded");
    store.ingest(journey_of("399", 399), NOW).expect("there is room again");
}

#[test]
fn a_damaged_row_is_found_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    store.ingest(journey_of("2", 2), NOW).expect("kept");
    store
        .writer()
        .execute("UPDATE orders SET sealed = (SELECT sealed FROM orders WHERE id = 2) WHERE id = 1", [])
        .expect("moved");
    let problems = store.check().expect("checked");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("row 1: a sealed row does not open"), "{problems:?}");
    assert_eq!(
        listed(&store, &Query { limit: 10, ..Query::default() }),
        ["2"],
        "the others are still listed"
    );
    // A new fact of it is not refused for ever.
    store.ingest(vec![wrote("1", 50, 5, "shop", "orders", "priced")], NOW.after(DAY)).expect("kept");
    assert_eq!(order(&store, "1").facts.len(), 1);
    let aside = ["1 sealed rows did not open and were put aside"];
    assert_eq!(store.check().expect("checked"), aside);
    // The key of its day stays as long as it does, and it leaves like an order.
    store.pin(store.find(&key("1")).expect("found")[0], true).expect("pinned");
    let day_keys = || fs::read_dir(folder.path().join("keys")).expect("keys").count();
    let keep = Retention { keep_micros: 10 * DAY, max_bytes: u64::MAX };
    store.writer().execute("DELETE FROM orders WHERE id = 2", []).expect("deleted");
    store.retain(keep, NOW.after(10 * DAY)).expect("retained");
    assert_eq!(day_keys(), 3, "of the index, of the row put aside and of the one that is there");
    store.retain(keep, NOW.after(20 * DAY)).expect("retained");
    assert_eq!(day_keys(), 2);
    let aside = |store: &Sqlite| -> i64 {
        store.writer().query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0)).expect("counted")
    };
    assert_eq!(aside(&store), 0);
}

#[test]
fn one_process_writes_and_others_read_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = Sqlite::open_to_read(folder.path(), master(), Model::default());
    assert!(matches!(none, Err(StoreError::NoStore(_))));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "reading makes nothing");
    let store = open(folder.path());
    let second = Sqlite::open(folder.path(), master(), Model::default());
    assert!(matches!(second, Err(StoreError::Locked(_))));
    let reader = Sqlite::open_to_read(folder.path(), master(), Model::default()).expect("a reader");
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    assert_eq!(order(&reader, "1").facts.len(), 3);
    assert_eq!(reader.check().expect("checked"), Vec::<String>::new());
    assert!(reader.ingest(journey_of("2", 2), NOW).is_err(), "it cannot write");
    drop(store);
    open(folder.path()).writer().pragma_update(None, "user_version", 1).expect("set");
    let older = Sqlite::open_to_read(folder.path(), master(), Model::default());
    assert!(matches!(older, Err(StoreError::Older { found: 1, .. })));
}

#[test]
fn that_there_were_more_operations_than_are_kept_is_not_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let facts: Vec<Fact> =
        (1..=2_000_u64).map(|n| wrote("1", n, n as i64, "shop", "orders", "created")).collect();
    store.ingest(facts, NOW).expect("kept");
    assert!(order(&store, "1").journey.truncated);
    store.ingest(vec![wrote("1", 5_000, 5_000, "shop", "orders", "priced")], NOW).expect("kept");
    drop(store);
    assert!(order(&open(folder.path()), "1").journey.truncated);
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path()).writer().pragma_update(None, "user_version", 99).expect("set");
    let newer = Sqlite::open(folder.path(), master(), Model::default());
    assert!(matches!(newer, Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn readers_do_not_wait_for_the_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    let mut writer = store.writer();
    let transaction = writer.transaction().expect("begun");
    transaction.execute("UPDATE orders SET since = 0", []).expect("written");
    let found = store.find(&key("1")).expect("found");
    assert_eq!(store.order(found[0], NOW.after(HOUR)).expect("read").expect("an order").facts.len(), 3);
}

#[test]
fn a_person_leaves_all_orders_and_does_not_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let person = |id: &str| Person { role: PersonRole::User, id: id.to_owned() };
    let named = |number: &str, id: u64, who: &str| {
        let mut fact = wrote(number, id, 1, "shop", "orders", "created");
        fact.people = vec![person(who), person("seller-1")];
        fact.name = format!("GET /users/{who}/orders");
        fact
    };
    let store = open(folder.path());
    let facts = || vec![named("1", 1, "user-42"), named("2", 2, "user-43"), named("3", 3, "user-42")];
    store.ingest(facts(), NOW).expect("kept");
    let (before, counts) = (order(&store, "2"), store.counts().expect("counts"));
    let done = store.forget_person("user-42", NOW.after(DAY)).expect("forgotten");
    assert_eq!(done, Forgotten { rows: 2, ..Forgotten::default() });
    let nowhere = |store: &Sqlite| {
        for number in ["1", "3"] {
            let order = order(store, number);
            assert_eq!(order.journey.people, [person("seller-1")], "the others stay");
            assert_eq!(order.facts[0].name, "GET /users/…/orders");
        }
    };
    nowhere(&store);
    assert_eq!((order(&store, "2"), store.counts().expect("counts")), (before, counts));
    // A repetition, and another start of the server.
    store.ingest(facts(), NOW).expect("kept");
    nowhere(&store);
    drop(store);
    let store = open(folder.path());
    store.ingest(vec![named("1", 9, "user-42")], NOW).expect("kept");
    nowhere(&store);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    let bytes = fs::read(folder.path().join("journeys.db")).expect("a file");
    assert!(!bytes.windows(7).any(|part| part == b"user-42"));
}

#[test]
fn a_forgotten_order_is_gone_with_all_its_rows_and_the_others_are_judged_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let claim =
        |order, id| Fact { also: vec![key("crm:SO-77")], ..wrote(order, id, 1, "shop", "orders", "created") };
    let crm = wrote("crm:SO-77", 2, 2, "crm", "crm_orders", "new");
    store.ingest(vec![claim("19", 1), crm, claim("20", 3)], NOW).expect("kept");
    // Two orders claim the number, so nothing is joined; without one of them the others are one.
    assert_eq!(store.forget_order(&key("20"), NOW).expect("forgotten").rows, 1);
    assert_eq!(store.find(&key("20")).expect("found"), []);
    assert_eq!(order(&store, "19").journey.records.len(), 2);
    assert_eq!(store.forget_order(&key("19"), NOW).expect("forgotten").rows, 2);
    assert_eq!(store.find(&key("crm:SO-77")).expect("found"), []);
    assert_eq!(store.counts().expect("counts").outcomes, []);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    assert_eq!(store.forget_order(&key("19"), NOW).expect("nothing").rows, 0);
}

#[test]
fn a_forgotten_order_leaves_what_was_put_aside_and_however_many_orders_share_its_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let claims = (1..=120_u64).map(|n| Fact {
        also: vec![key("crm:SO-77")],
        ..wrote(&n.to_string(), n, 1, "shop", "orders", "created")
    });
    store.ingest(claims.collect(), NOW).expect("kept");
    store.writer().execute("UPDATE orders SET sealed = x'00' WHERE id = 1", []).expect("damaged");
    store.ingest(vec![wrote("1", 500, 5, "shop", "orders", "priced")], NOW).expect("kept");
    let aside = || -> i64 {
        store.writer().query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0)).expect("counted")
    };
    assert_eq!(aside(), 1);
    let done = store.forget_order(&key("crm:SO-77"), NOW).expect("forgotten");
    assert_eq!((done.rows, done.numbers.len()), (121, 121), "{done:?}");
    assert_eq!(store.find(&key("crm:SO-77")).expect("found"), []);
    assert_eq!(aside(), 0);
    assert_eq!(store.counts().expect("counts").outcomes, []);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn what_was_forgotten_stands_in_the_log_while_somebody_reads_and_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    store.writer().busy_timeout(Duration::ZERO).expect("set");
    let mut reader = open_reader(&store.file).expect("a reader");
    let snapshot = reader.transaction().expect("begun");
    let _: i64 = snapshot.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).expect("read");
    assert!(store.forget_order(&key("1"), NOW).expect("forgotten").in_log);
    assert!(store.forget_person("user-42", NOW).expect("forgotten").in_log);
    drop(snapshot);
    assert!(!store.forget_order(&key("1"), NOW).expect("forgotten").in_log, "the next time");
}

#[test]
fn a_person_leaves_every_text_and_is_known_by_words_of_those_that_come() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let stored = |id| {
        let step = Step::Stored {
            verb: "PutObject".to_owned(),
            bucket: "models-user-42".to_owned(),
            object: "users/user-42/bracket.stl".to_owned(),
        };
        fact("1", id, 1, "shop", step)
    };
    let others = |id: u64| {
        let sent = Step::Published { destination: "notify.user-42".to_owned(), outcome: Sent::Confirmed };
        let waited = Step::Waited {
            queue: "mail/user-42".to_owned(),
            died: Some(crate::facts::Died { queue: "user-42".to_owned(), reason: "expired".to_owned() }),
        };
        let called = Step::Called { peer: "user-42.example".to_owned(), answer: None, changes: true };
        let mut status = wrote("1", id + 3, 1, "shop", "orders", "held by user-42");
        status.trouble = Some(Trouble {
            kind: TroubleKind::Other,
            code: "user-42".to_owned(),
            message: "no user-42".to_owned(),
        });
        vec![
            fact("1", id, 1, "shop", sent),
            fact("1", id + 1, 1, "shop", waited),
            fact("1", id + 2, 1, "shop", called),
            status,
        ]
    };
    store.ingest([vec![stored(1)], others(10)].concat(), NOW).expect("kept");
    store.forget_person("user-42", NOW).expect("forgotten");
    let nowhere = |store: &Sqlite| {
        let told = format!("{:?}", order(store, "1").facts);
        assert!(!told.contains("user-42"), "{told}");
        assert!(told.contains("users/…/bracket.stl"), "{told}");
    };
    nowhere(&store);
    // None of these lists the person.
    store.ingest([vec![stored(2)], others(20), others(10)].concat(), NOW).expect("kept");
    nowhere(&store);
}

#[test]
fn a_copy_that_was_made_while_it_was_written_is_a_store() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let store = open(folders[0].path());
    store.ingest(journey_of("1", 1), NOW).expect("kept");
    let reader = Sqlite::open_to_read(folders[0].path(), master(), Model::default()).expect("a reader");
    let mut writer = store.writer();
    let transaction = writer.transaction().expect("begun");
    transaction.execute("UPDATE orders SET since = 0", []).expect("written");
    reader.backup(&folders[1].path().join("journeys.db")).expect("copied");
    transaction.rollback().expect("rolled back");
    drop(writer);
    let to = folders[1].path().join("keys");
    fs::create_dir(&to).expect("a folder");
    for entry in fs::read_dir(folders[0].path().join("keys")).expect("keys").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
    let copy = Sqlite::open_to_read(folders[1].path(), master(), Model::default()).expect("a store");
    assert_eq!(order(&copy, "1"), order(&store, "1"));
    assert_eq!(copy.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn how_long_things_take_is_learned_once_whichever_way_it_comes() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let [one, many] = [open(folders[0].path()), open(folders[1].path())];
    one.ingest(journey_of("1", 1), NOW).expect("kept");
    for fact in journey_of("1", 1).into_iter().rev() {
        many.ingest(vec![fact.clone()], NOW).expect("kept");
        many.ingest(vec![fact], NOW.after(DAY)).expect("kept");
        many.judge_due(NOW.after(2 * DAY), 10).expect("judged");
    }
    let usual = one.usual();
    assert_eq!(usual.times.len(), 3, "a stage and the work of two services: {usual:?}");
    assert_eq!(many.usual(), usual);
    drop((one, many));
    let [one, many] = [open(folders[0].path()), open(folders[1].path())];
    assert_eq!((&*one.usual(), &*many.usual()), (&*usual, &*usual), "after another start");
    // What the orders taught stays when they leave, and goes when it is not usual any more.
    let keep = Retention { keep_micros: DAY, max_bytes: u64::MAX };
    one.retain(keep, NOW.after(20 * DAY)).expect("retained");
    assert_eq!(one.find(&key("1")).expect("found"), []);
    assert_eq!(one.usual(), usual);
    one.retain(keep, NOW.after(60 * DAY)).expect("retained");
    assert_eq!(one.usual().times.len(), 0);
}

#[test]
fn another_model_has_all_orders_judged_again_and_learned_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for number in ["1", "2"] {
        store.ingest(journey_of(number, number.parse().expect("a number")), NOW).expect("kept");
    }
    let stages = |store: &Sqlite| -> Vec<(String, u64)> {
        let counts = store.counts().expect("counts").stages;
        counts.into_iter().map(|(stage, _, orders)| (stage, orders)).collect()
    };
    assert_eq!(stages(&store), [("submitted".to_owned(), 2)]);
    assert_eq!(store.judge_due(NOW, 100).expect("judged"), 0);
    drop(store);
    let house = "
records: { shop: { match: { service: shop } } }
stages: [{ name: begun, from: { shop: [created] } }, { name: sent, from: { shop: [submitted] } }]
";
    let with = |model: &str| {
        Sqlite::open(folder.path(), master(), Model::parse(model).expect("a model")).expect("a store")
    };
    let store = with(house);
    assert_eq!(store.judge_due(NOW, 1).expect("judged"), 1, "so many at a time");
    assert_eq!(store.judge_due(NOW, 100).expect("judged"), 1);
    assert_eq!(stages(&store), [("sent".to_owned(), 2)]);
    let learned: Vec<(String, u64)> = store
        .usual()
        .of(crate::model::Kind::Stage)
        .map(|(what, times)| (what.of.clone(), times.count()))
        .collect();
    assert_eq!(learned, [("begun".to_owned(), 2), ("created".to_owned(), 0)]);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    drop(store);
    assert_eq!(with(house).judge_due(NOW, 100).expect("judged"), 0, "the same model");
}

#[test]
fn open_work_is_kept_as_all_facts_are_and_leaves_when_its_span_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let call = Step::Open { work: crate::facts::Work::Call { peer: "api.example".to_owned() } };
    let open_work = Fact { to: At(990 * SECOND), ..fact("1", 1, 900, "crm", call) };
    store.ingest(vec![open_work.clone()], NOW).expect("kept");
    drop(store);
    let store = open(folder.path());
    assert_eq!(order(&store, "1").facts, [open_work]);
    let groups = store.groups(10).expect("groups");
    assert_eq!((groups[0].group.as_str(), groups[0].orders), ("hangs crm api.example", 1));
    // Nobody tells of it any more: it is judged again when that is so.
    assert_eq!(store.judge_due(NOW.after(200 * SECOND), 10).expect("judged"), 1);
    assert_eq!(store.groups(10).expect("groups"), []);
    let step = Step::Called { peer: "api.example".to_owned(), answer: Some(200), changes: true };
    store
        .ingest(vec![Fact { to: At(1_100 * SECOND), ..fact("1", 1, 900, "crm", step) }], NOW.after(DAY))
        .expect("kept");
    assert!(order(&store, "1").journey.open.is_empty());
    let usual = store.usual();
    let lengths: u64 = usual.of(crate::model::Kind::Called).map(|(_, times)| times.count()).sum();
    assert_eq!(lengths, 1, "the span is counted, what was told before it is not");
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}
