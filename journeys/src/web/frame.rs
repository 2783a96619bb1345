//! Who reads, in which language → what every page has around its content.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::texts::{Texts, texts};
use super::{Site, assets};
use crate::access::{Action, Who, allow};
use crate::sentence::{Language, Words};

/// The person or program behind a request, and how they read.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) words: Words,
    /// `None` before signing in.
    pub(crate) who: Option<Who>,
    /// What was searched for, to show it again.
    pub(crate) query: String,
}

/// What surrounds a page.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) t: &'static Texts,
    pub(crate) language: &'static str,
    pub(crate) other_language: &'static str,
    pub(crate) stylesheet: &'static str,
    pub(crate) script: &'static str,
    /// Where the page hears that something changed.
    pub(crate) live: Option<String>,
    pub(crate) who: Option<&'a str>,
    pub(crate) form_token: Option<&'a str>,
    pub(crate) has_session: bool,
    pub(crate) audits: bool,
    pub(crate) sees_orders: bool,
    pub(crate) here: &'static str,
    pub(crate) query: &'a str,
    pub(crate) zone: String,
}

impl Reader {
    pub(crate) fn frame(&self, here: &'static str) -> Frame<'_> {
        let language = self.words.language;
        let other = match language {
            Language::Ru => Language::En,
            Language::En => Language::Ru,
        };
        Frame {
            t: texts(language),
            language: language.code(),
            other_language: other.code(),
            stylesheet: assets::stylesheet(),
            script: assets::script(),
            live: None,
            who: self.who.as_ref().map(|who| who.name.as_str()),
            form_token: self.who.as_ref().and_then(|who| who.form_token.as_deref()),
            has_session: self.who.as_ref().is_some_and(Who::has_session),
            audits: self.may(Action::AccessLog),
            sees_orders: self.may(Action::List),
            here,
            query: &self.query,
            zone: self.words.zone.iana_name().unwrap_or("UTC").to_owned(),
        }
    }

    /// The frame of a page that is kept up to date.
    pub(crate) fn live_frame(&self, here: &'static str, events: String) -> Frame<'_> {
        Frame { live: self.may(Action::Watch).then_some(events), ..self.frame(here) }
    }

    /// Whether the reader may do something.
    pub(crate) fn may(&self, action: Action) -> bool {
        self.who.as_ref().is_some_and(|who| allow(who.role, action))
    }
}

impl FromRequestParts<Site> for Reader {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Self::Rejection> {
        let language = chosen(&parts.headers).unwrap_or(site.language);
        Ok(Self {
            words: Words { language, zone: site.zone.clone() },
            who: parts.extensions.get::<Who>().cloned(),
            query: String::new(),
        })
    }
}

const LANGUAGE_COOKIE: &str = "spoor-language";

/// The language a person chose, else one that their browser asks for.
fn chosen(headers: &HeaderMap) -> Option<Language> {
    let cookie = crate::access::cookie(headers, LANGUAGE_COOKIE).and_then(Language::parse);
    let accepted = || headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok();
    cookie.or_else(|| accepted()?.split(',').find_map(|language| Language::parse(language.trim())))
}

/// `GET /language/ru`: remembers the choice and goes back to the start.
pub(super) async fn change_language(State(_): State<Site>, Path(code): Path<String>) -> Response {
    let Some(language) = Language::parse(&code) else { return StatusCode::NOT_FOUND.into_response() };
    let cookie =
        format!("{LANGUAGE_COOKIE}={}; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly", language.code());
    match HeaderValue::try_from(cookie) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
