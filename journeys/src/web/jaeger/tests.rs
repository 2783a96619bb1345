use std::sync::OnceLock;

use serde_json::{Value, json};

use super::*;
use crate::access::{Role, Wanted as InLog};
use crate::facts::{At, Fact, FactId, Person, PersonRole, Sent, Settled, Step, Trouble, TroubleKind};
use crate::testing::{fact, wrote};
use crate::time::SECOND;
use crate::web::tests::{House, house, house_with};

/// Seconds since 1970 at which the trace of order 4711 begins.
fn began() -> i64 {
    // Once: a test that is slow would be another second.
    static BEGAN: OnceLock<i64> = OnceLock::new();
    *BEGAN.get_or_init(|| now().0 / SECOND - 3_600)
}

const TRACE: &str = "07070707070707070707070707070707";

fn span_id(id: u64) -> String {
    format!("{id:016x}")
}

/// Order 4711: the shop is asked, writes, publishes; the MES takes the message and its database refuses. Order 12 is in another
/// trace.
fn with_traces(house: House) -> House {
    let at = began();
    let of = |fact: Fact, trace: u8, parent: u64, name: &str| Fact {
        id: FactId { trace: [trace; 16], ..fact.id },
        parent: (parent > 0).then(|| parent.to_be_bytes()),
        name: name.to_owned(),
        ..fact
    };
    let served = Fact {
        to: At((at + 1) * SECOND + 500_000),
        people: vec![Person { role: PersonRole::User, id: "user-42".to_owned() }],
        ..fact("4711", 1, at, "shop", Step::Served { answer: Some(201), changes: true })
    };
    let sent = Step::Published { destination: "orders".to_owned(), outcome: Sent::Confirmed };
    let taken = Step::Handled { queue: "orders".to_owned(), settled: Settled::Rejected, redelivered: true };
    let refused =
        Trouble { kind: TroubleKind::Sql, code: "23514".to_owned(), message: "too much".to_owned() };
    let facts = vec![
        of(served, 7, 0, "POST /orders"),
        of(wrote("4711", 2, at, "shop", "orders", "created"), 7, 1, "INSERT orders"),
        of(fact("4711", 3, at, "shop", sent), 7, 1, "publish orders"),
        Fact {
            joined: Some(("thread".to_owned(), 95)),
            ..of(fact("4711", 4, at + 1, "mes", taken), 7, 3, "process orders")
        },
        Fact {
            trouble: Some(refused),
            ..of(wrote("4711", 5, at + 1, "mes", "plans", "new"), 7, 4, "INSERT plans")
        },
        // Its parent belongs to no order, and is not kept.
        of(
            fact("12", 6, at + 60, "crm", Step::Served { answer: Some(200), changes: false }),
            8,
            99,
            "GET /orders/{id}",
        ),
    ];
    house.store.ingest(facts, now()).expect("kept");
    house
}

/// What somebody gets, as JSON.
async fn got(house: &House, path: &str, role: Role) -> (u16, Value) {
    let answer = house.get(path, Some(&house.token(role))).await;
    assert_eq!(answer.header("content-type"), "application/json", "{path}: {}", answer.text);
    (answer.status, serde_json::from_str(&answer.text).expect("JSON"))
}

