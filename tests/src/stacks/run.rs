//! Stacks → a report: starts each twice, once after the agent and once before it, drives it and asks the agent.
//!
//! *Owns* the course of a run. *Must not know* how spans are judged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::drive::{Kind, Load, Nonce, Planned, drive, executed, undone};
use super::judge::{Between, Verdict, judge};
use super::report::{Report, Row, When};
use super::stack::{Place, Stack, apps};
use crate::agent;
use crate::forest::{self, Span};
use crate::peers::{Postgres, Process, Rabbit, Scratch, go_on, tail};
use crate::sink::Sink;

/// Orders before an agent that comes later: pools are full, statements are prepared (psycopg does that on the fifth
/// execution in a connection, and there are several workers).
const WARM_UP: u64 = 60;
/// Longest wait for work that goes on after the last answer.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// What causes are decided within at the latest: where a process has to show first how it works, that is waited for.
const TO_DECIDE: Duration = Duration::from_secs(6);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub stacks: Vec<&'static Stack>,
    pub whens: Vec<When>,
    pub orders: u64,
    /// How often each row is run.
    pub times: u32,
    pub seed: u64,
    /// Also keep a recording of each run in this folder.
    pub record: Option<PathBuf>,
}

/// The servers all stacks use.
struct Servers {
    scratch: Scratch,
    postgres: Postgres,
    postgres_log: PathBuf,
    rabbit: Option<Rabbit>,
    binary: PathBuf,
}

/// Runs every row.
pub fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<Report> {
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let mut report = Report::default();
    let mut stacks = Vec::new();
    for stack in &options.stacks {
        match stack.missing() {
            Some(reason) => report.skipped.push((stack.name.to_owned(), reason)),
            None => stacks.push(*stack),
        }
    }
    if stacks.is_empty() {
        bail!("no stack can run here: {:?}", report.skipped);
    }
    let with_rabbit = stacks.iter().any(|stack| stack.work.needs_broker());
    progress(if with_rabbit { "PostgreSQL and RabbitMQ" } else { "PostgreSQL" });
    let mut servers = Servers::start(binary, with_rabbit)?;
    let mut number = 0;
    for stack in stacks {
        for when in &options.whens {
            let mut row = Row::new(stack, *when);
            for time in 1..=options.times {
                number += 1;
                progress(&format!("{}, {} ({time} of {})", stack.name, when.words(), options.times));
                let outcome = servers.measure(stack, *when, options, number);
                go_on()?;
                match outcome {
                    Ok(verdict) => row.add(verdict),
                    Err(error) => {
                        progress(&format!("{} did not run: {error:#}", stack.name));
                        row.failures.push(format!("{error:#}"));
                    }
                }
            }
            progress(&format!("  {}", row.short()));
            report.rows.push(row);
        }
    }
    if report.rows.iter().all(|row| row.failures.is_empty()) {
        servers.scratch.discard();
    }
    Ok(report)
}

impl Servers {
    fn start(binary: PathBuf, with_rabbit: bool) -> Result<Self> {
        let scratch = Scratch::new("stacks")?;
        let dir = scratch.path().to_owned();
        let mut rabbit = with_rabbit.then(|| Rabbit::start(&dir, None)).transpose()?;
        let postgres = Postgres::start(&dir, None)?;
        if let Some(rabbit) = &mut rabbit {
            rabbit.wait_until_ready()?;
        }
        let postgres_log = dir.join("postgres.log");
        Ok(Self { scratch, postgres, postgres_log, rabbit, binary })
    }

    fn measure(&mut self, stack: &Stack, when: When, options: &Options, number: u64) -> Result<Verdict> {
        let dir = self.scratch.path().join(format!("{number}-{}", stack.name));
        fs::create_dir(&dir)?;
        let database = format!("stack{number}");
        self.postgres.create(&database, &apps().join("schema.sql"))?;
        let rabbit = self.rabbit.as_ref().filter(|_| stack.work.needs_broker());
        let mut place = Place {
            dir: dir.clone(),
            database_url: self.postgres.url(&database),
            database,
            database_port: self.postgres.port,
            amqp_url: rabbit.map(Rabbit::url).unwrap_or_default(),
            environment: Vec::new(),
            processes: Vec::new(),
        };
        let load = |port, first, orders, seed| Load { port, work: stack.work, first, orders, seed };
        let seed = options.seed.wrapping_mul(31).wrapping_add(number);
        let (port, watch, since) = match when {
            When::First => {
                let watch = Watch::start(&self.binary, &dir, stack, options, number)?;
                // What is said at the start is told like the rest: it is counted, too.
                let since = self.log_len()?;
                ((stack.start)(&mut place)?, watch, since)
            }
            When::Later => {
                let port = (stack.start)(&mut place)?;
                let warm = drive(&load(port, 1, WARM_UP, seed ^ 0xff00))?;
                self.rest(&warm, &mut place, 0)?;
                let watch = Watch::start(&self.binary, &dir, stack, options, number)?;
                (port, watch, self.log_len()?)
            }
        };
        let planned = drive(&load(port, 1001, options.orders, seed))
            .and_then(|planned| self.rest(&planned, &mut place, since).map(|()| planned));
        let planned = planned.with_context(|| logs(&place))?;
        let logged = self.check_work(&planned, since)?;
        let spans = watch.stop()?;
        let between = Between {
            proxies: stack.proxies,
            pooler: stack.pooler,
            driver_pid: u64::from(std::process::id()),
            database_port: self.postgres.port,
        };
        drop(place);
        let verdict = judge(&planned, logged, &spans, &between);
        ensure!(!spans.is_empty(), "the agent exported nothing");
        fs::remove_dir_all(&dir)?;
        Ok(verdict)
    }

