//! Roots of an order's traces → other traces of the same order.
//!
//! An order has more than one trace when it outlives its window, when requests carry trace context of their own, and when
//! two systems number it differently. Each new trace is linked to the first and the latest one before it that this agent has
//! exported spans of, so that every link resolves.
//!
//! *Owns* which traces an order has, as far as remembered. *Must not know* why they differ.

use std::hash::BuildHasher;

use crate::bounded::Bounded;
use crate::hash::Keyed;
use crate::order::OrderKey;
use crate::trace::SpanContext;
use crate::trees::REMEMBERED;

/// Traces by the hash of their order: values are kept nowhere, and few bytes for each.
#[derive(Debug)]
pub(crate) struct Orders {
    known: Bounded<u64, Traces, Keyed>,
    hasher: Keyed,
}

impl Default for Orders {
    fn default() -> Self {
        Self { known: Bounded::for_foreign_keys(REMEMBERED), hasher: Keyed::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Traces {
    first: SpanContext,
    last: SpanContext,
}

impl Orders {
    /// Enters a span of `order`. Where its trace is a new one for the order, the first and the latest before it.
    pub(crate) fn meet(&mut self, order: &OrderKey, at: SpanContext) -> [Option<SpanContext>; 2] {
        let key = self.hasher.hash_one(order);
        let Some(traces) = self.known.get_mut(&key) else {
            self.known.insert(key, Traces { first: at, last: at });
            return [None, None];
        };
        if at.trace_id == traces.first.trace_id || at.trace_id == traces.last.trace_id {
            return [None, None];
        }
        let Traces { first, last } = *traces;
        traces.last = at;
        [Some(first), Some(last).filter(|last| last.trace_id != first.trace_id)]
    }

    /// Orders whose traces were forgotten: a new trace of theirs is not linked to those before.
    pub(crate) fn forgotten(&self) -> u64 {
        self.known.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{SpanId, TraceId};

    #[test]
    fn orders_are_bounded_and_those_forgotten_counted() {
        let mut orders = Orders::default();
        for n in 0..REMEMBERED + 3 {
            orders.meet(&order(&n.to_string()), at(1, 1));
        }
        assert_eq!(orders.forgotten(), 3);
    }

    fn order(value: &str) -> OrderKey {
        OrderKey { namespace: "order".into(), value: value.into() }
    }

    fn at(trace: u8, span: u8) -> SpanContext {
        SpanContext { trace_id: TraceId([trace; 16]), span_id: SpanId([span; 8]) }
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
