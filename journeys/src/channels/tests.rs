use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;

use super::*;
use crate::digest::{hex, hmac};
use crate::facts::Fact;
use crate::rules::{Severity, State as AlertState};
use crate::store::alerts::{Wanted, What};
use crate::store::seal::Master;
use crate::store::sqlite::Sqlite;
use crate::testing::wrote;

/// What came: path, headers, body.
type Heard = (String, HeaderMap, Vec<u8>);

/// A receiver of webhooks on a port of its own.
#[derive(Clone, Default)]
struct Receiver {
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Answers to give before all that follow are well.
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = Router::new().fallback(hear).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, address)
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no panic").clone()
    }
}

async fn hear(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    receiver.heard.lock().expect("no panic").push((uri.to_string(), headers, body.to_vec()));
    match receiver.answers.lock().expect("no panic").pop_front() {
        Some(code @ (301..=308)) => {
            let to = [("location", "/elsewhere".to_owned())];
            (StatusCode::from_u16(code).expect("a code"), to).into_response()
        }
        Some(429) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7".to_owned())]).into_response(),
        Some(code) => StatusCode::from_u16(code).expect("a code").into_response(),
        None => StatusCode::OK.into_response(),
    }
}

/// A channel of a line of YAML.
fn channel(line: &str) -> Channel {
    let text = format!("channels:\n  x: {{ {line}, language: en }}");
    RuleSet::parse(&text, &Model::default()).expect(line).channels.remove(0)
}

fn content() -> Content {
    let mut content = test_content(
        &channel("webhook: { url: 'http://x' }"),
        Some("https://spoor.example"),
        At(1_795_863_723_000_000),
    );
    content.title = "Order <4711> & co: @all".to_owned();
    content.alert.number = "4711".to_owned();
    content.alert.severity = Severity::Critical;
    content
}

fn json(heard: &Heard) -> serde_json::Value {
    serde_json::from_slice(&heard.2).expect("JSON")
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("{text}\n")).expect("a file");
    path.display().to_string()
}

#[tokio::test]
async fn a_webhook_is_signed_and_reads_like_alertmanagers() {
    let (receiver, address) = Receiver::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let secret = file(folder.path(), "secret", "s3cret");
    let channel = channel(&format!(
        "webhook: {{ url: '{address}/hook', secret_file: '{secret}' }}, allow_private: true"
    ));
    deliver(&channel, &[content()]).await.expect("taken");
    let heard = receiver.heard();
    let body = json(&heard[0]);
    assert_eq!((body["version"].as_str(), body["status"].as_str()), (Some("4"), Some("firing")));
    assert_eq!(body["alerts"][0]["labels"]["severity"], "critical");
    assert_eq!(body["spoor"]["order"], "4711");
    let signature = heard[0].1["x-spoor-signature"].to_str().expect("text");
    let (time, mac) = signature.split_once(",v1=").expect("two parts");
    let time = time.strip_prefix("t=").expect("a time");
    let expected = hmac(b"s3cret", &[time.as_bytes(), b".", &heard[0].2]);
    assert_eq!(mac, hex(&expected));
    assert_eq!(heard[0].1["idempotency-key"].to_str().expect("text"), content().key());
}

#[tokio::test]
async fn a_house_has_its_own_body() {
    let (receiver, address) = Receiver::start().await;
    let template = "{\"message\": {{ spoor.title|tojson }}, \"n\": {{ spoor.message }}}";
    let channel =
        channel(&format!("webhook: {{ url: '{address}', template: '{template}' }}, allow_private: true"));
    deliver(&channel, &[content()]).await.expect("taken");
    assert_eq!(json(&receiver.heard()[0])["message"], content().title);
}

