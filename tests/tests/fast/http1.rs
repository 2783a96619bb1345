//! Transcripts of real HTTP/1.x clients and servers: the exchanges in them, however the reads are cut.

use spoor_core::operation::{Detail, Operation};
use spoor_core::protocol::{Discard, End, Event, Events, Session, http1};
use spoor_core::record::{Mark, Role, Sender, Worker};
use spoor_core::settings::Protocols;
use spoor_core::time::BootTime;
use spoor_tests::recorded::{Recorded, fixtures, transcripts};

/// Runs a transcript with its reads cut into pieces of at most `piece` bytes.
fn run(transcript: &Recorded, piece: usize) -> Vec<Event> {
    let mut session = http1::Http1Session::new(Role::Server, &Protocols::default());
    let mut out = Events::default();
    let (mut client, mut server) = (0, 0);
    for ((sender, bytes), at) in transcript.reads.iter().zip(1..) {
        for bytes in bytes.chunks(piece) {
            let (pos, other_pos) = match sender {
                Sender::Client => (&mut client, server),
                Sender::Server => (&mut server, client),
            };
            let mark =
                Mark { at: BootTime::from_nanos(at), thread: Worker::new(1, 1), other_pos, awaited_by: None };
            session.bytes(*sender, *pos, bytes, mark, &mut out);
            *pos += bytes.len() as u64;
        }
    }
    session.end(End::Closed, BootTime::from_nanos(1000), &mut out);
    std::iter::from_fn(|| out.pop()).collect()
}

fn describe(operation: &Operation) -> String {
    let Detail::Http(exchange) = &operation.detail else { panic!("{operation:?}") };
    let mut text = format!(
        "{} {} HTTP/{} to {}\n  {:?}, {:?}\n",
        exchange.method,
        exchange.target,
        exchange.version,
        exchange.authority,
        exchange.status,
        operation.completeness
    );
    for (name, body) in [("up", &exchange.request_body), ("down", &exchange.response_body)] {
        let coding = if name == "up" { None } else { exchange.response_header("content-encoding") };
        let coding = coding.map(|value| String::from_utf8_lossy(value).into_owned());
        let plain =
            http1::content::decode(coding.as_deref().unwrap_or(""), &body.bytes, 48).unwrap_or_default();
        let start = String::from_utf8_lossy(&plain).into_owned();
        text.push_str(&format!("  {name} {} {start:?}\n", body.len));
    }
    exchange.uploads.iter().for_each(|upload| text.push_str(&format!("  {upload:?}\n")));
    text
}

#[test]
fn real_conversations_give_their_exchanges_however_they_are_cut() {
    let transcripts = transcripts("http1").expect("transcripts");
    assert!(transcripts.len() >= 15, "only {} transcripts", transcripts.len());
    for transcript in &transcripts {
        let whole = run(transcript, usize::MAX);
        let discarded = whole.iter().filter(|event| matches!(event, Event::Discarded { .. })).count();
        assert_eq!(discarded, 0, "{}", transcript.name);
        let operations = whole.iter().filter_map(|event| match event {
            Event::Closed(operation) => Some(describe(operation)),
            _ => None,
        });
        let path = fixtures().join("http1").join(format!("{}.expected", transcript.name));
        expect_test::expect_file![path].assert_eq(&operations.collect::<String>());
        for piece in [1, 2, 3, 5, 8, 13, 100] {
            assert_eq!(run(transcript, piece), whole, "{} in pieces of {piece}", transcript.name);
        }
    }
}

#[test]
fn a_prefix_of_a_real_conversation_is_never_invalid() {
    for transcript in &transcripts("http1").expect("transcripts") {
        for reads in 0..transcript.reads.len() {
            for len in 0..transcript.reads[reads].1.len() {
                let mut prefix = transcript.clone();
                prefix.reads.truncate(reads + 1);
                prefix.reads[reads].1.truncate(len);
                let refused = run(&prefix, 64).into_iter().find(|event| {
                    matches!(event, Event::Discarded { reason: Discard::Invalid | Discard::Limit, .. })
                });
                assert_eq!(refused, None, "{} after {reads} reads and {len} bytes", transcript.name);
            }
        }
    }
}

#[test]
fn no_secret_of_a_real_conversation_is_retained() {
    for transcript in &transcripts("http1").expect("transcripts") {
        let everything = format!("{:?}", run(transcript, usize::MAX));
        assert!(!everything.contains("secret"), "{}", transcript.name);
    }
}
