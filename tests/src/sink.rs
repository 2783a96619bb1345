//! An OTLP receiver in this process: gRPC and HTTP on free loopback ports, told how to answer.
//!
//! It decodes with the generated types of `opentelemetry-proto` and records what arrived. Misbehaviour (errors, slow
//! answers, web pages, partial success) is set per test.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;
use tonic_types::StatusExt;

/// How the next request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    Take,
    /// Takes all but so many spans.
    Partial(i64, &'static str),
    /// A gRPC status, with RetryInfo when there is a delay.
    Grpc(tonic::Code, Option<Duration>),
    /// An HTTP status with headers and a body.
    Http(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// Never answers.
    Hang,
}

/// One request that arrived, whatever was answered.
#[derive(Clone, Debug)]
pub struct Received {
    pub request: ExportTraceServiceRequest,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body after decompression; 0 for gRPC.
    pub body_len: usize,
    /// It was taken.
    pub taken: bool,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    replies: VecDeque<Reply>,
    metrics: Vec<ExportMetricsServiceRequest>,
    logs: Vec<ExportLogsServiceRequest>,
    /// Requests of logs, those that were not taken among them.
    log_requests: usize,
    max_spans: Option<usize>,
}

/// A running receiver. Dropping it closes its ports and connections.
#[derive(Debug)]
pub struct Sink {
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
}

/// What a [`Sink`] can do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses to listen on again, after an outage.
    pub grpc: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
    /// The gRPC side does not take gzip.
    pub no_gzip: bool,
    /// Requests with more spans are too large.
    pub max_spans: Option<usize>,
    /// It has no logs, as Jaeger: 404 and UNIMPLEMENTED.
    pub no_logs: bool,
    /// TLS on the HTTP side.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Sink {
    /// Listens on free ports.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let state = Arc::new(Mutex::new(State { max_spans: options.max_spans, ..State::default() }));
        let free: SocketAddr = ([127, 0, 0, 1], 0).into();
        let (grpc, http) = runtime.block_on(async {
            let grpc = bind(options.grpc.unwrap_or(free)).await;
            let http = bind(options.http.unwrap_or(free)).await;
            let addresses = (grpc.local_addr().expect("address"), http.local_addr().expect("address"));
            tokio::spawn(serve_grpc(grpc, state.clone(), options.no_gzip, options.no_logs));
            tokio::spawn(serve_http(http, state.clone(), options.tls, options.no_logs));
            addresses
        });
        Self { state, runtime: Some(runtime), grpc: Some(grpc), http: Some(http) }
    }

    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.expect("started")
    }

    pub fn http_address(&self) -> SocketAddr {
        self.http.expect("started")
    }

    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc_address())
    }

    pub fn http_url(&self) -> String {
        format!("http://{}", self.http_address())
    }

    /// Answers for the requests to come, in order; after them everything is taken.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        self.lock().replies.extend(replies);
    }

    /// Everything that arrived so far.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// The sets of metrics that arrived so far. They are always taken.
    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.lock().metrics.clone()
    }

    /// The requests of logs that arrived so far, all of them taken, and how many were asked for in all.
    pub fn logs(&self) -> (Vec<ExportLogsServiceRequest>, usize) {
        let state = self.lock();
        (state.logs.clone(), state.log_requests)
    }

    /// Names of the spans that were taken, in the order of their arrival.
    pub fn span_names(&self) -> Vec<String> {
        self.spans().into_iter().map(|span| span.name).collect()
    }

    /// The spans that were taken, in the order of their arrival.
    pub fn spans(&self) -> Vec<Span> {
        let taken = self.received().into_iter().filter(|received| received.taken);
        let groups = taken.flat_map(|received| received.request.resource_spans);
        groups.flat_map(|group| group.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// Waits until `condition` holds of what arrived; panics after ten seconds.
    #[track_caller]
    pub fn wait(&self, what: &str, condition: impl Fn(&[Received]) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition(&self.lock().received) {
            assert!(Instant::now() < end, "nothing like `{what}` arrived in 10 s: {:?}", self.received());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    // After an outage the port may still be closing.
    for _ in 0..200 {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("cannot listen on {address}");
}

/// Records a request and says how to answer it: with `too_large` where it has more spans than may be.
fn take(state: &Mutex<State>, mut received: Received, too_large: Reply) -> Reply {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let groups = received.request.resource_spans.iter().flat_map(|group| &group.scope_spans);
    let span_count = groups.map(|scope| scope.spans.len()).sum::<usize>();
    let reply = match state.max_spans {
        Some(max) if span_count > max => too_large,
        _ => state.replies.pop_front().unwrap_or(Reply::Take),
    };
    received.taken = matches!(reply, Reply::Take | Reply::Partial(..));
    state.received.push(received);
    reply
}

#[derive(Clone, Debug)]
struct Grpc(Arc<Mutex<State>>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = request.metadata().clone().into_headers();
        let received =
            Received { headers: texts(&headers), request: request.into_inner(), body_len: 0, taken: false };
        match take(&self.0, received, Reply::Grpc(tonic::Code::ResourceExhausted, None)) {
            Reply::Take => Ok(tonic::Response::new(ExportTraceServiceResponse::default())),
            Reply::Partial(rejected, message) => Ok(tonic::Response::new(partial(rejected, message))),
            Reply::Grpc(code, delay) => {
                let details = tonic_types::ErrorDetails::with_retry_info(delay);
                Err(match delay {
                    Some(_) => tonic::Status::with_error_details(code, "as told", details),
                    None => tonic::Status::new(code, "as told"),
                })
            }
            Reply::Http(..) => panic!("an HTTP reply for a gRPC request"),
            Reply::Hang => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).metrics.push(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.log_requests += 1;
        if self.no_logs {
            return Err(tonic::Status::unimplemented("unknown service LogsService"));
        }
        state.logs.push(request.into_inner());
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

#[derive(Clone, Debug)]
struct Logs {
    state: Arc<Mutex<State>>,
    no_logs: bool,
}

fn partial(rejected_spans: i64, message: &str) -> ExportTraceServiceResponse {
    let partial = opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess {
        rejected_spans,
        error_message: message.to_owned(),
    };
    ExportTraceServiceResponse { partial_success: Some(partial) }
}

async fn serve_grpc(listener: TcpListener, state: Arc<Mutex<State>>, no_gzip: bool, no_logs: bool) {
    let mut logs = LogsServiceServer::new(Logs { state: state.clone(), no_logs });
    let mut metrics = MetricsServiceServer::new(Grpc(state.clone()));
    let mut service = TraceServiceServer::new(Grpc(state)).max_decoding_message_size(64 << 20);
    if !no_gzip {
        logs = logs.accept_compressed(CompressionEncoding::Gzip);
        metrics = metrics.accept_compressed(CompressionEncoding::Gzip);
        service = service.accept_compressed(CompressionEncoding::Gzip);
    }
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tonic::transport::Server::builder()
        .add_service(service)
        .add_service(metrics)
        .add_service(logs)
        .serve_with_incoming(incoming)
        .await
        .expect("gRPC server");
}

async fn serve_http(
    listener: TcpListener,
    state: Arc<Mutex<State>>,
    tls: Option<Arc<rustls::ServerConfig>>,
    no_logs: bool,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (state, tls) = (state.clone(), tls.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, state.clone(), no_logs));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // Clients that go away are no failure of the receiver.
            let _ = match tls {
                None => server.serve_connection(TokioIo::new(stream), service).await,
                Some(config) => match tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                    Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    no_logs: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path == "/v1/logs" {
        state.lock().unwrap_or_else(PoisonError::into_inner).log_requests += 1;
    }
    let has_none = no_logs && path == "/v1/logs";
    if has_none || !["/v1/traces", "/v1/metrics", "/v1/logs"].contains(&path.as_str()) {
        return Ok(respond(404, &[], format!("no such path: {path}")));
    }
    let headers = texts(&parts.headers);
    let header =
        |name: &str| headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let Ok(body) = body.collect().await else { return Ok(respond(400, &[], String::new())) };
    let mut bytes = body.to_bytes().to_vec();
    if header("content-encoding") == "gzip" {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).expect("gzip");
        bytes = plain;
    }
    let json = header("content-type") == "application/json";
    if path == "/v1/metrics" {
        let request = match json {
            true => serde_json::from_slice(&bytes).expect("OTLP/JSON"),
            false => ExportMetricsServiceRequest::decode(bytes.as_slice()).expect("OTLP protobuf"),
        };
        state.lock().unwrap_or_else(PoisonError::into_inner).metrics.push(request);
        return Ok(respond(200, &[], String::new()));
    }
    if path == "/v1/logs" {
        let request = match json {
            true => serde_json::from_slice(&bytes).expect("OTLP/JSON"),
            false => ExportLogsServiceRequest::decode(bytes.as_slice()).expect("OTLP protobuf"),
        };
        state.lock().unwrap_or_else(PoisonError::into_inner).logs.push(request);
        return Ok(respond(200, &[], String::new()));
    }
    let request = match json {
        true => serde_json::from_slice(&bytes).expect("OTLP/JSON"),
        false => ExportTraceServiceRequest::decode(bytes.as_slice()).expect("OTLP protobuf"),
    };
    let received = Received { request, headers, body_len: bytes.len(), taken: false };
    let reply = take(&state, received, Reply::Http(413, Vec::new(), "too many spans"));
    let response = match reply {
        Reply::Take => ExportTraceServiceResponse::default(),
        Reply::Partial(rejected, message) => partial(rejected, message),
        Reply::Http(status, headers, body) => return Ok(respond(status, &headers, body.to_owned())),
        Reply::Grpc(..) => panic!("a gRPC reply for an HTTP request"),
        Reply::Hang => std::future::pending().await,
    };
    Ok(match json {
        true => {
            let body = serde_json::to_string(&response).expect("JSON");
            respond(200, &[("content-type", "application/json")], body)
        }
        false => {
            let mut answer = Response::new(Full::new(Bytes::from(response.encode_to_vec())));
            answer.headers_mut().insert("content-type", "application/x-protobuf".parse().expect("header"));
            answer
        }
    })
}

fn respond(status: u16, headers: &[(&'static str, &'static str)], body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).expect("status");
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().expect("header"));
    }
    response
}

fn texts(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
