use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use tower::ServiceExt;

use super::*;
use crate::access::{AccessLog, Addresses, Directory, ProxySignOn, Role, Wanted};
use crate::facts::{Fact, Key, Person, PersonRole, Sent, Settled, Step, Trouble, TroubleKind};
use crate::intake::now;
use crate::rules::RuleSet;
use crate::sentence::Language;
use crate::store::seal::Master;
use crate::store::sqlite::Sqlite;
use crate::testing::{fact, wrote};
use crate::time::SECOND;

const PROXY_SECRET: &str = "a secret of the proxy and the server";

/// A server in memory with its folder.
pub(super) struct House {
    received: Arc<crate::intake::Counts>,
    /// Streams end when it says so, or is gone.
    stop: tokio::sync::watch::Sender<bool>,
    _folder: tempfile::TempDir,
    gate: Gate,
    router: Router,
    pub(super) store: Arc<Sqlite>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: axum::http::HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

pub(super) fn house() -> House {
    house_with(None)
}

/// Where traces are shown elsewhere as well.
pub(super) fn house_with(link: Option<TraceLink>) -> House {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::generate().expect("a key");
    let log = AccessLog::open(&folder.path().join("access"), master.derive("log")).expect("a log");
    let directory = Directory::open(&folder.path().join("access.db")).expect("a directory");
    let proxies = vec!["10.0.0.1/32".parse().expect("a net")];
    let roles = vec![("it".to_owned(), Role::Developer), ("support".to_owned(), Role::Support)];
    let proxy = ProxySignOn::new(PROXY_SECRET, roles, [7; 32]).expect("a sign-on");
    let gate = Gate::new(directory, log, Addresses::new(Vec::new(), proxies), false, Some(proxy), None);
    let store = Arc::new(Sqlite::open(folder.path(), master, Model::default()).expect("a store"));
    store.watch(RuleSet::built_in(&Model::default()).expect("rules"), crate::time::At(0)).expect("watched");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let received = Arc::<crate::intake::Counts>::default();
    let site = Site {
        store: store.clone(),
        alerts: store.clone(),
        channels: Arc::default(),
        trying: Arc::new(tokio::sync::Semaphore::new(1)),
        model: Arc::new(Model::default()),
        zone: TimeZone::UTC,
        language: Language::En,
        live: Live::new(stopped),
        jaeger: Jaeger::new(link),
        received: received.clone(),
        forwarded: Some(Arc::new(crate::forward::Counts { dropped: 17.into(), ..Default::default() })),
    };
    House { received, stop, _folder: folder, router: router(site, gate.clone()), gate, store }
}

impl House {
    /// Order 4711, refused by a failure in the MES.
    pub(super) fn with_order(self) -> Self {
        let at = now().0 / SECOND - 3_600;
        let created = Fact {
            people: vec![Person { role: PersonRole::User, id: "user-42".to_owned() }],
            ..wrote("4711", 1, at, "shop", "orders", "created")
        };
        let broken =
            Trouble { kind: TroubleKind::Sql, code: "23514".to_owned(), message: "too much".to_owned() };
        let failed = Fact { trouble: Some(broken), ..wrote("4711", 2, at + 1, "mes", "production", "x") };
        let refused = wrote("4711", 3, at + 2, "shop", "orders", "failed");
        self.store.ingest(vec![created, failed, refused], now()).expect("kept");
        self
    }

    pub(super) fn token(&self, role: Role) -> String {
        let name = format!("{role}-1");
        self.gate.directory().new_token(&name, role, 1, now()).expect("a token")
    }

    async fn ask(&self, mut request: Request<Body>, from: &str) -> Answer {
        let from: SocketAddr = from.parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(from));
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    pub(super) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let request = Request::get(path).header("host", "spoor.example");
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        self.ask(request.body(Body::empty()).expect("a request"), "127.0.0.1:50000").await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
        let request = Request::post(path)
            .header("host", "spoor.example")
            .header("content-type", "application/x-www-form-urlencoded");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.ask(request.body(Body::from(form.to_owned())).expect("a request"), "127.0.0.1:50000").await
    }

    /// Invites, accepts, and so signs in: the cookie.
    async fn signed_in(&self, name: &str, role: Role) -> String {
        let code = self.gate.directory().invite(name, role, now()).expect("invited");
        let form = format!("code={code}&password=a+long+password&again=a+long+password");
        let answer = self.post("/invite", &[], &form).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        let cookie = answer.header("set-cookie").split(';').next().unwrap_or("").to_owned();
        assert!(cookie.starts_with("spoor="), "{cookie}");
        cookie
    }

