//! Options → a server that runs until it is asked to stop.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use ipnet::IpNet;
use jiff::tz::TimeZone;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Place;
use super::sign_on::SignOnOptions;
use crate::access::{AccessLog, Addresses, Gate, ProxySignOn, Role};
use crate::channels;
use crate::connections::{self, Limits};
use crate::forward::{Forward, Spool};
use crate::intake::{Intake, Writer, chain, grpc_router, http_router, now};
use crate::metrics;
use crate::rules::window;
use crate::sentence::Language;
use crate::store::alerts::Alerts;
use crate::store::seal::{Keys, Master};
use crate::store::sqlite::Sqlite;
use crate::store::{Retention, Store};
use crate::time::DAY;
use crate::tls::{self, Certificate};
use crate::web::{self, Jaeger, Live, Site, TraceLink};

/// Orders are judged again so often; so much later than due may a verdict be.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// At most so many at a time: senders wait for no more. So many of an older version are indexed by their traces as well.
const JUDGE_AT_ONCE: usize = 1_000;
/// Counters of many orders are looked at so often.
const PLACES_EVERY: Duration = Duration::from_micros(window::EVERY.unsigned_abs());
/// What expired is looked for so often.
const RETAIN_EVERY: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Address that takes OTLP over gRPC
    #[arg(long, env = "SPOOR_SERVE_OTLP_GRPC", default_value = "127.0.0.1:4317")]
    otlp_grpc: SocketAddr,
    /// Address that takes OTLP over HTTP, protobuf or JSON
    #[arg(long, env = "SPOOR_SERVE_OTLP_HTTP", default_value = "127.0.0.1:4318")]
    otlp_http: SocketAddr,
    /// Path of a Unix socket that takes OTLP over gRPC and HTTP from this machine; its owner and group may send
    #[arg(long, env = "SPOOR_SERVE_OTLP_SOCKET")]
    otlp_socket: Option<PathBuf>,
    /// Address of the pages and the API
    #[arg(long, env = "SPOOR_SERVE_LISTEN", default_value = "127.0.0.1:8470")]
    listen: SocketAddr,
    /// Address of /metrics, /live and /ready, which anybody who reaches it may ask; none when not given
    #[arg(long, env = "SPOOR_SERVE_ADMIN")]
    admin: Option<SocketAddr>,
    /// People reach the pages through a proxy that speaks TLS; without it the pages are for this machine only
    #[arg(long, env = "SPOOR_SERVE_BEHIND_PROXY")]
    behind_proxy: bool,
    /// PEM file with the certificate chain of the pages, read again when it changes
    #[arg(long, env = "SPOOR_SERVE_TLS_CERT", requires = "tls_key", conflicts_with = "behind_proxy")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate
    #[arg(long, env = "SPOOR_SERVE_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Networks that people may come from; this machine when none is given
    #[arg(long, env = "SPOOR_SERVE_ALLOW", value_delimiter = ',', value_parser = network)]
    allow: Vec<IpNet>,
    /// Proxies whose X-Forwarded-For is believed; needed with --behind-proxy
    #[arg(long, env = "SPOOR_SERVE_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    trusted_proxy: Vec<IpNet>,
    /// File with the secret that a trusted proxy sends in X-Spoor-Proxy-Secret: whom it names in X-Auth-Request-User is signed in
    #[arg(long, env = "SPOOR_SERVE_PROXY_SECRET_FILE", requires = "group_role")]
    proxy_secret_file: Option<PathBuf>,
    /// Role of a group that the proxy names in X-Auth-Request-Groups, or the identity provider in its token, as GROUP=ROLE; the first that a person is in counts
    #[arg(long, env = "SPOOR_SERVE_GROUP_ROLES", value_delimiter = ',', value_parser = group_role)]
    group_role: Vec<(String, Role)>,
    #[command(flatten)]
    sign_on: SignOnOptions,
    /// Days for which the access log is kept
    #[arg(long, env = "SPOOR_SERVE_KEEP_ACCESS_LOG_DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..))]
    keep_access_log_days: u32,
    /// Language of people who have not chosen one and whose browser asks for none: ru or en
    #[arg(long, env = "SPOOR_SERVE_LANG", default_value = "ru", value_parser = language)]
    lang: Language,
    /// Listen for spans beyond this machine: anybody who reaches the address may then invent orders
    #[arg(long)]
    otlp_from_anywhere: bool,
    /// Back end that gets all spans as well, over OTLP/HTTP, such as http://jaeger:4318; what it cannot take yet waits on disk
    #[arg(long, env = "SPOOR_SERVE_FORWARD")]
    forward: Option<String>,
    /// Bytes that may wait for it; the oldest requests are let go first
    #[arg(long, env = "SPOOR_SERVE_FORWARD_MAX_BYTES", default_value_t = 1 << 30)]
    forward_max_bytes: u64,
    /// Where an outside Jaeger shows a trace, such as `https://traces.example/trace/{trace}`; pages of orders link to it
    #[arg(long, env = "SPOOR_SERVE_JAEGER_LINK")]
    jaeger_link: Option<TraceLink>,
    /// Days for which an order is kept after it was last heard of
    #[arg(long, env = "SPOOR_SERVE_KEEP_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: u32,
    /// Bytes the store may take; the orders longest silent leave first
    #[arg(long, env = "SPOOR_SERVE_MAX_BYTES", default_value_t = 50 << 30)]
    max_bytes: u64,
    /// Time zone of the pages, such as Europe/Moscow; the machine's when not given
    #[arg(long, env = "SPOOR_SERVE_ZONE")]
    zone: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    check(options)?;
    let zone = match &options.zone {
        Some(name) => TimeZone::get(name).with_context(|| format!("`{name}` is no time zone"))?,
        None => TimeZone::system(),
    };
    let model = Arc::new(options.place.model()?);
    let set = super::rules::read(options.place.rules.as_deref(), &model)?;
    let store = options.place.open((*model).clone())?;
    store.watch(set, now())?;
    // A tenth more than what is kept: expiry runs now and then, a batch comes at any time.
    store.set_max_bytes(options.max_bytes.saturating_add(options.max_bytes / 10))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let log = AccessLog::open(
        &options.place.folder.data.join("access"),
        Keys::log_key(&options.place.folder.data.join("keys"), &options.place.master()?)?,
    )?;
    let addresses = Addresses::new(options.allow.clone(), options.trusted_proxy.clone());
    let secure = options.behind_proxy || options.tls_cert.is_some();
    let proxy = proxy_sign_on(options)?;
    let oidc = options.sign_on.open(&options.group_role)?;
    let gate = Gate::new(options.place.folder.directory()?, log, addresses, secure, proxy, oidc);
    let (stop, stopped) = watch::channel(false);
    let live = Live::new(stopped.clone());
    let forwarded = options.forward.is_some().then(Arc::default);
    let site = Site {
        store: store.clone(),
        alerts: store.clone(),
        channels: Arc::default(),
        trying: Arc::new(tokio::sync::Semaphore::new(1)),
        model,
        zone,
        language: options.lang,
        live,
        jaeger: Jaeger::new(options.jaeger_link.clone()),
        received: Arc::default(),
        forwarded,
    };
    runtime.block_on(serve(options, store, site, gate, (stop, stopped)))
}

