use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;

use axum::Router;
use axum::extract::State;
use axum::routing::post;

use super::*;
use crate::store::seal::{Keys, Master};

fn spool(folder: &Path, max_bytes: u64) -> Spool {
    let master = Master::from_bytes(&[7; 32]).expect("a key");
    let keys = folder.join("keys");
    fs::create_dir_all(&keys).expect("a folder");
    let key = Keys::file_key(&keys, &master, "forward").expect("a key");
    Spool::open(&folder.join("forward"), key, max_bytes).expect("a spool")
}

fn bodies(spool: &Spool) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some((name, body)) = spool.oldest().expect("read") {
        bodies.push(body);
        spool.done(&name);
    }
    bodies
}

#[test]
fn what_waits_is_sealed_in_order_and_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = spool(folder.path(), u64::MAX);
    for body in [b"order 4711".as_slice(), b"second", b"third"] {
        first.push(body).expect("kept");
    }
    let (name, body) = first.oldest().expect("read").expect("one");
    assert_eq!(body, b"order 4711");
    first.done(&name);
    drop(first);
    for file in fs::read_dir(folder.path().join("forward")).expect("files").flatten() {
        let bytes = fs::read(file.path()).expect("a file");
        assert!(!bytes.windows(6).any(|part| part == b"second"));
    }
    let again = spool(folder.path(), u64::MAX);
    again.push(b"fourth").expect("kept");
    assert_eq!(bodies(&again), [b"second".to_vec(), b"third".to_vec(), b"fourth".to_vec()]);
    assert!(again.oldest().expect("read").is_none());
    assert_eq!(fs::read_dir(folder.path().join("forward")).expect("files").count(), 0);
}

#[test]
fn a_full_spool_lets_the_oldest_go_and_counts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path(), 500);
    for n in 0..20_u8 {
        // Random bytes would not be smaller; these are, to some fifty bytes.
        spool.push(&[n; 200]).expect("kept");
    }
    let left = bodies(&spool);
    assert!((1..20).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().map(|body| body[0]), Some(19), "the latest stays");
    assert_eq!(spool.dropped() + left.len() as u64, 20, "each is kept or counted");
}

#[test]
fn a_file_that_was_changed_or_renamed_is_named_and_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path(), u64::MAX);
    spool.push(b"first").expect("kept");
    spool.push(b"second").expect("kept");
    let path = |n: u8| folder.path().join("forward").join(format!("{n:020}"));
    fs::copy(path(1), path(0)).expect("copied");
    let Err(SpoolError::Unreadable(name)) = spool.oldest() else { panic!("another file's content") };
    spool.done(&name);
    assert_eq!(bodies(&spool), [b"second".to_vec()]);
}

/// A back end that answers as it is told, and what it took.
#[derive(Clone, Default)]
struct BackEnd {
    answer: Arc<AtomicU16>,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
    asked: Arc<Notify>,
}

async fn take(State(back_end): State<BackEnd>, headers: axum::http::HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-encoding"], "gzip");
    let status = StatusCode::from_u16(back_end.answer.load(Ordering::Relaxed)).expect("a status");
    let mut plain = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(body.as_ref());
    std::io::Read::read_to_end(&mut decoder, &mut plain).expect("gzip");
    if status.is_success() {
        back_end.taken.lock().expect("no panic").push(plain);
    }
    back_end.asked.notify_one();
    status
}

#[tokio::test]
async fn requests_wait_for_a_back_end_that_is_away_and_arrive_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let back_end = BackEnd::default();
    back_end.answer.store(503, Ordering::Relaxed);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().route("/v1/traces", post(take)).with_state(back_end.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (stop, stopped) = watch::channel(false);
    let (forward, task) =
        Forward::start(spool(folder.path(), u64::MAX), &endpoint, stopped).expect("started");
    forward.keep(b"first".to_vec()).await.expect("kept");
    back_end.asked.notified().await;
    forward.keep(b"second".to_vec()).await.expect("kept");
    assert_eq!(forward.counts().sent.load(Ordering::Relaxed), 0);
    back_end.answer.store(200, Ordering::Relaxed);
    let taken = || back_end.taken.lock().expect("no panic").clone();
    while taken().len() < 2 {
        back_end.asked.notified().await;
    }
    assert_eq!(taken(), [b"first".to_vec(), b"second".to_vec()]);
    // What is refused for good does not stop the others.
    back_end.answer.store(400, Ordering::Relaxed);
    forward.keep(b"bad".to_vec()).await.expect("kept");
    back_end.asked.notified().await;
    while forward.counts().refused.load(Ordering::Relaxed) < 1 {
        tokio::task::yield_now().await;
    }
    back_end.answer.store(200, Ordering::Relaxed);
    forward.keep(b"good".to_vec()).await.expect("kept");
    while taken().len() < 3 {
        back_end.asked.notified().await;
    }
    stop.send_replace(true);
    task.await.expect("it ends");
    assert_eq!((forward.counts().refused.load(Ordering::Relaxed), forward.dropped()), (1, 0));
}

#[test]
fn addresses_are_those_of_otlp_over_http() {
    for (given, expected) in [
        ("http://jaeger:4318", Some("http://jaeger:4318/v1/traces")),
        ("https://collector.example/otlp/", Some("https://collector.example/otlp/v1/traces")),
        ("jaeger:4318", None),
        ("ftp://jaeger", None),
        ("", None),
    ] {
        assert_eq!(address(given).ok().map(|uri| uri.to_string()).as_deref(), expected, "{given}");
    }
}
