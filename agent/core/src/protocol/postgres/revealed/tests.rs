use super::*;
use crate::operation::testing;
use crate::record::{CgroupId, ConnId, Data, DataFlags, Direction, Worker};
use crate::time::BootTime;

const PGX: &str = "stmtcache_3d4a6c1d9f0b52e1c0de3d4a6c1d9f0b52e1c0de3d4a6c1d";

fn operation(name: &str, text: Option<&str>, completeness: Completeness) -> Operation {
    let statement = Statement {
        kind: StatementKind::Extended,
        prepared_name: name.to_owned(),
        text: text.map(str::to_owned),
        ..Statement::default()
    };
    Operation { completeness, ..testing::operation(Detail::Postgres(Box::new(statement))) }
}

fn text_of(revealed: &mut Revealed, name: &str, text: Option<&str>) -> Option<String> {
    let mut operation = operation(name, text, Completeness::Complete);
    revealed.closed(&mut operation, &conn(7));
    match operation.detail {
        Detail::Postgres(statement) => statement.text,
        _ => None,
    }
}

/// A connection of a process to a server.
fn conn(tgid: u32) -> Conn {
    let data = Data {
        at: BootTime::ZERO,
        conn: ConnId(1),
        direction: Direction::Egress,
        pos: 0,
        other_pos: 0,
        len: 0,
        bytes: bytes::Bytes::new(),
        thread: Worker::new(tgid, tgid),
        awaited_by: None,
        flags: DataFlags::default(),
    };
    let remote = Endpoint::Inet("10.0.0.2:5432".parse().expect("an address"));
    Conn { role: Some(Role::Client), remote, ..Conn::unannounced(&data) }
}

/// A statement with a parameter on such a connection: its text afterwards, and whether that is not known.
fn named(
    revealed: &mut Revealed,
    conn: &Conn,
    name: &str,
    text: Option<&str>,
    database: Option<&str>,
) -> (String, bool) {
    let mut operation = operation(name, text, Completeness::Complete);
    operation.role = conn.role.unwrap_or(Role::Client);
    if let Detail::Postgres(statement) = &mut operation.detail {
        statement.database = database.map(str::to_owned);
    }
    let is_blind = revealed.closed(&mut operation, conn);
    match operation.detail {
        Detail::Postgres(statement) => (statement.text.unwrap_or_default(), is_blind),
        _ => unreachable!("it was one"),
    }
}

#[test]
fn names_that_an_application_chose() {
    for (name, expected) in [
        ("order_by_id", true),
        ("getOrder", true),
        ("fetch-orders", true),
        ("S_1", false),
        ("_pg3_0", false),
        ("__asyncpg_stmt_1f__", false),
        ("__asyncpg_stmt_a__", false),
        ("__asyncpg_stmt_fade__", false),
        ("a1", false),
        ("pdo_stmt_00000001", false),
        ("dbdpg_p4711_2", false),
        ("sqlx_s_1", false),
        ("order_v2", false),
        ("", false),
        (PGX, false),
    ] {
        assert_eq!(is_chosen_name(name), expected, "{name}");
    }
}

#[test]
fn a_chosen_name_means_its_text_in_one_service_and_database() {
    let mut revealed = Revealed::default();
    let (shop, other) = (conn(7), conn(8));
    let blind = (String::new(), true);
    assert_eq!(named(&mut revealed, &shop, "order_by_id", None, None), blind, "nothing is known yet");
    named(&mut revealed, &shop, "order_by_id", Some("SELECT $1"), Some("shop"));
    assert_eq!(named(&mut revealed, &shop, "order_by_id", None, None), ("SELECT $1".to_owned(), false));
    assert_eq!(named(&mut revealed, &other, "order_by_id", None, None), blind, "another service");
    assert_eq!(named(&mut revealed, &shop, "order_by_id", None, Some("crm")), blind, "another database");
    // Since it is known to use two, an old connection may be to either.
    assert_eq!(named(&mut revealed, &shop, "order_by_id", None, None), blind);
    assert_eq!(named(&mut revealed, &shop, "order_by_id", None, Some("shop")).0, "SELECT $1");
}