    pub(super) fn log(&self) -> &crate::access::LogReader {
        self.gate.log().reader()
    }

    /// Who saw an order, by the log.
    pub(super) fn saw(&self, order: &str) -> Vec<String> {
        let wanted = Wanted { order: Some(order.to_owned()), who: None, limit: 100 };
        self.gate
            .log()
            .reader()
            .find(&wanted)
            .expect("the log")
            .into_iter()
            .map(|(_, entry)| entry.who)
            .collect()
    }
}

/// Path, and the roles that get an answer.
const ROUTES: &[(&str, &[Role])] = &[
    ("/", &[Role::Support, Role::Developer, Role::Admin]),
    ("/search?q=4711", &[Role::Support, Role::Developer, Role::Admin]),
    ("/orders", &[Role::Support, Role::Developer, Role::Admin]),
    ("/stuck", &[Role::Support, Role::Developer, Role::Admin]),
    ("/orders/4711", &[Role::Support, Role::Developer, Role::Admin]),
    ("/orders/4711/trace", &[Role::Developer, Role::Admin]),
    ("/access", &[Role::Auditor, Role::Admin]),
    ("/api/v1/orders", &[Role::Support, Role::Developer, Role::Admin]),
    ("/api/v1/orders/4711", &[Role::Support, Role::Developer, Role::Admin]),
    ("/api/v1/orders/4711/facts", &[Role::Developer, Role::Admin]),
    ("/map", &[Role::Support, Role::Developer, Role::Admin]),
    ("/queues", &[Role::Support, Role::Developer, Role::Admin]),
    ("/coverage", &[Role::Support, Role::Developer, Role::Admin]),
    ("/orders/4711/compare", &[Role::Support, Role::Developer, Role::Admin]),
    ("/services", &[Role::Support, Role::Developer, Role::Admin]),
    ("/api/v1/usual", &[Role::Support, Role::Developer, Role::Admin]),
    ("/api/v1/stuck", &[Role::Support, Role::Developer, Role::Admin]),
    ("/api/v1/counts", &[Role::Support, Role::Developer, Role::Admin]),
    ("/alerts", &[Role::Support, Role::Developer, Role::Admin]),
    ("/alerts/1", &[Role::Support, Role::Developer, Role::Admin]),
    ("/rules", &[Role::Support, Role::Developer, Role::Admin]),
    ("/rules/order-failed", &[Role::Support, Role::Developer, Role::Admin]),
    ("/rules/order-failed/try", &[Role::Developer, Role::Admin]),
    ("/api/v1/alerts", &[Role::Support, Role::Developer, Role::Admin]),
    ("/jaeger/api/services", &[Role::Developer, Role::Admin]),
    ("/jaeger/api/services/shop/operations", &[Role::Developer, Role::Admin]),
    ("/jaeger/api/operations?service=shop", &[Role::Developer, Role::Admin]),
    ("/jaeger/api/traces?service=shop", &[Role::Developer, Role::Admin]),
    ("/jaeger/api/traces/01010101010101010101010101010101", &[Role::Developer, Role::Admin]),
    ("/jaeger/api/dependencies", &[Role::Developer, Role::Admin]),
    ("/jaeger/api/v3/services", &[Role::Developer, Role::Admin]),
    ("/jaeger/api/v3/operations?service=shop", &[Role::Developer, Role::Admin]),
    (
        "/jaeger/api/v3/traces?query.startTimeMin=2020-01-01T00:00:00Z&query.startTimeMax=2100-01-01T00:00:00Z",
        &[Role::Developer, Role::Admin],
    ),
    ("/jaeger/api/v3/traces/01010101010101010101010101010101", &[Role::Developer, Role::Admin]),
    (
        "/jaeger/api/v3/trace-summaries?query.startTimeMin=2020-01-01T00:00:00Z&query.startTimeMax=2100-01-01T00:00:00Z",
        &[Role::Developer, Role::Admin],
    ),
    (
        "/jaeger/api/v3/dependencies?startTime=2020-01-01T00:00:00Z&endTime=2100-01-01T00:00:00Z",
        &[Role::Developer, Role::Admin],
    ),
    ("/jaeger/search?order=4711", &[Role::Developer, Role::Admin]),
];

/// Streams, which would not end: the roles that may watch.
const STREAMS: &[&str] = &["/events", "/orders/4711/events"];

