//! The exporter against Google's protobuf and gRPC runtimes in Python: a decoder that shares no code with ours.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spoor::config::{Export, OtlpProtocol};
use spoor::export::{Exporter, Host};
use spoor_core::causality::{Confidence, Rule};
use spoor_core::span::{Evidence, Link, Resource, Span, SpanEvent, SpanKind, Status};
use spoor_core::time::WallTime;
use spoor_core::trace::{Attributes, SpanId, TraceId};
use spoor_tests::skip::skip;

/// Receives over gRPC and HTTP and prints what it decoded, one JSON object per request.
const RECEIVER: &str = r#"
import base64, gzip, http.server, json, sys, threading
from concurrent import futures
import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc

lock = threading.Lock()

def say(request):
    with lock:
        print(json.dumps(json_format.MessageToDict(request)), flush=True)

class Receiver(rpc.TraceServiceServicer):
    def Export(self, request, context):
        say(request)
        return service.ExportTraceServiceResponse()

def base64_ids(value):
    # OTLP/JSON has identifiers in hexadecimal where protobuf's own JSON has base64.
    if isinstance(value, list):
        return [base64_ids(item) for item in value]
    if isinstance(value, dict):
        ids = ("traceId", "spanId", "parentSpanId")
        return {key: base64.b64encode(bytes.fromhex(item)).decode() if key in ids else base64_ids(item)
                for key, item in value.items()}
    return value

class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = service.ExportTraceServiceRequest()
        if self.headers["content-type"] == "application/json":
            # Strict: an unknown field or a wrong type is an error.
            json_format.ParseDict(base64_ids(json.loads(body)), request)
        else:
            request.ParseFromString(body)
        say(request)
        self.send_response(200)
        self.send_header("content-type", self.headers["content-type"])
        self.send_header("content-length", "2" if self.headers["content-type"] == "application/json" else "0")
        self.end_headers()
        if self.headers["content-type"] == "application/json":
            self.wfile.write(b"{}")
    def log_message(self, *arguments):
        pass

server = grpc.server(futures.ThreadPoolExecutor(2))
rpc.add_TraceServiceServicer_to_server(Receiver(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Http)
threading.Thread(target=web.serve_forever, daemon=True).start()
print(json.dumps([port, web.server_port]), flush=True)
sys.stdin.read()
"#;

/// A Python with the packages, kept between runs outside the tree; the reason when it cannot be had.
fn python() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let directory = cache.join("spoor").join("otlp-python");
    let python = directory.join("bin/python");
    let works = || {
        let import = "import grpc, opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc";
        let status = Command::new(&python).args(["-c", import]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if works() {
        return Ok(python);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("failed").to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&directory))
        .map_err(|reason| format!("python3 -m venv: {reason}"))?;
    let packages = ["opentelemetry-proto==1.45.2", "grpcio==1.85.1"];
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--timeout",
        "10",
        "--retries",
        "1",
    ]);
    run(pip.args(packages)).map_err(|reason| format!("pip install {}: {reason}", packages.join(" ")))?;
    if works() { Ok(python) } else { Err("the installed packages do not import".to_owned()) }
}

struct Receiver {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    grpc_port: u64,
    http_port: u64,
}

