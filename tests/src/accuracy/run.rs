//! Runtimes and loads → a report: starts what is needed, drives it, asks the agent and the logs.
//!
//! *Owns* the course of a run. *Must not know* how spans are judged.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::driver::{Load, drive};
use super::judge::{Sides, judge, read_log, undone};
use super::plan::{Nonce, Planned};
use super::report::{Cell, Report};
use super::runtime::{Place, Runtime};
use crate::agent::{self, Agent};
use crate::forest::{Span, dangling};
use crate::netns::{Side, forward};
use crate::peers::{Postgres, Process, Rabbit, Scratch, free_port, go_on, listens};

/// Connections in a service's pools: more than 1 or 10 requests in flight need, fewer than 50 or 200.
const POOL: usize = 20;
/// Before the agent comes: connections are opened, code is loaded.
const WARM_UP: Duration = Duration::from_millis(700);
/// Longest wait for work that goes on after the last answer.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub runtimes: Vec<&'static Runtime>,
    pub concurrencies: Vec<usize>,
    /// Of each cell.
    pub duration: Duration,
    pub seed: u64,
    /// Also keep a recording of what the agent saw of each runtime, in this folder, named after it.
    pub record: Option<PathBuf>,
    /// Configuration of the agent; its own defaults without one.
    pub config: Option<PathBuf>,
    /// The service runs in a network namespace of its own, and there are two agents.
    pub apart: Option<Apart>,
}

/// Two network namespaces: this program is in the near one, the service is in the far one.
#[derive(Clone, Debug)]
pub struct Apart {
    pub near: Side,
    pub far: Side,
}

/// The servers all runtimes use.
struct Servers {
    scratch: Scratch,
    postgres: Postgres,
    rabbit: Option<Rabbit>,
    backend: Process,
    backend_port: u16,
}

/// Runs every cell. `program` is what serves as the backend, see [`super::backend`].
pub fn run(options: &Options, program: &Path, progress: &dyn Fn(&str)) -> Result<Report> {
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let mut report = Report::default();
    let mut runtimes = Vec::new();
    for runtime in &options.runtimes {
        match runtime.missing() {
            Some(reason) => report.skipped.push((runtime.name.to_owned(), reason)),
            None => runtimes.push(*runtime),
        }
    }
    if runtimes.is_empty() {
        bail!("no runtime can run here: {:?}", report.skipped);
    }
    progress("PostgreSQL and RabbitMQ");
    let with_amqp = runtimes.iter().any(|runtime| runtime.abilities.amqp);
    let mut servers = Servers::start(program, with_amqp)?;
    for runtime in runtimes {
        progress(runtime.name);
        let cells = servers.measure(runtime, options, &binary, program);
        report.cells.extend(cells.with_context(|| format!("in {}", runtime.name))?);
    }
    servers.scratch.discard();
    Ok(report)
}

impl Servers {
    fn start(program: &Path, with_amqp: bool) -> Result<Self> {
        let scratch = Scratch::new("accuracy")?;
        let dir = scratch.path().to_owned();
        let mut rabbit = with_amqp.then(|| Rabbit::start(&dir, None)).transpose()?;
        let postgres = Postgres::start(&dir, None)?;
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("services/accuracy/schema.sql");
        postgres.create("accuracy", &schema)?;
        let backend_port = free_port()?;
        let mut command = Command::new(program);
        command.env("SPOOR_ACCURACY_ROLE", "backend").env("PORT", backend_port.to_string());
        let mut backend = Process::start("backend", &mut command, &dir.join("backend.log"))?;
        backend.wait_until("ready", |_| listens(backend_port))?;
        if let Some(rabbit) = &mut rabbit {
            rabbit.wait_until_ready()?;
        }
        Ok(Self { scratch, postgres, rabbit, backend, backend_port })
    }

    fn measure(
        &mut self,
        runtime: &Runtime,
        options: &Options,
        binary: &Path,
        program: &Path,
    ) -> Result<Vec<Cell>> {
        let dir = self.scratch.path().join(runtime.name);
        fs::create_dir(&dir)?;
        let place = Place {
            program: program.to_owned(),
            backend_port: self.backend_port,
            database_url: self.postgres.url("accuracy"),
            jdbc_url: self.postgres.jdbc_url("accuracy"),
            amqp_url: self.rabbit.as_ref().map(Rabbit::url).unwrap_or_default(),
            pool: POOL,
            port: free_port()?,
            dir,
            namespace: options.apart.as_ref().map(|apart| apart.far.clone()),
        };
        fs::create_dir(place.plans())?;
        if let Some(apart) = &options.apart {
            for port in self.ports() {
                forward(&apart.far, &apart.near, port)?;
            }
            forward(&apart.near, &apart.far, place.port)?;
        }
        let mut services = runtime.start(&place)?;
        let proxy = runtime.proxy.map(|proxy| proxy.start(&place.dir, place.port)).transpose()?;
        let port = proxy.as_ref().map_or(place.port, |(_, port)| *port);
        let plans = place.plans();
        let load = |concurrency, duration, seed| Load {
            port,
            abilities: runtime.abilities,
            concurrency,
            duration,
            plans: &plans,
            seed,
        };
        let most = options.concurrencies.iter().copied().max().unwrap_or(1).min(POOL);
        let warm = drive(&load(most, WARM_UP, options.seed ^ 0xff))?;
        rest(&place, &warm, &mut services)?;

        let agents = self.agents(options, binary, &place.dir)?;
        let recorder = self.recorder(options, binary, &place.dir, runtime.name)?;
        let mut loads = Vec::new();
        for (number, concurrency) in options.concurrencies.iter().enumerate() {
            let planned = drive(&load(*concurrency, options.duration, options.seed + number as u64 * 7919))?;
            rest(&place, &planned, &mut services)?;
            loads.push((*concurrency, planned));
        }
        self.backend.check()?;
        let mut spans = Vec::new();
        for agent in agents {
            spans.extend(agent.stop()?);
        }
        if let Some(mut recorder) = recorder {
            recorder.stop()?;
        }
        let sides = Sides {
            driver_pid: u64::from(std::process::id()),
            backend_pid: u64::from(self.backend.id()),
            proxy: runtime.proxy.map(|proxy| proxy.service().to_owned()),
        };
        let done = read_log(&fs::read_to_string(place.log())?)?;
        let truth = Truth { runtime: runtime.name.to_owned(), sides, loads, done };
        if let Some(folder) = &options.record {
            let file = folder.join(format!("{}.json", runtime.name));
            serde_json::to_writer(fs::File::create(file)?, &truth)?;
        }
        let mut cells = truth.judge(&spans)?;
        if options.apart.is_some() {
            cells.iter_mut().for_each(|cell| cell.apart = true);
            if let Some(cell) = cells.last_mut() {
                cell.dangling = dangling(&spans);
            }
        }
        Ok(cells)
    }

