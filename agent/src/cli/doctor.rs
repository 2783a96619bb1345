//! `spoor doctor`: findings of the kernel, the privileges and the configuration, each with its remedy.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::json;

use super::Failure;
use super::arguments::DoctorOptions;
use crate::capture::doctor::{Finding, Level, findings};
use crate::config::Config;
use crate::export::otlp::target::Signal;
use crate::export::otlp::{Answer, Client, Target};
use crate::files::Directory;
use spoor_core::time::WallTime;

/// How long the back end has to answer.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

pub(super) fn run(options: &DoctorOptions) -> Result<ExitCode, Failure> {
    let mut all = findings();
    all.push(processes());
    all.push(clocks());
    match super::load(&options.config.as_settings()) {
        Ok(config) => {
            let from = match &options.config.config {
                Some(file) => format!("{} is valid", file.display()),
                None => "no file is given, the defaults and the environment are valid".to_owned(),
            };
            all.push(finding("configuration", Level::Ok, from, None));
            all.push(endpoint(&config));
            all.extend(directory("spool", "export.spool.directory", &config.export.spool.directory));
            let state = Some(&config.state).filter(|state| state.keep);
            all.extend(state.and_then(|state| directory("state", "state.directory", &state.directory)));
            all.extend(files(options.config.config.as_deref(), &config));
            all.push(admin(&config));
        }
        Err(failure) => {
            let remedy = "correct it; `spoor config default` shows every key".to_owned();
            all.push(finding("configuration", Level::Fail, failure.to_string(), Some(remedy)));
        }
    }
    let text = if options.json { as_json(&all) } else { as_text(&all) };
    let _ = std::io::stdout().write_all(text.as_bytes());
    let failed = all.iter().any(|finding| finding.level == Level::Fail);
    Ok(ExitCode::from(u8::from(failed)))
}

fn finding(name: &'static str, level: Level, says: String, remedy: Option<String>) -> Finding {
    Finding { name, level, says, remedy }
}

fn endpoint(config: &Config) -> Finding {
    const NAME: &str = "otlp endpoint";
    let target = match Target::new(&config.export.otlp, Signal::Traces) {
        Ok(Some(target)) => target,
        Ok(None) => {
            let remedy =
                "give --otlp-endpoint, or set `export.otlp.endpoint`, to send spans to a back end".to_owned();
            return finding(
                NAME,
                Level::Ok,
                "none is set: spans can be printed only".to_owned(),
                Some(remedy),
            );
        }
        Err(error) => return finding(NAME, Level::Fail, error.to_string(), None),
    };
    let uri = target.uri.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            let mut client = Client::new(target).map_err(|error| error.to_string())?;
            // A request without spans: by the protocol, with the certificates and headers that spans will have.
            let answer = tokio::time::timeout(LONGEST_ANSWER, client.send(Bytes::new()));
            let answer =
                answer.await.map_err(|_| format!("no answer within {} s", LONGEST_ANSWER.as_secs()))?;
            Ok((answer, client.clock()))
        })
    });
    let wait = || "start the back end or correct `export.otlp.endpoint`; until then spans wait".to_owned();
    let correct = || "correct `export.otlp`; until then spans are dropped".to_owned();
    match asked {
        Ok((Answer::Taken { message, .. }, clock)) if message.is_empty() => {
            let (level, differs) = clock_difference(clock);
            let remedy = (level != Level::Ok).then(|| "set the clocks by NTP, here and there".to_owned());
            finding(NAME, level, format!("{uri} takes spans{differs}"), remedy)
        }
        Ok((Answer::Taken { message, .. }, _)) => {
            finding(NAME, Level::Warn, format!("{uri} answers {message}"), Some(correct()))
        }
        Ok((
            Answer::Refused { reason } | Answer::TooLarge { reason } | Answer::NoSuchSignal { reason },
            _,
        )) => finding(NAME, Level::Fail, format!("{uri} refuses spans: {reason}"), Some(correct())),
        Ok((Answer::TryAgain { reason, .. }, _)) | Err(reason) => {
            finding(NAME, Level::Warn, format!("{uri} cannot be reached: {reason}"), Some(wait()))
        }
    }
}

