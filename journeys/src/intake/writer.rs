//! Batches of facts → one commit for all that wait, an answer to each.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::Unavailable;
use crate::facts::{At, Beat, Fact};
use crate::store::Store;

/// Requests that wait for the writer.
const MAX_WAITING: usize = 64;
/// Facts of one commit: a commit of that many takes about a second.
const MAX_FACTS: usize = 20_000;
/// A sender is told to come again when there is no room for so long.
const PATIENCE: Duration = Duration::from_secs(5);

type Job = (Vec<Fact>, Vec<Beat>, oneshot::Sender<Result<(), Unavailable>>);

/// A handle to the one thread that writes.
#[derive(Clone, Debug)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread. It ends when all handles are gone, after it has written what waits.
    pub fn start(store: Arc<dyn Store>) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let thread =
            thread::Builder::new().name("store-writer".to_owned()).spawn(move || run(&*store, waiting))?;
        Ok((Self { jobs }, thread))
    }

    /// Writes facts; they are on disk when this returns well.
    pub async fn write(&self, facts: Vec<Fact>, beats: Vec<Beat>) -> Result<(), Unavailable> {
        let (answer, answered) = oneshot::channel();
        let closed = || Unavailable("the store is being closed".to_owned());
        match tokio::time::timeout(PATIENCE, self.jobs.send((facts, beats, answer))).await {
            Ok(Ok(())) => answered.await.unwrap_or_else(|_| Err(closed())),
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(Unavailable("the store does not keep up".to_owned())),
        }
    }
}

fn run(store: &dyn Store, mut waiting: mpsc::Receiver<Job>) {
    while let Some((mut facts, mut beats, first)) = waiting.blocking_recv() {
        let mut answers = vec![first];
        while facts.len() < MAX_FACTS
            && let Ok((more, further, answer)) = waiting.try_recv()
        {
            facts.extend(more);
            beats.extend(further);
            answers.push(answer);
        }
        let done = store.ingest(facts, now()).and_then(|_| store.alive(beats, now())).map_err(|error| {
            tracing::error!(error = %chain(&error), requests = answers.len(), "the store refused a batch");
            // The sender learns that it should repeat, not what our disk is called.
            Unavailable("the store cannot take this now".to_owned())
        });
        for answer in answers {
            // A sender that went away will repeat.
            let _ = answer.send(done.clone());
        }
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The time of day. A clock before 1970 is 1970.
pub(crate) fn now() -> At {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    At(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
