//! Text from traffic → text that may leave the process.
//!
//! *Owns* how paths, queries, URLs and free text are taken apart, and what stands in place of what is taken out. *Must not
//! know* spans.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, `url.full` and `url.query`; RFC 3986.

use std::borrow::Cow;
use std::ops::Range;

use super::numbers::Own;
use super::signs::{self, Signs};
use super::{numbers, personal, secret};
use crate::percent;

/// Stands for what was taken out, as the conventions write it.
pub(crate) const REDACTED: &str = "REDACTED";

/// Text is decoded so often: proxies encode what is encoded already.
const MAX_DECODED: usize = 3;

/// Free text without secrets and personal data.
pub fn text<'a>(given: &'a str, own: Own<'_>) -> Cow<'a, str> {
    let mut places: Vec<Range<usize>> = Vec::new();
    personal::find(given, own, &mut |place| places.push(place));
    secret::find(given, &mut |place| places.push(place));
    let shown = if places.is_empty() { Cow::Borrowed(given) } else { Cow::Owned(without(given, places)) };
    // What stands in plain sight says nothing of what stands encoded beside it.
    if is_hidden_below(&shown, false, own) { Cow::Owned(REDACTED.to_owned()) } else { shown }
}

/// The name of a destination: numbers and tokens are taken out of it, but what looks like an address (`celery@host`) names a
/// queue, not a person.
pub fn destination<'a>(given: &'a str, own: Own<'_>) -> Cow<'a, str> {
    let mut places: Vec<Range<usize>> = Vec::new();
    numbers::find(given, own, &mut |place| places.push(place));
    secret::find(given, &mut |place| places.push(place));
    if places.is_empty() { Cow::Borrowed(given) } else { Cow::Owned(without(given, places)) }
}

fn without(given: &str, mut places: Vec<Range<usize>>) -> String {
    places.sort_unstable_by_key(|place| place.start);
    let mut out = String::with_capacity(given.len());
    let mut at = 0;
    for place in places {
        if place.start >= at {
            out.push_str(given.get(at..place.start).unwrap_or(""));
            out.push_str(REDACTED);
        }
        at = at.max(place.end);
    }
    out.push_str(given.get(at..).unwrap_or(""));
    out
}

/// Something stands in a text that must not leave, as written or percent-encoded.
fn is_hidden(given: &str, own: Own<'_>) -> bool {
    let mut hidden = false;
    personal::find(given, own, &mut |_| hidden = true);
    secret::find(given, &mut |_| hidden = true);
    hidden
}

/// … below one or more layers of percent-encoding. What is no text when decoded is not shown either.
fn is_hidden_below(given: &str, plus_is_blank: bool, own: Own<'_>) -> bool {
    let mut current = Cow::Borrowed(given);
    for _ in 0..MAX_DECODED {
        let Some(plain) = percent::decode(&current, plus_is_blank) else { return true };
        if plain == current {
            return false;
        }
        if is_hidden(&plain, own) || has_secret_pair(&plain) {
            return true;
        }
        current = Cow::Owned(plain.into_owned());
    }
    // Deeper than anybody encodes by mistake.
    percent::decode(&current, plus_is_blank).is_none_or(|plain| plain != current)
}

/// `?name=value` inside a value: a URL in a URL.
fn has_secret_pair(plain: &str) -> bool {
    plain
        .split(['?', '&', ';', '#'])
        .any(|pair| pair.split_once('=').is_some_and(|(name, value)| is_secret_pair(name, value)))
}

/// Decoded before it is compared.
fn is_secret_pair(name: &str, value: &str) -> bool {
    let mut name = Cow::Borrowed(name);
    for _ in 0..MAX_DECODED {
        match percent::decode(&name, true) {
            Some(plain) if plain == name => break,
            Some(plain) => name = Cow::Owned(plain.into_owned()),
            None => return true,
        }
    }
    secret::hides(&name, value)
}

/// Words before a segment that is a token: `/reset/3f9Q…`.
const TOKEN_SEGMENTS: [&str; 16] = [
    "reset",
    "verify",
    "verification",
    "activate",
    "activation",
    "invite",
    "invitation",
    "unsubscribe",
    "magic",
    "token",
    "tokens",
    "password",
    "secret",
    "otp",
    "session",
    "sessions",
];

/// Nothing can stand in such a text that would have to go: it has too few digits for a number, no sign that an address, a pair or
/// an escape needs, and nothing that the shape of a token has.
fn is_plain(text: &str) -> bool {
    let Signs { digits, has } = Signs::of(text);
    has & signs::SIGN == 0 && digits < 8 && !(has & signs::SHAPE != 0 && text.len() >= 10)
}

