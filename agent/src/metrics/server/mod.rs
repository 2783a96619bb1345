//! The agent's numbers and its state → a small HTTP server for probes and Prometheus.
//!
//! *Owns* `/metrics`, `/live` and `/ready`, and how many connections they may take. It changes nothing and shows no
//! traffic: numbers by service, route, table and queue. *Must not know* how numbers come about.
//!
//! | path | 200 when | 503 when |
//! |---|---|---|
//! | `/live` | the agent's loop turned within the last 30 seconds | it did not |
//! | `/ready` | probes are attached and records are handled | starting or ending |
//! | `/metrics` | Prometheus text, or OpenMetrics when asked for | too many pages are being read at once |
//!
//! A liveness probe that finds no answer kills the agent, so nothing that others do keeps probes out: a connection is one request
//! and `MAX_CONNECTED` at most, `places` has room for the next one, and pages, which are large, have places of their own.

mod pages;
mod places;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::Board;
use super::prometheus::Format;
use pages::{Body, Pages};
use places::{Place, Places};

/// Connections at once, at most; fewer where the process may open few files, for it needs them elsewhere.
const MAX_CONNECTIONS: usize = 128;
/// Connections that wait in the kernel for a place, at most: the limit that Linux has set by itself since 5.4 (`somaxconn`).
const BACKLOG: i32 = 4096;
/// Of the files that the process may open, this part is for connections here.
const PART_OF_FILES: u64 = 8;
/// A connection is closed after this long, whatever it does: it is for one request.
const MAX_CONNECTED: Duration = Duration::from_secs(10);
/// A request has to be there in this time.
const MAX_HEADER_WAIT: Duration = Duration::from_secs(5);

/// A running server; it ends with the agent's process, or when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// Closing it ends the thread.
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    /// Listens and serves from a thread of its own.
    pub fn start(listen: SocketAddr, board: Arc<Board>) -> io::Result<Self> {
        // Without a runtime: whoever starts this may be inside of one already.
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        // The standard library lets 128 wait; a second call changes the length of the queue, see listen(2).
        rustix::net::listen(&listener, BACKLOG)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("spoor-admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                let shared = Shared { board, pages: Pages::default(), is_local: address.ip().is_loopback() };
                tokio::select! {
                    () = serve(listener, Arc::new(shared)) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { address, _end: end })
    }

    /// Where it listens: the port that was found free, when none was named.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What connections have in common.
#[derive(Debug)]
struct Shared {
    board: Arc<Board>,
    pages: Pages,
    /// Only names of this machine are answered: a page of the web that gives its own name this address reads nothing.
    is_local: bool,
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Places::new(max_connections());
    loop {
        places.room().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = places.take(peer.ip());
                shared.board.set_admin_given_up(places.given_up());
                tokio::spawn(connection(stream, place, shared.clone()));
                // In a flood, those who have come are served before the next ones come.
                tokio::task::yield_now().await;
            }
            // Out of descriptors, most likely: not at once again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn max_connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / PART_OF_FILES).unwrap_or(usize::MAX).min(MAX_CONNECTIONS)
}

async fn connection(stream: TcpStream, mut place: Place, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let response = answer(&request, &shared);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_HEADER_WAIT)
        .max_buf_size(16 << 10)
        .keep_alive(false);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    // A client that misbehaves harms itself only.
    tokio::select! {
        _ = tokio::time::timeout(MAX_CONNECTED, served) => {}
        () = place.left() => {}
    }
}

fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if shared.is_local && !names_this_machine(request) {
        let says = "this port is asked by address, or as localhost\n".to_owned();
        return text(StatusCode::MISDIRECTED_REQUEST, says);
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::accepted(accept.unwrap_or_default());
            let Some(page) = shared.pages.take(&shared.board, format) else {
                let says = "others are reading too many pages at once; try again\n".to_owned();
                let mut response = text(StatusCode::SERVICE_UNAVAILABLE, says);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                return response;
            };
            let mut response = plain(StatusCode::OK, page);
            let kind = HeaderValue::from_static(format.content_type());
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/live" => state(shared.board.live()),
        "/ready" => state(shared.board.ready()),
        "/" => {
            text(StatusCode::OK, format!("spoor {}\n/metrics\n/live\n/ready\n", env!("CARGO_PKG_VERSION")))
        }
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /live and /ready\n".to_owned()),
    }
}

/// The host asked for is an address or `localhost`; HTTP/1.0 names none.
fn names_this_machine(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or(host).is_none_or(is_address_or_localhost)
}

fn is_address_or_localhost(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn state(result: Result<(), String>) -> Response<Body> {
    match result {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    plain(status, Body::new(body.into()))
}

fn plain(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
