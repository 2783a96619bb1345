//! An alert → a body as Alertmanager's webhooks have it, or the house's own, signed.
//!
//! *Spec*: Prometheus, "Alerting: configuration", `webhook_config`, version 4 of the body. The signature is
//! `t=SECONDS,v1=HMAC-SHA-256(secret, SECONDS.BODY)`: who checks it also looks at the time.

use serde_json::{Value, json};

use super::content::Content;
use super::http::{Post, post};
use super::{ChannelError, secret};
use crate::digest::{hex, hmac};
use crate::rules::channel::{Channel, Webhook};
use crate::rules::text;
use crate::time::SECOND;

pub(super) async fn send(of: &Webhook, channel: &Channel, content: &Content) -> Result<(), ChannelError> {
    let url = match (&of.url, &of.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => secret(file).await?,
        (None, None) => return Err(ChannelError::Address(String::new())),
    };
    let body = made(of, channel, content)?;
    let mut headers = vec![("idempotency-key", content.key())];
    if let Some(file) = &of.secret_file {
        headers.push(("x-spoor-signature", sign(&secret(file).await?, content.at.0 / SECOND, &body)));
    }
    if let Some(file) = &of.token_file {
        headers.push(("authorization", format!("Bearer {}", secret(file).await?)));
    }
    let content_type = of.content_type.as_deref().unwrap_or("application/json");
    let (allow_private, has_token) = (channel.allow_private, of.token_file.is_some());
    post(Post { url: &url, content_type, headers, body, allow_private, has_token }).await.map(|_| ())
}

/// The body that is sent.
pub(super) fn made(of: &Webhook, channel: &Channel, content: &Content) -> Result<Vec<u8>, ChannelError> {
    let whole = body(content, &channel.name);
    match &of.template {
        Some(template) => {
            text::render_body(template, &whole).map(String::into_bytes).map_err(ChannelError::Template)
        }
        None => Ok(serde_json::to_vec(&whole).unwrap_or_default()),
    }
}

fn body(content: &Content, receiver: &str) -> Value {
    let (labels, annotations) = (content.labels(true), content.annotations());
    let alert = &content.alert;
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alert=\"{}\"}}", alert.fingerprint),
        "truncatedAlerts": 0,
        "status": content.status(),
        "receiver": receiver,
        "groupLabels": { "alertname": alert.rule },
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": content.pages,
        "alerts": [{
            "status": content.status(),
            "labels": labels,
            "annotations": annotations,
            "startsAt": content.starts_at(),
            "endsAt": if content.is_over() { content.ends_at() } else { "0001-01-01T00:00:00Z".to_owned() },
            "generatorURL": content.link,
            "fingerprint": alert.fingerprint,
        }],
        "spoor": {
            "alert": alert.id.0,
            "what": content.what.name(),
            "message": content.id,
            "attempt": content.attempts,
            "rule": alert.rule,
            "order": alert.number,
            "orders": alert.members,
            "place": alert.held.place,
            "severity": alert.severity.name(),
            "late": alert.late,
            "title": content.title,
            "text": content.text,
            "link": content.link,
        },
    })
}

fn sign(secret: &str, seconds: i64, body: &[u8]) -> String {
    let mac = hmac(secret.as_bytes(), &[seconds.to_string().as_bytes(), b".", body]);
    format!("t={seconds},v1={}", hex(&mac))
}
