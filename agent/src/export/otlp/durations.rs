//! Histograms of durations → `opentelemetry-proto` metrics, one resource per service; and sending them.
//!
//! *Owns* the mapping, and one request per interval: what a back end does not take is taken with the next, for histograms
//! are cumulative. The SDK has one resource per exporter, so these do not go through it. *Must not know* who measured.
//! *Spec*: opentelemetry-proto v1.11 `metrics.proto`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics, metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use super::encode::SCHEMA_URL;
use super::http::{RawClient, gzip, raw_client};
use super::target::Target;
use crate::clock;
use crate::config::OtlpProtocol;
use crate::export::Host;
use crate::metrics::Board;
use crate::metrics::durations::{METRICS, OVERFLOW, Series};
use spoor_core::time::nanoseconds;

/// Answers are not looked at beyond this.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// All series as one request. Times are nanoseconds of the Unix epoch.
pub fn request(all: &[Series], host: &Host, start: u64, now: u64) -> ExportMetricsServiceRequest {
    let mut services: BTreeMap<(&str, &str), BTreeMap<usize, Vec<HistogramDataPoint>>> = BTreeMap::new();
    for series in all {
        let label = |name: &str| {
            let found = series.labels.iter().find(|(key, _)| *key == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let service = (label("service.name"), label("service.namespace"));
        services
            .entry(service)
            .or_default()
            .entry(series.metric)
            .or_default()
            .push(point(series, start, now));
    }
    let resource_metrics = services
        .into_iter()
        .map(|((service, namespace), metrics)| ResourceMetrics {
            resource: Some(Resource { attributes: resource(service, namespace, host), ..Default::default() }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "spoor".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..Default::default()
                }),
                metrics: metrics.into_iter().filter_map(|(index, points)| histogram(index, points)).collect(),
                schema_url: SCHEMA_URL.to_owned(),
            }],
            schema_url: SCHEMA_URL.to_owned(),
        })
        .collect();
    ExportMetricsServiceRequest { resource_metrics }
}

fn histogram(index: usize, data_points: Vec<HistogramDataPoint>) -> Option<Metric> {
    let known = METRICS.get(index)?;
    Some(Metric {
        name: known.name.to_owned(),
        description: known.description.to_owned(),
        unit: "s".to_owned(),
        data: Some(metric::Data::Histogram(Histogram {
            data_points,
            aggregation_temporality: AggregationTemporality::Cumulative as i32,
        })),
        ..Default::default()
    })
}

fn point(series: &Series, start: u64, now: u64) -> HistogramDataPoint {
    let bounds = METRICS.get(series.metric).map_or(&[][..], |metric| metric.bounds);
    let own = series.labels.iter().filter(|(key, _)| !key.starts_with("service."));
    HistogramDataPoint {
        attributes: own.map(|(key, value)| attribute(key, value)).collect(),
        // A series that was forgotten and came back counts from then.
        start_time_unix_nano: series.since_unix_ns.max(start),
        time_unix_nano: now,
        count: series.count,
        sum: Some(nanoseconds(series.sum) as f64 / 1e9),
        bucket_counts: series.counts.clone(),
        explicit_bounds: bounds.to_vec(),
        ..Default::default()
    }
}

