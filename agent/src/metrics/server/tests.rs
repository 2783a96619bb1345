use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::metrics::readings::Reading;

fn server(board: &Arc<Board>) -> Server {
    Server::start(([127, 0, 0, 1], 0).into(), board.clone()).unwrap()
}

fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(server: &Server, path: &str, headers: &str) -> String {
    ask(server, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"))
}

#[test]
fn probes_and_metrics_are_served() {
    let board = Arc::new(Board::default());
    let server = server(&board);
    assert!(get(&server, "/live", "").starts_with("HTTP/1.1 200 "));
    assert!(get(&server, "/ready", "").starts_with("HTTP/1.1 503 "));
    board.set_capturing(true);
    assert!(get(&server, "/ready", "").ends_with("\r\n\r\nok\n"));
    board.update(vec![Reading::plain("spoor.records", 17)]);
    let page = get(&server, "/metrics", "");
    assert!(
        page.contains("text/plain; version=0.0.4") && page.contains("\nspoor_records_total 17\n"),
        "{page}"
    );
    assert!(
        page.contains("\nprocess_resident_memory_bytes ") && page.contains("\nspoor_build_info{"),
        "{page}"
    );
    let page = get(&server, "/metrics", "accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(page.contains("application/openmetrics-text") && page.ends_with("# EOF\n"), "{page}");
}

#[tokio::test]
async fn server_can_be_started_inside_a_runtime() {
    let board = Arc::new(Board::default());
    let server = server(&board);
    let answer = tokio::task::spawn_blocking(move || get(&server, "/live", "")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn anything_else_is_refused() {
    let server = server(&Arc::new(Board::default()));
    assert!(get(&server, "/config", "").starts_with("HTTP/1.1 404 "));
    let post = ask(
        &server,
        "POST /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    assert!(ask(&server, "\x16\x03\x01nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // The server may close before it has read all.
    let _ = stream.write_all(long.as_bytes());
    assert!(get(&server, "/live", "").starts_with("HTTP/1.1 200 "));
}

/// Connections that do not go on, of a peer's own address, for as long as the flag says.
fn hold(
    server: &Server,
    from: [u8; 4],
    request: &'static [u8],
) -> (Arc<AtomicBool>, std::thread::JoinHandle<usize>) {
    let (to, on) = (server.address(), Arc::new(AtomicBool::new(true)));
    let going_on = on.clone();
    let thread = std::thread::spawn(move || {
        let mut held = std::collections::VecDeque::new();
        let mut opened = 0;
        while going_on.load(Ordering::Relaxed) {
            let socket = connect_from(from, to);
            if let Ok(mut socket) = socket {
                let _ = socket.write_all(request);
                held.push_back(socket);
                opened += 1;
            }
            if held.len() > 2 * MAX_CONNECTIONS {
                held.pop_front();
            }
        }
        opened
    });
    (on, thread)
}

fn connect_from(from: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(to).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The kubelet restarts a container after so many probes that failed in a row (`failureThreshold`, by default). One may fail: a
/// thread that does not run for a while between its connecting and its asking has lost its place to those who come in the meantime.
const FAILURE_THRESHOLD: usize = 3;

/// As the kubelet asks, which waits for 5 s.
fn is_alive(server: &Server) -> bool {
    let before = std::time::Instant::now();
    let answer = TcpStream::connect(server.address()).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
        && before.elapsed() < Duration::from_secs(5)
}

#[test]
fn whoever_holds_connections_open_keeps_no_probe_out() {
    let board = Arc::new(Board::default());
    let server = server(&board);
    let slow = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
    let never_read = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for request in [&b""[..], slow, never_read] {
        // From the probe's own address, and from another one.
        let floods = [[127, 0, 0, 1], [127, 0, 0, 7]].map(|from| hold(&server, from, request));
        let mut failed_in_a_row = 0;
        for _ in 0..50 {
            failed_in_a_row = if is_alive(&server) { 0 } else { failed_in_a_row + 1 };
            assert!(failed_in_a_row < FAILURE_THRESHOLD, "the kubelet would restart the agent");
        }
        for (on, thread) in floods {
            on.store(false, Ordering::Relaxed);
            assert!(thread.join().unwrap() > 0);
        }
    }
    assert!(board.page(Format::Text).contains("spoor_admin_closed_total "));
}

#[test]
fn a_connection_is_for_one_request_and_for_a_short_time() {
    let server = server(&Arc::new(Board::default()));
    let twice = "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2);
    let answers = ask(&server, &twice);
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 1, "{answers}");
    assert!(answers.contains("connection: close"), "{answers}");
}

#[test]
fn pages_that_nobody_reads_to_their_end_are_few() {
    let (board, pages) = (Board::default(), Pages::default());
    let mut read: Vec<Body> = std::iter::from_fn(|| pages.take(&board, Format::Text)).take(100).collect();
    assert!(read.len() > 2 && read.len() < 20, "{}", read.len());
    read.pop();
    assert!(pages.take(&board, Format::OpenMetrics).is_some(), "one was read");
}

#[test]
fn on_loopback_a_foreign_name_is_not_answered() {
    let server = server(&Arc::new(Board::default()));
    let status = |host: &str| {
        let answer = ask(&server, &format!("GET /live HTTP/1.1\r\n{host}connection: close\r\n\r\n"));
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for host in
        ["localhost:9797", "LOCALHOST", "127.0.0.1", "127.0.0.1:9797", "[::1]:9797", "[::1]", "10.1.2.3:80"]
    {
        assert_eq!(status(&format!("host: {host}\r\n")), "200", "{host}");
    }
    for host in ["evil.example", "evil.example:9797", "localhost.evil.example", "127.0.0.1.evil.example", ""]
    {
        assert_eq!(status(&format!("host: {host}\r\n")), "421", "{host}");
    }
    let old = ask(&server, "GET /live HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
    let absolute =
        ask(&server, "GET http://evil.example/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(absolute.starts_with("HTTP/1.1 421 "), "{absolute}");
}
