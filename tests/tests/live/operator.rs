//! The agent as an operator runs it: its port, its signals, its privileges, its end at any moment.
//!
//! These tests load the agent on the live kernel. They need root and the agent with its eBPF object.
//!
//! Long because all of them run the same agent by the same few helpers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use spoor_tests::agent;
use spoor_tests::kernel::Cgroup;
use spoor_tests::peers::{Process, free_port, listens};
use spoor_tests::sink::{Options, Sink};
use spoor_tests::skip::skip;
use spoor_tests::tools::tool;

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
    let _ = stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes());
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
    let build = page.lines().find(|line| line.starts_with("spoor_build_info")).unwrap_or_default();
    assert!(["A", "B", "C", "D"].iter().any(|rung| build.contains(&format!("rung=\"{rung}\""))), "{build}");
    if let Some(promtool) = tool("promtool") {
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
    let this = std::env::current_exe().unwrap();
    let name = this.file_name().unwrap().to_string_lossy();
    assert!(spans.contains(&format!("\"{name}\"")), "{name}: {spans}");
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
        let ours = |span: &Span| span.name == "POST /orders";
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

/// An order as the load knows it.
#[derive(Clone, Copy)]
struct Placed {
    number: u32,
    began: Instant,
    ended: Instant,
}

/// From the last byte of an operation until its spans are out of reach of a kill, with the settings of these tests: 0.1 s
/// until its tree is released, 0.3 s until it is decided, 0.25 s for a request to fill up and as much to be sent; the
/// rest is for a busy machine.
const SETTLED: Duration = Duration::from_millis(2000);

/// `SPOOR_KILLS` rounds (default 5): killed at a random moment under load, the receiver away half of the time. Whatever
/// the agent saw whole and had released arrives: both spans of every order that was over a while before the kill.
#[test]
fn agent_killed_at_any_moment_delivers_all_that_it_had_released() {
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
    let stop = Arc::new(AtomicBool::new(false));
    // Numbers that no other program of this machine uses.
    let first = 700_000_000 + std::process::id() % 1000 * 100_000;
    let placed = Arc::new(Mutex::new(Vec::<Placed>::new()));
    let load = {
        let (shop, stop, placed) = (shop.clone(), stop.clone(), placed.clone());
        std::thread::spawn(move || {
            for number in first.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let began = Instant::now();
                shop.order(number);
                placed.lock().unwrap().push(Placed { number, began, ended: Instant::now() });
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let mut received = Vec::new();
    // From when to when an agent captured.
    let mut lives: Vec<(Instant, Instant)> = Vec::new();
    for round in 0..kills {
        let sink =
            (round % 2 == 0).then(|| Sink::with(Options { grpc: Some(address), ..Options::default() }));
        let agent = start(&binary, directory.path(), &format!("agent{round}"), &config, &[]);
        let ready = Instant::now();
        // Different moments, the same in every run.
        std::thread::sleep(Duration::from_millis(2300 + u64::from(round * 7919 % 1900)));
        let id = rustix::process::Pid::from_raw(i32::try_from(agent.id()).unwrap()).unwrap();
        lives.push((ready, Instant::now()));
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        until("the end of the killed agent", || !Path::new(&format!("/proc/{}/exe", agent.id())).exists());
        received.extend(sink.iter().flat_map(|sink| sink.spans()));
    }
    let sink = Sink::with(Options { grpc: Some(address), ..Options::default() });
    let mut last = start(&binary, directory.path(), "last", &config, &[]);
    let ready = Instant::now();
    let count = || placed.lock().unwrap().len();
    let before = count();
    until("new orders after the kills", || count() > before + 100);
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    lives.push((ready, Instant::now() + SETTLED));
    assert!(last.stop().unwrap(), "{}", log(&last));
    let text = log(&last);
    assert!(!text.contains("damaged"), "{text}");
    assert!(!text.contains("wait in the spool"), "everything was delivered: {text}");
    received.extend(sink.spans());

    let mut unique: BTreeSet<(Vec<u8>, Vec<u8>)> = BTreeSet::new();
    let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
    for span in &received {
        if unique.insert((span.trace_id.clone(), span.span_id.clone()))
            && let Some(number) = order_of(span)
        {
            *ends.entry(number).or_default() += 1;
        }
    }
    let placed = placed.lock().unwrap();
    let (mut whole, mut held, mut unseen) = (0, 0, 0);
    let mut missing = Vec::new();
    for order in placed.iter() {
        let life = lives.iter().find(|(ready, killed)| order.began > *ready && order.began < *killed);
        let spans = ends.get(&order.number).copied().unwrap_or(0);
        match life {
            _ if spans == 2 => whole += 1,
            Some((_, killed)) if order.ended + SETTLED < *killed => missing.push((order.number, spans)),
            Some(_) => held += 1,
            None => unseen += 1,
        }
    }
    eprintln!(
        "{} orders, {kills} kills: {whole} with both spans, {held} open or held at a kill, {unseen} while no agent ran; \
         {} spans repeated",
        placed.len(),
        received.len() - unique.len()
    );
    assert!(missing.is_empty(), "released and never delivered (order, spans): {missing:?}");
    assert!(whole >= 100 * kills as usize, "{whole} orders");
    // A killed agent repeats at most the batch it was sending.
    let repeated = received.len() - unique.len();
    assert!(repeated <= 2000 * kills as usize, "{repeated} repeated");
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

/// How many spans of each order arrived.
fn spans_of_orders(sink: &Sink) -> BTreeMap<u32, u32> {
    let mut found = BTreeMap::new();
    for number in sink.spans().iter().filter_map(order_of) {
        *found.entry(number).or_default() += 1;
    }
    found
}

fn order_of(span: &Span) -> Option<u32> {
    let order = span.attributes.iter().find(|field| field.key == "order.id")?;
    match order.value.as_ref()?.value.as_ref()? {
        Value::StringValue(number) => number.parse().ok(),
        _ => None,
    }
}

/// nginx and its clients as fast as they can, in a cgroup of their own.
struct Flood {
    _nginx: Process,
    load: Process,
    _cgroup: Cgroup,
}

impl Flood {
    fn start(directory: &Path) -> Result<Self, String> {
        let cgroup = Cgroup::new("flood")?;
        if tool("nginx").is_none() {
            return Err("nginx is not installed".to_owned());
        }
        let (port, here) = (free_port().unwrap(), directory.display());
        let config = directory.join("nginx.conf");
        let text = format!(
            "daemon off; pid {here}/nginx.pid; error_log {here}/error.log; events {{}}\n\
             http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {here}/body;\n\
             proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
             scgi_temp_path {here}/scgi;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"done\\n\"; }} }} }}\n"
        );
        std::fs::write(&config, text).unwrap();
        // Whoever is in the cgroup first takes its children along.
        let join = format!("echo $$ > {} && exec \"$@\"", cgroup.processes().display());
        let mut nginx = Command::new("sh");
        nginx.args(["-c", &join, "sh", "nginx", "-p"]).arg(directory).arg("-c").arg(&config);
        nginx.arg("-e").arg(directory.join("error.log"));
        let mut nginx = Process::start("nginx", &mut nginx, &directory.join("nginx.log")).unwrap();
        nginx.wait_until("ready", |_| listens(port)).unwrap();
        let mut load = Command::new("sh");
        load.args(["-c", &join, "sh", env!("CARGO_BIN_EXE_load"), "generate"]);
        load.args([port.to_string(), "0".to_owned(), "60".to_owned(), "16".to_owned()]);
        let load = Process::start("load", &mut load, &directory.join("load.log")).unwrap();
        Ok(Self { _nginx: nginx, load, _cgroup: cgroup })
    }
}

/// A small ring and a container that fills it all the time: its own records are refused, a neighbour loses none.
#[test]
fn flooding_container_costs_its_neighbours_nothing() {
    let Some(binary) = binary() else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("spoor.yaml");
    let port = configure(&config, "capture:\n  ring_bytes: 524288\n");
    let sink = Sink::start();
    let shop = Shop::start();
    // What floods has numbers, too: those of the neighbour are beyond them.
    const FIRST: u32 = 900_000_000;
    let more = ["--otlp-endpoint", &sink.grpc_url()];
    let mut agent = start(&binary, directory.path(), "agent", &config, &more);
    let mut flood = match Flood::start(directory.path()) {
        Ok(flood) => flood,
        Err(reason) => return skip(&reason),
    };
    let kernel = |name: &str| {
        let name = format!("spoor_kernel_events_total{{name=\"{name}\"}}");
        sample(&get(port, "/metrics"), &name)
    };
    until("the flood to be too much", || kernel("cgroup_lost") > 0.0);
    for number in 0..300 {
        shop.order(FIRST + number);
        std::thread::sleep(Duration::from_millis(5));
    }
    flood.load.check().unwrap();
    let (refused, full) = (kernel("cgroup_lost"), kernel("data_lost"));
    drop(flood);
    let whole = |sink: &Sink| {
        spans_of_orders(sink).range(FIRST..FIRST + 300).filter(|(_, spans)| **spans == 2).count()
    };
    until("both spans of every order of the neighbour", || whole(&sink) == 300);
    eprintln!("{refused} operations of the flood refused, {full} records lost to a full ring");
    assert!(agent.stop().unwrap(), "{}", log(&agent));
}
