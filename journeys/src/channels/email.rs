//! An alert → a message by SMTP, as text and as HTML; messages of one alert are one thread.
//!
//! *Spec*: RFC 5321 (SMTP), RFC 5322 section 3.6.4 (`Message-ID`, `References`), RFC 3834 (`Auto-Submitted`), RFC 3207
//! (STARTTLS).

use std::net::SocketAddr;
use std::time::Duration;

use lettre::address::AddressError;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::{Address, Message};

use super::content::Content;
use super::telegram::escape;
use super::{ChannelError, Taken, secret, text_of};
use crate::fold::StageState;
use crate::intake::chain;
use crate::networks::is_private;
use crate::rules::channel::{Channel, Email, MailTls};
use crate::sentence::Language;

/// The server may take so long until it is there.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a file of authorities: those of a whole system are a quarter of that.
const MAX_AUTHORITIES: usize = 1 << 20;

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

/// Sends it to each receiver by itself: one that the server refuses keeps it from nobody else, and when it is tried again
/// for those who do not have it, `taken` knows who has. It is given up only where all are refused for ever: of an alert that
/// somebody has they are to have the end as well.
pub(super) async fn send(
    of: &Email,
    channel: &Channel,
    content: &Content,
    taken: &Taken,
) -> Result<(), ChannelError> {
    let message = message(of, content)?.formatted();
    let from = mailbox(&of.from)?.email;
    let mut left = Vec::new();
    for to in &of.to {
        let to = mailbox(to)?.email;
        if !taken.is_done(content.id, to.as_ref()) && !left.contains(&to) {
            left.push(to);
        }
    }
    if left.is_empty() {
        let refused = || ChannelError::Bad("for all receivers".to_owned());
        return if taken.by_some(content.id) { Ok(()) } else { Err(refused()) };
    }
    let mut connection = connect(of, channel).await?;
    let (mut refused, mut later) = (None, None);
    for (nth, to) in left.iter().enumerate() {
        // What is left of the transaction before goes (RFC 5321 section 4.1.1.5).
        if nth > 0 && connection.command(Rset).await.is_err() {
            later = Some(ChannelError::Mail("the server ended the connection before all had it".to_owned()));
            break;
        }
        match transaction(&mut connection, &from, to, &message).await {
            Ok(()) => taken.add(content.id, to.as_ref()),
            Err(Failed::Final(why)) => {
                // That receiver never gets it; the others may.
                tracing::error!(channel = channel.name, why, "mail is given up for a receiver");
                taken.give_up(content.id, to.as_ref());
                refused = Some(ChannelError::Bad(format!("for {to}: {why}")));
            }
            Err(Failed::Refused(why)) => later = Some(ChannelError::Mail(format!("for {to}: {why}"))),
            Err(Failed::Broken(why)) => {
                later = Some(ChannelError::Mail(format!("for {to}: {why}")));
                break;
            }
        }
    }
    let _ = connection.quit().await;
    let refused = refused.filter(|_| !taken.by_some(content.id));
    later.or(refused).map_or(Ok(()), Err)
}

/// Why a receiver does not have it.
enum Failed {
    /// And never will.
    Final(String),
    /// Not now.
    Refused(String),
    /// The server did not answer; nothing follows on this connection.
    Broken(String),
}

impl From<SmtpError> for Failed {
    fn from(error: SmtpError) -> Self {
        let why = chain(&error);
        if error.status().is_some() { Failed::Refused(why) } else { Failed::Broken(why) }
    }
}

