//! What a connection does, and the operations it makes.

use super::build::*;
use super::*;
use crate::operation::postgres::TransactionEnd;

#[test]
fn a_simple_query_is_one_operation() {
    check(
        &started(&[
            client(&[query("SELECT id FROM orders")]),
            server(&[columns(&[("id", 16_400, 23, 0)]), text_row(&["17"])]),
            server(&[text_row(&["18"]), complete("SELECT 2"), ready(b'I')]),
        ]),
        &[
            "Simple SELECT id FROM orders | columns id | rows 17;18 | returned 2 | tag SELECT 2 | at 5-5 6-7 end 7",
        ],
    );
}

#[test]
fn each_statement_of_a_query_is_an_operation_with_its_part_of_the_message() {
    let text = "BEGIN; INSERT INTO a VALUES (1) ;COMMIT";
    let steps = started(&[
        client(&[query(text)]),
        server(&[complete("BEGIN"), complete("INSERT 0 1")]),
        server(&[complete("COMMIT"), ready(b'I')]),
    ]);
    check(
        &steps,
        &[
            "Simple BEGIN | tag BEGIN | block 1 | at 5-5 6-6 end 6",
            "Simple INSERT INTO a VALUES (1) | tag INSERT 0 1 | block 1 | at 5-5 6-6 end 6",
            "Simple COMMIT | tag COMMIT | block 1 | at 5-5 7-7 end 7",
        ],
    );
    let mut driver = run(&steps);
    driver.end(End::Closed, 99);
    let extents: Vec<_> =
        driver.operations().iter().map(|op| (op.request.start.pos, op.request.end.pos)).collect();
    let start = extents[0].0;
    let parts = [start, start + 5 + 7, start + 5 + 33, start + 5 + text.len() as u64 + 1];
    assert_eq!(extents, [(parts[0], parts[1]), (parts[1], parts[2]), (parts[2], parts[3])]);
}

#[test]
fn an_error_in_a_query_skips_its_other_statements() {
    check(
        &started(&[
            client(&[query("SELECT 1; SELECT 1/0; SELECT 3")]),
            server(&[columns(&[("a", 0, 23, 0)]), text_row(&["1"]), complete("SELECT 1")]),
            server(&[error("22012", "division by zero"), ready(b'I')]),
        ]),
        &[
            "Simple SELECT 1 | columns a | rows 1 | returned 1 | tag SELECT 1 | at 5-5 6-6 end 6",
            "Simple SELECT 1/0 | error 22012 division by zero | at 5-5 7-7 end 7",
            "Simple SELECT 3 | skipped yes | at 5-5 end 7",
        ],
    );
}

#[test]
fn an_empty_query_is_an_operation_without_tag() {
    check(
        &started(&[client(&[query(" -- ping")]), server(&[message(b'I', b""), ready(b'I')])]),
        &["Simple -- ping | at 5-5 6-6 end 6"],
    );
}

#[test]
fn an_extended_query_carries_parameters_and_rows_in_both_formats() {
    let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes();
    check(
        &started(&[
            client(&[
                parse(
                    "",
                    "SELECT id, code FROM orders WHERE id = $1 AND user_id = $2 AND x = $3",
                    &[23, 2950, 0],
                ),
                bind_with("", "", &[1, 1, 0], &[Some(&17i32.to_be_bytes()), Some(&id), None], &[1, 0]),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]),
            server(&[
                parse_complete(),
                bind_complete(),
                columns(&[("id", 16_400, 20, 1), ("code", 16_400, 25, 0)]),
                row(&[Some(&17i64.to_be_bytes()), Some(b"A-17")]),
                row(&[None, Some(b"A-18")]),
                complete("SELECT 2"),
                ready(b'I'),
            ]),
        ]),
        &["Extended SELECT id, code FROM orders WHERE id = $1 AND user_id = $2 AND x = $3 \
           | params 17,01234567-89ab-cdef-0123-456789abcdef,NULL | columns id,code | rows 17,A-17;NULL,A-18 | returned 2 \
           | tag SELECT 2 | at 5-5 6-6 end 6"],
    );
}

