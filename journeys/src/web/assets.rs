//! Names of files that pages refer to → the files, which are part of the program.
//!
//! A name contains the digest of its content, so browsers may keep the file for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../../assets/app.css");
const ICON: &str = include_str!("../../assets/icon.svg");
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

static STYLE_NAME: LazyLock<String> = LazyLock::new(|| {
    let digest: String =
        Sha256::digest(STYLE.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("app.{digest}.css")
});

pub(super) fn stylesheet() -> &'static str {
    &STYLE_NAME
}

pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let (kind, content) = match name.as_str() {
        name if name == stylesheet() => ("text/css; charset=utf-8", STYLE),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let kind = HeaderValue::from_static(kind);
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, FOR_EVER)], content).into_response()
}
