//! An OTLP receiver that can go away and come back: requests of spans → whoever takes them.
//!
//! Nothing is kept here, so that a long run or an attack does not fill the memory: [`crate::sink`] keeps all. Metrics and logs are
//! taken and thrown away.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;

/// Longest wait for requests under way when it stops.
const LAST_REQUESTS: Duration = Duration::from_secs(20);
/// Far more than the agent sends at once.
const MAX_REQUEST: usize = 64 << 20;

/// Takes what arrives.
pub trait Take: Send + 'static {
    fn take(&mut self, request: ExportTraceServiceRequest);
}

/// The receiver, listening on a port of loopback or away, until it is dropped.
#[derive(Debug)]
pub struct Receiver<T> {
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
    address: SocketAddr,
    seen: Arc<Mutex<T>>,
    serving: Option<Serving>,
}

/// The server's task, and what makes it end.
#[derive(Debug)]
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl<T: Take> Receiver<T> {
    /// Listens on a free port.
    pub fn start(takes: T) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let seen = Arc::new(Mutex::new(takes));
        let mut receiver =
            Self { runtime: Some(runtime), address: ([127, 0, 0, 1], 0).into(), seen, serving: None };
        receiver.come_back()?;
        Ok(receiver)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> MutexGuard<'_, T> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends as a collector does on SIGTERM: requests under way are answered, then nobody listens.
    pub fn go_away(&mut self) -> Result<()> {
        let Some(Serving { stop, task }) = self.serving.take() else { return Ok(()) };
        // Nobody to be told: it has failed, as the task says.
        let _ = stop.send(());
        let ended = self.runtime()?.block_on(async { tokio::time::timeout(LAST_REQUESTS, task).await });
        ended.context("the receiver did not end")??.context("the receiver failed")
    }

    /// Listens again, on the same port.
    pub fn come_back(&mut self) -> Result<()> {
        let listener = self.runtime()?.block_on(TcpListener::bind(self.address));
        let listener = listener.with_context(|| format!("cannot listen on {}", self.address))?;
        self.address = listener.local_addr()?;
        let service = || Service(self.seen.clone());
        let traces = TraceServiceServer::new(service())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MAX_REQUEST);
        let metrics = MetricsServiceServer::new(service())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MAX_REQUEST);
        let logs = LogsServiceServer::new(service()).accept_compressed(CompressionEncoding::Gzip);
        let (stop, asked) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_service(traces)
            .add_service(metrics)
            .add_service(logs)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = asked.await;
            });
        self.serving = Some(Serving { stop, task: self.runtime()?.spawn(server) });
        Ok(())
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().context("the receiver is over")
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug)]
struct Service<T>(Arc<Mutex<T>>);

#[tonic::async_trait]
impl<T: Take> TraceService for Service<T> {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl<T: Take> MetricsService for Service<T> {
    async fn export(
        &self,
        _: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl<T: Take> LogsService for Service<T> {
    async fn export(
        &self,
        _: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}