#[tokio::test]
async fn streams_are_for_those_who_may_see_orders() {
    let house = house().with_order();
    house.stop.send_replace(true);
    for path in STREAMS {
        for role in Role::ALL {
            let answer = house.get(path, Some(&house.token(role))).await;
            let expected = if role == Role::Auditor { 403 } else { 200 };
            assert_eq!(answer.status, expected, "{path} for {role}");
        }
        assert_eq!(house.get(path, None).await.status, 303, "{path} for nobody");
    }
}

#[tokio::test]
async fn each_route_answers_the_roles_it_is_for_and_nobody_else() {
    let house = house().with_order();
    for (path, allowed) in ROUTES {
        for role in Role::ALL {
            let answer = house.get(path, Some(&house.token(role))).await;
            let good = matches!(answer.status, 200 | 303);
            assert_eq!(good, allowed.contains(&role), "{path} for {role}: {}", answer.status);
            assert!(good || answer.status == 403, "{path} for {role}: {}", answer.status);
            assert!(good || !answer.text.contains("4711"), "{path} for {role} tells something");
        }
        for token in [None, Some("spoor_forged"), Some("")] {
            let answer = house.get(path, token).await;
            let is_api = path.starts_with("/api/") || path.starts_with("/jaeger/api/");
            let expected = if is_api { 401 } else { 303 };
            assert_eq!(answer.status, expected, "{path} for nobody");
            assert!(answer.text.is_empty());
        }
    }
}

#[tokio::test]
async fn other_addresses_get_nothing_not_even_the_page_to_sign_in() {
    let house = house().with_order();
    let token = house.token(Role::Admin);
    for path in ["/", "/login", "/orders/4711", "/assets/icon.svg"] {
        let request = Request::get(path)
            .header("authorization", format!("Bearer {token}"))
            .header("x-forwarded-for", "127.0.0.1")
            .body(Body::empty())
            .expect("a request");
        let answer = house.ask(request, "10.0.0.9:50000").await;
        assert_eq!((answer.status, answer.text.as_str()), (403, ""), "{path}");
    }
    let entries =
        house.gate.log().reader().find(&Wanted { limit: 10, ..Wanted::default() }).expect("the log");
    assert!(entries.iter().all(|(_, entry)| entry.action == "refused_address" && entry.from == "10.0.0.9"));
    assert_eq!(entries.len(), 4);
}

