//! Spans through the exporter to an independent receiver: every way of OTLP, every kind of answer, outages.
//!
//! Long because every kind of answer is tried over every way of OTLP with the same few helpers.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spoor::config::{Compression, Export, OtlpProtocol};
use spoor::export::{Exporter, Host, Totals};
use spoor_tests::exporting::{settings, span, start, wait};
use spoor_tests::sink::{Options, Reply, Sink};

fn offer(exporter: &Exporter, numbers: std::ops::Range<u32>) {
    numbers.for_each(|number| exporter.offer(&span(number, "shop")));
}

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("span {number}")).collect()
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn spans_arrive_by_every_way_with_headers_and_compression() {
    let sink = Sink::start();
    for (url, protocol, content) in [
        (sink.grpc_url(), OtlpProtocol::Grpc, "application/grpc"),
        (sink.http_url(), OtlpProtocol::HttpProtobuf, "application/x-protobuf"),
        (sink.http_url(), OtlpProtocol::HttpJson, "application/json"),
    ] {
        for compression in [Compression::Gzip, Compression::None] {
            let before = sink.received().len();
            let mut settings = settings(&url);
            settings.otlp.protocol = Some(protocol);
            settings.otlp.compression = compression;
            settings.otlp.headers.insert("authorization".to_owned(), "Bearer 17".to_owned());
            let exporter = start(&settings);
            exporter.offer(&span(1, "shop"));
            exporter.offer(&span(2, "crm"));
            let totals = exporter.shutdown(LONG);
            let received = &sink.received()[before..];
            let [received] = received else { panic!("{protocol:?}: {} requests", received.len()) };
            assert_eq!((totals.exported, totals.dropped.total(), totals.waiting), (2, 0, 0), "{protocol:?}");
            // Two services in one request.
            assert_eq!(received.request.resource_spans.len(), 2);
            assert_eq!(received.header("content-type"), Some(content));
            assert_eq!(received.header("authorization"), Some("Bearer 17"));
            assert!(
                received.header("user-agent").is_some_and(|agent| agent.starts_with("spoor/")),
                "{received:?}"
            );
            let encoding = received.header("content-encoding").or(received.header("grpc-encoding"));
            assert_eq!(
                encoding == Some("gzip"),
                compression == Compression::Gzip,
                "{protocol:?} {encoding:?}"
            );
            let span = &received.request.resource_spans[0].scope_spans[0].spans[0];
            assert_eq!(
                (span.trace_id.as_slice(), span.start_time_unix_nano),
                (&[9; 16][..], 1_700_000_000_000_000_001)
            );
        }
    }
}

#[test]
fn receiver_without_gzip_gets_plain_requests() {
    let sink = Sink::with(Options { no_gzip: true, ..Options::default() });
    let exporter = start(&settings(&sink.grpc_url()));
    offer(&exporter, 0..5);
    wait(&exporter, "delivered", |totals| totals.exported == 5);
    offer(&exporter, 5..9);
    let totals = exporter.shutdown(LONG);
    assert_eq!((totals.exported, totals.dropped.total()), (9, 0));
    assert_eq!(sink.span_names(), names(0..9));
}

#[test]
fn requests_are_split_at_the_limit() {
    let sink = Sink::start();
    let mut settings = settings(&sink.http_url());
    settings.otlp.max_request_bytes = 16 << 10;
    settings.otlp.protocol = Some(OtlpProtocol::HttpProtobuf);
    let exporter = start(&settings);
    offer(&exporter, 0..2000);
    let totals = exporter.shutdown(LONG);
    assert_eq!((totals.exported, totals.dropped.total()), (2000, 0));
    assert_eq!(sink.span_names(), names(0..2000));
    assert!(sink.received().iter().all(|received| received.body_len <= 16 << 10));
    assert!(sink.received().len() > 5);
}

/// Sends one span and returns what became of it with the given answers.
fn with_replies(protocol: OtlpProtocol, replies: Vec<Reply>, expected_requests: usize) -> (Totals, Duration) {
    let sink = Sink::start();
    sink.reply(replies);
    let url = if protocol == OtlpProtocol::Grpc { sink.grpc_url() } else { sink.http_url() };
    let mut settings = settings(&url);
    settings.otlp.protocol = Some(protocol);
    let exporter = start(&settings);
    let started = Instant::now();
    exporter.offer(&span(1, "shop"));
    sink.wait("all attempts", |received| received.len() >= expected_requests);
    let took = started.elapsed();
    let totals = exporter.shutdown(LONG);
    assert_eq!(sink.received().len(), expected_requests);
    (totals, took)
}

