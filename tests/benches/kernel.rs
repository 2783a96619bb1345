//! What the probes cost a traced program: nanoseconds per operation without them, captured, ignored, and for calls
//! that are no business of theirs.
//!
//! The figures promised are 700 ns per captured operation of 512 bytes, 100 ns per ignored one, 0 for others. The
//! least of several runs counts: what disturbs a run only ever makes it slower.

use spoor::capture::Options;
use spoor::capture::verdict::Verdict;
use spoor_core::record::Direction;
use spoor_tests::kernel::{Agent, Trap, stream};

const RUNS: usize = 9;
const ROUNDS: u64 = 10_000;

/// Least nanoseconds per operation of `what`.
fn measure(trap: &mut Trap, what: &str) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        trap.tell(&format!("{what} {ROUNDS}"));
        assert!(trap.until_ready());
        let (_, operations, ns) = trap.facts.took.pop().expect("a measurement");
        least = least.min(ns as f64 / operations as f64);
    }
    least
}

fn main() {
    const WHAT: [&str; 3] = ["file", "getppid", "socket"];
    let mut trap = Trap::start("measure", "tcp4");
    assert!(trap.until_ready());
    let before = WHAT.map(|what| measure(&mut trap, what));

    let Some(agent) = Agent::start_or_skip(Options { ring_bytes: 64 << 20, ..Options::default() }) else {
        return;
    };
    trap.tell("socket 1");
    assert!(trap.until_ready());
    let (client, server) = trap.facts.ends();
    for (end, direction) in [(client, Direction::Egress), (server, Direction::Ingress)] {
        agent.wait("the connection", |seen| (stream(seen, end, direction).end > 0).then_some(()));
        agent.verdict(end, Verdict::capture(u32::MAX));
    }
    let captured = WHAT.map(|what| measure(&mut trap, what));
    let lost = agent.totals().of(spoor_common::Counter::DataLost);
    for end in [client, server] {
        agent.verdict(end, Verdict::Ignore);
    }
    let ignored = measure(&mut trap, "socket");
    drop(agent);
    let after = WHAT.map(|what| measure(&mut trap, what));

    let without = |i: usize| before[i].min(after[i]);
    println!("nanoseconds per operation        without   with probes   difference   promised");
    let row = |name: &str, without: f64, with: f64, promised: &str| {
        println!("{name:<30} {without:>9.0} {with:>13.0} {:>12.0}   {promised}", with - without);
    };
    row("512 bytes, captured", without(2), captured[2], "<= 700");
    row("512 bytes, ignored", without(2), ignored, "<= 100");
    row("read of /dev/zero", without(0), captured[0], "0");
    row("getppid", without(1), captured[1], "0");
    println!("records lost while measuring: {lost}");
}
