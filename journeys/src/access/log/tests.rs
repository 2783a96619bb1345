use std::os::unix::fs::PermissionsExt;

use super::*;

const NOW: At = At(20_000 * DAY);

fn open(folder: &Path) -> AccessLog {
    AccessLog::open(folder, [7; 32]).expect("a log")
}

fn viewed(who: &str, order: &str) -> Entry {
    Entry {
        who: who.to_owned(),
        action: "order.view".to_owned(),
        orders: vec![order.to_owned()],
        ..Entry::default()
    }
}

/// Three lines on two days.
fn written(folder: &Path) -> AccessLog {
    let log = open(folder);
    log.write(viewed("anna", "4711"), NOW).expect("written");
    log.write(viewed("boris", "12"), NOW).expect("written");
    log.write(viewed("boris", "4711"), NOW.after(DAY)).expect("written");
    log
}

fn wanted(order: Option<&str>, who: Option<&str>) -> Wanted {
    Wanted { order: order.map(str::to_owned), who: who.map(str::to_owned), limit: 100 }
}

#[test]
fn it_says_who_saw_an_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path());
    let who = |wanted| -> Vec<String> {
        log.reader().find(&wanted).expect("found").into_iter().map(|(_, entry)| entry.who).collect()
    };
    assert_eq!(who(wanted(Some("4711"), None)), ["boris", "anna"]);
    assert_eq!(who(wanted(None, Some("anna"))), ["anna"]);
    assert_eq!(who(wanted(Some("13"), None)), Vec::<String>::new());
    assert_eq!(log.reader().verify().expect("whole"), 3);
}

#[test]
fn the_chain_goes_on_after_a_restart_and_half_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(written(folder.path()));
    let last = files(folder.path()).expect("files").pop().expect("a file");
    let mut text = fs::read_to_string(&last).expect("a file");
    text.push_str("{\"n\":4,\"at\":\"20");
    fs::write(&last, text).expect("written");
    let log = open(folder.path());
    log.write(viewed("vera", "4711"), NOW.after(DAY)).expect("written");
    assert_eq!(log.reader().verify().expect("whole"), 4);
}

#[test]
fn only_the_latest_lines_that_there_is_room_for_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    for n in 0..30 {
        log.write(viewed("anna", &n.to_string()), NOW.after(n * DAY / 10)).expect("written");
    }
    let found = |limit| -> Vec<String> {
        let wanted = Wanted { limit, ..Wanted::default() };
        let found = log.reader().find(&wanted).expect("found");
        found.into_iter().map(|(_, entry)| entry.orders[0].clone()).collect()
    };
    assert_eq!(found(3), ["29", "28", "27"]);
    assert_eq!(found(13).last().map(String::as_str), Some("17"), "over days");
    assert_eq!(found(100).len(), 30);
    assert_eq!(found(0), Vec::<String>::new());
    // Lines of some three megabytes: six of them do not fit.
    for day in 10..13 {
        let long = Entry { orders: vec!["х".repeat(340); MAX_ORDERS], ..viewed("boris", "") };
        log.write(long.clone(), NOW.after(day * DAY)).expect("written");
        log.write(long, NOW.after(day * DAY)).expect("written");
    }
    let long = log.reader().find(&wanted(None, Some("boris"))).expect("found");
    let bytes: usize = long.iter().flat_map(|(_, entry)| &entry.orders).map(String::len).sum();
    assert!(long.len() < 6 && long.len() >= 4 && bytes <= MAX_FOUND, "{} lines, {bytes} bytes", long.len());
}

#[test]
fn half_a_line_is_cut_off_however_long_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(written(folder.path()));
    let last = files(folder.path()).expect("files").pop().expect("a file");
    let whole = fs::read(&last).expect("a file");
    for more in [1, 100, STEP as usize - 1, STEP as usize, STEP as usize + 1, 3 * STEP as usize] {
        fs::write(&last, [whole.as_slice(), &vec![b'x'; more]].concat()).expect("written");
        drop(open(folder.path()));
        assert_eq!(fs::read(&last).expect("a file"), whole, "{more}");
    }
    fs::write(&last, b"no line").expect("written");
    drop(open(folder.path()));
    assert_eq!(fs::read(&last).expect("a file"), b"");
}

#[test]
fn every_change_of_a_file_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path());
    let first = files(folder.path()).expect("files").remove(0);
    let good = fs::read_to_string(&first).expect("a file");
    let lines: Vec<&str> = good.lines().collect();
    let (one, two) = (lines[0], lines[1]);
    for (what, text) in [
        ("a name", good.replace("anna", "nana")),
        ("a line less at the beginning", format!("{two}\n")),
        ("a line less at the end of a day", format!("{one}\n")),
        ("lines the other way round", format!("{two}\n{one}\n")),
        ("a line twice", format!("{one}\n{one}\n{two}\n")),
        ("an invented line", format!("{one}\n{}\n{two}\n", one.replace("\"n\":1", "\"n\":2"))),
        ("nonsense", format!("{good}nonsense\n")),
    ] {
        fs::write(&first, text).expect("written");
        assert!(matches!(log.reader().verify(), Err(LogError::Broken { .. })), "{what}");
    }
    fs::write(&first, &good).expect("written");
    assert_eq!(log.reader().verify().expect("whole"), 3);
    fs::remove_file(&first).expect("removed");
    assert!(matches!(log.reader().verify(), Err(LogError::Broken { .. })), "a day less");
    let other = AccessLog::to_read(folder.path(), [8; 32]);
    assert!(matches!(other.verify(), Err(LogError::Broken { .. })), "another key");
}

