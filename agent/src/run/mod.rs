//! The shell's loops: records of a source → through the pipeline, spans to the printer and the exporter.
//!
//! *Owns* the order of things at the start, while running and at the end: what was captured is delivered on Ctrl-C and
//! SIGTERM. *Must not know* how records are read, joined or encoded.

mod deliver;
mod explain;
mod live;
mod looks;
mod notify;
mod opening;
mod printer;
mod progress;
mod readings;
mod record;
mod reload;
mod replay;
pub mod state;
mod stop;
mod summary;
mod verdicts;

use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::capture::CaptureError;
use crate::config::Config;
use crate::export::exporter::ExportError;
use crate::files::FileError;
use crate::secrets::KeyLogError;
use crate::service::kubernetes::KubernetesError;
use crate::source::SourceError;
use spoor_core::order::rules::RuleError;
use spoor_core::pipeline::{Pipeline, Settings};
use spoor_core::privacy::pseudonym::{MIN_SECRET, Pseudonyms};
use spoor_core::span::sample::Sampler;
use spoor_core::trace::hex_text;

pub use explain::explain_keys;
pub use live::live;
pub use record::record;
pub use reload::Reload;
pub use replay::replay;

/// A file with more is no key.
const MAX_SECRET: u64 = 64 << 10;

/// Why a run cannot start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("a rule of the configuration cannot be used: {0}")]
    Rule(#[from] RuleError),
    #[error("cannot write the recording `{path}`: {source}")]
    Recording { path: PathBuf, source: io::Error },
    #[error("cannot write the recording: {0}; `--output -` writes it to standard output")]
    Output(FileError),
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    #[error("the key for hashes (`privacy.hash_secret_file`): {0}")]
    Secret(String),
    #[error(transparent)]
    KeyLog(#[from] KeyLogError),
    #[error("cannot listen on `{listen}` (`admin.listen`): {source}")]
    Admin { listen: String, source: io::Error },
    #[error("{lost} spans did not reach the back end; the lines above say why")]
    Undelivered { lost: u64 },
    #[error("cannot write to standard output: {0}")]
    Print(io::Error),
    #[error("cannot start: {0}")]
    Start(io::Error),
}

impl RunError {
    /// The configuration or the command line is what has to change.
    pub fn is_usage(&self) -> bool {
        match self {
            RunError::Rule(_) | RunError::Secret(_) | RunError::KeyLog(_) | RunError::Kubernetes(_) => true,
            RunError::Export(error) => matches!(error, ExportError::Target(_)),
            _ => false,
        }
    }
}

/// What types and ranges cannot tell about a configuration: its rules compile, and its certificates can be read.
pub fn check(config: &Config) -> Result<(), RunError> {
    Pipeline::new(settings(config, [0; 16]))?;
    crate::export::otlp::Target::new(&config.export.otlp, crate::export::otlp::target::Signal::Traces)
        .map_err(ExportError::from)?;
    pseudonyms(config)?;
    Ok(())
}

/// The keyed hashes that the configuration asks for.
fn pseudonyms(config: &Config) -> Result<Option<Pseudonyms>, RunError> {
    let privacy = &config.privacy;
    if privacy.hash.is_empty() {
        return Ok(None);
    }
    let secret = match &privacy.hash_secret_file {
        Some(path) => {
            let read = crate::files::read(path.as_ref(), MAX_SECRET)
                .map_err(|error| RunError::Secret(error.to_string()))?;
            read.trim_ascii_end().to_vec()
        }
        None => privacy.hash_secret.as_bytes().to_vec(),
    };
    let short =
        || RunError::Secret(format!("{} bytes are too few, at least {MIN_SECRET} are needed", secret.len()));
    Pseudonyms::new(&privacy.hash, &secret).map(Some).ok_or_else(short)
}

/// A pipeline with everything the configuration says.
pub fn pipeline(config: &Config, boot_id: [u8; 16]) -> Result<Pipeline, RunError> {
    let pipeline = Pipeline::new(settings(config, boot_id))?;
    Ok(pipeline.with_sampler(Sampler::new(&config.sampling)).with_pseudonyms(pseudonyms(config)?))
}

fn settings(config: &Config, boot_id: [u8; 16]) -> Settings {
    Settings {
        protocols: config.protocols.clone(),
        joining: config.joining.clone(),
        order: config.order.clone(),
        spans: config.spans.clone(),
        limits: config.limits.clone(),
        max_connections: config.capture.max_connections as usize,
        turn_bytes: config.capture.turn_bytes,
        boot_id,
    }
}

/// Digest of what decides identifiers and joins: 16 hexadecimal digits. Agents with different ones show on resources.
fn rules_digest(config: &Config) -> String {
    let hashed = pseudonyms(config).ok().flatten().map(|pseudonyms| pseudonyms.fingerprint());
    let deciding =
        serde_json::to_vec(&(&config.order, &config.joining, &config.protocols, hashed)).unwrap_or_default();
    hex_text(Sha256::digest(deciding).get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_configuration_passes_the_check() {
        check(&Config::default()).unwrap();
    }

    #[test]
    fn digest_changes_with_the_rules_only() {
        let mut config = Config::default();
        let first = rules_digest(&config);
        assert_eq!(first.len(), 16);
        config.export.otlp.endpoint = "http://a:4317".to_owned();
        assert_eq!(rules_digest(&config), first);
        config.order.deployment = "other".to_owned();
        assert_ne!(rules_digest(&config), first);
    }

    #[test]
    fn missing_certificates_are_wrong_configuration() {
        let mut config = Config::default();
        config.export.otlp.endpoint = "https://a:4317".to_owned();
        config.export.otlp.certificate = Some("/nonexistent/ca.pem".to_owned());
        let error = check(&config).unwrap_err();
        assert!(error.is_usage(), "{error}");
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    }
}