#[test]
fn retryable_answers_are_retried_until_taken() {
    use tonic::Code::{ResourceExhausted, Unavailable};
    let delay = Some(Duration::from_millis(1200));
    for (protocol, reply, at_least_ms) in [
        (OtlpProtocol::Grpc, Reply::Grpc(Unavailable, None), 500),
        (OtlpProtocol::Grpc, Reply::Grpc(ResourceExhausted, delay), 1200),
        (OtlpProtocol::HttpProtobuf, Reply::Http(503, vec![("retry-after", "1")], "busy"), 1000),
        (OtlpProtocol::HttpJson, Reply::Http(429, vec![], ""), 500),
        (
            OtlpProtocol::HttpProtobuf,
            Reply::Http(502, vec![("content-type", "text/html")], "<html>bad gateway"),
            500,
        ),
    ] {
        let (totals, took) = with_replies(protocol, vec![reply.clone()], 2);
        assert_eq!((totals.exported, totals.retries, totals.dropped.total()), (1, 1, 0), "{reply:?}");
        assert!(took >= Duration::from_millis(at_least_ms), "{reply:?} after {took:?}");
    }
}

#[test]
fn final_answers_are_not_retried_and_counted() {
    for (protocol, reply) in [
        (OtlpProtocol::Grpc, Reply::Grpc(tonic::Code::InvalidArgument, None)),
        (OtlpProtocol::Grpc, Reply::Grpc(tonic::Code::ResourceExhausted, None)),
        (OtlpProtocol::Grpc, Reply::Grpc(tonic::Code::Unauthenticated, None)),
        (OtlpProtocol::HttpProtobuf, Reply::Http(400, vec![], "no")),
        (OtlpProtocol::HttpJson, Reply::Http(500, vec![], "no")),
        (
            OtlpProtocol::HttpProtobuf,
            Reply::Http(200, vec![("content-type", "text/html")], "<html>log in</html>"),
        ),
    ] {
        let (totals, _) = with_replies(protocol, vec![reply.clone()], 1);
        assert_eq!((totals.exported, totals.dropped.refused, totals.retries), (0, 1, 0), "{reply:?}");
    }
}

#[test]
fn partial_success_is_counted_and_not_retried() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf, OtlpProtocol::HttpJson] {
        let (totals, _) = with_replies(protocol, vec![Reply::Partial(1, "too old")], 1);
        assert_eq!((totals.exported, totals.dropped.rejected), (0, 1), "{protocol:?}");
        let (totals, _) = with_replies(protocol, vec![Reply::Partial(0, "be gentle")], 1);
        assert_eq!((totals.exported, totals.dropped.rejected), (1, 0), "{protocol:?}");
    }
}

#[test]
fn silent_receiver_is_tried_again_after_the_timeout() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf] {
        let sink = Sink::start();
        sink.reply([Reply::Hang]);
        let mut settings =
            settings(if protocol == OtlpProtocol::Grpc { sink.grpc_url() } else { sink.http_url() }.as_str());
        settings.otlp.protocol = Some(protocol);
        settings.otlp.timeout = Duration::from_millis(300);
        let exporter = start(&settings);
        exporter.offer(&span(1, "shop"));
        let totals = wait(&exporter, "delivered", |totals| totals.exported == 1);
        assert_eq!((totals.retries, totals.dropped.total()), (1, 0), "{protocol:?}");
    }
}

#[test]
fn web_server_on_the_grpc_port_is_recognised() {
    // HTTP/1.1 answers to an HTTP/2 preface: what a user gets who names the wrong port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(50) {
            let Ok(mut stream) = stream else { continue };
            let page =
                "HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
            let _ = std::io::Write::write_all(&mut stream, page.as_bytes());
        }
    });
    let exporter = start(&settings(&format!("http://{address}")));
    exporter.offer(&span(1, "shop"));
    wait(&exporter, "tried", |totals| totals.retries > 0 || totals.dropped.refused > 0);
    let totals = exporter.shutdown(Duration::from_secs(1));
    assert_eq!((totals.exported, totals.dropped.total()), (0, 1), "{totals:?}");
}

/// An address on which nothing listens.
fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn outage_loses_nothing_in_memory() {
    let address = free_address();
    let exporter = start(&settings(&format!("http://{address}")));
    offer(&exporter, 0..100);
    wait(&exporter, "tried", |totals| totals.retries >= 1);
    offer(&exporter, 100..200);
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    wait(&exporter, "delivered", |totals| totals.exported == 200);
    offer(&exporter, 200..300);
    let totals = exporter.shutdown(LONG);
    assert_eq!((totals.exported, totals.dropped.total()), (300, 0));
    assert_eq!(sink.span_names(), names(0..300));
}

