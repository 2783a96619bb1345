//! A name as somebody writes it → its normal form, in which all its spellings are one.
//!
//! `order_id`, `orderId`, `Order-ID` and `ORDER ID` are one name, and so are `номер_заказа` and `НомерЗаказа`.
//! *Owns* letter case of any script, and the tables of rules by names. *Must not know* where names stand.
//! *Spec*: Unicode, section 3.13 "Default Case Algorithms": caseless matching.

use rustc_hash::FxHashMap;

use super::compile::RuleId;

/// Bytes of a normal form: names that are longer match nothing. 64 letters of scripts that take three bytes each.
pub(super) const MAX_NAME: usize = 192;
/// Characters of a name in a rule.
const MAX_CHARS: usize = 64;

/// A name in normal form.
pub(super) type Normal = Box<[u8]>;

/// Room for one.
pub(super) struct Buffer([u8; MAX_NAME]);

impl Buffer {
    pub(super) fn new() -> Self {
        Self([0; MAX_NAME])
    }
}

/// Without `_`, `-` and blanks, and without letter case. `None` when nothing or too much is left.
pub(super) fn normal<'b>(name: &[u8], Buffer(buffer): &'b mut Buffer) -> Option<&'b [u8]> {
    let mut len = 0;
    for (at, byte) in name.iter().enumerate() {
        match byte {
            b'_' | b'-' | b' ' => {}
            0x80.. => return normal_rest(name.get(at..)?, buffer, len),
            _ => {
                *buffer.get_mut(len)? = byte.to_ascii_lowercase();
                len += 1;
            }
        }
    }
    buffer.get(..len).filter(|name| !name.is_empty())
}

/// The same from the first letter outside ASCII on; bytes that are no text stay as they are.
fn normal_rest<'b>(rest: &[u8], buffer: &'b mut [u8; MAX_NAME], mut len: usize) -> Option<&'b [u8]> {
    if rest.len() > MAX_NAME {
        return None;
    }
    match std::str::from_utf8(rest) {
        Ok(text) => {
            for c in text.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(fold) {
                let end = len + c.len_utf8();
                c.encode_utf8(buffer.get_mut(len..end)?);
                len = end;
            }
        }
        Err(_) => {
            let end = len + rest.len();
            buffer.get_mut(len..end)?.copy_from_slice(rest);
            len = end;
        }
    }
    buffer.get(..len)
}

/// A character without its case: full case folding by the mappings that the standard library has. Folding is what lower case
/// of upper case of lower case gives (`ẞ`, `ß` and `SS` are `ss`; `Σ`, `σ` and `ς` are `σ`), but for the dotless `ı`, which
/// is another letter than `i`.
pub(super) fn fold(c: char) -> impl Iterator<Item = char> {
    let (ascii, other) = match c {
        'ı' => (Some('ı'), None),
        _ if c.is_ascii() => (Some(c.to_ascii_lowercase()), None),
        _ => (None, Some(c)),
    };
    let folded = other.into_iter().flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    ascii.into_iter().chain(folded.flat_map(char::to_lowercase))
}

/// A text without letter case.
pub(super) fn folded(text: &str) -> String {
    text.chars().flat_map(fold).collect()
}

/// Equal without letter case; `wanted` is folded.
pub(super) fn is_folded(text: &str, wanted: &str) -> bool {
    if text.is_ascii() {
        return text.eq_ignore_ascii_case(wanted);
    }
    let mut wanted = wanted.chars();
    text.chars().flat_map(fold).all(|c| wanted.next() == Some(c)) && wanted.next().is_none()
}

/// What it is called where object stores put a prefix before the names of their users.
fn bare(name: &[u8]) -> Option<&[u8]> {
    const PREFIXES: [&[u8]; 6] =
        [b"x-amz-meta-", b"x-goog-meta-", b"x-ms-meta-", b"x-object-meta-", b"x-oss-meta-", b"x-cos-meta-"];
    if !matches!(name, [b'x' | b'X', b'-', ..]) {
        return None;
    }
    PREFIXES.iter().find_map(|prefix| {
        let (start, rest) = name.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    })
}

/// Rules by the normal form of a name. Traffic chooses what is looked for, never what is in the table.
#[derive(Debug, Default)]
pub(super) struct Names {
    rules: FxHashMap<Normal, Vec<RuleId>>,
    /// The [marks](ends) of all names: nearly every name that traffic has is told by it to be none of them.
    ends: u64,
}

/// One of 64 bits for the letters with which a normal form begins and ends. `None`: they are not ASCII.
fn ends(name: &[u8]) -> Option<u64> {
    let is_letter = |byte: &&u8| !matches!(byte, b'_' | b'-' | b' ');
    let (first, last) = (name.iter().find(is_letter)?, name.iter().rev().find(is_letter)?);
    let small = |byte: &u8| u32::from(byte.to_ascii_lowercase());
    (first.is_ascii() && last.is_ascii()).then(|| 1 << (((small(first) * 11) ^ (small(last) * 3)) % 64))
}

