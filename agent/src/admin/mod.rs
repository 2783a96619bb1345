//! The agent's numbers and its state in, a small HTTP server for probes and Prometheus out.
//!
//! *Owns* `/metrics`, `/live` and `/ready`, and how many connections they may take. It changes nothing and shows no
//! traffic: numbers by service, route, table and queue. *Must not know* how numbers come about.
//!
//! | path | 200 when | 503 when |
//! |---|---|---|
//! | `/live` | the agent's loop turned within the last 30 seconds | it did not |
//! | `/ready` | probes are attached and records are handled | starting or ending |
//! | `/metrics` | always; Prometheus text, or OpenMetrics when asked for | – |

mod board;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::export::prometheus::Format;
pub use board::Board;

/// Connections served at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 32;
/// A connection is closed after so long, whatever it does.
const MAX_CONNECTED: Duration = Duration::from_secs(300);
/// A request has to be there in this time.
const MAX_HEADER_WAIT: Duration = Duration::from_secs(10);

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
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("spoor-admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = serve(listener, board) => {}
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

async fn serve(listener: TcpListener, board: Arc<Board>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors, most likely: not at once again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let board = board.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request, &board);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(MAX_HEADER_WAIT).max_buf_size(16 << 10);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            // A client that misbehaves harms itself only.
            let _ = tokio::time::timeout(MAX_CONNECTED, connection).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::accepted(accept.unwrap_or_default());
            let mut response = text(StatusCode::OK, board.page(format));
            let kind = HeaderValue::from_static(format.content_type());
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/live" => state(board.live()),
        "/ready" => state(board.ready()),
        "/" => {
            text(StatusCode::OK, format!("spoor {}\n/metrics\n/live\n/ready\n", env!("CARGO_PKG_VERSION")))
        }
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /live and /ready\n".to_owned()),
    }
}

fn state(result: Result<(), String>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
