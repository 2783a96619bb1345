//! A [`Config`] → the settings whose values make no sense.
//!
//! *Owns* ranges and conditions between settings that types do not express.

use std::time::Duration;

use globset::Glob;

use super::node::{Node, Step, path_text};
use super::{Config, ConfigError, Selector};
use spoor_core::causality::across::covered::Block;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    path: Vec<Step>,
    message: String,
}

impl Problem {
    /// With the place the setting, or the section around it, was given.
    pub fn located(self, root: &Node) -> ConfigError {
        let place = root.nearest(&self.path).place.clone();
        ConfigError::at(place, format!("`{}`: {}", path_text(&self.path), self.message))
    }
}

/// Everything wrong with a configuration.
pub fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Found::default();
    capture(config, &mut found);
    services(config, &mut found);
    selectors(config, &mut found);
    joining(config, &mut found);
    choices(config, &mut found);
    export(config, &mut found);
    found.0
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        let path = path.split('.').map(|step| match step.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Key(step.to_owned()),
        });
        self.0.push(Problem { path: path.collect(), message: message.into() });
    }

    fn range(&mut self, path: &str, value: u64, min: u64, max: u64) {
        if !(min..=max).contains(&value) {
            self.add(path, format!("{value} is out of range, {min} to {max}"));
        }
    }

    fn glob(&mut self, path: &str, pattern: &str) {
        if let Err(error) = Glob::new(pattern) {
            self.add(path, format!("`{pattern}` is not a pattern: {}", error.kind()));
        }
    }

    fn positive(&mut self, path: &str, value: Duration) {
        if value.is_zero() {
            self.add(path, "must be longer than 0");
        }
    }
}

fn capture(config: &Config, found: &mut Found) {
    let capture = &config.capture;
    found.range("capture.ring_bytes", capture.ring_bytes.into(), 256 << 10, 1 << 30);
    if !capture.ring_bytes.is_power_of_two() {
        let next = capture.ring_bytes.checked_next_power_of_two().unwrap_or(1 << 30);
        found.add("capture.ring_bytes", format!("{} is not a power of two; {next} is", capture.ring_bytes));
    }
    found.range("capture.first_look_bytes", capture.first_look_bytes.into(), 1 << 10, 16 << 20);
    found.range("capture.turn_bytes", capture.turn_bytes.into(), 1 << 10, 1 << 30);
    found.range("capture.max_connections", capture.max_connections.into(), 64, 4 << 20);
    found.range("capture.cgroup_percent", capture.cgroup_percent.into(), 0, 100);
    let protocols = &config.protocols;
    found.range("protocols.kept_body_bytes", protocols.kept_body_bytes as u64, 0, 16 << 20);
    found.range("protocols.max_header_bytes", protocols.max_header_bytes as u64, 1 << 10, 16 << 20);
    found.range("protocols.max_statement_bytes", protocols.max_statement_bytes as u64, 256, 16 << 20);
    found.range("protocols.max_open_operations", protocols.max_open_operations as u64, 1, 1 << 20);
}

fn services(config: &Config, found: &mut Found) {
    for (index, rule) in config.services.names.iter().enumerate() {
        let path = format!("services.names.{index}");
        if rule.name.is_empty() {
            found.add(&path, "a rule needs the `name` it gives");
        }
        if rule.exe.is_none() && rule.command.is_none() && rule.port.is_none() {
            found.add(&path, "a rule needs a condition: `exe`, `command` or `port`");
        }
        for (key, pattern) in [("exe", &rule.exe), ("command", &rule.command)] {
            if let Some(pattern) = pattern {
                found.glob(&format!("{path}.{key}"), pattern);
            }
        }
    }
    for (index, pattern) in config.services.exclude.iter().enumerate() {
        found.glob(&format!("services.exclude.{index}"), pattern);
    }
}

fn selectors(config: &Config, found: &mut Found) {
    for (list, selectors) in [("include", &config.select.include), ("exclude", &config.select.exclude)] {
        for (index, selector) in selectors.iter().enumerate() {
            let path = format!("select.{list}.{index}");
            if *selector == Selector::default() {
                found.add(&path, "a selector needs a condition: one without any would hold for everything");
            }
            let texts = [
                ("exe", &selector.exe),
                ("command", &selector.command),
                ("service", &selector.service),
                ("container", &selector.container),
                ("namespace", &selector.namespace),
                ("pod", &selector.pod),
                ("cgroup", &selector.cgroup),
            ];
            for (key, pattern) in texts {
                if let Some(pattern) = pattern {
                    found.glob(&format!("{path}.{key}"), pattern);
                }
            }
            for pattern in selector.pod_labels.values() {
                found.glob(&format!("{path}.pod_labels"), pattern);
            }
            if selector.netns.as_ref().is_some_and(|netns| netns != "host" && netns.parse::<u64>().is_err()) {
                found.add(&format!("{path}.netns"), "neither `host` nor the number of a network namespace");
            }
        }
    }
    found.positive("kubernetes.refresh", config.kubernetes.refresh);
}

