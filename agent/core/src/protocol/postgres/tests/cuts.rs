//! Transcripts cut, split, holed and replaced by noise.

use proptest::prelude::*;

use super::build::*;
use super::*;

/// A connection with a bit of everything.
fn everything() -> Vec<Step> {
    started(&[
        client(&[query("BEGIN; UPDATE a SET b = 'x' WHERE c = 1")]),
        server(&[complete("BEGIN"), complete("UPDATE 1"), ready(b'T')]),
        client(&[
            parse("s1", "INSERT INTO o (id, n) VALUES ($1, $2) RETURNING id", &[23, 25]),
            describe(b'S', "s1"),
            bind_with("", "s1", &[1, 0], &[Some(&17i32.to_be_bytes()), Some(b"note")], &[]),
            execute("", 0),
            sync(),
            bind("", "s1", &["18", "n"]),
            execute("", 0),
            sync(),
        ]),
        server(&[
            parse_complete(),
            parameter_types(&[23, 25]),
            columns(&[("id", 16_400, 23, 0)]),
            bind_complete(),
            text_row(&["17"]),
            complete("INSERT 0 1"),
            ready(b'T'),
            bind_complete(),
            error("23505", "duplicate key"),
            ready(b'E'),
        ]),
        client(&[query("ROLLBACK")]),
        server(&[complete("ROLLBACK"), ready(b'I')]),
        client(&[query("COPY a FROM STDIN")]),
        server(&[message(b'G', &[0, 0, 0])]),
        client(&[message(b'd', &[b'x'; 300]), message(b'c', b"")]),
        server(&[complete("COPY 1"), ready(b'I')]),
        client(&[query("SELECT * FROM big")]),
        server(&[
            columns(&[("a", 5, 25, 0)]),
            text_row(&["1"]),
            text_row(&[&"y".repeat(2000)]),
            text_row(&["3"]),
            text_row(&["4"]),
            text_row(&[&"z".repeat(2000)]),
            complete("SELECT 5"),
            ready(b'I'),
        ]),
    ])
}

fn lines(driver: &Driver) -> Vec<String> {
    driver.operations().iter().map(shown).collect()
}

#[test]
fn every_prefix_is_incomplete_and_never_wrong() {
    let steps = everything();
    let mut whole = run(&steps);
    whole.end(End::Closed, 99);
    let whole = lines(&whole);
    for (index, (from, bytes)) in steps.iter().enumerate() {
        for cut in 0..bytes.len() {
            let mut driver = run(&steps[..index]);
            driver.bytes(*from, &bytes[..cut], index as u64 + 1);
            driver.check_contract(false);
            let before = lines(&driver);
            assert!(whole.starts_with(&before), "cut at {index}.{cut}");
            driver.end(End::Closed, 99);
            driver.check_contract(true);
            assert_eq!(driver.discarded(Discard::Invalid) + driver.discarded(Discard::Unsynchronised), 0);
            let later = driver.operations().len() - before.len();
            let cuts = driver.operations().iter().filter(|op| op.completeness == Completeness::Cut).count();
            assert_eq!(later, cuts, "cut at {index}.{cut}");
        }
    }
}

#[test]
fn big_cells_are_counted_and_not_kept() {
    let steps = everything();
    let mut driver = run(&steps[..steps.len() - 1]);
    let (from, bytes) = &steps[steps.len() - 1];
    // Inside the fifth row: none of it is wanted.
    driver.bytes(*from, &bytes[..bytes.len() - 1000], 20);
    assert!(
        matches!(driver.session.want(Sender::Server), Want::Skip(len) if len > 900),
        "{:?}",
        driver.session.want(Sender::Server)
    );
    driver.gap(Sender::Server, 900, 20);
    driver.bytes(Sender::Server, &bytes[bytes.len() - 100..], 21);
    let last = lines(&driver).pop().unwrap_or_default();
    assert_eq!(
        last,
        "Simple SELECT * FROM big | columns a | rows 1;<2000>;3;4 | returned 5 | tag SELECT 5 | at 15-15 20-21 end 21"
    );
}

#[test]
fn a_gap_inside_a_message_is_stepped_over_and_told() {
    let mut driver = run(&start());
    let text = query("INSERT INTO a VALUES ('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx', 17)");
    driver.bytes(Sender::Client, &text[..30], 5);
    driver.gap(Sender::Client, 20, 5);
    driver.bytes(Sender::Client, &text[50..], 6);
    driver.bytes(Sender::Server, &[complete("INSERT 0 1"), ready(b'I')].concat(), 7);
    driver.check_contract(true);
    assert_eq!(
        lines(&driver),
        ["Simple INSERT INTO a VALUES (… | tag INSERT 0 1 | at 5-6 7-7 end 7 | but Gap(20)"]
    );
}

