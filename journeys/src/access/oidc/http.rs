//! A request to the identity provider → its answer, within bounds.
//!
//! *Owns* what may be asked and how long that may take. Where a provider's endpoints are is said by its own documents, so
//! each address is looked at when the connection is made: a name that leads into the house's own networks is followed only
//! where the configuration says so. No redirect is followed, no proxy of the environment is used.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use openidconnect::url::{Host, Url};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::networks::is_private;

/// One request with its answer may take so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Longest body of an answer, in bytes: Google's and Keycloak's documents have less than 10 KB.
pub(super) const MAX_ANSWER: usize = 256 << 10;
/// Longest head of an answer, in bytes, and its headers.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why the provider did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0} is no https address; http is for this machine only")]
    Scheme(String),
    #[error("the address of {0} is in a private network that is not configured")]
    Private(String),
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("the request failed")]
    Http(#[from] hyper::Error),
    #[error("the answer is longer than {MAX_ANSWER} bytes, or broke off")]
    Body,
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("the answer is {0}")]
    Status(hyper::StatusCode),
    #[error("the request cannot be made")]
    Request,
}

/// Asks the provider.
#[derive(Clone)]
pub(super) struct Http {
    tls: Arc<rustls::ClientConfig>,
    /// Private networks in which the provider may be.
    private: Vec<IpNet>,
    patience: Duration,
}

impl Http {
    pub(super) fn new(private: Vec<IpNet>, patience: Duration) -> Result<Self, rustls::Error> {
        // What cannot be read of the machine's authorities is no authority; the provider then fails, and says why.
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::with_roots(roots, private, patience)
    }

    fn with_roots(
        roots: rustls::RootCertStore,
        private: Vec<IpNet>,
        patience: Duration,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), private, patience })
    }

    /// Whether an address may be asked.
    fn may_ask(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.private.iter().any(|net| net.contains(&address)) || !is_private(address)
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = Url::parse(&request.uri().to_string()).map_err(|_| HttpError::Request)?;
        check(&url)?;
        let stream = self.connect(&url).await?;
        if url.scheme() == "http" {
            return exchange(stream, &url, request).await;
        }
        let name = match url.host() {
            Some(Host::Domain(name)) => {
                ServerName::try_from(name.to_owned()).map_err(|_| HttpError::Request)?
            }
            Some(Host::Ipv4(address)) => ServerName::from(IpAddr::from(address)),
            Some(Host::Ipv6(address)) => ServerName::from(IpAddr::from(address)),
            None => return Err(HttpError::Request),
        };
        let tls = TlsConnector::from(self.tls.clone());
        let stream = tls.connect(name, stream).await.map_err(HttpError::Connect)?;
        exchange(stream, &url, request).await
    }

    async fn connect(&self, url: &Url) -> Result<TcpStream, HttpError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().ok_or(HttpError::Request)?;
        let found: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            Some(Host::Domain(name)) => {
                tokio::net::lookup_host((name, port)).await.map_err(HttpError::Connect)?.collect()
            }
            None => return Err(HttpError::Request),
        };
        let mut last = if found.is_empty() { HttpError::NoAddress(host) } else { HttpError::Private(host) };
        for address in found.into_iter().filter(|address| self.may_ask(address.ip())).take(MAX_ADDRESSES) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = HttpError::Connect(error),
            }
        }
        Err(last)
    }
}

/// An address that secrets may be sent to: over TLS, or without it on this machine only.
pub(super) fn check(url: &Url) -> Result<(), HttpError> {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(HttpError::Request),
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_here => Ok(()),
        _ => Err(HttpError::Scheme(url.origin().ascii_serialization())),
    }
}

async fn exchange<S>(stream: S, url: &Url, request: HttpRequest) -> Result<HttpResponse, HttpError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    // Ends with this request, however that ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let (mut parts, body) = request.into_parts();
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(HttpError::Request),
    };
    parts.headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| HttpError::Request)?);
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    parts.uri = target.parse().map_err(|_| HttpError::Request)?;
    let request = hyper::Request::from_parts(parts, Full::new(Bytes::from(body)));
    let (parts, body) = sender.send_request(request).await?.into_parts();
    // What a provider says in its own trouble is no answer.
    if parts.status.is_server_error() || parts.status.is_redirection() {
        return Err(HttpError::Status(parts.status));
    }
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| HttpError::Body)?;
    Ok(HttpResponse::from_parts(parts, body.to_bytes().to_vec()))
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let answer = tokio::time::timeout(self.patience, self.ask(request)).await;
            answer.unwrap_or(Err(HttpError::Slow(self.patience)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_asked_and_those_that_are_configured() {
        let private = vec!["10.20.0.0/16".parse().expect("a net")];
        let http = Http::new(private, PATIENCE).expect("a client");
        for (address, may) in [
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("10.20.3.4", true),
            ("::ffff:10.20.3.4", true),
            ("10.21.3.4", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.31.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("64:ff9b::a00:1", false),
            ("2002:a00:1::", false),
        ] {
            assert_eq!(http.may_ask(address.parse().expect("an address")), may, "{address}");
        }
    }

    #[test]
    fn secrets_are_sent_over_tls_or_stay_on_this_machine() {
        for (url, good) in [
            ("https://login.house.example/realms/a", true),
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080/", true),
            ("http://localhost:8080/", true),
            ("http://localhost.evil.example/", false),
            ("http://login.house.example/", false),
            ("file:///etc/passwd", false),
            ("gopher://127.0.0.1/", false),
        ] {
            assert_eq!(check(&Url::parse(url).expect("a url")).is_ok(), good, "{url}");
        }
    }
}
