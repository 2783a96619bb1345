use proptest::prelude::*;

use super::*;
use crate::facts::{Fact, Settled, Step, Trouble, TroubleKind, Work};
use crate::fold::{self, Gathered};
use crate::model::{Times, What, class};
use crate::rules::{RuleSet, When};
use crate::testing::{fact, wrote};
use crate::time::{HOUR, SECOND};

fn model() -> Model {
    Model::parse(include_str!("../../../../deploy/journeys/model.yaml")).expect("the demo's model")
}

/// A rule, given as a line of YAML, and an order of some facts.
struct Looked {
    model: Model,
    set: RuleSet,
    journey: Journey,
}

impl Looked {
    fn new(rule: &str, facts: &[Fact]) -> Self {
        let model = model();
        let calendars = "calendars: { workshop: { zone: UTC, hours: 'Mon-Fri 09:00-18:00' } }";
        let set =
            RuleSet::parse(&format!("{calendars}\nrules:\n  - {{ id: x, {rule} }}"), &model).expect(rule);
        let (gathered, _) = Gathered::default().with(facts.to_vec());
        let journey = fold::journey(&gathered, &model);
        Self { model, set, journey }
    }

    /// How the order stands to the rule at a second, and when to look again.
    fn look(&self, usual: &Usual, at: i64) -> (Standing, Option<At>) {
        let Self { model, set, journey } = self;
        let rule = set.rule("x").expect("the rule");
        let When::Order(when) = &rule.when else { panic!("{rule:?}") };
        let now = At(at * SECOND).after(FACT_MICROS);
        let verdict = fold::verdict(journey, model, usual, now);
        let standing = stand(when, &rule.filter, &Subject { journey, verdict: &verdict, model, usual }, now);
        let next = standing.next().into_iter().chain(verdict.due).min();
        (standing, next)
    }
}

fn standing(rule: &str, facts: &[Fact], usual: &Usual, at: i64) -> Standing {
    Looked::new(rule, facts).look(usual, at).0
}

/// A fact lasts ten milliseconds, and a look at a second comes when what began with it is over.
const FACT_MICROS: i64 = 10_000;

/// The first second at which a look comes not before this time.
fn second_of(due: At) -> i64 {
    let after = due.0 - FACT_MICROS;
    after.div_euclid(SECOND) + i64::from(after.rem_euclid(SECOND) != 0)
}

/// Since when it is too much, in seconds, and where; or when to look again.
fn told(rule: &str, facts: &[Fact], at: i64) -> Result<(i64, String), Option<i64>> {
    match standing(rule, facts, &Usual::default(), at) {
        Standing::Holds(held) => Ok((held.due.0 / SECOND, held.place)),
        other => Err(other.next().map(|next| next.0 / SECOND)),
    }
}

fn mes(id: u64, at: i64, status: &str) -> Fact {
    wrote("1", id, at, "mes", "mes_orders", status)
}

fn shop(id: u64, at: i64, status: &str) -> Fact {
    wrote("1", id, at, "shop", "orders", status)
}

#[test]
fn an_age_is_too_much_from_its_limit_on_and_not_before() {
    let facts = [mes(1, 100, "new")];
    let rule = "when: stage_age, stage: pricing, limit: 30m";
    assert_eq!(told(rule, &facts, 1_899), Err(Some(1_900)));
    assert_eq!(told(rule, &facts, 1_900), Ok((1_900, "pricing".to_owned())));
    assert_eq!(told("when: stage_age, limit: stage", &facts, 1_900), Ok((1_900, "pricing".to_owned())));
    assert_eq!(told("when: stage_age, stage: priced, limit: 30m", &facts, 9_000), Err(None));
    assert_eq!(told("when: stage_age, limit: stage", &[shop(1, 100, "created")], 9_000), Err(None));
    let over = [mes(1, 100, "new"), mes(2, 200, "finished")];
    assert_eq!(told("when: stage_age, limit: 1m", &over, 9_000), Err(None), "the end is no stage to wait at");
    let refused = [mes(1, 100, "new"), mes(2, 200, "rejected")];
    assert_eq!(told("when: stage_age, limit: 1m", &refused, 9_000), Err(None), "another rule says so");
}

