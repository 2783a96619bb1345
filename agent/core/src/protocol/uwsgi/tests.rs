//! uwsgi conversations → exchanges.

use super::*;
use crate::operation::Completeness;
use crate::protocol::End;
use crate::protocol::cgi::testing::{self, Step, run};
use crate::protocol::registry::Conversation;
use crate::time::ns;
use Sender::{Client, Server};
use Step::Bytes;

/// Two requests; the answer to the second is as long as the connection.
pub(super) fn example() -> Conversation {
    let created = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
    let found = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nhello";
    vec![
        (Client, request("{\"a\":1}")),
        (Server, created.to_vec()),
        (Client, request("")),
        (Server, found.to_vec()),
    ]
}

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

#[test]
fn every_split_gives_the_same() {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno";
    testing::every_split(&SPEC, &request("{}"), answer, "PUT /orders/17 {} -> 404 no");
}

#[test]
fn no_hole_makes_up_anything() {
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 19\r\n\r\nx\nStatus: 500\r\n\r\nyz";
    testing::every_hole(&SPEC, &request("{}"), answer);
}

#[test]
fn an_answer_with_a_length_ends_with_it() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let sent = request("");
    let steps =
        [Bytes(Client, &sent), Bytes(Server, answer), Bytes(Client, &sent), Bytes(Server, &answer[..39])];
    let closed = run(&SPEC, &steps, End::Reset);
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
