//! `cargo xtask demo`: the reference flow with the agent beside it, for people.

#![forbid(unsafe_code)]

mod args;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use spoor_tests::agent::{self, Agent};
use spoor_tests::customers::{Outcome, Scenario, unix_ns};
use spoor_tests::drill::{self, Drill};
use spoor_tests::flow::{self, Flow};
use spoor_tests::forest::Span;
use spoor_tests::peers::{self, go_on};
use spoor_tests::printed;
use spoor_tests::serve::{self, Server};
use spoor_tests::truth::compare::{Report, compare};
use spoor_tests::truth::history::Told;

use crate::args::{Args, Print, When};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
struct Command {
    #[command(flatten)]
    args: Args,
}

/// The agent may take this long to release the trees of finished orders: it holds them a while for late spans.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// Orders before those that are counted, under TLS.
const WARM_UP: usize = 10;
/// Connections under TLS may wait so long for their secrets.
const SEARCH: Duration = Duration::from_secs(10);
/// Between two orders of the trickle.
const TRICKLE: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    let args = Command::parse().args;
    match peers::watch_signals("demo").and_then(|()| run(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Ctrl-C is how the demo ends.
            if go_on().is_err() && !args.once {
                eprintln!("demo: stopped");
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)`: it ran, but the traces are not complete.
fn run(args: &Args) -> Result<bool> {
    if let Some(missing) = flow::missing() {
        bail!(missing);
    }
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    // An agent that comes first has a directory of its own.
    let mut scratch = peers::Scratch::new("demo")?;
    let mut server = None;
    if args.serve {
        eprintln!("demo: starting the orders' server");
        let serve = serve::binary(&binary).map_err(anyhow::Error::msg)?;
        let start = if args.failures { Server::start_impatient } else { Server::start };
        server = Some(start(&serve, scratch.path())?);
    }
    let endpoint = server.as_ref().map(Server::endpoint).or_else(|| args.otlp_endpoint.clone());
    let start_agent = || match &server {
        // Open work is told sooner.
        Some(server) if args.failures => drill::start_agent(&binary, scratch.path(), "agent", server),
        _ => start_agent(&binary, scratch.path(), args, endpoint.as_deref()),
    };
    // What queues there are shows when they are declared.
    let is_first = args.failures || args.agent == When::First;
    let mut agent = if is_first { Some(start_agent()?) } else { None };
    let progress = |step: &str| eprintln!("demo: starting {step}");
    let mut flow = if args.tls { Flow::start_encrypted(&progress)? } else { Flow::start(&progress)? };
    if agent.is_none() {
        agent = Some(start_agent()?);
    }
    let agent = agent.context("the agent was started")?;
    let complete = demonstrate(args, &mut flow, agent, server.as_mut())?;
    drop(server);
    if complete && !args.keep {
        scratch.discard();
        flow.discard();
    }
    Ok(complete)
}

fn start_agent(binary: &Path, dir: &Path, args: &Args, endpoint: Option<&str>) -> Result<Agent> {
    eprintln!("demo: starting the agent, {}", binary.display());
    let mut options = Vec::new();
    if let Some(endpoint) = endpoint {
        options.extend(["--otlp-endpoint".to_owned(), endpoint.to_owned()]);
    }
    if let Some(protocol) = &args.otlp_protocol {
        options.extend(["--otlp-protocol".to_owned(), protocol.clone()]);
    }
    if args.tls {
        let config = dir.join("spoor.yaml");
        std::fs::write(&config, "tls:\n  open: all\n  memory:\n    cpu_percent: 100\n")
            .context("cannot write the agent's configuration")?;
        options.extend(["--config".to_owned(), config.to_string_lossy().into_owned()]);
    }
    Agent::start(binary, dir, "agent", &options)
}

fn demonstrate(
    args: &Args,
    flow: &mut Flow,
    mut agent: Agent,
    mut server: Option<&mut Server>,
) -> Result<bool> {
    if args.tls {
        // What is counted comes when the agent has been there for a while, as it has where people work: by then it knows the secrets of
        // connections that were open before it, and where each program keeps them.
        eprintln!(
            "demo: {WARM_UP} orders that are not counted, until the agent knows where each program keeps its secrets"
        );
        flow.run_orders(WARM_UP, args.concurrency as usize)?;
        std::thread::sleep(SEARCH);
    }
    let since = unix_ns();
    eprintln!("demo: {} orders, {} at a time", args.orders, args.concurrency);
    let outcomes = flow.run_orders(args.orders as usize, args.concurrency as usize)?;
    let entries = flow.truth()?;
    let mut raw = Raw::new(&agent, args)?;
    if args.once {
        if args.tls {
            // Secrets are looked for as long as records wait for them, and the end does not wait.
            std::thread::sleep(SEARCH);
        }
        let spans = agent.stop()?;
        let report = compare(&entries, &spans, since);
        show(args, &outcomes, &spans, &report);
        raw.print()?;
        let Some(server) = server else { return Ok(report.is_complete()) };
        let told = flow.history()?.compare(&outcomes, server)?;
        tell(&outcomes, &told);
        return Ok(report.is_complete() && told.differences.is_empty());
    }
    let start = Instant::now();
    let mut printed = 0;
    loop {
        go_on()?;
        agent.check()?;
        let spans = agent.spans()?;
        let report = compare(&entries, &spans, since);
        if report.is_complete() || start.elapsed() > RELEASE_LIMIT {
            show(args, &outcomes, &spans, &report);
            printed = spans.len();
            break;
        }
        if spans.len() != printed {
            printed = spans.len();
            eprintln!("demo: {printed} spans; the agent still holds trees for late spans");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    if let Some(server) = &server {
        tell(&outcomes, &flow.history()?.compare(&outcomes, server)?);
        eprintln!("demo: where each order is: {}", server.invitation("demo")?);
        eprintln!("demo: the link is good once; choose any password there");
    }
    if let Some(server) = server.as_deref().filter(|_| args.failures) {
        eprintln!("demo: now things go wrong on purpose; each is said on a page, warned of and mended");
        Drill { flow, server, agent: &mut agent }.run(&mut |told| eprintln!("demo: {told}"))?;
        (raw, printed) = (Raw::new(&agent, args)?, 0);
    }
    eprintln!("demo: an order every {TRICKLE:?} from now on, Ctrl-C ends it");
    while go_on().is_ok() {
        raw.print()?;
        for outcome in flow.run_orders(1, 1)? {
            eprintln!("demo: order {} {}", outcome.order, describe(outcome.scenario));
        }
        flow.check()?;
        agent.check()?;
        server.as_mut().map_or(Ok(()), |server| server.check())?;
        let pause = Instant::now();
        while go_on().is_ok() && pause.elapsed() < TRICKLE {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let spans = agent.stop()?;
    raw.print()?;
    eprintln!("demo: {} more spans since, all delivered", spans.len().saturating_sub(printed));
    Ok(true)
}

/// What the agent prints, passed on as far as it was not before: `--print otlp-json`.
struct Raw(Option<File>);

impl Raw {
    fn new(agent: &Agent, args: &Args) -> Result<Self> {
        let wanted = args.print == Print::OtlpJson;
        Ok(Self(
            wanted
                .then(|| File::open(agent.output()))
                .transpose()
                .context("cannot read what the agent prints")?,
        ))
    }

    fn print(&mut self) -> Result<()> {
        if let Some(file) = &mut self.0 {
            std::io::copy(file, &mut std::io::stdout().lock()).context("cannot print spans")?;
        }
        Ok(())
    }
}

fn show(args: &Args, outcomes: &[Outcome], spans: &[Span], report: &Report) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away (`| head`) is no failure of the demo.
    let _ = print(&mut out, args, outcomes, spans);
    eprintln!("demo: {report}");
    let endpoint = args.otlp_endpoint.as_deref();
    let good =
        outcomes.iter().find(|outcome| outcome.scenario == Scenario::Good).map_or(1, |outcome| outcome.order);
    match endpoint {
        Some(endpoint) => {
            eprintln!(
                "demo: the spans also went to {endpoint}; in Jaeger search for the tag order.id={good}"
            );
        }
        None if args.serve => {}
        None => eprintln!(
            "demo: with --serve they go to a page of each order; with --otlp-endpoint http://localhost:4317 they go to Jaeger too: search for the tag order.id={good}"
        ),
    }
}

/// What the orders' page says: one order of each kind, and whether every status change is told.
fn tell(outcomes: &[Outcome], told: &Told) {
    for scenario in Scenario::ALL {
        let one = outcomes.iter().find(|outcome| outcome.scenario == scenario);
        if let Some((order, sentence)) = one.and_then(|one| told.sentences.get_key_value(&one.order)) {
            eprintln!("demo: where is order {order}? {sentence}");
        }
    }
    eprintln!("demo: {told}");
}

fn print(out: &mut impl Write, args: &Args, outcomes: &[Outcome], spans: &[Span]) -> std::io::Result<()> {
    match args.print {
        Print::OtlpJson => return Ok(()),
        Print::All => {
            for outcome in outcomes {
                writeln!(
                    out,
                    "{}\n{}",
                    describe(outcome.scenario),
                    printed::tree(spans, &outcome.order.to_string())
                )?;
            }
        }
        Print::Two => {
            for failed in [false, true] {
                let one = outcomes.iter().filter(|outcome| outcome.scenario.fails() == failed);
                // The failure that travels furthest is the best one to look at.
                if let Some(outcome) = one.max_by_key(|outcome| rank(outcome.scenario)) {
                    let tree = printed::tree(spans, &outcome.order.to_string());
                    writeln!(out, "An order that {}:\n{tree}", describe(outcome.scenario))?;
                }
            }
        }
    }
    Ok(())
}

fn rank(scenario: Scenario) -> u32 {
    match scenario {
        Scenario::Good | Scenario::Rejected => 2,
        Scenario::SqlError => 1,
        Scenario::Partner | Scenario::UploadError => 0,
    }
}

fn describe(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Good => "was produced",
        Scenario::Partner => "came from a partner and was produced",
        Scenario::UploadError => "failed: the store refused its model",
        Scenario::SqlError => "failed: the MES database refused its production plan",
        Scenario::Rejected => "failed: the MES rejected its message, which was dead-lettered",
    }
}
