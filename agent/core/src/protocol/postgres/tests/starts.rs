//! How a connection begins, is joined late or is left alone, and the operations it makes.

use super::build::*;
use super::*;
use crate::time::ns;

#[test]
fn a_start_that_fails_is_an_operation() {
    check(
        &[
            client(&[request_code(80_877_104, b"")]),
            (Sender::Server, b"N".to_vec()),
            client(&[request_code(80_877_103, b"")]),
            (Sender::Server, b"N".to_vec()),
            client(&[startup(&["user", "shop"])]),
            server(&[fields(b'E', &[(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "28P01"), (b'M', "password")])]),
        ],
        &["Startup <unknown> | error 28P01 password | at 5-5 6-6 end 6"],
    );
    check(&[client(&[startup(&["user", "shop"])])], &["Startup <unknown> | at 1-1 end 99 | but Cut"]);
    // A client that ends when asked for a password (psql does) has not failed.
    check(&[client(&[startup(&["user", "shop"])]), server(&[message(b'R', &[0, 0, 0, 3])])], &[]);
}

#[test]
fn encrypted_replicating_and_cancelling_connections_are_left_alone() {
    for steps in [
        vec![
            client(&[request_code(80_877_103, b"")]),
            (Sender::Server, b"S".to_vec()),
            client(&[query("SELECT 1")]),
        ],
        vec![
            client(&[request_code(80_877_104, b"")]),
            (Sender::Server, b"G".to_vec()),
            client(&[query("SELECT 1")]),
        ],
        vec![client(&[request_code(80_877_102, &[0; 8])]), client(&[query("SELECT 1")])],
        vec![client(&[startup(&["user", "r", "replication", "true"])]), client(&[query("SELECT 1")])],
    ] {
        let mut driver = run(&steps);
        assert_eq!(
            (driver.session.want(Sender::Client), driver.session.want(Sender::Server)),
            (Want::Nothing, Want::Nothing)
        );
        driver.end(End::Closed, 99);
        assert_eq!(driver.operations(), []);
    }
}

#[test]
fn the_connection_is_known_from_its_start_and_no_secret_is_kept() {
    let mut driver = run(&started(&[client(&[query("SELECT 1")])]));
    assert!(!format!("{:?}", driver.session).contains("secret"));
    driver.end(End::Reset, 99);
    let operations = driver.operations();
    let [operation] = operations.as_slice() else { panic!("{operations:?}") };
    assert_eq!(statement(operation).database.as_deref(), Some("orders"));
    assert_eq!(statement(operation).user.as_deref(), Some("shop"));
    assert_eq!((operation.completeness, operation.ended_at), (Completeness::Cut, ns(99)));
    assert_eq!(operation.shape, crate::operation::OpSide::Outgoing);
}

#[test]
fn backslashes_escape_when_the_server_says_so() {
    let status = |value: &str| message(b'S', format!("standard_conforming_strings\0{value}\0").as_bytes());
    check(
        &started(&[
            server(&[status("off")]),
            client(&[query(r"SELECT 'a\'; b'; SELECT 2")]),
            server(&[complete("SELECT 1"), complete("SELECT 1"), status("on"), ready(b'I')]),
            client(&[query(r"SELECT 'a\'; SELECT 3")]),
            server(&[complete("SELECT 1"), complete("SELECT 1"), ready(b'I')]),
        ]),
        &[
            r"Simple SELECT E'a\'; b' | tag SELECT 1 | at 6-6 7-7 end 7",
            "Simple SELECT 2 | tag SELECT 1 | at 6-6 7-7 end 7",
            r"Simple SELECT 'a\' | tag SELECT 1 | at 8-8 9-9 end 9",
            "Simple SELECT 3 | tag SELECT 1 | at 8-8 9-9 end 9",
        ],
    );
}

#[test]
fn a_connection_older_than_the_agent_is_followed_from_its_next_message() {
    let mut driver = Driver::new(&Protocols::default()).joined_at(1000);
    let steps = [
        server(&[text_row(&["late answer"]), complete("SELECT 1"), ready(b'T')]),
        client(&[bind("", "s1", &["17"]), execute("", 0), sync()]),
        server(&[bind_complete(), text_row(&["18"]), complete("SELECT 1"), ready(b'T')]),
    ];
    for (index, (from, bytes)) in steps.iter().enumerate() {
        driver.bytes(*from, bytes, index as u64 + 1);
    }
    driver.end(End::Abandoned, 99);
    let found: Vec<_> = driver.operations().iter().map(shown).collect();
    assert_eq!(
        found,
        [
            "Extended <unknown> | name s1 | params 17 | rows 18 | returned 1 | tag SELECT 1 | block 1 | at 2-2 3-3 end 3"
        ]
    );
    assert_eq!(driver.discarded(Discard::Unsynchronised), 0);
}

#[test]
fn joining_inside_a_message_finds_the_next() {
    let mut driver = Driver::new(&Protocols::default()).joined_at(1000);
    let mut bytes = b"rest of a message that began before 'Q and went on".to_vec();
    let skipped = bytes.len() as u64;
    bytes.extend([query("SELECT 1"), sync()].concat());
    driver.bytes(Sender::Client, &bytes, 1);
    driver.bytes(Sender::Server, &[complete("SELECT 1"), ready(b'I')].concat(), 2);
    assert_eq!(driver.discarded(Discard::Unsynchronised), skipped);
    let found: Vec<_> = driver.operations().iter().map(shown).collect();
    assert_eq!(found, ["Simple SELECT 1 | tag SELECT 1 | at 1-1 2-2 end 2"]);
}
