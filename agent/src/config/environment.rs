//! Environment variables → the settings they name.
//!
//! The rule: `SPOOR_` and the path of the key in capitals, joined by underscores: `export.otlp.endpoint` is
//! `SPOOR_EXPORT_OTLP_ENDPOINT`. Lists and maps are YAML (or JSON) text. An empty variable counts as not set.
//! The `OTEL_EXPORTER_OTLP_*` variables of the OpenTelemetry specification (v1.60, `protocol/exporter.md`) set the
//! same keys; their `_TRACES_` forms win over the general ones, and `SPOOR_*` wins over both.

use std::sync::Arc;

use super::ConfigError;
use super::decode::nearest;
use super::node::{Entry, Node, Place, Value};

/// Variables of ours that are no settings: they are options of the command line.
const OPTIONS: [&str; 6] =
    ["SPOOR_CONFIG", "SPOOR_LOG", "SPOOR_LOG_FORMAT", "SPOOR_API", "SPOOR_TOKEN", "SPOOR_TOKEN_FILE"];

/// How the value of a standard variable becomes ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// Milliseconds, as a duration.
    Duration,
    /// Milliseconds, as a number.
    Milliseconds,
    /// `key=value,key=value`, percent-encoded (W3C Baggage without properties).
    Headers,
}

/// Standard variables, and the keys of `export.otlp` that they set.
const STANDARD: [(&str, &[&str], Form); 37] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", &["endpoint"], Form::Text),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", &["protocol"], Form::Text),
    ("OTEL_EXPORTER_OTLP_HEADERS", &["headers"], Form::Headers),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", &["timeout"], Form::Duration),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", &["compression"], Form::Text),
    ("OTEL_EXPORTER_OTLP_INSECURE", &["insecure"], Form::Text),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", &["certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &["client_certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &["client_key"], Form::Text),
    ("OTEL_METRIC_EXPORT_INTERVAL", &["metrics_interval"], Form::Duration),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &["traces_endpoint"], Form::Text),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", &["for_traces", "protocol"], Form::Text),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", &["for_traces", "headers"], Form::Headers),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", &["for_traces", "timeout_ms"], Form::Milliseconds),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", &["for_traces", "compression"], Form::Text),
    ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", &["for_traces", "insecure"], Form::Text),
    ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", &["for_traces", "certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", &["for_traces", "client_certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", &["for_traces", "client_key"], Form::Text),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &["metrics_endpoint"], Form::Text),
    ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", &["for_metrics", "protocol"], Form::Text),
    ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", &["for_metrics", "headers"], Form::Headers),
    ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", &["for_metrics", "timeout_ms"], Form::Milliseconds),
    ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", &["for_metrics", "compression"], Form::Text),
    ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", &["for_metrics", "insecure"], Form::Text),
    ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", &["for_metrics", "certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", &["for_metrics", "client_certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", &["for_metrics", "client_key"], Form::Text),
    ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &["logs_endpoint"], Form::Text),
    ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", &["for_logs", "protocol"], Form::Text),
    ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", &["for_logs", "headers"], Form::Headers),
    ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", &["for_logs", "timeout_ms"], Form::Milliseconds),
    ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", &["for_logs", "compression"], Form::Text),
    ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", &["for_logs", "insecure"], Form::Text),
    ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", &["for_logs", "certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE", &["for_logs", "client_certificate"], Form::Text),
    ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", &["for_logs", "client_key"], Form::Text),
];

/// The variable of a key.
pub fn variable(path: &[String]) -> String {
    path.iter().fold("SPOOR".to_owned(), |name, key| name + "_" + &key.to_uppercase())
}

/// The standard variables that set the key, too.
pub fn standard_variables(path: &[String]) -> impl Iterator<Item = &'static str> {
    let inner = path.strip_prefix(&["export".to_owned(), "otlp".to_owned()]).unwrap_or_default();
    STANDARD.into_iter().filter(move |(_, keys, _)| *keys == inner).map(|(name, _, _)| name)
}

/// Sets in `root` what the environment says; `keys` are the paths of all settings. Returns warnings about
/// variables with our prefix that name nothing.
pub fn apply(
    root: &mut Node,
    keys: &[Vec<String>],
    environment: &[(String, String)],
) -> Result<Vec<String>, ConfigError> {
    let value = |name: &str| {
        let found = environment.iter().find(|(given, value)| given == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    };
    for (name, keys, form) in STANDARD {
        if let Some(text) = value(name) {
            let place = Place::Variable(name.into());
            let converted =
                standard(text, form).map_err(|message| ConfigError::at(place.clone(), message))?;
            let path: Vec<&str> = ["export", "otlp"].into_iter().chain(keys.iter().copied()).collect();
            root.set(&path, Node { place, value: converted });
        }
    }
    let names: Vec<String> = keys.iter().map(|path| variable(path)).collect();
    for (path, name) in keys.iter().zip(&names) {
        if let Some(text) = value(name) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let place = Place::Variable(name.as_str().into());
            root.set(&path, Node { place, value: Value::Raw(text.to_owned()) });
        }
    }
    Ok(unknown(&names, environment))
}

fn standard(text: &str, form: Form) -> Result<Value, String> {
    match form {
        Form::Text => Ok(Value::Raw(text.trim().to_owned())),
        Form::Duration | Form::Milliseconds => match text.trim().parse::<u64>() {
            Ok(ms) if form == Form::Milliseconds => Ok(Value::Raw(ms.to_string())),
            Ok(ms) => Ok(Value::Raw(format!("{ms}ms"))),
            Err(_) => Err(format!("`{text}` is not a number of milliseconds")),
        },
        Form::Headers => headers(text).map(Value::Map),
    }
}

fn headers(text: &str) -> Result<Vec<Entry>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            // The value is not repeated in the message: it is often a credential.
            let (key, value) = pair.split_once('=').ok_or("headers are written `key=value,key=value`")?;
            let decode = |part: &str| {
                let decoded = percent_encoding::percent_decode_str(part.trim()).decode_utf8();
                decoded.map(|text| text.into_owned()).map_err(|_| "a header is not valid UTF-8".to_owned())
            };
            let place = Place::Variable(Arc::from("OTEL_EXPORTER_OTLP_HEADERS"));
            let node = Node { place: place.clone(), value: Value::Raw(decode(value)?) };
            Ok(Entry { key: decode(key)?, place, node })
        })
        .collect()
}

/// A warning, not an error: Kubernetes itself sets `SPOOR_SERVICE_HOST` and the like for a service named `spoor`.
fn unknown(names: &[String], environment: &[(String, String)]) -> Vec<String> {
    let known: Vec<&str> = names.iter().map(String::as_str).chain(OPTIONS).collect();
    let ours = environment.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("SPOOR_"));
    ours.filter(|name| !known.contains(name) && !is_service_link(name))
        .map(|name| match nearest(name, &known) {
            Some(meant) => format!("environment variable {name} names no setting; did you mean {meant}?"),
            None => format!("environment variable {name} names no setting"),
        })
        .collect()
}

/// Names that Kubernetes gives to every container for each service of its namespace.
fn is_service_link(name: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || name.ends_with("_PORT")
}
