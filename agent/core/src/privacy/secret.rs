//! A name → what travels under it. A text → where secrets stand in it.
//!
//! *Owns* the names and shapes of credentials, and the names under which people are told of. *Must not know* where names and
//! texts come from.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, `url.query` (the names to redact); RFC 7519, section 3.1 (the shape of
//! a JWT).
//!
//! A name is looked at by its parts (`user_pwd`, `accessKeyId`, `X-Api-Key`), in any letter case, Latin or Cyrillic. Names that
//! are used for both (`state`, `hash`, `confirm`) show values that are plain words, and no other.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::personal::is_personal;
use super::signs::{self, Signs};

/// What travels under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Other,
    /// Words, or tokens: values that are not plain words are secret.
    Ambiguous,
    /// Credentials, or what tells of a person.
    Secret,
}

/// Anywhere in a name.
#[rustfmt::skip]
const WORDS: [&str; 36] = [
    "token", "password", "passwd", "passphrase", "passcode", "secret", "apikey", "accesskey", "privatekey", "authkey",
    "signature", "credential", "session", "sessid", "jwt", "authorization", "cookie", "saml", "csrf", "xsrf", "assertion",
    "bearer", "hmac", "verifier", "phone", "email", "passport", "snils", "телефон", "паспорт", "снилс", "пароль", "токен",
    "секрет", "фамилия", "отчество",
];

/// A part of a name, or the whole.
#[rustfmt::skip]
const PARTS: [&str; 36] = [
    "sig", "sign", "pwd", "pw", "pass", "auth", "oauth", "pin", "pincode", "otp", "totp", "sid", "tok", "cvv", "cvc", "ticket", "nonce",
    "mail", "tel", "mobile", "msisdn", "fax", "inn", "fio", "dob", "birthday", "birthdate", "iban", "инн", "фио", "тел", "почта",
    "surname", "patronymic", "nickname", "пин",
];

/// The whole name.
#[rustfmt::skip]
const NAMES: [&str; 26] = [
    "key", "code", "login", "user", "username", "name", "firstname", "lastname", "middlename", "fullname", "customername",
    "clientname", "contactname", "recipient", "card", "cardnumber", "pan", "address", "имя", "логин", "адрес", "карта", "ключ", "код",
    "деньрождения", "датарождения",
];

/// The whole name: a word, or a token.
#[rustfmt::skip]
const AMBIGUOUS: [&str; 12] = [
    "state", "hash", "magic", "invite", "invitation", "reset", "confirm", "confirmation", "activation", "activate", "verify",
    "unsubscribe",
];

/// Before `key`: names of fields, not of credentials.
#[rustfmt::skip]
const FIELD_KEYS: [&str; 14] = [
    "order", "sort", "primary", "foreign", "group", "partition", "row", "cache", "routing", "idempotency", "model", "object",
    "page", "item",
];

/// Longest name that is looked at; longer ones are no words.
const MAX_NAME: usize = 64;

/// What every such name has in it, so that the others are not taken apart. Those that are not ASCII always are.
static HINTS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let lists = WORDS.iter().chain(&PARTS).chain(&NAMES).chain(&AMBIGUOUS).chain(&["key", "sess", "birth"]);
    AhoCorasick::builder().ascii_case_insensitive(true).build(lists.filter(|word| word.is_ascii())).ok()
});

/// What travels under a name, decoded.
pub(super) fn naming(name: &str) -> Naming {
    if name.len() > 2 * MAX_NAME {
        return Naming::Ambiguous;
    }
    if name.is_ascii() && HINTS.as_ref().is_some_and(|hints| !hints.is_match(name)) {
        return Naming::Other;
    }
    let parts = parts(name);
    let whole = parts.concat();
    let is_key = parts.windows(2).any(|pair| match pair {
        [before, key] => key == "key" && !FIELD_KEYS.contains(&before.as_str()),
        _ => false,
    });
    if is_key
        || NAMES.contains(&whole.as_str())
        || PARTS.contains(&whole.as_str())
        || parts.iter().any(|part| PARTS.contains(&part.as_str()))
        || WORDS.iter().any(|word| whole.contains(word))
    {
        return Naming::Secret;
    }
    if AMBIGUOUS.contains(&whole.as_str()) { Naming::Ambiguous } else { Naming::Other }
}