fn joining(config: &Config, found: &mut Found) {
    let joining = &config.joining;
    if !(0.0..=1.0).contains(&joining.min_confidence) {
        found.add("joining.min_confidence", format!("{} is out of range, 0 to 1", joining.min_confidence));
    }
    for (index, text) in joining.covered.iter().enumerate() {
        if Block::parse(text).is_none() {
            let message =
                format!("`{text}` is neither an address, nor a block such as `10.0.0.0/8`, nor `all`");
            found.add(&format!("joining.covered.{index}"), message);
        }
    }
    if joining.linger > joining.max_hold {
        found.add("joining.linger", "longer than `joining.max_hold`");
    }
    found.range("joining.max_held_operations", joining.max_held_operations as u64, 100, 100_000_000);
    let limits = &config.limits;
    found.range("tls.memory.cpu_percent", config.tls.memory.cpu_percent.into(), 1, 100);
    found.range("tls.memory.max_bytes", config.tls.memory.max_bytes, 1 << 20, 1 << 40);
    found.range("limits.memory_bytes", limits.memory_bytes as u64, 16 << 20, 1 << 40);
    found.range("limits.work_percent", u64::from(limits.work_percent), 0, 1000);
}

fn choices(config: &Config, found: &mut Found) {
    if !(0.0..=1.0).contains(&config.sampling.ratio) {
        found.add("sampling.ratio", format!("{} is out of range, 0 to 1", config.sampling.ratio));
    }
    let privacy = &config.privacy;
    let min = spoor_core::privacy::pseudonym::MIN_SECRET;
    match (&privacy.hash_secret_file, privacy.hash_secret.len()) {
        _ if privacy.hash.is_empty() => {}
        (None, 0) => found.add("privacy.hash", "needs `privacy.hash_secret_file` or `privacy.hash_secret`"),
        (None, len) if len < min => {
            found.add("privacy.hash_secret", format!("{len} bytes are too few, at least {min} are needed"));
        }
        (Some(_), 1..) => found.add("privacy.hash_secret_file", "`privacy.hash_secret` is set too"),
        _ => {}
    }
    let listen = &config.admin.listen;
    if !listen.is_empty() && listen.parse::<std::net::SocketAddr>().is_err() {
        found.add(
            "admin.listen",
            format!("`{listen}` is not an address and port such as `{}`", super::Admin::DEFAULT),
        );
    }
}

fn export(config: &Config, found: &mut Found) {
    let otlp = &config.export.otlp;
    let [traces, metrics, logs] =
        [&otlp.for_traces, &otlp.for_metrics, &otlp.for_logs].map(|signal| otlp.with(signal));
    for (key, endpoint, insecure) in [
        ("endpoint", &otlp.endpoint, traces.insecure),
        ("traces_endpoint", &otlp.traces_endpoint, traces.insecure),
        ("metrics_endpoint", &otlp.metrics_endpoint, metrics.insecure),
        ("logs_endpoint", &otlp.logs_endpoint, logs.insecure),
    ] {
        if let Err(message) = crate::export::otlp::target::check_endpoint(endpoint, insecure) {
            found.add(&format!("export.otlp.{key}"), message);
        }
    }
    for (name, value) in &otlp.headers {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            found.add(&format!("export.otlp.headers.{name}"), "not a name a header can have");
        } else if http::HeaderValue::from_str(value).is_err() {
            found.add(&format!("export.otlp.headers.{name}"), "not a value a header can have");
        }
    }
    found.positive("export.otlp.metrics_interval", otlp.metrics_interval);
    found.range("export.otlp.max_request_bytes", otlp.max_request_bytes as u64, 16 << 10, 64 << 20);
    found.range("export.otlp.max_open_work", otlp.max_open_work as u64, 1, 1 << 16);
    let seconds = otlp.alive_interval.as_secs();
    if !(1..=3_600).contains(&seconds) {
        found.add("export.otlp.alive_interval", "must be from 1 s to 1 h");
    }
    for own in [traces, metrics, logs] {
        match (&own.client_certificate, &own.client_key) {
            (Some(_), None) => {
                found.add("export.otlp.client_certificate", "needs `export.otlp.client_key` too")
            }
            (None, Some(_)) => {
                found.add("export.otlp.client_key", "needs `export.otlp.client_certificate` too")
            }
            _ => {}
        }
        found.positive("export.otlp.timeout", own.timeout);
    }
    let spool = &config.export.spool;
    let request = otlp.max_request_bytes as u64;
    found.range("export.spool.memory_bytes", spool.memory_bytes as u64, request, 64 << 30);
    if !spool.directory.is_empty() {
        found.range("export.spool.max_bytes", spool.max_bytes, request.saturating_mul(2), u64::MAX);
        found.positive("export.spool.max_age", spool.max_age);
    }
    let every = config.state.save_every;
    if !every.is_zero() && every < Duration::from_secs(1) {
        found.add("state.save_every", "is shorter than a second; `0` writes at the end only");
    }
}