#[tokio::test]
async fn the_page_of_an_order_says_where_it_is_in_two_languages() {
    let house = house().with_order();
    let token = house.token(Role::Support);
    let page = house.get("/orders/4711", Some(&token)).await.text;
    for expected in [
        "Order 4711",
        "stopped",
        "status “failed”",
        "mes – database error 23514: too much",
        "customer user-42",
    ] {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    let request = Request::get("/orders/4711")
        .header("authorization", format!("Bearer {token}"))
        .header("cookie", "spoor-language=ru")
        .body(Body::empty())
        .expect("a request");
    let page = house.ask(request, "127.0.0.1:50000").await.text;
    for expected in ["<html lang=\"ru\">", "Заказ 4711", "остановлен", "ошибка базы данных 23514"]
    {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
}

#[tokio::test]
async fn people_are_masked_for_developers() {
    let house = house().with_order();
    for path in [
        "/orders/4711",
        "/api/v1/orders/4711",
        "/api/v1/orders/4711/facts",
        "/orders/4711/trace",
        "/jaeger/api/traces?service=shop",
        "/jaeger/api/traces/01010101010101010101010101010101",
        "/jaeger/api/v3/traces/01010101010101010101010101010101",
    ] {
        let page = house.get(path, Some(&house.token(Role::Developer))).await;
        assert_eq!(page.status, 200);
        assert!(!page.text.contains("user-42"), "{path}");
    }
    assert!(
        house.get("/api/v1/orders/4711", Some(&house.token(Role::Support))).await.text.contains("user-42")
    );
}

#[tokio::test]
async fn the_log_says_who_saw_an_order_wherever_it_was_shown() {
    let house = house().with_order();
    house.store.ingest(vec![wrote("12", 9, 1, "shop", "orders", "created")], now()).expect("kept");
    let support = house.token(Role::Support);
    for path in ["/orders/4711", "/orders?outcome=failed", "/api/v1/orders/4711", "/"] {
        let before = house.saw("4711").len();
        house.get(path, Some(&support)).await;
        assert_eq!(house.saw("4711").len(), before + 1, "{path}");
    }
    let before = house.saw("4711").len();
    house.get("/orders/12", Some(&support)).await;
    assert_eq!(house.saw("4711").len(), before, "another order");
    house.get("/search?q=4712", Some(&support)).await;
    let last = house
        .gate
        .log()
        .reader()
        .find(&Wanted { limit: 1, ..Wanted::default() })
        .expect("the log")
        .remove(0)
        .1;
    assert_eq!(
        (last.action.as_str(), last.query.as_str(), last.result),
        ("order.search", "/search?q=4712", 404)
    );
    let page = house.get("/access?order=4711", Some(&house.token(Role::Auditor))).await.text;
    assert!(page.contains("support-1 (support)") && page.contains("The log is whole"), "{page}");
    assert!(house.gate.log().reader().verify().expect("whole") > 5);
}

#[tokio::test]
async fn what_comes_from_traffic_is_text_on_every_page() {
    let house = house();
    let evil = "<img src=x onerror=alert(1)>\"'&";
    let at = now().0 / SECOND - 100;
    let mut fact = wrote("<b>7</b>", 1, at, evil, evil, evil);
    fact.name = evil.to_owned();
    fact.people = vec![Person { role: PersonRole::User, id: evil.to_owned() }];
    fact.also = vec![Key::new("crm", evil).expect("a key")];
    let trouble = Trouble { kind: TroubleKind::Other, code: evil.to_owned(), message: evil.to_owned() };
    let failed =
        Fact { trouble: Some(trouble), ..Fact { id: wrote("7", 2, at, "", "", "").id, ..fact.clone() } };
    let refused = Fact {
        status: wrote("7", 3, at, "", "", "failed").status,
        id: wrote("7", 3, at, "", "", "").id,
        ..fact.clone()
    };
    house.store.ingest(vec![fact, failed, refused], now()).expect("kept");
    let admin = house.token(Role::Admin);
    let order = format!("/orders/{}", encode("<b>7</b>"));
    let searched = format!("/search?q={}", encode("\"><script>alert(1)</script>"));
    for path in [
        &order,
        &format!("{order}/trace"),
        "/",
        "/orders",
        "/stuck",
        "/map",
        "/queues",
        "/services",
        "/coverage",
        &format!("{order}/compare"),
        "/access",
        "/alerts",
        "/alerts/1",
        "/rules",
        "/rules/order-failed/try",
        searched.as_str(),
    ] {
        let answer = house.get(path, Some(&admin)).await;
        assert!(matches!(answer.status, 200 | 404), "{path}: {}", answer.status);
        let own = answer.text.matches("<script type=\"module\" src=\"/assets/app.").count();
        assert_eq!(answer.text.matches("<script").count(), own, "{path}:\n{}", answer.text);
        for tag in ["<img", "<b>", "onerror=alert(1)>\""] {
            assert!(!answer.text.contains(tag), "{path} has {tag}:\n{}", answer.text);
        }
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert!(!answer.text.contains(" style="), "{path}: the policy allows no inline style");
    }
}

#[tokio::test]
async fn people_sign_in_with_an_invitation_once_and_then_with_a_password() {
    let house = house().with_order();
    assert!(house.get("/login", None).await.text.contains("First administrator"));
    let cookie = house.signed_in("anna", Role::Support).await;
    assert!(!house.get("/login", None).await.text.contains("First administrator"));
    let with_cookie = |cookie: &str| {
        Request::get("/orders/4711").header("cookie", cookie).body(Body::empty()).expect("a request")
    };
    assert_eq!(house.ask(with_cookie(&cookie), "127.0.0.1:50000").await.status, 200);
    assert_eq!(house.ask(with_cookie("spoor=forged"), "127.0.0.1:50000").await.status, 303);
    let wrong = house.post("/login", &[], "name=anna&password=wrong+password").await;
    assert_eq!(wrong.status, 401);
    let nobody = house.post("/login", &[], "name=nobody&password=wrong+password").await;
    let same = |text: &str| text.replace("nobody", "anna");
    assert_eq!(
        (nobody.status, same(&nobody.text)),
        (401, wrong.text),
        "it does not say whether a user exists"
    );
    let right = house.post("/login", &[], "name=anna&password=a+long+password&to=//evil.example").await;
    assert_eq!((right.status, right.header("location")), (303, "/"));
    assert!(right.header("set-cookie").contains("HttpOnly; SameSite=Lax"));
    for _ in 0..4 {
        house.post("/login", &[], "name=anna&password=wrong+password").await;
    }
    house.post("/login", &[], "name=anna&password=wrong+password").await;
    let slow = house.post("/login", &[], "name=anna&password=a+long+password").await;
    assert_eq!(slow.status, 429, "guessing becomes slow");
    let tried = Wanted { who: Some("anna".to_owned()), limit: 100, ..Wanted::default() };
    let tried = house.gate.log().reader().find(&tried).expect("the log");
    assert!(tried.iter().any(|(_, entry)| entry.action == "sign_in" && entry.result == 401));
    assert!(tried.iter().all(|(_, entry)| !entry.query.contains("password")), "no password in the log");
}

#[tokio::test]
async fn a_form_of_another_page_changes_nothing() {
    let house = house().with_order();
    let cookie = house.signed_in("anna", Role::Support).await;
    let page = Request::get("/orders/4711").header("cookie", &cookie).body(Body::empty()).expect("a request");
    let page = house.ask(page, "127.0.0.1:50000").await.text;
    let token = page
        .split("name=\"token\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a token");
    let good = format!("token={token}&pinned=true");
    let pinned = || {
        let order = house.store.find(&Key::parse("4711").expect("a number")).expect("found")[0];
        house.store.order(order, now()).expect("read").expect("an order").head.pinned
    };
    let own = ("cookie", cookie.as_str());
    for (what, headers, form) in [
        ("no token", vec![own], "pinned=true"),
        ("another token", vec![own], "token=00&pinned=true"),
        ("another origin", vec![own, ("origin", "https://evil.example")], good.as_str()),
        ("an origin that is hidden", vec![own, ("origin", "null")], good.as_str()),
        ("another site, as the browser says", vec![own, ("sec-fetch-site", "cross-site")], good.as_str()),
        ("no session", vec![], good.as_str()),
    ] {
        let answer = house.post("/orders/4711/pin", &headers, form).await;
        assert!(matches!(answer.status, 403 | 303), "{what}: {}", answer.status);
        assert!(!pinned(), "{what}");
    }
    let answer = house.post("/orders/4711/pin", &[own, ("origin", "http://spoor.example")], &good).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/orders/4711"));
    assert!(pinned());
}

#[tokio::test]
async fn a_number_that_nobody_named_is_explained_with_examples() {
    let house = house().with_order();
    let answer = house.get("/orders/9999", Some(&house.token(Role::Support))).await;
    assert_eq!(answer.status, 404);
    assert!(
        answer.text.contains("There is no such order") && answer.text.contains("/orders/4711"),
        "{}",
        answer.text
    );
    let answer = house.get("/api/v1/orders/9999", Some(&house.token(Role::Support))).await;
    assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"));
}

#[tokio::test]
async fn the_api_tells_what_the_page_tells() {
    let house = house().with_order();
    let answer = house.get("/api/v1/orders/4711", Some(&house.token(Role::Support))).await;
    let body: serde_json::Value = serde_json::from_str(&answer.text).expect("JSON");
    assert_eq!(body["order"], "4711");
    assert_eq!(body["outcome"], "failed");
    assert_eq!(body["records"][0]["changes"][1]["to"], "failed");
    assert_eq!(body["records"][0]["changes"][1]["certainty"], "committed");
    assert!(body["sentence"].as_str().is_some_and(|text| text.contains("23514")), "{body}");
}

#[tokio::test]
async fn browsers_are_asked_to_say_where_a_form_of_ours_was() {
    let house = house();
    for path in ["/login", "/orders/1", "/assets/icon.svg"] {
        let answer = house.get(path, None).await;
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert!(!answer.text.contains("no-referrer"), "{path}");
    }
}

#[tokio::test]
async fn wrong_codes_keep_nobody_out_and_cost_no_hash() {
    let house = house();
    let code = house.gate.directory().invite("anna", Role::Support, now()).expect("invited");
    let begin = std::time::Instant::now();
    for _ in 0..50 {
        let wrong =
            house.post("/invite", &[], "code=00&password=a+long+password&again=a+long+password").await;
        assert_eq!(wrong.status, 404);
    }
    // A hash takes some fifty milliseconds at the very least.
    assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
    let form = format!("code={code}&password=a+long+password&again=a+long+password");
    assert_eq!(house.post("/invite", &[], &form).await.status, 303);
}

#[tokio::test]
async fn what_cannot_be_a_name_is_refused_and_remembered_nowhere() {
    let house = house();
    let long = "x".repeat(10_000);
    for name in [long.as_str(), "a%00b", "", "my+secret+password"] {
        let answer = house.post("/login", &[], &format!("name={name}&password=a+long+password")).await;
        assert_eq!(answer.status, 401, "{name}");
    }
    let lines = house.gate.log().reader().find(&Wanted { limit: 10, ..Wanted::default() }).expect("the log");
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|(_, entry)| entry.who.is_empty() && entry.result == 401), "{lines:?}");
}