/// The words of a name, in lower case: parted by anything but letters and digits, and where a capital follows a small letter.
fn parts(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut was_small = false;
    for c in name.chars() {
        if (!c.is_alphanumeric() || (was_small && c.is_uppercase())) && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
        }
        if c.is_alphanumeric() {
            part.extend(c.to_lowercase());
        }
        was_small = c.is_lowercase();
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Whether a value under a name must not be shown, as far as the name tells.
pub fn hides(name: &str, value: &str) -> bool {
    match naming(name) {
        Naming::Other => false,
        Naming::Ambiguous => !is_plain_word(value),
        // A placeholder is what is left of a value: of SQL, and of a destination's template (as far as a value goes: to the brace).
        Naming::Secret => !matches!(value, "" | "?" | "{id"),
    }
}

/// `confirmed`, `in-progress`, `1`: no token.
fn is_plain_word(value: &str) -> bool {
    let small_number = value.len() <= 3 && value.bytes().all(|b| b.is_ascii_digit());
    let one_case = value.chars().skip(1).all(|c| !c.is_uppercase()) || !value.chars().any(char::is_lowercase);
    small_number
        || (value.len() <= 32
            && one_case
            && value.chars().all(|c| c.is_alphabetic() || matches!(c, '-' | '_')))
}

/// A name under which credentials travel, or what tells of a person.
pub fn is_secret(name: &str) -> bool {
    naming(name) == Naming::Secret
}

/// What tokens begin with, and how long they are at least.
const SHAPES: [(&str, usize); 15] = [
    ("eyJ", 12),
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("rk_live_", 10),
    ("pk_live_", 10),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghs_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
];

static SHAPED: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::new(SHAPES.map(|(start, _)| start)).ok());

/// Words that a value follows after a blank: `token abc1`, `Bearer abc1`.
#[rustfmt::skip]
const INTRODUCED: [&str; 34] = [
    "token", "password", "passwd", "passphrase", "pass", "pwd", "bearer", "basic", "secret", "key", "apikey", "pin", "otp",
    "session", "passport", "phone", "tel", "tel.", "card", "snils", "inn", "токен", "пароль", "паспорт", "телефон", "тел.",
    "тел", "снилс", "инн", "карта", "ключ", "Паспорт", "Телефон", "Пароль",
];

/// Calls `found` with each place of a secret: tokens by their shape, values behind names, passwords of URLs.
pub(super) fn find(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    if text.len() < 4 {
        return;
    }
    // Every shape has a capital, `_` or `-`.
    let Signs { has, .. } = Signs::of(text);
    if has & signs::SHAPE != 0 {
        shaped(text, found);
    }
    if has & signs::SIGN == 0 {
        return;
    }
    let bytes = text.as_bytes();
    for at in memchr::memchr2_iter(b'=', b':', bytes) {
        if text.get(at..).is_some_and(|rest| rest.starts_with("://")) {
            userinfo(text, at + 3, found);
        } else if let Some(name) = name_before(text, at)
            // Told first, for it is nearly always nothing.
            && naming(name) != Naming::Other
            && let Some(value) = value_behind(text, at + 1)
            && text.get(value.clone()).is_some_and(|value| hides(name, value))
        {
            found(value);
        }
    }
    introduced(text, found);
}

fn shaped(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let Some(shaped) = SHAPED.as_ref().filter(|_| text.len() >= 10) else { return };
    for start in shaped.find_iter(text) {
        let Some((_, least)) = SHAPES.get(start.pattern().as_usize()) else { continue };
        let rest = text.get(start.start()..).unwrap_or("");
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=');
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let is_token = rest.get(..len).is_some_and(|token| !token.starts_with("eyJ") || token.contains('.'));
        let begins_word =
            !text.get(..start.start()).is_some_and(|before| before.ends_with(char::is_alphanumeric));
        if len >= *least && is_token && begins_word {
            found(start.start()..start.start() + len);
        }
    }
}

/// The name that ends before `at`, without quotes and blanks between.
fn name_before(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?.trim_end_matches([' ', '"', '\'', '`', '\\', ')']);
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = before.get(before.trim_end_matches(is_part).len()..)?;
    name.contains(char::is_alphabetic).then_some(name)
}

/// The value from `at` on: to the quote that closes it, else to the next blank or delimiter. With the scheme before it
/// (`Bearer abc`), both.
fn value_behind(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = text.get(at..)?;
    let start = at + rest.len() - rest.trim_start_matches([' ', '\\', '(']).len();
    let rest = text.get(start..)?;
    if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) {
        let inner = rest.get(1..)?;
        let len = inner.find(quote).unwrap_or(inner.len());
        return (len > 0).then_some(start + 1..start + 1 + len);
    }
    let ends = |c: char| {
        c.is_whitespace() || matches!(c, ',' | ';' | '&' | ')' | ']' | '}' | '"' | '\'' | '`' | '<' | '>')
    };
    let len_of = |text: &str| text.find(ends).unwrap_or(text.len());
    let len = len_of(rest);
    let (value, behind) = rest.split_at_checked(len)?;
    let is_scheme =
        ["bearer", "basic", "digest", "token"].iter().any(|scheme| value.eq_ignore_ascii_case(scheme));
    let more = match behind.strip_prefix(' ') {
        Some(behind) if is_scheme => 1 + len_of(behind),
        _ => 0,
    };
    (len > 0).then_some(start..start + len + more)
}

