//! `cargo xtask bench soak`: the reference flow under load for a long time, with the collector away in the middle.
//!
//! *Owns* the course of the run and the verdict. *Must not know* how the agent works: it reads what any user can.

#![forbid(unsafe_code)]

mod args;
mod books;
mod memory;
mod seen;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Parser;
use spoor_tests::agent;
use spoor_tests::flow::{self, Flow};
use spoor_tests::peers::{self, Process, go_on, tail};
use spoor_tests::receiver::Receiver;

use crate::args::Args;
use crate::books::Summary;
use crate::memory::{Sample, at_part, slope_kib_per_minute};
use crate::seen::Seen;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench soak", bin_name = "cargo xtask bench soak")]
struct Options {
    #[command(flatten)]
    args: Args,
}

/// Between two looks at the agent.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Between two lines about how it goes.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Models older than this are not read any more: the store forgets them, so that the disk does not fill up.
const MODELS_KEPT: Duration = Duration::from_secs(180);
/// Failed orders that are told in full.
const SHOWN: usize = 5;
/// Tables that are bounded by number fill up first; messages are remembered the longest, for some 20 minutes of this
/// load. From this part of the run on the agent takes no more than so much more.
const FILLED: f64 = 0.75;
const MEMORY_GROWTH: f64 = 1.1;

