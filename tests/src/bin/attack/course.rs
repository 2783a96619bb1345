//! A row's course: agent, victim and attackers are started → what became of them.
//!
//! *Owns* what is started and its order. *Must not know* how the agent works: it reads what any user can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use spoor_tests::peers::{Process, Scratch, free_port, go_on, listens, tail};
use spoor_tests::receiver::Receiver;
use spoor_tests::tools::program;

use crate::collector::{Collector, Misbehaviour};

use crate::report::Outcome;
use crate::role::{Place, link, start_attacker, start_neighbour};
use crate::seen::{Seen, Watch};
use crate::victim;
use crate::watch::{Memory, Probes, counted_twice_mib, get};

/// `limits.memory_bytes` by default.
const MEMORY_MIB: u64 = 256;
/// The program itself, its tables that are bounded by number, the ring buffers (once) and what waits for the back end.
const BESIDE_MIB: u64 = 64;
/// What a neighbour may lose.
const LOST_PERCENT: f64 = 1.0;
/// From SIGTERM on.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(10);
/// The victim goes on so long before and after the attack.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(3);
/// An attack that is not over by then has failed.
const ATTACK_LIMIT: Duration = Duration::from_secs(120);
/// A new service works so long; then its spans are waited for, longer than trees are held.
const NEWCOMER: Duration = Duration::from_secs(3);
const SETTLED: Duration = Duration::from_secs(5);
const NEWCOMER_PATH: &str = "/newcomer/";

/// What is started, and what is looked at besides memory, the victim and the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    /// Attackers that run at the same time, each with the name it goes by. `ADMIN`, `PORT` and `NGINX` are put in.
    pub(crate) attacks: Vec<(&'static str, Vec<&'static str>)>,
    /// Configuration beyond the defaults; `@BIN@` is where the programs are.
    pub(crate) config: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) watch: Watch,
    /// Paths of the admin port that are asked each second.
    pub(crate) probes: &'static [&'static str],
    pub(crate) newcomer: bool,
    pub(crate) nginx: bool,
    /// In place of a back end that takes everything.
    pub(crate) collector: Option<Misbehaviour>,
    /// What else has to be.
    pub(crate) check: Option<fn(&Seen) -> Vec<String>>,
}

/// The agent of a row.
pub(crate) struct Agent {
    pub(crate) process: Process,
    pub(crate) memory: Memory,
    pub(crate) admin: u16,
}

impl Agent {
    /// Starts it, without waiting.
    pub(crate) fn start(
        binary: &Path,
        dir: &Path,
        name: &str,
        config: &str,
        options: &[&str],
    ) -> Result<Self> {
        let admin = free_port()?;
        let file = dir.join(format!("{name}.yaml"));
        fs::write(&file, config)?;
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(&file).args(options);
        // Other agents may run here: each has a port and a directory of its own.
        let state = dir.join(format!("{name}-state"));
        fs::create_dir_all(&state)?;
        command.env("SPOOR_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
        if !config.contains("spool:") {
            command.env("SPOOR_STATE_DIRECTORY", &state);
        }
        // The tests' own variables are no settings of the agent.
        command.env_remove("SPOOR_AGENT").env_remove("SPOOR_SKIPPED");
        let output = dir.join(format!("{name}.out"));
        let log = dir.join(format!("{name}.err"));
        let process = Process::start_with_output("spoor run", &mut command, &log, &output)?;
        let memory = Memory::of(process.id());
        Ok(Self { process, memory, admin })
    }

    /// Ends it; how long that took, and what is wrong.
    pub(crate) fn end(&mut self, outcome: &mut Outcome) -> Result<()> {
        if let Err(error) = self.process.check() {
            outcome.faults.push(format!("{error:#}"));
        } else {
            outcome.counted_twice_mib = counted_twice_mib(self.process.id());
            let start = Instant::now();
            let ended_well = self.process.stop()?;
            let took = start.elapsed();
            outcome.end = Some(took);
            if !ended_well {
                outcome.faults.push(format!("it did not end well: {}", tail(self.process.log())));
            }
            if took > END_LIMIT {
                outcome.faults.push(format!("it took {:.1} s to end", took.as_secs_f64()));
            }
        }
        outcome.resident_mib = Some(self.memory.peak_mib());
        let log = fs::read_to_string(self.process.log())?;
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            outcome.faults.push(format!("it panicked: {line}"));
        }
        outcome.lost_by_agent =
            log.lines().rev().find_map(|line| line.strip_prefix("lost: ")).map(str::to_owned);
        Ok(())
    }
}