#[test]
fn full_memory_drops_the_oldest_and_counts_them() {
    let mut settings = settings(&format!("http://{}", free_address()));
    settings.otlp.max_request_bytes = 16 << 10;
    settings.spool.memory_bytes = 64 << 10;
    let exporter = start(&settings);
    offer(&exporter, 0..5000);
    let totals = wait(&exporter, "dropped", |totals| totals.dropped.queue_full > 0);
    assert_eq!(totals.waiting + totals.dropped.total(), 5000, "{totals:?}");
    let totals = exporter.shutdown(Duration::from_millis(100));
    assert_eq!((totals.waiting, totals.exported), (0, 0));
    assert_eq!(totals.dropped.queue_full + totals.dropped.shutdown, 5000, "{totals:?}");
    assert!(totals.dropped.shutdown > 0, "{totals:?}");
}

fn spooled(endpoint: &str, directory: &Path) -> Export {
    let mut settings = settings(endpoint);
    settings.spool.directory = directory.to_str().unwrap().to_owned();
    settings.otlp.max_request_bytes = 16 << 10;
    settings
}

#[test]
fn outage_is_bridged_by_the_spool_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let exporter = start(&spooled(&format!("http://{address}"), directory.path()));
    offer(&exporter, 0..500);
    wait(&exporter, "spooled", |totals| totals.spooled == 500 && totals.waiting == 0);
    offer(&exporter, 500..1000);
    wait(&exporter, "spooled", |totals| totals.spooled == 1000 && totals.waiting == 0);
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    offer(&exporter, 1000..1100);
    wait(&exporter, "delivered", |totals| totals.exported == 1100);
    let totals = exporter.shutdown(LONG);
    assert_eq!((totals.spooled, totals.dropped.total()), (0, 0), "{totals:?}");
    assert_eq!(sink.span_names(), names(0..1100));
}

#[test]
fn back_end_that_takes_its_time_leaves_nothing_for_a_kill_to_take() {
    let directory = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    sink.reply([Reply::Hang]);
    let exporter = start(&spooled(&sink.grpc_url(), directory.path()));
    offer(&exporter, 0..10);
    // The request hangs for five seconds; long before, it is in the spool, and so is what comes after it.
    let begun = Instant::now();
    wait(&exporter, "spooled", |totals| totals.spooled == 10 && totals.waiting == 0);
    offer(&exporter, 10..20);
    wait(&exporter, "spooled", |totals| totals.spooled == 20 && totals.waiting == 0);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let totals = wait(&exporter, "delivered", |totals| totals.spooled == 0);
    assert_eq!((totals.exported, totals.dropped.total()), (20, 0), "{totals:?}");
    exporter.shutdown(LONG);
}

#[test]
fn end_during_an_outage_keeps_the_rest_for_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let settings = spooled(&format!("http://{address}"), directory.path());
    let exporter = start(&settings);
    offer(&exporter, 0..300);
    let started = Instant::now();
    let totals = exporter.shutdown(LONG);
    assert!(started.elapsed() < Duration::from_secs(8), "an outage delays the end");
    assert_eq!((totals.spooled, totals.waiting, totals.dropped.total()), (300, 0, 0), "{totals:?}");
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    let exporter = start(&settings);
    assert_eq!(exporter.totals().recovered, 300);
    offer(&exporter, 300..310);
    let totals = wait(&exporter, "delivered", |totals| totals.exported == 310);
    assert_eq!(totals.dropped.total(), 0);
    assert_eq!(sink.span_names(), names(0..310));
}

#[test]
fn full_spool_drops_the_oldest_and_counts_them() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut settings = spooled(&format!("http://{address}"), directory.path());
    settings.spool.max_bytes = 256 << 10;
    let exporter = start(&settings);
    offer(&exporter, 0..20_000);
    wait(&exporter, "spooled", |totals| totals.waiting == 0);
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    let totals = wait(&exporter, "delivered", |totals| totals.spooled == 0 && totals.exported > 0);
    assert!(totals.dropped.spool_full > 0, "{totals:?}");
    assert_eq!(totals.exported + totals.dropped.total(), 20_000, "{totals:?}");
    // What arrived is the newest, without a hole.
    let first = 20_000 - u32::try_from(totals.exported).unwrap();
    assert_eq!(sink.span_names(), names(first..20_000));
}

#[test]
fn second_exporter_on_the_same_spool_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let settings = spooled(&format!("http://{}", free_address()), directory.path());
    let _first = start(&settings);
    let error = Exporter::start(&settings, Host::default()).unwrap_err().to_string();
    assert!(error.contains("another running agent"), "{error}");
}

