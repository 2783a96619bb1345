//! However the bytes are cut, the operations are the same; and a prefix is never wrong.

use proptest::prelude::*;

use super::*;
use crate::protocol::Discard;

fn without_discards(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| !matches!(event, Event::Discarded { .. }));
    events
}

#[test]
fn the_conversation_is_understood() {
    let events = run(&conversation());
    assert_eq!(
        summaries(&events),
        [
            "GET /1 → 200, 0 up, 12 down",
            "POST /2 → 201, 5 up, 20 down",
            "HEAD /3 → 200, 0 up, 0 down",
            "PUT /4 → 204, 12 up, 0 down",
            "POST /5 → 200, 8 up, 2 down",
            "POST /6 → 303, 212 up, 0 down",
            "POST /7 → 413, 9 up, 3 down",
            "GET /8 → 200, 0 up, 18 down",
        ]
    );
    assert!(
        without_discards(events.clone()).len() == events.len(),
        "nothing is discarded of a clean conversation"
    );
    let exchange = exchange(operations(&events)[5]);
    assert_eq!(exchange.uploads.len(), 1);
    assert_eq!((exchange.uploads[0].file_name.as_str(), exchange.uploads[0].len), ("bracket.stl", Some(21)));
}

#[test]
fn cut_at_every_byte_and_at_every_pair_of_bytes() {
    for steps in [conversation(), pipelined()] {
        let whole = without_discards(run_records(&in_records(&steps, &[usize::MAX]), End::Closed));
        for size in 1..20 {
            let records = in_records(&steps, &[size]);
            let cut = without_discards(run_records(&records, End::Closed));
            cut.iter().zip(&whole).for_each(|(cut, whole)| assert_eq!(cut, whole, "records of {size}"));
            assert_eq!(cut.len(), whole.len());
        }
    }
}

#[test]
fn every_prefix_closes_what_is_whole_and_nothing_else() {
    for steps in [conversation(), pipelined()] {
        let whole = run_records(&in_records(&steps, &[1]), End::Closed);
        let whole: Vec<Operation> = operations(&whole).into_iter().cloned().collect();
        let records = in_records(&steps, &[1]);
        for n in 0..records.len() {
            let events = run_records(&records[..n], End::Abandoned);
            let invalid = |event: &Event| {
                matches!(event, Event::Discarded { reason: Discard::Invalid | Discard::Limit, .. })
            };
            assert!(!events.iter().any(invalid), "a prefix of {n} bytes was refused");
            let (done, open): (Vec<_>, Vec<_>) = operations(&events)
                .into_iter()
                .partition(|operation| operation.completeness == Completeness::Complete);
            assert!(open.iter().all(|operation| operation.completeness == Completeness::Abandoned));
            let same = done.iter().zip(&whole).all(|(done, whole)| {
                // An answer that came early is complete before its request is.
                *done == whole
                    || (done.id == whole.id
                        && exchange(whole).method == "POST"
                        && exchange(whole).target == "/7")
            });
            assert!(same, "prefix of {n} bytes: {done:?}");
        }
    }
}

proptest! {
    #[test]
    fn cut_anywhere(sizes in prop::collection::vec(1usize..90, 1..40), pipelines in any::<bool>()) {
        let steps = if pipelines { pipelined() } else { conversation() };
        let whole = without_discards(run_records(&in_records(&steps, &[usize::MAX]), End::Closed));
        let cut = without_discards(run_records(&in_records(&steps, &sizes), End::Closed));
        prop_assert_eq!(cut, whole);
    }
}
