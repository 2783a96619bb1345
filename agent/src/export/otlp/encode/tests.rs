//! Spans against the exact messages they become.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link as ProtoLink};
use opentelemetry_proto::tonic::trace::v1::{
    self as proto, ResourceSpans, ScopeSpans, Status as ProtoStatus,
};

use super::*;
use spoor_core::causality::Confidence;
use spoor_core::span::Evidence;
use spoor_core::time::WallTime;
use spoor_core::trace::{SpanId, TraceId};

fn host() -> Host {
    Host {
        id: "0123456789abcdef0123456789abcdef".into(),
        name: "node-1".into(),
        arch: "amd64",
        kernel: "6.18.1".into(),
        rules_digest: "d1".into(),
    }
}

fn resource(service: &str) -> Arc<Resource> {
    Arc::new(Resource {
        service: service.to_owned(),
        service_namespace: Some("factory".to_owned()),
        instance: "i-1".to_owned(),
        pid: Some(42),
        exe: Some("/usr/bin/python3.11".to_owned()),
        container_id: Some("c0ffee".to_owned()),
        attributes: vec![("k8s.pod.name".to_owned(), "shop-0".to_owned())],
    })
}

fn span(id: u8, service: &str) -> Span {
    let mut attributes = Attributes::default();
    attributes.set("http.request.method", "POST");
    attributes.set("http.response.status_code", 500);
    attributes.set_named("order.id", "17");
    Span {
        trace_id: TraceId([7; 16]),
        span_id: SpanId([id; 8]),
        parent: None,
        evidence: None,
        name: "POST /orders".to_owned(),
        kind: SpanKind::Server,
        start: WallTime::from_nanos(1_700_000_000_000_000_000),
        end: WallTime::from_nanos(1_700_000_000_182_400_000),
        status: Status::Error("no model".to_owned()),
        attributes,
        links: Vec::new(),
        events: Vec::new(),
        resource: resource(service),
        sampled: true,
    }
}

fn s(key: &str, value: &str) -> KeyValue {
    key_value(key, Any::StringValue(value.to_owned()))
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

/// One span, read back by the generated types.
fn encode_span(span: &Span) -> proto::Span {
    request([span], &host()).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

#[test]
fn span_becomes_exactly_this_request() {
    let mut given = span(1, "shop");
    given.parent = Some(SpanId([9; 8]));
    given.evidence = Some(Evidence { rule: Rule::Wire, confidence: Confidence(0.95) });
    let mut link_attributes = Attributes::default();
    link_attributes.set("messaging.message.id", "m1");
    given.links =
        vec![Link { trace_id: TraceId([8; 16]), span_id: SpanId([3; 8]), attributes: link_attributes }];
    given.events = vec![SpanEvent {
        name: "exception",
        at: WallTime::from_nanos(1_700_000_000_100_000_000),
        attributes: Attributes::default(),
    }];

    let expected = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(ProtoResource {
                attributes: vec![
                    s("service.name", "shop"),
                    s("service.namespace", "factory"),
                    s("service.instance.id", "i-1"),
                    s("process.executable.path", "/usr/bin/python3.11"),
                    s("process.executable.name", "python3.11"),
                    s("container.id", "c0ffee"),
                    s("k8s.pod.name", "shop-0"),
                    s("host.id", "0123456789abcdef0123456789abcdef"),
                    s("host.name", "node-1"),
                    s("host.arch", "amd64"),
                    s("os.version", "6.18.1"),
                    s("spoor.rules.digest", "d1"),
                    s("os.type", "linux"),
                    s("telemetry.distro.name", "spoor"),
                    s("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
                    key_value("process.pid", Any::IntValue(42)),
                ],
                ..Default::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "spoor".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..Default::default()
                }),
                spans: vec![proto::Span {
                    trace_id: vec![7; 16],
                    span_id: vec![1; 8],
                    trace_state: String::new(),
                    parent_span_id: vec![9; 8],
                    // Sampled; the parent is in another process, and that is known.
                    flags: 0x301,
                    name: "POST /orders".to_owned(),
                    kind: 2,
                    start_time_unix_nano: 1_700_000_000_000_000_000,
                    end_time_unix_nano: 1_700_000_000_182_400_000,
                    attributes: vec![
                        s("http.request.method", "POST"),
                        key_value("http.response.status_code", Any::IntValue(500)),
                        s("order.id", "17"),
                        s("spoor.parent.rule", "wire"),
                        key_value("spoor.parent.confidence", Any::DoubleValue(0.95)),
                    ],
                    dropped_attributes_count: 0,
                    events: vec![Event {
                        time_unix_nano: 1_700_000_000_100_000_000,
                        name: "exception".to_owned(),
                        attributes: vec![],
                        dropped_attributes_count: 0,
                    }],
                    dropped_events_count: 0,
                    links: vec![ProtoLink {
                        trace_id: vec![8; 16],
                        span_id: vec![3; 8],
                        trace_state: String::new(),
                        attributes: vec![s("messaging.message.id", "m1")],
                        dropped_attributes_count: 0,
                        flags: 0x001,
                    }],
                    dropped_links_count: 0,
                    status: Some(ProtoStatus { message: "no model".to_owned(), code: 2 }),
                }],
                schema_url: "https://opentelemetry.io/schemas/1.44.0".to_owned(),
            }],
            schema_url: "https://opentelemetry.io/schemas/1.44.0".to_owned(),
        }],
    };
    assert_eq!(request([&given], &host()), expected);
}

