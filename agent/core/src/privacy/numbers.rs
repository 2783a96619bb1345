//! A text → where numbers that belong to people stand in it.
//!
//! *Owns* their forms and check digits. *Must not know* under which names they travel.
//!
//! | number | form | proof |
//! |---|---|---|
//! | telephone | `+` and 8 to 15 digits; 10 to 15 digits in three groups or more | none |
//! | Russian telephone | 11 digits from 79 or 89, in any grouping; 8 or 7, three digits and the rest; 9xx and seven digits | none |
//! | passport of Russia | 4 and 6 digits, or 2, 2 and 6, blanks between | year of print |
//! | SNILS | 11 digits, plain or 3-3-3 2 | two check digits |
//! | INN | 10 or 12 digits | one or two check digits |
//! | payment card | 13 to 19 digits from 2 to 6 | ISO/IEC 7812-1, annex B |
//! | IBAN | ISO 13616 | modulo 97 |
//!
//! The price: one in ten numbers of ten digits is a right INN, one in ten of 16 a right card, and every number of 11 digits
//! from 79 or 89 is a telephone. What the rules of orders name as a key is therefore passed in as `own`, and stays.
//! Ten digits from 17 and 18 are taken for seconds since 1970, not for an INN; 13 digits from 1 for milliseconds.

use std::ops::Range;

/// Whether a number as written is a key of the order, which may be shown.
pub type Own<'a> = &'a dyn Fn(&str) -> bool;

/// Nothing is.
pub const NO_KEYS: Own<'static> = &|_| false;

/// A key and a number as written are the same, or the number is a part of the key (`SO-4111111111111111`).
pub fn is_same(key: &str, shown: &str) -> bool {
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    key.contains(shown) || key == digits.trim_start_matches('0')
}

/// No number that is looked for has fewer digits.
const MIN_DIGITS: usize = 8;
/// The longest card number.
const MAX_DIGITS: usize = 19;
/// Characters between two groups of one number: `8 (916) 123`.
const MAX_GAP: usize = 3;

/// A run of digits, and what stands before it.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
    /// It begins a run: more than separators stand before it.
    first: bool,
}

/// Calls `found` with the place of each number.
pub(super) fn find(text: &str, own: Own<'_>, found: &mut dyn FnMut(Range<usize>)) {
    if text.bytes().filter(u8::is_ascii_digit).count() < MIN_DIGITS {
        return;
    }
    let groups = groups(text);
    let mut rest = groups.as_slice();
    while let Some((_, others)) = rest.split_first() {
        let len = 1 + others.iter().take_while(|group| !group.first).count();
        let (run, after) = rest.split_at(len);
        rest = after;
        search(text, run, own, found);
    }
    if text.len() >= MIN_IBAN {
        ibans(text, found);
    }
}

fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(len) = bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
        let start = at + len;
        let digits = bytes.get(start..).unwrap_or_default();
        let end = start + digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
        let gap = text.get(at..start).unwrap_or("?");
        let joined = at > 0 && gap.chars().all(is_separator) && gap.chars().count() <= MAX_GAP;
        groups.push(Group { start, end, first: !joined });
        at = end;
    }
    groups
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '_' | '\u{a0}' | '\u{202f}' | '\u{2011}' | '\u{2013}')
}

/// Numbers in groups that only separators part: the longest at each place.
fn search(text: &str, run: &[Group], own: Own<'_>, found: &mut dyn FnMut(Range<usize>)) {
    let mut from = 0;
    while let Some(rest) = run.get(from..).filter(|rest| !rest.is_empty()) {
        let is_number =
            |len: &usize| rest.get(..*len).is_some_and(|part| Candidate::new(text, run, part).is_number());
        match (1..=rest.len().min(MAX_DIGITS)).rev().find(is_number) {
            Some(len) => {
                let place = rest.first().zip(rest.get(len - 1)).map(|(first, last)| first.start..last.end);
                if let Some(place) = place.filter(|place| !text.get(place.clone()).is_some_and(own)) {
                    found(place);
                }
                from += len;
            }
            None => from += 1,
        }
    }
}

/// Neighbouring groups that may be one number.
struct Candidate<'a> {
    text: &'a str,
    /// It is all there is between two other characters.
    whole: bool,
    groups: &'a [Group],
    digits: Vec<u8>,
}

impl<'a> Candidate<'a> {
    fn new(text: &'a str, run: &[Group], groups: &'a [Group]) -> Self {
        let len: usize = groups.iter().map(|group| group.end - group.start).sum();
        let slices = groups.iter().filter_map(|group| text.as_bytes().get(group.start..group.end));
        let digits = match (MIN_DIGITS..=MAX_DIGITS).contains(&len) {
            true => slices.flatten().map(|b| b - b'0').collect(),
            false => Vec::new(),
        };
        Self { text, whole: run.len() == groups.len(), groups, digits }
    }

