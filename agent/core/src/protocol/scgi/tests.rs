//! SCGI conversations → exchanges.

use super::*;
use crate::protocol::End;
use crate::protocol::cgi::testing::{self, Step, line, run};
use crate::protocol::registry::Conversation;
use Sender::{Client, Server};
use Step::Bytes;

/// One request and its answer: there is one on a connection.
pub(super) fn example() -> Conversation {
    vec![(Client, request("{\"a\":1}")), (Server, ANSWER.to_vec())]
}

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

const ANSWER: &[u8] = b"Status: 201 Created\r\nContent-Type: text/plain\r\n\r\nhello";

#[test]
fn every_split_gives_the_same() {
    testing::every_split(&SPEC, &request("{\"a\":1}"), ANSWER, "POST /o/17 {\"a\":1} -> 201 hello");
}

#[test]
fn no_hole_makes_up_anything() {
    testing::every_hole(&SPEC, &request("{\"a\":1}"), ANSWER);
}

#[test]
fn an_answer_that_did_not_come_is_cut() {
    let check = |steps: &[Step<'_>], expected| {
        let closed: Vec<String> = run(&SPEC, steps, End::Closed).iter().map(line).collect();
        assert_eq!(closed, [expected]);
    };
    let sent = request("");
    check(&[Bytes(Client, &sent)], "POST /o/17  -> -  Cut");
    check(&[Bytes(Client, &sent), Bytes(Server, b"Status: 200")], "POST /o/17  -> -  Cut");
    // A body that did not all come: the application need not wait for it.
    let sent = request("0123456789");
    let part = &sent[..sent.len() - 4];
    check(&[Bytes(Client, part), Bytes(Server, b"Status: 413\r\n\r\n")], "POST /o/17 012345 -> 413  Cut");
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
