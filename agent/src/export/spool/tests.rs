//! Order, bounds and damage of the spool, and what stands in its directory instead.

use std::fs;

use super::*;

const NOW: u64 = 1_700_000_000_000;

fn limits(max_bytes: u64) -> Limits {
    Limits { max_bytes, max_age: Duration::from_secs(3600) }
}

fn open(directory: &Path) -> Spool {
    Spool::open(directory, limits(1 << 20)).unwrap()
}

/// Where a segment of an open spool is.
fn path(spool: &Spool, index: usize) -> PathBuf {
    spool.directory.path_of(&spool.segments[index].name)
}

/// Names in a directory that end so, sorted.
fn names(directory: &Path, end: &str) -> Vec<String> {
    let all = fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<String> = all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(end));
    names.sort();
    names
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
    assert_eq!(names(directory.path(), ".segment"), [""; 0]);
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
    let path = path(&spool, 0);
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
    let path = path(&spool, 0);
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
    let path = path(&spool, 0);
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
    assert_eq!(mode(&path(&spool, 0)), 0o600);
}

#[test]
fn what_is_no_segment_of_our_own_is_left_alone_and_stops_nobody() {
    use rustix::fs::{CWD, Mode};
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut spool = open(directory.path());
    spool.append(&payload(1, 10), 1, NOW).unwrap();
    drop(spool);
    let segment = |number: u64| at(&format!("{number:020}.segment"));
    rustix::fs::mkfifoat(CWD, segment(2), Mode::RWXU).unwrap();
    fs::create_dir(segment(3)).unwrap();
    fs::copy(segment(1), at("copy")).unwrap();
    std::os::unix::fs::symlink(at("copy"), segment(4)).unwrap();
    fs::create_dir(at("5.segment")).unwrap();
    fs::write(segment(u64::MAX), "not ours").unwrap();
    let before = names(directory.path(), "");
    let mut spool = open(directory.path());
    spool.append(&payload(5, 10), 1, NOW).unwrap();
    assert!(segment(5).is_file(), "no name is used twice");
    assert_eq!(drain(&mut spool), [1, 5], "what a link leads to was exported");
    drop(spool);
    let after = names(directory.path(), "");
    assert!(
        before.iter().filter(|name| !name.contains("01.segment")).all(|name| after.contains(name)),
        "{after:?}"
    );
}

#[test]
fn links_in_the_place_of_cursor_and_lock_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (inside, victim) = (directory.path().join("spool"), directory.path().join("victim"));
    fs::write(&victim, "keep").unwrap();
    let mut spool = open(&inside);
    (0..3).for_each(|n| spool.append(&payload(n, 8), 1, NOW).unwrap());
    std::os::unix::fs::symlink(&victim, inside.join("cursor.new")).unwrap();
    std::os::unix::fs::symlink(&victim, inside.join("cursor")).unwrap();
    let entry = spool.oldest(NOW).unwrap().unwrap();
    spool.acknowledge(&entry).unwrap();
    drop(spool);
    assert_eq!(drain(&mut open(&inside)), [1, 2], "the cursor took the link's place");
    fs::remove_file(inside.join("lock")).unwrap();
    std::os::unix::fs::symlink(&victim, inside.join("lock")).unwrap();
    let error = Spool::open(&inside, limits(1 << 20)).unwrap_err().to_string();
    assert!(error.contains("lock` is a link") && error.contains("export.spool.directory"), "{error}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "keep");
}

#[test]
fn a_directory_that_others_may_write_is_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Spool::open(directory.path(), limits(1 << 20)).unwrap_err().to_string();
    assert!(error.contains("chmod go-w") && error.contains("export.spool.directory"), "{error}");
    assert_eq!(names(directory.path(), ""), [""; 0], "nothing was made in it");
}

/// A file that takes nothing more, but can be cut, as on a full disk.
fn full() -> File {
    use rustix::fs::{MemfdFlags, SealFlags};
    let file = rustix::fs::memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
    let file = File::from(file);
    file.set_len(segment::START).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
    std::io::Seek::seek(&mut (&file), std::io::SeekFrom::End(0)).unwrap();
    file
}

#[test]
fn a_full_disk_is_tried_again_in_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    spool.append(&payload(0, 8), 1, NOW).unwrap();
    let entry = spool.oldest(NOW).unwrap().unwrap();
    let (segment, file) = Segment::create(&spool.directory, 7).unwrap();
    spool.segments.push_back(segment);
    spool.writer = Some(full());
    for _ in 0..50 {
        let error = spool.append(&payload(1, 8), 1, NOW).unwrap_err();
        assert!(matches!(error, SpoolError::File(FileError::Io { what: "write", .. })), "{error}");
    }
    assert_eq!(names(directory.path(), ".segment").len(), 2, "each attempt left a file");
    // Room again.
    spool.writer = Some(file);
    spool.append(&payload(1, 8), 1, NOW).unwrap();
    spool.acknowledge(&entry).unwrap();
    assert_eq!(drain(&mut spool), [1]);
    assert_eq!(names(directory.path(), ".segment"), [""; 0]);
}

#[test]
fn a_length_without_end_costs_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path());
    spool.append(&payload(0, 8), 1, NOW).unwrap();
    let path = path(&spool, 0);
    drop(spool);
    // A head that announces 4 GiB, and a sparse file that has them.
    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut (&file), &[0xff; record::HEAD_LEN]).unwrap();
    file.set_len(6 << 30).unwrap();
    let before = std::time::Instant::now();
    let mut spool = open(directory.path());
    assert_eq!(spool.discarded().damaged_segments, 1);
    assert_eq!(drain(&mut spool), [0]);
    assert!(before.elapsed() < Duration::from_secs(5), "it was read");
}
