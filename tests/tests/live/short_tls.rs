//! TLS connections of some milliseconds through the live kernel: a connection for each request, whose library has reused the memory
//! of its secrets before anybody could look for them. Those of the processes that are asked for are opened; of others, nothing is
//! copied; and what was copied stays in the agent.
//!
//! They need root, the agent with its eBPF object, nginx and Python.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result, ensure};
use spoor_tests::agent::{self, Agent};
use spoor_tests::authority::Authority;
use spoor_tests::forest;
use spoor_tests::peers::{Process, Scratch, free_port, listens, tail};
use spoor_tests::skip::skip;
use spoor_tests::tools::program;

/// Connections before those that are counted: the first ones are learned from.
const LEARNED_FROM: usize = 40;
const COUNTED: usize = 200;
/// Each takes 2 to 5 ms, and no other one is open at the same time.
const PER_SECOND: usize = 50;
/// What clients send and no output may hold.
const SECRET: &str = "4f1c-never-in-an-output-91ab";

struct Scene {
    scratch: Scratch,
    authority: Authority,
    servers: Vec<(&'static str, u16, Process)>,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let authority = Authority::new(scratch.path())?;
        let mut scene = Self { scratch, authority, servers: Vec::new() };
        for version in ["1.2", "1.3"] {
            let server = scene.serve(version)?;
            scene.servers.push(server);
        }
        Ok(scene)
    }

    fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn serve(&self, version: &'static str) -> Result<(&'static str, u16, Process)> {
        let (port, dir) = (free_port()?, self.path().join(version));
        fs::create_dir(&dir)?;
        let text = fs::read_to_string(service("nginx.conf"))?
            .replace("@DIR@", &dir.to_string_lossy())
            .replace("@PORT@", &port.to_string())
            .replace("@CERTIFICATE@", &self.authority.certificate.to_string_lossy())
            .replace("@KEY@", &self.authority.key.to_string_lossy())
            .replace("@VERSION@", version);
        let configuration = dir.join("nginx.conf");
        fs::write(&configuration, text)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(configuration);
        let mut server = Process::start("nginx", &mut command, &dir.join("nginx.log"))?;
        server.wait_until("it serves", |_| listens(port))?;
        Ok((version, port, server))
    }

    /// Only the servers' ports are named: clients are left alone. Returns where metrics are served.
    fn configuration(&self, ports: &[u16]) -> Result<(Vec<String>, u16)> {
        let metrics = free_port()?;
        let ports: String = ports.iter().map(|port| format!("    - port: {port}\n")).collect();
        let path = self.path().join("spoor.yaml");
        let state = self.path().join("state");
        fs::create_dir_all(&state)?;
        let text = format!(
            "admin:\n  listen: 127.0.0.1:{metrics}\nstate:\n  directory: {}\n  save_every: 1s\nselect:\n  include:\n{ports}",
            state.display()
        );
        fs::write(&path, text)?;
        let options = ["--log", "trace", "--config"].map(str::to_owned).into_iter();
        Ok((options.chain([path.to_string_lossy().into_owned()]).collect(), metrics))
    }

    /// So many connections, one after the other. Their secrets are in the file that is returned.
    fn call(&self, name: &str, version: &str, port: u16, count: usize) -> Result<PathBuf> {
        let keys = self.path().join(format!("{name}-{version}.keys"));
        let mut command = Command::new("python3");
        command.arg(service("short.py")).arg(format!("https://127.0.0.1:{port}/{name}"));
        command.arg(&self.authority.trusted).args([count.to_string(), PER_SECOND.to_string()]).arg(SECRET);
        command.env("SSLKEYLOGFILE", &keys);
        let log = self.path().join(format!("{name}-{version}.log"));
        let mut client = Process::start("short.py", &mut command, &log)?;
        ensure!(client.wait()?, "{}", tail(&log));
        Ok(keys)
    }
}

fn service(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services/tls").join(name)
}

