//! Text from traffic in, text that may leave the process out.
//!
//! *Owns* which parts of URLs and error messages are values. *Must not know* spans.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, `url.full` and `url.query`.

use crate::order::path::percent_decode;
use crate::order::value::is_personal;

/// Stands for what was taken out of a URL, as the conventions write it.
const REDACTED: &str = "REDACTED";

/// Query parameters that sign or authenticate: these, and whatever contains one of [`SECRET_WORDS`].
const SECRET_NAMES: [&str; 6] = ["sig", "pwd", "auth", "pin", "otp", "code"];
const SECRET_WORDS: [&str; 10] = [
    "token",
    "password",
    "passwd",
    "secret",
    "apikey",
    "signature",
    "credential",
    "session",
    "jwt",
    "authorization",
];

/// A path without segments that are personal data.
pub(crate) fn path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        let personal = percent_decode(segment, false).is_none_or(|plain| is_personal(&plain));
        out.push_str(if personal { REDACTED } else { segment });
    }
    out
}

/// A query without secrets and personal data: keys stay, such values become `REDACTED`.
pub(crate) fn query(query: &str) -> String {
    let pairs = query.split('&').map(|pair| {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        let personal = |text: &str| percent_decode(text, true).is_none_or(|plain| is_personal(&plain));
        let name_shown = if personal(name) { REDACTED } else { name };
        match value {
            None => name_shown.to_owned(),
            Some(value) if is_secret(name) || personal(value) => format!("{name_shown}={REDACTED}"),
            Some(value) => format!("{name_shown}={value}"),
        }
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// The value of an exported header: a URL in it (`Referer`, `Location`) loses what a URL of a span loses.
pub(crate) fn header(value: &str) -> String {
    let (before, query_text) = match value.split_once('?') {
        Some((before, query_text)) => (before, Some(query_text)),
        None => (value, None),
    };
    let mut out = match before.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = match authority.rsplit_once('@') {
                Some((_, host)) => format!("{REDACTED}@{host}"),
                None => authority.to_owned(),
            };
            format!("{scheme}://{host}{}", path(below))
        }
        None if before.starts_with('/') => path(before),
        None => before.to_owned(),
    };
    if let Some(query_text) = query_text {
        out.push('?');
        out.push_str(&query(query_text));
    }
    out
}

/// A name under which credentials travel.
pub fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SECRET_NAMES.contains(&plain.as_str()) || SECRET_WORDS.iter().any(|word| plain.contains(word))
}

/// Words before a quoted name in PostgreSQL's messages; any other quoted text is a value.
const OBJECTS: [&str; 24] = [
    "relation",
    "column",
    "constraint",
    "table",
    "function",
    "procedure",
    "schema",
    "type",
    "index",
    "sequence",
    "view",
    "operator",
    "trigger",
    "rule",
    "extension",
    "language",
    "domain",
    "statement",
    "cursor",
    "portal",
    "savepoint",
    "parameter",
    "database",
    "encoding",
];

/// A server's error message without values: quoted text becomes `?` unless it names an object of the schema, and so do numbers
/// and the list behind `=` of a key.
pub(crate) fn message(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut chars = message.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let closing = match c {
            '"' => Some('"'),
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
            let end = rest.find(closing);
            let inner = rest.get(..end.unwrap_or(rest.len())).unwrap_or("");
            let word = out.trim_end().rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or("");
            let keep =
                c == '"' && OBJECTS.contains(&word.to_ascii_lowercase().as_str()) && !is_personal(inner);
            out.push(c);
            out.push_str(if keep { inner } else { "?" });
            match end {
                Some(end) => {
                    out.push(closing);
                    let after = at + c.len_utf8() + end + closing.len_utf8();
                    while chars.next_if(|(at, _)| *at < after).is_some() {}
                }
                None => break,
            }
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
    if is_personal(&out) { "?".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn urls_keep_their_shape() {
        assert_eq!(super::path("/users/jane@example.org/orders/17"), "/users/REDACTED/orders/17");
        assert_eq!(super::path("/users/jane%40example.org"), "/users/REDACTED");
        assert_eq!(
            super::path("/orders/f81d4fae-7123-4123-8123-00a0c91e6bf6/"),
            "/orders/f81d4fae-7123-4123-8123-00a0c91e6bf6/"
        );
        assert_eq!(
            super::query(
                "a=1&X-Amz-Signature=ab&X-Amz-Credential=c&X-Amz-Security-Token=t&sig=x&X-Goog-Signature=s&flag"
            ),
            "a=1&X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&X-Amz-Security-Token=REDACTED&sig=REDACTED&X-Goog-Signature=REDACTED&flag",
        );
        assert_eq!(
            super::query("access_token=x&q=jane%40example.org&order_id=17"),
            "access_token=REDACTED&q=REDACTED&order_id=17"
        );
        assert_eq!(
            super::query("phone=%2B4915112345678&card=4111+1111+1111+1111"),
            "phone=REDACTED&card=REDACTED"
        );
    }

    #[test]
    fn urls_in_headers_lose_their_secrets() {
        for (value, expected) in [
            ("text/html; charset=utf-8", "text/html; charset=utf-8"),
            ("https://a/b?token=x&page=2", "https://a/b?token=REDACTED&page=2"),
            ("https://user:pass@a/b", "https://REDACTED@a/b"),
            ("/users/jane@example.org?sig=1", "/users/REDACTED?sig=REDACTED"),
            ("https://a/p@b", "https://a/REDACTED"),
        ] {
            assert_eq!(super::header(value), expected);
        }
    }

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
                "null value in column \"status\" of relation \"orders\" violates not-null constraint",
                "null value in column \"status\" of relation \"orders\" violates not-null constraint",
            ),
            ("Key (email)=(jane@example.org) already exists.", "Key (email)=(?) already exists."),
            (
                "order 17 can't be priced at 12.50: customer 'Jane O'",
                "order ? can't be priced at ?: customer '?'",
            ),
            ("value too long for type character varying(10)", "value too long for type character varying(?)"),
            (
                "password authentication failed for user \"bob\"",
                "password authentication failed for user \"?\"",
            ),
            ("Relation »orders« existiert nicht", "Relation »?« existiert nicht"),
            ("syntax error at or near \"4711", "syntax error at or near \"?"),
            ("mail jane@example.org", "?"),
        ] {
            assert_eq!(super::message(message), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\PC\"'»«„“=(0-9]{0,60}") {
            super::message(&text);
            super::path(&text);
            super::query(&text);
            super::header(&text);
        }
    }
}
