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
    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
    bytes.chunks(16).try_for_each(|bytes| {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        let text = text.get(..2 * bytes.len()).unwrap_or_default();
        f.write_str(std::str::from_utf8(text).unwrap_or_default())
    })
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
}

impl Attributes {
    /// Room for so many conventional attributes.
    pub fn with_capacity(count: usize) -> Self {
        Self { conventional: Vec::with_capacity(count), named: Vec::new() }
    }

    /// Sets a conventional attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.conventional.iter_mut().find(|(k, _)| *k == key) {
            Some((_, slot)) => *slot = value,
            None => self.conventional.push((key, value)),
        }
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

    /// Keeps those whose names are wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&str) -> bool) {
        self.conventional.retain(|(key, _)| is_wanted(key));
        self.named.retain(|(key, _)| is_wanted(key));
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
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
