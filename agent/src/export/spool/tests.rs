//! Order, bounds and damage of the spool.

use super::*;

const NOW: u64 = 1_700_000_000_000;

fn limits(max_bytes: u64) -> Limits {
    Limits { max_bytes, max_age: Duration::from_secs(3600) }
}

fn open(directory: &Path) -> Spool {
    Spool::open(directory, limits(1 << 20)).unwrap()
}

/// A payload that tells its number.
fn payload(number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![number as u8; len.max(4)];
    payload[..4].copy_from_slice(&number.to_le_bytes());
    payload
}

fn number(entry: &Entry) -> u32 {
    let number = u32::from_le_bytes(entry.payload[..4].try_into().unwrap());
    assert!(entry.payload[4..].iter().all(|byte| *byte == number as u8), "damaged payload given out");
    number
}

/// Takes everything out.
fn drain(spool: &mut Spool) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some(entry) = spool.oldest(NOW).unwrap() {
        numbers.push(number(&entry));
        spool.acknowledge(&entry).unwrap();
    }
    assert!(spool.is_empty());
    numbers
}

#[test]
fn batches_come_out_in_order_across_restarts_and_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    for n in 0..50 {
        spool.append(&payload(n, 10_000), 2, NOW).unwrap();
    }
    assert_eq!(spool.span_count(), 100);
    assert!(spool.segments.len() > 3, "one segment tests too little");
    for n in 0..20 {
        let entry = spool.oldest(NOW).unwrap().unwrap();
        assert_eq!(number(&entry), n);
        spool.acknowledge(&entry).unwrap();
    }
    drop(spool);
    let mut spool = open(directory.path());
    assert_eq!(spool.span_count(), 60);
    spool.append(&payload(50, 10), 2, NOW).unwrap();
    assert_eq!(drain(&mut spool), (20..=50).collect::<Vec<_>>());
    drop(spool);
    assert!(open(directory.path()).is_empty());
    assert_eq!(segment::list(directory.path()).unwrap(), []);
}

#[test]
fn batch_is_given_out_until_it_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    spool.append(&payload(1, 10), 1, NOW).unwrap();
    spool.append(&payload(2, 10), 1, NOW).unwrap();
    for _ in 0..3 {
        assert_eq!(number(&spool.oldest(NOW).unwrap().unwrap()), 1);
    }
    drop(spool);
    assert_eq!(drain(&mut open(directory.path())), [1, 2]);
}

#[test]
fn oldest_are_dropped_and_counted_when_full() {
    let directory = tempfile::tempdir().unwrap();
    let max_bytes = 400_000;
    let mut spool = Spool::open(directory.path(), limits(max_bytes)).unwrap();
    for n in 0..100 {
        spool.append(&payload(n, 10_000), 1, NOW).unwrap();
        assert!(spool.len_bytes() <= max_bytes);
    }
    let dropped = spool.discarded().full;
    assert!(dropped >= 60, "{dropped}");
    assert_eq!(spool.span_count(), 100 - dropped);
    assert_eq!(drain(&mut spool), (dropped as u32..100).collect::<Vec<_>>());
    let error = spool.append(&vec![0; 500_000], 1, NOW).unwrap_err();
    assert!(matches!(error, SpoolError::TooLarge { .. }), "{error}");
}

#[test]
fn dropped_batch_cannot_be_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(directory.path(), limits(200_000)).unwrap();
    spool.append(&payload(0, 60_000), 1, NOW).unwrap();
    let entry = spool.oldest(NOW).unwrap().unwrap();
    for n in 1..5 {
        spool.append(&payload(n, 60_000), 1, NOW).unwrap();
    }
    spool.acknowledge(&entry).unwrap();
    assert_eq!(drain(&mut spool), [2, 3, 4]);
}

#[test]
fn old_segments_expire() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    for n in 0..10 {
        spool.append(&payload(n, 60_000), 1, NOW).unwrap();
    }
    let later = NOW + 3_600_001;
    spool.append(&payload(10, 60_000), 1, later).unwrap();
    let entry = spool.oldest(later).unwrap().unwrap();
    assert_eq!(number(&entry), 10);
    assert_eq!(spool.discarded().expired, 10);
}

#[test]
fn segment_cut_at_any_byte_keeps_every_whole_batch() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    for n in 0..4 {
        spool.append(&payload(n, 20 + n as usize), 1, NOW).unwrap();
    }
    let path = spool.segments[0].path.clone();
    drop(spool);
    let whole = fs::read(&path).unwrap();
    let record_len = |n: usize| record::HEAD_LEN + 20 + n;
    for len in 0..=whole.len() {
        let _ = fs::remove_file(directory.path().join("cursor"));
        fs::write(&path, &whole[..len]).unwrap();
        let mut ends = (0..4).scan(segment::START as usize, |end, n| {
            *end += record_len(n);
            Some(*end)
        });
        let expected: Vec<u32> = (0..4).take_while(|_| ends.next().is_some_and(|end| end <= len)).collect();
        let mut spool = open(directory.path());
        // What was cut off is not in the way of what comes next.
        spool.append(&payload(9, 8), 1, NOW).unwrap();
        assert_eq!(spool.discarded().damaged_segments, 0, "cut at {len}");
        assert_eq!(drain(&mut spool), [expected, vec![9]].concat(), "cut at {len}");
    }
}

#[test]
fn flipped_bits_never_come_out_as_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    for n in 0..3 {
        spool.append(&payload(n, 16), 1, NOW).unwrap();
    }
    let path = spool.segments[0].path.clone();
    drop(spool);
    let whole = fs::read(&path).unwrap();
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        let _ = fs::remove_file(directory.path().join("cursor"));
        fs::write(&path, &damaged).unwrap();
        // A prefix of what was written, never anything else.
        let numbers = drain(&mut open(directory.path()));
        assert!(
            numbers.len() < 3 && numbers.iter().copied().eq(0..numbers.len() as u32),
            "{position}: {numbers:?}"
        );
    }
}

#[test]
fn damage_while_open_costs_the_rest_of_one_segment() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    for n in 0..12 {
        spool.append(&payload(n, 20_000), 1, NOW).unwrap();
    }
    let path = spool.segments[0].path.clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[30_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let numbers = drain(&mut spool);
    let damaged = spool.discarded().damaged;
    assert!(damaged > 0 && damaged < 6, "{damaged}");
    assert_eq!(numbers.len() as u64 + damaged, 12);
}

#[test]
fn damaged_cursor_repeats_but_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    for n in 0..3 {
        spool.append(&payload(n, 8), 1, NOW).unwrap();
    }
    let entry = spool.oldest(NOW).unwrap().unwrap();
    spool.acknowledge(&entry).unwrap();
    drop(spool);
    for content in [&b""[..], &[0; 20], &[0xff; 20], b"not a cursor"] {
        fs::write(directory.path().join("cursor"), content).unwrap();
        let mut spool = open(directory.path());
        assert_eq!(number(&spool.oldest(NOW).unwrap().unwrap()), 0, "{content:?}");
    }
}

#[test]
fn second_agent_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let error = Spool::open(directory.path(), limits(1 << 20)).unwrap_err();
    assert!(matches!(error, SpoolError::InUse(_)), "{error}");
    drop(first);
    open(directory.path());
}

#[test]
fn spool_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/spool");
    let mut spool = open(&directory);
    spool.append(b"secret", 1, NOW).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&spool.segments[0].path), 0o600);
}
