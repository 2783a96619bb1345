//! Counts of the agent itself → OTLP metrics to the same back end as the spans.
//!
//! *Owns* the OpenTelemetry SDK that sends them; it uses the connection settings, TLS and HTTP client of
//! [`otlp`](super::otlp). *Must not know* where counts come from. *Spec*: OpenTelemetry specification v1.60 `metrics/`.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, MetricExporter, Protocol, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use tokio::runtime::{Handle, Runtime};

use super::Host;
use super::otlp::Target;
use super::otlp::durations::Sender;
use super::otlp::http::{RawClient, raw_client};
use super::otlp::target::{Signal, TargetError};
use crate::config::{Otlp, OtlpProtocol};
use crate::metrics::Board;
use crate::metrics::readings::METRICS;

#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("cannot send the agent's own metrics: {0}")]
    Channel(#[from] tonic::transport::Error),
    #[error("cannot send the agent's own metrics: {0}")]
    Build(#[from] ExporterBuildError),
    #[error("cannot send the agent's own metrics: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Sends readings at an interval.
#[derive(Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    /// Durations, which have a resource per service.
    durations: Arc<Sender>,
    /// Drives the connection; the SDK's reader has a thread of its own without a runtime. There until the end.
    runtime: Option<Runtime>,
    open: Arc<Open>,
}

/// How long the last numbers may take, each of the two ways of them.
const LAST: Duration = Duration::from_millis(400);

impl Metrics {
    /// `None` when metrics are switched off, or there is no endpoint.
    pub fn start(settings: &Otlp, host: &Host, board: &Arc<Board>) -> Result<Option<Self>, MetricsError> {
        if !settings.metrics {
            return Ok(None);
        }
        let Some(target) = Target::new(settings, Signal::Metrics)? else { return Ok(None) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("spoor-metrics")
            .enable_all()
            .build()?;
        let open = Arc::new(Open::default());
        let exporter = {
            let _inside = runtime.enter();
            InRuntime { inner: exporter(&target)?, handle: runtime.handle().clone(), open: open.clone() }
        };
        let reader = PeriodicReader::builder(exporter).with_interval(settings.metrics_interval).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource(host)).build();
        register(&provider, board);
        let durations = {
            let _inside = runtime.enter();
            Arc::new(Sender::new(target, host.clone(), board.clone())?)
        };
        let (sender, every) = (durations.clone(), settings.metrics_interval);
        runtime.spawn(async move { sender.run(every).await });
        Ok(Some(Self { provider, durations, runtime: Some(runtime), open }))
    }

    /// Sends the last numbers, within a short time.
    pub fn shutdown(self) {
        // On threads of their own, both at once: the SDK's may wait for its reader, and that for an answer that never comes. Not by
        // blocking on the runtime: whoever ends this may be inside of another one.
        let (sent, last) = std::sync::mpsc::channel();
        if let Some(runtime) = &self.runtime {
            let (durations, sent) = (self.durations.clone(), sent.clone());
            runtime.spawn(async move {
                durations.send().await;
                let _ = sent.send(());
            });
        }
        let provider = self.provider.clone();
        let _ = std::thread::Builder::new().name("spoor-last".to_owned()).spawn(move || {
            if let Err(error) = provider.shutdown_with_timeout(LAST) {
                tracing::debug!("the last metrics were not sent: {error}");
            }
            let _ = sent.send(());
        });
        // Late ones are worth no waiting.
        let until = std::time::Instant::now() + LAST;
        for _ in 0..2 {
            let _ = last.recv_timeout(until.saturating_duration_since(std::time::Instant::now()));
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // What polls inside the runtime is out of it before it goes: its timers would panic.
        self.open.close();
        if let Some(runtime) = self.runtime.take() {
            // Never by waiting for it: this may be inside of another runtime, where that panics.
            runtime.shutdown_background();
        }
    }
}

fn resource(host: &Host) -> Resource {
    let attributes = [
        KeyValue::new("service.instance.id", format!("{}-{}", host.name, std::process::id())),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("host.id", host.id.to_string()),
        KeyValue::new("host.name", host.name.to_string()),
        KeyValue::new("host.arch", host.arch),
        KeyValue::new("os.type", "linux"),
    ];
    Resource::builder().with_service_name("spoor").with_attributes(attributes).build()
}

fn register(provider: &SdkMeterProvider, board: &Arc<Board>) {
    let meter = provider.meter("spoor");
    for metric in METRICS {
        let board = board.clone();
        let observe = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
            for reading in board.readings().iter().filter(|reading| reading.metric == metric.name) {
                let labels = reading.labels.iter();
                let labels: Vec<_> = labels.map(|(key, value)| KeyValue::new(*key, value.clone())).collect();
                observer.observe(reading.value, &labels);
            }
        };
        // The instruments live in the provider.
        if metric.counter {
            let builder = meter.u64_observable_counter(metric.name);
            let _ = builder
                .with_unit(metric.unit)
                .with_description(metric.description)
                .with_callback(observe)
                .build();
        } else {
            let builder = meter.u64_observable_gauge(metric.name);
            let _ = builder
                .with_unit(metric.unit)
                .with_description(metric.description)
                .with_callback(observe)
                .build();
        }
    }
}

fn exporter(target: &Target) -> Result<MetricExporter, MetricsError> {
    let uri = target.uri.to_string();
    if target.protocol == OtlpProtocol::Grpc {
        let mut builder = MetricExporter::builder()
            .with_tonic()
            .with_channel(super::otlp::grpc::channel(target)?)
            .with_metadata(tonic::metadata::MetadataMap::from_headers(target.headers.clone()))
            .with_timeout(target.timeout);
        if target.gzip {
            builder = builder.with_compression(Compression::Gzip);
        }
        return Ok(builder.build()?);
    }
    let headers: HashMap<String, String> = target
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let protocol = match target.protocol {
        OtlpProtocol::HttpJson => Protocol::HttpJson,
        _ => Protocol::HttpBinary,
    };
    let client = OurClient { client: raw_client(target), gzip: target.gzip };
    let builder = MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(uri)
        .with_protocol(protocol)
        .with_headers(headers)
        .with_timeout(target.timeout);
    Ok(builder.build()?)
}

/// Our HTTP client behind the SDK's interface.
#[derive(Debug)]
struct OurClient {
    client: RawClient,
    gzip: bool,
}

/// Answers larger than this are not read.
const MAX_ANSWER_BYTES: usize = 4 << 20;

impl HttpClient for OurClient {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let (mut parts, mut body) = request.into_parts();
            if self.gzip {
                body = super::otlp::http::gzip(&body)?;
                parts.headers.insert(http::header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
            }
            let response = self.client.request(Request::from_parts(parts, Full::new(body))).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        })
    }
}

