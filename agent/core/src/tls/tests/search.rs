//! Secrets are found in memory however libraries keep them, and nothing else is.

use super::super::search::{Effort, MARGIN, NEIGHBOURHOOD, Search, Shape};
use super::*;

/// Numbers without a pattern, the same in every run (SplitMix64).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let word = || {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)).to_le_bytes()
        };
        std::iter::repeat_with(word).take(len.div_ceil(8)).flatten().take(len).collect()
    }
}

/// How libraries keep a secret: where its bytes begin in what is written.
fn layouts(secret: &[u8]) -> Vec<(&'static str, Shape, usize, Vec<u8>)> {
    let len = secret.len();
    let field = |size: usize| [secret, &vec![0; size - len]].concat();
    let short = (len as u32).to_le_bytes();
    vec![
        (
            "OpenSSL, GnuTLS: a field of 64 bytes",
            Shape::Marked,
            4,
            [&[9; 4][..], &field(64), &[9; 8]].concat(),
        ),
        (
            "rustls: the same with its length",
            Shape::Marked,
            8,
            [&[9; 8][..], &field(64), &(len as u64).to_le_bytes()].concat(),
        ),
        (
            "a JVM: an array",
            Shape::Marked,
            16,
            [&[1, 0, 0, 0, 0, 0, 0, 0, 0x40, 8, 0, 0][..], &short, secret, &[1; 32]].concat(),
        ),
        (
            "a JVM without compressed class pointers",
            Shape::Marked,
            24,
            [&[1; 16][..], &short, &[0; 4], secret, &[1; 32]].concat(),
        ),
        (
            "Erlang to 26",
            Shape::Marked,
            16,
            [&[1; 8][..], &(len as u64).to_le_bytes(), secret, &[1; 32]].concat(),
        ),
        (
            "Erlang from 27",
            Shape::Marked,
            16,
            [&[1; 8][..], &(8 * len as u64).to_le_bytes(), secret, &[1; 32]].concat(),
        ),
        (
            "BoringSSL, at an odd address",
            Shape::BeforeLength,
            7,
            [&[9; 7][..], &field(48), &[len as u8], &[9; 32]].concat(),
        ),
        ("Go: an allocation", Shape::Aligned, 16, [&[9; 16][..], secret, &[9; 32]].concat()),
        ("on a word", Shape::Words, 20, [&[9; 20][..], secret, &[9; 32]].concat()),
        ("anywhere", Shape::Anywhere, 13, [&[9; 13][..], secret, &[9; 32]].concat()),
    ]
}

