//! Spools that cannot be used as they are: a directory made for it → the agent refuses or works, and harms nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use spoor_tests::peers::{run, tail};
use spoor_tests::receiver::Receiver;

use crate::course::{Agent, END_LIMIT, asked, pause, scratch};
use crate::report::Outcome;
use crate::role::{Place, start_neighbour};
use crate::seen::Seen;
use crate::victim;

/// What is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spool {
    Link,
    Taken,
    ReadOnly,
    Full,
    Fifo,
}

/// Nobody listens on this port: it is reserved.
const AWAY: &str = "http://127.0.0.1:1";
/// How long an agent may take until it is ready or says why not.
const START_LIMIT: Duration = Duration::from_secs(30);
/// On a full disk no more files are left behind than one that was begun.
const SEGMENTS: usize = 3;

/// How a start came out.
enum Start {
    Ready,
    Refused,
}

impl Spool {
    pub(crate) fn run(self, binary: &Path) -> Result<Outcome> {
        let mut scratch = scratch()?;
        let mut outcome = Outcome::default();
        let case = Case { binary, dir: scratch.path(), spool: scratch.path().join("spool") };
        fs::create_dir(&case.spool)?;
        match self {
            Spool::Link => case.link(&mut outcome)?,
            Spool::Taken => case.taken(&mut outcome)?,
            Spool::ReadOnly => case.read_only(&mut outcome)?,
            Spool::Full => case.full(&mut outcome)?,
            Spool::Fifo => case.fifo(&mut outcome)?,
        }
        if outcome.holds() {
            scratch.discard();
        }
        Ok(outcome)
    }
}

struct Case<'a> {
    binary: &'a Path,
    dir: &'a Path,
    spool: PathBuf,
}