#[test]
fn what_is_let_go_leaves_the_chain_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path());
    assert_eq!(log.retain(10 * DAY, NOW.after(5 * DAY)).expect("retained"), 0);
    assert_eq!(log.retain(10 * DAY, NOW.after(10 * DAY + DAY / 2)).expect("retained"), 0);
    assert_eq!(log.retain(10 * DAY, NOW.after(11 * DAY)).expect("retained"), 1);
    assert_eq!(log.reader().verify().expect("whole"), 1);
    let forged =
        fs::read_to_string(folder.path().join("anchor")).expect("an anchor").replace("\"n\":2", "\"n\":1");
    fs::write(folder.path().join("anchor"), forged).expect("written");
    assert!(matches!(log.reader().verify(), Err(LogError::Broken { .. })));
}

#[test]
fn hostile_text_stays_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let query = format!("a\n{{\"n\":9}}\",\"mac\":\"00\"}}{}", "x".repeat(1_000));
    log.write(Entry { query, ..Entry::default() }, NOW).expect("written");
    log.write(viewed("anna", "1"), NOW).expect("written");
    assert_eq!(log.reader().verify().expect("whole"), 2);
}
#[test]
fn no_number_is_lost_however_many_an_answer_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    // As long as a number can be, and none of them ASCII.
    let orders: Vec<String> =
        (0..10_000).map(|n| format!("{}:{n:0>128}", "ы".repeat(32)).replace('0', "😀")).collect();
    log.write(Entry { orders: orders.clone(), ..viewed("anna", "") }, NOW).expect("written");
    log.write(viewed("boris", "1"), NOW).expect("written");
    for order in [&orders[0], &orders[5_000], &orders[9_999]] {
        let found = log.reader().find(&wanted(Some(order), None)).expect("found");
        assert_eq!(found.len(), 1, "{order}");
    }
    assert_eq!(log.reader().verify().expect("whole"), 4, "three lines for the numbers");
    drop(log);
    let log = open(folder.path());
    log.write(viewed("vera", "1"), NOW).expect("written");
    assert_eq!(log.reader().verify().expect("the chain goes on behind long lines"), 5);
}

#[test]
fn a_line_that_is_too_long_or_no_text_is_never_passed_over() {
    for bad in [vec![b'x'; MAX_LINE + 10], vec![0xff; 10]] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path());
        let last = files(folder.path()).expect("files").pop().expect("a file");
        let mut bytes = fs::read(&last).expect("a file");
        bytes.extend(&bad);
        bytes.push(b'\n');
        fs::write(&last, bytes).expect("written");
        let found = log.reader().find(&wanted(None, Some("anna"))).expect("found");
        let said: Vec<&str> = found.iter().map(|(_, entry)| entry.action.as_str()).collect();
        assert_eq!(said, [UNREADABLE, "order.view"]);
        assert!(matches!(log.reader().verify(), Err(LogError::Broken { line: 2, .. })));
        let open = AccessLog::open(folder.path(), [7; 32]);
        assert!(matches!(open, Err(LogError::Broken { line: 2, .. })), "a second chain is never begun");
    }
}

#[test]
fn reading_changes_nothing_of_a_file_that_is_being_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path());
    let last = files(folder.path()).expect("files").pop().expect("a file");
    let mut text = fs::read_to_string(&last).expect("a file");
    text.push_str("{\"n\":4,\"at\":\"20");
    fs::write(&last, &text).expect("written");
    let reader = AccessLog::to_read(folder.path(), [7; 32]);
    assert_eq!(reader.verify().expect("whole"), 3);
    assert_eq!(reader.find(&wanted(None, None)).expect("found").len(), 3);
    assert_eq!(fs::read_to_string(&last).expect("a file"), text);
    assert!(AccessLog::to_read(&folder.path().join("none"), [7; 32]).verify().is_err());
    assert!(!folder.path().join("none").exists(), "reading makes no folder");
    drop(log);
}

#[test]
fn the_chain_goes_on_when_all_days_were_let_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = written(folder.path());
    assert_eq!(log.retain(DAY, NOW.after(100 * DAY)).expect("retained"), 2);
    drop(log);
    let log = open(folder.path());
    log.write(viewed("anna", "1"), NOW.after(100 * DAY)).expect("written");
    assert_eq!(log.reader().verify().expect("whole"), 1);
}

#[test]
fn nobody_else_reads_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("access");
    let log = open(&inner);
    // As an older version left it.
    let day = inner.join("2024-10-04.jsonl");
    fs::write(&day, "").expect("written");
    fs::set_permissions(&day, fs::Permissions::from_mode(0o644)).expect("set");
    log.write(viewed("anna", "1"), NOW).expect("written");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&day)), (0o700, 0o600));
}
