//! An exporter with numbered spans, and waiting for what becomes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use spoor::config::{Export, Otlp, Spool};
use spoor::export::otlp::encode::Batcher;
use spoor::export::{Exporter, Host, Totals};
use spoor_core::pipeline::OpenWork;
use spoor_core::span::{Resource, Span, SpanKind, Status};
use spoor_core::time::WallTime;
use spoor_core::trace::{Attributes, SpanId, TraceId};

/// Longer than anything waited for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// `span NUMBER` of a service, one nanosecond after the one before.
pub fn span(number: u32, service: &str) -> Span {
    let mut id = [1; 8];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Span {
        trace_id: TraceId([9; 16]),
        span_id: SpanId(id),
        parent: None,
        evidence: None,
        name: format!("span {number}"),
        kind: SpanKind::Server,
        start: WallTime::from_nanos(1_700_000_000_000_000_000 + u64::from(number)),
        end: WallTime::from_nanos(1_700_000_000_500_000_000),
        status: Status::Unset,
        attributes: Attributes::default(),
        links: Vec::new(),
        events: Vec::new(),
        resource: Arc::new(Resource { service: service.to_owned(), ..Resource::default() }),
        sampled: true,
    }
}

/// What is told of work that is not over, as it is sent.
pub fn events(told: &[OpenWork]) -> ExportLogsServiceRequest {
    let mut batcher = Batcher::new(Host::default(), usize::MAX);
    for event in told {
        batcher.push_event(event);
    }
    let payload = batcher.take().map(|request| request.payload).unwrap_or_default();
    ExportLogsServiceRequest::decode(payload.as_slice()).expect("OTLP")
}

/// To that endpoint, without metrics and without a spool.
pub fn settings(endpoint: &str) -> Export {
    Export {
        otlp: Otlp {
            endpoint: endpoint.to_owned(),
            metrics: false,
            timeout: Duration::from_secs(5),
            ..Otlp::default()
        },
        spool: Spool::default(),
    }
}

pub fn start(settings: &Export) -> Exporter {
    Exporter::start(settings, Host::default()).expect("usable settings").expect("an endpoint")
}

/// Waits until the exporter's counts are as wanted.
#[track_caller]
pub fn wait(exporter: &Exporter, what: &str, condition: impl Fn(&Totals) -> bool) -> Totals {
    let end = Instant::now() + PATIENCE;
    loop {
        let totals = exporter.totals();
        if condition(&totals) {
            return totals;
        }
        assert!(Instant::now() < end, "not `{what}` in {PATIENCE:?}: {totals:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
