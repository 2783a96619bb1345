use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::export::readings::Reading;

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
    ask(server, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"))
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
    let post =
        ask(&server, "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    assert!(ask(&server, "\x16\x03\x01nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // The server may close before it has read all.
    let _ = stream.write_all(long.as_bytes());
    assert!(get(&server, "/live", "").starts_with("HTTP/1.1 200 "));
}

#[test]
fn idle_connections_do_not_keep_others_out_for_ever() {
    let server = server(&Arc::new(Board::default()));
    let idle: Vec<_> =
        (0..MAX_CONNECTIONS - 1).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    assert!(get(&server, "/live", "").starts_with("HTTP/1.1 200 "));
    drop(idle);
}