async fn told(house: &House, path: &str) -> Value {
    let (status, body) = got(house, path, Role::Developer).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[tokio::test]
async fn grafana_finds_services_operations_traces_and_dependencies() {
    let house = with_traces(house());
    let (from, to) = (began() * SECOND - SECOND, (began() + 100) * SECOND);
    let services = told(&house, "/jaeger/api/services").await;
    assert_eq!(
        services,
        json!({ "data": ["crm", "mes", "shop"], "total": 3, "limit": 0, "offset": 0, "errors": null })
    );
    let names = told(&house, "/jaeger/api/services/shop/operations").await;
    assert_eq!(names["data"], json!(["INSERT orders", "POST /orders", "publish orders"]));
    assert_eq!(told(&house, "/jaeger/api/services/nobody/operations").await["data"], json!([]));
    // A search with everything filled in, as `url.Values.Encode` writes it.
    let search = format!(
        "/jaeger/api/traces?end={to}&limit=20&maxDuration=5s&minDuration=1s&operation=POST+%2Forders&service=shop\
         &start={from}&tags=%7B%22order.id%22%3A%224711%22%7D"
    );
    let found = told(&house, &search).await;
    assert_eq!(found["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["data"][0]["traceID"], TRACE);
    assert_eq!(
        found["data"][0]["spans"].as_array().map(Vec::len),
        Some(5),
        "the whole trace, not what was looked for"
    );
    // One that needs no service, newest first.
    let found = told(&house, &format!("/jaeger/api/traces?start={from}&end={to}&limit=20")).await;
    let ids: Vec<&str> = found["data"]
        .as_array()
        .expect("traces")
        .iter()
        .filter_map(|trace| trace["traceID"].as_str())
        .collect();
    assert_eq!(ids, ["08080808080808080808080808080808", TRACE]);
    for (asked, expected) in [
        ("service=shop", 1),
        ("service=nobody", 0),
        ("tags=%7B%22error%22%3A%22true%22%7D", 1),
        ("service=shop&tags=%7B%22error%22%3A%22true%22%7D", 0),
        ("tag=db.response.status_code:23514", 1),
        ("tag=span.kind:server", 2),
        ("tag=order.status:created", 1),
        ("tag=http.response.status_code:201", 1),
        ("tag=service.instance.id:mes-1", 1),
        ("tag=order.id:4712", 0),
        ("minDuration=2s", 0),
        ("maxDuration=2s&limit=1", 1),
    ] {
        let found = told(&house, &format!("/jaeger/api/traces?start={from}&end={to}&{asked}")).await;
        assert_eq!(found["data"].as_array().map(Vec::len), Some(expected), "{asked}");
    }
    let before = told(&house, &format!("/jaeger/api/traces?start={}&end={from}", from - SECOND)).await;
    assert_eq!(before["data"], json!([]), "nothing began then");
    let by_id = told(&house, &format!("/jaeger/api/traces?traceID={TRACE}&traceID=ff")).await;
    assert_eq!(by_id["data"].as_array().map(Vec::len), Some(1));
    // `QueryTypeDependencyGraph`: milliseconds.
    let path = format!("/jaeger/api/dependencies?endTs={}&lookback=200000", to / 1_000);
    let links = told(&house, &path).await;
    assert_eq!(links["data"], json!([{ "parent": "shop", "child": "mes", "callCount": 1 }]));
    assert_eq!(links["errors"], Value::Null);
    assert_eq!(told(&house, "/jaeger/api/dependencies?endTs=1000").await["data"], json!([]));
}

#[tokio::test]
async fn a_trace_has_all_that_grafana_and_jaegers_page_read() {
    let house = with_traces(house());
    let at = began() * SECOND;
    let body = told(&house, &format!("/jaeger/api/traces/{TRACE}")).await;
    let trace = &body["data"][0];
    assert_eq!(
        (&trace["traceID"], &trace["warnings"], &body["errors"]),
        (&json!(TRACE), &Value::Null, &Value::Null)
    );
    let instance = |name: &str| json!([{ "key": "service.instance.id", "type": "string", "value": name }]);
    assert_eq!(
        trace["processes"],
        json!({
            "p1": { "serviceName": "shop", "tags": instance("shop-1") },
            "p2": { "serviceName": "mes", "tags": instance("mes-1") },
        })
    );
    let text = |key: &str, value: &str| json!({ "key": key, "type": "string", "value": value });
    let spans = trace["spans"].as_array().expect("spans");
    let of = |id: u64| spans.iter().find(|span| span["spanID"] == span_id(id)).expect("a span");
    assert_eq!(
        of(1),
        &json!({
            "traceID": TRACE,
            "spanID": span_id(1),
            "flags": 1,
            "operationName": "POST /orders",
            "references": [],
            "startTime": at,
            "duration": 1_500_000,
            "tags": [
                text("order.id", "4711"),
                { "key": "http.response.status_code", "type": "int64", "value": 201 },
                text("span.kind", "server"),
            ],
            "logs": [],
            "processID": "p1",
            "warnings": null,
        })
    );
    let parent = |id: u64| json!([{ "refType": "CHILD_OF", "traceID": TRACE, "spanID": span_id(id) }]);
    assert_eq!((&of(5)["references"], &of(5)["processID"]), (&parent(4), &json!("p2")));
    assert_eq!(
        of(5)["tags"],
        json!([
            text("order.id", "4711"),
            text("order.status", "new"),
            text("db.collection.name", "plans"),
            text("db.response.status_code", "23514"),
            text("span.kind", "client"),
            { "key": "error", "type": "bool", "value": true },
            text("otel.status_code", "ERROR"),
            text("otel.status_description", "too much"),
        ])
    );
    assert_eq!(
        of(4)["tags"],
        json!([
            text("order.id", "4711"),
            text("messaging.destination.name", "orders"),
            text("spoor.messaging.settlement", "reject"),
            { "key": "spoor.messaging.requeue", "type": "bool", "value": false },
            { "key": "spoor.messaging.redelivered", "type": "bool", "value": true },
            text("spoor.parent.rule", "thread"),
            { "key": "spoor.parent.confidence", "type": "float64", "value": 0.95 },
            text("span.kind", "consumer"),
        ])
    );
    // Jaeger's page asks for traces of old links with fewer digits; a time beside the ID hides nothing.
    let short = TRACE.trim_start_matches('0');
    let again = told(&house, &format!("/jaeger/api/traces/{short}?start=1&end=2&prettyPrint=true")).await;
    assert_eq!(again, body);
}

#[tokio::test]
async fn jaegers_page_finds_services_operations_and_summaries() {
    let house = with_traces(house());
    assert_eq!(told(&house, "/jaeger/api/v3/services").await, json!({ "services": ["crm", "mes", "shop"] }));
    let names = told(&house, "/jaeger/api/v3/operations?service=mes").await;
    let name = |name: &str, kind: &str| json!({ "name": name, "spanKind": kind });
    assert_eq!(
        names,
        json!({ "operations": [name("INSERT plans", "client"), name("process orders", "consumer")] })
    );
    let names = told(&house, "/jaeger/api/v3/operations?service=mes&spanKind=consumer").await;
    assert_eq!(names["operations"], json!([name("process orders", "consumer")]));
    // Its services page asks v1 for those of servers.
    let names = told(&house, "/jaeger/api/operations?service=shop&spanKind=server").await;
    assert_eq!((&names["data"], &names["total"]), (&json!([name("POST /orders", "server")]), &json!(1)));
    let times =
        "query.startTimeMin=2020-01-01T00%3A00%3A00.000Z&query.startTimeMax=2100-01-01T00%3A00%3A00.000Z";
    let path = format!("/jaeger/api/v3/trace-summaries?query.serviceName=shop&{times}&query.searchDepth=20");
    let at = began() * SECOND;
    assert_eq!(
        told(&house, &path).await,
        json!({ "summaries": [{
            "traceId": TRACE,
            "rootServiceName": "shop",
            "rootOperationName": "POST /orders",
            "minStartTimeUnixNano": format!("{at}000"),
            "maxEndTimeUnixNano": format!("{}000", at + 1_500_000),
            "spanCount": 5,
            "errorSpanCount": 1,
            "orphanSpanCount": 0,
            "services": [
                { "name": "mes", "spanCount": 2, "errorSpanCount": 1 },
                { "name": "shop", "spanCount": 3, "errorSpanCount": 0 },
            ],
        }] })
    );
    let all = told(&house, &format!("/jaeger/api/v3/trace-summaries?{times}")).await;
    assert_eq!(all["summaries"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["summaries"][0]["orphanSpanCount"], 1, "its parent is not kept");
    let none =
        told(&house, &format!("/jaeger/api/v3/trace-summaries?query.serviceName=nobody&{times}")).await;
    assert_eq!(none, json!({ "summaries": [] }));
    let range = "startTime=2020-01-01T00:00:00Z&endTime=2100-01-01T00:00:00Z";
    let links = told(&house, &format!("/jaeger/api/v3/dependencies?{range}")).await;
    assert_eq!(links, json!({ "dependencies": [{ "parent": "shop", "child": "mes", "callCount": "1" }] }));
}

#[tokio::test]
async fn a_trace_of_v3_is_otlp_that_every_version_of_grafana_reads() {
    let house = with_traces(house());
    let body = told(&house, &format!("/jaeger/api/v3/traces/{TRACE}")).await;
    let resources = body["result"]["resourceSpans"].as_array().expect("resources");
    assert_eq!(resources.len(), 2);
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    assert_eq!(
        resources[0]["resource"]["attributes"],
        json!([text("service.name", "shop"), text("service.instance.id", "shop-1")])
    );
    let at = began() * SECOND;
    assert_eq!(
        resources[0]["scopeSpans"][0]["spans"][0],
        json!({
            "traceId": TRACE,
            "spanId": span_id(1),
            "name": "POST /orders",
            "kind": 2,
            "startTimeUnixNano": format!("{at}000"),
            "endTimeUnixNano": format!("{}000", at + 1_500_000),
            "attributes": [
                text("order.id", "4711"),
                { "key": "http.response.status_code", "value": { "intValue": "201" } },
            ],
            "status": {},
        })
    );
    let failed = &resources[1]["scopeSpans"][0]["spans"][1];
    assert_eq!(failed["status"], json!({ "code": 2, "message": "too much" }));
    assert_eq!(failed["parentSpanId"], span_id(4));
    let whole = body.to_string();
    assert!(!whole.contains("boolValue") && !whole.contains("doubleValue"), "{whole}");
    let times = "query.start_time_min=2020-01-01T03:00:00+03:00&query.start_time_max=2100-01-01T00:00:00Z";
    let found = told(&house, &format!("/jaeger/api/v3/traces?query.service_name=mes&{times}")).await;
    assert_eq!(found, body, "a search gives the same");
    let (status, body) =
        got(&house, &format!("/jaeger/api/v3/traces?query.service_name=x&{times}"), Role::Developer).await;
    assert_eq!((status, body), (404, json!({ "error": { "httpCode": 404, "message": "No traces found" } })));
}

#[tokio::test]
async fn what_is_not_there_or_wrong_is_said_as_jaeger_says_it() {
    let house = with_traces(house());
    for (path, status, said) in [
        ("/traces/ff", 404, "trace not found"),
        ("/traces/xyz", 400, "malformed parameter traceID"),
        ("/traces?traceID=xyz", 400, "malformed parameter traceID"),
        ("/traces?start=x", 400, "malformed parameter start"),
        ("/traces?minDuration=2s&maxDuration=1s", 400, "'maxDuration' should be greater"),
        ("/operations", 400, "'service' is required"),
        ("/dependencies?endTs=x", 400, "malformed parameter endTs"),
    ] {
        let (found, body) = got(&house, &format!("/jaeger/api{path}"), Role::Developer).await;
        assert_eq!(
            (found, &body["errors"][0]["code"], &body["data"]),
            (status, &json!(status), &Value::Null),
            "{path}"
        );
        assert!(body["errors"][0]["msg"].as_str().is_some_and(|text| text.contains(said)), "{path}: {body}");
    }
    for (path, status, said) in [
        ("/traces/ff", 404, "trace not found"),
        ("/traces/0", 400, "malformed parameter traceID"),
        ("/traces", 400, "query.startTimeMin and query.startTimeMax are required"),
        ("/trace-summaries?query.startTimeMin=1", 400, "malformed parameter query.startTimeMin"),
        ("/operations", 400, "service"),
        ("/dependencies", 400, "startTime and endTime are required"),
    ] {
        let (found, body) = got(&house, &format!("/jaeger/api/v3{path}"), Role::Developer).await;
        assert_eq!((found, &body["error"]["httpCode"]), (status, &json!(status)), "{path}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains(said)), "{path}: {body}");
    }
}

#[tokio::test]
async fn nobody_finds_by_a_search_whom_they_may_not_see() {
    let house = with_traces(house());
    let (path, trace) = ("/jaeger/api/traces?tag=user.id:user-42", format!("/jaeger/api/traces/{TRACE}"));
    assert_eq!(told(&house, path).await["data"], json!([]));
    assert!(!told(&house, &trace).await.to_string().contains("user-42"));
    let (_, found) = got(&house, path, Role::Admin).await;
    assert_eq!(found["data"].as_array().map(Vec::len), Some(1));
    assert!(got(&house, &trace, Role::Admin).await.1.to_string().contains("user-42"));
}

#[tokio::test]
async fn every_read_is_in_the_log_with_the_orders_that_it_shows() {
    let house = with_traces(house());
    let times = "query.startTimeMin=2020-01-01T00:00:00Z&query.startTimeMax=2100-01-01T00:00:00Z";
    for path in [
        format!("/jaeger/api/traces/{TRACE}"),
        "/jaeger/api/traces?service=shop".to_owned(),
        format!("/jaeger/api/v3/traces/{TRACE}"),
        format!("/jaeger/api/v3/traces?query.serviceName=shop&{times}"),
        format!("/jaeger/api/v3/trace-summaries?query.serviceName=shop&{times}"),
    ] {
        let before = (house.saw("4711").len(), house.saw("12").len());
        told(&house, &path).await;
        assert_eq!((house.saw("4711").len(), house.saw("12").len()), (before.0 + 1, before.1), "{path}");
    }
    let before = house.saw("4711").len();
    house.get("/jaeger/search?order=4711", Some(&house.token(Role::Developer))).await;
    assert_eq!(house.saw("4711").len(), before + 1);
    got(&house, "/jaeger/api/traces/ff", Role::Developer).await;
    let last = InLog { limit: 1, ..InLog::default() };
    let (_, entry) = house.log().find(&last).expect("the log").remove(0);
    assert_eq!(
        (entry.action.as_str(), entry.query.as_str(), entry.result, entry.orders.len()),
        ("jaeger.read", "/jaeger/api/traces/ff", 404, 0),
        "a trace of no order is named itself"
    );
}

#[tokio::test]
async fn an_order_leads_to_its_trace_and_its_page_to_the_outside_jaeger() {
    let link: TraceLink = "https://traces.example/trace/{trace}".parse().expect("a link");
    let outside = format!("https://traces.example/trace/{TRACE}");
    let house = with_traces(house_with(Some(link)));
    let token = house.token(Role::Developer);
    let answer = house.get("/jaeger/search?order=4711", Some(&token)).await;
    assert_eq!((answer.status, answer.header("location")), (303, outside.as_str()));
    let page = house.get("/orders/4711/trace", Some(&token)).await.text;
    assert!(page.contains(&format!("<a href=\"{outside}\" rel=\"noreferrer\">Open in Jaeger</a>")), "{page}");
    assert_eq!(house.get("/jaeger/search?order=9999", Some(&token)).await.status, 404);
    // Without one, the technical details are here.
    let house = with_traces(super::super::tests::house());
    let token = house.token(Role::Developer);
    let answer = house.get("/jaeger/search?order=4711", Some(&token)).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/orders/4711/trace"));
    assert!(!house.get("/orders/4711/trace", Some(&token)).await.text.contains("Open in Jaeger"));
}

#[tokio::test]
async fn what_is_not_over_says_so() {
    let house = house();
    let work = crate::facts::Work::Call { peer: "delivery.example".to_owned() };
    let open = Fact { name: "POST".to_owned(), ..fact("1", 1, began(), "crm", Step::Open { work }) };
    house.store.ingest(vec![open], now()).expect("kept");
    let trace = "01".repeat(16);
    let body = told(&house, &format!("/jaeger/api/traces/{trace}")).await;
    let span = &body["data"][0]["spans"][0];
    assert_eq!(span["warnings"], json!(["this operation was not over when it was last told of"]));
    assert!(span["tags"].to_string().contains("delivery.example"), "{span}");
    let body = told(&house, &format!("/jaeger/api/v3/traces/{trace}")).await;
    assert!(body.to_string().contains("spoor.open"), "{body}");
}

#[test]
fn an_answer_ends_where_its_room_does_and_says_how_much_is_missing() {
    let facts: Vec<Fact> = (1..=10).map(|id| fact("1", id, id as i64, "shop", Step::Other)).collect();
    let trace = Trace { facts, truncated: false, all_indexed: true };
    let whole = v1::json_trace(&[1; 16], &trace, false, &mut Room::whole());
    assert_eq!(whole["spans"].as_array().map(Vec::len), Some(10));
    let one = whole["spans"][0].to_string().len();
    let mut room = Room(one * 3 + one / 2);
    let part = v1::json_trace(&[1; 16], &trace, false, &mut room);
    assert_eq!(part["spans"].as_array().map(Vec::len), Some(3));
    assert_eq!(part["warnings"], json!(["7 spans are not in this answer, which would be too large"]));
    assert_eq!(room.0, 0, "no further trace has room");
}

#[tokio::test]
async fn a_search_whose_time_is_over_never_says_that_there_is_nothing() {
    let house = with_traces(house());
    let wanted = Wanted { to: now(), limit: 20, ..Wanted::default() };
    let over = Deadline::over();
    let ids = |deadline, most| {
        search::traces(&*house.store, &wanted, false, (now(), deadline), most, |id, _| id).expect("an answer")
    };
    let found = ids(over, 100);
    assert!(found.what.is_empty() && !found.all, "the refusal is made of that: {found:?}");
    let found = search::dependencies(&*house.store, (At(0), now()), over).expect("an answer");
    assert!(found.what.is_empty() && !found.all);
    let found = ids(Deadline::from_now(), 100);
    assert!(found.what.len() == 2 && found.all);
    let found = ids(Deadline::from_now(), 1);
    assert!(found.what.len() == 1 && !found.all, "no more is held at a time: {found:?}");
}

#[test]
fn the_data_source_for_grafana_points_here() {
    let text = include_str!("../../../../deploy/journeys/grafana.datasource.yaml");
    let file: Value = serde_saphyr::from_str(text).expect("YAML");
    let source = &file["datasources"][0];
    assert_eq!(source["type"], "jaeger");
    // Grafana adds `/api/…`.
    assert!(source["url"].as_str().is_some_and(|url| url.ends_with("/jaeger")), "{source}");
    assert_eq!(source["jsonData"]["httpHeaderName1"], "Authorization");
    assert!(
        source["secureJsonData"]["httpHeaderValue1"]
            .as_str()
            .is_some_and(|value| value.starts_with("Bearer "))
    );
}
