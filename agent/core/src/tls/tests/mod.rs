//! Connections written here, record by record, are opened to what was written, however they are cut.

mod search;

use std::collections::BTreeMap;
use std::time::Duration;

use aes::cipher::{BlockModeEncrypt, KeyInit, KeyIvInit};
use aes_gcm::aead::AeadInOut;
use bytes::Bytes;
use proptest::prelude::*;

use super::schedule::{expand_label, key_block, mac, next_secret};
use super::suite::{Bulk, Suite};
use super::*;
use crate::record::{Direction, Mark, Role};
use crate::stream::Chunk;
use crate::time::BootTime;

const RANDOM: ClientRandom = [0xc1; 32];
const SERVER_RANDOM: [u8; 32] = [0x5e; 32];

fn bounds() -> Bounds {
    Bounds { bytes: 256 << 10, time: Duration::from_secs(10), after_end: Duration::ZERO }
}

/// The writing end of one direction.
struct Writer {
    suite: &'static Suite,
    secret: Vec<u8>,
    key: Vec<u8>,
    iv: Vec<u8>,
    mac_key: Vec<u8>,
    number: u64,
    is_encrypted_first: bool,
    /// Zeros after the content.
    padding: usize,
    /// What it sends as the first nonce. OpenSSL begins anywhere and counts up, others begin with 0.
    first_nonce: u64,
}

impl Writer {
    fn v13(suite: &'static Suite, secret: &[u8]) -> Self {
        let (mut key, mut iv) = (vec![0; suite.bulk.key_len()], vec![0; 12]);
        expand_label(suite.hash, secret, "key", &mut key);
        expand_label(suite.hash, secret, "iv", &mut iv);
        let secret = secret.to_vec();
        Self {
            suite,
            secret,
            key,
            iv,
            mac_key: Vec::new(),
            number: 0,
            is_encrypted_first: false,
            padding: 0,
            first_nonce: 0,
        }
    }

    fn v12(suite: &'static Suite, master: &[u8], is_server: bool, is_encrypted_first: bool) -> Self {
        let (mac_len, iv_len) = match suite.bulk {
            Bulk::Aes128Gcm | Bulk::Aes256Gcm => (0, 4),
            Bulk::ChaCha20Poly1305 => (0, 12),
            Bulk::Aes128Cbc(hash) | Bulk::Aes256Cbc(hash) => (hash.len(), 0),
        };
        let key_len = suite.bulk.key_len();
        let block = key_block(suite.hash, master, &SERVER_RANDOM, &RANDOM, 2 * (mac_len + key_len + iv_len));
        let side = usize::from(is_server);
        let part = |from: usize, len: usize| block[from + side * len..from + (side + 1) * len].to_vec();
        Self {
            suite,
            secret: Vec::new(),
            mac_key: part(0, mac_len),
            key: part(2 * mac_len, key_len),
            iv: part(2 * (mac_len + key_len), iv_len),
            number: 0,
            is_encrypted_first,
            padding: 0,
            first_nonce: 0x8122_3344_5566_7788,
        }
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let number = self.number.to_be_bytes();
        self.number += 1;
        let is_13 = self.suite.version == Version::Tls13;
        let mut nonce = [0; 12];
        nonce[..self.iv.len()].copy_from_slice(&self.iv);
        let mut front = Vec::new();
        if self.iv.len() == 4 {
            front = (u64::from_be_bytes(number) + self.first_nonce).to_be_bytes().to_vec();
            nonce[4..].copy_from_slice(&front);
        } else {
            nonce[4..].iter_mut().zip(number).for_each(|(byte, number)| *byte ^= number);
        }
        let with_len = |head: &[u8], len: usize| [head, &(len as u16).to_be_bytes()].concat();
        let body = match self.suite.bulk {
            Bulk::Aes128Cbc(hash) | Bulk::Aes256Cbc(hash) => {
                let iv = [self.number as u8; 16];
                let head = [&number[..], &[kind, 3, 3]].concat();
                let mut text = content.to_vec();
                if !self.is_encrypted_first {
                    text.extend_from_slice(&mac(
                        hash,
                        &self.mac_key,
                        &[&with_len(&head, content.len()), content],
                    ));
                }
                let pad = 15 - text.len() % 16;
                text.extend(vec![pad as u8; pad + 1]);
                let mut blocks: Vec<aes::Block> =
                    text.chunks(16).map(|block| aes::cipher::Array(block.try_into().unwrap())).collect();
                if self.key.len() == 16 {
                    cbc::Encryptor::<aes::Aes128>::new_from_slices(&self.key, &iv)
                        .unwrap()
                        .encrypt_blocks(&mut blocks);
                } else {
                    cbc::Encryptor::<aes::Aes256>::new_from_slices(&self.key, &iv)
                        .unwrap()
                        .encrypt_blocks(&mut blocks);
                }
                let text: Vec<u8> = blocks.iter().flatten().copied().collect();
                let tag = match self.is_encrypted_first {
                    true => {
                        mac(hash, &self.mac_key, &[&with_len(&head, 16 + text.len()), &iv, &text]).to_vec()
                    }
                    false => Vec::new(),
                };
                [&iv[..], &text, &tag].concat()
            }
            bulk => {
                let mut text = content.to_vec();
                let data = if is_13 {
                    text.push(kind);
                    text.extend(vec![0; self.padding]);
                    with_len(&[23, 3, 3], text.len() + 16)
                } else {
                    with_len(&[&number[..], &[kind, 3, 3]].concat(), text.len())
                };
                let nonce = aes::cipher::Array(nonce);
                let buffer = text.as_mut_slice().into();
                let tag = match bulk {
                    Bulk::Aes128Gcm => aes_gcm::Aes128Gcm::new_from_slice(&self.key)
                        .unwrap()
                        .encrypt_inout_detached(&nonce, &data, buffer),
                    Bulk::Aes256Gcm => aes_gcm::Aes256Gcm::new_from_slice(&self.key)
                        .unwrap()
                        .encrypt_inout_detached(&nonce, &data, buffer),
                    _ => chacha20poly1305::ChaCha20Poly1305::new_from_slice(&self.key)
                        .unwrap()
                        .encrypt_inout_detached(&nonce, &data, buffer),
                }
                .unwrap();
                [&front[..], &text, &tag].concat()
            }
        };
        [with_len(&[if is_13 { 23 } else { kind }, 3, 3], body.len()), body].concat()
    }

