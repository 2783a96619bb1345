//! Alerts → `POST /api/v2/alerts` of each Alertmanager that is named.
//!
//! *Spec*: prometheus/alertmanager `api/v2/openapi.yaml`, `postableAlerts`. All instances of a cluster are told, at the same
//! time: that one took it is enough, and they agree among themselves; one that does not answer holds up nobody.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::content::Content;
use super::http::{Post, post};
use super::{ChannelError, secret};
use crate::rules::channel::{Alertmanager, Channel};

/// One instance may take so long: less than a channel may, so that what another one answered is known then.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn send(
    of: &Alertmanager,
    channel: &Channel,
    contents: &[Content],
) -> Result<(), ChannelError> {
    let alerts: Vec<serde_json::Value> = contents
        .iter()
        .map(|content| {
            json!({
                "labels": content.labels(of.order_label),
                "annotations": content.annotations(),
                "startsAt": content.starts_at(),
                "endsAt": content.ends_at(),
                "generatorURL": content.link,
            })
        })
        .collect();
    let body = serde_json::to_vec(&alerts).unwrap_or_default();
    let mut headers = Vec::new();
    if let Some(file) = &of.token_file {
        headers.push(("authorization", format!("Bearer {}", secret(file).await?)));
    }
    tell(of, channel.allow_private, headers, body, PATIENCE).await
}

/// Tells all instances. Well where one took it; else why one did not, which is final only where it is for all of them.
pub(super) async fn tell(
    of: &Alertmanager,
    allow_private: bool,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    patience: Duration,
) -> Result<(), ChannelError> {
    let has_token = of.token_file.is_some();
    let mut instances = JoinSet::new();
    for url in &of.urls {
        let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
        let (headers, body) = (headers.clone(), body.clone());
        instances.spawn(async move {
            let content_type = "application/json";
            let posted = post(Post { url: &url, content_type, headers, body, allow_private, has_token });
            tokio::time::timeout(patience, posted).await.unwrap_or(Err(ChannelError::Slow))
        });
    }
    let (mut taken, mut result) = (false, Ok(()));
    while let Some(told) = instances.join_next().await {
        match told.unwrap_or_else(|error| Err(ChannelError::Connect(error.to_string()))) {
            Ok(_) => taken = true,
            Err(error) => {
                tracing::debug!(%error, "an instance of Alertmanager did not take alerts");
                if result.is_ok() || !error.is_final() {
                    result = Err(error);
                }
            }
        }
    }
    if taken { Ok(()) } else { result }
}
