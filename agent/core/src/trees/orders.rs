//! Roots of an order's traces in, other traces of the same order out.
//!
//! An order has more than one trace when it outlives its window, when requests carry trace context of their own, and when
//! two systems number it differently. Each new trace is linked to the first and the latest one before it that this agent has
//! exported spans of, so that every link resolves.
//!
//! *Owns* which traces an order has, as far as remembered. *Must not know* why they differ.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::bounded::Remembered;
use crate::order::OrderKey;
use crate::trace::{SpanId, TraceId};

/// A span in a trace.
pub(crate) type At = (TraceId, SpanId);

/// Traces by the hash of their order: values are kept nowhere, and few bytes for each.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    known: Remembered<u64, Traces>,
}

#[derive(Clone, Copy, Debug)]
struct Traces {
    first: At,
    last: At,
}

impl Orders {
    /// Enters a span of `order`. Where its trace is a new one for the order, the first and the latest before it.
    pub(crate) fn meet(&mut self, order: &OrderKey, at: At) -> [Option<At>; 2] {
        let key = hash(order);
        let Some(traces) = self.known.get_mut(key) else {
            self.known.insert(key, Traces { first: at, last: at });
            self.known.forget_oldest();
            return [None, None];
        };
        if at.0 == traces.first.0 || at.0 == traces.last.0 {
            return [None, None];
        }
        let Traces { first, last } = *traces;
        traces.last = at;
        [Some(first), Some(last).filter(|last| last.0 != first.0)]
    }
}

/// Without a key: who finds two orders of one hash gets a link between them.
fn hash(order: &OrderKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    order.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(value: &str) -> OrderKey {
        OrderKey { namespace: "order".into(), value: value.into() }
    }

    fn at(trace: u8, span: u8) -> At {
        (TraceId([trace; 16]), SpanId([span; 8]))
    }

    #[test]
    fn a_new_trace_of_an_order_meets_the_first_and_the_latest() {
        let mut kin = Orders::default();
        for (value, place, expected) in [
            ("17", at(1, 1), [None, None]),
            ("17", at(1, 2), [None, None]),
            ("18", at(2, 3), [None, None]),
            ("17", at(3, 4), [Some(at(1, 1)), None]),
            ("17", at(3, 5), [None, None]),
            ("17", at(1, 6), [None, None]),
            ("17", at(4, 7), [Some(at(1, 1)), Some(at(3, 4))]),
        ] {
            assert_eq!(kin.meet(&order(value), place), expected, "{value} {place:?}");
        }
    }
}
