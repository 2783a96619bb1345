//! Ciphertext of both directions of a connection, and secrets → plaintext in the order in which the process moved it.
//!
//! ```text
//!   Greeting ─hellos─▶ Waiting ─secrets─▶ Open ─▶ plaintext
//!      └─ no suite of ours, no secret, no room ─▶ Closed(cause)
//! ```
//!
//! What is protected waits in a queue until its secret is there, so that nothing of the beginning is lost. Both directions
//! wait in one queue: sessions are given what was moved in the order in which it was moved.
//!
//! Long because everything that can come before, between and after the hellos of two versions is decided here.
//!
//! *Owns* the handshake and what waits. *Must not know* where secrets come from, nor what the plaintext is.

use std::collections::VecDeque;
use std::time::Duration;

use super::cipher::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER_LEN, Keys, Kinds};
use super::half::{Half, Outcome};
use super::hello::{Message, ServerHello};
use super::older::Salts;
use super::proof::{DERIVATION, Kind, MAX_SAMPLES, Proof, Sample};
use super::record::{Piece, body_len};
use super::secret::{ClientRandom, Secrets, Set};
use super::suite::{Suite, Version};
use crate::record::{Direction, Mark, Role};
use crate::stream::Chunk;
use crate::time::BootTime;

/// A client's Finished under SHA-384 has 4 + 48 bytes, a type and a tag: what is longer, before it, is early data.
const MAX_FINISHED: usize = 96;
/// Times that all secrets are tried on a connection whose handshake was not seen.
const MAX_ADOPTIONS: u32 = 4;
/// Blocks that one such time may cost: some 20 ms.
const ADOPTION_BUDGET: u64 = 1 << 22;
/// Pieces that wait among which samples are looked for.
const MAX_SCANNED: usize = 64;
/// A question is asked again with a record that comes so much later. A search of a large memory takes a second.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// Why a connection stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A cipher suite that is not opened.
    Suite,
    /// TLS 1.1 or older.
    Version,
    /// TLS compression.
    Compression,
    /// No secret came in time, or before the connection ended.
    Secret,
    /// More had to wait for the secret than there is room for.
    Limit,
    /// Records did not open with the secret: they were changed, or too much of them was lost.
    Broken,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing that is protected was seen.
    Greeting,
    /// Protected records wait for their secret.
    Waiting,
    /// Records were opened.
    Open,
    Closed(Cause),
}

/// What may be told of an opened connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub version: Version,
    /// IANA's name, if the handshake told it.
    pub suite: Option<&'static str>,
    /// The name that the client asked for.
    pub server_name: Option<String>,
}

/// What happened since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records opened.
    pub opened: u64,
    /// Records that did not open although they should have.
    pub failed: u64,
    /// Records of early data (0-RTT), which stay closed: they are under a secret that nothing keeps.
    pub early: u64,
    /// KeyUpdates.
    pub updates: u64,
    /// What stood where a record should begin was none.
    pub malformed: u64,
}

#[derive(Clone, Debug, Default)]
struct Handshake {
    client_random: Option<ClientRandom>,
    server_random: Option<[u8; 32]>,
    suite: Option<&'static Suite>,
    encrypt_then_mac: bool,
    early_data: bool,
}

/// Bounds of what waits.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of one connection.
    pub bytes: usize,
    /// How long they may wait.
    pub time: Duration,
    /// How long after the end of their connection.
    pub after_end: Duration,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    ingress: Half,
    egress: Half,
    /// In which direction the client sends.
    client: Option<Direction>,
    handshake: Handshake,
    server_name: Option<String>,
    /// TLS 1.2: what the keys in force come from, once that direction changed to them.
    changed: [Option<Handshake>; 2],
    queue: VecDeque<(Direction, Piece)>,
    /// What came for the process and may be data.
    read: Read,
    held: usize,
    out: VecDeque<(Direction, Chunk)>,
    phase: Phase,
    waiting_since: Option<BootTime>,
    /// Times that all secrets were tried, and how many there were the last time.
    adoptions: (u32, usize),
    /// Names its secrets where its handshake was not seen.
    name: Option<ClientRandom>,
    asked: Option<Asked>,
    /// It is TLS 1.2, and its handshake was not seen: everything is protected.
    is_older_12: bool,
    /// It has keys of a secret that was found in memory.
    is_found: bool,
    counts: Counts,
    bounds: Bounds,
}

