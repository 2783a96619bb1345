mod provider;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use jiff::tz::TimeZone;
use tower::ServiceExt;

use self::provider::{CLIENT, Lie, Provider, SECRET};
use super::*;
use crate::access::{AccessLog, Addresses, Directory, Entry, Gate, Wanted};
use crate::model::Model;
use crate::sentence::Language;
use crate::store::seal::Master;
use crate::store::sqlite::Sqlite;
use crate::web::{Live, Site, router};

/// A server whose people sign on at a provider.
struct House {
    _folder: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
    gate: Gate,
    router: Router,
}

struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Page {
    fn location(&self) -> &str {
        self.headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Name and value of a cookie that is set.
    fn cookie(&self, name: &str) -> Option<&str> {
        let all = self.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
        let mut pairs = all.filter_map(|value| value.split(';').next());
        pairs.rfind(|pair| pair.starts_with(name) && !pair.ends_with('='))
    }
}

fn settings(issuer: &str) -> OidcSettings {
    OidcSettings {
        issuer: issuer.to_owned(),
        client_id: CLIENT.to_owned(),
        secret: format!("{SECRET}\n"),
        url: "https://spoor.example/".to_owned(),
        groups_claim: "groups".to_owned(),
        name_claim: "preferred_username".to_owned(),
        scopes: vec!["profile".to_owned()],
        roles: vec![("it".to_owned(), Role::Developer), ("support".to_owned(), Role::Support)],
        private: vec!["127.0.0.0/8".parse().expect("a net")],
        key: [7; 32],
    }
}

fn house(settings: OidcSettings) -> House {
    house_with(settings, Duration::from_secs(30))
}

fn house_with(settings: OidcSettings, patience: Duration) -> House {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::generate().expect("a key");
    let log = AccessLog::open(&folder.path().join("access"), master.derive("log")).expect("a log");
    let directory = Directory::open(&folder.path().join("access.db")).expect("a directory");
    let oidc = Oidc::with_patience(settings, patience).expect("a sign-on");
    let addresses = Addresses::new(Vec::new(), Vec::new());
    let gate = Gate::new(directory, log, addresses, true, None, Some(oidc));
    let store = Arc::new(Sqlite::open(folder.path(), master, Model::default()).expect("a store"));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let site = Site {
        store: store.clone(),
        alerts: store,
        channels: Arc::default(),
        trying: Arc::new(Semaphore::new(1)),
        model: Arc::new(Model::default()),
        zone: TimeZone::UTC,
        language: Language::En,
        live: Live::new(stopped),
        jaeger: crate::web::Jaeger::new(None),
        received: Arc::default(),
        forwarded: None,
    };
    House { _folder: folder, _stop: stop, router: router(site, gate.clone()), gate }
}

impl House {
    async fn ask(&self, method: &str, path: &str, cookie: Option<&str>, form: &str) -> Page {
        let request = Request::builder().method(method).uri(path).header("host", "spoor.example");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = cookie.into_iter().fold(request, |request, cookie| request.header("cookie", cookie));
        let mut request = request.body(Body::from(form.to_owned())).expect("a request");
        request.extensions_mut().insert(ConnectInfo("127.0.0.1:50000".parse::<SocketAddr>().expect("one")));
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let text =
            String::from_utf8(to_bytes(body, usize::MAX).await.expect("a body").to_vec()).expect("text");
        Page { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn get(&self, path: &str, cookie: Option<&str>) -> Page {
        self.ask("GET", path, cookie, "").await
    }

    /// To the provider: where a browser is sent, and its cookie.
    async fn set_out(&self) -> (String, String) {
        let page = self.get("/oidc/login?to=/stuck", None).await;
        assert_eq!(page.status, 303, "{}", page.text);
        let cookie = page.cookie("__Host-spoor-attempt").expect("a cookie").to_owned();
        (page.location().to_owned(), cookie)
    }

    async fn come_back(&self, code: &str, state: &str, cookie: &str) -> Page {
        let path = format!("/oidc/callback?code={}&state={state}", crate::web::encode(code));
        self.get(&path, Some(cookie)).await
    }

    async fn sign_on(&self, provider: &Provider) -> Page {
        let (url, cookie) = self.set_out().await;
        let (code, state) = provider.sign_in(&url);
        self.come_back(&code, &state, &cookie).await
    }

    fn log(&self) -> Vec<Entry> {
        let wanted = Wanted { limit: 1_000, ..Wanted::default() };
        self.gate.log().reader().find(&wanted).expect("the log").into_iter().map(|(_, entry)| entry).collect()
    }

    /// The line of the last attempt: who, what of it, and the answer.
    fn last(&self) -> (String, String, u16) {
        let last = self.log().into_iter().find(|entry| entry.action == "sign_in").expect("a line");
        assert_eq!(last.via, "oidc");
        (last.who, last.query, last.result)
    }
}

#[tokio::test]
async fn who_signs_on_has_the_role_of_their_group_and_a_session_that_can_be_ended() {
    let provider = Provider::start().await;
    let house = house(settings(provider.issuer()));
    let login = house.get("/login?to=/stuck", None).await.text;
    assert!(login.contains("href=\"/oidc/login?to=%2Fstuck\"") && !login.contains("user invite"), "{login}");
    let page = house.sign_on(&provider).await;
    assert_eq!((page.status, page.location()), (303, "/stuck"), "{}", page.text);
    let set = page.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    let set: BTreeSet<&str> = set.collect();
    assert!(
        set.contains("__Host-spoor-attempt=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0"),
        "{set:?}"
    );
    let session = page.cookie("__Host-spoor=").expect("a session").to_owned();
    assert!(set.iter().any(|one| one.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure")), "{set:?}");
    assert_eq!(house.last(), ("anna@house.example".to_owned(), "support".to_owned(), 303));
    assert!(house.log().iter().all(|entry| !entry.query.contains("code")), "no code in the log");

    let stuck = house.get("/stuck", Some(&session)).await;
    assert!(stuck.status == 200 && stuck.text.contains("anna@house.example"), "{}", stuck.text);
    assert_eq!(house.get("/access", Some(&session)).await.status, 403, "support reads no access log");
    let seen = house.log().into_iter().find(|entry| entry.action == "list").expect("a line");
    assert_eq!((seen.via.as_str(), seen.role.as_str()), ("oidc", "support"));

    let token = stuck.text.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let form = format!("token={}", token.expect("a token"));
    let out = house.ask("POST", "/logout", Some(&session), &form).await;
    assert_eq!((out.status, out.location()), (303, "/login?signed_out=true"));
    assert_eq!(house.get("/stuck", Some(&session)).await.status, 303, "ended");
    let after = house.get(out.location(), None).await.text;
    let there = format!("{}/logout?client_id=spoor&", provider.issuer());
    assert!(after.contains(&escaped(&there)), "{after}");
    assert_eq!(provider.asked(), (1, 1), "what it says of itself is remembered");
}

/// As the templates write it into an attribute.
fn escaped(url: &str) -> String {
    url.replace('&', "&#38;")
}

#[tokio::test]
async fn what_is_not_true_signs_nobody_on_and_is_in_the_log() {
    let provider = Provider::start().await;
    for (lie, status, word) in [
        (Lie::Nonce, 401, "nonce"),
        (Lie::NoNonce, 401, "nonce"),
        (Lie::Audience, 401, "audience"),
        (Lie::AnotherAudience, 401, "audience"),
        (Lie::AuthorizedParty, 401, "audience"),
        (Lie::Issuer, 401, "issuer"),
        (Lie::Expired, 401, "expired"),
        (Lie::Future, 401, "expired"),
        (Lie::AlgorithmNone, 401, "algorithm"),
        (Lie::AlgorithmHs256, 401, "algorithm"),
        (Lie::PublicKeyAsSecret, 401, "algorithm"),
        (Lie::Forged, 401, "signature"),
        (Lie::UnknownKey, 401, "key"),
        (Lie::NoToken, 401, "token"),
        (Lie::NoJson, 401, "token"),
        (Lie::Name, 401, "name"),
        (Lie::NoGroups, 403, "no group with a role"),
        (Lie::OtherGroups, 403, "no group with a role"),
        (Lie::Trouble, 503, "no answer of the provider"),
        (Lie::Redirect, 503, "no answer of the provider"),
        (Lie::Huge, 503, "no answer of the provider"),
    ] {
        // Each from the beginning: who fails often has to wait.
        let house = house(settings(provider.issuer()));
        provider.lie(lie);
        let page = house.sign_on(&provider).await;
        assert_eq!(page.status, status, "{lie:?}: {}", page.text);
        assert_eq!(page.cookie("__Host-spoor="), None, "{lie:?}");
        let who = if status == 403 { "anna@house.example" } else { "" };
        assert_eq!(house.last(), (who.to_owned(), word.to_owned(), status), "{lie:?}");
        assert!(page.text.contains("You are not signed in"), "{lie:?}: {}", page.text);
        // The same server, once it speaks the truth.
        provider.lie(Lie::Nothing);
        assert_eq!(house.sign_on(&provider).await.status, 303, "after {lie:?}");
    }
}

#[tokio::test]
async fn a_provider_that_says_nothing_keeps_nobody_waiting_for_long() {
    let provider = Provider::start().await;
    for lie in [Lie::Silent, Lie::Stops] {
        let house = house_with(settings(provider.issuer()), Duration::from_secs(3));
        provider.lie(lie);
        let page = house.sign_on(&provider).await;
        assert_eq!(page.status, 503, "{lie:?}: {}", page.text);
        assert_eq!(house.last().1, "no answer of the provider");
    }
}

#[tokio::test]
async fn an_answer_belongs_to_one_attempt_of_one_browser() {
    let provider = Provider::start().await;
    let house = house(settings(provider.issuer()));
    let (url, cookie) = house.set_out().await;
    let (code, state) = provider.sign_in(&url);
    let (other_url, other_cookie) = house.set_out().await;
    let (other_code, other_state) = provider.sign_in(&other_url);
    let refused = ("".to_owned(), "state".to_owned(), 400);
    for (code, state, cookie) in [
        (&code, &other_state, &cookie),
        (&code, &state, &other_cookie),
        (&code, &String::new(), &cookie),
        (&code, &state, &String::new()),
        (&code, &state, &"__Host-spoor-attempt=".to_owned()),
        (&code, &state, &format!("__Host-spoor-attempt=x{}", &cookie[22..])),
    ] {
        assert_eq!(house.come_back(code, state, cookie).await.status, 400, "{state} {cookie}");
        assert_eq!(house.last(), refused);
    }
    // The code of another attempt: the verifier is not the one of its challenge.
    let page = house.come_back(&other_code, &state, &cookie).await;
    assert_eq!((page.status, house.last().1.as_str()), (401, "code"));
    // An answer of another provider (RFC 9207).
    let mixed = format!("/oidc/callback?code=x&state={state}&iss=https%3A%2F%2Fevil.example");
    assert_eq!(house.get(&mixed, Some(&cookie)).await.status, 401);
    assert_eq!(house.last().1, "issuer");
    let denied = format!("/oidc/callback?error=access_denied&state={state}");
    assert_eq!(house.get(&denied, Some(&cookie)).await.status, 401);
    assert_eq!(house.last().1, "denied by the provider");
    let page = house.come_back(&code, &state, &cookie).await;
    assert_eq!(page.status, 303, "the right one: {}", page.text);
    assert_eq!(house.come_back(&code, &state, &cookie).await.status, 401, "a code is good once");
}

#[tokio::test]
async fn new_keys_of_the_provider_are_found_and_not_asked_for_all_the_time() {
    let provider = Provider::start().await;
    let house = house(settings(provider.issuer()));
    assert_eq!(house.sign_on(&provider).await.status, 303);
    provider.rotate("second");
    assert_eq!(house.sign_on(&provider).await.status, 303, "ES256, with a key of another name");
    assert_eq!(provider.asked(), (1, 2));
    assert_eq!(house.sign_on(&provider).await.status, 303);
    provider.lie(Lie::UnknownKey);
    assert_eq!(house.sign_on(&provider).await.status, 401);
    assert_eq!(provider.asked(), (1, 2), "they were asked for a moment ago");
}

#[tokio::test]
async fn groups_and_names_are_where_the_configuration_says() {
    let provider = Provider::start().await;
    for (groups, name, lie, expected) in [
        ("groups", "preferred_username", Lie::OneGroup, Some(("anna@house.example", "support"))),
        ("/realm_access/roles", "sub", Lie::Nothing, Some(("f3b1", "developer"))),
        // An address that the provider did not verify, and a claim that is not there.
        ("groups", "email", Lie::Nothing, None),
        ("groups", "login", Lie::Nothing, None),
    ] {
        let (groups_claim, name_claim) = (groups.to_owned(), name.to_owned());
        let house = house(OidcSettings { groups_claim, name_claim, ..settings(provider.issuer()) });
        provider.lie(lie);
        let page = house.sign_on(&provider).await;
        let (who, word, status) = house.last();
        match expected {
            Some(expected) => assert_eq!((who.as_str(), word.as_str()), expected, "{}", page.text),
            None => assert_eq!((status, word.as_str()), (401, "name"), "{name}"),
        }
    }
}

#[tokio::test]
async fn who_is_disabled_here_does_not_come_in_by_the_provider() {
    let provider = Provider::start().await;
    let house = house(settings(provider.issuer()));
    let page = house.sign_on(&provider).await;
    let session = page.cookie("__Host-spoor=").expect("a session").to_owned();
    assert_eq!(house.get("/stuck", Some(&session)).await.status, 200);
    house.gate.directory().disable("anna@house.example").expect("known by having signed on");
    assert_eq!(house.get("/stuck", Some(&session)).await.status, 303, "the session ended");
    assert_eq!(house.sign_on(&provider).await.status, 403);
    assert_eq!(house.last(), ("anna@house.example".to_owned(), "disabled".to_owned(), 403));
    // Neither role is the other's: a user keeps theirs, and the provider's group gives its own.
    house.gate.directory().invite("anna@house.example", Role::Admin, now()).expect("invited");
    let page = house.sign_on(&provider).await;
    let session = page.cookie("__Host-spoor=").expect("a session").to_owned();
    assert_eq!(house.get("/access", Some(&session)).await.status, 403, "support by the provider");
    let users = house.gate.directory().users().expect("users");
    assert_eq!(users.iter().map(|user| user.role).collect::<Vec<_>>(), [Role::Admin]);
}

#[tokio::test]
async fn a_provider_in_a_private_network_is_asked_only_if_it_is_configured() {
    let provider = Provider::start().await;
    let house = house(OidcSettings { private: Vec::new(), ..settings(provider.issuer()) });
    for _ in 0..3 {
        let page = house.get("/oidc/login", None).await;
        assert!(page.status == 503 && page.text.contains("does not answer"), "{}", page.text);
    }
    assert_eq!(provider.asked(), (0, 0));
}

#[tokio::test]
async fn a_provider_that_names_itself_otherwise_is_none() {
    let provider = Provider::start().await;
    let other = provider.issuer().replace("127.0.0.1", "localhost");
    let house =
        house(OidcSettings { private: vec!["127.0.0.0/8".parse().expect("a net")], ..settings(&other) });
    assert_eq!(house.get("/oidc/login", None).await.status, 503);
}

#[tokio::test]
async fn what_was_guessed_makes_the_next_attempt_slow() {
    let provider = Provider::start().await;
    let house = house(settings(provider.issuer()));
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let (url, cookie) = house.set_out().await;
        let (_, state) = provider.sign_in(&url);
        statuses.push(house.come_back("guessed", &state, &cookie).await.status);
    }
    assert_eq!(statuses[..5], [401; 5]);
    // However long each of them takes: the pauses grow.
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn without_a_provider_there_is_no_way_to_one() {
    for wrong in [
        OidcSettings { roles: Vec::new(), ..settings("https://login.house.example") },
        OidcSettings { secret: " \n".to_owned(), ..settings("https://login.house.example") },
        OidcSettings { url: "http://spoor.example".to_owned(), ..settings("https://login.house.example") },
        settings("http://login.house.example"),
        settings("login.house.example"),
    ] {
        assert!(Oidc::new(wrong).is_err());
    }
}
