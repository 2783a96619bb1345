//! The programs under test: a name → a running service.
//!
//! *Owns* how each runtime is started and what it can do. *Must not know* load, spans.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::plan::Abilities;
use crate::flow::node_modules;
use crate::netns::Side;
use crate::peers::{Process, free_port, listens, run};
use crate::tools;

/// How work gets to threads: it decides what can be known of causes without the order's ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// A thread or process works on one request until it is answered.
    ThreadPerRequest,
    /// Work of one request moves between threads, or one thread works on many requests.
    Shared,
}

const GO: &[Need] = &[Need::Program("go"), Need::File("/usr/share/gocode/src/github.com/lib/pq/conn.go")];

/// A program under test.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    pub name: &'static str,
    pub model: Model,
    pub abilities: Abilities,
    /// nginx or haproxy before the service.
    pub proxy: Option<Proxy>,
    /// What must be there to run it: programs, files, modules of `/usr/bin/python3`.
    needs: &'static [Need],
    command: fn(&Place) -> Result<Command>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    Nginx,
    Haproxy,
}

#[derive(Clone, Copy, Debug)]
enum Need {
    Program(&'static str),
    File(&'static str),
    Python(&'static str),
    NodeModules,
}

/// Where a service finds everything.
#[derive(Debug)]
pub struct Place {
    /// For plans, logs and what is compiled.
    pub dir: PathBuf,
    /// This program, which is also one of the services.
    pub program: PathBuf,
    pub backend_port: u16,
    pub database_url: String,
    pub jdbc_url: String,
    pub amqp_url: String,
    /// Connections in each of its pools.
    pub pool: usize,
    pub port: u16,
    /// Where it runs, when not here.
    pub namespace: Option<Side>,
}

const FULL: Abilities = Abilities { sql: true, amqp: true, background: true };
const NO_AMQP: Abilities = Abilities { amqp: false, ..FULL };
const ANSWERS_LAST: Abilities = Abilities { background: false, ..NO_AMQP };

const HTTP: Abilities = Abilities { sql: false, ..NO_AMQP };
const JAVA: &[Need] = &[
    Need::Program("javac"),
    Need::File("/usr/share/java/amqp-client.jar"),
    Need::File("/usr/share/java/postgresql.jar"),
];

/// All of them.
pub const RUNTIMES: &[Runtime] = &[
    Runtime {
        name: "python-threads",
        model: Model::ThreadPerRequest,
        abilities: FULL,
        proxy: None,
        needs: &[Need::Python("psycopg2"), Need::Python("pika")],
        command: |_| {
            let mut command = python("threads.py");
            // The others have a pool for what is done in parallel.
            command.env("BRANCHES", "own");
            Ok(command)
        },
    },
    Runtime {
        name: "gunicorn-sync",
        model: Model::ThreadPerRequest,
        abilities: ANSWERS_LAST,
        proxy: None,
        needs: &[Need::Python("psycopg2"), Need::Python("gunicorn")],
        command: |place| Ok(gunicorn(place, &["--workers", "8"])),
    },
    Runtime {
        name: "gunicorn-gthread",
        model: Model::ThreadPerRequest,
        abilities: ANSWERS_LAST,
        proxy: None,
        needs: &[Need::Python("psycopg2"), Need::Python("gunicorn")],
        command: |place| {
            Ok(gunicorn(place, &["--workers", "2", "--threads", "40", "--worker-connections", "512"]))
        },
    },
    Runtime {
        name: "python-asyncio",
        model: Model::Shared,
        abilities: NO_AMQP,
        proxy: None,
        needs: &[Need::Python("aiohttp"), Need::Python("asyncpg")],
        command: |_| Ok(python("asynchronous.py")),
    },
    Runtime {
        name: "node",
        model: Model::Shared,
        abilities: FULL,
        proxy: None,
        needs: &[Need::Program("node"), Need::NodeModules],
        command: |_| node(),
    },
    Runtime {
        name: "java-pool",
        model: Model::ThreadPerRequest,
        abilities: FULL,
        proxy: None,
        needs: JAVA,
        command: |place| java(place, "pool"),
    },
    Runtime {
        name: "java-handoff",
        model: Model::Shared,
        abilities: FULL,
        proxy: None,
        needs: JAVA,
        command: |place| java(place, "handoff"),
    },
    Runtime {
        name: "go",
        model: Model::Shared,
        abilities: NO_AMQP,
        proxy: None,
        needs: GO,
        command: |place| go(place, "inline"),
    },
    Runtime {
        name: "go-handoff",
        model: Model::Shared,
        abilities: NO_AMQP,
        proxy: None,
        needs: GO,
        command: |place| go(place, "handoff"),
    },
    Runtime {
        name: "mono-thread-pool",
        model: Model::Shared,
        abilities: HTTP,
        proxy: None,
        needs: &[Need::Program("mono"), Need::Program("mcs")],
        command: mono,
    },
    Runtime {
        name: "rust-tokio",
        model: Model::Shared,
        abilities: HTTP,
        proxy: None,
        needs: &[],
        command: |place| {
            let mut command = Command::new(&place.program);
            command.env("SPOOR_ACCURACY_ROLE", "tokio");
            Ok(command)
        },
    },
    Runtime {
        name: "ruby-puma",
        model: Model::Shared,
        abilities: ANSWERS_LAST,
        proxy: None,
        needs: &[Need::Program("puma"), Need::Program("ruby")],
        command: |place| {
            let mut command = Command::new("puma");
            command.args(["--threads", "32:32", "--workers", "0", "--silent", "--bind"]);
            command.arg(format!("tcp://127.0.0.1:{}", place.port)).arg(source().join("service.ru"));
            Ok(command)
        },
    },
    Runtime {
        name: "node-behind-nginx",
        model: Model::Shared,
        abilities: FULL,
        proxy: Some(Proxy::Nginx),
        needs: &[Need::Program("node"), Need::NodeModules, Need::Program("nginx")],
        command: |_| node(),
    },
    Runtime {
        name: "threads-behind-haproxy",
        model: Model::ThreadPerRequest,
        abilities: FULL,
        proxy: Some(Proxy::Haproxy),
        needs: &[Need::Python("psycopg2"), Need::Python("pika"), Need::Program("haproxy")],
        command: |_| Ok(python("threads.py")),
    },
];

impl Runtime {
    pub fn by_name(name: &str) -> Option<&'static Self> {
        RUNTIMES.iter().find(|runtime| runtime.name == name)
    }

    /// What is missing to run it; `None` when nothing is.
    pub fn missing(&self) -> Option<String> {
        let missing = self.needs.iter().find_map(|need| match need {
            Need::Program(name) => tools::program(name).is_none().then(|| (*name).to_owned()),
            Need::File(path) => (!Path::new(path).exists()).then(|| (*path).to_owned()),
            Need::Python(module) => {
                let mut python = Command::new("/usr/bin/python3");
                run(python.args(["-c", &format!("import {module}")]))
                    .err()
                    .map(|_| format!("Python's {module}"))
            }
            Need::NodeModules => node_modules().err().map(|_| "pg and amqplib for Node.js".to_owned()),
        })?;
        Some(format!("{missing} is missing: run `cargo xtask setup`"))
    }

    /// Starts the service, and what takes its messages, and waits until they serve.
    pub fn start(&self, place: &Place) -> Result<Vec<Process>> {
        let mut started = Vec::new();
        if self.abilities.amqp {
            let mut worker = self.program(place, "worker", |command| command.env("ROLE", "worker"))?;
            worker.wait_for_line("ready")?;
            started.push(worker);
        }
        let mut service = self.program(place, "service", |command| command)?;
        service.wait_until("ready", |_| listens(place.port))?;
        started.push(service);
        Ok(started)
    }

    fn program(
        &self,
        place: &Place,
        name: &str,
        with: impl Fn(&mut Command) -> &mut Command,
    ) -> Result<Process> {
        let mut command = (self.command)(place)?;
        command
            .env("PORT", place.port.to_string())
            .env("BACKEND_PORT", place.backend_port.to_string())
            .env("DATABASE_URL", &place.database_url)
            .env("JDBC_URL", &place.jdbc_url)
            .env("POOL", place.pool.to_string())
            .env("PLANS", place.plans())
            .env("LOG", place.log());
        if self.abilities.amqp {
            command.env("AMQP_URL", &place.amqp_url);
        }
        let name = format!("{}-{name}", self.name);
        with(&mut command);
        if let Some(namespace) = &place.namespace {
            command = namespace.wrap(&command);
        }
        Process::start(&name, &mut command, &place.dir.join(format!("{name}.log")))
    }
}

impl Place {
    /// One file for each plan.
    pub fn plans(&self) -> PathBuf {
        self.dir.join("plans")
    }

    /// What the service says it did.
    pub fn log(&self) -> PathBuf {
        self.dir.join("done.log")
    }
}

impl Proxy {
    /// The service name that the agent gives it.
    pub fn service(self) -> &'static str {
        match self {
            Proxy::Nginx => "nginx",
            Proxy::Haproxy => "haproxy",
        }
    }

    /// Starts it in front of `port`; its own port.
    pub fn start(self, dir: &Path, port: u16) -> Result<(Process, u16)> {
        let front = free_port()?;
        let (template, name) = match self {
            Proxy::Nginx => ("nginx.conf", "nginx.conf"),
            Proxy::Haproxy => ("haproxy.cfg", "haproxy.cfg"),
        };
        let template = source().join(template);
        let text =
            fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
        let config = dir.join(name);
        let text = text.replace("@DIR@", &dir.to_string_lossy());
        fs::write(
            &config,
            text.replace("@PORT@", &front.to_string()).replace("@SERVICE@", &port.to_string()),
        )?;
        let mut command = match self {
            Proxy::Nginx => {
                let mut nginx = Command::new("nginx");
                nginx.arg("-p").arg(dir).arg("-c").arg(&config).arg("-e").arg(dir.join("nginx.error"));
                nginx
            }
            Proxy::Haproxy => {
                let mut haproxy = Command::new("haproxy");
                haproxy.arg("-db").arg("-f").arg(&config);
                haproxy
            }
        };
        let mut process = Process::start(name, &mut command, &dir.join(format!("{name}.log")))?;
        process.wait_until("ready", |_| listens(front))?;
        Ok((process, front))
    }
}

/// `tests/services/accuracy`.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services/accuracy")
}

