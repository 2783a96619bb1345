//! Text as found in traffic → canonical values of a declared type.
//!
//! *Owns* canonical forms and what is refused: wrong types, lengths, personal data. *Must not know* where a value came from.
//!
//! Canonical forms are published, because agents that disagree on them would disagree on trace identifiers:
//!
//! | type | found | canonical |
//! |---|---|---|
//! | `integer` | `17`, `+17`, `0017`, ` 17 ` | `17` |
//! | `integer` | `0`, `-17`, `17.0`, `1e3`, `17a`, empty | refused |
//! | `uuid` | `{F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6}`, `urn:uuid:f81d…`, `f81d4fae7dec11d0a76500a0c91e6bf6` | `f81d4fae-7dec-11d0-a765-00a0c91e6bf6` |
//! | `uuid` | the nil UUID | refused |
//! | `text` | ` A-17 ` | `A-17`, no Unicode normalisation |
//! | `text` | `В работе` | `В работе` |
//! | `pattern` `ORD-#+` | `ORD-0017` | `ORD-0017` |

use std::borrow::Cow;

use super::rules::{Characters, ValueKind};
use crate::privacy::is_personal;
use crate::trace::Value;

/// Digits of the largest `u64` minus one: every value fits an unsigned 64-bit integer.
pub const MAX_DIGITS: usize = 19;
/// Longest text taken.
pub const MAX_TEXT: usize = 255;
/// Words of a phrase: the longest status that was seen in the field has four (`передан в службу доставки`), and what people
/// write about an order has more.
const MAX_WORDS: usize = 6;

/// A declared type, ready to judge values.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueType {
    kind: ValueKind,
    max_length: usize,
    characters: Characters,
    pattern: Vec<Atom>,
}

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Atom {
    Literal(char),
    Class { class: Class, repeat: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    Digit,
    Letter,
    Either,
}

impl Class {
    fn has(self, c: char) -> bool {
        match self {
            Class::Digit => c.is_ascii_digit(),
            Class::Letter => c.is_alphabetic(),
            Class::Either => c.is_alphanumeric(),
        }
    }
}

impl ValueType {
    /// Checks a declaration; the error says what is wrong and with which key.
    pub fn compile(
        kind: ValueKind,
        max_length: Option<usize>,
        characters: Option<Characters>,
        pattern: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let bound = match kind {
            ValueKind::Id | ValueKind::Integer => MAX_DIGITS,
            _ => MAX_TEXT,
        };
        let default = if kind == ValueKind::Text || kind == ValueKind::Pattern { 64 } else { bound };
        let max_length = max_length.unwrap_or(default);
        if max_length == 0 || max_length > bound {
            return Err(("max_length", format!("{max_length} is not between 1 and {bound}")));
        }
        if characters.is_some() && kind != ValueKind::Text {
            return Err(("characters", "only a `text` has them".to_owned()));
        }
        let pattern = match (kind, pattern) {
            (ValueKind::Pattern, Some(text)) => compile_pattern(text).map_err(|why| ("pattern", why))?,
            (ValueKind::Pattern, None) => {
                return Err(("pattern", "a `pattern` needs one, such as `ORD-#+`".to_owned()));
            }
            (_, Some(_)) => return Err(("pattern", "only type `pattern` has one".to_owned())),
            (_, None) => Vec::new(),
        };
        Ok(Self { kind, max_length, characters: characters.unwrap_or_default(), pattern })
    }

    /// The canonical form of an identity key, or `None` when it is not one.
    pub fn key<'a>(&self, found: &'a str) -> Option<Cow<'a, str>> {
        let value = self.canonical(found)?;
        let none_yet = value == "0" && self.kind != ValueKind::Text;
        (!none_yet && !value.contains('@')).then_some(value)
    }

    /// The canonical value of an attribute, or `None` when it is not one or personal data.
    pub fn attribute(&self, found: &str) -> Option<Value> {
        let value = self.canonical(found)?;
        if self.kind != ValueKind::Time && self.kind != ValueKind::Uuid && is_personal(&value) {
            return None;
        }
        match self.kind {
            ValueKind::Integer => value.parse().ok().map(Value::Int),
            _ => Some(Value::from(&*value)),
        }
    }

    fn canonical<'a>(&self, found: &'a str) -> Option<Cow<'a, str>> {
        let found = found.trim();
        match self.kind {
            ValueKind::Integer => integer(found, self.max_length),
            ValueKind::Uuid => uuid(found).map(Cow::Owned),
            ValueKind::Id => integer(found, self.max_length).or_else(|| uuid(found).map(Cow::Owned)),
            ValueKind::Time => is_time(found).then_some(Cow::Borrowed(found)),
            ValueKind::Pattern => {
                let fits = found.chars().nth(self.max_length).is_none();
                (fits && matches(&self.pattern, found)).then_some(Cow::Borrowed(found))
            }
            ValueKind::Text => {
                let fits = !found.is_empty() && found.chars().nth(self.max_length).is_none();
                (fits && self.allows(found)).then_some(Cow::Borrowed(found))
            }
        }
    }
}