#[test]
fn a_result_that_is_lost_ends_when_the_client_goes_on() {
    let mut driver = run(&start());
    driver.bytes(Sender::Client, &query("SELECT * FROM big"), 5);
    driver.bytes(Sender::Server, &[columns(&[("a", 5, 25, 0)]), text_row(&["1"])].concat(), 6);
    driver.gap(Sender::Server, 1 << 20, 7);
    driver.gap(Sender::Server, 500, 8);
    driver.bytes(Sender::Client, &query("SELECT 2"), 9);
    driver.bytes(Sender::Server, &[complete("SELECT 1"), ready(b'I')].concat(), 10);
    driver.check_contract(true);
    assert_eq!(
        lines(&driver),
        [
            "Simple SELECT * FROM big | columns a | rows 1 | returned 1 | at 5-5 6-8 end 8 | but Gap(1049076)",
            "Simple SELECT 2 | tag SELECT 1 | at 9-9 10-10 end 10",
        ]
    );
}

#[test]
fn the_end_of_a_result_after_a_gap_is_found() {
    let mut driver = run(&start());
    driver.bytes(Sender::Client, &[bind("", "s", &[]), execute("", 0), sync()].concat(), 5);
    driver.gap(Sender::Server, 3000, 6);
    driver.bytes(Sender::Server, &[b"tail of a row".to_vec(), complete("SELECT 9"), ready(b'I')].concat(), 7);
    driver.check_contract(true);
    assert_eq!(
        lines(&driver),
        ["Extended <unknown> | name s | tag SELECT 9 | at 5-5 6-7 end 7 | but Gap(3000)"]
    );
}

#[test]
fn too_much_at_once_is_given_up_and_followed_again_later() {
    let limits = Protocols { max_open_operations: 4, ..Protocols::default() };
    let mut driver = Driver::new(&limits);
    for (index, (from, bytes)) in start().iter().enumerate() {
        driver.bytes(*from, bytes, index as u64 + 1);
    }
    for _ in 0..100 {
        driver.bytes(Sender::Client, &[bind("", "s", &["1"]), execute("", 0), sync()].concat(), 5);
        assert!(driver.session.core.units.len() <= 4 * 8);
    }
    for _ in 0..100 {
        driver.bytes(Sender::Server, &[bind_complete(), complete("SELECT 1"), ready(b'I')].concat(), 6);
    }
    assert!(driver.discarded(Discard::Limit) > 0);
    let before = driver.operations().len();
    driver.bytes(Sender::Client, &query("SELECT 1"), 7);
    driver.bytes(Sender::Server, &[complete("SELECT 1"), ready(b'I')].concat(), 8);
    driver.check_contract(true);
    assert_eq!(lines(&driver)[before..], ["Simple SELECT 1 | tag SELECT 1 | at 7-7 8-8 end 8"]);
}

#[test]
fn hostile_lengths_and_lists_are_bounded() {
    let mut driver = run(&start());
    // A Bind that announces 65535 parameters and has none, a row that announces more cells than bytes.
    let mut body = b"\0\0\0\0".to_vec();
    body.extend([0xff, 0xff]);
    driver.bytes(
        Sender::Client,
        &[message(b'B', &[&body[..], &[0; 20]].concat()), execute("", 0), sync()].concat(),
        5,
    );
    driver.bytes(
        Sender::Server,
        &[bind_complete(), message(b'D', &[0xff, 0xff, 0, 0]), complete("SELECT 1"), ready(b'I')].concat(),
        6,
    );
    // A message of a gigabyte keeps no more than its bound.
    let mut huge = vec![b'Q'];
    huge.extend(0x3fff_ffffu32.to_be_bytes());
    driver.bytes(Sender::Client, &huge, 7);
    for _ in 0..64 {
        driver.bytes(Sender::Client, &[b'x'; 4096], 7);
    }
    assert!(matches!(driver.session.want(Sender::Client), Want::Skip(_)));
    driver.check_contract(false);
    assert_eq!(driver.operations().len(), 1);
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(usize),
    Gap(usize),
}

fn pieces(with_gaps: bool) -> impl Strategy<Value = Vec<Piece>> {
    let piece = (1usize..80, 0u8..8).prop_map(move |(len, kind)| match kind {
        0 if with_gaps => Piece::Gap(len),
        _ => Piece::Bytes(len),
    });
    prop::collection::vec(piece, 1..40)
}

