//! What a process takes: `/proc/PID` → samples and their trend.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Jiffies per second that `/proc/PID/stat` counts in; part of Linux's interface.
const USER_HZ: u64 = 100;

/// One look at a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Since orders began.
    pub(crate) at: Duration,
    /// Resident memory, KiB. It includes the ring buffer's pages, which are the kernel's.
    pub(crate) resident_kib: u64,
    /// Of this, the process's own heap and stacks, KiB.
    pub(crate) own_kib: u64,
    /// CPU used since the process started.
    pub(crate) cpu: Duration,
}

impl Sample {
    pub(crate) fn take(pid: u32, at: Duration) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent is gone")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent is gone")?;
        let kib = |key| kib(&status, key).with_context(|| format!("/proc/{pid}/status has no {key}"));
        let cpu = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat makes no sense: {stat}"))?;
        Ok(Self {
            at,
            resident_kib: kib("VmRSS:")?,
            own_kib: kib("RssAnon:")?,
            cpu: Duration::from_millis(cpu * 1000 / USER_HZ),
        })
    }
}

/// `VmRSS:     1234 kB`.
fn kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// `utime` and `stime`: fields 14 and 15 (proc_pid_stat(5)); the second field may contain blanks and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The last sample taken before this part of the run was over.
pub(crate) fn at_part(samples: &[Sample], part: f64) -> Option<&Sample> {
    let end = samples.last()?.at.mul_f64(part);
    samples.iter().rev().find(|sample| sample.at <= end).or(samples.first())
}

/// Growth of resident memory by least squares, KiB per minute, from 30 % of the run on.
pub(crate) fn slope_kib_per_minute(samples: &[Sample]) -> f64 {
    let Some(from) = at_part(samples, 0.3).map(|sample| sample.at) else { return 0.0 };
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.at >= from)
        .map(|sample| (sample.at.as_secs_f64() / 60.0, sample.resident_kib as f64))
        .collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if spread == 0.0 {
        return 0.0;
    }
    points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minute: u64, resident_kib: u64) -> Sample {
        let at = Duration::from_secs(minute * 60);
        Sample { at, resident_kib, own_kib: 0, cpu: Duration::ZERO }
    }

    #[test]
    fn growth_is_that_of_the_later_part() {
        let mut samples: Vec<Sample> = (0..=10).map(|minute| sample(minute, 1000 + 7 * minute)).collect();
        // Filling up at the start is no growth.
        samples[0].resident_kib = 1;
        assert!((slope_kib_per_minute(&samples) - 7.0).abs() < 1e-6);
        assert_eq!(at_part(&samples, 0.5).map(|sample| sample.resident_kib), Some(1035));
        assert_eq!(slope_kib_per_minute(&[]), 0.0);
        assert_eq!(slope_kib_per_minute(&samples[..1]), 0.0);
    }

    #[test]
    fn kernel_formats_are_read() {
        assert_eq!(kib("Name:\tspoor\nVmRSS:\t   5124 kB\n", "VmRSS:"), Some(5124));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
    }
}
