//! An HTTP exchange in, the object-store attributes it deserves out.
//!
//! *Owns* how S3 requests are recognised, and what their path, query and headers mean. *Must not know* spans.
//! *Spec*: Amazon S3 API reference; Signature Version 4; OpenTelemetry semantic conventions v1.44.0, "AWS S3 client spans".

use super::http::text;
use crate::operation::http::Exchange;
use crate::order::path::percent_decode;
use crate::order::value::is_personal;
use crate::privacy::redact;
use crate::span::semconv;
use crate::trace::Attributes;

/// Sets `aws.*`, `cloud.region` and `rpc.method`. Returns the path template, `None` when this is not S3.
pub(super) fn describe(exchange: &Exchange, attributes: &mut Attributes) -> Option<&'static str> {
    let region = recognise(exchange)?;
    if let Some(region) = region {
        attributes.set(semconv::CLOUD_REGION, region);
    }
    let (bucket, key) = address(exchange);
    if let Some(bucket) = bucket {
        attributes.set(semconv::AWS_S3_BUCKET, bucket);
    }
    if let Some(key) = &key {
        attributes.set(semconv::AWS_S3_KEY, redact::path(key));
    }
    let query = Query(exchange.query().unwrap_or(""));
    let request = |name| text(&exchange.request_headers, name);
    let source = request("x-amz-copy-source").and_then(|source| percent_decode(source, false));
    if let Some(source) = source {
        attributes.set(semconv::AWS_S3_COPY_SOURCE, redact::path(source.trim_start_matches('/')));
    }
    if let Some(upload) = query.value("uploadId").filter(|id| !is_personal(id)) {
        attributes.set(semconv::AWS_S3_UPLOAD_ID, upload);
    }
    if let Some(part) = query.value("partNumber").and_then(|part| part.parse::<i64>().ok()) {
        attributes.set(semconv::AWS_S3_PART_NUMBER, part);
    }
    let response = |name| text(&exchange.response_headers, name);
    if let Some(id) = response("x-amz-request-id").or_else(|| response("x-amzn-requestid")) {
        attributes.set(semconv::AWS_REQUEST_ID, id);
    }
    if let Some(id) = response("x-amz-id-2") {
        attributes.set(semconv::AWS_EXTENDED_REQUEST_ID, id);
    }
    if let Some(operation) = operation(exchange, bucket.is_some(), key.is_some(), &query) {
        attributes.set(semconv::RPC_METHOD, format!("S3/{operation}"));
    }
    Some(match (is_virtual_host(exchange), bucket.is_some(), key.is_some()) {
        (false, true, true) => "/{bucket}/{key}",
        (false, true, false) => "/{bucket}",
        (true, _, true) => "/{key}",
        (true, ..) | (false, false, _) => "/",
    })
}

/// Signed for S3 (version 4 in a header or a presigned URL, version 2), or with headers only S3 has. The inner value is the
/// region of the signature's scope.
fn recognise(exchange: &Exchange) -> Option<Option<&str>> {
    let request = |name| text(&exchange.request_headers, name);
    // Other services of the same family name their operation here.
    if request("x-amz-target").is_some() {
        return None;
    }
    let authorization = request("authorization").unwrap_or("");
    let scope = match authorization.strip_prefix("AWS4-HMAC-SHA256") {
        Some(rest) => {
            rest.split_once("Credential=").map(|(_, rest)| rest.split([',', ' ']).next().unwrap_or(""))
        }
        None => Query(exchange.query().unwrap_or("")).value("X-Amz-Credential"),
    };
    if let Some(scope) = scope {
        // key/date/region/service/aws4_request; only region and service are looked at.
        let separator = if scope.contains('/') { "/" } else { "%2F" };
        let mut parts = scope.rsplit(separator);
        let (_, service, region) = (parts.next()?, parts.next()?, parts.next()?);
        return (service == "s3").then_some(Some(region).filter(|region| !region.is_empty()));
    }
    let is_s3 = authorization.starts_with("AWS ")
        || request("x-amz-content-sha256").is_some()
        || request("x-amz-copy-source").is_some()
        || text(&exchange.response_headers, "x-amz-request-id").is_some()
        || text(&exchange.response_headers, "x-amz-id-2").is_some()
        || text(&exchange.response_headers, "x-amz-bucket-region").is_some();
    is_s3.then_some(None)
}

/// `{bucket}.s3.{region}.amazonaws.com` and its variants; other stores are addressed by path unless they say so likewise.
fn is_virtual_host(exchange: &Exchange) -> bool {
    let host = exchange.authority.split(':').next().unwrap_or("");
    host.split_once('.').is_some_and(|(bucket, rest)| {
        !bucket.is_empty() && bucket != "s3" && (rest.starts_with("s3.") || rest.starts_with("s3-"))
    })
}

fn address(exchange: &Exchange) -> (Option<&str>, Option<String>) {
    let path = exchange.path().trim_start_matches('/');
    let decoded =
        |key: &str| percent_decode(key, false).map(|key| key.into_owned()).filter(|key| !key.is_empty());
    if is_virtual_host(exchange) {
        return (exchange.authority.split('.').next(), decoded(path));
    }
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (Some(bucket).filter(|bucket| !bucket.is_empty()), decoded(key))
}

/// The operation's name in the S3 API; `None` for the many that concern neither objects nor uploads.
fn operation(exchange: &Exchange, bucket: bool, key: bool, query: &Query<'_>) -> Option<&'static str> {
    let copies = exchange.request_headers.get("x-amz-copy-source").is_some();
    let is_part = query.value("partNumber").is_some() && query.value("uploadId").is_some();
    let upload = query.value("uploadId").is_some();
    // A sub-resource makes another operation of the same method and path.
    const SUB_RESOURCES: [&str; 12] = [
        "acl",
        "attributes",
        "cors",
        "lifecycle",
        "location",
        "policy",
        "restore",
        "retention",
        "select",
        "tagging",
        "versioning",
        "versions",
    ];
    if SUB_RESOURCES.iter().any(|name| query.has(name)) {
        return None;
    }
    Some(match (exchange.method.as_str(), bucket, key) {
        ("GET", false, _) => "ListBuckets",
        ("PUT", true, true) if is_part && copies => "UploadPartCopy",
        ("PUT", true, true) if is_part => "UploadPart",
        ("PUT", true, true) if copies => "CopyObject",
        ("PUT", true, true) => "PutObject",
        ("GET", true, true) if upload => "ListParts",
        ("GET", true, true) => "GetObject",
        ("HEAD", true, true) => "HeadObject",
        ("DELETE", true, true) if upload => "AbortMultipartUpload",
        ("DELETE", true, true) => "DeleteObject",
        ("POST", true, true) if upload => "CompleteMultipartUpload",
        ("POST", true, true) if query.has("uploads") => "CreateMultipartUpload",
        ("GET", true, false) if query.has("uploads") => "ListMultipartUploads",
        ("GET", true, false) if query.value("list-type") == Some("2") => "ListObjectsV2",
        ("GET", true, false) => "ListObjects",
        ("HEAD", true, false) => "HeadBucket",
        ("PUT", true, false) => "CreateBucket",
        ("DELETE", true, false) => "DeleteBucket",
        ("POST", true, false) if query.has("delete") => "DeleteObjects",
        _ => return None,
    })
}

struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.split('&').any(|pair| pair.split('=').next() == Some(name))
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.0
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
    }
}