/// What comes of a stream until `enough`, at most for a while.
async fn heard(response: Response, enough: usize) -> String {
    let mut body = response.into_body();
    let mut said = String::new();
    while said.matches("event: changed").count() < enough {
        let next = http_body_util::BodyExt::frame(&mut body);
        match tokio::time::timeout(std::time::Duration::from_secs(20), next).await {
            Ok(Some(Ok(frame))) => {
                said.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
            }
            _ => break,
        }
    }
    said
}

#[tokio::test]
async fn an_open_page_hears_that_its_order_changed_and_nothing_of_others() {
    let house = house().with_order();
    let token = house.token(Role::Support);
    let listen = |path: &'static str| {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(ConnectInfo("127.0.0.1:50000".parse::<SocketAddr>().expect("one")));
        house.router.clone().oneshot(request)
    };
    let (own, all, other) =
        (listen("/orders/4711/events").await, listen("/events").await, listen("/orders/4711/events").await);
    let [own, all, other] = [own, all, other].map(|stream| stream.expect("an answer"));
    assert_eq!(own.headers()["content-type"], "text/event-stream");
    house.store.ingest(vec![wrote("12", 9, 1, "shop", "orders", "created")], now()).expect("kept");
    assert!(heard(all, 1).await.contains("event: changed"));
    house.store.ingest(vec![wrote("4711", 10, 1, "shop", "orders", "paid")], now()).expect("kept");
    let said = heard(own, 1).await;
    assert!(said.contains("event: changed") && !said.contains("4711") && !said.contains("paid"), "{said}");
    // The server stops: streams end, or it would wait for them.
    house.stop.send_replace(true);
    assert_eq!(heard(other, 2).await.matches("event: changed").count(), 1, "one word for one change");
    assert_eq!(house.get("/orders/9999/events", Some(&house.token(Role::Support))).await.status, 204);
}

