//! Facts about a process → the name of its service. Pure.
//!
//! *Owns* the order in which names are looked for: the configuration; `OTEL_SERVICE_NAME` and `service.name` of
//! `OTEL_RESOURCE_ATTRIBUTES` in the process's environment; Kubernetes; the container; servers known by their executable; the
//! systemd unit; the script or program an interpreter runs; the executable.

use globset::Glob;
use procfs::process::Process;

use super::kubernetes::Named;
use crate::config::{ServiceName, Services};
use spoor_core::privacy::may_declare;

/// What `/proc` says.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Path; empty for a process without one, or without the permission to see it.
    pub exe: String,
    pub comm: String,
    /// Arguments, the program first.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: String,
    pub environment: Environment,
    /// What Kubernetes calls it.
    pub kubernetes: Named,
    /// The name of its container.
    pub container: Option<String>,
    /// The systemd unit it is the main process of.
    pub unit: Option<String>,
    /// Ports it listens on, when a rule asks for them.
    pub ports: Vec<u16>,
}

/// The two variables that name a service (OpenTelemetry specification v1.60, "Resource SDK").
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub service_name: Option<String>,
    pub resource_attributes: Option<String>,
    /// It exports OpenTelemetry by itself.
    pub instrumented: bool,
}

/// Set for a process that exports by itself.
const EXPORTS: [&str; 3] =
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"];
/// Name an agent that is loaded into a process.
const INJECTED: [&str; 4] = ["JAVA_TOOL_OPTIONS", "NODE_OPTIONS", "CORECLR_PROFILER_PATH", "PYTHONPATH"];

impl Environment {
    pub(super) fn of(process: &Process) -> Self {
        let all = process.environ().unwrap_or_default();
        let text = |name: &str| {
            let value = all.get(std::ffi::OsStr::new(name))?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        Self {
            service_name: text("OTEL_SERVICE_NAME"),
            resource_attributes: text("OTEL_RESOURCE_ATTRIBUTES"),
            instrumented: EXPORTS.iter().any(|name| text(name).is_some())
                || INJECTED
                    .iter()
                    .any(|name| text(name).is_some_and(|value| value.contains("opentelemetry"))),
        }
    }

    /// Everything it declares but its name; nothing that is called like a secret.
    pub(super) fn declared(&self) -> Vec<(String, String)> {
        let pairs = self.resource_attributes.as_deref().unwrap_or_default().split(',');
        pairs
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                let value =
                    percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned();
                let key = key.trim();
                let ours = matches!(key, "service.name" | "service.namespace" | "service.instance.id");
                let shown = !ours && !key.is_empty() && !value.is_empty() && key.is_ascii();
                (shown && may_declare(key, &value)).then(|| (key.to_owned(), value))
            })
            .collect()
    }

    /// `key=value,key=value`, percent-encoded (W3C Baggage).
    fn attribute(&self, key: &str) -> Option<String> {
        let mut pairs =
            self.resource_attributes.as_deref()?.rsplit(',').filter_map(|pair| pair.split_once('='));
        // The last one given counts.
        let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
        let decoded = percent_encoding::percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
        (!decoded.is_empty()).then_some(decoded)
    }
}

/// `service.name` and `service.namespace`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    pub service: String,
    pub namespace: Option<String>,
}

/// Names a process. Only a process about which nothing is known gets an empty name.
pub fn service(facts: &Facts, services: &Services) -> Name {
    let namespace =
        facts.environment.attribute("service.namespace").or_else(|| facts.kubernetes.namespace.clone());
    if let Some(rule) = services.names.iter().find(|rule| matches(rule, facts)) {
        return Name { service: rule.name.clone(), namespace: rule.namespace.clone().or(namespace) };
    }
    let service = facts
        .environment
        .service_name
        .clone()
        .or_else(|| facts.environment.attribute("service.name"))
        .or_else(|| facts.kubernetes.service.clone())
        .or_else(|| facts.container.clone().filter(|name| !name.is_empty()))
        .or_else(|| known_server(facts))
        .or_else(|| facts.unit.clone())
        .or_else(|| program(facts))
        .or_else(|| Some(stem(base(&facts.exe)).to_owned()).filter(|name| !name.is_empty()))
        .unwrap_or_else(|| facts.comm.clone());
    Name { service, namespace }
}

fn matches(rule: &ServiceName, facts: &Facts) -> bool {
    let glob = |pattern: &Option<String>, text: &str| {
        pattern
            .as_ref()
            .is_none_or(|pattern| Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(text)))
    };
    glob(&rule.exe, &facts.exe)
        && glob(&rule.command, &facts.command.join(" "))
        && rule.port.is_none_or(|port| facts.ports.contains(&port))
}

