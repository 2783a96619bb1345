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

/// The text in windows-1251, as far as these tests need it.
fn windows_1251(message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(message.to_vec()).expect("written as UTF-8");
    text.chars().map(|c| if c.is_ascii() { c as u8 } else { (c as u32 - 'А' as u32 + 0xc0) as u8 }).collect()
}

#[test]
fn texts_are_in_the_encoding_that_the_client_asked_for() {
    let ready = message(b'Z', b"I");
    let begun = |parameters: &[&str]| {
        let mut driver = Driver::new(&Protocols::default());
        driver.bytes(Sender::Client, &startup(parameters), 1);
        driver.bytes(Sender::Server, &[message(b'R', &[0; 4]), ready.clone()].concat(), 2);
        driver
    };
    let asked = begun(&["user", "shop", "client_encoding", "WIN1251"]);
    let by_options = begun(&["user", "shop", "options", "-c client_encoding=win1251 -c x=y"]);
    let mut told = begun(&["user", "shop"]);
    told.bytes(Sender::Server, &message(b'S', b"client_encoding\0WIN1251\0"), 3);
    for mut driver in [asked, by_options, told] {
        let text = "SELECT город FROM заказы; SELECT 'Тула'";
        // A body's length is that of its bytes.
        let body = windows_1251(format!("{text}\0").as_bytes());
        driver.bytes(Sender::Client, &message(b'Q', &body), 4);
        let columns = windows_1251(&[b"\0\x01", "город".as_bytes(), &[0; 19]].concat());
        let row = windows_1251(&[b"\0\x01\0\0\0\x04", "Тула".as_bytes()].concat());
        driver.bytes(Sender::Server, &message(b'T', &columns), 5);
        driver.bytes(Sender::Server, &[message(b'D', &row), message(b'C', b"SELECT 1\0")].concat(), 6);
        let error = windows_1251("SОШИБКА\0C42P01\0Mнет таблицы\0\0".as_bytes());
        driver.bytes(Sender::Server, &[message(b'E', &error), ready.clone()].concat(), 7);
        let operations = driver.operations();
        let first = statement(&operations[0]);
        assert_eq!(first.text.as_deref(), Some("SELECT город FROM заказы"));
        assert_eq!(first.columns, ["город"]);
        assert_eq!(cell(&first.first_rows[0][0]), "Тула");
        let second = statement(&operations[1]);
        assert_eq!(second.error.as_ref().map(|error| error.message.as_str()), Some("нет таблицы"));
        // Both tile the message: positions count bytes on the wire.
        assert_eq!(operations[0].request.end.pos, operations[1].request.start.pos);
        let sent = "SELECT город FROM заказы; ".chars().count() as u64 + 5;
        assert_eq!(operations[1].request.start.pos - operations[0].request.start.pos, sent);
    }
}

#[test]
fn statements_that_sql_prepares_are_known_to_execute_and_to_bind() {
    let mut driver = Driver::new(&Protocols::default());
    let done = |tag: &str| [message(b'C', format!("{tag}\0").as_bytes()), message(b'Z', b"I")].concat();
    let mut at = 0;
    let mut run = |driver: &mut Driver, asked: Vec<u8>, answer: Vec<u8>| {
        at += 2;
        driver.bytes(Sender::Client, &asked, at);
        driver.bytes(Sender::Server, &answer, at + 1);
        driver.operations().pop().expect("an operation")
    };
    run(
        &mut driver,
        query("PREPARE p(int, text) AS UPDATE orders SET status = $2 WHERE id = $1"),
        done("PREPARE"),
    );
    let executed = run(&mut driver, query("EXECUTE p(622, 'paid')"), done("UPDATE 1"));
    let executed = statement(&executed);
    assert_eq!(executed.executes.as_deref(), Some("UPDATE orders SET status = $2 WHERE id = $1"));
    assert_eq!(executed.parameters.iter().map(|p| cell(&p.value)).collect::<Vec<_>>(), ["622", "paid"]);
    let asked = [
        bind_with("", "p", &[], &[Some(b"623"), Some(b"paid")], &[]),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ];
    let bound = run(&mut driver, asked.concat(), [message(b'2', b""), done("UPDATE 1")].concat());
    assert_eq!(statement(&bound).text.as_deref(), Some("UPDATE orders SET status = $2 WHERE id = $1"));
    // One that failed, or was taken away, is not known.
    let error =
        [fields(b'E', &[(b'S', "ERROR"), (b'C', "42P05"), (b'M', "x")]), message(b'Z', b"I")].concat();
    run(&mut driver, query("PREPARE q AS SELECT 1"), error);
    assert_eq!(statement(&run(&mut driver, query("EXECUTE q"), done("SELECT 1"))).executes, None);
    run(&mut driver, query("DEALLOCATE ALL"), done("DEALLOCATE ALL"));
    assert_eq!(statement(&run(&mut driver, query("EXECUTE p(1, 'x')"), done("UPDATE 1"))).executes, None);
}
