//! `spoor run`: the live kernel through the pipeline until a signal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::deliver::{Delivery, Vain};
use super::notify::Notify;
use super::opening::Opening;
use super::progress::Status;
use super::readings::{Moment, readings};
use super::reload::{Reload, Reloads, Running};
use super::state::Keeper;
use super::stop::{Asked, Stop};
use super::summary;
use super::verdicts::Verdicts;
use super::{RunError, rules_digest};
use crate::capture::Options;
use crate::capture::verdict::Verdict as Order;
use crate::chains;
use crate::cli::Print;
use crate::clock;
use crate::config::{Admin, Config, OpenTls};
use crate::export::metrics::Metrics;
use crate::export::{Exporter, Host};
use crate::metrics::{Board, Server};
use crate::service::lookup::Verdict as Seen;
use crate::service::{Inspector, Lookup, kubernetes};
use crate::source::live::Live;
use spoor_core::pipeline::Pipeline;
use spoor_core::record::Record;

/// The pipeline hears of the time at least so often.
const TICK: Duration = Duration::from_millis(100);

/// Spans of large trees are built for so long before the rings are looked at again: they hold a tenth of a second of a busy machine.
const TURN: Duration = Duration::from_millis(20);

/// How long the end waits for the disk to take what was learned, when nothing else is waited for.
const STATE: Duration = Duration::from_millis(200);

/// So often it is looked whether there is something to tell of open work.
const TELL: Duration = Duration::from_secs(5);

/// The agent's own metrics are as old as this at most.
const MEASURE: Duration = Duration::from_secs(1);

/// Traces this machine until Ctrl-C or SIGTERM; SIGHUP calls `reload`.
pub fn live(config: &Config, print: Option<Print>, reload: Reload<'_>) -> Result<(), RunError> {
    // One thread: records are handled in the order in which they come. Export and printing have their own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
    runtime.block_on(run(config.clone(), print, reload))
}

/// Loads the probes and says so.
/// `objects`: what stacks point to may be copied.
pub(super) fn start(config: &Config, objects: bool) -> Result<Live, RunError> {
    let capture = &config.capture;
    let options = Options {
        ring_bytes: capture.ring_bytes,
        first_look_bytes: capture.first_look_bytes,
        cgroup_percent: capture.cgroup_percent,
        rung: capture.rung.name(),
        explain: crate::capture::log::is_wanted(),
        chains: capture.chains,
        objects,
    };
    let live = Live::start(options)?;
    let rung = live.rung();
    crate::telemetry::say(&format!("ready: capturing on rung {} ({})", rung.name, rung.hooks));
    Ok(live)
}