    /// KeyUpdate, and the keys after it.
    fn update(&mut self) -> Vec<u8> {
        let record = self.record(22, &[24, 0, 0, 1, 0]);
        *self = Self::v13(self.suite, &next_secret(self.suite.hash, &self.secret));
        record
    }
}

fn plain(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(content.len() as u16).to_be_bytes(), content].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, (body.len() >> 8) as u8, body.len() as u8], body].concat()
}

fn extensions(all: &[(u16, &[u8])]) -> Vec<u8> {
    let all: Vec<u8> = all
        .iter()
        .flat_map(|(kind, value)| {
            [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
        })
        .collect();
    [&(all.len() as u16).to_be_bytes()[..], &all].concat()
}

fn client_hello(early: bool) -> Vec<u8> {
    let name: &[u8] = b"\0\x0c\0\0\x09crm.local";
    let mut list = vec![(0, name), (22, &[][..]), (43, &[2, 3, 4][..])];
    if early {
        list.push((42, &[]));
    }
    let body = [&[3, 3][..], &RANDOM, &[0], &[0, 2, 0x13, 1], &[1, 0], &extensions(&list)].concat();
    plain(22, &message(1, &body))
}

fn server_hello(suite: &Suite, encrypt_then_mac: bool) -> Vec<u8> {
    let mut list: Vec<(u16, &[u8])> = Vec::new();
    if suite.version == Version::Tls13 {
        list.push((43, &[3, 4]));
    }
    if encrypt_then_mac {
        list.push((22, &[]));
    }
    let body =
        [&[3, 3][..], &SERVER_RANDOM, &[0], &suite.id.to_be_bytes(), &[0], &extensions(&list)].concat();
    plain(22, &message(2, &body))
}

/// A connection as it goes over the wire: who sent what, and what of it is content.
struct Talk {
    suite: &'static Suite,
    secrets: [Vec<u8>; 2],
    /// Of the handshake: the server's and the client's.
    handshake: [Vec<u8>; 2],
    master: Vec<u8>,
    writers: [Writer; 2],
    /// Pieces in order: is it the server's, its bytes, its content.
    pieces: Vec<(bool, Vec<u8>, Vec<u8>)>,
}

impl Talk {
    fn new(id: u16, encrypt_then_mac: bool) -> Self {
        let len = Suite::of(id).unwrap().hash.len();
        let secrets = [0x31, 0x32, 0x11, 0x12].map(|byte| vec![byte; len]);
        Self::with_secrets(id, encrypt_then_mac, secrets, vec![0x4d; 48])
    }

    /// The client's and the server's secret, and those of their handshake the other way round.
    fn with_secrets(id: u16, encrypt_then_mac: bool, all: [Vec<u8>; 4], master: Vec<u8>) -> Self {
        let suite = Suite::of(id).unwrap();
        let len = suite.hash.len();
        let [of_client, of_server, handshake_of_server, handshake_of_client] = all;
        let (secrets, handshake) = ([of_client, of_server], [handshake_of_server, handshake_of_client]);
        let mut pieces = vec![
            (false, client_hello(false), Vec::new()),
            (true, server_hello(suite, encrypt_then_mac), Vec::new()),
        ];
        let writers = if suite.version == Version::Tls13 {
            // The rest of the handshake is under other secrets.
            let mut of_server = Writer::v13(suite, &handshake[0]);
            let mut of_client = Writer::v13(suite, &handshake[1]);
            pieces.push((true, plain(20, &[1]), Vec::new()));
            pieces.push((true, of_server.record(22, &message(11, &[5; 900])), Vec::new()));
            pieces.push((true, of_server.record(22, &message(20, &vec![6; len])), Vec::new()));
            pieces.push((false, plain(20, &[1]), Vec::new()));
            pieces.push((false, of_client.record(22, &message(20, &vec![7; len])), Vec::new()));
            [Writer::v13(suite, &secrets[0]), Writer::v13(suite, &secrets[1])]
        } else {
            let mut writers =
                [false, true].map(|is_server| Writer::v12(suite, &master, is_server, encrypt_then_mac));
            for (side, writer) in writers.iter_mut().enumerate() {
                pieces.push((side == 1, plain(20, &[1]), Vec::new()));
                pieces.push((side == 1, writer.record(22, &message(20, &[8; 12])), Vec::new()));
            }
            writers
        };
        let mut talk = Self { suite, secrets, handshake, master, writers, pieces };
        if talk.suite.version == Version::Tls13 {
            let ticket = talk.writers[1].record(22, &message(4, &[9; 200]));
            talk.pieces.push((true, ticket, Vec::new()));
        }
        talk
    }

    fn say(&mut self, is_server: bool, content: &[u8]) {
        let record = self.writers[usize::from(is_server)].record(23, content);
        self.pieces.push((is_server, record, content.to_vec()));
    }

    fn update(&mut self, is_server: bool) {
        let record = self.writers[usize::from(is_server)].update();
        self.pieces.push((is_server, record, Vec::new()));
    }

    fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for known in self.known() {
            secrets.insert(known, BootTime::ZERO);
        }
        secrets
    }

    fn known(&self) -> Vec<Known> {
        let known = |label, bytes: &[u8]| Known {
            client_random: RANDOM,
            label,
            secret: Secret::new(bytes).unwrap(),
            origin: Origin::Given,
            joined: None,
        };
        match self.suite.version {
            Version::Tls13 => vec![
                known(Label::ClientTraffic, &self.secrets[0]),
                known(Label::ServerTraffic, &self.secrets[1]),
            ],
            Version::Tls12 => vec![known(Label::Master, &self.master)],
        }
    }

    /// What a client's socket moved.
    fn chunks(&self) -> Vec<(Direction, Chunk)> {
        let mut at = [0_u64; 2];
        let mut chunks = Vec::new();
        for (number, (is_server, bytes, _)) in self.pieces.iter().enumerate() {
            let side = usize::from(*is_server);
            let mark = Mark {
                at: BootTime::from_nanos(1 + number as u64),
                other_pos: at[1 - side],
                ..Mark::default()
            };
            chunks.push((
                direction(*is_server),
                Chunk::Bytes { pos: at[side], bytes: bytes.clone().into(), mark },
            ));
            at[side] += bytes.len() as u64;
        }
        chunks
    }

    /// Where each byte of content of a side stands on the wire.
    fn truth(&self, is_server: bool) -> BTreeMap<u64, u8> {
        let front = match (self.suite.bulk, self.suite.version) {
            (Bulk::Aes128Cbc(_) | Bulk::Aes256Cbc(_), _) => 16,
            (Bulk::Aes128Gcm | Bulk::Aes256Gcm, Version::Tls12) => 8,
            _ => 0,
        };
        let mut at = 0;
        let mut truth = BTreeMap::new();
        for (_, bytes, content) in self.pieces.iter().filter(|(of, ..)| *of == is_server) {
            truth.extend(content.iter().enumerate().map(|(n, byte)| (at + 5 + front + n as u64, *byte)));
            at += bytes.len() as u64;
        }
        truth
    }
}

