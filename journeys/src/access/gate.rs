//! A request → refused, or passed on with who asks, and written down.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::MethodRouter;
use tokio::sync::Semaphore;

use super::directory::{By, Session};
use super::log::{AccessLog, Entry};
use super::oidc::Oidc;
use super::proxy::{ProxySignOn, SignedIn};
use super::role::{Action, Role, allow};
use super::slow_down::SlowDown;
use super::{Addresses, Directory};
use crate::intake::{chain, now};

/// Longest form a person sends.
const MAX_FORM: usize = 64 << 10;
/// Passwords that are hashed at a time, and attempts that wait for it: a hash takes a tenth of a second, so the last of them
/// waits for some two seconds.
const MAX_HASHING: usize = 2;
const MAX_WAITING: usize = 32;

/// Everything that decides whether a request is answered.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Directory,
    log: AccessLog,
    addresses: Addresses,
    /// The house's own sign-on, where a proxy speaks with it.
    proxy: Option<ProxySignOn>,
    /// The house's identity provider.
    oidc: Option<Oidc>,
    slow_down: SlowDown,
    /// People reach the pages over TLS: cookies say so.
    secure: bool,
    /// Hashing a password takes 19 MiB: not more than two at a time.
    hashing: Arc<Semaphore>,
    /// Who may wait for that.
    waiting: Arc<Semaphore>,
}

impl Gate {
    pub fn new(
        directory: Directory,
        log: AccessLog,
        addresses: Addresses,
        secure: bool,
        proxy: Option<ProxySignOn>,
        oidc: Option<Oidc>,
    ) -> Self {
        let [hashing, waiting] = [MAX_HASHING, MAX_WAITING].map(|count| Arc::new(Semaphore::new(count)));
        let slow_down = SlowDown::default();
        Self(Arc::new(Inner { directory, log, addresses, proxy, oidc, slow_down, secure, hashing, waiting }))
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.0.directory
    }

    pub(crate) fn log(&self) -> &AccessLog {
        &self.0.log
    }

    pub(super) fn oidc(&self) -> Option<&Oidc> {
        self.0.oidc.as_ref()
    }

    pub(super) fn slow_down(&self) -> &SlowDown {
        &self.0.slow_down
    }