#[test]
fn what_can_never_be_sent_is_known_when_the_file_is_read() {
    let tried = |line: &str| check(&channel(line));
    for (template, named) in [
        ("{{ spoor.titel }}", "the template failed"),
        ("{{ spoor.title", "the template failed"),
        // An alert about a place has no order among its labels, and one may have no runbook.
        ("{{ alerts[0].labels.order }}", "the template failed"),
        ("{{ alerts[0].annotations.runbook_url }}", "the template failed"),
        (
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
            "the template failed",
        ),
    ] {
        let error = tried(&format!("webhook: {{ url: 'https://x', template: '{template}' }}"));
        assert!(error.as_ref().is_err_and(|error| error.contains(named)), "{template}: {error:?}");
    }
    for template in [
        "{{ spoor.order }} {{ spoor.title | tojson }} {{ alerts[0].startsAt }}",
        r#"{{ alerts[0].labels.order | default("") }}{% if spoor.orders %}{{ spoor.orders }}{% endif %}"#,
    ] {
        let found = tried(&format!("webhook: {{ url: 'https://x', template: '{template}' }}"));
        assert!(found.is_ok(), "{template}: {found:?}");
    }
    let mail = |to: &str| tried(&format!("email: {{ server: m, from: 'a@b.example', to: [{to}] }}"));
    assert!(mail("'C <c@d.example>', 'e@f.example'").is_ok());
    assert!(mail("'c@d.example', nobody").is_err_and(|error| error.contains("`nobody`")));
}

#[tokio::test]
async fn an_alertmanager_is_told_when_it_began_and_when_it_is_over() {
    let (receiver, address) = Receiver::start().await;
    let away = "http://127.0.0.1:1";
    let channel =
        channel(&format!("alertmanager: {{ urls: ['{away}', '{address}/'] }}, allow_private: true"));
    let mut over = content();
    over.what = What::Resolved;
    over.alert.resolved_at = Some(over.at);
    deliver(&channel, &[content(), over]).await.expect("one of two took it");
    let heard = receiver.heard();
    assert_eq!(heard[0].0, "/api/v2/alerts");
    let body = json(&heard[0]);
    assert_eq!(body.as_array().map(Vec::len), Some(2));
    assert_eq!(body[0]["startsAt"], "2026-11-28T11:02:03Z");
    assert_eq!(
        (&body[0]["endsAt"], &body[1]["endsAt"]),
        (&"2026-11-28T11:06:03Z".into(), &"2026-11-28T11:02:03Z".into())
    );
    assert!(body[0]["labels"].get("order").is_none(), "numbers are no labels unless it is said: {body}");
}

#[tokio::test]
async fn an_instance_that_does_not_answer_holds_up_neither_the_others_nor_the_channel() {
    let (receiver, address) = Receiver::start().await;
    // Connections are taken, and nobody says anything.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = format!("http://{}", listener.local_addr().expect("an address"));
    let urls = format!("urls: ['{silent}', '{silent}', '{address}']");
    let channel = channel(&format!("alertmanager: {{ {urls} }}, allow_private: true"));
    let patience = Duration::from_millis(500);
    let Kind::Alertmanager(of) = &channel.kind else { panic!("{channel:?}") };
    let begin = Instant::now();
    alertmanager::tell(of, true, Vec::new(), b"[]".to_vec(), patience).await.expect("one of three took it");
    assert!(begin.elapsed() >= patience, "all are waited for");
    assert_eq!(receiver.heard().len(), 1);
    let urls = format!("urls: ['{silent}']");
    let channel = self::channel(&format!("alertmanager: {{ {urls} }}, allow_private: true"));
    let told = hand_over(&channel, &[content()], &Taken::default(), patience).await;
    assert!(matches!(told, Err(ChannelError::Slow)), "whatever is handed over has an end: {told:?}");
}

/// Answers one request with `code` when `first` is over, says nothing else, and lets go of `then` when the other end is gone.
async fn answers_once(
    code: u16,
    first: Option<tokio::sync::oneshot::Receiver<()>>,
    then: Option<tokio::sync::oneshot::Sender<()>>,
) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody");
        let mut buffer = [0; 4 << 10];
        assert!(stream.read(&mut buffer).await.expect("a request") > 0);
        if let Some(first) = first {
            let _ = first.await;
        }
        let answer = format!("HTTP/1.1 {code} no\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("written");
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        drop(then);
    });
    address
}

#[tokio::test]
async fn alerts_are_given_up_only_when_no_instance_will_ever_take_them_whichever_answers_last() {
    for (first, last, is_final) in [(500, 400, false), (400, 500, false), (400, 422, true)] {
        let (over, is_over) = tokio::sync::oneshot::channel();
        let first_url = answers_once(first, None, Some(over)).await;
        let last_url = answers_once(last, Some(is_over), None).await;
        let urls = format!("urls: ['{first_url}', '{last_url}']");
        let channel = channel(&format!("alertmanager: {{ {urls} }}, allow_private: true"));
        let error = deliver(&channel, &[content()]).await.expect_err("nobody took it");
        assert_eq!(error.is_final(), is_final, "{first}, then {last}: {error}");
    }
}