#[test]
fn work_that_is_done_again_begins_again() {
    let facts = [mes(1, 100, "new"), mes(2, 200, "priced"), mes(3, 5_000, "new")];
    let rule = "when: stage_age, stage: pricing, limit: 30m";
    assert_eq!(told(rule, &facts, 6_000), Err(Some(6_800)));
}

#[test]
fn working_time_stands_still_at_night() {
    // Monday 1970-01-05, 17:50.
    let start = 4 * 86_400 + 17 * 3_600 + 3_000;
    let facts = [mes(1, start, "new")];
    let rule = "when: stage_age, stage: pricing, limit: 30m, calendar: workshop";
    assert_eq!(told(rule, &facts, start + 3_600), Err(Some(5 * 86_400 + 9 * 3_600 + 1_200)));
}

#[test]
fn a_limit_that_is_learned_sleeps_first_and_is_looked_at_again_and_again() {
    let facts = [mes(1, 0, "new")];
    let usual = |count| {
        let mut times = Times::default();
        times.add(class(1_000 * SECOND), count, 0);
        let what = What { kind: Kind::Stage, of: "pricing".to_owned(), with: "priced".to_owned() };
        Usual { times: [(what, times.into())].into(), ..Usual::default() }
    };
    let rule = "when: no_progress, limit: usual * 3";
    let Standing::Sleeps { next } = standing(rule, &facts, &usual(49), 10) else { panic!("too few") };
    assert_eq!(next, Some(At(10 * SECOND + HOUR).after(10_000)));
    let Standing::Quiet { next: Some(next) } = standing(rule, &facts, &usual(50), 1_000) else { panic!() };
    let (next, due) = (next.0 / SECOND, 3_000);
    assert!((next - (1_000 + (due - 1_000) / 2)).abs() < 150, "half of the way to the limit: {next}");
    assert!(matches!(standing(rule, &facts, &usual(50), 3_300), Standing::Holds(_)));
}

#[test]
fn a_message_that_nobody_takes_waits_only_where_messages_are_taken() {
    let sent = |outcome| Step::Published { destination: "orders".to_owned(), outcome };
    let facts = [fact("1", 1, 100, "crm", sent(Sent::Confirmed))];
    let usual = Usual { destinations: [("orders".to_owned(), (1_000, 1_000))].into(), ..Usual::default() };
    let rule = "when: message_waits, queue: '*', limit: 5m";
    assert!(matches!(standing(rule, &facts, &Usual::default(), 9_000), Standing::Quiet { next: None }));
    assert_eq!(standing(rule, &facts, &usual, 399).next(), Some(At(400 * SECOND)));
    assert!(matches!(standing(rule, &facts, &usual, 400), Standing::Holds(held) if held.place == "orders"));
    assert_eq!(standing("when: message_waits, queue: x, limit: 5m", &facts, &usual, 400), Standing::NEVER);
    let taken = Step::Handled { queue: "q".to_owned(), settled: Settled::Acknowledged, redelivered: false };
    let taken = Fact { parent: Some(1_u64.to_be_bytes()), ..fact("1", 2, 110, "mes", taken) };
    assert_eq!(standing(rule, &[facts[0].clone(), taken], &usual, 9_000), Standing::NEVER);
    let returned = [fact("1", 1, 100, "crm", sent(Sent::Returned))];
    assert_eq!(
        standing(rule, &returned, &usual, 9_000),
        Standing::NEVER,
        "it is lost, which is another rule"
    );
    assert_eq!(told("when: lost", &returned, 159), Err(Some(160)));
    assert_eq!(told("when: lost", &returned, 160), Ok((160, "orders".to_owned())));
}