/// Refuses what would let strangers in.
fn check(options: &Options) -> Result<()> {
    for address in [options.otlp_grpc, options.otlp_http] {
        ensure!(
            options.otlp_from_anywhere || is_loopback(address.ip()),
            "{address} is reachable from other machines, and OTLP has no password here: give --otlp-from-anywhere if your network is the guard, or put a Collector with TLS before it"
        );
    }
    ensure!(
        options.behind_proxy || options.tls_cert.is_some() || is_loopback(options.listen.ip()),
        "{} is reachable from other machines, and pages without TLS are not for networks: give --tls-cert and --tls-key, or put a proxy with TLS before it and give --behind-proxy",
        options.listen
    );
    ensure!(
        options.proxy_secret_file.is_none() || !options.trusted_proxy.is_empty(),
        "--proxy-secret-file needs --trusted-proxy: whom a proxy names is believed from its address only"
    );
    ensure!(
        !options.behind_proxy || !options.trusted_proxy.is_empty(),
        "--behind-proxy needs --trusted-proxy: without it everybody seems to come from the proxy, and who may look and who guesses passwords is decided by its address"
    );
    Ok(())
}

/// The house's own sign-on, where a proxy speaks with it.
fn proxy_sign_on(options: &Options) -> Result<Option<ProxySignOn>> {
    let Some(file) = &options.proxy_secret_file else { return Ok(None) };
    let secret = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // Of this start only: a form that was open before it is sent again.
    let key = Master::generate()?.derive("sign-on by a proxy");
    let proxy = ProxySignOn::new(&secret, options.group_role.clone(), key);
    Ok(Some(proxy.with_context(|| format!("in {}", file.display()))?))
}

/// `it-admins=admin`.
fn group_role(text: &str) -> Result<(String, Role), String> {
    let (group, role) = text.split_once('=').ok_or("write GROUP=ROLE")?;
    let found = Role::from_name(role.trim()).filter(|_| !group.trim().is_empty());
    let names = || Role::ALL.map(Role::name).join(", ");
    found
        .map(|role| (group.trim().to_owned(), role))
        .ok_or_else(|| format!("`{role}` is none of {}", names()))
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| one())
        .map_err(|_| format!("`{text}` is no network such as 10.20.0.0/16 and no address"))
}

