//! An attempt to sign on → what the browser keeps of it, and back.
//!
//! The server keeps nothing of an attempt, so attempts fill no memory and push out nobody else's. The browser has 256 random
//! bits and a digest that only this start of the server can make; from the bits and the server's key follow `state`,
//! `nonce` and the verifier of PKCE, none of which anybody else can know.
//!
//! *Spec*: OpenID Connect Core 1.0, section 3.1.2.1 (`state`, `nonce`); RFC 7636, section 4.1 (the verifier).
//!
//! `digest . end of its time . random bits . path to go to`

use percent_encoding::percent_decode_str;

use super::super::directory::{DirectoryError, secret};
use crate::digest::{hex, hmac};
use crate::facts::At;
use crate::time::MINUTE;
use crate::web::encode;

/// Time to sign on at the provider.
pub(super) const LONGEST: i64 = 10 * MINUTE;
/// Longest path that is remembered, in bytes.
const MAX_PATH: usize = 512;

/// An attempt that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    until: At,
    random: String,
    /// Where the person wanted to go.
    pub(super) to: String,
}

impl Attempt {
    pub(super) fn new(to: &str, now: At) -> Result<Self, DirectoryError> {
        let to = if to.len() <= MAX_PATH { to } else { "/" };
        Ok(Self { until: now.after(LONGEST), random: secret()?, to: to.to_owned() })
    }

    /// What the browser keeps.
    pub(super) fn keep(&self, key: &[u8; 32]) -> String {
        let kept = format!("{}.{}.{}", self.until.0, self.random, encode(&self.to));
        format!("{}.{kept}", hex(&hmac(key, &[b"attempt ", kept.as_bytes()])))
    }

    /// What a browser kept, if it is of this server and not too old.
    pub(super) fn read(kept: &str, key: &[u8; 32], now: At) -> Option<Self> {
        let (digest, kept) = kept.split_once('.')?;
        if !same(key, digest, &hex(&hmac(key, &[b"attempt ", kept.as_bytes()]))) {
            return None;
        }
        let mut parts = kept.splitn(3, '.');
        let until = At(parts.next()?.parse().ok()?);
        let random = parts.next()?.to_owned();
        let to = percent_decode_str(parts.next()?).decode_utf8().ok()?.into_owned();
        (now < until).then_some(Self { until, random, to })
    }

    fn derive(&self, key: &[u8; 32], purpose: &[u8]) -> String {
        hex(&hmac(key, &[purpose, self.random.as_bytes()]))
    }

    pub(super) fn state(&self, key: &[u8; 32]) -> String {
        self.derive(key, b"state ")
    }

    pub(super) fn nonce(&self, key: &[u8; 32]) -> String {
        self.derive(key, b"nonce ")
    }

    /// 64 of the characters that RFC 7636 has for it, which wants 43 to 128.
    pub(super) fn verifier(&self, key: &[u8; 32]) -> String {
        self.derive(key, b"verifier ")
    }

    /// Whether an answer is the one to this attempt.
    pub(super) fn is_answered_by(&self, state: &str, key: &[u8; 32]) -> bool {
        same(key, state, &self.state(key))
    }
}

/// Compares digests of both under a key: how long that takes says nothing of either.
fn same(key: &[u8; 32], one: &str, other: &str) -> bool {
    hmac(key, &[b"same ", one.as_bytes()]) == hmac(key, &[b"same ", other.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn an_attempt_is_of_one_server_one_browser_and_ten_minutes() {
        let now = At(1_000 * MINUTE);
        let attempt = Attempt::new("/orders/заказ.1?x=y", now).expect("random bits");
        let kept = attempt.keep(&KEY);
        assert!(kept.is_ascii() && !kept.contains([';', ',', ' ', '"', '\\']), "fit for a cookie: {kept}");
        assert_eq!(Attempt::read(&kept, &KEY, now), Some(attempt.clone()));
        assert_eq!(Attempt::read(&kept, &[8; 32], now), None, "of another start");
        assert_eq!(Attempt::read(&kept, &KEY, now.after(LONGEST)), None, "too late");
        for at in 0..kept.len() {
            let mut changed = kept.clone().into_bytes();
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(changed).expect("text");
            assert_eq!(Attempt::read(&changed, &KEY, now), None, "changed at {at}");
        }
        let other = Attempt::new("/", now).expect("random bits");
        assert!(attempt.is_answered_by(&attempt.state(&KEY), &KEY));
        assert!(!attempt.is_answered_by(&other.state(&KEY), &KEY) && !attempt.is_answered_by("", &KEY));
        let all = [attempt.state(&KEY), attempt.nonce(&KEY), attempt.verifier(&KEY), attempt.random.clone()];
        assert!(all.iter().enumerate().all(|(n, one)| !all[..n].contains(one)), "each is of its own");
    }

    #[test]
    fn a_path_that_is_too_long_for_a_cookie_is_not_remembered() {
        let attempt = Attempt::new(&"/x".repeat(MAX_PATH), At(0)).expect("random bits");
        assert_eq!(attempt.to, "/");
        let longest = Attempt::new(&"/\u{1f600}".repeat(MAX_PATH / 5), At(0)).expect("random bits");
        assert!(longest.keep(&KEY).len() < 4_000, "browsers keep 4,096 bytes");
    }
}