/// Whether the runtime is there. Held while something polls inside of it, so that it is not taken away meanwhile.
#[derive(Debug)]
struct Open(Mutex<Result<Vec<Waker>, Closed>>);

/// The runtime is gone.
#[derive(Clone, Copy, Debug)]
struct Closed;

impl Default for Open {
    fn default() -> Self {
        Self(Mutex::new(Ok(Vec::new())))
    }
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Result<Vec<Waker>, Closed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits inside hears of it, and does not poll there again.
    fn close(&self) {
        if let Ok(waiting) = std::mem::replace(&mut *self.lock(), Err(Closed)) {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// Polls an exporter inside a runtime, wherever the SDK polls it.
#[derive(Debug)]
struct InRuntime {
    inner: MetricExporter,
    handle: Handle,
    open: Arc<Open>,
}

impl PushMetricExporter for InRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let future = pin!(self.inner.export(metrics));
        let result = Entered { handle: &self.handle, open: &self.open, future }.await;
        let result = result.unwrap_or(Err(OTelSdkError::AlreadyShutdown));
        if let Err(error) = &result {
            tracing::debug!("the agent's own metrics were not sent: {error}");
        }
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

struct Entered<'a, F> {
    handle: &'a Handle,
    open: &'a Open,
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for Entered<'_, F> {
    type Output = Result<F::Output, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut open = self.open.lock();
        let Ok(waiting) = &mut *open else { return Poll::Ready(Err(Closed)) };
        let _inside = self.handle.enter();
        let polled = self.future.as_mut().poll(context);
        // One thread of the SDK's polls one export at a time: the last waker is the one that counts.
        waiting.clear();
        if polled.is_pending() {
            waiting.push(context.waker().clone());
        }
        polled.map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::readings::Reading;

    /// A back end that takes connections and never answers.
    fn silent() -> (std::net::TcpListener, Otlp) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        (listener, Otlp { endpoint, metrics_interval: Duration::from_millis(20), ..Otlp::default() })
    }

    #[test]
    fn metrics_end_soon_and_without_a_panic_while_an_answer_is_waited_for() {
        for protocol in [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf] {
            let (_listener, settings) = silent();
            let settings = Otlp { protocol: Some(protocol), ..settings };
            let board = Arc::new(Board::default());
            board.update(vec![Reading::plain("spoor.records", 1)]);
            let metrics = Metrics::start(&settings, &Host::default(), &board).unwrap().unwrap();
            let (open, began) = (metrics.open.clone(), std::time::Instant::now());
            while open.lock().as_ref().is_ok_and(Vec::is_empty) {
                assert!(began.elapsed() < Duration::from_secs(30), "nothing is sent");
                std::thread::sleep(Duration::from_millis(5));
            }
            let began = std::time::Instant::now();
            metrics.shutdown();
            assert!(began.elapsed() < 4 * LAST, "{:?}", began.elapsed());
            assert!(open.lock().is_err(), "nothing polls in the runtime that is gone");
        }
    }

    #[tokio::test]
    async fn metrics_can_be_given_up_inside_of_a_runtime() {
        let (_listener, settings) = silent();
        drop(Metrics::start(&settings, &Host::default(), &Arc::new(Board::default())).unwrap());
    }
}
