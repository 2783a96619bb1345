//! The words of a trace that every room uses: identifiers, and attributes with their values.
//!
//! *Owns* their forms (OpenTelemetry specification, trace API: SpanContext; common: attribute). *Must not know* how
//! identifiers are derived, nor which attributes there are.

use std::fmt;

use compact_str::CompactString;

/// 16 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

/// A span in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// Lower-case hexadecimal digits, many at a time: the formatter would be asked for every single byte.
pub(crate) fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.chunks(16).try_for_each(|bytes| f.write_str(digits(bytes, &mut [0; 32])))
}

/// The digits of at most 16 bytes.
fn digits<'a>(bytes: &[u8], text: &'a mut [u8; 32]) -> &'a str {
    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    text.get(..2 * bytes.len()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

/// The digits of an identifier, without a formatter.
pub(crate) fn hex_compact(bytes: &[u8; 16]) -> CompactString {
    digits(bytes, &mut [0; 32]).into()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex_text(bytes: &[u8]) -> String {
    fmt::from_fn(|f| hex(f, bytes)).to_string()
}

/// An attribute value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(CompactString),
    Int(i64),
    Float(f64),
    Bool(bool),
    Texts(Vec<String>),
}

/// The longest beginning of a text that has at most `max` bytes and whole characters only.
pub fn beginning(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

impl Value {
    /// Bytes that it holds beside its own fields.
    pub(crate) fn held(&self) -> usize {
        match self {
            Value::Text(text) if text.is_heap_allocated() => text.capacity(),
            Value::Texts(texts) => texts.iter().map(|text| size_of::<String>() + text.capacity()).sum(),
            Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) => 0,
        }
    }

    /// Keeps at most `max` bytes of its text. Returns whether there were more.
    fn bound(&mut self, max: usize) -> bool {
        match self {
            Value::Text(text) if text.len() > max => {
                *text = beginning(text, max).into();
                true
            }
            Value::Texts(texts) => {
                let mut left = max;
                let mut is_cut = false;
                texts.retain_mut(|text| {
                    if text.len() > left {
                        text.truncate(text.floor_char_boundary(left));
                        is_cut = true;
                    }
                    left -= text.len();
                    !(is_cut && text.is_empty())
                });
                is_cut
            }
            Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) => false,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text.into())
    }
}