    /// Hashes a password where a task may block, when it is its turn. What was begun is ended, counted and only then gives
    /// its place away, whether or not who asked still waits. `None`: too many wait already.
    pub(super) async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let place = self.0.waiting.clone().try_acquire_owned().ok()?;
        let turn = self.0.hashing.clone().acquire_owned().await.ok()?;
        let gate = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&gate);
            drop((turn, place));
            done
        });
        done.await.ok()
    }

    /// The name of the cookie: with this prefix browsers take it from this host over TLS only.
    pub(super) fn cookie_name(&self) -> &'static str {
        if self.0.secure { "__Host-spoor" } else { "spoor" }
    }

    /// The one of an attempt to sign on.
    pub(super) fn attempt_cookie(&self) -> &'static str {
        if self.0.secure { "__Host-spoor-attempt" } else { "spoor-attempt" }
    }

    pub(super) fn cookie(&self, value: &str, more: &str) -> Option<HeaderValue> {
        self.cookie_of(self.cookie_name(), value, more)
    }

    pub(super) fn cookie_of(&self, name: &str, value: &str, more: &str) -> Option<HeaderValue> {
        let secure = if self.0.secure { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{more}")).ok()
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Who {
    pub name: String,
    pub role: Role,
    /// Forms carry it; programs with a token have none and send no forms from other pages.
    pub form_token: Option<String>,
    via: &'static str,
    session: String,
}

impl Who {
    /// Signed on at the house's provider, where a session goes on when ours has ended.
    pub(super) fn is_signed_on(&self) -> bool {
        self.via == "oidc"
    }

    /// There is a session here that can be ended; a proxy ends its own.
    pub(crate) fn has_session(&self) -> bool {
        !self.session.is_empty()
    }
}

/// The address that asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From(pub(crate) IpAddr);

/// Numbers of the orders that an answer shows; the pages put it into their responses for the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(pub(crate) Vec<String>);

impl Shown {
    /// Puts it into an answer.
    pub(crate) fn of(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// What a person asked for, and who they turned out to be, where the path does not say it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) who: Option<String>,
    /// How they said so, where it was no password.
    pub(crate) via: &'static str,
    pub(crate) query: Option<String>,
}

/// A guard stood before the route.
#[derive(Clone, Copy, Debug)]
struct Guarded;

/// Before all routes: the address, then the identity.
pub(crate) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let forwarded =
        request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let forwarded: Vec<&str> = forwarded.collect();
    let from = gate.0.addresses.asking(peer.ip(), forwarded.into_iter());
    if !gate.0.addresses.is_allowed(from) {
        let entry = Entry {
            from: from.to_string(),
            action: "refused_address".to_owned(),
            result: StatusCode::FORBIDDEN.as_u16(),
            ..Entry::default()
        };
        // Refused either way.
        let _ = write(&gate, entry).await;
        return StatusCode::FORBIDDEN.into_response();
    }
    let by = if is_of_page(&request) { By::Page } else { By::Person };
    let who = match identify(&gate, request.headers(), peer.ip(), by) {
        Ok(who) => who,
        Err(error) => {
            tracing::error!(error = %chain(&error), "the directory of users did not answer");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    request.extensions_mut().insert(From(from));
    request.extensions_mut().insert(gate);
    if let Some(who) = who {
        request.extensions_mut().insert(who);
    }
    let response = next.run(request).await;
    let nothing_there = matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    if response.extensions().get::<Guarded>().is_none() && !nothing_there {
        tracing::error!("a route without a guard was asked for: it is not answered");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    response
}

/// A page asks that keeps itself up to date (`assets/app.js`). Who says so falsely gains nothing.
fn is_of_page(request: &Request) -> bool {
    request.headers().contains_key("spoor-live") || request.uri().path().ends_with("/events")
}

/// By bearer token, by the proxy that signs people in, or by session; a token that is not known is nobody, whatever cookie comes with it.
fn identify(
    gate: &Gate,
    headers: &HeaderMap,
    peer: IpAddr,
    by: By,
) -> Result<Option<Who>, super::DirectoryError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = token else { return Ok(None) };
        let found = gate.0.directory.token(token.trim(), now())?;
        return Ok(found.map(|(name, role)| Who {
            name,
            role,
            form_token: None,
            via: "token",
            session: String::new(),
        }));
    }
    let proxy = gate.0.proxy.as_ref().filter(|_| gate.0.addresses.is_trusted_proxy(peer));
    if let Some(SignedIn { name, role, form_token }) = proxy.and_then(|proxy| proxy.who(headers)) {
        let (form_token, session) = (Some(form_token), String::new());
        return Ok(Some(Who { name, role, form_token, via: "proxy", session }));
    }
    let Some(session) = cookie(headers, gate.cookie_name()) else { return Ok(None) };
    let found = gate.0.directory.session(session, by, now())?;
    Ok(found.map(|Session { name, role, form_token, short, signed_on }| Who {
        name,
        role,
        form_token: Some(form_token),
        via: if signed_on { "oidc" } else { "password" },
        session: short,
    }))
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Puts a guard before a route.
pub(crate) fn guarded<S>(route: MethodRouter<S>, action: Action) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    route.layer(axum::middleware::from_fn(move |request, next| guard(action, request, next)))
}

async fn guard(action: Action, request: Request, next: Next) -> Response {
    let mut response = guard_inner(action, request, next).await;
    response.extensions_mut().insert(Guarded);
    response
}

async fn guard_inner(action: Action, request: Request, next: Next) -> Response {
    if action == Action::Open {
        return next.run(request).await;
    }
    let Some(gate) = request.extensions().get::<Gate>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let who = request.extensions().get::<Who>().cloned();
    let from = request.extensions().get::<From>().map(|from| from.0.to_string()).unwrap_or_default();
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or("").to_owned());
    let is_api = path.starts_with("/api/") || path.starts_with("/jaeger/api/");
    let answer = match &who {
        None if !action.is_for_all() => Err(nobody(&path, is_api)),
        Some(who) if !action.is_for_all() && !allow(who.role, action) => {
            Err(StatusCode::FORBIDDEN.into_response())
        }
        _ => same_origin(request, who.as_ref()).await.map_err(IntoResponse::into_response),
    };
    let mut response = match answer {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal,
    };
    let shown = response.extensions_mut().remove::<Shown>().unwrap_or_default();
    let asked = response.extensions_mut().remove::<Asked>().unwrap_or_default();
    // Who is not known yet is told to sign in, which is no access.
    if who.is_none() && !action.is_for_all() && !is_api {
        return response;
    }
    let named = |who: &Who| who.name.clone();
    let entry = Entry {
        who: asked.who.or(who.as_ref().map(named)).unwrap_or_default(),
        via: if asked.via.is_empty() { who.as_ref().map_or("", |who| who.via) } else { asked.via }.to_owned(),
        role: who.as_ref().map(|who| who.role.name().to_owned()).unwrap_or_default(),
        from,
        session: who.as_ref().map(|who| who.session.clone()).unwrap_or_default(),
        action: action.name().to_owned(),
        orders: shown.0,
        query: asked.query.unwrap_or_else(|| if query.is_empty() { path } else { format!("{path}?{query}") }),
        result: response.status().as_u16(),
    };
    match write(&gate, entry).await {
        Ok(()) => response,
        // What is not written down is not shown.
        Err(()) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// People are sent to sign in, programs are told how.
fn nobody(path: &str, is_api: bool) -> Response {
    if is_api {
        let how = HeaderValue::from_static("Bearer");
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, how)]).into_response();
    }
    Redirect::to(&format!("/login?to={}", crate::web::encode(path))).into_response()
}

/// What changes something comes from a page of ours: browsers say where a form was, and the form has the session's token.
async fn same_origin(request: Request, who: Option<&Who>) -> Result<Request, StatusCode> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let text = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("");
    // `null` is what a page says that hides where it is: it is not ours, which send their address (see `Referrer-Policy`).
    if let Some(origin) = text(header::ORIGIN)
        && origin.split_once("://").map(|(_, host)| host) != Some(host)
    {
        return Err(StatusCode::FORBIDDEN);
    }
    if text(header::HeaderName::from_static("sec-fetch-site"))
        .is_some_and(|site| !matches!(site, "same-origin" | "none"))
    {
        return Err(StatusCode::FORBIDDEN);
    }
    let body = to_bytes(body, MAX_FORM).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    if let Some(expected) = who.and_then(|who| who.form_token.as_deref())
        && !has_token(&body, expected)
    {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// The form has the token. Compared in constant time: every byte is looked at.
fn has_token(form: &Bytes, expected: &str) -> bool {
    let pairs = form.split(|byte| *byte == b'&');
    let given = pairs.filter_map(|pair| pair.strip_prefix(b"token=")).next().unwrap_or_default();
    given.len() == expected.len()
        && given.iter().zip(expected.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

async fn write(gate: &Gate, entry: Entry) -> Result<(), ()> {
    let gate = gate.clone();
    let written = tokio::task::spawn_blocking(move || gate.log().write(entry, now())).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(error = %chain(&error), "an access could not be written down: it is refused");
            Err(())
        }
        Err(_) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(folder: &std::path::Path) -> Gate {
        let log = AccessLog::open(&folder.join("access"), [7; 32]).expect("a log");
        let directory = Directory::open(&folder.join("access.db")).expect("a directory");
        Gate::new(directory, log, Addresses::new(Vec::new(), Vec::new()), false, None, None)
    }

    #[tokio::test]
    async fn a_hash_that_was_begun_keeps_its_place_until_it_is_done_though_nobody_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let gate = gate(folder.path());
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let hashed = gate.hash(move |_| {
            begun.send(()).expect("somebody waits");
            wait.recv().expect("it goes on");
            done.send(()).expect("somebody waits");
        });
        // Who asked hangs up once it has begun.
        tokio::select! {
            _ = hashed => panic!("it is not done"),
            begun = has_begun => begun.expect("begun"),
        }
        assert_eq!(gate.0.hashing.available_permits(), MAX_HASHING - 1);
        go_on.send(()).expect("it waits");
        is_done.await.expect("it was done all the same");
        let all = u32::try_from(MAX_HASHING).expect("small");
        assert!(gate.0.hashing.acquire_many(all).await.is_ok(), "its place is free again");
    }

    #[tokio::test]
    async fn only_so_many_wait_for_a_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        let gate = gate(folder.path());
        let _all = gate.0.waiting.clone().acquire_many_owned(MAX_WAITING as u32).await.expect("all places");
        assert_eq!(gate.hash(|_| ()).await, None);
    }
}