fn drive(steps: &[Step], pieces: &[Piece]) -> Driver {
    let mut driver = Driver::new(&Protocols::default());
    let mut pieces = pieces.iter().cycle();
    for (index, (from, bytes)) in steps.iter().enumerate() {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let piece = pieces.next().cloned().unwrap_or(Piece::Bytes(1));
            let (len, is_gap) = match piece {
                Piece::Bytes(len) => (len.min(rest.len()), false),
                Piece::Gap(len) => (len.min(rest.len()), true),
            };
            let (now, later) = rest.split_at(len);
            match is_gap {
                true => driver.gap(*from, len as u64, index as u64 + 1),
                false => driver.bytes(*from, now, index as u64 + 1),
            }
            rest = later;
        }
    }
    driver
}

proptest! {
    #[test]
    fn every_split_gives_the_same_operations(pieces in pieces(false)) {
        let steps = everything();
        let (mut whole, mut split) = (run(&steps), drive(&steps, &pieces));
        whole.end(End::Closed, 99);
        split.end(End::Closed, 99);
        split.check_contract(true);
        prop_assert_eq!(lines(&split), lines(&whole));
        let positions = |driver: &Driver| driver.operations().iter().map(|op| (op.request, op.response)).collect::<Vec<_>>();
        prop_assert_eq!(positions(&split), positions(&whole));
    }

    #[test]
    fn gaps_keep_the_contract_and_are_told(pieces in pieces(true)) {
        let steps = everything();
        let whole = run(&steps);
        let mut holed = drive(&steps, &pieces);
        holed.end(End::Closed, 99);
        holed.check_contract(true);
        // What claims to be complete was in the whole transcript.
        let texts: Vec<_> = whole.operations().iter().map(|op| statement(op).text.clone()).collect();
        for operation in holed.operations() {
            if operation.completeness == Completeness::Complete && !statement(&operation).skipped {
                let text = &statement(&operation).text;
                prop_assert!(text.is_none() || texts.contains(text), "{}", shown(&operation));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60), 0u64..50), 0..20), from_start in any::<bool>()) {
        let mut driver = Driver::new(&Protocols { max_open_operations: 3, ..Protocols::default() });
        if from_start {
            for (index, (from, bytes)) in start().iter().enumerate() {
                driver.bytes(*from, bytes, index as u64 + 1);
            }
        }
        for (client, bytes, gap) in chunks {
            let from = if client { Sender::Client } else { Sender::Server };
            driver.bytes(from, &bytes, 5);
            if gap < 10 {
                driver.gap(from, gap, 5);
            }
        }
        driver.end(End::Abandoned, 99);
        driver.check_contract(true);
    }

    /// Messages that are well-formed by themselves in any order.
    #[test]
    fn any_order_of_messages_keeps_the_contract(order in prop::collection::vec((0usize..26, any::<bool>()), 0..60)) {
        let client_messages = [
            query("SELECT 1; SELECT 2"), query(""), parse("", "SELECT $1", &[]), parse("s", "SELECT 2", &[23]),
            bind("", "", &["1"]), bind("p", "s", &[]), describe(b'S', "s"), describe(b'P', "p"), execute("", 0),
            execute("p", 1), close(b'S', "s"), close(b'P', "p"), sync(), flush(), message(b'd', b"x"), message(b'c', b""),
            message(b'F', &[0; 10]), message(b'f', b"x\0"), message(b'p', b"x\0"),
        ];
        let server_messages = [
            parse_complete(), bind_complete(), message(b'3', b""), parameter_types(&[23]), columns(&[("a", 1, 23, 0)]),
            message(b'n', b""), text_row(&["1"]), complete("SELECT 1"), complete("BEGIN"), complete("ROLLBACK"),
            message(b'I', b""), message(b's', b""), error("XX000", "x"), ready(b'I'), ready(b'T'), ready(b'E'),
            message(b'G', &[0, 0, 0]), message(b'H', &[0, 0, 0]), message(b'd', b"x"), message(b'c', b""),
            message(b'V', &[0; 4]), fields(b'N', &[(b'S', "WARNING"), (b'C', "01000")]), ready(b'I'), ready(b'T'),
        ];
        let mut driver = run(&start());
        for (index, from_client) in order {
            let (from, messages) = match from_client {
                true => (Sender::Client, &client_messages[..]),
                false => (Sender::Server, &server_messages[..]),
            };
            driver.bytes(from, &messages[index % messages.len()], 5);
        }
        driver.check_contract(false);
        driver.end(End::Closed, 99);
        driver.check_contract(true);
        prop_assert!(driver.session.core.open.keys().is_empty());
    }
}
