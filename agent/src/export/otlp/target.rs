//! The settings of the OTLP exporter → where and how requests are sent.
//!
//! *Owns* the rules of endpoints: schemes, default ports, paths (OpenTelemetry specification v1.60,
//! `protocol/exporter.md`, "Endpoint URLs for OTLP/HTTP").

use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::tls::{self, TlsError};
use crate::config::{Compression, Otlp, OtlpProtocol};

/// A signal of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
            Signal::Logs => "/v1/logs",
        }
    }
}

/// Where and how the requests of one signal are sent.
#[derive(Clone, Debug)]
pub struct Target {
    pub signal: Signal,
    pub protocol: OtlpProtocol,
    /// With its path for HTTP.
    pub uri: Uri,
    pub headers: HeaderMap,
    pub gzip: bool,
    /// Of one request.
    pub timeout: Duration,
    pub tls: rustls::ClientConfig,
}

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{0}")]
    Endpoint(String),
    #[error("header `{0}` of the OTLP exporter cannot be sent")]
    Header(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Target {
    /// `None` when no endpoint is set.
    pub fn new(settings: &Otlp, signal: Signal) -> Result<Option<Self>, TargetError> {
        let settings = &settings.with(match signal {
            Signal::Traces => &settings.for_traces,
            Signal::Metrics => &settings.for_metrics,
            Signal::Logs => &settings.for_logs,
        });
        let own = match signal {
            Signal::Traces => &settings.traces_endpoint,
            Signal::Metrics => &settings.metrics_endpoint,
            Signal::Logs => &settings.logs_endpoint,
        };
        let (text, as_is) = if own.is_empty() { (&settings.endpoint, false) } else { (own, true) };
        if text.is_empty() {
            return Ok(None);
        }
        let base = endpoint(text, settings.insecure).map_err(TargetError::Endpoint)?;
        let protocol = settings.protocol.unwrap_or_else(|| guess(&base));
        let uri = match protocol {
            OtlpProtocol::Grpc => base,
            _ if as_is => base,
            _ => with_path(&base, signal).map_err(TargetError::Endpoint)?,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let invalid = || TargetError::Header(name.clone());
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
            // Keeps it out of every log.
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(Some(Self {
            signal,
            protocol,
            uri,
            headers,
            gzip: settings.compression == Compression::Gzip,
            timeout: settings.timeout,
            tls: tls::client_config(settings)?,
        }))
    }

    /// Host and port to connect to.
    pub fn authority(&self) -> (String, u16) {
        let tls = self.uri.scheme_str() == Some("https");
        let port = self.uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        (self.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(), port)
    }
}

/// Why an endpoint cannot be used; an empty one means that nothing is exported, and is fine.
pub fn check_endpoint(text: &str, insecure: Option<bool>) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { endpoint(text, insecure).map(drop) }
}

fn endpoint(text: &str, insecure: Option<bool>) -> Result<Uri, String> {
    let text = text.trim();
    let full = match (text.contains("://"), insecure) {
        (true, _) => text.to_owned(),
        (false, Some(true)) => format!("http://{text}"),
        (false, Some(false)) => format!("https://{text}"),
        (false, None) => {
            return Err(format!(
                "`{text}` has no scheme: write `http://{text}`, or `https://{text}` for TLS"
            ));
        }
    };
    let uri: Uri = full.parse().map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(format!("`{text}`: the scheme must be http or https, not {other}")),
        None => return Err(format!("`{text}` has no scheme")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(format!("`{text}` names no host"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(
            "user and password do not belong in the endpoint: use an `authorization` header".to_owned()
        );
    }
    // The specification's ports: without one, a gRPC or HTTP collector is not on 80.
    Ok(uri)
}

/// The protocol an endpoint looks like: 4318 is OTLP/HTTP's port, and gRPC has no path.
fn guess(uri: &Uri) -> OtlpProtocol {
    let has_path = !matches!(uri.path(), "" | "/");
    if uri.port_u16() == Some(4318) || has_path { OtlpProtocol::HttpProtobuf } else { OtlpProtocol::Grpc }
}

fn with_path(base: &Uri, signal: Signal) -> Result<Uri, String> {
    let above = base.path().trim_end_matches('/');
    // Given in full, as people do; the specification would append it again.
    let path =
        if above.ends_with(signal.path()) { above.to_owned() } else { format!("{above}{}", signal.path()) };
    let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = base.clone().into_parts();
    parts.path_and_query =
        Some(format!("{path}{query}").parse().map_err(|_| format!("`{base}` has an odd path"))?);
    Uri::from_parts(parts).map_err(|error| format!("`{base}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: Otlp, expected: (&str, OtlpProtocol)) {
        let target = Target::new(&settings, Signal::Traces).unwrap().unwrap();
        assert_eq!((target.uri.to_string().as_str(), target.protocol), expected, "{settings:?}");
    }

    fn at(endpoint: &str) -> Otlp {
        Otlp { endpoint: endpoint.to_owned(), ..Otlp::default() }
    }

    #[test]
    fn endpoints_follow_the_specification() {
        use OtlpProtocol::{Grpc, HttpJson, HttpProtobuf};
        check(at("http://collector:4317"), ("http://collector:4317/", Grpc));
        check(at("http://collector:4318"), ("http://collector:4318/v1/traces", HttpProtobuf));
        check(at("https://collector/otlp/"), ("https://collector/otlp/v1/traces", HttpProtobuf));
        check(at("http://[::1]:4318/v1/traces"), ("http://[::1]:4318/v1/traces", HttpProtobuf));
        let json = Otlp { protocol: Some(HttpJson), ..at("http://c:9999?k=v") };
        check(json, ("http://c:9999/v1/traces?k=v", HttpJson));
        let own = Otlp { traces_endpoint: "http://t:4318/as/it/is".to_owned(), ..at("http://c:4317") };
        check(own, ("http://t:4318/as/it/is", HttpProtobuf));
        check(Otlp { insecure: Some(true), ..at("collector:4317") }, ("http://collector:4317/", Grpc));
        check(Otlp { insecure: Some(false), ..at("collector:4317") }, ("https://collector:4317/", Grpc));
    }

    #[test]
    fn settings_of_one_signal_stay_with_it() {
        let header = |value: &str| [("authorization".to_owned(), value.to_owned())].into();
        let settings = Otlp {
            headers: header("for all"),
            for_traces: crate::config::OtlpSignal {
                headers: Some(header("for traces")),
                timeout_ms: Some(7),
                protocol: Some(OtlpProtocol::HttpJson),
                ..Default::default()
            },
            ..at("http://c:4317")
        };
        let traces = Target::new(&settings, Signal::Traces).unwrap().unwrap();
        let metrics = Target::new(&settings, Signal::Metrics).unwrap().unwrap();
        assert_eq!(traces.headers["authorization"], "for traces");
        assert_eq!(metrics.headers["authorization"], "for all");
        assert_eq!((traces.protocol, metrics.protocol), (OtlpProtocol::HttpJson, OtlpProtocol::Grpc));
        assert_eq!((traces.timeout, metrics.timeout), (Duration::from_millis(7), settings.timeout));
    }

    #[test]
    fn unusable_endpoints_are_refused_with_the_remedy() {
        let refused = |text: &str| check_endpoint(text, None).unwrap_err();
        assert!(refused("localhost:4317").contains("http://localhost:4317"));
        assert!(refused("ftp://x").contains("http or https"));
        assert!(refused("http://").contains("not a URL"));
        assert!(refused("http://me:secret@host:4317").contains("authorization"));
        assert!(!refused("http://me:secret@host:4317").contains("secret"));
    }

    #[test]
    fn no_endpoint_is_no_target() {
        assert!(Target::new(&Otlp::default(), Signal::Traces).unwrap().is_none());
    }
}
