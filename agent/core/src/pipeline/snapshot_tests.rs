use super::*;
use crate::conn::snapshot::Connection;
use crate::record::{ConnId, Endpoint, Role, Transport};

fn shown_of(learned: protocol::Snapshot) -> protocol::Snapshot {
    let connection = Connection {
        id: ConnId(1),
        transport: Transport::Tcp,
        local: Endpoint::Unknown,
        remote: Endpoint::Unknown,
        netns: 1,
        wire: None,
        role: Role::Client,
        stands: None,
        spoke_at: 0,
        learned,
    };
    harmless(connection, false).learned
}

#[test]
fn texts_are_kept_as_spans_show_them() {
    for (text, expected) in [
        ("SELECT a FROM t WHERE b = $1 /* traceparent */", "SELECT a FROM t WHERE b = $1"),
        ("SELECT a FROM t WHERE b = 'secret' AND c = 17", "SELECT a FROM t WHERE b = ? AND c = ?"),
        ("UPDATE t SET a = $1 WHERE b = 'jane.roe@example.org'", "UPDATE t SET a = $1 WHERE b = ?"),
        ("ALTER USER app PASSWORD 'secret'", "ALTER USER app PASSWORD ?"),
    ] {
        assert_eq!(exportable(text), expected);
        assert_eq!(exportable(expected), expected, "handed on by every agent");
    }
}

#[test]
fn header_fields_that_may_be_secrets_are_kept_without_their_values() {
    for (name, value, is_kept) in [
        (":method", "POST", true),
        (":status", "200", true),
        ("content-type", "application/grpc", true),
        ("content-type", "multipart/form-data; boundary=x", false),
        (":authority", "shop.example:443", true),
        (":authority", "jane:pw@shop.example", false),
        (":path", "/shop.v1.Orders/Create", true),
        (":path", "/grpc.health.v1.Health/Check", true),
        (":path", "/orders/17", false),
        (":path", "/shop.Orders/Create?token=x", false),
        (":path", "/shop.Orders/17", false),
        (":path", "/invite.me/aB-3x", false),
        ("authorization", "Bearer x", false),
        ("cookie", "session=1", false),
        ("x-request-id", "1", false),
        ("user-agent", "grpc-go/1.60", true),
        ("user-agent", "bot (jane.roe@example.org)", false),
        ("te", &"t".repeat(MAX_FIELD + 1), false),
    ] {
        let fields = vec![(Some(name.to_owned()), Some(value.to_owned()))];
        let http2 =
            protocol::Http2 { request: protocol::Way { fields, ..Default::default() }, ..Default::default() };
        let protocol::Snapshot::Http2(shown) = shown_of(protocol::Snapshot::Http2(http2)) else { panic!() };
        let expected = is_kept.then(|| value.to_owned());
        assert_eq!(shown.request.fields, [(Some(name.to_owned()), expected)], "{name}: {value}");
    }
}

