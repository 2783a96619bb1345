//! The certificate settings → one TLS configuration for gRPC and HTTP.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Otlp;
use crate::files;

/// All authorities of a machine are some 200 kB.
const MAX_FILE: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read `{path}` (`export.otlp.{key}`): {reason}")]
    File { key: &'static str, path: String, reason: String },
    #[error("cannot use the client certificate `{path}` (`export.otlp.client_certificate`): {reason}")]
    Identity { path: String, reason: String },
    #[error("cannot set up TLS: {0}")]
    Other(rustls::Error),
}

/// Trusts the given authorities, else the machine's own; shows the client certificate when there is one.
pub(super) fn client_config(settings: &Otlp) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Other)?;
    let builder = builder.with_root_certificates(roots(settings)?);
    let (Some(certificate), Some(key)) = (&settings.client_certificate, &settings.client_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("client_certificate", certificate)?;
    let failed = |reason: String| TlsError::File { key: "client_key", path: key.clone(), reason };
    let pem = files::read(Path::new(key), MAX_FILE).map_err(|error| failed(error.to_string()))?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| failed(error.to_string()))?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|error| TlsError::Identity { path: certificate.clone(), reason: error.to_string() })
}

/// The certificate files of some settings, as they were when last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::export) struct Files(Vec<Option<(std::time::SystemTime, u64, u64)>>);

impl Files {
    pub(in crate::export) fn of(settings: &Otlp) -> Self {
        let settings = settings.with(&settings.for_traces);
        let paths = [&settings.certificate, &settings.client_certificate, &settings.client_key];
        let state = |path: &String| {
            // Follows links: Kubernetes renews a mounted secret by turning one.
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), std::os::unix::fs::MetadataExt::ino(&metadata)))
        };
        Self(paths.into_iter().flatten().map(state).collect())
    }

    pub(in crate::export) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks again; a change is told once.
    pub(in crate::export) fn have_changed(&mut self, settings: &Otlp) -> bool {
        let now = Self::of(settings);
        let changed = now != *self;
        *self = now;
        changed
    }
}

fn roots(settings: &Otlp) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &settings.certificate {
        Some(path) => {
            for certificate in certificates("certificate", path)? {
                roots.add(certificate).map_err(|error| TlsError::File {
                    key: "certificate",
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            }
        }
        // Reading the machine's authorities takes milliseconds: not for a plain-text endpoint.
        None if uses_tls(settings) => {
            let found = machine_authorities();
            roots.add_parsable_certificates(found);
        }
        None => {}
    }
    Ok(roots)
}

fn uses_tls(settings: &Otlp) -> bool {
    let Otlp { endpoint, traces_endpoint, metrics_endpoint, logs_endpoint, .. } = settings;
    let endpoints = [endpoint, traces_endpoint, metrics_endpoint, logs_endpoint];
    settings.insecure == Some(false) || endpoints.iter().any(|endpoint| endpoint.starts_with("https:"))
}

fn machine_authorities() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("a certificate authority of this machine cannot be read: {error}");
    }
    if found.certs.is_empty() {
        tracing::warn!("this machine has no certificate authorities: set `export.otlp.certificate`");
    }
    found.certs
}

fn certificates(key: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::File { key, path: path.to_owned(), reason };
    let pem = files::read(Path::new(path), MAX_FILE).map_err(|error| failed(error.to_string()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("no certificate in PEM form is in it".to_owned())) } else { Ok(found) }
}
