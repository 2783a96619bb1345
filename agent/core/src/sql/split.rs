//! SQL text → its statements; and what stands in its comments.
//!
//! *Must not know* what a statement does.

use super::token::{Kind, is_space, tokens, tokens_with_escapes};

/// The statements of a text, without the semicolons between them. Empty ones are left out, as the server leaves them out.
/// A statement has the block comments that follow it up to its semicolon: that is where trace context is appended.
///
/// A semicolon separates statements outside parentheses (rules may hold several) and outside the `BEGIN ATOMIC … END`
/// body of a function in standard SQL.
pub fn each_statement(text: &str) -> impl Iterator<Item = &str> {
    // Nearly every text is one statement, and shows it.
    let one = text.trim_matches(|c| u8::try_from(c).is_ok_and(is_space));
    // Blanks at the end may be inside a quote that is not closed.
    let may_be_quoted = || memchr::memchr3(b'\'', b'"', b'$', text.as_bytes()).is_some();
    let is_one = memchr::memchr(b';', text.as_bytes()).is_none()
        && !may_have_comment(text)
        && (one.len() == text.len() || !may_be_quoted());
    let mut one = Some(one).filter(|one| is_one && !one.is_empty());
    let mut tokens = tokens(if is_one { "" } else { text });
    std::iter::from_fn(move || {
        if one.is_some() {
            return one.take();
        }
        let mut start: Option<usize> = None;
        let mut end = 0;
        let mut depth = 0usize;
        let mut routine = Routine::default();
        for token in tokens.by_ref() {
            match token.kind {
                Kind::Space => continue,
                Kind::Comment => {
                    if start.is_some() && token.text.starts_with("/*") {
                        end = token.end();
                    }
                    continue;
                }
                Kind::Punct('(') => depth += 1,
                Kind::Punct(')') => depth = depth.saturating_sub(1),
                Kind::Punct(';') if depth == 0 && routine.blocks == 0 => {
                    if start.is_some() {
                        break;
                    }
                    routine = Routine::default();
                    continue;
                }
                Kind::Word if depth == 0 => routine.word(&token),
                _ => routine.position += 1,
            }
            start.get_or_insert(token.at);
            end = token.end();
        }
        start.and_then(|start| text.get(start..end))
    })
}

fn may_have_comment(text: &str) -> bool {
    memchr::memchr2_iter(b'-', b'/', text.as_bytes())
        .any(|at| matches!(text.as_bytes().get(at..at + 2), Some(b"--" | b"/*")))
}

/// All of [`each_statement`].
pub fn statements(text: &str) -> Vec<&str> {
    each_statement(text).collect()
}

/// Whether the statement defines a function or procedure, and how deep inside its body we are.
#[derive(Debug, Default)]
struct Routine {
    position: usize,
    creates: bool,
    is_routine: bool,
    blocks: usize,
}

impl Routine {
    fn word(&mut self, token: &super::token::Token<'_>) {
        match self.position {
            0 => self.creates = token.is("create"),
            1..=3 => self.is_routine |= self.creates && token.is_any(&["function", "procedure"]),
            _ if !self.is_routine => {}
            _ if token.is("begin") => self.blocks += 1,
            _ if self.blocks > 0 && token.is("case") => self.blocks += 1,
            _ if token.is("end") => self.blocks = self.blocks.saturating_sub(1),
            _ => {}
        }
        self.position += 1;
    }
}

/// A text of a connection with `standard_conforming_strings` off, written so that it means the same with it on: strings
/// with a backslash become `E'…'`.
pub fn with_explicit_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for token in tokens_with_escapes(text) {
        if token.kind == Kind::Text && token.text.starts_with('\'') && token.text.contains('\\') {
            out.push('E');
        }
        out.push_str(token.text);
    }
    out
}

/// The value of `key='value'` in a comment of the text, as sqlcommenter writes it (`/*traceparent='00-…-01'*/`),
/// percent-decoding left to the caller. The last one wins, because comments are appended.
pub fn comment_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let comments = tokens(text).filter(|token| token.kind == Kind::Comment);
    comments.filter_map(|comment| value_in(comment.text, key)).last()
}

fn value_in<'a>(comment: &'a str, key: &str) -> Option<&'a str> {
    let inner = comment.strip_prefix("/*")?.strip_suffix("*/")?;
    inner.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        (name.trim() == key).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(statements(text), expected, "{text}");
        // A comment at the end changes nothing, but is read with the others.
        let behind = format!("{text}\n--");
        assert_eq!(statements(&behind), expected, "{behind}");
    }

    #[test]
    fn one_statement_ends_where_its_last_token_does() {
        for text in [
            "SELECT 1",
            " \t\u{b}SELECT 1\u{c}\r\n",
            "SELECT -1 - /1",
            "\u{a0}SELECT 1\u{a0}",
            " 'a' ",
            "'a",
            "SELECT '",
            "'a \n",
            "SELECT $x$ a ",
            " \"a \t",
            "",
            " \n",
        ] {
            let significant: Vec<_> =
                tokens(text).filter(super::super::token::Token::is_significant).collect();
            let ends = significant.first().zip(significant.last());
            let expected: Vec<&str> =
                ends.map(|(first, last)| &text[first.at..last.end()]).into_iter().collect();
            assert_eq!(statements(text), expected, "{text:?}");
        }
    }

    #[test]
    fn semicolons_between_statements_split() {
        check("", &[]);
        check(" ; -- x\n ;", &[]);
        check("SELECT 1", &["SELECT 1"]);
        check("BEGIN; UPDATE a SET b = ';' ; COMMIT;", &["BEGIN", "UPDATE a SET b = ';'", "COMMIT"]);
        check("/* a; */ SELECT 1 -- b; \n; SELECT $$;$$", &["SELECT 1", "SELECT $$;$$"]);
        check("SELECT 1 /* a; */ ; SELECT 2/*b*/ ;/*c*/", &["SELECT 1 /* a; */", "SELECT 2/*b*/"]);
        check(
            "CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2); SELECT 3",
            &["CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2)", "SELECT 3"],
        );
        let routine = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 2; END";
        check(&format!("{routine}; SELECT 3"), &[routine, "SELECT 3"]);
        check("BEGIN; SELECT 1; END; SELECT 2", &["BEGIN", "SELECT 1", "END", "SELECT 2"]);
    }

    #[test]
    fn strings_with_backslashes_get_their_escapes_said() {
        let text = r"SELECT 'a\'b; c', 'd', E'e\'', $$\$$; SELECT 2";
        let standard = with_explicit_escapes(text);
        assert_eq!(standard, r"SELECT E'a\'b; c', 'd', E'e\'', $$\$$; SELECT 2");
        assert_eq!(statements(&standard).len(), 2);
        assert_eq!(super::super::sanitize(&standard), "SELECT ?, ?, ?, ?; SELECT ?");
    }

    #[test]
    fn context_in_a_comment_is_found() {
        let text =
            "SELECT 1 /*app='shop',traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/";
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(comment_value(text, "traceparent"), Some(expected));
        assert_eq!(comment_value(text, "tracestate"), None);
        assert_eq!(comment_value("SELECT '/*traceparent=''x''*/'", "traceparent"), None);
        assert_eq!(comment_value("SELECT 1 /*traceparent='00", "traceparent"), None);
    }
}