/// Status codes and ports are numbers in the conventions, and so is the mark of an overflow a truth.
fn attribute(key: &str, value: &str) -> KeyValue {
    let value = match (key, value.parse()) {
        ("http.response.status_code" | "server.port", Ok(number)) => Any::IntValue(number),
        (OVERFLOW, _) => Any::BoolValue(true),
        _ => Any::StringValue(value.to_owned()),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn resource(service: &str, namespace: &str, host: &Host) -> Vec<KeyValue> {
    let name = if service.is_empty() { "unknown_service" } else { service };
    let all = [
        ("service.name", name),
        ("service.namespace", namespace),
        ("host.id", &host.id),
        ("host.name", &host.name),
        ("telemetry.distro.name", "spoor"),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| attribute(key, value)).collect()
}

/// Sends histograms.
#[derive(Debug)]
pub struct Sender {
    target: Target,
    way: Way,
    host: Host,
    board: Arc<Board>,
    start: u64,
}

#[derive(Debug)]
enum Way {
    Grpc(Channel),
    Http(Box<RawClient>),
}

impl Sender {
    /// Must be called inside a runtime.
    pub fn new(target: Target, host: Host, board: Arc<Board>) -> Result<Self, tonic::transport::Error> {
        let way = match target.protocol {
            OtlpProtocol::Grpc => Way::Grpc(super::grpc::channel(&target)?),
            _ => Way::Http(Box::new(raw_client(&target))),
        };
        Ok(Self { target, way, host, board, start: unix_ns() })
    }

    /// Sends at every interval, for ever.
    pub async fn run(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            self.send().await;
        }
    }

    /// Sends what there is now.
    pub async fn send(&self) {
        let series = self.board.durations().series();
        if series.is_empty() {
            return;
        }
        let request = request(&series, &self.host, self.start, unix_ns());
        let sent = tokio::time::timeout(self.target.timeout, self.deliver(request)).await;
        if let Err(reason) = sent.unwrap_or_else(|_| Err("no answer".to_owned())) {
            tracing::debug!("durations were not sent: {reason}");
        }
    }

    async fn deliver(&self, message: ExportMetricsServiceRequest) -> Result<(), String> {
        match &self.way {
            Way::Grpc(channel) => {
                let mut client = MetricsServiceClient::new(channel.clone());
                if self.target.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let metadata = MetadataMap::from_headers(self.target.headers.clone());
                let request = tonic::Request::from_parts(metadata, Default::default(), message);
                client.export(request).await.map(drop).map_err(|status| format!("{:?}", status.code()))
            }
            Way::Http(client) => {
                let json = self.target.protocol == OtlpProtocol::HttpJson;
                let mut body = match json {
                    true => serde_json::to_vec(&message).map_err(|error| error.to_string())?.into(),
                    false => bytes::Bytes::from(message.encode_to_vec()),
                };
                let kind = if json { "application/json" } else { "application/x-protobuf" };
                let mut builder = Request::post(self.target.uri.clone()).header(header::CONTENT_TYPE, kind);
                if self.target.gzip {
                    builder = builder.header(header::CONTENT_ENCODING, "gzip");
                    body = gzip(&body).map_err(|error| error.to_string())?;
                }
                if let Some(headers) = builder.headers_mut() {
                    headers.extend(self.target.headers.clone());
                }
                let request = builder.body(Full::new(body)).map_err(|error| error.to_string())?;
                let response = client.request(request).await.map_err(|error| error.to_string())?;
                let status = response.status();
                // Read to its end, so that the connection can be used again.
                let _ = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
                if status.is_success() { Ok(()) } else { Err(format!("HTTP {status}")) }
            }
        }
    }
}

fn unix_ns() -> u64 {
    nanoseconds(clock::unix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_resources_and_buckets_have_the_conventional_bounds() {
        let series = |service: &str, status: &str| Series {
            metric: 0,
            labels: vec![
                ("service.name", service.to_owned()),
                ("http.request.method", "GET".to_owned()),
                ("http.response.status_code", status.to_owned()),
            ],
            counts: vec![1; 15],
            sum: Duration::from_millis(1500),
            count: 15,
            since_unix_ns: if service == "shop" { 6 } else { 0 },
        };
        let all = [series("crm", "200"), series("shop", "200"), series("shop", "500")];
        let request = request(&all, &Host::default(), 5, 7);
        assert_eq!(request.resource_metrics.len(), 2);
        let [metric] = request.resource_metrics[1].scope_metrics[0].metrics.as_slice() else { panic!() };
        assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("http.server.request.duration", "s"));
        let Some(metric::Data::Histogram(histogram)) = &metric.data else { panic!() };
        let [ok, failed] = histogram.data_points.as_slice() else { panic!() };
        assert_eq!((ok.start_time_unix_nano, ok.time_unix_nano), (6, 7));
        assert_eq!(
            (ok.count, ok.sum, ok.explicit_bounds.len(), ok.bucket_counts.len()),
            (15, Some(1.5), 14, 15)
        );
        let status = failed.attributes.iter().find(|attribute| attribute.key == "http.response.status_code");
        let value = status.and_then(|status| status.value.clone()).and_then(|value| value.value);
        assert_eq!(value, Some(Any::IntValue(500)));
        assert!(!ok.attributes.iter().any(|attribute| attribute.key == "service.name"));
    }
}
