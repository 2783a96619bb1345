//! An order's number and the numbering system it belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::tidy;

/// The numbering system of a number nobody says more about.
pub(super) const DEFAULT_NAMESPACE: &str = "order";

/// Longest number that is taken for one.
const MAX_VALUE: usize = 128;
const MAX_NAMESPACE: usize = 32;

/// `namespace:value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub namespace: String,
    pub value: String,
}

impl Key {
    /// `None` for what is no number of anything: empty, or too long.
    pub fn new(namespace: &str, value: &str) -> Option<Self> {
        let fits = |text: &str, max| !text.is_empty() && text.chars().count() <= max;
        let value = value.trim();
        if !fits(value, MAX_VALUE) || !fits(namespace, MAX_NAMESPACE) {
            return None;
        }
        let key = Self { namespace: tidy(namespace, MAX_NAMESPACE), value: tidy(value, MAX_VALUE) };
        (!key.value.is_empty()).then_some(key)
    }

    /// It is of the numbering system that needs no name.
    pub fn is_default(&self) -> bool {
        self.namespace == DEFAULT_NAMESPACE
    }

    /// What a person types: `4711`, or `crm:SO-77`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        match text.trim().split_once(':') {
            Some((namespace, value)) if is_name(namespace) => {
                Self::new(&namespace.to_ascii_lowercase(), value)
            }
            _ => Self::new(DEFAULT_NAMESPACE, text),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            DEFAULT_NAMESPACE => f.write_str(&self.value),
            namespace => write!(f, "{namespace}:{}", self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_a_key() {
        let key = |namespace: &str, value: &str| Key::new(namespace, value);
        for (typed, expected) in [
            ("4711", key("order", "4711")),
            ("  4711 ", key("order", "4711")),
            ("crm:SO-77", key("crm", "SO-77")),
            ("CRM: SO-77", key("crm", "SO-77")),
            ("", None),
            ("crm:", None),
            ("a b:c", key("order", "a b:c")),
        ] {
            assert_eq!(Key::parse(typed), expected, "{typed:?}");
        }
        assert_eq!(Key::parse(&"9".repeat(129)), None);
    }

    #[test]
    fn a_key_reads_as_it_is_written() {
        for text in ["4711", "crm:SO-77"] {
            assert_eq!(Key::parse(text).map(|key| key.to_string()).as_deref(), Some(text));
        }
    }
}
