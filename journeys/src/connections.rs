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
mod tests {
    use axum::body::Body as Answer;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A server on a port of its own; streams and connections end when the sender is dropped or says so.
    async fn server(limits: Limits) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/take", post(async |body: Bytes| body.len().to_string()))
            .route("/much", get(async || Answer::from(vec![b'x'; 64 << 20])));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(listener, router, limits, stopped));
        (address, stop, served)
    }

    fn short() -> Limits {
        let [head, body, answer] = [Duration::from_millis(300); 3];
        Limits { head, body, answer, ..Limits::of_senders() }
    }

    /// What comes until the server closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    #[tokio::test]
    async fn who_does_not_say_what_they_want_is_let_go() {
        let (address, _stop, _) = server(short()).await;
        for said in [
            "",
            "P",
            "GET / HTT",
            "GET / HTTP/1.1\r\nhost: x\r\n",
            // An answer, and then nothing.
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            // A body that does not come.
            "POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc",
            // HTTP/2, and nothing that follows.
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(said.as_bytes()).await.expect("written");
            let answer = rest(&mut stream).await;
            assert_eq!(
                answer.contains("hello"),
                said.ends_with("\r\n\r\n") && said.starts_with("GET"),
                "{said:?}: {answer}"
            );
            assert!(!answer.contains("200 OK") || answer.contains("hello"), "{said:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn who_sends_a_byte_now_and_then_is_let_go() {
        let (address, _stop, _) = server(short()).await;
        for begin in
            ["GET / HTTP/1.1\r\n", "POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"]
        {
            let stream = TcpStream::connect(address).await.expect("connected");
            let (mut read, mut write) = stream.into_split();
            write.write_all(begin.as_bytes()).await.expect("written");
            let drip = async {
                let mut tick = tokio::time::interval(Duration::from_millis(20));
                while write.write_all(b"x").await.is_ok() {
                    tick.tick().await;
                }
            };
            let mut said = Vec::new();
            tokio::select! {
                _ = read.read_to_end(&mut said) => {}
                () = drip => {}
            }
            assert!(!String::from_utf8_lossy(&said).contains("200 OK"), "{begin:?}");
        }
    }

    #[tokio::test]
    async fn who_does_not_take_the_answer_gives_the_place_to_others() {
        let (address, _stop, _) = server(Limits { connections: 1, ..short() }).await;
        let mut greedy = TcpStream::connect(address).await.expect("connected");
        greedy.write_all(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
        // It waits for the one place there is.
        let mut other = TcpStream::connect(address).await.expect("connected");
        other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("written");
        assert!(rest(&mut other).await.ends_with("hello"));
        drop(greedy);
    }

    #[tokio::test]
    async fn a_server_that_stops_gives_the_answers_it_owes() {
        let (address, stop, served) = server(Limits::of_senders()).await;
        let mut asking = TcpStream::connect(address).await.expect("connected");
        asking
            .write_all(b"POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabc")
            .await
            .expect("written");
        let mut idle = TcpStream::connect(address).await.expect("connected");
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
        let mut said = [0; 16];
        idle.read_exact(&mut said).await.expect("an answer");
        stop.send_replace(true);
        assert!(rest(&mut idle).await.ends_with("hello"), "it is closed");
        asking.write_all(b"def").await.expect("written");
        assert!(rest(&mut asking).await.ends_with('6'));
        served.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_socket_that_was_left_is_taken_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("otlp.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let first = listen_at(&path).expect("nobody answers at the one that was left");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(listen_at(&path).is_err(), "somebody answers");
        drop(first);
        fs::write(folder.path().join("file"), "content").expect("a file");
        assert!(listen_at(&folder.path().join("file")).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("file")).expect("there"), "content");
        // And it serves.
        let (_stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", get(async || "hello"));
        tokio::spawn(serve(listen_at(&path).expect("a socket"), router, Limits::of_senders(), stopped));
        let mut stream = tokio::net::UnixStream::connect(&path).await.expect("connected");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("written");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("an answer");
        assert!(said.ends_with("hello"), "{said}");
    }

    #[test]
    fn an_address_has_so_many_places_unless_it_is_many_peoples() {
        let limits =
            Limits { of_one: 2, many: vec!["10.0.0.1/32".parse().expect("a net")], ..Limits::of_senders() };
        let of_each = OfEach::default();
        let place = |address: &str| of_each.place(Some(address.parse().expect("an address")), &limits);
        let (first, _second) = (place("10.0.0.2").expect("one"), place("::ffff:10.0.0.2").expect("two"));
        assert!(place("10.0.0.2").is_none() && place("10.0.0.3").is_some());
        drop(first);
        assert!(place("10.0.0.2").is_some(), "it is free again");
        let many: Vec<Place> = (0..9).filter_map(|_| place("10.0.0.1").or(place("127.0.0.1"))).collect();
        assert_eq!(many.len(), 9);
        assert!(of_each.place(None, &limits).is_some());
        drop(many);
        assert_eq!(of_each.0.lock().expect("no panic").len(), 1, "what is free is not kept");
    }
}
