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
    Spool::open(&folder.join("forward"), key, max_bytes, Arc::default()).expect("a spool")
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

fn dropped(spool: &Spool) -> u64 {
    spool.counts().dropped.load(Ordering::Relaxed)
}

#[test]
fn a_full_spool_lets_the_oldest_go_and_counts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    // Room for three files, which take a block each however small they are.
    let spool = spool(folder.path(), 3 * 4_096);
    for n in 0..20_u8 {
        spool.push(&[n; 200]).expect("kept");
    }
    let on_disk = fs::read_dir(folder.path().join("forward")).expect("files").count();
    assert_eq!((on_disk, spool.counts().waiting.load(Ordering::Relaxed)), (3, 3));
    let left = bodies(&spool);
    let last: Vec<u8> = left.iter().map(|body| body[0]).collect();
    assert_eq!(last, [17, 18, 19], "the latest stay");
    assert_eq!(dropped(&spool) + left.len() as u64, 20, "each is kept or counted");
    // What no room can be made for is let go itself, and nothing for it.
    let mut noise = vec![0; 20_000];
    getrandom::fill(&mut noise).expect("random bytes");
    spool.push(b"small").expect("kept");
    spool.push(&noise).expect("let go");
    assert_eq!((dropped(&spool), bodies(&spool)), (17 + 1, vec![b"small".to_vec()]));
}

#[test]
fn what_is_being_sent_is_not_let_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path(), 2 * 4_096);
    spool.push(b"first").expect("kept");
    spool.push(b"second").expect("kept");
    let (name, _) = spool.oldest().expect("read").expect("one");
    spool.push(b"third").expect("kept");
    assert_eq!(dropped(&spool), 1);
    // Beside the one that is being sent there is no room for two blocks, whatever else goes.
    let mut noise = vec![0; 6_000];
    getrandom::fill(&mut noise).expect("random bytes");
    spool.push(&noise).expect("let go");
    assert_eq!((dropped(&spool), spool.counts().waiting.load(Ordering::Relaxed)), (2, 2));
    spool.done(&name);
    assert_eq!(bodies(&spool), [b"third".to_vec()], "the second made room");
    assert_eq!(spool.counts().waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn whom_a_house_forgets_does_not_leave_it_later() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    let pair = |key: &str, value: Value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let text = |key: &str, value: &str| pair(key, Value::StringValue(value.to_owned()));
    let request = |spans: Vec<Span>| {
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    };
    let span = |order: &str, user: Value| Span {
        name: "GET /users/100042/orders".to_owned(),
        attributes: vec![text("order.id", order), pair("user.id", user), text("url.path", "/users/100042")],
        ..Span::default()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path(), u64::MAX);
    let other = request(vec![Span { attributes: vec![text("order.id", "3")], ..Span::default() }]);
    spool
        .push(&request(vec![span("1", Value::IntValue(100_042)), span("2", Value::IntValue(7))]))
        .expect("kept");
    spool.push(&request(vec![span("1", Value::StringValue("100042".to_owned()))])).expect("kept");
    spool.push(&other).expect("kept");
    // Integers in attributes that nobody knows, and in lists.
    let ints = vec![Value::IntValue(100_042), Value::IntValue(100_043)];
    let ints = ints.into_iter().map(|value| AnyValue { value: Some(value) }).collect();
    let ints = Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values: ints });
    let unknown =
        vec![text("order.id", "4"), pair("shop.account", Value::IntValue(100_042)), pair("shop.all", ints)];
    spool.push(&request(vec![Span { attributes: unknown, ..Span::default() }])).expect("kept");
    let waits = |spool: &Spool| -> Vec<String> {
        let bodies: Mutex<Vec<String>> = Mutex::default();
        let look = |body: &[u8]| {
            bodies.lock().expect("no panic").push(format!("{body:?}"));
            spool::Changed::Kept
        };
        spool.change_all(look).expect("read");
        bodies.into_inner().expect("no panic")
    };
    assert_eq!(forget(&spool, Whom::Person("100042")).expect("forgotten"), 3);
    let person = format!("{:?}", b"100042");
    let person = person.trim_matches(['[', ']']);
    assert!(waits(&spool).iter().all(|body| !body.contains(person)), "{:?}", waits(&spool));
    assert_eq!(forget(&spool, Whom::Person("100042")).expect("forgotten"), 0, "once");
    let numbers = [crate::facts::Key::parse("1").expect("a number")].into();
    let attributes = ["order.id".to_owned()];
    let order = Whom::Order { numbers: &numbers, attributes: &attributes };
    assert_eq!(forget(&spool, order).expect("forgotten"), 2);
    let left = bodies(&spool);
    assert_eq!(left.len(), 3, "the one that was of this order alone is gone");
    let first = ExportTraceServiceRequest::decode(left[0].as_slice()).expect("a request");
    let spans = &first.resource_spans[0].scope_spans[0].spans;
    assert_eq!((spans.len(), spans[0].attributes[0].clone()), (1, text("order.id", "2")));
    assert_eq!(left[1], other, "as it was");
    let last = ExportTraceServiceRequest::decode(left[2].as_slice()).expect("a request");
    let attributes = &last.resource_spans[0].scope_spans[0].spans[0].attributes;
    assert_eq!(attributes[1], text("shop.account", "…"));
    let told = format!("{:?}", attributes[2]);
    assert!(!told.contains("100042") && told.contains("100043"), "{told}");
}

