//! A small part of `cargo xtask accuracy`: a thread per request, an event loop, a task runtime.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use spoor_tests::accuracy::judge::Class;
use spoor_tests::accuracy::run::{Options, run};
use spoor_tests::accuracy::runtime::Runtime;
use spoor_tests::agent;
use spoor_tests::netns;
use spoor_tests::skip::skip;

#[test]
fn causes_are_found_or_left_open_and_hardly_ever_wrong() {
    if let Err(reason) = agent::binary() {
        return skip(&reason);
    }
    let runtimes: Vec<&Runtime> =
        ["gunicorn-gthread", "node", "rust-tokio"].iter().filter_map(|name| Runtime::by_name(name)).collect();
    if let Some(reason) = runtimes.iter().find_map(|runtime| runtime.missing()) {
        return skip(&reason);
    }
    let options = Options {
        runtimes,
        concurrencies: vec![10],
        duration: Duration::from_secs(3),
        seed: 5,
        record: None,
        config: None,
        apart: None,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_accuracy"));
    let report = run(&options, program, &|step| eprintln!("{step}")).expect("the measurement runs");
    assert_eq!(report.cells.len(), 3);
    for cell in &report.cells {
        let verdict = &cell.verdict;
        assert!(verdict.inferred().sum() > 50, "{} did next to nothing: {verdict:?}", cell.runtime);
        // `cargo xtask accuracy` asks for all that is promised. This is a few seconds on a machine that may be busy: it
        // shows that nothing is badly wrong.
        let (all, places, keyed) = (verdict.all(), &verdict.places, verdict.of(Class::Keyed));
        let examples = &verdict.examples;
        assert!(all.wrong * 500 <= all.sum(), "{}: wrong edges\n{report}\n{examples:#?}", cell.runtime);
        let placed = places.right + places.none + places.wrong;
        assert!(places.wrong * 500 <= placed, "{}: wrong places\n{report}\n{examples:#?}", cell.runtime);
        assert!(keyed.correct * 100 >= keyed.sum() * 90, "{}: with the order's ID\n{report}", cell.runtime);
    }
}

/// One thread, several requests in flight, pooled connections, statements and calls without the order's ID: only who waits for whom
/// tells what caused them. At least so many of a hundred of each class are joined.
fn work_of_an_event_loop_is_joined(runtime: &str, least: [(Class, usize); 3]) {
    let runtime = Runtime::by_name(runtime).expect("it is one of them");
    let reason = agent::binary().err().or_else(|| runtime.missing());
    if let Some(reason) = reason {
        return skip(&reason);
    }
    if !cfg!(target_arch = "x86_64") {
        return skip("tasks are followed on x86-64 only");
    }
    let options = Options {
        runtimes: vec![runtime],
        concurrencies: vec![10, 30],
        duration: Duration::from_secs(4),
        seed: 6,
        record: None,
        config: None,
        apart: None,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_accuracy"));
    let report = run(&options, program, &|step| eprintln!("{step}")).expect("the measurement runs");
    for cell in &report.cells {
        let verdict = &cell.verdict;
        assert_eq!(verdict.all().wrong, 0, "{report}\n{:#?}", verdict.examples);
        // Where the ring ran over, only what was seen can be joined, and around losses nothing is.
        if verdict.seen < verdict.expected {
            skip("the machine was too busy to see every operation");
            continue;
        }
        for (class, percent) in least {
            let tally = verdict.of(class);
            assert!(tally.sum() > 50, "{class:?}: next to nothing was done\n{report}");
            assert!(tally.correct * 100 >= tally.sum() * percent, "{class:?}: {tally:?}\n{report}");
        }
    }
}

#[test]
fn work_of_asyncios_tasks_is_joined_without_the_orders_id() {
    let least = [(Class::Plain, 95), (Class::Parallel, 95), (Class::Twin, 95)];
    work_of_an_event_loop_is_joined("python-asyncio", least);
}

/// Nobody waits for what is published: that is the rest.
#[test]
fn work_that_requests_of_node_wait_for_is_joined_without_the_orders_id() {
    work_of_an_event_loop_is_joined("node", [(Class::Plain, 85), (Class::Parallel, 90), (Class::Twin, 75)]);
}

#[test]
fn two_agents_with_translation_between_them_make_one_tree_where_the_key_is_in_the_bytes() {
    let python = Runtime::by_name("python-threads").expect("it is one of them");
    let reason = agent::binary().err().or_else(|| python.missing()).or_else(netns::missing);
    if let Some(reason) = reason {
        return skip(&reason);
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_accuracy"));
    program.args([
        "--two-agents",
        "--runtime",
        "python-threads",
        "--concurrency",
        "5",
        "--seconds",
        "2",
        "--json",
    ]);
    // A promise may be broken on a busy machine: what is asked for here is below.
    let output = program.stderr(Stdio::inherit()).output().expect("the measurement starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report in JSON");
    let cell = &report["cells"][0];
    let count = |class: &str, what: &str| cell["edges"][class][what].as_u64().unwrap_or(0);
    assert_eq!(cell["dangling"], 0, "no span names a parent or link that nobody exports: {report:#}");
    assert_eq!(cell["spans"]["wrong"], 0, "{report:#}");
    for class in ["wire", "unnamed", "keyed"] {
        assert_eq!(count(class, "wrong"), 0, "{class}: {report:#}");
    }
    let (joined, left) = (count("wire", "correct"), count("wire", "missing"));
    assert!(joined > 50 && joined >= 20 * left, "{joined} joined across, {left} left: {report:#}");
}
