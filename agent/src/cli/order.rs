//! An order's number → what `spoor-serve` says of it, asked over its API and printed for a person.
//!
//! *Owns* the request and the look of the answer. *Must not know* orders: the server does, and says it in the reader's language.
//! Exit codes: 3 nobody named the order, 4 (`--check`) it needs somebody.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use spoor_core::privacy::steers;

/// Nobody named the order.
const NOT_FOUND: u8 = 3;
/// It is stuck, lost or failed.
const NEEDS_SOMEBODY: u8 = 4;
/// A server that is there answers sooner.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer, in bytes: an order has some thousand events at most.
const MAX_ANSWER: usize = 16 << 20;
/// All but unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  SPOOR_TOKEN=$(spoor-serve token me --role support) spoor order 4711
  spoor order crm:SO-77 --api https://spoor.example --token-file ~/.spoor-token

Exit codes: 0 found, 1 failed, 2 wrong usage, 3 nobody named the order, 4 it needs somebody (with --check).")]
pub(super) struct OrderOptions {
    /// The order's number, with its numbering system if it is not the usual one: 4711, crm:SO-77
    #[arg(value_name = "NUMBER")]
    number: String,

    /// Address of spoor-serve
    #[arg(long, value_name = "URL", env = "SPOOR_API", default_value = "http://127.0.0.1:8470")]
    api: String,

    /// File with a token that `spoor-serve token` made; without it the variable SPOOR_TOKEN has one
    #[arg(long, value_name = "FILE", env = "SPOOR_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Print the API's answer as JSON
    #[arg(long)]
    json: bool,

    /// Fail when the order is stuck, lost or failed
    #[arg(long)]
    check: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("`{0}` is no address of spoor-serve: http://127.0.0.1:8470 or https://spoor.example is one")]
    Address(String),
    #[error("`{0}` would carry the token over the network in clear: give an https address")]
    Clear(String),
    #[error(
        "there is no token: `spoor-serve token NAME --role support` makes one, SPOOR_TOKEN or --token-file gives it"
    )]
    NoToken,
    #[error("cannot read the token in {}: {source}", path.display())]
    TokenFile { path: PathBuf, source: std::io::Error },
    #[error("cannot ask {address}: {reason}")]
    Ask { address: String, reason: String },
    #[error("{0} does not know the token, or it is too old")]
    Unknown(String),
    #[error("the token's role may not see orders, or {0} does not answer this address")]
    Forbidden(String),
    #[error("{address} answered {status}")]
    Answer { address: String, status: StatusCode },
    #[error("{0} did not answer in JSON: is it spoor-serve?")]
    NoJson(String),
}

impl OrderError {
    /// It has to be called differently.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Address(_) | Self::Clear(_) | Self::NoToken | Self::TokenFile { .. })
    }
}

pub(super) fn run(options: &OrderOptions) -> Result<ExitCode, OrderError> {
    let address = address(&options.api, &options.number)?;
    let token = token(options)?;
    let failed = |reason: String| OrderError::Ask { address: options.api.clone(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let asked =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(address, &token, &language())).await });
    let answer = asked.unwrap_or_else(|_| Err("no answer within 30 s".to_owned())).map_err(failed)?;
    show(options, answer, &mut std::io::stdout().lock())
}

/// Prints an answer; how this command ends.
fn show(
    options: &OrderOptions,
    (status, body): (StatusCode, Bytes),
    to: &mut impl Write,
) -> Result<ExitCode, OrderError> {
    let api = options.api.clone();
    match status {
        StatusCode::OK | StatusCode::MULTIPLE_CHOICES | StatusCode::NOT_FOUND => {}
        StatusCode::UNAUTHORIZED => return Err(OrderError::Unknown(api)),
        StatusCode::FORBIDDEN => return Err(OrderError::Forbidden(api)),
        status => return Err(OrderError::Answer { address: api, status }),
    }
    let answer: Value = serde_json::from_slice(&body).map_err(|_| OrderError::NoJson(api))?;
    let text = if options.json { json(&answer) } else { page(status, &answer) };
    // A reader that has gone away (`| head`) has read enough.
    let _ = to.write_all(text.as_bytes());
    let needs_somebody = matches!(answer["outcome"].as_str(), Some("stuck" | "lost" | "failed"));
    Ok(match status {
        StatusCode::NOT_FOUND => ExitCode::from(NOT_FOUND),
        _ if options.check && needs_somebody => ExitCode::from(NEEDS_SOMEBODY),
        _ => ExitCode::SUCCESS,
    })
}

