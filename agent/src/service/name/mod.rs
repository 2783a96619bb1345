//! Facts about a process → the name of its service. Pure.
//!
//! *Owns* the order in which names are looked for: the configuration; `OTEL_SERVICE_NAME` and `service.name` of
//! `OTEL_RESOURCE_ATTRIBUTES` in the process's environment; Kubernetes; the container; servers known by their executable; the
//! systemd unit; the script or program an interpreter runs, also where it has a title in place of its arguments; the executable.
//!
//! Long because it is one table of how programs are started in a dozen languages.

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
    /// Those of the process that started it, where `is_spawned` holds.
    pub parent_command: Vec<String>,
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
        .or_else(|| Some(executable(&facts.exe).to_owned()).filter(|name| !name.is_empty()))
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
    let family = interpreter.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let given: Vec<&str> = facts.command.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let arguments = given.get(1..).unwrap_or_default();
    let is_interpreter = ["python", "pypy", "ruby", "perl", "php-fpm"].contains(&family);
    if let ([title], true) = (given.as_slice(), is_interpreter)
        && let Some(name) = titled(title, facts)
    {
        return Some(name);
    }
    match family {
        "python" | "pypy" | "python3-intel" => python(arguments, facts),
        "node" | "nodejs" | "bun" | "deno" => {
            let takes_value =
                ["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"];
            let inline = ["-e", "--eval", "-p", "--print"];
            script_name(script(arguments, &takes_value, &inline, &["run"])?, facts)
        }
        "java" => java(arguments),
        "ruby" => {
            let script = script(arguments, &["-I", "-r", "-C"], &["-e"], &[])?;
            match RUBY_SERVERS.contains(&stem(base(script))) {
                true => directory_name(facts).or_else(|| Some(stem(base(script)).to_owned())),
                false => script_name(script, facts),
            }
        }
        "perl" => script_name(script(arguments, &["-I"], &["-e", "-E"], &[])?, facts),
        "php" | "php-fpm" => script_name(script(arguments, &["-d", "-c", "-S"], &["-r"], &[])?, facts),
        "bash" | "sh" | "dash" => script_name(script(arguments, &["-o"], &["-c"], &[])?, facts),
        "lua" | "Rscript" | "tclsh" => script_name(script(arguments, &["-l"], &["-e"], &[])?, facts),
        "dotnet" => {
            let rest =
                without_options(arguments, &["--runtimeconfig", "--depsfile", "--additionalprobingpath"]);
            let library = rest.iter().find(|argument| argument.ends_with(".dll"))?;
            Some(base(library).trim_end_matches(".dll").to_owned())
        }
        _ => None,
    }
}

/// The first argument that is no option. `None`: there is none, or code is given on the command line before it, by one of
/// `inline`. `commands` may stand before the script.
fn script<'a>(
    arguments: &[&'a str],
    takes_value: &[&str],
    inline: &[&str],
    commands: &[&str],
) -> Option<&'a str> {
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        if inline.contains(argument) {
            return None;
        }
        if takes_value.contains(argument) {
            left.next();
        } else if !argument.starts_with('-') && !commands.contains(argument) {
            return Some(argument);
        }
    }
    None
}

/// Programs by which applications in Ruby are started: the directory tells which one.
const RUBY_SERVERS: [&str; 9] =
    ["rails", "rackup", "puma", "unicorn", "bundle", "thin", "sidekiq", "resque", "rake"];

/// Servers that write what they are in place of their arguments: `puma 5.6.5 (tcp://0.0.0.0:9292) [shop]`.
fn titled(title: &str, facts: &Facts) -> Option<String> {
    let end = title.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(title.len());
    let server = title.get(..end)?;
    let named = |name: &str| (!name.is_empty() && !GENERIC.contains(&name)).then(|| name.to_owned());
    let in_brackets = || {
        let (_, rest) = title.rsplit_once('[')?;
        named(rest.split(']').next()?)
    };
    let found = match server {
        "puma" | "gunicorn" => in_brackets().or_else(|| directory_name(facts)),
        // `sidekiq 6.5.1 shop [0 of 5 busy]`
        "sidekiq" => title.split(' ').nth(2).filter(|tag| !tag.starts_with('[')).and_then(named),
        "unicorn" | "unicorn_rails" | "resque" => directory_name(facts),
        // `Passenger RubyApp: /srv/shop (production)`
        "Passenger" => {
            let path = title.split(": ").nth(1)?.split(" (").next()?;
            return named(base(path)).or_else(|| directory_name(facts));
        }
        // `php-fpm: pool shop`
        "php" => {
            let pool = title.strip_prefix("php-fpm: pool ")?.trim();
            return Some(named(pool).unwrap_or_else(|| "php-fpm".to_owned()));
        }
        "starman" | "starlet" | "twiggy" => None,
        _ => return None,
    };
    Some(found.unwrap_or_else(|| server.to_owned()))
}

