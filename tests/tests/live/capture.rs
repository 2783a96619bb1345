//! What real programs do with sockets, seen by the probes on this machine's kernel, byte by byte.
//!
//! Each test is a scenario of `fixtures/kernel/trap.c`. They need root and a kernel with rung A; elsewhere they say
//! that they are skipped.
//!
//! Long because the guests of `cargo xtask vm` run this one module, and its scenarios share what looks at them.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime, clock_settime};
use spoor::capture::verdict::Verdict;
use spoor::capture::{Capture, Options};
use spoor_common::{Counter, limits::TURN_PAUSE_NS, record::GOROUTINE};
use spoor_core::record::{
    ClockPair, Conn, ConnId, Direction, Endpoint, ProcessEvent, ProcessEventKind, Record, Role, Transport,
};
use spoor_core::time::WallTime;
use spoor_tests::kernel::{
    Agent, Cgroup, Seen, Trap, Way, check_streams, check_streams_from, check_wire, pattern, run, stream,
};
use spoor_tests::skip::skip;

const INTERNET: [&str; 3] = ["tcp4", "tcp6", "mapped"];
const ALL: [&str; 6] = ["tcp4", "tcp6", "mapped", "unix", "pair", "mptcp"];

/// Runs a scenario over each family and compares every byte and position.
fn check(scenario: &str, families: &[&str]) {
    let Some(agent) = Agent::shared() else { return };
    for family in families {
        eprintln!("{scenario} over {family}");
        let facts = run(scenario, family);
        check_streams(agent, &facts);
        if INTERNET.contains(family) {
            check_wire(agent, &facts);
        }
    }
}

#[test]
fn every_call_that_moves_bytes_is_captured_whole() {
    check("calls", &ALL);
}

#[test]
fn peeked_bytes_count_once_and_discarded_bytes_count() {
    check("flags", &ALL);
}

#[test]
fn bytes_out_of_reach_keep_their_length() {
    check("no-copy", &["tcp4", "tcp6", "unix", "pair"]);
}

#[test]
fn io_uring_keeps_its_length() {
    if std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|s| s.trim() != "0") {
        skip("io_uring is disabled on this machine");
        return;
    }
    if Agent::shared().is_some_and(|agent| agent.rung == 'D') {
        skip("rung D has no event for io_uring");
        return;
    }
    check("uring", &["tcp4", "unix"]);
}

#[test]
fn fin_takes_no_position() {
    check("fin", &INTERNET);
}

#[test]
fn megabytes_in_both_directions_at_once_are_captured_whole() {
    check("big", &["tcp4", "unix"]);
}

#[test]
fn one_socket_under_many_descriptors_is_one_connection() {
    check("descriptors", &["tcp4", "unix"]);
}

#[test]
fn bytes_sent_without_a_copy_are_captured_whole() {
    check("zerocopy", &["tcp4", "tcp6"]);
}

#[test]
fn lists_of_buffers_are_flattened() {
    check("vectors", &["tcp4", "tcp6", "pair"]);
}

#[test]
fn untouched_and_forbidden_pages_are_no_surprise() {
    check("pages", &["tcp4", "unix"]);
}

#[test]
fn many_small_operations_lose_nothing() {
    check("flood", &["tcp4"]);
}

#[test]
fn addresses_are_those_of_the_sockets() {
    let Some(agent) = Agent::shared() else { return };
    let conns = |family: &str| {
        let facts = run("calls", family);
        check_streams(agent, &facts);
        let (client, server) = facts.ends();
        agent.look(|seen| (seen.conns[&client].clone(), seen.conns[&server].clone()))
    };
    for (family, address) in [("tcp4", "127.0.0.1"), ("tcp6", "::1"), ("mapped", "127.0.0.1")] {
        let (client, server) = conns(family);
        for endpoint in [&client.local, &client.remote, &server.local, &server.remote] {
            let Endpoint::Inet(socket) = endpoint else { panic!("{family}: {endpoint:?}") };
            assert_eq!(socket.ip().to_string(), address, "{family}");
            assert_ne!(socket.port(), 0, "{family}");
        }
        assert_eq!((client.transport, server.transport), (Transport::Tcp, Transport::Tcp));
        assert!(client.from_start && server.from_start, "{family}");
        assert_eq!(client.comm, "spoor-trap");
        assert_eq!(client.thread.tgid, server.thread.tgid);
    }

    let (client, server) = conns("unix");
    let Endpoint::Unix(path) = &server.local else { panic!("{server:?}") };
    assert!(path.starts_with("@spoor-trap-"), "{path}");
    assert_eq!((&client.remote, &server.remote), (&server.local, &Endpoint::Unix(String::new())));
    assert_eq!((client.role, server.role), (Some(Role::Client), Some(Role::Server)));
    assert_eq!((client.transport, client.wire), (Transport::Unix, None));
    assert_eq!((server.peer, client.peer), (Some(client.id), Some(server.id)));

    let (client, _) = conns("mptcp");
    if client.transport == Transport::Mptcp {
        assert_eq!(client.wire, None, "subflows have sequence numbers, the connection has none");
    } else {
        skip("no Multipath TCP on this machine");
    }
}

