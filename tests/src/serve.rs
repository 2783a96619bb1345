//! The orders' server under test: its command line → a running `spoor-serve run`, and what it says of orders.
//!
//! *Owns* the process, its folder and its ports. *Must not know* how the server works: it is used as any user would.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::peers::{Process, connect, free_port, run, said};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Beside the agent's binary, where `cargo xtask build` puts it; the reason when it is not there.
pub fn binary(agent: &Path) -> Result<PathBuf, String> {
    let path = agent.with_file_name("spoor-serve");
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is missing: run `cargo xtask build`", path.display()))
    }
}

/// `spoor-serve run` with the model of the demo's house.
#[derive(Debug)]
pub struct Server {
    process: Process,
    binary: PathBuf,
    data: PathBuf,
    pages: u16,
    grpc: u16,
    token: String,
}

impl Server {
    /// Starts it and waits until it takes spans. All that it keeps is in `dir`.
    pub fn start(binary: &Path, dir: &Path) -> Result<Self> {
        Self::start_with(binary, dir, &[])
    }

    /// The same for a house that does not wait: what is wrong is said, and warned of, within seconds.
    pub fn start_impatient(binary: &Path, dir: &Path) -> Result<Self> {
        let (model_file, rules) = (dir.join("model.yaml"), dir.join("rules.yaml"));
        let text = fs::read_to_string(model()).context("cannot read the demo's model")?;
        let impatient = text.replace("retry_within: 1m", "retry_within: 4s");
        ensure!(impatient != text, "the demo's model says how long a failure may stand");
        fs::write(&model_file, impatient)?;
        fs::write(&rules, IMPATIENT)?;
        let options = [Path::new("--rules"), &rules, Path::new("--model"), &model_file];
        Self::start_with(binary, dir, &options)
    }

    fn start_with(binary: &Path, dir: &Path, options: &[&Path]) -> Result<Self> {
        let key = dir.join("serve.key");
        let data = dir.join("serve");
        run(command(binary, &["key", "new"]).arg(&key))?;
        let (pages, grpc, http) = (free_port()?, free_port()?, free_port()?);
        let mut server = command(binary, &["run", "--lang", "en"]);
        server.arg("--data").arg(&data).arg("--key-file").arg(&key);
        if options.is_empty() {
            server.arg("--model").arg(model());
        }
        server.args(options);
        for (option, port) in [("--listen", pages), ("--otlp-grpc", grpc), ("--otlp-http", http)] {
            server.args([option, &format!("127.0.0.1:{port}")]);
        }
        let mut process = Process::start("spoor-serve", &mut server, &dir.join("serve.log"))?;
        process.wait_for_line("ready")?;
        let mut token = command(binary, &["token", "test", "--role", "developer", "--data"]);
        let token = said(token.arg(&data))?.trim().to_owned();
        Ok(Self { process, binary: binary.to_owned(), data, pages, grpc, token })
    }

    /// Where it takes spans.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// Where it listens.
    pub fn ports(&self) -> [u16; 2] {
        [self.grpc, self.pages]
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.pages)
    }

    /// A link that lets a person in, once.
    pub fn invitation(&self, name: &str) -> Result<String> {
        let mut invite = command(&self.binary, &["user", "invite", name, "--role", "admin", "--url"]);
        Ok(said(invite.arg(self.url()).arg("--data").arg(&self.data))?.trim().to_owned())
    }

    /// What the API says of an order; `None` where nobody named its number.
    pub fn order(&self, order: u64) -> Result<Option<Value>> {
        self.get(&format!("/api/v1/orders/{order}"))
    }

    /// What it answers to a path; `None` where there is nothing.
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        let mut stream = connect(self.pages, PATIENCE)?;
        // Of HTTP/1.0 the answer ends with the connection.
        write!(
            stream.get_mut(),
            "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.pages,
            self.token
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the orders' server does not answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer of HTTP")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status == "404" {
            return Ok(None);
        }
        ensure!(status == "200", "{path}: {answer}");
        serde_json::from_str(body).with_context(|| format!("{path}: {body}")).map(Some)
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }
}

/// What such a house is warned of besides the built-in rules: an order that hangs.
const IMPATIENT: &str = "rules:
  - { id: hangs, when: enters, outcome: stuck, severity: critical }
  - { id: queue-without-consumer, limit: 1s }
  - { id: made-twice, when: repeated, record: mes, to: finished, lasts: 15s, severity: critical }
";

/// How the demo's house calls its systems and stages.
fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy").join("journeys/model.yaml")
}

/// With nothing of this shell's settings.
fn command(binary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPOOR_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}
