//! Counts of the agent itself in, OTLP metrics to the same back end as the spans out.
//!
//! *Owns* the OpenTelemetry SDK that sends them; it uses the connection settings, TLS and HTTP client of
//! [`otlp`](super::otlp). *Must not know* where counts come from. *Spec*: OpenTelemetry specification v1.60 `metrics/`.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
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
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use tokio::runtime::{Handle, Runtime};

use super::Host;
use super::otlp::Target;
use super::otlp::durations::Sender;
use super::otlp::http::{RawClient, raw_client};
use super::otlp::target::{Signal, TargetError};
use super::readings::METRICS;
pub use super::readings::Reading;
use crate::admin::Board;
use crate::config::{Otlp, OtlpProtocol};

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
    /// Drives the connection; the SDK's reader has a thread of its own without a runtime.
    runtime: Runtime,
}

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
        let exporter = {
            let _inside = runtime.enter();
            InRuntime { inner: exporter(&target)?, handle: runtime.handle().clone() }
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
        Ok(Some(Self { provider, durations, runtime }))
    }

    /// Sends the last numbers, within a short time.
    pub fn shutdown(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(Duration::from_secs(2)) {
            tracing::debug!("the last metrics were not sent: {error}");
        }
        // Not by blocking on the runtime: whoever ends this may be inside of another one.
        let (sent, last) = std::sync::mpsc::channel();
        let durations = self.durations.clone();
        self.runtime.spawn(async move {
            durations.send().await;
            let _ = sent.send(());
        });
        // Late ones are worth no waiting.
        let _ = last.recv_timeout(Duration::from_secs(2));
        self.runtime.shutdown_background();
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

/// Polls an exporter inside a runtime, wherever the SDK polls it.
#[derive(Debug)]
struct InRuntime {
    inner: MetricExporter,
    handle: Handle,
}

impl PushMetricExporter for InRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = Entered { handle: &self.handle, future: pin!(self.inner.export(metrics)) }.await;
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
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for Entered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _inside = self.handle.enter();
        self.future.as_mut().poll(context)
    }
}