#[test]
fn a_failure_is_told_when_nothing_followed_it() {
    let trouble = Trouble { kind: TroubleKind::Http, code: "503".to_owned(), message: String::new() };
    let called = Step::Served { answer: Some(503), changes: true };
    let facts = [shop(1, 50, "created"), Fact { trouble: Some(trouble), ..fact("1", 2, 100, "crm", called) }];
    let rule = "when: enters, outcome: failed";
    assert_eq!(told(rule, &facts, 120), Err(Some(160)));
    assert_eq!(told(rule, &facts, 161), Ok((160, "crm".to_owned())));
    assert!(told(rule, &facts, 100 + 8 * 86_400).is_err(), "it is over after a week");
}

#[test]
fn what_happened_is_told_for_a_while() {
    for (rule, facts, due, place) in [
        ("when: backwards", vec![mes(1, 1, "priced"), mes(2, 2, "new")], 2, "mes"),
        ("when: enters, stage: started", vec![mes(1, 1, "priced"), mes(2, 5, "started")], 5, "started"),
        (
            "when: skipped, stage: confirmed, before: started",
            vec![mes(1, 1, "new"), mes(2, 7, "started")],
            7,
            "confirmed",
        ),
        (
            "when: repeated, record: mes, to: started",
            vec![mes(1, 1, "started"), mes(2, 9, "started")],
            9,
            "mes",
        ),
        (
            "when: repeated, to: started",
            vec![mes(1, 1, "started"), mes(2, 2, "priced"), mes(3, 8, "started")],
            8,
            "mes",
        ),
        ("when: unknown_status", vec![mes(1, 3, "halted")], 3, "mes"),
    ] {
        assert_eq!(told(rule, &facts, 10), Ok((due, place.to_owned())), "{rule}");
        let later = told(rule, &facts, 10 + 8 * 86_400);
        assert!(later.is_err(), "{rule}: it is not told for ever");
    }
}

#[test]
fn what_did_not_happen_is_not_told() {
    for (rule, facts) in [
        ("when: backwards", vec![mes(1, 1, "new"), mes(2, 2, "priced")]),
        ("when: backwards", vec![mes(1, 1, "new"), mes(2, 2, "failed"), mes(3, 3, "new")]),
        ("when: enters, stage: started", vec![mes(1, 1, "priced")]),
        ("when: skipped, stage: confirmed, before: started", vec![mes(1, 1, "new"), mes(2, 7, "priced")]),
        ("when: skipped, stage: pricing", vec![mes(1, 1, "new"), mes(2, 7, "started")]),
        ("when: repeated, record: mes, to: started", vec![mes(1, 1, "started"), mes(2, 2, "finished")]),
        ("when: repeated, record: shop, to: started", vec![mes(1, 1, "started"), mes(2, 2, "started")]),
        ("when: unknown_status", vec![mes(1, 1, "new"), wrote("1", 2, 2, "other", "table", "halted")]),
        ("when: enters_queue, queue: '*.dead'", vec![mes(1, 1, "new")]),
    ] {
        assert!(told(rule, &facts, 10).is_err(), "{rule}: {facts:?}");
    }
}

#[test]
fn systems_that_disagree_are_told_when_the_limit_is_over() {
    let facts = [
        mes(1, 100, "priced"),
        shop(2, 50, "submitted"),
        wrote("1", 3, 60, "crm", "crm_orders", "confirmed"),
    ];
    let rule = "when: disagree, records: [mes, shop], limit: 5m";
    assert_eq!(told(rule, &facts, 399), Err(Some(400)));
    assert_eq!(told(rule, &facts, 400), Ok((400, "shop".to_owned())));
    assert_eq!(told("when: disagree, records: [mes, mes], limit: 5m", &facts, 400), Err(None));
}

#[test]
fn a_filter_takes_orders_of_these_partners_only() {
    let partner = |id: &str| Person { role: PersonRole::Partner, id: id.to_owned() };
    let of = |id: &str| [Fact { people: vec![partner(id)], ..mes(1, 0, "new") }];
    let rule = "when: stage_age, limit: 1m, filter: { partner: ['12', '14'] }";
    assert!(told(rule, &of("14"), 100).is_ok());
    assert_eq!(told(rule, &of("15"), 100), Err(None));
}