/// The agent's metrics, as Prometheus gets them.
fn metrics(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Bytes that were copied from stacks' objects.
fn copied(metrics: &str) -> Result<u64> {
    let line = metrics.lines().find(|line| line.contains("\"object_bytes\"")).context("it is counted")?;
    let value = line.rsplit(' ').next().context("a value")?;
    Ok(value.parse::<f64>()? as u64)
}

fn missing() -> Option<String> {
    let missing = ["nginx", "python3", "openssl"].into_iter().find(|name| program(name).is_none());
    agent::binary().err().or(missing.map(|name| format!("there is no {name}")))
}

#[test]
fn connections_of_some_milliseconds_are_opened_and_their_secrets_stay_inside() {
    if let Some(reason) = missing() {
        return skip(&reason);
    }
    open().expect("the programs run");
}

fn open() -> Result<()> {
    let mut scene = Scene::new("short-tls")?;
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let ports: Vec<u16> = scene.servers.iter().map(|server| server.1).collect();
    let (options, port) = scene.configuration(&ports)?;
    let mut agent = Agent::start(&binary, scene.path(), "agent", &options)?;
    let mut keys = Vec::new();
    for (version, port, _) in &scene.servers {
        keys.push(scene.call("first", version, *port, LEARNED_FROM)?);
        keys.push(scene.call("counted", version, *port, COUNTED)?);
    }
    // What waits for a secret waits no longer.
    std::thread::sleep(Duration::from_secs(4));
    agent.check()?;
    let told = metrics(port)?;
    check_others_cannot_read(agent.id())?;
    let (log, output) = (agent.log().to_owned(), agent.output().to_owned());
    let spans = agent.stop()?;
    for (version, port, server) in &mut scene.servers {
        server.stop()?;
        let of_port =
            |span: &&forest::Span| span.text("server.port").is_some_and(|of| of == port.to_string());
        let seen = spans.iter().filter(of_port).filter(|span| span.kind == forest::SERVER);
        let mut paths: Vec<_> = seen.filter_map(|span| span.text("url.path")).collect();
        let all = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), all, "TLS {version}: no request is seen twice");
        let counted = paths.iter().filter(|path| path.starts_with("/counted/")).count();
        println!("TLS {version}: {counted} of {COUNTED}, and {} while it was learned", all - counted);
        assert!(counted * 100 >= COUNTED * 95, "TLS {version}: {counted} of {COUNTED}\n{}", tail(&log));
    }
    // Bounded: 2 KiB a connection, and what was learned from.
    let bytes = copied(&told)?;
    let most = 2 * (LEARNED_FROM + COUNTED) as u64 * 8 * 1024 + 2 * 2 * 48 * 48 * 4096;
    println!("{bytes} bytes were copied");
    assert!((1..most).contains(&bytes), "{bytes} bytes were copied");

    let secrets = secrets(&keys)?;
    assert!(secrets.len() > 3 * (LEARNED_FROM + COUNTED), "{} secrets", secrets.len());
    let mut files = vec![log, output];
    for entry in fs::read_dir(scene.path().join("state"))? {
        files.push(entry?.path());
    }
    let mut outputs = vec![("metrics".to_owned(), told.into_bytes())];
    for file in files {
        outputs.push((file.display().to_string(), fs::read(&file)?));
    }
    let forbidden = Forbidden::new(&secrets, SECRET)?;
    let trace = outputs.iter().any(|(name, text)| {
        name.ends_with(".log") && String::from_utf8_lossy(text).contains("copies were searched")
    });
    assert!(trace, "the log is that of the level `trace`, and says that copies were searched");
    for (name, text) in &outputs {
        assert_eq!(forbidden.find(text), None, "{name} holds a secret");
    }
    scene.scratch.discard();
    Ok(())
}

