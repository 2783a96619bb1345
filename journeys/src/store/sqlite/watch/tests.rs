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
    store.watch(RuleSet::parse(FILE, &model()).expect("rules")).expect("watched");
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
    assert_eq!(told(&store, "chat", at(3_000)), [(What::Resolved, "0 orders".to_owned())]);
    assert!(alerts(&store, None).is_empty());
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
    assert!(
        !heard.is_empty()
            && heard.iter().all(|(what, number)| *what == What::Still && *number == snoozed.number)
    );
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
fn other_rules_look_at_all_orders_again_and_those_that_are_gone_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_store(folder.path());
    store.ingest(vec![mes("1", 1, 0, "new")], at(1)).expect("kept");
    store.judge_due(at(1_900), 100).expect("judged");
    assert_eq!(alerts(&store, None).len(), 1);
    let without = FILE.replace("{ id: stage-late, severity: warning }", "{ id: stage-late, off: true }");
    store.watch(RuleSet::parse(&without, &model()).expect("rules")).expect("watched");
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
    store.watch(RuleSet::parse(&file, &model()).expect("rules")).expect("watched");
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
fn built_in_rules_only_inform_until_limits_are_learned() {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::from_bytes(&[7; 32]).expect("a key");
    let store = Sqlite::open(folder.path(), master, model()).expect("a store");
    store.watch(RuleSet::built_in(&model()).expect("rules")).expect("watched");
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