impl From<CompactString> for Value {
    fn from(text: CompactString) -> Self {
        Value::Text(text)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Value::Texts(texts)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

/// Attributes in the order they were added; keys are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Those of the semantic conventions.
    conventional: Vec<(&'static str, Value)>,
    /// Those whose names the configuration gives.
    named: Vec<(String, Value)>,
    /// A bit for each conventional key: nearly every key that is set is new, and is not looked for.
    marks: u64,
}

/// One of 64 bits for a key, told by three of its bytes: enough to tell apart those of one span, nearly always.
fn mark(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let of = |at: usize| u32::from(bytes.get(at).copied().unwrap_or_default());
    let (len, last, middle) = (bytes.len(), bytes.len().saturating_sub(1), bytes.len() / 2);
    1 << (((len as u32).wrapping_mul(5) ^ of(last).wrapping_mul(11) ^ of(middle).wrapping_mul(37)) % 64)
}

impl Attributes {
    /// Room for so many conventional attributes.
    pub fn with_capacity(count: usize) -> Self {
        Self { conventional: Vec::with_capacity(count), named: Vec::new(), marks: 0 }
    }

    /// Sets a conventional attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        let mark = mark(key);
        if self.marks & mark != 0
            && let Some((_, slot)) = self.conventional.iter_mut().find(|(k, _)| *k == key)
        {
            *slot = value;
            return;
        }
        self.marks |= mark;
        self.conventional.push((key, value));
    }

    /// Sets an attribute whose name comes from the configuration.
    pub fn set_named(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.named.iter_mut().find(|(k, _)| k == key) {
            Some((_, slot)) => *slot = value,
            None => self.named.push((key.to_owned(), value)),
        }
    }

    /// Changes an attribute that is there; adds none.
    pub fn replace(&mut self, key: &str, value: Value) {
        if let Some((_, slot)) = self.conventional.iter_mut().find(|(k, _)| *k == key) {
            *slot = value;
        } else if let Some((_, slot)) = self.named.iter_mut().find(|(k, _)| k == key) {
            *slot = value;
        }
    }

    /// Replaces each value for which `new` gives another.
    pub fn change(&mut self, mut new: impl FnMut(&str, &Value) -> Option<Value>) {
        for (key, value) in &mut self.conventional {
            if let Some(new) = new(key, value) {
                *value = new;
            }
        }
        for (key, value) in &mut self.named {
            if let Some(new) = new(key, value) {
                *value = new;
            }
        }
    }

    /// Cuts each text longer than `max` bytes at a character's end, and lists that are longer in all. Calls `cut` with their names.
    pub fn bound(&mut self, max: usize, mut cut: impl FnMut(&str)) {
        for (key, value) in &mut self.conventional {
            if value.bound(max) {
                cut(key);
            }
        }
        for (key, value) in &mut self.named {
            if value.bound(max) {
                cut(key);
            }
        }
    }

    /// Those whose names are wanted, and nothing of the others is copied.
    pub fn only(&self, mut is_wanted: impl FnMut(&str) -> bool) -> Self {
        let conventional: Vec<_> =
            self.conventional.iter().filter(|(key, _)| is_wanted(key)).cloned().collect();
        let named = self.named.iter().filter(|(key, _)| is_wanted(key)).cloned().collect();
        let marks = conventional.iter().fold(0, |marks, (key, _)| marks | mark(key));
        Self { conventional, named, marks }
    }

    /// Keeps those whose names are wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&str) -> bool) {
        self.conventional.retain(|(key, _)| is_wanted(key));
        self.named.retain(|(key, _)| is_wanted(key));
        self.marks = self.conventional.iter().fold(0, |marks, (key, _)| marks | mark(key));
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        let named = || self.named.iter().find(|(k, _)| k == key).map(|(_, value)| value);
        if self.marks & mark(key) == 0 {
            return named();
        }
        self.conventional.iter().find(|(k, _)| *k == key).map(|(_, value)| value).or_else(named)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        let fixed = self.conventional.iter().map(|(key, value)| (*key, value));
        fixed.chain(self.named.iter().map(|(key, value)| (key.as_str(), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_unique_whatever_their_marks() {
        // More than there are marks, so that some are shared.
        let keys: Vec<&'static str> = (0..200).map(|n| &*format!("key.{n}").leak()).collect();
        let mut attributes = Attributes::default();
        for round in 0..2_i64 {
            for (n, key) in keys.iter().enumerate() {
                assert_eq!(attributes.get(key), (round > 0).then_some(&Value::Int(n as i64)));
                attributes.set(key, n as i64 + round);
                assert_eq!(attributes.get(key), Some(&Value::Int(n as i64 + round)));
                attributes.set(key, n as i64);
            }
        }
        assert_eq!(attributes.iter().map(|(key, _)| key).collect::<Vec<_>>(), keys);
        attributes.set_named("key.own", 1);
        assert_eq!((attributes.get("key.own"), attributes.get("key.none")), (Some(&Value::Int(1)), None));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_named() {
        let mut attributes = Attributes::default();
        attributes.set("short", "заказ");
        attributes.set("long", "заказ 4711");
        attributes.set("number", 4_711_471_147_114_711);
        attributes.set_named("list", Value::Texts(vec!["a".repeat(9), "б".to_owned(), "c".to_owned()]));
        attributes.set_named("of one", Value::Texts(vec!["x".repeat(10)]));
        let mut cut = Vec::new();
        attributes.bound(10, |name| cut.push(name.to_owned()));
        assert_eq!(cut, ["long", "list"]);
        assert_eq!(attributes.get("short"), Some(&Value::from("заказ")));
        assert_eq!(attributes.get("long"), Some(&Value::from("заказ")));
        assert_eq!(attributes.get("list"), Some(&Value::Texts(vec!["a".repeat(9), "c".to_owned()])));
        cut.clear();
        attributes.bound(9, |name| cut.push(name.to_owned()));
        assert_eq!(cut, ["short", "long", "list", "of one"]);
        assert_eq!(attributes.get("long"), Some(&Value::from("зака")), "five letters are ten bytes");
    }
}