#[test]
fn connection_older_than_the_agent_has_the_same_identity_at_both_ends() {
    if Agent::shared().is_none() {
        return;
    }
    for family in INTERNET {
        let mut trap = Trap::start("older", family);
        assert!(trap.until_ready());
        let Some(agent) = Agent::start_or_skip(Options::default()) else { return };
        trap.tell("go");
        let facts = trap.finish();
        check_wire(&agent, &facts);
        let from = BTreeMap::from([
            (("client".to_owned(), Way::Egress), 5077),
            (("client".to_owned(), Way::Ingress), 300),
            (("server".to_owned(), Way::Egress), 300),
            (("server".to_owned(), Way::Ingress), 5000),
        ]);
        check_streams_from(&agent, &facts, &from);
        let (client, server) = facts.ends();
        agent.look(|seen| assert!(!seen.conns[&client].from_start && !seen.conns[&server].from_start));
    }
}

#[test]
fn two_writers_without_agreement_never_get_a_wrong_position() {
    let Some(agent) = Agent::shared() else { return };
    let facts = run("writers", "tcp4");
    let (client, server) = facts.ends();
    const TOTAL: u64 = 2 * 2000 * 64;
    let whole = |conn, direction| {
        agent.wait("all bytes", |seen| {
            let stream = stream(seen, conn, direction);
            (stream.records.iter().map(|d| u64::from(d.len)).sum::<u64>() >= TOTAL).then_some(stream)
        })
    };
    let (sent, received) = (whole(client, Direction::Egress), whole(server, Direction::Ingress));
    let mut arrived = vec![0u8; TOTAL as usize];
    for data in &received.records {
        let at = data.pos as usize;
        arrived[at..at + data.bytes.len()].copy_from_slice(&data.bytes);
    }
    let mut uncertain = 0;
    for data in &sent.records {
        if data.flags.position_uncertain {
            uncertain += 1;
            continue;
        }
        let at = data.pos as usize;
        assert!(arrived[at..at + data.bytes.len()] == data.bytes[..], "certain position {at}");
    }
    eprintln!("{uncertain} of {} positions uncertain", sent.records.len());
    assert_eq!(sent.end, TOTAL);
}

#[test]
fn who_began_a_thread_is_told() {
    let Some(agent) = Agent::shared() else { return };
    let trap = Trap::start("threads", "tcp4");
    let tgid = trap.tgid();
    let (client, _) = trap.finish().ends();
    let begun = |seen: &Seen| -> BTreeMap<u32, u32> {
        let threads = seen.other.iter().filter_map(|record| match record {
            Record::Process(ProcessEvent {
                tgid: of,
                kind: ProcessEventKind::Thread { tid, creator },
                ..
            }) if of.0 == tgid => Some((tid.0, creator.0)),
            _ => None,
        });
        threads.collect()
    };
    let writers: Vec<u32> = agent.wait("three writes", |seen| {
        let records = stream(seen, client, Direction::Egress).records;
        (records.len() == 3).then(|| records.iter().map(|data| data.thread.tid.0).collect())
    });
    let creators = agent.wait("two threads", |seen| Some(begun(seen)).filter(|begun| begun.len() == 2));
    let [first, second, third] = writers[..] else { unreachable!("three writes") };
    assert_eq!(first, tgid);
    assert_eq!(creators, BTreeMap::from([(second, first), (third, second)]));
}

