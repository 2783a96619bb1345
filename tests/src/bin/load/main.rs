//! `cargo xtask bench load`: a private nginx under a steady load, with the agent and without it.
//!
//! *Owns* the course of the measurement and its report. *Must not know* how the agent works: it reads what any user can.
//! The load comes from this same program, started again as `load generate`.

#![forbid(unsafe_code)]

mod args;
mod generate;
mod receiver;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use spoor_tests::agent;
use spoor_tests::peers::{self, Process, free_port, listens};

use crate::args::Args;
use crate::receiver::Receiver;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench load", bin_name = "cargo xtask bench load")]
struct Options {
    #[command(flatten)]
    args: Args,
}

/// From the start of an agent until its cost counts, and from the end of a load until its spans are out.
const SETTLE: Duration = Duration::from_secs(6);
/// nginx and the load.
const SERVED: &str = "0";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some("generate") => generate::main(arguments),
        _ => run(&Options::parse().args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let binary = agent::binary().map_err(anyhow::Error::msg)?;
    let mut scratch = peers::Scratch::new("load")?;
    let bench = Bench { binary, directory: scratch.path().to_owned(), nginx: start_nginx(scratch.path())? };
    println!("nginx and the load share a processor; the load keeps {} connections open", args.connections);
    for rate in &args.rates {
        bench.steady(*rate, args)?;
    }
    bench.pairs(args)?;
    scratch.discard();
    Ok(())
}

/// Starts a program on the processor that nginx and the load share.
fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVED]).arg(program);
    command
}

/// All processors but that one, if there are any.
fn spare() -> String {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => SERVED.to_owned(),
        count => format!("1-{}", count - 1),
    }
}

struct Nginx {
    _process: Process,
    port: u16,
}

fn start_nginx(scratch: &Path) -> Result<Nginx> {
    let port = free_port()?;
    let here = scratch.display();
    let config = scratch.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {here}/{kind}; "))
        .concat();
    let text = format!(
        "daemon off; worker_processes 1; pid {here}/nginx.pid; error_log {here}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; {temporary}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"done\\n\"; }} }} }}\n"
    );
    fs::write(&config, text)?;
    let mut server = pinned(Path::new("nginx"));
    server.arg("-p").arg(scratch).arg("-c").arg(&config).arg("-e").arg(scratch.join("error.log"));
    let mut process = Process::start("nginx", &mut server, &scratch.join("nginx.log"))?;
    process.wait_until("ready", |_| listens(port))?;
    Ok(Nginx { _process: process, port })
}

/// A running agent with its receiver.
struct Agent {
    process: Process,
    admin: u16,
    _receiver: Receiver,
}

/// What the agent says of itself.
#[derive(Clone, Copy, Debug)]
struct Reading {
    cpu_seconds: f64,
    resident_mib: f64,
    spans: f64,
    lost: f64,
}

impl Agent {
    fn read(&self) -> Result<Reading> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin)).context("the agent's port")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let sum = |name: &str| -> f64 {
            let is_sample = |line: &&str| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
            };
            let values = page.lines().filter(is_sample).filter_map(|line| line.rsplit(' ').next());
            values.filter_map(|value| value.parse::<f64>().ok()).sum()
        };
        Ok(Reading {
            cpu_seconds: sum("process_cpu_seconds_total"),
            resident_mib: sum("process_resident_memory_bytes") / f64::from(1 << 20),
            spans: sum("spoor_export_spans_total"),
            lost: sum("spoor_lost_total{cause=\"records_lost\"}"),
        })
    }

    fn stop(mut self) -> Result<()> {
        if !self.process.stop()? {
            bail!("spoor run did not end well:\n{}", peers::tail(self.process.log()));
        }
        Ok(())
    }
}

struct Bench {
    binary: PathBuf,
    directory: PathBuf,
    nginx: Nginx,
}

