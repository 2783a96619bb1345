//! Changes of orders → pages that are open learn that something is new (Server-Sent Events).
//!
//! *Owns* the streams. *Spec*: HTML Living Standard, "Server-sent events". A stream says that something changed, never what:
//! the page asks for itself again, through the gate and into the log like anybody.
//!
//! ```text
//! store ─ rows that changed ─▶ stream of a page: does it show one of them? ─▶ at most one word a second ─▶ browser
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::lists::shown;
use super::order::{Found, open};
use super::{Reader, Site, broken};
use crate::store::{Changes, OrderId};

/// Pages that are kept up to date at a time; others stay as they are until somebody loads them again.
const MAX_STREAMS: usize = 256;
/// And so many of one person or program: who opens all of them leaves others theirs.
const MAX_OF_ONE: usize = 16;
/// A page hears at most one word in so long.
const PAUSE: Duration = Duration::from_secs(1);
/// A stream ends after so long and the browser comes again: who may no longer look learns nothing more.
const LONGEST: Duration = Duration::from_secs(600);
/// Something is said so often, so that nobody between takes the stream for dead.
const ALIVE: Duration = Duration::from_secs(15);

/// Proxies that collect an answer before they pass it on are asked not to (nginx).
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// What all streams have in common.
#[derive(Clone, Debug)]
pub struct Live {
    places: Arc<Semaphore>,
    /// How many each person has open.
    of_each: Arc<Mutex<BTreeMap<String, usize>>>,
    /// True when the server stops, which waits for all answers.
    stopped: watch::Receiver<bool>,
}

impl Live {
    pub fn new(stopped: watch::Receiver<bool>) -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_STREAMS)), of_each: Arc::default(), stopped }
    }

    /// A place for one more stream of a person, where there is one.
    fn place(&self, name: &str) -> Option<Place> {
        let all = self.places.clone().try_acquire_owned().ok()?;
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let own = of_each.entry(name.to_owned()).or_default();
        if *own >= MAX_OF_ONE {
            return None;
        }
        *own += 1;
        Some(Place { of_each: self.of_each.clone(), name: name.to_owned(), _all: all })
    }
}

/// A stream's place; dropping it gives it back.
#[derive(Debug)]
struct Place {
    of_each: Arc<Mutex<BTreeMap<String, usize>>>,
    name: String,
    _all: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = of_each.entry(std::mem::take(&mut self.name)) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// `GET /events`: any order changed.
pub(super) async fn all(State(site): State<Site>, reader: Reader) -> Response {
    stream(&site, &reader, None)
}

/// `GET /orders/{key}/events`: this order changed.
pub(super) async fn of_order(State(site): State<Site>, reader: Reader, Path(key): Path<String>) -> Response {
    match open(&site, &key).await {
        Ok(Found::One(order)) => shown([&*order]).of(stream(&site, &reader, Some(order.head.id))),
        // A browser does not come again after this.
        Ok(Found::Several(_) | Found::None) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => broken(&reader, &error),
    }
}

fn stream(site: &Site, reader: &Reader, order: Option<OrderId>) -> Response {
    let name = reader.who.as_ref().map_or("", |who| &who.name);
    let Some(place) = site.live.place(name) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // From now on, before the page that asked is old.
    let changes = site.store.changes();
    let (words, said) = mpsc::channel(1);
    tokio::spawn(tell(order, changes, words, site.live.stopped.clone(), place));
    let stream = Sse::new(ReceiverStream::new(said)).keep_alive(KeepAlive::new().interval(ALIVE));
    ([UNBUFFERED], stream).into_response()
}

/// Says a word when the order, or any, changed, until the browser goes away, the time is over or the server stops.
async fn tell(
    order: Option<OrderId>,
    mut changes: Changes,
    words: mpsc::Sender<Result<Event, Infallible>>,
    mut stopped: watch::Receiver<bool>,
    _place: Place,
) {
    let said = async {
        loop {
            match changes.recv().await {
                Ok(changed) if order.is_some_and(|order| !changed.contains(&order)) => continue,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
            if words.send(Ok(Event::default().event("changed").data("1"))).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = said => {}
        () = words.closed() => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = tokio::time::sleep(LONGEST) => {}
    }
}
