//! Statements of each kind and outcome, and exactly the spans they become.

use expect_test::expect;

use crate::operation::postgres::{
    Cell, InTransaction, Parameter, ServerError, Statement, StatementKind, TransactionEnd, TransactionNumber,
};
use crate::operation::{Completeness, Operation};
use crate::order::Found;
use crate::record::Role;
use crate::span::build::{Placed, build};
use crate::span::semconv;
use crate::span::testing::{SECRET, check, check_op, conn, op, placed, sql, statement};

#[test]
fn statements() {
    let simple = Statement {
        returned_rows: 2,
        ..statement("SELECT * FROM orders WHERE id = 17 AND pass = 'hunter2'", "SELECT 2")
    };
    check(
        Role::Client,
        sql(simple),
        expect![[r#"
        Client SELECT orders
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT * FROM orders WHERE id = ? AND pass = ?
          db.query.summary: SELECT orders
          db.response.returned_rows: 2i
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    let bound = Statement {
        kind: StatementKind::Extended,
        parameters: ["17", SECRET]
            .map(|v| Parameter { type_oid: 25, value: Some(Cell::Text(v.to_owned())) })
            .to_vec(),
        transaction: Some(InTransaction { number: TransactionNumber(3), is_begun: true, is_end: false }),
        ..statement("UPDATE orders SET note = $2 WHERE id = $1", "UPDATE 1")
    };
    check(
        Role::Client,
        sql(bound),
        expect![[r#"
        Client UPDATE orders
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: UPDATE orders SET note = $2 WHERE id = $1
          db.query.summary: UPDATE orders
          spoor.db.affected_rows: 1i
          spoor.db.transaction: 3i
          spoor.db.transaction.id: abddf558056b77e1
          order.id: 17
          spoor.trace.rule: wire
    "#]],
    );
    let personal = Statement {
        ..statement("SELECT 1 FROM users WHERE email = 'jane@example.org' AND id = $1", "SELECT 0")
    };
    check(
        Role::Client,
        sql(personal),
        expect![[r#"
        Client SELECT users
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ? FROM users WHERE email = ? AND id = $1
          db.query.summary: SELECT users
          db.response.returned_rows: 0i
          spoor.trace.rule: wire
    "#]],
    );
    let unseen = Statement { text: None, ..statement("", "INSERT 0 1") };
    check(
        Role::Client,
        sql(unseen),
        expect![[r#"
        Client INSERT shop
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          spoor.db.text_unknown: Bool(true)
          db.operation.name: INSERT
          spoor.db.affected_rows: 1i
          spoor.trace.rule: wire
    "#]],
    );
    let copy = Statement {
        kind: StatementKind::Copy,
        copy_len: 4096,
        ..statement("COPY parts FROM STDIN", "COPY 12")
    };
    check(
        Role::Client,
        sql(copy),
        expect![[r#"
        Client COPY parts
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: COPY parts FROM STDIN
          db.query.summary: COPY parts
          spoor.db.affected_rows: 12i
          spoor.db.copy_size: 4096i
          spoor.trace.rule: wire
    "#]],
    );
}

#[test]
fn failed_statements() {
    let failed = |code: &str, message: &str| Statement {
        error: Some(ServerError {
            severity: "ERROR".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            table: "orders".to_owned(),
            constraint: if code == "23505" { "orders_pkey".to_owned() } else { String::new() },
            ..ServerError::default()
        }),
        command_tag: None,
        ..statement("INSERT INTO orders (id, note) VALUES (17, 'hunter2')", "")
    };
    let duplicate = "duplicate key value violates unique constraint \"orders_pkey\"";
    check(
        Role::Client,
        sql(failed("23505", duplicate)),
        expect![[r#"
            Client INSERT orders
              1000100 +500
              ERROR duplicate key value violates unique constraint "orders_pkey"
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.query.text: INSERT INTO orders (id, note) VALUES (?, ?)
              db.query.summary: INSERT orders
              db.response.status_code: 23505
              spoor.db.error.table: orders
              spoor.db.error.constraint: orders_pkey
              error.type: 23505
              order.id: 17
              spoor.trace.rule: wire
        "#]],
    );
    check(
        Role::Client,
        sql(failed("22P02", "invalid input syntax for type integer: \"hunter2\"")),
        expect![[r#"
            Client INSERT orders
              1000100 +500
              ERROR invalid input syntax for type integer: "?"
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.query.text: INSERT INTO orders (id, note) VALUES (?, ?)
              db.query.summary: INSERT orders
              db.response.status_code: 22P02
              spoor.db.error.table: orders
              error.type: 22P02
              order.id: 17
              spoor.trace.rule: wire
        "#]],
    );
    check(
        Role::Client,
        sql(failed("01000", "careful")),
        expect![[r#"
            Client INSERT orders
              1000100 +500
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.query.text: INSERT INTO orders (id, note) VALUES (?, ?)
              db.query.summary: INSERT orders
              db.response.status_code: 01000
              spoor.db.error.table: orders
              order.id: 17
              spoor.trace.rule: wire
        "#]],
    );
    let warned = Statement {
        warning: Some(ServerError {
            code: "01000".to_owned(),
            message: SECRET.to_owned(),
            ..ServerError::default()
        }),
        ..statement("SELECT 1", "SELECT 1")
    };
    check(
        Role::Client,
        sql(warned),
        expect![[r#"
        Client SELECT
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ?
          db.query.summary: SELECT
          db.response.returned_rows: 0i
          db.response.status_code: 01000
          spoor.trace.rule: wire
    "#]],
    );
    let skipped = Statement { skipped: true, command_tag: None, ..statement("SELECT 1", "") };
    check(
        Role::Client,
        sql(skipped),
        expect![[r#"
        Client SELECT
          1000100 +500
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ?
          db.query.summary: SELECT
          spoor.db.skipped: Bool(true)
          spoor.trace.rule: wire
    "#]],
    );
    let login = Statement {
        kind: StatementKind::Startup,
        text: None,
        ..failed("28P01", "password authentication failed for user \"hunter2\"")
    };
    check(
        Role::Client,
        sql(login),
        expect![[r#"
            Client CONNECT shop
              1000100 +500
              ERROR password authentication failed for user "?"
              db.system.name: postgresql
              db.namespace: shop
              server.address: 10.0.0.2
              network.peer.address: 10.0.0.2
              network.peer.port: 5432i
              db.operation.name: CONNECT
              db.response.status_code: 28P01
              spoor.db.error.table: orders
              error.type: 28P01
              spoor.trace.rule: wire
        "#]],
    );
    let cut =
        Operation { completeness: Completeness::Cut, ..op(Role::Client, sql(statement("SELECT 1", ""))) };
    check_op(
        &cut,
        expect![[r#"
        Client SELECT
          1000100 +500
          ERROR
          db.system.name: postgresql
          db.namespace: shop
          server.address: 10.0.0.2
          network.peer.address: 10.0.0.2
          network.peer.port: 5432i
          db.query.text: SELECT ?
          db.query.summary: SELECT
          error.type: connection_closed
          spoor.trace.rule: wire
          spoor.incomplete: cut
    "#]],
    );
}

#[test]
fn the_outcome_of_its_transaction_is_on_a_statement_where_it_is_known() {
    let outcome = |transaction, end| {
        let statement = Statement { transaction, ..statement("UPDATE orders SET a = 1", "UPDATE 1") };
        let op = op(Role::Client, sql(statement));
        let (conn, found) = (conn(Role::Client, 5432), Found::default());
        let span = build(&Placed { transaction_end: end, ..placed(&op, &conn, &found) });
        let outcome = span.attributes.iter().find(|(name, _)| *name == semconv::SPOOR_DB_TRANSACTION_OUTCOME);
        outcome.map(|(_, value)| value.clone())
    };
    let block = InTransaction { number: TransactionNumber(3), is_begun: true, is_end: false };
    for (end, expected) in [
        (TransactionEnd::Committed, "committed"),
        (TransactionEnd::RolledBack, "rolled_back"),
        (TransactionEnd::Unknown, "unknown"),
    ] {
        assert_eq!(outcome(Some(block), Some(end)), Some(expected.into()));
        assert_eq!(outcome(None, Some(end)), None, "it ran outside of a block");
    }
    assert_eq!(outcome(Some(block), None), None);
}
