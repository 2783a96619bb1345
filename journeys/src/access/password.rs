//! Passwords → hashes that are safe to keep.
//!
//! *Spec*: RFC 9106 (Argon2id) with the parameters of OWASP's cheat sheet: 19 MiB, 2 passes, 1 lane.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

/// Shortest and longest password, in characters and bytes.
pub(super) const MIN_CHARS: usize = 12;
pub(super) const MAX_LEN: usize = 256;

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(19 * 1024, 2, 1, None).unwrap_or_default())
}

/// As a PHC string with its parameters and salt.
pub(super) fn hash(password: &str) -> Option<String> {
    hasher().hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}

/// Whether a password is the one of a hash. A hash that is none fits nothing, and takes as long.
pub(super) fn fits(password: &str, hash: Option<&str>) -> bool {
    let known = hash.and_then(|hash| PasswordHash::new(hash).ok());
    match known {
        Some(known) => hasher().verify_password(password.as_bytes(), &known).is_ok(),
        None => {
            // Who does not exist is refused as slowly as who mistyped.
            let _ = hasher().hash_password(password.as_bytes());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let kept = hash("correct horse battery").expect("a hash");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(fits("correct horse battery", Some(&kept)));
        assert!(!fits("correct horse batterz", Some(&kept)));
        assert!(!fits("", Some("not a hash")));
        assert!(!fits("anything", None));
        assert_ne!(hash("correct horse battery").expect("a hash"), kept, "each has its own salt");
    }
}
