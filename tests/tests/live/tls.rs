//! TLS of real programs through the live kernel, without a key log: their secrets come from their memory. Every request is a span at
//! both ends, of connections that are older than the agent as of those that are not, with what the programs' own logs say.
//!
//! Servers and clients of OpenSSL (nginx, HAProxy, curl, Python, Node.js), of the JDK and of Go. They need root and the agent with
//! its eBPF object.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spoor_tests::agent::{self, Agent};
use spoor_tests::authority::Authority;
use spoor_tests::forest::{self, Span};
use spoor_tests::peers::{Process, Scratch, free_port, go_on, run};
use spoor_tests::skip::skip;
use spoor_tests::tools::program;

/// Requests of each client.
const REQUESTS: usize = 25;
/// Older clients begin so long after the agent: it has seen what was there.
const SETTLE: Duration = Duration::from_millis(500);

const VERSIONS: [&str; 2] = ["1.2", "1.3"];
const PAIRS: [(&str, &str); 7] = [
    ("nginx", "python"),
    ("java", "node"),
    ("node", "java"),
    ("python", "go"),
    ("go", "curl"),
    ("haproxy", "asynchronous"),
    ("java", "python"),
];

struct Files {
    dir: PathBuf,
    certificate: String,
    key: String,
    pem: String,
    trusted: String,
    store: String,
    /// The program in Go, where there is a compiler.
    peer: Option<PathBuf>,
}

fn service(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services/tls").join(name)
}

impl Files {
    fn new(dir: &Path) -> Result<Self> {
        let authority = Authority::new(dir)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (certificate, key) = (text(&authority.certificate), text(&authority.key));
        let (pem, trusted) = (text(&authority.pem), text(&authority.trusted));
        let store = authority.store.as_deref().map(text).unwrap_or_default();
        let mut peer = None;
        if program("go").is_some() {
            let out = dir.join("peer");
            run(Command::new("go")
                .arg("build")
                .args(["-ldflags", "-s -w", "-o"])
                .arg(&out)
                .arg(service("peer.go")))?;
            peer = Some(out);
        }
        Ok(Self { dir: dir.to_owned(), certificate, key, pem, trusted, store, peer })
    }

    /// What is missing of a program.
    fn missing(&self, kind: &str) -> bool {
        match kind {
            "go" => self.peer.is_none(),
            "java" => program("keytool").is_none(),
            "python" | "asynchronous" => program("python3").is_none(),
            other => program(other).is_none(),
        }
    }

