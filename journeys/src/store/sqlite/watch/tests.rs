use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::facts::{Fact, Key};
use crate::model::{Model, Usual};
use crate::rules::storm::PATIENCE;
use crate::rules::trial::{Trial, Warned};
use crate::store::alerts::{Alert, Alerts, Message, Note, Result as Told, Wanted, What};
use crate::store::seal::Master;
use crate::testing::wrote;
use crate::time::{HOUR, SECOND};

const FILE: &str = "
rules:
  - { id: stage-late, severity: warning }
  - { id: order-failed, severity: critical }
  - { id: channel-broken, severity: critical }
channels:
  chat: { mattermost: { url_file: /x }, repeat: 4h }
  duty: { telegram: { token_file: /x, chat: '1' }, min_severity: critical }
";

fn model() -> Model {
    Model::parse(include_str!("../../../../../deploy/journeys/model.yaml")).expect("the demo's model")
}

fn open_store(folder: &Path) -> Sqlite {
    let master = Master::from_bytes(&[7; 32]).expect("a key");
    let store = Sqlite::open(folder, master, model()).expect("a store");
    store.watch(RuleSet::parse(FILE, &model()).expect("rules"), at(0)).expect("watched");
    store
}

fn at(second: i64) -> At {
    At(second * SECOND)
}

fn mes(order: &str, id: u64, second: i64, status: &str) -> Fact {
    wrote(order, id, second, "mes", "mes_orders", status)
}

/// Open alerts, or those that ended.
fn alerts(store: &Sqlite, state: Option<State>) -> Vec<Alert> {
    store.alerts(&Wanted { state, limit: 200, ..Wanted::default() }).expect("alerts")
}

/// What a channel is told at a time, when it takes all of it.
fn told(store: &Sqlite, channel: &str, now: At) -> Vec<(What, String)> {
    let messages = store.due_messages(channel, now, 1_000).expect("messages");
    messages.iter().for_each(|message| store.told(message, &Told::Sent, now).expect("written"));
    let what = |message: &Message| match message.alert.members {
        Some(members) => (message.what, format!("{members} orders")),
        None => (message.what, message.alert.number.clone()),
    };
    messages.iter().map(what).collect()
}

#[test]
fn an_alert_fires_when_it_is_due_is_told_once_and_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("4711", 1, 1_000, "new")], at(1_001)).expect("kept");
    let due = at(1_000 + 1_800).after(10_000);
    assert_eq!(store.judge_due(due.after(-1), 100).expect("judged"), 0, "nobody looks before");
    assert_eq!(store.judge_due(due, 100).expect("judged"), 1);
    let firing = alerts(&store, None);
    assert_eq!(firing.len(), 1);
    assert_eq!((firing[0].rule.as_str(), firing[0].number.as_str()), ("stage-late", "4711"));
    assert_eq!((firing[0].held.place.as_str(), firing[0].late), ("pricing", false));
    assert!(told(&store, "chat", due).is_empty(), "perhaps it is a storm");
    assert_eq!(told(&store, "chat", due.after(PATIENCE)), [(What::Fired, "4711".to_owned())]);
    assert!(told(&store, "chat", due.after(HOUR)).is_empty(), "once");
    assert!(told(&store, "duty", due.after(HOUR)).is_empty(), "not the duty's");
    assert_eq!(
        told(&store, "chat", due.after(5 * HOUR)),
        [(What::Still, "4711".to_owned())],
        "after four hours"
    );
    let priced = due.after(6 * HOUR);
    store.ingest(vec![mes("4711", 2, priced.0 / SECOND - 1, "priced")], priced).expect("kept");
    assert!(alerts(&store, None).is_empty());
    assert_eq!(alerts(&store, Some(State::Resolved)).len(), 1);
    assert_eq!(told(&store, "chat", priced), [(What::Resolved, "4711".to_owned())]);
    assert!(told(&store, "chat", priced.after(24 * HOUR)).is_empty(), "it is not told again when it is over");
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn what_nobody_was_told_of_needs_no_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_801), 100).expect("judged");
    store.ingest(vec![mes("1", 2, 1_802, "priced")], at(1_802)).expect("kept");
    assert!(told(&store, "chat", at(9_000)).is_empty());
}

#[test]
fn what_became_due_while_nobody_looked_fires_once_and_says_that_it_is_late() {
    let folder = tempfile::tempdir().expect("a folder");
    open_store(folder.path()).ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    let store = open_store(folder.path());
    store.judge_due(at(9_000), 100).expect("judged");
    store.judge_due(at(9_001), 100).expect("judged");
    let firing = alerts(&store, None);
    assert_eq!(firing.iter().map(|alert| alert.late).collect::<Vec<_>>(), [true]);
    assert_eq!(told(&store, "chat", at(9_100)).len(), 1);
}