/// Rules of all kinds with times of their own.
const RULES: &[&str] = &[
    "when: stage_age, limit: 10m",
    "when: stage_age, limit: stage",
    "when: no_progress, limit: 25m",
    "when: stage_age, limit: 1h, calendar: workshop",
    "when: disagree, limit: 5m",
    "when: enters, outcome: failed",
    "when: enters, outcome: stuck",
    "when: lost",
    "when: backwards, lasts: 1h",
    "when: unknown_status, lasts: 30m",
    "when: enters, stage: started, lasts: 2h",
];

fn some_fact() -> impl Strategy<Value = Fact> {
    let statuses = ["new", "priced", "started", "halted", "failed", "submitted", "created"];
    (1_u64..40, 0_i64..20_000, 0_usize..statuses.len(), 0_usize..5).prop_map(move |(id, at, status, kind)| {
        let trouble = Trouble { kind: TroubleKind::Http, code: "503".to_owned(), message: String::new() };
        match kind {
            0 => Fact {
                trouble: Some(trouble),
                ..fact("1", id, at, "crm", Step::Served { answer: Some(503), changes: true })
            },
            1 => fact(
                "1",
                id,
                at,
                "crm",
                Step::Published { destination: "orders".to_owned(), outcome: Sent::Returned },
            ),
            2 => shop(id, at, statuses[status]),
            _ => mes(id, at, statuses[status]),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nobody who looked at every moment would see it earlier than who comes at the times that are named.
    #[test]
    fn a_look_at_the_named_times_misses_nothing(
        facts in proptest::collection::vec(some_fact(), 1..8), rule in 0_usize..RULES.len(),
    ) {
        let rule = RULES[rule];
        let last = facts.iter().map(|fact| fact.to.0 / SECOND + 1).max().unwrap_or(0);
        let (order, usual) = (Looked::new(rule, &facts), Usual::default());
        let holds = |at: i64| matches!(order.look(&usual, at).0, Standing::Holds(_));
        let (mut now, mut state) = (last, holds(last));
        let mut next = order.look(&usual, now).1;
        for at in (last..last + 2 * 86_400).step_by(600) {
            while let Some(due) = next.map(second_of) {
                if due > at || due <= now { break; }
                now = due;
                state = holds(now);
                next = order.look(&usual, now).1;
            }
            prop_assert_eq!(holds(at), state, "{} at {}, last looked at {}, next {:?}", rule, at, now, next);
        }
    }

    /// Facts in any order, and twice, make the same alert.
    #[test]
    fn facts_in_any_order_stand_the_same(
        facts in proptest::collection::vec(some_fact(), 1..8), rule in 0_usize..RULES.len(), at in 0_i64..100_000,
    ) {
        // One span is one fact.
        let mut facts = facts;
        facts.sort_by_key(|fact| fact.id);
        facts.dedup_by_key(|fact| fact.id);
        let mut turned: Vec<Fact> = facts.iter().rev().cloned().collect();
        turned.extend(facts.clone());
        let rule = RULES[rule];
        prop_assert_eq!(
            standing(rule, &facts, &Usual::default(), at),
            standing(rule, &turned, &Usual::default(), at)
        );
    }
}

/// Work that goes on from second 100 on, told at second `told`.
fn goes_on(id: u64, told: i64, service: &str, work: Work) -> Fact {
    Fact { to: At(told * SECOND), ..fact("1", id, 100, service, Step::Open { work }) }
}

#[test]
fn what_hangs_is_told_from_when_it_hangs_and_where() {
    let call = || Work::Call { peer: "api.dpd.ru".to_owned() };
    let waits = || Work::Waiting {
        queue: Some("mes.orders.7".to_owned()),
        destination: "orders".to_owned(),
        consumers: None,
        depth: None,
    };
    let takes = || Work::Handling { queue: "mes.orders.7".to_owned(), redelivered: false };
    let usual = |kind, of: &str, with: &str| {
        let mut usual = Usual::default();
        let what = What { kind, of: of.to_owned(), with: with.to_owned() };
        usual.add(&what, class(60 * SECOND), 30, 0);
        usual
    };
    for (work, usual, place) in [
        (call(), usual(Kind::Called, "crm", "api.dpd.ru"), "crm"),
        (waits(), usual(Kind::Queue, "mes.orders.#", ""), "mes.orders.#"),
        (takes(), usual(Kind::Taken, "mes.orders.#", "crm"), "mes.orders.#"),
    ] {
        let rule = "when: enters, outcome: stuck";
        let facts = |told| [mes(1, 90, "new"), goes_on(2, told, "crm", work.clone())];
        let Standing::Holds(held) = standing(rule, &facts(290), &usual, 300) else { panic!("{work:?}") };
        let hangs_from = held.due.0 / SECOND - 100;
        assert!((115..=125).contains(&hangs_from), "twice as long as usual: {hangs_from} s, {work:?}");
        assert_eq!((held.place.as_str(), held.since), (place, held.due), "{work:?}");
        let early = standing(rule, &facts(190), &usual, 200);
        assert!(matches!(early, Standing::Quiet { next: Some(_) }), "as long as usual: {early:?}");
    }
}

#[test]
fn what_is_lost_is_where_it_was_lost_whichever_rule_asks() {
    let sent = Step::Published { destination: "orders.7".to_owned(), outcome: Sent::Returned };
    let facts = [mes(1, 90, "new"), fact("1", 2, 100, "crm", sent)];
    let until = 100 + model().retry_within.0 / SECOND;
    for rule in ["when: lost", "when: enters, outcome: lost"] {
        assert_eq!(told(rule, &facts, until), Ok((until, "orders.#".to_owned())), "{rule}");
    }
}

#[test]
fn a_message_that_was_not_settled_is_told_from_when_nobody_tried_again() {
    let sent = Step::Published { destination: "orders".to_owned(), outcome: Sent::Confirmed };
    let taken = Step::Handled { queue: "q".to_owned(), settled: Settled::Unknown, redelivered: false };
    // It was worked on for 50 s.
    let taken =
        Fact { parent: Some(1_u64.to_be_bytes()), to: At(160 * SECOND), ..fact("1", 2, 110, "mes", taken) };
    let facts = [fact("1", 1, 100, "crm", sent), taken];
    let until = 160 + model().retry_within.0 / SECOND;
    let rule = "when: enters, outcome: stuck";
    assert!(told(rule, &facts, until - 1).is_err());
    assert_eq!(told(rule, &facts, until), Ok((until, "q".to_owned())));
}

#[test]
fn a_name_that_traffic_gave_is_a_place_without_addresses_of_mail() {
    let name = || "notify.anna@example.org".to_owned();
    let sent = |outcome| fact("1", 1, 100, "crm", Step::Published { destination: name(), outcome });
    let handled = |settled| {
        let step = Step::Handled { queue: name(), settled, redelivered: false };
        Fact { parent: Some(1_u64.to_be_bytes()), ..fact("1", 2, 110, "mes", step) }
    };
    let usual = Usual { destinations: [("#".to_owned(), (1_000, 1_000))].into(), ..Usual::default() };
    for (rule, facts) in [
        ("when: message_waits, queue: 'notify.*', limit: 5m", vec![sent(Sent::Confirmed)]),
        ("when: lost", vec![sent(Sent::Returned)]),
        ("when: lost", vec![sent(Sent::Confirmed), handled(Settled::Rejected)]),
        ("when: enters, outcome: stuck", vec![sent(Sent::Confirmed), handled(Settled::Unknown)]),
        (
            "when: enters_queue, queue: 'notify.*'",
            vec![sent(Sent::Confirmed), handled(Settled::Acknowledged)],
        ),
    ] {
        let standing = standing(rule, &facts, &usual, 9_000);
        assert!(matches!(&standing, Standing::Holds(held) if held.place == "#"), "{rule}: {standing:?}");
    }
}