    fn is_number(&self) -> bool {
        if self.digits.is_empty() || self.touches(char::is_alphabetic) {
            return false;
        }
        self.is_mobile()
            || self.has_plus()
            || (!self.is_in_word()
                && !self.is_fraction()
                && (self.is_grouped_phone()
                    || self.is_passport()
                    || self.is_snils()
                    || self.is_inn()
                    || self.is_card()))
    }

    fn before(&self) -> &'a str {
        self.groups.first().and_then(|group| self.text.get(..group.start)).unwrap_or("")
    }

    fn after(&self) -> &'a str {
        self.groups.last().and_then(|group| self.text.get(group.end..)).unwrap_or("")
    }

    fn touches(&self, kind: impl Fn(char) -> bool) -> bool {
        self.before().chars().next_back().is_some_and(&kind) || self.after().chars().next().is_some_and(kind)
    }

    /// A hyphen or point and then a letter, as in versions, models and UUIDs.
    fn is_in_word(&self) -> bool {
        let joins = |c: char| matches!(c, '-' | '.');
        let before = self.before().trim_end_matches(joins);
        let after = self.after().trim_start_matches(joins);
        let letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
        letter(before.chars().next_back()) && before.len() < self.before().len()
            || letter(after.chars().next()) && after.len() < self.after().len()
    }

    /// One group beside a point and more digits.
    fn is_fraction(&self) -> bool {
        let digit_behind =
            |text: &str| text.starts_with('.') && text.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        let before =
            self.before().strip_suffix('.').is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_digit()));
        self.groups.len() == 1 && (before || digit_behind(self.after()))
    }

    fn lens(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().map(|group| group.end - group.start)
    }

    fn has_lens(&self, wanted: &[usize]) -> bool {
        self.lens().eq(wanted.iter().copied())
    }

    fn gaps(&self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        self.groups.windows(2).filter_map(move |pair| match pair {
            [one, next] => text.get(one.end..next.start),
            _ => None,
        })
    }

    fn has_plus(&self) -> bool {
        (MIN_DIGITS..=15).contains(&self.digits.len())
            && self.before().trim_end_matches(['(', ' ']).ends_with('+')
    }

    /// `89161234567`, `8916-1234567`, `7 916 1234567`.
    fn is_mobile(&self) -> bool {
        matches!(self.digits.as_slice(), [7 | 8, 9, ..]) && self.digits.len() == 11 && !self.is_fraction()
    }

    fn is_grouped_phone(&self) -> bool {
        let dots = self.gaps().all(|gap| gap == ".");
        let underscores = self.gaps().any(|gap| gap.contains('_'));
        // `10.0.0.1` is an address, `2026-11-20` a day.
        let address = self.groups.len() == 4 && dots;
        let day =
            self.lens().take(3).eq([4, 2, 2]) && matches!(self.digits.as_slice(), [1, 9, ..] | [2, 0, ..]);
        let any = self.whole && self.groups.len() >= 3 && (10..=15).contains(&self.digits.len());
        let russian = self.digits.len() == 11
            && matches!(self.digits.as_slice(), [7 | 8, 3..=9, ..])
            && self.lens().take(2).eq([1, 3]);
        let local = self.digits.len() == 10
            && self.digits.first() == Some(&9)
            && self.lens().take(1).eq([3])
            && self.groups.len() > 1;
        !underscores && !address && !day && (any || russian || local)
    }

    /// The series ends in the year its form was printed.
    fn is_passport(&self) -> bool {
        let blanks = self.gaps().all(|gap| gap.chars().all(|c| matches!(c, ' ' | '\u{a0}')));
        let year = matches!(
            self.digits.as_slice(),
            [_, _, 9, 7..=9, ..] | [_, _, 0..=2, _, ..] | [_, _, 3, 0..=5, ..]
        );
        blanks && year && (self.has_lens(&[4, 6]) || self.has_lens(&[2, 2, 6]))
    }

    fn is_snils(&self) -> bool {
        let Some((number, check)) = self.digits.split_at_checked(9).filter(|(_, check)| check.len() == 2)
        else {
            return false;
        };
        let sum: u32 =
            number.iter().zip((1..=9).rev()).map(|(digit, weight)| u32::from(*digit) * weight).sum();
        let right = match sum % 101 {
            100 => 0,
            rest => rest,
        };
        let given = check.iter().fold(0, |sum, digit| sum * 10 + u32::from(*digit));
        right == given
            && sum > 0
            && (self.has_lens(&[11]) || self.has_lens(&[3, 3, 3, 2]) || self.has_lens(&[9, 2]))
    }

    fn is_inn(&self) -> bool {
        const WEIGHTS: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
        // The check digit after `count` digits, which use the last so many weights.
        let checks = |count: usize| {
            let weights = WEIGHTS.iter().skip(WEIGHTS.len() - count);
            let sum: u32 =
                self.digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum();
            self.digits.get(count).is_some_and(|check| u32::from(*check) == sum % 11 % 10)
        };
        let is_seconds = matches!(self.digits.as_slice(), [1, 7 | 8, ..]);
        let is_nothing = matches!(self.digits.as_slice(), [0, 0, ..]);
        match self.digits.len() {
            _ if self.groups.len() > 1 || is_nothing => false,
            10 => checks(9) && !is_seconds,
            12 => checks(10) && checks(11),
            _ => false,
        }
    }

    fn is_card(&self) -> bool {
        let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
        let digits = self.digits.iter().rev().map(|digit| u32::from(*digit)).enumerate();
        let sum: u32 = digits.map(|(at, digit)| if at % 2 == 0 { digit } else { doubled(digit) }).sum();
        let loose = self.gaps().all(|gap| gap.chars().all(|c| matches!(c, ' ' | '-' | '\u{a0}')));
        let fours = self.groups.len() > 3 && self.lens().take(3).all(|len| len == 4);
        (13..=19).contains(&self.digits.len())
            && matches!(self.digits.first(), Some(2..=6))
            && sum.is_multiple_of(10)
            && (loose || fours)
    }
}