#[test]
fn workers_of_one_service_tell_each_other_and_servers_nobody() {
    let mut revealed = Revealed::default();
    let worker = |tgid| Conn { cgroup: CgroupId(9), comm: "gunicorn".to_owned(), ..conn(tgid) };
    named(&mut revealed, &worker(7), "order_by_id", Some("SELECT $1"), Some("shop"));
    assert_eq!(named(&mut revealed, &worker(8), "order_by_id", None, None).0, "SELECT $1");
    let server = |tgid| Conn { role: Some(Role::Server), ..worker(tgid) };
    named(&mut revealed, &server(1), "fetch_all", Some("SELECT 1"), Some("shop"));
    assert_eq!(named(&mut revealed, &server(2), "fetch_all", None, None).0, "");
}

#[test]
fn another_number_of_parameters_is_another_statement() {
    let mut revealed = Revealed::default();
    named(&mut revealed, &conn(7), "order_by_id", Some("SELECT 1"), Some("shop"));
    let mut operation = operation("order_by_id", None, Completeness::Complete);
    if let Detail::Postgres(statement) = &mut operation.detail {
        statement.parameters = vec![crate::operation::postgres::Parameter { type_oid: 23, value: None }];
    }
    assert!(revealed.closed(&mut operation, &conn(7)));
}

#[test]
fn a_text_that_was_cut_is_nobody_s_text() {
    let mut revealed = Revealed::default();
    named(&mut revealed, &conn(7), "order_by_id", Some("SELECT …"), Some("shop"));
    assert_eq!(named(&mut revealed, &conn(7), "order_by_id", None, None).0, "");
}

#[test]
fn names_that_are_digests() {
    for (name, expected) in [
        (PGX, true),
        ("9e107d9d372bb6826bd81d3542a419d6", true),
        ("lrupsc_1_0", false),
        ("__asyncpg_stmt_1f__", false),
        ("_pg3_12", false),
        ("S_1", false),
        ("order_by_id_1234567890123456", false),
        ("", false),
    ] {
        assert_eq!(is_digest(name), expected, "{name}");
    }
}

#[test]
fn a_text_seen_on_one_connection_names_the_statement_on_another() {
    let mut revealed = Revealed::default();
    assert_eq!(text_of(&mut revealed, PGX, None), None);
    assert_eq!(text_of(&mut revealed, PGX, Some("SELECT $1")).as_deref(), Some("SELECT $1"));
    assert_eq!(text_of(&mut revealed, PGX, None).as_deref(), Some("SELECT $1"));
    assert_eq!(text_of(&mut revealed, "S_1", Some("SELECT 1")).as_deref(), Some("SELECT 1"));
    assert_eq!(text_of(&mut revealed, "S_1", None), None);
}

#[test]
fn a_name_with_two_texts_names_none_any_more() {
    let mut revealed = Revealed::default();
    for text in ["SELECT 1", "SELECT 2", "SELECT 1"] {
        text_of(&mut revealed, PGX, Some(text));
    }
    assert_eq!(text_of(&mut revealed, PGX, None), None);
}

#[test]
fn a_text_with_a_hole_reveals_nothing() {
    let mut revealed = Revealed::default();
    revealed.closed(&mut operation(PGX, Some("SELECT"), Completeness::Gap(7)), &conn(7));
    assert_eq!(text_of(&mut revealed, PGX, None), None);
}

#[test]
fn the_table_is_bounded() {
    let mut revealed = Revealed::default();
    let text = "x".repeat(16 << 10);
    for n in 0..10_000u64 {
        let name = format!("a{:031x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0xa0);
        revealed.closed(&mut operation(&name, Some(&text), Completeness::Complete), &conn(7));
        assert!(revealed.texts.len() <= MAX_NAMES && revealed.bytes <= MAX_BYTES);
        assert_eq!(revealed.forgotten(), n + 1 - revealed.texts.len() as u64);
    }
}