/// `user:password@` of a URL whose authority begins at `at`.
fn userinfo(text: &str, at: usize, found: &mut dyn FnMut(Range<usize>)) {
    let rest = text.get(at..).unwrap_or("");
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>');
    let authority = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or("");
    if let Some(end) = authority.rfind('@').filter(|end| *end > 0) {
        found(at..at + end);
    }
}

/// A word with a digit behind a word that introduces it.
fn introduced(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    if memchr::memchr2(b' ', b'\t', text.as_bytes()).is_none() {
        return;
    }
    let mut before: Option<&str> = None;
    let mut at = 0;
    for word in text.split([' ', '\t', '\n', '(', ')', ',']) {
        let start = at;
        at += word.len() + 1;
        if word.is_empty() {
            continue;
        }
        let is_value = word.contains(|c: char| c.is_ascii_digit());
        if is_value && before.is_some_and(is_introduction) {
            found(start..start + word.len());
        }
        before = Some(word);
    }
}

fn is_introduction(word: &str) -> bool {
    INTRODUCED.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Headers that authenticate somebody.
pub(crate) fn is_secret_header(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-')).collect::<String>().to_ascii_lowercase();
    plain.is_empty()
        || ["authorization", "cookie", "apikey", "token", "secret", "password"]
            .iter()
            .any(|word| plain.contains(word))
}

/// Longest header field that is written down.
pub(crate) const MAX_FIELD: usize = 128;

/// Header fields that say how something is sent, not what: all others may be credentials or tell of people. Of paths, those
/// that name a method of a service (gRPC over HTTP/2, "Requests"): others hold numbers and names.
pub(crate) fn is_harmless_field(name: &str, value: &str) -> bool {
    let is_allowed = match name {
        ":method"
        | ":scheme"
        | ":status"
        | "te"
        | "accept-encoding"
        | "content-encoding"
        | "grpc-encoding"
        | "grpc-accept-encoding"
        | "grpc-status"
        | "user-agent" => true,
        "content-type" => !value.contains(';'),
        ":authority" => value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)),
        ":path" => is_service_method(value),
        _ => false,
    };
    let mut has_secret = false;
    find(value, &mut |_| has_secret = true);
    is_allowed && value.len() <= MAX_FIELD && !is_personal(value) && !has_secret
}

/// `/package.Service/Method`.
fn is_service_method(path: &str) -> bool {
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let parts = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(service, method)| {
        service.contains('.') && service.split('.').all(is_word) && is_word(method)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_by_their_parts() {
        for name in [
            "AWSAccessKeyId",
            "Signature",
            "sig",
            "X-Goog-Signature",
            "X-Amz-Security-Token",
            "access_key",
            "private-key",
            "authKey",
            "Ocp-Apim-Subscription-Key",
            "user_pwd",
            "otp_code",
            "PHPSESSID",
            "jsessionid",
            "ASPSESSIONIDQ",
            "SAMLResponse",
            "client_assertion",
            "code_verifier",
            "key",
            "pass",
            "phone",
            "Customer_Phone",
            "телефон",
            "ТЕЛЕФОН",
            "паспорт",
            "fio",
            "инн",
            "name",
            "username",
            "userEmail",
        ] {
            assert_eq!(naming(name), Naming::Secret, "{name}");
        }
        for name in [
            "order_id",
            "page",
            "status",
            "order_key",
            "sortKey",
            "passage",
            "keyword",
            "file_name",
            "user_id",
            "winner",
            "monkey",
        ] {
            assert_eq!(naming(name), Naming::Other, "{name}");
        }
        assert!(hides("state", "Zq9xY") && !hides("state", "confirmed"));
    }

    #[test]
    fn secrets_are_found_in_text() {
        for (text, secret) in [
            ("eyJhbGciOiJI.eyJzdWIi.Zq9", "eyJhbGciOiJI.eyJzdWIi.Zq9"),
            ("declined for sk_live_Zq9x", "sk_live_Zq9x"),
            ("password=`Zq9`", "Zq9"),
            (r#"{"password":"Z q9","page":2}"#, "Z q9"),
            ("Authorization: Bearer Zq9", "Bearer Zq9"),
            ("at postgres://app:Zq9@db/x", "app:Zq9"),
            ("app/1.0 (token Zq9)", "Zq9"),
            ("Passport Zq9.stl", "Zq9.stl"),
        ] {
            let mut all = Vec::new();
            find(text, &mut |place| all.push(&text[place]));
            assert!(all.contains(&secret), "{text}: {all:?}");
        }
        for text in [
            "Mozilla/5.0 (X11; Linux x86_64; rv:109.0)",
            "http://shop/q",
            "token expired",
            "page=2",
            "12:30:45",
        ] {
            find(text, &mut |place| panic!("{text}: {place:?}"));
        }
    }
}
