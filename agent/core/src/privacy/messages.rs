//! What servers say → the same without what clients sent.
//!
//! *Owns* which words of an error text are its own and which repeat a value. *Must not know* spans.
//!
//! PostgreSQL's own messages quote each value, and each name of the schema behind a word that says so (`column "status"`). They
//! do not escape quotes inside, so a value goes up to the last quote. What an application says (`RAISE`, gRPC) follows no rule:
//! only plain words of it stay.

use std::borrow::Cow;

use super::numbers::NO_KEYS;
use super::redact::text;

/// Words before a quoted name in PostgreSQL's messages; any other quoted text is a value.
#[rustfmt::skip]
const OBJECTS: [&str; 24] = [
    "relation", "column", "constraint", "table", "function", "procedure", "schema", "type", "index", "sequence", "view",
    "operator", "trigger", "rule", "extension", "language", "domain", "statement", "cursor", "portal", "savepoint", "parameter",
    "database", "encoding",
];

/// Words before a quoted name in RabbitMQ's.
const PLACES: [&str; 6] = ["queue", "exchange", "vhost", "arg", "method", "channel"];

/// Longest name of PostgreSQL.
const MAX_NAME: usize = 63;

/// PostgreSQL's message of SQLSTATE `code` about `statement`.
pub fn postgres(code: &str, message: &str, statement: Option<&str>) -> String {
    // Class P0 is PL/pgSQL: the text is the application's.
    if code.starts_with("P0") {
        return application(message);
    }
    // No such name: one that the statement quotes is more likely a value in the wrong quotes.
    let is_unknown = code.starts_with("42");
    let is_quoted =
        |inner: &str| is_unknown && statement.is_some_and(|text| text.contains(&format!("\"{inner}\"")));
    let out = without_values(message, |word, quote, inner| {
        quote == '"'
            && OBJECTS.iter().any(|object| word.eq_ignore_ascii_case(object))
            && inner.len() <= MAX_NAME
            && inner.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'))
            && !is_quoted(inner)
    });
    clean(out)
}

/// RabbitMQ's reply text.
pub fn broker(message: &str) -> String {
    let out = without_values(message, |word, quote, _| {
        quote == '\'' && PLACES.iter().any(|place| word.eq_ignore_ascii_case(place))
    });
    clean(out)
}