impl ValueType {
    /// A `text` consists of what it may consist of.
    fn allows(&self, text: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || is_mark(c) || matches!(c, '-' | '_' | '.');
        let is_phrase = |c: char| {
            is_word(c) || matches!(c, ' ' | '\u{a0}' | '/' | ':' | '#' | '№' | '(' | ')' | '+' | ',')
        };
        match self.characters {
            Characters::Alphanumeric => text.chars().all(|c| c.is_alphanumeric() || is_mark(c)),
            Characters::Word => text.chars().all(is_word),
            Characters::Phrase => {
                let has_word = text.contains(char::is_alphanumeric);
                has_word && text.chars().all(is_phrase) && text.split_whitespace().nth(MAX_WORDS).is_none()
            }
            Characters::Printable => !text.contains(char::is_control),
        }
    }
}

/// What stands above, below or behind the letter before it in scripts that write vowels so, and in decomposed text.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{487}' | '\u{900}'..='\u{d7f}' | '\u{e31}'..='\u{e4e}' | '\u{1dc0}'..='\u{1dff}')
}

fn integer(found: &str, max_digits: usize) -> Option<Cow<'_, str>> {
    let digits = found.strip_prefix('+').unwrap_or(found);
    if digits.is_empty() || digits.len() > MAX_TEXT || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    match digits.len() {
        0 => Some(Cow::Borrowed("0")),
        n if n > max_digits => None,
        _ => Some(Cow::Borrowed(digits)),
    }
}

/// RFC 9562, section 4, and the forms libraries print.
fn uuid(found: &str) -> Option<String> {
    let bare = found.strip_prefix("urn:uuid:").unwrap_or(found);
    let bare = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
    let hyphenated = match bare.len() {
        32 => false,
        36 => true,
        _ => return None,
    };
    let mut out = String::with_capacity(36);
    let mut digits = 0;
    for (at, byte) in bare.bytes().enumerate() {
        if hyphenated && matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        if !byte.is_ascii_hexdigit() {
            return None;
        }
        if matches!(digits, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(char::from(byte.to_ascii_lowercase()));
        digits += 1;
    }
    out.bytes().any(|b| b != b'0' && b != b'-').then_some(out)
}

/// `2026-11-20`, with a time behind `T` or a blank, fractions and an offset (ISO 8601-1, extended format).
fn is_time(found: &str) -> bool {
    let shape = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text
                .bytes()
                .zip(shape.bytes())
                .all(|(b, s)| if s == b'0' { b.is_ascii_digit() } else { b == s })
    };
    if !found.is_ascii() || found.len() > 40 || !found.get(..10).is_some_and(|date| shape(date, "0000-00-00"))
    {
        return false;
    }
    let Some(rest) = found.get(10..).filter(|rest| !rest.is_empty()) else { return true };
    if !rest.starts_with(['T', ' ']) || !rest.get(1..9).is_some_and(|time| shape(time, "00:00:00")) {
        return false;
    }
    let rest = rest.get(9..).unwrap_or_default();
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    match rest.as_bytes() {
        [] | [b'Z'] => true,
        [b'+' | b'-', offset @ ..] => {
            let offset = std::str::from_utf8(offset).unwrap_or_default();
            ["00", "0000", "00:00"].iter().any(|s| shape(offset, s))
        }
        _ => false,
    }
}

