//! Servers and client libraries for tests and demo, as Debian packages.
//!
//! What is there is recognised by what the tests use (a program, a file, a Python module), not by the package's
//! name, so that a system which has it from elsewhere is left alone.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Found, Need};
use crate::shell;

pub(crate) const PACKAGES: Need = Need {
    name: "servers and client libraries",
    why: "used by the demo's services and the end-to-end tests",
    look,
    install: || install_missing(WANTED),
};

/// What builds an image and what runs it as a container.
pub(crate) const CONTAINERS: Need = Need {
    name: "builder and runtime of containers",
    why: "the tests build the image and run it with the capabilities of the DaemonSet",
    look: || match missing(CONTAINER_PROGRAMS).as_slice() {
        [] => Found::Present("buildah, runc".to_owned()),
        packages => Found::Missing(format!("the packages {}", packages.join(" "))),
    },
    install: || install_missing(CONTAINER_PROGRAMS),
};

/// A browser for the pages of `spoor-serve`.
pub(crate) const CHROMIUM: Need = Need {
    name: "browser",
    why: "tests look at the pages of spoor-serve with it",
    look: || match missing(BROWSERS).as_slice() {
        [] => Found::Present("chromium".to_owned()),
        packages => Found::Missing(format!("the packages {}", packages.join(" "))),
    },
    install: || install_missing(BROWSERS),
};

/// Servers, proxies and languages of `cargo xtask stacks`.
pub(crate) const STACKS: Need = Need {
    name: "software of the field",
    why: "`cargo xtask stacks` runs the agent beside it",
    look: || match missing(FIELD).as_slice() {
        [] => Found::Present("Apache, Caddy, PgBouncer, PHP, Perl, Sinatra, Rails, Tryton".to_owned()),
        packages => Found::Missing(format!("the packages {}", packages.join(" "))),
    },
    install: || install_missing(FIELD),
};

const FIELD: &[(&str, Witness)] = &[
    ("apache2-bin", Witness::Program("apache2")),
    ("caddy", Witness::Program("caddy")),
    ("pgbouncer", Witness::Program("pgbouncer")),
    ("php-fpm", Witness::Below("/etc/php", "fpm/php-fpm.conf")),
    ("php-pgsql", Witness::Below("/etc/php", "fpm/conf.d/20-pdo_pgsql.ini")),
    ("starman", Witness::Program("starman")),
    ("libdbd-pg-perl", Witness::File("/usr/share/doc/libdbd-pg-perl")),
    ("ruby-sinatra", Witness::File("/usr/share/doc/ruby-sinatra")),
    ("ruby-bunny", Witness::File("/usr/share/doc/ruby-bunny")),
    // `rails` itself brings compilers and a JavaScript library of every kind.
    ("ruby-railties", Witness::File("/usr/share/doc/ruby-railties")),
    ("ruby-actionpack", Witness::File("/usr/share/doc/ruby-actionpack")),
    ("ruby-activerecord", Witness::File("/usr/share/doc/ruby-activerecord")),
    ("tryton-server", Witness::Program("trytond")),
    ("python3-venv", Witness::Python("ensurepip")),
];

const BROWSERS: &[(&str, Witness)] = &[("chromium", Witness::Program("chromium"))];

const CONTAINER_PROGRAMS: &[(&str, Witness)] =
    &[("buildah", Witness::Program("buildah")), ("runc", Witness::Program("runc"))];

