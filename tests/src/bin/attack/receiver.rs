//! An OTLP receiver: spans → which of the victim's operations arrived, and how many spans show what must not be there.
//!
//! It keeps counts and the text that is asked for, not spans: an attack is many of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) spans: u64,
    /// Numbers of the victim's requests whose client span, and whose server span, came.
    pub(crate) clients: BTreeSet<u32>,
    pub(crate) servers: BTreeSet<u32>,
    /// Spans with the path that was watched for.
    pub(crate) watched: u64,
    /// Those of them that are in the trace that was named, and all that are in it.
    pub(crate) moved: u64,
    pub(crate) foreign: u64,
    /// All requests as text, where it is kept.
    pub(crate) text: String,
}

/// What to look for beside the victim's work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// A path's beginning.
    pub(crate) path: Option<&'static str>,
    /// The trace in which these must not be.
    pub(crate) foreign: Option<[u8; 16]>,
    pub(crate) text: bool,
}

impl Seen {
    fn take(&mut self, request: &ExportTraceServiceRequest, watch: &Watch) {
        if watch.text {
            self.text.push_str(&format!("{request:?}\n"));
        }
        let groups = request.resource_spans.iter().flat_map(|group| &group.scope_spans);
        for span in groups.flat_map(|scope| &scope.spans) {
            self.spans += 1;
            let is_foreign = watch.foreign.is_some_and(|trace| span.trace_id == trace);
            self.foreign += u64::from(is_foreign);
            let Some(path) = path(span) else { continue };
            if watch.path.is_some_and(|watched| path.contains(watched)) {
                self.watched += 1;
                self.moved += u64::from(is_foreign);
            }
            let Some(number) = number(path) else { continue };
            match span.kind() {
                SpanKind::Client => self.clients.insert(number),
                SpanKind::Server => self.servers.insert(number),
                _ => false,
            };
        }
    }

    /// Of so many requests of the victim, the spans that did not come; each request has two.
    pub(crate) fn missing(&self, asked: u32) -> u64 {
        let seen = self.clients.range(1..=asked).count() + self.servers.range(1..=asked).count();
        2 * u64::from(asked) - seen as u64
    }
}

/// A server's path or a client's whole URL.
fn path(span: &Span) -> Option<&str> {
    let of = |key: &str| span.attributes.iter().find(|attribute| attribute.key == key);
    let attribute = of("url.path").or_else(|| of("url.full"))?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The number of a request of the victim's.
fn number(path: &str) -> Option<u32> {
    let (_, rest) = path.split_once(crate::victim::PATH)?;
    rest.parse().ok()
}

/// The receiver, listening on a free port of loopback until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    runtime: Option<Runtime>,
    address: SocketAddr,
    service: Service,
}

impl Receiver {
    pub(crate) fn start(watch: Watch) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("cannot listen")?;
        let address = listener.local_addr()?;
        let service = Service { seen: Arc::default(), watch };
        let traces = TraceServiceServer::new(service.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(64 << 20);
        let metrics = MetricsServiceServer::new(service.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(64 << 20);
        let logs = LogsServiceServer::new(service.clone()).accept_compressed(CompressionEncoding::Gzip);
        let server = tonic::transport::Server::builder()
            .add_service(traces)
            .add_service(metrics)
            .add_service(logs)
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        runtime.spawn(server);
        Ok(Self { runtime: Some(runtime), address, service })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.service.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone, Debug)]
struct Service {
    seen: Arc<Mutex<Seen>>,
    watch: Watch,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take(request.get_ref(), &self.watch);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        _: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        _: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}
