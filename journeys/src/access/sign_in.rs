//! Names and passwords → sessions; the page of the access log.

use askama::Template;
use axum::Router;
use axum::extract::{Extension, Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::DirectoryError;
use super::gate::{Asked, From, Gate, cookie, guarded};
use super::log::{Entry, LogError, Wanted};
use super::password::{MAX_LEN, MIN_CHARS};
use super::role::Action;
use crate::facts::Key;
use crate::intake::{chain, now};
use crate::sentence::Language;
use crate::web::texts::texts;
use crate::web::{Frame, Reader, Site, message, render};

/// Lines of the access log on one page.
const MAX_LINES: usize = 500;

/// Routes for signing in and out, and for the log.
pub(crate) fn router(site: Site, gate: Gate) -> Router {
    Router::new()
        .route("/login", guarded(get(login_page), Action::Open).merge(guarded(post(login), Action::SignIn)))
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
    to: &'a str,
}

#[derive(Template)]
#[template(path = "invite.html")]
struct Invite<'a> {
    frame: Frame<'a>,
    wrong: Option<String>,
    code: &'a str,
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
struct To {
    #[serde(default)]
    to: String,
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
    login_answer(&gate, &reader, StatusCode::OK, None, &to.to)
}

fn login_answer(
    gate: &Gate,
    reader: &Reader,
    status: StatusCode,
    wrong: Option<&'static str>,
    to: &str,
) -> Response {
    match gate.directory().is_empty() {
        Ok(no_users) => {
            (status, render(&Login { frame: reader.frame(""), wrong, no_users, to })).into_response()
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
    let mut response = if !gate.slow_down().may_try(&form.name, from, now()) {
        login_answer(&gate, &reader, StatusCode::TOO_MANY_REQUESTS, Some(t.too_many), &form.to)
    } else {
        match knows(&gate, form.name.clone(), form.password).await {
            Ok(true) => {
                gate.slow_down().succeeded(&form.name);
                begin(&gate, &reader, &form.name, safe(&form.to))
            }
            Ok(false) => {
                gate.slow_down().failed(&form.name, from, now());
                login_answer(&gate, &reader, StatusCode::UNAUTHORIZED, Some(t.wrong_login), &form.to)
            }
            Err(error) => broken(&reader, &error),
        }
    };
    response.extensions_mut().insert(Asked { who: Some(form.name), query: Some(String::new()) });
    response
}

/// Compares a password where a task may block, not more than two at a time.
async fn knows(gate: &Gate, name: String, password: String) -> Result<bool, DirectoryError> {
    if password.len() > MAX_LEN {
        return Ok(false);
    }
    let Ok(_turn) = gate.hashing().acquire().await else { return Ok(false) };
    let asked = gate.clone();
    tokio::task::spawn_blocking(move || asked.directory().knows(&name, &password)).await.unwrap_or(Ok(false))
}

/// A path of this server, never another host: `//evil.example` is one.
fn safe(to: &str) -> &str {
    let is_path = to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n']);
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
    reader: Reader,
    headers: HeaderMap,
) -> Response {
    if let Some(session) = cookie(&headers, gate.cookie_name())
        && let Err(error) = gate.directory().end(session)
    {
        return broken(&reader, &error);
    }
    match gate.cookie("", "; Max-Age=0") {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response(),
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
        Ok(true) => render(&Invite { frame: reader.frame(""), wrong: None, code: &code }),
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
    Extension(From(from)): Extension<From>,
    reader: Reader,
    Form(form): Form<InviteForm>,
) -> Response {
    if let Some(wrong) = wrong_password(&form.password, &form.again, reader.words.language) {
        let page = render(&Invite { frame: reader.frame(""), wrong: Some(wrong), code: &form.code });
        return (StatusCode::UNPROCESSABLE_ENTITY, page).into_response();
    }
    // Codes are too long to guess; hashing for everybody who tries would be work for nothing.
    if !gate.slow_down().may_try("", from, now()) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    let Ok(_turn) = gate.hashing().acquire().await else { return not_invited(&reader) };
    let asked = gate.clone();
    let accepted =
        tokio::task::spawn_blocking(move || asked.directory().accept(&form.code, &form.password, now()))
            .await;
    match accepted.unwrap_or(Ok(None)) {
        Ok(Some(name)) => {
            let mut response = begin(&gate, &reader, &name, "/");
            response.extensions_mut().insert(Asked { who: Some(name), query: Some("invitation".to_owned()) });
            response
        }
        Ok(None) => {
            gate.slow_down().failed("", from, now());
            not_invited(&reader)
        }
        Err(error) => broken(&reader, &error),
    }
}

fn wrong_password(password: &str, again: &str, language: Language) -> Option<String> {
    let ru = language == Language::Ru;
    if password != again {
        return Some(if ru { "Пароли не совпадают." } else { "The passwords differ." }.to_owned());
    }
    if password.chars().count() < MIN_CHARS {
        return Some(if ru {
            format!("Пароль короче {MIN_CHARS} знаков.")
        } else {
            format!("The password is shorter than {MIN_CHARS} characters.")
        });
    }
    (password.len() > MAX_LEN)
        .then(|| if ru { "Пароль слишком длинный." } else { "The password is too long." }.to_owned())
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
        let lines = gate.log().find(&wanted)?;
        Ok::<_, LogError>((gate.log().verify(), lines))
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

fn broken(reader: &Reader, error: &dyn std::error::Error) -> Response {
    tracing::error!(error = %chain(error), "access could not be decided");
    let t = texts(reader.words.language);
    message(StatusCode::SERVICE_UNAVAILABLE, reader, t.broken, t.broken_how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_nobody_is_sent_elsewhere() {
        for (to, expected) in [
            ("/orders/4711", "/orders/4711"),
            ("", "/"),
            ("//evil.example/", "/"),
            ("https://evil.example/", "/"),
            ("/\\evil.example", "/"),
            ("javascript:alert(1)", "/"),
        ] {
            assert_eq!(safe(to), expected, "{to:?}");
        }
    }
}
