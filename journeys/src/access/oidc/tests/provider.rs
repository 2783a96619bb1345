//! An identity provider for tests: real HTTP on loopback, real signatures, and the lies that are asked of it.
//!
//! It keeps its side of the flow: a code is good once, for the client that has the secret and the verifier of the challenge.
//! What it signs, ring signs: no code of the crate that checks it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use openidconnect::url::Url;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::pkcs8::EncodePrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::intake::now;

pub(super) const CLIENT: &str = "spoor";
pub(super) const SECRET: &str = "the secret of spoor: 0123456789abcdef";
pub(super) const REDIRECT: &str = "https://spoor.example/oidc/callback";

/// Made once: it takes a while.
static RSA: LazyLock<rsa::RsaPrivateKey> =
    LazyLock::new(|| rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).expect("a key"));

/// What is wrong with the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    Nothing,
    Nonce,
    NoNonce,
    Audience,
    AnotherAudience,
    AuthorizedParty,
    Issuer,
    Expired,
    Future,
    AlgorithmNone,
    /// Signed with the client's secret, as any client could.
    AlgorithmHs256,
    /// Signed with the published key of RSA as a secret.
    PublicKeyAsSecret,
    /// Signed with a key that is not the published one of that name.
    Forged,
    UnknownKey,
    NoToken,
    NoGroups,
    OtherGroups,
    OneGroup,
    Name,
    NoJson,
    Trouble,
    Redirect,
    /// An answer without an end.
    Huge,
    /// No answer, and one that stops in its middle.
    Silent,
    Stops,
}

enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

struct Grant {
    challenge: String,
    nonce: String,
}

struct Inner {
    issuer: String,
    key: Mutex<(String, Key)>,
    lie: Mutex<Lie>,
    grants: Mutex<HashMap<String, Grant>>,
    documents: AtomicUsize,
    keys: AtomicUsize,
}

#[derive(Clone)]
pub(super) struct Provider(Arc<Inner>);

impl Provider {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let provider = Self(Arc::new(Inner {
            issuer,
            key: Mutex::new(("first".to_owned(), rsa_key())),
            lie: Mutex::new(Lie::Nothing),
            grants: Mutex::default(),
            documents: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
        }));
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(document))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        provider
    }

    pub(super) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    pub(super) fn lie(&self, lie: Lie) {
        *self.0.lie.lock().expect("no panic") = lie;
    }

    fn lies(&self) -> Lie {
        *self.0.lie.lock().expect("no panic")
    }

    /// From now on it signs with another key, of ES256.
    pub(super) fn rotate(&self, name: &str) {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.expect("a key");
        *self.0.key.lock().expect("no panic") = (name.to_owned(), Key::Ec(ec_key(document.as_ref())));
    }

    /// How often its document and its keys were asked for.
    pub(super) fn asked(&self) -> (usize, usize) {
        (self.0.documents.load(Ordering::Relaxed), self.0.keys.load(Ordering::Relaxed))
    }

    /// A person signs in at the address to which a browser was sent: code and state.
    pub(super) fn sign_in(&self, url: &str) -> (String, String) {
        let url = Url::parse(url).expect("a url");
        let asked: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(url.path(), "/authorize");
        for (name, expected) in [
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", REDIRECT),
            ("scope", "openid profile"),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(asked.get(name).map(String::as_str), Some(expected), "{name} of {url}");
        }
        let code = format!("code {}", asked["state"].get(..8).expect("a long state"));
        let grant = Grant { challenge: asked["code_challenge"].clone(), nonce: asked["nonce"].clone() };
        self.0.grants.lock().expect("no panic").insert(code.clone(), grant);
        (code, asked["state"].clone())
    }

    fn id_token(&self, nonce: &str) -> String {
        let lie = self.lies();
        let seconds = now().0 / 1_000_000;
        let mut claims = json!({
            "iss": self.0.issuer, "sub": "f3b1", "aud": CLIENT, "iat": seconds, "exp": seconds + 60,
            "nonce": nonce, "preferred_username": "anna@house.example", "name": "Anna",
            "groups": ["all", "support"], "realm_access": { "roles": ["it"] },
        });
        let mut set = |name: &str, value: Value| claims[name] = value;
        match lie {
            Lie::Nonce => set("nonce", json!("of another attempt")),
            Lie::Audience => set("aud", json!("another client")),
            Lie::AnotherAudience => set("aud", json!([CLIENT, "another client"])),
            Lie::AuthorizedParty => set("azp", json!("another client")),
            Lie::Issuer => set("iss", json!("https://evil.example")),
            Lie::Expired => set("exp", json!(seconds - 1)),
            Lie::Future => set("iat", json!(seconds + 3_600)),
            Lie::OtherGroups => set("groups", json!(["support-of-another-house", 7, null])),
            Lie::OneGroup => set("groups", json!("support")),
            Lie::Name => set("preferred_username", json!("<b>anna</b>")),
            _ => {}
        }
        for (with, name) in [(Lie::NoGroups, "groups"), (Lie::NoNonce, "nonce")] {
            if lie == with {
                claims.as_object_mut().expect("an object").remove(name);
            }
        }
        let key = self.0.key.lock().expect("no panic");
        let alg = match (lie, &key.1) {
            (Lie::AlgorithmNone, _) => "none",
            (Lie::AlgorithmHs256 | Lie::PublicKeyAsSecret, _) => "HS256",
            (_, Key::Rsa(_)) => "RS256",
            (_, Key::Ec(_)) => "ES256",
        };
        let kid = if lie == Lie::UnknownKey { "another" } else { key.0.as_str() };
        let header = json!({ "typ": "JWT", "alg": alg, "kid": kid });
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let by_secret = |secret: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes()).as_ref().to_vec()
        };
        let random = SystemRandom::new();
        let signature = match (lie, &key.1) {
            (Lie::AlgorithmNone, _) => Vec::new(),
            (Lie::AlgorithmHs256, _) => by_secret(SECRET.as_bytes()),
            (Lie::PublicKeyAsSecret, _) => by_secret(&RSA.n().to_bytes_be()),
            (_, Key::Rsa(pair)) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("signed");
                if lie == Lie::Forged {
                    signature[17] ^= 1;
                }
                signature
            }
            (_, Key::Ec(pair)) => pair.sign(&random, signed.as_bytes()).expect("signed").as_ref().to_vec(),
        };
        format!("{signed}.{}", encode(signature))
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_key() -> Key {
    let document = RSA.to_pkcs8_der().expect("a document");
    Key::Rsa(RsaKeyPair::from_pkcs8(document.as_bytes()).expect("a key"))
}

