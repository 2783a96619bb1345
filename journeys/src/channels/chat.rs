//! An alert → an incoming webhook of Slack, Mattermost or Rocket.Chat.
//!
//! *Spec*: Slack, "Sending messages using incoming webhooks"; Mattermost, "Incoming webhooks" and "Message attachments". In
//! their markup `&`, `<` and `>` are written as in HTML.

use serde_json::{Value, json};

use super::content::Content;
use super::http::{Post, post};
use super::{ChannelError, secret};
use crate::rules::channel::{Channel, Chat};

pub(super) async fn send(of: &Chat, channel: &Channel, content: &Content) -> Result<(), ChannelError> {
    let url = secret(&of.url_file).await?;
    let body = serde_json::to_vec(&body(of, content)).unwrap_or_default();
    let (content_type, headers) = ("application/json", Vec::new());
    let allow_private = channel.allow_private;
    post(Post { url: &url, content_type, headers, body, allow_private, has_token: false }).await.map(|_| ())
}

fn body(of: &Chat, content: &Content) -> Value {
    let title = plain(&content.title);
    let mut attachment = json!({
        "color": content.colour(),
        "fallback": title,
        "title": title,
        "text": plain(&content.text),
        "fields": [
            { "title": "severity", "value": content.alert.severity.name(), "short": true },
            { "title": "rule", "value": content.alert.rule, "short": true },
        ],
    });
    if !content.link.is_empty() {
        attachment["title_link"] = json!(content.link);
    }
    let mut body = json!({ "text": title, "attachments": [attachment] });
    if let Some(room) = &of.channel {
        body["channel"] = json!(room);
    }
    body
}

/// Foreign text calls nobody (`<!channel>`, `@all`) and is no link.
fn plain(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // A mark of no width keeps Mattermost from calling everybody.
    text.replace('@', "@\u{200b}")
}