fn python(script: &str) -> Command {
    // Debian's Python has the client libraries; another one may come first on the path.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(source().join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn gunicorn(place: &Place, options: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-m", "gunicorn", "--backlog", "512", "--timeout", "120", "--bind"]);
    command.arg(format!("127.0.0.1:{}", place.port)).args(options).arg("wsgi:application");
    command.current_dir(source()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn node() -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(source().join("node.js")).env("NODE_PATH", node_modules()?);
    Ok(command)
}

fn java(place: &Place, mode: &str) -> Result<Command> {
    let jars = ["amqp-client", "postgresql", "slf4j-api", "slf4j-nop"]
        .map(|jar| format!("/usr/share/java/{jar}.jar"));
    let classes = place.dir.join("classes");
    let path = format!("{}:{}", classes.display(), jars.join(":"));
    if !classes.exists() {
        let mut javac = Command::new("javac");
        javac
            .arg("-d")
            .arg(&classes)
            .args(["-encoding", "UTF-8", "-cp", &path])
            .arg(source().join("Service.java"));
        run(&mut javac)?;
    }
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-cp", &path, "Service"]).env("MODE", mode);
    Ok(command)
}

fn go(place: &Place, mode: &str) -> Result<Command> {
    let program = place.dir.join("service");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(source().join("service.go"));
    // Debian's packages are on the path of Go, not modules.
    build
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", place.dir.join("go-cache"));
    run(&mut build)?;
    let mut command = Command::new(program);
    // Two would do for the machine; more make work move.
    command.env("GOMAXPROCS", "4").env("MODE", mode);
    Ok(command)
}

fn mono(place: &Place) -> Result<Command> {
    let program = place.dir.join("service.exe");
    run(Command::new("mcs").arg(format!("-out:{}", program.display())).arg(source().join("Service.cs")))?;
    let mut command = Command::new("mono");
    command.arg(program);
    Ok(command)
}

/// The runtimes of these names; all where there are none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Runtime>> {
    if names.is_empty() {
        return Ok(RUNTIMES.iter().collect());
    }
    let find = |name: &String| match Runtime::by_name(name) {
        Some(runtime) => Ok(runtime),
        None => {
            let all: Vec<&str> = RUNTIMES.iter().map(|runtime| runtime.name).collect();
            bail!("there is no runtime {name:?}; there are: {}", all.join(", "))
        }
    };
    names.iter().map(find).collect()
}
