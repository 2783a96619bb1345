//! The house's identity provider → who signs on, and with which role.
//!
//! The authorization code flow with PKCE. *Owns* what is known of the provider, and what of an ID token is believed.
//! *Spec*: OpenID Connect Core 1.0, section 3.1 (the flow) and 3.1.3.7 (checks of an ID token); Discovery 1.0; RFC 7636
//! (PKCE, S256); RFC 9207 (`iss` of an answer); RFC 9700 (current practice).
//!
//! ```text
//! /oidc/login ─▶ provider: person signs in ─▶ /oidc/callback: code, state ─▶ code + verifier for an ID token
//!     └─ cookie: the attempt ──────────────────────┘           ─▶ signature, iss, aud, exp, nonce ─▶ groups ─▶ role ─▶ session
//! ```
//!
//! Who is in no group that has a role gets none. The role stands until the session ends.

mod attempt;
mod http;
pub(super) mod pages;
mod refusal;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClientAuthMethod, CoreJsonWebKey, CoreJwsSigningAlgorithm,
};
use openidconnect::url::Url;
use openidconnect::{
    AuthType, AuthorizationCode, ClaimsVerificationError, Client, ClientId, ClientSecret, CsrfToken,
    IdTokenVerifier, IssuerUrl, JsonWebKeySet, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, Scope, SignatureVerificationError, TokenResponse,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};

use self::attempt::Attempt;
use self::http::Http;
pub(super) use self::refusal::Refusal;
use self::refusal::untrue;
use self::types::{Metadata, ProviderClient, Tokens, Told};
use super::directory::is_name;
use super::role::Role;
use crate::intake::{chain, now};

/// Algorithms of signatures that are believed. Neither `none` nor those of a shared secret, whatever the provider lists.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// What a provider says of itself is read again so often, and believed for so long while it cannot be read.
const FRESH: Duration = Duration::from_secs(3_600);
const STALE: Duration = Duration::from_secs(24 * 3_600);
/// After a failure the provider is left alone for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// Its keys are not asked for more often than this, however many tokens name keys that it does not have.
const KEYS_PAUSE: Duration = Duration::from_secs(10);
/// Codes that are redeemed at a time.
const MAX_EXCHANGES: usize = 16;
/// Clocks differ by so much: a token that was made later than this is none.
const MAX_AHEAD: i64 = 300;
/// Longest code, in bytes.
const MAX_CODE: usize = 4_096;

/// What the house says of its provider.
#[derive(Debug)]
pub struct OidcSettings {
    /// As the provider itself writes it.
    pub issuer: String,
    pub client_id: String,
    pub secret: String,
    /// Address under which people reach the pages.
    pub url: String,
    pub groups_claim: String,
    pub name_claim: String,
    /// Beside `openid`.
    pub scopes: Vec<String>,
    /// The first that a person is in counts.
    pub roles: Vec<(String, Role)>,
    /// Private networks in which the provider may be.
    pub private: Vec<IpNet>,
    /// Of this start only.
    pub key: [u8; 32],
}

/// Why there is no sign-on.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("no group has a role: nobody could look")]
    NoRole,
    #[error("the secret is empty")]
    NoSecret,
    #[error("`{0}` is no https address (http is for this machine only)")]
    Address(String),
    #[error("there can be no TLS")]
    Tls(#[from] rustls::Error),
}

/// Sign-on at the house's provider.
pub struct Oidc {
    issuer: IssuerUrl,
    client_id: ClientId,
    secret: ClientSecret,
    redirect: RedirectUrl,
    /// Where the provider sends people who signed out there.
    start: String,
    groups_claim: String,
    name_claim: String,
    scopes: Vec<Scope>,
    roles: Vec<(String, Role)>,
    key: [u8; 32],
    http: Http,
    provider: Mutex<Provider>,
    exchanges: Semaphore,
}

/// What is known of the provider.
#[derive(Default)]
struct Provider {
    known: Option<(Arc<Metadata>, Instant)>,
    failed_at: Option<Instant>,
    keys_at: Option<Instant>,
}

/// Somebody whom the provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedOn {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) to: String,
}