    fn configuration(&self, template: &str, name: &str, port: u16, version: &str) -> Result<PathBuf> {
        let own = self.dir.join(name);
        std::fs::create_dir(&own)?;
        let text = std::fs::read_to_string(service(template))?
            .replace("@DIR@", &own.to_string_lossy())
            .replace("@PORT@", &port.to_string())
            .replace("@CERTIFICATE@", &self.certificate)
            .replace("@KEY@", &self.key)
            .replace("@PEM@", &self.pem)
            .replace("@VERSION@", version);
        let path = own.join(template);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn serve(&self, kind: &str, name: &str, port: u16, version: &str) -> Result<Process> {
        let mut command = match kind {
            "nginx" => {
                let mut command = Command::new("nginx");
                command.arg("-c").arg(self.configuration("nginx.conf", name, port, version)?);
                command
            }
            "haproxy" => {
                let mut command = Command::new("haproxy");
                command.arg("-f").arg(self.configuration("haproxy.cfg", name, port, version)?);
                command
            }
            "java" => {
                let mut command = Command::new("java");
                command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1"]).arg(service("Peer.java"));
                command.args(["serve", &port.to_string(), &self.store, version]);
                command
            }
            "node" => {
                let mut command = Command::new("node");
                command.arg(service("peer.js")).args(["serve", &port.to_string()]);
                command.args([&self.certificate, &self.key, version]);
                command
            }
            "go" => {
                let mut command = Command::new(self.peer.as_ref().context("a compiler")?);
                command.args(["serve", &port.to_string(), &self.certificate, &self.key, version]);
                command
            }
            _ => {
                let mut command = Command::new("python3");
                command.arg(service("server.py")).arg(port.to_string());
                command.args([&self.certificate, &self.key, version]);
                command
            }
        };
        let mut process = Process::start(name, &mut command, &self.dir.join(format!("{name}.log")))?;
        process.wait_until("it serves", |_| spoor_tests::peers::listens(port))?;
        Ok(process)
    }

    /// The file that an older client waits for.
    fn go(&self, name: &str) -> String {
        self.dir.join(format!("{name}.go")).to_string_lossy().into_owned()
    }

    fn call(&self, kind: &str, name: &str, port: u16, path: &str, is_older: bool) -> Result<Process> {
        let url = format!("https://127.0.0.1:{port}{path}");
        let go = if is_older { self.go(name) } else { "-".to_owned() };
        let log = self.dir.join(format!("{name}.requests")).to_string_lossy().into_owned();
        let count = REQUESTS.to_string();
        let arguments =
            |trusted: &str| [url.clone(), trusted.to_owned(), count.clone(), go.clone(), log.clone()];
        let mut command = match kind {
            "java" => {
                let mut command = Command::new("java");
                command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1"]).arg(service("Peer.java")).arg("call");
                command.args(arguments(&self.store));
                command
            }
            "node" => {
                let mut command = Command::new("node");
                command.arg(service("peer.js")).arg("call").args(arguments(&self.trusted));
                command
            }
            "go" => {
                let mut command = Command::new(self.peer.as_ref().context("a compiler")?);
                command.arg("call").args(arguments(&self.trusted));
                command
            }
            "curl" => {
                // One process, one connection, as slow as the others.
                let mut command = Command::new("curl");
                command.args([
                    "-s",
                    "--rate",
                    "3000/m",
                    "--http1.1",
                    "--cacert",
                    &self.trusted,
                    "-o",
                    "/dev/null",
                ]);
                command.args(["-w", &format!("%output{{>>{log}}}GET %{{url.path}} %{{response_code}}\\n")]);
                command.arg(format!("{url}/[0-{}]", REQUESTS - 1));
                command
            }
            "asynchronous" => {
                let mut command = Command::new("python3");
                command.arg(service("asynchronous.py")).args(arguments(&self.trusted));
                command
            }
            _ => {
                let mut command = Command::new("python3");
                command.arg(service("client.py")).args(arguments(&self.trusted));
                command
            }
        };
        Process::start(name, &mut command, &self.dir.join(format!("{name}.log")))
    }
}

/// A request, by who saw it: `(port, path)` and how often.
type Counts = BTreeMap<(u16, String), usize>;

fn seen(spans: &[Span], kind: u64) -> Counts {
    let mut counts = Counts::new();
    for span in spans.iter().filter(|span| span.kind == kind) {
        let Some(port) = span.text("server.port").and_then(|port| port.parse().ok()) else { continue };
        let full = span.text("url.full").unwrap_or_default();
        let path =
            full.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()));
        let path = path.or_else(|| span.text("url.path")).unwrap_or_default();
        *counts.entry((port, path)).or_default() += 1;
    }
    counts
}

#[test]
fn requests_under_tls_are_spans_at_both_ends_without_a_key_log() {
    let binary = match agent::binary() {
        Ok(binary) => binary,
        Err(reason) => return skip(&reason),
    };
    if program("openssl").is_none() {
        return skip("there is no openssl");
    }
    trace(&binary).expect("the programs run");
}