/// The last question.
#[derive(Clone, Copy, Debug)]
struct Asked {
    name: ClientRandom,
    /// For a key, not for a secret.
    for_key: bool,
    /// Samples of the client and of the server.
    counts: [usize; 2],
    at: BootTime,
}

/// Records that a process read and that look like data.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    data: u64,
    /// One of them, or what was lost, is longer than the end of a handshake.
    is_large: bool,
}

impl Read {
    fn note(&mut self, piece: &Piece) {
        let (is_data, len) = match piece {
            Piece::Record { header, .. } | Piece::Cut { header, .. } => {
                (header[0] == APPLICATION_DATA, body_len(header))
            }
            Piece::Hole { .. } => (true, usize::MAX),
        };
        self.data += u64::from(is_data);
        self.is_large |= is_data && len > MAX_FINISHED;
    }
}

enum Step {
    Done,
    Wait,
}

impl Session {
    /// `at_record`: both streams begin with a record. `role` is that of the process whose streams they are.
    pub fn new(at_record: bool, role: Option<Role>, bounds: Bounds) -> Self {
        let client = role.map(|role| match role {
            Role::Client => Direction::Egress,
            Role::Server => Direction::Ingress,
        });
        Self {
            ingress: Half::new(at_record),
            egress: Half::new(at_record),
            client,
            handshake: Handshake::default(),
            server_name: None,
            changed: [None, None],
            queue: VecDeque::new(),
            read: Read::default(),
            held: 0,
            out: VecDeque::new(),
            phase: Phase::Greeting,
            waiting_since: None,
            adoptions: (0, 0),
            name: None,
            asked: None,
            is_older_12: false,
            is_found: false,
            counts: Counts::default(),
            bounds,
        }
    }