/// A run of `class+` takes all it can, so what follows must not be able to begin with the same character.
fn compile_pattern(text: &str) -> Result<Vec<Atom>, String> {
    let mut atoms = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let class = match c {
            '#' => Class::Digit,
            '@' => Class::Letter,
            '%' => Class::Either,
            '+' => return Err(format!("`+` in `{text}` repeats nothing; write `\\+` for a plus sign")),
            '\\' => {
                let Some(escaped) = chars.next() else { return Err(format!("`{text}` ends in `\\`")) };
                atoms.push(Atom::Literal(escaped));
                continue;
            }
            c => {
                atoms.push(Atom::Literal(c));
                continue;
            }
        };
        let repeat = chars.next_if_eq(&'+').is_some();
        atoms.push(Atom::Class { class, repeat });
    }
    if atoms.is_empty() {
        return Err("is empty".to_owned());
    }
    for pair in atoms.windows(2) {
        if let [Atom::Class { class, repeat: true }, next] = pair {
            let clash = match next {
                Atom::Literal(c) => class.has(*c),
                Atom::Class { class: next, .. } => ['0', 'a'].iter().any(|c| class.has(*c) && next.has(*c)),
            };
            if clash {
                return Err(format!("what follows a `+` in `{text}` could belong to the repetition"));
            }
        }
    }
    Ok(atoms)
}