#[test]
fn own_metrics_arrive_by_every_way() {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    use spoor::export::metrics::Metrics;
    use spoor::metrics::Board;
    use spoor::metrics::readings::Reading;
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf, OtlpProtocol::HttpJson] {
        let sink = Sink::start();
        let mut otlp =
            settings(if protocol == OtlpProtocol::Grpc { sink.grpc_url() } else { sink.http_url() }.as_str())
                .otlp;
        otlp.protocol = Some(protocol);
        otlp.metrics = true;
        let board = Arc::new(Board::default());
        let metrics = Metrics::start(&otlp, &Host::default(), &board).unwrap().unwrap();
        board.update(vec![
            Reading::plain("spoor.records", 17),
            Reading::labelled("spoor.operations", "protocol", "http", 4),
            Reading::labelled("spoor.operations", "protocol", "amqp", 5),
            Reading::plain("spoor.held", 2),
        ]);
        let mut request = span(1, "shop");
        request.attributes.set("http.request.method", "GET");
        board.durations().observe(&request);
        metrics.shutdown();
        let sets = sink.metrics();
        // Both leave at the end, in whatever order.
        let (durations, own): (Vec<_>, Vec<_>) =
            sets.iter().partition(|set| format!("{set:?}").contains("\"http.server.request.duration\""));
        let ([durations], [set]) = (durations.as_slice(), own.as_slice()) else {
            panic!("{protocol:?}: {} sets with durations, {} without", durations.len(), own.len())
        };
        assert!(format!("{durations:?}").contains("\"shop\""));
        let scopes = set.resource_metrics.iter().flat_map(|group| &group.scope_metrics);
        let mut found: Vec<(String, String, i64)> = scopes
            .flat_map(|scope| &scope.metrics)
            .flat_map(|metric| {
                let (points, growing) = match metric.data.as_ref().expect("data") {
                    Data::Sum(sum) => (&sum.data_points, sum.is_monotonic),
                    Data::Gauge(gauge) => (&gauge.data_points, false),
                    other => panic!("{other:?}"),
                };
                assert_eq!(growing, metric.name != "spoor.held", "{}", metric.name);
                let kind = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]| {
                    attributes.iter().map(|attribute| attribute.key.clone()).collect::<String>()
                };
                points.iter().map(move |point| match point.value {
                    Some(Value::AsInt(value)) => (metric.name.clone(), kind(&point.attributes), value),
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        found.sort();
        let expected = [
            ("spoor.held", "", 2),
            ("spoor.operations", "protocol", 4),
            ("spoor.operations", "protocol", 5),
            ("spoor.records", "", 17),
        ];
        assert_eq!(
            found,
            expected.map(|(name, key, value)| (name.to_owned(), key.to_owned(), value)),
            "{protocol:?}"
        );
    }
}

mod tls {
    //! TLS with a private authority, and mutual TLS.

    use std::sync::Arc;

    use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        directory: tempfile::TempDir,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            Self { issuer, directory: tempfile::tempdir().unwrap() }
        }

        fn issue(&self) -> (Certificate, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            (params.signed_by(&key, &self.issuer).unwrap(), key)
        }

        fn file(&self, name: &str, text: &str) -> String {
            let path = self.directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        }

        fn server(&self) -> Arc<rustls::ServerConfig> {
            let (certificate, key) = self.issue();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap();
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(verifier)
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
                )
                .unwrap();
            Arc::new(config)
        }
    }

    #[test]
    fn mutual_tls_with_a_private_authority_works_and_is_required() {
        let authority = Authority::new();
        let sink = Sink::with(Options { tls: Some(authority.server()), ..Options::default() });
        let url = format!("https://localhost:{}", sink.http_address().port());
        let mut settings = settings(&url);
        settings.otlp.protocol = Some(OtlpProtocol::HttpProtobuf);
        settings.otlp.certificate = Some(authority.file("ca.pem", &authority.issuer.pem()));

        // Without a client certificate the receiver does not talk.
        let exporter = start(&settings);
        exporter.offer(&span(0, "shop"));
        wait(&exporter, "tried", |totals| totals.retries > 0);
        assert_eq!(exporter.shutdown(Duration::from_millis(10)).exported, 0);

        let (certificate, key) = authority.issue();
        settings.otlp.client_certificate = Some(authority.file("client.pem", &certificate.pem()));
        settings.otlp.client_key = Some(authority.file("client.key", &key.serialize_pem()));
        let exporter = start(&settings);
        exporter.offer(&span(1, "shop"));
        assert_eq!(exporter.shutdown(LONG).exported, 1);

        // An authority that signed nothing here is not trusted.
        settings.otlp.certificate = Some(authority.file("other.pem", &Authority::new().issuer.pem()));
        let exporter = start(&settings);
        exporter.offer(&span(2, "shop"));
        wait(&exporter, "tried", |totals| totals.retries > 0);
        assert_eq!(exporter.shutdown(Duration::from_millis(10)).exported, 0);
        assert_eq!(sink.span_names(), names(1..2));
    }
}
