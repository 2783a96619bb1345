//! What a session hands to the next agent's, and what that one makes of the stream from there.

use super::build::*;
use super::*;
use crate::protocol::Snapshot;
use crate::protocol::postgres::snapshot::{Column, Learned, Statement};
use crate::protocol::snapshot::{Past, Texts};
use crate::time::{BootTime, ns};

/// A session of the next agent: after `steps`, and after `unseen` bytes each way that nobody saw.
fn next(steps: &[Step], unseen: u64) -> Driver {
    let before = run(steps);
    let mut texts = Texts::default();
    let learned = before.session.export(&mut texts).expect("something to hand over");
    let mut driver = Driver::new(&Protocols::default());
    driver.positions = before.positions.map(|pos| pos + unseen);
    let texts = texts.into_list();
    let past = Past { learned: &learned, texts: &texts, unbroken: unseen == 0, at: ns(50) };
    assert!(driver.session.import(&past));
    driver
}

fn learned(driver: &Driver) -> Learned {
    match driver.session.export(&mut Texts::default()) {
        Some(Snapshot::Postgres(learned)) => learned,
        other => panic!("{other:?}"),
    }
}

fn follow(mut driver: Driver, steps: &[Step]) -> Vec<String> {
    for (index, (from, bytes)) in steps.iter().enumerate() {
        driver.bytes(*from, bytes, 100 + index as u64);
    }
    driver.end(End::Closed, 999);
    driver.check_contract(true);
    driver.operations().iter().map(shown).collect()
}

fn prepare() -> Vec<Step> {
    started(&[
        client(&[
            parse("s1", "SELECT id FROM orders WHERE n = $1", &[23]),
            describe(b'S', "s1"),
            parse("", "SELECT 1", &[]),
            sync(),
        ]),
        server(&[
            parse_complete(),
            parameter_types(&[23]),
            columns(&[("id", 16_400, 23, 0)]),
            parse_complete(),
            ready(b'I'),
        ]),
    ])
}

/// An execution without any text in it.
fn execution(name: &str) -> Vec<Step> {
    vec![
        client(&[bind_with("", name, &[1], &[Some(&17i32.to_be_bytes())], &[]), execute("", 0), sync()]),
        server(&[bind_complete(), text_row(&["17"]), complete("SELECT 1"), ready(b'I')]),
    ]
}

#[test]
fn a_statement_prepared_under_an_earlier_agent_has_its_text_types_and_columns() {
    for unseen in [0, 1, 5000] {
        let found = follow(next(&prepare(), unseen), &execution("s1"));
        let expected = "Extended SELECT id FROM orders WHERE n = $1 | name s1 | params 17 | columns id | rows 17 | returned 1 | tag SELECT 1 | at 100-100 101-101 end 101";
        assert_eq!(found, [expected], "{unseen} bytes unseen");
    }
}

#[test]
fn without_what_an_earlier_agent_knew_the_text_is_not_known() {
    let driver = Driver::new(&Protocols::default()).joined_at(4000);
    let found = follow(driver, &execution("s1"));
    assert!(found.len() == 1 && found[0].starts_with("Extended <unknown> | name s1"), "{found:?}");
}

#[test]
fn the_unnamed_statement_is_known_only_when_no_byte_was_missed() {
    let text = |unseen| follow(next(&prepare(), unseen), &execution("")).remove(0);
    assert!(text(0).starts_with("Extended SELECT 1 |"), "{}", text(0));
    assert!(text(1).starts_with("Extended <unknown> |"), "{}", text(1));
}

#[test]
fn a_transaction_goes_on_only_when_no_byte_was_missed() {
    let begun = started(&[client(&[query("BEGIN")]), server(&[complete("BEGIN"), ready(b'T')])]);
    let after = [client(&[query("DELETE FROM a")]), server(&[complete("DELETE 1"), ready(b'T')])];
    let block = |unseen: u64| follow(next(&begun, unseen), &after).remove(0);
    assert!(block(0).contains("| block 1 |"), "{}", block(0));
    assert!(!block(9).contains("block"), "it may have ended, and another one begun: {}", block(9));
}

