//! The reference flow: a manufacturer's services on loopback → orders lived through and their truth logs.
//!
//! ```text
//! customers ─▶ shop ─▶ store (nginx)          shop, desk: Python      crm: Node.js      mes: Java
//!               │ ▲ ▲
//!               ▼ │ └── desk ◀─ orders.dead ◀──── rejected ──┐
//! sellers ───▶ crm ─── orders ─▶ RabbitMQ ─▶ mes.orders ─▶ mes ◀─── operators, partners
//!               ▲                   │                       │
//!               └─── crm.status ◀───┴◀──── status ──────────┘
//! ```
//!
//! *Owns* what is started in which order with which settings. *Must not know* the agent and its spans.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;

use crate::authority::{Authority, PASSWORD};
use crate::customers::{Customer, Ledger, Outcome, Ports, Scenario, Web, live_through};
use crate::peers::{Postgres, Process, Rabbit, Scratch, Store, free_port, go_on, run};
use crate::tools;
use crate::truth::history::History;
use crate::truth::{self, Entry};

/// The libraries of the MES, where Debian's packages put them.
const JARS: [&str; 4] = ["amqp-client", "postgresql", "slf4j-api", "slf4j-nop"];

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The CRM hangs: it takes requests and answers none.
    CrmHangs,
    /// The object store, which is another house's, is away.
    StoreAway,
    /// The MES, which takes the orders' messages, has ended.
    MesStopped,
}

/// A program of the flow, and how it was started.
#[derive(Debug)]
struct Service {
    process: Process,
    command: Command,
}

/// The running services. They stop when it is dropped, in the reverse order of their start.
#[derive(Debug)]
pub struct Flow {
    services: Vec<Service>,
    store: Store,
    rabbit: Rabbit,
    postgres: Postgres,
    ports: Ports,
    ledger: Arc<Ledger>,
    /// What the customers trust, where everything speaks TLS.
    trusted: Option<Arc<ClientConfig>>,
    /// Orders begun so far: each is lived through by its number.
    begun: AtomicUsize,
    scratch: Scratch,
}

impl Flow {
    /// Starts all of it; `progress` is told what is next.
    ///
    /// The processes die with the thread that calls this, however it ends.
    pub fn start(progress: &dyn Fn(&str)) -> Result<Self> {
        Self::start_with(progress, false)
    }

    /// The same, with every connection under TLS.
    pub fn start_encrypted(progress: &dyn Fn(&str)) -> Result<Self> {
        Self::start_with(progress, true)
    }

    fn start_with(progress: &dyn Fn(&str), has_tls: bool) -> Result<Self> {
        let services = source();
        let scratch = Scratch::new("flow")?;
        let dir = scratch.path().to_owned();
        let truth = dir.join("truth");
        fs::create_dir(&truth)?;
        progress("RabbitMQ, PostgreSQL and nginx");
        let authority = has_tls.then(|| Authority::new(&dir)).transpose()?;
        let tls = authority.as_ref();
        let mut rabbit = Rabbit::start(&dir, tls)?;
        let postgres = Postgres::start(&dir, tls)?;
        postgres.create("shop", &services.join("sql/shop.sql"))?;
        postgres.create("mes", &services.join("sql/mes.sql"))?;
        let store = Store::start(&dir, &services.join("store/nginx.conf"), &truth.join("store.jsonl"), tls)?;
        let program = build_mes(&dir)?;
        rabbit.wait_until_ready()?;

        let ports = Ports { shop: free_port()?, crm: free_port()?, mes: free_port()? };
        let scheme = if has_tls { "https" } else { "http" };
        let url = |port: u16| format!("{scheme}://127.0.0.1:{port}");
        let ledger = Arc::new(Ledger::new(File::create(truth.join("customers.jsonl"))?));
        let mut flow = Self {
            services: Vec::new(),
            store,
            rabbit,
            postgres,
            ports,
            ledger,
            trusted: tls.map(Authority::client).transpose()?,
            begun: AtomicUsize::new(0),
            scratch,
        };
        progress("the CRM (Node.js)");
        let mut crm = Command::new("node");
        crm.arg(services.join("crm/crm.js"))
            .env("NODE_PATH", node_modules()?)
            .env("PORT", ports.crm.to_string())
            .env("DATABASE_URL", flow.postgres.url("shop"))
            .env("SHOP_URL", url(ports.shop));
        if let Some(authority) = tls {
            crm.env("NODE_EXTRA_CA_CERTS", &authority.trusted);
        }
        flow.service("crm", crm, tls)?;
        progress("the MES (Java)");
        let mut mes = Command::new("java");
        mes.arg("-Xmx256m");
        if let Some(store) = tls.and_then(|authority| authority.store.as_ref()) {
            for (kind, what) in [("keyStore", store), ("trustStore", store)] {
                mes.arg(format!("-Djavax.net.ssl.{kind}={}", what.display()));
                mes.arg(format!("-Djavax.net.ssl.{kind}Password={PASSWORD}"));
            }
        }
        mes.arg("-jar")
            .arg(program)
            .env("PORT", ports.mes.to_string())
            .env("DATABASE_URL", flow.postgres.jdbc_url("mes"))
            .env("STORE_URL", flow.store.url())
            .env("SHOP_URL", url(ports.shop))
            .env("CRM_URL", url(ports.crm));
        flow.service("mes", mes, tls)?;
        progress("the shop and the service desk (Python)");
        let python = |script: &str| {
            // Debian's Python has the client libraries; another one may come first on the path.
            let mut command = Command::new("/usr/bin/python3");
            command.arg(services.join(script)).env("PYTHONPATH", services.join("truth"));
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            if let Some(authority) = tls {
                command.env("SSL_CERT_FILE", &authority.trusted);
            }
            command
        };
        let mut shop = python("shop/shop.py");
        shop.env("PORT", ports.shop.to_string())
            .env("DATABASE_URL", flow.postgres.url("shop"))
            .env("STORE_URL", flow.store.url())
            .env("CRM_URL", url(ports.crm));
        flow.service("shop", shop, tls)?;
        let mut desk = python("desk/desk.py");
        desk.env("SHOP_URL", url(ports.shop));
        flow.service("desk", desk, tls)?;
        Ok(flow)
    }