/// `http://127.0.0.1:8470` and `4711` ⇒ `http://127.0.0.1:8470/api/v1/orders/4711`. A token goes over networks by TLS only.
fn address(api: &str, number: &str) -> Result<Uri, OrderError> {
    let number = utf8_percent_encode(number.trim(), RESERVED);
    let uri = format!("{}/api/v1/orders/{number}", api.trim_end_matches('/')).parse::<Uri>();
    let uri = uri.map_err(|_| OrderError::Address(api.to_owned()))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(uri),
        Some("http") if is_here => Ok(uri),
        Some("http") if !host.is_empty() => Err(OrderError::Clear(api.to_owned())),
        _ => Err(OrderError::Address(api.to_owned())),
    }
}

fn token(options: &OrderOptions) -> Result<String, OrderError> {
    let token = match &options.token_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| OrderError::TokenFile { path: path.clone(), source })?,
        None => std::env::var("SPOOR_TOKEN").unwrap_or_default(),
    };
    let token = token.trim().to_owned();
    if token.is_empty() { Err(OrderError::NoToken) } else { Ok(token) }
}

/// The language of the environment, as browsers name it: `ru_RU.UTF-8` is `ru`.
fn language() -> String {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    let first = set.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
    if first.starts_with("ru") { "ru".to_owned() } else { "en".to_owned() }
}

