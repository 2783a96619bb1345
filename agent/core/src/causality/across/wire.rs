//! Both ends' views of one operation → one edge between them.
//!
//! The two ends of a Unix connection are seen by one clock. One that is older than the agent may be counted differently at its ends,
//! so that an end meets the one of another operation with the same content: then whoever received it was done before it was sent.
//!
//! *Owns* the table of operations waiting for their other end. *Must not know* how the identity is computed.

use crate::bounded::Bounded;
use crate::causality::Edge;
use crate::causality::rules::WIRE;
use crate::order::ids::WireId;
use crate::record::OpId;
use crate::time::BootTime;

/// Which end of the wire an operation was seen at, in the direction of its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It sent the request, publish or delivery.
    Sender,
    /// It received it.
    Receiver,
}

/// Operations by wire identity, bounded by number; the oldest are forgotten first.
#[derive(Debug)]
pub struct Wires {
    waiting: Bounded<WireId, End>,
}

/// One end of an operation.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub op: OpId,
    pub side: Side,
    /// When it began and was over there, where both ends have one clock and it is over.
    pub times: Option<(BootTime, BootTime)>,
}

impl End {
    /// Both can be of one operation.
    fn meets(&self, other: &End) -> bool {
        let (sender, receiver) = if self.side == Side::Sender { (self, other) } else { (other, self) };
        sender.side != receiver.side
            && sender.times.zip(receiver.times).is_none_or(|((sent, _), (_, done))| done >= sent)
    }
}

impl Wires {
    pub fn new(capacity: usize) -> Self {
        Self { waiting: Bounded::new(capacity) }
    }

    /// Enters one end; returns the edge once the other end is there too.
    pub fn enter(&mut self, wire: WireId, end: End) -> Option<Edge> {
        match self.waiting.get(&wire).copied() {
            Some(other) if end.meets(&other) => {
                self.waiting.remove(&wire);
                let (child, parent) =
                    if end.side == Side::Receiver { (end.op, other.op) } else { (other.op, end.op) };
                Some(Edge { child, parent, rule: WIRE.rule, confidence: WIRE.confidence })
            }
            // The same end twice: two agents' views in one recording, or a collision. The first stays.
            Some(_) => None,
            None => {
                self.waiting.insert_new(wire, end);
                None
            }
        }
    }

    /// Ends that were forgotten before the other one came.
    pub fn forgotten(&self) -> u64 {
        self.waiting.forgotten()
    }

    /// Identities waiting for their other end.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(n: u8) -> WireId {
        WireId([n; 16])
    }

    fn end(op: u64, side: Side) -> End {
        End { op: OpId(op), side, times: None }
    }

    #[test]
    fn both_ends_in_either_order_give_one_edge_from_receiver_to_sender() {
        for sender_first in [true, false] {
            let mut wires = Wires::new(8);
            let (a, b) = if sender_first {
                (wires.enter(wire(1), end(1, Side::Sender)), wires.enter(wire(1), end(2, Side::Receiver)))
            } else {
                (wires.enter(wire(1), end(2, Side::Receiver)), wires.enter(wire(1), end(1, Side::Sender)))
            };
            assert_eq!(a, None);
            let edge = b.expect("the second end completes the pair");
            assert_eq!((edge.child, edge.parent), (OpId(2), OpId(1)));
            assert!(wires.is_empty());
        }
    }

    #[test]
    fn the_same_end_twice_gives_nothing() {
        let mut wires = Wires::new(8);
        assert_eq!(wires.enter(wire(1), end(1, Side::Sender)), None);
        assert_eq!(wires.enter(wire(1), end(2, Side::Sender)), None);
        assert!(wires.enter(wire(1), end(3, Side::Receiver)).is_some_and(|edge| edge.parent == OpId(1)));
    }

    #[test]
    fn what_was_done_before_it_was_sent_is_another_operation() {
        let at = |from, to| Some((BootTime::from_nanos(from), BootTime::from_nanos(to)));
        let sent = End { times: at(100, 200), ..end(1, Side::Sender) };
        for (received, meets) in [(at(110, 190), true), (at(90, 105), true), (at(10, 90), false)] {
            let received = End { times: received, ..end(2, Side::Receiver) };
            for (first, second) in [(sent, received), (received, sent)] {
                let mut wires = Wires::new(4);
                wires.enter(wire(1), first);
                assert_eq!(wires.enter(wire(1), second).is_some(), meets, "{received:?}");
            }
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let mut wires = Wires::new(4);
        for n in 0..100 {
            wires.enter(wire(n), end(u64::from(n), Side::Sender));
            assert!(wires.len() <= 4);
        }
        assert_eq!(wires.forgotten(), 96);
    }

    #[test]
    fn pairs_that_were_found_take_no_room() {
        let mut wires = Wires::new(4);
        wires.enter(wire(200), end(200, Side::Sender));
        for n in 0..100 {
            wires.enter(wire(n), end(u64::from(n), Side::Sender));
            assert!(wires.enter(wire(n), end(1000, Side::Receiver)).is_some());
        }
        assert_eq!((wires.len(), wires.forgotten()), (1, 0));
    }
}