async fn run(mut config: Config, print: Option<Print>, reload: Reload<'_>) -> Result<(), RunError> {
    let stop = Stop::new(true).map_err(RunError::Start)?;
    let host = Host::local(&rules_digest(&config));
    let boot_id = clock::uuid_bytes(&clock::boot_id());
    let mut pipeline = super::pipeline(&config, boot_id)?;
    let mut opening = Opening::start(&config, &mut pipeline).map_err(RunError::Start)?;
    let board = Arc::new(Board::default());
    // First what can say no: a spool that cannot be used, a port that is taken.
    let mut delivery = Delivery::start(&config, host.clone(), print, None, Some(board.clone()), &stop)?;
    delivery.tell(&config)?;
    let _admin = admin(&config.admin, &board)?;
    // Without them spans are traced all the same.
    let metrics = Metrics::start(&config.export.otlp, &host, &board).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        None
    });
    if delivery.exporter().is_none() && print.is_none() {
        tracing::warn!("spans go nowhere: give --otlp-endpoint URL or --print tree");
    }
    let mut keeper = Keeper::new(&config);
    if let Some(keeper) = &mut keeper {
        keeper.load(&mut pipeline);
    }
    // What the configuration allows may change while it runs.
    let mut live = start(&config, config.tls.open != OpenTls::Off)?;
    let mut chains = chains(&live)?;
    board.set_rung(live.rung().name);
    board.set_capturing(true);
    let mut notify = Notify::new();
    notify.ready();
    let mut reloads = Reloads::default();
    let mut verdicts = Verdicts::new(config.capture.turn_bytes);
    let pods = kubernetes::start(&config.kubernetes)?;
    let mut lookup = Lookup::new(Inspector::new(&config, pods.clone()));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut status = Status::new(print);
    let (mut measured, mut told_at) = (Instant::now(), Instant::now());
    let mut batch = Vec::new();
    // There are spans that were not built yet.
    let mut more = false;
    let end = loop {
        let asked = tokio::select! {
            biased;
            asked = stop.next() => Some(asked),
            read = live.next_batch(&mut batch) => {
                if let Err(error) = read {
                    break Err(RunError::from(error));
                }
                None
            }
            answer = opening.next() => {
                opening.take(answer, &mut pipeline, &mut live);
                None
            }
            () = std::future::ready(()), if more => None,
            _ = tick.tick() => None,
        };
        match asked {
            Some(Asked::End) => break Ok(()),
            Some(Asked::Reload) => {
                let running = Running {
                    config: &mut config,
                    pipeline: &mut pipeline,
                    delivery: &mut delivery,
                    lookup: &mut lookup,
                    opening: &mut opening,
                    pods: pods.as_ref(),
                };
                stop.doing("reading the configuration again");
                reloads.reload(reload, running);
                // Whoever may still be looked at is named again with its next connection.
                opening.leave(&mut live);
                stop.doing("tracing");
            }
            None => {}
        }
        follow(&mut chains, &mut live);
        let told = Told {
            opening: &mut opening,
            lookup: &mut lookup,
            live: &mut live,
            verdicts: &mut verdicts,
            chains: &mut chains,
        };
        if handle(&mut batch, told, &mut pipeline, &mut delivery).is_err() {
            break Ok(());
        }
        opening.turn(&mut pipeline, &mut live);
        pipeline.handle_timeout(live.settled_until());
        more = match delivery.take_until(&mut pipeline, Some(Instant::now() + TURN)) {
            Ok(more) => more,
            Err(_) => break Ok(()),
        };
        if let Some(keeper) = &mut keeper {
            keeper.turn(&pipeline);
        }
        if told_at.elapsed() >= TELL {
            told_at = Instant::now();
            delivery.turn(&mut pipeline, &config);
        }
        delivery.alive(&pipeline);
        board.turn();
        notify.turn();
        if measured.elapsed() >= MEASURE {
            measured = Instant::now();
            let clock = clock::pair();
            board.update(readings(&Moment {
                stats: &pipeline.stats(),
                exported: delivery.exporter().map(Exporter::totals).as_ref(),
                told: delivery.told(),
                kernel: live.counters().ok().as_ref(),
                live: Some(live.gauges()),
                open: &pipeline.open(clock.boot - config.spans.pending_after),
                clock,
                processes: lookup.counts(),
                unjudged: lookup.unjudged(),
                forgotten: lookup.forgotten(),
                secrets: opening.totals(),
                chains: chains.as_ref().map(chains::Seeker::totals),
                not_printed: delivery.not_printed(),
                reloads: Some(&reloads),
                restored: &pipeline.restored(),
                state: keeper.as_ref().map(Keeper::totals),
            }));
        }
        status.tell(&pipeline, &delivery, lookup.counts().0);
    };
    opening.end_search();
    let until = stop.begin();
    stop.doing("finishing what was open");
    board.set_capturing(false);
    notify.stopping();
    // What the rings hold was seen, so it counts.
    if live.read(&mut batch).is_ok() {
        let told = Told {
            opening: &mut opening,
            lookup: &mut lookup,
            live: &mut live,
            verdicts: &mut verdicts,
            chains: &mut chains,
        };
        // An output that is closed by now is the end either way.
        let _ = handle(&mut batch, told, &mut pipeline, &mut delivery);
    }
    // What is buffered was moved before the end. The sessions end with the pipeline, and what they know with them.
    pipeline.handle_timeout(live.settled_until());
    if let Some(keeper) = &mut keeper {
        keeper.finish(pipeline.snapshot(), Instant::now() + STATE);
    }
    pipeline.finish(clock::boot());
    // An output that is closed by now is the end either way; what nobody reads is counted.
    if let Err(vain) = delivery.take(&mut pipeline) {
        delivery.give_up(&mut pipeline, vain);
    }
    let kernel = live.counters().ok();
    // Detaches the probes: nothing in the kernel waits for the last delivery.
    drop(live);
    let stats = pipeline.stats();
    let delivered = delivery.finish();
    stop.doing("writing what was learned");
    if let Some(keeper) = &mut keeper {
        keeper.wait(until.max(Instant::now() + STATE));
    }
    stop.doing("sending the last metrics");
    if let Some(metrics) = metrics {
        board.update(readings(&Moment {
            stats: &stats,
            exported: delivered.exported.as_ref(),
            told: delivered.told,
            kernel: kernel.as_ref(),
            live: None,
            open: &[],
            clock: clock::pair(),
            processes: lookup.counts(),
            unjudged: lookup.unjudged(),
            forgotten: lookup.forgotten(),
            secrets: opening.totals(),
            chains: chains.as_ref().map(chains::Seeker::totals),
            not_printed: delivered.printed.missing,
            reloads: Some(&reloads),
            restored: &pipeline.restored(),
            state: keeper.as_ref().map(Keeper::totals),
        }));
        metrics.shutdown();
    }
    summary::print(&stats, &delivered, kernel.as_ref());
    end.and_then(|()| delivered.outcome())
}