/// Servers whose executable has another name than people have for them.
fn known_server(facts: &Facts) -> Option<String> {
    match base(&facts.exe) {
        "postgres" | "postmaster" => Some("postgresql".to_owned()),
        "beam.smp" => {
            if facts.command.iter().any(|argument| argument.contains("rabbit")) {
                return Some("rabbitmq".to_owned());
            }
            // Erlang's own name of the node: `-sname shop@host`.
            let mut arguments =
                facts.command.iter().skip_while(|argument| !matches!(argument.as_str(), "-sname" | "-name"));
            let node = arguments.nth(1)?;
            node.split('@').next().map(str::to_owned).filter(|name| !name.is_empty())
        }
        _ => None,
    }
}

/// What an interpreter runs.
fn program(facts: &Facts) -> Option<String> {
    let interpreter = base(&facts.exe);
    let arguments: Vec<&str> = facts.command.iter().skip(1).map(String::as_str).collect();
    let family = interpreter.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    match family {
        "python" | "pypy" | "python3-intel" => python(&arguments, facts),
        "node" | "nodejs" | "bun" | "deno" => {
            let takes_value =
                ["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"];
            let mut rest = without_options(&arguments, &takes_value);
            if matches!(rest.first(), Some(&"run")) {
                rest.remove(0);
            }
            // `node -e` has no script.
            let inline =
                arguments.iter().any(|argument| matches!(*argument, "-e" | "--eval" | "-p" | "--print"));
            rest.first().filter(|_| !inline).and_then(|script| script_name(script, facts))
        }
        "java" => java(&arguments),
        "ruby" | "perl" | "php" | "php-fpm" | "lua" | "Rscript" | "tclsh" | "bash" | "sh" | "dash" => {
            let inline = matches!(arguments.first(), Some(&"-e" | &"-c" | &"-r"));
            let rest = without_options(&arguments, &["-I", "-r", "-d", "-c", "-S"]);
            rest.first().filter(|_| !inline).and_then(|script| script_name(script, facts))
        }
        "dotnet" => {
            let rest =
                without_options(&arguments, &["--runtimeconfig", "--depsfile", "--additionalprobingpath"]);
            let library = rest.iter().find(|argument| argument.ends_with(".dll"))?;
            Some(base(library).trim_end_matches(".dll").to_owned())
        }
        _ => None,
    }
}

/// Servers that run an application named by an argument `package.module:object`.
const PYTHON_SERVERS: [&str; 8] =
    ["gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "flask", "celery"];

fn python(arguments: &[&str], facts: &Facts) -> Option<String> {
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match *argument {
            "-c" => return None,
            "-m" => {
                let module = left.next()?;
                let name = module.split('.').next_back().filter(|name| *name != "__main__").unwrap_or(module);
                return application(name, left.as_slice()).or_else(|| Some(name.to_owned()));
            }
            "-W" | "-X" | "--check-hash-based-pycs" => {
                left.next();
            }
            option if option.starts_with('-') => {}
            script => {
                return application(stem(base(script)), left.as_slice())
                    .or_else(|| script_name(script, facts));
            }
        }
    }
    None
}

fn application(server: &str, arguments: &[&str]) -> Option<String> {
    if !PYTHON_SERVERS.contains(&server) {
        return None;
    }
    let is_application = |argument: &&&str| {
        let mut parts = argument.split(':');
        let module = parts.next().unwrap_or_default();
        let word = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
        };
        let object = parts.next().unwrap_or_default();
        word(module)
            && word(object)
            && !object.starts_with(|c: char| c.is_ascii_digit())
            && parts.next().is_none()
    };
    let found = arguments.iter().find(is_application)?;
    let package = found.split(['.', ':']).next()?;
    (!GENERIC.contains(&package)).then(|| package.to_owned())
}

fn java(arguments: &[&str]) -> Option<String> {
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match *argument {
            "-jar" => return left.next().map(|jar| jar_name(base(jar))),
            "-m" | "--module" => {
                let module = left.next()?;
                return module.rsplit(['/', '.']).next().map(str::to_owned);
            }
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "--add-modules"
            | "--add-opens" | "--add-exports" | "--add-reads" | "--source" => {
                left.next();
            }
            option if option.starts_with(['-', '@']) => {}
            // A main class, or a source file.
            class => {
                let class = base(class).trim_end_matches(".java");
                return class.rsplit('.').next().filter(|name| !name.is_empty()).map(str::to_owned);
            }
        }
    }
    None
}