/// What an application says of its failure: plain words.
pub fn application(message: &str) -> String {
    let out = text(&without_values(message, |_, _, _| false), NO_KEYS).into_owned();
    let mut first = true;
    let words = out.split(' ').map(|word| {
        let is_first = std::mem::replace(&mut first, false);
        let inner = word.trim_matches(|c: char| c.is_ascii_punctuation());
        let small =
            |word: &str| word.chars().all(|c| c.is_lowercase() || matches!(c, '\'' | '-' | '?' | '/'));
        let mut rest = inner.chars();
        let capital = rest.next().is_some_and(char::is_uppercase) && small(rest.as_str());
        // `FAILED_PRECONDITION` is a code.
        let code = inner.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        if small(inner) || code || (is_first && capital) || inner == "REDACTED" { word } else { "?" }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn clean(out: String) -> String {
    match text(&out, NO_KEYS) {
        Cow::Borrowed(clean) if clean == out => out,
        clean => clean.into_owned(),
    }
}

/// Quoted text becomes `?` unless `keep` (the word before it, the quote, the text), and so do numbers and the list behind `=` of
/// a key.
fn without_values(message: &str, keep: impl Fn(&str, char, &str) -> bool) -> String {
    let mut out = String::with_capacity(message.len());
    let mut chars = message.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let closing = match c {
            '"' | '`' => Some(c),
            // An apostrophe inside a word quotes nothing.
            '\'' if !out.ends_with(char::is_alphanumeric) => Some('\''),
            '»' => Some('«'),
            '«' => Some('»'),
            '„' => Some('“'),
            '“' => Some('”'),
            '(' if out.ends_with('=') => Some(')'),
            _ => None,
        };
        if let Some(closing) = closing {
            let rest = message.get(at + c.len_utf8()..).unwrap_or("");
            let first = rest.find(closing);
            let inner = rest.get(..first.unwrap_or(rest.len())).unwrap_or("");
            let word = out.trim_end().rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or("");
            let kept = first.is_some() && keep(word, c, inner);
            let end = if kept { first } else { closing_quote(rest, closing) };
            out.push(c);
            out.push_str(if kept { inner } else { "?" });
            let Some(end) = end else { break };
            out.push(closing);
            let after = at + c.len_utf8() + end + closing.len_utf8();
            while chars.next_if(|(at, _)| *at < after).is_some() {}
        } else if c.is_ascii_digit() && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            // Points, colons and hyphens inside belong to it: decimals, times, dates.
            let bytes = message.as_bytes();
            let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
            let inner = |at: usize| matches!(bytes.get(at), Some(b'.' | b',' | b':' | b'-')) && digit(at + 1);
            while chars.next_if(|(at, _)| digit(*at) || inner(*at)).is_some() {}
            out.push('?');
        } else {
            out.push(c);
        }
    }
    out
}

/// The quote that ends a value: the last, for values hold quotes; of apostrophes the first that ends a word, for the text itself
/// has some.
fn closing_quote(rest: &str, closing: char) -> Option<usize> {
    match closing {
        '\'' => {
            let ends = |at: &usize| !rest.get(at + 1..).unwrap_or("").starts_with(char::is_alphanumeric);
            rest.match_indices('\'').map(|(at, _)| at).find(ends)
        }
        _ => rest.rfind(closing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_keep_names_and_lose_values() {
        for (message, expected) in [
            (
                "duplicate key value violates unique constraint \"orders_pkey\"",
                "duplicate key value violates unique constraint \"orders_pkey\"",
            ),
            (
                "invalid input syntax for type integer: \"jane\"",
                "invalid input syntax for type integer: \"?\"",
            ),
            (
                "invalid input syntax for type integer: \"a\"Zq9\"b\"",
                "invalid input syntax for type integer: \"?\"",
            ),
            (
                "null value in column \"status\" of relation \"orders\" violates not-null constraint",
                "null value in column \"status\" of relation \"orders\" violates not-null constraint",
            ),
            ("Key (email)=(jane@example.org) already exists.", "Key (email)=(?) already exists."),
            ("value too long for type character varying(10)", "value too long for type character varying(?)"),
            (
                "password authentication failed for user \"bob\"",
                "password authentication failed for user \"?\"",
            ),
            ("Relation »orders« existiert nicht", "Relation »?« existiert nicht"),
            ("syntax error at or near \"4711", "syntax error at or near \"?"),
            ("mail jane@example.org", "mail REDACTED"),
        ] {
            assert_eq!(postgres("22000", message, None), expected);
        }
    }

    #[test]
    fn name_that_the_statement_quotes_and_nobody_knows_is_a_value() {
        let message = "column \"Zq9\" does not exist";
        assert_eq!(
            postgres("42703", message, Some("SELECT 1 WHERE a=\"Zq9\"")),
            "column \"?\" does not exist"
        );
        assert_eq!(postgres("42P01", "relation \"orders\" does not exist", Some("TABLE orders")), {
            "relation \"orders\" does not exist"
        });
    }

    #[test]
    fn applications_are_left_their_plain_words() {
        for (message, expected) in [
            (
                "order 17 can't be priced at 12.50: customer 'Jane O'",
                "order ? can't be priced at ?: customer '?'",
            ),
            ("Invalid token ZQ142x for customer Ivan", "Invalid token REDACTED for customer ?"),
            ("declined for key sk_live_Zq9x01", "declined for key REDACTED"),
            ("password=`Zq9`", "password=`?`"),
            ("FAILED_PRECONDITION: out of stock", "FAILED_PRECONDITION: out of stock"),
        ] {
            assert_eq!(application(message), expected);
            assert_eq!(postgres("P0001", message, None), expected);
        }
    }

    #[test]
    fn brokers_name_places_and_repeat_values() {
        assert_eq!(
            broker(
                "PRECONDITION_FAILED - inequivalent arg 'x-key' for queue 'q1' in vhost '/': received 'Zq9' but current is 'x'"
            ),
            "PRECONDITION_FAILED - inequivalent arg 'x-key' for queue 'q1' in vhost '/': received '?' but current is '?'"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\PC\"'`»«„“=(0-9]{0,60}") {
            postgres("22P02", &text, Some(&text));
            application(&text);
            broker(&text);
        }

        #[test]
        fn quoted_values_never_stay(before in "[a-z ]{0,12}", value in "zq9[a-zA-Z0-9\" ]{0,20}") {
            let out = postgres("22P02", &format!("{before}: \"{value}\""), None);
            prop_assert!(!out.contains("zq9"), "{out}");
        }
    }
}
