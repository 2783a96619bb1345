//! An HTTP exchange → the object-store attributes it deserves.
//!
//! *Owns* how S3 requests are recognised, and what their path, query and headers mean. *Must not know* spans.
//! *Spec*: Amazon S3 API reference; Signature Version 4; OpenTelemetry semantic conventions v1.44.0, "AWS S3 client spans".

use super::http::text;
use crate::operation::http::Exchange;
use crate::percent;
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
        attributes.set(semconv::AWS_S3_KEY, key.as_str());
    }
    let query = Query(exchange.query().unwrap_or(""));
    let request = |name| text(&exchange.request_headers, name);
    let source = request("x-amz-copy-source").and_then(|source| percent::decode(source, false));
    if let Some(source) = source {
        attributes.set(semconv::AWS_S3_COPY_SOURCE, source.trim_start_matches('/'));
    }
    if let Some(upload) = query.value("uploadId") {
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
        |key: &str| percent::decode(key, false).map(|key| key.into_owned()).filter(|key| !key.is_empty());
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::operation::http::Exchange;
    use crate::record::Role;
    use crate::span::testing::{check, exchange, http, kept};

    #[test]
    fn object_store() {
        const AUTH: &str = "AWS4-HMAC-SHA256 Credential=hunter2/20261120/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=hunter2";
        let s3 = |method: &str, target: &str, extra: (&str, &str)| Exchange {
            request_headers: [("authorization", AUTH), extra].into_iter().collect(),
            response_headers: [("x-amz-request-id", "R1"), ("x-amz-id-2", "E1")].into_iter().collect(),
            authority: "store:9000".to_owned(),
            request_body: kept("solid"),
            ..exchange(method, target, 200)
        };
        let part = "/models/orders/17/part%201.stl?partNumber=3&uploadId=U1&x-id=UploadPart";
        check(
            Role::Client,
            http(s3("PUT", part, ("", ""))),
            expect![[r#"
            Client PUT /{bucket}/{key}
              1000100 +500
              http.request.method: PUT
              url.full: http://store:9000/models/orders/17/part%201.stl?partNumber=3&uploadId=U1&x-id=UploadPart
              server.address: store
              server.port: 9000i
              network.peer.address: 10.0.0.2
              network.peer.port: 8080i
              network.protocol.version: 1.1
              http.request.body.size: 5i
              cloud.region: eu-central-1
              aws.s3.bucket: models
              aws.s3.key: orders/17/part 1.stl
              aws.s3.upload_id: U1
              aws.s3.part_number: 3i
              aws.request_id: R1
              aws.extended_request_id: E1
              rpc.method: S3/UploadPart
              url.template: /{bucket}/{key}
              http.response.status_code: 200i
              order.id: 17
              spoor.trace.rule: wire
        "#]],
        );
        check(
            Role::Client,
            http(s3("PUT", "/archive/a.stl", ("x-amz-copy-source", "/models/a.stl"))),
            expect![[r#"
                Client PUT /{bucket}/{key}
                  1000100 +500
                  http.request.method: PUT
                  url.full: http://store:9000/archive/a.stl
                  server.address: store
                  server.port: 9000i
                  network.peer.address: 10.0.0.2
                  network.peer.port: 8080i
                  network.protocol.version: 1.1
                  http.request.body.size: 5i
                  cloud.region: eu-central-1
                  aws.s3.bucket: archive
                  aws.s3.key: a.stl
                  aws.s3.copy_source: models/a.stl
                  aws.request_id: R1
                  aws.extended_request_id: E1
                  rpc.method: S3/CopyObject
                  url.template: /{bucket}/{key}
                  http.response.status_code: 200i
                  spoor.trace.rule: wire
            "#]],
        );
        let presigned = Exchange {
            authority: "models.s3.eu-west-1.amazonaws.com".to_owned(),
            ..exchange(
                "GET",
                "/a/b.stl?X-Amz-Credential=hunter2%2F20261120%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature=hunter2",
                403,
            )
        };
        check(
            Role::Client,
            http(presigned),
            expect![[r#"
            Client GET /{key}
              1000100 +500
              ERROR
              http.request.method: GET
              url.full: http://models.s3.eu-west-1.amazonaws.com/a/b.stl?X-Amz-Credential=REDACTED&X-Amz-Signature=REDACTED
              server.address: models.s3.eu-west-1.amazonaws.com
              server.port: 80i
              network.peer.address: 10.0.0.2
              network.peer.port: 8080i
              network.protocol.version: 1.1
              user_agent.original: curl/8
              cloud.region: eu-west-1
              aws.s3.bucket: models
              aws.s3.key: a/b.stl
              rpc.method: S3/GetObject
              url.template: /{key}
              http.response.status_code: 403i
              error.type: 403
              spoor.trace.rule: wire
        "#]],
        );
        let other = Exchange {
            request_headers: [(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=hunter2/20261120/eu/sqs/aws4_request",
            )]
            .into_iter()
            .collect(),
            ..exchange("POST", "/queue", 200)
        };
        check(
            Role::Client,
            http(other),
            expect![[r#"
            Client POST
              1000100 +500
              http.request.method: POST
              url.full: http://shop.example:8080/queue
              server.address: shop.example
              server.port: 8080i
              network.peer.address: 10.0.0.2
              network.peer.port: 8080i
              network.protocol.version: 1.1
              http.response.status_code: 200i
              spoor.trace.rule: wire
        "#]],
        );
    }
}