/// `mes` of `mes-1.2.3-SNAPSHOT.jar`.
fn jar_name(jar: &str) -> String {
    let name = jar.trim_end_matches(".jar");
    let version = name
        .char_indices()
        .zip(name.chars().skip(1))
        .find(|((_, c), next)| *c == '-' && next.is_ascii_digit());
    let name = version.map_or(name, |((at, _), _)| &name[..at]);
    ["-all", "-fat", "-uber", "-boot", "-jar-with-dependencies"]
        .iter()
        .fold(name, |name, tail| name.trim_end_matches(tail))
        .to_owned()
}

fn without_options<'a>(arguments: &[&'a str], takes_value: &[&str]) -> Vec<&'a str> {
    let mut rest = Vec::new();
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        if takes_value.contains(argument) {
            left.next();
        } else if !argument.starts_with('-') {
            rest.push(*argument);
        }
    }
    rest
}

/// Names that many programs give their first file: the directory tells more.
const GENERIC: [&str; 16] = [
    "app",
    "main",
    "index",
    "server",
    "manage",
    "run",
    "start",
    "wsgi",
    "asgi",
    "__main__",
    "service",
    "worker",
    "cli",
    "www",
    "bootstrap",
    "application",
];
/// Directories inside a project.
const INNER: [&str; 8] = ["src", "dist", "build", "bin", "lib", "app", "out", "server"];

