//! SQL text → text without values.
//!
//! *Owns* what of a text may leave the process. *Must not know* protocols, spans.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "Sanitization of `db.query.text`".

use super::token::{Kind, Token, tokens};

/// The text as it may be exported.
///
/// Comments go: they carry values too (sqlcommenter puts users, routes and trace context there). Each literal (text, bits,
/// number with its sign, boolean) becomes `?`, beside parameters too: the conventions would keep parameterised text as it is, but
/// who binds one value may write another into the text (`WHERE id = $1 AND token = '…'`). So do values in other quotes:
///
/// | text | shown |
/// |---|---|
/// | `SET app.jwt = eyJ…` | `SET app.jwt = ?` |
/// | `WHERE password = "x"`, the name without quotes | `WHERE password = ?` |
/// | `PASSWORD "x"` | `PASSWORD ?` |
pub fn sanitize(text: &str) -> String {
    sanitize_telling(text).0
}

/// The same, and whether a name or word turned out to be a value.
pub(super) fn sanitize_telling(text: &str) -> (String, bool) {
    let mut has_name = false;
    let mut out = String::with_capacity(text.len());
    // The last two tokens that carry meaning, for signs and `IS TRUE`.
    let mut before: [Option<Token<'_>>; 2] = [None, None];
    // A sign that may belong to the number after it.
    let mut sign: Option<Token<'_>> = None;
    let mut setting = Setting::default();
    for token in tokens(text) {
        if let Some(held) = sign.take_if(|_| token.kind != Kind::Number) {
            out.push_str(held.text);
        }
        let is_value = setting.see(&token);
        match token.kind {
            Kind::Comment => continue,
            Kind::Text | Kind::Bits | Kind::Number => {
                sign = None;
                out.push('?');
            }
            Kind::Word | Kind::Quoted if is_value => {
                has_name = true;
                out.push('?');
            }
            Kind::Quoted if is_text_in_wrong_quotes(&before, text.get(token.end()..).unwrap_or("")) => {
                has_name = true;
                out.push('?');
            }
            Kind::Word if is_boolean(&token) && !after_is(&before) => out.push('?'),
            Kind::Operator if matches!(token.text, "+" | "-") && !ends_operand(before[0].as_ref()) => {
                sign = Some(token);
            }
            _ => out.push_str(token.text),
        }
        if token.is_significant() {
            before = [Some(token), before[0]];
        }
    }
    if let Some(held) = sign {
        out.push_str(held.text);
    }
    // The blanks before a comment at the end go with it.
    out.truncate(out.trim_end().len());
    (out, has_name)
}

/// Where in `SET name = value` a statement is. Only names with a point are applications' own; the server's take words that
/// it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Setting {
    #[default]
    Start,
    /// Behind `SET`, or in a statement that may have one (`ALTER ROLE a SET b.c = d`).
    Name {
        altered: bool,
        dotted: bool,
    },
    Value,
    Other,
}

impl Setting {
    /// Whether the token is a part of such a value.
    fn see(&mut self, token: &Token<'_>) -> bool {
        *self = match *self {
            _ if !token.is_significant() => return false,
            _ if token.is_punct(';') => Setting::Start,
            Setting::Start if token.is("set") => Setting::Name { altered: false, dotted: false },
            Setting::Start if token.is("alter") => Setting::Name { altered: true, dotted: false },
            Setting::Start => Setting::Other,
            Setting::Name { altered: true, .. } if token.is("set") => {
                Setting::Name { altered: false, dotted: false }
            }
            Setting::Name { altered: false, dotted: true } if token.is_operator("=") || token.is("to") => {
                Setting::Value
            }
            Setting::Name { altered, dotted } => {
                Setting::Name { altered, dotted: dotted || token.is_punct('.') }
            }
            Setting::Value => return true,
            Setting::Other => return false,
        };
        false
    }
}