#[test]
fn a_storm_is_one_message_and_one_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    let facts = (0..1_000_u64).map(|n| mes(&n.to_string(), n + 1, (n / 10) as i64, "new"));
    store.ingest(facts.collect(), at(200)).expect("kept");
    let (mut now, mut heard) = (at(1_790), Vec::new());
    while now < at(2_000) {
        store.judge_due(now, 1_000).expect("judged");
        heard.extend(told(&store, "chat", now));
        now = now.after(SECOND);
    }
    assert_eq!(heard.len(), 1, "{heard:?}");
    let groups = alerts(&store, None);
    assert_eq!(groups.iter().map(|group| group.members).collect::<Vec<_>>(), [Some(1_000)]);
    let wanted = Wanted { group: Some(groups[0].id), limit: 200, ..Wanted::default() };
    assert_eq!(store.alerts(&wanted).expect("members").len(), 200);
    let done = (0..1_000_u64).map(|n| mes(&n.to_string(), n + 5_000, 2_001, "priced"));
    store.ingest(done.collect(), at(2_002)).expect("kept");
    assert_eq!(told(&store, "chat", at(3_000)), [(What::Resolved, "1000 orders".to_owned())]);
    assert!(alerts(&store, None).is_empty());
}

/// Members of all groups that fire, as they are and as they are counted.
fn groups(store: &Sqlite) -> Vec<(i64, i64)> {
    let sql = "SELECT members, (SELECT count(*) FROM alerts m WHERE m.grouped_in = alerts.id AND m.state = 1) FROM alerts
        WHERE is_group = 1 AND state = 1 ORDER BY id";
    let db = store.writer();
    let mut statement = db.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("groups");
    rows.collect::<Result<_, _>>().expect("groups")
}

/// Orders from `from` up to `to` that all fire at one time, which is told.
fn storm(store: &Sqlite, from: u64, to: u64, second: i64) {
    let facts = (from..to).map(|n| mes(&n.to_string(), n + 1, second, "new"));
    store.ingest(facts.collect(), at(second + 1)).expect("kept");
    store.judge_due(at(second + 1_801), 1_000).expect("judged");
}

#[test]
fn a_group_ends_with_its_last_member_however_that_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    storm(&store, 0, 8, 0);
    assert_eq!(told(&store, "chat", at(1_900)), [(What::Fired, "8 orders".to_owned())]);
    // Half of them are forgotten, one does not open, the others expire.
    for n in 0..4 {
        store.forget_order(&Key::parse(&n.to_string()).expect("a number"), at(2_000)).expect("forgotten");
    }
    assert_eq!(groups(&store), [(4, 4)]);
    store
        .writer()
        .execute(
            "UPDATE alerts SET sealed = x'00' WHERE id = (SELECT max(id) FROM alerts WHERE is_group = 0)",
            [],
        )
        .expect("damaged");
    store.writer().execute("UPDATE orders SET due_at = 0", []).expect("due");
    store.judge_due(at(2_001), 100).expect("judged");
    assert_eq!(groups(&store), [(4, 4)], "it left, and joined anew");
    let keep = crate::store::Retention { keep_micros: 86_400 * SECOND, max_bytes: u64::MAX };
    store.retain(keep, at(5 * 86_400)).expect("retained");
    assert_eq!(groups(&store), []);
    assert_eq!(told(&store, "chat", at(5 * 86_400 + 1)), [(What::Resolved, "8 orders".to_owned())]);
    // Others at the same place are told again.
    storm(&store, 100, 101, 6 * 86_400);
    assert_eq!(told(&store, "chat", at(6 * 86_400 + 1_900)), [(What::Fired, "100".to_owned())]);
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
}

#[test]
fn alerts_of_a_group_that_is_not_kept_any_more_are_listed_by_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    storm(&store, 0, 8, 0);
    let step = |id: u64, second: i64, status: &str| {
        let facts = (0..8).map(|n| mes(&n.to_string(), id + n, second, status)).collect();
        store.ingest(facts, at(second + 1)).expect("kept");
    };
    step(100, 2_001, "priced");
    assert_eq!(alerts(&store, Some(State::Resolved)).len(), 1, "the group");
    // The orders go on, and are kept longer than it.
    step(200, 5 * 86_400, "finished");
    let keep = crate::store::Retention { keep_micros: 86_400 * SECOND, max_bytes: u64::MAX };
    store.retain(keep, at(5 * 86_400 + 2)).expect("retained");
    let listed = alerts(&store, Some(State::Resolved));
    assert_eq!(listed.len(), 8, "{listed:?}");
    assert!(listed.iter().all(|alert| alert.members.is_none() && alert.grouped_in.is_none()), "{listed:?}");
}