#[tokio::test]
async fn a_token_goes_to_another_machine_over_tls_only_wherever_its_address_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = file(folder.path(), "token", "12:abc");
    let url = file(folder.path(), "url", "http://192.0.2.1/hook");
    let channel =
        channel(&format!("webhook: {{ url_file: '{url}', token_file: '{token}' }}, allow_private: true"));
    let told = deliver(&channel, &[content()]).await;
    assert!(matches!(&told, Err(ChannelError::Plain(host)) if host == "192.0.2.1"), "{told:?}");
    let (receiver, address) = Receiver::start().await;
    let port = address.rsplit(':').next().expect("a port");
    let url = file(folder.path(), "url", &format!("http://localhost:{port}/hook"));
    let channel = self::channel(&format!(
        "webhook: {{ url_file: '{url}', token_file: '{token}' }}, allow_private: true"
    ));
    deliver(&channel, &[content()]).await.expect("this machine may have it");
    assert_eq!(receiver.heard()[0].1["authorization"], "Bearer 12:abc");
}

#[tokio::test]
async fn a_secret_that_is_too_long_is_none_and_authorities_may_be_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let exact = file(folder.path(), "exact", &"x".repeat(MAX_SECRET - 1));
    assert_eq!(secret(Path::new(&exact)).await.expect("as long as may be").len(), MAX_SECRET - 1);
    let long = file(folder.path(), "long", &"x".repeat(MAX_SECRET));
    let error = secret(Path::new(&long)).await.expect_err("half of it is another one");
    assert!(error.to_string().contains("longer than 4096 bytes"), "{error}");
}

#[tokio::test]
async fn telegram_and_chats_get_text_that_is_no_markup() {
    let (receiver, address) = Receiver::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let token = file(folder.path(), "token", "12:abc");
    let telegram = channel(&format!(
        "telegram: {{ token_file: '{token}', chat: '-100', thread: 5, url: '{address}' }}, allow_private: true"
    ));
    deliver(&telegram, &[content()]).await.expect("taken");
    let url = file(folder.path(), "url", &format!("{address}/hooks/abc"));
    let chat = channel(&format!("mattermost: {{ url_file: '{url}', channel: duty }}, allow_private: true"));
    deliver(&chat, &[content()]).await.expect("taken");
    let heard = receiver.heard();
    let (sent, posted) = (json(&heard[0]), json(&heard[1]));
    assert_eq!(heard[0].0, "/bot12:abc/sendMessage");
    assert_eq!((&sent["chat_id"], &sent["message_thread_id"]), (&"-100".into(), &5.into()));
    assert!(sent["text"].as_str().is_some_and(|text| text.contains("&lt;4711&gt; &amp; co")), "{sent}");
    assert_eq!((heard[1].0.as_str(), &posted["channel"]), ("/hooks/abc", &"duty".into()));
    let text = posted["text"].as_str().expect("text");
    assert!(text.contains("&lt;4711&gt;") && !text.contains("@all"), "{text}");
}

