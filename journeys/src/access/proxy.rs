//! What a proxy that signs people in says of them → who asks: the house's own sign-on without a password here.
//!
//! A proxy such as oauth2-proxy before these pages speaks with the house's identity provider and names the person and their
//! groups in headers. They are believed from a trusted proxy's own address, with the secret that it shares with the server;
//! anybody else may send the same headers and is nobody by them.
//!
//! `peer 10.0.0.1 (trusted) · X-Spoor-Proxy-Secret: … · X-Auth-Request-User: anna · X-Auth-Request-Groups: it,support ⇒ anna, support`

use axum::http::HeaderMap;

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
        let name = one(headers, USER).filter(|name| is_name(name))?.to_owned();
        let groups: Vec<&str> = one(headers, GROUPS)?.split(',').map(str::trim).collect();
        let (_, role) = self.roles.iter().find(|(group, _)| groups.contains(&group.as_str()))?;
        let form_token = hex(&hmac(&self.key, &[b"form ", name.as_bytes()]));
        Some(SignedIn { name, role: *role, form_token })
    }
}

/// The value of a header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn sign_on() -> ProxySignOn {
        let roles = vec![("it-admins".to_owned(), Role::Admin), ("support".to_owned(), Role::Support)];
        ProxySignOn::new(GOOD, roles, [7; 32]).expect("a good secret")
    }

    fn who(given: &[(&'static str, &'static str)]) -> Option<(String, Role)> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
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
    fn a_secret_that_can_be_tried_out_is_refused() {
        let roles = || vec![("support".to_owned(), Role::Support)];
        assert!(matches!(ProxySignOn::new("short", roles(), [7; 32]), Err(ProxyError::Short)));
        assert!(matches!(ProxySignOn::new(GOOD, Vec::new(), [7; 32]), Err(ProxyError::NoRole)));
    }
}
