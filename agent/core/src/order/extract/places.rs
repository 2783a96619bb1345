//! Orders where ordinary systems put them: spellings, encodings, formats, and what is something else.

use super::tests::*;
use crate::charset::Charset;
use crate::operation::amqp::{Content, Properties};
use crate::operation::http::Exchange;
use crate::operation::{Detail, Kept};
use crate::order::rules::{AttributeRule, KeyRule, Places, Status, ValueKind, When};
use crate::order::{Call, Rules};

fn answered(method: &str, target: &str, status: u16, body: &str) -> Detail {
    http(Exchange { status: Some(status), response_body: kept(body), ..request(method, target, "") })
}

fn encoded(bytes: Vec<u8>) -> Kept {
    Kept { len: bytes.len() as u64, bytes, holed: false, left_out: 0 }
}

fn one(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

#[test]
fn a_weak_name_counts_where_its_context_makes_it_one() {
    let rules = defaults();
    for (status, body, expected) in [
        (200, r#"{"id": 17}"#, "order:17"),
        (201, r#"{"data": {"id": 17, "type": "order", "title": "Bracket"}}"#, "order:17"),
        (201, r#"{"id": 17, "error": null, "errors": [], "success": true}"#, "order:17"),
        (201, r#"{"id": 17, "type": "order", "title": "Bracket", "status": "404"}"#, ""),
        (202, r#"{"id": 17}"#, ""),
        (422, r#"{"id": 17}"#, ""),
        (500, r#"{"id": 500, "message": "x"}"#, ""),
        (200, r#"{"id": 17, "error": "no stock"}"#, ""),
        (200, r#"{"Errors": [{"code": 1}], "Id": 17}"#, ""),
        (200, r#"{"data": {"id": 17, "error": {"code": 1}}}"#, ""),
        (200, r#"{"id": 17, "success": false}"#, ""),
        (200, r#"{"jsonrpc": "2.0", "id": 1, "result": {"status": "new"}}"#, ""),
        (200, r#"{"jsonrpc": "2.0", "id": 2, "result": {"order_id": 861}}"#, "order:861"),
        (200, r#"{"type": "about:blank", "title": "Out of stock", "status": 409, "id": 17}"#, ""),
        // A strong name says itself what it is, in an error too.
        (422, r#"{"error": {"id": 5, "order_id": 17}}"#, "order:17"),
        (422, r#"{"order": {"id": 17}, "error": "x"}"#, "order:17"),
    ] {
        check(&rules, answered("POST", "/api/orders", status, body), expected);
    }
    let problem = Exchange {
        response_headers: headers([("content-type", "application/problem+json")]),
        response_body: kept(r#"{"id": 17}"#),
        ..request("POST", "/api/orders", "")
    };
    check(&rules, http(problem), "");
}

#[test]
fn rules_of_others_name_statuses_and_are_as_careful() {
    let rule = |places: Places, status: Vec<Status>| {
        let when = When { status, ..When::default() };
        custom(vec![KeyRule { places, when: Some(when), ..KeyRule::default() }], Vec::new())
    };
    let id = Places { json_paths: one("$.result.id"), fields: one("id"), ..Places::default() };
    let strict = rule(id.clone(), vec![Status::new("2xx"), Status::new("409")]);
    check(&strict, answered("POST", "/x", 200, r#"{"id": 17}"#), "order:17");
    check(&strict, answered("POST", "/x", 409, r#"{"id": 17}"#), "order:17");
    check(&strict, answered("POST", "/x", 404, r#"{"id": 17}"#), "");
    let usual = rule(id, Vec::new());
    check(&usual, answered("POST", "/x", 200, r#"{"id": 17}"#), "order:17");
    check(&usual, answered("POST", "/x", 404, r#"{"id": 17}"#), "");
    check(&usual, answered("POST", "/x", 200, r#"{"error": {"id": 17}}"#), "");
    check(
        &usual,
        answered("POST", "/x", 200, r#"{"jsonrpc": "2.0", "id": 1, "result": {"id": 17}}"#),
        "order:17",
    );
    check(&usual, http(request("POST", "/x", r#"{"jsonrpc": "2.0", "id": 1, "method": "m"}"#)), "");
}

#[test]
fn paths_and_dates() {
    let rules = defaults();
    for (target, expected) in [
        ("/api/Orders/1601", "order:1601"),
        ("/api/v1/Orders/1602/confirm", "order:1602"),
        ("/orders/1603;jsessionid=0A1B", "order:1603"),
        ("/orders//1605", "order:1605"),
        ("/orders/1606.json?x=1", "order:1606"),
        ("/odata/Orders(1613)/Lines", "order:1613"),
        ("/stat/orders/2025/12", ""),
        ("/orders/2025", "order:2025"),
    ] {
        check(&rules, http(request("GET", target, "")), expected);
    }
    let exact = crate::order::settings::Order { exact_paths: true, ..Default::default() };
    let exact = Rules::compile(&exact).expect("valid");
    check(&exact, http(request("GET", "/Orders/17", "")), "");
    check(&exact, http(request("GET", "/orders/17", "")), "order:17");
}

#[test]
fn what_a_request_created_may_stand_in_location_only() {
    let rules = defaults();
    let created = |method: &str, target: &str, status: u16, location: &str| {
        http(Exchange {
            status: Some(status),
            authority: "Shop.example:8080".to_owned(),
            request_headers: headers([("x-forwarded-host", "shop.example.com, proxy")]),
            response_headers: headers([("location", location)]),
            ..request(method, target, "")
        })
    };
    check(&rules, created("POST", "/orders", 201, "/orders/866"), "order:866");
    check(
        &rules,
        created("POST", "/checkout", 303, "https://shop.example:8443/api/orders/866?new=1"),
        "order:866",
    );
    check(&rules, created("PUT", "/carts/5", 201, "/Orders(866)"), "order:866");
    for own in [
        "//shop.example/orders/866",
        "https://shop.example.com/orders/866",
        "http://u:p@SHOP.example:1/orders/866",
    ] {
        check(&rules, created("POST", "/orders", 201, own), "order:866");
    }
    // Of a host that is somebody else's, so is the order.
    for foreign in [
        "https://partner.example/orders/866",
        "//partner.example/orders/866",
        "//orders/866",
        "http:///orders/866",
    ] {
        check(&rules, created("POST", "/orders", 201, foreign), "");
    }
    check(&rules, created("GET", "/orders/latest", 303, "/orders/866"), "");
    check(&rules, created("POST", "/orders", 302, "/orders/866"), "");
    check(&rules, created("POST", "/orders/5/copy", 201, "/orders/866"), "order:5");
    check(&rules, created("POST", "/orders", 201, "/carts/866"), "");
    check(&rules, created("POST", "/orders", 201, "866"), "");
    let route = rules.extract(&op(created("POST", "/orders", 201, "/orders/866"))).route;
    assert_eq!(route.as_deref(), Some("/orders"));
}

#[test]
fn statuses_and_numbers_in_any_script() {
    let rules = defaults();
    for (status, shown) in [
        ("Оплачен", "Оплачен"),
        ("В работе", "В работе"),
        ("in progress", "in progress"),
        (r"\u043e\u043f\u043b\u0430\u0447\u0435\u043d", "оплачен"),
    ] {
        let body = format!(r#"{{"order_id": 17, "status": "{status}", "order_number": "А-123"}}"#);
        let expected = format!("order:17 order.number=А-123 order.status={shown}");
        check(&rules, http(request("POST", "/x", &body)), &expected);
    }
    for refused in
        ["jane@example.org", "+7 916 123-45-67", "call me back on monday morning at nine please", "<script>"]
    {
        let body = format!(r#"{{"order_id": 17, "status": "{refused}"}}"#);
        check(&rules, http(request("POST", "/x", &body)), "order:17");
    }
}

fn cyrillic() -> Rules {
    let places = Places {
        fields: one("номер_заказа"),
        json_paths: one("$.Заказ.Номер"),
        query: one("номер"),
        headers: one("x-nomer"),
        amqp_headers: one("номер_заказа"),
        columns: one("Заказы.Номер"),
        ..Places::default()
    };
    let pattern = Some("А-#+".to_owned());
    custom(vec![KeyRule { kind: ValueKind::Pattern, pattern, places, ..KeyRule::default() }], Vec::new())
}

#[test]
fn names_outside_ascii_in_every_spelling() {
    let rules = cyrillic();
    for body in [
        r#"{"номер_заказа": "А-123"}"#,
        r#"{"номерЗаказа": "А-123"}"#,
        r#"{"Номер заказа": "А-123"}"#,
        r#"{"\u043d\u043e\u043c\u0435\u0440_\u0437\u0430\u043a\u0430\u0437\u0430": "\u0410-123"}"#,
        r#"{"ЗАКАЗ": {"номер": "А-123"}}"#,
    ] {
        check(&rules, http(request("POST", "/x", body)), "order:А-123");
    }
    check(&rules, http(request("GET", "/x?%D0%BD%D0%BE%D0%BC%D0%B5%D1%80=%D0%90-123", "")), "order:А-123");
    let content = Content {
        properties: Properties {
            headers: vec![("НомерЗаказа".to_owned(), crate::operation::amqp::Value::Text("А-5".into()))],
            ..Properties::default()
        },
        ..Content::default()
    };
    check(&rules, publish(content), "order:А-5");
    check(&rules, sql(statement("SELECT 1 FROM \"Заказы\" WHERE номер = 'А-7'", &[])), "order:А-7");
    // Names of ASCII may be written with escapes, too.
    check(&defaults(), http(request("POST", "/x", r#"{"\u006frder_id": 17}"#)), "order:17");
}

/// The text in an encoding that has it.
fn windows_1251(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| match c {
            'А'..='я' => (c as u32 - 'А' as u32 + 0xc0) as u8,
            '№' => 0xb9,
            c => c as u8,
        })
        .collect()
}

#[test]
fn bodies_are_read_in_the_encoding_that_they_declare() {
    let rules = cyrillic();
    let post = |content_type: &str, body: &str| {
        http(Exchange {
            request_headers: headers([("content-type", content_type)]),
            request_body: encoded(windows_1251(body)),
            ..request("POST", "/x", "")
        })
    };
    let json = r#"{"номер_заказа": "А-123"}"#;
    check(&rules, post("application/json; charset=windows-1251", json), "order:А-123");
    check(&rules, post("text/plain; charset=\"CP1251\"", json), "order:А-123");
    check(&rules, post("application/json", json), "");
    check(
        &rules,
        post("text/xml; charset=windows-1251", "<Заказ><Номер>А-123</Номер></Заказ>"),
        "order:А-123",
    );
    let declared = "<?xml version=\"1.0\" encoding=\"windows-1251\"?><Заказ Номер='А-123'/>";
    check(&rules, post("text/xml", declared), "order:А-123");
    let form = "application/x-www-form-urlencoded";
    check(&rules, post(&format!("{form}; charset=windows-1251"), "номер_заказа=А-123"), "order:А-123");
    check(&rules, post(form, "_charset_=windows-1251&номер_заказа=%C0-123"), "order:А-123");
    let part = "--b\r\nContent-Disposition: form-data; name=\"номер_заказа\"\r\n\r\nА-123\r\n--b--\r\n";
    check(&rules, post("multipart/form-data; boundary=b; charset=windows-1251", part), "order:А-123");
    let own =
        format!("--b\r\nContent-Disposition: form-data; name=\"_charset_\"\r\n\r\nwindows-1251\r\n{part}");
    check(&rules, post("multipart/form-data; boundary=b", &own), "order:А-123");
    // What the page is in is what its form is sent in.
    let page = Exchange {
        response_headers: headers([("content-type", "text/html; charset=windows-1251")]),
        ..request("GET", "/x?%ED%EE%EC%E5%F0=%C0-123", "")
    };
    check(&rules, http(page), "order:А-123");
    // A declaration that is wrong does not harm a text that is UTF-8.
    let latin = Exchange {
        request_headers: headers([("content-type", "application/json; charset=iso-8859-1")]),
        ..request("POST", "/x", json)
    };
    check(&rules, http(latin), "order:А-123");
    let wide: Vec<u8> =
        std::iter::once(0xfeff).chain(json.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let wide = Exchange { request_body: encoded(wide), ..request("POST", "/x", "") };
    check(&rules, http(wide), "order:А-123");
    assert_eq!(
        Charset::named(b"windows-1251")
            .map(|charset| charset.text(&windows_1251("№ Я")).into_owned())
            .as_deref(),
        Some("№ Я")
    );
}

#[test]
fn content_encoding_with_a_charset_in_it() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(br#"{"order_id": 1801}"#).expect("in memory");
    let body = encoded(gzip.finish().expect("in memory"));
    for coding in ["gzip:UTF-8", "gzip, UTF-8", "UTF-8:gzip", "gzip"] {
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            content_encoding: Some(coding.to_owned()),
            ..Properties::default()
        };
        let content = Content { properties, body: body.clone(), ..Content::default() };
        check(&defaults(), publish(content), "order:1801");
    }
}

#[test]
fn json_and_xml_whatever_their_label() {
    let rules = defaults();
    let post = |content_type: &str, body: &str| {
        let request_headers = headers([("content-type", content_type)]);
        http(Exchange { request_headers, ..request("POST", "/x", body) })
    };
    let json = r#"{"order_id": 1711, "order": {"status": "paid"}}"#;
    for label in
        ["text/html; charset=UTF-8", "text/javascript", "application/x-www-form-urlencoded", "image/png", ""]
    {
        check(&rules, post(label, json), "order:1711 order.status=paid");
    }
    check(
        &rules,
        post("application/xml", "<order id='17'><status>В работе</status></order>"),
        "order:17 order.status=В работе",
    );
    check(&rules, post("text/xml", "<a><OrderID>17</OrderID></a>"), "order:17");
    check(
        &rules,
        post("text/xml", "<a><b><order_id>17</order_id></b><b><order_id>18</order_id></b></a>"),
        "order:17 order:18",
    );
    check(&rules, post("text/html", "<html><order_id>17</order_id></html>"), "");
    check(&rules, post("text/xml", "<a><order_id>&xxe;</order_id></a>"), "");
}

fn called(detail: Detail) -> Option<Call> {
    defaults().extract(&op(detail)).call.map(|call| *call)
}

#[test]
fn calls_are_named_by_their_bodies() {
    let body = r#"{"jsonrpc": "2.0", "id": 7, "method": "model.sale.sale.confirm", "params": [[17], {}]}"#;
    let rpc = |error: Option<&str>| Call::JsonRpc {
        method: "model.sale.sale.confirm".to_owned(),
        version: Some("2.0".to_owned()),
        id: Some("7".to_owned()),
        error: error.map(str::to_owned),
    };
    assert_eq!(called(http(request("POST", "/x", body))), Some(rpc(None)));
    let failed = r#"{"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "x"}}"#;
    let failed = Exchange { response_body: kept(failed), ..request("POST", "/x", body) };
    assert_eq!(called(http(failed)), Some(rpc(Some("-32601"))));
    let old = called(http(request("POST", "/x", r#"{"method": "model.sale.read", "params": [], "id": 1}"#)));
    assert_eq!(old.as_ref().and_then(Call::name), Some("model.sale.read"));
    let odoo = r#"{"jsonrpc": "2.0", "method": "call", "params": {"model": "sale.order", "method": "action_confirm", "args": [[17]]}, "id": 1}"#;
    let odoo = called(http(request("POST", "/web/dataset/call_kw", odoo)));
    assert_eq!(odoo.as_ref().and_then(Call::name), Some("sale.order/action_confirm"));
    assert_eq!(called(http(request("POST", "/x", r#"{"method": "card", "amount": 5}"#))), None);
    assert_eq!(called(http(request("POST", "/x", r#"{"query": "shoes", "page": 1}"#))), None);
    let graphql =
        |kind, name: Option<&str>| Some(Call::GraphQl { kind, name: name.map(str::to_owned), shown: false });
    let query = format!("mutation Confirm($id: ID!) {{ confirm(id: $id) {{ id }} }} # {}", "x".repeat(2000));
    let body = serde_json::json!({"query": query, "variables": {"order_id": 17}, "operationName": "Confirm"});
    let body = body.to_string();
    assert_eq!(called(http(request("POST", "/graphql", &body))), graphql(Some("mutation"), Some("Confirm")));
    check(&defaults(), http(request("POST", "/graphql", &body)), "order:17");
    assert_eq!(
        called(http(request("GET", "/graphql?query=%7Borders%7Bid%7D%7D", ""))),
        graphql(Some("query"), None)
    );
    let persisted = r#"{"operationName": "Confirm", "extensions": {}, "query": null}"#;
    assert_eq!(called(http(request("POST", "/graphql", persisted))), graphql(None, Some("Confirm")));
    let soap = "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><m:Confirm/></s:Body></s:Envelope>";
    let with = |headers| Exchange { request_headers: headers, ..request("POST", "/x", soap) };
    let method = |exchange| called(http(exchange)).and_then(|call| call.name().map(str::to_owned));
    assert_eq!(
        method(with(headers([("content-type", "text/xml"), ("soapaction", "\"urn:shop#Pay\"")]))).as_deref(),
        Some("Pay")
    );
    let action = "application/soap+xml; action=\"http://shop.example/Ship\"";
    assert_eq!(method(with(headers([("content-type", action)]))).as_deref(), Some("Ship"));
    assert_eq!(method(with(headers([("content-type", "text/xml")]))).as_deref(), Some("Confirm"));
    let rpc = "<methodCall><methodName>model.sale.confirm</methodName><params/></methodCall>";
    assert_eq!(method(request("POST", "/x", rpc)), None, "JSON by its label");
    let rpc =
        Exchange { request_headers: headers([("content-type", "text/xml")]), ..request("POST", "/x", rpc) };
    assert_eq!(method(rpc).as_deref(), Some("model.sale.confirm"));
}

#[test]
fn the_number_of_a_call_is_no_order() {
    let rules = defaults();
    let answered = |asked: &str, answer: &str| {
        http(Exchange { response_body: kept(answer), ..request("POST", "/api/orders", asked) })
    };
    let old = r#"{"method": "model.sale.create", "params": [[{}], {}], "id": 5}"#;
    for (asked, answer, expected) in [
        // JSON-RPC 1.0: by the call, or by what its answers have.
        (old, r#"{"id": 5, "result": [866], "error": null}"#, ""),
        (old, r#"{"id": 5, "result": [866]}"#, ""),
        ("", r#"{"id": 5, "result": [866], "error": null}"#, ""),
        ("", r#"{"result": null, "error": {"code": 3}, "id": 5}"#, ""),
        ("", r#"{"result": [], "error": {}, "id": 5}"#, ""),
        (r#"{"jsonrpc": "2.0", "method": "create", "id": 5}"#, r#"{"id": 5, "result": 866}"#, ""),
        // Things, whose members have such names, too.
        ("", r#"{"id": 866, "result": "created"}"#, "order:866"),
        ("", r#"{"id": 866, "method": "card"}"#, "order:866"),
        (r#"{"method": "card", "amount": 5}"#, r#"{"id": 866}"#, "order:866"),
    ] {
        check(&rules, answered(asked, answer), expected);
    }
    let places = Places { fields: one("id"), ..Places::default() };
    let rules = custom(vec![KeyRule { places, ..KeyRule::default() }], Vec::new());
    check(&rules, http(request("POST", "/x", old)), "");
    check(&rules, answered(old, r#"{"id": 5, "result": {"id": 866}}"#), "order:866");
    // Batches of one.
    check(&rules, answered(r#"[{"jsonrpc": "2.0", "method": "a", "id": 5}]"#, ""), "");
    check(&rules, answered("", r#"[{"jsonrpc": "2.0", "id": 5, "result": 866}]"#), "");
    check(&rules, answered("", r#"[{"id": 5, "result": 866, "error": null}]"#), "");
    check(&rules, answered("", r#"[{"id": 866}]"#), "order:866");
    let message = |body: &str| publish(Content { body: kept(body), ..Content::default() });
    check(&rules, message(old), "");
    check(&rules, message(r#"{"result": null, "error": {"m": 1}, "id": 5}"#), "");
    check(&rules, message(r#"{"id": 5, "params": {}}"#), "order:5");
}

#[test]
fn a_value_counts_by_the_strongest_of_its_names() {
    let places = Places { fields: vec!["id".to_owned(), "order_id".to_owned()], ..Places::default() };
    let rules = custom(vec![KeyRule { places, ..KeyRule::default() }], Vec::new());
    for body in [
        r#"{"id": 17, "order_id": 17, "errors": ["late"]}"#,
        r#"{"order_id": 17, "id": 17, "errors": ["late"]}"#,
        r#"{"l": [{"id": 17}, {"order_id": 17}], "errors": ["late"]}"#,
    ] {
        check(&rules, http(request("POST", "/x", body)), "order:17");
    }
    check(&rules, http(request("POST", "/x", r#"{"id": 17, "errors": ["late"]}"#)), "");
}

#[test]
fn problems_with_many_members_are_problems() {
    let many = r#""type": "x", "#.repeat(256);
    let body = format!(r#"{{{many}"status": 422, "id": 5}}"#);
    let answer = Exchange { response_body: kept(&body), ..request("POST", "/api/orders", "") };
    check(&defaults(), http(answer), "");
}

#[test]
fn a_number_that_is_not_known_whole_is_no_key() {
    let post = |body: &str| {
        let request_headers = headers([("content-type", "text/xml")]);
        http(Exchange { request_headers, ..request("POST", "/x", body) })
    };
    check(&defaults(), post("<a><order_id>17<!-- -->&suffix;</order_id></a>"), "");
    check(&defaults(), post("<a><order_id>&prefix;<![CDATA[17]]></order_id></a>"), "");
    check(&defaults(), post("<a><order_id>17</order_id><b>&x;</b></a>"), "order:17");
    // A list whose rest cannot be read.
    check(&defaults(), post("<l><o><order_id>17</order_id></o><o><order_id>18</o></l>"), "");
}

#[test]
fn records_of_calls_are_keys_by_their_places() {
    let places = Places { json_paths: one("$.params[0][0]"), ..Places::default() };
    let when = When { call: Some("model.sale.sale.*".to_owned()), ..When::default() };
    let rules = custom(vec![KeyRule { places, when: Some(when), ..KeyRule::default() }], Vec::new());
    let json = |method: &str| format!(r#"{{"id": 1, "method": "{method}", "params": [[17, 18], {{}}]}}"#);
    check(&rules, http(request("POST", "/x", &json("model.sale.sale.confirm"))), "order:17");
    check(&rules, http(request("POST", "/x", &json("model.party.party.read"))), "");
    let xml = "<?xml version='1.0'?><methodCall><methodName>model.sale.sale.read</methodName><params><param><value>\
               <array><data><value><int>17</int></value></data></array></value></param></params></methodCall>";
    let xml =
        Exchange { request_headers: headers([("content-type", "text/xml")]), ..request("POST", "/x", xml) };
    check(&rules, http(xml), "order:17");
}

#[test]
fn names_of_object_stores_have_a_prefix() {
    let rules = defaults();
    let put = Exchange {
        request_headers: headers([("x-amz-meta-order-id", "17"), ("x-amz-meta-model", "18")]),
        ..request("PUT", "/models/part.stl", "")
    };
    check(&rules, http(put), "order:17");
    check(&rules, http(request("PUT", "/models/part.stl?x-amz-meta-order_id=17", "")), "order:17");
}

#[test]
fn values_of_sql_one_step_away() {
    let rules = defaults();
    for (text, parameters, expected) in [
        ("INSERT INTO outbox(payload) VALUES ('{\"order_id\":620}')", &[][..], "order:620"),
        (
            "INSERT INTO outbox VALUES (DEFAULT, $1::jsonb)",
            &["{\"order_id\": 621, \"status\": \"new\"}"],
            "order:621 order.status=new",
        ),
        ("INSERT INTO outbox(payload) VALUES ($1)", &["[{\"order_id\": 621}, {\"order_id\": 622}]"], ""),
        ("SELECT $1::text[]", &["{\"order_id\",\"17\"}"], ""),
        ("CALL confirm(order_id => 624)", &[], "order:624"),
        ("SELECT confirm(p_order_id := $1)", &["625"], "order:625"),
    ] {
        check(&rules, sql(statement(text, parameters)), expected);
    }
    let executed = crate::operation::postgres::Statement {
        executes: Some("UPDATE orders SET status = $2 WHERE id = $1".into()),
        ..statement("EXECUTE p(622, 'paid')", &["622", "paid"])
    };
    check(&rules, sql(executed), "order:622 order.status=paid");
    let row =
        with_rows("SELECT payload FROM outbox LIMIT 1", &["payload"], &[&["{\"order_id\": 17}"]], "SELECT 1");
    check(&rules, sql(row), "order:17");
    let attribute = AttributeRule {
        name: "order.status".to_owned(),
        places: Places { fields: one("state"), ..Places::default() },
        kind: ValueKind::Text,
        ..AttributeRule::default()
    };
    let no_columns = custom(Vec::new(), vec![attribute]);
    check(&no_columns, sql(statement("SELECT $1", &["{\"state\": \"new\"}"])), "order.status=new");
}