/// How the presence of a package is seen.
enum Witness {
    Program(&'static str),
    File(&'static str),
    /// A file in some sub-directory: `(parent, below)`.
    Below(&'static str, &'static str),
    /// A module of `/usr/bin/python3`, which may differ from the `python3` on the path.
    Python(&'static str),
}

const WANTED: &[(&str, Witness)] = &[
    // For the agent's allocator, which is C.
    ("make", Witness::Program("make")),
    ("rabbitmq-server", Witness::File("/usr/lib/rabbitmq/bin/rabbitmq-server")),
    ("postgresql", Witness::Below("/usr/lib/postgresql", "bin/initdb")),
    ("nginx-light", Witness::Program("nginx")),
    // What alerts of spoor-serve are told to; its templates are where the package puts them.
    ("prometheus-alertmanager", Witness::Program("prometheus-alertmanager")),
    ("curl", Witness::Program("curl")),
    ("tshark", Witness::Program("tshark")),
    ("iproute2", Witness::Program("ip")),
    // Address translation between network namespaces.
    ("nftables", Witness::Program("nft")),
    ("util-linux", Witness::Program("setpriv")),
    ("python3", Witness::File("/usr/bin/python3")),
    ("python3-pika", Witness::Python("pika")),
    ("python3-psycopg2", Witness::Python("psycopg2")),
    ("nodejs", Witness::Program("node")),
    ("npm", Witness::Program("npm")),
    ("default-jdk-headless", Witness::Program("javac")),
    ("librabbitmq-client-java", Witness::File("/usr/share/java/amqp-client.jar")),
    ("libpostgresql-jdbc-java", Witness::File("/usr/share/java/postgresql.jar")),
    ("libslf4j-java", Witness::File("/usr/share/java/slf4j-nop.jar")),
    // The services of `cargo xtask accuracy`.
    ("haproxy", Witness::Program("haproxy")),
    ("gunicorn", Witness::Python("gunicorn")),
    ("python3-aiohttp", Witness::Python("aiohttp")),
    ("python3-asyncpg", Witness::Python("asyncpg")),
    ("golang-go", Witness::Program("go")),
    ("golang-github-lib-pq-dev", Witness::File("/usr/share/gocode/src/github.com/lib/pq/conn.go")),
    ("mono-runtime", Witness::Program("mono")),
    ("mono-mcs", Witness::Program("mcs")),
    ("puma", Witness::Program("puma")),
    ("ruby-pg", Witness::Below("/usr/share/rubygems-integration", "specifications")),
];

fn look() -> Found {
    match missing(WANTED).as_slice() {
        [] => Found::Present("RabbitMQ, PostgreSQL, nginx, Python, Node.js, Java, tshark".to_owned()),
        packages => Found::Missing(format!("the packages {}", packages.join(" "))),
    }
}

fn missing(wanted: &[(&'static str, Witness)]) -> Vec<&'static str> {
    wanted.iter().filter(|(_, witness)| !is_present(witness)).map(|(package, _)| *package).collect()
}

fn is_present(witness: &Witness) -> bool {
    match witness {
        Witness::Program(name) => shell::which(name).is_some(),
        Witness::File(path) => Path::new(path).exists(),
        Witness::Below(parent, below) => fs::read_dir(parent)
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join(below).exists())),
        Witness::Python(module) => {
            let import = format!("import {module}");
            shell::output(shell::command("/usr/bin/python3", ["-c", &import])).is_some()
        }
    }
}

fn install_missing(wanted: &[(&'static str, Witness)]) -> Result<()> {
    update()?;
    install(&missing(wanted))
}

/// Fetches the package lists.
pub(crate) fn update() -> Result<()> {
    need_apt("the package lists")?;
    shell::run_quietly(shell::command("apt-get", ["update", "--quiet"]))
}

/// A package of that name can be installed.
pub(crate) fn is_offered(package: &str) -> bool {
    let policy = shell::output(shell::command("apt-cache", ["policy", package])).unwrap_or_default();
    policy
        .lines()
        .any(|line| line.trim().strip_prefix("Candidate:").is_some_and(|version| version.trim() != "(none)"))
}

/// Installs packages; servers among them are not started.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    need_apt(&packages.join(" "))?;
    eprintln!("setup: installing {}", packages.join(" "));
    let _guard = NoServices::new()?;
    let mut apt = shell::command("apt-get", ["install", "--yes", "--quiet", "--no-install-recommends"]);
    apt.args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    shell::run_quietly(apt)
}

fn need_apt(what: &str) -> Result<()> {
    if shell::which("apt-get").is_none() {
        bail!(
            "there is no apt-get here to install {what}: install the equal of these Debian packages by other means"
        );
    }
    if !shell::is_root() {
        bail!("installing {what} needs root: run `sudo -E cargo xtask setup`, or install them yourself");
    }
    Ok(())
}

/// While it lives, installing a package starts no service (Debian's invoke-rc.d asks `policy-rc.d`).
/// A policy that is already there stays.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        match file {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
                Ok(Self { ours: true })
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).context("cannot create policy-rc.d"),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("warning: {POLICY} keeps services from starting and could not be removed: {error}");
        }
    }
}
