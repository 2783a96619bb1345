//! What a proxy that signs people in says of them → who asks: the house's own sign-on without a password here.
//!
//! A proxy such as oauth2-proxy before these pages speaks with the house's identity provider and names the person and their
//! groups in headers. They are believed from a trusted proxy's own address, with the secret that it shares with the server;
//! anybody else may send the same headers and is nobody by them.
//!
//! Names of people and groups may have any letters: as UTF-8, which is what oauth2-proxy sends, or as RFC 8187 writes them
//! for headers (`UTF-8''%D0%90%D0%BD%D0%BD%D0%B0`).
//!
//! `peer 10.0.0.1 (trusted) · X-Spoor-Proxy-Secret: … · X-Auth-Request-User: anna · X-Auth-Request-Groups: it,support ⇒ anna, support`

use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::directory::is_name;
use super::role::Role;
use crate::digest::{hex, hmac};

/// Shortest secret, in bytes.
const MIN_SECRET: usize = 32;
/// As oauth2-proxy names them.
const USER: &str = "x-auth-request-user";
const GROUPS: &str = "x-auth-request-groups";
const SECRET: &str = "x-spoor-proxy-secret";

/// Why there is no sign-on by a proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the secret is shorter than {MIN_SECRET} bytes: anybody could try it out")]
    Short,
    #[error("no group has a role: nobody could look")]
    NoRole,
}

/// What is believed.
#[derive(Debug)]
pub struct ProxySignOn {
    /// A digest: comparing digests takes as long whatever is given.
    secret: [u8; 32],
    /// The first that a person is in counts.
    roles: Vec<(String, Role)>,
    key: [u8; 32],
}

/// Somebody whom a proxy signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedIn {
    pub(super) name: String,
    pub(super) role: Role,
    /// Forms carry it, as those of a session do.
    pub(super) form_token: String,
}

impl ProxySignOn {
    /// `key` is of this server's start only; `roles` are tried in their order.
    pub fn new(secret: &str, roles: Vec<(String, Role)>, key: [u8; 32]) -> Result<Self, ProxyError> {
        let secret = secret.trim();
        if secret.len() < MIN_SECRET {
            return Err(ProxyError::Short);
        }
        if roles.is_empty() {
            return Err(ProxyError::NoRole);
        }
        Ok(Self { secret: hmac(&key, &[secret.as_bytes()]), roles, key })
    }

    /// Whom the headers of a trusted proxy name. Nobody where one of them is there twice: of two names none is certain.
    pub(super) fn who(&self, headers: &HeaderMap) -> Option<SignedIn> {
        let given = one(headers, SECRET)?;
        if hmac(&self.key, &[given.as_bytes()]) != self.secret {
            return None;
        }
        let name = Text::of(one(headers, USER)?).read()?;
        if !is_name(&name) {
            return None;
        }
        // First the list, then its names: a comma that is written as a part of one does not make two of it.
        let groups = Text::of(one(headers, GROUPS)?).split();
        let groups: Vec<String> = groups.filter_map(Text::read).collect();
        let (_, role) = self.roles.iter().find(|(group, _)| groups.contains(group))?;
        let form_token = hex(&hmac(&self.key, &[b"form ", name.as_bytes()]));
        Some(SignedIn { name, role: *role, form_token })
    }
}

/// The value of a header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = std::str::from_utf8(values.next()?.as_bytes()).ok()?;
    values.next().is_none().then_some(value.trim())
}

/// A text of a header, as it stands there.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    /// As RFC 8187, section 3.2, writes it: `charset'language'percent-encoded`.
    is_extended: bool,
}