#[test]
fn a_named_statement_is_known_again_and_described_once() {
    check(
        &started(&[
            client(&[parse("s1", "SELECT a FROM t WHERE b = $1", &[]), describe(b'S', "s1"), sync()]),
            server(&[parse_complete(), parameter_types(&[20]), columns(&[("a", 9, 23, 0)]), ready(b'I')]),
            client(&[bind_with("", "s1", &[1], &[Some(&5i64.to_be_bytes())], &[1]), execute("", 0), sync()]),
            server(&[bind_complete(), row(&[Some(&6i32.to_be_bytes())]), complete("SELECT 1"), ready(b'I')]),
            client(&[bind_with("", "s1", &[1], &[Some(&7i64.to_be_bytes())], &[1]), execute("", 0), sync()]),
            server(&[bind_complete(), complete("SELECT 0"), ready(b'I')]),
        ]),
        &[
            "Extended SELECT a FROM t WHERE b = $1 | name s1 | params 5 | columns a | rows 6 | returned 1 | tag SELECT 1 \
             | at 7-7 8-8 end 8",
            "Extended SELECT a FROM t WHERE b = $1 | name s1 | params 7 | columns a | tag SELECT 0 | at 9-9 10-10 end 10",
        ],
    );
}

#[test]
fn a_description_that_comes_with_the_execution_is_used() {
    check(
        &started(&[
            client(&[
                parse("", "SELECT a FROM t", &[]),
                describe(b'S', ""),
                bind("", "", &[]),
                execute("", 0),
                sync(),
            ]),
            server(&[
                parse_complete(),
                parameter_types(&[]),
                columns(&[("a", 9, 23, 0)]),
                bind_complete(),
                text_row(&["1"]),
                complete("SELECT 1"),
                ready(b'I'),
            ]),
        ]),
        &["Extended SELECT a FROM t | columns a | rows 1 | returned 1 | tag SELECT 1 | at 5-5 6-6 end 6"],
    );
}

#[test]
fn flushed_steps_of_one_statement_are_one_operation() {
    check(
        &started(&[
            client(&[parse("", "SELECT a FROM t WHERE b = $1", &[]), describe(b'S', ""), flush()]),
            server(&[parse_complete(), parameter_types(&[23]), columns(&[("a", 9, 23, 0)])]),
            client(&[bind_with("", "", &[1], &[Some(&5i32.to_be_bytes())], &[]), execute("", 0), sync()]),
            server(&[bind_complete(), complete("SELECT 0"), ready(b'I')]),
        ]),
        &["Extended SELECT a FROM t WHERE b = $1 | params 5 | columns a | tag SELECT 0 | at 5-7 8-8 end 8"],
    );
}

#[test]
fn pipelined_statements_have_their_own_times() {
    check(
        &started(&[
            client(&[
                parse("", "INSERT INTO a VALUES ($1)", &[]),
                bind("", "", &["1"]),
                execute("", 0),
                sync(),
            ]),
            client(&[
                parse("", "DELETE FROM b WHERE c = $1", &[]),
                bind("", "", &["2"]),
                execute("", 0),
                sync(),
            ]),
            server(&[parse_complete(), bind_complete(), complete("INSERT 0 1"), ready(b'I')]),
            server(&[parse_complete(), bind_complete(), complete("DELETE 3")]),
            server(&[ready(b'I')]),
        ]),
        &[
            "Extended INSERT INTO a VALUES ($1) | params 1 | tag INSERT 0 1 | at 5-5 7-7 end 7",
            "Extended DELETE FROM b WHERE c = $1 | params 2 | tag DELETE 3 | at 6-6 8-8 end 8",
        ],
    );
}