#[test]
fn a_group_that_an_earlier_version_left_empty_takes_no_alert_and_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    storm(&store, 0, 8, 0);
    assert_eq!(told(&store, "chat", at(1_900)).len(), 1);
    let db = store.writer();
    db.execute("UPDATE alerts SET members = 0 WHERE is_group = 1", []).expect("written");
    db.execute("DELETE FROM alerts WHERE is_group = 0", []).expect("written");
    db.execute("DELETE FROM orders", []).expect("written");
    drop(db);
    storm(&store, 100, 101, 10_000);
    assert_eq!(told(&store, "chat", at(11_900)), [(What::Fired, "100".to_owned())]);
    store.watch(RuleSet::parse(FILE, &model()).expect("rules"), at(11_901)).expect("watched");
    assert_eq!(told(&store, "chat", at(11_902)), [(What::Resolved, "8 orders".to_owned())]);
}

#[test]
fn of_two_orders_that_turn_out_to_be_one_the_alert_that_fires_stays_and_no_other_is_left_open() {
    // When the two become due, in the order in which their rows were added, and who was told of what then.
    for (first, second, heard) in
        [(0, 0, ["A-1", "crm:B-1"].as_slice()), (3_000, 0, &["crm:B-1"]), (0, 3_000, &["A-1"])]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open_store(folder.path());
        let facts = |order: &str, id, second| vec![mes(order, id, second, "new")];
        store.ingest(facts("A-1", 1, first), at(1)).expect("kept");
        store.ingest(facts("crm:B-1", 2, second), at(1)).expect("kept");
        store.writer().execute("UPDATE orders SET due_at = 0", []).expect("due");
        store.judge_due(at(1_900), 100).expect("judged");
        let mut fired = told(&store, "chat", at(1_910));
        fired.sort();
        assert_eq!(fired.iter().map(|(_, number)| number.as_str()).collect::<Vec<_>>(), heard);
        // An operation says that they are one; that they still wait as long is a matter of the first.
        let both =
            Fact { also: vec![Key::parse("crm:B-1").expect("a number")], ..mes("A-1", 3, 1_911, "new") };
        store.ingest(vec![both], at(1_912)).expect("kept");
        let open: i64 = store
            .writer()
            .query_row("SELECT count(*) FROM alerts WHERE state < 2 AND rule = 'stage-late'", [], |row| {
                row.get(0)
            })
            .expect("counted");
        let ended = told(&store, "chat", at(1_913));
        assert_eq!(open, 1, "{first} {second}");
        let firing = alerts(&store, None);
        assert_eq!(firing.len(), 1, "{first} {second}: it fires on");
        if heard.len() == 2 {
            assert_eq!(
                ended,
                [(What::Resolved, "crm:B-1".to_owned())],
                "who was told of both hears that one is over"
            );
        } else {
            assert_eq!((firing[0].number.as_str(), ended), (heard[0], Vec::new()));
        }
        let orders: Vec<_> = store.find(&Key::parse("crm:B-1").expect("a number")).expect("found");
        assert_eq!(firing[0].order, Some(orders[0]));
        store.ingest(vec![mes("A-1", 4, 1_950, "priced")], at(1_951)).expect("kept");
        assert_eq!(told(&store, "chat", at(1_960)), [(What::Resolved, firing[0].number.clone())]);
    }
}

#[test]
fn what_is_told_again_waits_for_the_end_of_the_quiet_hours_and_is_not_too_old_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    let quiet = FILE.replace("repeat: 4h }", "repeat: 4h, quiet: '04:00-20:00', zone: UTC }");
    assert_ne!(quiet, FILE);
    store.watch(RuleSet::parse(&quiet, &model()).expect("rules"), at(0)).expect("watched");
    store.ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    assert_eq!(told(&store, "chat", at(1_910)).len(), 1);
    let hour = |hour: i64| At(hour * HOUR);
    for quiet in [5, 12, 19] {
        assert_eq!(told(&store, "chat", hour(quiet)), []);
    }
    let messages = store.due_messages("chat", hour(20), 10).expect("messages");
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].what, messages[0].at), (What::Still, hour(20)), "its day begins now");
    // A snooze puts off what is due then, and nothing else is told.
    let note = Note { at: hour(20), by: "anna".to_owned(), text: String::new() };
    assert!(store.snooze(messages[0].alert.id, hour(72), note).expect("snoozed"));
    store.told(&messages[0], &Told::Sent, hour(20)).expect("written");
    assert_eq!(told(&store, "chat", hour(71)), []);
    let messages = store.due_messages("chat", hour(72), 10).expect("messages");
    let due: Vec<_> = messages.iter().map(|message| (message.what, message.at)).collect();
    assert_eq!(due, [(What::Still, hour(72))]);
}