impl<'a> Text<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.splitn(3, '\'');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(charset), Some(_), Some(text)) if charset.eq_ignore_ascii_case("utf-8") => {
                Self { text, is_extended: true }
            }
            _ => Self { text, is_extended: false },
        }
    }

    /// The parts between commas.
    fn split(self) -> impl Iterator<Item = Self> {
        self.text.split(',').map(move |text| Self { text: text.trim(), ..self })
    }

    /// What it says; `None` for what is no UTF-8.
    fn read(self) -> Option<String> {
        if !self.is_extended {
            return Some(self.text.to_owned());
        }
        percent_decode_str(self.text).decode_utf8().ok().map(|text| text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn sign_on() -> ProxySignOn {
        let role = |group: &str, role| (group.to_owned(), role);
        let roles = vec![
            role("it-admins", Role::Admin),
            role("support", Role::Support),
            role("Поддержка", Role::Support),
            role("Цех, второй", Role::Developer),
        ];
        ProxySignOn::new(GOOD, roles, [7; 32]).expect("a good secret")
    }

    fn who(given: &[(&'static str, &'static str)]) -> Option<(String, Role)> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        sign_on().who(&headers).map(|who| (who.name, who.role))
    }

    #[test]
    fn a_name_counts_with_the_secret_and_a_group_that_has_a_role() {
        let anna = |role| Some(("anna@house.example".to_owned(), role));
        let name = (USER, "anna@house.example");
        for (given, expected) in [
            (vec![(SECRET, GOOD), name, (GROUPS, "all, support")], anna(Role::Support)),
            (vec![(SECRET, GOOD), name, (GROUPS, "support,it-admins")], anna(Role::Admin)),
            (vec![(SECRET, GOOD), name, (GROUPS, "it-admins-of-another-house")], None),
            (vec![(SECRET, GOOD), name, (GROUPS, "")], None),
            (vec![(SECRET, GOOD), name], None),
            (vec![(SECRET, GOOD), (USER, "<b>"), (GROUPS, "support")], None),
            (vec![(SECRET, GOOD), (GROUPS, "support")], None),
            (vec![(SECRET, "0123456789abcdef0123456789abcdeF"), name, (GROUPS, "support")], None),
            (vec![name, (GROUPS, "support")], None),
            (vec![(SECRET, GOOD), name, (USER, "root"), (GROUPS, "support")], None),
            (vec![(SECRET, GOOD), name, (GROUPS, "support"), (GROUPS, "it-admins")], None),
        ] {
            assert_eq!(who(&given), expected, "{given:?}");
        }
    }

    #[test]
    fn names_and_groups_may_have_any_letters() {
        let anna = |role| Some(("Анна.Петрова".to_owned(), role));
        let plain = (USER, "Анна.Петрова");
        let extended = (USER, "UTF-8'ru'%D0%90%D0%BD%D0%BD%D0%B0.%D0%9F%D0%B5%D1%82%D1%80%D0%BE%D0%B2%D0%B0");
        for (given, expected) in [
            (vec![(SECRET, GOOD), plain, (GROUPS, "Все, Поддержка")], anna(Role::Support)),
            (vec![(SECRET, GOOD), extended, (GROUPS, "Поддержка")], anna(Role::Support)),
            (
                vec![
                    (SECRET, GOOD),
                    plain,
                    (GROUPS, "utf-8''all,%D0%A6%D0%B5%D1%85%2C%20%D0%B2%D1%82%D0%BE%D1%80%D0%BE%D0%B9"),
                ],
                anna(Role::Developer),
            ),
            (vec![(SECRET, GOOD), plain, (GROUPS, "Цех, второй")], None),
            (vec![(SECRET, GOOD), (USER, "UTF-8''%FF"), (GROUPS, "Поддержка")], None),
            (vec![(SECRET, GOOD), (USER, "UTF-8''%3Cb%3E"), (GROUPS, "Поддержка")], None),
        ] {
            assert_eq!(who(&given), expected, "{given:?}");
        }
        let mut headers = HeaderMap::new();
        for (name, value) in [(SECRET, GOOD.as_bytes()), (USER, b"\xc0\xed\xed\xe0"), (GROUPS, b"support")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"));
        }
        assert!(sign_on().who(&headers).is_none(), "windows-1251 is no UTF-8");
    }

    #[test]
    fn a_secret_that_can_be_tried_out_is_refused() {
        let roles = || vec![("support".to_owned(), Role::Support)];
        assert!(matches!(ProxySignOn::new("short", roles(), [7; 32]), Err(ProxyError::Short)));
        assert!(matches!(ProxySignOn::new(GOOD, Vec::new(), [7; 32]), Err(ProxyError::NoRole)));
    }
}