#[test]
fn an_error_skips_up_to_the_next_sync_and_no_further() {
    check(
        &started(&[
            client(&[
                parse("s1", "INSERT INTO a VALUES ($1)", &[]),
                bind("", "s1", &["1"]),
                execute("", 0),
                bind("", "s1", &["x"]),
                execute("", 0),
                bind("", "s1", &["3"]),
                execute("", 0),
                sync(),
                bind("", "s1", &["4"]),
                execute("", 0),
                sync(),
            ]),
            server(&[
                parse_complete(),
                bind_complete(),
                complete("INSERT 0 1"),
                error("22P02", "invalid input"),
            ]),
            server(&[ready(b'I'), bind_complete(), complete("INSERT 0 1"), ready(b'I')]),
        ]),
        &[
            "Extended INSERT INTO a VALUES ($1) | name s1 | params 1 | tag INSERT 0 1 | at 5-5 6-6 end 6",
            "Extended INSERT INTO a VALUES ($1) | name s1 | params x | error 22P02 invalid input | at 5-5 6-6 end 6",
            "Extended INSERT INTO a VALUES ($1) | name s1 | params 3 | skipped yes | at 5-5 end 5",
            "Extended INSERT INTO a VALUES ($1) | name s1 | params 4 | tag INSERT 0 1 | at 5-5 7-7 end 7",
        ],
    );
}

#[test]
fn an_error_that_comes_before_the_rest_of_the_batch_skips_that_rest() {
    check(
        &started(&[
            client(&[parse("", "SELECT x", &[]), flush()]),
            server(&[error("42703", "column \"x\" does not exist")]),
            client(&[bind("", "", &[]), execute("", 0), sync()]),
            server(&[ready(b'I')]),
            client(&[query("SELECT 1")]),
            server(&[complete("SELECT 1"), ready(b'I')]),
        ]),
        &[
            "Extended SELECT x | error 42703 column \"x\" does not exist | at 5-5 6-6 end 6",
            "Extended <unknown> | skipped yes | at 7-7 end 7",
            "Simple SELECT 1 | tag SELECT 1 | at 9-9 10-10 end 10",
        ],
    );
}

#[test]
fn a_failed_preparation_is_an_operation_and_leaves_the_old_statement() {
    check(
        &started(&[
            client(&[parse("s", "SELECT 1", &[]), sync()]),
            server(&[parse_complete(), ready(b'I')]),
            client(&[parse("s", "SELECT 2", &[]), describe(b'S', "s"), sync()]),
            server(&[error("42P05", "already exists"), ready(b'I')]),
            client(&[bind("", "s", &[]), execute("", 0), sync()]),
            server(&[bind_complete(), complete("SELECT 1"), ready(b'I')]),
        ]),
        &[
            "Extended SELECT 2 | name s | error 42P05 already exists | at 7-7 8-8 end 8",
            "Extended SELECT 1 | name s | tag SELECT 1 | at 9-9 10-10 end 10",
        ],
    );
}

#[test]
fn a_commit_that_fails_at_sync_is_an_operation() {
    check(
        &started(&[
            client(&[parse("", "INSERT INTO a VALUES (1)", &[]), bind("", "", &[]), execute("", 0), sync()]),
            server(&[
                parse_complete(),
                bind_complete(),
                complete("INSERT 0 1"),
                error("23503", "violates"),
                ready(b'I'),
            ]),
        ]),
        &[
            "Extended INSERT INTO a VALUES (1) | tag INSERT 0 1 | at 5-5 6-6 end 6",
            "Extended <unknown> | error 23503 violates | at 5-5 6-6 end 6",
        ],
    );
}

