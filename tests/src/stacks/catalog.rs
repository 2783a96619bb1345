//! The stacks, each by what starts it.
//!
//! *Owns* versions' and programs' options. *Must not know* load, spans.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result};

use super::drive::Work;
use super::stack::{Need, Place, Stack, apps, node, python, system};
use crate::peers::free_port;

const PLAIN: Stack = Stack {
    name: "",
    work: Work::Plain,
    proxies: &[],
    pooler: None,
    needs: &[Need::Python],
    start: |_| anyhow::bail!("a stack has to be started somehow"),
};

/// All of them.
pub(super) const STACKS: &[Stack] = &[
    Stack { name: "gunicorn-sync", start: |place| flask(place, &["--workers", "4"]), ..PLAIN },
    Stack { name: "gunicorn-gthread", start: |place| flask(place, GTHREAD), ..PLAIN },
    Stack { name: "fastapi-asyncpg", start: |place| uvicorn(place, "shop_fastapi:app"), ..PLAIN },
    Stack { name: "fastapi-threads", start: |place| uvicorn(place, "shop_fastapi_sync:app"), ..PLAIN },
    Stack { name: "hypercorn-psycopg", start: |place| hypercorn(place), ..PLAIN },
    Stack {
        name: "faststream",
        work: Work::Stages,
        start: |place| {
            let mut worker = python("faststream")?;
            worker.args(["run", "shop_faststream:app"]);
            place.ready("faststream", worker, "stages are ready")?;
            hypercorn(place)
        },
        ..PLAIN
    },
    Stack {
        name: "celery",
        work: Work::Queue,
        start: |place| {
            let mut worker = python("celery")?;
            worker.args(["--app", "shop_celery", "worker", "--pool", "prefork", "--concurrency", "2"]);
            worker.args(["--loglevel", "INFO"]);
            place.ready("celery", worker, " ready.")?;
            gunicorn(place, "shop_celery:shop", GTHREAD)
        },
        ..PLAIN
    },
    Stack {
        name: "dramatiq",
        work: Work::Queue,
        start: |place| {
            let mut worker = python("dramatiq")?;
            worker.args(["shop_dramatiq", "--processes", "1", "--threads", "4"]);
            place.ready("dramatiq", worker, "Worker process is ready for action.")?;
            gunicorn(place, "shop_dramatiq:shop", GTHREAD)
        },
        ..PLAIN
    },
    Stack { name: "django", start: |place| gunicorn(place, "shop_django:app", GTHREAD), ..PLAIN },
    Stack { name: "express-pg", needs: NODE, start: express, ..PLAIN },
    Stack { name: "nestjs", needs: NODE, start: |place| serve_node(place, node("nest.js")?), ..PLAIN },
    Stack { name: "express-knex", needs: NODE, start: |place| orm(place, "knex"), ..PLAIN },
    Stack { name: "express-sequelize", needs: NODE, start: |place| orm(place, "sequelize"), ..PLAIN },
    Stack { name: "express-typeorm", needs: NODE, start: |place| orm(place, "typeorm"), ..PLAIN },
    Stack {
        name: "rascal",
        work: Work::Queue,
        needs: NODE,
        start: |place| {
            let mut worker = node("rascal.js")?;
            worker.arg("worker");
            place.ready("worker", worker, "ready")?;
            serve_node(place, node("rascal.js")?)
        },
        ..PLAIN
    },
    Stack {
        name: "amqplib-rpc",
        work: Work::Reply,
        needs: NODE,
        start: |place| {
            let mut worker = node("express.js")?;
            worker.arg("worker");
            place.ready("worker", worker, "ready")?;
            express(place)
        },
        ..PLAIN
    },
    Stack {
        name: "nginx",
        proxies: &["nginx"],
        needs: &[Need::Python, Need::Program("nginx")],
        start: |place| {
            let behind = flask(place, GTHREAD)?;
            nginx(place, &format!("127.0.0.1:{behind}"), PASS)
        },
        ..PLAIN
    },
    Stack {
        name: "nginx-unix",
        proxies: &["nginx"],
        needs: &[Need::Python, Need::Program("nginx")],
        start: |place| {
            let socket = format!("unix:{}/application.sock", place.dir());
            let command = gunicorn_at(&socket, "shop_flask:app", GTHREAD)?;
            place.ready("gunicorn", command, "Booting worker")?;
            nginx(place, &socket, PASS)
        },
        ..PLAIN
    },
    Stack {
        name: "haproxy",
        proxies: &["haproxy"],
        needs: &[Need::Python, Need::Program("haproxy")],
        start: |place| {
            let behind = flask(place, GTHREAD)?;
            haproxy(place, behind, "")
        },
        ..PLAIN
    },
    Stack {
        // HTTP/2 without TLS between the proxies.
        name: "haproxy-h2c-nginx",
        proxies: &["haproxy", "nginx"],
        needs: &[Need::Python, Need::Program("haproxy"), Need::Program("nginx")],
        start: |place| {
            let behind = flask(place, GTHREAD)?;
            let middle = nginx_with(place, &format!("127.0.0.1:{behind}"), PASS, " http2")?;
            haproxy(place, middle, " proto h2")
        },
        ..PLAIN
    },
    Stack {
        name: "apache",
        proxies: &["apache2"],
        needs: &[Need::Python, Need::Program("apache2")],
        start: |place| {
            let behind = flask(place, GTHREAD)?;
            let front = free_port()?;
            let config = configuration(place, "apache.conf", front, &behind.to_string(), "")?;
            let mut command = system("apache2");
            command.arg("-DFOREGROUND").arg("-f").arg(config);
            place.serve("apache", command, front)?;
            Ok(front)
        },
        ..PLAIN
    },
    Stack {
        name: "caddy",
        proxies: &["caddy"],
        needs: &[Need::Python, Need::Program("caddy")],
        start: |place| {
            let behind = flask(place, GTHREAD)?;
            let front = free_port()?;
            let config = configuration(place, "Caddyfile", front, &behind.to_string(), "")?;
            let mut command = system("caddy");
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
            place.serve("caddy", command, front)?;
            Ok(front)
        },
        ..PLAIN
    },
    Stack {
        name: "pgbouncer",
        pooler: Some("pgbouncer"),
        needs: &[Need::Python, Need::Program("pgbouncer")],
        start: |place| {
            let front = free_port()?;
            let behind = place.database_port.to_string();
            let config = configuration(place, "pgbouncer.ini", front, &behind, "")?;
            let mut command = system("pgbouncer");
            command.arg(config);
            place.serve("pgbouncer", command, front)?;
            place.database_url = format!("postgresql://spoor@127.0.0.1:{front}/{}", place.database);
            place.environment.push(("POOLER", "1".to_owned()));
            flask(place, GTHREAD)
        },
        ..PLAIN
    },
    Stack {
        name: "puma-bunny",
        work: Work::Queue,
        needs: &[Need::Program("puma"), Need::Ruby("sinatra"), Need::Ruby("bunny"), Need::Ruby("pg")],
        start: |place| {
            let mut worker = Command::new("ruby");
            worker.arg(apps().join("bunny_worker.rb"));
            place.ready("worker", worker, "ready")?;
            puma(place, "5:5", "puma.ru")
        },
        ..PLAIN
    },
    Stack {
        name: "rails",
        needs: &[Need::Program("puma"), Need::Ruby("railties"), Need::Ruby("activerecord"), Need::Ruby("pg")],
        start: |place| puma(place, "4:4", "rails.ru"),
        ..PLAIN
    },
    Stack { name: "tryton", needs: &[Need::Program("trytond")], start: tryton, ..PLAIN },
    Stack {
        name: "php-fpm",
        proxies: &["nginx"],
        needs: &[Need::Program("php-fpm8.2"), Need::Program("nginx")],
        start: |place| {
            let behind = format!("127.0.0.1:{}", free_port()?);
            let config = configuration(place, "php-fpm.conf", 0, &behind, "")?;
            let mut command = system("php-fpm8.2");
            // As root: whoever may run the agent is root, and nobody else may enter where the sources are.
            command.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]).arg(config);
            let (port, name) = (place.database_port, &place.database);
            command.env("PDO_URL", format!("pgsql:host=127.0.0.1;port={port};dbname={name}"));
            place.ready("php-fpm", command, "ready to handle connections")?;
            let script = apps().join("shop.php");
            let pass = format!(
                "include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {}; fastcgi_keep_conn on; fastcgi_pass application;",
                script.display()
            );
            nginx(place, &behind, &pass)
        },
        ..PLAIN
    },
    Stack {
        name: "starman",
        needs: &[Need::Program("starman"), Need::File("/usr/share/doc/libdbd-pg-perl")],
        start: |place| {
            let front = free_port()?;
            let mut command = Command::new("starman");
            command.args(["--workers", "4", "--listen", &format!("127.0.0.1:{front}")]);
            let (port, name) = (place.database_port, &place.database);
            command.env("DBI_URL", format!("dbi:Pg:host=127.0.0.1;port={port};dbname={name}"));
            command.arg(apps().join("shop.psgi"));
            place.serve("starman", command, front)?;
            Ok(front)
        },
        ..PLAIN
    },
    Stack {
        name: "pika-confirms",
        work: Work::Refused,
        start: |place| {
            let mut worker = python("python")?;
            worker.args(["shop_pika.py", "worker"]);
            place.ready("worker", worker, "ready")?;
            gunicorn(place, "shop_pika:shop", GTHREAD)
        },
        ..PLAIN
    },
    Stack {
        name: "grpcio",
        work: Work::Call,
        start: |place| {
            let port = free_port()?;
            place.environment.push(("STORE_PORT", port.to_string()));
            let mut store = python("python")?;
            store.arg("grpc_store.py");
            place.serve("grpc-store", store, port)?;
            gunicorn(place, "shop_grpc:shop", GTHREAD)
        },
        ..PLAIN
    },
    Stack {
        name: "boto3-moto",
        work: Work::Upload,
        start: |place| {
            let port = free_port()?;
            place.environment.push(("STORE_PORT", port.to_string()));
            let mut store = python("moto_server")?;
            store.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            place.serve("moto", store, port)?;
            gunicorn(place, "shop_s3:shop", GTHREAD)
        },
        ..PLAIN
    },
    Stack {
        name: "gunicorn-gevent",
        start: |place| flask(place, &["--worker-class", "gevent", "--workers", "2", "--keep-alive", "30"]),
        ..PLAIN
    },
];