impl Names {
    pub(super) fn add(&mut self, name: &str, rule: RuleId) -> Result<(), String> {
        let key = normal_or_error(name)?;
        // Of a name with other letters the ends may be written in several ways.
        self.ends |= if key.is_ascii() { ends(&key).unwrap_or(u64::MAX) } else { u64::MAX };
        self.rules.entry(key).or_default().push(rule);
        Ok(())
    }

    pub(super) fn find(&self, name: &[u8]) -> &[RuleId] {
        if ends(name).is_some_and(|ends| self.ends & ends == 0) {
            return &[];
        }
        let mut buffer = Buffer::new();
        normal(name, &mut buffer).and_then(|name| self.rules.get(name)).map_or(&[], Vec::as_slice)
    }

    /// By a name that is in normal form already.
    pub(super) fn of(&self, normal: &[u8]) -> &[RuleId] {
        self.rules.get(normal).map_or(&[], Vec::as_slice)
    }

    /// The same for a header or a field, which object stores keep under names of their own (`x-amz-meta-order-id`).
    pub(super) fn find_field(&self, name: &[u8]) -> &[RuleId] {
        match bare(name) {
            Some(bare) if self.find(name).is_empty() => self.find(bare),
            _ => self.find(name),
        }
    }
}

pub(super) fn normal_or_error(name: &str) -> Result<Normal, String> {
    if name.contains(char::is_control) {
        return Err(format!("`{name}` is not a name"));
    }
    let fits = name.chars().count() <= MAX_CHARS;
    normal(name.as_bytes(), &mut Buffer::new())
        .filter(|_| fits)
        .map(Box::from)
        .ok_or_else(|| format!("`{name}` is not a name of 1 to {MAX_CHARS} characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal_of(name: &str) -> Option<String> {
        normal(name.as_bytes(), &mut Buffer::new()).map(|name| String::from_utf8_lossy(name).into_owned())
    }

    #[test]
    fn names_match_in_every_convention() {
        let mut names = Names::default();
        names.add("order_id", 7).expect("a name");
        for name in ["order_id", "orderId", "order-id", "OrderID", "ORDER_ID", "orderid", "Order ID"] {
            assert_eq!(names.find(name.as_bytes()), [7], "{name}");
        }
        for name in ["order_ids", "order.id", "id", "", "_", &"o".repeat(193)] {
            assert!(names.find(name.as_bytes()).is_empty(), "{name}");
        }
        for name in ["x-amz-meta-order-id", "X-Amz-Meta-OrderId", "x-goog-meta-order_id", "order-id"] {
            assert_eq!(names.find_field(name.as_bytes()), [7], "{name}");
        }
        assert!(names.find_field(b"x-amz-meta-id").is_empty());
        // Whoever writes the whole name means it.
        names.add("x-amz-meta-order-id", 8).expect("a name");
        assert_eq!(names.find_field(b"x-amz-meta-order-id"), [8]);
        assert_eq!(names.find_field(b"x-goog-meta-order-id"), [7]);
    }

    #[test]
    fn names_have_no_case_in_any_script() {
        for (one, other) in [
            ("номер_заказа", "НомерЗаказа"),
            ("номер_заказа", "НОМЕР-ЗАКАЗА"),
            ("номер_заказа", "Номер заказа"),
            ("№_замовлення", "№ЗАМОВЛЕННЯ"),
            ("straße", "STRASSE"),
            ("straße", "STRAẞE"),
            ("ΑΡΙΘΜΟΣ", "αριθμος"),
            ("ΑΡΙΘΜΟΣ", "αριθμοσ"),
            ("ﬁle", "FILE"),
            ("ΐ", "ΐ"),
            ("Ꭰ", "ꭰ"),
            ("համար", "ՀԱՄԱՐ"),
        ] {
            assert_eq!(normal_of(one), normal_of(other), "{one} {other}");
            let is_word = !one.contains('_');
            assert!(!is_word || is_folded(one, &folded(other)), "{one} {other}");
        }
        for (one, other) in [("ı", "i"), ("й", "и"), ("е", "e"), ("номер", "номера")] {
            assert_ne!(normal_of(one), normal_of(other), "{one} {other}");
            assert!(!is_folded(one, &folded(other)), "{one} {other}");
        }
    }

    #[test]
    fn names_are_bounded() {
        assert!(normal_or_error(&"ы".repeat(64)).is_ok());
        assert!(normal_or_error(&"ы".repeat(65)).is_err());
        assert!(normal_or_error("a\nb").is_err());
        // Folding may make a text longer; too long matches nothing.
        assert_eq!(normal_of(&"ΐ".repeat(64)), None);
        assert_eq!(normal(b"a\xff\xfe", &mut Buffer::new()), Some(&b"a\xff\xfe"[..]));
        assert_eq!(normal(&[0xff; 300], &mut Buffer::new()), None);
    }
}
