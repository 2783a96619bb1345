//! How long an order's spans stay in one trace, as it stands in the configuration.
//!
//! *Owns* the setting `order.window`. [`ids`](super::ids) has what identifiers make of it.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::settings::duration;

/// When an order's spans go to a new trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Never (`0`).
    Never,
    /// After that time.
    Every(Duration),
    /// With every request (`request`).
    Request,
}

impl Window {
    /// For identifiers; zero does not split.
    pub fn length(self) -> Duration {
        match self {
            Window::Every(length) => length,
            Window::Never | Window::Request => Duration::ZERO,
        }
    }
}

impl From<Duration> for Window {
    fn from(length: Duration) -> Self {
        if length.is_zero() { Window::Never } else { Window::Every(length) }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Window::Request => serializer.serialize_str("request"),
            other => duration::serialize(&other.length(), serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "request" {
            return Ok(Window::Request);
        }
        duration::parse(&text).map(Window::from).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is neither a duration such as `24h`, nor `0`, nor `request`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_duration_or_never_or_each_request() {
        for (text, expected) in [
            ("24h", Window::Every(Duration::from_secs(86_400))),
            ("0", Window::Never),
            ("0s", Window::Never),
            ("request", Window::Request),
        ] {
            let read: Window = serde_json::from_value(text.into()).unwrap();
            assert_eq!(read, expected);
            let written = serde_json::to_value(read).unwrap();
            assert_eq!(serde_json::from_value::<Window>(written).unwrap(), expected);
        }
        let error = serde_json::from_value::<Window>("requests".into()).unwrap_err().to_string();
        assert!(error.contains("`requests` is neither"), "{error}");
    }
}