#[test]
fn a_message_that_was_taken_back_does_not_stand_in_the_way_of_a_later_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    assert_eq!(told(&store, "chat", at(1_910)).len(), 1);
    let id = alerts(&store, None)[0].id;
    let db = store.writer();
    for until in [5_000, 6_000] {
        outbox::tell_still(&db, id.0, at(until)).expect("written");
        db.execute("UPDATE outbox SET due_at = NULL, attempts = 1 WHERE what = 2", []).expect("written");
    }
    assert_eq!(db.execute("DELETE FROM outbox WHERE what = 2 AND nth = 0", []).expect("written"), 1);
    outbox::tell_still(&db, id.0, at(7_000)).expect("written");
    let nth: i64 =
        db.query_row("SELECT max(nth) FROM outbox WHERE what = 2", [], |row| row.get(0)).expect("read");
    assert_eq!(nth, 2);
}

#[test]
fn who_takes_it_is_remembered_and_it_is_not_told_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new"), mes("2", 2, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    assert_eq!(told(&store, "chat", at(1_910)).len(), 2);
    let note = |text: &str| Note { at: at(2_000), by: "anna".to_owned(), text: text.to_owned() };
    let ids: Vec<AlertId> = alerts(&store, None).iter().map(|alert| alert.id).collect();
    assert!(store.acknowledge(ids[0], note("the workshop knows")).expect("taken"));
    assert!(store.snooze(ids[1], at(90_000), note("")).expect("snoozed"));
    let taken = store.alert(ids[0]).expect("read").expect("an alert");
    assert_eq!(taken.taken, Some(("anna".to_owned(), at(2_000))));
    assert_eq!((taken.word(at(2_001)), taken.notes[0].text.as_str()), ("acknowledged", "the workshop knows"));
    let snoozed = store.alert(ids[1]).expect("read").expect("an alert");
    assert_eq!((snoozed.word(at(2_001)), snoozed.word(at(90_000))), ("snoozed", "firing"));
    assert!(told(&store, "chat", at(89_999)).is_empty(), "neither of them, though both would be told again");
    let heard = told(&store, "chat", at(90_000));
    assert_eq!(heard, [(What::Still, snoozed.number)], "once");
    let waiting: i64 = store
        .writer()
        .query_row(
            "SELECT count(*) FROM outbox WHERE alert_id = ?1 AND due_at IS NOT NULL",
            [ids[1].0],
            |row| row.get(0),
        )
        .expect("counted");
    assert_eq!(waiting, 1, "and after four hours again");
    assert!(!store.acknowledge(AlertId(999), note("")).expect("none"));
}

#[test]
fn a_message_that_nobody_answered_for_comes_again_and_one_that_failed_when_it_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    let first = store.due_messages("chat", at(1_910), 10).expect("messages");
    assert_eq!(store.due_messages("chat", at(1_911), 10).expect("messages").len(), 0, "it is claimed");
    let again = store.due_messages("chat", at(2_300), 10).expect("messages");
    assert_eq!((again[0].id, again[0].attempts), (first[0].id, 2), "the same message");
    store.told(&again[0], &Told::Again(at(2_400), "503".to_owned()), at(2_301)).expect("written");
    assert_eq!(store.due_messages("chat", at(2_399), 10).expect("messages").len(), 0);
    // It ends while it is being told: then it is not told again, but its end is.
    let third = store.due_messages("chat", at(2_400), 10).expect("messages");
    store.ingest(vec![mes("1", 2, 2_401, "priced")], at(2_402)).expect("kept");
    store.told(&third[0], &Told::Again(at(2_500), "503".to_owned()), at(2_403)).expect("written");
    assert_eq!(told(&store, "chat", at(9_000)), [(What::Resolved, "1".to_owned())]);
}

#[test]
fn a_channel_that_does_not_work_is_told_on_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    for second in [0, 10, 20] {
        store.own_alert("channel-broken", "chat", true, at(second)).expect("written");
    }
    assert_eq!(told(&store, "chat", at(100)), []);
    assert_eq!(told(&store, "duty", at(100)).len(), 1);
    store.watch_places(at(110)).expect("looked");
    assert_eq!(alerts(&store, None).len(), 1, "counters say nothing of it");
    store.own_alert("channel-broken", "chat", false, at(200)).expect("written");
    assert_eq!(told(&store, "duty", at(300)).len(), 1);
    assert!(alerts(&store, None).is_empty());
}

