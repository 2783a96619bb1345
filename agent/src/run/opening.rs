//! TLS connections of a run → their secrets, from key logs and from memory, as far as the configuration allows.
//!
//! *Owns* that memory is read only while the configuration says so, also when it is read again. *Must not know* how secrets are found.

use std::sync::Arc;

use super::looks::Looks;
use crate::config::{Config, OpenTls};
use crate::secrets::memory::{Answer, Limits, Seeker, Totals};
use crate::secrets::{self, KeyLog};
use crate::source::live::Live;
use spoor_core::pipeline::Pipeline;
use spoor_core::record::{ProcessEvent, ProcessEventKind};

#[derive(Debug)]
pub(super) struct Opening {
    key_logs: Vec<KeyLog>,
    /// Looks into memory, if that is allowed.
    seeker: Option<Seeker>,
    /// What was counted, whoever looked.
    totals: Option<Arc<Totals>>,
    looks: Looks,
}

impl Opening {
    pub(super) fn start(config: &Config, pipeline: &mut Pipeline) -> std::io::Result<Self> {
        let key_logs: Vec<_> = config.tls.key_logs.iter().map(|path| KeyLog::new(path.into())).collect();
        if !key_logs.is_empty() {
            pipeline.open_tls(secrets::WAITING);
        }
        let mut opening = Self { key_logs, seeker: None, totals: None, looks: Looks::default() };
        opening.seek(config, pipeline)?;
        Ok(opening)
    }

    /// The configuration changed. Where it no longer allows what it did, or may mean other processes, what was asked and what was found
    /// goes, and what was opened with it is closed.
    pub(super) fn reload(&mut self, old: &Config, new: &Config, pipeline: &mut Pipeline) {
        let same_processes = (&old.services, &old.select) == (&new.services, &new.select);
        if allowed(old) == allowed(new) && same_processes {
            return;
        }
        self.end_search();
        if allowed(new).is_none() || !same_processes {
            pipeline.end_search();
        }
        if allowed(new).is_none() && self.key_logs.is_empty() {
            pipeline.leave_tls();
        }
        if let Err(error) = self.seek(new, pipeline) {
            tracing::error!("secrets of TLS connections are not looked for in memory: {error}");
        }
    }

    fn seek(&mut self, config: &Config, pipeline: &mut Pipeline) -> std::io::Result<()> {
        let Some(limits) = allowed(config) else { return Ok(()) };
        let totals = self.totals.get_or_insert_default().clone();
        self.seeker = Some(Seeker::start(limits, totals)?);
        pipeline.open_tls(secrets::WAITING);
        pipeline.begin_search();
        Ok(())
    }

    /// Hands on what is known by now, and asks for what is wanted. What was copied comes before the questions about it.
    pub(super) fn turn(&mut self, pipeline: &mut Pipeline, live: &mut Live) {
        let copied = live.take_copied();
        for log in &mut self.key_logs {
            log.turn(|known| pipeline.handle_secret(known));
        }
        let Some(seeker) = &mut self.seeker else { return };
        for copied in copied {
            seeker.hand(copied);
        }
        while let Some(wanted) = pipeline.poll_wanted() {
            if let Some(info) = pipeline.conn(wanted.conn) {
                self.looks.want(wanted.tgid, info, live);
            }
            seeker.ask(wanted);
        }
        while let Some(unwanted) = pipeline.poll_unwanted() {
            seeker.need_not(unwanted);
        }
        while let Some(answer) = self.seeker.as_mut().and_then(Seeker::poll) {
            self.take(answer, pipeline, live);
        }
    }

    /// What was found out.
    pub(super) fn take(&mut self, answer: Answer, pipeline: &mut Pipeline, live: &mut Live) {
        match answer {
            Answer::Known(known) => pipeline.handle_secret(known),
            Answer::Look(tgid, plan) => self.looks.plan(tgid, plan, live),
        }
    }

    /// A process became another one, or is over.
    pub(super) fn see(&mut self, event: &ProcessEvent, live: &mut Live) {
        if !matches!(event.kind, ProcessEventKind::Thread { .. }) {
            self.looks.forget(event.tgid, live);
        }
    }

    /// Where memory may not be read, or means other processes than before, nobody is looked at.
    pub(super) fn leave(&mut self, live: &mut Live) {
        self.looks.leave(live);
        drop(live.take_copied());
    }

    /// What is found in memory next. Never, where nobody looks.
    pub(super) async fn next(&mut self) -> Answer {
        match &mut self.seeker {
            Some(seeker) => seeker.next().await,
            None => std::future::pending().await,
        }
    }

    /// No memory is read any more, and what was read is wiped.
    pub(super) fn end_search(&mut self) {
        self.seeker = None;
    }

    #[cfg(test)]
    pub(super) fn is_searching(&self) -> bool {
        self.seeker.is_some()
    }

    pub(super) fn totals(&self) -> Option<&Totals> {
        self.totals.as_deref()
    }
}

/// Whether memory may be read, and how much. With `select.include` every traced process is one that it names.
fn allowed(config: &Config) -> Option<Limits> {
    let is_allowed = match config.tls.open {
        OpenTls::Selected => !config.select.include.is_empty(),
        OpenTls::All => true,
        OpenTls::Off => false,
    };
    let memory = &config.tls.memory;
    is_allowed.then_some(Limits { cpu_percent: memory.cpu_percent, max_bytes: memory.max_bytes })
}
