//! uwsgi conversations → exchanges.

use super::*;
use crate::operation::{Completeness, Detail, Operation};
use crate::protocol::{End, Event, Events};
use crate::record::{Mark, Role};
use crate::settings::Protocols;
use crate::time::ns;
use Sender::{Client, Server};

fn packet(variables: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
    let block: Vec<u8> =
        variables.iter().flat_map(|(name, value)| [string(name), string(value)].concat()).collect();
    let len = (block.len() as u16).to_le_bytes();
    [&[0, len[0], len[1], 0][..], &block].concat()
}

/// As nginx's `uwsgi_params` have it.
fn request(body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let variables = [
        ("QUERY_STRING", ""),
        ("REQUEST_METHOD", "PUT"),
        ("CONTENT_TYPE", "application/json"),
        ("CONTENT_LENGTH", length.as_str()),
        ("REQUEST_URI", "/orders/17"),
        ("PATH_INFO", "/orders/17"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("HTTP_HOST", "shop"),
    ];
    [packet(&variables), body.into()].concat()
}

fn run(parts: &[(Sender, &[u8])], end: End) -> Vec<Operation> {
    let mut session = (SPEC.session)(Role::Server, &Protocols::default());
    let (mut out, mut pos) = (Events::default(), [0u64; 2]);
    for (tick, (from, bytes)) in (1..).zip(parts) {
        let mark = Mark { at: ns(tick), ..Mark::default() };
        session.bytes(*from, pos[*from as usize], bytes, mark, &mut out);
        pos[*from as usize] += bytes.len() as u64;
    }
    session.end(end, ns(1000), &mut out);
    let events = std::iter::from_fn(|| out.pop());
    events
        .filter_map(|event| if let Event::Closed(operation) = event { Some(*operation) } else { None })
        .collect()
}

fn line(operation: &Operation) -> String {
    let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
    let text = |kept: &crate::operation::Kept| String::from_utf8_lossy(&kept.bytes).into_owned();
    format!(
        "{} {} {} -> {:?} {} {:?}",
        exchange.method,
        exchange.target,
        text(&exchange.request_body),
        exchange.status,
        text(&exchange.response_body),
        operation.completeness
    )
}

#[test]
fn every_split_gives_the_same() {
    let sent = request("{}");
    let answered = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno";
    for first in 0..=sent.len() {
        for second in [0, 9, 40, answered.len()] {
            let (a, b) = sent.split_at(first);
            let (c, d) = answered.split_at(second);
            let parts: Vec<(Sender, &[u8])> = [(Client, a), (Client, b), (Server, c), (Server, d)]
                .into_iter()
                .filter(|(_, part)| !part.is_empty())
                .collect();
            let closed = run(&parts, End::Closed);
            assert_eq!(closed.len(), 1);
            assert_eq!(line(&closed[0]), "PUT /orders/17 {} -> Some(404) no Complete", "{first} {second}");
        }
    }
}

#[test]
fn an_answer_with_a_length_ends_with_it() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let sent = request("");
    let parts: [(Sender, &[u8]); 4] =
        [(Client, &sent), (Server, answer), (Client, &sent), (Server, &answer[..39])];
    let closed = run(&parts, End::Reset);
    assert_eq!((closed[0].completeness, closed[0].ended_at), (Completeness::Complete, ns(2)));
    assert_eq!(closed[1].completeness, Completeness::Cut);
}

#[test]
fn the_first_variable_tells_the_protocol() {
    let sent = request("{}");
    for len in 0..sent.len() {
        let told = sniff(&sent[..len]);
        assert!(told == Sniff::Maybe || (told == Sniff::Yes(Client) && len >= 20), "{len}: {told:?}");
    }
    assert_eq!(sniff(&sent), Sniff::Yes(Client));
    for other in [
        // A start-up of PostgreSQL, a frame of HTTP/2, a command of uWSGI, a name that no web server sends first.
        &[0, 0, 0, 40, 0, 3, 0, 0, b'u', b's', b'e', b'r', 0][..],
        &[0, 0, 18, 4, 0, 0, 0, 0, 0],
        &[48, 20, 0, 0, 12, 0],
        &packet(&[("FOO_BAR", "x")]),
        &packet(&[("query_string", "x")]),
    ] {
        assert_eq!(sniff(other), Sniff::No, "{other:?}");
    }
}