#[test]
fn a_channel_that_is_there_no_more_is_not_broken_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.own_alert("channel-broken", "chat", true, at(0)).expect("written");
    assert_eq!(told(&store, "duty", at(100)).len(), 1);
    store.watch_places(at(110)).expect("looked");
    assert_eq!(alerts(&store, None).len(), 1, "it is there");
    let without: String =
        FILE.lines().filter(|line| !line.contains("mattermost")).map(|line| format!("{line}\n")).collect();
    store.watch(RuleSet::parse(&without, &model()).expect("rules"), at(120)).expect("watched");
    store.watch_places(at(120)).expect("looked");
    assert!(alerts(&store, None).is_empty());
    assert_eq!(told(&store, "duty", at(130)), [(What::Resolved, String::new())]);
}

#[test]
fn other_rules_look_at_all_orders_again_and_those_that_are_gone_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    assert_eq!(alerts(&store, None).len(), 1);
    let without = FILE.replace("{ id: stage-late, severity: warning }", "{ id: stage-late, off: true }");
    store.watch(RuleSet::parse(&without, &model()).expect("rules"), at(1_901)).expect("watched");
    store.judge_due(at(1_901), 100).expect("judged");
    assert!(alerts(&store, None).is_empty());
}

#[test]
fn what_a_command_brings_is_looked_at_when_a_server_runs_and_no_alert_ends_by_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    assert_eq!(told(&store, "chat", at(1_910)).len(), 1);
    drop(store);
    // As `import` does: it knows no rules.
    let master = Master::from_bytes(&[7; 32]).expect("a key");
    let without = Sqlite::open(folder.path(), master, model()).expect("a store");
    without.ingest(vec![mes("1", 2, 100, "new"), mes("2", 3, 100, "new")], at(2_000)).expect("kept");
    assert_eq!(alerts(&without, None).len(), 1);
    drop(without);
    let store = open_store(folder.path());
    assert_eq!(store.judge_due(at(2_001), 100).expect("judged"), 2, "both are looked at");
    assert_eq!(alerts(&store, None).len(), 2);
    assert_eq!(told(&store, "chat", at(2_100)), [(What::Fired, "2".to_owned())], "the first was told before");
}

#[test]
fn counters_make_an_alert_of_a_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    let file = format!("{FILE}\n").replace(
        "rules:\n",
        "rules:\n  - { id: fails, when: error_rate, above: 20%, min: 5, window: 5m, for: 30s }\n",
    );
    store.watch(RuleSet::parse(&file, &model()).expect("rules"), at(0)).expect("watched");
    let served = |n: u64, at: i64, fails: bool| {
        let step = crate::facts::Step::Served { answer: Some(if fails { 500 } else { 200 }), changes: true };
        let fact = crate::testing::fact(&n.to_string(), n, at, "mes", step);
        let trouble = crate::facts::Trouble {
            kind: crate::facts::TroubleKind::Http,
            code: "500".to_owned(),
            message: String::new(),
        };
        Fact { trouble: fails.then_some(trouble), ..fact }
    };
    let facts: Vec<Fact> = (1..=10).map(|n| served(n, 10_000, n <= 5)).collect();
    store.ingest(facts.clone(), at(10_001)).expect("kept");
    store.ingest(facts, at(10_002)).expect("a repetition counts nothing");
    for second in [10_015, 10_030, 10_045] {
        store.watch_places(at(second)).expect("looked");
    }
    let firing = alerts(&store, None);
    assert_eq!(firing.len(), 1, "{firing:?}");
    assert_eq!((firing[0].rule.as_str(), firing[0].held.place.as_str()), ("fails", "mes"));
    assert_eq!(firing[0].held.measured, Measured::Share { share: 5_000, limit: 2_000, of: 10 });
    assert_eq!(firing[0].fired_at, Some(at(10_045)), "when it was so for half a minute");
    store.watch_places(at(10_700)).expect("looked");
    assert!(alerts(&store, None).is_empty());
}

