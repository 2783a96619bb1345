use super::*;
use crate::span::{Resource, SpanKind, Status};
use crate::trace::Attributes;

fn span(id: u8, trace: u8) -> Span {
    let mut attributes = Attributes::default();
    attributes.set("order.id", "4711");
    attributes.set("url.path", "/orders");
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent: None,
        evidence: None,
        name: "POST".to_owned(),
        kind: SpanKind::Server,
        start: WallTime::from_nanos(10),
        end: WallTime::from_nanos(20),
        status: Status::Unset,
        attributes,
        links: Vec::new(),
        events: Vec::new(),
        resource: std::sync::Arc::new(Resource::default()),
        sampled: true,
    }
}

#[test]
fn who_was_told_is_told_that_it_is_over_and_nobody_else() {
    let mut ledger = Ledger::default();
    assert!(ledger.tell(OpId(1), &span(1, 1), 8));
    ledger.closed(OpId(2), WallTime::from_nanos(30));
    assert!(ledger.over.is_empty());
    ledger.closed(OpId(1), WallTime::from_nanos(30));
    ledger.closed(OpId(1), WallTime::from_nanos(31));
    let over: Vec<_> = ledger.over.iter().map(|span| (place(span), span.end.as_nanos())).collect();
    assert_eq!(over, [((TraceId([1; 16]), SpanId([1; 8])), 30)]);
    let kept: Vec<_> = ledger.over[0].attributes.iter().map(|(name, _)| name).collect();
    assert_eq!(kept, ["order.id"]);
}

#[test]
fn what_was_told_in_another_trace_is_over_there() {
    let mut ledger = Ledger::default();
    assert!(ledger.tell(OpId(1), &span(1, 1), 8) && ledger.tell(OpId(1), &span(1, 1), 8));
    assert!(ledger.over.is_empty());
    assert!(ledger.tell(OpId(1), &span(1, 2), 8));
    assert_eq!(ledger.over.iter().map(|span| span.trace_id).collect::<Vec<_>>(), [TraceId([1; 16])]);
    assert_eq!(ledger.told.len(), 1);
}

#[test]
fn no_more_are_told_of_than_may_be_and_the_others_are_counted() {
    let mut ledger = Ledger::default();
    let mut told = |op: u8| ledger.tell(OpId(op.into()), &span(op, 1), 2);
    assert_eq!([told(1), told(2), told(3), told(1)], [true, true, false, true]);
    assert_eq!(ledger.untold(), 1);
    ledger.closed(OpId(1), WallTime::from_nanos(30));
    assert!(ledger.tell(OpId(3), &span(3, 1), 2));
}
