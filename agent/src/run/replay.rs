//! `spoor replay`: a file through the same pipeline as the live kernel, in the records' own time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::deliver::Delivery;
use super::progress::Progress;
use super::stop::Stop;
use super::summary;
use super::{RunError, rules_digest};
use crate::cli::Print;
use crate::clock;
use crate::config::Config;
use crate::export::Host;
use crate::secrets::{self, KeyLog};
use crate::source::file::Opened;
use crate::source::{self, Source};
use spoor_core::pipeline::Pipeline;
use spoor_core::time::BootTime;

/// Signals and progress are looked at after so many records.
const EVERY: u64 = 4096;

/// Replays a recording, a pcap or a pcapng file. Without an endpoint and without a form it prints trees.
/// `timeout`: how long it waits for a back end that takes nothing. Spans that did not arrive are a failure.
pub fn replay(
    config: &Config,
    file: &Path,
    keys: &[PathBuf],
    print: Option<Print>,
    timeout: Duration,
) -> Result<(), RunError> {
    let stop = Stop::new(false).map_err(RunError::Start)?;
    stop.doing("reading the file");
    let Opened { name, bytes, position } = source::file::open(file)?;
    let mut source = source::read(name.clone(), bytes, &config.services)?;
    let header = source.header().cloned().unwrap_or_default();
    let host = Host::local(&rules_digest(config)).with_id(&header.host_id);
    let mut pipeline = offline(config, keys, clock::uuid_bytes(&header.boot_id))?;
    let exports = !config.export.otlp.endpoint.is_empty() || !config.export.otlp.traces_endpoint.is_empty();
    let print = print.or((!exports).then_some(Print::Tree));
    let mut delivery = Delivery::start(config, host, print, Some(timeout), None, &stop)?;
    let mut progress = Progress::replay(&name, position);
    let mut now = BootTime::ZERO;
    let mut count = 0_u64;
    let mut vain = None;
    let mut failed = None;
    while vain.is_none() {
        match source.next() {
            Ok(Some(record)) => {
                now = now.max(record.at());
                for known in source.secrets() {
                    pipeline.handle_secret(known);
                }
                pipeline.handle_record(record);
                while pipeline.poll_verdict().is_some() {
                    // A file holds what it holds.
                }
            }
            Ok(None) => break,
            Err(error) if error.is_warning() => tracing::warn!("{}", summary::chain(&error)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        count += 1;
        vain = delivery.take(&mut pipeline).err();
        if count.is_multiple_of(EVERY) {
            progress.tell(&pipeline);
            if stop.is_asked() {
                break;
            }
        }
    }
    stop.doing("finishing what was open");
    pipeline.finish(now);
    if let Some(vain) = vain.or_else(|| delivery.take(&mut pipeline).err()) {
        delivery.give_up(&mut pipeline, vain);
    }
    for (name, count) in source.counts() {
        tracing::debug!(count, "{name}");
    }
    if failed.is_none()
        && let Some(lack) = lack(&*source)
    {
        tracing::warn!("`{name}` holds {lack}");
    }
    let stats = pipeline.stats();
    progress.clear();
    let delivered = delivery.finish();
    summary::print(&stats, &delivered, None);
    summary::print_unread(&source.unread());
    if let Some(error) = failed {
        return Err(error.into());
    }
    match delivered.lost() {
        0 => delivered.outcome(),
        lost => Err(RunError::Undelivered { lost }),
    }
}

/// A pipeline for traffic that is in a file: there is as much time for it as it takes, and the secrets of its TLS connections are all
/// there from the beginning.
pub(super) fn offline(config: &Config, keys: &[PathBuf], boot_id: [u8; 16]) -> Result<Pipeline, RunError> {
    let mut unhurried = config.clone();
    unhurried.limits.work_percent = 0;
    let mut pipeline = super::pipeline(&unhurried, boot_id)?.with_tls(secrets::WAITING);
    let configured = config.tls.key_logs.iter().map(PathBuf::from);
    for path in keys.iter().cloned().chain(configured) {
        let counts = KeyLog::read_all(&path, |known| pipeline.handle_secret(known))?;
        tracing::debug!(?counts, "read the key log `{}`", path.display());
        if counts.secrets == 0 {
            tracing::warn!("the key log `{}` has no secret that opens a connection", path.display());
        }
    }
    Ok(pipeline)
}

/// What a file without anything in it has none of: an empty result is no surprise then.
fn lack(source: &dyn Source) -> Option<&'static str> {
    let counts = source.counts();
    let count = |wanted: &str| counts.iter().find(|(name, _)| *name == wanted).map(|(_, count)| *count);
    match (count("packets"), count("TCP segments"), count("records")) {
        (Some(0), _, _) => Some("no packet"),
        (Some(_), Some(0), _) => Some("no packet of TCP"),
        (None, _, Some(0)) => Some("no record"),
        _ => None,
    }
}