/// What the back end's clock is to this one's. It says whole seconds, and its answer has taken a moment.
fn clock_difference(there: Option<SystemTime>) -> (Level, String) {
    const TOLERATED: Duration = Duration::from_secs(2);
    let Some(there) = there else { return (Level::Ok, String::new()) };
    let here = SystemTime::now();
    let (apart, how) = match there.duration_since(here) {
        Ok(ahead) => (ahead, "ahead"),
        Err(behind) => (behind.duration(), "behind"),
    };
    match apart <= TOLERATED {
        true => (Level::Ok, ", its clock is this one's".to_owned()),
        false => (Level::Warn, format!(", but its clock is {} s {how}", apart.as_secs())),
    }
}

/// A directory that the agent writes to, and the key that names it.
fn directory(name: &'static str, key: &str, path: &str) -> Option<Finding> {
    let directory = std::path::Path::new(path);
    if directory.as_os_str().is_empty() {
        return None;
    }
    let remedy = |what: &str| Some(format!("{what}, or set `{key}`"));
    match Directory::existing(directory) {
        // The directory may be made at the start: then the nearest one above has to be writable.
        Ok(_) => {}
        Err(error) => {
            return Some(finding(name, Level::Fail, error.to_string(), remedy("let it be the agent's own")));
        }
    }
    let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let there = whole.ancestors().find(|path| path.exists()).unwrap_or(&whole);
    let writable = rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    Some(match writable {
        Ok(()) => finding(name, Level::Ok, format!("`{}` can be written", directory.display()), None),
        Err(error) => {
            let says = format!("`{}` cannot be written: {error}", directory.display());
            finding(name, Level::Fail, says, remedy("make it writable for the agent's user"))
        }
    })
}

/// Naming processes needs the host's /proc, and the right to look into those of other users.
fn processes() -> Finding {
    const NAME: &str = "processes";
    const CAP_DAC_READ_SEARCH: u32 = 2;
    const CAP_SYS_PTRACE: u32 = 19;
    let init = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let namespace = |path: &str| std::fs::read_link(path).ok();
    let own = namespace("/proc/self/ns/pid");
    // PID 1 of a namespace of its own is the agent itself, or what started it.
    let alone = std::process::id() == 1 || init.trim() == "spoor";
    if alone {
        let remedy = "share the host's PID namespace (hostPID: true, --pid=host)".to_owned();
        return finding(
            NAME,
            Level::Fail,
            "only processes of this container are visible".to_owned(),
            Some(remedy),
        );
    }
    let effective = crate::capture::system::effective_capabilities().unwrap_or(0);
    let missing: Vec<&str> =
        [(CAP_SYS_PTRACE, "CAP_SYS_PTRACE"), (CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH")]
            .into_iter()
            .filter(|(capability, _)| effective & (1 << capability) == 0)
            .map(|(_, name)| name)
            .collect();
    if !missing.is_empty() || own.is_none() {
        let says = format!(
            "{} missing: services of other users are named by the kernel's short names",
            missing.join(" and ")
        );
        let remedy = "give the agent these capabilities, or run it as root".to_owned();
        return finding(NAME, Level::Warn, says, Some(remedy));
    }
    finding(NAME, Level::Ok, "processes of all users can be named".to_owned(), None)
}

/// Spans of different nodes are compared by the time of day, and records are dated by a clock that has to be cheap to read.
fn clocks() -> Finding {
    const NAME: &str = "clock";
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.unwrap_or_default().trim().to_owned();
    let year_2020 = WallTime::ZERO + Duration::from_secs(1_577_836_800);
    if crate::clock::pair().wall < year_2020 {
        let remedy = "set the time, and let NTP keep it".to_owned();
        return finding(NAME, Level::Fail, "the time of day is before 2020".to_owned(), Some(remedy));
    }
    if matches!(source.as_str(), "acpi_pm" | "hpet" | "jiffies" | "refined-jiffies") {
        let says = format!("clock source `{source}` is slow to read: every record costs more");
        let remedy = "see the kernel's log for why `tsc` is not used".to_owned();
        return finding(NAME, Level::Warn, says, Some(remedy));
    }
    // What the common time services leave behind while they are in step.
    let keepers = [
        "/run/systemd/timesync/synchronized",
        "/run/chrony/chronyd.pid",
        "/run/chronyd.pid",
        "/run/ntpd.pid",
    ];
    let kept = keepers.iter().any(|path| std::path::Path::new(path).exists());
    let source = if source.is_empty() { "unknown".to_owned() } else { source };
    if kept {
        return finding(NAME, Level::Ok, format!("source {source}, kept by a time service"), None);
    }
    let says = format!("source {source}; no time service was found here");
    let remedy = "if nothing else keeps the time, spans of different nodes are out of step: run chrony or systemd-timesyncd";
    finding(NAME, Level::Warn, says, Some(remedy.to_owned()))
}

/// Files that hold secrets are for the agent's user only.
fn files(config_file: Option<&std::path::Path>, config: &Config) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    const NAME: &str = "files";
    const ALL_MAY_READ: u32 = 0o004;
    let holds_secrets = !config.export.otlp.headers.is_empty() || !config.privacy.hash_secret.is_empty();
    let secret: Vec<&std::path::Path> = [
        config_file.filter(|_| holds_secrets),
        config.export.otlp.client_key.as_deref().map(std::path::Path::new),
        config.privacy.hash_secret_file.as_deref().map(std::path::Path::new),
    ]
    .into_iter()
    .flatten()
    .collect();
    if secret.is_empty() {
        return None;
    }
    let open = |path: &&&std::path::Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & ALL_MAY_READ != 0)
    };
    let open: Vec<String> = secret.iter().filter(open).map(|path| format!("`{}`", path.display())).collect();
    if open.is_empty() {
        return Some(finding(NAME, Level::Ok, "secrets can be read by their owner only".to_owned(), None));
    }
    let says = format!("everybody can read {}, which holds secrets", open.join(" and "));
    Some(finding(NAME, Level::Warn, says, Some("chmod 600, owned by the agent's user".to_owned())))
}