#[test]
fn what_was_told_while_it_went_on_is_counted_in_its_minute_when_it_is_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    let goes_on = crate::facts::Step::Open { work: crate::facts::Work::Answer };
    let told = |until, step| Fact { to: at(until), ..crate::testing::fact("1", 1, 10_000, "mes", step) };
    let open_work = |until| told(until, goes_on.clone());
    let told_over = told(10_030, crate::facts::Step::Open { work: crate::facts::Work::Over });
    let over = told(10_030, crate::facts::Step::Served { answer: Some(200), changes: true });
    let count = || -> i64 {
        let sum = "SELECT coalesce(sum(count), 0) FROM minutes";
        store.writer().query_row(sum, [], |row| row.get(0)).expect("counted")
    };
    for (fact, expected) in [
        (open_work(10_010), 0),
        (open_work(10_020), 0),
        (told_over.clone(), 0),
        (over.clone(), 1),
        (over, 1),
        (open_work(10_025), 1),
        (told_over, 1),
    ] {
        store.ingest(vec![fact], at(10_031)).expect("kept");
        assert_eq!(count(), expected);
    }
}

#[test]
fn what_is_counted_by_the_minute_is_bounded_and_takes_no_word_beyond() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    let served = |n: u64, name: &str, second: i64| {
        let step = crate::facts::Step::Served { answer: Some(200), changes: false };
        Fact { name: name.to_owned(), ..crate::testing::fact(&n.to_string(), n, second, "mes", step) }
    };
    store.ingest(vec![served(1, "GET /first", 10_000)], at(10_001)).expect("kept");
    let one = |sql: &str| -> i64 { store.writer().query_row(sql, [], |row| row.get(0)).expect("counted") };
    assert_eq!((one("SELECT count(*) FROM counted"), one("SELECT sum(count) FROM minutes")), (1, 1));
    // As if so many others were counted.
    store
        .writer()
        .execute_batch(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4999)
             INSERT INTO counted SELECT 4, 1000000 + n, 1, 166 FROM n;",
        )
        .expect("written");
    let words = one("SELECT n FROM words");
    store.ingest(vec![served(2, "GET /second", 10_000)], at(10_002)).expect("kept");
    assert_eq!((one("SELECT count(*) FROM counted"), one("SELECT sum(count) FROM minutes")), (5_000, 1));
    assert_eq!(one("SELECT n FROM words"), words, "no word for what is not counted");
    store.ingest(vec![served(3, "GET /first", 10_100)], at(10_101)).expect("kept");
    assert_eq!(one("SELECT sum(count) FROM minutes"), 2, "what is counted already counts on");
    // There is room again when nothing was counted of the others for as long as any rule looks back.
    store.watch_places(at(110_000)).expect("looked");
    assert_eq!(one("SELECT count(*) FROM counted"), 0);
    store.ingest(vec![served(4, "GET /second", 110_000)], at(110_001)).expect("kept");
    assert_eq!(one("SELECT sum(count) FROM minutes"), 1);
}

#[test]
fn what_people_wrote_is_sealed_and_leaves_with_the_person_and_the_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    let person = crate::facts::Person { role: crate::facts::PersonRole::User, id: "user-42".to_owned() };
    let facts = vec![Fact { people: vec![person], ..mes("ORDER-NUMBER-1", 1, 0, "new") }];
    store.ingest(facts, at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    let id = alerts(&store, None)[0].id;
    let note =
        Note { at: at(2_000), by: "ANNA-OF-SUPPORT".to_owned(), text: "called user-42 TWICE".to_owned() };
    store.acknowledge(id, note).expect("taken");
    let bytes = || {
        let files =
            fs::read_dir(folder.path()).expect("files").flatten().filter(|file| file.path().is_file());
        files.flat_map(|file| fs::read(file.path()).expect("a file")).collect::<Vec<u8>>()
    };
    let has = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
    for word in ["ORDER-NUMBER-1", "ANNA-OF-SUPPORT", "TWICE"] {
        assert!(!has(&bytes(), word), "{word} stands in the files");
    }
    store.forget_person("user-42", at(3_000)).expect("forgotten");
    assert_eq!(store.alert(id).expect("read").expect("it still fires").notes[0].text, "called … TWICE");
    store.forget_order(&Key::parse("ORDER-NUMBER-1").expect("a number"), at(3_001)).expect("forgotten");
    assert_eq!(store.alert(id).expect("read"), None);
    assert!(told(&store, "chat", at(9_000)).is_empty());
}