#[test]
fn a_suspended_portal_goes_on_with_its_next_execute() {
    let suspended = || message(b's', b"");
    check(
        &started(&[
            client(&[query("BEGIN")]),
            server(&[complete("BEGIN"), ready(b'T')]),
            client(&[parse("", "SELECT a FROM t", &[]), bind("p", "", &[]), execute("p", 2), sync()]),
            server(&[
                parse_complete(),
                bind_complete(),
                text_row(&["1"]),
                text_row(&["2"]),
                suspended(),
                ready(b'T'),
            ]),
            client(&[execute("p", 2), sync()]),
            server(&[text_row(&["3"]), complete("SELECT 1"), ready(b'T')]),
            client(&[parse("", "SELECT b FROM t", &[]), bind("q", "", &[]), execute("q", 1), sync()]),
            server(&[parse_complete(), bind_complete(), text_row(&["1"]), suspended(), ready(b'T')]),
            client(&[close(b'P', "q"), sync()]),
            server(&[message(b'3', b""), ready(b'T')]),
            client(&[parse("", "SELECT c FROM t", &[]), bind("r", "", &[]), execute("r", 1), sync()]),
            server(&[parse_complete(), bind_complete(), text_row(&["1"]), suspended(), ready(b'T')]),
            client(&[query("COMMIT")]),
            server(&[complete("COMMIT"), ready(b'I')]),
        ]),
        &[
            "Simple BEGIN | tag BEGIN | block 1 | at 5-5 6-6 end 6",
            "Extended SELECT a FROM t | rows 1;2;3 | returned 3 | tag SELECT 1 | block 1 | at 7-7 8-10 end 10",
            "Extended SELECT b FROM t | rows 1 | returned 1 | block 1 | at 11-11 12-12 end 12",
            "Simple COMMIT | tag COMMIT | block 1 | at 17-17 18-18 end 18",
            "Extended SELECT c FROM t | rows 1 | returned 1 | block 1 | at 15-15 16-16 end 16",
        ],
    );
}

#[test]
fn transaction_blocks_are_numbered_and_savepoints_do_not_end_them() {
    let exchange =
        |text: &str, tag: &str, status| [client(&[query(text)]), server(&[complete(tag), ready(status)])];
    let steps: Vec<Step> = [
        exchange("SELECT 0", "SELECT 1", b'I'),
        exchange("BEGIN", "BEGIN", b'T'),
        exchange("SAVEPOINT s", "SAVEPOINT", b'T'),
        exchange("ROLLBACK TO s", "ROLLBACK", b'T'),
        exchange("ROLLBACK", "ROLLBACK", b'I'),
        exchange("SELECT 1", "SELECT 1", b'I'),
        exchange("START TRANSACTION", "BEGIN", b'T'),
        exchange("COMMIT AND CHAIN", "COMMIT", b'T'),
        exchange("SELECT 2", "SELECT 1", b'T'),
        exchange("END", "COMMIT", b'I'),
    ]
    .concat();
    let mut driver = run(&started(&steps));
    driver.end(End::Closed, 99);
    let all = driver.operations();
    let blocks = all.iter().map(|op| statement(op).transaction);
    let numbers: Vec<_> = blocks.clone().map(|block| block.map(|block| block.number.0)).collect();
    let expected = [None, Some(1), Some(1), Some(1), Some(1), None, Some(2), Some(2), Some(3), Some(3)];
    assert_eq!(numbers, expected);
    assert!(blocks.clone().flatten().all(|block| block.is_begun));
    let ends: Vec<_> = blocks.clone().map(|block| block.is_some_and(|block| block.is_end)).collect();
    assert_eq!(ends, [false, false, false, false, true, false, false, true, false, true]);
}

#[test]
fn a_block_whose_beginning_was_not_seen_is_none_that_is_known_whole() {
    let exchange =
        |text: &str, tag: &str, status| [client(&[query(text)]), server(&[complete(tag), ready(status)])];
    let steps: Vec<Step> = [
        exchange("SELECT 0", "SELECT 1", b'T'),
        exchange("SELECT 1", "SELECT 1", b'T'),
        exchange("COMMIT", "COMMIT", b'I'),
        exchange("BEGIN", "BEGIN", b'T'),
    ]
    .concat();
    let mut driver = run(&steps);
    driver.end(End::Closed, 99);
    let all = driver.operations();
    let begun: Vec<_> = all.iter().map(|op| statement(op).transaction.map(|block| block.is_begun)).collect();
    assert_eq!(begun, [None, Some(false), Some(false), Some(true)]);
}