#[test]
fn wherever_the_first_agent_stops_the_second_one_tells_nothing_wrong() {
    let mut steps = prepare();
    steps.extend(execution("s1"));
    steps.extend([client(&[close(b'S', "s1"), sync()]), server(&[message(b'3', b""), ready(b'I')])]);
    steps.extend([
        client(&[parse("s1", "DELETE FROM b", &[]), sync()]),
        server(&[parse_complete(), ready(b'I')]),
    ]);
    steps.extend(execution("s1"));
    let mut whole = run(&steps);
    whole.end(End::Closed, 999);
    let texts: Vec<String> =
        whole.operations().iter().map(|op| statement(op).text.clone().unwrap_or_default()).collect();
    assert_eq!(texts, ["SELECT id FROM orders WHERE n = $1", "DELETE FROM b"]);
    for cut in 4..steps.len() {
        let (from, bytes) = &steps[cut];
        // Inside of a step too: in the middle of messages.
        for at in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let mut first = run(&steps[..cut]);
            first.bytes(*from, &bytes[..at], 60);
            let mut shared = Texts::default();
            let Some(learned) = first.session.export(&mut shared) else { continue };
            let shared = shared.into_list();
            let mut second = Driver::new(&Protocols::default());
            second.positions = first.positions;
            let past = Past { learned: &learned, texts: &shared, unbroken: true, at: ns(60) };
            assert!(second.session.import(&past));
            second.bytes(*from, &bytes[at..], 61);
            for (from, bytes) in &steps[cut + 1..] {
                second.bytes(*from, bytes, 62);
            }
            second.end(End::Closed, 999);
            second.check_contract(true);
            let known: Vec<String> =
                second.operations().iter().filter_map(|op| statement(op).text.clone()).collect();
            // The last execution comes after its Parse: it is known unless that was cut in the middle.
            assert!(known.iter().all(|text| texts.contains(text)), "{cut}.{at}: {known:?}");
            let is_last = |text: &String| text == "DELETE FROM b";
            assert!(known.iter().filter(|text| is_last(text)).count() <= 1, "{cut}.{at}: {known:?}");
            assert!(!known.iter().skip_while(|text| !is_last(text)).any(|text| !is_last(text)), "{cut}.{at}");
        }
    }
}

#[test]
fn a_name_whose_new_text_is_not_confirmed_is_not_handed_over() {
    let mut driver = run(&prepare());
    driver.bytes(Sender::Client, &[parse("s1", "DELETE FROM b", &[]), sync()].concat(), 60);
    let names: Vec<String> = learned(&driver).statements.iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, [""]);
    assert!(!learned(&driver).at_rest);
    // One that is new can only be refused, and then nobody executes it.
    let mut driver = run(&prepare());
    driver.bytes(Sender::Client, &[parse("s2", "DELETE FROM b", &[]), sync()].concat(), 60);
    assert_eq!(learned(&driver).statements.len(), 3);
}

#[test]
fn what_is_handed_over_twice_is_the_same() {
    let first = learned(&run(&prepare()));
    assert!(first.at_rest && first.statements.len() == 2 && first.database.as_deref() == Some("orders"));
    assert_eq!(learned(&next(&prepare(), 0)), first);
    let named = learned(&next(&prepare(), 7)).statements;
    assert_eq!(named, first.statements.into_iter().filter(|one| one.name == "s1").collect::<Vec<_>>());
}

#[test]
fn encrypted_connections_hand_over_nothing() {
    let steps = [client(&[request_code(80_877_103, b"")]), (Sender::Server, b"S".to_vec())];
    assert!(run(&steps).session.export(&mut Texts::default()).is_none());
}

#[test]
fn a_hostile_past_is_bounded() {
    let statement = Statement {
        name: "n".repeat(10_000),
        text: Some(0),
        oids: vec![1; 100_000],
        columns: vec![Column::default(); 10_000],
        ..Default::default()
    };
    let mut statements = vec![statement; 10];
    statements.extend((0..20_000).map(|n| Statement {
        name: n.to_string(),
        text: Some(n % 3),
        ..Default::default()
    }));
    let past = Learned { statements, transaction: Some(u64::MAX), ..Learned::default() };
    let texts = ["SELECT 1".into(), "x".repeat(2 << 20).into()];
    let mut driver = Driver::new(&Protocols::default());
    driver.session.import(&Past {
        learned: &Snapshot::Postgres(past),
        texts: &texts,
        unbroken: true,
        at: BootTime::ZERO,
    });
    let kept = learned(&driver).statements;
    assert!(kept.len() <= 4096 && kept.iter().all(|one| one.name.len() <= 512 && one.columns.len() <= 64));
}