#[tokio::test]
async fn nobody_is_led_elsewhere_nor_into_the_house() {
    let (receiver, address) = Receiver::start().await;
    let port = address.rsplit(':').next().expect("a port");
    for url in [address.clone(), format!("http://localhost:{port}"), format!("http://[::1]:{port}")] {
        let closed = channel(&format!("webhook: {{ url: '{url}' }}"));
        let error = deliver(&closed, &[content()]).await.expect_err("private").to_string();
        assert!(error.contains("allow_private"), "{url}: {error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let token = file(folder.path(), "token", "12:abc");
    let with_token =
        channel(&format!("webhook: {{ url: 'http://localhost:{port}', token_file: '{token}' }}"));
    let told = deliver(&with_token, &[content()]).await;
    assert!(matches!(&told, Err(ChannelError::Private(host)) if host == "localhost"), "{told:?}");
    let mail = channel("email: { server: localhost, from: 'a@b.example', to: ['c@d.example'], tls: none }");
    assert!(matches!(deliver(&mail, &[content()]).await, Err(ChannelError::Private(_))));
    assert!(receiver.heard().is_empty());
    receiver.answers.lock().expect("no panic").push_back(302);
    let open = channel(&format!("webhook: {{ url: '{address}' }}, allow_private: true"));
    assert!(matches!(deliver(&open, &[content()]).await, Err(ChannelError::Refused(302))));
    assert_eq!(receiver.heard().len(), 1, "no redirect is followed");
}

#[tokio::test]
async fn answers_say_whether_to_come_again() {
    let (receiver, address) = Receiver::start().await;
    receiver.answers.lock().expect("no panic").extend([429, 400, 500]);
    let open = channel(&format!("webhook: {{ url: '{address}' }}, allow_private: true"));
    assert!(matches!(deliver(&open, &[content()]).await, Err(ChannelError::Later(7))));
    assert!(deliver(&open, &[content()]).await.is_err_and(|error| error.is_final()));
    assert!(deliver(&open, &[content()]).await.is_err_and(|error| !error.is_final()));
    let lost = channel("webhook: { url_file: /nowhere/at/all }, allow_private: true");
    assert!(matches!(deliver(&lost, &[content()]).await, Err(ChannelError::Secret { .. })));
}

#[test]
fn only_so_many_go_in_a_minute() {
    let (mut rate, begin) = (Rate::new(2), Instant::now());
    for (second, expected) in [(0, 2), (1, 1), (2, 0), (59, 0), (60, 1), (61, 1)] {
        let at = begin + Duration::from_secs(second);
        assert_eq!(rate.room(at), expected, "{second}");
        if expected > 0 {
            rate.used(at);
        }
    }
}

/// Messages by the text of the order they are about.
/// Three attempts that fail take 15 s by themselves, 5 and 10 s apart, and each step is looked for every half second.
async fn wait_for(receiver: &Receiver, count: usize) -> Vec<serde_json::Value> {
    for _ in 0..1_200 {
        if receiver.heard().len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    receiver.heard().iter().map(json).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fires_is_told_once_though_the_channel_is_away_at_first_and_its_end_as_well() {
    let (good, bad) = (Receiver::start().await, Receiver::start().await);
    // Longer than it takes to count as broken, and then it is there again.
    bad.0.answers.lock().expect("no panic").extend([500, 500, 500]);
    let rules = format!(
        "rules:\n  - {{ id: backwards, severity: critical }}\n  - {{ id: channel-broken, severity: critical }}\nchannels:\n  good: {{ webhook: {{ url: '{}' }}, allow_private: true, language: en }}\n  bad: {{ webhook: {{ url: '{}' }}, allow_private: true }}\n",
        good.1, bad.1
    );
    let folder = tempfile::tempdir().expect("a folder");
    let model = Arc::new(Model::default());
    let store = Arc::new(
        Sqlite::open(folder.path(), Master::generate().expect("a key"), Model::default()).expect("a store"),
    );
    store.watch(RuleSet::parse(&rules, &model).expect("rules"), now()).expect("watched");
    let at = now().0 / SECOND - 10;
    let order = |id: u64, second: i64, status: &str| -> Fact {
        wrote("4711", id, at + second, "mes", "orders", status)
    };
    store.ingest(vec![order(1, 0, "a"), order(2, 1, "b"), order(3, 2, "a")], now()).expect("kept");
    let (stop, stopped) = watch::channel(false);
    let counts = Counts::default();
    let set = Alerts::rules(&*store).expect("rules");
    // It is broken for four of these, long enough to be told of.
    let tasks = start_with(store.clone(), set, model, TimeZone::UTC, &counts, &stopped, SECOND);
    let heard = wait_for(&good.0, 1).await;
    assert_eq!(heard[0]["spoor"]["title"], "Order 4711: mes put it back to an earlier stage");
    let broken = wait_for(&good.0, 2).await;
    assert_eq!(broken[1]["spoor"]["rule"], "channel-broken");
    assert_eq!(broken[1]["spoor"]["place"], "bad");
    let over = wait_for(&good.0, 3).await;
    assert_eq!(
        (&over[2]["status"], &over[2]["spoor"]["rule"]),
        (&"resolved".into(), &"channel-broken".into())
    );
    assert_eq!(wait_for(&bad.0, 4).await.len(), 4, "three refusals, then it was taken");
    let keys: Vec<_> = bad.0.heard().iter().map(|heard| heard.1["idempotency-key"].clone()).collect();
    assert!(keys.windows(2).all(|two| two[0] == two[1]), "the same message each time: {keys:?}");
    stop.send_replace(true);
    for task in tasks {
        task.await.expect("ended");
    }
    let firing = store
        .alerts(&Wanted { state: Some(AlertState::Firing), limit: 10, ..Wanted::default() })
        .expect("alerts");
    assert_eq!(firing.len(), 1);
    assert!(firing[0].told.iter().all(|told| told.result == "sent"), "{firing:?}");
    let sent: u64 = counts.all().iter().filter(|(_, word, _)| *word == "sent").map(|(.., count)| count).sum();
    assert_eq!(sent, 4);
}

/// A small mail server for one connection: what it was told, line by line. With TLS from the beginning, after STARTTLS, or
/// never.
async fn mail_server(
    tls: Option<(tokio_rustls::TlsAcceptor, bool)>,
) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("somebody");
        match tls {
            None => mail(stream, true, false, &[]).await.1,
            Some((acceptor, true)) => {
                mail(acceptor.accept(stream).await.expect("TLS"), true, false, &[]).await.1
            }
            Some((acceptor, false)) => {
                let (stream, mut heard) = mail(stream, true, true, &[]).await;
                heard.extend(mail(acceptor.accept(stream).await.expect("TLS"), false, false, &[]).await.1);
                heard
            }
        }
    });
    (port, served)
}

/// A mail server without TLS that answers as `answers` say to lines that begin so, and takes any number of connections. The
/// end of a message's text is `. ` and whom it was for.
async fn refusing_mail_server(answers: &[(&'static str, &'static str)]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (all, answers) = (heard.clone(), answers.to_vec());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let lines = mail(stream, true, false, &answers).await.1;
            all.lock().expect("no panic").extend(lines);
        }
    });
    (port, heard)
}

