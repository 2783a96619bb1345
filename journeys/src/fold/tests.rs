use proptest::prelude::*;

use super::*;
use crate::facts::{End, Step, Transaction, TroubleKind};
use crate::model::Usual;
use crate::testing;
use crate::time::{DAY, MINUTE, SECOND as S};

/// A fact of order 7.
fn fact(id: u8, at: i64, service: &str, step: Step) -> Fact {
    testing::fact("7", u64::from(id), at, service, step)
}

fn wrote(id: u8, at: i64, service: &str, table: &str, status: &str) -> Fact {
    testing::wrote("7", u64::from(id), at, service, table, status)
}

fn in_transaction(mut fact: Fact, number: i64) -> Fact {
    if let Step::Wrote { transaction, .. } = &mut fact.step {
        *transaction = Some(Transaction::Number(number));
    }
    fact
}

fn ended(id: u8, at: i64, service: &str, number: i64, how: End) -> Fact {
    fact(id, at, service, Step::Ended { transaction: Transaction::Number(number), how })
}

fn failed(mut fact: Fact, kind: TroubleKind, code: &str) -> Fact {
    fact.trouble = Some(Trouble { kind, code: code.to_owned(), message: String::new() });
    fact
}

fn below(mut fact: Fact, parent: u8) -> Fact {
    fact.parent = Some([0, 0, 0, 0, 0, 0, 0, parent]);
    fact
}

fn told(facts: &[Fact]) -> Journey {
    journey(&gather(facts.to_vec()), &Model::default())
}

/// `record: a → b → c` for each record.
fn chains(journey: &Journey) -> Vec<String> {
    let chain = |record: &Record| {
        let values: Vec<&str> = record.changes.iter().map(|change| change.to.as_str()).collect();
        format!("{}: {}", record.name(), values.join(" → "))
    };
    journey.records.iter().map(chain).collect()
}

fn judged(facts: &[Fact], at: i64) -> Verdict {
    verdict(&told(facts), &Model::default(), &Usual::default(), At(at * S))
}

#[test]
fn a_write_changes_a_status_and_a_read_does_not() {
    let read = |id, at, status: &str| Fact {
        step: Step::Read { collection: "orders".to_owned() },
        ..wrote(id, at, "shop", "orders", status)
    };
    let asked = |id, at, status: &str| Fact {
        step: Step::Served { answer: Some(200), changes: false },
        ..wrote(id, at, "shop", "orders", status)
    };
    let journey = told(&[
        wrote(1, 1, "shop", "orders", "created"),
        read(2, 2, "created"),
        wrote(3, 3, "shop", "orders", "submitted"),
        // Read before the write above was there, answered after it.
        asked(4, 4, "created"),
        wrote(5, 5, "shop", "orders", "submitted"),
    ]);
    assert_eq!(chains(&journey), ["shop.orders: created → submitted"]);
    assert_eq!(journey.records[0].repeated, 1);
    assert_eq!(journey.records[0].changes[1].from.as_deref(), Some("created"));
}

#[test]
fn each_system_has_its_own_chain_in_the_order_in_which_they_began() {
    let journey = told(&[
        wrote(1, 1, "shop", "orders", "created"),
        wrote(2, 2, "crm", "crm_orders", "new"),
        wrote(3, 3, "shop", "orders", "submitted"),
        wrote(4, 4, "crm", "crm_orders", "confirmed"),
    ]);
    assert_eq!(chains(&journey), ["shop.orders: created → submitted", "crm.crm_orders: new → confirmed"]);
}