#[test]
fn flags_tell_remote_parents() {
    let flags = |rule: Option<Rule>| {
        let evidence = rule.map(|rule| Evidence { rule, confidence: Confidence(1.0) });
        encode_span(&Span { evidence, ..span(1, "shop") }).flags
    };
    assert_eq!(flags(None), 0x101);
    assert_eq!(flags(Some(Rule::Thread)), 0x101);
    assert_eq!(flags(Some(Rule::LastRead)), 0x101);
    assert_eq!(flags(Some(Rule::Wire)), 0x301);
    assert_eq!(flags(Some(Rule::Message)), 0x301);
    assert_eq!(flags(Some(Rule::Context)), 0x301);
}

#[test]
fn services_are_grouped_into_resources() {
    let spans = [span(1, "shop"), span(2, "crm"), span(3, "shop"), span(4, "crm"), span(5, "mes")];
    let request = request(&spans, &host());
    let services: Vec<(String, Vec<u8>)> = request
        .resource_spans
        .iter()
        .map(|group| {
            let resource = group.resource.as_ref().unwrap();
            let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let Some(Any::StringValue(name)) = name.value.as_ref().unwrap().value.clone() else { panic!() };
            let spans = &group.scope_spans[0].spans;
            (name, spans.iter().map(|span| span.span_id[0]).collect())
        })
        .collect();
    let expected = [("shop", vec![1, 3]), ("crm", vec![2, 4]), ("mes", vec![5])];
    assert_eq!(services, expected.map(|(name, ids)| (name.to_owned(), ids)));
}