#[test]
fn names_that_tell_of_people_are_not_kept() {
    const PERSON: &str = "jane.roe@example.org";
    let consumer = |tag: &str, queue: &str| protocol::Consumer {
        tag: tag.to_owned(),
        queue: queue.to_owned(),
        no_ack: false,
    };
    let channel = protocol::Channel {
        consumers: vec![consumer("a", "q"), consumer("b", PERSON), consumer(PERSON, "q")],
        asked: vec![
            protocol::Asked { queue: Some(PERSON.to_owned()), ..Default::default() },
            protocol::Asked { name: PERSON.to_owned(), ..Default::default() },
        ],
        inferred: vec![("a".to_owned(), Some(PERSON.to_owned())), ("b".to_owned(), None)],
        last_queue: PERSON.to_owned(),
        unsettled: vec![protocol::Unsettled {
            tag: 1,
            queue: PERSON.to_owned(),
            routing_key: PERSON.to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let amqp =
        protocol::Amqp { vhost: Some(PERSON.to_owned()), channels: vec![channel], ..Default::default() };
    let shown = shown_of(protocol::Snapshot::Amqp(amqp));
    assert!(!format!("{shown:?}").contains(PERSON), "{shown:?}");
    let protocol::Snapshot::Amqp(amqp) = shown else { panic!() };
    assert_eq!(amqp.channels[0].consumers, [consumer("a", "q"), consumer("b", "")]);
    assert_eq!(amqp.channels[0].inferred, [("b".to_owned(), None)]);

    let statement = |name: &str, column: &str| protocol::Statement {
        name: name.to_owned(),
        text: Some(0),
        columns: vec![protocol::Column { name: column.to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let statements = vec![statement("s1", "id"), statement("s2", PERSON), statement(PERSON, "id")];
    let postgres = protocol::Postgres { database: Some(PERSON.to_owned()), statements, ..Default::default() };
    let shown = shown_of(protocol::Snapshot::Postgres(postgres));
    assert!(!format!("{shown:?}").contains(PERSON), "{shown:?}");
    let protocol::Snapshot::Postgres(postgres) = shown else { panic!() };
    assert_eq!(postgres.statements.len(), 2);
}

fn engine() -> Engine {
    Engine::new(crate::causality::engine::policy(&crate::settings::Joining::default()))
}

/// Something that is worth keeping, whatever the number of counts is.
fn shown() -> Shown {
    let of_layout = |layout: u32| (1..200).map(move |len| (layout, len));
    let shown = |(layout, len): (u32, usize)| {
        let counts = vec!["[1,0]"; len].join(",");
        let text = format!("{{\"layout\":{layout},\"counts\":[{counts}],\"multiplexing\":[]}}");
        serde_json::from_str::<Shown>(&text).unwrap()
    };
    let mut all = (0..5).flat_map(of_layout).map(shown);
    let mut engine = engine();
    all.find(|shown| engine.import(1, shown, 0)).expect("one of them is of this agent")
}

const NOW: BootNs = 1 << 50;

fn before() -> Process {
    static SHOWN: std::sync::LazyLock<Shown> = std::sync::LazyLock::new(shown);
    let shown = SHOWN.clone();
    Process { tgid: 7, start_ns: 100, exe: "/usr/bin/shop".to_owned(), seen_at: NOW - 1, shown }
}

fn info() -> ProcessInfo {
    ProcessInfo { tgid: 7, start_ns: 100, exe: "/usr/bin/shop".to_owned(), ..ProcessInfo::default() }
}

#[test]
fn a_process_is_the_same_by_identifier_start_and_executable() {
    let is_same = |info: ProcessInfo| {
        let (mut histories, mut engine) = (Histories::default(), engine());
        histories.restore(vec![before()], NOW);
        histories.introduced(&info, &mut engine, NOW);
        let Stats { processes, processes_changed, .. } = histories.stats;
        let waits = histories.waiting.contains_key(&7);
        assert_eq!(processes + processes_changed + u64::from(waits), 1);
        assert_eq!(engine.export(7).is_some(), processes == 1);
        processes == 1
    };
    assert!(is_same(info()));
    assert!(!is_same(ProcessInfo { tgid: 8, ..info() }));
    assert!(!is_same(ProcessInfo { start_ns: 110, ..info() }));
    assert!(!is_same(ProcessInfo { exe: "/usr/bin/other".to_owned(), ..info() }));
    assert!(!is_same(ProcessInfo { start_ns: 0, ..info() }));
    assert!(!is_same(ProcessInfo { exe: String::new(), ..info() }));
}

#[test]
fn a_process_that_became_another_one_is_not_waited_for() {
    for kind in [ProcessEventKind::Exec, ProcessEventKind::Exit, ProcessEventKind::Fork { parent_tgid: 1 }] {
        let (mut histories, mut engine) = (Histories::default(), engine());
        histories.restore(vec![before()], NOW);
        histories.changed(&ProcessEvent { at: NOW, tgid: 7, kind });
        histories.introduced(&info(), &mut engine, NOW);
        assert_eq!((histories.stats.processes, histories.stats.processes_changed), (0, 1), "{kind:?}");
        assert_eq!(engine.export(7), None);
    }
}

#[test]
fn processes_are_handed_on_by_every_agent() {
    let (mut histories, mut engine) = (Histories::default(), engine());
    histories.restore(vec![before()], NOW);
    assert_eq!(histories.export(&engine, NOW + 5), [before()], "not seen yet");
    histories.introduced(&info(), &mut engine, NOW);
    assert_eq!(histories.export(&engine, NOW + 5), [Process { seen_at: NOW + 5, ..before() }]);
    histories.changed(&ProcessEvent { at: NOW, tgid: 7, kind: ProcessEventKind::Exit });
    assert_eq!(histories.export(&engine, NOW + 6), []);
}

#[test]
fn processes_are_waited_for_in_bounds() {
    let many = |from: u32| (0..).map(move |n| Process { tgid: from + n, ..before() });
    let mut histories = Histories::default();
    histories.restore(many(1).take(MAX_PROCESSES + 5).collect(), NOW);
    assert_eq!((histories.waiting.len(), histories.stats.processes_expired), (MAX_PROCESSES, 5));
    let mut histories = Histories::default();
    histories.restore(vec![before()], NOW + MAX_ABSENCE_NS);
    histories.restore(vec![before()], NOW - 10);
    assert_eq!((histories.waiting.len(), histories.stats.processes_expired), (0, 2));
}
