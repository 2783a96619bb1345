//! SCGI conversations → exchanges.

use super::*;
use crate::operation::{Completeness, Detail};
use crate::protocol::{End, Event, Events};
use crate::record::{Mark, Role};
use crate::settings::Protocols;
use crate::time::ns;
use Sender::{Client, Server};

fn request(body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let variables = [
        ("CONTENT_LENGTH", length.as_str()),
        ("SCGI", "1"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/o/17"),
    ];
    let block: String = variables.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
    format!("{}:{block},{body}", block.len()).into_bytes()
}

/// Each part at once; what is closed by the end.
fn run(parts: &[(Sender, &[u8])]) -> Vec<(String, Option<u16>, String, Completeness)> {
    let mut session = (SPEC.session)(Role::Server, &Protocols::default());
    let (mut out, mut pos) = (Events::default(), [0u64; 2]);
    for (tick, (from, bytes)) in (1..).zip(parts) {
        let mark = Mark { at: ns(tick), ..Mark::default() };
        session.bytes(*from, pos[*from as usize], bytes, mark, &mut out);
        pos[*from as usize] += bytes.len() as u64;
    }
    session.end(End::Closed, ns(1000), &mut out);
    let events = std::iter::from_fn(|| out.pop());
    let closed = events.filter_map(|event| match event {
        Event::Closed(operation) => Some(operation),
        _ => None,
    });
    closed
        .map(|operation| {
            let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
            let request = format!(
                "{} {} {}",
                exchange.method,
                exchange.target,
                String::from_utf8_lossy(&exchange.request_body.bytes)
            );
            let body = String::from_utf8_lossy(&exchange.response_body.bytes).into_owned();
            (request, exchange.status, body, operation.completeness)
        })
        .collect()
}

#[test]
fn every_split_gives_the_same() {
    let sent = request("{\"a\":1}");
    let answered = b"Status: 201 Created\r\nContent-Type: text/plain\r\n\r\nhello";
    for first in 0..=sent.len() {
        for second in [0, 5, 30, answered.len()] {
            let (a, b) = sent.split_at(first);
            let (c, d) = answered.split_at(second);
            let parts: Vec<(Sender, &[u8])> = [(Client, a), (Client, b), (Server, c), (Server, d)]
                .into_iter()
                .filter(|(_, part)| !part.is_empty())
                .collect();
            let expected =
                ("POST /o/17 {\"a\":1}".to_owned(), Some(201), "hello".to_owned(), Completeness::Complete);
            assert_eq!(run(&parts), [expected], "{first} {second}");
        }
    }
}

#[test]
fn an_answer_that_did_not_come_is_cut() {
    assert_eq!(run(&[(Client, &request(""))])[0].3, Completeness::Cut);
    assert_eq!(run(&[(Client, &request("")), (Server, b"Status: 200")])[0].3, Completeness::Cut);
    // A body that did not all come: the application need not wait for it.
    let sent = request("0123456789");
    let found = run(&[(Client, &sent[..sent.len() - 4]), (Server, b"Status: 413\r\n\r\n")]);
    assert_eq!((found[0].1, found[0].3), (Some(413), Completeness::Cut));
}

#[test]
fn the_first_variable_tells_the_protocol() {
    let sent = request("x");
    for len in 1..sent.len() {
        let told = sniff(&sent[..len]);
        assert!(told == Sniff::Maybe || (told == Sniff::Yes(Client) && len >= 18), "{len}: {told:?}");
    }
    assert_eq!(sniff(&sent), Sniff::Yes(Client));
    for other in [
        &b"70:PATH_INFO\0"[..],
        b"070:CONTENT_LENGTH\0",
        b":CONTENT_LENGTH\0",
        b"5:CONTENT_LENGTH\0",
        b"99999999:",
        b"GET ",
    ] {
        assert_eq!(sniff(other), Sniff::No, "{other:?}");
    }
}

#[test]
fn blocks_are_bounded_and_end_where_they_say() {
    assert_eq!(Scgi::block(b"100000:CONTENT_LENGTH\0", 65_536), Block::Invalid);
    assert_eq!(Scgi::block(b"3:abc,", 100), Block::Whole { start: 2, len: 3, end: 6 });
    assert_eq!(Scgi::block(b"3:abc", 100), Block::Incomplete);
    assert_eq!(Scgi::block(b"3:abcd", 100), Block::Invalid);
    assert_eq!(Scgi::variables(b"a\0b\0c\0").len(), 1, "a name alone is none");
}
