//! Outcomes of rows → a table, and the same as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// What became of one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The most that was resident, by the kernel's count.
    pub(crate) resident_mib: Option<u64>,
    /// Of it, what is there once and counted twice.
    pub(crate) counted_twice_mib: Option<u64>,
    pub(crate) peak_bound_mib: u64,
    /// Of the victim's spans.
    pub(crate) missing: Option<(u64, u64)>,
    /// That came, of all processes.
    pub(crate) spans: Option<u64>,
    /// How long the attack took.
    pub(crate) attack: Option<Duration>,
    /// From SIGTERM to the end.
    pub(crate) end: Option<Duration>,
    /// By its summary.
    pub(crate) lost_by_agent: Option<String>,
    /// What was seen besides.
    pub(crate) notes: Vec<String>,
    pub(crate) faults: Vec<String>,
    /// Why it cannot be made here.
    pub(crate) skipped: Option<String>,
}

impl Outcome {
    /// The most that was resident, each page counted once.
    pub(crate) fn peak_mib(&self) -> Option<u64> {
        Some(self.resident_mib?.saturating_sub(self.counted_twice_mib.unwrap_or(0)))
    }

    pub(crate) fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    fn verdict(&self) -> &'static str {
        match (&self.skipped, self.holds()) {
            (Some(_), _) => "not run",
            (None, true) => "held",
            (None, false) => "NOT HELD",
        }
    }
}

/// All rows that ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<(&'static str, &'static str, Outcome)>,
}

impl Report {
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|(_, _, outcome)| outcome.holds())
    }

    pub(crate) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, what, outcome)| {
            json!({
                "row": name,
                "what": what,
                "resident_mib": outcome.resident_mib,
                "counted_twice_mib": outcome.counted_twice_mib,
                "peak_mib": outcome.peak_mib(),
                "peak_bound_mib": outcome.peak_bound_mib,
                "victim": outcome.missing.map(|(missing, all)| json!({ "missing": missing, "spans": all })),
                "spans_received": outcome.spans,
                "attack_seconds": outcome.attack.map(|time| time.as_secs_f64()),
                "end_seconds": outcome.end.map(|time| time.as_secs_f64()),
                "agent_lost": outcome.lost_by_agent,
                "notes": outcome.notes,
                "faults": outcome.faults,
                "skipped": outcome.skipped,
                "held": outcome.skipped.is_none().then(|| outcome.holds()),
            })
        });
        json!({ "rows": rows.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max(3);
        writeln!(
            f,
            "{:names$}  {:>10}  {:>16}  {:>9}  {:8}  what",
            "row", "memory MiB", "victim lost", "SIGTERM s", ""
        )?;
        for (name, what, outcome) in &self.rows {
            let none = || "–".to_owned();
            let memory = outcome.peak_mib().map_or_else(none, |mib| mib.to_string());
            let lost = outcome.missing.map_or_else(none, |(missing, all)| format!("{missing} of {all}"));
            let end = outcome.end.map_or_else(none, |time| format!("{:.1}", time.as_secs_f64()));
            writeln!(
                f,
                "{name:names$}  {memory:>10}  {lost:>16}  {end:>9}  {:8}  {what}",
                outcome.verdict()
            )?;
            let lost = outcome.lost_by_agent.iter().filter(|lost| *lost != "nothing");
            let lines = (outcome.skipped.iter().cloned())
                .chain(outcome.notes.iter().cloned())
                .chain(lost.map(|lost| format!("lost by its own count: {lost}")))
                .chain(outcome.faults.iter().map(|fault| format!("NOT HELD: {fault}")));
            for line in lines {
                writeln!(f, "{:names$}    {line}", "")?;
            }
        }
        let failed = self.rows.iter().filter(|(_, _, outcome)| !outcome.holds()).count();
        let skipped = self.rows.iter().filter(|(_, _, outcome)| outcome.skipped.is_some()).count();
        let ran = self.rows.len() - skipped;
        writeln!(
            f,
            "memory: the most that was resident; pages of ring buffers, which are mapped twice, are counted once"
        )?;
        writeln!(f, "{} of {ran} rows held, {skipped} could not be run here", ran - failed)
    }
}
