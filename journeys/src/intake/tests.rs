use std::io::Write;
use std::sync::Mutex;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tower::ServiceExt;

use super::*;
use crate::facts::{At, Beat, Key};
use crate::store::{
    Counts as StoreCounts, Group, Ingested, Look, Order, OrderId, Page, Query, Retained, Retention, Store,
    StoreError, Trace, TraceId,
};

/// Remembers what it was given, and refuses while it is told to.
#[derive(Debug, Default)]
struct Memory {
    facts: Mutex<Vec<Fact>>,
    beats: Mutex<Vec<Beat>>,
    refuses: std::sync::atomic::AtomicBool,
}

impl Store for Memory {
    fn ingest(&self, facts: Vec<Fact>, _: At) -> Result<Ingested, StoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        self.facts.lock().expect("no panic").extend(facts);
        Ok(Ingested::default())
    }
    fn alive(&self, beats: Vec<Beat>, _: At) -> Result<(), StoreError> {
        self.beats.lock().expect("no panic").extend(beats);
        Ok(())
    }
    fn find(&self, _: &Key) -> Result<Vec<OrderId>, StoreError> {
        Err(StoreError::Closed)
    }
    fn order(&self, _: OrderId, _: At) -> Result<Option<Order>, StoreError> {
        Err(StoreError::Closed)
    }
    fn list(&self, _: &Query, _: At) -> Result<Page, StoreError> {
        Err(StoreError::Closed)
    }
    fn groups(&self, _: usize) -> Result<Vec<Group>, StoreError> {
        Err(StoreError::Closed)
    }
    fn counts(&self) -> Result<StoreCounts, StoreError> {
        Err(StoreError::Closed)
    }
    fn recent(&self, _: usize) -> Result<Vec<Key>, StoreError> {
        Err(StoreError::Closed)
    }
    fn trace(&self, _: &TraceId) -> Result<Trace, StoreError> {
        Err(StoreError::Closed)
    }
    fn walk(&self, _: At, _: At, _: &mut dyn Look) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    fn judge_due(&self, _: At, _: usize) -> Result<usize, StoreError> {
        Err(StoreError::Closed)
    }
    fn pin(&self, _: OrderId, _: bool) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    fn retain(&self, _: Retention, _: At) -> Result<Retained, StoreError> {
        Err(StoreError::Closed)
    }
    fn usual(&self) -> Arc<crate::model::Usual> {
        Arc::default()
    }
    fn changes(&self) -> crate::store::Changes {
        tokio::sync::broadcast::Sender::new(1).subscribe()
    }
    fn check(&self) -> Result<Vec<String>, StoreError> {
        Err(StoreError::Closed)
    }
}

fn intake() -> (Arc<Memory>, Intake) {
    let store = Arc::new(Memory::default());
    let (writer, _thread) = Writer::start(store.clone()).expect("a thread");
    (store, Intake::new(writer, vec!["order.id".to_owned()], Arc::default(), None))
}

