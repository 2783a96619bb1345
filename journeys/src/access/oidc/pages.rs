//! The way to the identity provider and back → a session, or why there is none.

use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::super::gate::{Asked, From, Gate, cookie};
use super::super::sign_in::{To, broken, safe};
use super::attempt::LONGEST;
use super::{Answer, Refusal, SignedOn};
use crate::intake::now;
use crate::time::SECOND;
use crate::web::texts::texts;
use crate::web::{Reader, Site, message};

/// `GET /oidc/login?to=/orders/4711`: to the provider.
pub(in crate::access) async fn login(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    reader: Reader,
    Query(to): Query<To>,
) -> Response {
    let Some(oidc) = gate.oidc() else { return StatusCode::NOT_FOUND.into_response() };
    match oidc.begin(safe(&to.to)).await {
        Ok((url, kept)) => {
            let more = format!("; Max-Age={}", LONGEST / SECOND);
            with_cookie(&gate, Redirect::to(&url).into_response(), &kept, &more)
        }
        Err(refusal) => refused(&reader, &refusal),
    }
}

/// `GET /oidc/callback`: back from the provider.
pub(in crate::access) async fn callback(
    State(_): State<Site>,
    Extension(gate): Extension<Gate>,
    Extension(From(from)): Extension<From>,
    reader: Reader,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Response {
    let Some(oidc) = gate.oidc() else { return StatusCode::NOT_FOUND.into_response() };
    // No user's name has a space in it. Each address has its own: nobody uses up the attempts of others.
    let account = format!("sign-on {from}");
    let found = if gate.slow_down().may_try(&account, from, now()) {
        oidc.finish(cookie(&headers, gate.attempt_cookie()), &answer).await
    } else {
        Err(Refusal::TooMany)
    };
    // Attempts that made the provider work for nothing; who has no group may ask for one and come again.
    match &found {
        Ok(_) => gate.slow_down().succeeded(&account),
        Err(Refusal::Untrue(_)) => gate.slow_down().failed(&account, from, now()),
        Err(_) => {}
    }
    let (mut response, asked) = match found {
        Ok(signed_on) => begin(&gate, &reader, signed_on),
        Err(refusal) => (refused(&reader, &refusal), asked(refusal.who(), refusal.word())),
    };
    response.extensions_mut().insert(asked);
    // An attempt is for one answer.
    with_cookie(&gate, response, "", "; Max-Age=0")
}

fn begin(gate: &Gate, reader: &Reader, SignedOn { name, role, to }: SignedOn) -> (Response, Asked) {
    match gate.directory().begin_signed_on(&name, role, now()) {
        Ok(Some(session)) => {
            let mut response = Redirect::to(safe(&to)).into_response();
            match gate.cookie(&session, "") {
                Some(cookie) => response.headers_mut().append(header::SET_COOKIE, cookie),
                None => return (StatusCode::INTERNAL_SERVER_ERROR.into_response(), asked(Some(&name), "")),
            };
            (response, asked(Some(&name), role.name()))
        }
        Ok(None) => {
            let refusal = Refusal::Disabled(name);
            (refused(reader, &refusal), asked(refusal.who(), refusal.word()))
        }
        Err(error) => (broken(reader, &error), asked(Some(&name), "")),
    }
}

/// For the access log: not the query, which has the code.
fn asked(who: Option<&str>, what: &str) -> Asked {
    Asked { who: who.map(str::to_owned), via: "oidc", query: Some(what.to_owned()) }
}

fn refused(reader: &Reader, refusal: &Refusal) -> Response {
    let t = texts(reader.words.language);
    let (status, text) = match refusal {
        Refusal::NoAttempt => (StatusCode::BAD_REQUEST, t.sign_on_again),
        Refusal::Denied | Refusal::Untrue(_) | Refusal::NoName => {
            (StatusCode::UNAUTHORIZED, t.sign_on_refused)
        }
        Refusal::NoGroup(_) => (StatusCode::FORBIDDEN, t.sign_on_no_group),
        Refusal::Disabled(_) => (StatusCode::FORBIDDEN, t.no_right_how),
        Refusal::TooMany => (StatusCode::TOO_MANY_REQUESTS, t.too_many),
        Refusal::NoProvider => (StatusCode::SERVICE_UNAVAILABLE, t.sign_on_no_provider),
    };
    message(status, reader, t.not_signed_on, text)
}

fn with_cookie(gate: &Gate, mut response: Response, value: &str, more: &str) -> Response {
    let cookie: Option<HeaderValue> = gate.cookie_of(gate.attempt_cookie(), value, more);
    match cookie {
        Some(cookie) => {
            response.headers_mut().append(header::SET_COOKIE, cookie);
            response
        }
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