/// What the client's socket reads is the server's.
fn direction(is_server: bool) -> Direction {
    if is_server { Direction::Ingress } else { Direction::Egress }
}

/// What was opened of a side: bytes by their place on the wire, and the length of the plaintext with its gaps.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    bytes: BTreeMap<u64, u8>,
    len: u64,
    gaps: u64,
}

fn run(session: &mut Session, secrets: &Secrets, chunks: &[(Direction, Chunk)]) -> [Seen; 2] {
    let mut seen = [Seen::default(), Seen::default()];
    for (direction, chunk) in chunks {
        session.offer(*direction, chunk);
        collect(session, secrets, &mut seen);
    }
    seen
}

fn collect(session: &mut Session, secrets: &Secrets, seen: &mut [Seen; 2]) {
    while let Some((direction, chunk)) = session.poll(secrets, BootTime::ZERO) {
        let side = &mut seen[usize::from(direction == Direction::Ingress)];
        assert_eq!(chunk.pos(), side.len, "plaintext has no holes");
        side.len = chunk.end();
        match chunk {
            Chunk::Bytes { pos, bytes, .. } => {
                for (n, byte) in bytes.iter().enumerate() {
                    let wire = session.wire(direction, pos + n as u64, false).expect("just opened");
                    side.bytes.insert(wire, *byte);
                }
            }
            Chunk::Gap { len, .. } => side.gaps += len,
        }
    }
}

