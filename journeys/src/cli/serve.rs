//! Options → a server that runs until it is asked to stop.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use ipnet::IpNet;
use jiff::tz::TimeZone;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Place, people};
use crate::access::{AccessLog, Addresses, Gate};
use crate::intake::{Intake, Writer, chain, grpc_service, http_router, now};
use crate::model::DAY;
use crate::sentence::Language;
use crate::store::sqlite::Sqlite;
use crate::store::{Retention, Store};
use crate::web::{self, Site};

/// Orders are judged again so often; so much later than due may a verdict be.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// At most so many at a time: senders wait for no more.
const JUDGE_AT_ONCE: usize = 1_000;
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
    /// Address of the pages and the API
    #[arg(long, env = "SPOOR_SERVE_LISTEN", default_value = "127.0.0.1:8470")]
    listen: SocketAddr,
    /// People reach the pages through a proxy that speaks TLS; without it the pages are for this machine only
    #[arg(long, env = "SPOOR_SERVE_BEHIND_PROXY")]
    behind_proxy: bool,
    /// Networks that people may come from; this machine when none is given
    #[arg(long, env = "SPOOR_SERVE_ALLOW", value_delimiter = ',')]
    allow: Vec<IpNet>,
    /// Proxies whose X-Forwarded-For is believed
    #[arg(long, env = "SPOOR_SERVE_TRUSTED_PROXIES", value_delimiter = ',')]
    trusted_proxy: Vec<IpNet>,
    /// Days for which the access log is kept
    #[arg(long, env = "SPOOR_SERVE_KEEP_ACCESS_LOG_DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..))]
    keep_access_log_days: u32,
    /// Language of people who have not chosen one and whose browser asks for none: ru or en
    #[arg(long, env = "SPOOR_SERVE_LANG", default_value = "ru", value_parser = language)]
    lang: Language,
    /// Listen for spans beyond this machine: anybody who reaches the address may then invent orders
    #[arg(long)]
    otlp_from_anywhere: bool,
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
        .init();
    for address in [options.otlp_grpc, options.otlp_http] {
        ensure!(
            options.otlp_from_anywhere || is_loopback(address.ip()),
            "{address} is reachable from other machines, and OTLP has no password here: give --otlp-from-anywhere if your network is the guard, or put a Collector with TLS before it"
        );
    }
    ensure!(
        options.behind_proxy || is_loopback(options.listen.ip()),
        "{} is reachable from other machines, and pages without TLS are not for networks: put a proxy with TLS before it and give --behind-proxy",
        options.listen
    );
    let zone = match &options.zone {
        Some(name) => TimeZone::get(name).with_context(|| format!("`{name}` is no time zone"))?,
        None => TimeZone::system(),
    };
    let model = options.place.model()?;
    let store = options.place.open(model.clone())?;
    // A tenth more than what is kept: expiry runs now and then, a batch comes at any time.
    store.set_max_bytes(options.max_bytes.saturating_add(options.max_bytes / 10))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let log = AccessLog::open(
        &options.place.folder.data.join("access"),
        options.place.master()?.derive(people::LOG_KEY),
    )?;
    let addresses = Addresses::new(options.allow.clone(), options.trusted_proxy.clone());
    let gate = Gate::new(options.place.folder.directory()?, log, addresses, options.behind_proxy);
    let site = Site { store: store.clone(), model: Arc::new(model), zone, language: options.lang };
    runtime.block_on(serve(options, store, site, gate))
}

fn language(text: &str) -> Result<Language, String> {
    Language::parse(text).ok_or_else(|| "ru and en are the languages there are".to_owned())
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

async fn serve(options: &Options, store: Arc<Sqlite>, site: Site, gate: Gate) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let (writer, writing) = Writer::start(store.clone()).context("cannot start the writing thread")?;
    let intake = Intake::new(writer, options.place.order_attributes.clone());
    let grpc = listen(options.otlp_grpc, "OTLP over gRPC").await?;
    let http = listen(options.otlp_http, "OTLP over HTTP").await?;
    let pages = listen(options.listen, "pages").await?;
    tracing::info!(pages = %options.listen, grpc = %options.otlp_grpc, http = %options.otlp_http, "ready");
    let incoming = tonic::transport::server::TcpIncoming::from(grpc);
    let grpc = tonic::transport::Server::builder()
        .add_service(grpc_service(intake.clone()))
        .serve_with_incoming_shutdown(incoming, until(stopped.clone()));
    let http = axum::serve(http, http_router(intake)).with_graceful_shutdown(until(stopped.clone()));
    let routes = web::router(site, gate.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let pages = axum::serve(pages, routes).with_graceful_shutdown(until(stopped.clone()));
    let pages = tokio::spawn(async move { pages.await });
    let grpc = tokio::spawn(grpc);
    let http = tokio::spawn(async move { http.await });
    let keep_log = i64::from(options.keep_access_log_days).saturating_mul(DAY);
    let chores = tokio::spawn(chores(store, retention(options), gate, keep_log, stopped));
    signal().await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    grpc.await.context("the gRPC receiver ended badly")?.context("the gRPC receiver failed")?;
    http.await.context("the HTTP receiver ended badly")?.context("the HTTP receiver failed")?;
    pages.await.context("the pages ended badly")?.context("the pages failed")?;
    chores.await.context("the judge ended badly")?;
    // All handles are gone: the thread has written what waited.
    tokio::task::spawn_blocking(move || writing.join())
        .await
        .context("the writing thread cannot be waited for")?
        .map_err(|_| anyhow::anyhow!("the writing thread panicked"))
}

async fn listen(address: SocketAddr, what: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for {what}"))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
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
    let stop = until(stopped);
    tokio::pin!(stop);
    loop {
        let (store, gate) = (store.clone(), gate.clone());
        let chore = tokio::select! {
            () = &mut stop => return,
            _ = judge.tick() => tokio::task::spawn_blocking(move || {
                store.judge_due(now(), JUDGE_AT_ONCE).map(|_| ())
            }),
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
