//! Captures of real TLS with their secrets: what is opened is what another implementation opens, byte for byte, at both ends
//! and where it stands on the wire; and the protocols read it as they read a plain stream.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use spoor::config::Services;
use spoor::secrets::memory::{Answer, Limits, Seeker, Totals};
use spoor::{secrets, source};
use spoor_core::conn::{Connections, Stats, Wanted};
use spoor_core::operation::{Completeness, Detail, Operation};
use spoor_core::protocol::{Event, Protocol};
use spoor_core::record::{ConnId, Data, Direction, Record, Role, Tgid};
use spoor_core::settings::Protocols;
use spoor_core::stream::{Chunk, Duplex, Window};
use spoor_core::time::BootTime;
use spoor_core::tls::{Known, Phase, Secrets, Session};
use spoor_tests::recorded::fixtures;

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixtures().join("tls"))
        .expect("the folder")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".pcapng").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 18, "{names:?}");
    names
}

fn path(name: &str, ending: &str) -> PathBuf {
    fixtures().join("tls").join(format!("{name}.{ending}"))
}

/// The records of a capture, and the secrets in it.
fn read(name: &str) -> (Vec<Record>, Vec<Known>) {
    let mut source = source::open(&path(name, "pcapng"), &Services::default()).expect("a capture");
    let (mut records, mut known) = (Vec::new(), Vec::new());
    while let Some(record) = source.next().expect("a whole capture") {
        known.extend(source.secrets());
        records.push(record);
    }
    assert!(!known.is_empty(), "{name} has its secrets inside");
    (records, known)
}