#[test]
fn goroutines_count_as_threads_and_c_code_in_a_go_program_does_not() {
    let Some(agent) = Agent::shared() else { return };
    let (client, _) = run("goroutines", "tcp4").ends();
    let tids: Vec<u32> = agent.wait("five writes", |seen| {
        let records = stream(seen, client, Direction::Egress).records;
        (records.len() == 5).then(|| records.iter().map(|data| data.thread.tid.0).collect())
    });
    let [first, second, again, on_foreign_stack, thread] = tids[..] else { unreachable!("five writes") };
    assert!(first & second & GOROUTINE != 0, "{tids:x?}");
    assert_ne!(first, second);
    assert_eq!(again, first);
    assert_eq!(on_foreign_stack, thread);
    assert_eq!(thread & GOROUTINE, 0);
}

#[test]
fn the_only_goroutine_that_waits_on_a_channel_of_the_outermost_function_awaits_what_is_written() {
    let Some(agent) = Agent::shared() else { return };
    let (client, _) = run("channels", "tcp4").ends();
    let awaited: Vec<Option<u32>> = agent.wait("six writes", |seen| {
        let records = stream(seen, client, Direction::Egress).records;
        (records.len() == 6).then(|| records.iter().map(|data| data.awaited_by.map(|tid| tid.0)).collect())
    });
    let tid = agent.look(|seen| stream(seen, client, Direction::Egress).records[0].thread.tid.0);
    // The description of the one that waits comes 80 bytes after that of the one that writes, in words of 8 bytes.
    let waits = Some(tid + 10);
    if agent.rung == 'D' {
        assert_eq!(awaited, [None; 6], "this rung has no room for it");
        return;
    }
    assert_eq!(awaited, [waits, waits, None, None, None, None], "written by {tid:x}");
}

#[test]
fn reset_ends_both_connections_and_says_so() {
    let Some(agent) = Agent::shared() else { return };
    let (client, server) = run("reset", "tcp4").ends();
    let close = |id: ConnId| agent.wait("its close", |seen| seen.closes.get(&id).copied());
    close(client);
    assert!(close(server).reset, "the server's end was reset");
}

#[test]
fn orderly_close_and_process_exit_are_reported() {
    let Some(agent) = Agent::shared() else { return };
    let mut trap = Trap::start("turns", "tcp4");
    let tgid = trap.tgid();
    assert!(trap.until_ready());
    trap.tell("10 10");
    assert!(trap.until_ready());
    let (client, server) = trap.finish().ends();
    for id in [client, server] {
        let close = agent.wait("its close", |seen| seen.closes.get(&id).copied());
        let last = agent.look(|seen| seen.data[&id].iter().map(|d| d.at).max());
        assert!(Some(close.at) > last, "closed after its last byte");
    }
    agent.wait("exit of the trap", |seen| {
        let exit = |r: &&Record| matches!(r, Record::Process(p) if p.tgid.0 == tgid && p.kind == ProcessEventKind::Exit);
        seen.other.iter().find(exit).map(|_| ())
    });
}

/// Position, bytes moved, bytes captured, and whether a budget cut it, of each record up to `until`.
fn captured(agent: &Agent, id: ConnId, direction: Direction, until: u64) -> Vec<(u64, u64, usize, bool)> {
    agent.wait(&format!("{direction:?} up to {until}"), |seen| {
        let stream = stream(seen, id, direction);
        let records = stream.records.iter();
        let list = records.map(|d| (d.pos, u64::from(d.len), d.bytes.len(), d.flags.budget)).collect();
        (stream.end >= until).then_some(list)
    })
}

/// Compares what was captured of an end's operations with a budget of `turn_bytes` for each of its turns. A turn ends
/// when the direction changes or with a pause. How long the trap takes from one operation to the next is up to the
/// machine, so the times of the records decide.
fn check_turns(agent: &Agent, id: ConnId, turn_bytes: u64) {
    let mut records = agent.look(|seen| seen.data[&id].clone());
    records.sort_by_key(|data| (data.at, data.pos));
    let (mut last, mut left) = (None, turn_bytes);
    for data in &records {
        let continues = last.is_some_and(|(direction, at)| {
            direction == data.direction && data.at.since(at) <= Duration::from_nanos(TURN_PAUSE_NS)
        });
        if !continues {
            left = turn_bytes;
        }
        last = Some((data.direction, data.at));
        let captured = left.min(u64::from(data.len));
        left -= captured;
        let found = (data.bytes.len() as u64, data.flags.budget);
        assert_eq!(found, (captured, captured < u64::from(data.len)), "{data:?}");
    }
}

/// One turn of the scenario `turns`, from ready to ready.
fn turn(trap: &mut Trap, line: &str) {
    trap.tell(line);
    assert!(trap.until_ready());
}

