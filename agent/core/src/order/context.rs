//! Header values → in-band trace context.
//!
//! *Spec*: W3C Trace Context Level 2, section 3.2; B3 propagation (openzipkin/b3-propagation); Jaeger's
//! `uber-trace-id` (client libraries, "Propagation format"). Anything malformed counts as absent.

use super::TraceContext;
use crate::trace::{SpanContext, SpanId, TraceId};

/// Reads the first valid context, by the strength of its format. `header` gives the only value of a header by its
/// lower-case name, `None` when it is absent or repeated.
pub fn read<'a>(header: impl Fn(&'static str) -> Option<&'a [u8]>) -> Option<TraceContext> {
    let text =
        |name: &'static str| header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    let found = |ids: Option<SpanContext>, header| {
        ids.map(|ids| TraceContext { trace_id: ids.trace_id, parent_id: ids.span_id, header })
    };
    found(text("traceparent").and_then(traceparent), "traceparent")
        .or_else(|| found(text("b3").and_then(b3), "b3"))
        .or_else(|| {
            let ids = text("x-b3-traceid")
                .zip(text("x-b3-spanid"))
                .and_then(|(t, s)| context(b3_trace(t), span(s)));
            found(ids, "x-b3-traceid")
        })
        .or_else(|| found(text("uber-trace-id").and_then(uber), "uber-trace-id"))
}

/// `version "-" trace-id "-" parent-id "-" flags`, all lower-case hex. Version `ff` is invalid; higher versions than ours may
/// have more behind a further `-`.
fn traceparent(value: &str) -> Option<SpanContext> {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let mut parts = value.splitn(5, '-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = version.len() == 2
        && flags.len() == 2
        && [version, trace_id, parent_id, flags].iter().all(|part| part.bytes().all(lower_hex))
        && version != "ff"
        && (version != "00" || parts.next().is_none());
    if !well_formed || trace_id.len() != 32 || parent_id.len() != 16 {
        return None;
    }
    context(trace(trace_id), span(parent_id))
}

/// `{TraceId}-{SpanId}[-{SamplingState}[-{ParentSpanId}]]`; a lone sampling state carries no identifiers.
fn b3(value: &str) -> Option<SpanContext> {
    let mut parts = value.split('-');
    let ids = context(b3_trace(parts.next()?), span(parts.next()?))?;
    let sampling = parts.next().is_none_or(|state| matches!(state, "0" | "1" | "d"));
    let parent = parts.next().is_none_or(|parent| span(parent).is_some());
    (sampling && parent && parts.next().is_none()).then_some(ids)
}

/// `{trace-id}:{span-id}:{parent-span-id}:{flags}`, leading zeros left out; colons may be percent-encoded.
fn uber(value: &str) -> Option<SpanContext> {
    let value = value.replace("%3A", ":").replace("%3a", ":");
    let parts: Vec<&str> = value.splitn(5, ':').collect();
    let [trace_id, span_id, _parent, _flags] = parts.as_slice() else { return None };
    context(trace(trace_id), padded(span_id).map(SpanId))
}

fn context(trace_id: Option<TraceId>, span_id: Option<SpanId>) -> Option<SpanContext> {
    Some(SpanContext { trace_id: trace_id?, span_id: span_id? })
}

fn b3_trace(hex: &str) -> Option<TraceId> {
    (hex.len() == 32 || hex.len() == 16).then(|| trace(hex)).flatten()
}

fn trace(hex: &str) -> Option<TraceId> {
    padded(hex).map(TraceId)
}

fn span(hex: &str) -> Option<SpanId> {
    (hex.len() == 16).then(|| padded(hex).map(SpanId)).flatten()
}

/// Hex digits as the low bytes of an identifier; never all zero.
fn padded<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.is_empty() || hex.len() > 2 * N {
        return None;
    }
    let mut out = [0u8; N];
    for (at, c) in hex.bytes().rev().enumerate() {
        let digit = char::from(c).to_digit(16)? as u8;
        let slot = out.get_mut(N.checked_sub(1 + at / 2)?)?;
        *slot |= digit << (4 * (at % 2));
    }
    (out != [0; N]).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)], expected: Option<&str>) {
        let context = read(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_bytes()));
        let shown = context.map(|c| format!("{} {} {}", c.header, c.trace_id, c.parent_id));
        assert_eq!(shown.as_deref(), expected, "{headers:?}");
    }

    #[test]
    fn traceparent_follows_w3c_level_2() {
        const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = Some("traceparent 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7");
        let cases = [
            (format!("00-{T}-00f067aa0ba902b7-01"), good),
            (format!(" 00-{T}-00f067aa0ba902b7-03 "), good),
            (format!("cc-{T}-00f067aa0ba902b7-01-what-the-future"), good),
            (format!("00-{T}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{T}-00f067aa0ba902b7-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", T.to_uppercase()), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{T}-0000000000000000-01"), None),
            (format!("00-{T}-00f067aa0ba902b7"), None),
            (format!("00-{T}-00f067aa0ba902b7-1"), None),
            (format!("0-{T}-00f067aa0ba902b7-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", &T[1..]), None),
            (format!("00_{T}_00f067aa0ba902b7_01"), None),
            (String::new(), None),
        ];
        for (value, expected) in &cases {
            check(&[("traceparent", value)], *expected);
        }
    }

    #[test]
    fn b3_single_and_multi() {
        let single = Some("b3 80f198ee56343ba864fe8b2a57d3eff7 e457b5a2e4d86bd1");
        check(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90")], single);
        check(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1")], single);
        check(
            &[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-d")],
            Some("b3 000000000000000064fe8b2a57d3eff7 e457b5a2e4d86bd1"),
        );
        check(&[("b3", "0")], None);
        check(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-x")], None);
        check(
            &[("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), ("x-b3-spanid", "a2fb4a1d1a96d312")],
            Some("x-b3-traceid 463ac35c9f6413ad48485a3953bb6124 a2fb4a1d1a96d312"),
        );
        check(&[("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124")], None);
    }

    #[test]
    fn uber_trace_id_leaves_out_leading_zeros() {
        let good = Some("uber-trace-id 0000000000000000006a3fdf7d4a7c4e 0000000000000abc");
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e:abc:0:1")], good);
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e%3Aabc%3A0%3A1")], good);
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e:abc:0")], None);
        check(&[("uber-trace-id", "0:abc:0:1")], None);
    }

    #[test]
    fn traceparent_wins() {
        check(
            &[
                ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1"),
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ],
            Some("traceparent 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7"),
        );
    }
}