fn trace(binary: &Path) -> Result<()> {
    let mut scratch = Scratch::new("tls")?;
    let files = Files::new(scratch.path())?;
    let mut servers = Vec::new();
    let mut rows = Vec::new();
    for (server, client) in PAIRS {
        if files.missing(server) || files.missing(client) {
            eprintln!("{server} and {client}: not installed");
            continue;
        }
        for version in VERSIONS {
            let port = free_port()?;
            let name = format!("{server}-{client}-{version}");
            servers.push(files.serve(server, &name, port, version)?);
            // curl keeps no connection open.
            let has_older = client != "curl";
            rows.push((name, client, port, has_older));
        }
    }
    let mut older = BTreeMap::new();
    for (name, client, port, _) in rows.iter().filter(|row| row.3) {
        let mut process =
            files.call(client, &format!("{name}-older"), *port, &format!("/{name}/older"), true)?;
        process.wait_for_line("connected")?;
        older.insert(name, process);
    }
    let ports: String = rows.iter().map(|(_, _, port, _)| format!("    - port: {port}\n")).collect();
    let configuration = scratch.path().join("spoor.yaml");
    let dir = scratch.path().to_string_lossy().into_owned();
    std::fs::write(
        &configuration,
        format!(
            "tls:\n  memory:\n    cpu_percent: 100\nselect:\n  include:\n    - command: '*{dir}*'\n{ports}"
        ),
    )?;
    let options = ["--config".to_owned(), configuration.to_string_lossy().into_owned()];
    let mut agent = Agent::start(binary, scratch.path(), "agent", &options)?;
    std::thread::sleep(SETTLE);
    // One pair after the other: this is about whether secrets are found, not about how many at once.
    for (name, client, port, _) in &rows {
        std::fs::write(files.go(&format!("{name}-older")), "")?;
        let newer = files.call(client, &format!("{name}-newer"), *port, &format!("/{name}/newer"), false)?;
        for mut process in older.remove(name).into_iter().chain([newer]) {
            ensure!(process.wait()?, "{}", spoor_tests::peers::tail(process.log()));
            go_on()?;
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    agent.check()?;
    let log = agent.log().to_owned();
    let spans = agent.stop()?;
    for server in &mut servers {
        server.stop()?;
    }

    let mut expected = Counts::new();
    for (name, _, port, has_older) in &rows {
        for age in ["older", "newer"] {
            if age == "older" && !has_older {
                continue;
            }
            for number in 0..REQUESTS {
                expected.insert((*port, format!("/{name}/{age}/{number}")), 1);
            }
        }
    }
    let sides = [("servers", seen(&spans, forest::SERVER)), ("clients", seen(&spans, forest::CLIENT))];
    let mut lines = Vec::new();
    for (side, seen) in &sides {
        let keys: BTreeSet<_> =
            seen.keys().chain(expected.keys()).filter(|(_, path)| path != "/before").collect();
        let mut by_row: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for key in keys {
            let row = by_row
                .entry(key.1.rsplit_once('/').map_or(key.1.clone(), |(row, _)| row.to_owned()))
                .or_default();
            row.0 += usize::from(seen.get(key) == expected.get(key));
            row.1 += 1;
        }
        lines.extend(
            by_row
                .iter()
                .filter(|(_, (right, all))| right < all)
                .map(|(row, (right, all))| format!("{side} {row}: {right} of {all}")),
        );
    }
    assert!(lines.is_empty(), "{}\n{}", lines.join("\n"), spoor_tests::peers::tail(&log));
    // Each request's two ends are one parent and child: the same place on the wire at both.
    let ours = |kind: u64| {
        let ports: BTreeSet<String> = rows.iter().map(|row| row.2.to_string()).collect();
        spans.iter().filter(move |span| {
            span.kind == kind && span.text("server.port").is_some_and(|port| ports.contains(&port))
        })
    };
    let ids: BTreeSet<&str> = ours(forest::CLIENT).map(|span| span.span_id.as_str()).collect();
    for span in ours(forest::SERVER) {
        assert!(
            ids.contains(span.parent_id.as_str()),
            "{} has no client: {:?}",
            span.name,
            span.attributes().collect::<Vec<_>>()
        );
        // Of a connection of TLS 1.2 whose handshake was not seen, the suite has no name. Java opens a new one when it comes to its turn.
        let version = span.text("tls.protocol.version");
        let may_lack_it = version.as_deref() == Some("1.2")
            && span.text("url.path").is_some_and(|path| path.contains("/older"));
        assert!(
            version.is_some() && (span.text("tls.cipher").is_some() || may_lack_it),
            "{}: {:?}",
            span.name,
            span.attributes().collect::<Vec<_>>()
        );
    }
    scratch.discard();
    Ok(())
}
