//! What a house says of where alerts are told → [`Channel`]s and [`Route`]s.
//!
//! Secrets are never here: a file is named that holds each. *Must not know* how anything is sent: whether a template can be
//! used and an address of mail is one, the channels themselves say.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{Pattern, Severity};
use crate::facts::At;
use crate::model::parse_limit;
use crate::sentence::Language;
use crate::time::{DAY, HOUR, MINUTE};

/// Messages of one channel in a minute, where the house sets no other bound.
const PER_MINUTE: u32 = 30;
/// More than this is no bound.
const MAX_PER_MINUTE: u32 = 6_000;

/// Where alerts are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub name: String,
    pub kind: Kind,
    pub min_severity: Severity,
    pub language: Language,
    /// Minutes of the day from and to, in which only what is critical is told. May go over midnight.
    pub quiet: Option<(i64, i64)>,
    pub zone: TimeZone,
    /// What still fires, and nobody took, is told again after so long.
    pub repeat: Option<i64>,
    pub per_minute: u32,
    /// Its address may be of this machine or of a private network.
    pub allow_private: bool,
}

/// How it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Alertmanager(Alertmanager),
    Webhook(Webhook),
    Email(Email),
    Telegram(Telegram),
    /// Slack, Mattermost, Rocket.Chat: an incoming webhook.
    Chat(Chat),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Alertmanager(_) => "alertmanager",
            Kind::Webhook(_) => "webhook",
            Kind::Email(_) => "email",
            Kind::Telegram(_) => "telegram",
            Kind::Chat(_) => "chat",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// All instances of a cluster: each is told.
    pub urls: Vec<String>,
    /// Orders' numbers become a label.
    #[serde(default)]
    pub order_label: bool,
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: Option<String>,
    /// For an address that is a secret.
    pub url_file: Option<PathBuf>,
    /// Signs what is sent: HMAC-SHA-256.
    pub secret_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    /// The body, as a template; that of Alertmanager's webhooks when there is none.
    pub template: Option<String>,
    pub content_type: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    pub server: String,
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: MailTls,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// Authorities besides the machine's own, as PEM.
    pub ca_file: Option<PathBuf>,
    pub from: String,
    pub to: Vec<String>,
}

/// How mail is kept from strangers on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// The connection becomes one of TLS before anything is said.
    #[default]
    Starttls,
    /// It is one from the beginning.
    Tls,
    /// Only to this machine.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telegram {
    pub token_file: PathBuf,
    pub chat: String,
    pub thread: Option<i64>,
    /// A Bot API server of the house.
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    pub url_file: PathBuf,
    /// Another room than the webhook's own.
    pub channel: Option<String>,
}

/// Which alerts go where. All conditions must hold; the first route that fits takes an alert, unless it says `continue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub severity: Option<Severity>,
    pub rule: Option<Pattern>,
    pub place: Option<Pattern>,
    pub to: Vec<String>,
    pub goes_on: bool,
}

impl Route {
    fn fits(&self, rule: &str, place: &str, severity: Severity) -> bool {
        self.severity.is_none_or(|least| severity >= least)
            && self.rule.as_ref().is_none_or(|pattern| pattern.fits(rule))
            && self.place.as_ref().is_none_or(|pattern| pattern.fits(place))
    }
}

/// The channels that are told: those that the rule names, else those of the routes, else all.
pub fn channels_of<'a>(
    channels: &'a [Channel],
    routes: &'a [Route],
    notify: &[String],
    (rule, place, severity): (&str, &str, Severity),
) -> Vec<&'a Channel> {
    let mut names: Vec<&str> = notify.iter().map(String::as_str).collect();
    if names.is_empty() && routes.is_empty() {
        names = channels.iter().map(|channel| channel.name.as_str()).collect();
    } else if names.is_empty() {
        for route in routes.iter().filter(|route| route.fits(rule, place, severity)) {
            names.extend(route.to.iter().map(String::as_str));
            if !route.goes_on {
                break;
            }
        }
    }
    let is_told =
        |channel: &&Channel| names.contains(&channel.name.as_str()) && severity >= channel.min_severity;
    channels.iter().filter(is_told).collect()
}