    fn log_len(&self) -> Result<usize> {
        Ok(fs::metadata(&self.postgres_log)?.len() as usize)
    }

    fn log(&self, since: usize) -> Result<String> {
        let text = fs::read(&self.postgres_log)?;
        Ok(String::from_utf8_lossy(&text[since.min(text.len())..]).into_owned())
    }

    /// Waits until the stack has done all that was planned.
    fn rest(&self, planned: &[Planned], place: &mut Place, since: usize) -> Result<()> {
        let start = Instant::now();
        loop {
            match undone(planned, &self.log(since)?) {
                // The last COMMIT and the last acknowledgement come after the last statement that names an order.
                0 => break,
                undone if start.elapsed() > REST_LIMIT => bail!("{undone} statements were not executed"),
                _ => {}
            }
            go_on()?;
            place.processes.iter_mut().try_for_each(Process::check)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut len = 0;
        while len != self.log_len()? {
            len = self.log_len()?;
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    }

    /// Each planned statement was executed once; how many there were in all.
    fn check_work(&self, planned: &[Planned], since: usize) -> Result<usize> {
        let (mut done, logged) = executed(&self.log(since)?);
        done.sort();
        let statements = planned.iter().filter(|planned| planned.kind == Kind::Statement);
        let mut wanted: Vec<Nonce> = statements.map(|planned| planned.nonce.clone()).collect();
        wanted.sort();
        ensure!(
            done == wanted,
            "the application executed {} statements of its plan of {}",
            done.len(),
            wanted.len()
        );
        Ok(logged)
    }
}

/// The ends of the logs of a stack.
fn logs(place: &Place) -> String {
    let logs = place.processes.iter().map(|process| tail(process.log()));
    logs.collect::<Vec<_>>().join("\n")
}

/// The agent, where it exports to, and a recorder.
struct Watch {
    agent: Process,
    sink: Sink,
    recorder: Option<Process>,
}

impl Watch {
    fn start(binary: &Path, dir: &Path, stack: &Stack, options: &Options, number: u64) -> Result<Self> {
        let sink = Sink::start();
        let config = apps().join("spoor.yaml");
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(&config).args(["--otlp-endpoint", &sink.grpc_url()]);
        command.env_remove("SPOOR_AGENT").env_remove("SPOOR_SKIPPED");
        let mut agent = Process::start("spoor run", &mut command, &dir.join("agent.log"))?;
        let recorder = match &options.record {
            None => None,
            Some(folder) => {
                fs::create_dir_all(folder)?;
                let mut command = Command::new(binary);
                let file = folder.join(format!("{}-{number}.spoor", stack.name));
                command.arg("record").arg("--output").arg(file);
                let mut recorder = Process::start("spoor record", &mut command, &dir.join("record.log"))?;
                recorder.wait_for_line("ready:")?;
                Some(recorder)
            }
        };
        agent.wait_for_line("ready:")?;
        Ok(Self { agent, sink, recorder })
    }

    /// Ends it as SIGTERM does: what it has captured is still exported. It has the time to decide that it has in a run: an agent that
    /// ends decides at once, with what it knows.
    fn stop(mut self) -> Result<Vec<Span>> {
        std::thread::sleep(TO_DECIDE);
        let ended_well = self.agent.stop()?;
        ensure!(ended_well, "spoor run did not end well:\n{}", tail(self.agent.log()));
        if let Some(recorder) = &mut self.recorder {
            recorder.stop()?;
        }
        let mut lines = String::new();
        for received in self.sink.received().into_iter().filter(|received| received.taken) {
            lines.push_str(&serde_json::to_string(&received.request)?);
            lines.push('\n');
        }
        forest::parse(&lines)
    }
}
