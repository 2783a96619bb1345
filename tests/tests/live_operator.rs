//! The agent as an operator runs it: its port, its signals, its privileges, its end at any moment.
//!
//! These tests load the agent on the live kernel. They need root and the agent with its eBPF object.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use spoor_tests::agent;
use spoor_tests::peers::{Process, free_port};
use spoor_tests::sink::{Options, Sink};
use spoor_tests::skip::skip;

const LIMIT: Duration = Duration::from_secs(30);

/// The agent's binary, or a skipped test.
fn binary() -> Option<PathBuf> {
    agent::binary().map_err(|reason| skip(&reason)).ok()
}

/// A shop that answers every request, one connection after the other.
struct Shop {
    address: SocketAddr,
    end: Arc<AtomicBool>,
}

impl Shop {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, end }
    }

    /// One order over a connection of its own.
    fn order(&self, number: u32) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let body = format!("{{\"order_id\": {number}}}");
        let request =
            format!("POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 256];
        assert!(stream.read(&mut answer).unwrap() > 0);
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(len) = stream.read(&mut buffer) {
        if len == 0 || stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}").is_err() {
            return;
        }
    }
}

/// A configuration whose agent has a port of its own; the port.
fn configure(path: &Path, more: &str) -> u16 {
    let port = free_port().unwrap();
    write_config(path, port, more);
    port
}

fn write_config(path: &Path, port: u16, more: &str) {
    let text = format!(
        "admin:\n  listen: 127.0.0.1:{port}\njoining:\n  linger: 100ms\n  decide_within: 300ms\n{more}"
    );
    std::fs::write(path, text).unwrap();
}

fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let _ =
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// The value of the first sample of a metric.
fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "not `{what}` within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(binary: &Path, directory: &Path, name: &str, config: &Path, more: &[&str]) -> Process {
    let mut command = Command::new(binary);
    command.args(["run", "--config"]).arg(config).args(more);
    command.env_remove("SPOOR_AGENT").env_remove("SPOOR_SKIPPED");
    let mut process =
        Process::start("spoor run", &mut command, &directory.join(format!("{name}.log"))).unwrap();
    process.wait_for_line("ready:").unwrap();
    process
}

fn log(process: &Process) -> String {
    std::fs::read_to_string(process.log()).unwrap_or_default()
}

fn hang_up(process: &Process) {
    let id = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
}