/// A process that Python's `multiprocessing` started anew: what it runs is what its parent was started with.
pub(super) fn is_spawned(command: &[String]) -> bool {
    let mut code = command.iter().skip_while(|argument| *argument != "-c").skip(1);
    code.next().is_some_and(|code| code.starts_with("from multiprocessing."))
}

/// Servers that run an application named by an argument, `package.module:object` or after an option.
const PYTHON_SERVERS: [&str; 11] = [
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "granian",
    "waitress-serve",
    "flask",
    "celery",
    "faststream",
    "dramatiq",
    "rq",
];

fn python(arguments: &[&str], facts: &Facts) -> Option<String> {
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match *argument {
            "-c" if is_spawned(&facts.command) && !facts.parent_command.is_empty() => {
                let parent = Facts {
                    command: facts.parent_command.clone(),
                    parent_command: Vec::new(),
                    ..facts.clone()
                };
                return program(&parent);
            }
            "-c" => return None,
            "-m" => {
                let module = left.next()?;
                let name = module.split('.').next_back().filter(|name| *name != "__main__").unwrap_or(module);
                return application(name, left.as_slice(), facts).or_else(|| Some(name.to_owned()));
            }
            "-W" | "-X" | "--check-hash-based-pycs" => {
                left.next();
            }
            option if option.starts_with('-') => {}
            script => {
                return application(stem(base(script)), left.as_slice(), facts)
                    .or_else(|| script_name(script, facts));
            }
        }
    }
    None
}

/// The package of the application that a server runs; the directory where the package is called as any.
fn application(server: &str, arguments: &[&str], facts: &Facts) -> Option<String> {
    if !PYTHON_SERVERS.contains(&server) {
        return None;
    }
    let by_option = || {
        let mut left = arguments.iter();
        while let Some(argument) = left.next() {
            if matches!(*argument, "-A" | "--app") {
                return left.next().copied();
            }
            if let Some(value) = argument.strip_prefix("--app=") {
                return Some(value);
            }
        }
        None
    };
    let found = match server {
        "celery" | "flask" => by_option(),
        // `dramatiq shop.tasks`: a module, without an object.
        "dramatiq" => arguments.iter().copied().find(|argument| is_module(argument)),
        _ => arguments.iter().copied().find(|argument| is_object(argument)),
    }?;
    let package = found.split(['.', ':']).next()?;
    // Frameworks' own entry points are no application's name.
    let is_generic =
        GENERIC.contains(&package) || ["tasks", "django", "config", "project"].contains(&package);
    if is_generic { directory_name(facts) } else { Some(package.to_owned()) }
}

fn is_module(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
}

/// `package.module:object`, also where the object is called: `main:create_app()`.
fn is_object(argument: &str) -> bool {
    let Some((module, object)) = argument.split_once(':') else { return false };
    let object = match object.split_once('(') {
        Some((function, call)) if call.ends_with(')') => function,
        Some(_) => return false,
        None => object,
    };
    is_module(module) && is_module(object)
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
    let above = whole.rsplit_once('/').map_or("", |(above, _)| above);
    Some(project_of(above).unwrap_or(name).to_owned())
}

/// The project whose directory a process works in.
fn directory_name(facts: &Facts) -> Option<String> {
    project_of(&facts.directory).map(str::to_owned)
}

/// The nearest directory that says something. At the root of a container (`/app`) none does.
fn project_of(directory: &str) -> Option<&str> {
    let mut above = directory.rsplit('/').filter(|part| !part.is_empty() && *part != ".");
    above
        .find(|part| !INNER.contains(part))
        .filter(|part| !["opt", "srv", "usr", "home", "root", "tmp", "var"].contains(part))
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name of an executable; of an interpreter without its version, which an update changes: `ruby` of `ruby3.1`.
fn executable(exe: &str) -> &str {
    let name = stem(base(exe));
    let family = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if ["python", "pypy", "ruby", "perl", "php", "php-fpm", "lua"].contains(&family) { family } else { name }
}

/// Without the extension of a script.
fn stem(name: &str) -> &str {
    let extensions =
        [".py", ".pyc", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".php", ".sh", ".lua", ".jar", ".exs"];
    extensions.iter().find_map(|extension| name.strip_suffix(extension)).unwrap_or(name)
}

#[cfg(test)]
mod tests;
