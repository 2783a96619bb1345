//! A stack's parts → running processes in a directory of their own.
//!
//! *Owns* what a stack is, where its programs and libraries are found and how they are started. *Must not know* load, spans.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::catalog::STACKS;
use super::drive::Work;
use crate::peers::{Process, listens, tail};
use crate::tools::{self, installed, program};

/// Software of the field, and our application in it.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    pub name: &'static str,
    /// What the application does with an order.
    pub work: Work,
    /// Service names of proxies before the application, the first one first.
    pub proxies: &'static [&'static str],
    /// Service name of what stands before PostgreSQL.
    pub pooler: Option<&'static str>,
    pub needs: &'static [Need],
    /// Starts everything; the port that takes orders.
    pub start: fn(&mut Place) -> Result<u16>,
}

/// What must be there to run a stack.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    Program(&'static str),
    /// A file, absolute.
    File(&'static str),
    /// The environment of `apps/requirements.txt`.
    Python,
    /// The modules of `apps/package-lock.json`.
    Node,
    /// A library of Debian's Ruby.
    Ruby(&'static str),
}

/// Where a stack finds everything, and what of it runs. Dropping it ends the processes, the last one first.
#[derive(Debug)]
pub struct Place {
    pub dir: PathBuf,
    pub database: String,
    pub database_port: u16,
    pub database_url: String,
    pub amqp_url: String,
    /// What applications read from their environment besides.
    pub environment: Vec<(&'static str, String)>,
    pub processes: Vec<Process>,
}

impl Stack {
    /// What is missing to run it; `None` when nothing is.
    pub fn missing(&self) -> Option<String> {
        let missing = self.needs.iter().find_map(|need| match need {
            Need::Program(name) => program(name).is_none().then(|| (*name).to_owned()),
            Need::File(path) => (!Path::new(path).exists()).then(|| (*path).to_owned()),
            Need::Python => python_home().err().map(|error| error.to_string()),
            Need::Node => node_modules().err().map(|error| error.to_string()),
            Need::Ruby(library) => (!has_gem(library)).then(|| format!("Ruby's {library}")),
        })?;
        Some(format!("{missing} is missing: run `cargo xtask setup`"))
    }
}

/// The stacks of these names; all where there are none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Stack>> {
    if names.is_empty() {
        return Ok(STACKS.iter().collect());
    }
    let find = |name: &String| match STACKS.iter().find(|stack| stack.name == name) {
        Some(stack) => Ok(stack),
        None => {
            let all: Vec<&str> = STACKS.iter().map(|stack| stack.name).collect();
            bail!("there is no stack {name:?}; there are: {}", all.join(", "))
        }
    };
    names.iter().map(find).collect()
}

impl Place {
    /// Starts a program of ours or somebody else's, with everything that applications read from their environment.
    pub fn run(&mut self, name: &str, mut command: Command) -> Result<()> {
        command
            .env("DATABASE_URL", &self.database_url)
            .env("AMQP_URL", &self.amqp_url)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            // Celery would complain, and PHP's and Perl's programs write where they are.
            .env("HOME", &self.dir);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        if command.get_current_dir().is_none() {
            command.current_dir(&self.dir);
        }
        let log = self.dir.join(format!("{name}.log"));
        self.processes.push(Process::start(name, &mut command, &log)?);
        Ok(())
    }

    /// As [`Self::run`]; waits until the port is open.
    pub fn serve(&mut self, name: &str, command: Command, port: u16) -> Result<()> {
        self.run(name, command)?;
        self.last()?.wait_until("ready", |_| listens(port))
    }

    /// As [`Self::run`]; waits for a line of its log.
    pub fn ready(&mut self, name: &str, command: Command, line: &str) -> Result<()> {
        self.run(name, command)?;
        self.last()?.wait_for_line(line)
    }

    /// As [`Self::run`]; waits until it has done its work.
    pub fn finish(&mut self, name: &str, command: Command) -> Result<()> {
        self.run(name, command)?;
        let went_well = self.last()?.wait()?;
        let process = self.processes.pop().context("nothing was started")?;
        ensure!(went_well, "{name} failed:\n{}", tail(process.log()));
        Ok(())
    }

    fn last(&mut self) -> Result<&mut Process> {
        self.processes.last_mut().context("nothing was started")
    }

    /// Writes a configuration; its path.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    pub fn dir(&self) -> String {
        self.dir.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
    }
}

/// A program of the Python environment, in the folder of the applications.
pub fn python(name: &str) -> Result<Command> {
    let mut command = Command::new(python_home()?.join("venv/bin").join(name));
    command.current_dir(apps());
    Ok(command)
}

/// A script of Node.js.
pub fn node(script: &str) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(apps().join(script)).env("NODE_PATH", node_modules()?);
    Ok(command)
}

/// A program of the system; servers live in `sbin`, which is not on everybody's path.
pub fn system(name: &str) -> Command {
    Command::new(program(name).unwrap_or_else(|| PathBuf::from(name)))
}

/// The folder of the applications.
pub fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/stacks/apps")
}

fn has_gem(library: &str) -> bool {
    let specifications = fs::read_dir("/usr/share/rubygems-integration").into_iter().flatten().flatten();
    let prefix = format!("{library}-");
    let mut files = specifications
        .flat_map(|version| fs::read_dir(version.path().join("specifications")).into_iter().flatten())
        .flatten();
    files.any(|file| file.file_name().to_string_lossy().starts_with(&prefix))
}

fn python_home() -> Result<PathBuf> {
    installed(&apps().join("requirements.txt"), "venv/bin/python")
        .context("the Python environment of the stacks")
}

fn node_modules() -> Result<PathBuf> {
    tools::node_modules(&apps().join("package-lock.json")).context("the Node.js modules of the stacks")
}
