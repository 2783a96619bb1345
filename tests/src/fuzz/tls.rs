//! One TLS connection with known secrets, from a handshake or joined in the middle, and a key log.

use spoor_core::record::{Direction, Mark, Role, Sender};
use spoor_core::stream::Chunk;
use spoor_core::time::BootTime;
use spoor_core::tls::search::{Effort, Search, Shape};
use spoor_core::tls::{Bounds, Known, Label, Origin, Phase, Secret, Secrets, Session, keylog};

use super::script::{Script, Step};
use super::{Duration, positions};

const RANDOM: [u8; 32] = [0xc1; 32];

/// Whatever comes: nothing is held beyond the bounds, and what comes out tiles the plaintext.
pub fn tls(data: &[u8]) {
    let mut secrets = Secrets::default();
    for label in [Label::Master, Label::ClientTraffic, Label::ServerTraffic] {
        let len = if label == Label::Master { 48 } else { 32 };
        let secret = Secret::new(&vec![0x31; len]).expect("a length of TLS");
        let origin = Origin::Given;
        secrets.insert(Known { client_random: RANDOM, label, secret, origin, joined: None }, BootTime::ZERO);
    }
    let mut log = keylog::Reader::default();
    let mut found = 0;
    log.read(data, |known| {
        found += 1;
        secrets.insert(known, BootTime::ZERO);
    });
    assert_eq!(log.counts().secrets, found);

    let script = Script::read(data);
    // A third is joined in the middle, the others begin with hellos of either version.
    let kind = data.first().map_or(0, |byte| byte % 3);
    let bounds = Bounds { bytes: 4 << 10, time: Duration::from_secs(1), after_end: Duration::ZERO };
    let mut session = Session::new(kind > 0, Some(script.role), bounds).with_name([0x5a; 32]);
    let mut search = Search::default();
    let (mut client, mut server, mut now) = (0, 0, BootTime::from_nanos(1));
    let mut ends = [0_u64; 2];
    let mut give = |session: &mut Session, from: Sender, chunk: &Chunk, now: BootTime| {
        let direction = match (script.role, from) {
            (Role::Client, Sender::Client) | (Role::Server, Sender::Server) => Direction::Egress,
            _ => Direction::Ingress,
        };
        session.offer(direction, chunk);
        while let Some((direction, chunk)) = session.poll(&secrets, now) {
            let end = &mut ends[usize::from(direction == Direction::Ingress)];
            assert_eq!(chunk.pos(), *end, "the plaintext has no holes");
            assert!(!chunk.is_empty());
            *end = chunk.end();
        }
        if let Some(proof) = session.poll_proof(now) {
            search.add(proof);
        }
        // One record more than may wait, and one that is not whole, in both directions.
        assert!(session.held() <= bounds.bytes + 4 * (18 << 10) + (64 << 10), "{} are held", session.held());
    };
    if kind > 0 {
        for (from, hello) in [(Sender::Client, client_hello()), (Sender::Server, server_hello(kind == 1))] {
            let (pos, other_pos) = positions(from, &mut client, &mut server, hello.len() as u64);
            let mark = Mark { at: now, other_pos, ..Mark::default() };
            give(&mut session, from, &Chunk::Bytes { pos, bytes: hello.into(), mark }, now);
        }
    }
    for step in &script.steps {
        now += Duration::from_micros(1);
        match step {
            Step::Wait(time) => {
                now += *time;
                session.handle_timeout(now);
            }
            Step::Bytes(from, bytes) => {
                let (pos, other_pos) = positions(*from, &mut client, &mut server, bytes.len() as u64);
                let mark = Mark { at: now, other_pos, ..Mark::default() };
                if !bytes.is_empty() {
                    give(&mut session, *from, &Chunk::Bytes { pos, bytes: bytes.to_vec().into(), mark }, now);
                }
            }
            Step::Hole(from, len) => {
                let (pos, other_pos) = positions(*from, &mut client, &mut server, *len);
                let mark = Mark { at: now, other_pos, ..Mark::default() };
                if *len > 0 {
                    give(&mut session, *from, &Chunk::Gap { pos, len: *len, mark }, now);
                }
            }
        }
    }
    // Memory is as foreign as traffic.
    for shape in [Shape::Marked, Shape::BeforeLength, Shape::Words] {
        let found = &mut |_, known: Known| assert!([[0x5a; 32], RANDOM].contains(&known.client_random));
        let rest = search.scan(data, u64::from(kind), 0, (shape, Effort::Begun), found);
        assert!(rest.is_none_or(|rest| rest > u64::from(kind)));
    }
    if matches!(session.phase(), Phase::Closed(_)) {
        assert!(session.wants().is_none() && session.poll_timeout().is_none());
    }
}

fn client_hello() -> Vec<u8> {
    let body = [&[3, 3][..], &RANDOM, &[0], &[0, 2, 0x13, 1], &[1, 0], &[0, 0]].concat();
    handshake(1, &body)
}

fn server_hello(is_13: bool) -> Vec<u8> {
    let suite: [u8; 2] = if is_13 { [0x13, 1] } else { [0xc0, 0x13] };
    let extensions: &[u8] = if is_13 { &[0, 6, 0, 43, 0, 2, 3, 4] } else { &[0, 0] };
    handshake(2, &[&[3, 3][..], &[0x5e; 32], &[0], &suite, &[0], extensions].concat())
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u8;
    [&[22, 3, 3, 0, len + 4, kind, 0, 0, len], body].concat()
}