    /// Ports of what the service uses.
    fn ports(&self) -> Vec<u16> {
        let rabbit = self.rabbit.as_ref().map(|rabbit| rabbit.port);
        [Some(self.backend_port), Some(self.postgres.port), rabbit].into_iter().flatten().collect()
    }

    /// One agent, or one for each namespace: neither sees anything of the other's.
    fn agents(&self, options: &Options, binary: &Path, dir: &Path) -> Result<Vec<Agent>> {
        let Some(apart) = &options.apart else { return Ok(vec![self.agent(options, binary, dir)?]) };
        let sides = [("near", &apart.near), ("far", &apart.far)];
        let start = |(name, side): (&str, &Side)| {
            let config = dir.join(format!("{name}.yaml"));
            let text = format!(
                "select: {{ include: [ {{ netns: \"{}\" }} ] }}\njoining: {{ covered: [all] }}\nadmin: {{ listen: \"\" }}\n",
                side.inode()?
            );
            fs::write(&config, text)?;
            let arguments = ["--config".to_owned(), config.to_string_lossy().into_owned()];
            Agent::start(binary, dir, &format!("agent-{name}"), &arguments)
        };
        sides.into_iter().map(start).collect()
    }

    fn agent(&self, options: &Options, binary: &Path, dir: &Path) -> Result<Agent> {
        let config = options.config.as_ref();
        let arguments: Vec<String> = config
            .into_iter()
            .flat_map(|config| ["--config".to_owned(), config.to_string_lossy().into_owned()])
            .collect();
        Agent::start(binary, dir, "agent", &arguments)
    }

    fn recorder(&self, options: &Options, binary: &Path, dir: &Path, name: &str) -> Result<Option<Process>> {
        let Some(folder) = &options.record else { return Ok(None) };
        fs::create_dir_all(folder)?;
        let mut command = Command::new(binary);
        command.arg("record").arg("--output").arg(folder.join(format!("{name}.spoor")));
        let mut recorder = Process::start("spoor record", &mut command, &dir.join("record.log"))?;
        recorder.wait_for_line("ready:")?;
        Ok(Some(recorder))
    }
}

/// Waits until the service has done all that was planned.
fn rest(place: &Place, planned: &[Planned], services: &mut [Process]) -> Result<()> {
    let start = Instant::now();
    loop {
        let done = read_log(&fs::read_to_string(place.log()).unwrap_or_default())?;
        match undone(planned, &done) {
            0 => return Ok(()),
            undone if start.elapsed() > REST_LIMIT => bail!("{undone} operations were not done"),
            _ => {}
        }
        go_on()?;
        services.iter_mut().try_for_each(Process::check)?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What happened: enough to judge spans again.
#[derive(Debug, Serialize, Deserialize)]
struct Truth {
    runtime: String,
    sides: Sides,
    loads: Vec<(usize, Vec<Planned>)>,
    done: HashMap<Nonce, Nonce>,
}

impl Truth {
    fn judge(&self, spans: &[Span]) -> Result<Vec<Cell>> {
        let runtime = Runtime::by_name(&self.runtime).context("the runtime is not known")?;
        let cell = |(concurrency, planned): &(usize, Vec<Planned>)| {
            let verdict = judge(planned, &self.done, spans, &self.sides)?;
            let (concurrency, apart, dangling) = (*concurrency, false, Vec::new());
            Ok(Cell { runtime: runtime.name, model: runtime.model, concurrency, verdict, apart, dangling })
        };
        self.loads.iter().map(cell).collect()
    }
}

/// Judges recordings of earlier runs, by what this agent makes of them.
pub fn replay(options: &Options, folder: &Path, binary: &Path) -> Result<Report> {
    let mut scratch = Scratch::new("accuracy")?;
    let mut report = Report::default();
    for runtime in &options.runtimes {
        let truth = folder.join(format!("{}.json", runtime.name));
        if !truth.is_file() {
            report.skipped.push((runtime.name.to_owned(), "there is no recording of it".to_owned()));
            continue;
        }
        let truth: Truth = serde_json::from_reader(std::io::BufReader::new(fs::File::open(truth)?))?;
        let recording = folder.join(format!("{}.spoor", runtime.name));
        let spans = agent::replay(binary, &recording, scratch.path())?;
        report.cells.extend(truth.judge(&spans)?);
    }
    scratch.discard();
    Ok(report)
}