/// The shortest IBAN, of Norway.
const MIN_IBAN: usize = 15;
const MAX_IBAN: usize = 34;

/// Two capitals, two check digits, capitals and digits; in one piece or in groups of four.
fn ibans(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 4) {
        let starts = matches!(head, [b'A'..=b'Z', b'A'..=b'Z', b'0'..=b'9', b'0'..=b'9'])
            && !at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(u8::is_ascii_alphanumeric);
        match starts.then(|| iban_end(bytes, at)).flatten() {
            Some(end) => {
                found(at..end);
                at = end;
            }
            None => at += 1,
        }
    }
}

fn iban_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut chars: Vec<u8> = Vec::with_capacity(MAX_IBAN);
    let mut end = start;
    loop {
        match bytes.get(end) {
            Some(byte) if byte.is_ascii_uppercase() || byte.is_ascii_digit() => {
                if chars.len() == MAX_IBAN {
                    return None;
                }
                chars.push(*byte);
                end += 1;
            }
            Some(b' ')
                if chars.len().is_multiple_of(4)
                    && bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric) =>
            {
                end += 1;
            }
            _ => break,
        }
    }
    let (head, tail) = chars.split_at_checked(4)?;
    let rest = tail.iter().chain(head).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    (chars.len() >= MIN_IBAN && rest == 1 && bytes.get(end).is_none_or(|b| !b.is_ascii_alphanumeric()))
        .then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, own: Own<'_>) -> Vec<String> {
        let mut all = Vec::new();
        find(text, own, &mut |place| all.push(text.get(place).expect("a place in the text").to_owned()));
        all
    }

    #[test]
    fn numbers_of_people_are_found_in_the_forms_they_are_written_in() {
        for (text, number) in [
            ("+4915112345678", "4915112345678"),
            ("tel. +49 (151) 123-45678 now", "49 (151) 123-45678"),
            ("8 (916) 123-00-04", "8 (916) 123-00-04"),
            ("89161230003", "89161230003"),
            ("79161230008", "79161230008"),
            ("8916-1230007", "8916-1230007"),
            ("916 1230009", "916 1230009"),
            ("8 495 1230007", "8 495 1230007"),
            ("sms.+79161230031.out", "79161230031"),
            ("sms.89161230030", "89161230030"),
            ("Ivanov 89161230022.stl", "89161230022"),
            ("112-233-445 95", "112-233-445 95"),
            ("11223344595", "11223344595"),
            ("7707083893", "7707083893"),
            ("500100732259", "500100732259"),
            ("4509 123456", "4509 123456"),
            ("45 09 123456", "45 09 123456"),
            ("card 5500-0000-0000-0004!", "5500-0000-0000-0004"),
            ("4012_8888_8888_1881", "4012_8888_8888_1881"),
            ("5105.1051.0510.5100", "5105.1051.0510.5100"),
            ("DE89370400440532013000", "DE89370400440532013000"),
            ("to DE89 3704 0044 0532 0130 00.", "DE89 3704 0044 0532 0130 00"),
        ] {
            assert_eq!(found(text, NO_KEYS), [number], "{text}");
        }
    }

    #[test]
    fn neighbours_are_told_apart() {
        assert_eq!(found("89161230003 4111111111111111", NO_KEYS), ["89161230003", "4111111111111111"]);
        assert_eq!(found("2026-11-20 89161230003", NO_KEYS), ["89161230003"]);
    }

    #[test]
    fn other_numbers_stay() {
        for text in [
            "17",
            "2026-11-20 09",
            "192.168.100.200",
            "1.79161230031",
            "4111111111111112",
            "1790000000",
            "1790000000123",
            "7707083894",
            "11223344596",
            "4509-123456",
            "bracket v2.1.10.step",
            "f81d4fae-7123-4123-8123-00a0c91e6bf6",
            "a89161230003",
            "DE88370400440532013000",
        ] {
            assert_eq!(found(text, NO_KEYS), [""; 0], "{text}");
        }
    }

    #[test]
    fn keys_of_the_order_stay() {
        let own = |shown: &str| is_same("89161230003", shown);
        assert_eq!(found("89161230003", &own), [""; 0]);
        assert_eq!(found("89161230003 and 89161230004", &own), ["89161230004"]);
    }
}