    fn service(&mut self, name: &str, mut command: Command, tls: Option<&Authority>) -> Result<()> {
        let dir = self.scratch.path();
        if let Some(authority) = tls {
            // They serve TLS where they are given these.
            command.env("TLS_CERTIFICATE", &authority.certificate).env("TLS_KEY", &authority.key);
        }
        command.env("AMQP_URL", self.rabbit.url()).env("TRUTH_SERVICE", name);
        command.env("TRUTH_LOG", dir.join(format!("truth/{name}.jsonl")));
        let mut process = Process::start(name, &mut command, &dir.join(format!("{name}.log")))?;
        process.wait_for_line(&format!("{name}: ready"))?;
        self.services.push(Service { process, command });
        Ok(())
    }

    /// Breaks something on purpose.
    pub fn break_down(&mut self, failure: Failure) -> Result<()> {
        match failure {
            Failure::CrmHangs => self.named("crm")?.process.freeze(),
            Failure::MesStopped => drop(self.named("mes")?.process.stop()?),
            Failure::StoreAway => drop(self.store.process.stop()?),
        }
        Ok(())
    }

    /// Mends it again.
    pub fn mend(&mut self, failure: Failure) -> Result<()> {
        match failure {
            Failure::CrmHangs => self.named("crm")?.process.thaw(),
            Failure::MesStopped => self.named("mes")?.start_again()?,
            Failure::StoreAway => self.store.restart()?,
        }
        Ok(())
    }

    fn named(&mut self, name: &str) -> Result<&mut Service> {
        let found = self.services.iter_mut().find(|service| service.process.name() == name);
        found.with_context(|| format!("there is no service {name}"))
    }

    /// Numbers of orders go on from here: those that other houses on this machine have are not these.
    pub fn number_from(&self, first: u64) -> Result<()> {
        let query = format!("SELECT setval(pg_get_serial_sequence('orders', 'id'), {first})");
        self.postgres.rows("shop", &query).map(drop)
    }

    /// A customer with an order that is lived through step by step.
    pub fn customer(&self) -> Result<Customer> {
        let index = self.begun.fetch_add(1, Ordering::Relaxed);
        Customer::order(index, self.web(), &self.ledger)
    }

