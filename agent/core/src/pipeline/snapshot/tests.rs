use super::*;
use crate::time::{BootTime, ns};
use std::time::Duration;

#[test]
fn texts_are_kept_as_spans_show_them() {
    for (text, expected) in [
        ("SELECT a FROM t WHERE b = $1 /* traceparent */", "SELECT a FROM t WHERE b = $1"),
        ("SELECT a FROM t WHERE b = 'secret' AND c = 17", "SELECT a FROM t WHERE b = ? AND c = ?"),
        ("UPDATE t SET a = $1 WHERE b = 'jane.roe@example.org'", "UPDATE t SET a = $1 WHERE b = ?"),
        ("ALTER USER app PASSWORD 'secret'", "ALTER USER app PASSWORD ?"),
    ] {
        assert_eq!(sql::sanitize(text), expected);
        assert_eq!(sql::sanitize(expected), expected, "handed on by every agent");
    }
}

fn engine() -> Engine {
    Engine::new(crate::causality::engine::policy(&crate::causality::settings::Joining::default()))
}

/// Something that is worth keeping.
fn shown() -> Shown {
    serde_json::from_str(r#"{"trust":{"serving":{"right":1,"wrong":0}},"multiplexing":[]}"#).unwrap()
}

const NOW: BootTime = ns(1 << 50);

fn before() -> Process {
    Process {
        tgid: Tgid(7),
        started_at: ns(100),
        exe: "/usr/bin/shop".to_owned(),
        seen_at: NOW - Duration::from_nanos(1),
        shown: shown(),
    }
}

fn info() -> ProcessInfo {
    ProcessInfo {
        tgid: Tgid(7),
        started_at: ns(100),
        exe: "/usr/bin/shop".to_owned(),
        ..ProcessInfo::default()
    }
}

#[test]
fn a_process_is_the_same_by_identifier_start_and_executable() {
    let is_same = |info: ProcessInfo| {
        let (mut histories, mut engine) = (Histories::default(), engine());
        histories.restore(vec![before()], NOW);
        histories.introduced(&info, &mut engine, NOW);
        let Stats { processes, processes_changed, .. } = histories.stats;
        let waits = histories.waiting.contains_key(&Tgid(7));
        assert_eq!(processes + processes_changed + u64::from(waits), 1);
        assert_eq!(engine.export(Tgid(7)).is_some(), processes == 1);
        processes == 1
    };
    assert!(is_same(info()));
    assert!(!is_same(ProcessInfo { tgid: Tgid(8), ..info() }));
    assert!(!is_same(ProcessInfo { started_at: ns(110), ..info() }));
    assert!(!is_same(ProcessInfo { exe: "/usr/bin/other".to_owned(), ..info() }));
    assert!(!is_same(ProcessInfo { started_at: BootTime::ZERO, ..info() }));
    assert!(!is_same(ProcessInfo { exe: String::new(), ..info() }));
}

#[test]
fn a_process_that_became_another_one_is_not_waited_for() {
    for kind in
        [ProcessEventKind::Exec, ProcessEventKind::Exit, ProcessEventKind::Fork { parent_tgid: Tgid(1) }]
    {
        let (mut histories, mut engine) = (Histories::default(), engine());
        histories.restore(vec![before()], NOW);
        histories.changed(&ProcessEvent { at: NOW, tgid: Tgid(7), kind });
        histories.introduced(&info(), &mut engine, NOW);
        assert_eq!((histories.stats.processes, histories.stats.processes_changed), (0, 1), "{kind:?}");
        assert_eq!(engine.export(Tgid(7)), None);
    }
}

#[test]
fn processes_are_handed_on_by_every_agent() {
    let (mut histories, mut engine) = (Histories::default(), engine());
    histories.restore(vec![before()], NOW);
    assert_eq!(histories.export(&engine, NOW + Duration::from_nanos(5)), [before()], "not seen yet");
    histories.introduced(&info(), &mut engine, NOW);
    assert_eq!(
        histories.export(&engine, NOW + Duration::from_nanos(5)),
        [Process { seen_at: NOW + Duration::from_nanos(5), ..before() }]
    );
    histories.changed(&ProcessEvent { at: NOW, tgid: Tgid(7), kind: ProcessEventKind::Exit });
    assert_eq!(histories.export(&engine, NOW + Duration::from_nanos(6)), []);
}

#[test]
fn processes_are_waited_for_in_bounds() {
    let many = |from: u32| (0..).map(move |n| Process { tgid: Tgid(from + n), ..before() });
    let mut histories = Histories::default();
    histories.restore(many(1).take(MAX_PROCESSES + 5).collect(), NOW);
    assert_eq!((histories.waiting.len(), histories.stats.processes_expired), (MAX_PROCESSES, 5));
    let mut histories = Histories::default();
    histories.restore(vec![before()], NOW + MAX_ABSENCE);
    histories.restore(vec![before()], NOW - Duration::from_nanos(10));
    assert_eq!((histories.waiting.len(), histories.stats.processes_expired), (0, 2));
}