/// `shop` of `/opt/shop.py`, and of `/srv/shop/src/main.py`.
fn script_name(script: &str, facts: &Facts) -> Option<String> {
    let name = stem(base(script));
    if name.is_empty() {
        return None;
    }
    if !GENERIC.contains(&name) {
        return Some(name.to_owned());
    }
    let whole =
        if script.starts_with('/') { script.to_owned() } else { format!("{}/{script}", facts.directory) };
    let mut above = whole.rsplit('/').skip(1).filter(|part| !part.is_empty() && *part != ".");
    // At the root of a container (`/app/main.py`) no directory says anything either.
    let named = above
        .find(|part| !INNER.contains(part))
        .filter(|part| !["opt", "srv", "usr", "home", "root", "tmp", "var"].contains(part));
    Some(named.unwrap_or(name).to_owned())
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Without the extension of a script; the executable `python3.11` keeps its dot.
fn stem(name: &str) -> &str {
    let extensions =
        [".py", ".pyc", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".php", ".sh", ".lua", ".jar", ".exs"];
    extensions.iter().find_map(|extension| name.strip_suffix(extension)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(exe: &str, command: &str) -> Facts {
        Facts {
            exe: exe.to_owned(),
            comm: "comm".to_owned(),
            command: command.split(' ').map(str::to_owned).collect(),
            directory: "/srv/shop".to_owned(),
            ..Facts::default()
        }
    }

    #[track_caller]
    fn check(exe: &str, command: &str, expected: &str) {
        assert_eq!(service(&facts(exe, command), &Services::default()).service, expected, "{command}");
    }

    #[test]
    fn interpreters_are_named_by_what_they_run() {
        check("/usr/bin/python3.11", "python3 shop.py", "shop");
        check("/usr/bin/python3.11", "python3 -u -X dev /opt/crm/crm.py --port 80", "crm");
        check("/usr/bin/python3.11", "python3 -m mes.server", "server");
        check("/usr/bin/python3.11", "python3 -m mes", "mes");
        check("/usr/bin/python3.11", "python3 app.py", "shop");
        check("/usr/bin/python3.11", "python3 /srv/crm/src/main.py", "crm");
        check(
            "/usr/bin/python3.11",
            "/usr/bin/python3 /usr/local/bin/gunicorn -w 4 -b 0.0.0.0:80 shop.wsgi:application",
            "shop",
        );
        check("/usr/bin/python3.11", "python3 -m uvicorn --port 8000 mes.main:app", "mes");
        check("/usr/bin/python3.11", "python3 -c code", "python3.11");
        check("/usr/bin/node", "node crm.js", "crm");
        check(
            "/usr/bin/node",
            "node --require ./x.js --max-old-space-size=100 /srv/crm/dist/server.js",
            "crm",
        );
        check("/usr/bin/node", "node -e code", "node");
        check("/usr/lib/jvm/bin/java", "java -Xmx1g -jar /opt/mes-1.2.3-SNAPSHOT.jar --x", "mes");
        check("/usr/lib/jvm/bin/java", "java -cp a.jar:b.jar -Dx=y com.acme.mes.MesServer arg", "MesServer");
        check("/usr/lib/jvm/bin/java", "java Mes.java", "Mes");
        check("/usr/lib/jvm/bin/java", "java -m mes/com.acme.Main", "Main");
        check("/usr/bin/dotnet", "dotnet /app/Crm.Api.dll", "Crm.Api");
        check("/usr/bin/ruby3.1", "ruby billing.rb", "billing");
        check("/usr/bin/bash", "bash /opt/poll.sh", "poll");
        check("/usr/bin/bash", "-bash", "bash");
    }

    #[test]
    fn servers_have_the_names_people_use() {
        check("/usr/lib/erlang/erts/bin/beam.smp", "beam.smp -W w -s rabbit boot", "rabbitmq");
        check("/usr/lib/erlang/erts/bin/beam.smp", "beam.smp -sname orders@host", "orders");
        check(
            "/usr/lib/postgresql/15/bin/postgres",
            "postgres: shop shop 127.0.0.1(5432) idle",
            "postgresql",
        );
        check("/usr/sbin/nginx", "nginx: worker process", "nginx");
        check("/opt/crm/crmd", "crmd", "crmd");
        check("", "", "comm");
    }

    #[test]
    fn unit_names_what_has_no_better_name() {
        let unit = Some("order-entry".to_owned());
        let named = |exe, command| {
            service(&Facts { unit: unit.clone(), ..facts(exe, command) }, &Services::default()).service
        };
        assert_eq!(named("/opt/x/bin/x", "x"), "order-entry");
        assert_eq!(named("/usr/bin/python3", "python3 app.py"), "order-entry");
        assert_eq!(named("/usr/lib/postgresql/15/bin/postgres", "postgres"), "postgresql");
    }

    #[test]
    fn environment_wins_over_guesses() {
        let named = |service_name: Option<&str>, attributes: Option<&str>| {
            let environment = Environment {
                service_name: service_name.map(str::to_owned),
                resource_attributes: attributes.map(str::to_owned),
                instrumented: false,
            };
            service(&Facts { environment, ..facts("/usr/bin/node", "node crm.js") }, &Services::default())
        };
        assert_eq!(named(None, Some("a=b,service.name=my%20crm , service.namespace=ns")).service, "my crm");
        assert_eq!(named(None, Some("service.namespace=ns")).namespace.as_deref(), Some("ns"));
        assert_eq!(named(Some("x"), Some("service.name=y")).service, "x");
        assert_eq!(named(None, Some("=,,service.name=")).service, "crm");
    }

    #[test]
    fn kubernetes_and_containers_win_over_guesses() {
        let named = |kubernetes: Option<&str>, container: Option<&str>, declared: Option<&str>| {
            let facts = Facts {
                kubernetes: Named {
                    service: kubernetes.map(str::to_owned),
                    namespace: Some("ns".to_owned()),
                },
                container: container.map(str::to_owned),
                environment: Environment {
                    service_name: declared.map(str::to_owned),
                    ..Environment::default()
                },
                unit: Some("unit".to_owned()),
                ..facts("/usr/bin/node", "node crm.js")
            };
            service(&facts, &Services::default()).service
        };
        assert_eq!(named(Some("k"), Some("c"), Some("d")), "d");
        assert_eq!(named(Some("k"), Some("c"), None), "k");
        assert_eq!(named(None, Some("c"), None), "c");
        assert_eq!(named(None, Some(""), None), "unit");
    }

    #[test]
    fn first_rule_whose_conditions_all_hold_wins() {
        let rule = |exe: Option<&str>, command: Option<&str>, port, name: &str| ServiceName {
            exe: exe.map(str::to_owned),
            command: command.map(str::to_owned),
            port,
            name: name.to_owned(),
            namespace: None,
        };
        let services = Services {
            names: vec![
                rule(Some("/usr/bin/node"), None, Some(9999), "never"),
                rule(None, None, Some(8080), "by-port"),
                rule(Some("**/node"), Some("*crm*"), None, "by-both"),
                rule(Some("**/node"), None, None, "by-exe"),
            ],
            exclude: Vec::new(),
        };
        let named =
            |command, ports| service(&Facts { ports, ..facts("/usr/bin/node", command) }, &services).service;
        assert_eq!(named("node x.js", vec![80, 8080]), "by-port");
        assert_eq!(named("node /opt/crm.js", vec![]), "by-both");
        assert_eq!(named("node x.js", vec![]), "by-exe");
    }
}
