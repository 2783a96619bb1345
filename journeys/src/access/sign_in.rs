//! Names and passwords → sessions; the page of the access log.

use askama::Template;
use axum::Router;
use axum::extract::{Extension, Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::DirectoryError;
use super::directory::is_name;
use super::gate::{Asked, From, Gate, Who, cookie, guarded};
use super::log::{Entry, LogError, Wanted};
use super::oidc::pages as sign_on;
use super::password::{MAX_LEN, MIN_CHARS};
use super::role::Action;
use crate::facts::Key;
use crate::intake::{chain, now};
use crate::web::texts::{Texts, texts};
use crate::web::{Frame, Reader, Site, encode, message, render};

/// Lines of the access log on one page.
const MAX_LINES: usize = 500;

/// Routes for signing in and out, and for the log.
pub(crate) fn router(site: Site, gate: Gate) -> Router {
    Router::new()
        .route("/login", guarded(get(login_page), Action::Open).merge(guarded(post(login), Action::SignIn)))
        .route("/oidc/login", guarded(get(sign_on::login), Action::Open))
        .route("/oidc/callback", guarded(get(sign_on::callback), Action::SignIn))
        .route("/logout", guarded(post(logout), Action::SignOut))
        .route("/invite/{code}", guarded(get(invite_page), Action::Open))
        .route("/invite", guarded(post(accept), Action::SignIn))
        .route("/access", guarded(get(access), Action::AccessLog))
        .layer(Extension(gate))
        .with_state(site)
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    frame: Frame<'a>,
    wrong: Option<&'static str>,
    no_users: bool,
    /// The way to the house's identity provider.
    sign_on: Option<String>,
    /// Where to sign out there as well, after signing out here.
    sign_out: Option<String>,
    to: &'a str,
}

#[derive(Template)]
#[template(path = "invite.html")]
struct Invite<'a> {
    frame: Frame<'a>,
    wrong: Option<&'a str>,
    code: &'a str,
    min_chars: usize,
    max_len: usize,
}

#[derive(Template)]
#[template(path = "access.html")]
struct Access<'a> {
    frame: Frame<'a>,
    order: &'a str,
    person: &'a str,
    verdict: String,
    lines: Vec<LineRow>,
}

struct LineRow {
    at: String,
    who: String,
    from: String,
    action: String,
    order: String,
    result: u16,
}

#[derive(Deserialize)]
pub(super) struct To {
    #[serde(default)]
    pub(super) to: String,
    /// Who just signed out of a session that began at the identity provider.
    #[serde(default)]
    signed_out: bool,
}

#[derive(Deserialize)]
struct LoginForm {
    name: String,
    password: String,
    #[serde(default)]
    to: String,
}

async fn login_page(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    reader: Reader,
    Query(to): Query<To>,
) -> Response {
    let sign_out = match gate.oidc() {
        Some(oidc) if to.signed_out => oidc.sign_out().await,
        _ => None,
    };
    login_answer(&gate, &reader, StatusCode::OK, None, &to.to, sign_out)
}

fn login_answer(
    gate: &Gate,
    reader: &Reader,
    status: StatusCode,
    wrong: Option<&'static str>,
    to: &str,
    sign_out: Option<String>,
) -> Response {
    let sign_on = gate.oidc().map(|_| format!("/oidc/login?to={}", encode(to)));
    match gate.directory().is_empty() {
        Ok(is_empty) => {
            // Where people sign on at a provider, nobody need be a user here.
            let no_users = is_empty && sign_on.is_none();
            let page = Login { frame: reader.frame(""), wrong, no_users, sign_on, sign_out, to };
            (status, render(&page)).into_response()
        }
        Err(error) => broken(reader, &error),
    }
}

