//! Conversations of a gateway protocol → the exchanges that its sessions close; what holds for all of them.

use crate::operation::http::{Exchange, Headers};
use crate::operation::{Completeness, Detail, Kept, Operation};
use crate::protocol::registry::Spec;
use crate::protocol::{End, Event, Events, Session};
use crate::record::{Mark, Role, Sender};
use crate::settings::Protocols;
use crate::time::ns;

/// What happens on a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::protocol) enum Step<'a> {
    Bytes(Sender, &'a [u8]),
    Gap(Sender, usize),
}

/// Each step at once, the n-th at time n; what is closed until the end.
pub(in crate::protocol) fn run(spec: &Spec, steps: &[Step<'_>], end: End) -> Vec<Operation> {
    let mut session = (spec.session)(Role::Server, &Protocols::default());
    let mut out = Events::default();
    drive(&mut *session, steps, end, &mut out);
    let events = std::iter::from_fn(|| out.pop());
    events
        .filter_map(|event| if let Event::Closed(operation) = event { Some(*operation) } else { None })
        .collect()
}

fn drive(session: &mut dyn Session, steps: &[Step<'_>], end: End, out: &mut Events) {
    let mut pos = [0; 2];
    for (tick, step) in (1..).zip(steps) {
        let mark = Mark { at: ns(tick), ..Mark::default() };
        let (from, len) = match *step {
            Step::Bytes(from, bytes) => {
                if !bytes.is_empty() {
                    session.bytes(from, pos[from as usize], bytes, mark, out);
                }
                (from, bytes.len())
            }
            Step::Gap(from, len) => {
                if len > 0 {
                    session.gap(from, pos[from as usize], len as u64, mark, out);
                }
                (from, len)
            }
        };
        pos[from as usize] += len as u64;
    }
    session.end(end, ns(1000), out);
}

/// `GET /target body -> status body`, and how it ended unless it is complete.
pub(in crate::protocol) fn line(operation: &Operation) -> String {
    let exchange = exchange(operation);
    let text = |kept: &Kept| String::from_utf8_lossy(&kept.bytes).into_owned();
    let status = exchange.status.map_or("-".to_owned(), |status| status.to_string());
    let (request, response) = (text(&exchange.request_body), text(&exchange.response_body));
    let end = match operation.completeness {
        Completeness::Complete => String::new(),
        other => format!(" {other:?}"),
    };
    format!("{} {} {request} -> {status} {response}{end}", exchange.method, exchange.target)
}

pub(in crate::protocol) fn exchange(operation: &Operation) -> &Exchange {
    let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
    exchange
}

/// However a request and its answer are cut into records, they are `expected`.
pub(in crate::protocol) fn every_split(spec: &Spec, request: &[u8], answer: &[u8], expected: &str) {
    for first in 0..=request.len().max(answer.len()) {
        for piece in [1, 7, usize::MAX] {
            let mut steps = Vec::new();
            for (from, bytes) in [(Sender::Client, request), (Sender::Server, answer)] {
                let (head, tail) = bytes.split_at(first.min(bytes.len()));
                let parts = head.chunks(piece).chain([tail]).filter(|part| !part.is_empty());
                steps.extend(parts.map(|part| Step::Bytes(from, part)));
            }
            let closed: Vec<String> = run(spec, &steps, End::Closed).iter().map(line).collect();
            assert_eq!(closed, [expected], "{first} in pieces of {piece}");
        }
    }
}

/// Wherever a hole lies in a request or in its answer, and however long it is, nothing is told that was not said, and what is told
/// does not pass for all: the exchange has a hole, unless it is the true one to the last byte.
pub(in crate::protocol) fn every_hole(spec: &Spec, request: &[u8], answer: &[u8]) {
    let whole = [Step::Bytes(Sender::Client, request), Step::Bytes(Sender::Server, answer)];
    let [truth] = &run(spec, &whole, End::Closed)[..] else { panic!("one exchange") };
    let mut statuses = 0;
    for holed in [Sender::Client, Sender::Server] {
        let bytes = if holed == Sender::Client { request } else { answer };
        for start in 0..bytes.len() {
            for end in start + 1..=bytes.len() {
                let [asked, answered] =
                    [(Sender::Client, request), (Sender::Server, answer)].map(|(from, bytes)| {
                        let (head, rest) = bytes.split_at(if from == holed { start } else { bytes.len() });
                        let len = if from == holed { end - start } else { 0 };
                        [Step::Bytes(from, head), Step::Gap(from, len), Step::Bytes(from, &rest[len..])]
                    });
                let steps = [asked, answered].concat();
                let closed = run(spec, &steps, End::Closed);
                assert!(closed.len() <= 1, "{start}..{end}: {closed:?}");
                for found in &closed {
                    is_part(found, truth, &format!("a hole at {start}..{end}"));
                    statuses += usize::from(exchange(found).status.is_some());
                }
            }
        }
    }
    assert!(statuses > request.len(), "a hole somewhere does not hide everything: {statuses}");
}

fn is_part(found: &Operation, truth: &Operation, at: &str) {
    let (part, all) = (exchange(found), exchange(truth));
    let at = format!("{at}: {}", line(found));
    assert!(part.method.is_empty() || part.method == all.method, "{at}");
    assert!(part.target.is_empty() || part.target == all.target, "{at}");
    assert!(part.status.is_none() || part.status == all.status, "{at}");
    for (part, all) in [(&part.request_body, &all.request_body), (&part.response_body, &all.response_body)] {
        assert!(all.bytes.starts_with(&part.bytes), "{at}");
    }
    let fields = |headers: &Headers| {
        headers.iter().map(|field| (field.name.to_owned(), field.value.to_owned())).collect::<Vec<_>>()
    };
    for (part, all) in
        [(&part.request_headers, &all.request_headers), (&part.response_headers, &all.response_headers)]
    {
        let all = fields(all);
        assert!(fields(part).iter().all(|field| all.contains(field)), "{at}: {part:?}");
    }
    let is_true = part == all && truth.completeness == found.completeness;
    assert!(is_true || matches!(found.completeness, Completeness::Gap(_)), "{at}");
}
