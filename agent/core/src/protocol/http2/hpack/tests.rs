//! The standard's own examples, another decoder on the same bytes, and what may come instead.

use loona_hpack::decoder::DecoderError;
use proptest::prelude::*;

use super::look::Look;
use super::*;
use crate::record::Sender;

/// `name: value`, `?` for what cannot be known.
fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut fields = Vec::new();
    let text =
        |part: Option<&[u8]>| part.map_or("?".to_owned(), |part| String::from_utf8_lossy(part).into_owned());
    decoder.decode(block, |field| fields.push(format!("{}: {}", text(field.name), text(field.value))))?;
    Ok(fields)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Blocks of one connection, with what each says.
fn check(table_size: Option<usize>, blocks: &[(&str, &[&str])]) {
    let mut decoder = Decoder::new(true);
    if let Some(size) = table_size {
        decoder.table.resize(size);
    }
    for (block, expected) in blocks {
        assert_eq!(decode(&mut decoder, &hex(block)).expect(block), *expected, "{block}");
    }
}

#[test]
fn single_representations() {
    // RFC 7541, Appendix C.2.
    check(
        None,
        &[(
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &["custom-key: custom-header"],
        )],
    );
    check(None, &[("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"])]);
    check(None, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"])]);
    check(None, &[("82", &[":method: GET"])]);
}

const FIRST: &[&str] = &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
const SECOND: &[&str] =
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"];
const THIRD: &[&str] = &[
    ":method: GET",
    ":scheme: https",
    ":path: /index.html",
    ":authority: www.example.com",
    "custom-key: custom-value",
];

#[test]
fn requests_with_and_without_huffman() {
    // Appendices C.3 and C.4.
    check(
        None,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST),
            ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD),
        ],
    );
    check(
        None,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST),
            ("8286 84be 5886 a8eb 1064 9cbf", SECOND),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD),
        ],
    );
}

#[test]
fn responses_that_evict() {
    // Appendices C.5 and C.6, with a table of 256.
    let first: &[&str] = &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ];
    let second: &[&str] = &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ];
    let third: &[&str] = &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ];
    check(
        Some(256),
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                 6c65 2e63 6f6d",
                first,
            ),
            ("4803 3330 37c1 c0bf", second),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                third,
            ),
        ],
    );
    check(
        Some(256),
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                first,
            ),
            ("4883 640e ffc1 c0bf", second),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                third,
            ),
        ],
    );
}

#[test]
fn what_no_encoder_writes_is_malformed() {
    for (block, why) in [
        ("80", "index 0"),
        ("be", "an entry that is not there"),
        ("7e 01 61", "a name that is not there"),
        ("82 20", "a size update behind a field"),
        ("3fe2 1f", "a size update past what was allowed"),
        ("ff ffff ffff ff", "an integer without end"),
        ("ff 8080 8080 80", "an integer in too many octets"),
        ("40 05 61", "a name cut off"),
        ("40", "nothing behind the first octet"),
        ("00 81 ff 00", "padding of eight bits"),
        ("00 84 ffff ffff 00", "EOS in a string"),
    ] {
        let mut decoder = Decoder::new(true);
        assert_eq!(decode(&mut decoder, &hex(block)), Err(Malformed), "{why}");
    }
}

#[test]
fn an_update_holds_within_what_the_receiver_allows() {
    let mut decoder = Decoder::new(true);
    decoder.allow(8192);
    decoder.allow(100);
    assert_eq!(decode(&mut decoder, &hex("3fe1 3f 82")).unwrap(), [":method: GET"]);
    assert_eq!(decode(&mut decoder, &hex("3fe2 3f 82")), Err(Malformed));
}

#[test]
fn after_joining_only_what_came_since_is_known() {
    let mut decoder = Decoder::new(false);
    assert_eq!(
        decode(&mut decoder, &hex("82 86 be bf")).unwrap(),
        [":method: GET", ":scheme: http", "?: ?", "?: ?"]
    );
    // A value of its own behind a name that is not known, then both by index.
    assert_eq!(decode(&mut decoder, &hex("7f00 0161")).unwrap(), ["?: a"]);
    assert_eq!(decode(&mut decoder, &hex("be 44 022f 31")).unwrap(), ["?: a", ":path: /1"]);
    assert_eq!(decode(&mut decoder, &hex("be bf c0")).unwrap(), [":path: /1", "?: a", "?: ?"]);
    // An update to zero empties both tables: from here everything is known.
    assert_eq!(decode(&mut decoder, &hex("20 3fe1 1f 44 022f 32")).unwrap(), [":path: /2"]);
    assert_eq!(decode(&mut decoder, &hex("be")).unwrap(), [":path: /2"]);
    assert_eq!(decode(&mut decoder, &hex("bf")), Err(Malformed));
}