/// Spans of orders 1 to `orders`, one that names none, and one that is invalid.
fn request(orders: u8) -> ExportTraceServiceRequest {
    let span = |id: u8, order: Option<u8>| {
        let value = order.map(|order| AnyValue { value: Some(Value::StringValue(order.to_string())) });
        let order = KeyValue { key: "order.id".to_owned(), value, ..KeyValue::default() };
        Span {
            trace_id: vec![id; 16],
            span_id: vec![id; 8],
            start_time_unix_nano: 1_000,
            attributes: if order.value.is_some() { vec![order] } else { Vec::new() },
            ..Span::default()
        }
    };
    let mut spans: Vec<Span> = (1..=orders).map(|order| span(order, Some(order))).collect();
    spans.extend([span(200, None), span(0, Some(1))]);
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

async fn post(intake: &Intake, kind: &str, coding: &str, body: Vec<u8>) -> (u16, Option<String>, Vec<u8>) {
    post_to("/v1/traces", intake, kind, coding, body).await
}

async fn post_to(
    path: &str,
    intake: &Intake,
    kind: &str,
    coding: &str,
    body: Vec<u8>,
) -> (u16, Option<String>, Vec<u8>) {
    let request = Request::post(path).header("content-type", kind).header("content-encoding", coding);
    let request = request.body(Body::from(body)).expect("a request");
    let response = http_router(intake.clone()).oneshot(request).await.expect("an answer");
    let retry =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    (status, retry, to_bytes(response.into_body(), usize::MAX).await.expect("a body").to_vec())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("compressed")
}

#[tokio::test]
async fn http_takes_protobuf_and_json_plain_and_compressed() {
    let (store, intake) = intake();
    let (protobuf, json) = (request(2).encode_to_vec(), serde_json::to_vec(&request(2)).expect("JSON"));
    for (kind, coding, body) in [
        ("application/x-protobuf", "", protobuf.clone()),
        ("application/x-protobuf", "gzip", gzip(&protobuf)),
        ("application/json", "identity", json.clone()),
        ("application/json; charset=utf-8", "gzip", gzip(&json)),
    ] {
        let (status, _, answer) = post(&intake, kind, coding, body).await;
        assert_eq!(status, 200, "{kind} {coding}");
        let answer = if kind.starts_with("application/json") {
            serde_json::from_slice(&answer).expect("JSON")
        } else {
            ExportTraceServiceResponse::decode(answer.as_slice()).expect("protobuf")
        };
        assert_eq!(answer.partial_success.map(|partial| partial.rejected_spans), Some(1), "the invalid one");
    }
    assert_eq!(store.facts.lock().expect("no panic").len(), 8);
    assert_eq!(intake.counts().no_order.load(Ordering::Relaxed), 4);
    assert_eq!(intake.counts().invalid.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn http_refuses_for_good_what_no_repetition_mends() {
    let (_, intake) = intake();
    let bomb = gzip(&vec![0; MAX_REQUEST_LEN + 1]);
    for (kind, coding, body, expected) in [
        ("text/plain", "", vec![], 415),
        ("application/x-protobuf", "br", vec![], 415),
        ("application/x-protobuf", "", vec![0xff; 10], 400),
        ("application/json", "", b"{".to_vec(), 400),
        ("application/x-protobuf", "gzip", b"no gzip".to_vec(), 400),
        ("application/x-protobuf", "gzip", bomb, 413),
        ("application/x-protobuf", "", vec![0; MAX_REQUEST_LEN + 1], 413),
    ] {
        assert_eq!(post(&intake, kind, coding, body).await.0, expected, "{kind} {coding}");
    }
}

#[tokio::test]
async fn a_store_that_refuses_makes_the_sender_come_again() {
    let (store, intake) = intake();
    store.refuses.store(true, Ordering::Relaxed);
    let body = request(1).encode_to_vec();
    let (status, retry, _) = post(&intake, "application/x-protobuf", "", body.clone()).await;
    assert_eq!((status, retry.as_deref()), (503, Some("5")));
    assert_eq!(intake.counts().refused.load(Ordering::Relaxed), 1);
    store.refuses.store(false, Ordering::Relaxed);
    assert_eq!(post(&intake, "application/x-protobuf", "", body).await.0, 200);
}

#[tokio::test]
async fn grpc_takes_spans_and_says_unavailable_when_the_store_refuses() {
    let (store, intake) = intake();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let limits = crate::connections::Limits::of_senders();
    tokio::spawn(crate::connections::serve(listener, grpc_router(intake), limits, stopped));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    let mut client = TraceServiceClient::new(channel.connect().await.expect("connected"))
        .send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let answer = client.export(request(3)).await.expect("taken").into_inner();
    assert_eq!(answer.partial_success.map(|partial| partial.rejected_spans), Some(1));
    assert_eq!(store.facts.lock().expect("no panic").len(), 3);
    store.refuses.store(true, Ordering::Relaxed);
    let refused = client.export(request(3)).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
}

/// Events of open work of orders 1 to `orders`, one that names none, one that does not say since when, and another log record.
fn events(orders: u8) -> ExportLogsServiceRequest {
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    };
    let record = |name: &str, id: u8, attributes: Vec<KeyValue>| LogRecord {
        event_name: name.to_owned(),
        trace_id: vec![id; 16],
        span_id: vec![id; 8],
        time_unix_nano: 90_000_000_000,
        attributes,
        ..LogRecord::default()
    };
    let since = || text("spoor.operation.since", "1970-01-01T00:01:00Z");
    let open = "spoor.operation.open";
    let mut log_records: Vec<LogRecord> = (1..=orders)
        .map(|order| record(open, order, vec![text("order.id", &order.to_string()), since()]))
        .collect();
    log_records.push(record(open, 200, vec![since()]));
    log_records.push(record(open, 201, vec![text("order.id", "1")]));
    log_records.push(record("", 202, vec![text("order.id", "1"), since()]));
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
}

#[tokio::test]
async fn events_of_open_work_are_taken_as_spans_are() {
    let (store, intake) = intake();
    let (protobuf, json) = (events(2).encode_to_vec(), serde_json::to_vec(&events(2)).expect("JSON"));
    for (kind, coding, body) in [
        ("application/x-protobuf", "", protobuf.clone()),
        ("application/x-protobuf", "gzip", gzip(&protobuf)),
        ("application/json", "", json),
    ] {
        let (status, _, answer) = post_to("/v1/logs", &intake, kind, coding, body).await;
        assert_eq!(status, 200, "{kind} {coding}");
        let answer = if kind.starts_with("application/json") {
            serde_json::from_slice(&answer).expect("JSON")
        } else {
            ExportLogsServiceResponse::decode(answer.as_slice()).expect("protobuf")
        };
        assert_eq!(answer.partial_success.map(|partial| partial.rejected_log_records), Some(1));
    }
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let counts = intake.counts();
    let found = [&counts.facts, &counts.no_order, &counts.invalid, &counts.unknown].map(count);
    assert_eq!(found, [6, 3, 3, 3]);
    assert!(store.facts.lock().expect("no panic").iter().all(Fact::is_open));
    assert_eq!(post_to("/v1/logs", &intake, "application/x-protobuf", "", vec![0xff; 10]).await.0, 400);
    store.refuses.store(true, Ordering::Relaxed);
    assert_eq!(post_to("/v1/logs", &intake, "application/x-protobuf", "", protobuf).await.0, 503);
}

#[tokio::test]
async fn a_unix_socket_takes_spans_and_events_of_both_kinds() {
    let (store, intake) = intake();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("otlp.sock");
    let listener = crate::connections::listen_at(&path).expect("a socket");
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let both = http_router(intake.clone()).merge(grpc_router(intake));
    let limits = crate::connections::Limits::of_senders();
    tokio::spawn(crate::connections::serve(listener, both, limits, stopped));
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("unix:{}", path.display())).expect("a path");
    let channel = endpoint.connect().await.expect("connected");
    TraceServiceClient::new(channel.clone()).export(request(1)).await.expect("spans");
    let answer = LogsServiceClient::new(channel).export(events(2)).await.expect("events").into_inner();
    assert_eq!(answer.partial_success.map(|partial| partial.rejected_log_records), Some(1));
    let mut stream = tokio::net::UnixStream::connect(&path).await.expect("connected");
    let body = serde_json::to_vec(&events(4)).expect("JSON");
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: spoor\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut said = String::new();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[head.into_bytes(), body].concat())
        .await
        .expect("written");
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await.expect("an answer");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert_eq!(store.facts.lock().expect("no panic").len(), 1 + 2 + 4);
}

