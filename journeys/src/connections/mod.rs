//! Connections → requests of a router, each within bounds: how many there are, how many of one address, and how long one may
//! take to say what it wants and to take what it gets.
//!
//! *Owns* the loop that accepts, for pages and receivers, over TCP, TLS and Unix sockets. *Must not know* what is asked.
//! *Spec*: RFC 9112 (HTTP/1.1) and RFC 9113 (HTTP/2, without TLS by prior knowledge).
//!
//! ```text
//! accept ─ a place of all, one of its address ─▶ head within 20 s ─▶ body within 60 s ─▶ router ─▶ answer that is taken within 30 s
//! ```
//!
//! Whoever connects and says nothing, a byte now and then, or does not read the answer, loses the place again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;

/// Bytes of a request's head, and of what is buffered of a connection.
const MAX_BUFFER: usize = 64 << 10;
/// Requests that one connection of HTTP/2 may have at a time.
const MAX_STREAMS: u32 = 64;
/// A server that stops waits so long for answers.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// What connections may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// So many at a time; who comes then waits.
    pub connections: usize,
    /// So many of one address, unless it is one of these networks: a proxy's are those of many people.
    pub of_one: usize,
    pub many: Vec<IpNet>,
    /// Until a request's head is there, from the beginning of the connection or the end of the answer before.
    pub head: Duration,
    /// From then on until its body is.
    pub body: Duration,
    /// Without a byte of the answer being taken.
    pub answer: Duration,
}

impl Limits {
    /// For pages, whose readers are people anywhere in the house.
    pub fn of_pages(proxies: Vec<IpNet>) -> Self {
        Self { of_one: 64, many: proxies, ..Self::of_senders() }
    }

    /// For receivers, whose senders are agents and Collectors.
    pub fn of_senders() -> Self {
        Self {
            connections: 1_024,
            of_one: 1_024,
            many: Vec::new(),
            head: Duration::from_secs(20),
            body: Duration::from_secs(60),
            answer: Duration::from_secs(30),
        }
    }
}

/// Who is at the other end.
pub trait Peer: Send {
    /// `None` at a Unix socket.
    fn address(&self) -> Option<SocketAddr>;
}

impl Peer for SocketAddr {
    fn address(&self) -> Option<SocketAddr> {
        Some(*self)
    }
}

impl Peer for tokio::net::unix::SocketAddr {
    fn address(&self) -> Option<SocketAddr> {
        None
    }
}

/// Listens at a path. A socket that a server left there when it was killed is removed; one that somebody answers at, or
/// anything that is no socket, is an error. Its owner and group may send.
pub fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_left = fs::symlink_metadata(path)?.file_type().is_socket()
                && std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !is_left {
                return Err(error);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        listener => listener?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves a router until `stopped`, and then until all answers are given.
pub async fn serve<L>(mut listener: L, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>)
where
    L: Listener,
    L::Addr: Peer,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let of_each = OfEach::default();
    let turned_away = AtomicU64::new(0);
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (io, peer) = listener.accept().await;
            let address = peer.address();
            let Some(own) = of_each.place(address.map(|address| address.ip()), &limits) else {
                let count = turned_away.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                // Ever more seldom: who does not look at the first will look at the thousandth.
                if count.is_power_of_two() {
                    tracing::warn!(
                        count,
                        ?address,
                        "connections were closed: their address has all it may have"
                    );
                }
                continue;
            };
            tokio::spawn(connection(
                io,
                address,
                router.clone(),
                limits.clone(),
                stopped.clone(),
                (place, own),
            ));
        }
    };
    let mut until = stopped.clone();
    tokio::select! {
        () = accept => {}
        _ = until.wait_for(|stopped| *stopped) => {}
    }
    let _ = stopped.wait_for(|stopped| *stopped).await;
    // Who comes now is refused at once.
    drop(listener);
    // All places are free when all connections have ended, which they do within the time for last answers.
    let _ = places.acquire_many(all).await;
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: Option<SocketAddr>,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
    _places: (OwnedSemaphorePermit, Place),
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(limits.head)
        .keep_alive_timeout(limits.head);
    let has_asked = Arc::new(AtomicBool::new(false));
    let service = TowerToHyperService::new(router);
    let asked = has_asked.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        if let Some(address) = address {
            request.extensions_mut().insert(ConnectInfo(address));
        }
        let answer = service.call(request.map(|body| Slow::new(body, limits.body)));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let io = TokioIo::new(Stalled { io, patience: limits.answer, waits: None });
    let served = builder.serve_connection(io, service);
    let mut served = pin!(served);
    // Which protocol it is, is told by its first bytes; for these nobody else waits.
    let silent = async {
        tokio::time::sleep(limits.head).await;
        if has_asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = served.as_mut() => return,
        () = silent => return,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWERS, served).await;
}

/// How many connections each address has.
#[derive(Clone, Debug, Default)]
struct OfEach(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// A connection's place among those of its address; dropping it gives it back.
#[derive(Debug)]
struct Place {
    of_each: OfEach,
    address: Option<IpAddr>,
}

impl OfEach {
    fn place(&self, address: Option<IpAddr>, limits: &Limits) -> Option<Place> {
        let address = address.map(|address| address.to_canonical());
        let counted = address.filter(|address| {
            !address.is_loopback() && !limits.many.iter().any(|network| network.contains(address))
        });
        if let Some(address) = counted {
            let mut of_each = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let own = of_each.entry(address).or_default();
            if *own >= limits.of_one {
                return None;
            }
            *own += 1;
        }
        Some(Place { of_each: self.clone(), address: counted })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut of_each = self.of_each.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = of_each.entry(address) {
            *own.get_mut() = own.get().saturating_sub(1);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// A request's body that must be there in time.
#[derive(Debug)]
struct Slow {
    body: Incoming,
    /// `None` where there is no body to wait for.
    until: Option<Pin<Box<Sleep>>>,
}

impl Slow {
    fn new(body: Incoming, patience: Duration) -> Self {
        let until = (!body.is_end_stream()).then(|| Box::pin(tokio::time::sleep(patience)));
        Self { body, until }
    }
}

impl Body for Slow {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.until.as_mut().map(|until| until.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Some(Err("the request's body did not come in time".into()))),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose other end must take what it gets.
#[derive(Debug)]
struct Stalled<T> {
    io: T,
    patience: Duration,
    /// It does not take anything, until then.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T> Stalled<T> {
    fn within<R>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.waits = None;
            return polled;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match waits.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stalled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stalled<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.within(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.within(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.within(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.within(cx, polled)
    }
}

#[cfg(test)]
mod tests;
