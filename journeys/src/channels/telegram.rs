//! An alert → `sendMessage` of the Bot API.
//!
//! *Spec*: Telegram Bot API, "sendMessage", "HTML style"; 429 says when to come again.

use serde_json::{Value, json};

use super::content::Content;
use super::http::{Post, post};
use super::{ChannelError, secret};
use crate::rules::channel::{Channel, Telegram};

const API: &str = "https://api.telegram.org";

pub(super) async fn send(of: &Telegram, channel: &Channel, content: &Content) -> Result<(), ChannelError> {
    let base = of.url.as_deref().unwrap_or(API).trim_end_matches('/');
    let url = format!("{base}/bot{}/sendMessage", secret(&of.token_file).await?);
    let body = serde_json::to_vec(&body(of, content)).unwrap_or_default();
    let (content_type, headers) = ("application/json", Vec::new());
    let allow_private = channel.allow_private;
    // It is in the address.
    post(Post { url: &url, content_type, headers, body, allow_private, has_token: true }).await.map(|_| ())
}

fn body(of: &Telegram, content: &Content) -> Value {
    let sign = if content.is_over() { "✅" } else { "⚠️" };
    let mut text = format!("{sign} <b>{}</b>", escape(&content.title));
    if !content.text.is_empty() {
        text.push_str(&format!("\n{}", escape(&content.text)));
    }
    if !content.link.is_empty() {
        text.push_str(&format!("\n<a href=\"{}\">Spoor</a>", escape(&content.link)));
    }
    let mut body = json!({
        "chat_id": of.chat,
        "text": text,
        "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
    });
    if let Some(thread) = of.thread {
        body["message_thread_id"] = json!(thread);
    }
    body
}

/// Foreign text is text: the marks of HTML go.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