#[test]
fn lines_of_a_file_are_read_one_by_one() {
    let names = ["order.id".to_owned()];
    let json = serde_json::to_string(&request(2)).expect("JSON");
    let mut file = std::io::Cursor::new(format!("{json}\n\n{json}\nnonsense\n"));
    let mut read = |line| lines::next(&mut file, line, &names);
    assert_eq!(read(1).expect("read").expect("a line").facts.len(), 2);
    assert_eq!(read(2).expect("read").expect("a line").facts.len(), 2);
    assert!(matches!(read(3), Err(lines::LinesError::Json { line: 3, .. })));
    assert!(read(4).expect("read").is_none());
}

#[tokio::test]
async fn an_agent_that_says_that_it_is_there_is_heard_though_it_names_no_order() {
    use opentelemetry_proto::tonic::resource::v1::Resource;
    let (store, intake) = intake();
    let pair = |key: &str, value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let record = LogRecord {
        event_name: "spoor.agent.alive".to_owned(),
        attributes: vec![pair("spoor.agent.every", Value::IntValue(30_000_000_000))],
        ..LogRecord::default()
    };
    let host = pair("host.name", Value::StringValue("n3".to_owned()));
    let resource = Resource { attributes: vec![host], ..Resource::default() };
    let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
    let logs = ResourceLogs { resource: Some(resource), scope_logs: vec![scope], ..ResourceLogs::default() };
    let answer =
        intake.take_logs(ExportLogsServiceRequest { resource_logs: vec![logs] }).await.expect("taken");
    assert_eq!(answer.partial_success, None);
    let heard = store.beats.lock().expect("no panic");
    assert_eq!(
        heard.iter().map(|beat| (beat.node.as_str(), beat.every)).collect::<Vec<_>>(),
        [("n3", 30_000_000)]
    );
}