fn language(text: &str) -> Result<Language, String> {
    Language::parse(text).ok_or_else(|| "ru and en are the languages there are".to_owned())
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

async fn serve(
    options: &Options,
    store: Arc<Sqlite>,
    site: Site,
    gate: Gate,
    (stop, stopped): (watch::Sender<bool>, watch::Receiver<bool>),
) -> Result<()> {
    let signals = Signals::listen()?;
    let (writer, writing) = Writer::start(store.clone()).context("cannot start the writing thread")?;
    let (forward, forwarding) = forward(options, &site, stopped.clone())?.unzip();
    let attributes = options.place.order_attributes.clone();
    let telling = match store.rules() {
        Some(set) => channels::start(
            store.clone(),
            set,
            site.model.clone(),
            site.zone.clone(),
            &site.channels,
            &stopped,
        ),
        None => Vec::new(),
    };
    let intake = Intake::new(writer, attributes, site.received.clone(), forward);
    let grpc = listen(options.otlp_grpc, "OTLP over gRPC").await?;
    let http = listen(options.otlp_http, "OTLP over HTTP").await?;
    let pages = listen(options.listen, "pages").await?;
    let admin = match options.admin {
        Some(address) => Some(listen(address, "metrics").await?),
        None => None,
    };
    // Where port 0 was asked for, this says which one it is.
    tracing::info!(
        pages = %pages.local_addr()?,
        grpc = %grpc.local_addr()?,
        http = %http.local_addr()?,
        metrics = admin.as_ref().map(TcpListener::local_addr).transpose()?.map(tracing::field::display),
        "ready"
    );
    let admin = admin.map(|admin| {
        let routes = metrics::router(site.clone());
        tokio::spawn(connections::serve(admin, routes, Limits::of_senders(), stopped.clone()))
    });
    let senders = Limits::of_senders();
    let socket = match &options.otlp_socket {
        Some(path) => {
            let listener = connections::listen_at(path)
                .with_context(|| format!("cannot listen at {} for OTLP", path.display()))?;
            let both = http_router(intake.clone()).merge(grpc_router(intake.clone()));
            Some(tokio::spawn(connections::serve(listener, both, senders.clone(), stopped.clone())))
        }
        None => None,
    };
    let grpc = connections::serve(grpc, grpc_router(intake.clone()), senders.clone(), stopped.clone());
    let http = connections::serve(http, http_router(intake), senders, stopped.clone());
    let (routes, readers) =
        (web::router(site, gate.clone()), Limits::of_pages(options.trusted_proxy.clone()));
    let pages = match (&options.tls_cert, &options.tls_key) {
        (Some(chain), Some(key)) => {
            let certificate = Certificate::open(chain, key).context("the pages cannot have TLS")?;
            let pages = tls::Listener::new(pages, certificate).context("the pages cannot have TLS")?;
            tokio::spawn(connections::serve(pages, routes, readers, stopped.clone()))
        }
        _ => tokio::spawn(connections::serve(pages, routes, readers, stopped.clone())),
    };
    let (grpc, http) = (tokio::spawn(grpc), tokio::spawn(http));
    let keep_log = i64::from(options.keep_access_log_days).saturating_mul(DAY);
    let chores = tokio::spawn(chores(store, retention(options), gate, keep_log, stopped));
    signals.asked().await;
    tracing::info!("stopping");
    stop.send_replace(true);
    grpc.await.context("the gRPC receiver ended badly")?;
    http.await.context("the HTTP receiver ended badly")?;
    pages.await.context("the pages ended badly")?;
    if let (Some(socket), Some(path)) = (socket, &options.otlp_socket) {
        socket.await.context("the receiver at the socket ended badly")?;
        let _ = std::fs::remove_file(path);
    }
    if let Some(admin) = admin {
        admin.await.context("metrics ended badly")?;
    }
    chores.await.context("the judge ended badly")?;
    for channel in telling {
        channel.await.context("a channel ended badly")?;
    }
    if let Some(forwarding) = forwarding {
        forwarding.await.context("forwarding ended badly")?;
    }
    // All handles are gone: the thread has written what waited.
    tokio::task::spawn_blocking(move || writing.join())
        .await
        .context("the writing thread cannot be waited for")?
        .map_err(|_| anyhow::anyhow!("the writing thread panicked"))
}

/// The other back end, where there is one.
fn forward(
    options: &Options,
    site: &Site,
    stopped: watch::Receiver<bool>,
) -> Result<Option<(Forward, tokio::task::JoinHandle<()>)>> {
    let (Some(endpoint), Some(counts)) = (&options.forward, &site.forwarded) else { return Ok(None) };
    let data = &options.place.folder.data;
    let key = Keys::file_key(&data.join("keys"), &options.place.master()?, "forward")?;
    let spool = Spool::open(&data.join("forward"), key, options.forward_max_bytes, counts.clone())?;
    Ok(Some(Forward::start(spool, endpoint, stopped).context("cannot forward spans")?))
}

async fn listen(address: SocketAddr, what: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for {what}"))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// What asks the server to end. Listened for before it is ready: who asks then must not kill it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
        })
    }

    async fn asked(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn retention(options: &Options) -> Retention {
    Retention { keep_micros: i64::from(options.keep_days).saturating_mul(DAY), max_bytes: options.max_bytes }
}

/// Judges what is due and lets go what expired.
async fn chores(
    store: Arc<Sqlite>,
    retention: Retention,
    gate: Gate,
    keep_log: i64,
    stopped: watch::Receiver<bool>,
) {
    let mut judge = tokio::time::interval(JUDGE_EVERY);
    let mut retain = tokio::time::interval(RETAIN_EVERY);
    let mut places = tokio::time::interval(PLACES_EVERY);
    places.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stop = until(stopped);
    tokio::pin!(stop);
    loop {
        let (store, gate) = (store.clone(), gate.clone());
        let chore = tokio::select! {
            () = &mut stop => return,
            _ = judge.tick() => tokio::task::spawn_blocking(move || {
                store.watch_agents(now())?;
                store.judge_due(now(), JUDGE_AT_ONCE)?;
                store.index_older(JUDGE_AT_ONCE).map(|_| ())
            }),
            _ = places.tick() => tokio::task::spawn_blocking(move || store.watch_places(now())),
            _ = retain.tick() => tokio::task::spawn_blocking(move || {
                let gone = store.retain(retention, now())?;
                if gone.expired + gone.evicted > 0 {
                    tracing::info!(expired = gone.expired, evicted = gone.evicted, "orders left the store");
                }
                if let Err(error) = gate.log().retain(keep_log, now()) {
                    tracing::error!(error = %chain(&error), "old days of the access log stay");
                }
                Ok(())
            }),
        };
        match chore.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %chain(&error), "a chore of the store failed"),
            Err(error) => tracing::error!(%error, "a chore of the store ended badly"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Command, Sub};
    use super::*;

    #[test]
    fn what_would_let_strangers_in_is_refused() {
        for (given, refused) in [
            ("", None),
            ("--listen 0.0.0.0:8470", Some("--behind-proxy")),
            ("--listen 0.0.0.0:8470 --tls-cert chain.pem --tls-key key.pem", None),
            ("--listen 0.0.0.0:8470 --behind-proxy", Some("--trusted-proxy")),
            ("--behind-proxy", Some("--trusted-proxy")),
            ("--listen 0.0.0.0:8470 --behind-proxy --trusted-proxy 10.0.0.1", None),
            ("--proxy-secret-file x --group-role it=admin", Some("--trusted-proxy")),
            ("--proxy-secret-file x --group-role it=admin,s=support --trusted-proxy 127.0.0.1", None),
            ("--otlp-grpc 0.0.0.0:4317", Some("--otlp-from-anywhere")),
            ("--otlp-http [::]:4318 --otlp-from-anywhere", None),
        ] {
            let words = ["spoor-serve", "run"].into_iter().chain(given.split_whitespace());
            let Sub::Run(options) = Command::try_parse_from(words).expect(given).command else {
                panic!("run")
            };
            match (check(&options), refused) {
                (Ok(()), None) => {}
                (Err(error), Some(named)) => assert!(error.to_string().contains(named), "{given}: {error}"),
                (found, _) => panic!("{given}: {found:?}"),
            }
        }
        assert!(Command::try_parse_from(["spoor-serve", "run", "--allow", "everybody"]).is_err());
        assert!(Command::try_parse_from(["spoor-serve", "run", "--group-role", "it=root"]).is_err());
        let oidc = "spoor-serve run --oidc-issuer https://login.example --oidc-client-id spoor \
                    --oidc-secret-file x --url https://spoor.example --group-role it=admin";
        let words: Vec<&str> = oidc.split_whitespace().collect();
        assert!(Command::try_parse_from(&words).is_ok());
        for at in [4, 6, 8, 10] {
            let lacking = [&words[..at], &words[at + 2..]].concat();
            assert!(Command::try_parse_from(&lacking).is_err(), "{lacking:?}");
        }
    }
}
