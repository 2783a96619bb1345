//! SQL text in, text without values out.
//!
//! *Owns* what of a text may leave the process. *Must not know* protocols, spans.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "Sanitization of `db.query.text`".

use super::token::{Kind, Token, tokens};

/// The text as it may be exported.
///
/// Comments go in any case: they carry values too (sqlcommenter puts users, routes and trace context there).
/// Parameterised text is otherwise kept as it is, as the conventions ask. In any other text each literal (text, bits,
/// number with its sign, boolean) becomes `?`.
pub fn sanitize(text: &str, parameterised: bool) -> String {
    let mut out = String::with_capacity(text.len());
    // The last two tokens that carry meaning, for signs and `IS TRUE`.
    let mut before: [Option<Token<'_>>; 2] = [None, None];
    // A sign that may belong to the number after it.
    let mut sign: Option<Token<'_>> = None;
    for token in tokens(text) {
        if let Some(held) = sign.take_if(|_| token.kind != Kind::Number) {
            out.push_str(held.text);
        }
        match token.kind {
            Kind::Comment => continue,
            _ if parameterised => out.push_str(token.text),
            Kind::Text | Kind::Bits | Kind::Number => {
                sign = None;
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
    out
}

/// Whether a text has places for parameters.
pub fn is_parameterised(text: &str) -> bool {
    memchr::memchr(b'$', text.as_bytes()).is_some()
        && tokens(text).any(|token| matches!(token.kind, Kind::Parameter(_)))
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
        assert_eq!(sanitize(text, false), expected);
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
    fn parameterised_text_loses_comments_only() {
        assert_eq!(
            sanitize("SELECT a FROM t WHERE b = $1 AND c = 'open' /*traceparent='00-1'*/", true),
            "SELECT a FROM t WHERE b = $1 AND c = 'open'"
        );
        assert_eq!(sanitize("SELECT -1, true", true), "SELECT -1, true");
    }
}