#[test]
fn unnamed_services_fall_back_to_the_executable() {
    let name = |resource: Resource| {
        let resource = Arc::new(resource);
        let group = request([&Span { resource, ..span(1, "") }], &Host::default()).resource_spans.remove(0);
        match group.resource.unwrap().attributes.swap_remove(0).value {
            Some(AnyValue { value: Some(Any::StringValue(name)) }) => name,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(name(Resource::default()), "unknown_service");
    let exe = Some("/opt/crm/crmd".to_owned());
    assert_eq!(name(Resource { exe, ..Resource::default() }), "unknown_service:crmd");
}

#[test]
fn end_before_start_is_raised_to_the_start() {
    let given = Span { end: WallTime::from_nanos(5), ..span(1, "shop") };
    assert_eq!(encode_span(&given).end_time_unix_nano, given.start.as_nanos());
}

fn decoded(payload: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(payload).unwrap()
}

#[test]
fn values_of_every_type_are_read_back_and_what_is_written_is_the_shortest_form() {
    let texts = |texts: &[&str]| Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    let values = [
        Value::from(""),
        Value::from("a"),
        Value::from("ä".repeat(100)),
        Value::from("x".repeat(100_000)),
        Value::from(0),
        Value::from(-1),
        Value::from(i64::MIN),
        Value::from(i64::MAX),
        Value::Float(0.0),
        Value::Float(-0.1),
        Value::Float(f64::INFINITY),
        Value::from(false),
        Value::from(true),
        texts(&[]),
        texts(&["", "a", &"b".repeat(200)]),
    ];
    let mut given = span(1, "shop");
    given.attributes = Attributes::default();
    for (index, value) in values.iter().enumerate() {
        given.attributes.set_named(&format!("value.{index}"), value.clone());
    }
    let read: Vec<Value> = encode_span(&given)
        .attributes
        .into_iter()
        .map(|attribute| match attribute.value.unwrap().value.unwrap() {
            Any::StringValue(text) => Value::from(text),
            Any::IntValue(number) => Value::Int(number),
            Any::DoubleValue(number) => Value::Float(number),
            Any::BoolValue(truth) => Value::Bool(truth),
            Any::ArrayValue(array) => Value::Texts(
                array
                    .values
                    .into_iter()
                    .map(|value| match value.value {
                        Some(Any::StringValue(text)) => text,
                        other => panic!("{other:?}"),
                    })
                    .collect(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(read, values);
    let mut batcher = Batcher::new(host(), usize::MAX);
    batcher.push(&given);
    let payload = batcher.take().unwrap().payload;
    assert_eq!(payload.len(), decoded(&payload).encoded_len());
}

/// Sizes of all requests for `spans` under `max_bytes`, and the spans that were discarded.
fn split(spans: &[Span], max_bytes: usize) -> (Vec<Request>, usize) {
    let mut batcher = Batcher::new(host(), max_bytes);
    let (mut requests, mut too_large) = (Vec::new(), 0);
    for span in spans {
        match batcher.push(span) {
            Pushed::Kept => {}
            Pushed::Full(request) => requests.push(request),
            Pushed::TooLarge => too_large += 1,
        }
    }
    requests.extend(batcher.take());
    assert!(batcher.take().is_none());
    (requests, too_large)
}

#[test]
fn requests_stay_within_the_limit_and_lose_nothing() {
    let services = ["shop", "crm", "mes"];
    let spans: Vec<Span> = (0..300_usize)
        .map(|index| {
            let mut span = span((index % 250) as u8, services[index % 3]);
            span.name = "x".repeat(index % 97);
            span
        })
        .collect();
    for max_bytes in [1500, 2000, 4096, 10_000, 1 << 20] {
        let (requests, too_large) = split(&spans, max_bytes);
        assert_eq!(too_large, 0, "limit {max_bytes}");
        for request in &requests {
            let len = request.payload.len();
            assert!(len <= max_bytes, "{len} over the limit {max_bytes}");
        }
        let counted: u32 = requests.iter().map(|request| request.span_count).sum();
        let requests: Vec<_> = requests.iter().map(|request| decoded(&request.payload)).collect();
        let groups = requests.iter().flat_map(|request| &request.resource_spans);
        let there: usize = groups.flat_map(|group| &group.scope_spans).map(|scope| scope.spans.len()).sum();
        assert_eq!((counted, there), (300, 300), "limit {max_bytes}");
    }
}

#[test]
fn span_larger_than_a_request_is_discarded_and_the_others_are_not() {
    let huge = Span { name: "x".repeat(5000), ..span(2, "crm") };
    let (requests, too_large) = split(&[span(1, "shop"), huge, span(3, "shop")], 3000);
    assert_eq!(too_large, 1);
    assert_eq!(requests.iter().map(|request| request.span_count).sum::<u32>(), 2);
    assert!(requests.iter().all(|request| request.payload.len() <= 3000));
}

#[test]
fn a_back_end_that_takes_less_gets_smaller_requests_and_costs_no_span() {
    let large = |id| Span { name: "x".repeat(2000), ..span(id, "shop") };
    let mut batcher = Batcher::new(host(), 10_000);
    batcher.lower_aim(1000);
    // Never back up.
    batcher.lower_aim(100_000);
    let mut requests = Vec::new();
    for given in [large(1), span(2, "shop"), span(3, "shop"), large(4), large(5), large(6)] {
        match batcher.push(&given) {
            Pushed::Kept => {}
            Pushed::Full(request) => requests.push(request),
            Pushed::TooLarge => panic!("a span is discarded that the configuration allows"),
        }
    }
    requests.extend(batcher.take());
    assert_eq!(requests.iter().map(|request| request.span_count).sum::<u32>(), 6);
    for request in &requests {
        assert!(request.payload.len() <= 1000 || request.span_count == 1, "{}", request.payload.len());
    }
    let huge = Span { name: "x".repeat(10_000), ..span(7, "shop") };
    assert!(matches!(batcher.push(&huge), Pushed::TooLarge));
}

#[test]
fn json_follows_the_otlp_mapping() {
    let mut given = span(0xab, "shop");
    given.attributes.set("spoor.list", Value::Texts(vec!["a".to_owned()]));
    let json = serde_json::to_value(request([&given], &host())).unwrap();
    let group = &json["resourceSpans"][0];
    let span = &group["scopeSpans"][0]["spans"][0];
    // Identifiers in hexadecimal, 64-bit numbers as text, enumerations as numbers, lowerCamelCase names.
    assert_eq!(span["traceId"], "07070707070707070707070707070707");
    assert_eq!(span["spanId"], "abababababababab");
    assert_eq!(span["startTimeUnixNano"], "1700000000000000000");
    assert_eq!(span["kind"], 2);
    assert_eq!(span["status"]["code"], 2);
    let attribute = |key: &str| {
        let attributes = span["attributes"].as_array().unwrap();
        attributes.iter().find(|attribute| attribute["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(attribute("http.response.status_code"), serde_json::json!({"intValue": "500"}));
    let list = serde_json::json!({"arrayValue": {"values": [{"stringValue": "a"}]}});
    assert_eq!(attribute("spoor.list"), list);
    assert_eq!(group["schemaUrl"], SCHEMA_URL);
}