/// The same of a path: of all its segments, and none is the token that the word before it announces.
fn is_plain_path(path: &str) -> bool {
    let mut before = "";
    memchr::memchr(b';', path.as_bytes()).is_none()
        && path.split('/').all(|name| {
            let announced = || TOKEN_SEGMENTS.iter().any(|word| before.eq_ignore_ascii_case(word));
            let has_digit = || name.bytes().any(|byte| byte.is_ascii_digit());
            let is_plain = is_plain(name) && !(before.len() >= 3 && announced() && has_digit());
            before = name;
            is_plain
        })
}

/// A path without segments and parameters (`;jsessionid=…`) that are secret or personal.
pub fn path<'a>(path: &'a str, own: Own<'_>) -> Cow<'a, str> {
    if is_plain_path(path) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(cleaned_path(path, own))
}

fn cleaned_path(path: &str, own: Own<'_>) -> String {
    let mut out = String::with_capacity(path.len());
    let mut before = "";
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        let mut parts = segment.split(';');
        let name = parts.next().unwrap_or("");
        let is_token = TOKEN_SEGMENTS.iter().any(|word| before.eq_ignore_ascii_case(word))
            && name.contains(char::is_alphabetic)
            && name.contains(|c: char| c.is_ascii_digit());
        let hidden = (is_token && !own(name)) || is_hidden(name, own) || is_hidden_below(name, false, own);
        out.push_str(if hidden { REDACTED } else { name });
        for parameter in parts {
            out.push(';');
            pair(parameter, own, &mut out);
        }
        before = name;
    }
    out
}

/// A query without secrets and personal data: names stay, such values become `REDACTED`.
pub fn query(query: &str, own: Own<'_>) -> String {
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    loop {
        let end = rest.find(['&', ';']).unwrap_or(rest.len());
        let (one, after) = rest.split_at(end);
        pair(one, own, &mut out);
        let Some(separator) = after.chars().next() else { return out };
        out.push(separator);
        rest = after.get(1..).unwrap_or("");
    }
}

fn pair(pair: &str, own: Own<'_>, out: &mut String) {
    let hidden = |text: &str| is_hidden(text, own) || is_hidden_below(text, true, own);
    let (name, value) = match pair.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (pair, None),
    };
    out.push_str(if hidden(name) { REDACTED } else { name });
    if let Some(value) = value {
        out.push('=');
        let hide = is_secret_pair(name, value) || hidden(value) || has_secret_pair(value);
        out.push_str(if hide { REDACTED } else { value });
    }
}