impl Receiver {
    fn start(python: &PathBuf) -> Self {
        let mut command = Command::new(python);
        command.args(["-c", RECEIVER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ports: [u64; 2] = serde_json::from_str(&lines.next().expect("it starts").unwrap()).unwrap();
        Self { child, lines, grpc_port: ports[0], http_port: ports[1] }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().expect("a request").unwrap()).unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn span() -> Span {
    let mut attributes = Attributes::default();
    attributes.set("http.response.status_code", 500);
    attributes.set("http.request.method", "POST");
    attributes.set("spoor.incomplete", true);
    attributes.set_named("order.id", "Größe-17");
    let mut of_link = Attributes::default();
    of_link.set("messaging.message.id", "m-1");
    Span {
        trace_id: TraceId(0x0102030405060708090a0b0c0d0e0f10_u128.to_be_bytes()),
        span_id: SpanId([0xab; 8]),
        parent: Some(SpanId([0xcd; 8])),
        evidence: Some(Evidence { rule: Rule::Wire, confidence: Confidence(0.95) }),
        name: "POST /orders".to_owned(),
        kind: SpanKind::Server,
        start: WallTime::from_nanos(1_800_000_000_123_456_789),
        end: WallTime::from_nanos(1_800_000_001_000_000_001),
        status: Status::Error("no model".to_owned()),
        attributes,
        links: vec![Link { trace_id: TraceId([1; 16]), span_id: SpanId([2; 8]), attributes: of_link }],
        events: vec![SpanEvent {
            name: "exception",
            at: WallTime::from_nanos(1_800_000_000_500_000_000),
            attributes: Attributes::default(),
        }],
        resource: Arc::new(Resource { service: "shop".to_owned(), pid: Some(42), ..Resource::default() }),
        sampled: true,
    }
}

#[test]
fn googles_runtime_decodes_what_was_meant() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return skip(&format!("no Python with opentelemetry-proto and grpcio: {reason}")),
    };
    let mut receiver = Receiver::start(&python);
    let (grpc, http) = (receiver.grpc_port, receiver.http_port);
    for (port, protocol) in
        [(grpc, OtlpProtocol::Grpc), (http, OtlpProtocol::HttpProtobuf), (http, OtlpProtocol::HttpJson)]
    {
        let mut settings = Export::default();
        settings.otlp.endpoint = format!("http://127.0.0.1:{port}");
        settings.otlp.protocol = Some(protocol);
        let host = Host { id: "h-1".into(), ..Host::default() };
        let exporter = Exporter::start(&settings, host).unwrap().unwrap();
        exporter.offer(&span());
        let totals = exporter.shutdown(Duration::from_secs(10));
        assert_eq!((totals.exported, totals.dropped.total()), (1, 0), "{protocol:?}");

        let request = receiver.next();
        let group = &request["resourceSpans"][0];
        assert_eq!(group["schemaUrl"], "https://opentelemetry.io/schemas/1.44.0");
        let resource = group["resource"]["attributes"].as_array().unwrap();
        for expected in [
            json!({"key": "service.name", "value": {"stringValue": "shop"}}),
            json!({"key": "process.pid", "value": {"intValue": "42"}}),
            json!({"key": "host.id", "value": {"stringValue": "h-1"}}),
            json!({"key": "telemetry.distro.name", "value": {"stringValue": "spoor"}}),
        ] {
            assert!(resource.contains(&expected), "{protocol:?}: {expected} is not in {resource:?}");
        }
        // In protobuf's own JSON: identifiers in base64, enumerations by name.
        let expected = json!({
            "traceId": "AQIDBAUGBwgJCgsMDQ4PEA==",
            "spanId": "q6urq6urq6s=",
            "parentSpanId": "zc3Nzc3Nzc0=",
            "flags": 0x301,
            "name": "POST /orders",
            "kind": "SPAN_KIND_SERVER",
            "startTimeUnixNano": "1800000000123456789",
            "endTimeUnixNano": "1800000001000000001",
            "attributes": [
                {"key": "http.response.status_code", "value": {"intValue": "500"}},
                {"key": "http.request.method", "value": {"stringValue": "POST"}},
                {"key": "spoor.incomplete", "value": {"boolValue": true}},
                {"key": "order.id", "value": {"stringValue": "Größe-17"}},
                {"key": "spoor.parent.rule", "value": {"stringValue": "wire"}},
                {"key": "spoor.parent.confidence", "value": {"doubleValue": 0.95}},
            ],
            "events": [{"timeUnixNano": "1800000000500000000", "name": "exception"}],
            "links": [{
                "traceId": "AQEBAQEBAQEBAQEBAQEBAQ==",
                "spanId": "AgICAgICAgI=",
                "attributes": [{"key": "messaging.message.id", "value": {"stringValue": "m-1"}}],
                "flags": 1,
            }],
            "status": {"message": "no model", "code": "STATUS_CODE_ERROR"},
        });
        assert_eq!(group["scopeSpans"][0]["spans"], json!([expected]), "{protocol:?}");
    }
}