impl Bench {
    /// The agent as it is deployed. The load stands for programs on other machines: it is not traced.
    fn agent(&self) -> Result<Agent> {
        let receiver = Receiver::start()?;
        let admin = free_port()?;
        let config = self.directory.join("spoor.yaml");
        let load = std::env::current_exe()?;
        let text = format!(
            "admin:\n  listen: 127.0.0.1:{admin}\nselect:\n  exclude:\n    - exe: {}\n",
            load.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("taskset");
        command.args(["-c", &spare()]).arg(&self.binary).args(["run", "--config"]).arg(&config);
        command.args(["--otlp-protocol", "http/protobuf", "--otlp-endpoint", &receiver.url()]);
        command.env_remove("SPOOR_AGENT").env_remove("SPOOR_SKIPPED");
        let mut process = Process::start("spoor run", &mut command, &self.directory.join("agent.log"))?;
        process.wait_for_line("ready:")?;
        std::thread::sleep(SETTLE);
        Ok(Agent { process, admin, _receiver: receiver })
    }

    /// Requests in `seconds` at `rate`, as many as go at rate 0; their number per second.
    fn load(&self, rate: u64, seconds: u64, connections: u64) -> Result<f64> {
        let mut command = pinned(&std::env::current_exe()?);
        let numbers = [u64::from(self.nginx.port), rate, seconds, connections];
        command.arg("generate").args(numbers.map(|number| number.to_string()));
        let output = command.output().context("cannot start the load")?;
        if !output.status.success() {
            bail!("the load failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        String::from_utf8_lossy(&output.stdout).trim().parse().context("the load says no number")
    }

    fn steady(&self, rate: u64, args: &Args) -> Result<()> {
        let agent = self.agent()?;
        let before = agent.read()?;
        let served = match rate {
            0 => {
                std::thread::sleep(Duration::from_secs(args.seconds));
                0.0
            }
            rate => self.load(rate, args.seconds, args.connections)?,
        };
        let after = agent.read()?;
        let cpu = (after.cpu_seconds - before.cpu_seconds) / args.seconds as f64;
        std::thread::sleep(SETTLE);
        let last = agent.read()?;
        let requests = served * args.seconds as f64;
        let each = if requests > 0.0 { cpu / served * 1e6 } else { 0.0 };
        println!(
            "{rate} requests/s ({served:.0} served): agent {:.1} % of a core, {each:.1} µs a request, {:.0} MiB resident; \
             {:.0} requests, {:.0} spans delivered, {:.0} records lost",
            cpu * 100.0,
            after.resident_mib,
            requests,
            last.spans - before.spans,
            last.lost - before.lost,
        );
        agent.stop()
    }

    fn pairs(&self, args: &Args) -> Result<()> {
        let mut ratios = Vec::new();
        for number in 0..args.pairs {
            // In turn first: what changes on the machine meanwhile meets both alike.
            let untraced = |bench: &Self| bench.load(0, args.seconds, args.connections);
            let traced = |bench: &Self| {
                let agent = bench.agent()?;
                let rate = bench.load(0, args.seconds, args.connections)?;
                let lost = agent.read()?.lost;
                agent.stop().map(|()| (rate, lost))
            };
            let (without, (with, lost)) = if number % 2 == 0 {
                let without = untraced(self)?;
                (without, traced(self)?)
            } else {
                let with = traced(self)?;
                (untraced(self)?, with)
            };
            let ratio = with / without;
            println!(
                "pair {}: {without:.0} requests/s without, {with:.0} with the agent: {:.1} %; {lost:.0} records lost",
                number + 1,
                ratio * 100.0
            );
            ratios.push(ratio);
        }
        ratios.sort_by(f64::total_cmp);
        if let (Some(least), Some(middle), Some(most)) =
            (ratios.first(), ratios.get(ratios.len() / 2), ratios.last())
        {
            println!(
                "nginx keeps {:.1} % of its rate (median of {}; {:.1} to {:.1})",
                middle * 100.0,
                ratios.len(),
                least * 100.0,
                most * 100.0
            );
        }
        Ok(())
    }
}