/// A URL, or a value with one in it (`Referer`, `Location`): it loses what its parts lose, and who logs in.
pub fn url<'a>(value: &'a str, own: Own<'_>) -> Cow<'a, str> {
    let (before, query_text) = match value.split_once('?') {
        Some((before, query_text)) => (before, Some(query_text)),
        None => (value, None),
    };
    let is_scheme =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    // Nearly every URL is shown as it is.
    if query_text.is_none()
        && let Some((scheme, rest)) = before.split_once("://")
        && is_scheme(scheme)
    {
        let (authority, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if memchr::memchr(b'@', authority.as_bytes()).is_none()
            && is_plain_path(below)
            && matches!(destination(authority, own), Cow::Borrowed(_))
        {
            return Cow::Borrowed(value);
        }
    }
    let mut out = match before.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let (authority, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = match authority.rsplit_once('@') {
                Some((user, host)) if user.contains(':') => format!("{REDACTED}:{REDACTED}@{host}"),
                Some((_, host)) => format!("{REDACTED}@{host}"),
                None => destination(authority, own).into_owned(),
            };
            format!("{scheme}://{host}{}", path(below, own))
        }
        None if before.starts_with('/') => path(before, own).into_owned(),
        _ => text(before, own).into_owned(),
    };
    if let Some(query_text) = query_text {
        out.push('?');
        out.push_str(&query(query_text, own));
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::privacy::{NO_KEYS, is_same};

    #[test]
    fn paths_keep_their_shape() {
        for (path, expected) in [
            ("/users/jane@example.org/orders/17", "/users/REDACTED/orders/17"),
            ("/users/jane%40example.org", "/users/REDACTED"),
            ("/users/jane%2540example.org", "/users/REDACTED"),
            (
                "/orders/f81d4fae-7123-4123-8123-00a0c91e6bf6/",
                "/orders/f81d4fae-7123-4123-8123-00a0c91e6bf6/",
            ),
            ("/app/page;jsessionid=0A1B;v=2", "/app/page;jsessionid=REDACTED;v=2"),
            ("/verify/eyJhbGciOiJI.eyJzdWIi.Zq9", "/verify/REDACTED"),
            ("/reset/Zq057x", "/reset/REDACTED"),
            ("/orders/17/confirm", "/orders/17/confirm"),
            ("/n/89161230010", "/n/REDACTED"),
        ] {
            assert_eq!(super::path(path, NO_KEYS), expected);
        }
        assert_eq!(
            super::path("/orders/89161230010", &|shown| is_same("89161230010", shown)),
            "/orders/89161230010"
        );
    }

    #[test]
    fn queries_lose_values_by_their_names_and_by_themselves() {
        for (query, expected) in [
            ("a=1&X-Amz-Signature=ab&sig=x&flag", "a=1&X-Amz-Signature=REDACTED&sig=REDACTED&flag"),
            (
                "access_token=x&q=jane%40example.org&order_id=17",
                "access_token=REDACTED&q=REDACTED&order_id=17",
            ),
            ("n=%2B4915112345678&c=4111+1111+1111+1111", "n=REDACTED&c=REDACTED"),
            ("p%61ssword=x&page=2", "p%61ssword=REDACTED&page=2"),
            ("a=1;password=x", "a=1;password=REDACTED"),
            ("redirect_uri=https%3A%2F%2Fx%2F%3Faccess_token%3DZq", "redirect_uri=REDACTED"),
            ("q=%7B%22password%22%3A%22Zq%22%7D", "q=REDACTED"),
            ("url=https%3A%2F%2Fuser%3AZq%40host%2F", "url=REDACTED"),
            (
                "%D1%82%D0%B5%D0%BB%D0%B5%D1%84%D0%BE%D0%BD=1",
                "%D1%82%D0%B5%D0%BB%D0%B5%D1%84%D0%BE%D0%BD=REDACTED",
            ),
            ("state=confirmed&key=", "state=confirmed&key="),
        ] {
            assert_eq!(super::query(query, NO_KEYS), expected);
        }
    }

    #[test]
    fn urls_in_headers_lose_their_secrets() {
        for (value, expected) in [
            ("text/html; charset=utf-8", "text/html; charset=utf-8"),
            ("https://a/b?token=x&page=2", "https://a/b?token=REDACTED&page=2"),
            ("https://user:pass@a/b", "https://REDACTED:REDACTED@a/b"),
            ("/users/jane@example.org?sig=1", "/users/REDACTED?sig=REDACTED"),
            ("https://a/p@b", "https://a/REDACTED"),
        ] {
            assert_eq!(super::url(value, NO_KEYS), expected);
        }
    }

    #[test]
    fn what_is_encoded_goes_with_or_without_something_plain_beside_it() {
        for text in ["next=%3Ftoken%3Dzq9", "jane@example.org next=%3Ftoken%3Dzq9"] {
            let shown = super::text(text, NO_KEYS);
            assert!(!shown.contains("zq9"), "{shown}");
        }
    }

    #[test]
    fn queues_are_no_people() {
        assert_eq!(super::destination("celery@vm.celery.pidbox", NO_KEYS), "celery@vm.celery.pidbox");
        assert_eq!(super::destination("orders:sms.89161230030", NO_KEYS), "orders:sms.REDACTED");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\PC\"'»«„“=(%@?&;:0-9]{0,60}") {
            super::text(&text, NO_KEYS);
            super::path(&text, NO_KEYS);
            super::query(&text, NO_KEYS);
            super::url(&text, NO_KEYS);
        }

        #[test]
        fn what_is_plain_is_what_would_stay(path in "(/|reset|[a-zA-Z]{0,3}|[0-9]{1,9}|[-_;@%=:. é]|sk_live_|AKIA|eyJ|%40){0,12}") {
            if super::is_plain(&path) {
                prop_assert!(!super::is_hidden(&path, NO_KEYS) && !super::is_hidden_below(&path, false, NO_KEYS));
            }
            if super::is_plain_path(&path) {
                prop_assert_eq!(super::cleaned_path(&path, NO_KEYS), path);
            }
        }

        #[test]
        fn a_secret_under_its_name_never_stays(name in "(access_token|p%61ssword|Phone|sid|X-Api-Key)", before in "[a-z]{0,8}", secret in "zq9[a-zA-Z0-9%]{4,20}") {
            let query = super::query(&format!("{before}=1&{name}={secret}&page=2"), NO_KEYS);
            prop_assert!(!query.contains("zq9"), "{query}");
            let nested = super::text(&format!("{before} {name}={secret} {before}"), NO_KEYS).into_owned();
            prop_assert!(!nested.contains("zq9") || name.contains('%'), "{nested}");
        }
    }
}
