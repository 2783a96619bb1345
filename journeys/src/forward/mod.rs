//! Requests that were taken → the same spans at another back end, such as Jaeger or a Collector, once it is there.
//!
//! *Owns* the sender. *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "OTLP/HTTP": 429, 502, 503 and 504 are sent
//! again, other refusals are not. *Must not know* what spans mean.
//!
//! ```text
//! intake ─ after the commit ─▶ spool: sealed files, bounded ─▶ one at a time, oldest first ─▶ POST …/v1/traces
//! ```
//!
//! A request is in the spool before its sender hears OK, and leaves it when the back end said so: a crash repeats it at most.

mod forget;
mod spool;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::sync::{Notify, watch};

pub use self::forget::{Whom, forget};
pub use self::spool::{Spool, SpoolError};

/// A request may take so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts: from the first to the last of these, twice as long each time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read, to use its connection again.
const MAX_ANSWER: usize = 64 << 10;

/// Why nothing can be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("`{0}` is no address of a back end: http://jaeger:4318 or https://collector.example:4318 is one")]
    Address(String),
    #[error("there can be no TLS")]
    Tls(#[from] rustls::Error),
}

/// What became of requests since the start. What was taken, and what waited then, is sent, refused, dropped or waits.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    /// Refused for good by the back end, or not readable any more.
    pub refused: AtomicU64,
    /// Let go because the spool was full.
    pub dropped: AtomicU64,
    pub waiting: AtomicU64,
    /// Spans that the back end did not take of requests that it took.
    pub rejected_spans: AtomicU64,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Forward {
    spool: Arc<Spool>,
    news: Arc<Notify>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Taken { rejected_spans: u64 },
    Refused,
    Again,
}

impl Forward {
    /// Begins to send what is in the spool and what comes, until `stopped`.
    pub fn start(
        spool: Spool,
        endpoint: &str,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(Self, tokio::task::JoinHandle<()>), ForwardError> {
        let uri = address(endpoint)?;
        let client = client()?;
        let forward = Self { spool: Arc::new(spool), news: Arc::default() };
        let sender = forward.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = sender.run(&client, &uri) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
        Ok((forward, task))
    }

    pub fn counts(&self) -> &Counts {
        self.spool.counts()
    }

    /// Keeps an encoded `ExportTraceServiceRequest`; it is on disk when this returns well.
    pub async fn keep(&self, request: Vec<u8>) -> Result<(), SpoolError> {
        let spool = self.spool.clone();
        let kept = tokio::task::spawn_blocking(move || spool.push(&request)).await;
        self.news.notify_one();
        kept.unwrap_or(Err(SpoolError::Closed))
    }

    async fn run(&self, client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>, uri: &Uri) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let spool = self.spool.clone();
            let oldest = tokio::task::spawn_blocking(move || spool.oldest()).await;
            let (name, request) = match oldest {
                Ok(Ok(Some(oldest))) => oldest,
                Ok(Ok(None)) => {
                    self.news.notified().await;
                    continue;
                }
                Ok(Err(SpoolError::Unreadable(name))) => {
                    tracing::error!(name, "a request in the spool cannot be read: it is not forwarded");
                    self.counts().refused.fetch_add(1, Ordering::Relaxed);
                    self.spool.done(&name);
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::error!(error = %crate::intake::chain(&error), "the spool cannot be read");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                    continue;
                }
                Err(_) => return,
            };
            match attempt(client, uri, &request).await {
                Attempt::Taken { rejected_spans } => {
                    self.counts().rejected_spans.fetch_add(rejected_spans, Ordering::Relaxed);
                    self.counts().sent.fetch_add(1, Ordering::Relaxed);
                    self.spool.done(&name);
                    pause = SHORTEST_PAUSE;
                }
                Attempt::Refused => {
                    self.counts().refused.fetch_add(1, Ordering::Relaxed);
                    self.spool.done(&name);
                }
                Attempt::Again => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

async fn attempt(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: &Uri,
    body: &[u8],
) -> Attempt {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(CONTENT_ENCODING, "gzip")
        .body(Full::new(Bytes::from(gzip(body))));
    let Ok(request) = request else { return Attempt::Refused };
    let answer = match tokio::time::timeout(PATIENCE, client.request(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(error = %crate::intake::chain(&error), "the back end is not there: spans wait for it");
            return Attempt::Again;
        }
        Err(_) => {
            tracing::warn!("the back end did not answer in time: spans wait for it");
            return Attempt::Again;
        }
    };
    let status = answer.status();
    // Read to its end, so that the connection can be used again.
    let said = tokio::time::timeout(PATIENCE, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
    match status {
        _ if status.is_success() => {
            let said = said.ok().and_then(Result::ok).map(|said| said.to_bytes()).unwrap_or_default();
            Attempt::Taken { rejected_spans: rejected(&said) }
        }
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            tracing::warn!(%status, "the back end asks to come again: spans wait for it");
            Attempt::Again
        }
        _ => {
            tracing::error!(%status, "the back end refused spans for good");
            Attempt::Refused
        }
    }
}

/// Spans that a back end did not take of a request that it took. An answer that says something else rejects none.
fn rejected(answer: &[u8]) -> u64 {
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    let Some(partial) = partial.filter(|partial| partial.rejected_spans > 0) else { return 0 };
    tracing::warn!(
        spans = partial.rejected_spans,
        why = partial.error_message,
        "the back end did not take all spans"
    );
    u64::try_from(partial.rejected_spans).unwrap_or(0)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Into memory, which does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

/// `http://jaeger:4318` ⇒ `http://jaeger:4318/v1/traces`.
fn address(endpoint: &str) -> Result<Uri, ForwardError> {
    let wrong = || ForwardError::Address(endpoint.to_owned());
    let uri: Uri = format!("{}/v1/traces", endpoint.trim_end_matches('/')).parse().map_err(|_| wrong())?;
    let good =
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    if good { Ok(uri) } else { Err(wrong()) }
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, ForwardError> {
    // What cannot be read of the machine's authorities is no authority; an `https` address then fails, and says why.
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(test)]
mod tests;
