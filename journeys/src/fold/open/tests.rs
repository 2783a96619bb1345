use jiff::tz::TimeZone;

use super::*;
use crate::facts::{Sent, Settled};
use crate::fold::{Hang, Lost, Reason, Usually, gather, journey, verdict};
use crate::model::{Kind, Model};
use crate::sentence::{Language, Words, sentence};
use crate::testing::fact;
use crate::time::SECOND;

/// Work of `service` that was not over, from second `from` on, when it was told at second `told`.
fn goes_on(id: u64, parent: Option<u64>, service: &str, (from, told): (i64, i64), work: Work) -> Fact {
    Fact {
        to: At(told * SECOND),
        parent: parent.map(u64::to_be_bytes),
        name: "POST /rates".to_owned(),
        ..fact("4711", id, from, service, Step::Open { work })
    }
}

fn call(id: u64, told: i64) -> Fact {
    goes_on(id, None, "crm", (10, told), Work::Call { peer: "api.dpd.ru".to_owned() })
}

/// The reason at a second, with nothing usual.
fn reason_at(facts: &[Fact], second: i64) -> Reason {
    let journey = journey(&gather(facts.to_vec()), &Model::default());
    verdict(&journey, &Model::default(), &Usual::default(), At(second * SECOND)).reason
}

#[test]
fn what_hangs_is_told_until_its_span_comes_in_whichever_order() {
    let hangs = |reason: Reason| match reason {
        Reason::Hangs { service, on: Hang::Answer(peer), since, .. } => Some((service, peer, since)),
        _ => None,
    };
    let expected = Some(("crm".to_owned(), "api.dpd.ru".to_owned(), At(10 * SECOND)));
    for facts in [vec![call(1, 40)], vec![call(1, 40), call(1, 100)], vec![call(1, 100), call(1, 40)]] {
        assert_eq!(hangs(reason_at(&facts, 101)), expected);
    }
    // Not told again, it is not known any more; told again, it is.
    assert_eq!(hangs(reason_at(&[call(1, 40)], 40 + 179)), expected);
    assert_eq!(hangs(reason_at(&[call(1, 40)], 40 + 180)), None);
    assert_eq!(hangs(reason_at(&[call(1, 40), call(1, 100)], 40 + 180)), expected);
    // That it is over may be told long before its span comes, and in whichever order.
    let told_over = goes_on(1, None, "crm", (10, 90), Work::Over);
    for facts in [vec![call(1, 100), told_over.clone()], vec![told_over, call(1, 100)]] {
        let journey = journey(&gather(facts), &Model::default());
        assert_eq!(journey.open, []);
    }
    // The span has an end, even where a clock says that it came before the last event.
    let step = Step::Called { peer: "api.dpd.ru".to_owned(), answer: Some(200), changes: true };
    let over =
        Fact { to: At(99 * SECOND), name: "POST /rates".to_owned(), ..fact("4711", 1, 10, "crm", step) };
    for facts in [vec![call(1, 100), over.clone()], vec![over, call(1, 100)]] {
        assert_eq!(hangs(reason_at(&facts, 101)), None);
        let journey = journey(&gather(facts), &Model::default());
        assert_eq!((journey.open.len(), journey.progress), (0, Some(At(99 * SECOND))));
    }
}

#[test]
fn the_lowest_of_several_that_wait_for_each_other_is_what_hangs() {
    let answer = goes_on(1, None, "shop", (9, 100), Work::Answer);
    let below = goes_on(
        2,
        Some(1),
        "crm",
        (10, 100),
        Work::Statement { collection: "orders".to_owned(), writes: true },
    );
    let Reason::Hangs { service, on, .. } = reason_at(&[answer.clone(), below], 101) else {
        panic!("it hangs")
    };
    assert_eq!((service.as_str(), on), ("crm", Hang::Database));
    let Reason::Hangs { service, on, .. } = reason_at(&[answer], 101) else { panic!("it hangs") };
    assert_eq!((service.as_str(), on), ("shop", Hang::Itself));
}