impl Channel {
    /// When something may be told that could be told at `at`: what is not critical waits for the end of the quiet hours.
    pub fn may_tell(&self, severity: Severity, at: At) -> At {
        let (Some((from, to)), false) = (self.quiet, severity == Severity::Critical) else { return at };
        let Ok(time) = Timestamp::from_microsecond(at.0) else { return at };
        let zoned = time.to_zoned_datetime(self.zone.clone());
        let minute = i64::from(zoned.hour()) * 60 + i64::from(zoned.minute());
        let is_quiet = if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to };
        if !is_quiet {
            return at;
        }
        let left = (to - minute).rem_euclid(24 * 60);
        At(at.0.div_euclid(MINUTE) * MINUTE).after(left * MINUTE)
    }
}

/// As a file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ChannelText {
    alertmanager: Option<Alertmanager>,
    webhook: Option<Webhook>,
    email: Option<Email>,
    telegram: Option<Telegram>,
    slack: Option<Chat>,
    mattermost: Option<Chat>,
    min_severity: Severity,
    language: Option<String>,
    quiet: Option<String>,
    zone: Option<String>,
    repeat: Option<String>,
    per_minute: Option<u32>,
    allow_private: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RouteText {
    severity: Option<Severity>,
    rule: Option<String>,
    place: Option<String>,
    pub(super) to: Vec<String>,
    #[serde(rename = "continue")]
    goes_on: bool,
}

impl RouteText {
    pub(super) fn read(self) -> Route {
        let pattern = |text: Option<String>| text.map(|text| Pattern::new(&text));
        Route {
            severity: self.severity,
            rule: pattern(self.rule),
            place: pattern(self.place),
            to: self.to,
            goes_on: self.goes_on,
        }
    }
}

impl ChannelText {
    pub(super) fn read(self, name: &str) -> Result<Channel, String> {
        let kinds = [
            self.alertmanager.map(Kind::Alertmanager),
            self.webhook.map(Kind::Webhook),
            self.email.map(Kind::Email),
            self.telegram.map(Kind::Telegram),
            self.slack.map(Kind::Chat),
            self.mattermost.map(Kind::Chat),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return Err(
                "a channel is one of alertmanager, webhook, email, telegram, slack, mattermost".to_owned()
            );
        };
        check(&kind)?;
        let language = match self.language.as_deref() {
            None => Language::Ru,
            Some(text) => Language::parse(text).ok_or_else(|| format!("`{text}` is neither ru nor en"))?,
        };
        let zone = match self.zone.as_deref() {
            None => TimeZone::UTC,
            Some(zone) => TimeZone::get(zone).map_err(|_| format!("`{zone}` is no time zone"))?,
        };
        let quiet = self.quiet.as_deref().map(quiet).transpose()?;
        if quiet.is_some() && self.zone.is_none() {
            return Err("`quiet` needs `zone`: it is an hour of the day somewhere".to_owned());
        }
        let repeat = self.repeat.as_deref().map(|text| {
            let repeat = parse_limit(text).filter(|repeat| repeat.0 >= MINUTE && repeat.0 <= 30 * DAY);
            repeat.map(|repeat| repeat.0).ok_or_else(|| format!("`{text}` is no time from 1m to 30d"))
        });
        let per_minute = self.per_minute.unwrap_or(PER_MINUTE);
        if per_minute == 0 || per_minute > MAX_PER_MINUTE {
            return Err(format!("`per_minute` is from 1 to {MAX_PER_MINUTE}"));
        }
        Ok(Channel {
            name: name.to_owned(),
            kind,
            min_severity: self.min_severity,
            language,
            quiet,
            zone,
            repeat: repeat.transpose()?,
            per_minute,
            allow_private: self.allow_private,
        })
    }
}

fn check(kind: &Kind) -> Result<(), String> {
    match kind {
        Kind::Alertmanager(of) if of.urls.is_empty() => Err("`urls` names no Alertmanager".to_owned()),
        Kind::Alertmanager(of) => of.urls.iter().try_for_each(|url| address(url, of.token_file.is_some())),
        Kind::Webhook(of) => match (&of.url, &of.url_file) {
            (Some(url), None) => address(url, of.token_file.is_some()),
            (None, Some(_)) => Ok(()),
            _ => Err("a webhook has one of url and url_file".to_owned()),
        },
        Kind::Email(of) if of.to.is_empty() => Err("`to` names nobody".to_owned()),
        Kind::Email(of) if of.user.is_some() != of.password_file.is_some() => {
            Err("`user` and `password_file` go together".to_owned())
        }
        Kind::Email(of) if of.tls == MailTls::None && of.user.is_some() => {
            Err("a password goes over TLS only".to_owned())
        }
        Kind::Email(of) if of.tls == MailTls::None && !is_this_machine(&of.server) => Err(format!(
            "`{}` is another machine: mail goes there with `tls: starttls` or `tls: tls`, without TLS only to this machine (localhost, 127.0.0.1)",
            of.server
        )),
        // The token is a part of the address.
        Kind::Telegram(of) => of.url.as_deref().map_or(Ok(()), |url| address(url, true)),
        Kind::Email(_) | Kind::Chat(_) => Ok(()),
    }
}

