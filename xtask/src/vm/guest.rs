//! A guest from its start to its end: kernel and file system in, what its tests said out.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell;

/// A guest that says nothing for so long has stopped.
const SILENCE: Duration = Duration::from_secs(300);
/// Longest life of a guest.
const LIFE: Duration = Duration::from_secs(1800);

/// What the tests said on one rung.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// What a guest said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// `uname -r`.
    pub(crate) release: String,
    rungs: Vec<(String, Option<Outcome>)>,
}

impl Report {
    /// The outcome on a rung, if the tests came to their end there.
    pub(crate) fn of(&self, rung: &str) -> Option<&Outcome> {
        self.rungs.iter().find(|(name, _)| name == rung)?.1.as_ref()
    }

    fn line(&mut self, line: &str) {
        // The firmware's last line has no end.
        if let Some((_, release)) = line.split_once("vm: release ") {
            self.release = release.to_owned();
        } else if let Some(rung) = line.strip_prefix("vm: rung ") {
            self.rungs.push((rung.to_owned(), None));
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| {
                let before = result.split(what).next().unwrap_or_default();
                before.rsplit([' ', ';']).find_map(|word| word.parse().ok()).unwrap_or(0)
            };
            if let Some((_, outcome)) = self.rungs.last_mut() {
                *outcome = Some(Outcome { passed: number(" passed"), failed: number(" failed"), skipped: 0 });
            }
        } else if let Some(skipped) = line.strip_prefix("vm: skipped ").and_then(|n| n.parse().ok())
            && let Some((_, Some(outcome))) = self.rungs.last_mut()
        {
            outcome.skipped = skipped;
            outcome.passed = outcome.passed.saturating_sub(skipped);
        }
    }
}

/// Runs a guest until it switches itself off, and shows what its tests say.
pub(crate) fn run(kernel: &Path, root: &Path, name: &str) -> Result<Report> {
    let mut qemu = shell::command("qemu-system-x86_64", ["-accel", "tcg,thread=single", "-cpu", "max"]);
    qemu.args(["-smp", "1", "-m", "2048", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(root);
    qemu.args(["-append", "console=ttyS0 panic=-1 quiet loglevel=3"]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut guest = Guest(qemu.spawn().context("cannot start QEMU")?);
    let stdout = guest.0.stdout.take().context("QEMU has no output")?;
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let mut report = Report::default();
    let deadline = Instant::now() + LIFE;
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                report.line(&line);
                if !line.is_empty() && !line.ends_with("... ok") && !line.starts_with("vm: ") {
                    println!("{name}: {line}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(report),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest has said nothing for {} s", SILENCE.as_secs());
            }
        }
        if Instant::now() > deadline {
            bail!("the guest is still running after {} s", LIFE.as_secs());
        }
    }
}

/// QEMU, ended with this.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn report_is_read_from_what_the_guest_prints() {
        let mut report = Report::default();
        let said = "\u{1b}[2Jvm: release 6.1.0-50-cloud-amd64\nvm: rung B\nrunning 20 tests\n\
                    test result: FAILED. 19 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
                    vm: skipped 2\nvm: rung C\n";
        said.lines().for_each(|line| report.line(line));
        assert_eq!(report.release, "6.1.0-50-cloud-amd64");
        let outcome = report.of("B").unwrap();
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (17, 1, 2));
        assert!(report.of("C").is_none() && report.of("D").is_none());
    }
}