#[test]
fn a_person_leaves_what_was_written_about_alerts_of_orders_that_do_not_name_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new"), mes("2", 2, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    let note = |text: &str| Note { at: at(2_000), by: "support".to_owned(), text: text.to_owned() };
    let all = alerts(&store, None);
    assert_eq!(all.len(), 2);
    for alert in &all {
        store.acknowledge(alert.id, note("called anna-petrova of 7 on line 7")).expect("taken");
    }
    store.ingest(vec![mes("1", 3, 2_001, "priced")], at(2_002)).expect("kept");
    let texts = || -> Vec<String> {
        let read =
            |alert: &Alert| store.alert(alert.id).expect("read").expect("it is kept").notes[0].text.clone();
        all.iter().map(read).collect()
    };
    store.forget_person("7", at(3_000)).expect("forgotten");
    assert_eq!(
        texts(),
        ["called anna-petrova of 7 on line 7"; 2],
        "so short a number stands in texts by chance"
    );
    store.forget_person("anna-petrova", at(3_001)).expect("forgotten");
    assert_eq!(texts(), ["called … of 7 on line 7"; 2], "of the one that fires and of the one that is over");
    store.writer().execute("UPDATE alerts SET sealed = x'00' WHERE id = ?1", [all[0].id.0]).expect("damaged");
    assert_eq!(store.forget_person("anna-petrova", at(3_002)).expect("forgotten").unread, 1);
}

#[test]
fn a_person_leaves_what_stands_in_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    let step = crate::facts::Step::Served { answer: Some(200), changes: false };
    let by_name = Fact {
        name: "GET /users/anna-petrova/orders".to_owned(),
        ..crate::testing::fact("1", 1, 10_000, "shop", step)
    };
    let sent = crate::facts::Step::Published {
        destination: "notify.anna-petrova".to_owned(),
        outcome: crate::facts::Sent::Returned,
    };
    let sent = crate::testing::fact("2", 2, 10_000, "shop", sent);
    let taken = crate::facts::Step::Handled {
        queue: "mail.anna-petrova".to_owned(),
        settled: crate::facts::Settled::Acknowledged,
        redelivered: false,
    };
    let taken = crate::testing::fact("3", 3, 10_000, "mail", taken);
    let held = wrote("4", 4, 10_000, "other", "things", "held by anna-petrova");
    store.ingest(vec![by_name, sent, taken, held], at(10_001)).expect("kept");
    store.own_alert("channel-broken", "anna-petrova", true, at(10_002)).expect("written");
    let later = at(10_002).after(10 * 24 * HOUR);
    store.judge_due(later, 100).expect("judged");
    let groups = || -> Vec<String> {
        store.groups(10).expect("groups").into_iter().map(|group| group.group).collect()
    };
    assert!(groups().iter().any(|group| group == "returned notify.anna-petrova"), "{:?}", groups());
    let bytes = || fs::read(folder.path().join("journeys.db")).expect("a file");
    let has = |word: &str| bytes().windows(word.len()).any(|part| part == word.as_bytes());
    store.writer().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("written back");
    assert!(has("anna-petrova"), "or the test shows nothing");
    let before = store.usual();
    store.forget_person("anna-petrova", later).expect("forgotten");
    assert!(!has("anna-petrova"));
    assert!(!format!("{:?}", store.usual()).contains("anna-petrova"));
    let others =
        |usual: &Usual| usual.of(crate::model::Kind::Wrote).map(|(what, _)| what.clone()).collect::<Vec<_>>();
    assert_eq!(others(&store.usual()), others(&before), "what others taught stays");
    assert!(alerts(&store, None).iter().any(|alert| alert.held.place == "…"));
    assert!(groups().iter().any(|group| group == "returned notify.…"), "{:?}", groups());
    assert_eq!(store.check().expect("checked"), Vec::<String>::new());
    // Another start reads the same, and words are given no number that another one had.
    let known = store.usual();
    drop(store);
    assert_eq!(*open_store(folder.path()).usual(), *known);
}