#[test]
fn a_service_that_waits_is_said_to_wait_where_nobody_tells_of_which_answer_the_call_is_a_part() {
    let work = |id, service, from, work| goes_on(id, None, service, (from, 100), work);
    let answer = work(1, "crm", 9, Work::Answer);
    let statement = Work::Statement { collection: "orders".to_owned(), writes: true };
    let says = |facts: Vec<Fact>, ru: &str, en: &str| {
        let (model, now) = (Model::default(), At(110 * SECOND));
        let journey = journey(&gather(facts), &model);
        let verdict = verdict(&journey, &model, &Usual::default(), now);
        for (language, expected) in [(Language::Ru, ru), (Language::En, en)] {
            let words = Words { language, zone: TimeZone::UTC };
            let text = sentence(&verdict, &journey, &model, &words, now).text;
            assert!(text.starts_with(expected), "{text} instead of {expected}");
        }
    };
    says(
        vec![answer.clone(), call(2, 100)],
        "Система «crm» ждёт ответа от api.dpd.ru с ",
        "crm has been waiting for an answer of api.dpd.ru since ",
    );
    says(
        vec![answer.clone(), work(2, "crm", 10, statement.clone())],
        "Система «crm» ждёт свою базу данных с ",
        "crm has been waiting for its database since ",
    );
    // What another one waits for is no reason of this one.
    says(
        vec![answer, work(2, "mes", 10, statement)],
        "Система «crm» не закончила «POST /rates» с ",
        "crm has not ended “POST /rates” since ",
    );
}

#[test]
fn what_usually_takes_as_long_does_not_hang_yet() {
    let mut usual = Usual::default();
    let what = What { kind: Kind::Called, of: "crm".to_owned(), with: "api.dpd.ru".to_owned() };
    usual.add(&what, crate::model::class(60 * SECOND), 30, 0);
    let at = |second: i64, told: i64| {
        let journey = journey(&gather(vec![call(1, told)]), &Model::default());
        verdict(&journey, &Model::default(), &usual, At(second * SECOND))
    };
    let early = at(100, 90);
    assert!(matches!(early.reason, Reason::Moving { .. }), "{early:?}");
    let due = early.due.expect("it may hang later");
    assert!(due > At(120 * SECOND) && due < At(140 * SECOND), "twice as long: {due:?}");
    let late = at(140, 139);
    assert!(matches!(late.reason, Reason::Hangs { .. }), "{late:?}");
    let Some(Usually::Last { micros }) = late.usual else { panic!("{late:?}") };
    assert!((micros - 60 * SECOND).abs() < 4 * SECOND, "{micros}");
    assert_eq!(late.due, Some(At((139 + 180) * SECOND)), "then it is not known any more");
}

#[test]
fn open_work_is_compared_with_what_was_learned_of_the_same_work_when_it_was_over() {
    let queue = || "orders.4711.created".to_owned();
    let (peer, table) = (|| "api.dpd.ru".to_owned(), || "orders_2026".to_owned());
    let pairs = [
        (Work::Answer, Step::Served { answer: Some(200), changes: true }),
        (Work::Call { peer: peer() }, Step::Called { peer: peer(), answer: None, changes: true }),
        (
            Work::Statement { collection: table(), writes: true },
            Step::Wrote { collection: table(), rows: 1, transaction: None },
        ),
        (Work::Statement { collection: table(), writes: false }, Step::Read { collection: table() }),
        (
            Work::Handling { queue: queue(), redelivered: false },
            Step::Handled { queue: queue(), settled: Settled::Acknowledged, redelivered: false },
        ),
        (
            Work::Waiting { queue: Some(queue()), destination: queue(), consumers: None, depth: None },
            Step::Waited { queue: queue(), died: None },
        ),
    ];
    for (work, step) in pairs {
        let over = crate::fold::length(&fact("4711", 1, 10, "crm", step)).expect("a length").what;
        let mut usual = Usual::default();
        usual.add(&over, crate::model::class(60 * SECOND), 30, 0);
        let known = open(&[goes_on(1, None, "crm", (10, 20), work.clone())])[0].usually(&usual);
        assert!(known.is_some_and(|micros| (micros - 60 * SECOND).abs() < 4 * SECOND), "{work:?}: {known:?}");
    }
}

