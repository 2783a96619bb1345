//! Requests of traces and logs over OTLP/gRPC. Answers of both have the same fields by number, and are read as those of traces.
//!
//! Requests are encoded once, by the batcher; the codec here sends those bytes as they are.
//! *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "OTLP/gRPC".

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use ::http::uri::PathAndQuery;
use bytes::{Buf, BufMut, Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::Target;
use super::answer::{Answer, one_line};
use super::target::Signal;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Larger answers are not read (opentelemetry-proto, "Response size").
const MAX_ANSWER_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct GrpcClient {
    channel: Channel,
    signal: Signal,
    headers: MetadataMap,
    timeout: Duration,
    gzip: bool,
    /// Host and port, for messages.
    authority: String,
    /// Whatever listens there has answered in gRPC.
    spoke: bool,
    /// What time it was there when it last answered.
    pub(super) clock: Option<SystemTime>,
}

impl GrpcClient {
    pub(super) fn new(target: &Target) -> Result<Self, tonic::transport::Error> {
        Ok(Self {
            channel: channel(target)?,
            signal: target.signal,
            headers: MetadataMap::from_headers(target.headers.clone()),
            timeout: target.timeout,
            gzip: target.gzip,
            authority: target.uri.authority().map(ToString::to_string).unwrap_or_default(),
            spoke: false,
            clock: None,
        })
    }

    pub(super) async fn send(&mut self, payload: Bytes) -> Answer {
        let status = match self.call(payload.clone()).await {
            Ok(response) => {
                self.spoke = true;
                return Answer::taken(response);
            }
            Err(status) => status,
        };
        if let Some(reason) = self.broken(&status) {
            return Answer::try_again(reason);
        }
        self.spoke |= web_page(&status).is_none();
        // A receiver without gzip answers UNIMPLEMENTED (gRPC, "Compression"): plain from now on.
        if self.gzip && status.code() == Code::Unimplemented {
            match self.plain(payload).await {
                Ok(response) => {
                    tracing::info!("the OTLP receiver does not take gzip: sending uncompressed from now on");
                    return Answer::taken(response);
                }
                Err(second) => return classify(&second, self.signal),
            }
        }
        classify(&status, self.signal)
    }

    /// Why there is no answer of gRPC at all, in one sentence; `None`: there is one.
    fn broken(&self, status: &Status) -> Option<String> {
        // A failure on our side of the connection has a source and no code of the server.
        let source = status.source()?;
        if !matches!(status.code(), Code::Unknown | Code::Unavailable | Code::Internal) {
            return None;
        }
        let why = causes(source);
        let authority = &self.authority;
        Some(if why.contains("InvalidContentType") || why.contains("corrupt message") {
            format!("what answers on {authority} does not speak TLS: is it `http://`?")
        } else if is_connect(source) {
            format!("cannot connect to {authority}: {why}")
        } else if self.spoke {
            format!("the connection to {authority} broke: {why}")
        } else {
            format!(
                "what answers on {authority} does not speak gRPC ({why}); check `export.otlp.endpoint` and \
                 `export.otlp.protocol`"
            )
        })
    }

    async fn plain(&mut self, payload: Bytes) -> Result<ExportTraceServiceResponse, Status> {
        self.gzip = false;
        let result = self.call(payload).await;
        // Not what it was about.
        self.gzip = result.is_err();
        result
    }

    async fn call(&mut self, payload: Bytes) -> Result<ExportTraceServiceResponse, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        grpc = grpc.accept_compressed(CompressionEncoding::Gzip);
        if self.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        let mut request = Request::from_parts(self.headers.clone(), Default::default(), payload);
        request.set_timeout(self.timeout);
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let method = if self.signal == Signal::Logs { LOGS } else { TRACES };
            grpc.unary(request, PathAndQuery::from_static(method), EncodedCodec).await
        };
        // Covers connecting as well, which tonic's own timeout does not.
        match tokio::time::timeout(self.timeout, call).await {
            Ok(result) => {
                let metadata = match &result {
                    Ok(response) => response.metadata(),
                    Err(status) => status.metadata(),
                };
                let date = metadata.get("date").and_then(|date| date.to_str().ok());
                self.clock = date.and_then(|date| httpdate::parse_http_date(date).ok());
                result.map(|response| response.into_inner())
            }
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {:?}", self.timeout))),
        }
    }
}

/// A lazily connected channel: also used for the agent's own metrics.
pub(crate) fn channel(target: &Target) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from(target.uri.clone())
        .user_agent(super::client::USER_AGENT)?
        .connect_timeout(target.timeout)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .tcp_nodelay(true);
    Ok(endpoint.connect_with_connector_lazy(connector(target, true)))
}

pub(super) fn connector(target: &Target, http2_only: bool) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(target.timeout));
    http.set_keepalive(Some(Duration::from_secs(60)));
    let builder = HttpsConnectorBuilder::new().with_tls_config(target.tls.clone()).https_or_http();
    match http2_only {
        true => builder.enable_http2().wrap_connector(http),
        false => builder.enable_http1().enable_http2().wrap_connector(http),
    }
}

