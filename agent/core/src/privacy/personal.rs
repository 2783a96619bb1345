//! A text → whether it tells of a person.
//!
//! *Owns* the forms of what belongs to people. *Must not know* where a text came from, nor where it goes.

/// Looks like an e-mail address, a telephone or a payment card number.
pub fn is_personal(value: &str) -> bool {
    // Nearly every text has too few digits for a number, and no sign of an address.
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let may_be_email = value.bytes().any(|byte| matches!(byte, b'@' | b'%'));
    (may_be_email && is_email(value)) || (digits >= MIN_PHONE_DIGITS && (is_card(value) || is_phone(value)))
}

/// Something, `@`, something; also percent-encoded.
fn is_email(value: &str) -> bool {
    let word = |c: char| c.is_alphanumeric();
    let around = |at: usize, len: usize| {
        let local = value.get(..at).unwrap_or("");
        let host = value.get(at + len..).unwrap_or("");
        local.ends_with(|c: char| word(c) || matches!(c, '_' | '-' | '.' | '+')) && host.starts_with(word)
    };
    value.match_indices('@').any(|(at, _)| around(at, 1))
        || value.match_indices("%40").any(|(at, _)| around(at, 3))
}

/// A run of 13 to 19 digits, blanks or hyphens between, with a right check digit (ISO/IEC 7812-1, annex B).
fn is_card(value: &str) -> bool {
    runs(value, |c| matches!(c, ' ' | '-')).any(|(run, _)| {
        let digits = run.bytes().filter(u8::is_ascii_digit).map(|b| u32::from(b - b'0'));
        let digits: Vec<u32> = digits.collect();
        let sum: u32 = digits
            .iter()
            .rev()
            .enumerate()
            .map(|(at, &digit)| match at % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            })
            .sum();
        (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
    })
}

/// No telephone or card number has fewer.
const MIN_PHONE_DIGITS: usize = 8;

/// `+` and 8 to 15 digits (E.164), or 10 to 15 digits written in at least three groups.
fn is_phone(value: &str) -> bool {
    runs(value, is_phone_separator).any(|(run, before)| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        let groups = run.split(is_phone_separator).filter(|group| !group.is_empty()).count();
        let plus = before.trim_end_matches('(').ends_with('+');
        (plus && (MIN_PHONE_DIGITS..=15).contains(&digits)) || (groups >= 3 && (10..=15).contains(&digits))
    })
}

fn is_phone_separator(c: char) -> bool {
    matches!(c, ' ' | '-' | '.' | '(' | ')' | '/')
}

/// Runs of digits with separators inside, and the text before each. Runs that a letter touches, at most with a hyphen or dot
/// between, are parts of words, versions and UUIDs.
fn runs(value: &str, separator: impl Fn(char) -> bool + Copy) -> impl Iterator<Item = (&str, &str)> {
    let touches = |between: &str| between.chars().all(|c| matches!(c, '-' | '.'));
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = value.get(from..)?;
            let start = from + rest.find(|c: char| c.is_ascii_digit())?;
            let tail = value.get(start..)?;
            let end = tail
                .find(|c: char| !(c.is_ascii_digit() || separator(c)))
                .map_or(value.len(), |len| start + len);
            from = end;
            let run = value.get(start..end)?.trim_end_matches(separator);
            let before = value.get(..start)?;
            let word = before.trim_end_matches(separator);
            let after_gap = value.get(start + run.len()..end)?;
            let before_gap = before.get(word.len()..)?;
            let letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
            let in_word = (letter(word.chars().next_back()) && touches(before_gap))
                || (letter(value.get(end..)?.chars().next()) && touches(after_gap));
            if !in_word {
                return Some((run, before));
            }
        }
    })
}
