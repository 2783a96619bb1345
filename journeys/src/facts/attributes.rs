//! A span's attributes → texts, numbers and truths by name.
//!
//! Values come from the network: a name may be there twice or hold another type than it should.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// Attributes of one span or resource; the first of a name counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(pub(super) &'a [KeyValue]);

impl<'a> Attributes<'a> {
    pub(super) fn value(self, name: &str) -> Option<&'a Value> {
        self.0.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()
    }

    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::StringValue(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A number, or the text of one.
    pub(super) fn int(self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::IntValue(number) => Some(*number),
            Value::StringValue(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn float(self, name: &str) -> Option<f64> {
        match self.value(name)? {
            Value::DoubleValue(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn truth(self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::BoolValue(true)))
    }

    /// A text, or a number as text.
    pub(super) fn id(self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::StringValue(text) if !text.is_empty() => Some(text.clone()),
            Value::IntValue(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// All texts of an array, or the one text.
    pub(super) fn texts(self, name: &str) -> Vec<&'a str> {
        match self.value(name) {
            Some(Value::StringValue(text)) => vec![text],
            Some(Value::ArrayValue(array)) => {
                let text = |value: &'a Value| match value {
                    Value::StringValue(text) => Some(text.as_str()),
                    _ => None,
                };
                array.values.iter().filter_map(|any| any.value.as_ref().and_then(text)).collect()
            }
            _ => Vec::new(),
        }
    }
}