#[test]
fn unknown_connection_gets_a_first_look_then_lengths() {
    if Agent::shared().is_none() {
        return;
    }
    let options = Options { first_look_bytes: 20_000, ..Options::default() };
    let Some(agent) = Agent::start_or_skip(options) else { return };
    let mut trap = Trap::start("turns", "tcp4");
    assert!(trap.until_ready());
    for line in ["24000 10", "8000 0", "8000 0", "8000 0"] {
        turn(&mut trap, line);
    }
    let (client, _) = trap.finish().ends();
    let records = captured(&agent, client, Direction::Egress, 48_000);
    assert_eq!(records[..2], [(0, 16_384, 16_384, false), (16_384, 7616, 3616, true)]);
    check_turns(&agent, client, 20_000);
}

#[test]
fn verdicts_take_effect_at_the_next_operation() {
    let Some(agent) = Agent::shared() else { return };
    let mut trap = Trap::start("turns", "tcp4");
    assert!(trap.until_ready());
    turn(&mut trap, "100 0");
    let (client, server) = trap.facts.ends();
    captured(agent, client, Direction::Egress, 100);

    // 500 bytes of each turn; a turn ends when the direction changes.
    agent.verdict(client, Verdict::capture(500));
    for line in ["400 0", "400 0", "700 10", "300 0"] {
        turn(&mut trap, line);
    }
    let records = captured(agent, client, Direction::Egress, 1900);
    assert_eq!(records.len(), 5, "{records:?}");
    // The first 100 bytes are part of the first turn.
    check_turns(agent, client, 500);

    // A body that nobody needs, then the next message.
    let verdict = Verdict::Capture { turn_bytes: 10_000, skip_egress_until: 2900, skip_ingress_until: 0 };
    agent.verdict(client, verdict);
    turn(&mut trap, "1500 0");
    let records = captured(agent, client, Direction::Egress, 3400);
    assert_eq!(records[5..], [(1900, 1000, 0, true), (2900, 500, 500, false)]);
    agent.look(|seen| {
        let last = stream(seen, client, Direction::Egress).records.pop().expect("a record");
        assert!(
            (2900..).zip(&last.bytes).all(|(i, b)| *b == pattern(1, i)),
            "the bytes after the skipped ones"
        );
    });

    // Nothing any more.
    agent.verdict(client, Verdict::Ignore);
    turn(&mut trap, "50 0");
    trap.finish();
    captured(agent, server, Direction::Ingress, 3450);
    let records = captured(agent, client, Direction::Egress, 3400);
    assert_eq!(records.len(), 7, "an ignored connection has no records: {records:?}");
}

#[test]
fn full_ring_loses_records_but_not_their_count() {
    if Agent::shared().is_none() {
        return;
    }
    let options =
        Options { ring_bytes: 64 << 10, first_look_bytes: 64 << 20, cgroup_percent: 0, ..Options::default() };
    let Some(agent) = Agent::start_or_skip(options) else { return };
    let mut trap = Trap::start("turns", "tcp4");
    assert!(trap.until_ready());
    turn(&mut trap, "10 10");
    let (client, server) = trap.facts.ends();
    captured(&agent, client, Direction::Ingress, 10);
    captured(&agent, server, Direction::Ingress, 10);

    agent.pause();
    let before = agent.totals();
    for _ in 0..100 {
        turn(&mut trap, "3000 3000");
    }
    let lost = |counter: Counter| agent.totals().of(counter) - before.of(counter);
    assert!(lost(Counter::DataLost) > 0, "a ring of 64 KiB holds no 1.2 MB");
    agent.resume();
    // Others on this machine may fill the small ring at any moment: until the end has come through.
    let mut sent = 300_010;
    loop {
        turn(&mut trap, "20 20");
        sent += 20;
        let end = |id, direction| agent.look(|seen| stream(seen, id, direction).end);
        let ends = [(client, Direction::Egress), (client, Direction::Ingress), (server, Direction::Ingress)];
        let all = || ends.iter().all(|(id, direction)| end(*id, *direction) >= sent);
        if all() && end(server, Direction::Egress) >= sent {
            break;
        }
        assert!(sent < 400_000, "recovery after the ring was full");
        std::thread::yield_now();
    }
    let facts = trap.finish();

    // What was seen and what was lost make up what was sent, in every direction.
    let (mut seen_bytes, mut moved_bytes, mut hole_bytes) = (0, 0, 0);
    for ((name, way), moved) in &facts.moved {
        let direction = if *way == Way::Egress { Direction::Egress } else { Direction::Ingress };
        let stream = agent.look(|seen| stream(seen, facts.sockets[name], direction));
        let mut at = 0;
        for data in &stream.records {
            assert!(data.pos >= at, "{name} {way:?}: overlap at {at}");
            assert!((data.pos..).zip(&data.bytes).all(|(i, b)| *b == pattern(moved.side, i)));
            hole_bytes += data.pos - at;
            seen_bytes += u64::from(data.len);
            at = data.pos + u64::from(data.len);
        }
        assert_eq!(at, moved.bytes, "{name} {way:?}: the position is exact after the loss");
        moved_bytes += moved.bytes;
    }
    let (lost_records, lost_bytes) = (lost(Counter::DataLost), lost(Counter::DataLostBytes));
    eprintln!(
        "sent {moved_bytes} = seen {seen_bytes} + lost {hole_bytes}; \
         {lost_records} records of {lost_bytes} bytes lost by all programs of this machine"
    );
    assert_eq!(seen_bytes + hole_bytes, moved_bytes);
    assert!(hole_bytes > 0 && lost_bytes >= hole_bytes, "every hole is counted");
    agent.wait("a report of the loss", |seen| {
        let report =
            |r: &&Record| matches!(r, Record::Lost(lost) if lost.bytes >= hole_bytes && lost.records > 0);
        seen.other.iter().find(report).map(|_| ())
    });
}

