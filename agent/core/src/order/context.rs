//! Header values → in-band trace context.
//!
//! *Spec*: W3C Trace Context Level 2, section 3.2; B3 propagation (openzipkin/b3-propagation); Jaeger's
//! `uber-trace-id` (client libraries, "Propagation format"). Anything malformed counts as absent.
//!
//! A context that says "not sampled" names no parent: nobody exports the span it names. Runtimes send such contexts without any SDK
//! (ASP.NET Core does with each call), so to follow it would put each request into a trace of its own, below a parent that is nowhere.
//! What carries the same trace ID belongs together all the same.

use super::TraceContext;
use crate::trace::{SpanContext, SpanId, TraceId};

/// What the headers of an operation say about traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InBand {
    /// The first context whose span somebody may export.
    pub context: Option<TraceContext>,
    /// The trace ID of the first context, whether or not it is sampled.
    pub trace_id: Option<TraceId>,
}

/// A context, and whether it is sampled.
type Parsed = (SpanContext, bool);
/// Reads the value of a header of one format.
type Parse<'value, 'a> = &'a dyn Fn(&'value str) -> Option<Parsed>;

/// Reads the first valid contexts, by the strength of their formats. `header` gives the only value of a header by its
/// lower-case name, `None` when it is absent or repeated.
pub fn read<'a>(header: impl Fn(&'static str) -> Option<&'a [u8]>) -> InBand {
    let text =
        |name: &'static str| header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    let b3_headers = |trace_id| {
        let ids = context(b3_trace(trace_id), span(text("x-b3-spanid")?))?;
        Some((ids, b3_is_sampled(text("x-b3-sampled"), text("x-b3-flags"))))
    };
    let mut found = InBand::default();
    let formats: [(&'static str, Parse<'a, '_>); 4] =
        [("traceparent", &traceparent), ("b3", &b3), ("x-b3-traceid", &b3_headers), ("uber-trace-id", &uber)];
    for (header, parse) in formats {
        let Some((ids, is_sampled)) = text(header).and_then(parse) else { continue };
        found.trace_id.get_or_insert(ids.trace_id);
        if is_sampled {
            found.context = Some(TraceContext { trace_id: ids.trace_id, parent_id: ids.span_id, header });
            break;
        }
    }
    found
}

/// `version "-" trace-id "-" parent-id "-" flags`, all lower-case hex. Version `ff` is invalid; higher versions than ours may
/// have more behind a further `-`.
fn traceparent(value: &str) -> Option<Parsed> {
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
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((context(trace(trace_id), span(parent_id))?, flags & SAMPLED != 0))
}

/// The sampled flag, of W3C (section 3.2.2.4) and of Jaeger alike.
const SAMPLED: u8 = 1;

/// `{TraceId}-{SpanId}[-{SamplingState}[-{ParentSpanId}]]`; a lone sampling state carries no identifiers.
fn b3(value: &str) -> Option<Parsed> {
    let mut parts = value.split('-');
    let ids = context(b3_trace(parts.next()?), span(parts.next()?))?;
    // Without a state the decision is left to whoever receives it.
    let state = parts.next();
    let parent = parts.next().is_none_or(|parent| span(parent).is_some());
    (parent && parts.next().is_none()).then_some((ids, state.is_none_or(|state| matches!(state, "1" | "d"))))
}

/// `X-B3-Sampled` is `1`, or `true` of early tracers; `X-B3-Flags: 1` (debug) implies it. Neither: the decision is left to whoever
/// receives it.
fn b3_is_sampled(sampled: Option<&str>, flags: Option<&str>) -> bool {
    flags == Some("1") || sampled.is_none_or(|sampled| sampled == "1" || sampled.eq_ignore_ascii_case("true"))
}

/// `{trace-id}:{span-id}:{parent-span-id}:{flags}`, leading zeros left out; colons may be percent-encoded.
fn uber(value: &str) -> Option<Parsed> {
    let value = value.replace("%3A", ":").replace("%3a", ":");
    let parts: Vec<&str> = value.splitn(5, ':').collect();
    let [trace_id, span_id, _parent, flags] = parts.as_slice() else { return None };
    // One octet in hex, with or without its leading zero. Bit 1 is "debug", which implies "sampled".
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((context(trace(trace_id), padded(span_id).map(SpanId))?, flags & (SAMPLED | 2) != 0))
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
        let in_band = read(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_bytes()));
        let shown = in_band.context.map(|c| format!("{} {} {}", c.header, c.trace_id, c.parent_id));
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
            (format!("00-{T}-00f067aa0ba902b7-00"), None),
            (format!("00-{T}-00f067aa0ba902b7-02"), None),
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
        check(&[("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-0")], None);
        check(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-x")], None);
        check(
            &[("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), ("x-b3-spanid", "a2fb4a1d1a96d312")],
            Some("x-b3-traceid 463ac35c9f6413ad48485a3953bb6124 a2fb4a1d1a96d312"),
        );
        check(&[("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124")], None);
        let multi =
            [("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), ("x-b3-spanid", "a2fb4a1d1a96d312")];
        let found = Some("x-b3-traceid 463ac35c9f6413ad48485a3953bb6124 a2fb4a1d1a96d312");
        for (name, value, expected) in [
            ("x-b3-sampled", "0", None),
            ("x-b3-sampled", "false", None),
            ("x-b3-sampled", "d", None),
            ("x-b3-sampled", "1", found),
            ("x-b3-sampled", "True", found),
            ("x-b3-flags", "1", found),
        ] {
            check(&[multi[0], multi[1], (name, value)], expected);
        }
    }

    #[test]
    fn uber_trace_id_leaves_out_leading_zeros() {
        let good = Some("uber-trace-id 0000000000000000006a3fdf7d4a7c4e 0000000000000abc");
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e:abc:0:1")], good);
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e%3Aabc%3A0%3A1")], good);
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e:abc:0:03")], good);
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e:abc:0:0")], None);
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e:abc:0:x")], None);
        check(&[("uber-trace-id", "6a3fdf7d4a7c4e:abc:0")], None);
        check(&[("uber-trace-id", "0:abc:0:1")], None);
    }

    #[test]
    fn a_context_that_says_not_sampled_leaves_the_word_to_another() {
        check(
            &[
                ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            ],
            Some("b3 80f198ee56343ba864fe8b2a57d3eff7 e457b5a2e4d86bd1"),
        );
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
