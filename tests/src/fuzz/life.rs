//! Events of one session in, a panic out if an operation's life is not as [`Event`] promises.

use std::collections::HashMap;

use spoor_core::protocol::{Event, Events};
use spoor_core::record::OpId;

/// Events that this many bytes of input may cause, at most: no input multiplies.
const EVENTS_PER_BYTE: usize = 4;

/// What was seen of each operation.
#[derive(Debug, Default)]
pub(super) struct LifeCycles {
    operations: HashMap<OpId, Life>,
    events: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Life {
    requested: bool,
    sent: bool,
    closed: bool,
}

impl LifeCycles {
    /// Takes all events out of the queue.
    pub(super) fn take(&mut self, out: &mut Events) {
        while let Some(event) = out.pop() {
            self.events += 1;
            self.check(&event);
        }
    }

    fn check(&mut self, event: &Event) {
        let op = match event {
            Event::Opened { op, .. } => {
                let first = self.operations.insert(*op, Life::default()).is_none();
                assert!(first, "{op:?} was opened twice");
                return;
            }
            Event::Requested { op, .. } => *op,
            Event::Sent(operation) | Event::Closed(operation) => operation.id,
            Event::Discarded { .. }
            | Event::Missed { .. }
            | Event::Unread { .. }
            | Event::Hidden { .. }
            | Event::UnreadOver { .. }
            | Event::Read => return,
        };
        let Some(life) = self.operations.get_mut(&op) else { panic!("never opened: {event:?}") };
        assert!(!life.closed, "after its close: {event:?}");
        let again = match event {
            Event::Requested { .. } => std::mem::replace(&mut life.requested, true),
            Event::Sent(_) => std::mem::replace(&mut life.sent, true),
            _ => std::mem::replace(&mut life.closed, true),
        };
        assert!(!again, "twice: {event:?}");
        if let Event::Closed(operation) = event {
            let extents = [Some(operation.request), operation.response];
            let forward = extents.iter().flatten().all(|extent| extent.start.pos <= extent.end.pos);
            assert!(forward, "ends before it starts: {operation:?}");
        }
    }

    /// Called at the end of a connection.
    pub(super) fn assert_over(&self, input_len: usize) {
        let open: Vec<_> = self.operations.iter().filter(|(_, life)| !life.closed).collect();
        assert!(open.is_empty(), "left open: {open:?}");
        let most = 16 + input_len * EVENTS_PER_BYTE;
        assert!(self.events <= most, "{} events from {input_len} bytes", self.events);
    }
}
