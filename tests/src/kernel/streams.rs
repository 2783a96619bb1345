//! What the agent saw and what the trap says it did in, a panic out where they differ.

use std::collections::BTreeMap;

use spoor_core::record::{ConnId, Data, Direction, NetNs, Role, WireBase};

use super::{Agent, Facts, Seen, Way, pattern};

/// One direction of a connection put together from its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Its records by position.
    pub records: Vec<Data>,
    /// Position after the last of them.
    pub end: u64,
}

/// The records of one direction in the order of their positions.
pub fn stream(seen: &Seen, conn: ConnId, direction: Direction) -> Stream {
    let all = seen.data.get(&conn).into_iter().flatten();
    let mut records: Vec<Data> = all.filter(|d| d.direction == direction).cloned().collect();
    records.sort_by_key(|d| d.pos);
    let end = records.iter().map(|d| d.pos + u64::from(d.len)).max().unwrap_or_default();
    Stream { records, end }
}

/// Waits until every stream of the trap is there, and compares each with what the trap says: no byte missing, none
/// twice, none wrong, except where the trap says so.
pub fn check_streams(agent: &Agent, facts: &Facts) {
    check_streams_from(agent, facts, &BTreeMap::new());
}

/// The same for connections of which the agent has seen only what comes after the given positions.
pub fn check_streams_from(agent: &Agent, facts: &Facts, from: &BTreeMap<(String, Way), u64>) {
    for ((name, way), moved) in &facts.moved {
        let conn = facts.sockets[name];
        let key = (name.clone(), *way);
        let start = from.get(&key).copied().unwrap_or_default();
        if moved.bytes == start {
            continue;
        }
        let mut gaps = facts.gaps.get(&key).cloned().unwrap_or_default();
        let mut holes = facts.holes.get(&key).cloned().unwrap_or_default();
        // Rung D sees returns of calls, and so a `splice` out of a socket, for which the others have no event.
        let seen_by_return = if agent.rung == 'D' { &mut holes } else { &mut gaps };
        seen_by_return.extend(facts.spliced.get(&key).into_iter().flatten());
        let missing: u64 = gaps.iter().map(|(from, to)| to - from).sum();
        let what = format!("{name} {way:?}: {} bytes", moved.bytes);
        let stream = agent.wait(&what, |seen| {
            let stream = stream(seen, conn, way.direction());
            let covered: u64 = stream.records.iter().map(|d| u64::from(d.len)).sum();
            (covered + missing >= moved.bytes - start).then_some(stream)
        });

        let mut at = start;
        let mut unreadable = Vec::new();
        let mut skipped = Vec::new();
        for data in &stream.records {
            if data.pos > at {
                skipped.push((at, data.pos));
                at = data.pos;
            }
            assert_eq!(data.pos, at, "{name} {way:?}: records tile the stream");
            for (offset, byte) in (data.pos..).zip(&data.bytes) {
                assert_eq!(
                    *byte,
                    pattern(moved.side, offset),
                    "{name} {way:?}: byte {offset} of {}",
                    moved.bytes
                );
            }
            at += u64::from(data.len);
            let readable = data.pos + data.bytes.len() as u64;
            if readable < at {
                assert!(
                    data.flags.unreadable,
                    "{name} {way:?}: bytes from {readable} to {at}: {:?}",
                    data.flags
                );
                unreadable.push((readable, at));
            }
            assert!(!data.flags.position_uncertain, "{name} {way:?}: position at {}", data.pos);
        }
        assert_eq!(at, moved.bytes, "{name} {way:?}: end of the stream");
        assert_eq!(merged(unreadable), merged(holes), "{name} {way:?}: bytes out of reach");
        assert_eq!(merged(skipped), merged(gaps), "{name} {way:?}: bytes without an event");
    }
}

fn merged(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (from, to) in intervals {
        match out.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => out.push((from, to)),
        }
    }
    out
}

/// Waits for both ends of every pair and checks that they know themselves to be two ends of one TCP connection.
pub fn check_wire(agent: &Agent, facts: &Facts) {
    for (client, server) in &facts.pairs {
        let find = |name: &String| {
            let id = facts.sockets[name];
            agent.wait(&format!("connection of {name}"), |seen| seen.conns.get(&id).cloned())
        };
        let (client, server) = (find(client), find(server));
        assert_eq!(client.role, Some(Role::Client), "{client:?}");
        assert_eq!(server.role, Some(Role::Server), "{server:?}");
        let WireBase { egress, ingress } = client.wire.expect("wire identity of the client");
        assert_eq!(server.wire, Some(WireBase { egress: ingress, ingress: egress }), "{client:?} {server:?}");
        assert_eq!((&client.local, &client.remote), (&server.remote, &server.local));
        assert_eq!(client.netns, server.netns);
        assert_ne!(client.netns, NetNs::UNKNOWN);
    }
}