#[test]
fn a_transaction_decides_whether_a_change_holds() {
    let write = in_transaction(wrote(1, 1, "crm", "crm_orders", "confirmed"), 4);
    let before = wrote(9, 0, "crm", "crm_orders", "new");
    let statement_failed =
        failed(in_transaction(wrote(3, 2, "crm", "crm_events", "x"), 4), TroubleKind::Sql, "23514");
    for (what, others, expected) in [
        ("committed", vec![ended(2, 3, "crm", 4, End::Committed)], Some((Certainty::Committed, 3))),
        ("rolled back", vec![ended(2, 3, "crm", 4, End::RolledBack)], None),
        ("its end was not seen", vec![], Some((Certainty::Written, 1))),
        (
            "another transaction was rolled back",
            vec![ended(2, 3, "crm", 5, End::RolledBack)],
            Some((Certainty::Written, 1)),
        ),
        (
            "another service's was",
            vec![ended(2, 3, "shop", 4, End::RolledBack)],
            Some((Certainty::Written, 1)),
        ),
        ("a statement of it failed", vec![statement_failed, ended(2, 3, "crm", 4, End::Committed)], None),
        // The number is used again on another connection of the same process.
        (
            "the next one with its number was rolled back",
            vec![ended(2, 3, "crm", 4, End::Committed), ended(4, 5, "crm", 4, End::RolledBack)],
            Some((Certainty::Committed, 3)),
        ),
    ] {
        let facts: Vec<Fact> = [before.clone(), write.clone()].into_iter().chain(others).collect();
        let journey = told(&facts);
        let change = journey.records[0].changes.iter().find(|change| change.to == "confirmed");
        let found = change.map(|change| (change.certainty, change.at.0 / S));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn two_changes_of_one_transaction_keep_the_order_of_their_statements() {
    let first = in_transaction(wrote(9, 1, "mes", "mes_orders", "new"), 3);
    let second = in_transaction(wrote(1, 2, "mes", "mes_orders", "priced"), 3);
    let journey = told(&[second, first, ended(5, 3, "mes", 3, End::Committed)]);
    assert_eq!(chains(&journey), ["mes.mes_orders: new → priced"]);
}

#[test]
fn an_end_of_the_same_request_counts_before_one_that_is_nearer() {
    let write = below(in_transaction(wrote(1, 1, "mes", "mes_orders", "priced"), 3), 10);
    let other = below(ended(2, 2, "mes", 3, End::RolledBack), 20);
    let own = below(ended(3, 3, "mes", 3, End::Committed), 10);
    let journey = told(&[write, other, own]);
    assert_eq!(chains(&journey), ["mes.mes_orders: priced"]);
}

#[test]
fn a_transaction_with_an_identity_needs_no_end() {
    let step = |how| Step::Wrote {
        collection: "mes_orders".to_owned(),
        rows: 1,
        transaction: Some(Transaction::Id("ab".to_owned(), how)),
    };
    let write = wrote(1, 1, "mes", "mes_orders", "priced");
    for (how, certainty) in [
        (Some(End::Committed), Some(Certainty::Committed)),
        (Some(End::RolledBack), None),
        (Some(End::Unknown), Some(Certainty::Written)),
        (None, Some(Certainty::Written)),
    ] {
        let journey = told(&[Fact { step: step(how), ..write.clone() }]);
        assert_eq!(journey.records.first().map(|record| record.changes[0].certainty), certainty, "{how:?}");
    }
}

#[test]
fn a_write_that_finds_no_row_is_an_order_that_system_does_not_have() {
    let mut write = wrote(2, 2, "crm", "crm_orders", "priced");
    write.step = Step::Wrote { collection: "crm_orders".to_owned(), rows: 0, transaction: None };
    let facts = [wrote(1, 1, "mes", "mes_orders", "priced"), write];
    assert_eq!(chains(&told(&facts)), ["mes.mes_orders: priced"]);
    let verdict = judged(&facts, 200);
    assert_eq!(verdict.outcome, Outcome::Lost);
    assert!(matches!(&verdict.reason, Reason::Lost(Lost::NoSuchOrder { service, .. }) if service == "crm"));
}

#[test]
fn a_table_of_events_is_not_a_second_system() {
    let journey = told(&[
        wrote(1, 1, "shop", "orders", "created"),
        wrote(2, 1, "shop", "order_events", "created"),
        wrote(3, 9, "crm", "crm_events", "confirmed"),
    ]);
    assert_eq!(chains(&journey), ["shop.orders: created", "crm.crm_events: confirmed"]);
}

#[test]
fn a_system_without_a_visible_database_has_what_it_was_told() {
    let put = Fact {
        step: Step::Served { answer: Some(204), changes: true },
        ..wrote(1, 1, "erp", "", "invoiced")
    };
    let refused =
        Fact { step: Step::Served { answer: Some(409), changes: true }, ..wrote(2, 2, "erp", "", "paid") };
    let journey = told(&[put, refused]);
    assert_eq!(chains(&journey), ["erp.api: invoiced"]);
    assert_eq!(journey.records[0].changes[0].certainty, Certainty::Announced);
}

#[test]
fn a_message_is_followed_to_its_consumer_and_its_dead_letter_queue() {
    let sent = fact(
        1,
        1,
        "crm",
        Step::Published { destination: "orders:confirmed".to_owned(), outcome: Sent::Confirmed },
    );
    let waited =
        below(fact(2, 2, "rabbitmq", Step::Waited { queue: "mes.orders".to_owned(), died: None }), 1);
    let handled = |id, at, settled| {
        fact(id, at, "mes", Step::Handled { queue: "mes.orders".to_owned(), settled, redelivered: false })
    };
    let dead = Died { queue: "mes.orders".to_owned(), reason: "rejected".to_owned() };
    let in_dead =
        below(fact(4, 4, "rabbitmq", Step::Waited { queue: "dead".to_owned(), died: Some(dead) }), 1);
    let facts = [sent, waited, below(handled(3, 3, Settled::Rejected), 2), in_dead];
    let journey = told(&facts);
    assert_eq!(journey.messages.len(), 1);
    let message = &journey.messages[0];
    assert_eq!(
        message.waited.iter().map(|wait| wait.queue.as_str()).collect::<Vec<_>>(),
        ["mes.orders", "dead"]
    );
    assert_eq!(message.handled[0].settled, Settled::Rejected);
    let verdict = judged(&facts, 100);
    let Reason::Lost(Lost::Rejected { queue, dead_letter, .. }) = verdict.reason else {
        panic!("not lost: {verdict:?}")
    };
    assert_eq!((queue.as_str(), dead_letter.as_deref()), ("mes.orders", Some("dead")));
}

#[test]
fn a_message_nobody_took_is_lost_only_where_messages_are_seen_to_be_taken() {
    let facts =
        [fact(1, 1, "crm", Step::Published { destination: "orders".to_owned(), outcome: Sent::Confirmed })];
    let judge = |published, delivered| {
        let usual = Usual {
            destinations: [("orders".to_owned(), (published, delivered))].into(),
            ..Usual::default()
        };
        verdict(&told(&facts), &Model::default(), &usual, At(200 * S)).outcome
    };
    assert_eq!(judge(1_000, 999), Outcome::Lost);
    assert_eq!(judge(1_000, 500), Outcome::Moving, "half of them are not visible here");
    assert_eq!(judge(10, 10), Outcome::Moving, "ten prove nothing");
}

#[test]
fn a_failure_below_another_is_the_one_that_counts() {
    let facts = [
        failed(
            fact(1, 1, "shop", Step::Served { answer: Some(500), changes: true }),
            TroubleKind::Http,
            "500",
        ),
        below(failed(wrote(2, 1, "shop", "production", "x"), TroubleKind::Sql, "23514"), 1),
    ];
    let journey = told(&facts);
    let open: Vec<&str> =
        journey.incidents.iter().filter(|one| !one.passed_on).map(|one| one.trouble.code.as_str()).collect();
    assert_eq!(open, ["23514"]);
    assert!(matches!(judged(&facts, 30).reason, Reason::Moving { .. }), "a retry may be under way");
    assert!(matches!(judged(&facts, 90).reason, Reason::Broke { by, .. } if by.trouble.code == "23514"));
}

#[test]
fn a_later_success_resolves_a_failure() {
    let answer = |id, at, code| {
        let step = Step::Served { answer: Some(code), changes: true };
        Fact { name: "POST /orders".to_owned(), ..fact(id, at, "shop", step) }
    };
    let facts = [failed(answer(1, 1, 503), TroubleKind::Http, "503"), answer(2, 5, 201)];
    assert!(told(&facts).incidents[0].resolved.is_some());
    assert_eq!(judged(&facts, 200).outcome, Outcome::Moving);
}

#[test]
fn the_end_of_an_order_is_good_or_bad() {
    let good = [wrote(1, 1, "shop", "orders", "created"), wrote(2, 61, "shop", "orders", "finished")];
    let verdict = judged(&good, 1_000);
    assert_eq!(verdict.outcome, Outcome::Finished);
    assert!(matches!(verdict.reason, Reason::Finished { took_micros, .. } if took_micros / S == 60));
    let bad = [wrote(1, 1, "shop", "orders", "created"), wrote(2, 2, "shop", "orders", "upload_failed")];
    let verdict = judged(&bad, 1_000);
    assert_eq!(verdict.outcome, Outcome::Failed);
    assert_eq!(verdict.due, None);
    let marks: Vec<(String, StageState)> =
        told(&bad).stages.into_iter().map(|mark| (mark.name, mark.state)).collect();
    assert_eq!(marks, [("created".to_owned(), StageState::Failed)], "the red mark is where it was refused");
}

const HOUSE: &str = "
records:
  shop: { match: { service: shop, table: orders } }
  crm: { match: { service: crm, table: crm_orders } }
  mes: { match: { service: mes } }
stages:
  - { name: created, from: { shop: [created] } }
  - { name: confirmed, from: { crm: [confirmed] }, waits_for: seller, limit: 1h }
  - { name: priced, from: { mes: [priced], shop: [priced] } }
  - { name: finished, from: { mes: [finished] }, final: true }
";

fn house() -> Model {
    Model::parse(HOUSE).expect("the house's model is right")
}

#[test]
fn the_stage_is_the_furthest_of_the_systems_and_those_before_are_done_or_skipped() {
    let facts = [wrote(1, 1, "shop", "orders", "created"), wrote(2, 2, "mes", "mes_orders", "priced")];
    let journey = journey(&gather(facts.to_vec()), &house());
    let states: Vec<StageState> = journey.stages.iter().map(|mark| mark.state).collect();
    assert_eq!(states, [StageState::Done, StageState::Skipped, StageState::Current, StageState::Ahead]);
    assert_eq!(journey.stage().map(|mark| mark.name.as_str()), Some("priced"));
}

#[test]
fn a_person_has_a_turn_and_then_is_late() {
    let facts = [wrote(1, 0, "shop", "orders", "created"), wrote(2, 10, "crm", "crm_orders", "confirmed")];
    let journey = journey(&gather(facts.to_vec()), &house());
    let at = |seconds: i64| verdict(&journey, &house(), &Usual::default(), At(seconds * S));
    assert_eq!(at(600).outcome, Outcome::Waiting);
    assert_eq!(at(600).due.map(|due| due.0 / S), Some(3_610));
    assert_eq!(at(3_611).outcome, Outcome::Stuck);
}

#[test]
fn systems_that_do_not_agree_after_a_while_are_a_reason() {
    let facts = [wrote(1, 0, "shop", "orders", "created"), wrote(2, 10, "mes", "mes_orders", "priced")];
    let journey = journey(&gather(facts.to_vec()), &house());
    let verdict = verdict(&journey, &house(), &Usual::default(), At(6 * MINUTE + 10 * S));
    let Reason::Disagree { ahead, behind } = verdict.reason else { panic!("they agree: {verdict:?}") };
    assert_eq!((ahead.service.as_str(), behind.service.as_str()), ("mes", "shop"));
}

#[test]
fn nothing_for_a_day_is_stuck_and_questions_do_not_help() {
    let asked = fact(2, 80_000, "shop", Step::Served { answer: Some(200), changes: false });
    let facts = [wrote(1, 1, "shop", "orders", "created"), asked];
    assert_eq!(judged(&facts, 80_100).outcome, Outcome::Moving);
    let verdict = judged(&facts, DAY / S + 2);
    assert_eq!(verdict.outcome, Outcome::Stuck);
    assert!(matches!(verdict.reason, Reason::NoProgress { since, .. } if since.0 / S == 1));
}

#[test]
fn above_the_bound_writes_and_failures_stay() {
    let mut facts: Vec<Fact> = (0..10_000_u32)
        .map(|n| {
            let mut read = fact(0, i64::from(n), "shop", Step::Read { collection: "orders".to_owned() });
            read.id.span = u64::from(n + 1_000).to_be_bytes();
            read
        })
        .collect();
    facts.push(wrote(1, 5_000, "shop", "orders", "created"));
    let gathered = gather(facts.clone());
    assert!(gathered.truncated);
    assert!(gathered.facts.len() <= MAX_FACTS);
    assert_eq!(chains(&told(&facts)), ["shop.orders: created"]);
    // In parts, and some of them again: the same, and it is still known that there were more.
    for size in [7, 999, 4_096] {
        let parts = facts.chunks(size).fold(Gathered::default(), |kept, part| kept.with(part.to_vec()).0);
        assert_eq!(parts, gathered, "in parts of {size}");
        let (again, new) = parts.with(facts.iter().step_by(3).cloned().collect());
        assert_eq!((again, new.len()), (gathered.clone(), 0));
    }
}

#[test]
fn a_set_that_is_full_and_lacks_nothing_does_not_say_so() {
    let facts: Vec<Fact> = (0..512 + 1_024)
        .map(|n: u32| Fact {
            id: FactId { trace: [1; 16], span: u64::from(n + 1).to_be_bytes() },
            ..wrote(1, i64::from(n), "shop", "orders", "created")
        })
        .collect();
    let full = gather(facts);
    assert!(!full.truncated);
    let (more, new) = full.with(vec![Fact {
        id: FactId { trace: [2; 16], span: [1; 8] },
        ..wrote(1, 511, "shop", "orders", "new")
    }]);
    assert!(more.truncated && new.is_empty(), "the one in the middle is left out");
}

/// Any fact of few services, tables and spans, so that repetitions and clashes happen.
fn any_fact() -> impl Strategy<Value = Fact> {
    let services = prop::sample::select(vec!["shop", "crm", "mes"]);
    let statuses = prop::sample::select(vec!["new", "priced", "finished", "failed"]);
    let settled = prop::sample::select(vec![Settled::Acknowledged, Settled::Rejected, Settled::Unknown]);
    let sent = prop::sample::select(vec![Sent::Confirmed, Sent::Returned]);
    let steps = prop_oneof![
        (0..2_i64, prop::option::of(1..3_i64)).prop_map(|(rows, number)| Step::Wrote {
            collection: "orders".to_owned(),
            rows,
            transaction: number.map(Transaction::Number),
        }),
        (1..3_i64, any::<bool>()).prop_map(|(number, good)| Step::Ended {
            transaction: Transaction::Number(number),
            how: if good { End::Committed } else { End::RolledBack },
        }),
        sent.prop_map(|outcome| Step::Published { destination: "orders".to_owned(), outcome }),
        settled.prop_map(|settled| Step::Handled { queue: "q".to_owned(), settled, redelivered: false }),
        Just(Step::Waited { queue: "q".to_owned(), died: None }),
        any::<bool>().prop_map(|changes| Step::Served { answer: Some(200), changes }),
        Just(Step::Stored { verb: "PutObject".to_owned(), bucket: "b".to_owned(), object: "o".to_owned() }),
    ];
    (1..40_u8, 0..600_i64, services, steps, statuses, 0..40_u8, prop::bool::weighted(0.2)).prop_map(
        |(id, at, service, step, status, parent, is_failed)| {
            let fact = Fact { step, ..below(wrote(id, at, service, "orders", status), parent) };
            if is_failed { failed(fact, TroubleKind::Http, "500") } else { fact }
        },
    )
}

proptest! {
    /// Permuted and repeated facts tell the same journey, whatever they say.
    #[test]
    fn the_order_and_the_number_of_times_of_facts_do_not_matter(
        facts in prop::collection::vec(any_fact(), 0..60),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        seed in any::<u64>(),
    ) {
        let expected = told(&facts);
        let mut others = facts.clone();
        if !facts.is_empty() {
            others.extend(again.iter().map(|index| index.get(&facts).clone()));
        }
        // A shuffle by a number of its own: proptest's would be of the indices it already drew.
        others.sort_by_key(|fact| (u64::from(fact.id.span[7]) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        prop_assert_eq!(told(&others), expected.clone());
        others.reverse();
        prop_assert_eq!(told(&others), expected);
    }

    /// Facts that come in parts, each part bounded with what was kept before, are the same in the end.
    #[test]
    fn it_does_not_matter_in_how_many_parts_facts_arrive(
        facts in prop::collection::vec(any_fact(), 0..60),
        size in 1..10_usize,
    ) {
        let kept = facts.chunks(size).fold(Gathered::default(), |kept, part| {
            kept.with(part.to_vec()).0
        });
        prop_assert_eq!(kept, gather(facts));
    }

    /// Before the time that a verdict names, and with no new fact, it stays what it is.
    #[test]
    fn a_verdict_holds_until_it_is_due(facts in prop::collection::vec(any_fact(), 1..30), later in 0..200_000_i64) {
        let journey = told(&facts);
        let judge = |at| verdict(&journey, &Model::default(), &Usual::default(), at);
        let now = journey.last;
        let first = judge(now);
        let then = now.after(later * S);
        if first.due.is_none_or(|due| then < due) {
            prop_assert_eq!(judge(then), first);
        }
    }
}