#[test]
fn a_lost_block_makes_the_table_unknown() {
    let mut decoder = Decoder::new(true);
    decode(&mut decoder, &hex("44 022f 31")).unwrap();
    let mut fields = 0;
    let cut = hex("82 44 022f 32 44 0a2f");
    assert_eq!(decoder.decode_beginning(&cut, |_| fields += 1), Ok(()));
    assert_eq!(fields, 2);
    assert_eq!(decode(&mut decoder, &hex("be")).unwrap(), ["?: ?"]);
}

#[test]
fn a_bomb_hands_out_slices_only() {
    // One entry of 4,000 octets, named 16,000 times: 64 MB for 20 kB.
    let mut block = vec![0x44, 0x7f, 0xa1, 0x1e];
    block.extend(std::iter::repeat_n(b'x', 4000));
    block.extend(std::iter::repeat_n(0xbe, 16_000));
    let mut decoder = Decoder::new(true);
    let (mut count, mut sum) = (0, 0);
    decoder.decode(&block, |field| (count, sum) = (count + 1, sum + field.size())).unwrap();
    assert_eq!((count, sum), (16_001, 16_001 * (5 + 4000 + 32)));
    assert!(decoder.value.capacity() + decoder.name.capacity() <= 2 * KEPT_SCRATCH);
}

#[test]
fn a_block_is_told_from_other_bytes() {
    let check = |block: &str, expected: Option<Option<Sender>>| {
        assert_eq!(look(&hex(block)).map(|look: Look| look.sender), expected, "{block}");
    };
    check("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", Some(Some(Sender::Client)));
    check("82 be bf c0", Some(Some(Sender::Client)));
    check("88 c1 c0 bf", Some(Some(Sender::Server)));
    check("4803 3330 37c1 c0bf", Some(Some(Sender::Server)));
    check("be bf", Some(None));
    // grpc-status: 0, as trailers have it.
    check("400b 6772 7063 2d73 7461 7475 7301 30", Some(Some(Sender::Server)));
    check("", None);
    check("82 88", None);
    check("90 82", None);
    check("80", None);
    check("00 0141 0161", None);
    check("00 00 0161", None);
    check("40 05 61", None);
}

/// What a test encoder writes: any representation that says the same.
#[derive(Clone, Debug)]
enum Written {
    Update(usize),
    Field { name: usize, value: usize, index: bool, by_name: bool, whole: bool, huffman: bool },
}

const NAMES: [&str; 7] =
    [":path", ":status", "x-order", "date", "content-type", "x", "a-name-that-is-long-enough-to-evict"];

fn value_of(number: usize) -> String {
    match number % 4 {
        0 => String::new(),
        1 => format!("/orders/{number}"),
        2 => "v".repeat(number % 300),
        _ => format!("{number}\u{7f}\u{e9}"),
    }
}

fn int(out: &mut Vec<u8>, first: u8, prefix: u32, mut value: usize) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    value -= mask;
    while value >= 128 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, value: &[u8], huffman: bool) {
    let mut coded = Vec::new();
    if huffman {
        huffman::encode(value, &mut coded);
    } else {
        coded.extend_from_slice(value);
    }
    int(out, if huffman { 0x80 } else { 0 }, 7, coded.len());
    out.extend(coded);
}

/// The encoder's own table: the plainest possible.
#[derive(Debug)]
struct Mirror {
    entries: Vec<(String, String)>,
    max: usize,
}

impl Mirror {
    fn evict(&mut self) {
        let size = |entry: &(String, String)| entry.0.len() + entry.1.len() + 32;
        while self.entries.iter().map(size).sum::<usize>() > self.max {
            self.entries.pop();
        }
    }

    fn find(&self, fits: impl Fn(&str, &str) -> bool) -> Option<usize> {
        self.entries.iter().position(|(name, value)| fits(name, value)).map(|at| at + 62)
    }

