//! `spoor doctor`: findings of the kernel, the privileges and the configuration, each with its remedy.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::Failure;
use super::arguments::DoctorOptions;
use crate::capture::doctor::{Finding, Level, findings};
use crate::config::Config;
use crate::export::otlp::target::Signal;
use crate::export::otlp::{Client, Target};

pub(super) fn run(options: &DoctorOptions) -> Result<ExitCode, Failure> {
    let mut all = findings();
    match super::load(&options.config.as_settings()) {
        Ok(config) => {
            let from = match &options.config.config {
                Some(file) => format!("{} is valid", file.display()),
                None => "no file is given, the defaults and the environment are valid".to_owned(),
            };
            all.push(finding("configuration", Level::Ok, from, None));
            all.push(endpoint(&config));
            all.extend(spool(&config));
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
    let reached = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            let client = Client::new(target).map_err(|error| error.to_string())?;
            tokio::time::timeout(Duration::from_secs(5), client.probe())
                .await
                .map_err(|_| "no answer".to_owned())?
        })
    });
    match reached {
        Ok(()) => finding(NAME, Level::Ok, format!("{uri} accepts connections"), None),
        Err(reason) => {
            let remedy =
                "start the back end or correct `export.otlp.endpoint`; until then spans wait".to_owned();
            finding(NAME, Level::Warn, format!("{uri} cannot be reached: {reason}"), Some(remedy))
        }
    }
}

fn spool(config: &Config) -> Option<Finding> {
    const NAME: &str = "spool";
    let directory = std::path::Path::new(&config.export.spool.directory);
    if directory.as_os_str().is_empty() {
        return None;
    }
    // The directory may be made at the start: then the nearest one above has to be writable.
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let writable = rustix::fs::access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    Some(match writable {
        Ok(()) => finding(NAME, Level::Ok, format!("`{}` can be written", directory.display()), None),
        Err(error) => {
            let says = format!("`{}` cannot be written: {error}", directory.display());
            let remedy = "make it writable for the agent's user, or set `export.spool.directory`".to_owned();
            finding(NAME, Level::Fail, says, Some(remedy))
        }
    })
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
