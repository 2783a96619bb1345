//! Real servers and programs for the tests: what to start → a running process, stopped when it is dropped.
//!
//! Everything listens on loopback, on ports that were free, and keeps its files in one temporary directory.
//! *Owns* processes, ports, directories. *Must not know* what flows between the servers.

mod signals;
mod store;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::authority::Authority;

pub use signals::watch_signals;
pub use store::Store;

/// How long a server may take until it serves; RabbitMQ on a busy machine is the slowest.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a process may take to end by itself after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on everything that waits gives up, so that whoever started servers stops them.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Fails once [`interrupt`] was called. Loops that wait ask this.
pub fn go_on() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// A directory of its own below the system's temporary one.
///
/// It stays, for a look at the logs, unless all went well ([`Scratch::discard`]) or the user broke it off.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    discarded: bool,
}

impl Scratch {
    /// `name` becomes part of the path. The directory may be entered by all: PostgreSQL runs as a user of its own.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("spoor-{name}-{}-{count}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path, discarded: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody needs it any more: it is removed at the end.
    pub fn discard(&mut self) {
        self.discarded = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.discarded || go_on().is_err() {
            // A leftover in the temporary directory does no harm.
            let _ = fs::remove_dir_all(&self.path);
        } else {
            eprintln!("logs are in {}", self.path.display());
        }
    }
}

/// A port of loopback that was free and is handed out once.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().map_err(|_| anyhow::anyhow!("another thread failed"))?;
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if given.insert(port) {
            return Ok(port);
        }
    }
}

/// A connection to a port of loopback that waits for an answer no longer than `patience`.
pub fn connect(port: u16, patience: Duration) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(BufReader::new(stream))
}

/// A child process with a process group of its own (Ctrl-C does not reach it).
///
/// It is asked to end when dropped, and by the kernel when the thread that started it is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its standard error, and its standard output unless the command has one set, go to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        // `setpriv` asks the kernel for a signal when the parent dies, which Rust cannot do without unsafe code.
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(key, value),
                None => guarded.env_remove(key),
            };
        }
        guarded.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
        guarded.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = guarded.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// As [`Process::start`], with standard output in a file of its own.
    pub fn start_with_output(name: &str, command: &mut Command, log: &Path, output: &Path) -> Result<Self> {
        // A shell puts the output where it belongs and is replaced by the program: the process stays the same one.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec >>\"$0\" \"$@\""])
            .arg(output)
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        Self::start(name, &mut shell, log)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until `ready` says so; fails when the process ends before, or at the limit.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut(&Path) -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready(&self.log) {
            go_on()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it was {what}:\n{}", self.name, tail(&self.log));
            }
            if start.elapsed() > START_LIMIT {
                bail!("{} was not {what} within {START_LIMIT:?}:\n{}", self.name, tail(&self.log));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits until a line of its log contains `text`.
    pub fn wait_for_line(&mut self, text: &str) -> Result<()> {
        self.wait_until("ready", |log| fs::read_to_string(log).is_ok_and(|log| log.contains(text)))
    }

    /// Waits until it ends by itself. `Ok(true)`: with success.
    pub fn wait(&mut self) -> Result<bool> {
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            go_on()?;
            std::thread::sleep(POLL);
        }
        bail!("{} did not end within {START_LIMIT:?}:\n{}", self.name, tail(&self.log));
    }

    /// Fails with its last words when it is no longer running.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, tail(&self.log)),
            None => Ok(()),
        }
    }

    /// Asks it to end, waits, and kills what is left of its group. `Ok(true)`: it ended by itself with success.
    pub fn stop(&mut self) -> Result<bool> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status.success());
        }
        self.signal(Signal::TERM);
        // What was stopped hears it only then.
        self.thaw();
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                self.signal(Signal::KILL);
                return Ok(status.success());
            }
            std::thread::sleep(POLL);
        }
        self.signal(Signal::KILL);
        self.child.wait()?;
        Ok(false)
    }

    /// Ends its whole group at once, as a crash does.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.child.wait()?;
        Ok(())
    }

    /// Stops its whole group where it is, as a program that hangs is: connections stay open, nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The group may be gone already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop {}: {error:#}", self.name);
        }
    }
}