#[test]
fn built_in_rules_only_inform_until_limits_are_learned() {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::from_bytes(&[7; 32]).expect("a key");
    let store = Sqlite::open(folder.path(), master, model()).expect("a store");
    store.watch(RuleSet::built_in(&model()).expect("rules"), at(0)).expect("watched");
    let day = 86_400;
    store.ingest(vec![mes("1", 1, 10 * day, "new")], at(10 * day)).expect("kept");
    store.judge_due(at(10 * day + 2_000), 100).expect("judged");
    assert_eq!(alerts(&store, None)[0].severity, Severity::Info);
    store.ingest(vec![mes("2", 2, 18 * day, "new")], at(18 * day)).expect("kept");
    store.judge_due(at(18 * day + 2_000), 100).expect("judged");
    assert_eq!(alerts(&store, None)[0].severity, Severity::Warning);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A trial over what is kept says what running said, whatever came first and however often.
    #[test]
    fn a_trial_of_the_past_says_what_running_said(
        steps in proptest::collection::vec((0_u64..4, 0_i64..20_000, 0_usize..5), 1..14),
    ) {
        let statuses = ["new", "priced", "started", "failed", "submitted"];
        let mut facts: Vec<Fact> = steps.iter().enumerate().map(|(n, (order, second, status))| {
            mes(&order.to_string(), n as u64 + 1, *second, statuses[*status])
        }).collect();
        facts.sort_by_key(|fact| fact.to);
        let folder = tempfile::tempdir().expect("a folder");
        let store = open_store(folder.path());
        let end = at(300_000);
        let mut coming = facts.clone().into_iter().peekable();
        // Facts come as they happen, due orders are looked at when they are due: as a running server does, only exactly.
        let mut now = At(0);
        while now < end {
            let due: Option<i64> = store.writer().query_row("SELECT min(due_at) FROM orders WHERE joined_to IS NULL", [], |row| row.get(0)).expect("due");
            let next = coming.peek().map(|fact| fact.to).into_iter().chain(due.map(At)).filter(|next| *next <= end).min();
            let Some(next) = next else { break };
            now = next;
            while coming.peek().is_some_and(|fact| fact.to <= now) {
                let fact = coming.next().expect("peeked");
                store.ingest(vec![fact.clone()], now).expect("kept");
                store.ingest(vec![fact], now).expect("kept");
            }
            store.judge_due(now, 100).expect("judged");
        }
        let mut run: Vec<(At, String, String, Option<At>)> = Vec::new();
        for state in [State::Firing, State::Resolved] {
            let all = store.reading(|db| {
                let found: Vec<Raw> = db.prepare(&format!("{ALERTS} WHERE state = ?1 AND is_group = 0"))
                    .and_then(|mut statement| statement.query_map([state_number(state)], raw)?.collect())
                    .map_err(doing("cannot list"))?;
                Ok(found)
            }).expect("alerts");
            for one in all {
                let kept = open(&store.keys, one).expect("opened");
                run.push((kept.life.fired_at.expect("fired"), kept.rule, kept.sealed.number, kept.life.resolved_at));
            }
        }
        run.sort();
        let (set, model, usual) = (RuleSet::parse(FILE, &model()).expect("rules"), model(), Usual::default());
        let mut trial = Trial::new(&set, &model, &usual, At(i64::MIN), end);
        for order in 0..4 {
            let order = order.to_string();
            let own: Vec<Fact> = facts.iter().filter(|fact| fact.key.value == order).cloned().collect();
            if !own.is_empty() {
                trial.order(own);
            }
        }
        let tried = trial.finish().into_iter().filter(|one| one.order.is_some());
        let mut tried: Vec<_> = tried
            .map(|Warned { fired_at, rule, order, resolved_at, .. }| (fired_at, rule, order.expect("one").to_string(), resolved_at))
            .collect();
        tried.sort();
        prop_assert_eq!(run, tried);
    }
}

#[test]
fn an_agent_that_is_silent_is_told_once_until_it_is_back_also_over_a_restart() {
    use crate::facts::Beat;
    let folder = tempfile::tempdir().expect("a folder");
    let beat = || Beat {
        agent: "1".to_owned(),
        node: "n3".to_owned(),
        every: 30 * SECOND,
        services: vec!["mes".to_owned()],
    };
    let firing =
        |store: &Sqlite| alerts(store, None).iter().filter(|alert| alert.rule == "agent-silent").count();
    let store = open_store(folder.path());
    let now = crate::intake::now();
    store.alive(vec![beat()], now).expect("kept");
    store.watch_agents(now.after(89 * SECOND)).expect("looked");
    assert_eq!(firing(&store), 0);
    store.watch_agents(now.after(90 * SECOND)).expect("looked");
    store.watch_agents(now.after(100 * SECOND)).expect("looked");
    store.watch_places(now.after(105 * SECOND)).expect("looked");
    assert_eq!(firing(&store), 1);
    store.alive(vec![beat()], now.after(110 * SECOND)).expect("kept");
    store.watch_agents(now.after(111 * SECOND)).expect("looked");
    assert_eq!(firing(&store), 0);
    assert_eq!(alerts(&store, Some(State::Resolved)).len(), 1);
    drop(store);
    // Nobody could be heard by a server that was not there.
    let store = open_store(folder.path());
    assert_eq!(store.usual().agents.get("1").map(|agent| agent.at), Some(now.after(110 * SECOND)));
    let begun = store.usual().agents.get("1").map(|agent| agent.awaited_from).expect("an agent");
    let now = begun.max(now.after(110 * SECOND));
    store.watch_agents(now.after(89 * SECOND)).expect("looked");
    assert_eq!(firing(&store), 0);
    store.watch_agents(now.after(90 * SECOND)).expect("looked");
    assert_eq!(firing(&store), 1);
}