/// A row's directory. It stays where the row does not hold.
pub(crate) fn scratch() -> Result<Scratch> {
    Scratch::new("attack")
}

impl Course {
    pub(crate) fn run(&self, binary: &Path) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        if self.nginx && program("nginx").is_none() {
            outcome.skipped = Some("nginx is missing: run `cargo xtask setup`".to_owned());
            return Ok(outcome);
        }
        let mut scratch = scratch()?;
        self.run_in(binary, scratch.path(), &mut outcome)?;
        if outcome.holds() {
            scratch.discard();
        }
        Ok(outcome)
    }

    fn run_in(&self, binary: &Path, dir: &Path, outcome: &mut Outcome) -> Result<()> {
        let receiver = Receiver::start(Seen::by(self.watch.clone()))?;
        let collector = self.collector.map(Collector::start).transpose()?;
        let endpoint = collector.as_ref().map_or_else(|| receiver.url(), Collector::url);
        let nginx = self.nginx.then(|| start_nginx(dir)).transpose()?;
        for name in ["victim", "short"] {
            link(dir, name)?;
        }
        let config = self.config.replace("@BIN@", &dir.join("bin").to_string_lossy());
        let options = [&["--otlp-endpoint", endpoint.as_str()], self.options].concat();
        let mut agent = Agent::start(binary, dir, "agent", &config, &options)?;
        agent.process.wait_for_line("ready:")?;

        let (ours, theirs) = (Place::new("attack-victim"), Place::new("attack-mallory"));
        if ours.is_nowhere() || theirs.is_nowhere() {
            outcome.notes.push("no cgroups here: told apart by processes".to_owned());
        }
        let stop = dir.join("victim.stop");
        let mut neighbour = start_neighbour(dir, "victim", &ours, victim::PATH, &stop)?;
        pause(BEFORE)?;
        let probes = (!self.probes.is_empty()).then(|| Probes::start(agent.admin, self.probes));
        let port = free_port()?;
        let mut attackers = Vec::new();
        for (name, arguments) in &self.attacks {
            let put_in = |argument: &&str| match *argument {
                "ADMIN" => agent.admin.to_string(),
                "NGINX" => nginx.as_ref().map_or(0, |(_, port)| *port).to_string(),
                "PORT" => port.to_string(),
                other => other.to_owned(),
            };
            let arguments: Vec<String> = arguments.iter().map(put_in).collect();
            attackers.push(start_attacker(dir, name, &theirs, &arguments)?);
            if arguments[0] == "shop" {
                // Others of the row attack it.
                wait_for_port(port)?;
            }
        }
        self.watch_attack(&mut attackers, &mut agent, outcome)?;
        pause(AFTER)?;
        if let Some(probes) = probes {
            let answers = probes.end()?;
            outcome.notes.push(format!(
                "{} of {} probes answered",
                answers.asked as usize - answers.failed.len(),
                answers.asked
            ));
            outcome.faults.extend(
                answers.failed.first().map(|why| format!("{} probes failed: {why}", answers.failed.len())),
            );
        }
        if self.newcomer {
            newcomer(dir, &ours, agent.admin, outcome)?;
        }
        fs::write(&stop, "")?;
        let asked = asked(&mut neighbour)?;
        agent.end(outcome)?;
        outcome.peak_bound_mib = MEMORY_MIB + BESIDE_MIB;
        if let Some(peak) = outcome.peak_mib().filter(|peak| *peak > outcome.peak_bound_mib) {
            outcome.faults.push(format!("{peak} MiB of memory"));
        }
        match &collector {
            Some(collector) if collector.asked() == 0 => {
                outcome.faults.push("it never asked the back end".to_owned())
            }
            Some(_) => {}
            None => self.judge(&receiver.seen(), asked, outcome),
        }
        Ok(())
    }

    /// Waits until all attacks are over.
    fn watch_attack(
        &self,
        attackers: &mut [Process],
        agent: &mut Agent,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let start = Instant::now();
        for attacker in attackers {
            while attacker.check().is_ok() {
                go_on()?;
                if start.elapsed() > ATTACK_LIMIT {
                    bail!("the attack is not over within {ATTACK_LIMIT:?}: {}", tail(attacker.log()));
                }
                if agent.process.check().is_err() {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(20));
            }
            if !attacker.wait()? {
                bail!("the attack failed: {}", tail(attacker.log()));
            }
        }
        outcome.attack = Some(start.elapsed());
        Ok(())
    }

    fn judge(&self, seen: &Seen, asked: u32, outcome: &mut Outcome) {
        let (missing, all) = (seen.missing(asked), 2 * u64::from(asked));
        outcome.missing = Some((missing, all));
        outcome.spans = Some(seen.spans);
        let percent = missing as f64 * 100.0 / all.max(1) as f64;
        if percent >= LOST_PERCENT || all == 0 {
            outcome.faults.push(format!("the victim lost {missing} of {all}"));
        }
        outcome.faults.extend(self.check.map(|check| check(seen)).unwrap_or_default());
    }
}