type AnyError = dyn std::error::Error + 'static;

/// An error and what it comes from.
fn with_causes(error: &AnyError) -> Vec<&AnyError> {
    let mut all = vec![error];
    let mut next = error.source();
    while let Some(cause) = next {
        all.push(cause);
        next = cause.source();
    }
    all
}

/// There is no connection yet.
fn is_connect(error: &AnyError) -> bool {
    with_causes(error).into_iter().any(|error| {
        error.is::<tonic::ConnectError>()
            || error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// What an error comes from, the layers' own words left out: `connection refused`.
fn causes(error: &AnyError) -> String {
    const LAYERS: [&str; 5] =
        ["transport error", "client error", "connection error", "http2 error", "tcp connect error"];
    let all = with_causes(error).into_iter();
    let mut said: Vec<String> = Vec::new();
    for text in all.map(|error| one_line(&error.to_string())) {
        let is_layer = LAYERS.iter().any(|layer| text.starts_with(layer));
        if !is_layer && !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
    }
    if said.is_empty() { "it ended the connection".to_owned() } else { said.join(": ") }
}

/// Which codes may be sent again (opentelemetry-proto, table "OTLP/gRPC Response Codes").
fn classify(status: &Status, signal: Signal) -> Answer {
    if let Some(answer) = web_page(status) {
        return answer;
    }
    let details = one_line(status.message());
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let reason = match details.as_str() {
        "" => format!("{:?}", status.code()),
        details => format!("{:?}: {details}", status.code()),
    };
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Answer::TryAgain { after: asked, reason },
        Code::ResourceExhausted if asked.is_some() => Answer::TryAgain { after: asked, reason },
        // Throttling comes with a time; without one it is the request that is too large.
        Code::ResourceExhausted => Answer::TooLarge { reason },
        Code::Unauthenticated | Code::PermissionDenied => {
            Answer::refused(format!("{reason} (check `export.otlp.headers` and the client certificate)"))
        }
        // Jaeger and others have traces only.
        Code::Unimplemented if signal == Signal::Logs => Answer::NoSuchSignal { reason },
        Code::Unimplemented => {
            Answer::refused(format!("{reason} (is this an OTLP/gRPC receiver of traces?)"))
        }
        _ => Answer::refused(reason),
    }
}

/// A proxy or web server in front of the receiver answered with a page: gRPC's framing then reads its first
/// character, `<` (60), as a compression flag and hides the HTTP status in the message.
fn web_page(status: &Status) -> Option<Answer> {
    let message = status.message();
    if !message.contains("compression flag: 60") && !message.contains("invalid content-type: text/html") {
        return None;
    }
    let code =
        message.split("status: ").nth(1).and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let code: Option<u16> = code;
    let answered = match code {
        Some(code) => format!("a web page with HTTP status {code}"),
        None => "a web page".to_owned(),
    };
    let reason = format!("a proxy or web server answered with {answered}, not an OTLP/gRPC receiver");
    Some(match code {
        Some(429 | 502 | 503 | 504) => Answer::try_again(reason),
        _ => Answer::refused(format!("{reason}; check `export.otlp.endpoint` and `export.otlp.protocol`")),
    })
}

/// Sends bytes that are encoded already.
#[derive(Clone, Copy, Debug)]
struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for EncodedCodec {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = source.copy_to_bytes(source.remaining());
        let decoded = ExportTraceServiceResponse::decode(bytes);
        decoded.map(Some).map_err(|error| Status::internal(format!("the answer is no OTLP: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn codes_are_retried_as_the_specification_says() {
        let retried = |status: &Status| matches!(classify(status, Signal::Traces), Answer::TryAgain { .. });
        for code in 1..=16 {
            let status = Status::new(Code::from_i32(code), "x");
            let expected = [1, 4, 10, 11, 14, 15].contains(&code);
            assert_eq!(retried(&status), expected, "{:?}", status.code());
        }
    }

    #[test]
    fn exhausted_receivers_are_retried_only_with_retry_info() {
        let delay = Duration::from_secs(3);
        let details = ErrorDetails::with_retry_info(Some(delay));
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert!(
            matches!(classify(&status, Signal::Traces), Answer::TryAgain { after: Some(after), .. } if after == delay)
        );
        let status = Status::new(Code::ResourceExhausted, "larger than max (5000000 vs. 4194304)");
        assert!(matches!(classify(&status, Signal::Traces), Answer::TooLarge { .. }));
    }

    #[test]
    fn web_pages_are_recognised() {
        let message = "protocol error: received message with invalid compression flag: 60 (valid flags are 0 and 1) \
                       while receiving response with status: 400 Bad Request";
        let answer = classify(&Status::internal(message), Signal::Traces);
        assert!(
            matches!(&answer, Answer::Refused { reason } if reason.contains("HTTP status 400")),
            "{answer:?}"
        );
        let answer = classify(
            &Status::internal(message.replace("400 Bad Request", "502 Bad Gateway")),
            Signal::Traces,
        );
        assert!(matches!(answer, Answer::TryAgain { .. }));
    }
}