    /// What its secrets are called where its handshake was not seen.
    pub fn with_name(mut self, name: ClientRandom) -> Self {
        self.name = Some(name);
        self
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes a chunk of ciphertext.
    pub fn offer(&mut self, direction: Direction, chunk: &Chunk) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        let (queue, held, read) = (&mut self.queue, &mut self.held, &mut self.read);
        let half = match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        };
        let malformed = half.framer.malformed;
        half.framer.push(chunk, &mut |piece| {
            *held = held.saturating_add(piece.held() + size_of::<Piece>());
            if direction == Direction::Ingress {
                read.note(&piece);
            }
            queue.push_back((direction, piece));
        });
        self.counts.malformed += half.framer.malformed - malformed;
    }

    /// The next piece of plaintext, in plaintext positions.
    pub fn poll(&mut self, secrets: &Secrets, now: BootTime) -> Option<(Direction, Chunk)> {
        loop {
            if let Some(chunk) = self.out.pop_front() {
                return Some(chunk);
            }
            if matches!(self.phase, Phase::Closed(_)) {
                return None;
            }
            let (direction, piece) = self.queue.pop_front()?;
            match self.step(direction, &piece, secrets) {
                Step::Done => self.held = self.held.saturating_sub(piece.held() + size_of::<Piece>()),
                Step::Wait => {
                    self.queue.push_front((direction, piece));
                    self.waiting_since.get_or_insert(now);
                    if self.phase == Phase::Greeting {
                        self.phase = Phase::Waiting;
                    }
                    self.is_older_12 = self.is_older_12 || self.counts_up();
                    if self.held > self.bounds.bytes {
                        self.close(Cause::Limit);
                    }
                    return None;
                }
            }
            self.waiting_since = None;
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: BootTime) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.close(Cause::Secret);
        }
    }

    /// When it gives up waiting.
    pub fn poll_timeout(&self) -> Option<BootTime> {
        self.waiting_since.map(|since| since + self.bounds.time)
    }

    /// Gives up; every byte that waits goes.
    pub fn close(&mut self, cause: Cause) {
        self.phase = Phase::Closed(cause);
        (self.queue, self.out) = (VecDeque::new(), VecDeque::new());
        (self.held, self.waiting_since) = (0, None);
        for direction in [Direction::Ingress, Direction::Egress] {
            self.half(direction).change_keys();
        }
    }

    /// It was opened with a secret that was found in memory.
    pub fn is_found(&self) -> bool {
        self.is_found
    }

    /// The process may have read data. In TLS 1.3 the end of a client's handshake looks like data, and is told by its length.
    pub fn has_read(&self) -> bool {
        let Read { data, is_large } = self.read;
        is_large || data > u64::from(self.version() == Some(Version::Tls13))
    }

    /// Whose secret is waited for.
    pub fn wants(&self) -> Option<ClientRandom> {
        self.waiting_since?;
        let changed = self.changed.iter().flatten().find_map(|handshake| handshake.client_random);
        changed.or(self.handshake.client_random).or(self.name)
    }

    /// Whose secret was asked for and is still waited for, or was to the end.
    pub fn asked(&self) -> Option<ClientRandom> {
        let waits = self.waiting_since.is_some() || matches!(self.phase, Phase::Closed(_));
        self.asked.filter(|_| waits).map(|asked| asked.name)
    }

    /// By what its secret is told, as often as there is more of that than before, and again after a while: there may have been no
    /// room for the question.
    pub fn poll_proof(&mut self, now: BootTime) -> Option<Proof> {
        let name = self.wants()?;
        let proof = self.proof(name)?;
        let counts = proof.counts();
        let for_key = self.is_older_12;
        let is_more = |asked: Asked| {
            let has_more = counts.iter().zip(asked.counts).any(|(now, before)| *now > before);
            asked.name != name || asked.for_key != for_key || has_more || now.since(asked.at) >= ASKED_AGAIN
        };
        if proof.is_done() || !self.asked.is_none_or(is_more) {
            return None;
        }
        self.asked = Some(Asked { name, for_key, counts, at: now });
        Some(proof)
    }

    /// The handshake was not seen, and it was one of TLS 1.2: nonces on the wire count up.
    fn counts_up(&self) -> bool {
        let counts_up = |direction| {
            let nonces = self.queue.iter().take(MAX_SCANNED).filter_map(|(of, piece)| match piece {
                Piece::Record { header, body, .. } if *of == direction && header[0] == APPLICATION_DATA => {
                    body.first_chunk::<8>().map(|nonce| u64::from_be_bytes(*nonce))
                }
                _ => None,
            });
            nonces.clone().zip(nonces.skip(1)).any(|(one, next)| one.wrapping_add(1) == next)
        };
        self.handshake.suite.is_none() && [Direction::Ingress, Direction::Egress].into_iter().any(counts_up)
    }

    fn proof(&self, name: ClientRandom) -> Option<Proof> {
        let side = |direction| usize::from(!self.is_client(direction));
        let mut samples = [Vec::new(), Vec::new()];
        // The first record that waits is the first under new keys of TLS 1.2: a Finished.
        let (direction, first) = self.queue.front()?;
        if let Some(handshake) = &self.changed[at(*direction)] {
            let Piece::Record { header, body, .. } = first else { return None };
            samples[side(*direction)].push(Sample { header: *header, body: body.clone() });
            let kind = Kind::Master {
                suite: handshake.suite?,
                client_random: handshake.client_random?,
                server_random: handshake.server_random?,
                encrypt_then_mac: handshake.encrypt_then_mac,
            };
            return Some(Proof { name, kind, samples });
        }
        let mut is_joined = [false; 2];
        for direction in [Direction::Ingress, Direction::Egress] {
            let half = self.half_of(direction);
            if half.has_keys() {
                continue;
            }
            let pieces = self.queue.iter().take(MAX_SCANNED).filter(|(of, _)| *of == direction);
            // Where bytes were lost, or the beginning was not seen, the first number is not known.
            let is_unknown = self.handshake.suite.is_none()
                || half.is_joined
                || half.has_hole()
                || pieces.clone().any(|(_, piece)| matches!(piece, Piece::Hole { .. }));
            let protected = pieces.filter_map(|(_, piece)| match piece {
                Piece::Record { header, body, .. } if header[0] == APPLICATION_DATA => {
                    Some(Sample { header: *header, body: body.clone() })
                }
                _ => None,
            });
            is_joined[side(direction)] = is_unknown;
            samples[side(direction)] = if is_unknown || self.is_older_12 {
                // One is enough, and a small one is tried quickest.
                protected.take(MAX_SAMPLES).min_by_key(|sample| sample.body.len()).into_iter().collect()
            } else {
                // The first is under the secret of the handshake, which lies in memory as well.
                protected.skip(1).take(MAX_SAMPLES).collect()
            };
        }
        let kind = if self.is_older_12 {
            Kind::Key { salts: [Salts::default(), Salts::default()] }
        } else {
            Kind::Traffic { suite: self.handshake.suite, is_joined }
        };
        Some(Proof { name, kind, samples })
    }

    /// Whether the client sends in this direction. Where nobody said so, the two only have to be told apart.
    fn is_client(&self, direction: Direction) -> bool {
        self.client.map_or(direction == Direction::Egress, |client| client == direction)
    }

    fn half_of(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// In which direction the client sends, once that is known.
    pub fn client(&self) -> Option<Direction> {
        self.client
    }

    /// Captured bytes held.
    pub fn held(&self) -> usize {
        let halves = [&self.ingress, &self.egress];
        halves.iter().fold(self.held, |sum, half| {
            sum.saturating_add(half.framer.held()).saturating_add(half.messages.held())
        })
    }

    /// Bytes of what is known beside captured ones: keys, and where records stood.
    pub fn state_bytes(&self) -> usize {
        [&self.ingress, &self.egress]
            .iter()
            .fold(0, |sum: usize, half| sum.saturating_add(half.state_bytes()))
    }

    /// What is known of it, once a record was opened.
    pub fn facts(&self) -> Option<Facts> {
        let suite = self.handshake.suite.filter(|_| self.phase == Phase::Open)?;
        Some(Facts { version: suite.version, suite: suite.name, server_name: self.server_name.clone() })
    }

    /// Where a byte of the plaintext stands on the wire; an end stands after the byte before it. `None`: no longer known.
    pub fn wire(&self, direction: Direction, plain: u64, is_end: bool) -> Option<u64> {
        self.half_of(direction).positions.wire(plain, is_end)
    }

    /// What happened since the last time.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    fn step(&mut self, direction: Direction, piece: &Piece, secrets: &Secrets) -> Step {
        if let Piece::Record { first, .. } | Piece::Cut { first, .. } = piece {
            let opposite = direction.opposite();
            let (half, other, out) = self.parts(opposite);
            half.tell_hole(first.other_pos, &other.positions, &mut |chunk| out.push_back((opposite, chunk)));
        }
        match piece {
            Piece::Hole { pos, len, mark } => {
                self.half(direction).lose(*pos, *len, *mark);
                Step::Done
            }
            Piece::Cut { pos, header, prefix, first } => {
                let (half, other, out) = self.parts(direction);
                half.cut((*pos, header, prefix), *first, &other.positions, &mut |chunk| {
                    out.push_back((direction, chunk));
                });
                Step::Done
            }
            Piece::Record { pos, header, body, first, last } => {
                // Of what is read, nothing is known before its last byte; what is written was known before its first.
                let mark = match direction {
                    Direction::Ingress => *last,
                    Direction::Egress => *first,
                };
                let is_protected = match self.version() {
                    _ if self.changed[at(direction)].is_some() || self.is_older_12 => true,
                    Some(Version::Tls12) => false,
                    // Where there is no version yet: early data, or the handshake was not seen.
                    Some(Version::Tls13) | None => header[0] == APPLICATION_DATA,
                };
                match header[0] {
                    _ if is_protected => {
                        return self.protected(direction, (*pos, header, body), mark, secrets);
                    }
                    HANDSHAKE => {
                        let mut said = Vec::new();
                        self.half(direction).messages.push(body, &mut |message| said.push(message));
                        for message in said {
                            self.hear(direction, message);
                        }
                    }
                    CHANGE_CIPHER_SPEC if self.version() == Some(Version::Tls12) => self.change(direction),
                    // In TLS 1.3 it means nothing, and an alert this early is the end.
                    CHANGE_CIPHER_SPEC | ALERT => {}
                    _ => self.half(direction).lose(*pos, (HEADER_LEN + body.len()) as u64, mark),
                }
                Step::Done
            }
        }
    }

    fn version(&self) -> Option<Version> {
        self.handshake.suite.map(|suite| suite.version)
    }

    fn parts(&mut self, direction: Direction) -> (&mut Half, &Half, &mut VecDeque<(Direction, Chunk)>) {
        match direction {
            Direction::Ingress => (&mut self.ingress, &self.egress, &mut self.out),
            Direction::Egress => (&mut self.egress, &self.ingress, &mut self.out),
        }
    }

    /// A handshake message, in the clear or opened.
    fn hear(&mut self, direction: Direction, message: Message) {
        match message {
            Message::Client(hello) => {
                self.client = Some(direction);
                self.handshake = Handshake {
                    client_random: Some(hello.random),
                    early_data: hello.offers_early_data,
                    ..Handshake::default()
                };
                if hello.server_name.is_some() {
                    self.server_name = hello.server_name;
                }
            }
            Message::Server(hello) if !hello.is_retry => self.agree(direction, &hello),
            Message::Server(_) | Message::KeyUpdate | Message::Other => {}
        }
    }

    fn agree(&mut self, direction: Direction, hello: &ServerHello) {
        self.client = Some(direction.opposite());
        if hello.version < 0x0303 {
            return self.close(Cause::Version);
        }
        if hello.is_compressed {
            return self.close(Cause::Compression);
        }
        let version = if hello.version == 0x0304 { Version::Tls13 } else { Version::Tls12 };
        let Some(suite) = Suite::of(hello.suite).filter(|suite| suite.version == version) else {
            return self.close(Cause::Suite);
        };
        self.handshake.server_random = Some(hello.random);
        self.handshake.suite = Some(suite);
        self.handshake.encrypt_then_mac = hello.encrypt_then_mac;
    }

    /// TLS 1.2: what follows in this direction is under the keys that the handshake made.
    fn change(&mut self, direction: Direction) {
        self.changed[at(direction)] = Some(self.handshake.clone());
        self.half(direction).change_keys();
    }

    fn protected(
        &mut self,
        direction: Direction,
        (pos, header, body): (u64, &super::record::Header, &bytes::Bytes),
        mark: Mark,
        secrets: &Secrets,
    ) -> Step {
        let is_client = self.client == Some(direction);
        let is_12 = self.changed[at(direction)].is_some() || self.is_older_12;
        if !is_12
            && self.version().is_none()
            && self.handshake.early_data
            && self.handshake.client_random.is_some()
            && is_client
        {
            // Before the server said anything: early data.
            self.early(direction, pos, body.len(), mark);
            return Step::Done;
        }
        if !self.half(direction).has_keys() && !self.derive(direction, header, body, secrets) {
            return Step::Wait;
        }
        let mut said = Vec::new();
        let (half, other, out) = self.parts(direction);
        let outcome = half.open(
            (pos, header, body),
            mark,
            &other.positions,
            &mut |chunk| out.push_back((direction, chunk)),
            &mut |message| said.push(message),
        );
        match outcome {
            Outcome::Opened | Outcome::Updated => {
                self.phase = Phase::Open;
                self.counts.opened += 1;
                self.counts.updates += u64::from(outcome == Outcome::Updated);
                if is_12 {
                    // Renegotiation: the hellos are under the keys before.
                    for message in said {
                        self.hear(direction, message);
                    }
                    if header[0] == CHANGE_CIPHER_SPEC && !matches!(self.phase, Phase::Closed(_)) {
                        self.change(direction);
                    }
                }
            }
            Outcome::Foreign if is_client && self.handshake.early_data && body.len() > MAX_FINISHED => {
                self.early(direction, pos, body.len(), mark);
            }
            Outcome::Foreign => {}
            Outcome::Failed => self.counts.failed += 1,
            Outcome::Hopeless => self.close(Cause::Broken),
        }
        Step::Done
    }

    /// A record of early data: its bytes are a gap.
    fn early(&mut self, direction: Direction, pos: u64, body_len: usize, mark: Mark) {
        self.counts.early += 1;
        let len = body_len.saturating_sub(17) as u64;
        let (half, other, out) = self.parts(direction);
        half.skip(pos + HEADER_LEN as u64, len, mark, &other.positions, &mut |chunk| {
            out.push_back((direction, chunk))
        });
    }

    /// Gives a direction its keys, if their secret is there.
    fn derive(
        &mut self,
        direction: Direction,
        header: &super::record::Header,
        body: &bytes::Bytes,
        secrets: &Secrets,
    ) -> bool {
        let is_client = self.client == Some(direction);
        if let Some(handshake) = &self.changed[at(direction)] {
            let Handshake { client_random, server_random, suite, encrypt_then_mac, .. } = handshake;
            let (Some(client), Some(server), Some(suite)) = (client_random, server_random, *suite) else {
                return false;
            };
            let Some(set) = secrets.get(client) else { return false };
            let Some(master) = &set.master else { return false };
            let keys = Keys::v12(suite, master.bytes(), client, server, *encrypt_then_mac);
            let Some([of_client, of_server]) = keys else { return false };
            self.is_found |= set.is_found();
            self.half(direction).set_keys(suite, if is_client { of_client } else { of_server });
            return true;
        }
        if self.is_older_12 {
            return self.join(direction, secrets);
        }
        let (Some(random), Some(suite)) = (self.handshake.client_random, self.handshake.suite) else {
            return self.adopt(direction, header, body, secrets);
        };
        let Some(set) = secrets.get(&random) else { return false };
        let Some(secret) = of(set, is_client) else { return false };
        self.is_found |= set.is_found();
        let half = self.half(direction);
        half.set_secret(suite, secret);
        if let Some(joined) = set.joined[usize::from(!is_client)].filter(|_| half.is_joined) {
            half.join(joined.number);
        }
        half.has_keys()
    }

    /// The handshake was not seen, but somebody found this connection's own secret.
    fn join(&mut self, direction: Direction, secrets: &Secrets) -> bool {
        let Some(name) = self.handshake.client_random.or(self.name) else { return false };
        let Some(set) = secrets.get(&name) else { return false };
        let is_client = self.is_client(direction);
        let joined = set.joined[usize::from(!is_client)];
        let (Some(secret), Some(joined)) = (of(set, is_client), joined) else { return false };
        self.handshake.suite = Some(joined.suite);
        self.handshake.client_random = Some(name);
        self.is_older_12 = joined.is_key();
        self.is_found |= set.is_found();
        let half = self.half(direction);
        half.set_joined(secret, &joined);
        half.has_keys()
    }

    /// The handshake was not seen, or half of it: every secret is tried that may be this connection's.
    fn adopt(
        &mut self,
        direction: Direction,
        header: &super::record::Header,
        body: &bytes::Bytes,
        secrets: &Secrets,
    ) -> bool {
        if self.join(direction, secrets) {
            return true;
        }
        if self.adoptions.0 >= MAX_ADOPTIONS || secrets.len() == self.adoptions.1 {
            return false;
        }
        self.adoptions = (self.adoptions.0 + 1, secrets.len());
        let known = self.handshake.client_random;
        let sides: &[bool] = match self.client {
            Some(client) if client == direction => &[true],
            Some(_) => &[false],
            None => &[true, false],
        };
        let candidates = || {
            // A connection that was itself joined in the middle says less than its own secret does.
            let others = secrets.all().filter(|(_, set)| set.joined == [None; 2]);
            others.filter(|(random, _)| known.is_none_or(|known| known == **random)).flat_map(
                |(random, set)| {
                    sides
                        .iter()
                        .filter_map(move |side| Some((random, set.is_found(), *side, of(set, *side)?)))
                },
            )
        };
        let count = candidates().count().max(1) as u64;
        let window = (ADOPTION_BUDGET / count).clamp(8, 1 << 16);
        let mut budget = ADOPTION_BUDGET;
        for (random, is_found, is_client, secret) in candidates() {
            for suite in Suite::with_secret(secret.bytes().len()) {
                if budget == 0 {
                    return false;
                }
                budget = budget.saturating_sub(DERIVATION);
                let Some(keys) = Keys::v13(suite, secret.bytes()) else { continue };
                let (found, tried) = keys.find(header, body, 0..window, Kinds::Any);
                budget = budget.saturating_sub(tried);
                if let Some((number, _)) = found {
                    self.handshake.client_random = Some(*random);
                    self.handshake.suite = Some(suite);
                    self.is_found |= is_found;
                    self.client = Some(if is_client { direction } else { direction.opposite() });
                    let half = self.half(direction);
                    half.set_secret(suite, secret);
                    half.set_number(number);
                    return true;
                }
            }
        }
        false
    }
}

fn of(set: &Set, is_client: bool) -> Option<&std::sync::Arc<super::secret::Secret>> {
    if is_client { set.client.as_ref() } else { set.server.as_ref() }
}

fn at(direction: Direction) -> usize {
    match direction {
        Direction::Ingress => 0,
        Direction::Egress => 1,
    }
}
