use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::*;
use spoor_core::record::{Data, DataFlags, Direction, ProcessEvent, Worker};
use spoor_core::time::BootTime;

const AT: BootTime = BootTime::from_nanos(7);

fn data(tgid: u32, conn: u64) -> Record {
    Record::Data(Data {
        at: AT,
        conn: ConnId(conn),
        direction: Direction::Egress,
        pos: 0,
        other_pos: 0,
        len: 0,
        bytes: Bytes::new(),
        thread: Worker::new(tgid, tgid),
        awaited_by: None,
        flags: DataFlags::default(),
    })
}

fn event(tgid: u32, kind: ProcessEventKind) -> Record {
    Record::Process(ProcessEvent { at: AT, tgid: Tgid(tgid), kind })
}

/// Process 9 is gone, 5 is excluded, 6 and 7 are not known well until the generation grows: then 7 is traced.
/// With the name `curl` a process that is gone is traced.
struct Fake(Arc<AtomicU64>);

impl Inspect for Fake {
    fn inspect(&mut self, tgid: Tgid) -> Option<Inspected> {
        let late = self.generation() > 0;
        let info = ProcessInfo { tgid, service: format!("s{tgid}"), ..ProcessInfo::default() };
        let choice = match tgid.0 {
            9 => return None,
            5 | 6 => Choice::Excluded,
            7 if !late => Choice::Excluded,
            _ => Choice::Traced,
        };
        Some(Inspected { info, choice, unfinished: matches!(tgid.0, 6 | 7) && !late })
    }

    fn judge(&self, comm: &str) -> Choice {
        if comm == "curl" { Choice::Traced } else { Choice::Excluded }
    }

    fn generation(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn lookup() -> Lookup {
    Lookup::with(Box::new(Fake(Arc::default())))
}

fn introduced(verdict: &Verdict) -> Option<(&str, BootTime)> {
    match verdict {
        Verdict::Introduce(info) => Some((&info.service, info.at)),
        _ => None,
    }
}

#[test]
fn each_process_is_introduced_once_before_its_first_record() {
    let mut lookup = lookup();
    assert_eq!(introduced(&lookup.see(&data(1, 1))), Some(("s1", AT)));
    assert_eq!(lookup.see(&data(1, 2)), Verdict::HandOn);
    assert_eq!(introduced(&lookup.see(&data(2, 3))), Some(("s2", AT)));
    assert_eq!(lookup.see(&data(1, 1)), Verdict::HandOn);
}

#[test]
fn process_that_became_another_is_introduced_again() {
    for kind in [ProcessEventKind::Exec, ProcessEventKind::Fork { parent_tgid: Tgid(3) }] {
        let mut lookup = lookup();
        lookup.see(&data(1, 1));
        assert_eq!(lookup.see(&event(1, kind)), Verdict::HandOn);
        assert!(introduced(&lookup.see(&data(1, 1))).is_some());
    }
}

#[test]
fn process_that_ended_is_known_on() {
    let mut lookup = lookup();
    lookup.see(&data(1, 1));
    lookup.see(&event(1, ProcessEventKind::Exit));
    assert_eq!(lookup.see(&data(1, 1)), Verdict::HandOn);
}

#[test]
fn process_gone_before_it_was_seen_has_the_name_the_kernel_gave() {
    let found = lookup().gone(Tgid(9), "curl");
    assert_eq!(found.choice, Choice::Traced);
    assert_eq!((found.info.service.as_str(), found.info.exe.as_str()), ("curl", ""));
}

#[test]
fn process_gone_before_it_could_be_judged_is_left_out_and_counted() {
    let mut lookup = lookup();
    assert_eq!(lookup.see(&data(9, 1)), Verdict::Exclude(ConnId(1)));
    assert_eq!(lookup.see(&data(9, 1)), Verdict::Drop);
    assert_eq!(lookup.unjudged(), 1);
}

#[test]
fn fork_that_is_gone_is_what_its_parent_was() {
    for (parent, expected) in [(5, Verdict::Exclude(ConnId(1))), (1, Verdict::HandOn)] {
        let mut lookup = lookup();
        lookup.see(&data(parent, 7));
        lookup.see(&event(9, ProcessEventKind::Fork { parent_tgid: Tgid(parent) }));
        assert_eq!(lookup.see(&data(9, 1)), expected);
        assert_eq!(lookup.unjudged(), 0);
        // Another program is judged anew.
        lookup.see(&event(9, ProcessEventKind::Exec));
        assert_ne!(lookup.see(&data(9, 2)), Verdict::HandOn);
    }
}

#[test]
fn excluded_processes_are_left_alone() {
    let mut lookup = lookup();
    assert_eq!(lookup.see(&data(5, 1)), Verdict::Exclude(ConnId(1)));
    assert_eq!(lookup.see(&data(5, 1)), Verdict::Drop);
    assert_eq!(lookup.see(&data(5, 2)), Verdict::Exclude(ConnId(2)));
    let close = Record::Close(spoor_core::record::Close { at: AT, conn: ConnId(1), reset: false });
    assert_eq!(lookup.see(&close), Verdict::Drop);
    assert_eq!(lookup.see(&close), Verdict::HandOn);
}

#[test]
fn process_that_becomes_known_better_is_decided_again() {
    let generation = Arc::new(AtomicU64::new(0));
    let mut lookup = Lookup::with(Box::new(Fake(generation.clone())));
    for tgid in [6, 7] {
        assert_eq!(lookup.see(&data(tgid, tgid.into())), Verdict::Drop, "the kernel is not told yet");
    }
    generation.store(1, Ordering::Relaxed);
    assert_eq!(lookup.see(&data(6, 6)), Verdict::Exclude(ConnId(6)));
    assert_eq!(introduced(&lookup.see(&data(7, 7))), Some(("s7", AT)));
    assert_eq!(lookup.see(&data(7, 7)), Verdict::HandOn);
}

#[test]
fn memory_is_bounded() {
    let mut lookup = lookup();
    for tgid in 10..200_010 {
        lookup.see(&data(tgid, 1));
    }
    assert_eq!(lookup.len(), MAX_PROCESSES);
    assert_eq!(lookup.forgotten()[0].1, 200_000 - MAX_PROCESSES as u64);
    for conn in 0..100_000 {
        lookup.see(&data(5, conn));
    }
    assert_eq!(lookup.forgotten()[1].1, 100_000 - MAX_EXCLUDED as u64);
}