const NODE: &[Need] = &[Need::Program("node"), Need::Node];
const GTHREAD: &[&str] =
    &["--worker-class", "gthread", "--workers", "2", "--threads", "8", "--keep-alive", "30"];
/// What an nginx before an application is told, with connections that it keeps.
const PASS: &str = "proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection '';";

fn flask(place: &mut Place, options: &[&str]) -> Result<u16> {
    gunicorn(place, "shop_flask:app", options)
}

fn gunicorn(place: &mut Place, application: &str, options: &[&str]) -> Result<u16> {
    let port = free_port()?;
    let command = gunicorn_at(&format!("127.0.0.1:{port}"), application, options)?;
    place.serve("gunicorn", command, port)?;
    Ok(port)
}

fn gunicorn_at(address: &str, application: &str, options: &[&str]) -> Result<Command> {
    let mut command = python("gunicorn")?;
    command.args(["--bind", address, "--no-control-socket"]).args(options).arg(application);
    Ok(command)
}

fn express(place: &mut Place) -> Result<u16> {
    serve_node(place, node("express.js")?)
}

fn orm(place: &mut Place, library: &str) -> Result<u16> {
    let mut command = node("orm.js")?;
    command.arg(library);
    serve_node(place, command)
}

fn serve_node(place: &mut Place, mut command: Command) -> Result<u16> {
    let port = free_port()?;
    command.env("PORT", port.to_string());
    place.serve("node", command, port)?;
    Ok(port)
}