/// Memory, environment and open files of the agent are for root.
fn check_others_cannot_read(agent: u32) -> Result<()> {
    for file in ["mem", "environ", "maps", "fd", "auxv", "stack"] {
        let path = format!("/proc/{agent}/{file}");
        let mut command = Command::new(if file == "fd" { "ls" } else { "head" });
        command.args(if file == "fd" { vec![] } else { vec!["-c", "1"] }).arg(&path);
        // Nobody.
        command.uid(65534).gid(65534);
        let output = command.output()?;
        ensure!(!output.status.success() && output.stdout.is_empty(), "nobody may read {path}");
    }
    Ok(())
}

/// The secrets in key logs: bytes.
fn secrets(files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for file in files {
        // The first line is a comment.
        for line in fs::read_to_string(file)?.lines().filter(|line| !line.starts_with('#')) {
            let Some(secret) = line.split(' ').nth(2) else { continue };
            let (pairs, _) = secret.as_bytes().as_chunks::<2>();
            let bytes = pairs.iter().map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
            all.push(bytes.collect::<Result<Vec<u8>>>()?);
        }
    }
    Ok(all)
}

/// Secrets of connections, half of each being too much, as bytes, in hexadecimal and as a list of numbers; and what was sent.
struct Forbidden {
    any: AhoCorasick,
}

impl Forbidden {
    fn new(secrets: &[Vec<u8>], sent: &str) -> Result<Self> {
        let mut patterns = vec![sent.as_bytes().to_vec()];
        for secret in secrets {
            let half = secret.get(..secret.len() / 2).unwrap_or_default();
            let hexadecimal: String = half.iter().map(|byte| format!("{byte:02x}")).collect();
            let list = half.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            patterns.extend([half.to_vec(), hexadecimal.into_bytes(), list.into_bytes()]);
        }
        Ok(Self { any: AhoCorasick::builder().ascii_case_insensitive(true).build(patterns)? })
    }

    /// Where a text holds one, and what stands there.
    fn find(&self, text: &[u8]) -> Option<(usize, String)> {
        let found = self.any.find(text)?;
        let around = text.get(found.start().saturating_sub(60)..found.end()).unwrap_or_default();
        Some((found.start(), String::from_utf8_lossy(around).into_owned()))
    }
}

#[test]
fn a_secret_is_found_in_a_text_however_it_is_written() {
    let secret = vec![0x1f, 0xa0, 0x33, 0x07, 0x99, 0xfe, 0x00, 0x42];
    let forbidden = Forbidden::new(&[secret], "sesame").expect("patterns");
    for text in
        [&b"..\x1f\xa0\x33\x07.."[..], b"key=1FA03307", b"Secret([31, 160, 51, 7, 1])", b"pass=sesame"]
    {
        assert!(forbidden.find(text).is_some(), "{text:?}");
    }
    assert_eq!(forbidden.find(b"1fa034 and 31, 160"), None);
}

#[test]
fn nothing_is_copied_of_processes_that_are_not_asked_for() {
    if let Some(reason) = missing() {
        return skip(&reason);
    }
    leave_alone().expect("the programs run");
}

fn leave_alone() -> Result<()> {
    let mut scene = Scene::new("short-tls-alone")?;
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    // Another port than the servers': their connections are excluded, and those of nobody else are under TLS.
    let (mut options, port) = scene.configuration(&[free_port()?])?;
    for mode in ["selected", "off"] {
        if mode == "off" {
            // All are traced, and none is opened.
            let path = scene.path().join("off.yaml");
            fs::write(&path, format!("admin:\n  listen: 127.0.0.1:{port}\ntls:\n  open: off\n"))?;
            options = vec!["--config".to_owned(), path.to_string_lossy().into_owned()];
        }
        let mut agent = Agent::start(&binary, scene.path(), mode, &options)?;
        for (version, port, _) in &scene.servers {
            scene.call(mode, version, *port, LEARNED_FROM)?;
        }
        std::thread::sleep(Duration::from_secs(2));
        agent.check()?;
        assert_eq!(copied(&metrics(port)?)?, 0, "{mode}");
        agent.stop()?;
    }
    for (_, _, server) in &mut scene.servers {
        server.stop()?;
    }
    scene.scratch.discard();
    Ok(())
}