fn ec_key(document: &[u8]) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document, &SystemRandom::new()).expect("a key")
}

async fn document(State(Provider(of)): State<Provider>) -> Json<Value> {
    of.documents.fetch_add(1, Ordering::Relaxed);
    let issuer = &of.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "end_session_endpoint": format!("{issuer}/logout"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        // It may say so: it is not believed.
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
    }))
}

async fn keys(State(Provider(of)): State<Provider>) -> Json<Value> {
    of.keys.fetch_add(1, Ordering::Relaxed);
    let (kid, key) = &*of.key.lock().expect("no panic");
    let key = match key {
        Key::Rsa(_) => json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
            "n": encode(RSA.n().to_bytes_be()), "e": encode(RSA.e().to_bytes_be()),
        }),
        Key::Ec(pair) => {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            json!({ "kty": "EC", "use": "sig", "crv": "P-256", "kid": kid, "x": encode(x), "y": encode(y) })
        }
    };
    let unknown = json!({ "kty": "of tomorrow", "kid": "other" });
    Json(json!({ "keys": [unknown, key] }))
}

async fn token(
    State(provider): State<Provider>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let said = |name: &str| form.get(name).map(String::as_str).unwrap_or("");
    let id = openidconnect::url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>();
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{CLIENT}:{id}")));
    let is_client =
        headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == basic.as_bytes());
    let grant = provider.0.grants.lock().expect("no panic").remove(said("code"));
    let grant = grant.filter(|grant| grant.challenge == encode(Sha256::digest(said("code_verifier"))));
    let Some(grant) = grant.filter(|_| is_client && said("redirect_uri") == REDIRECT) else {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    };
    let mut answer = json!({ "access_token": "of no use here", "token_type": "Bearer", "expires_in": 60 });
    if provider.lies() != Lie::NoToken {
        answer["id_token"] = json!(provider.id_token(&grant.nonce));
    }
    let endless = |chunk: Option<Bytes>| {
        let chunks =
            tokio_stream::iter(std::iter::repeat(Ok::<_, Infallible>(Bytes::from_static(&[b' '; 4_096]))));
        match chunk {
            None => Body::from_stream(chunks),
            Some(chunk) => {
                let (sender, receiver) = tokio::sync::mpsc::channel(1);
                sender.try_send(Ok::<_, Infallible>(chunk)).expect("room");
                // Kept: the body does not end.
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(sender);
                });
                Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver))
            }
        }
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    match provider.lies() {
        Lie::NoJson => (json, "<html>").into_response(),
        Lie::Trouble => StatusCode::BAD_GATEWAY.into_response(),
        Lie::Redirect => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://127.0.0.1:1/token")]).into_response()
        }
        Lie::Huge => (json, endless(None)).into_response(),
        Lie::Stops => (json, endless(Some(Bytes::from_static(b"{\"access_token\":")))).into_response(),
        Lie::Silent => std::future::pending().await,
        _ => Json(answer).into_response(),
    }
}
