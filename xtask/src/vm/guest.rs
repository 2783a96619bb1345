//! A guest from its start to its end: kernel and file system → what its tests said.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::arch::Arch;
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
    /// If the tests came to their end.
    pub(crate) outcome: Option<Outcome>,
}

impl Report {
    fn line(&mut self, line: &str) {
        // The firmware's last line has no end.
        if let Some((_, release)) = line.split_once("vm: release ") {
            self.release = release.to_owned();
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| {
                let before = result.split(what).next().unwrap_or_default();
                before.rsplit([' ', ';']).find_map(|word| word.parse().ok()).unwrap_or(0)
            };
            let (passed, failed) = (number(" passed"), number(" failed"));
            self.outcome = Some(Outcome { passed, failed, skipped: 0 });
        } else if let Some(skipped) = line.strip_prefix("vm: skipped ").and_then(|n| n.parse().ok())
            && let Some(outcome) = &mut self.outcome
        {
            outcome.skipped = skipped;
            outcome.passed = outcome.passed.saturating_sub(skipped);
        }
    }
}

/// Runs a guest until it switches itself off, and shows what its tests say.
pub(crate) fn run(arch: Arch, kernel: &Path, root: &Path, rung: &str) -> Result<Report> {
    let mut qemu = shell::command(arch.qemu(), ["-accel", "tcg,thread=single"]);
    qemu.args(arch.machine());
    qemu.args(["-smp", "1", "-m", "2048", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(root);
    qemu.arg("-append").arg(format!("console={} panic=-1 quiet loglevel=3 RUNG={rung}", arch.console()));
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
                    println!("rung {rung}: {line}");
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
        for line in ["Booting from ROM..\u{1b}[2Jvm: release 6.1.0-50-cloud-amd64", "running 20 tests"] {
            report.line(line);
        }
        assert_eq!(report.release, "6.1.0-50-cloud-amd64");
        assert!(report.outcome.is_none());
        report.line("test result: FAILED. 19 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        report.line("vm: skipped 2");
        let outcome = report.outcome.unwrap();
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (17, 1, 2));
    }
}