/// One message to one receiver (RFC 5321 section 3.3). Only its text may be refused for ever: 552 says that it is too much,
/// 554 that it is not wanted (section 4.2.3). Whom a server does not know or does not let in today it may tomorrow.
async fn transaction(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    message: &[u8],
) -> Result<(), Failed> {
    let mut parameters = Vec::new();
    // What is not ASCII goes only to a server that says that it can have it (RFC 6531 section 3.4, RFC 6152 section 3).
    let has = |extension| connection.server_info().supports_feature(extension);
    if [from, to].into_iter().any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !has(Extension::SmtpUtfEight) {
            return Err(Failed::Refused("the server takes addresses in ASCII only".to_owned()));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !message.is_ascii() {
        if !has(Extension::EightBitMime) {
            return Err(Failed::Refused("the server takes text in ASCII only".to_owned()));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    connection.command(Mail::new(Some(from.clone()), parameters)).await?;
    connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
    connection.command(Data).await?;
    match connection.message(message).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.status().map(u16::from), Some(552 | 554)) => {
            Err(Failed::Final(chain(&error)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Addresses at which the server may be told.
async fn addresses(of: &Email, channel: &Channel) -> Result<Vec<SocketAddr>, ChannelError> {
    let found = tokio::net::lookup_host((of.server.as_str(), port(of))).await;
    let found: Vec<SocketAddr> = found.map_err(|error| ChannelError::Connect(error.to_string()))?.collect();
    if !channel.allow_private && found.iter().any(|address| is_private(address.ip())) {
        return Err(ChannelError::Private(of.server.clone()));
    }
    if of.tls == MailTls::None && !found.iter().all(|address| address.ip().to_canonical().is_loopback()) {
        return Err(ChannelError::Plain(of.server.clone()));
    }
    Ok(found)
}

fn port(of: &Email) -> u16 {
    of.port.unwrap_or(match of.tls {
        MailTls::Starttls => 587,
        MailTls::Tls => 465,
        MailTls::None => 25,
    })
}

/// A connection on which mail may be given: with TLS where there shall be, and with whoever sends known to the server.
async fn connect(of: &Email, channel: &Channel) -> Result<AsyncSmtpConnection, ChannelError> {
    let mail = |error: SmtpError| ChannelError::Mail(chain(&error));
    let addresses = addresses(of, channel).await?;
    let tls = match of.tls {
        MailTls::None => None,
        MailTls::Starttls | MailTls::Tls => Some(tls_parameters(of).await?),
    };
    let hello = ClientId::default();
    let from_the_beginning = tls.clone().filter(|_| of.tls == MailTls::Tls);
    let connected = AsyncSmtpConnection::connect_tokio1(
        addresses.as_slice(),
        Some(PATIENCE),
        &hello,
        from_the_beginning,
        None,
    );
    let mut connection = connected.await.map_err(mail)?;
    if let (MailTls::Starttls, Some(tls)) = (of.tls, tls) {
        // A server that cannot is told nothing.
        connection.starttls(tls, &hello).await.map_err(mail)?;
    }
    if let (Some(user), Some(file)) = (&of.user, &of.password_file) {
        let credentials = Credentials::new(user.clone(), secret(file).await?);
        connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(mail)?;
    }
    Ok(connection)
}

async fn tls_parameters(of: &Email) -> Result<TlsParameters, ChannelError> {
    let mail = |error: SmtpError| ChannelError::Mail(chain(&error));
    let mut parameters = TlsParameters::builder(of.server.clone());
    if let Some(file) = &of.ca_file {
        let pem = text_of(file, MAX_AUTHORITIES).await?;
        parameters = parameters.add_root_certificate(Certificate::from_pem(pem.as_bytes()).map_err(mail)?);
    }
    parameters.build_rustls().map_err(mail)
}

/// Whether all addresses are some, before anything is sent.
pub(super) fn check(of: &Email, content: &Content) -> Result<(), ChannelError> {
    message(of, content).map(|_| ())
}

fn mailbox(text: &str) -> Result<Mailbox, ChannelError> {
    text.parse().map_err(|error: AddressError| ChannelError::Mail(format!("`{text}`: {}", chain(&error))))
}

fn message(of: &Email, content: &Content) -> Result<Message, ChannelError> {
    let from = mailbox(&of.from)?;
    let domain = from.email.domain().to_owned();
    let thread = format!("<spoor-{}@{domain}>", content.alert.fingerprint);
    let mut builder = Message::builder().from(from).subject(one_line(&content.title)).header(AutoSubmitted);
    for to in &of.to {
        builder = builder.to(mailbox(to)?);
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
    builder.multipart(parts).map_err(|error| ChannelError::Mail(chain(&error)))
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