impl Case<'_> {
    fn start(&self, name: &str, endpoint: &str, more: &str) -> Result<Agent> {
        let config = format!("export:\n  spool:\n    directory: {}\n{more}", self.spool.display());
        Agent::start(self.binary, self.dir, name, &config, &["--otlp-endpoint", endpoint])
    }

    /// Waits until the agent is ready, or has ended with a reason that names the spool.
    fn settle(&self, agent: &mut Agent, outcome: &mut Outcome) -> Result<Option<Start>> {
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            let log = fs::read_to_string(agent.process.log())?;
            if log.contains("ready:") {
                return Ok(Some(Start::Ready));
            }
            if agent.process.check().is_err() {
                let log = fs::read_to_string(agent.process.log())?;
                if log.contains("panicked") || !log.contains(&*self.spool.to_string_lossy()) {
                    outcome
                        .faults
                        .push(format!("it ended without a word of the spool: {}", tail(agent.process.log())));
                }
                outcome.notes.push(format!("refused: {}", log.lines().last().unwrap_or_default()));
                return Ok(Some(Start::Refused));
            }
            pause(Duration::from_millis(20))?;
        }
        outcome.faults.push(format!("neither ready nor refused in {START_LIMIT:?}"));
        Ok(None)
    }

    /// The victim works for a while.
    fn work(&self, name: &str, time: Duration) -> Result<u32> {
        let stop = self.dir.join(format!("{name}.stop"));
        let mut neighbour = start_neighbour(self.dir, name, &Place::new(name), victim::PATH, &stop)?;
        pause(time)?;
        fs::write(&stop, "")?;
        asked(&mut neighbour)
    }

    /// An agent that writes to the spool, then one that reads from it.
    fn link(&self, outcome: &mut Outcome) -> Result<()> {
        const TEXT: &str = "a file that only root may write\n";
        let file = self.dir.join("of-root");
        fs::write(&file, TEXT)?;
        run(Command::new("chown").arg("65534:65534").arg(&self.spool))?;
        run(Command::new("chmod").arg("0777").arg(&self.spool))?;
        for name in ["cursor.new", "cursor", "lock", "learned", "learned.new", "1.segment"] {
            symlink(&file, self.spool.join(name))?;
        }
        let receiver = Receiver::start(Seen::default())?;
        // As it was found, and as somebody makes it usable who does not look inside.
        for owner in ["others", "own"] {
            if owner == "own" {
                run(Command::new("chown").arg("0:0").arg(&self.spool))?;
                run(Command::new("chmod").arg("0700").arg(&self.spool))?;
                // The first one that is looked at, and removed.
                fs::remove_file(self.spool.join("lock"))?;
            }
            for (does, endpoint) in [("writes", AWAY.to_owned()), ("reads", receiver.url())] {
                let name = format!("{owner}-{does}");
                let mut agent = self.start(&name, &endpoint, "")?;
                if let Some(Start::Ready) = self.settle(&mut agent, outcome)? {
                    self.work(&format!("victim-{name}"), Duration::from_secs(3))?;
                    agent.end(outcome)?;
                }
            }
        }
        if fs::read_to_string(&file)? != TEXT {
            outcome.faults.push("a file of root's was written through a link".to_owned());
        }
        Ok(())
    }

    fn taken(&self, outcome: &mut Outcome) -> Result<()> {
        let receiver = Receiver::start(Seen::default())?;
        let mut first = self.start("first", &receiver.url(), "")?;
        first.process.wait_for_line("ready:")?;
        let mut second = self.start("second", &receiver.url(), "")?;
        match self.settle(&mut second, outcome)? {
            Some(Start::Refused) => {}
            _ => outcome.faults.push("two agents use one spool".to_owned()),
        }
        drop(second);
        let asked = self.work("victim", Duration::from_secs(3))?;
        first.end(outcome)?;
        let missing = receiver.seen().missing(asked);
        outcome.missing = Some((missing, 2 * u64::from(asked)));
        if missing > 0 {
            outcome.faults.push(format!("the first agent lost {missing}"));
        }
        Ok(())
    }

    fn read_only(&self, outcome: &mut Outcome) -> Result<()> {
        let mount = Mount::new(&self.spool, "size=1m,mode=0700")?;
        mount.read_only()?;
        let receiver = Receiver::start(Seen::default())?;
        let mut agent = self.start("agent", &receiver.url(), "")?;
        if let Some(Start::Ready) = self.settle(&mut agent, outcome)? {
            agent.end(outcome)?;
        }
        Ok(())
    }

    /// A spool of 64 KiB for some thousand spans.
    fn full(&self, outcome: &mut Outcome) -> Result<()> {
        let _mount = Mount::new(&self.spool, "size=64k,mode=0700")?;
        let mut agent = self.start("agent", AWAY, "")?;
        if let Some(Start::Ready) = self.settle(&mut agent, outcome)? {
            self.work("victim", Duration::from_secs(15))?;
            let files = fs::read_dir(&self.spool)?.flatten();
            let segments =
                files.filter(|file| file.path().extension().is_some_and(|end| end == "segment")).count();
            outcome.notes.push(format!("{segments} segments on a full disk"));
            if segments > SEGMENTS {
                outcome.faults.push(format!("it left {segments} segments on a full disk"));
            }
            agent.end(outcome)?;
            if !fs::read_to_string(agent.process.log())?.contains("No space left") {
                outcome.faults.push("it never came to the full disk".to_owned());
            }
        }
        Ok(())
    }

    fn fifo(&self, outcome: &mut Outcome) -> Result<()> {
        for name in ["learned", "1.segment", "00000000000000000002.segment", "cursor"] {
            run(Command::new("mkfifo").arg(self.spool.join(name)))?;
        }
        fs::create_dir(self.spool.join("3.segment"))?;
        fs::create_dir(self.spool.join("00000000000000000004.segment"))?;
        let receiver = Receiver::start(Seen::default())?;
        let mut agent = self.start("agent", &receiver.url(), "")?;
        match self.settle(&mut agent, outcome)? {
            Some(Start::Ready) => {
                self.work("victim", Duration::from_secs(2))?;
                agent.end(outcome)?;
            }
            Some(Start::Refused) => {}
            // It must still end when it is told to.
            None => {
                let start = Instant::now();
                agent.process.stop()?;
                outcome.end = Some(start.elapsed());
                if start.elapsed() > END_LIMIT {
                    outcome.faults.push("it does not end either".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// A small file system of its own, unmounted when it is dropped.
struct Mount {
    at: PathBuf,
}

impl Mount {
    fn new(at: &Path, options: &str) -> Result<Self> {
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at));
        mounted.context("cannot make a small file system")?;
        Ok(Self { at: at.to_owned() })
    }

    fn read_only(&self) -> Result<()> {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.at)) {
            eprintln!("attack: cannot unmount {}: {error:#}", self.at.display());
        }
    }
}
