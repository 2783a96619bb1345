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
    for begin in ["GET / HTTP/1.1\r\n", "POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"] {
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
