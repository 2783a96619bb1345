//! Alerts → `POST /api/v2/alerts` of each Alertmanager that is named.
//!
//! *Spec*: prometheus/alertmanager `api/v2/openapi.yaml`, `postableAlerts`. All instances of a cluster are told: that one
//! took it is enough, and they agree among themselves.

use serde_json::json;

use super::content::Content;
use super::http::{Post, post};
use super::{ChannelError, secret};
use crate::rules::channel::{Alertmanager, Channel};

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
    let mut result = Ok(());
    let mut taken = false;
    for url in &of.urls {
        let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
        let (headers, body) = (headers.clone(), body.clone());
        let content_type = "application/json";
        match post(Post { url: &url, content_type, headers, body, allow_private: channel.allow_private })
            .await
        {
            Ok(_) => taken = true,
            Err(error) => result = Err(error),
        }
    }
    if taken { Ok(()) } else { result }
}