fn session() -> Session {
    Session::new(true, Some(Role::Client), bounds())
}

const SUITES: [(u16, bool); 12] = [
    (0x1301, false),
    (0x1302, false),
    (0x1303, false),
    (0xc02f, false),
    (0xc030, false),
    (0xcca8, false),
    (0xc013, false),
    (0xc014, true),
    (0xc027, true),
    (0xc028, false),
    (0x003d, false),
    (0x009c, false),
];

fn talk(id: u16, encrypt_then_mac: bool) -> Talk {
    let mut talk = Talk::new(id, encrypt_then_mac);
    talk.say(false, b"GET /orders/4711 HTTP/1.1\r\nHost: crm.local\r\n\r\n");
    talk.say(true, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    talk.say(true, b"ok");
    talk.say(true, b"");
    talk.say(false, &[0x17; 300]);
    talk
}

#[test]
fn every_suite_opens_to_what_was_written_where_it_stands() {
    for (id, encrypt_then_mac) in SUITES {
        let talk = talk(id, encrypt_then_mac);
        let mut session = session();
        let seen = run(&mut session, &talk.secrets(), &talk.chunks());
        for is_server in [false, true] {
            assert_eq!(seen[usize::from(is_server)].bytes, talk.truth(is_server), "{id:#06x}");
            assert_eq!(seen[usize::from(is_server)].gaps, 0, "{id:#06x}");
        }
        let facts = session.facts().unwrap();
        assert_eq!((facts.suite, facts.server_name.as_deref()), (talk.suite.name, Some("crm.local")));
        assert_eq!((session.held(), session.take_counts().failed), (0, 0));
    }
}

/// RFC 8448, section 3: the client's application data, octets 0 to 49.
#[test]
fn application_data_of_rfc_8448() {
    let hex = |text: &str| -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    let secret = hex(
        "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5",
    );
    let record = hex(
        "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b
         39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4",
    );
    let keys = cipher::Keys::v13(Suite::of(0x1301).unwrap(), &secret).unwrap();
    let opened = keys.open(record[..5].try_into().unwrap(), &record[5..], 0).unwrap();
    assert_eq!((opened.kind, opened.content), (23, (0..50).collect()));
}

#[test]
fn every_cut_of_both_streams_gives_the_same() {
    for (id, encrypt_then_mac) in [(0x1301, false), (0xc02f, false), (0xc014, true)] {
        let talk = talk(id, encrypt_then_mac);
        let secrets = talk.secrets();
        for size in 1..=40 {
            let mut pieces = Vec::new();
            for (direction, chunk) in talk.chunks() {
                let Chunk::Bytes { pos, bytes, mark } = chunk else { unreachable!() };
                for (n, piece) in bytes.chunks(size).enumerate() {
                    let pos = pos + (n * size) as u64;
                    pieces
                        .push((direction, Chunk::Bytes { pos, bytes: Bytes::copy_from_slice(piece), mark }));
                }
            }
            let seen = run(&mut session(), &secrets, &pieces);
            for is_server in [false, true] {
                assert_eq!(seen[usize::from(is_server)].bytes, talk.truth(is_server), "{id:#06x}, {size}");
            }
        }
    }
}

/// Replaces a part of one direction by a gap.
fn holed(chunks: &[(Direction, Chunk)], of: Direction, from: u64, to: u64) -> Vec<(Direction, Chunk)> {
    let mut out = Vec::new();
    for (direction, chunk) in chunks {
        let Chunk::Bytes { pos, bytes, mark } = chunk else { unreachable!() };
        let end = pos + bytes.len() as u64;
        if *direction != of || end <= from || to <= *pos {
            out.push((*direction, chunk.clone()));
            continue;
        }
        let (cut_from, cut_to) = (from.max(*pos), to.min(end));
        if cut_from > *pos {
            let bytes = bytes.slice(..(cut_from - pos) as usize);
            out.push((*direction, Chunk::Bytes { pos: *pos, bytes, mark: *mark }));
        }
        out.push((*direction, Chunk::Gap { pos: cut_from, len: cut_to - cut_from, mark: *mark }));
        if cut_to < end {
            let bytes = bytes.slice((cut_to - pos) as usize..);
            out.push((*direction, Chunk::Bytes { pos: cut_to, bytes, mark: *mark }));
        }
    }
    out
}

#[test]
fn every_gap_costs_what_it_covers_and_no_byte_is_wrong() {
    for (id, encrypt_then_mac) in
        [(0x1301, false), (0x1303, false), (0xc02f, false), (0xcca8, false), (0xc027, true)]
    {
        let mut talk = Talk::new(id, encrypt_then_mac);
        talk.say(true, b"the first");
        talk.say(true, b"the second of them all");
        talk.say(true, b"3");
        talk.say(true, b"the fourth");
        let (secrets, chunks, truth) = (talk.secrets(), talk.chunks(), talk.truth(true));
        let total =
            chunks.iter().filter(|(of, _)| *of == Direction::Ingress).map(|(_, c)| c.end()).max().unwrap();
        let (first, last) = (*truth.keys().next().unwrap(), *truth.keys().next_back().unwrap());
        // From the first record with content on: what is lost of a ticket cannot be told from content.
        for from in (first - 5..total).step_by(3) {
            for to in [from + 1, from + 7, from + 30, from + 61, from + 90] {
                let seen =
                    &run(&mut session(), &secrets, &holed(&chunks, Direction::Ingress, from, to.min(total)))
                        [1];
                for (wire, byte) in &seen.bytes {
                    assert_eq!(truth.get(wire), Some(byte), "{id:#06x}, {from}..{to}");
                }
                let what = format!("{id:#06x}, {from}..{to}: {seen:?}");
                // The last record is whole and begins where a record can be found: the plaintext before it has its length.
                if to + 40 < last
                    && seen.bytes.contains_key(&last)
                    && talk.suite.bulk.key_len() > 0
                    && !encrypt_then_mac
                {
                    assert_eq!(seen.len, truth.len() as u64, "{what}");
                }
                // What lies before the gap is there.
                let before = truth.range(..from.saturating_sub(90)).count();
                assert!(seen.bytes.len() >= before, "{what}");
            }
        }
    }
}

#[test]
fn a_handshake_is_not_taken_for_what_a_server_is_asked() {
    for id in [0x1301, 0x1302, 0xc030] {
        let mut talk = Talk::new(id, false);
        let whole = talk.pieces.len();
        talk.say(false, b"GET / HTTP/1.1\r\n\r\n");
        let mut session = Session::new(true, Some(Role::Server), bounds());
        for (number, (direction, chunk)) in talk.chunks().into_iter().enumerate() {
            session.offer(direction.opposite(), &chunk);
            session.poll(&Secrets::default(), BootTime::ZERO);
            assert_eq!(session.has_read(), number >= whole, "{id:#06x} {number}");
        }
    }
}

#[test]
fn that_something_was_lost_is_told_before_its_answer() {
    for id in [0x1301, 0x1303, 0xc02f] {
        let mut talk = Talk::new(id, false);
        for said in ["one", "two", "three"] {
            talk.say(false, format!("question {said}").as_bytes());
            talk.say(true, format!("answer {said}").as_bytes());
        }
        let (secrets, chunks) = (talk.secrets(), talk.chunks());
        let second: Vec<u64> = talk.truth(false).into_iter().skip(12).map(|(wire, _)| wire).collect();
        let is_second = |chunk: &Chunk| chunk.pos() <= second[0] && second[0] < chunk.end();
        let (_, lost) =
            chunks.iter().find(|(of, chunk)| *of == Direction::Egress && is_second(chunk)).unwrap();
        let chunks = holed(&chunks, Direction::Egress, lost.pos(), lost.end());
        let mut session = session();
        let mut told = Vec::new();
        for (direction, chunk) in &chunks {
            session.offer(*direction, chunk);
            while let Some((direction, chunk)) = session.poll(&secrets, BootTime::ZERO) {
                told.push(match chunk {
                    Chunk::Bytes { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
                    Chunk::Gap { len, .. } => format!("{direction:?} gap of {len}"),
                });
            }
        }
        let expected = [
            "question one",
            "answer one",
            "Egress gap of 1",
            "answer two",
            "Egress gap of 11",
            "question three",
            "answer three",
        ];
        assert_eq!(told, expected, "{id:#06x}");
    }
}

#[test]
fn what_waits_for_its_secret_is_opened_from_the_first_byte() {
    for id in [0x1302, 0xc030] {
        let talk = talk(id, false);
        let (mut session, mut secrets) = (session(), Secrets::default());
        let seen = run(&mut session, &secrets, &talk.chunks());
        assert_eq!((seen, session.phase()), ([Seen::default(), Seen::default()], Phase::Waiting));
        assert_eq!(session.wants(), Some(RANDOM));
        assert!(session.held() > 0 && session.poll_timeout().is_some());
        let mut seen = [Seen::default(), Seen::default()];
        for known in talk.known() {
            secrets.insert(known, BootTime::ZERO);
            collect(&mut session, &secrets, &mut seen);
        }
        for is_server in [false, true] {
            assert_eq!(seen[usize::from(is_server)].bytes, talk.truth(is_server));
        }
        assert_eq!((session.held(), session.wants(), session.poll_timeout()), (0, None, None));
    }
}

#[test]
fn waiting_has_an_end_in_time_and_in_bytes() {
    let talk = talk(0x1301, false);
    let mut session = session();
    run(&mut session, &Secrets::default(), &talk.chunks());
    session.handle_timeout(BootTime::from_nanos(10_000_000_001));
    assert_eq!((session.phase(), session.held()), (Phase::Closed(Cause::Secret), 0));

    let mut long = Talk::new(0x1301, false);
    for _ in 0..20 {
        long.say(true, &[1; 16 << 10]);
    }
    let mut session = Session::new(true, None, bounds());
    run(&mut session, &Secrets::default(), &long.chunks());
    assert_eq!((session.phase(), session.held()), (Phase::Closed(Cause::Limit), 0));
}

#[test]
fn keys_are_updated_also_where_nobody_saw_it() {
    let mut talk = Talk::new(0x1301, false);
    talk.say(false, b"before");
    talk.update(false);
    talk.say(false, b"after");
    talk.update(false);
    talk.say(false, b"and again");
    let (secrets, chunks) = (talk.secrets(), talk.chunks());
    let mut whole = session();
    assert_eq!(run(&mut whole, &secrets, &chunks)[0].bytes, talk.truth(false));
    assert_eq!(whole.take_counts().updates, 2);
    // The first KeyUpdate is lost, then both are.
    let ends: Vec<u64> =
        chunks.iter().filter(|(of, _)| *of == Direction::Egress).map(|(_, c)| c.end()).collect();
    let n = ends.len();
    for (from, to, expected) in
        [(ends[n - 5], ends[n - 4], "beforeafterand again"), (ends[n - 5], ends[n - 2], "beforeand again")]
    {
        let seen = &run(&mut session(), &secrets, &holed(&chunks, Direction::Egress, from, to))[0];
        let text: Vec<u8> = seen.bytes.values().copied().collect();
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }
}

#[test]
fn a_connection_is_joined_in_the_middle_of_a_record() {
    for id in [0x1301, 0x1302, 0x1303] {
        let mut talk = Talk::new(id, false);
        talk.writers[0].padding = 16;
        for n in 0..200_u32 {
            talk.say(false, format!("request {n}").as_bytes());
            talk.say(true, format!("answer {n} of the server").as_bytes());
        }
        let chunks = talk.chunks();
        // The handshake and some, up to the middle of a record.
        let mut rest = chunks[150..].to_vec();
        let Chunk::Bytes { pos, bytes, mark } = rest[0].1.clone() else { unreachable!() };
        rest[0].1 = Chunk::Bytes { pos: pos + 9, bytes: bytes.slice(9..), mark };
        for role in [None, Some(Role::Client)] {
            let mut session = Session::new(false, role, bounds());
            let seen = run(&mut session, &talk.secrets(), &rest);
            for (side, seen) in seen.iter().enumerate() {
                let truth = talk.truth(side == 1);
                let first = *seen.bytes.keys().next().expect("something was opened");
                let after: BTreeMap<u64, u8> = truth.range(first..).map(|(at, byte)| (*at, *byte)).collect();
                assert_eq!(seen.bytes, after, "{id:#06x}");
                assert!(after.len() > 1000, "{id:#06x}: {}", after.len());
            }
            assert_eq!(session.client(), Some(Direction::Egress));
        }
    }
}

#[test]
fn early_data_stays_closed_and_is_a_gap() {
    let mut talk = Talk::new(0x1301, false);
    talk.pieces[0].1 = client_hello(true);
    let mut early = Writer::v13(talk.suite, &[0x77; 32]);
    talk.pieces.insert(1, (false, early.record(23, &[b'e'; 200]), Vec::new()));
    // One more after the server's hello, before the client's Finished.
    talk.pieces.insert(3, (false, early.record(23, &[b'e'; 100]), Vec::new()));
    talk.say(false, b"late");
    let mut session = session();
    let seen = run(&mut session, &talk.secrets(), &talk.chunks());
    assert_eq!(seen[0].bytes, talk.truth(false));
    assert_eq!((seen[0].gaps, session.take_counts().early), (300, 2));
}

#[test]
fn a_cut_record_shows_its_beginning() {
    for (id, len) in [(0x1301, 8000), (0xc02f, 900), (0xcca8, 900), (0xc014, 900)] {
        let mut talk = Talk::new(id, false);
        let answer: Vec<u8> = (0..len).map(|n| b'a' + (n % 26) as u8).collect();
        talk.say(true, b"first");
        talk.say(true, &answer);
        talk.say(true, b"next");
        let chunks = talk.chunks();
        let (_, cut) = &chunks[chunks.len() - 2];
        let chunks = holed(&chunks, Direction::Ingress, cut.pos() + 400, cut.end());
        let seen = &run(&mut session(), &talk.secrets(), &chunks)[1];
        let truth = talk.truth(true);
        assert!(seen.bytes.iter().all(|(wire, byte)| truth.get(wire) == Some(byte)), "{id:#06x}");
        assert!((365..=400).contains(&(seen.bytes.len() - 9)), "{id:#06x}: {}", seen.bytes.len());
        let padding = if id == 0xc014 { 16 } else { 0 };
        assert!((seen.len - truth.len() as u64) <= padding, "{id:#06x}: {} of {}", seen.len, truth.len());
    }
}

#[test]
fn renegotiation_asks_for_the_new_secret() {
    let mut talk = Talk::new(0xc02f, false);
    talk.say(false, b"before");
    let hello = client_hello(false)[5..].to_vec();
    let answer = server_hello(talk.suite, false)[5..].to_vec();
    // Under the keys before.
    for (is_server, kind, content) in
        [(false, 22, hello), (true, 22, answer), (false, 20, vec![1]), (true, 20, vec![1])]
    {
        let record = talk.writers[usize::from(is_server)].record(kind, &content);
        talk.pieces.push((is_server, record, Vec::new()));
    }
    talk.writers = [false, true].map(|is_server| Writer::v12(talk.suite, &talk.master, is_server, false));
    for is_server in [false, true] {
        let record = talk.writers[usize::from(is_server)].record(22, &message(20, &[8; 12]));
        talk.pieces.push((is_server, record, Vec::new()));
    }
    talk.say(false, b"after");
    talk.say(true, b"answer");
    let seen = run(&mut session(), &talk.secrets(), &talk.chunks());
    assert_eq!((&seen[0].bytes, &seen[1].bytes), (&talk.truth(false), &talk.truth(true)));
}

#[test]
fn what_is_not_opened_is_closed_by_its_cause() {
    let close = |suite: [u8; 2], version: [u8; 2], compression: u8| {
        let body = [&version[..], &SERVER_RANDOM, &[0], &suite, &[compression], &[0, 0]].concat();
        let chunks =
            [(Direction::Egress, client_hello(false)), (Direction::Ingress, plain(22, &message(2, &body)))];
        let mut session = session();
        for (direction, bytes) in chunks {
            let chunk = Chunk::Bytes { pos: 0, bytes: bytes.into(), mark: Mark::default() };
            run(&mut session, &Secrets::default(), &[(direction, chunk)]);
        }
        session.phase()
    };
    assert_eq!(close([0xc0, 0x9c], [3, 3], 0), Phase::Closed(Cause::Suite), "AES_128_CCM");
    assert_eq!(close([0x00, 0x2f], [3, 1], 0), Phase::Closed(Cause::Version));
    assert_eq!(close([0xc0, 0x2f], [3, 3], 1), Phase::Closed(Cause::Compression));
    assert_eq!(close([0xc0, 0x2f], [3, 3], 0), Phase::Greeting);
}

#[test]
fn a_wrong_secret_opens_nothing() {
    for id in [0x1301, 0xc02f, 0xc013] {
        let talk = talk(id, false);
        let mut secrets = Secrets::default();
        for mut known in talk.known() {
            known.secret = Secret::new(&vec![0x99; known.secret.bytes().len()]).unwrap();
            secrets.insert(known, BootTime::ZERO);
        }
        let seen = run(&mut session(), &secrets, &talk.chunks());
        assert_eq!(seen, [Seen::default(), Seen::default()], "{id:#06x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed, lost or put in between: what comes out is what was written, where it was written.
    #[test]
    fn no_byte_is_ever_wrong(
        which in 0..SUITES.len(),
        lengths in proptest::collection::vec((any::<bool>(), 0..600_usize), 1..12),
        flips in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        holes in proptest::collection::vec((any::<prop::sample::Index>(), 1..700_u64), 0..3),
    ) {
        let (id, encrypt_then_mac) = SUITES[which];
        let mut talk = Talk::new(id, encrypt_then_mac);
        for (n, (is_server, len)) in lengths.iter().enumerate() {
            let content: Vec<u8> = (0..*len).map(|at| (at * 7 + n * 13) as u8).collect();
            talk.say(*is_server, &content);
        }
        let truth = [talk.truth(false), talk.truth(true)];
        let mut chunks = talk.chunks();
        let is_unchanged = flips.is_empty();
        for flip in flips {
            let at = flip.index(chunks.len());
            let Chunk::Bytes { pos, bytes, mark } = chunks[at].1.clone() else { continue };
            let mut bytes = bytes.to_vec();
            let byte = flip.index(bytes.len());
            bytes[byte] ^= 0x40;
            chunks[at].1 = Chunk::Bytes { pos, bytes: bytes.into(), mark };
        }
        // What a cut record shows is not authenticated: whoever changes bytes cuts none.
        for (from, len) in holes.into_iter().filter(|_| is_unchanged) {
            let of = direction(len % 2 == 0);
            let total = chunks.iter().filter(|(other, _)| *other == of).map(|(_, chunk)| chunk.end()).max().unwrap_or(1);
            let from = from.index(total as usize) as u64;
            if chunks.iter().all(|(_, chunk)| matches!(chunk, Chunk::Bytes { .. })) {
                chunks = holed(&chunks, of, from, (from + len).min(total));
            }
        }
        let seen = run(&mut session(), &talk.secrets(), &chunks);
        for (side, seen) in seen.iter().enumerate() {
            let wrong = seen.bytes.iter().filter(|(wire, byte)| truth[side].get(wire) != Some(byte)).count();
            prop_assert!(wrong == 0, "{wrong} wrong of {}", seen.bytes.len());
        }
    }

    /// Bytes that nobody meant: nothing is held without bound, and nothing comes out.
    #[test]
    fn any_bytes_are_borne(pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 1..300)), 0..30)) {
        let talk = Talk::new(0x1301, false);
        let (mut session, secrets) = (session(), talk.secrets());
        let mut at = [0_u64; 2];
        for (is_server, bytes) in pieces {
            let side = usize::from(is_server);
            let chunk = Chunk::Bytes { pos: at[side], bytes: bytes.clone().into(), mark: Mark::default() };
            at[side] += bytes.len() as u64;
            let seen = run(&mut session, &secrets, &[(direction(is_server), chunk)]);
            prop_assert!(seen.iter().all(|seen| seen.bytes.is_empty()));
            prop_assert!(session.held() <= bounds().bytes + (64 << 10));
        }
    }
}
