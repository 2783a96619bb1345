//! Why somebody is not signed on: a word for the access log, and who it is where that is certain.

use openidconnect::{ClaimsVerificationError, SignatureVerificationError};

use crate::intake::chain;

/// Why somebody is not signed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::access) enum Refusal {
    /// No attempt of this browser fits: it took too long, was another window's, or somebody else's.
    NoAttempt,
    /// The provider says no.
    Denied,
    /// What the provider gave is not believed; what of it.
    Untrue(&'static str),
    /// The name is none.
    NoName,
    NoGroup(String),
    /// An administrator ended this person's access.
    Disabled(String),
    TooMany,
    /// The provider does not answer, or nothing that can be used.
    NoProvider,
}

impl Refusal {
    /// As the access log has it.
    pub(in crate::access) fn word(&self) -> &'static str {
        match self {
            Refusal::NoAttempt => "state",
            Refusal::Denied => "denied by the provider",
            Refusal::Untrue(what) => what,
            Refusal::NoName => "name",
            Refusal::NoGroup(_) => "no group with a role",
            Refusal::Disabled(_) => "disabled",
            Refusal::TooMany => "too many attempts",
            Refusal::NoProvider => "no answer of the provider",
        }
    }

    /// Who it is, where that is certain.
    pub(in crate::access) fn who(&self) -> Option<&str> {
        match self {
            Refusal::NoGroup(name) | Refusal::Disabled(name) => Some(name),
            _ => None,
        }
    }
}

/// What of a token is not believed.
pub(super) fn untrue(error: &ClaimsVerificationError) -> Refusal {
    use SignatureVerificationError as Signature;
    tracing::warn!(error = %chain(error), "an ID token is not believed");
    Refusal::Untrue(match error {
        ClaimsVerificationError::Expired(_) => "expired",
        ClaimsVerificationError::InvalidAudience(_) => "audience",
        ClaimsVerificationError::InvalidIssuer(_) => "issuer",
        ClaimsVerificationError::InvalidNonce(_) => "nonce",
        ClaimsVerificationError::SignatureVerification(
            Signature::NoSignature | Signature::DisallowedAlg(_) | Signature::UnsupportedAlg(_),
        ) => "algorithm",
        ClaimsVerificationError::SignatureVerification(Signature::NoMatchingKey) => "key",
        ClaimsVerificationError::SignatureVerification(_) => "signature",
        _ => "token",
    })
}