/// The end of a log, for messages.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(15);
    format!("{} (last lines of {})", lines[from..].join("\n"), log.display())
}

/// A private PostgreSQL cluster, superuser `spoor`, no password.
#[derive(Debug)]
pub struct Postgres {
    pub process: Process,
    pub port: u16,
    /// Where its Unix socket is.
    dir: PathBuf,
    binaries: PathBuf,
    /// What clients trust, where it speaks TLS.
    trusted: Option<PathBuf>,
}

impl Postgres {
    /// With `tls`, clients may ask for TLS.
    pub fn start(scratch: &Path, tls: Option<&Authority>) -> Result<Self> {
        let binaries = postgres_binaries()?;
        let dir = scratch.join("postgres");
        fs::create_dir(&dir)?;
        let data = dir.join("data");
        let user = if rustix::process::geteuid().is_root() { Some("postgres") } else { None };
        if let Some(user) = user {
            // PostgreSQL refuses to run as root.
            run(Command::new("chown").arg(user).arg(&dir))?;
        }
        let mut initdb = as_user(user, &binaries.join("initdb"));
        initdb.args([
            "--auth=trust",
            "--username=spoor",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--pgdata",
        ]);
        run(initdb.arg(&data))?;
        let port = free_port()?;
        let mut server = as_user(user, &binaries.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k"]).arg(&dir);
        let settings = [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "max_connections=120",
            "log_statement=all",
            "jit=off",
            "log_line_prefix=[%a] ",
        ];
        server.args(settings.iter().flat_map(|setting| ["-c", setting]));
        if let Some(authority) = tls {
            // It wants a key that is its own.
            let key = dir.join("server.key");
            let mut install = Command::new("install");
            install.args(["-m", "600"]).args(user.iter().flat_map(|user| ["-o", user]));
            run(install.arg(&authority.key).arg(&key))?;
            let file = |name: &str, path: &Path| format!("{name}={}", path.display());
            server.args(["-c", "ssl=on", "-c", &file("ssl_key_file", &key)]);
            server.args(["-c", &file("ssl_cert_file", &authority.certificate)]);
        }
        let mut process = Process::start("PostgreSQL", &mut server, &scratch.join("postgres.log"))?;
        process.wait_for_line("ready to accept connections")?;
        Ok(Self { process, port, dir, binaries, trusted: tls.map(|authority| authority.trusted.clone()) })
    }

    /// Creates a database and fills it by a script.
    pub fn create(&self, database: &str, script: &Path) -> Result<()> {
        let create = format!("CREATE DATABASE {database}");
        self.psql(Path::new("127.0.0.1"), "postgres", &["--command", &create])?;
        self.psql(Path::new("127.0.0.1"), database, &["--file", &script.to_string_lossy()]).map(drop)
    }

    /// The rows of a query, their columns between tabulators. It is asked over the Unix socket: no capture of packets sees it.
    pub fn rows(&self, database: &str, query: &str) -> Result<String> {
        self.psql(
            &self.dir,
            database,
            &["--tuples-only", "--no-align", "--field-separator=\t", "--command", query],
        )
    }

    fn psql(&self, host: &Path, database: &str, args: &[&str]) -> Result<String> {
        let port = self.port.to_string();
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--username=spoor", "--set=ON_ERROR_STOP=1"]);
        psql.arg("--host").arg(host).args(["--port", &port, "--dbname", database]).args(args);
        said(&mut psql)
    }

    pub fn url(&self, database: &str) -> String {
        let base = format!("postgresql://spoor@127.0.0.1:{}/{database}", self.port);
        self.tls_options().map_or(base.clone(), |options| format!("{base}?{options}"))
    }

    /// The same for pgjdbc.
    pub fn jdbc_url(&self, database: &str) -> String {
        let base = format!("jdbc:postgresql://127.0.0.1:{}/{database}?user=spoor", self.port);
        self.tls_options().map_or(base.clone(), |options| format!("{base}&{options}"))
    }

    fn tls_options(&self) -> Option<String> {
        let trusted = self.trusted.as_ref()?;
        Some(format!("sslmode=verify-full&sslrootcert={}", trusted.display()))
    }
}

/// The newest PostgreSQL of the system.
fn postgres_binaries() -> Result<PathBuf> {
    let parent = Path::new("/usr/lib/postgresql");
    let entries = fs::read_dir(parent).context("there is no PostgreSQL here: run `cargo xtask setup`")?;
    let with_version = entries.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let binaries = entry.path().join("bin");
        binaries.join("initdb").exists().then_some((version, binaries))
    });
    let newest = with_version.max().context("there is no PostgreSQL here: run `cargo xtask setup`")?;
    Ok(newest.1)
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    // Changing the user forgets the wish to die with the parent: it is asked for again.
    command
        .args(["--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig", "INT", "--"])
        .arg(program);
    command
}