fn random_talk(id: u16, encrypt_then_mac: bool) -> Talk {
    let mut noise = Noise(id.into());
    let len = Suite::of(id).unwrap().hash.len();
    let all = std::array::from_fn(|_| noise.bytes(len));
    let mut talk = Talk::with_secrets(id, encrypt_then_mac, all, noise.bytes(48));
    talk.say(false, b"GET /orders/4711 HTTP/1.1\r\nHost: crm.local\r\n\r\n");
    talk.say(true, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    talk.say(false, &[0x17; 300]);
    talk.say(true, &[0x18; 30]);
    talk
}

/// Feeds all chunks; what waits asks. Returns the last question.
fn waiting(session: &mut Session, chunks: &[(Direction, Chunk)]) -> Proof {
    let mut last = None;
    for (direction, chunk) in chunks {
        session.offer(*direction, chunk);
        assert_eq!(session.poll(&Secrets::default(), BootTime::ZERO), None);
        last = session.poll_proof(BootTime::ZERO).or(last);
    }
    assert!(session.poll_proof(BootTime::ZERO).is_none(), "the same is not asked twice");
    last.expect("a question")
}

const BASE: u64 = 0x7f00_0000_1000;

/// What is left of a search, what it found, and in which shapes and places.
type Searched = (Search, Secrets, Vec<(Shape, u64)>);

/// Tries all ways in their order.
fn search(proof: Proof, memory: &[u8]) -> Searched {
    let (mut search, mut secrets, mut hits) = (Search::default(), Secrets::default(), Vec::new());
    search.add(proof);
    for (shape, effort) in Shape::WAYS {
        let mut from = BASE;
        while let Some(next) = search.scan(memory, BASE, from, (shape, effort), &mut |at, known| {
            hits.push((shape, at - BASE));
            secrets.insert(known, BootTime::ZERO);
        }) {
            assert!(next > from);
            from = next;
        }
    }
    (search, secrets, hits)
}

#[test]
fn secrets_are_found_in_whatever_way_libraries_keep_them() {
    for (id, encrypt_then_mac) in
        [(0x1301, false), (0x1302, false), (0x1303, false), (0xc030, false), (0xc014, true)]
    {
        let talk = random_talk(id, encrypt_then_mac);
        let wanted = match talk.suite.version {
            Version::Tls13 => &talk.secrets[0],
            Version::Tls12 => &talk.master,
        };
        for (name, shape, place, bytes) in layouts(wanted) {
            let mut noise = Noise(7);
            let mut memory = noise.bytes(256);
            // What must not be taken: the secrets of the handshake, which lie about as well.
            memory.extend(talk.handshake.concat());
            memory.resize(memory.len().next_multiple_of(16), 0);
            let at = memory.len() + place;
            memory.extend(bytes);
            memory.extend(noise.bytes(256));
            let mut session = session();
            let proof = waiting(&mut session, &talk.chunks());
            let (all, secrets, hits) = search(proof, &memory);
            assert_eq!(hits.first(), Some(&(shape, at as u64)), "{id:#06x} {name}: {hits:?}");
            assert_eq!(hits.len(), 1, "{id:#06x} {name}: {hits:?}");
            let mut seen = [Seen::default(), Seen::default()];
            collect(&mut session, &secrets, &mut seen);
            let of_client = &seen[0].bytes;
            match talk.suite.version {
                Version::Tls12 => {
                    assert_eq!(
                        (of_client, &seen[1].bytes),
                        (&talk.truth(false), &talk.truth(true)),
                        "{name}"
                    );
                    assert!(all.is_done(), "{name}: one secret is both directions'");
                }
                // The server's records wait on, and those after them: the order is kept.
                Version::Tls13 => assert!(!all.is_done(), "{name}"),
            }
        }
    }
}

#[test]
fn the_other_direction_is_found_beside_the_first() {
    for (id, distance) in [(0x1302, 49), (0x1301, 64), (0x1302, 64), (0x1303, 72), (0x1302, 999)] {
        let talk = random_talk(id, false);
        let [client, server] = &talk.secrets;
        let mut memory = Noise(5).bytes(2048);
        let at = 512;
        memory[at..at + 64].fill(0);
        memory[at..at + client.len()].copy_from_slice(client);
        let other = at + distance;
        memory[other..other + server.len()].copy_from_slice(server);
        if distance == 49 {
            (memory[at + 48], memory[other + 48]) = (48, 48);
        }
        let mut session = session();
        let proof = waiting(&mut session, &talk.chunks());
        let (all, secrets, hits) = search(proof, &memory);
        let places: Vec<u64> = hits.iter().map(|(_, at)| *at).collect();
        assert_eq!(places, [at as u64, other as u64], "{id:#06x} {distance}");
        assert!(hits.iter().all(|(shape, _)| *shape == hits[0].0), "{hits:?}: in the same pass");
        assert!(all.is_done() && all.proofs().is_empty());
        let mut seen = [Seen::default(), Seen::default()];
        collect(&mut session, &secrets, &mut seen);
        assert_eq!((&seen[0].bytes, &seen[1].bytes), (&talk.truth(false), &talk.truth(true)));
    }
}

#[test]
fn connections_older_than_the_agent_are_opened_from_what_is_seen_of_them() {
    for id in [0x1301, 0x1302, 0x1303] {
        let mut talk = random_talk(id, false);
        talk.writers[0].padding = 16;
        for n in 0..1500_u32 {
            talk.say(false, format!("request {n}").as_bytes());
            talk.say(true, format!("answer {n}").as_bytes());
        }
        let late: Vec<_> = talk.chunks().split_off(2900);
        let mut session = Session::new(false, Some(Role::Client), bounds()).with_name([3; 32]);
        let proof = waiting(&mut session, &late);
        let [client, server] = &talk.secrets;
        let field = |secret: &[u8]| [secret, &vec![0; 64 - secret.len()]].concat();
        let memory = [Noise(5).bytes(512), field(client), field(server), Noise(6).bytes(512)].concat();
        let (_, secrets, hits) = search(proof, &memory);
        assert_eq!(hits.len(), 2, "{id:#06x}: {hits:?}");
        let mut seen = [Seen::default(), Seen::default()];
        collect(&mut session, &secrets, &mut seen);
        let text = |side: usize| String::from_utf8(seen[side].bytes.values().copied().collect()).unwrap();
        assert!(text(0).ends_with("request 1498request 1499"), "{id:#06x}: {}", text(0));
        assert!(text(1).ends_with("answer 1498answer 1499"), "{id:#06x}: {}", text(1));
        assert_eq!(session.facts().unwrap().suite, talk.suite.name);
        assert_eq!(session.take_counts().failed, 0);
        assert_eq!(session.client(), Some(Direction::Egress));
    }
}

/// How programs keep keys of TLS 1.2: of OpenSSL the context of each direction, of a JVM arrays of each size.
fn key_layouts(talk: &Talk) -> Vec<(&'static str, Vec<u8>)> {
    let array = |bytes: &[u8]| {
        let len = bytes.len() as u32;
        let whole = [&[1, 0, 0, 0, 0, 0, 0, 0, 0x40, 8, 0, 0][..], &len.to_le_bytes(), bytes].concat();
        [&whole[..], &vec![0; whole.len().next_multiple_of(8) - whole.len()]].concat()
    };
    let context = |writer: &Writer| {
        let next = (writer.first_nonce + writer.number).to_be_bytes();
        // A copy of the nonce at an odd address comes first.
        [
            &[0; 23][..],
            &writer.iv,
            &next,
            &[0; 29],
            &writer.iv,
            &next,
            &[0; 116],
            &[9; 24],
            &writer.key,
            &[7; 40],
        ]
        .concat()
    };
    let erlang = |bytes: &[u8]| {
        let len = bytes.len() as u64;
        [&[9; 8][..], &len.to_le_bytes(), bytes, &vec![0; bytes.len().next_multiple_of(8) - bytes.len()]]
            .concat()
    };
    let [client, server] = &talk.writers;
    vec![
        ("OpenSSL", [context(client), context(server)].concat()),
        ("a JVM", [array(&client.key), array(&server.iv), array(&server.key), array(&client.iv)].concat()),
        (
            "Erlang",
            [erlang(&server.key), erlang(&client.key), erlang(&client.iv), erlang(&server.iv)].concat(),
        ),
    ]
}

#[test]
fn connections_of_tls_12_older_than_the_agent_are_opened_by_their_keys() {
    for id in [0xc02f, 0xc030] {
        for (first, salts_matter) in
            [([0, 0], false), ([1 << 63, 0x8877_6655_4433_2211], true), ([0, 1 << 60], true)]
        {
            let mut talk = random_talk(id, false);
            for (writer, first) in talk.writers.iter_mut().zip(first) {
                writer.first_nonce = first;
            }
            for n in 0..300_u32 {
                // The smallest record, which is tried, is not the first that waits.
                let long = if n == 245 { ", and more" } else { "" };
                talk.say(false, format!("request {n}{long}").as_bytes());
                talk.say(true, format!("answer {n}{long}").as_bytes());
            }
            let late: Vec<_> = talk.chunks().split_off(500);
            for (name, bytes) in key_layouts(&talk) {
                let what = format!("{id:#06x} {first:?} {name}");
                let mut session = Session::new(false, Some(Role::Client), bounds()).with_name([3; 32]);
                let proof = waiting(&mut session, &late);
                let memory = [Noise(5).bytes(512), bytes, Noise(6).bytes(512)].concat();
                let (rest, secrets, hits) = search(proof.clone(), &memory);
                assert!(rest.is_done() && hits.len() == 2, "{what}: {hits:?}");
                let is_near = |(shape, _): &(Shape, u64)| *shape == Shape::Salts;
                assert!(
                    name != "OpenSSL" || first.contains(&0) || hits.iter().all(is_near),
                    "{what}: {hits:?}, beside its nonce"
                );
                let mut seen = [Seen::default(), Seen::default()];
                collect(&mut session, &secrets, &mut seen);
                let text =
                    |side: usize| String::from_utf8(seen[side].bytes.values().copied().collect()).unwrap();
                assert!(text(0).ends_with("request 298request 299"), "{what}: {}", text(0));
                assert!(text(1).ends_with("answer 298answer 299"), "{what}: {}", text(1));
                assert_eq!((seen[0].gaps, seen[1].gaps), (0, 0), "{what}");
                assert!(text(0).contains("request 245, and more"), "{what}: {}", text(0));
                let facts = session.facts().unwrap();
                assert_eq!(
                    (facts.version, facts.suite),
                    (Version::Tls12, None),
                    "how keys were agreed on is not known"
                );
                assert_eq!(session.take_counts().failed, 0);
                // Where its keys were, another connection's open nothing.
                let other = random_talk(if id == 0xc02f { 0xc030 } else { 0xc02f }, false);
                for (_, bytes) in key_layouts(&other) {
                    assert_eq!(search(proof.clone(), &bytes).2, [], "{what}");
                }
                // Keys without their salts are of no use where numbers are not sent.
                let keys = [
                    Noise(5).bytes(512),
                    talk.writers[0].key.clone(),
                    talk.writers[1].key.clone(),
                    vec![0; 64],
                ];
                let found = search(proof, &keys.concat()).2.len();
                let expected = first.iter().filter(|first| **first == 0).count();
                assert!(if salts_matter { found <= expected } else { found == 2 }, "{what}: {found}");
            }
        }
    }
}

#[test]
fn nothing_is_found_in_what_is_not_this_connections() {
    let talk = random_talk(0x1302, false);
    let mut session = session();
    let proof = waiting(&mut session, &talk.chunks());
    let other = {
        let mut noise = Noise(99);
        let all = std::array::from_fn(|_| noise.bytes(48));
        Talk::with_secrets(0x1302, false, all, noise.bytes(48))
    };
    let mut memory = Noise(4).bytes(2000);
    for secret in other.secrets.iter().chain([&other.master]) {
        memory.extend_from_slice(secret);
        memory.extend([0; 16]);
    }
    let (all, secrets, hits) = search(proof.clone(), &memory);
    assert_eq!(hits, []);
    assert!(all.candidates > 2_000 && secrets.is_empty());
    // Memory without anything random costs nothing.
    let dull = [
        vec![0; 5000],
        b"GET / HTTP/1.1\r\n".repeat(300),
        (0..5000_u64).flat_map(u64::to_le_bytes).collect(),
    ]
    .concat();
    let (all, _, hits) = search(proof, &dull);
    assert_eq!((hits, all.candidates), (Vec::new(), 0));
}

#[test]
fn one_connection_is_looked_for_alone_and_what_its_other_end_knows_is_not() {
    let talk = random_talk(0x1301, false);
    let [client, server] = &talk.secrets;
    let mut session = session();
    let proof = waiting(&mut session, &talk.chunks());
    let name = *proof.name();
    let mut all = Search::default();
    all.add(proof);
    let mut one = all.split_off(&name);
    assert!(all.proofs().is_empty() && one.proofs().len() == 1);
    let mut found = Vec::new();
    one.try_at(client, Effort::Near, &mut |known| found.push(known.label));
    one.try_at(server, Effort::Near, &mut |known| found.push(known.label));
    assert_eq!(found, [Label::ClientTraffic, Label::ServerTraffic]);
    assert_eq!(one.candidates, 2);
    all.put_back(one);
    assert_eq!((all.candidates, all.proofs().len()), (2, 0), "it has what it waited for");

    let mut all = Search::default();
    all.add(waiting(&mut self::session(), &talk.chunks()));
    all.know(&[9; 32], Label::ClientTraffic);
    assert!(!all.is_done(), "another connection's");
    all.know(&name, Label::ClientTraffic);
    assert!(!all.is_done(), "one direction's");
    all.know(&name, Label::ServerTraffic);
    assert!(all.proofs().is_empty());
}

#[test]
fn the_other_end_of_an_older_connection_is_told_by_its_secret_and_number() {
    for id in [0x1301, 0x1303] {
        let mut talk = random_talk(id, false);
        for n in 0..200_u32 {
            talk.say(false, format!("request {n}").as_bytes());
            talk.say(true, format!("answer {n}").as_bytes());
        }
        let late: Vec<_> = talk.chunks().split_off(300);
        let proof = |conn: u8, role| {
            let mut session = Session::new(false, Some(role), bounds()).with_name([conn; 32]);
            let turned = |(direction, chunk): &(Direction, Chunk)| match role {
                Role::Client => (*direction, chunk.clone()),
                Role::Server => (direction.opposite(), chunk.clone()),
            };
            waiting(&mut session, &late.iter().map(turned).collect::<Vec<_>>())
        };
        let mut one = Search::default();
        one.add(proof(1, Role::Client));
        let mut known = Vec::new();
        one.try_at(&talk.secrets[0], Effort::Far, &mut |found| known.push(found));
        let [known] = known.as_slice() else { panic!("{id:#06x}: {known:?}") };
        let mut other = Search::default();
        other.add(proof(2, Role::Server));
        let mut found = Vec::new();
        other.try_known(known, &mut |known| found.push(known));
        assert_eq!(found.len(), 1, "{id:#06x}");
        assert_eq!((found[0].client_random, found[0].label), ([2; 32], Label::ClientTraffic));
        assert_eq!(found[0].joined, known.joined);
        // Nothing else has it.
        let mut begun = Search::default();
        begun.add(waiting(&mut session(), &random_talk(id, false).chunks()));
        begun.try_known(known, &mut |_| panic!("its own numbers begin with 0"));
    }
}

#[test]
fn a_question_is_asked_again_after_a_while() {
    let talk = random_talk(0x1301, false);
    let mut session = session();
    waiting(&mut session, &talk.chunks());
    let at = |ms| BootTime::ZERO + Duration::from_millis(ms);
    assert!(session.poll_proof(at(1999)).is_none());
    assert!(session.poll_proof(at(2000)).is_some(), "there may have been no room for it");
    assert!(session.poll_proof(at(3999)).is_none());
}

#[test]
fn any_piece_is_searched_without_reading_past_it() {
    let talk = random_talk(0x1301, false);
    let mut session = session();
    let proof = waiting(&mut session, &talk.chunks());
    let secret = &talk.secrets[0];
    let memory = [Noise(1).bytes(40), secret.clone()].concat();
    for from in 0..memory.len() {
        for until in from..memory.len() {
            let mut all = Search::default();
            all.add(proof.clone());
            let rest = all.scan(
                &memory[from..until],
                from as u64,
                0,
                (Shape::BeforeLength, Effort::Near),
                &mut |_, _| panic!("it is not whole"),
            );
            assert_eq!(rest, None);
            all.try_at(&memory[from..until], Effort::Near, &mut |_| panic!("it is not whole"));
        }
    }
    const { assert!(MARGIN >= 64 + 16 && NEIGHBOURHOOD > 64) };
}
