//! SQL text → the one table its result columns come from.
//!
//! *Must not know* which columns the result has.

use super::token::{Kind, Token, name, significant};

/// The table whose columns a statement returns: the target of `INSERT`, `UPDATE`, `DELETE` or `MERGE` with `RETURNING`, or
/// the only table of a `SELECT`. Lower case, without schema. `None`: no such table, or more than one.
///
/// A result column that is computed carries no table in RowDescription; attributing those is the caller's to refuse.
pub fn returning_table(text: &str) -> Option<String> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut ctes: Vec<String> = Vec::new();
    let mut depth = 0usize;
    // Only the outermost level matters; a pair of parentheses stays as one token.
    for token in significant(text) {
        match token.kind {
            Kind::Punct('(') => {
                if depth == 0 {
                    tokens.push(token);
                }
                depth += 1;
            }
            Kind::Punct(')') => depth = depth.saturating_sub(1),
            Kind::Punct(';') if depth == 0 && !tokens.is_empty() => {
                // More than one statement returns nothing that can be attributed.
                if significant(text.get(token.end()..)?).any(|token| !token.is_punct(';')) {
                    return None;
                }
                break;
            }
            _ if depth == 0 => tokens.push(token),
            _ => {}
        }
    }
    let verb = tokens.iter().enumerate().position(|(at, token)| {
        let verb = token.is_any(&["select", "insert", "update", "delete", "merge"]);
        if token.is_name() && tokens.get(at + 1).is_some_and(|next| next.is("as") || next.is_punct('(')) {
            ctes.push(name(token).to_lowercase());
        }
        verb
    })?;
    // Anything but a common table expression before the verb makes it another command.
    let starts = tokens.first().is_some_and(|first| first.is("with")) || verb == 0;
    let body = tokens.get(verb..).filter(|_| starts)?;
    let has = |word: &str| body.iter().any(|token| token.is(word));
    let after = |word: &str| body.iter().position(|token| token.is(word)).map(|at| at + 1);
    let first = body.first()?;
    let at = match () {
        () if first.is("select") => {
            if has("union") || has("intersect") || has("except") || has("join") {
                return None;
            }
            after("from")?
        }
        () if !has("returning") => return None,
        () if first.is("update") => 1,
        () if first.is("delete") => after("from")?,
        () => after("into")?,
    };
    let at = at + usize::from(body.get(at).is_some_and(|token| token.is("only")));
    let mut table = body.get(at).filter(|token| token.is_name() && !token.is("lateral"))?;
    let mut end = at + 1;
    while body.get(end).is_some_and(|token| token.is_punct('.')) {
        table = body.get(end + 1).filter(|token| token.is_name())?;
        end += 2;
    }
    if first.is("select") {
        let is_function = body.get(end).is_some_and(|token| token.is_punct('('));
        let more =
            body.get(end..)?.iter().take_while(|token| !token.is_any(&["where", "group", "order", "limit"]));
        if is_function || more.into_iter().any(|token| token.is_punct(',')) {
            return None;
        }
    }
    let table = name(table).to_lowercase();
    (!ctes.contains(&table) || !first.is("select")).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(returning_table(text).as_deref(), expected, "{text}");
    }

    #[test]
    fn statements_with_returning_give_their_target() {
        check("INSERT INTO shop.Orders (id) VALUES (1) RETURNING id", Some("orders"));
        check("INSERT INTO o (id) SELECT id FROM p RETURNING id;", Some("o"));
        check("INSERT INTO orders (id) VALUES (1)", None);
        check("UPDATE ONLY \"Orders\" SET a = 1 RETURNING *", Some("orders"));
        check("DELETE FROM orders USING x WHERE x.i = 1 RETURNING orders.id", Some("orders"));
        check("WITH n AS (SELECT 1 FROM x) UPDATE orders SET a = 1 RETURNING id", Some("orders"));
    }

    #[test]
    fn a_select_gives_its_only_table() {
        check(
            "SELECT id, (SELECT 1 FROM b) FROM shop.orders o WHERE id IN (1, 2) ORDER BY a, b",
            Some("orders"),
        );
        check("SELECT a FROM orders, items", None);
        check("SELECT a FROM orders JOIN items USING (i)", None);
        check("SELECT a FROM orders UNION SELECT a FROM items", None);
        check("SELECT a FROM (SELECT 1) s", None);
        check("SELECT a FROM f(1)", None);
        check("SELECT 1", None);
        check("WITH n AS (SELECT 1 FROM x) SELECT * FROM n", None);
        check("WITH n AS (SELECT 1 FROM x) SELECT * FROM orders", Some("orders"));
    }

    #[test]
    fn other_texts_give_none() {
        for text in [
            "",
            "BEGIN",
            "EXPLAIN SELECT a FROM b",
            "COPY orders TO STDOUT",
            "SELECT 1 FROM a; SELECT 2 FROM b",
        ] {
            check(text, None);
        }
    }
}
