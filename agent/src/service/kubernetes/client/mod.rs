//! The API server → the table of this node's containers, from a thread of its own.
//!
//! *Owns* who is asked and how often: pods of this node only (a field selector), every `kubernetes.refresh` and soon after
//! a container appears that is not known. *Spec*: Kubernetes API v1, `GET /api/v1/pods`; tokens of service accounts are
//! renewed in their file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{KubernetesError, Pods};
use crate::config::Kubernetes;
use crate::telemetry::Seldom;

/// Answers larger than this are not read: a node has a few hundred pods.
const MAX_ANSWER: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(15);
/// Between two requests at least.
const SHORTEST_GAP: Duration = Duration::from_secs(2);
const TELL_EVERY: Duration = Duration::from_secs(60);

type HttpsClient = Client<hyper_rustls::HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Starts asking. `None`: not inside Kubernetes, or switched off.
pub fn start(settings: &Kubernetes) -> Result<Option<Arc<Pods>>, KubernetesError> {
    let environment = |name: &str| std::env::var(name).unwrap_or_default();
    let api = match settings.api.is_empty() {
        false => settings.api.clone(),
        true => match (environment("KUBERNETES_SERVICE_HOST"), environment("KUBERNETES_SERVICE_PORT")) {
            (host, _) if host.is_empty() => String::new(),
            (host, port) if host.contains(':') => format!("https://[{host}]:{port}"),
            (host, port) => format!("https://{host}:{port}"),
        },
    };
    let node = settings.node.clone();
    if settings.enabled == Some(false) || settings.enabled.is_none() && (api.is_empty() || node.is_empty()) {
        return Ok(None);
    }
    let setup = |reason: String| KubernetesError::Setup(reason);
    if api.is_empty() || node.is_empty() {
        return Err(setup(
            "set `kubernetes.node` (SPOOR_KUBERNETES_NODE, from spec.nodeName), and `kubernetes.api` outside a pod".into(),
        ));
    }
    let selector = utf8_percent_encode(&format!("spec.nodeName={node}"), NON_ALPHANUMERIC).to_string();
    let uri = format!("{}/api/v1/pods?fieldSelector={selector}&resourceVersion=0", api.trim_end_matches('/'));
    let uri: Uri = uri.parse().map_err(|error| setup(format!("`{api}` is no URL: {error}")))?;
    let asker = Asker { uri, client: client(settings)?, token_file: settings.token_file.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| setup(error.to_string()))?;
    let pods = Arc::new(Pods::default());
    let (table, refresh) = (pods.clone(), settings.refresh);
    std::thread::Builder::new()
        .name("spoor-pods".to_owned())
        .spawn(move || keep(&asker, &table, refresh, &runtime))
        .map_err(|error| setup(error.to_string()))?;
    Ok(Some(pods))
}

fn client(settings: &Kubernetes) -> Result<HttpsClient, KubernetesError> {
    let failed = |error: String| KubernetesError::Setup(format!("`{}`: {error}", settings.ca_file));
    let mut roots = rustls::RootCertStore::empty();
    // Without the file only plain text is possible, which a local proxy (`kubectl proxy`) speaks.
    if std::path::Path::new(&settings.ca_file).exists() {
        let read =
            CertificateDer::pem_file_iter(&settings.ca_file).map_err(|error| failed(error.to_string()))?;
        for certificate in read {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

struct Asker {
    uri: Uri,
    client: HttpsClient,
    token_file: String,
}

/// Until the process ends, or nobody uses the table any more.
fn keep(asker: &Asker, pods: &Arc<Pods>, refresh: Duration, runtime: &tokio::runtime::Runtime) {
    let mut trouble = Seldom::new(TELL_EVERY);
    while Arc::strong_count(pods) > 1 {
        let asked = Instant::now();
        let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, asker.ask()).await });
        let answer = answer.unwrap_or_else(|_| Err("no answer".to_owned()));
        match answer.and_then(|json| super::containers(&json)) {
            Ok(containers) => pods.replace(containers),
            Err(reason) => {
                if trouble.due(Instant::now()).is_some() {
                    tracing::warn!("pods cannot be listed, services are named without them: {reason}");
                }
            }
        }
        std::thread::sleep(SHORTEST_GAP.min(refresh));
        pods.wait(refresh.saturating_sub(asked.elapsed()));
    }
}

impl Asker {
    async fn ask(&self) -> Result<Bytes, String> {
        let mut request = Request::get(self.uri.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("spoor/", env!("CARGO_PKG_VERSION")));
        // Renewed in its file about once an hour.
        if let Ok(token) = std::fs::read_to_string(&self.token_file) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::FORBIDDEN => {
                Err("HTTP 403: the service account may not list pods; see the ClusterRole".into())
            }
            StatusCode::UNAUTHORIZED => {
                Err("HTTP 401: the token of the service account is not accepted".into())
            }
            status => Err(format!("HTTP {status}")),
        }
    }
}

#[cfg(test)]
mod tests;