async fn mail<S>(
    stream: S,
    greets: bool,
    offers_tls: bool,
    answers: &[(&'static str, &'static str)],
) -> (S, Vec<String>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
    let mut stream = tokio::io::BufReader::new(stream);
    let (mut heard, mut in_data, mut to) = (Vec::new(), false, String::new());
    if greets {
        stream.write_all(b"220 mail.example\r\n").await.expect("written");
    }
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return (stream.into_inner(), heard);
        }
        let line = line.trim_end().to_owned();
        let ends = in_data && line == ".";
        if let Some(receiver) = line.strip_prefix("RCPT TO:").filter(|_| !in_data) {
            to = receiver.to_owned();
        }
        let said = if ends { format!(". {to}") } else { line.clone() };
        let own = answers.iter().find(|(begin, _)| said.starts_with(begin) && (!in_data || ends));
        let own = own.map(|(_, answer)| format!("{answer}\r\n"));
        let answer: &[u8] = match line.split([' ', ':']).next().unwrap_or("") {
            _ if in_data && !ends => b"",
            "." => b"250 taken\r\n",
            "EHLO" if offers_tls => b"250-mail.example\r\n250 STARTTLS\r\n",
            "EHLO" => b"250-mail.example\r\n250 AUTH PLAIN\r\n",
            "STARTTLS" => b"220 go on\r\n",
            "AUTH" => b"235 you are\r\n",
            "DATA" => b"354 go on\r\n",
            _ => b"250 well\r\n",
        };
        let answer = own.as_ref().map_or(answer, |own| own.as_bytes());
        in_data = (in_data || (line == "DATA" && own.is_none())) && !ends;
        stream.write_all(answer).await.expect("written");
        stream.flush().await.expect("written");
        heard.push(line.clone());
        if line == "STARTTLS" || line == "QUIT" {
            return (stream.into_inner(), heard);
        }
    }
}