/// Who looks for runtimes whose tasks can be followed, where the kernel can follow any.
pub(super) fn chains(live: &Live) -> Result<Option<chains::Seeker>, RunError> {
    live.can_follow().then(chains::Seeker::start).transpose().map_err(RunError::Start)
}

/// Tells the kernel whose tasks to follow.
pub(super) fn follow(chains: &mut Option<chains::Seeker>, live: &mut Live) {
    let Some(chains) = chains else { return };
    let now = Instant::now();
    while let Some(order) = chains.poll(now) {
        match order {
            chains::Order::Follow(tgid, runtime) => live.follow(tgid, Some(runtime.as_ref())),
            chains::Order::Leave(tgid) => live.follow(tgid, None),
        }
    }
}

/// The port for probes and Prometheus. Only one that was asked for must be there.
fn admin(settings: &Admin, board: &Arc<Board>) -> Result<Option<Server>, RunError> {
    let Ok(listen) = settings.listen.parse() else { return Ok(None) };
    match Server::start(listen, board.clone()) {
        Ok(server) => {
            tracing::info!("metrics and probes at http://{}", server.address());
            Ok(Some(server))
        }
        Err(error) if settings.listen == Admin::DEFAULT => {
            tracing::warn!(
                "no metrics and probes at {listen}: {error}; set `admin.listen` to another address"
            );
            Ok(None)
        }
        Err(source) => Err(RunError::Admin { listen: settings.listen.clone(), source }),
    }
}

/// Who tells of processes, and who is told of connections.
struct Told<'a> {
    opening: &'a mut Opening,
    lookup: &'a mut Lookup,
    live: &'a mut Live,
    verdicts: &'a mut Verdicts,
    chains: &'a mut Option<chains::Seeker>,
}

/// Gives records to the pipeline, each process introduced before its first one, and verdicts back to the kernel. Where memory is
/// short, spans are taken in between: a batch can be all that the rings held.
fn handle(
    batch: &mut Vec<Record>,
    told: Told<'_>,
    pipeline: &mut Pipeline,
    delivery: &mut Delivery,
) -> Result<(), Vain> {
    let Told { opening, lookup, live, verdicts, chains } = told;
    for record in batch.drain(..) {
        if let Record::Close(close) = &record {
            verdicts.forget(close.conn);
        }
        if let Record::Process(event) = &record {
            opening.see(event, live);
        }
        let seen = lookup.see(&record);
        if let (Seen::HandOn | Seen::Introduce(_), Some(chains)) = (&seen, &mut *chains) {
            chains.see(&record);
        }
        match seen {
            Seen::HandOn => pipeline.handle_record(record),
            Seen::Introduce(info) => {
                pipeline.handle_record(Record::ProcessInfo(info));
                pipeline.handle_record(record);
            }
            Seen::Exclude(conn) => live.set_verdict(conn, Order::Ignore),
            Seen::Drop => {}
        }
        if pipeline.is_pressed() {
            delivery.take(pipeline)?;
        }
    }
    while let Some(update) = pipeline.poll_verdict() {
        let info = pipeline.conn(update.conn).cloned();
        verdicts.apply(update, info.as_deref(), live);
    }
    Ok(())
}