#[test]
fn a_forgotten_order_leaves_names_and_paths_of_spans_that_do_not_name_it_otherwise() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    };
    let by_path = Span {
        name: "GET /orders/SO-47110".to_owned(),
        attributes: vec![text("url.path", "/orders/SO-47110"), text("url.query", "id=SO-47110&of=SO-471100")],
        ..Span::default()
    };
    // Another numbering system and a person that have the same number.
    let others = Span {
        attributes: vec![
            text("order.id", "SO-47110"),
            text("order.namespace", "crm"),
            text("user.id", "SO-47110"),
        ],
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![by_path, others.clone()], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let folder = tempfile::tempdir().expect("a folder");
    let spool = spool(folder.path(), u64::MAX);
    spool.push(&ExportTraceServiceRequest { resource_spans }.encode_to_vec()).expect("kept");
    let numbers = [crate::facts::Key::parse("SO-47110").expect("a number")].into();
    let whom = Whom::Order { numbers: &numbers, attributes: &["order.id".to_owned()] };
    assert_eq!(forget(&spool, whom).expect("forgotten"), 1);
    assert_eq!(forget(&spool, whom).expect("forgotten"), 0, "once");
    let left = bodies(&spool);
    let left = ExportTraceServiceRequest::decode(left[0].as_slice()).expect("a request");
    let spans = &left.resource_spans[0].scope_spans[0].spans;
    assert_eq!(spans[0].name, "GET /orders/…");
    assert_eq!(spans[0].attributes, [text("url.path", "/orders/…"), text("url.query", "id=…&of=SO-471100")]);
    assert_eq!(spans[1], others);
}

#[test]
fn spans_that_a_back_end_did_not_take_are_counted() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too old".to_owned() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
    assert_eq!(rejected(&answer.encode_to_vec()), 3);
    for nothing in [&b""[..], b"{}", &[0xff; 9]] {
        assert_eq!(rejected(nothing), 0);
    }
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

/// What a test waits for is there by then, or never.
const IN_TIME: Duration = Duration::from_secs(60);

impl BackEnd {
    async fn is_asked(&self) {
        tokio::time::timeout(IN_TIME, self.asked.notified()).await.expect("it is asked in time");
    }
}

/// Waits until a counter has come so far.
async fn reaches(counter: &AtomicU64, count: u64) {
    let is_there = async {
        while counter.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(IN_TIME, is_there).await;
    assert!(reached.is_ok(), "{} of {count} in time", counter.load(Ordering::Relaxed));
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
    back_end.is_asked().await;
    forward.keep(b"second".to_vec()).await.expect("kept");
    assert_eq!(forward.counts().sent.load(Ordering::Relaxed), 0);
    back_end.answer.store(200, Ordering::Relaxed);
    let taken = || back_end.taken.lock().expect("no panic").clone();
    while taken().len() < 2 {
        back_end.is_asked().await;
    }
    assert_eq!(taken(), [b"first".to_vec(), b"second".to_vec()]);
    // What is refused for good does not stop the others.
    back_end.answer.store(400, Ordering::Relaxed);
    forward.keep(b"bad".to_vec()).await.expect("kept");
    back_end.is_asked().await;
    reaches(&forward.counts().refused, 1).await;
    back_end.answer.store(200, Ordering::Relaxed);
    forward.keep(b"good".to_vec()).await.expect("kept");
    while taken().len() < 3 {
        back_end.is_asked().await;
    }
    // The back end has it before the sender knows.
    reaches(&forward.counts().sent, 3).await;
    stop.send_replace(true);
    task.await.expect("it ends");
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let counts = forward.counts();
    assert_eq!((count(&counts.refused), count(&counts.dropped), count(&counts.sent)), (1, 0, 3));
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