#[test]
fn cgroup_that_floods_the_ring_loses_its_own_records_only() {
    check_flood(Cgroup::new);
}

#[test]
fn cgroups_of_version_1_are_told_apart_too() {
    check_flood(Cgroup::version_1);
}

fn check_flood(make: fn(&str) -> Result<Cgroup, String>) {
    if Agent::shared().is_none() {
        return;
    }
    let cgroups = match (make("noisy"), make("quiet")) {
        (Ok(noisy), Ok(quiet)) => [noisy, quiet],
        (Err(reason), _) | (_, Err(reason)) => {
            skip(&reason);
            return;
        }
    };
    let options = Options { ring_bytes: 8 << 20, first_look_bytes: 64 << 20, ..Options::default() };
    let Some(agent) = Agent::start_or_skip(options) else { return };
    let mut traps = cgroups.each_ref().map(|cgroup| {
        let mut trap = Trap::start("turns", "tcp4");
        cgroup.take(trap.tgid());
        assert!(trap.until_ready());
        turn(&mut trap, "10 10");
        trap
    });
    let ends = traps.each_ref().map(|trap| trap.facts.ends());
    for (client, server) in ends {
        captured(&agent, client, Direction::Ingress, 10);
        captured(&agent, server, Direction::Ingress, 10);
    }

    // Nobody reads the ring: the one writes many times as much as fits, the other a little in between.
    agent.pause();
    let before = agent.totals();
    let [noisy, quiet] = &mut traps;
    for _ in 0..40 {
        for _ in 0..25 {
            turn(noisy, "3000 3000");
        }
        turn(quiet, "500 500");
    }
    let lost = |counter: Counter| agent.totals().of(counter) - before.of(counter);
    let (refused, refused_bytes) = (lost(Counter::CgroupLost), lost(Counter::CgroupLostBytes));
    assert!(refused > 0, "12 MB in a ring of 8 MiB");
    agent.resume();
    let [noisy, quiet] = traps;
    check_streams(&agent, &quiet.finish());

    // The other one's streams have holes, each of them counted.
    let facts = noisy.finish();
    let mut missing = 0;
    for ((name, way), moved) in &facts.moved {
        let stream = agent.look(|seen| stream(seen, facts.sockets[name], way.direction()));
        assert!(
            stream.records.iter().all(|data| {
                (data.pos..).zip(&data.bytes).all(|(i, byte)| *byte == pattern(moved.side, i))
            })
        );
        missing += moved.bytes - stream.records.iter().map(|data| u64::from(data.len)).sum::<u64>();
    }
    eprintln!(
        "{refused} operations of {refused_bytes} bytes refused; {missing} bytes missing; {} records lost to a full ring",
        lost(Counter::DataLost)
    );
    assert!(missing > 0 && missing <= refused_bytes + lost(Counter::DataLostBytes));
}

