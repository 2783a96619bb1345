//! `spoor replay`: a file through the same pipeline as the live kernel, in the records' own time.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::deliver::Delivery;
use super::stop::Stop;
use super::summary::{self, Progress};
use super::{RunError, rules_digest};
use crate::cli::Print;
use crate::clock;
use crate::config::Config;
use crate::export::Host;

use crate::secrets::{self, KeyLog};
use crate::source::{self, recording};
use spoor_core::time::BootTime;

/// Signals and progress are looked at after so many records.
const EVERY: u64 = 4096;

/// Replays a recording, a pcap or a pcapng file. Without an endpoint and without a form it prints trees.
pub fn replay(config: &Config, file: &Path, keys: &[PathBuf], print: Option<Print>) -> Result<(), RunError> {
    let stop = Stop::new(false).map_err(RunError::Start)?;
    stop.doing("reading the file");
    let mut source = source::open(file, &config.services)?;
    let header = header(file).unwrap_or_default();
    let host = Host::local(&rules_digest(config)).with_id(&header.host_id);
    let boot_id = clock::uuid_bytes(&header.boot_id);
    // A file can wait: there is as much time for it as it takes.
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
    let exports = !config.export.otlp.endpoint.is_empty() || !config.export.otlp.traces_endpoint.is_empty();
    let print = print.or((!exports).then_some(Print::Tree));
    let mut delivery = Delivery::start(config, host, print, true, None, &stop)?;
    let mut progress = Progress::replay(file);
    let mut now = BootTime::ZERO;
    let mut count = 0_u64;
    let mut closed = false;
    let mut failed = None;
    while !closed {
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
        closed = delivery.take(&mut pipeline).is_err();
        if count.is_multiple_of(EVERY) {
            progress.tell(&pipeline, &delivery);
            if stop.is_asked() {
                break;
            }
        }
    }
    stop.doing("finishing what was open");
    pipeline.finish(now);
    if !closed {
        // An output that is closed by now is the end either way.
        let _ = delivery.take(&mut pipeline);
    }
    for (name, count) in source.counts() {
        tracing::debug!(count, "{name}");
    }
    let stats = pipeline.stats();
    progress.clear();
    let delivered = delivery.finish();
    summary::print(&stats, &delivered, None);
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Where a recording was made; `None` for a capture, which does not say.
fn header(file: &Path) -> Option<recording::Header> {
    let mut magic = [0; recording::MAGIC.len()];
    File::open(file).ok()?.read_exact(&mut magic).ok()?;
    if magic != recording::MAGIC {
        return None;
    }
    let reader =
        recording::Reader::new(file.display().to_string(), BufReader::new(File::open(file).ok()?)).ok()?;
    Some(reader.header().clone())
}
