//! Requests of traces and logs over OTLP/HTTP, in protobuf or JSON. Answers of both have the same fields by number, and are read as those of
//! traces.
//!
//! *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "OTLP/HTTP"; JSON by "JSON Protobuf Encoding".

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use super::Target;
use super::answer::{Answer, chain, one_line};
use super::target::Signal;
use crate::config::OtlpProtocol;

const MAX_ANSWER_BYTES: usize = 4 << 20;

/// The status says that the request was taken, and what follows is no answer of OTLP.
const UNREADABLE: &str = "success, but with an answer that is not OTLP's: if spans are missing there, this is no OTLP receiver, or \
                          something between changes its answers; check `export.otlp.endpoint`";

/// The HTTP client under both OTLP/HTTP forms and the agent's own metrics.
pub(crate) type RawClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(crate) fn raw_client(target: &Target) -> RawClient {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build(super::grpc::connector(target, false))
}

#[derive(Debug)]
pub(super) struct HttpClient {
    client: RawClient,
    target: Target,
    /// What time it was there when it last answered.
    pub(super) clock: Option<SystemTime>,
}

impl HttpClient {
    pub(super) fn new(target: Target) -> Self {
        Self { client: raw_client(&target), target, clock: None }
    }

    pub(super) async fn send(&mut self, payload: Bytes) -> Answer {
        let json = self.target.protocol == OtlpProtocol::HttpJson;
        let body = match json {
            true => match to_json(self.target.signal, &payload) {
                Ok(text) => text,
                Err(reason) => return Answer::refused(reason),
            },
            false => payload,
        };
        match tokio::time::timeout(self.target.timeout, self.exchange(body, json)).await {
            Ok(answer) => answer,
            Err(_) => Answer::try_again(format!("no answer within {:?}", self.target.timeout)),
        }
    }

    async fn exchange(&mut self, body: Bytes, json: bool) -> Answer {
        let request = match self.request(body, json) {
            Ok(request) => request,
            Err(reason) => return Answer::refused(reason),
        };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Answer::try_again(chain(&error)),
        };
        self.clock = httpdate::parse_http_date(header_text(response.headers(), header::DATE)).ok();
        self.answer(response).await
    }

    fn request(&self, body: Bytes, json: bool) -> Result<Request<Full<Bytes>>, String> {
        let mut builder = Request::builder()
            .method(Method::POST)
            .uri(self.target.uri.clone())
            .header(header::CONTENT_TYPE, if json { "application/json" } else { "application/x-protobuf" })
            .header(header::USER_AGENT, super::client::USER_AGENT);
        let body = match self.target.gzip {
            true => {
                builder = builder.header(header::CONTENT_ENCODING, "gzip");
                gzip(&body).map_err(|error| format!("cannot compress the request: {error}"))?
            }
            false => body,
        };
        if let Some(headers) = builder.headers_mut() {
            headers.extend(self.target.headers.clone());
        }
        builder.body(Full::new(body)).map_err(|error| format!("cannot build the request: {error}"))
    }

    async fn answer(&self, response: Response<Incoming>) -> Answer {
        let (parts, body) = response.into_parts();
        let content_type = header_text(&parts.headers, header::CONTENT_TYPE).to_owned();
        let body = match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            // By the status the request was taken; whether all of it was cannot be known.
            Err(error) if parts.status.is_success() => {
                return Answer::Taken { rejected: 0, message: format!("{UNREADABLE} ({})", chain(&*error)) };
            }
            Err(error) => return Answer::try_again(format!("HTTP {}: {error}", parts.status.as_u16())),
        };
        let answer = classify(parts.status, &parts.headers, &content_type, &body, SystemTime::now());
        let has_none = matches!(parts.status.as_u16(), 404 | 405 | 501);
        match answer {
            // A path or a method that is not there.
            Answer::Refused { reason } if has_none && self.target.signal == Signal::Logs => {
                Answer::NoSuchSignal { reason }
            }
            answer => answer,
        }
    }
}

/// What an HTTP status means ("OTLP/HTTP Response": 429, 502, 503 and 504 may be sent again, others not).
fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    content_type: &str,
    body: &[u8],
    now: SystemTime,
) -> Answer {
    let page = content_type.starts_with("text/html") || body.trim_ascii_start().starts_with(b"<");
    if status.is_success() {
        // A page is a login form or a start page, however friendly its status.
        return match (page, decode_response(content_type, body)) {
            (true, _) => Answer::refused(
                "a proxy or web server answered with a web page, not an OTLP receiver; check `export.otlp.endpoint`",
            ),
            (false, Some(response)) => Answer::taken(response),
            (false, None) => Answer::Taken { rejected: 0, message: UNREADABLE.to_owned() },
        };
    }
    let code = status.as_u16();
    let details = match page {
        true => "a web page, so a proxy or web server answered, not an OTLP receiver".to_owned(),
        false => status_message(content_type, body),
    };
    let reason = match details.as_str() {
        "" => format!("HTTP {status}"),
        details => format!("HTTP {status}: {details}"),
    };
    match code {
        429 | 502 | 503 | 504 => Answer::TryAgain { after: retry_after(headers, now), reason },
        300..=399 => {
            let location = one_line(header_text(headers, header::LOCATION));
            Answer::refused(format!("{reason}: redirects are not followed; set the endpoint to `{location}`"))
        }
        400 if page => Answer::refused(format!("{reason}; check `export.otlp.endpoint`")),
        401 | 403 => {
            Answer::refused(format!("{reason} (check `export.otlp.headers` and the client certificate)"))
        }
        404 | 405 => Answer::refused(format!("{reason} (check the path of `export.otlp.endpoint`)")),
        413 => Answer::TooLarge { reason },
        415 => {
            Answer::refused(format!("{reason} (check `export.otlp.protocol` and `export.otlp.compression`)"))
        }
        _ => Answer::refused(reason),
    }
}

/// Seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = header_text(headers, header::RETRY_AFTER).trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn decode_response(content_type: &str, body: &[u8]) -> Option<ExportTraceServiceResponse> {
    if body.trim_ascii().is_empty() {
        return Some(ExportTraceServiceResponse::default());
    }
    if !content_type.starts_with("application/json") {
        return ExportTraceServiceResponse::decode(body).ok();
    }
    // Not by the generated type: 64-bit numbers come as text or as numbers, and both are right.
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let Some(partial) = value.get("partialSuccess") else {
        return Some(ExportTraceServiceResponse::default());
    };
    let rejected = partial.get("rejectedSpans").or_else(|| partial.get("rejectedLogRecords"));
    let rejected = rejected.map_or(0, |number| match number.as_str() {
        Some(text) => text.parse().unwrap_or(0),
        None => number.as_i64().unwrap_or(0),
    });
    let message = partial.get("errorMessage").and_then(serde_json::Value::as_str).unwrap_or_default();
    let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message: message.to_owned() };
    Some(ExportTraceServiceResponse { partial_success: Some(partial) })
}

/// The message of a `google.rpc.Status`, or the beginning of plain text.
fn status_message(content_type: &str, body: &[u8]) -> String {
    let message = match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json" => {
            let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
            value.and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
        }
        "application/x-protobuf" => tonic_types::Status::decode(body).ok().map(|status| status.message),
        _ => None,
    };
    let message =
        message.unwrap_or_else(|| String::from_utf8_lossy(body.get(..1024).unwrap_or(body)).into_owned());
    one_line(&message)
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub(crate) fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

fn to_json(signal: Signal, payload: &[u8]) -> Result<Bytes, String> {
    match signal {
        Signal::Logs => json_of::<ExportLogsServiceRequest>(payload),
        Signal::Traces | Signal::Metrics => json_of::<ExportTraceServiceRequest>(payload),
    }
}

fn json_of<M: Message + Default + serde::Serialize>(payload: &[u8]) -> Result<Bytes, String> {
    let request = M::decode(payload).map_err(|error| format!("not a request of its signal: {error}"))?;
    serde_json::to_vec(&request)
        .map(Bytes::from)
        .map_err(|error| format!("cannot be written as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        status: u16,
        headers: &[(header::HeaderName, &str)],
        content_type: &str,
        body: &[u8],
    ) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name, value.parse().unwrap());
        }
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        classify(StatusCode::from_u16(status).unwrap(), &map, content_type, body, now)
    }

    #[test]
    fn statuses_are_retried_as_the_specification_says() {
        for status in 300..600 {
            let retried = matches!(answer(status, &[], "", b""), Answer::TryAgain { .. });
            assert_eq!(retried, [429, 502, 503, 504].contains(&status), "{status}");
        }
    }

    #[test]
    fn a_request_that_is_too_large_is_not_the_end_of_its_spans() {
        assert!(matches!(answer(413, &[], "", b"no more than 20 kB"), Answer::TooLarge { .. }));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |value: &str| match answer(503, &[(header::RETRY_AFTER, value)], "", b"") {
            Answer::TryAgain { after, .. } => after.map(|after| after.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn pages_and_messages_are_told_to_the_user() {
        let reason = |answer: Answer| match answer {
            Answer::Refused { reason }
            | Answer::NoSuchSignal { reason }
            | Answer::TryAgain { reason, .. }
            | Answer::TooLarge { reason } => reason,
            Answer::Taken { .. } => panic!("taken"),
        };
        assert!(reason(answer(200, &[], "text/html", b"<html>log in</html>")).contains("web page"));
        assert!(reason(answer(502, &[], "text/html", b"<html>bad gateway")).contains("proxy"));
        let json = br#"{"code":3,"message":"span without id"}"#;
        assert_eq!(
            reason(answer(400, &[], "application/json", json)),
            "HTTP 400 Bad Request: span without id"
        );
        assert!(
            reason(answer(307, &[(header::LOCATION, "https://new/")], "", b"")).contains("`https://new/`")
        );
    }

    #[test]
    fn success_with_an_answer_of_something_else_is_told() {
        let told = |content_type, body| match answer(200, &[], content_type, body) {
            Answer::Taken { rejected: 0, message } => !message.is_empty(),
            other => panic!("{other:?}"),
        };
        for (content_type, body) in
            [("application/x-protobuf", &b"\xff\xff"[..]), ("application/json", b"nonsense")]
        {
            assert!(told(content_type, body), "{content_type}");
        }
        for (content_type, body) in
            [("application/x-protobuf", &b""[..]), ("application/json", b"{}"), ("", b"")]
        {
            assert!(!told(content_type, body), "{content_type}");
        }
    }

    #[test]
    fn partial_success_is_read_in_both_encodings() {
        let json = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#;
        let expected = Answer::Taken { rejected: 3, message: "too old".to_owned() };
        assert_eq!(answer(200, &[], "application/json", json), expected);
        let protobuf = [0x0a, 11, 0x08, 3, 0x12, 7, b't', b'o', b'o', b' ', b'o', b'l', b'd'];
        assert_eq!(answer(200, &[], "application/x-protobuf", &protobuf), expected);
    }
}