#[test]
fn copy_counts_its_data_in_both_directions() {
    let data = |text: &[u8]| message(b'd', text);
    check(
        &started(&[
            client(&[query("COPY a FROM STDIN")]),
            server(&[message(b'G', &[0, 0, 0])]),
            client(&[data(b"1\n"), data(b"22\n")]),
            client(&[message(b'c', b"")]),
            server(&[complete("COPY 2"), ready(b'I')]),
            client(&[query("COPY a TO STDOUT")]),
            server(&[
                message(b'H', &[0, 0, 0]),
                data(b"1\n"),
                data(b"22\n"),
                message(b'c', b""),
                complete("COPY 2"),
                ready(b'I'),
            ]),
            client(&[query("COPY a FROM STDIN")]),
            server(&[message(b'G', &[0, 0, 0])]),
            client(&[data(b"x\n"), message(b'f', b"no\0")]),
            server(&[error("57014", "COPY from stdin failed"), ready(b'I')]),
        ]),
        &[
            "Copy COPY a FROM STDIN | tag COPY 2 | copied 5 | at 5-8 6-9 end 9",
            "Copy COPY a TO STDOUT | tag COPY 2 | copied 5 | at 10-10 11-11 end 11",
            "Copy COPY a FROM STDIN | error 57014 COPY from stdin failed | copied 2 | at 12-14 13-15 end 15",
        ],
    );
}

#[test]
fn a_sync_sent_before_the_data_of_an_extended_copy_is_not_answered() {
    check(
        &started(&[
            client(&[parse("", "COPY a FROM STDIN", &[]), bind("", "", &[]), execute("", 0), sync()]),
            server(&[parse_complete(), bind_complete(), message(b'G', &[0, 0, 0])]),
            client(&[message(b'd', b"1\n"), message(b'c', b""), sync()]),
            server(&[complete("COPY 1"), ready(b'I')]),
            client(&[query("SELECT 1")]),
            server(&[complete("SELECT 1"), ready(b'I')]),
        ]),
        &[
            "Copy COPY a FROM STDIN | tag COPY 1 | copied 2 | at 5-7 6-8 end 8",
            "Simple SELECT 1 | tag SELECT 1 | at 9-9 10-10 end 10",
        ],
    );
}