#[tokio::test]
async fn what_is_usual_is_told_of_stages_queues_and_services() {
    let house = house();
    for n in 0..30_u64 {
        let (number, at) = (format!("{}", 100 + n), 10_000 + n as i64);
        let id = n * 10 + 100;
        let sent = Step::Published { destination: "orders".to_owned(), outcome: Sent::Confirmed };
        let waited = Step::Waited { queue: "mes.orders".to_owned(), died: None };
        let taken =
            Step::Handled { queue: "mes.orders".to_owned(), settled: Settled::Rejected, redelivered: false };
        let facts = vec![
            wrote(&number, id, at, "shop", "orders", "created"),
            wrote(&number, id + 1, at + 3_600, "shop", "orders", "finished"),
            fact(&number, id + 2, at, "shop", sent),
            fact(&number, id + 3, at, "broker", waited),
            fact(&number, id + 4, at, "mes", taken),
        ];
        house.store.ingest(facts.clone(), now()).expect("kept");
        house.store.ingest(facts, now()).expect("a repetition teaches nothing");
    }
    let token = house.token(Role::Support);
    let map = house.get("/map", Some(&token)).await.text;
    assert!(map.contains("created → finished") && map.contains(">finished<"), "the way of all: {map}");
    for expected in ["created", "→ finished", "100 %", ">30<", "61 min", "The whole way usually takes"] {
        assert!(map.contains(expected), "{expected} is not in\n{map}");
    }
    let queues = house.get("/queues", Some(&token)).await.text;
    assert!(
        queues.contains("mes.orders") && queues.contains("taken by mes") && queues.contains("✖ 30"),
        "{queues}"
    );
    let services = house.get("/services", Some(&token)).await.text;
    assert!(services.contains("writes to orders") && services.contains(">60<"), "{services}");
    // What others did is told with the order that has not done it yet.
    let at = now().0 / SECOND - 100;
    house.store.ingest(vec![wrote("7", 5, at, "shop", "orders", "created")], now()).expect("kept");
    let order = house.get("/orders/7", Some(&token)).await.text;
    assert!(order.contains("Usually “finished” follows after about 61 min."), "{order}");
}

