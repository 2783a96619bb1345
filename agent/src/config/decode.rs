//! A [`Node`] tree → any `Deserialize` type, with errors that name the key and its place.
//!
//! *Owns* the `serde` side of the configuration: type errors, unknown keys with the nearest valid name.

use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::ConfigError;
use super::node::{Entry, Node, Place, Value};

/// Reads a value of type `T` from a tree.
pub fn decode<'de, T: de::Deserialize<'de>>(node: &Node) -> Result<T, ConfigError> {
    T::deserialize(Source { node, path: "" }).map_err(|failure| failure.located(&node.place))
}

/// An error on its way up to the node it belongs to.
#[derive(Debug)]
pub struct Failure {
    place: Option<Place>,
    path: String,
    message: String,
}

impl Failure {
    fn or_at(mut self, place: &Place, path: &str) -> Self {
        if self.place.is_none() {
            self.place = Some(place.clone());
            self.path = path.to_owned();
        }
        self
    }

    fn located(self, place: &Place) -> ConfigError {
        let place = self.place.unwrap_or_else(|| place.clone());
        match self.path.is_empty() {
            true => ConfigError::at(place, self.message),
            false => ConfigError::at(place, format!("`{}`: {}", self.path, self.message)),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Failure { place: None, path: String::new(), message: message.to_string() }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("{} where {} is wanted", describe(found), wanted(expected)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("{} is not {}", describe(found), wanted(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown("key", field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown("value", variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("the key `{field}` is missing"))
    }
}

/// `unknown key `endpont`; did you mean `endpoint`?`
pub(super) fn unknown(what: &str, given: &str, expected: &[&str]) -> String {
    match nearest(given, expected) {
        Some(name) => format!("unknown {what} `{given}`; did you mean `{name}`?"),
        None if expected.is_empty() => format!("unknown {what} `{given}`; none is known here"),
        None => format!("unknown {what} `{given}`; known are `{}`", expected.join("`, `")),
    }
}

/// The most similar name, if it is similar enough to be what was meant.
pub(super) fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    let scored = names.iter().map(|name| (strsim::normalized_damerau_levenshtein(given, name), *name));
    // A beginning, when it is of one name only.
    let begins: Vec<&str> =
        names.iter().filter(|name| given.len() >= 3 && name.starts_with(given)).copied().collect();
    let prefixed = match begins.as_slice() {
        [only] => Some((0.6, *only)),
        _ => None,
    };
    scored
        .chain(prefixed)
        .filter(|(score, _)| *score >= 0.55)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// serde's words for types, in a user's.
fn wanted(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => {
            "a whole number".to_owned()
        }
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a string" => "text".to_owned(),
        text if text.starts_with("struct ") || text == "a map" => "a mapping".to_owned(),
        text => text.to_owned(),
    }
}

/// Longest text repeated in a message.
const MAX_SHOWN: usize = 60;

fn describe(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Str(text) => match text.char_indices().nth(MAX_SHOWN) {
            Some((at, _)) => format!("the text `{}…`", text.get(..at).unwrap_or_default()),
            None => format!("the text `{text}`"),
        },
        de::Unexpected::Signed(number) => format!("the number {number}"),
        de::Unexpected::Unsigned(number) => format!("the number {number}"),
        de::Unexpected::Float(number) => format!("the number {number}"),
        de::Unexpected::Bool(truth) => format!("`{truth}`"),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "a mapping".to_owned(),
        de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Source<'n> {
    node: &'n Node,
    path: &'n str,
}

impl<'n> Source<'n> {
    fn here(&self, failure: Failure) -> Failure {
        failure.or_at(&self.node.place, self.path)
    }

    fn text(&self) -> Option<(&'n str, bool)> {
        match &self.node.value {
            Value::Scalar { text, plain } => Some((text, *plain)),
            Value::Raw(text) => Some((text, true)),
            _ => None,
        }
    }

    /// Lists and maps from outside YAML are YAML themselves.
    fn structured(&self) -> Result<Option<Node>, Failure> {
        let Value::Raw(text) = &self.node.value else { return Ok(None) };
        let place = self.node.place.clone();
        let parsed = Node::parse(text, &|_, _| place.clone());
        parsed.map(Some).map_err(|error| self.here(de::Error::custom(error.message)))
    }

    fn unexpected<'de, V: Visitor<'de>>(&self, visitor: &V) -> Failure {
        let failure = match &self.node.value {
            Value::Null => de::Error::invalid_type(de::Unexpected::Unit, visitor),
            Value::List(_) => de::Error::invalid_type(de::Unexpected::Seq, visitor),
            Value::Map(_) => de::Error::invalid_type(de::Unexpected::Map, visitor),
            Value::Scalar { text, .. } | Value::Raw(text) => {
                de::Error::invalid_type(de::Unexpected::Str(text), visitor)
            }
        };
        self.here(failure)
    }

    fn sequence<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::List(items) => {
                let items = items.iter();
                visitor.visit_seq(List { items, path: self.path, index: 0 }).map_err(|f| self.here(f))
            }
            Value::Raw(_) => match self.structured()? {
                Some(node) if !matches!(node.value, Value::Raw(_)) => {
                    Source { node: &node, path: self.path }.sequence(visitor)
                }
                _ => Err(self.unexpected(&visitor)),
            },
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn mapping<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Map(entries) => {
                let map = Map { entries: entries.iter(), path: self.path, current: None };
                visitor.visit_map(map).map_err(|failure| self.here(failure))
            }
            // `section:` with nothing below it.
            Value::Null => {
                let map = Map { entries: [].iter(), path: self.path, current: None };
                visitor.visit_map(map).map_err(|failure| self.here(failure))
            }
            Value::Raw(_) => match self.structured()? {
                Some(node) if !matches!(node.value, Value::Raw(_)) => {
                    Source { node: &node, path: self.path }.mapping(visitor)
                }
                _ => Err(self.unexpected(&visitor)),
            },
            _ => Err(self.unexpected(&visitor)),
        }
    }
}

/// Integers of YAML's core schema, and `1_000` and `0x10` as people write them.
fn integer(text: &str) -> Option<i128> {
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

macro_rules! integers {
    ($($method:ident => $visit:ident: $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            let number = match self.text() {
                Some((text, true)) => integer(text),
                _ => None,
            };
            let Some(number) = number else { return Err(self.unexpected(&visitor)) };
            let Ok(number) = <$type>::try_from(number) else {
                let message = format!("{number} is out of range, {} to {}", <$type>::MIN, <$type>::MAX);
                return Err(self.here(de::Error::custom(message)));
            };
            visitor.$visit(number).map_err(|failure| self.here(failure))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Source<'_> {
    type Error = Failure;

    /// What the value looks like, for settings that take more than one type.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Some((text, plain)) = self.text() else {
            return match &self.node.value {
                Value::Null => visitor.visit_unit(),
                Value::List(_) => self.sequence(visitor),
                _ => self.mapping(visitor),
            };
        };
        if let (true, Some(number)) = (plain, integer(text)) {
            return match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => visitor.visit_str(text),
            }
            .map_err(|failure| self.here(failure));
        }
        let result = match (plain, boolean(text), text.parse::<f64>()) {
            (true, Some(truth), _) => visitor.visit_bool(truth),
            (true, _, Ok(number)) => visitor.visit_f64(number),
            _ => visitor.visit_str(text),
        };
        result.map_err(|failure| self.here(failure))
    }

    integers! {
        deserialize_u8 => visit_u8: u8,
        deserialize_u16 => visit_u16: u16,
        deserialize_u32 => visit_u32: u32,
        deserialize_u64 => visit_u64: u64,
        deserialize_i8 => visit_i8: i8,
        deserialize_i16 => visit_i16: i16,
        deserialize_i32 => visit_i32: i32,
        deserialize_i64 => visit_i64: i64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.text() {
            Some((text, true)) if boolean(text).is_some() => {
                visitor.visit_bool(boolean(text).unwrap_or_default()).map_err(|failure| self.here(failure))
            }
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.text().map(|(text, plain)| (plain, text.parse::<f64>())) {
            Some((true, Ok(number))) => visitor.visit_f64(number).map_err(|failure| self.here(failure)),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.text() {
            // Where text is wanted, a plain `5432` or `true` is text too.
            Some((text, _)) => visitor.visit_str(text).map_err(|failure| self.here(failure)),
            None => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            Value::Raw(text) if text.is_empty() || text == "null" => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.sequence(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.mapping(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.mapping(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Map(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Variant { entry, path: self.path }),
                _ => Err(self.unexpected(&visitor)),
            },
            _ => match self.text() {
                Some((text, _)) => visitor.visit_enum(text.into_deserializer()),
                None => return Err(self.unexpected(&visitor)),
            },
        }
        .map_err(|failure| self.here(failure))
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any }
}

struct List<'n> {
    items: std::slice::Iter<'n, Node>,
    path: &'n str,
    index: usize,
}

impl<'de> SeqAccess<'de> for List<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let path = format!("{}[{}]", self.path, self.index);
        self.index += 1;
        let failed = |failure: Failure| failure.or_at(&node.place, &path);
        seed.deserialize(Source { node, path: &path }).map(Some).map_err(failed)
    }
}

struct Map<'n> {
    entries: std::slice::Iter<'n, Entry>,
    path: &'n str,
    current: Option<&'n Entry>,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.current = self.entries.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key: de::value::StrDeserializer<'_, Failure> = entry.key.as_str().into_deserializer();
        // An unknown key is located at the key and named by the section it stands in.
        seed.deserialize(key).map(Some).map_err(|failure| failure.or_at(&entry.place, self.path))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let Some(entry) = self.current else { return Err(de::Error::custom("a key without a value")) };
        let path = match self.path {
            "" => entry.key.clone(),
            above => format!("{above}.{}", entry.key),
        };
        let failed = |failure: Failure| failure.or_at(&entry.node.place, &path);
        seed.deserialize(Source { node: &entry.node, path: &path }).map_err(failed)
    }
}

/// An enum variant with content, `{ name: content }`.
struct Variant<'n> {
    entry: &'n Entry,
    path: &'n str,
}

impl<'n, 'de> EnumAccess<'de> for Variant<'n> {
    type Error = Failure;
    type Variant = Content<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'n>), Failure> {
        let key: de::value::StrDeserializer<'_, Failure> = self.entry.key.as_str().into_deserializer();
        let value = seed.deserialize(key).map_err(|failure| failure.or_at(&self.entry.place, self.path))?;
        Ok((value, Content(Source { node: &self.entry.node, path: self.path })))
    }
}

struct Content<'n>(Source<'n>);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.0.sequence(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.0.mapping(visitor)
    }
}