fn matches(pattern: &[Atom], text: &str) -> bool {
    let mut chars = text.chars().peekable();
    for atom in pattern {
        match atom {
            Atom::Literal(c) => {
                if chars.next() != Some(*c) {
                    return false;
                }
            }
            Atom::Class { class, repeat } => {
                if chars.next_if(|c| class.has(*c)).is_none() {
                    return false;
                }
                while *repeat && chars.next_if(|c| class.has(*c)).is_some() {}
            }
        }
    }
    chars.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: ValueKind, pattern: Option<&str>, cases: &[(&str, Option<&str>)]) {
        let declared = ValueType::compile(kind, None, None, pattern).expect("a valid type");
        for (found, expected) in cases {
            assert_eq!(declared.key(found).as_deref(), *expected, "{kind:?} {found:?}");
        }
    }

    #[test]
    fn published_canonical_forms() {
        let digits = [
            ("17", Some("17")),
            ("+17", Some("17")),
            ("0017", Some("17")),
            (" 17\n", Some("17")),
            ("9223372036854775807", Some("9223372036854775807")),
            ("92233720368547758070", None),
            ("0", None),
            ("000", None),
            ("-17", None),
            ("17.0", None),
            ("1e3", None),
            ("17a", None),
            ("١٧", None),
            ("++17", None),
            ("", None),
        ];
        check(ValueKind::Integer, None, &digits);
        check(ValueKind::Id, None, &digits);
        let canonical = Some("f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
        let uuids = [
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", canonical),
            ("{F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6}", canonical),
            ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", canonical),
            ("f81d4fae7dec11d0a76500a0c91e6bf6", canonical),
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf", None),
            ("f81d4fae7-dec-11d0-a765-00a0c91e6bf6", None),
            ("g81d4fae-7dec-11d0-a765-00a0c91e6bf6", None),
            ("00000000-0000-0000-0000-000000000000", None),
        ];
        check(ValueKind::Uuid, None, &uuids);
        check(ValueKind::Id, None, &uuids);
        check(
            ValueKind::Text,
            None,
            &[
                (" A-17 ", Some("A-17")),
                ("\u{a0}А-17\u{202f}", Some("А-17")),
                ("a b", Some("a b")),
                ("Оплачен", Some("Оплачен")),
                ("ждёт оплаты", Some("ждёт оплаты")),
                ("передан в службу доставки", Some("передан в службу доставки")),
                ("№ 17/26 (срочный)", Some("№ 17/26 (срочный)")),
                ("支払い済み", Some("支払い済み")),
                ("भुगतान", Some("भुगतान")),
                ("ü", Some("ü")),
                ("", None),
                ("-", None),
                ("one two three four five six seven", None),
                ("<b>paid</b>", None),
                ("paid;drop", None),
                ("paid\nnow", None),
                ("a@b", None),
                ("0", Some("0")),
            ],
        );
        check(
            ValueKind::Pattern,
            Some("ORD-#+"),
            &[
                ("ORD-0017", Some("ORD-0017")),
                ("ORD-", None),
                ("ord-17", None),
                ("ORD-17x", None),
                ("xORD-17", None),
            ],
        );
        let cyrillic =
            [("ТДБП-000123", Some("ТДБП-000123")), ("A-1", Some("A-1")), ("-1", None), ("ТДБП-", None)];
        check(ValueKind::Pattern, Some("@+-#+"), &cyrillic);
        let long = "Ж".repeat(64);
        check(ValueKind::Pattern, Some("%+"), &[(&long, Some(&long)), (&format!("{long}Ж"), None)]);
        check(ValueKind::Pattern, Some("##-@+/%%"), &[("26-ab/x1", Some("26-ab/x1")), ("26-/x1", None)]);
    }

    #[test]
    fn declarations_that_mean_nothing_are_refused() {
        let refused =
            |kind, max, characters, pattern| ValueType::compile(kind, max, characters, pattern).is_err();
        assert!(refused(ValueKind::Integer, Some(20), None, None));
        assert!(refused(ValueKind::Integer, Some(0), None, None));
        assert!(refused(ValueKind::Text, Some(256), None, None));
        assert!(refused(ValueKind::Integer, None, Some(Characters::Word), None));
        assert!(refused(ValueKind::Text, None, None, Some("#+")));
        for pattern in ["", "+", "#+7", "#+#", "@+%", "a\\"] {
            assert!(refused(ValueKind::Pattern, None, None, Some(pattern)), "{pattern:?}");
        }
        assert!(refused(ValueKind::Pattern, None, None, None));
    }

    #[test]
    fn personal_data_is_no_attribute() {
        let text =
            ValueType::compile(ValueKind::Text, Some(255), Some(Characters::Printable), None).expect("valid");
        for personal in [
            "jane@example.org",
            "Jane <jane.doe+x@example.org>",
            "jane%40example.org",
            "4111111111111111",
            "4111 1111 1111 1111",
            "card 5500-0000-0000-0004",
            "+4915112345678",
            "+49 (151) 123-45678",
            "tel. 030 1234 5678",
        ] {
            assert_eq!(text.attribute(personal), None, "{personal:?}");
        }
        for plain in
            ["confirmed", "model 2026-11-20.stl", "4111111111111112", "bracket v2.1.10.step", "17", "@home"]
        {
            assert_eq!(text.attribute(plain), Some(Value::from(plain)), "{plain:?}");
        }
        let number = ValueType::compile(ValueKind::Integer, None, None, None).expect("valid");
        assert_eq!(number.attribute("0"), Some(Value::Int(0)));
        assert_eq!(number.attribute("4111111111111111"), None);
    }

    #[test]
    fn times_have_their_shape() {
        let time = ValueType::compile(ValueKind::Time, None, None, None).expect("valid");
        for good in [
            "2026-11-20",
            "2026-11-20T09:33:33Z",
            "2026-11-20 09:33:33.123456+00",
            "2026-11-20T09:33:33.1+05:30",
            "2026-11-20T09:33:33",
        ] {
            assert!(time.attribute(good).is_some(), "{good}");
        }
        for bad in
            ["20.11.2026", "2026-11-2", "2026-11-20T", "2026-11-20T09:33", "2026-11-20T09:33:33+5", "now"]
        {
            assert!(time.attribute(bad).is_none(), "{bad}");
        }
    }
}
