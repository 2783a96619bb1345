//! An order or a trace → whether its spans are exported: the same on every node.
//!
//! *Owns* the decision. It depends on nothing but the order (or, without one, on the trace identifier, which both ends of a
//! connection compute alike), so that an order is kept or left out as a whole. *Must not know* what happened in it: keeping
//! the failed and the slow is for a Collector that sees whole traces.
//!
//! The hash of an order is the first 8 bytes of SHA-256 over the fields `spoor.sample.1`, namespace and value, each behind
//! its length (4 bytes, big-endian), as a big-endian integer; it is kept when that is below `ratio` × 2⁶⁴.

use sha2::{Digest, Sha256};

use crate::order::OrderKey;
use crate::settings;
use crate::trace::TraceId;

/// Decides what is exported.
#[derive(Clone, Debug)]
pub struct Sampler {
    ratio: f64,
    /// Orders that are kept in any case, by canonical value.
    chosen: Vec<String>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { ratio: 1.0, chosen: Vec::new() }
    }
}

impl Sampler {
    pub fn new(settings: &settings::Sampling) -> Self {
        Self { ratio: settings.ratio, chosen: settings.orders.clone() }
    }

    /// Whether the spans of a tree are exported.
    pub fn keeps(&self, order: Option<&OrderKey>, trace_id: TraceId) -> bool {
        if self.ratio >= 1.0 {
            return true;
        }
        let hash = match order {
            Some(order) if self.is_chosen(order) => return true,
            Some(order) => order_hash(order),
            None => trace_hash(trace_id),
        };
        // 53 bits are what a double tells apart.
        ((hash >> 11) as f64) < self.ratio * (1_u64 << 53) as f64
    }

    /// `4711`, or `crm/SO-17` for another numbering system than the first.
    fn is_chosen(&self, order: &OrderKey) -> bool {
        self.chosen.iter().any(|chosen| match chosen.split_once('/') {
            Some((namespace, value)) => *order.namespace == *namespace && *order.value == *value,
            None => *order.value == **chosen,
        })
    }
}

fn order_hash(order: &OrderKey) -> u64 {
    let mut hash = Sha256::new();
    for field in ["spoor.sample.1", &order.namespace, &order.value] {
        hash.update((field.len() as u32).to_be_bytes());
        hash.update(field.as_bytes());
    }
    first(&hash.finalize())
}

/// Trace identifiers are hashes already; of those from elsewhere the last bytes are random (W3C Trace Context, level 2).
fn trace_hash(trace_id: TraceId) -> u64 {
    let [.., a, b, c, d, e, f, g] = trace_id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, 0])
}

fn first(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(value: &str) -> OrderKey {
        OrderKey { namespace: "order".into(), value: value.into() }
    }

    fn sampler(ratio: f64, orders: &[&str]) -> Sampler {
        Sampler::new(&settings::Sampling { ratio, orders: orders.iter().map(|o| (*o).to_owned()).collect() })
    }

    const TRACE: TraceId = TraceId([7; 16]);

    #[test]
    fn decision_depends_on_the_order_alone() {
        let half = sampler(0.5, &[]);
        for number in 0..100 {
            let order = order(&number.to_string());
            let first = half.keeps(Some(&order), TRACE);
            assert_eq!(half.keeps(Some(&order), TraceId([200; 16])), first);
        }
    }

    #[test]
    fn ratio_is_kept() {
        for ratio in [0.0, 0.01, 0.25, 0.9, 1.0] {
            let sampler = sampler(ratio, &[]);
            let kept = (0..10_000).filter(|n| sampler.keeps(Some(&order(&n.to_string())), TRACE)).count();
            let wanted = ratio * 10_000.0;
            assert!((kept as f64 - wanted).abs() <= 200.0, "{ratio}: {kept}");
            // A larger ratio keeps all that a smaller one keeps.
            let more = Sampler { ratio: (ratio + 0.1).min(1.0), ..sampler.clone() };
            for n in 0..1000 {
                let order = order(&n.to_string());
                assert!(!sampler.keeps(Some(&order), TRACE) || more.keeps(Some(&order), TRACE));
            }
        }
    }

    #[test]
    fn chosen_orders_are_kept_in_any_case() {
        let none = sampler(0.0, &["17", "crm/SO-9"]);
        let crm = |value: &str| OrderKey { namespace: "crm".into(), value: value.into() };
        assert!(none.keeps(Some(&order("17")), TRACE));
        assert!(none.keeps(Some(&crm("SO-9")), TRACE));
        assert!(!none.keeps(Some(&order("SO-9")), TRACE));
        assert!(!none.keeps(Some(&order("18")), TRACE));
        assert!(!none.keeps(None, TRACE));
    }

    #[test]
    fn published_hash_stays() {
        assert_eq!(order_hash(&order("17")), 0x6246_03b3_2b96_2ccf);
    }

    #[test]
    fn traces_without_an_order_are_decided_by_their_identifier() {
        let id = |byte| TraceId([9, 9, 9, 9, 9, 9, 9, 9, 9, byte, 0, 0, 0, 0, 0, 0]);
        let half = sampler(0.5, &[]);
        assert!(half.keeps(None, id(0x10)));
        assert!(!half.keeps(None, id(0xf0)));
    }
}
