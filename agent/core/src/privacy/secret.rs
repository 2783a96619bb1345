//! A name → whether credentials travel under it; a header field → whether it may be written down.
//!
//! *Owns* the names of secrets. *Must not know* where names come from.

use super::personal::is_personal;

/// Query parameters that sign or authenticate: these, and whatever contains one of [`SECRET_WORDS`].
const SECRET_NAMES: [&str; 6] = ["sig", "pwd", "auth", "pin", "otp", "code"];
const SECRET_WORDS: [&str; 10] = [
    "token",
    "password",
    "passwd",
    "secret",
    "apikey",
    "signature",
    "credential",
    "session",
    "jwt",
    "authorization",
];

/// A name under which credentials travel.
pub fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SECRET_NAMES.contains(&plain.as_str()) || SECRET_WORDS.iter().any(|word| plain.contains(word))
}

/// Headers that authenticate somebody.
pub(crate) fn is_secret_header(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-')).collect::<String>().to_ascii_lowercase();
    plain.is_empty()
        || ["authorization", "cookie", "apikey", "token", "secret", "password"]
            .iter()
            .any(|word| plain.contains(word))
}

/// Longest header field that is written down.
pub(crate) const MAX_FIELD: usize = 128;

/// Header fields that say how something is sent, not what: all others may be credentials or tell of people. Of paths, those
/// that name a method of a service (gRPC over HTTP/2, "Requests"): others hold numbers and names.
pub(crate) fn is_harmless_field(name: &str, value: &str) -> bool {
    let is_allowed = match name {
        ":method"
        | ":scheme"
        | ":status"
        | "te"
        | "accept-encoding"
        | "content-encoding"
        | "grpc-encoding"
        | "grpc-accept-encoding"
        | "grpc-status"
        | "user-agent" => true,
        "content-type" => !value.contains(';'),
        ":authority" => value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)),
        ":path" => is_service_method(value),
        _ => false,
    };
    is_allowed && value.len() <= MAX_FIELD && !is_personal(value)
}

/// `/package.Service/Method`.
fn is_service_method(path: &str) -> bool {
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let parts = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(service, method)| {
        service.contains('.') && service.split('.').all(is_word) && is_word(method)
    })
}