    fn write(&mut self, block: &[Written]) -> (Vec<u8>, Vec<(String, String)>) {
        let (mut out, mut fields) = (Vec::new(), Vec::new());
        for written in block {
            let Written::Field { name, value, index, by_name, whole, huffman } = written else {
                let Written::Update(size) = written else { unreachable!() };
                if fields.is_empty() {
                    int(&mut out, 0x20, 5, *size);
                    self.max = *size;
                    self.evict();
                }
                continue;
            };
            let (name, value) = (NAMES[name % NAMES.len()].to_owned(), value_of(*value));
            fields.push((name.clone(), value.clone()));
            if *whole && let Some(at) = self.find(|n, v| n == name && v == value) {
                int(&mut out, 0x80, 7, at);
                continue;
            }
            let (first, prefix) = if *index { (0x40, 6) } else { (0x10, 4) };
            match self.find(|n, _| n == name).filter(|_| *by_name) {
                Some(at) => int(&mut out, first, prefix, at),
                None => {
                    out.push(first);
                    text(&mut out, name.as_bytes(), *huffman);
                }
            }
            text(&mut out, value.as_bytes(), *huffman);
            if *index {
                self.entries.insert(0, (name, value));
                self.evict();
            }
        }
        (out, fields)
    }
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Written>>> {
    let field = (any::<[bool; 4]>(), 0..7_usize, 0..400_usize).prop_map(|(flags, name, value)| {
        let [index, by_name, whole, huffman] = flags;
        Written::Field { name, value, index, by_name, whole, huffman }
    });
    let written = prop_oneof![1 => (0..4096_usize).prop_map(Written::Update), 9 => field];
    prop::collection::vec(prop::collection::vec(written, 1..12), 1..30)
}

fn plain(fields: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

type Known = (Option<Vec<u8>>, Option<Vec<u8>>);

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Known>, Malformed> {
    let mut fields = Vec::new();
    let owned = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
    decoder.decode(block, |field| fields.push((owned(field.name), owned(field.value))))?;
    Ok(fields)
}

proptest! {
    #[test]
    fn every_block_says_what_was_written_and_what_another_decoder_reads(blocks in blocks()) {
        let mut mirror = Mirror { entries: Vec::new(), max: 4096 };
        let (mut ours, mut theirs) = (Decoder::new(true), loona_hpack::Decoder::new());
        for block in &blocks {
            let (bytes, fields) = mirror.write(block);
            let expected = plain(&fields);
            if fields.is_empty() {
                // They want a field behind an update.
                let _ = theirs.decode(&bytes);
            } else {
                prop_assert_eq!(theirs.decode(&bytes).expect("they decode"), expected.clone());
            }
            let known = decoded(&mut ours, &bytes).expect("we decode");
            let known: Vec<_> = known.into_iter().map(|(name, value)| (name.unwrap(), value.unwrap())).collect();
            prop_assert_eq!(known, expected);
        }
    }

    #[test]
    fn what_another_encoder_writes_is_read(blocks in blocks()) {
        let (mut ours, mut theirs) = (Decoder::new(true), loona_hpack::Encoder::new());
        for block in &blocks {
            let (_, fields) = Mirror { entries: Vec::new(), max: 4096 }.write(block);
            let expected = plain(&fields);
            let bytes = theirs.encode(expected.iter().map(|(name, value)| (&name[..], &value[..])));
            let known = decoded(&mut ours, &bytes).expect("we decode");
            let known: Vec<_> = known.into_iter().map(|(name, value)| (name.unwrap(), value.unwrap())).collect();
            prop_assert_eq!(known, expected);
        }
    }

    #[test]
    fn whoever_joins_late_or_misses_blocks_knows_less_but_nothing_else(
        blocks in blocks(),
        missed in prop::collection::vec(any::<bool>(), 30),
        from_start in any::<bool>(),
    ) {
        let mut mirror = Mirror { entries: Vec::new(), max: 4096 };
        let mut decoder = Decoder::new(from_start);
        for (block, missed) in blocks.iter().zip(missed) {
            let (bytes, fields) = mirror.write(block);
            if missed {
                decoder.lose();
                continue;
            }
            let known = decoded(&mut decoder, &bytes).expect("nothing is wrong with it");
            let expected = plain(&fields);
            prop_assert_eq!(known.len(), expected.len());
            for ((name, value), (true_name, true_value)) in known.into_iter().zip(expected) {
                prop_assert!(name.is_none_or(|name| name == true_name));
                prop_assert!(value.is_none_or(|value| value == true_value));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read_as_another_decoder_reads_them(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6)) {
        let (mut ours, mut theirs) = (Decoder::new(true), loona_hpack::Decoder::new());
        for block in &blocks {
            let _ = look(block);
            match (decoded(&mut ours, block), theirs.decode(block)) {
                (Ok(ours), Ok(theirs)) => {
                    let ours: Vec<_> = ours.into_iter().map(|(name, value)| (name.unwrap(), value.unwrap())).collect();
                    prop_assert_eq!(ours, theirs);
                }
                // Both are out of step now.
                (Err(_), Err(_)) => return Ok(()),
                // They let some things pass that the standard forbids: updates behind fields or past the limit, long
                // integers, long padding.
                (Err(_), Ok(_)) => return Ok(()),
                // And they want a field behind an update, which it does not ask for.
                (Ok(_), Err(DecoderError::SizeUpdateAtEnd)) => return Ok(()),
                (Ok(ours), Err(error)) => prop_assert!(false, "{:?} against {:?}", ours, error),
            }
        }
    }
}
