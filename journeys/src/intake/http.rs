//! OTLP over HTTP → protobuf or JSON, facts and an answer of the same kind.
//!
//! *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "OTLP/HTTP": `POST /v1/traces` and `/v1/logs`; an answer has the encoding of
//! the request; 400 is not repeated, 503 is, after `Retry-After`.

use std::io::Read;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Intake, MAX_REQUEST_LEN, Unavailable};

/// Seconds after which a refused sender may come again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The routes of the receiver.
pub fn router(intake: Intake) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/logs", post(logs))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_LEN))
        .with_state(intake)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

async fn traces(State(intake): State<Intake>, headers: HeaderMap, body: Bytes) -> Response {
    match decode::<ExportTraceServiceRequest>(&headers, body, "the body is no ExportTraceServiceRequest") {
        Ok((request, encoding)) => answer(intake.take(request).await, encoding),
        Err(refusal) => *refusal,
    }
}

async fn logs(State(intake): State<Intake>, headers: HeaderMap, body: Bytes) -> Response {
    match decode::<ExportLogsServiceRequest>(&headers, body, "the body is no ExportLogsServiceRequest") {
        Ok((request, encoding)) => answer(intake.take_logs(request).await, encoding),
        Err(refusal) => *refusal,
    }
}

/// The request of a body, or why it is none.
fn decode<T: Message + Default + DeserializeOwned>(
    headers: &HeaderMap,
    body: Bytes,
    wrong: &'static str,
) -> Result<(T, Encoding), Box<Response>> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let no = |status, why| Box::new(refuse(status, why));
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or("").trim();
    let encoding = match kind {
        "application/x-protobuf" => Encoding::Protobuf,
        "application/json" => Encoding::Json,
        _ => {
            let why = "application/x-protobuf or application/json is needed";
            return Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
    };
    let body = match text(header::CONTENT_ENCODING) {
        "" | "identity" => body,
        "gzip" => unzip(&body).map_err(|(status, why)| no(status, why))?,
        _ => return Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content coding must be gzip or none")),
    };
    let request = match encoding {
        Encoding::Protobuf => T::decode(body).ok(),
        Encoding::Json => serde_json::from_slice(&body).ok(),
    };
    request.map(|request| (request, encoding)).ok_or_else(|| no(StatusCode::BAD_REQUEST, wrong))
}

/// An answer of the request's kind.
fn answer<T: Message + Serialize>(answer: Result<T, Unavailable>, encoding: Encoding) -> Response {
    match (answer, encoding) {
        (Ok(answer), Encoding::Protobuf) => {
            ([(header::CONTENT_TYPE, PROTOBUF)], answer.encode_to_vec()).into_response()
        }
        (Ok(answer), Encoding::Json) => {
            let body = serde_json::to_vec(&answer).unwrap_or_else(|_| b"{}".to_vec());
            ([(header::CONTENT_TYPE, JSON)], body).into_response()
        }
        (Err(unavailable), _) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], unavailable.0)
                .into_response()
        }
    }
}

/// Unpacks up to the size a request may have.
fn unzip(body: &[u8]) -> Result<Bytes, (StatusCode, &'static str)> {
    let mut unpacked = Vec::new();
    let limit = u64::try_from(MAX_REQUEST_LEN).unwrap_or(u64::MAX);
    let read = GzDecoder::new(body).take(limit.saturating_add(1)).read_to_end(&mut unpacked);
    match read {
        Ok(len) if len <= MAX_REQUEST_LEN => Ok(unpacked.into()),
        Ok(_) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than 16 MiB")),
        Err(_) => Err((StatusCode::BAD_REQUEST, "the body is no gzip")),
    }
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, why).into_response()
}
