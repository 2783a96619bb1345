//! One POST → how it was answered. No redirect is followed, and the address that was looked at is the one that is called.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;

use super::ChannelError;
use crate::networks::is_private;
use crate::rules::channel::is_this_machine;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// What is sent.
pub(super) struct Post<'a> {
    pub(super) url: &'a str,
    pub(super) content_type: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) allow_private: bool,
    /// A header or the address holds a token: without TLS it goes to this machine only.
    pub(super) has_token: bool,
}

/// Sends it; the answer's body where the answer is good.
pub(super) async fn post(post: Post<'_>) -> Result<Vec<u8>, ChannelError> {
    // The address may be a secret: it is not repeated in what is said of it.
    let wrong = || ChannelError::Address(host_of(post.url));
    let uri: Uri = post.url.parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))).ok_or_else(wrong)?;
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if !post.allow_private && literal.is_ok_and(is_private) {
        return Err(ChannelError::Private(host.to_owned()));
    }
    let leads = match uri.scheme_str() {
        Some("http") if post.has_token && !is_this_machine(host) => {
            return Err(ChannelError::Plain(host.to_owned()));
        }
        // Whoever has a token there needs leave as well: this machine is the house's own.
        Some("http") if post.has_token && !post.allow_private => {
            return Err(ChannelError::Private(host.to_owned()));
        }
        Some("http") if post.has_token => Leads::Here,
        _ if post.allow_private => Leads::Anywhere,
        _ => Leads::Outside,
    };
    let mut request = Request::builder().method(Method::POST).uri(uri.clone());
    if let Some(headers) = request.headers_mut() {
        fill(headers, &post).ok_or_else(wrong)?;
    }
    let request = request.body(Full::new(Bytes::from(post.body))).map_err(|_| wrong())?;
    let answer = client(leads)?.request(request).await;
    let answer = answer.map_err(|error| ChannelError::Connect(crate::intake::chain(&error)))?;
    let (parts, body) = answer.into_parts();
    let retry =
        parts.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse::<i64>().ok());
    let body = Limited::new(body, MAX_ANSWER).collect().await.map(|body| body.to_bytes().to_vec());
    match parts.status.as_u16() {
        200..=299 => Ok(body.unwrap_or_default()),
        429 | 503 if retry.is_some() => Err(ChannelError::Later(retry.unwrap_or(1))),
        code @ (400 | 413 | 415 | 422) => Err(ChannelError::Bad(code.to_string())),
        code => Err(ChannelError::Refused(code)),
    }
}

fn fill(headers: &mut HeaderMap, post: &Post<'_>) -> Option<()> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(post.content_type).ok()?);
    headers.insert(USER_AGENT, HeaderValue::from_static("spoor-serve"));
    for (name, value) in &post.headers {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(*name == "authorization");
        headers.insert(*name, value);
    }
    Some(())
}

/// What of an address may be shown.
fn host_of(url: &str) -> String {
    url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| "…".to_owned())
}

type Resolver = tower::util::BoxCloneSyncService<Name, std::vec::IntoIter<SocketAddr>, io::Error>;

/// Where a name may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    /// To no machine of the house.
    Outside,
    Anywhere,
    /// To this machine, whoever has written it into whichever file.
    Here,
}

impl Leads {
    fn fits(self, ip: IpAddr) -> bool {
        match self {
            Leads::Outside => !is_private(ip),
            Leads::Anywhere => true,
            Leads::Here => ip.to_canonical().is_loopback(),
        }
    }
}

/// Messages are few: each has a connection of its own, and authorities are those of today.
fn client(
    leads: Leads,
) -> Result<Client<hyper_rustls::HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>, ChannelError> {
    let resolver = tower::service_fn(move |name: Name| resolve(name, leads));
    let mut http = HttpConnector::new_with_resolver(Resolver::new(resolver));
    http.enforce_http(false);
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ChannelError::Connect(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Only addresses that may be called: a name that leads to others as well leads to none of those.
async fn resolve(name: Name, leads: Leads) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    let all: Vec<SocketAddr> = found.collect();
    let allowed: Vec<SocketAddr> = all.iter().copied().filter(|address| leads.fits(address.ip())).collect();
    if allowed.is_empty() && !all.is_empty() {
        let why = match leads {
            Leads::Here => {
                format!("{name} leads to another machine, and the token would go there without TLS")
            }
            _ => format!(
                "{name} leads to this machine or a private network: the channel needs `allow_private: true`"
            ),
        };
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(allowed.into_iter())
}
