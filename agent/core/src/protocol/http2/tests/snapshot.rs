//! What a session hands to the next agent's, and what that one makes of the stream from there.

use super::*;
use crate::protocol::Snapshot;
use crate::protocol::http2::snapshot::{Compression, Learned};
use crate::protocol::snapshot::{Past, Texts};
use crate::time::BootTime;

/// Literals that enter the table.
fn indexed(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = block(fields);
    let mut at = 0;
    for (name, value) in fields {
        bytes[at] = 0x40;
        at += 3 + name.len() + value.len();
    }
    bytes
}

/// A first exchange that fills both tables: `:path` is at 63, `:authority` at 62; the answer's `server` at 62.
fn first() -> Vec<Step> {
    let request = indexed(&[(":path", "/shop.Orders/Create"), (":authority", "shop")]);
    let request = [&[0x83, 0x86][..], &request].concat();
    let response = [&[0x88][..], &indexed(&[("server", "test")])].concat();
    after_hello(&[
        client(frame(frame::HEADERS, ENDS | frame::END_HEADERS, 1, &request)),
        server(frame(frame::HEADERS, ENDS | frame::END_HEADERS, 1, &response)),
    ])
}

/// Another one, all by references.
fn second() -> Vec<Step> {
    vec![
        client(frame(frame::HEADERS, ENDS | frame::END_HEADERS, 3, &[0x83, 0x86, 0xbf, 0xbe])),
        server(frame(frame::HEADERS, ENDS | frame::END_HEADERS, 3, &[0x88, 0xbe])),
    ]
}

fn after(steps: &[Step]) -> Connection {
    let mut connection = Connection::joined_at(0, &Protocols::default());
    steps.iter().for_each(|step| connection.step(step));
    while connection.out.pop().is_some() {}
    connection
}

fn learned(connection: &Connection) -> Option<Learned> {
    match connection.session.export(&mut Texts::default())? {
        Snapshot::Http2(learned) => Some(learned),
        other => panic!("{other:?}"),
    }
}

fn next(before: &Connection, learned: Learned) -> Connection {
    let mut next = Connection::joined_at(0, &Protocols::default());
    next.pos = before.pos;
    let learned = Snapshot::Http2(learned);
    assert!(next.session.import(&Past { learned: &learned, texts: &[], unbroken: true, at: BootTime::ZERO }));
    next
}

#[test]
fn references_to_what_an_earlier_agent_saw_are_understood() {
    let before = after(&first());
    let connection = next(&before, learned(&before).unwrap());
    assert_eq!(summaries(&run_on(connection, &second())), ["POST /shop.Orders/Create → 200, 0 up, 0 down"]);
    // The test can fail.
    let mut fresh = Connection::joined_at(0, &Protocols::default());
    fresh.pos = before.pos;
    let told = summaries(&run_on(fresh, &second()));
    assert!(told.iter().all(|line| !line.contains("Create")), "{told:?}");
}

#[test]
fn a_value_that_was_left_out_is_unknown_and_the_others_stay_in_their_places() {
    let before = after(&first());
    let mut less = learned(&before).unwrap();
    less.request.fields[1].1 = None;
    let connection = next(&before, less);
    let told = summaries(&run_on(connection, &second()));
    assert_eq!(told, ["POST /shop.Orders/Create → 200, 0 up, 0 down, 1 unknown"]);
}

#[test]
fn after_bytes_that_nobody_saw_the_tables_are_of_no_use() {
    let learned = Snapshot::Http2(learned(&after(&first())).unwrap());
    let mut session = Http2Session::new(Role::Server, &Protocols::default());
    assert!(!session.import(&Past { learned: &learned, texts: &[], unbroken: false, at: BootTime::ZERO }));
}

#[test]
fn only_between_frames_is_anything_handed_over() {
    let steps = first();
    let Step::Bytes(from, bytes) = &steps[2] else { panic!() };
    for cut in 0..=bytes.len() {
        let mut connection = after(&steps[..2]);
        connection.step(&Step::Bytes(*from, bytes[..cut].to_vec()));
        assert_eq!(learned(&connection).is_some(), cut == 0 || cut == bytes.len(), "{cut}");
    }
}

#[test]
fn wherever_the_first_agent_stops_between_frames_the_second_one_tells_the_same() {
    let steps = [&conversation()[..], &first()[2..].iter().map(later).collect::<Vec<_>>()[..]].concat();
    let whole = summaries(&run(&steps));
    for cut in 2..steps.len() {
        let before = after(&steps[..cut]);
        let connection = next(&before, learned(&before).unwrap());
        let told = summaries(&run_on(connection, &steps[cut..]));
        assert!(told.iter().all(|line| whole.contains(line) || line.starts_with(" →")), "{cut}: {told:?}");
    }
}

/// The same exchange on stream 13.
fn later(step: &Step) -> Step {
    let Step::Bytes(from, bytes) = step else { panic!() };
    let mut bytes = bytes.clone();
    bytes[5..9].copy_from_slice(&13u32.to_be_bytes());
    Step::Bytes(*from, bytes)
}

#[test]
fn what_is_handed_over_twice_is_the_same() {
    let before = after(&first());
    let first = learned(&before).unwrap();
    assert_eq!((first.last_stream, first.request.fields.len(), first.response.fields.len()), (1, 2, 1));
    assert_eq!(learned(&next(&before, first.clone())), Some(first));
}

#[test]
fn a_hostile_past_is_bounded() {
    let before = after(&first());
    let way = Compression {
        fields: vec![(Some("n".repeat(1000)), Some("v".repeat(1000))); 10_000],
        max: Some(u32::MAX),
        is_complete: true,
        limit: Some(u32::MAX),
        max_frame: Some(u32::MAX),
    };
    let hostile = Learned { last_stream: u32::MAX, request: way.clone(), response: way };
    let connection = next(&before, hostile);
    let kept = learned(&connection).unwrap();
    assert!(kept.request.fields.len() < 100 && !kept.request.is_complete, "{}", kept.request.fields.len());
    run_on(connection, &second());
}
