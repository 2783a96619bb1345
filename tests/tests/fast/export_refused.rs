//! What a back end does not take: requests that are too large for it, and endpoints that are none.

use std::time::{Duration, Instant};

use spoor::config::OtlpProtocol;
use spoor::export::Exporter;
use spoor_tests::exporting::{settings, span, start, wait};
use spoor_tests::sink::{Options, Reply, Sink};

/// Longer than an end may take.
const LONG: Duration = Duration::from_secs(20);

fn offer(exporter: &Exporter, numbers: std::ops::Range<u32>) {
    numbers.for_each(|number| exporter.offer(&span(number, "shop")));
}

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("span {number}")).collect()
}

#[test]
fn what_is_too_large_for_the_back_end_is_halved_until_it_is_taken() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf, OtlpProtocol::HttpJson] {
        let sink = Sink::with(Options { max_spans: Some(40), ..Options::default() });
        let url = if protocol == OtlpProtocol::Grpc { sink.grpc_url() } else { sink.http_url() };
        let mut settings = settings(&url);
        settings.otlp.protocol = Some(protocol);
        let exporter = start(&settings);
        offer(&exporter, 0..600);
        let totals = exporter.shutdown(LONG);
        assert_eq!((totals.exported, totals.waiting, totals.dropped.total()), (600, 0, 0), "{protocol:?}");
        assert_eq!(sink.span_names(), names(0..600), "{protocol:?}: each once, in order");
    }
}

#[test]
fn a_back_end_that_takes_not_even_one_span_is_not_asked_about_each() {
    let sink = Sink::with(Options { max_spans: Some(0), ..Options::default() });
    let exporter = start(&settings(&sink.grpc_url()));
    offer(&exporter, 0..600);
    let totals = exporter.shutdown(LONG);
    assert_eq!((totals.exported, totals.dropped.refused, totals.dropped.total()), (0, 600, 600));
    assert!(sink.received().len() < 60, "{} requests", sink.received().len());
}

#[test]
fn parts_that_cannot_be_sent_wait_like_any_other_batch() {
    let directory = tempfile::tempdir().unwrap();
    for spool in [false, true] {
        // It takes the first parts, and then wants to be left alone.
        let sink = Sink::with(Options { max_spans: Some(100), ..Options::default() });
        sink.reply([Reply::Take, Reply::Grpc(tonic::Code::Unavailable, None)]);
        let mut settings = settings(&sink.grpc_url());
        if spool {
            settings.spool.directory = directory.path().to_str().unwrap().to_owned();
        }
        let exporter = start(&settings);
        offer(&exporter, 0..600);
        wait(&exporter, "delivered", |totals| totals.exported == 600);
        let totals = exporter.shutdown(LONG);
        assert_eq!((totals.spooled, totals.waiting, totals.dropped.total()), (0, 0, 0), "{totals:?}");
        let mut arrived = sink.span_names();
        arrived.sort();
        arrived.dedup();
        assert_eq!(arrived.len(), 600, "each once, with a spool: {spool}");
    }
}

#[test]
fn while_ending_the_time_that_the_back_end_asked_for_is_kept() {
    let sink = Sink::start();
    sink.reply([Reply::Http(503, vec![("retry-after", "2")], "busy")]);
    let mut settings = settings(&sink.http_url());
    settings.otlp.protocol = Some(OtlpProtocol::HttpProtobuf);
    let exporter = start(&settings);
    let started = Instant::now();
    exporter.offer(&span(1, "shop"));
    let totals = exporter.shutdown(LONG);
    assert_eq!((totals.exported, sink.received().len()), (1, 2), "{totals:?}");
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

/// What is said of an endpoint that does not take spans.
fn trouble(endpoint: &str) -> String {
    use spoor::export::otlp::target::Signal;
    use spoor::export::otlp::{Answer, Client, Target};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target::new(&settings(endpoint).otlp, Signal::Traces).unwrap().unwrap();
        match Client::new(target).unwrap().send(bytes::Bytes::new()).await {
            Answer::Refused { reason } | Answer::TryAgain { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn what_does_not_speak_grpc_is_told_in_one_sentence() {
    // As python's http.server does: it answers something of its own, and closes.
    for answer in ["HTTP/1.0 400 Bad request\r\n\r\n<html>no", "", "\x15\x03\x03\x00\x02\x02\x0a"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(20) {
                let Ok(mut stream) = stream else { continue };
                let _ = std::io::Read::read(&mut stream, &mut [0; 24]);
                let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
            }
        });
        let said = trouble(&format!("http://{address}"));
        assert!(said.starts_with(&format!("what answers on {address} does not speak gRPC (")), "{said}");
        let said = trouble(&format!("https://{address}"));
        assert!(said.contains(&address.to_string()) && !said.contains("transport error"), "{said}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = trouble(&format!("http://{nobody}"));
    assert!(said.starts_with(&format!("cannot connect to {nobody}: ")), "{said}");
    assert!(said.to_lowercase().contains("refused") && said.len() < 100, "{said}");
}