async fn login(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    Extension(From(from)): Extension<From>,
    reader: Reader,
    Form(form): Form<LoginForm>,
) -> Response {
    let t = texts(reader.words.language);
    let LoginForm { name, password, to } = form;
    // What cannot be a name is nobody's: it is neither remembered nor written down.
    let tried = Some(&name).filter(|name| is_name(name) && password.len() <= MAX_LEN).cloned();
    let attempt = match tried.clone() {
        Some(name) => {
            gate.hash(move |gate| attempt(gate, &name, &password, from)).await.unwrap_or(Attempt::TooMany)
        }
        None => Attempt::Wrong,
    };
    let refuse = |status, why| login_answer(&gate, &reader, status, Some(why), &to, None);
    let mut response = match attempt {
        Attempt::Right => begin(&gate, &reader, &name, safe(&to)),
        Attempt::Wrong => refuse(StatusCode::UNAUTHORIZED, t.wrong_login),
        Attempt::TooMany => refuse(StatusCode::TOO_MANY_REQUESTS, t.too_many),
        Attempt::Failed(error) => broken(&reader, &error),
    };
    response.extensions_mut().insert(Asked { who: tried, query: Some(String::new()), ..Asked::default() });
    response
}

/// What became of an attempt to sign in.
enum Attempt {
    Right,
    Wrong,
    TooMany,
    Failed(DirectoryError),
}

/// Compares a password and remembers how it went, in one go: who hangs up in between has tried all the same.
fn attempt(gate: &Gate, name: &str, password: &str, from: std::net::IpAddr) -> Attempt {
    if !gate.slow_down().may_try(name, from, now()) {
        return Attempt::TooMany;
    }
    match gate.directory().knows(name, password) {
        Ok(true) => {
            gate.slow_down().succeeded(name);
            Attempt::Right
        }
        Ok(false) => {
            gate.slow_down().failed(name, from, now());
            Attempt::Wrong
        }
        Err(error) => Attempt::Failed(error),
    }
}

/// A path of this server, never another host: `//evil.example` is one, and browsers leave out tabs and line ends and take
/// `\` for `/` (WHATWG URL Standard, "basic URL parser").
pub(super) fn safe(to: &str) -> &str {
    let is_path =
        to.starts_with('/') && !to.starts_with("//") && !to.contains(|c: char| c == '\\' || c.is_control());
    if is_path { to } else { "/" }
}