/// A private RabbitMQ node with a port mapper of its own.
#[derive(Debug)]
pub struct Rabbit {
    pub process: Process,
    pub port: u16,
    has_tls: bool,
    _mapper: Process,
}

impl Rabbit {
    /// With `tls` it speaks nothing else.
    pub fn start(scratch: &Path, tls: Option<&Authority>) -> Result<Self> {
        let dir = scratch.join("rabbitmq");
        fs::create_dir(&dir)?;
        let (port, dist, mapper_port) = (free_port()?, free_port()?, free_port()?);
        let mapper_port = mapper_port.to_string();
        let mut mapper = Command::new("epmd");
        mapper.args(["-address", "127.0.0.1", "-port", &mapper_port]);
        let mapper = Process::start("epmd", &mut mapper, &scratch.join("epmd.log"))?;
        let config = dir.join("rabbitmq.conf");
        let listens = match tls {
            None => format!("listeners.tcp.1 = 127.0.0.1:{port}\n"),
            Some(authority) => format!(
                "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
                 ssl_options.verify = verify_none\nssl_options.versions.1 = tlsv1.3\nssl_options.versions.2 = tlsv1.2\n",
                authority.certificate.display(),
                authority.key.display()
            ),
        };
        let settings =
            format!("{listens}disk_free_limit.absolute = 50MB\nlog.console = true\nlog.file = false\n");
        fs::write(&config, settings)?;
        fs::write(dir.join("enabled_plugins"), "[].\n")?;
        let mut server = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        server
            .env("HOME", &dir)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", &mapper_port)
            .env("RABBITMQ_NODENAME", format!("spoor{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", dist.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("RABBITMQ_CONF_ENV_FILE", dir.join("none"))
            .env("RABBITMQ_CONFIG_FILE", &config)
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
            .env("RABBITMQ_PID_FILE", dir.join("pid"))
            .env("RABBITMQ_LOG_BASE", dir.join("log"));
        let process = Process::start("RabbitMQ", &mut server, &scratch.join("rabbitmq.log"))?;
        Ok(Self { process, port, has_tls: tls.is_some(), _mapper: mapper })
    }

    /// The node takes some seconds; whoever starts more than it, does so meanwhile.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let (port, has_tls) = (self.port, self.has_tls);
        // It listens when all else is started.
        self.process.wait_until("ready", |_| if has_tls { listens(port) } else { greets(port) })
    }

    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "amqps" } else { "amqp" };
        format!("{scheme}://guest:guest@127.0.0.1:{}/%2F", self.port)
    }
}

/// The broker answers a protocol header (AMQP 0-9-1, section 4.2.2) with a frame on channel 0.
fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut first = [0; 3];
        stream.read_exact(&mut first)?;
        Ok(first == [1, 0, 0])
    };
    ask().unwrap_or(false)
}

/// Something accepts connections there.
pub fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(1)).is_ok()
}

/// Runs a helper program to its end; its output is shown when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    said(command).map(drop)
}

/// The same; what it prints.
pub fn said(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("{name} failed ({}):\n{}", output.status, String::from_utf8_lossy(&text));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} prints something else than text"))
}