/// A service that comes after the attack must have its series.
fn newcomer(dir: &Path, place: &Place, admin: u16, outcome: &mut Outcome) -> Result<()> {
    let stop = dir.join("newcomer.stop");
    let mut process = start_neighbour(dir, "newcomer", place, NEWCOMER_PATH, &stop)?;
    pause(NEWCOMER)?;
    fs::write(&stop, "")?;
    let asked = asked(&mut process)?;
    pause(SETTLED)?;
    let page = get(admin, "/metrics")?;
    let counts = page.lines().filter(|line| line.contains("newcomer") && line.contains("_count{"));
    let counted: f64 = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    outcome.notes.push(format!(
        "{counted} of a new service's {} operations have a series, the page is {} KB",
        2 * asked,
        page.len() >> 10
    ));
    if counted < 2.0 * f64::from(asked) * 0.99 {
        outcome.faults.push(format!("series of a new service count {counted} of {} operations", 2 * asked));
    }
    Ok(())
}

/// What a neighbour says that it asked, when it has ended.
pub(crate) fn asked(neighbour: &mut Process) -> Result<u32> {
    if !neighbour.wait()? {
        bail!("the victim failed: {}", tail(neighbour.log()));
    }
    let log = fs::read_to_string(neighbour.log())?;
    let number =
        log.lines().find_map(|line| line.strip_prefix("asked ")).context("the victim said nothing")?;
    Ok(number.parse()?)
}

pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        go_on()?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn wait_for_port(port: u16) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !listens(port) {
        go_on()?;
        if Instant::now() > end {
            bail!("nothing listens on port {port}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// nginx that speaks HTTP/2 without TLS and answers by itself, on a port.
fn start_nginx(dir: &Path) -> Result<(Process, u16)> {
    let port = free_port()?;
    let home: PathBuf = dir.join("nginx");
    fs::create_dir(&home)?;
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};\n", home.display()))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {home}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\
         server {{ listen 127.0.0.1:{port} http2; location / {{ return 200 ok; }} }}\n}}\n",
        home = home.display()
    );
    let config = home.join("nginx.conf");
    fs::write(&config, text)?;
    let mut command = Command::new(program("nginx").context("nginx is missing")?);
    command.arg("-p").arg(&home).arg("-c").arg(&config).arg("-e").arg(home.join("error"));
    let mut process = Process::start("nginx", &mut command, &dir.join("nginx.log"))?;
    process.wait_until("ready", |_| listens(port))?;
    Ok((process, port))
}