/// Whether a host is this machine, as far as a name can tell: `localhost`, `127.0.0.1` and those like it, `[::1]`.
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        |rest: &str| rest.split('.').count() == 3 && rest.split('.').all(|n| n.parse::<u8>().is_ok());
    host.eq_ignore_ascii_case("localhost")
        || host == "::1"
        || host.strip_prefix("127.").is_some_and(is_loopback)
}

fn address(url: &str, has_token: bool) -> Result<(), String> {
    let (is_plain, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(format!("`{url}` is no address: write http:// or https://")),
    };
    // A name and a password before the host would be a secret in this file.
    if rest.split('/').next().unwrap_or("").contains('@') {
        return Err("an address with a password in it: secrets are in files of their own".to_owned());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = match authority.split_once(']') {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or(""),
    };
    // Whoever sends looks at it again, when the address is in a file and where its name leads.
    if is_plain && has_token && !is_this_machine(host) {
        return Err(format!(
            "`{host}` is another machine, and everybody on the way would read the token: write https://"
        ));
    }
    Ok(())
}

/// `22:00-07:00`.
fn quiet(text: &str) -> Result<(i64, i64), String> {
    let minute = |text: &str| -> Option<i64> {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
        ((0..24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * (HOUR / MINUTE) + minute)
    };
    text.split_once('-')
        .and_then(|(from, to)| Some((minute(from)?, minute(to)?)))
        .filter(|(from, to)| from != to)
        .ok_or_else(|| format!("`{text}` are no hours: write such as 22:00-07:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str, min_severity: Severity) -> Channel {
        let text = ChannelText {
            telegram: Some(Telegram {
                token_file: "t".into(),
                chat: "1".to_owned(),
                thread: None,
                url: None,
            }),
            min_severity,
            quiet: Some("22:00-07:00".to_owned()),
            zone: Some("Europe/Moscow".to_owned()),
            ..ChannelText::default()
        };
        text.read(name).expect("a channel")
    }

    #[test]
    fn quiet_hours_hold_what_is_not_critical_until_the_morning() {
        let channel = channel("chat", Severity::Info);
        let at = |text: &str| At(text.parse::<Timestamp>().expect("a time").as_microsecond());
        for (given, expected) in [
            ("2026-11-30T18:59:59Z", "2026-11-30T18:59:59Z"),
            ("2026-11-30T19:00:00Z", "2026-12-01T04:00:00Z"),
            ("2026-12-01T03:59:30Z", "2026-12-01T04:00:00Z"),
            ("2026-12-01T04:00:00Z", "2026-12-01T04:00:00Z"),
        ] {
            assert_eq!(channel.may_tell(Severity::Warning, at(given)), at(expected), "{given}");
            assert_eq!(channel.may_tell(Severity::Critical, at(given)), at(given));
        }
    }

    #[test]
    fn an_alert_goes_where_its_rule_or_the_first_route_says() {
        let channels = [channel("chat", Severity::Info), channel("duty", Severity::Critical)];
        let route = |rule: &str, to: &str, goes_on| Route {
            severity: None,
            rule: Some(Pattern::new(rule)),
            place: None,
            to: vec![to.to_owned()],
            goes_on,
        };
        let told = |routes: &[Route], notify: &[&str], severity| -> Vec<String> {
            let notify: Vec<String> = notify.iter().map(|name| (*name).to_owned()).collect();
            let found = channels_of(&channels, routes, &notify, ("lost", "priced", severity));
            found.into_iter().map(|channel| channel.name.clone()).collect()
        };
        assert_eq!(told(&[], &[], Severity::Critical), ["chat", "duty"]);
        assert_eq!(told(&[], &[], Severity::Warning), ["chat"], "less than the duty wants to hear");
        assert_eq!(told(&[route("lost", "duty", false)], &[], Severity::Critical), ["duty"]);
        let both = [route("lost", "duty", true), route("*", "chat", false)];
        assert_eq!(told(&both, &[], Severity::Critical), ["chat", "duty"]);
        assert_eq!(told(&both, &["chat"], Severity::Critical), ["chat"]);
        assert!(told(&[route("other", "duty", false)], &[], Severity::Critical).is_empty());
    }

    #[test]
    fn what_is_no_channel_says_why() {
        let read = |json: serde_json::Value| {
            serde_json::from_value::<ChannelText>(json).map_err(|error| error.to_string())?.read("x")
        };
        for (given, named) in [
            (serde_json::json!({}), "one of alertmanager"),
            (
                serde_json::json!({"webhook": {"url": "https://x"}, "telegram": {"token_file": "t", "chat": "1"}}),
                "one of alertmanager",
            ),
            (serde_json::json!({"webhook": {}}), "one of url"),
            (serde_json::json!({"webhook": {"url": "ftp://x"}}), "no address"),
            (serde_json::json!({"webhook": {"url": "https://me:secret@x/"}}), "secrets are in files"),
            (serde_json::json!({"alertmanager": {"urls": []}}), "no Alertmanager"),
            (serde_json::json!({"slack": {"url": "https://hooks"}}), "unknown field"),
            (serde_json::json!({"slack": {"url_file": "f"}, "quiet": "22:00-07:00"}), "needs `zone`"),
            (serde_json::json!({"slack": {"url_file": "f"}, "language": "de"}), "neither ru nor en"),
            (serde_json::json!({"slack": {"url_file": "f"}, "repeat": "1s"}), "no time"),
            (serde_json::json!({"slack": {"url_file": "f"}, "per_minute": 0}), "from 1"),
            (serde_json::json!({"email": {"server": "m", "from": "a@b", "to": []}}), "nobody"),
            (
                serde_json::json!({"email": {"server": "m", "from": "a@b", "to": ["c@d"], "user": "u"}}),
                "go together",
            ),
            (
                serde_json::json!({"email": {"server": "m", "from": "a@b", "to": ["c@d"], "user": "u", "password_file": "p", "tls": "none"}}),
                "over TLS only",
            ),
            (
                serde_json::json!({"email": {"server": "mail.example", "from": "a@b", "to": ["c@d"], "tls": "none"}}),
                "`mail.example` is another machine",
            ),
            (
                serde_json::json!({"webhook": {"url": "http://hooks.example/x", "token_file": "t"}}),
                "`hooks.example` is another machine",
            ),
            (
                serde_json::json!({"webhook": {"url": "http://localhost.example/x", "token_file": "t"}}),
                "`localhost.example` is another machine",
            ),
            (
                serde_json::json!({"alertmanager": {"urls": ["https://a", "HTTP://10.0.0.1:9093"], "token_file": "t"}}),
                "no address",
            ),
            (
                serde_json::json!({"alertmanager": {"urls": ["https://a", "http://10.0.0.1:9093"], "token_file": "t"}}),
                "`10.0.0.1` is another machine",
            ),
            (
                serde_json::json!({"telegram": {"token_file": "t", "chat": "1", "url": "http://bots.example"}}),
                "`bots.example` is another machine",
            ),
            (
                serde_json::json!({"webhook": {"url": "http://127.0.0.1.example/x", "token_file": "t"}}),
                "`127.0.0.1.example` is another machine",
            ),
            (
                serde_json::json!({"webhook": {"url": "http://hooks.example?127.0.0.1", "token_file": "t"}}),
                "`hooks.example` is another machine",
            ),
        ] {
            let error = read(given.clone()).expect_err("no channel");
            assert!(error.contains(named), "{given}: {error}");
        }
        for given in [
            serde_json::json!({"email": {"server": "LOCALHOST", "from": "a@b.example", "to": ["c@d.example"], "tls": "none"}}),
            serde_json::json!({"email": {"server": "127.0.0.1", "from": "a@b.example", "to": ["c@d.example"], "tls": "none"}}),
            serde_json::json!({"webhook": {"url": "http://[::1]:8080/x", "token_file": "t"}}),
            serde_json::json!({"webhook": {"url": "https://hooks.example/x", "token_file": "t"}}),
            // Without a token there is nothing to read.
            serde_json::json!({"webhook": {"url": "http://hooks.example/x", "secret_file": "s"}}),
            serde_json::json!({"alertmanager": {"urls": ["http://10.0.0.1:9093"]}}),
        ] {
            assert!(read(given.clone()).is_ok(), "{given}: {:?}", read(given.clone()));
        }
    }
}