fn main() -> ExitCode {
    match run(&Options::parse().args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)`: it ran to its end, but the books do not balance.
fn run(args: &Args) -> Result<bool> {
    if let Some(missing) = flow::missing() {
        bail!(missing);
    }
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let mut scratch = peers::Scratch::new("soak")?;
    let mut flow = Flow::start(&|step| eprintln!("soak: starting {step}"))?;
    let mut receiver = Receiver::start(Seen::default())?;
    let mut agent = start_agent(&binary, scratch.path(), &receiver.url())?;
    let course = drive(args, &flow, &mut receiver, &mut agent)?;
    // Messages still under way are part of the run.
    let wait = Instant::now() + Duration::from_secs(5);
    while Instant::now() < wait {
        go_on()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    flow.check()?;
    eprintln!("soak: stopping the agent");
    let ended_well = agent.stop()?;
    let log = fs::read_to_string(agent.log())?;
    let summary = Summary::parse(&log);
    let Some(summary) = summary.filter(|_| ended_well) else {
        bail!("spoor run did not end well:\n{}", tail(agent.log()));
    };
    receiver.go_away()?;
    let truth = books::truth(&flow.dir().join("truth"))?;
    let faults = report(args, &course, &summary, &receiver, &truth);
    let passed = faults.is_empty();
    if passed && !args.keep {
        scratch.discard();
        flow.discard();
    }
    Ok(passed)
}

fn start_agent(binary: &Path, dir: &Path, endpoint: &str) -> Result<Process> {
    eprintln!("soak: starting the agent, {}", binary.display());
    let config = dir.join("spoor.yaml");
    let text = format!("export:\n  spool:\n    directory: {}\n", dir.join("spool").display());
    fs::write(&config, text)?;
    let mut command = Command::new(binary);
    command.arg("run").arg("--config").arg(&config).args(["--otlp-endpoint", endpoint]);
    // The tests' own variables are no settings of the agent.
    command.env_remove("SPOOR_AGENT").env_remove("SPOOR_SKIPPED");
    let mut process = Process::start("spoor run", &mut command, &dir.join("agent.log"))?;
    process.wait_for_line("ready:")?;
    Ok(process)
}

/// What happened while orders came.
#[derive(Debug, Default)]
struct Course {
    took: Duration,
    orders: usize,
    failed: Vec<String>,
    /// When the collector was away.
    away: (Duration, Duration),
    samples: Vec<Sample>,
}

/// Runs orders for the whole time; meanwhile stops and starts the collector and looks at the agent.
fn drive(args: &Args, flow: &Flow, receiver: &mut Receiver<Seen>, agent: &mut Process) -> Result<Course> {
    let length = Duration::from_secs(args.minutes * 60);
    // In the middle.
    let outage = args.away.map_or(length / 10, |minutes| Duration::from_secs(minutes * 60));
    if outage >= length {
        bail!("the collector cannot be away for {outage:?} of {length:?}");
    }
    let away = ((length - outage) / 2, (length + outage) / 2);
    let over = AtomicBool::new(false);
    eprintln!(
        "soak: {} min of orders, {} at a time; the collector is away from {} to {}",
        args.minutes,
        args.concurrency,
        clock(away.0),
        clock(away.1)
    );
    std::thread::scope(|scope| {
        let orders = scope.spawn(|| flow.run_orders_until(&over, args.concurrency as usize));
        let start = Instant::now();
        let mut course = Course { away, ..Course::default() };
        let watched = watch(&mut course, start, length, flow, receiver, agent);
        over.store(true, Ordering::Relaxed);
        if watched.is_err() {
            peers::interrupt();
        }
        let orders = orders.join().map_err(|_| anyhow::anyhow!("the thread of the orders failed"))?;
        watched?;
        course.took = start.elapsed();
        for outcome in orders {
            course.orders += 1;
            if let Err(error) = outcome {
                course.failed.push(format!("{error:#}"));
            }
        }
        course.samples.push(Sample::take(agent.id(), start.elapsed())?);
        Ok(course)
    })
}

fn watch(
    course: &mut Course,
    start: Instant,
    length: Duration,
    flow: &Flow,
    receiver: &mut Receiver<Seen>,
    agent: &mut Process,
) -> Result<()> {
    let (mut next_sample, mut next_line) = (Duration::ZERO, Duration::ZERO);
    let mut stage = 0;
    loop {
        let at = start.elapsed();
        if at >= length {
            return Ok(());
        }
        go_on()?;
        agent.check()?;
        if stage == 0 && at >= course.away.0 {
            stage = 1;
            receiver.go_away()?;
            course.away.0 = start.elapsed();
            eprintln!(
                "soak: {} the collector is away, {} spans received",
                clock(at),
                receiver.seen().distinct()
            );
        }
        if stage == 1 && at >= course.away.1 {
            stage = 2;
            receiver.come_back()?;
            course.away.1 = start.elapsed();
            eprintln!("soak: {} the collector is back", clock(at));
        }
        if at >= next_sample {
            next_sample += SAMPLE_EVERY;
            let sample = Sample::take(agent.id(), at)?;
            course.samples.push(sample);
            if at >= next_line {
                next_line += TELL_EVERY;
                eprintln!(
                    "soak: {} {} resident ({} its own), CPU {:.1} s, {} spans received",
                    clock(at),
                    mib(sample.resident_kib),
                    mib(sample.own_kib),
                    sample.cpu.as_secs_f64(),
                    receiver.seen().distinct(),
                );
            }
            forget_models(&flow.dir().join("store/objects/models"))?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Removes what nobody asks for any more.
fn forget_models(dir: &Path) -> Result<()> {
    let now = SystemTime::now();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget_models(&entry.path())?;
            continue;
        }
        // nginx may move files meanwhile.
        let Ok(modified) = entry.metadata().and_then(|meta| meta.modified()) else { continue };
        if now.duration_since(modified).unwrap_or_default() > MODELS_KEPT {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Prints the table and what is wrong with it.
fn report(
    args: &Args,
    course: &Course,
    summary: &Summary,
    receiver: &Receiver<Seen>,
    truth: &std::collections::BTreeMap<String, u64>,
) -> Vec<String> {
    let seen = receiver.seen();
    let row = |what: &str, value: String| println!("{what:<34} {value}");
    row("run", format!("{} of orders, {} at a time", clock(course.took), args.concurrency));
    row("collector away", format!("{} to {}", clock(course.away.0), clock(course.away.1)));
    let rate = course.orders as f64 / course.took.as_secs_f64();
    row("orders", format!("{}, {} failed, {rate:.2}/s", course.orders, course.failed.len()));
    let kinds: Vec<String> = truth.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    row(
        "operations by the services' logs",
        format!("{} ({})", truth.values().sum::<u64>(), kinds.join(", ")),
    );
    for line in &summary.lines {
        let (what, value) = line.split_once(": ").unwrap_or((line, ""));
        row(&format!("agent: {what}"), value.to_owned());
    }
    row(
        "received",
        format!("{} spans, {} more than once, requests {}", seen.distinct(), seen.duplicates, seen.requests),
    );
    for part in [0.1, 0.3, 0.5, 1.0] {
        if let Some(sample) = at_part(&course.samples, part) {
            let cpu = sample.cpu.as_secs_f64();
            row(
                &format!("resident at {:.0} %", part * 100.0),
                format!("{} ({} its own), CPU {cpu:.1} s", mib(sample.resident_kib), mib(sample.own_kib)),
            );
        }
    }
    let slope = slope_kib_per_minute(&course.samples);
    row("growth from 30 % on", format!("{slope:+.1} KiB/min"));
    if let Some(last) = course.samples.last() {
        let us = last.cpu.as_secs_f64() * 1e6;
        row(
            "CPU",
            format!(
                "{:.1} % of a core, {:.0} us per span",
                us / 1e4 / last.at.as_secs_f64(),
                us / summary.spans.max(1) as f64
            ),
        );
    }
    let faults = faults(course, summary, &seen);
    for fault in &faults {
        println!("FAULT {fault}");
    }
    println!("{}", if faults.is_empty() { "soak: all books balance" } else { "soak: failed" });
    faults
}

fn faults(course: &Course, summary: &Summary, seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    let mut unless = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    unless(course.orders > 0, "no order came to its end".to_owned());
    for failed in course.failed.iter().take(SHOWN) {
        unless(false, format!("an order failed: {failed}"));
    }
    if course.failed.len() > SHOWN {
        unless(false, format!("{} more orders failed", course.failed.len() - SHOWN));
    }
    let spans = summary.spans;
    unless(spans > 0, "the agent finished no span".to_owned());
    unless(
        seen.distinct() == spans && seen.malformed == 0,
        format!(
            "the agent finished {spans} spans, {} distinct ones were received ({} malformed)",
            seen.distinct(),
            seen.malformed
        ),
    );
    unless(
        summary.exported == spans && summary.spooled == 0,
        format!(
            "of {spans} spans {} were exported and {} left in the spool",
            summary.exported, summary.spooled
        ),
    );
    unless(
        seen.duplicates == 0,
        format!("{} spans were received more than once: {}", seen.duplicates, seen.examples.join("; ")),
    );
    let dropped = summary.lost_by(&["spans dropped"]);
    unless(dropped == 0, format!("{dropped} spans were dropped"));
    // A hole in a stream that no counter of the kernel explains is a loss that nobody counted.
    let holes = summary.lost_by(&["bytes in no record"]);
    let counted = summary.lost_by(&["data lost bytes"]);
    // Of these the kernel does not know the bytes.
    let unmeasured = summary.lost_by(&["state failed", "position uncertain", "conn lost", "close lost"]);
    unless(
        holes <= counted || unmeasured > 0,
        format!("{holes} bytes are missing between records, and the kernel counted {counted} as lost"),
    );
    match (at_part(&course.samples, FILLED), course.samples.last()) {
        (Some(early), Some(last)) => {
            let bound = early.resident_kib as f64 * MEMORY_GROWTH;
            unless(
                last.resident_kib as f64 <= bound,
                format!(
                    "resident memory grew from {} at {:.0} % to {}",
                    mib(early.resident_kib),
                    FILLED * 100.0,
                    mib(last.resident_kib)
                ),
            );
        }
        _ => unless(false, "the agent was never looked at".to_owned()),
    }
    faults
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// `12:05`
fn clock(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