fn begin(gate: &Gate, reader: &Reader, name: &str, to: &str) -> Response {
    let session = match gate.directory().begin(name, now()) {
        Ok(session) => session,
        Err(error) => return broken(reader, &error),
    };
    match gate.cookie(&session, "") {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn logout(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    Extension(who): Extension<Who>,
    reader: Reader,
    headers: HeaderMap,
) -> Response {
    let after = if who.is_signed_on() { "/login?signed_out=true" } else { "/login" };
    if let Some(session) = cookie(&headers, gate.cookie_name())
        && let Err(error) = gate.directory().end(session)
    {
        return broken(&reader, &error);
    }
    match gate.cookie("", "; Max-Age=0") {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(after)).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn invite_page(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    reader: Reader,
    Path(code): Path<String>,
) -> Response {
    match gate.directory().is_invited(&code, now()) {
        Ok(true) => invite(&reader, None, &code),
        Ok(false) => not_invited(&reader),
        Err(error) => broken(&reader, &error),
    }
}

fn not_invited(reader: &Reader) -> Response {
    let t = texts(reader.words.language);
    message(StatusCode::NOT_FOUND, reader, t.no_right, t.no_right_how)
}

#[derive(Deserialize)]
struct InviteForm {
    code: String,
    password: String,
    again: String,
}

async fn accept(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    reader: Reader,
    Form(form): Form<InviteForm>,
) -> Response {
    // Before any work: who has no invitation learns nothing and costs nothing. A code has 256 random bits, which nobody
    // guesses, so attempts need not be slowed down, and nobody can use them up for others.
    match gate.directory().is_invited(&form.code, now()) {
        Ok(true) => {}
        Ok(false) => return not_invited(&reader),
        Err(error) => return broken(&reader, &error),
    }
    if let Some(wrong) = wrong_password(&form, texts(reader.words.language)) {
        return (StatusCode::UNPROCESSABLE_ENTITY, invite(&reader, Some(wrong), &form.code)).into_response();
    }
    match gate.hash(move |gate| gate.directory().accept(&form.code, &form.password, now())).await {
        Some(Ok(Some(name))) => {
            let mut response = begin(&gate, &reader, &name, "/");
            let query = Some("invitation".to_owned());
            response.extensions_mut().insert(Asked { who: Some(name), query, ..Asked::default() });
            response
        }
        Some(Ok(None)) => not_invited(&reader),
        Some(Err(error)) => broken(&reader, &error),
        None => StatusCode::TOO_MANY_REQUESTS.into_response(),
    }
}

fn invite(reader: &Reader, wrong: Option<&str>, code: &str) -> Response {
    render(&Invite { frame: reader.frame(""), wrong, code, min_chars: MIN_CHARS, max_len: MAX_LEN })
}

fn wrong_password(form: &InviteForm, t: &'static Texts) -> Option<&'static str> {
    if form.password != form.again {
        return Some(t.passwords_differ);
    }
    if form.password.chars().count() < MIN_CHARS {
        return Some(t.password_short);
    }
    (form.password.len() > MAX_LEN).then_some(t.password_long)
}

#[derive(Deserialize)]
struct LogWish {
    #[serde(default)]
    order: String,
    #[serde(default)]
    who: String,
}

/// `GET /access?order=4711`: who saw it.
async fn access(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    reader: Reader,
    Query(wish): Query<LogWish>,
) -> Response {
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    // As the log has it: in the form that all pages show.
    let order = filled(&wish.order).map(|order| Key::parse(&order).map_or(order, |key| key.to_string()));
    let wanted = Wanted { order, who: filled(&wish.who), limit: MAX_LINES };
    let read = tokio::task::spawn_blocking(move || {
        let lines = gate.log().reader().find(&wanted)?;
        Ok::<_, LogError>((gate.log().reader().verify(), lines))
    });
    let (verdict, lines) = match read.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return broken(&reader, &error),
        Err(error) => return broken(&reader, &error),
    };
    let t = texts(reader.words.language);
    let page = Access {
        frame: reader.frame("access"),
        order: &wish.order,
        person: &wish.who,
        verdict: verdict.map_or_else(|error| format!("⚠ {error}"), |_| t.chain_holds.to_owned()),
        lines: lines.into_iter().map(line).collect(),
    };
    render(&page)
}

fn line((at, entry): (String, Entry)) -> LineRow {
    LineRow {
        at,
        who: if entry.role.is_empty() { entry.who } else { format!("{} ({})", entry.who, entry.role) },
        from: entry.from,
        action: if entry.query.is_empty() {
            entry.action
        } else {
            format!("{} {}", entry.action, entry.query)
        },
        order: entry.orders.join(", "),
        result: entry.result,
    }
}

pub(super) fn broken(reader: &Reader, error: &dyn std::error::Error) -> Response {
    tracing::error!(error = %chain(error), "access could not be decided");
    let t = texts(reader.words.language);
    message(StatusCode::SERVICE_UNAVAILABLE, reader, t.broken, t.broken_how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentence::Language;

    #[test]
    fn after_signing_in_nobody_is_sent_elsewhere() {
        for (to, expected) in [
            ("/orders/4711", "/orders/4711"),
            ("", "/"),
            ("//evil.example/", "/"),
            ("https://evil.example/", "/"),
            ("/\\evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("/\t/evil.example", "/"),
            ("/\n/evil.example", "/"),
            ("/\r/evil.example", "/"),
            ("/\u{0}/evil.example", "/"),
            ("/\u{85}/evil.example", "/"),
            ("/orders/\u{1f}4711", "/"),
            ("/orders/заказ 1?x=//y", "/orders/заказ 1?x=//y"),
        ] {
            assert_eq!(safe(to), expected, "{to:?}");
        }
    }

    #[test]
    fn the_texts_name_the_length_that_is_asked_for() {
        for language in [Language::Ru, Language::En] {
            assert!(texts(language).password_short.contains(&MIN_CHARS.to_string()));
        }
    }
}