#[tokio::test]
async fn mail_goes_over_tls_with_a_password_and_messages_of_one_alert_are_one_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    // As a system has it: the one that is needed behind others, beyond what a secret may have.
    let ca = file(folder.path(), "ca.pem", &format!("{}{}", "# another one\n".repeat(1_000), key.cert.pem()));
    let password = file(folder.path(), "password", "s3cret");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    for (tls, from_the_beginning) in [("tls", true), ("starttls", false)] {
        let mut heard = Vec::new();
        for what in [What::Fired, What::Resolved] {
            let (port, served) = mail_server(Some((acceptor.clone(), from_the_beginning))).await;
            let channel = channel(&format!(
                "email: {{ server: localhost, port: {port}, tls: {tls}, ca_file: '{ca}', user: spoor, password_file: '{password}', from: 'Spoor <spoor@b.example>', to: ['c@d.example', 'e@f.example'] }}, allow_private: true"
            ));
            let content = Content { what, ..content() };
            deliver(&channel, &[content]).await.expect("taken");
            heard.push(served.await.expect("served").join("\n"));
        }
        for expected in [
            "AUTH PLAIN",
            "MAIL FROM:<spoor@b.example>",
            "RCPT TO:<e@f.example>",
            "Auto-Submitted: auto-generated",
            "text/html",
        ] {
            assert!(heard[0].contains(expected), "{expected} is not in\n{}", heard[0]);
        }
        let id = format!("<spoor-{}@b.example>", content().alert.fingerprint);
        assert!(heard[0].contains(&format!("Message-ID: {id}")), "{}", heard[0]);
        assert!(heard[1].contains(&format!("References: {id}")), "{}", heard[1]);
        assert!(heard[0].contains("&lt;4711&gt;"), "in HTML it is text: {}", heard[0]);
    }
    // A server that does not speak TLS is told nothing.
    let (port, served) = mail_server(None).await;
    let channel = channel(&format!(
        "email: {{ server: localhost, port: {port}, from: 'a@b.example', to: ['c@d.example'] }}, allow_private: true"
    ));
    assert!(deliver(&channel, &[content()]).await.is_err());
    let heard = served.await.expect("served").join("\n");
    assert!(!heard.contains("MAIL FROM"), "{heard}");
}

/// Mail without TLS to this machine, for three.
fn mail_to_three(port: u16) -> Channel {
    channel(&format!(
        "email: {{ server: 127.0.0.1, port: {port}, tls: none, from: 'a@b.example', to: ['c@d.example', 'e@f.example', 'g@h.example'] }}, allow_private: true"
    ))
}

/// Who was given the message's text, in order.
fn receivers_of(heard: &Mutex<Vec<String>>) -> Vec<String> {
    let (mut receivers, mut to) = (Vec::new(), None);
    for line in heard.lock().expect("no panic").iter() {
        match line.strip_prefix("RCPT TO:") {
            Some(receiver) => to = Some(receiver.to_owned()),
            None if line == "DATA" => receivers.extend(to.take()),
            None => {}
        }
    }
    receivers
}

#[tokio::test]
async fn a_receiver_that_is_refused_keeps_mail_from_nobody_else_and_nobody_gets_it_twice() {
    let (port, heard) = refusing_mail_server(&[("RCPT TO:<e@f.example>", "550 no such user")]).await;
    let (channel, taken) = (mail_to_three(port), Taken::default());
    for attempt in 1..=2 {
        let told = hand_over(&channel, &[content()], &taken, PATIENCE).await;
        let Err(error) = told else { panic!("one does not have it") };
        assert!(!error.is_final(), "the server may know them tomorrow: {error}");
        assert!(error.to_string().contains("e@f.example"), "{error}");
        let told = receivers_of(&heard);
        assert_eq!(told, ["<c@d.example>", "<g@h.example>"], "attempt {attempt}");
    }
    // Another message is another matter, and so is the same one when it is done with.
    let other = Content { id: content().id + 1, ..content() };
    assert!(hand_over(&channel, &[other], &taken, PATIENCE).await.is_err());
    assert_eq!(receivers_of(&heard).len(), 4);
    taken.forget(content().id);
    assert!(hand_over(&channel, &[content()], &taken, PATIENCE).await.is_err());
    assert_eq!(receivers_of(&heard).len(), 6);
}