#[test]
fn function_calls_notices_and_notifications() {
    let warning =
        || fields(b'N', &[(b'S', "WARNING"), (b'V', "WARNING"), (b'C', "25P01"), (b'M', "no transaction")]);
    let notice = || fields(b'N', &[(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', "hello")]);
    let notification = || message(b'A', b"\0\0\0\x07channel\0payload\0");
    check(
        &started(&[
            server(&[notification()]),
            client(&[query("ROLLBACK")]),
            server(&[notice(), warning(), notification(), complete("ROLLBACK"), ready(b'I')]),
            client(&[message(b'F', &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0])]),
            server(&[message(b'V', &[0xff; 4]), ready(b'I')]),
        ]),
        &[
            "Simple ROLLBACK | tag ROLLBACK | warning 25P01 | at 6-6 7-7 end 7",
            "FunctionCall <unknown> | at 8-8 9-9 end 9",
        ],
    );
}

/// What each statement says of its block: its text, number and how it ended that.
#[track_caller]
fn check_ends(steps: &[Step], end: End, expected: &[(&str, Option<u64>, Option<TransactionEnd>)]) {
    let mut driver = run(&started(steps));
    driver.end(end, 99);
    let found: Vec<_> = driver
        .operations()
        .iter()
        .map(statement)
        .map(|s| (s.text.clone().unwrap_or_default(), s.transaction.map(|block| block.number.0), s.ends))
        .collect();
    let expected: Vec<_> =
        expected.iter().map(|(text, block, ends)| ((*text).to_owned(), *block, *ends)).collect();
    assert_eq!(found, expected);
}

#[test]
fn how_a_block_ended_is_told_by_its_last_statement() {
    use TransactionEnd::{Committed, RolledBack, Unknown};
    let asks = |text: &str| client(&[query(text)]);
    let done = |tag: &str, status| server(&[complete(tag), ready(status)]);
    let fails = |code: &str, status| server(&[error(code, "x"), ready(status)]);
    check_ends(
        &[
            asks("BEGIN"),
            done("BEGIN", b'T'),
            asks("END"),
            done("COMMIT", b'I'),
            asks("COMMIT"),
            done("COMMIT", b'I'),
        ],
        End::Closed,
        &[("BEGIN", Some(1), None), ("END", Some(1), Some(Committed)), ("COMMIT", None, None)],
    );
    // "COMMIT" of a block in which a statement failed is answered with "ROLLBACK".
    check_ends(
        &[
            asks("BEGIN"),
            done("BEGIN", b'T'),
            asks("INSERT INTO a VALUES (1)"),
            fails("23505", b'E'),
            asks("COMMIT"),
            done("ROLLBACK", b'I'),
        ],
        End::Closed,
        &[
            ("BEGIN", Some(1), None),
            ("INSERT INTO a VALUES (1)", Some(1), None),
            ("COMMIT", Some(1), Some(RolledBack)),
        ],
    );
    // Back to a savepoint is no end; a commit that fails is.
    check_ends(
        &[
            asks("BEGIN"),
            done("BEGIN", b'T'),
            asks("ROLLBACK TO SAVEPOINT a"),
            done("ROLLBACK", b'T'),
            asks("COMMIT"),
            fails("40001", b'I'),
        ],
        End::Closed,
        &[
            ("BEGIN", Some(1), None),
            ("ROLLBACK TO SAVEPOINT a", Some(1), None),
            ("COMMIT", Some(1), Some(RolledBack)),
        ],
    );
    // Its end was asked for, and the connection ended; or it is left to another session.
    check_ends(
        &[asks("BEGIN"), done("BEGIN", b'T'), asks("COMMIT")],
        End::Reset,
        &[("BEGIN", Some(1), None), ("COMMIT", Some(1), Some(Unknown))],
    );
    check_ends(
        &[
            asks("BEGIN"),
            done("BEGIN", b'T'),
            asks("PREPARE TRANSACTION 'x'"),
            done("PREPARE TRANSACTION", b'I'),
        ],
        End::Closed,
        &[("BEGIN", Some(1), None), ("PREPARE TRANSACTION 'x'", Some(1), Some(Unknown))],
    );
    // A server that shuts down may have committed before it said so.
    let fatal = fields(b'E', &[(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "57P01"), (b'M', "x")]);
    check_ends(
        &[asks("BEGIN"), done("BEGIN", b'T'), asks("COMMIT"), server(&[fatal])],
        End::Closed,
        &[("BEGIN", Some(1), None), ("COMMIT", Some(1), Some(Unknown))],
    );
    // Without its text, "ROLLBACK" may be one to a savepoint; "COMMIT" is what it says.
    let executes = |name: &str| client(&[bind("", name, &[]), execute("", 0), sync()]);
    let executed = |tag: &str, status| server(&[bind_complete(), complete(tag), ready(status)]);
    check_ends(
        &[
            asks("BEGIN"),
            done("BEGIN", b'T'),
            executes("older"),
            executed("ROLLBACK", b'T'),
            executes("older"),
            executed("COMMIT", b'I'),
        ],
        End::Closed,
        &[("BEGIN", Some(1), None), ("", Some(1), None), ("", Some(1), Some(Committed))],
    );
}
