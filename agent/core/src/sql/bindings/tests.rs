use proptest::prelude::*;

use super::*;

/// Bindings as `table.column=value`, `?` for an unknown table, `#row` for rows after the first.
fn shown(text: &str) -> Vec<String> {
    let show = |binding: Binding| {
        let value = match binding.value {
            BoundTo::Parameter(n) => format!("${n}"),
            BoundTo::Elements(n) => format!("any ${n}"),
            BoundTo::Literal(text) => text,
        };
        let row = if binding.row > 0 { format!("#{}", binding.row) } else { String::new() };
        format!("{}.{}={value}{row}", binding.table.as_deref().unwrap_or("?"), binding.column)
    };
    bindings(text).into_iter().map(show).collect()
}

fn check(text: &str, expected: &[&str]) {
    let mut found = shown(text);
    let mut expected: Vec<String> = expected.iter().map(|&binding| binding.to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn insert_binds_columns_to_values_row_by_row() {
    check(
        "INSERT INTO shop.Orders (id, \"userId\", note) VALUES ($1, 'x', now())",
        &["orders.id=$1", "orders.userid=x"],
    );
    check("INSERT INTO t (a, b) VALUES ($1, 2), ($3, -4)", &["t.a=$1", "t.b=2", "t.a=$3#1", "t.b=-4#1"]);
    check("INSERT INTO t (a, b) VALUES ($1 + 1, coalesce($2, 3)), (DEFAULT, NULL)", &[]);
    check("INSERT INTO t VALUES ($1, 2)", &[]);
    check(
        "INSERT INTO t AS x (a) VALUES ($1::uuid) ON CONFLICT (a) DO UPDATE SET b = $2, c = EXCLUDED.c WHERE x.d = 5",
        &["t.a=$1", "t.b=$2", "t.d=5"],
    );
    check("INSERT INTO t (a, b) OVERRIDING SYSTEM VALUE VALUES (1, CAST($2 AS text))", &["t.a=1", "t.b=$2"]);
    check("INSERT INTO t (a, b) SELECT $1, id FROM orders WHERE id = $2", &["t.a=$1", "orders.id=$2"]);
    check(
        "INSERT INTO t (a) SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.b = $1)",
        &["t.a=$1", "u.b=$1"],
    );
}

#[test]
fn update_binds_what_it_sets_and_where() {
    check(
        "UPDATE orders SET status = $1, qty = qty + 1 WHERE id = 17",
        &["orders.status=$1", "orders.id=17"],
    );
    check(
        "UPDATE ONLY orders AS o SET status = 'paid'::status WHERE o.id = $2 RETURNING *",
        &["orders.status=paid", "orders.id=$2"],
    );
    check(
        "UPDATE orders o SET a = $1 FROM items i WHERE i.order_id = o.id AND i.id = 5",
        &["orders.a=$1", "items.id=5"],
    );
    check("UPDATE t SET (a, b) = ($1, $2), c = DEFAULT WHERE d = E'x\\'y'", &["t.a=$1", "t.b=$2", "t.d=x'y"]);
    check("SET search_path = 'x'", &[]);
    check("SELECT a FROM t WHERE b = 1 FOR UPDATE", &["t.b=1"]);
    check("SELECT a FROM t WHERE b = 1 FOR NO KEY UPDATE OF t", &["t.b=1"]);
}

#[test]
fn conditions_bind_by_alias_name_or_single_table() {
    check("DELETE FROM orders WHERE id = $1", &["orders.id=$1"]);
    check(
        "SELECT * FROM orders o JOIN items i ON i.order_id = o.id WHERE o.id = $1 AND sku = 'a'",
        &["orders.id=$1", "?.sku=a"],
    );
    check(
        "SELECT * FROM shop.orders WHERE shop.orders.id = $1 AND orders.kind = 'x'",
        &["orders.id=$1", "orders.kind=x"],
    );
    check(
        "SELECT * FROM a, b WHERE a.i = 1 AND b.i = 2 OR (b.j = 3 AND (a.k = 4))",
        &["a.i=1", "b.i=2", "b.j=3", "a.k=4"],
    );
    check("SELECT * FROM a LEFT JOIN b ON b.x = $1 AND b.y = a.y, c WHERE c.z = $2", &["b.x=$1", "c.z=$2"]);
    check("SELECT * FROM (SELECT * FROM a WHERE i = 1) s WHERE s.j = 2", &["a.i=1", "?.j=2"]);
    check("SELECT * FROM a WHERE i = 1 UNION SELECT * FROM b WHERE i = 2", &["a.i=1", "b.i=2"]);
    check("SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.a = a.id AND a.id = $1)", &["a.id=$1"]);
    check("SELECT * FROM generate_series(1, 3) g WHERE g = 2", &["?.g=2"]);
    check("SELECT * FROM a WHERE x = 1; SELECT * FROM b WHERE x = 2", &["a.x=1", "b.x=2"]);
}

#[test]
fn forms_of_equality() {
    for (condition, expected) in [
        ("id=17", &["t.id=17"][..]),
        ("17 = id", &["t.id=17"]),
        ("$1 = t.id", &["t.id=$1"]),
        ("id = -17", &["t.id=-17"]),
        ("id = $1::bigint", &["t.id=$1"]),
        ("id = $1::character varying(36)", &["t.id=$1"]),
        ("id = CAST($1 AS int)", &["t.id=$1"]),
        ("id::text = $1", &["t.id=$1"]),
        ("CAST(id AS text) = $1", &["t.id=$1"]),
        ("id = ($1)", &["t.id=$1"]),
        ("((id = $1))", &["t.id=$1"]),
        ("id = uuid 'c0ffee'", &["t.id=c0ffee"]),
        ("id = $$x$$", &["t.id=x"]),
        ("paid = TRUE", &["t.paid=true"]),
        ("id IN (1, '2', $3)", &["t.id=1", "t.id=2", "t.id=$3"]),
        ("id = ANY($1)", &["t.id=any $1"]),
        ("id = ANY($1::int[])", &["t.id=any $1"]),
        ("id = ANY('{1,2}'::int[])", &["t.id=1", "t.id=2"]),
        ("id = ANY(ARRAY[$1, 2])", &["t.id=$1", "t.id=2"]),
        ("id = SOME(ARRAY['a']::text[])", &["t.id=a"]),
        ("id IS NOT DISTINCT FROM $1", &["t.id=$1"]),
        ("(a, b) = ($1, 2)", &["t.a=$1", "t.b=2"]),
    ] {
        check(&format!("SELECT * FROM t WHERE {condition}"), expected);
        check(&format!("SELECT * FROM t WHERE x > 1 AND {condition} ORDER BY y LIMIT 17"), expected);
    }
}

#[test]
fn what_is_no_equality_with_a_value_binds_nothing() {
    for condition in [
        "qty > 17",
        "qty <> 17",
        "qty >= $1",
        "id = 17 + 1",
        "id = 1 - $1",
        "id + 1 = 17",
        "id = f($1)",
        "lower(id) = 'x'",
        "f(id = 17)",
        "id = NULL",
        "NOT id = 17",
        "NOT (id = 17)",
        "id NOT IN (1, 2)",
        "id IN (SELECT 1)",
        "id = ALL($1)",
        "id LIKE '17%'",
        "id BETWEEN 1 AND 17",
        "a -> 'id' = '17'",
        "CASE WHEN a AND id = 17 THEN true END",
        "id = other.id",
        "id IS DISTINCT FROM 17",
        "id = 'cut",
        "id = $x$cut",
        "id = B'01'",
    ] {
        check(&format!("SELECT * FROM t WHERE {condition}"), &[]);
    }
    check("SELECT id = 17 FROM t LIMIT 17 OFFSET $2", &[]);
    check("SELECT extract(year FROM a) FROM t WHERE f(x, y = 1) GROUP BY z HAVING count(*) = 2", &[]);
    check("ALTER TABLE t ADD CHECK (a = 1)", &[]);
}

#[test]
fn named_arguments_are_columns_of_no_table() {
    check("CALL confirm(order_id => 17, p_note := 'x')", &["?.order_id=17", "?.note=x"]);
    check(
        "SELECT shop.confirm(order_id := $1::int, n => 1 + 2, \"Kind\" => -3)",
        &["?.order_id=$1", "?.kind=-3"],
    );
    check("SELECT f(g(order_id => 17), t.a => 1, b = 2, c >= 3)", &["?.order_id=17"]);
    check("SELECT order_id => 17 FROM t", &[]);
}

#[test]
fn common_table_expressions_have_no_table() {
    check(
        "WITH n AS (SELECT * FROM orders WHERE id = $1) SELECT * FROM n WHERE n.x = 2 AND y = 3",
        &["orders.id=$1", "?.x=2", "?.y=3"],
    );
    check(
        "WITH a AS (UPDATE orders SET s = $1 WHERE id = $2 RETURNING id), b(x) AS (SELECT 1) INSERT INTO log (o) VALUES ($2)",
        &["orders.s=$1", "orders.id=$2", "log.o=$2"],
    );
}

#[test]
fn merge_binds_its_branches() {
    check(
        "MERGE INTO stock s USING items i ON s.id = i.id AND i.order_id = $1 WHEN MATCHED THEN UPDATE SET qty = $2 \
         WHEN NOT MATCHED THEN INSERT (id, qty) VALUES ($3, $4)",
        &["items.order_id=$1", "stock.qty=$2", "stock.id=$3", "stock.qty=$4"],
    );
}

#[test]
fn array_text_is_taken_apart() {
    let elements = |text: &str| array_elements(text);
    let texts = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
    assert_eq!(elements("{}"), texts(&[]));
    assert_eq!(elements("{1, 2 ,NULL}"), texts(&["1", "2"]));
    assert_eq!(elements(r#"{"a,b","c\"d","NULL",e}"#), texts(&["a,b", "c\"d", "NULL", "e"]));
    for text in ["", "1", "{1", "{{1},{2}}", "{\"a\"x}", "{\"a"] {
        assert_eq!(elements(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(words in prop::collection::vec(prop::sample::select(&[
        "SELECT", "FROM", "WHERE", "UPDATE", "SET", "INSERT", "INTO", "VALUES", "(", ")", ",", "=", "a", "b.c", "$1", "'x'",
        "17", "-", "AND", "OR", "NOT", "IN", "ANY", "ARRAY", "[", "]", "::", "int", "CAST", "AS", "WITH", "JOIN", "ON", ";",
        "UNION", "CASE", "END", "RETURNING", "USING", "*", ".", "MERGE", "DELETE", "\"q", "'", "/*", "DISTINCT", "IS",
    ]), 0..40)) {
        let text = words.join(" ");
        bindings(&text);
        super::super::returning_table(&text);
        super::super::summary(&text);
        super::super::sanitize(&text);
        super::super::statements(&text);
    }

    #[test]
    fn a_cut_text_never_binds_what_the_whole_does_not(end in 0usize..90) {
        let whole = "UPDATE orders SET status = 'paid', x = '' WHERE id = $1 AND code IN ('a17', 'b') RETURNING id";
        let cut = &whole[..end.min(whole.len())];
        // A number, name or list that is cut is not told from a whole one; a literal is.
        for binding in bindings(cut) {
            if let BoundTo::Literal(text) = binding.value {
                prop_assert!(["paid", "", "a17", "b"].contains(&text.as_str()), "{} gave {}", cut, text);
            }
        }
    }
}
