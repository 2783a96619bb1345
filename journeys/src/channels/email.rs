//! An alert → a message by SMTP, as text and as HTML; messages of one alert are one thread.
//!
//! *Spec*: RFC 5322 section 3.6.4 (`Message-ID`, `References`), RFC 3834 (`Auto-Submitted`), RFC 3207 (STARTTLS).

use std::time::Duration;

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::content::Content;
use super::target::is_private;
use super::telegram::escape;
use super::{ChannelError, secret};
use crate::fold::StageState;
use crate::rules::channel::{Channel, Email, MailTls};
use crate::sentence::Language;

/// The server may take so long for one step.
const PATIENCE: Duration = Duration::from_secs(15);

/// No machine answers a message of a machine.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

pub(super) async fn send(of: &Email, channel: &Channel, content: &Content) -> Result<(), ChannelError> {
    let message = message(of, content)?;
    allowed(of, channel).await?;
    let transport = transport(of).await?;
    match transport.send(message).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_permanent() => Err(ChannelError::Bad(crate::intake::chain(&error))),
        Err(error) => Err(ChannelError::Mail(crate::intake::chain(&error))),
    }
}

/// The server is one that the channel may lead to.
async fn allowed(of: &Email, channel: &Channel) -> Result<(), ChannelError> {
    if channel.allow_private {
        return Ok(());
    }
    let found = tokio::net::lookup_host((of.server.as_str(), port(of))).await;
    let mut found = found.map_err(|error| ChannelError::Connect(error.to_string()))?;
    match found.find(|address| is_private(address.ip())) {
        Some(_) => Err(ChannelError::Private(of.server.clone())),
        None => Ok(()),
    }
}

fn port(of: &Email) -> u16 {
    of.port.unwrap_or(match of.tls {
        MailTls::Starttls => 587,
        MailTls::Tls => 465,
        MailTls::None => 25,
    })
}

async fn transport(of: &Email) -> Result<AsyncSmtpTransport<Tokio1Executor>, ChannelError> {
    let mail = |error: lettre::transport::smtp::Error| ChannelError::Mail(crate::intake::chain(&error));
    let mut parameters = TlsParameters::builder(of.server.clone());
    if let Some(file) = &of.ca_file {
        let pem = secret(file).await?;
        parameters = parameters.add_root_certificate(Certificate::from_pem(pem.as_bytes()).map_err(mail)?);
    }
    let tls = match of.tls {
        MailTls::Starttls => Tls::Required(parameters.build_rustls().map_err(mail)?),
        MailTls::Tls => Tls::Wrapper(parameters.build_rustls().map_err(mail)?),
        MailTls::None => Tls::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&of.server)
        .port(port(of))
        .tls(tls)
        .timeout(Some(PATIENCE));
    if let (Some(user), Some(file)) = (&of.user, &of.password_file) {
        builder = builder.credentials(Credentials::new(user.clone(), secret(file).await?));
    }
    Ok(builder.build())
}

fn message(of: &Email, content: &Content) -> Result<Message, ChannelError> {
    let wrong = |error: &dyn std::error::Error| ChannelError::Mail(crate::intake::chain(error));
    let from: Mailbox = of.from.parse().map_err(|error: lettre::address::AddressError| wrong(&error))?;
    let domain = from.email.domain().to_owned();
    let thread = format!("<spoor-{}@{domain}>", content.alert.fingerprint);
    let mut builder = Message::builder().from(from).subject(one_line(&content.title)).header(AutoSubmitted);
    for to in &of.to {
        let to: Mailbox = to.parse().map_err(|error: lettre::address::AddressError| wrong(&error))?;
        builder = builder.to(to);
    }
    // The first one is what the others answer.
    builder = match content.what {
        crate::store::alerts::What::Fired => builder.message_id(Some(thread)),
        _ => builder
            .message_id(Some(format!("<spoor-{}@{domain}>", content.key())))
            .references(thread.clone())
            .in_reply_to(thread),
    };
    let parts = MultiPart::alternative_plain_html(text(content), html(content));
    builder.multipart(parts).map_err(|error| wrong(&error))
}

/// A subject is one line, whatever a template made.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn text(content: &Content) -> String {
    [content.title.as_str(), &content.text, &content.link]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// Without pictures: mail programs take them out.
fn html(content: &Content) -> String {
    let mark = |state: &StageState| match state {
        StageState::Done => "✓",
        StageState::Current => "▶",
        StageState::Failed => "✖",
        StageState::Skipped => "–",
        StageState::Ahead => "·",
    };
    let stages: String = content
        .stages
        .iter()
        .map(|(name, state)| format!("<tr><td>{}</td><td>{}</td></tr>", mark(state), escape(name)))
        .collect();
    let stages = if stages.is_empty() { stages } else { format!("<table>{stages}</table>") };
    let link = match (content.link.is_empty(), content.language) {
        (true, _) => String::new(),
        (_, Language::Ru) => format!("<p><a href=\"{}\">Открыть</a></p>", escape(&content.link)),
        (_, Language::En) => format!("<p><a href=\"{}\">Open</a></p>", escape(&content.link)),
    };
    format!(
        "<html lang=\"{}\"><body><h3>{}</h3><p>{}</p>{stages}{link}</body></html>",
        content.language.code(),
        escape(&content.title),
        escape(&content.text)
    )
}