fn uvicorn(place: &mut Place, application: &str) -> Result<u16> {
    let port = free_port()?;
    let mut command = python("uvicorn")?;
    command.args(["--port", &port.to_string(), "--log-level", "warning", application]);
    place.serve("uvicorn", command, port)?;
    Ok(port)
}

fn hypercorn(place: &mut Place) -> Result<u16> {
    let port = free_port()?;
    let mut command = python("hypercorn")?;
    command.args(["--bind", &format!("127.0.0.1:{port}"), "shop_hypercorn:app"]);
    place.serve("hypercorn", command, port)?;
    Ok(port)
}

fn puma(place: &mut Place, threads: &str, application: &str) -> Result<u16> {
    let front = free_port()?;
    let mut command = Command::new("puma");
    command.args(["--threads", threads, "--workers", "0", "--bind"]);
    command.arg(format!("tcp://127.0.0.1:{front}")).arg(apps().join(application));
    place.serve("puma", command, front)?;
    Ok(front)
}

fn haproxy(place: &mut Place, upstream: u16, options: &str) -> Result<u16> {
    let front = free_port()?;
    let config = configuration(place, "haproxy.cfg", front, &upstream.to_string(), options)?;
    let mut command = system("haproxy");
    command.arg("-db").arg("-f").arg(config);
    place.serve("haproxy", command, front)?;
    Ok(front)
}