#[tokio::test]
async fn mail_is_given_up_only_when_its_text_is_refused_for_ever() {
    for (answers, is_final) in [
        ([("AUTH", "535 who are you"), ("", "")], false),
        ([("MAIL FROM", "550 not from you"), ("", "")], false),
        ([("RCPT TO", "554 no relay"), ("", "")], false),
        ([("DATA", "554 not now"), ("", "")], false),
        ([(".", "550 not wanted"), ("", "")], false),
        ([(".", "451 later"), ("", "")], false),
        ([(".", "554 spam"), ("", "")], true),
        ([(".", "552 too much"), ("", "")], true),
        // Some may have it later.
        ([(".", "554 spam"), ("RCPT TO:<g@h.example>", "450 later")], false),
    ] {
        let answers: Vec<_> = answers.into_iter().filter(|(begin, _)| !begin.is_empty()).collect();
        let (port, _) = refusing_mail_server(&answers).await;
        let mut channel = mail_to_three(port);
        if answers[0].0 == "AUTH" {
            // A file does not allow a password without TLS; what the answer means is the same.
            let folder = tempfile::tempdir().expect("a folder");
            let password = file(folder.path(), "password", "s3cret");
            let Kind::Email(of) = &mut channel.kind else { panic!("{channel:?}") };
            (of.user, of.password_file) = (Some("spoor".to_owned()), Some(password.into()));
            let error = deliver(&channel, &[content()]).await.expect_err("nobody");
            assert!(
                error.to_string().contains("535") || error.to_string().contains("who are you"),
                "{error}"
            );
            assert!(!error.is_final(), "{error}");
            continue;
        }
        let error = deliver(&channel, &[content()]).await.expect_err("refused");
        assert_eq!(error.is_final(), is_final, "{answers:?}: {error}");
    }
}

#[tokio::test]
async fn who_is_refused_for_ever_keeps_those_who_have_it_from_nothing() {
    let spam = "554 spam";
    let (port, heard) = refusing_mail_server(&[(". <e@f.example>", spam)]).await;
    let told = deliver(&mail_to_three(port), &[content()]).await;
    assert!(told.is_ok(), "two have it: {told:?}");
    assert_eq!(receivers_of(&heard).len(), 3);
    // Whoever has it from an attempt before counts, and whoever was given up in one does not.
    let later = ("RCPT TO:<e@f.example>", "450 later");
    for (first, is_final) in [(vec![later], false), (vec![later, (".", spam)], true)] {
        let taken = Taken::default();
        let (port, _) = refusing_mail_server(&first).await;
        let told = hand_over(&mail_to_three(port), &[content()], &taken, PATIENCE).await;
        assert!(told.is_err_and(|error| !error.is_final()), "{first:?}: one may have it later");
        let (port, heard) = refusing_mail_server(&[(".", spam)]).await;
        let told = hand_over(&mail_to_three(port), &[content()], &taken, PATIENCE).await;
        assert_eq!(told.is_err_and(|error| error.is_final()), is_final, "{first:?}");
        assert_eq!(receivers_of(&heard), ["<e@f.example>"], "{first:?}");
    }
}

#[test]
fn who_has_a_message_is_remembered_of_so_many_messages() {
    let taken = Taken::default();
    for message in 0..=i64::try_from(MAX_HALF_TAKEN).expect("small") {
        taken.add(message, "c@d.example");
    }
    assert!(!taken.is_done(0, "c@d.example"), "the oldest is not remembered");
    assert!(taken.is_done(1, "c@d.example") && !taken.is_done(1, "e@f.example"));
}

#[tokio::test]
async fn a_watcher_hears_that_the_server_works_and_nothing_of_orders() {
    let (receiver, address) = Receiver::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let master = Master::generate().expect("a key");
    let store = Sqlite::open(folder.path(), master, Model::default()).expect("a store");
    store.ingest(vec![wrote("4711", 1, 1, "shop", "orders", "created")], now()).expect("kept");
    let store: Arc<dyn House> = Arc::new(store);
    let url = file(folder.path(), "url", &format!("{address}/ping/s3cret"));
    let beat = |line: String| {
        let set = RuleSet::parse(&format!("heartbeat: {{ {line} }}"), &Model::default()).expect("rules");
        let store = store.clone();
        async move { heartbeat::beat(&store, &set.heartbeat.expect("one")).await }
    };
    beat(format!("url_file: {url}, allow_private: true")).await.expect("told");
    let heard = receiver.heard();
    assert_eq!((heard[0].0.as_str(), heard[0].2.as_slice()), ("/ping/s3cret", &b"spoor-serve works"[..]));
    receiver.answers.lock().expect("no panic").extend([500, 302]);
    for (line, said) in [
        (format!("url_file: {url}, allow_private: true"), "500"),
        (format!("url_file: {url}, allow_private: true"), "302"),
        (format!("url_file: {url}"), "allow_private"),
        ("url_file: /nowhere/at/all".to_owned(), "cannot read"),
    ] {
        let error = chain(&beat(line.clone()).await.expect_err(&line));
        assert!(error.contains(said) && !error.contains("s3cret"), "{line}: {error}");
    }
    assert_eq!(receiver.heard().len(), 3, "no redirect is followed, and nothing went where it may not go");
}