/// What a browser brings back from the provider.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    code: String,
    state: String,
    error: String,
    iss: Option<String>,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Oidc {
    pub fn new(settings: OidcSettings) -> Result<Self, OidcError> {
        Self::with_patience(settings, http::PATIENCE)
    }

    fn with_patience(settings: OidcSettings, patience: Duration) -> Result<Self, OidcError> {
        let OidcSettings {
            issuer,
            client_id,
            secret,
            url,
            groups_claim,
            name_claim,
            scopes,
            roles,
            private,
            key,
        } = settings;
        if roles.is_empty() {
            return Err(OidcError::NoRole);
        }
        let secret = secret.trim().to_owned();
        if secret.is_empty() {
            return Err(OidcError::NoSecret);
        }
        let good = |text: &str| {
            let wrong = || OidcError::Address(text.to_owned());
            let url = Url::parse(text).map_err(|_| wrong())?;
            http::check(&url).map_err(|_| wrong())
        };
        good(&issuer)?;
        good(&url)?;
        let base = url.trim_end_matches('/');
        let redirect =
            RedirectUrl::new(format!("{base}/oidc/callback")).map_err(|_| OidcError::Address(url.clone()))?;
        Ok(Self {
            issuer: IssuerUrl::new(issuer.clone()).map_err(|_| OidcError::Address(issuer))?,
            client_id: ClientId::new(client_id),
            secret: ClientSecret::new(secret),
            redirect,
            start: format!("{base}/login"),
            groups_claim,
            name_claim,
            scopes: scopes.into_iter().map(Scope::new).collect(),
            roles,
            key,
            http: Http::new(private, patience)?,
            provider: Mutex::default(),
            exchanges: Semaphore::new(MAX_EXCHANGES),
        })
    }

    /// Where a browser signs on, and what it keeps until it comes back.
    pub(super) async fn begin(&self, to: &str) -> Result<(String, String), Refusal> {
        let metadata = self.metadata().await?;
        let attempt = Attempt::new(to, now()).map_err(|error| {
            tracing::error!(error = %chain(&error), "nobody can sign on");
            Refusal::NoProvider
        })?;
        let (state, nonce) = (attempt.state(&self.key), attempt.nonce(&self.key));
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(attempt.verifier(&self.key)));
        let client = self.client(&metadata);
        let request = client.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            move || CsrfToken::new(state),
            move || Nonce::new(nonce),
        );
        let (url, _, _) = request.add_scopes(self.scopes.iter().cloned()).set_pkce_challenge(challenge).url();
        Ok((url.to_string(), attempt.keep(&self.key)))
    }

    /// Who comes back from the provider. `kept` is what the browser kept.
    pub(super) async fn finish(&self, kept: Option<&str>, answer: &Answer) -> Result<SignedOn, Refusal> {
        let attempt = kept.and_then(|kept| Attempt::read(kept, &self.key, now()));
        let attempt = attempt.filter(|attempt| attempt.is_answered_by(&answer.state, &self.key));
        let attempt = attempt.ok_or(Refusal::NoAttempt)?;
        let metadata = self.metadata().await?;
        // RFC 9207, section 2.4: an answer of another provider is refused, and one without a name where there must be one.
        let must_say = metadata.additional_metadata().authorization_response_iss_parameter_supported;
        match &answer.iss {
            Some(iss) if iss != self.issuer.as_str() => return Err(Refusal::Untrue("issuer")),
            None if must_say => return Err(Refusal::Untrue("issuer")),
            _ => {}
        }
        if !answer.error.is_empty() || answer.code.is_empty() {
            return Err(Refusal::Denied);
        }
        if answer.code.len() > MAX_CODE {
            return Err(Refusal::Untrue("code"));
        }
        let _turn = self.exchanges.try_acquire().map_err(|_| Refusal::TooMany)?;
        let tokens = self.redeem(&metadata, answer.code.clone(), attempt.verifier(&self.key)).await?;
        let token = tokens.id_token().ok_or(Refusal::Untrue("token"))?;
        let nonce = Nonce::new(attempt.nonce(&self.key));
        let told = match token.claims(&self.verifier(&metadata), &nonce) {
            // Keys are changed now and then (Core 1.0, section 10.1.1): the new ones are asked for once.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey | SignatureVerificationError::CryptoError(_),
            )) => {
                let newer = self.newer_keys(&metadata).await?;
                token.claims(&self.verifier(&newer), &nonce)
            }
            told => told,
        };
        let told = told.map_err(|error| untrue(&error))?;
        // Core 1.0, section 3.1.3.7, step 5.
        if told.authorized_party().is_some_and(|party| *party != self.client_id) {
            return Err(Refusal::Untrue("audience"));
        }
        let name = self.name(told).filter(|name| is_name(name)).ok_or(Refusal::NoName)?;
        match self.role(told) {
            Some(role) => Ok(SignedOn { name, role, to: attempt.to }),
            None => Err(Refusal::NoGroup(name)),
        }
    }

    /// Where people sign out at the provider as well, if it says where. It asks them there: no token is kept to show it.
    pub(super) async fn sign_out(&self) -> Option<String> {
        let metadata = self.metadata().await.ok()?;
        let mut url = metadata.additional_metadata().end_session_endpoint.clone()?;
        http::check(&url).ok()?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.client_id)
            .append_pair("post_logout_redirect_uri", &self.start);
        Some(url.into())
    }

    fn client(&self, metadata: &Metadata) -> ProviderClient {
        let methods = metadata.token_endpoint_auth_methods_supported();
        // Discovery 1.0, section 3: where it lists none, it takes `client_secret_basic`.
        let has = |method| methods.is_none_or(|methods| methods.contains(&method));
        let basic =
            has(CoreClientAuthMethod::ClientSecretBasic) || !has(CoreClientAuthMethod::ClientSecretPost);
        let method = if basic { AuthType::BasicAuth } else { AuthType::RequestBody };
        Client::from_provider_metadata(metadata.clone(), self.client_id.clone(), Some(self.secret.clone()))
            .set_auth_type(method)
            .set_redirect_uri(self.redirect.clone())
    }

    async fn redeem(&self, metadata: &Metadata, code: String, verifier: String) -> Result<Tokens, Refusal> {
        let client = self.client(metadata);
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|error| {
            tracing::error!(error = %chain(&error), "the identity provider has no token endpoint");
            Refusal::NoProvider
        })?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier));
        request.request_async(&self.http).await.map_err(|error| match error {
            RequestTokenError::Request(error) => {
                tracing::warn!(error = %chain(&error), "the identity provider did not redeem a code");
                Refusal::NoProvider
            }
            // What else the provider says is not repeated: it may be anything.
            RequestTokenError::ServerResponse(said) => {
                tracing::warn!(error = ?said.error(), "the identity provider refused a code");
                Refusal::Untrue("code")
            }
            _ => {
                tracing::warn!("the identity provider gave no tokens that can be read");
                Refusal::Untrue("token")
            }
        })
    }

    fn verifier(&self, metadata: &Metadata) -> IdTokenVerifier<'static, CoreJsonWebKey> {
        // As of a client without a secret: so no token is believed that is signed with ours.
        let verifier = IdTokenVerifier::new_public_client(
            self.client_id.clone(),
            self.issuer.clone(),
            metadata.jwks().clone(),
        );
        let soon = now().0 / 1_000_000 + MAX_AHEAD;
        verifier.set_allowed_algs(ALGORITHMS).set_issue_time_verifier_fn(move |made_at| {
            if made_at.timestamp() <= soon { Ok(()) } else { Err("made in the future".to_owned()) }
        })
    }

    /// What the provider says of itself, from memory or from itself.
    async fn metadata(&self) -> Result<Arc<Metadata>, Refusal> {
        let mut provider = self.provider.lock().await;
        let old = provider.known.clone();
        if let Some((known, at)) = &old
            && at.elapsed() < FRESH
        {
            return Ok(known.clone());
        }
        let known = old.filter(|(_, at)| at.elapsed() < STALE).map(|(known, _)| known);
        if provider.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return known.ok_or(Refusal::NoProvider);
        }
        match self.discover().await {
            Ok(found) => {
                let found = Arc::new(found);
                provider.known = Some((found.clone(), Instant::now()));
                provider.failed_at = None;
                Ok(found)
            }
            Err(why) => {
                tracing::warn!(why, issuer = %self.issuer.as_str(), "the identity provider cannot be used");
                provider.failed_at = Some(Instant::now());
                known.ok_or(Refusal::NoProvider)
            }
        }
    }

    async fn discover(&self) -> Result<Metadata, String> {
        let found = Metadata::discover_async(self.issuer.clone(), &self.http).await;
        let found = found.map_err(|error| chain(&error))?;
        http::check(found.authorization_endpoint().url()).map_err(|error| chain(&error))?;
        Ok(found)
    }

    /// The provider's keys of now, where those of `old` did not do.
    async fn newer_keys(&self, old: &Arc<Metadata>) -> Result<Arc<Metadata>, Refusal> {
        let mut provider = self.provider.lock().await;
        let Some((known, read_at)) = provider.known.clone() else { return Err(Refusal::NoProvider) };
        // Others were quicker, or asked a moment ago.
        if !Arc::ptr_eq(&known, old) || provider.keys_at.is_some_and(|at| at.elapsed() < KEYS_PAUSE) {
            return Ok(known);
        }
        provider.keys_at = Some(Instant::now());
        let keys = JsonWebKeySet::fetch_async(known.jwks_uri(), &self.http).await.map_err(|error| {
            tracing::warn!(error = %chain(&error), "the identity provider's keys cannot be read");
            Refusal::NoProvider
        })?;
        let newer = Arc::new(known.as_ref().clone().set_jwks(keys));
        provider.known = Some((newer.clone(), read_at));
        Ok(newer)
    }

    fn name(&self, told: &Told) -> Option<String> {
        match self.name_claim.as_str() {
            "sub" => Some(told.subject().to_string()),
            "preferred_username" => told.preferred_username().map(|name| name.to_string()),
            // Who may write any address into their account could be anybody.
            "email" => {
                told.email().filter(|_| told.email_verified() == Some(true)).map(|name| name.to_string())
            }
            other => self.claim(told, other)?.as_str().map(str::to_owned),
        }
    }

    fn role(&self, told: &Told) -> Option<Role> {
        let groups = match self.claim(told, &self.groups_claim)? {
            Value::String(group) => vec![group.as_str()],
            Value::Array(groups) => groups.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        self.roles.iter().find(|(group, _)| groups.contains(&group.as_str())).map(|(_, role)| *role)
    }

    /// A claim by its name, or by a path as `/realm_access/roles` (RFC 6901).
    fn claim<'a>(&self, told: &'a Told, name: &str) -> Option<&'a Value> {
        let all = &told.additional_claims().0;
        let Some(path) = name.strip_prefix('/') else { return all.get(name) };
        match path.split_once('/') {
            Some((first, rest)) => all.get(first)?.pointer(&format!("/{rest}")),
            None => all.get(path),
        }
    }
}
