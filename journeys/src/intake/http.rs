//! OTLP over HTTP → protobuf or JSON, facts and an answer of the same kind.
//!
//! *Spec*: opentelemetry-proto v1.11 `docs/specification.md`, "OTLP/HTTP": `POST /v1/traces`; an answer has the encoding of
//! the request; 400 is not repeated, 503 is, after `Retry-After`.

use std::io::Read;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::{Intake, MAX_REQUEST_LEN};

/// Seconds after which a refused sender may come again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The routes of the receiver.
pub fn router(intake: Intake) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_LEN))
        .with_state(intake)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

async fn traces(State(intake): State<Intake>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or("").trim();
    let encoding = match kind {
        "application/x-protobuf" => Encoding::Protobuf,
        "application/json" => Encoding::Json,
        _ => {
            return refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "application/x-protobuf or application/json is needed",
            );
        }
    };
    let body = match text(header::CONTENT_ENCODING) {
        "" | "identity" => body,
        "gzip" => match unzip(&body) {
            Ok(body) => body,
            Err((status, why)) => return refuse(status, why),
        },
        _ => return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content coding must be gzip or none"),
    };
    let request = match encoding {
        Encoding::Protobuf => ExportTraceServiceRequest::decode(body).ok(),
        Encoding::Json => serde_json::from_slice(&body).ok(),
    };
    let Some(request) = request else {
        return refuse(StatusCode::BAD_REQUEST, "the body is no ExportTraceServiceRequest");
    };
    match intake.take(request).await {
        Ok(answer) => match encoding {
            Encoding::Protobuf => {
                ([(header::CONTENT_TYPE, PROTOBUF)], answer.encode_to_vec()).into_response()
            }
            Encoding::Json => {
                let body = serde_json::to_vec(&answer).unwrap_or_else(|_| b"{}".to_vec());
                ([(header::CONTENT_TYPE, JSON)], body).into_response()
            }
        },
        Err(unavailable) => {
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