/// The admin port is free, and not open to everybody.
fn admin(config: &Config) -> Finding {
    const NAME: &str = "admin port";
    let listen = &config.admin.listen;
    let Ok(address) = listen.parse::<std::net::SocketAddr>() else {
        return finding(NAME, Level::Ok, "none: no probes and no metrics to scrape".to_owned(), None);
    };
    match std::net::TcpListener::bind(address) {
        Err(error) => {
            let remedy = "another agent may be running; else set `admin.listen`".to_owned();
            finding(NAME, Level::Warn, format!("{listen} cannot be used: {error}"), Some(remedy))
        }
        Ok(_) if !address.ip().is_loopback() => {
            let says = format!("{listen} is open to others, without authentication");
            let remedy = "outside a pod with a network policy, listen on loopback".to_owned();
            finding(NAME, Level::Warn, says, Some(remedy))
        }
        Ok(_) => finding(NAME, Level::Ok, format!("{listen} is free"), None),
    }
}

fn as_text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let level = word(finding.level);
        text += &format!("{level:<4}  {:<width$}  {}\n", finding.name, finding.says);
        if let Some(remedy) = &finding.remedy {
            text += &format!("      {:<width$}  → {remedy}\n", "");
        }
    }
    text
}

fn as_json(findings: &[Finding]) -> String {
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({"name": finding.name, "level": word(finding.level), "says": finding.says, "remedy": finding.remedy})
        })
        .collect();
    format!("{:#}\n", json!({"ok": !failed, "findings": list}))
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_yet_to_be_made_may_be_named_by_itself() {
        let found = directory("state", "state.directory", "a-directory-that-nobody-made").unwrap();
        assert_eq!(found.level, Level::Ok, "{}", found.says);
        assert!(directory("state", "state.directory", "").is_none());
        let found = directory("state", "state.directory", "/proc/1/nothing").unwrap();
        assert_eq!(found.level, Level::Fail, "{}", found.says);
    }

    #[test]
    fn clocks_that_are_apart_are_told_with_their_direction() {
        let now = SystemTime::now();
        assert_eq!(clock_difference(None), (Level::Ok, String::new()));
        assert_eq!(clock_difference(Some(now)).0, Level::Ok);
        let (level, says) = clock_difference(Some(now + Duration::from_secs(61)));
        assert!(level == Level::Warn && says.ends_with(" s ahead"), "{says}");
        let (level, says) = clock_difference(Some(now - Duration::from_secs(3600)));
        assert!(level == Level::Warn && says.contains("3600 s behind"), "{says}");
    }
}
