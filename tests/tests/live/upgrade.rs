//! An agent is replaced by another one while programs go on on the connections they have: what the first one learned of them is
//! known to the second.
//!
//! The first one is killed, the second one ended in order; beside the second one runs one that is given nothing. They need root, the
//! agent with its eBPF object, PostgreSQL, RabbitMQ and a client of each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use spoor_tests::agent::{self, Agent};
use spoor_tests::forest::Span;
use spoor_tests::peers::{Postgres, Process, Rabbit, Scratch, go_on, run};
use spoor_tests::skip::skip;

const TEXT: &str = "SELECT relname FROM pg_class WHERE relname = $1";
const QUEUE: &str = "mes.orders";
/// Turns of the worker that each agent sees, and that nobody sees.
const TURNS: usize = 12;
const LIMIT: Duration = Duration::from_secs(30);

fn missing() -> Option<String> {
    let has_clients = run(Command::new("/usr/bin/python3").args(["-c", "import asyncpg, pika"])).is_ok();
    let has_rabbit = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists();
    (!has_clients || !has_rabbit)
        .then(|| "RabbitMQ, asyncpg or pika is missing: run `cargo xtask setup`".to_owned())
}

/// A program that works turn by turn.
struct Worker(Process);

impl Worker {
    fn turns(&self) -> usize {
        let said = std::fs::read_to_string(self.0.log()).unwrap_or_default();
        said.lines().filter(|line| line.starts_with("turn ")).count()
    }

    /// Lets it work for a while.
    fn work(&mut self) -> Result<()> {
        let (until, end) = (self.turns() + TURNS, Instant::now() + LIMIT);
        while self.turns() < until {
            ensure!(Instant::now() < end, "the worker is stuck: see {}", self.0.log().display());
            self.0.check()?;
            go_on()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

struct Agents {
    binary: PathBuf,
    dir: PathBuf,
}

impl Agents {
    fn start(&self, name: &str, state: &str) -> Result<Agent> {
        let config = self.dir.join(format!("{name}.yaml"));
        let state = self.dir.join(state);
        let text = format!(
            "admin: {{ listen: \"\" }}\njoining: {{ linger: 100ms, decide_within: 300ms }}\nstate: {{ directory: {}, save_every: 1s }}\n",
            state.display()
        );
        std::fs::write(&config, text)?;
        let options = ["--config".to_owned(), config.to_string_lossy().into_owned()];
        Agent::start(&self.binary, &self.dir, name, &options)
    }
}

/// Of the executions, how many have their text, of all; of what was done with messages from the queue, how many name it.
///
/// An acknowledgement whose delivery nobody saw, because it came before the agent, counts for neither.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    texts: (usize, usize),
    queues: (usize, usize),
}

fn known(spans: &[Span]) -> Known {
    let mut known = Known::default();
    let tag = |span: &Span| span.text("messaging.rabbitmq.message.delivery_tag");
    let is = |span: &Span, kind: &str| span.text("messaging.operation.type").as_deref() == Some(kind);
    let delivered: Vec<_> = spans.iter().filter(|span| is(span, "process")).map(tag).collect();
    for span in spans {
        let text = |key: &str| span.text(key).unwrap_or_default();
        let is_execution =
            text("db.system.name") == "postgresql" && span.text("db.response.returned_rows").is_some();
        if is_execution {
            known.texts.1 += 1;
            known.texts.0 += usize::from(text("db.query.text") == TEXT && span.name == "SELECT pg_class");
        }
        if is(span, "process") || is(span, "settle") && delivered.contains(&tag(span)) {
            known.queues.1 += 1;
            known.queues.0 += usize::from(text("messaging.destination.name").ends_with(QUEUE));
        }
    }
    known
}

#[test]
fn what_one_agent_learned_is_known_to_the_next_one() {
    let reason = agent::binary().err().or_else(missing);
    if let Some(reason) = reason {
        return skip(&reason);
    }
    if let Err(error) = check() {
        panic!("{error:#}");
    }
}

fn check() -> Result<()> {
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let mut scratch = Scratch::new("upgrade")?;
    let dir = scratch.path().to_owned();
    let mut rabbit = Rabbit::start(&dir, None)?;
    let postgres = Postgres::start(&dir, None)?;
    rabbit.wait_until_ready()?;
    let agents = Agents { binary, dir: dir.clone() };

    let first = agents.start("first", "state")?;
    let log = std::fs::read_to_string(first.log())?;
    if ["rung C", "rung D"].iter().any(|rung| log.contains(rung)) {
        skip("these hooks have no identities of connections that outlive an agent");
        return Ok(());
    }
    let mut command = Command::new("/usr/bin/python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("services/upgrade/worker.py"));
    command.args([postgres.url("postgres"), rabbit.url()]);
    let mut worker = Worker(Process::start("the worker", &mut command, &dir.join("worker.log"))?);
    worker.work()?;
    // Killed, when it had written what it knows.
    let (file, end) = (dir.join("state/learned"), Instant::now() + LIMIT);
    let has =
        |text: &str| std::fs::read(&file).is_ok_and(|file| String::from_utf8_lossy(&file).contains(text));
    while !has(TEXT) || !has(QUEUE) {
        ensure!(Instant::now() < end, "nothing is written while it runs");
        go_on()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = i32::try_from(first.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.context("an identifier")?, rustix::process::Signal::KILL)?;
    drop(first);
    worker.work()?;

    // The next one is ended in order.
    let second = agents.start("second", "state")?;
    let fresh = agents.start("fresh", "none")?;
    worker.work()?;
    check_known("second", second)?;
    let fresh = known(&fresh.stop()?);
    let none = |(known, all): (usize, usize)| known == 0 && all >= TURNS / 2;
    ensure!(none(fresh.texts) && none(fresh.queues), "without what was learned nobody can know: {fresh:?}");
    worker.work()?;

    let third = agents.start("third", "state")?;
    worker.work()?;
    check_known("third", third)?;
    scratch.discard();
    Ok(())
}

/// Ends an agent, which knows everything that the first one had learned.
fn check_known(name: &str, agent: Agent) -> Result<()> {
    let log = std::fs::read_to_string(agent.log())?;
    ensure!(log.contains("taken over from an earlier run"), "{name}: {log}");
    let told = known(&agent.stop()?);
    let all = |(known, all): (usize, usize)| known == all && all >= TURNS / 2;
    ensure!(all(told.texts) && all(told.queues), "the {name} agent knows not all: {told:?}");
    Ok(())
}
