//! The fuzz targets as ordinary tests: over the committed corpus, over mutations of it, and over noise.

use std::path::PathBuf;

use spoor::config::Services;
use spoor::source::{Source, pcap, recording};
use spoor_core::protocol::Protocol;
use spoor_core::record::{ClockPair, Sender};
use spoor_core::time::{BootTime, WallTime};
use spoor_tests::captures::http2 as captures;
use spoor_tests::fuzz::TARGETS;
use spoor_tests::fuzz::script::Script;
use spoor_tests::recorded::{fixtures, transcripts};

/// Mutated inputs per target; `SPOOR_FUZZ_ROUNDS` sets another number. The fuzzer proper does billions; this catches what is shallow on every run.
const MUTATIONS: usize = 3000;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fixtures().join("fuzz-corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry of the corpus").path())
        .filter(|path| path.file_name().is_some_and(|name| name != "README.md"))
        .map(|path| (path.clone(), std::fs::read(&path).expect("a file of the corpus")))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target} has no corpus");
    inputs
}

#[test]
fn every_target_holds_on_its_corpus() {
    for (name, target) in TARGETS {
        for (path, input) in corpus(name) {
            println!("{}", path.display());
            target(&input);
        }
    }
}

#[test]
fn every_target_holds_on_mutations_and_noise() {
    let mutations = std::env::var("SPOOR_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        let inputs: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let mut random = Random(0x005e_ed0f_5900);
        for round in 0..mutations.unwrap_or(MUTATIONS) {
            let mut input = inputs[random.below(inputs.len())].clone();
            let other = &inputs[random.below(inputs.len())];
            for _ in 0..=random.below(6) {
                mutate(&mut input, other, &mut random);
            }
            // What fails is named by its round, which is always the same.
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                failures.push(format!("{name}, round {round}: {input:?}"));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A small generator with a fixed seed: failures come again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let len = random.below(24);
    match random.below(8) {
        0 if at < input.len() => input[at] = random.next() as u8,
        1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 => input.truncate(at),
        3 => drop(input.drain(at..(at + len).min(input.len()))),
        4 => {
            let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            input.splice(at..at, noise);
        }
        5 => {
            let copied = input[at..(at + len).min(input.len())].to_vec();
            input.splice(at..at, copied);
        }
        6 => {
            let from = random.below(other.len() + 1);
            let piece = other[from..(from + 8 * len).min(other.len())].to_vec();
            input.splice(at..at, piece);
        }
        // The script's header: role, cuts, holes.
        _ => (0..4).for_each(|n| {
            if let Some(byte) = input.get_mut(n) {
                *byte = random.next() as u8;
            }
        }),
    }
}

#[test]
fn every_protocol_has_a_target_of_its_folders_name() {
    for protocol in Protocol::ALL {
        let name = protocol.folder();
        assert!(
            TARGETS.iter().any(|(target, _)| *target == name),
            "no fuzz target `{name}` in tests/src/fuzz"
        );
    }
}

#[test]
fn every_target_has_a_binary() {
    let folder = fixtures().join("../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the fuzz crate's manifest");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "no [[bin]] {name}");
        let source = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).expect(name);
        assert!(source.contains(&format!("spoor_tests::fuzz::{name}(data)")), "{name} fuzzes something else");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

/// The transcripts as inputs, cut and holed in a few ways.
#[test]
fn the_corpus_has_every_transcript() {
    let headers = [[1, 0, 0, 1], [0, 7, 0, 0], [3, 40, 9, 4]];
    for target in ["http1", "detect", "pipeline"] {
        for (number, transcript) in transcripts("http1").expect("transcripts").iter().enumerate() {
            let header = headers[number % headers.len()];
            let records = transcript
                .reads
                .iter()
                .map(|(sender, bytes): &(Sender, Vec<u8>)| (*sender, bytes.as_slice()));
            is_committed(target, &transcript.name, &Script::write(header, records));
        }
    }
}

/// The first connections of the HTTP/2 captures as inputs: their first bytes each way, cut and holed in a few ways.
#[test]
fn the_corpus_has_http2() {
    let headers = [[1, 0, 0, 1], [0, 7, 0, 0], [3, 40, 9, 4], [0, 0, 5, 0]];
    for (number, capture) in captures::NAMES.iter().enumerate() {
        let header = headers[number % headers.len()];
        let segments = captures::segments(capture);
        let first = segments.first().expect("a capture has bytes").connection;
        let mut left = 3000_usize;
        let records = segments.iter().filter(|segment| segment.connection == first).map_while(|segment| {
            let bytes = segment.bytes.get(..left).unwrap_or(&segment.bytes);
            left -= bytes.len();
            (!bytes.is_empty()).then_some((segment.from, bytes))
        });
        let input = Script::write(header, records);
        for target in ["http2", "detect", "pipeline"] {
            is_committed(target, &format!("http2-{capture}"), &input);
        }
    }
}

/// The packets of a capture as a recording of our own.
#[test]
fn the_corpus_has_a_recording() {
    let capture = std::fs::read(fixtures().join("fuzz-corpus/pcap/ethernet-pcap")).expect("a capture");
    let mut source =
        pcap::Reader::new("capture".to_owned(), capture.as_slice(), &Services::default()).expect("a capture");
    let started =
        ClockPair { boot: BootTime::from_nanos(5), wall: WallTime::from_nanos(1_800_000_000_000_000_000) };
    let header =
        recording::Header { started: Some(started), boot_id: "boot".to_owned(), ..Default::default() };
    let mut writer = recording::Writer::new(Vec::new(), &header).expect("writing to memory");
    while let Some(record) = source.next().expect("a whole capture") {
        writer.write(&record).expect("writing to memory");
    }
    is_committed("recording", "one-exchange", &writer.into_inner().expect("writing to memory"));
}

/// `UPDATE_EXPECT=1` writes it instead.
fn is_committed(target: &str, name: &str, input: &[u8]) {
    let path = fixtures().join("fuzz-corpus").join(target).join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creating the folder");
        std::fs::write(&path, input).expect("writing the corpus");
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(committed == input, "{} is out of date: run with UPDATE_EXPECT=1", path.display());
}