fn nginx(place: &mut Place, upstream: &str, pass: &str) -> Result<u16> {
    nginx_with(place, upstream, pass, "")
}

/// `options`: what is said where it listens.
fn nginx_with(place: &mut Place, upstream: &str, pass: &str, options: &str) -> Result<u16> {
    let front = free_port()?;
    let config = configuration(place, "nginx.conf", format!("{front}{options}"), upstream, pass)?;
    let mut command = system("nginx");
    command.arg("-p").arg(&place.dir).arg("-c").arg(config).args(["-e", "stderr"]);
    place.serve("nginx", command, front)?;
    Ok(front)
}

/// Tryton with its database made, and our module as if it were installed.
fn tryton(place: &mut Place) -> Result<u16> {
    let (port, modules) = (free_port()?, place.dir.join("modules"));
    let about = modules.join("shop-6.0.0.dist-info");
    fs::create_dir_all(&about)?;
    symlink(apps().join("tryton/shop"), modules.join("shop"))?;
    fs::write(about.join("METADATA"), "Metadata-Version: 2.1\nName: shop\nVersion: 6.0.0\n")?;
    fs::write(about.join("entry_points.txt"), "[trytond.modules]\nshop = shop\n")?;
    let server = place.database_url.trim_end_matches(&place.database);
    let config = place
        .write("trytond.conf", &format!("[database]\nuri = {server}\n[web]\nlisten = 127.0.0.1:{port}\n"))?;
    let password = place.write("password", "of no use here")?;
    place.environment.extend([
        ("PYTHONPATH", modules.display().to_string()),
        ("DATABASE_NAME", place.database.clone()),
        ("TRYTONPASSFILE", password.display().to_string()),
    ]);
    let command = |name: &str| {
        let mut command = system(name);
        command.arg("-c").arg(&config).args(["-d", &place.database]);
        command
    };
    let (mut make, serve) = (command("trytond-admin"), command("trytond"));
    make.args(["--update", "shop", "--email", "somebody@example.org"]);
    place.finish("trytond-admin", make)?;
    place.serve("trytond", serve, port)?;
    Ok(port)
}

/// A configuration from the folder of the applications, with its places filled in; its path.
fn configuration(
    place: &Place,
    name: &str,
    front: impl Display,
    upstream: &str,
    pass: &str,
) -> Result<std::path::PathBuf> {
    let text = fs::read_to_string(apps().join(name)).with_context(|| format!("cannot read {name}"))?;
    let text = text
        .replace("@DIR@", &place.dir())
        .replace("@PORT@", &front.to_string())
        .replace("@UPSTREAM@", upstream)
        .replace("@PASS@", pass);
    place.write(name, &text)
}