/// `name = "text"`: who does not quote names and then quotes one, without a table before it, means text. Also `PASSWORD "text"`.
fn is_text_in_wrong_quotes(before: &[Option<Token<'_>>; 2], behind: &str) -> bool {
    let [last, earlier] = before;
    if behind.trim_start().starts_with('.') {
        return false;
    }
    let compares =
        |token: &Token<'_>| matches!(token.text, "=" | "<>" | "!=") || token.is_any(&["like", "ilike"]);
    last.is_some_and(|last| last.is("password"))
        || (last.is_some_and(|last| compares(&last))
            && earlier.is_some_and(|earlier| earlier.kind == Kind::Word))
}

fn is_boolean(token: &Token<'_>) -> bool {
    token.is_any(&["true", "false"])
}

/// `IS [NOT] TRUE` is a test, not a value.
fn after_is(before: &[Option<Token<'_>>; 2]) -> bool {
    let [last, earlier] = before;
    let is = |token: &Option<Token<'_>>, word| token.is_some_and(|token| token.is(word));
    is(last, "is") || (is(last, "not") && is(earlier, "is"))
}

/// A sign after this is an operator between two operands (`total-1`), not part of the number. After a literal it
/// counts as part of the number, because the conventions' own cases want `99+100` as `??`.
fn ends_operand(token: Option<&Token<'_>>) -> bool {
    #[rustfmt::skip]
    const NOT_OPERANDS: &[&str] = &[
        "all", "and", "any", "array", "as", "between", "by", "case", "distinct", "else", "from", "having",
        "in", "like", "limit", "not", "offset", "on", "or", "return", "returning", "select", "set", "then",
        "values", "when", "where",
    ];
    token.is_some_and(|token| match token.kind {
        Kind::Word => !token.is_any(NOT_OPERANDS),
        Kind::Quoted | Kind::Parameter(_) | Kind::Punct(')' | ']') => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(sanitize(text), expected);
    }

    #[test]
    fn every_literal_becomes_a_question_mark() {
        check("SELECT 'a', E'\\'b', $$c$$, $t$d$t$, B'01', X'1F', U&'x', 17, 1.5e3", {
            "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?"
        });
        check("SELECT DATE '2024-01-01', INTERVAL '1 day'", "SELECT DATE ?, INTERVAL ?");
        check("SELECT TRUE, false, NULL", "SELECT ?, ?, NULL");
        check("WHERE a IS TRUE AND b IS NOT FALSE", "WHERE a IS TRUE AND b IS NOT FALSE");
        check("WHERE a = NOT TRUE", "WHERE a = NOT ?");
        check("SET x=$1, y='z'::text", "SET x=$1, y=?::text");
        check("SELECT \"it's\" FROM t", "SELECT \"it's\" FROM t");
    }

    #[test]
    fn signs_belong_to_numbers_where_no_operand_precedes() {
        check("WHERE a = -1 AND b=-1", "WHERE a = ? AND b=?");
        check("SET qty=qty-1, n = (n)+1", "SET qty=qty-?, n = (n)+?");
        check("SELECT - 1", "SELECT - ?");
        check("SELECT -", "SELECT -");
        check("SELECT -a", "SELECT -a");
    }

    #[test]
    fn text_cut_inside_a_literal_shows_none_of_it() {
        check("SELECT 'secr", "SELECT ?");
        check("SELECT E'it\\'s secr", "SELECT ?");
        check("SELECT $x$secr", "SELECT ?");
        check("SELECT 1 /* secr", "SELECT ?");
        check("SELECT 1 -- secr", "SELECT ?");
    }

    #[test]
    fn literals_beside_parameters_go_too() {
        check(
            "SELECT a FROM t WHERE b = $1 AND c = 'open' /*traceparent='00-1'*/",
            "SELECT a FROM t WHERE b = $1 AND c = ?",
        );
        check("SELECT crypt('secret', $1), -1, true", "SELECT crypt(?, $1), ?, ?");
    }

    #[test]
    fn escapes_go_on_over_the_end_of_a_line() {
        check("SELECT E'a'\n'b\\'secret', 'x'", "SELECT ?, ?");
        check("SELECT E'a'\n'b\\'secret'", "SELECT ?");
        check("SELECT 'a' 'b'", "SELECT ? ?");
        check("SELECT E'a' -- x\n 'b\\'secret', c", "SELECT ?, c");
    }

    #[test]
    fn values_in_other_quotes_go_too() {
        check("SET app.jwt = secret", "SET app.jwt = ?");
        check("SET LOCAL app.jwt TO secret; SELECT a", "SET LOCAL app.jwt TO ?; SELECT a");
        check("ALTER ROLE joe SET app.jwt = secret", "ALTER ROLE joe SET app.jwt = ?");
        check("ALTER ROLE joe PASSWORD \"secret\"", "ALTER ROLE joe PASSWORD ?");
        check("SET search_path TO shop, public", "SET search_path TO shop, public");
        check("UPDATE t SET a.b = c", "UPDATE t SET a.b = c");
        check("SELECT * FROM u WHERE password=\"secret\"", "SELECT * FROM u WHERE password=?");
        check(
            "JOIN u ON t.a = \"u\".\"b\" AND \"a\" = \"c\"",
            "JOIN u ON t.a = \"u\".\"b\" AND \"a\" = \"c\"",
        );
    }
}
