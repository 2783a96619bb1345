//! An OTLP receiver that can go away and come back: requests → a count of distinct spans.
//!
//! It keeps an identifier per span, not the span, so that a long run does not fill its memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
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
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codec::CompressionEncoding;

/// Longest wait for requests under way when it stops.
const LAST_REQUESTS: Duration = Duration::from_secs(20);
/// Duplicates that are told by name.
const SHOWN: usize = 10;

/// What arrived since the start, over all outages.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The request each span came with.
    spans: HashMap<([u8; 16], [u8; 8]), u64>,
    pub(crate) requests: u64,
    /// Spans that had come before.
    pub(crate) duplicates: u64,
    /// Some of these.
    pub(crate) examples: Vec<String>,
    /// Spans whose identifiers are not 16 and 8 bytes long.
    pub(crate) malformed: u64,
}

impl Seen {
    /// Distinct spans.
    pub(crate) fn distinct(&self) -> u64 {
        self.spans.len() as u64
    }

    fn take(&mut self, request: ExportTraceServiceRequest) {
        self.requests += 1;
        let groups = request.resource_spans.into_iter().flat_map(|group| group.scope_spans);
        for span in groups.flat_map(|scope| scope.spans) {
            let (Ok(trace), Ok(id)) =
                (<[u8; 16]>::try_from(span.trace_id), <[u8; 8]>::try_from(span.span_id))
            else {
                self.malformed += 1;
                continue;
            };
            if let Some(first) = self.spans.insert((trace, id), self.requests) {
                self.duplicates += 1;
                if self.examples.len() < SHOWN {
                    let id = u64::from_be_bytes(id);
                    let observed = span.attributes.iter().any(|field| field.key == "spoor.observed_from");
                    let whose = if observed { ", as the server saw it" } else { "" };
                    self.examples.push(format!(
                        "{}{whose} ({id:016x}) in request {first} and again in {}",
                        span.name, self.requests
                    ));
                }
            }
        }
    }
}

/// The receiver, listening or away.
#[derive(Debug)]
pub(crate) struct Receiver {
    runtime: Runtime,
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    serving: Option<Serving>,
}

/// The server's task, and what makes it end.
#[derive(Debug)]
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Receiver {
    /// Listens on a free port of loopback.
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut receiver =
            Self { runtime, address: ([127, 0, 0, 1], 0).into(), seen: Arc::default(), serving: None };
        receiver.come_back()?;
        Ok(receiver)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends as a collector does on SIGTERM: requests under way are answered, then nobody listens.
    pub(crate) fn go_away(&mut self) -> Result<()> {
        let Some(Serving { stop, task }) = self.serving.take() else { return Ok(()) };
        // Nobody to be told: it has failed, as the task says.
        let _ = stop.send(());
        let ended = self.runtime.block_on(async { tokio::time::timeout(LAST_REQUESTS, task).await });
        ended.context("the receiver did not end")??.context("the receiver failed")
    }

    /// Listens again, on the same port.
    pub(crate) fn come_back(&mut self) -> Result<()> {
        let listener = self.runtime.block_on(TcpListener::bind(self.address));
        let listener = listener.with_context(|| format!("cannot listen on {}", self.address))?;
        self.address = listener.local_addr()?;
        let traces = TraceServiceServer::new(Service(self.seen.clone()))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(64 << 20);
        let metrics = MetricsServiceServer::new(Service(self.seen.clone()))
            .accept_compressed(CompressionEncoding::Gzip);
        let (stop, asked) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_service(traces)
            .add_service(metrics)
            .serve_with_incoming_shutdown(tokio_stream::wrappers::TcpListenerStream::new(listener), async {
                let _ = asked.await;
            });
        self.serving = Some(Serving { stop, task: self.runtime.spawn(server) });
        Ok(())
    }
}

#[derive(Debug)]
struct Service(Arc<Mutex<Seen>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(request.into_inner());
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