#[test]
fn what_seldom_happens_is_said_once_where_it_was_asked_for() {
    // Says why there are no probes, where there are none.
    if Agent::shared().is_none() {
        return;
    }
    // Nobody reads its rings.
    let options = Options { ring_bytes: 64 << 10, cgroup_percent: 0, ..Options::default() };
    let start = |explain| Capture::start(Options { explain, ..options }).expect("probes that load twice");
    let (mut telling, silent) = (start(true), start(false));
    let started = Instant::now();
    run("no-copy", "tcp4");
    run("big", "tcp4");
    let lines = telling.log.as_mut().expect("a log that was asked for").read();
    let most = 1 + started.elapsed().as_secs() as usize / 10;
    for sentence in ["has no buffer that can be read", "the data ring is full"] {
        let said = lines.iter().filter(|line| line.contains(sentence)).count();
        assert!((1..=most).contains(&said), "{sentence}: {said} times of at most {most} in {lines:#?}");
    }
    assert!(silent.log.is_none(), "nothing is set up where nobody asks");
    let lost = |capture: &Capture| capture.counters.read().expect("counters").of(Counter::DataLost);
    assert!(lost(&silent) > 0 && lost(&telling) > 0, "both have met it");
}

#[test]
fn own_traffic_is_left_out_at_both_ends() {
    let Some(agent) = Agent::shared() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let before = agent.totals().of(Counter::Ignored);
    for _ in 0..100 {
        client.write_all(b"own").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
    }
    let ports = [client.local_addr().unwrap(), server.local_addr().unwrap()];
    assert!(agent.totals().of(Counter::Ignored) >= before + 198, "the kernel itself leaves them out");
    // Later traffic of a trap is there, so the own one would be, too.
    check_streams(agent, &run("calls", "tcp4"));
    agent.look(|seen| {
        let mine = |conn: &&Conn| {
            ports.iter().any(|p| conn.local == Endpoint::Inet(*p) || conn.remote == Endpoint::Inet(*p))
        };
        assert_eq!(seen.conns.values().find(mine), None);
    });
}

fn clock_pair(record: &Record) -> Option<ClockPair> {
    match record {
        Record::Clock(pair) => Some(*pair),
        _ => None,
    }
}

#[test]
fn clock_samples_come_each_second() {
    let Some(agent) = Agent::shared() else { return };
    let pairs = agent.wait("clock samples", |seen| {
        let pairs: Vec<_> = seen.other.iter().filter_map(clock_pair).collect();
        (pairs.len() >= 3).then_some(pairs)
    });
    let now = WallTime::ZERO + SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(pairs.iter().all(|pair| now.abs_diff(pair.wall) < Duration::from_secs(3600)), "{pairs:?}");
    assert!(pairs.windows(2).all(|w| w[0].boot < w[1].boot));
}

/// Sets the machine's clock: only where `SPOOR_TEST_MAY_SET_CLOCK` says that nobody else uses it.
#[test]
fn clock_that_is_set_is_noticed_at_once() {
    let Some(agent) = Agent::shared() else { return };
    if std::env::var_os("SPOOR_TEST_MAY_SET_CLOCK").is_none() {
        skip("only guests of `cargo xtask vm` have a clock that may be set");
        return;
    }
    let pairs = || agent.look(|seen| seen.other.iter().filter_map(clock_pair).collect::<Vec<_>>());
    let offset = |pair: &ClockPair| i128::from(pair.wall.as_nanos()) - i128::from(pair.boot.as_nanos());
    agent.wait("a first pair", |seen| seen.other.iter().find_map(clock_pair));
    for seconds in [3600, -7200, 3600] {
        let before = pairs();
        let last = before.last().map(offset).unwrap();
        let mut now = clock_gettime(ClockId::Realtime);
        now.tv_sec += seconds;
        clock_settime(ClockId::Realtime, now).unwrap();
        let step = i128::from(seconds) * 1_000_000_000;
        let noticed = agent.wait("the step", |seen| {
            let mut after = seen.other.iter().filter_map(clock_pair).skip(before.len());
            after.find(|pair| (offset(pair) - last - step).abs() < 500_000_000)
        });
        assert!(noticed.boot > before.last().unwrap().boot);
        // Records go on, dated by the clock that nobody sets.
        check_streams(agent, &run("calls", "tcp4"));
    }
    assert!(pairs().windows(2).all(|w| w[0].boot < w[1].boot));
}