#[test]
fn live_agent_answers_probes_and_counts_what_it_sees() {
    let Some(binary) = binary() else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("spoor.yaml");
    let port = configure(&config, "");
    let shop = Shop::start();
    let sink = Sink::start();
    let url = sink.grpc_url();
    let mut agent = start(&binary, directory.path(), "agent", &config, &["--otlp-endpoint", &url]);
    assert!(get(port, "/live").starts_with("HTTP/1.1 200"));
    assert!(get(port, "/ready").starts_with("HTTP/1.1 200"));
    (1..=20).for_each(|number| shop.order(number));
    let mut page = String::new();
    until("20 requests counted", || {
        page = get(port, "/metrics");
        let counts =
            page.lines().filter(|line| line.starts_with("http_server_request_duration_seconds_count"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() >= 20.0
    });
    until("spans delivered", || sample(&get(port, "/metrics"), "spoor_export_spans_total") >= 40.0);
    assert!(
        page.contains("http_request_method=\"POST\"") && page.contains("http_route=\"/orders\""),
        "{page}"
    );
    assert!(!page.contains("order_id=\""), "an order is no label: {page}");
    if let Some(promtool) = promtool() {
        let (_, text) = page.split_once("\r\n\r\n").unwrap();
        let mut check = Command::new(promtool);
        check.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
        let mut child =
            check.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "promtool: {said}");
    } else {
        eprintln!("promtool is not installed: the page was not checked by it");
    }
    assert!(agent.stop().unwrap(), "{}", log(&agent));
}

fn promtool() -> Option<PathBuf> {
    let more = std::env::var_os("SPOOR_TOOLS").unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all =
        std::env::split_paths(&more).chain(std::env::split_paths(&path)).map(|path| path.join("promtool"));
    all.find(|file| file.is_file())
}

#[test]
fn hangup_reloads_a_good_configuration_and_refuses_a_bad_one() {
    let Some(binary) = binary() else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("spoor.yaml");
    let port = configure(&config, "");
    let (first, second) = (Sink::start(), Sink::start());
    let shop = Shop::start();
    let endpoint = |sink: &Sink| format!("export:\n  otlp:\n    endpoint: {}\n", sink.grpc_url());
    write_config(&config, port, &endpoint(&first));
    let mut agent = start(&binary, directory.path(), "agent", &config, &[]);
    shop.order(1);
    until("spans at the first receiver", || !first.spans().is_empty());
    std::fs::write(&config, "export:\n  otlp:\n    endpont: x\n").unwrap();
    hang_up(&agent);
    until("a refusal", || log(&agent).contains("the old one stays in force"));
    assert!(log(&agent).contains("did you mean `endpoint`?"), "{}", log(&agent));
    let before = first.spans().len();
    shop.order(2);
    until("more spans at the first receiver", || first.spans().len() > before);
    write_config(&config, port, &endpoint(&second));
    hang_up(&agent);
    until("a reload", || log(&agent).contains("the configuration was reloaded"));
    shop.order(3);
    until("spans at the second receiver", || !second.spans().is_empty());
    until("the refusal counted", || {
        sample(&get(port, "/metrics"), "spoor_config_reloads_total{result=\"refused\"}") == 1.0
    });
    assert!(agent.stop().unwrap(), "{}", log(&agent));
}

/// What the DaemonSet and the unit give, and nothing else; not even root's name.
#[test]
fn four_capabilities_are_enough() {
    let Some(binary) = binary() else { return };
    let directory = tempfile::tempdir().unwrap();
    // Where another user may read and execute.
    let open = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(directory.path());
    let copy = directory.path().join("spoor");
    std::fs::copy(&binary, &copy).unwrap();
    open(&copy);
    let config = directory.path().join("spoor.yaml");
    let port = configure(&config, "");
    open(&config);
    let shop = Shop::start();
    let caps = "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search";
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
    command.args(["--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps]);
    command.arg(&copy).args(["run", "--print", "otlp-json", "--config"]).arg(&config);
    let output = directory.path().join("spans.jsonl");
    let log = directory.path().join("agent.log");
    let mut agent = Process::start_with_output("spoor run", &mut command, &log, &output).unwrap();
    agent.wait_for_line("ready:").unwrap();
    shop.order(1);
    until("a span", || std::fs::read_to_string(&output).is_ok_and(|text| text.contains("order.id")));
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    // 2 (dac_read_search), 19 (sys_ptrace), 38 (perfmon), 39 (bpf).
    assert_eq!(field("CapEff:"), format!("{:016x}", 1_u64 << 2 | 1 << 19 | 1 << 38 | 1 << 39), "{status}");
    assert!(field("Uid:").starts_with("65534"), "{status}");
    // Named by its executable, though it is another user's.
    let spans = std::fs::read_to_string(&output).unwrap();
    assert!(spans.contains("live_operator"), "{spans}");
    assert!(get(port, "/ready").starts_with("HTTP/1.1 200"));
    agent.stop().unwrap();
}

#[test]
fn two_agents_at_once_see_the_same_and_not_each_other() {
    let Some(binary) = binary() else { return };
    let directory = tempfile::tempdir().unwrap();
    let sinks = [Sink::start(), Sink::start()];
    let shop = Shop::start();
    let mut agents: Vec<(Process, u16)> = Vec::new();
    for (number, sink) in sinks.iter().enumerate() {
        let config = directory.path().join(format!("{number}.yaml"));
        let port = configure(&config, "");
        let name = format!("agent{number}");
        let more = ["--otlp-endpoint", &sink.http_url(), "--otlp-protocol", "http/protobuf"];
        agents.push((start(&binary, directory.path(), &name, &config, &more), port));
    }
    (1..=10).for_each(|number| shop.order(number));
    let ids = |sink: &Sink| -> BTreeSet<Vec<u8>> {
        let ours = |span: &opentelemetry_proto::tonic::trace::v1::Span| span.name == "POST /orders";
        sink.spans().into_iter().filter(ours).map(|span| span.span_id).collect()
    };
    until("20 spans at both", || sinks.iter().all(|sink| ids(sink).len() == 20));
    // The same traffic has the same identifiers, whoever saw it.
    assert_eq!(ids(&sinks[0]), ids(&sinks[1]));
    for sink in &sinks {
        assert!(
            sink.spans().iter().all(|span| !span.name.contains("/v1/traces")),
            "an agent traced an agent's export"
        );
    }
    for (agent, _) in &mut agents {
        assert!(agent.stop().unwrap(), "{}", log(agent));
    }
}

/// `SPOOR_KILLS` rounds (default 5): killed at a random moment under load, the receiver away half of the time.
#[test]
fn agent_killed_at_any_moment_leaves_a_spool_that_the_next_one_delivers() {
    let Some(binary) = binary() else { return };
    let kills: u32 = std::env::var("SPOOR_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("spoor.yaml");
    let spool = directory.path().join("spool");
    let address: SocketAddr = ([127, 0, 0, 1], free_port().unwrap()).into();
    let more = format!(
        "export:\n  otlp:\n    endpoint: http://{address}\n  spool:\n    directory: {}\n",
        spool.display()
    );
    configure(&config, &more);
    let shop = Arc::new(Shop::start());
    let (stop, orders) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let load = {
        let (shop, stop, orders) = (shop.clone(), stop.clone(), orders.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                shop.order(orders.fetch_add(1, Ordering::Relaxed) + 1);
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let mut received: Vec<Vec<u8>> = Vec::new();
    for round in 0..kills {
        let sink =
            (round % 2 == 0).then(|| Sink::with(Options { grpc: Some(address), ..Options::default() }));
        let agent = start(&binary, directory.path(), &format!("agent{round}"), &config, &[]);
        // Different moments, the same in every run: up to 1.5 s.
        std::thread::sleep(Duration::from_millis(300 + u64::from(round * 7919 % 1200)));
        let id = rustix::process::Pid::from_raw(i32::try_from(agent.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        until("the end of the killed agent", || !Path::new(&format!("/proc/{}/exe", agent.id())).exists());
        received.extend(sink.iter().flat_map(|sink| sink.spans()).map(|span| span.span_id));
    }
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    let mut last = start(&binary, directory.path(), "last", &config, &[]);
    let before = orders.load(Ordering::Relaxed);
    until("new orders after the kills", || orders.load(Ordering::Relaxed) > before + 100);
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    assert!(last.stop().unwrap(), "{}", log(&last));
    let text = log(&last);
    assert!(text.contains("lost: nothing") || !text.contains("damaged"), "{text}");
    assert!(!text.contains("wait in the spool"), "everything was delivered: {text}");
    received.extend(sink.spans().into_iter().map(|span| span.span_id));
    let unique: BTreeSet<&Vec<u8>> = received.iter().collect();
    // A killed agent repeats at most the batch it was sending; nothing is corrupt.
    assert!(unique.len() >= 200, "{} spans of {} orders", unique.len(), orders.load(Ordering::Relaxed));
    assert!(received.iter().all(|id| id.len() == 8));
    assert!(
        received.len() - unique.len() <= 2000 * kills as usize,
        "{} repeated",
        received.len() - unique.len()
    );
}

/// `SPOOR_CONNECTIONS` at once (default 200; each takes two descriptors of this process) and `SPOOR_CHURNED` one after
/// another (default 2000): every request is a span at both ends, or its loss is counted.
#[test]
fn many_connections_at_once_and_one_after_another_are_all_seen() {
    let Some(binary) = binary() else { return };
    let number = |name: &str, default: u32| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (at_once, churned) = (number("SPOOR_CONNECTIONS", 200), number("SPOOR_CHURNED", 2000));
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("spoor.yaml");
    let port = configure(&config, "");
    let sink = Sink::start();
    let shop = Shop::start();
    let mut agent =
        start(&binary, directory.path(), "agent", &config, &["--otlp-endpoint", &sink.grpc_url()]);
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..at_once {
        open.push(TcpStream::connect(shop.address).unwrap());
    }
    for (number, stream) in open.iter_mut().enumerate() {
        let request = format!("GET /orders/{} HTTP/1.1\r\nHost: shop\r\n\r\n", number + 1);
        stream.write_all(request.as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 256]).unwrap() > 0);
    }
    drop(open);
    (0..churned).for_each(|number| shop.order(at_once + number + 1));
    let wanted = 2 * u64::from(at_once + churned);
    let mut page = String::new();
    until("every request accounted for", || {
        page = get(port, "/metrics");
        let lost = sample(&page, "spoor_lost_total{cause=\"records_lost\"}");
        // A lost record can cost the spans of both ends.
        sample(&page, "spoor_export_spans_total") + 2.0 * lost >= wanted as f64
    });
    let resident = sample(&page, "process_resident_memory_bytes") / 1_048_576.0;
    let lost = sample(&page, "spoor_lost_total{cause=\"records_lost\"}");
    eprintln!(
        "{at_once} connections at once, {churned} churned: {lost} records lost, {resident:.0} MiB resident"
    );
    assert!(agent.stop().unwrap(), "{}", log(&agent));
    let orders = sink.spans().into_iter().filter(|span| span.name.contains("/orders")).count() as u64;
    assert!(orders as f64 + 2.0 * lost >= wanted as f64, "{orders} of {wanted} spans");
}
