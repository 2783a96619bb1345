//! The address of a trace in an outside Jaeger.

use std::str::FromStr;

use crate::digest::hex;
use crate::store::TraceId;

/// Where the trace's ID goes.
const TRACE: &str = "{trace}";

/// `https://traces.house.example/trace/{trace}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLink(String);

impl TraceLink {
    pub(crate) fn to(&self, trace: &TraceId) -> String {
        self.0.replace(TRACE, &hex(trace))
    }
}

impl FromStr for TraceLink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_address = address.is_some_and(|rest| !rest.starts_with(['/', '{']))
            && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\'));
        if is_address && text.matches(TRACE).count() == 1 {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "write the address of a trace with {TRACE} in it, such as https://traces.example/trace/{TRACE}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_page_with_a_place_for_the_trace_is_a_link() {
        let link: TraceLink = "https://traces.example/trace/{trace}?x=1".parse().expect("a link");
        assert_eq!(link.to(&[0xAB; 16]), format!("https://traces.example/trace/{}?x=1", "ab".repeat(16)));
        for wrong in [
            "",
            "https://traces.example/trace/",
            "traces.example/{trace}",
            "javascript:alert({trace})",
            "https://a.example/{trace} x",
            "https://a.example/\n{trace}",
            "https://{trace}",
            "https:///{trace}",
            "https://a.example/{trace}/{trace}",
        ] {
            assert!(wrong.parse::<TraceLink>().is_err(), "{wrong:?}");
        }
    }
}
