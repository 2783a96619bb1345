//! `spoor record`: what the live kernel reports to a file, processes introduced, nothing interpreted.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::stop::Stop;
use super::{RunError, rules_digest};
use crate::capture::verdict::Verdict as Order;
use crate::chains::Seeker;
use crate::clock;
use crate::config::Config;
use crate::files;
use crate::service::lookup::Verdict as Seen;
use crate::service::{Inspector, Lookup, kubernetes};
use crate::source::live::Live;
use crate::source::recording::scrub::scrub;
use crate::source::recording::{Contents, Header, Writer};
use spoor_core::record::Record;

/// What was recorded is on the file at least so often.
const FLUSH: Duration = Duration::from_secs(1);

/// The file, and whether what was sent is left out.
struct Out {
    writer: Writer<BufWriter<Box<dyn Write>>>,
    scrubbed: bool,
}

impl Out {
    fn write(&mut self, mut record: Record) -> io::Result<()> {
        if self.scrubbed {
            scrub(&mut record);
        }
        self.writer.write(&record)
    }
}

/// Records until Ctrl-C, SIGTERM or the given number of seconds.
/// `scrubbed`: without anything that was sent.
pub fn record(config: &Config, output: &Path, seconds: Option<u64>, scrubbed: bool) -> Result<(), RunError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
    runtime.block_on(run(config, output, seconds, scrubbed))
}

async fn run(config: &Config, output: &Path, seconds: Option<u64>, scrubbed: bool) -> Result<(), RunError> {
    let failed = |source| RunError::Recording { path: output.to_owned(), source };
    let stop = Stop::new(false).map_err(RunError::Start)?;
    stop.doing("writing the recording");
    let header = Header {
        started: Some(clock::pair()),
        boot_id: clock::boot_id(),
        host_id: crate::export::host::machine_id(),
        config_digest: rules_digest(config),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        contents: if scrubbed { Contents::Scrubbed } else { Contents::Raw },
    };
    // Before the probes: a file that cannot be written is found at once.
    let writer = Writer::new(open(output)?, &header).map_err(failed)?;
    let mut out = Out { writer, scrubbed };
    let mut live = super::live::start(config, false)?;
    let mut chains = super::live::chains(&live)?;
    let pods = kubernetes::start(&config.kubernetes)?;
    let mut lookup = Lookup::new(Inspector::new(config, pods));
    let turn_bytes = config.capture.turn_bytes;
    let (started, mut flushed) = (Instant::now(), Instant::now());
    let end = seconds.map(|seconds| started + Duration::from_secs(seconds));
    let mut batch = Vec::new();
    let ended = loop {
        let due = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.next() => break Ok(()),
            () = due => break Ok(()),
            read = live.next_batch(&mut batch) => if let Err(error) = read { break Err(RunError::from(error)) },
        }
        super::live::follow(&mut chains, &mut live);
        match write(&mut batch, &mut lookup, &mut out, &mut live, &mut chains, &mut flushed, turn_bytes) {
            Ok(()) => {}
            // Whoever read standard output has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break Ok(()),
            Err(error) => break Err(failed(error)),
        }
    };
    stop.begin();
    if ended.is_ok() && live.read(&mut batch).is_ok() {
        let last = write(&mut batch, &mut lookup, &mut out, &mut live, &mut chains, &mut flushed, turn_bytes);
        drop(last);
    }
    let flushed = out.writer.flush();
    let contents = if scrubbed { "" } else { "; it holds raw traffic, passwords included" };
    crate::telemetry::say(&format!(
        "recorded {} records, {} bytes in {:.1} s to `{}`{contents}",
        out.writer.records(),
        out.writer.bytes(),
        started.elapsed().as_secs_f64(),
        output.display()
    ));
    match flushed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => ended.and(Err(failed(error))),
        _ => ended,
    }
}

/// For the agent's user only: a recording holds what was sent. An existing file is replaced, never written into: whoever owns
/// it, or has it open, does not get the new one.
fn open(output: &Path) -> Result<BufWriter<Box<dyn Write>>, RunError> {
    let to: Box<dyn Write> = match output.to_str() {
        Some("-") => Box::new(io::stdout()),
        _ => Box::new(files::replace(output).map_err(RunError::Output)?),
    };
    Ok(BufWriter::with_capacity(1 << 20, to))
}

fn write(
    batch: &mut Vec<Record>,
    lookup: &mut Lookup,
    out: &mut Out,
    live: &mut Live,
    chains: &mut Option<Seeker>,
    flushed: &mut Instant,
    turn_bytes: u32,
) -> io::Result<()> {
    for record in batch.drain(..) {
        // Nobody decides what a connection speaks while it is recorded, so all are kept as if it mattered.
        if let Record::Conn(conn) = &record {
            let told = Order::Capture { turn_bytes, skip_egress_until: 0, skip_ingress_until: 0 };
            live.set_verdict(conn.id, told);
        }
        let seen = lookup.see(&record);
        if let (Seen::HandOn | Seen::Introduce(_), Some(chains)) = (&seen, &mut *chains) {
            chains.see(&record);
        }
        match seen {
            Seen::HandOn => out.write(record)?,
            Seen::Introduce(info) => {
                out.write(Record::ProcessInfo(info))?;
                out.write(record)?;
            }
            Seen::Exclude(conn) => {
                live.set_verdict(conn, Order::Ignore);
            }
            Seen::Drop => {}
        }
    }
    if flushed.elapsed() >= FLUSH {
        *flushed = Instant::now();
        out.writer.flush()?;
    }
    Ok(())
}