#[test]
fn a_message_waits_in_its_queue_until_somebody_takes_it_from_there() {
    let sent = Step::Published { destination: "orders:order.confirmed".to_owned(), outcome: Sent::Confirmed };
    let sent = fact("4711", 1, 10, "crm", sent);
    let work = Work::Waiting {
        queue: Some("mes.orders".to_owned()),
        destination: "orders:order.confirmed".to_owned(),
        consumers: Some(0),
        depth: Some(7),
    };
    let waits = goes_on(2, Some(1), "crm", (10, 100), work);
    let in_queue = |facts: &[Fact]| match reason_at(facts, 101) {
        Reason::InQueue { queue, since, consumers, depth } => Some((queue, since, consumers, depth)),
        _ => None,
    };
    let expected = Some(("mes.orders".to_owned(), At(10 * SECOND), Some(0), Some(7)));
    assert_eq!(in_queue(&[sent.clone(), waits.clone()]), expected);
    let taken = |id, queue: &str| {
        let step =
            Step::Handled { queue: queue.to_owned(), settled: Settled::Acknowledged, redelivered: false };
        Fact { parent: Some(1_u64.to_be_bytes()), ..fact("4711", id, 90, "mes", step) }
    };
    assert_eq!(in_queue(&[sent.clone(), waits.clone(), taken(3, "mail")]), expected, "a copy of it");
    for queue in ["mes.orders", "orders:order.confirmed:mes.orders"] {
        assert_eq!(in_queue(&[sent.clone(), waits.clone(), taken(3, queue)]), None, "{queue}");
    }
    let works = Work::Handling { queue: "mes.orders".to_owned(), redelivered: true };
    let works = goes_on(4, Some(1), "mes", (95, 100), works);
    let reason = reason_at(&[sent.clone(), waits.clone(), works], 101);
    assert!(matches!(reason, Reason::NotSettled { attempts: 2, .. }), "{reason:?}");
    // Nobody takes it, where messages are usually taken; but where it is, is known, even when nobody tells any more.
    let usual = Usual {
        destinations: [("orders:order.confirmed".to_owned(), (1_000, 1_000))].into(),
        ..Usual::default()
    };
    let lost = |facts: Vec<Fact>| {
        let journey = journey(&gather(facts), &Model::default());
        let reason = verdict(&journey, &Model::default(), &usual, At(400 * SECOND)).reason;
        matches!(reason, Reason::Lost(Lost::NotTaken { .. }))
    };
    assert!(lost(vec![sent.clone()]) && !lost(vec![sent, waits]));
}

#[test]
fn while_who_looks_is_silent_an_order_is_as_it_was_seen_last() {
    use crate::model::Agent;
    let agent = |at: i64| Agent {
        node: "n3".to_owned(),
        at: At(at * SECOND),
        awaited_from: At(0),
        every: 30 * SECOND,
        services: ["crm".to_owned()].into(),
    };
    let usual = |at| Usual { agents: [("1".to_owned(), agent(at))].into(), ..Usual::default() };
    let facts = [call(1, 40)];
    let judged = |facts: &[Fact], usual: &Usual, second: i64| {
        let journey = journey(&gather(facts.to_vec()), &Model::default());
        verdict(&journey, &Model::default(), usual, At(second * SECOND))
    };
    assert!(matches!(judged(&facts, &usual(50), 139).reason, Reason::Hangs { .. }), "it may be heard yet");
    for second in [140, 1_000, 1_000_000] {
        // Nor is it said that it does not hang any more, or has not moved for long: nobody knows.
        let silent = judged(&facts, &usual(50), second);
        let Reason::NotSeen { node, since, at, before } = &silent.reason else { panic!("{silent:?}") };
        assert_eq!((node.as_str(), *since, *at), ("n3", At(50 * SECOND), At(50 * SECOND)));
        assert!(matches!(**before, Reason::Hangs { .. }), "{before:?}");
        assert!(silent.due.is_none_or(|due| due > At(second * SECOND)), "nobody looks again and again");
    }
    assert!(matches!(
        judged(&facts, &usual(990), 1_000).reason,
        Reason::NoProgress { .. } | Reason::Moving { .. }
    ));
    let elsewhere = [fact("4711", 1, 10, "shop", Step::Served { answer: Some(200), changes: true })];
    assert!(
        matches!(judged(&elsewhere, &usual(50), 1_000).reason, Reason::Moving { .. }),
        "another one sees it"
    );
    // A listener that was away hears of each again before it says that it is silent.
    let agents = [("1".to_owned(), Agent { awaited_from: At(980 * SECOND), ..agent(50) })].into();
    let back = Usual { agents, ..Usual::default() };
    assert!(!matches!(judged(&facts, &back, 1_000).reason, Reason::NotSeen { .. }));
    assert!(matches!(judged(&facts, &back, 1_070).reason, Reason::NotSeen { .. }));
}
