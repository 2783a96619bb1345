//! `spoor run`: the live kernel through the pipeline until a signal.

use std::time::{Duration, Instant};

use super::deliver::Delivery;
use super::readings::readings;
use super::stop::Stop;
use super::summary::{self, Progress};
use super::verdicts::Verdicts;
use super::{RunError, rules_digest, settings};
use crate::capture::Options;
use crate::capture::verdict::Verdict as Told;
use crate::cli::Print;
use crate::clock;
use crate::config::Config;
use crate::export::metrics::Metrics;
use crate::export::{Exporter, Host};
use crate::pipeline::Pipeline;
use crate::process::Lookup;
use crate::process::lookup::Verdict as Seen;
use crate::record::Record;
use crate::source::live::Live;

/// The pipeline hears of the time at least so often.
const TICK: Duration = Duration::from_millis(100);

/// The agent's own metrics are as old as this at most.
const MEASURE: Duration = Duration::from_secs(1);

/// Traces this machine until Ctrl-C or SIGTERM.
pub fn live(config: &Config, print: Option<Print>) -> Result<(), RunError> {
    // One thread: records are handled in the order in which they come. Export and printing have their own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
    runtime.block_on(run(config, print))
}

/// Loads the probes and says so.
pub(super) fn start(config: &Config) -> Result<Live, RunError> {
    let capture = &config.capture;
    let options = Options {
        ring_bytes: capture.ring_bytes,
        first_look_bytes: capture.first_look_bytes,
        rung: capture.rung.name(),
    };
    let live = Live::start(options)?;
    let rung = live.rung();
    eprintln!("ready: capturing on rung {} ({})", rung.name, rung.hooks);
    Ok(live)
}

async fn run(config: &Config, print: Option<Print>) -> Result<(), RunError> {
    let mut stop = Stop::new().map_err(RunError::Start)?;
    let host = Host::local(&rules_digest(config));
    let boot_id = clock::uuid_bytes(&clock::boot_id());
    let mut pipeline = Pipeline::new(settings(config, boot_id, host.id.to_string()))?;
    // Without them spans are traced all the same.
    let metrics = Metrics::start(&config.export.otlp, &host).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        None
    });
    let mut delivery = Delivery::start(config, host, print, false)?;
    if delivery.exporter().is_none() && print.is_none() {
        tracing::warn!("spans go nowhere: give --otlp-endpoint URL or --print tree");
    }
    let mut live = start(config)?;
    let mut verdicts = Verdicts::new(config.capture.turn_bytes);
    let mut lookup = Lookup::new(&config.services);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut progress = Progress::live();
    let mut measured = Instant::now();
    let mut batch = Vec::new();
    let end = loop {
        let asked = tokio::select! {
            biased;
            () = stop.asked() => true,
            read = live.next_batch(&mut batch) => {
                if let Err(error) = read {
                    break Err(RunError::from(error));
                }
                false
            }
            _ = tick.tick() => false,
        };
        if asked {
            break Ok(());
        }
        handle(&mut batch, &mut lookup, &mut pipeline, &mut live, &mut verdicts);
        pipeline.handle_timeout(live.settled_until());
        if delivery.take(&mut pipeline).is_err() {
            break Ok(());
        }
        if let Some(metrics) = metrics.as_ref().filter(|_| measured.elapsed() >= MEASURE) {
            measured = Instant::now();
            let exported = delivery.exporter().map(Exporter::totals);
            metrics.update(readings(&pipeline.stats(), exported.as_ref(), live.counters().ok().as_ref()));
        }
        progress.tell(&pipeline, &delivery);
    };
    // What the rings hold was seen, so it counts.
    if live.read(&mut batch).is_ok() {
        handle(&mut batch, &mut lookup, &mut pipeline, &mut live, &mut verdicts);
    }
    pipeline.finish(clock::boot_ns());
    // An output that is closed by now is the end either way.
    let _ = delivery.take(&mut pipeline);
    let kernel = live.counters().ok();
    // Detaches the probes: nothing in the kernel waits for the last delivery.
    drop(live);
    let stats = pipeline.stats();
    let delivered = delivery.finish();
    if let Some(metrics) = metrics {
        let exported = delivered.exported.as_ref();
        metrics.update(readings(&stats, exported, kernel.as_ref()));
        metrics.shutdown();
    }
    summary::print(&stats, &delivered, kernel.as_ref());
    end
}

/// Gives records to the pipeline, each process introduced before its first one, and verdicts back to the kernel.
fn handle(
    batch: &mut Vec<Record>,
    lookup: &mut Lookup,
    pipeline: &mut Pipeline,
    live: &mut Live,
    verdicts: &mut Verdicts,
) {
    for record in batch.drain(..) {
        if let Record::Close(close) = &record {
            verdicts.forget(close.conn);
        }
        match lookup.see(&record) {
            Seen::HandOn => pipeline.handle_record(record),
            Seen::Introduce(info) => {
                pipeline.handle_record(Record::ProcessInfo(info));
                pipeline.handle_record(record);
            }
            Seen::Exclude(conn) => live.set_verdict(conn, Told::Ignore),
            Seen::Drop => {}
        }
    }
    while let Some(update) = pipeline.poll_verdict() {
        let info = pipeline.conn(update.conn).cloned();
        verdicts.apply(update, info.as_deref(), live);
    }
}