#[tokio::test]
async fn an_order_is_compared_with_what_is_usual_and_with_another_one() {
    let house = house();
    for n in 0..25_u64 {
        let (number, at) = (format!("{}", 100 + n), 10_000);
        // The last one takes five times as long.
        let took = if n == 24 { 18_000 } else { 3_600 };
        let facts = vec![
            wrote(&number, n * 10 + 1, at, "shop", "orders", "created"),
            wrote(&number, n * 10 + 2, at + took, "shop", "orders", "priced"),
        ];
        house.store.ingest(facts, now()).expect("kept");
    }
    let token = house.token(Role::Support);
    let page = house.get("/orders/124/compare?with=100", Some(&token)).await.text;
    for expected in ["→ priced", "⚠ 5 hours", ">1 hour<", ">61 min<"] {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    assert_eq!((house.saw("124").len(), house.saw("100").len()), (1, 1), "both were seen");
    let page = house.get("/orders/124/compare?with=999", Some(&token)).await;
    assert!(page.status == 200 && page.text.contains("There is no such order: 999"), "{}", page.text);
    assert_eq!(house.get("/orders/999/compare", Some(&token)).await.status, 404);
    // A number of several orders is theirs to choose from, not missing.
    let claim = |order: &str, id| Fact {
        also: vec![Key::parse("crm:SO-77").expect("a number")],
        ..wrote(order, id, 10_000, "shop", "orders", "created")
    };
    house.store.ingest(vec![claim("901", 9_001), claim("902", 9_002)], now()).expect("kept");
    let page = house.get("/orders/124/compare?with=crm:SO-77", Some(&token)).await.text;
    for expected in ["compare?with=901", "compare?with=902", "902, crm:SO-77", "Choose one"] {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    assert!(!page.contains("There is no such order"), "{page}");
    assert_eq!((house.saw("901").len(), house.saw("902").len()), (1, 1), "both were shown");
}

#[tokio::test]
async fn one_person_does_not_take_the_streams_of_all() {
    let house = house();
    let open = async |token: &str| {
        let request = Request::get("/events").header("authorization", format!("Bearer {token}"));
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(ConnectInfo("127.0.0.1:50000".parse::<SocketAddr>().expect("one")));
        house.router.clone().oneshot(request).await.expect("an answer")
    };
    let (one, other) = (house.token(Role::Support), house.token(Role::Admin));
    let mut streams = Vec::new();
    for _ in 0..16 {
        let stream = open(&one).await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    assert_eq!(open(&one).await.status(), 503);
    assert_eq!(open(&other).await.status(), 200, "others have theirs");
    streams.pop();
    // The place is free once the stream's task saw that nobody reads it.
    while open(&one).await.status() != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_not_seen_whole_and_who_is_silent_is_told() {
    let house = house();
    let at = now().0 / SECOND - 7_200;
    let cut = Fact { unseen: Some(crate::facts::Unseen::Cut), ..wrote("1", 2, at, "mes", "orders", "new") };
    house.store.ingest(vec![wrote("1", 1, at, "shop", "orders", "created"), cut], now()).expect("kept");
    house.received.no_order.store(7, std::sync::atomic::Ordering::Relaxed);
    let page = house.get("/coverage", Some(&house.token(Role::Support))).await.text;
    for expected in
        ["shop", "⚠ 1", ">2 hours<", "operations of no order: <strong>7<", "there was no room: <strong>17<"]
    {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    assert_eq!(page.matches('⚠').count(), 1, "of the MES only");
    assert!(page.contains("No agent has said yet"), "{page}");
}

#[tokio::test]
async fn agents_are_shown_with_what_they_see_those_that_are_silent_first() {
    let house = house();
    let beat = |agent: &str, node: &str| crate::facts::Beat {
        agent: agent.to_owned(),
        node: node.to_owned(),
        every: 10 * SECOND,
        services: vec!["crm".to_owned(), "<mes>".to_owned()],
    };
    house.store.alive(vec![beat("a-1", "node-1")], now()).expect("kept");
    house.store.alive(vec![beat("a-2", "node-2")], now().after(-3_600 * SECOND)).expect("kept");
    let page = house.get("/coverage", Some(&house.token(Role::Support))).await.text;
    let (silent, heard) =
        (page.find("node-2").expect("it is there"), page.find("node-1").expect("it is there"));
    assert!(silent < heard && page.matches("⚠ silent").count() == 1, "{page}");
    assert!(page.contains("&#60;mes&#62;, crm") && !page.contains("No agent"), "{page}");
}

#[tokio::test]
async fn whom_a_trusted_proxy_signed_in_is_known_and_its_forms_are_ours() {
    let house = house().with_order();
    let asked = |method: &str, from: &'static str, secret: &str, form: String| {
        let request = Request::builder()
            .method(method)
            .uri(if method == "POST" { "/orders/4711/pin" } else { "/orders/4711" })
            .header("host", "spoor.example")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-forwarded-for", "127.0.0.1")
            .header("x-spoor-proxy-secret", secret)
            .header("x-auth-request-user", "vera@house.example")
            .header("x-auth-request-groups", "all,support");
        (request.body(Body::from(form)).expect("a request"), from)
    };
    let (request, from) = asked("GET", "10.0.0.1:50000", PROXY_SECRET, String::new());
    let page = house.ask(request, from).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("vera@house.example") && !page.text.contains("/logout"), "{}", page.text);
    assert_eq!(house.saw("4711"), ["vera@house.example"]);
    // The same headers from elsewhere, or without the secret, are nothing.
    for (from, secret) in
        [("127.0.0.1:50000", PROXY_SECRET), ("10.0.0.1:50000", "another secret of whoever asks")]
    {
        let (request, from) = asked("GET", from, secret, String::new());
        assert_eq!(house.ask(request, from).await.status, 303, "{from}");
    }
    let token = page.text.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let good = format!("token={}&pinned=true", token.expect("a token"));
    for (form, expected) in [("pinned=true".to_owned(), 403), (good, 303)] {
        let (request, from) = asked("POST", "10.0.0.1:50000", PROXY_SECRET, form);
        assert_eq!(house.ask(request, from).await.status, expected);
    }
}

#[tokio::test]
async fn an_alert_is_taken_with_a_note_and_its_order_says_by_whom() {
    let house = house().with_order();
    let cookie = house.signed_in("anna", Role::Support).await;
    let own = ("cookie", cookie.as_str());
    let get =
        |path: &str| Request::get(path).header("cookie", &cookie).body(Body::empty()).expect("a request");
    let list = house.ask(get("/alerts"), "127.0.0.1:50000").await.text;
    assert!(list.contains("Order 4711: stopped (mes)") && list.contains("/alerts/1"), "{list}");
    assert!(!list.contains("too much"), "no message of a failure");
    let page = house.ask(get("/alerts/1"), "127.0.0.1:50000").await.text;
    let token = page.split("name=\"token\" value=\"").nth(2).and_then(|rest| rest.split('"').next());
    let token = token.expect("a token");
    for (form, expected) in
        [("note=x".to_owned(), 403), (format!("token={token}&note=called+%3Cb%3Ethe+workshop"), 303)]
    {
        assert_eq!(house.post("/alerts/1/acknowledge", &[own], &form).await.status, expected, "{form}");
    }
    for (form, expected) in [
        (format!("token={token}&hours=0"), 400),
        (format!("token={token}&hours=9999"), 400),
        (format!("token={token}&hours=4"), 303),
    ] {
        assert_eq!(house.post("/alerts/1/snooze", &[own], &form).await.status, expected, "{form}");
    }
    assert_eq!(house.post("/alerts/99/acknowledge", &[own], &format!("token={token}")).await.status, 404);
    let page = house.ask(get("/alerts/1"), "127.0.0.1:50000").await.text;
    assert!(
        page.contains("anna") && page.contains("quiet for a while") && !page.contains("<b>the"),
        "{page}"
    );
    let order = house.ask(get("/orders/4711"), "127.0.0.1:50000").await.text;
    assert!(order.contains("/alerts/1") && order.contains("anna"), "{order}");
    assert_eq!(
        house.saw("4711").iter().filter(|who| *who == "anna").count(),
        6,
        "each of them is in the log"
    );
    let auditor = house.token(Role::Auditor);
    let headers = [("authorization", format!("Bearer {auditor}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(house.post("/alerts/1/acknowledge", &headers, "note=x").await.status, 403);
    let tried = house.get("/rules/order-failed/try", Some(&house.token(Role::Developer))).await.text;
    assert!(tried.contains("/orders/4711") && tried.contains("Alerts: 1"), "{tried}");
    let api = house.get("/api/v1/alerts", Some(&house.token(Role::Support))).await.text;
    let api: serde_json::Value = serde_json::from_str(&api).expect("JSON");
    assert_eq!((&api["alerts"][0]["order"], &api["alerts"][0]["state"]), (&"4711".into(), &"snoozed".into()));
    let request = Request::get("/alerts")
        .header("authorization", format!("Bearer {}", house.token(Role::Admin)))
        .header("cookie", "spoor-language=ru");
    let page = house.ask(request.body(Body::empty()).expect("a request"), "127.0.0.1:50000").await.text;
    assert!(page.contains("Заказ 4711: остановлен") && page.contains("отложено"), "{page}");
}