    /// The next `count` orders, at most `concurrency` at a time.
    pub fn run_orders(&self, count: usize, concurrency: usize) -> Result<Vec<Outcome>> {
        let first = self.begun.fetch_add(count, Ordering::Relaxed);
        let next = AtomicUsize::new(first);
        let done: Mutex<Vec<Result<Outcome>>> = Mutex::new(Vec::with_capacity(count));
        std::thread::scope(|scope| {
            for _ in 0..concurrency.clamp(1, count.max(1)) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= first + count {
                            return;
                        }
                        let outcome = live_through(index, Scenario::of(index), &self.web(), &self.ledger);
                        match done.lock() {
                            Ok(mut done) => done.push(outcome),
                            Err(_) => return,
                        }
                    }
                });
            }
        });
        done.into_inner().map_err(|_| anyhow::anyhow!("a thread failed"))?.into_iter().collect()
    }

    /// Orders one after the other, so many at a time, until `over`: those begun by then still come to their end.
    /// A failed order does not stop the others.
    pub fn run_orders_until(&self, over: &AtomicBool, concurrency: usize) -> Vec<Result<Outcome>> {
        std::thread::scope(|scope| {
            let people = || {
                let mut outcomes = Vec::new();
                while !over.load(Ordering::Relaxed) && go_on().is_ok() {
                    let index = self.begun.fetch_add(1, Ordering::Relaxed);
                    outcomes.push(live_through(index, Scenario::of(index), &self.web(), &self.ledger));
                }
                outcomes
            };
            let threads: Vec<_> = (0..concurrency.max(1)).map(|_| scope.spawn(people)).collect();
            let panicked = |_| vec![Err(anyhow::anyhow!("the thread of an order panicked"))];
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        })
    }

    fn web(&self) -> Web {
        Web { ports: self.ports, tls: self.trusted.clone() }
    }

    /// What the services say they did, once every request and message has been seen by both of its sides.
    pub fn truth(&mut self) -> Result<Vec<Entry>> {
        const LIMIT: Duration = Duration::from_secs(30);
        let start = Instant::now();
        loop {
            let entries = truth::load(&self.scratch.path().join("truth"))?;
            let unbalanced = truth::unbalanced(&entries);
            if unbalanced.is_empty() {
                return Ok(entries);
            }
            self.check()?;
            if start.elapsed() > LIMIT {
                bail!("the truth logs do not agree with each other:\n{}", unbalanced.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the status of each order was, one after the other, by the databases themselves.
    pub fn history(&self) -> Result<History> {
        let mut history = History::default();
        for database in ["shop", "mes"] {
            let rows = "SELECT record, order_id, status FROM status_history ORDER BY id";
            history.add(&self.postgres.rows(database, rows)?)?;
        }
        Ok(history)
    }

    /// Fails when a service has ended.
    pub fn check(&mut self) -> Result<()> {
        self.services.iter_mut().try_for_each(|service| service.process.check())?;
        [&mut self.store.process, &mut self.rabbit.process, &mut self.postgres.process]
            .into_iter()
            .try_for_each(Process::check)
    }

    /// Where logs and truth are, and where others may put theirs.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// All went well: the logs are removed at the end.
    pub fn discard(&mut self) {
        self.scratch.discard();
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Every port on which the flow's servers listen.
    pub fn all_ports(&self) -> [u16; 6] {
        let Ports { shop, crm, mes } = self.ports;
        [shop, crm, mes, self.store.port, self.rabbit.port, self.postgres.port]
    }

    /// PostgreSQL's own log, with every statement it was sent.
    pub fn postgres_log(&self) -> &Path {
        self.postgres.process.log()
    }
}

impl Service {
    /// Starts it as it was started, and waits until it is ready once more.
    fn start_again(&mut self) -> Result<()> {
        let (name, log) = (self.process.name().to_owned(), self.process.log().to_owned());
        let ready = format!("{name}: ready");
        let times = |log: &Path| fs::read_to_string(log).map_or(0, |log| log.matches(&ready).count());
        let before = times(&log);
        self.process = Process::start(&name, &mut self.command, &log)?;
        self.process.wait_until("ready", |log| times(log) > before)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // Clients first, so that servers do not wait for them.
        while self.services.pop().is_some() {}
    }
}

/// What is missing on this machine to run the flow; `None` when nothing is.
pub fn missing() -> Option<String> {
    let files =
        ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/lib/postgresql", "/usr/share/java/amqp-client.jar"];
    let file = files.into_iter().find(|file| !Path::new(file).exists());
    let program = || {
        ["nginx", "node", "java", "javac", "setpriv"].into_iter().find(|name| tools::program(name).is_none())
    };
    let modules = || node_modules().is_err().then_some("pg and amqplib for Node.js");
    let missing = file.or_else(program).or_else(modules)?;
    Some(format!("{missing} is missing: run `cargo xtask setup`"))
}

/// `tests/services`.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services")
}

/// The modules that `cargo xtask setup` installed by this very lock file.
pub fn node_modules() -> Result<PathBuf> {
    let modules = tools::node_modules(&source().join("crm/package-lock.json"));
    modules.context("pg and amqplib are not installed: run `cargo xtask setup`")
}

/// Compiles the MES; its jar.
fn build_mes(dir: &Path) -> Result<PathBuf> {
    let classes = dir.join("mes");
    fs::create_dir(&classes)?;
    let jars = JARS.map(|jar| format!("/usr/share/java/{jar}.jar"));
    let mut javac = Command::new("javac");
    javac.arg("-d").arg(&classes).args(["-encoding", "UTF-8", "-cp", &jars.join(":")]);
    for file in ["mes/Mes.java", "mes/Database.java", "mes/Json.java", "truth/Truth.java"] {
        javac.arg(source().join(file));
    }
    run(&mut javac)?;
    let (manifest, program) = (dir.join("mes.manifest"), dir.join("mes.jar"));
    fs::write(&manifest, format!("Main-Class: Mes\nClass-Path: {}\n", jars.join(" ")))?;
    run(Command::new("jar").arg("-cfm").args([&program, &manifest]).arg("-C").arg(&classes).arg("."))?;
    Ok(program)
}