/// What each connection's client and server sent, as tshark opened it.
fn expected(name: &str) -> Vec<[Vec<u8>; 2]> {
    let text = std::fs::read_to_string(path(name, "plain")).expect("what tshark opened");
    let mut all = Vec::new();
    for pair in text.lines().collect::<Vec<_>>().chunks(2) {
        let bytes = |line: &str, side: &str| {
            let digits = line.strip_prefix(side).expect("a side").trim();
            (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
                .collect()
        };
        all.push([bytes(pair[0], "client"), bytes(pair[1], "server")]);
    }
    all
}

/// One end of a connection, opened.
struct End {
    role: Option<Role>,
    duplex: Duplex,
    session: Option<Session>,
    /// Client's and server's plaintext, with where each byte stands on the wire.
    said: [BTreeMap<u64, u8>; 2],
}

fn feed(end: &mut End, secrets: &Secrets) {
    while let Some((direction, chunk)) = end.duplex.pop() {
        let Chunk::Bytes { bytes, .. } = &chunk else { panic!("a whole capture has no gap") };
        let session = match &mut end.session {
            Some(session) => session,
            // What goes before TLS in PostgreSQL.
            None if bytes[..] == [0, 0, 0, 8, 4, 210, 22, 47] || bytes[..] == *b"S" => continue,
            none => none.insert(Session::new(true, end.role, secrets::WAITING)),
        };
        session.offer(direction, &chunk);
        while let Some((direction, chunk)) = session.poll(secrets, BootTime::ZERO) {
            let Chunk::Bytes { pos, bytes, .. } = chunk else {
                panic!("a whole capture has no gap: {chunk:?}")
            };
            let of_client = session.client() == Some(direction);
            for (n, byte) in bytes.iter().enumerate() {
                let wire = session.wire(direction, pos + n as u64, false).expect("just opened");
                end.said[usize::from(!of_client)].insert(wire, *byte);
            }
        }
    }
}

#[test]
fn plaintext_is_what_another_implementation_opens_at_both_ends() {
    for name in names() {
        let (records, known) = read(&name);
        let mut secrets = Secrets::default();
        known.into_iter().for_each(|known| secrets.insert(known, BootTime::ZERO));
        let mut ends: BTreeMap<ConnId, End> = BTreeMap::new();
        for record in records {
            match record {
                Record::Conn(conn) => {
                    let duplex = Duplex::new(Some(0), Window::default());
                    ends.insert(
                        conn.id,
                        End { role: conn.role, duplex, session: None, said: Default::default() },
                    );
                }
                Record::Data(data) => {
                    let end = ends.get_mut(&data.conn).expect("introduced");
                    end.duplex.push(
                        data.direction,
                        data.pos,
                        data.len.into(),
                        data.bytes.clone(),
                        data.mark(),
                    );
                    feed(end, &secrets);
                }
                _ => {}
            }
        }
        let mut by_role: [Vec<[BTreeMap<u64, u8>; 2]>; 2] = Default::default();
        for mut end in ends.into_values() {
            end.duplex.finish();
            feed(&mut end, &secrets);
            let Some(mut session) = end.session else { continue };
            let counts = session.take_counts();
            assert_eq!((counts.failed, counts.malformed, session.held()), (0, 0, 0), "{name}");
            if session.phase() == Phase::Open && end.said.iter().any(|said| !said.is_empty()) {
                by_role[usize::from(end.role == Some(Role::Server))].push(end.said);
            }
        }
        let [clients, servers] = by_role;
        assert_eq!(clients, servers, "{name}: both ends see the same bytes at the same places");
        let said: Vec<[Vec<u8>; 2]> = clients
            .iter()
            .map(|said| said.each_ref().map(|bytes| bytes.values().copied().collect()))
            .collect();
        assert_eq!(said.len(), expected(&name).len(), "{name}: connections");
        for (ours, theirs) in said.iter().zip(expected(&name)) {
            for side in 0..2 {
                assert!(
                    ours[side] == theirs[side],
                    "{name}: {} bytes of {side}, not {}",
                    ours[side].len(),
                    theirs[side].len()
                );
            }
        }
    }
}

/// Everything above TLS: operations of both ends.
fn operations(
    records: &[Record],
    known: Vec<Known>,
    late: bool,
) -> (Vec<(Protocol, Operation, Option<String>)>, Stats) {
    let mut connections = Connections::new(&Protocols::default(), 1000).with_tls(secrets::WAITING);
    let mut known = Some(known);
    let mut learn = |connections: &mut Connections| {
        known.take().into_iter().flatten().for_each(|known| connections.handle_secret(known));
    };
    if !late {
        learn(&mut connections);
    }
    let mut last = BootTime::ZERO;
    for (number, record) in records.iter().enumerate() {
        last = last.max(record.at());
        match record.clone() {
            Record::Conn(conn) => connections.handle_conn(*conn),
            Record::Data(data) => connections.handle_data(data),
            Record::Close(close) => connections.handle_close(close),
            _ => {}
        }
        if late && number == records.len() / 3 {
            learn(&mut connections);
        }
    }
    connections.finish(last);
    let mut all = Vec::new();
    while let Some((info, event)) = connections.poll_event() {
        if let Event::Closed(operation) = event {
            let tls = info
                .tls
                .as_ref()
                .map(|tls| format!("{} {}", tls.version.name(), tls.suite.unwrap_or("unnamed")));
            all.push((info.protocol.expect("a protocol"), *operation, tls));
        }
    }
    (all, *connections.stats())
}

fn shown((protocol, operation, _): &(Protocol, Operation, Option<String>)) -> String {
    let what = match &operation.detail {
        Detail::Http(http) => format!("{} {} {}", http.method, http.target, http.status.unwrap_or_default()),
        Detail::Postgres(statement) => statement.text.clone().unwrap_or_default(),
        Detail::Amqp(action) => format!("{:?}", std::mem::discriminant(&action.kind)),
    };
    format!("{:?} {} {what} {:?}", operation.role, protocol.name(), operation.completeness)
}

#[test]
fn protocols_read_what_is_opened_as_they_read_a_plain_stream() {
    for name in names() {
        let (records, known) = read(&name);
        let (all, stats) = operations(&records, known, false);
        assert_eq!((stats.tls.opened, stats.opaque), (stats.tls.seen, 0), "{name}: {:?}", stats.tls);
        assert_eq!((stats.invalid, stats.misdetected, stats.tls.unplaced), (0, 0, 0), "{name}: {stats:?}");
        if name.starts_with("openssl") {
            // Lines of text: nothing that is read.
            continue;
        }
        for operation in &all {
            assert_eq!(operation.1.completeness, Completeness::Complete, "{name}: {}", shown(operation));
            assert!(operation.2.is_some(), "{name}: the connection says that it was under TLS");
        }
        let of = |role| all.iter().filter(|(_, operation, _)| operation.role == role).collect::<Vec<_>>();
        let (clients, servers) = (of(Role::Client), of(Role::Server));
        assert!(clients.len() >= 3, "{name}: {}", clients.len());
        let places = |all: &[&(Protocol, Operation, Option<String>)]| {
            let mut places: Vec<_> = all
                .iter()
                .map(|(_, operation, _)| (operation.request.start.pos, operation.request.end.pos))
                .collect();
            places.sort_unstable();
            places
        };
        assert_eq!(
            places(&clients),
            places(&servers),
            "{name}: identities are those of the wire at both ends"
        );
        let expected: &[&str] = match name.as_str() {
            _ if name.starts_with("curl") => &["GET /orders/4711 200", "GET /large 200", "POST /orders 200"],
            _ if name.starts_with("node") => &["GET /orders/1 200", "GET /orders/2 200", "GET /orders/3 200"],
            _ if name.starts_with("postgres") => {
                &["create table orders", "insert into orders", "select * from orders"]
            }
            _ => &[],
        };
        for wanted in expected {
            let found = clients.iter().any(|operation| shown(operation).contains(wanted));
            assert!(
                found,
                "{name}: {wanted} is not in {:?}",
                clients.iter().map(|one| shown(one)).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn secrets_that_come_late_lose_nothing() {
    for name in names() {
        let (records, known) = read(&name);
        let (_, again) = read(&name);
        let at_once: Vec<String> = operations(&records, known, false).0.iter().map(shown).collect();
        let late: Vec<String> = operations(&records, again, true).0.iter().map(shown).collect();
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        assert_eq!(sorted(late), sorted(at_once), "{name}");
    }
}

/// Programs read the header of a record by itself, or in small pieces.
fn cut(records: &[Record], at: usize) -> Vec<Record> {
    let mut all = Vec::new();
    for record in records {
        let Record::Data(data) = record else {
            all.push(record.clone());
            continue;
        };
        let mut from = 0;
        while from < data.bytes.len() {
            let until = (from + at).min(data.bytes.len());
            let bytes = data.bytes.slice(from..until);
            let (pos, len) = (data.pos + from as u64, bytes.len() as u32);
            all.push(Record::Data(Data { pos, len, bytes, ..data.clone() }));
            // After the header, the rest.
            from = if at == 5 && from == 0 && data.bytes.len() > 5 {
                let bytes = data.bytes.slice(5..);
                let (pos, len) = (data.pos + 5, bytes.len() as u32);
                all.push(Record::Data(Data { pos, len, bytes, ..data.clone() }));
                data.bytes.len()
            } else {
                until
            };
        }
    }
    all
}

#[test]
fn it_does_not_matter_how_programs_read_their_records() {
    for name in ["curl_tls13_aes256", "go_tls13", "postgres_ssl_request", "rabbitmq_amqps", "node_h2_tls12"] {
        let (records, known) = read(name);
        let whole: Vec<String> = operations(&records, known, false).0.iter().map(shown).collect();
        for at in [5, 7, 40] {
            let (_, known) = read(name);
            let (all, stats) = operations(&cut(&records, at), known, false);
            assert_eq!(all.iter().map(shown).collect::<Vec<_>>(), whole, "{name}, {at}");
            assert_eq!((stats.tls.opened, stats.tls.failed_records), (stats.tls.seen, 0), "{name}, {at}");
        }
    }
}

/// The secrets that a capture holds lie in this process' memory, so this process is searched.
#[test]
fn secrets_that_lie_in_the_memory_of_a_process_are_found_there() {
    let limits = Limits { cpu_percent: 100, max_bytes: 1 << 30 };
    let totals = Arc::new(Totals::default());
    let mut seeker = Seeker::start(limits, totals.clone()).expect("a thread");
    for name in
        ["curl_tls13_aes256", "curl_tls12_aes128_gcm", "go_tls13", "postgres_ssl_request", "rabbitmq_amqps"]
    {
        let (records, known) = read(name);
        let whole: Vec<String> = operations(&records, read(name).1, false).0.iter().map(shown).collect();
        let mut connections = Connections::new(&Protocols::default(), 1000).with_tls(secrets::WAITING);
        connections.begin_search();
        let mut last = BootTime::ZERO;
        for record in &records {
            last = last.max(record.at());
            match record.clone() {
                Record::Conn(conn) => connections.handle_conn(*conn),
                Record::Data(data) => connections.handle_data(data),
                Record::Close(close) => connections.handle_close(close),
                _ => {}
            }
            while let Some(wanted) = connections.poll_wanted() {
                let tgid = Tgid(std::process::id());
                seeker.ask(Wanted { tgid, at: spoor::clock::boot(), ..wanted });
            }
        }
        let begun = Instant::now();
        while connections.stats().tls.opened < connections.stats().tls.seen {
            match seeker.poll() {
                Some(Answer::Known(known)) => connections.handle_secret(known),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{name}: {:?}", connections.stats().tls);
            while let Some(wanted) = connections.poll_wanted() {
                let tgid = Tgid(std::process::id());
                seeker.ask(Wanted { tgid, at: spoor::clock::boot(), ..wanted });
            }
        }
        // The other direction's, where it is another one.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            match seeker.poll() {
                Some(Answer::Known(known)) => connections.handle_secret(known),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        connections.finish(last);
        let mut all = Vec::new();
        while let Some((info, event)) = connections.poll_event() {
            if let Event::Closed(operation) = event {
                all.push(shown(&(info.protocol.expect("a protocol"), *operation, None)));
            }
        }
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        assert_eq!(sorted(all), sorted(whole), "{name}");
        assert!(!known.is_empty(), "they lay there until now");
    }
    assert!(totals.found.load(Ordering::Relaxed) >= 8, "{:?}", totals);
}

#[test]
fn without_secrets_everything_stays_closed_and_is_counted() {
    for name in names() {
        let (records, _) = read(&name);
        let (all, stats) = operations(&records, Vec::new(), false);
        assert_eq!((all.len(), stats.tls.opened, stats.opaque), (0, 0, stats.tls.seen), "{name}");
        assert_eq!(stats.tls.secret + stats.tls.limit, stats.tls.seen, "{name}: {:?}", stats.tls);
    }
}

/// Takes records out as a ring that was full would have, at every fifth place.
#[test]
fn lost_records_make_gaps_and_never_wrong_bytes() {
    for name in
        ["curl_tls13_aes256", "curl_tls12_aes128_gcm", "curl_tls13_chacha20", "go_tls13", "rabbitmq_amqps"]
    {
        let (records, _) = read(name);
        let whole: Vec<String> = {
            let (_, known) = read(name);
            operations(&records, known, false).0.iter().map(shown).collect()
        };
        for lost in (0..records.len()).step_by(5) {
            if !matches!(
                &records[lost],
                Record::Data(Data { direction: Direction::Ingress | Direction::Egress, .. })
            ) {
                continue;
            }
            let mut holed = records.clone();
            holed.remove(lost);
            let (_, known) = read(name);
            let (all, stats) = operations(&holed, known, false);
            assert_eq!(stats.invalid, 0, "{name}, {lost}: {stats:?}");
            for operation in &all {
                let text = shown(operation);
                let is_whole = text.ends_with("Complete");
                assert!(!is_whole || whole.contains(&text), "{name}, {lost}: {text} is in none");
            }
        }
    }
}

#[test]
fn waiting_is_bounded_in_time() {
    assert!(secrets::WAITING.time <= Duration::from_secs(10) && secrets::WAITING.bytes <= 4 << 20);
}
