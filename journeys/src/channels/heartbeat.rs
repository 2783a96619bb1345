//! The server works → a watcher elsewhere hears of it, who warns when it hears nothing: of a server that is gone no channel can.
//!
//! It is told only while the store answers, so a server that runs and knows nothing is missed as well.

use std::sync::Arc;
use std::time::Duration;

use super::http::{Post, post};
use super::{ChannelError, House, PATIENCE, secret};
use crate::intake::chain;
use crate::rules::heartbeat::{Heartbeat, To};
use crate::store::StoreError;

/// What it hears: nothing of orders.
const WORKS: &[u8] = b"spoor-serve works";

/// Why a watcher was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missed {
    #[error("the store does not answer")]
    Store(#[source] StoreError),
    #[error("the watcher was not reached")]
    Watcher(#[source] ChannelError),
}

/// Tells it again and again, until it is dropped.
pub(super) async fn run(store: Arc<dyn House>, heartbeat: Heartbeat) {
    let mut beats = tokio::time::interval(Duration::from_micros(heartbeat.every.unsigned_abs()));
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        if let Err(error) = beat(&store, &heartbeat).await {
            tracing::warn!(error = %chain(&error), "no heartbeat was sent");
        }
    }
}

/// Tells it once.
pub(super) async fn beat(store: &Arc<dyn House>, heartbeat: &Heartbeat) -> Result<(), Missed> {
    let store = store.clone();
    let counts = tokio::task::spawn_blocking(move || store.counts().map(|_| ())).await;
    counts.unwrap_or(Err(StoreError::Closed)).map_err(Missed::Store)?;
    let tell = async {
        let url = match &heartbeat.to {
            To::Url(url) => url.clone(),
            To::File(file) => secret(file).await?,
        };
        let (content_type, allow_private) = ("text/plain", heartbeat.allow_private);
        let body = WORKS.to_vec();
        post(Post { url: &url, content_type, headers: Vec::new(), body, allow_private, has_token: false })
            .await
    };
    let told = tokio::time::timeout(PATIENCE, tell).await.unwrap_or(Err(ChannelError::Slow));
    told.map(|_| ()).map_err(Missed::Watcher)
}
