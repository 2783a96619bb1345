//! The agent under test: its command line → a running `spoor run` and the spans it printed.
//!
//! *Owns* the process and its files. *Must not know* how the agent works: it is used as any user would.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::forest::{self, Span};
use crate::peers::{Process, run, tail};

/// The binary that `cargo xtask` built with its eBPF object, by `SPOOR_AGENT`; the reason when there is none.
pub fn binary() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("loading eBPF programs needs root".to_owned());
    }
    match env::var_os("SPOOR_AGENT").map(PathBuf::from) {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(format!("SPOOR_AGENT names {}, which is no file", path.display())),
        None => Err("there is no agent with an eBPF object: run the tests by `cargo xtask test`".to_owned()),
    }
}

/// `spoor run --print otlp-json`.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    output: PathBuf,
    command: Command,
}

impl Agent {
    /// Starts it and waits until it sees traffic. `name` distinguishes its files in `dir`.
    pub fn start(binary: &Path, dir: &Path, name: &str, options: &[String]) -> Result<Self> {
        let output = dir.join(format!("{name}.jsonl"));
        let mut command = Command::new(binary);
        command.args(["run", "--print", "otlp-json"]).args(options);
        // The tests' own variables are no settings of the agent.
        command.env_remove("SPOOR_AGENT").env_remove("SPOOR_SKIPPED");
        let log = dir.join(format!("{name}.log"));
        let mut process = Process::start_with_output("spoor run", &mut command, &log, &output)?;
        process.wait_for_line("ready:")?;
        Ok(Self { process, output, command })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has printed so far.
    pub fn spans(&self) -> Result<Vec<Span>> {
        read(&self.output)
    }

    /// Where it prints to.
    pub fn output(&self) -> &Path {
        &self.output
    }

    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Ends it as a crash does: nothing of what it holds leaves.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts another one in its place, which prints behind it.
    pub fn start_again(&mut self) -> Result<()> {
        let log = self.process.log().to_owned();
        let times = |log: &Path| fs::read_to_string(log).map_or(0, |log| log.matches("ready:").count());
        let before = times(&log);
        self.process = Process::start_with_output("spoor run", &mut self.command, &log, &self.output)?;
        self.process.wait_until("ready", |log| times(log) > before)
    }

    /// Ends it as SIGTERM does: what it has captured is still printed.
    pub fn stop(mut self) -> Result<Vec<Span>> {
        let ended_well = self.process.stop()?;
        ensure!(ended_well, "spoor run did not end well:\n{}", tail(self.process.log()));
        self.spans()
    }
}

/// `spoor replay FILE --print otlp-json`.
pub fn replay(binary: &Path, file: &Path, dir: &Path) -> Result<Vec<Span>> {
    let output = dir.join("replay.jsonl");
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec >\"$0\" \"$@\""]).arg(&output).arg(binary);
    run(shell.arg("replay").arg(file).args(["--print", "otlp-json"]))?;
    read(&output)
}

fn read(output: &Path) -> Result<Vec<Span>> {
    let lines = fs::read_to_string(output).with_context(|| format!("cannot read {}", output.display()))?;
    forest::parse(&lines).with_context(|| format!("in {}", output.display()))
}
