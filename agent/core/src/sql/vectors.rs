//! The acceptance cases of OpenTelemetry semantic conventions v1.44.0 for SQL: 24 queries with their sanitised text and
//! summary, as a table of ours.
//!
//! Source of the data: `docs/non-normative/database-test-cases/db-sql-test-cases.json` of
//! open-telemetry/semantic-conventions. Where it allows a text with and without a collapsed `IN` list, we keep the list.

use super::{sanitize, summary};

/// Name, query, sanitised text, summary.
const CASES: [(&str, &str, &str, &str); 24] = [
    ("numeric_literal_integers", "SELECT 12, -12, +12", "SELECT ?, ?, ?", "SELECT"),
    (
        "numeric_literal_with_decimal_point",
        "SELECT 12.34, -12.34, +12.34, .01, -.01",
        "SELECT ?, ?, ?, ?, ?",
        "SELECT",
    ),
    ("numeric_literal_exponential", "SELECT 12.34e56, -12.34e56, +12.34e56", "SELECT ?, ?, ?", "SELECT"),
    (
        "numeric_literal_negative_exponential",
        "SELECT 12.34e-56, -12.34e-56, +12.34e-56",
        "SELECT ?, ?, ?",
        "SELECT",
    ),
    ("arithmetic_on_numeric_literals", "SELECT 99+100", "SELECT ??", "SELECT"),
    ("hex_literal", "SELECT 0xDEADBEEF, 0XdeadBEEF", "SELECT ?, ?", "SELECT"),
    ("string_literal", "SELECT 'hello'", "SELECT ?", "SELECT"),
    ("string_literal_escaped_single_quote", "SELECT 'My name''s not important'", "SELECT ?", "SELECT"),
    ("string_with_embedded_newline", "SELECT 'My name is \n not important'", "SELECT ?", "SELECT"),
    (
        "numbers_in_identifiers",
        "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=1234",
        "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=?",
        "SELECT covid19",
    ),
    (
        "periods_in_identifiers",
        "SELECT a FROM dbo.Table JOIN dbo.AnotherTable",
        "SELECT a FROM dbo.Table JOIN dbo.AnotherTable",
        "SELECT dbo.Table dbo.AnotherTable",
    ),
    (
        "insert_into",
        "INSERT INTO X VALUES(1, 23456, 123.456, 99+100)",
        "INSERT INTO X VALUES(?, ?, ?, ??)",
        "INSERT X",
    ),
    ("uuid", "SELECT { guid '01234567-89ab-cdef-0123-456789abcdef' }", "SELECT { guid ? }", "SELECT"),
    (
        "in_clause",
        "SELECT * FROM table WHERE value IN (123, 456, 'abc')",
        "SELECT * FROM table WHERE value IN (?, ?, ?)",
        "SELECT table",
    ),
    (
        "comments",
        "SELECT column -- end of line comment\nFROM /* block \n comment */ table",
        "SELECT column \nFROM  table",
        "SELECT table",
    ),
    (
        "insert_into_select",
        "INSERT INTO shipping_details\n(order_id,\naddress)\nSELECT order_id,\naddress\nFROM   orders\nWHERE  order_id = 1",
        "INSERT INTO shipping_details\n(order_id,\naddress)\nSELECT order_id,\naddress\nFROM   orders\nWHERE  order_id = ?",
        "INSERT shipping_details SELECT orders",
    ),
    (
        "select_nested_query",
        "SELECT order_date\nFROM   (SELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
        "SELECT order_date\nFROM   (SELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
        "SELECT SELECT orders customers",
    ),
    (
        "select_nested_query_case_preserved",
        "SELEcT order_date\nFROM   (sELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
        "SELEcT order_date\nFROM   (sELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
        "SELEcT sELECT orders customers",
    ),
    ("case_preserved", "SELEcT order_date\nFROM ORders", "SELEcT order_date\nFROM ORders", "SELEcT ORders"),
    (
        "cross_join",
        "SELECT * FROM Orders o CROSS JOIN OrderDetails od",
        "SELECT * FROM Orders o CROSS JOIN OrderDetails od",
        "SELECT Orders OrderDetails",
    ),
    (
        "cross_join_comma_separated_syntax",
        "SELECT * FROM Orders o, OrderDetails od",
        "SELECT * FROM Orders o, OrderDetails od",
        "SELECT Orders OrderDetails",
    ),
    (
        "create_table",
        "CREATE  TABLE MyTable (\n    ID NOT NULL IDENTITY(1,1) PRIMARY KEY\n)",
        "CREATE  TABLE MyTable (\n    ID NOT NULL IDENTITY(?,?) PRIMARY KEY\n)",
        "CREATE TABLE MyTable",
    ),
    (
        "alter_table",
        "ALTER  TABLE MyTable ADD Name varchar(255)",
        "ALTER  TABLE MyTable ADD Name varchar(?)",
        "ALTER TABLE MyTable",
    ),
    ("drop_table", "DROP  TABLE MyTable", "DROP  TABLE MyTable", "DROP TABLE MyTable"),
];

#[test]
fn the_conventions_cases_are_sanitised_as_they_ask() {
    for (name, query, text, _) in CASES {
        assert_eq!(sanitize(query), text, "{name}");
    }
}

#[test]
fn the_conventions_cases_are_summarised_as_they_ask() {
    for (name, query, _, expected) in CASES {
        assert_eq!(summary(query), expected, "{name}");
    }
}

/// Every value of the cases is gone, also when the text is cut anywhere.
#[test]
fn no_cut_of_a_case_shows_a_value() {
    for (name, query, _, _) in CASES {
        for end in (0..query.len()).filter(|end| query.is_char_boundary(*end)) {
            let text = sanitize(&query[..end]);
            for value in ["12", "99", "DEADBEEF", "hello", "important", "01234567", "456", "abc", "255"] {
                assert!(!text.contains(value), "{name} cut at {end}: {text}");
            }
        }
    }
}