async fn ask(address: Uri, token: &str, language: &str) -> Result<(StatusCode, Bytes), String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let request = Request::get(address)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::ACCEPT_LANGUAGE, language)
        .header(header::USER_AGENT, concat!("spoor/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let answer = client.request(request).await.map_err(|error| super::sentence(&error))?;
    let status = answer.status();
    let body =
        Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// What fits on a screen.
fn page(status: StatusCode, answer: &Value) -> String {
    match status {
        StatusCode::NOT_FOUND => format!("{}\n", text(&answer["title"])),
        StatusCode::MULTIPLE_CHOICES => {
            let mut out = format!("{}\n", text(&answer["title"]));
            for order in list(&answer["orders"]) {
                out.push_str(&format!("  {}  {}\n", keys(order), text(&order["sentence"])));
            }
            out
        }
        _ => order(answer),
    }
}

fn order(answer: &Value) -> String {
    let mut out = format!("{}   {}\n\n", keys(answer), text(&answer["outcome"]).to_uppercase());
    out.push_str(&format!("  {}\n", text(&answer["sentence"])));
    for line in list(&answer["unseen"]) {
        out.push_str(&format!("  {}\n", text(line)));
    }
    out.push('\n');
    for stage in list(&answer["stages"]) {
        let sign = match stage["state"].as_str() {
            Some("done") => '✓',
            Some("current") => '▶',
            Some("failed") => '✖',
            Some("skipped") => '–',
            _ => ' ',
        };
        out.push_str(&format!("  {sign} {:<27}  {}\n", text(&stage["at"]), text(&stage["name"])));
    }
    out.push('\n');
    for event in list(&answer["events"]) {
        let (at, system) = (text(&event["at"]), text(&event["system"]));
        out.push_str(&format!("  {at:<27}  {system}: {}", text(&event["text"])));
        match text(&event["how"]) {
            how if how.is_empty() => out.push('\n'),
            how => out.push_str(&format!("  [{how}]\n")),
        }
    }
    out
}

fn keys(order: &Value) -> String {
    let mut keys = list(&order["keys"]).iter().map(text);
    let first = keys.next().unwrap_or_default();
    let others: Vec<String> = keys.collect();
    if others.is_empty() { first } else { format!("{first} ({})", others.join(", ")) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Without what a terminal would obey, or what turns the direction of writing: the answer's words come from traffic.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !steers(*c)).collect()
}

/// The answer in JSON, which means the same and steers nothing: such characters stand in strings only, and are written as escapes
/// (RFC 8259, section 7).
fn json(answer: &Value) -> String {
    let mut out = String::new();
    for c in answer.to_string().chars() {
        match c {
            c if steers(c) => {
                let mut units = [0; 2];
                out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
            }
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(check: bool) -> OrderOptions {
        OrderOptions {
            number: "4711".to_owned(),
            api: "http://127.0.0.1:1".to_owned(),
            token_file: None,
            json: false,
            check,
        }
    }

    /// What is printed, and how the command ends.
    fn shown(status: u16, answer: &Value, check: bool) -> (String, Result<ExitCode, OrderError>) {
        let mut out = Vec::new();
        let status = StatusCode::from_u16(status).expect("a status");
        let end = show(&options(check), (status, Bytes::from(answer.to_string())), &mut out);
        (String::from_utf8(out).expect("text"), end)
    }

    #[test]
    fn a_token_goes_over_networks_by_tls_only() {
        for (api, number, expected) in [
            ("http://127.0.0.1:8470", "4711", Some("http://127.0.0.1:8470/api/v1/orders/4711")),
            ("http://[::1]:8470/", " crm:SO-77 ", Some("http://[::1]:8470/api/v1/orders/crm%3ASO-77")),
            ("http://localhost:8470", "a/../b", Some("http://localhost:8470/api/v1/orders/a%2F..%2Fb")),
            (
                "https://spoor.example",
                "заказ",
                Some("https://spoor.example/api/v1/orders/%D0%B7%D0%B0%D0%BA%D0%B0%D0%B7"),
            ),
            ("http://spoor.example", "1", None),
            ("http://127.0.0.1.evil.example", "1", None),
            ("spoor.example", "1", None),
            ("ftp://127.0.0.1", "1", None),
        ] {
            assert_eq!(address(api, number).ok().map(|uri| uri.to_string()).as_deref(), expected, "{api}");
        }
    }

    #[test]
    fn an_order_is_told_on_one_screen() {
        let answer = json!({
            "keys": ["4711", "crm:SO-77"], "outcome": "stuck", "sentence": "It hangs.\u{1b}[2J", "unseen": ["A gap."],
            "stages": [{ "name": "created", "state": "done", "at": "2026-11-30T09:08:36Z" }, { "name": "priced", "state": "ahead", "at": null }],
            "events": [{ "at": "2026-11-30T09:08:36Z", "system": "Shop", "text": "status created", "how": "written and committed" }],
        });
        let (text, end) = shown(200, &answer, false);
        assert_eq!(
            text,
            "4711 (crm:SO-77)   STUCK\n\n  It hangs.[2J\n  A gap.\n\n  ✓ 2026-11-30T09:08:36Z         created\n                                 priced\n\n  2026-11-30T09:08:36Z         Shop: status created  [written and committed]\n"
        );
        assert_eq!(format!("{:?}", end.expect("found")), format!("{:?}", ExitCode::SUCCESS));
        let (_, end) = shown(200, &answer, true);
        assert_eq!(format!("{:?}", end.expect("found")), format!("{:?}", ExitCode::from(NEEDS_SOMEBODY)));
    }

    #[test]
    fn nothing_of_an_answer_steers_a_terminal() {
        let sentence = "gpj.\u{202e}exe\u{9b}31m\u{1b}[2J\u{2066}\u{200f}\u{feff}\u{7f}";
        let answer = json!({ "keys": [sentence], "outcome": sentence, "sentence": sentence, "stages": [{ "name": sentence, "at": sentence }] });
        let (text, _) = shown(200, &answer, false);
        assert!(text.contains("gpj.exe31m[2J") && !text.chars().any(|c| steers(c) && c != '\n'), "{text:?}");
        let mut out = Vec::new();
        let options = OrderOptions { json: true, ..options(false) };
        show(&options, (StatusCode::OK, Bytes::from(answer.to_string())), &mut out).expect("shown");
        let text = String::from_utf8(out).expect("text");
        assert!(!text.trim_end().chars().any(steers), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), answer);
    }

    #[test]
    fn every_answer_of_the_server_has_its_end() {
        let (text, end) = shown(404, &json!({ "title": "no system named this number" }), true);
        assert_eq!(text, "no system named this number\n");
        assert_eq!(format!("{:?}", end.expect("an answer")), format!("{:?}", ExitCode::from(NOT_FOUND)));
        let several = json!({ "title": "several", "orders": [{ "keys": ["1"], "sentence": "A." }] });
        assert_eq!(shown(300, &several, false).0, "several\n  1  A.\n");
        assert!(matches!(shown(401, &json!({}), false).1, Err(OrderError::Unknown(_))));
        assert!(matches!(shown(403, &json!({}), false).1, Err(OrderError::Forbidden(_))));
        assert!(matches!(shown(503, &json!({}), false).1, Err(OrderError::Answer { .. })));
        let mut out = Vec::new();
        let page = (StatusCode::OK, Bytes::from_static(b"<html>"));
        assert!(matches!(show(&options(false), page, &mut out), Err(OrderError::NoJson(_))));
    }

    #[test]
    fn the_server_is_asked_with_the_token_in_the_readers_language() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let api = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                std::io::Read::read_exact(&mut stream, &mut byte).expect("a request");
                request.extend(byte);
            }
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n{\"title\":\"x\"}";
            stream.write_all(answer.as_bytes()).expect("written");
            String::from_utf8(request).expect("text").to_lowercase()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let asked = ask(address(&api, "4711").expect("an address"), "spoor_secret", "ru");
        let (status, body) = runtime.block_on(asked).expect("an answer");
        assert_eq!((status, body.as_ref()), (StatusCode::NOT_FOUND, b"{\"title\":\"x\"}".as_slice()));
        let request = server.join().expect("no panic");
        assert!(request.starts_with("get /api/v1/orders/4711 http/1.1"), "{request}");
        for header in ["authorization: bearer spoor_secret", "accept-language: ru"] {
            assert!(request.contains(header), "{header} is not in {request}");
        }
    }
}
