//! Facts about a process → whether it is traced. Pure.
//!
//! *Owns* the conditions of `select`, and what is left alone unless somebody says otherwise. *Must not know* where facts
//! come from.

use globset::{Glob, GlobMatcher};
use spoor_core::record::Tgid;

use super::container::Container;
use crate::config::{Select, Selector};

/// What conditions are about.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    pub tgid: Tgid,
    pub exe: &'a str,
    pub comm: &'a str,
    /// Arguments joined by blanks.
    pub command: &'a str,
    /// The service it was found to be.
    pub service: &'a str,
    pub ports: &'a [u16],
    pub container_id: Option<&'a str>,
    pub container: Option<&'a Container>,
    /// Its cgroup paths.
    pub cgroups: &'a [String],
    /// Inode of its network namespace; 0 when it is not known.
    pub netns: u64,
    /// It is that of process 1.
    pub host_netns: bool,
    /// It exports OpenTelemetry by itself.
    pub instrumented: bool,
    /// It ended before all of this was read: the kernel has let go of its program, and what is empty here may have been
    /// anything.
    pub ended: bool,
}

/// Why a process is or is not traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Traced,
    /// A condition of `select.exclude`, a default, or the lack of one of `select.include`.
    Excluded,
}

/// Programs that observe, run or maintain the machine: their traffic is no order's. By the name of the executable.
const SYSTEM: [&str; 52] = [
    "systemd*",
    "dbus-*",
    "sshd*",
    "chronyd",
    "ntpd",
    "cron",
    "crond",
    "rsyslogd",
    "snapd",
    "packagekitd",
    "polkitd",
    "NetworkManager",
    "dockerd",
    "containerd*",
    "docker-proxy",
    "crio",
    "conmon",
    "podman",
    "runc",
    "kubelet",
    "kube-proxy",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "etcd",
    "coredns",
    "cilium-agent",
    "calico-node",
    "flanneld",
    "cloud-init*",
    "amazon-ssm-agent",
    "google_*_agent",
    "waagent",
    "node_exporter",
    "*_exporter",
    "prometheus",
    "alertmanager",
    "grafana*",
    "loki",
    "promtail",
    "fluent-bit",
    "fluentd",
    "vector",
    "telegraf",
    "filebeat",
    "metricbeat",
    "otelcol*",
    "jaeger*",
    "tempo",
    "zabbix_agent*",
    "spoor",
    "datadog-agent",
];

/// Other tracers.
const TRACERS: [&str; 9] = [
    "beyla",
    "obi",
    "ebpf-instrument",
    "deepflow-agent",
    "coroot-node-agent",
    "odiglet",
    "pem",
    "alaz",
    "parca-agent",
];

/// The conditions, ready to be tried.
#[derive(Debug)]
pub struct Selection {
    include: Vec<Condition>,
    exclude: Vec<Condition>,
    /// On the path of the executable (`services.exclude`).
    exclude_exe: Vec<GlobMatcher>,
    system: Vec<GlobMatcher>,
    exclude_instrumented: bool,
}

#[derive(Debug)]
struct Condition {
    selector: Selector,
    exe: Option<GlobMatcher>,
    command: Option<GlobMatcher>,
    service: Option<GlobMatcher>,
    container: Option<GlobMatcher>,
    namespace: Option<GlobMatcher>,
    pod: Option<GlobMatcher>,
    cgroup: Option<GlobMatcher>,
    labels: Vec<(String, GlobMatcher)>,
}

/// The configuration was checked: a pattern that is none cannot come here, and would match nothing.
fn glob(pattern: &str) -> Option<GlobMatcher> {
    Glob::new(pattern).ok().map(|glob| glob.compile_matcher())
}

impl Selection {
    pub fn new(select: &Select, exclude_exe: &[String]) -> Self {
        let conditions = |selectors: &[Selector]| selectors.iter().cloned().map(Condition::new).collect();
        let system: Vec<&str> = match select.default_excludes {
            true => SYSTEM.into_iter().chain(TRACERS).collect(),
            false => Vec::new(),
        };
        Self {
            include: conditions(&select.include),
            exclude: conditions(&select.exclude),
            exclude_exe: exclude_exe.iter().filter_map(|pattern| glob(pattern)).collect(),
            system: system.into_iter().filter_map(glob).collect(),
            exclude_instrumented: select.exclude_instrumented,
        }
    }

    /// Listening ports have to be known: finding them reads all descriptors of a process.
    pub fn needs_ports(&self) -> bool {
        self.include.iter().chain(&self.exclude).any(|condition| condition.selector.port.is_some())
    }

    /// Exclusions win over inclusions, and what is named in `select.include` over the defaults.
    pub fn choose(&self, facts: &Facts<'_>) -> Choice {
        let unknown_exe = facts.ended && facts.exe.is_empty();
        if self.exclude.iter().any(|condition| condition.holds(facts, facts.ended))
            || self.exclude_exe.iter().any(|glob| unknown_exe || glob.is_match(facts.exe))
        {
            return Choice::Excluded;
        }
        if !self.include.is_empty() {
            let named = self.include.iter().any(|condition| condition.holds(facts, false));
            return if named { Choice::Traced } else { Choice::Excluded };
        }
        let name = match facts.exe.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => facts.comm,
        };
        let left_alone = self.system.iter().any(|glob| glob.is_match(name))
            || (self.exclude_instrumented && (facts.instrumented || facts.ended));
        if left_alone { Choice::Excluded } else { Choice::Traced }
    }
}

/// The kernel keeps so many bytes of a program's name.
const MAX_COMM: usize = 15;

impl Selection {
    /// For a process of which nothing is left but its name: the conditions of the configuration are about more than that, so it
    /// is left out where there are any. A name that the kernel cut could be any that begins like it.
    pub fn judge(&self, comm: &str) -> Choice {
        let conditions = self.include.len() + self.exclude.len() + self.exclude_exe.len();
        let unknown = comm.is_empty() && !self.system.is_empty();
        let cut = comm.len() >= MAX_COMM
            && self.system.iter().any(|glob| glob.glob().glob().trim_end_matches('*').starts_with(comm));
        let left_alone = self.system.iter().any(|glob| glob.is_match(comm));
        if conditions > 0 || unknown || cut || left_alone { Choice::Excluded } else { Choice::Traced }
    }
}

impl Condition {
    fn new(selector: Selector) -> Self {
        let text = |pattern: &Option<String>| pattern.as_deref().and_then(glob);
        Self {
            exe: text(&selector.exe),
            command: text(&selector.command),
            service: text(&selector.service),
            container: text(&selector.container),
            namespace: text(&selector.namespace),
            pod: text(&selector.pod),
            cgroup: text(&selector.cgroup),
            labels: selector
                .pod_labels
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), glob(value)?)))
                .collect(),
            selector,
        }
    }

    /// All that is given holds; what is not known does not. With `unknown`, what can no longer be read does.
    fn holds(&self, facts: &Facts<'_>, unknown: bool) -> bool {
        let selector = &self.selector;
        let matches = |given: bool, glob: &Option<GlobMatcher>, text: Option<&str>| {
            !given || glob.as_ref().zip(text).is_some_and(|(glob, text)| glob.is_match(text))
        };
        // Older kernels take who ends out of its cgroup.
        let unplaced = unknown && facts.cgroups.iter().all(|path| path == "/");
        let pod = facts.container.and_then(|container| container.pod.as_ref());
        let container = selector.container.as_ref().is_none_or(|id| {
            let by_id = id.len() >= 12 && facts.container_id.is_some_and(|own| own.starts_with(id.as_str()));
            let name = facts.container.map(|container| container.name.as_str());
            unplaced || by_id || matches(true, &self.container, name)
        });
        let netns = selector.netns.as_deref().is_none_or(|wanted| match wanted {
            "host" => facts.host_netns,
            number => facts.netns != 0 && number.parse() == Ok(facts.netns),
        }) || (unknown && facts.netns == 0);
        let labels = selector.pod_labels.len() == self.labels.len()
            && self.labels.iter().all(|(key, value)| {
                pod.and_then(|pod| pod.labels.get(key)).is_some_and(|label| value.is_match(label))
            });
        let placed =
            matches(selector.namespace.is_some(), &self.namespace, pod.map(|pod| pod.namespace.as_str()))
                && matches(selector.pod.is_some(), &self.pod, pod.map(|pod| pod.name.as_str()))
                && selector.cgroup.as_ref().is_none_or(|_| {
                    self.cgroup
                        .as_ref()
                        .is_some_and(|glob| facts.cgroups.iter().any(|path| glob.is_match(path)))
                })
                && labels;
        // Its name may have come from what is gone.
        (matches(selector.exe.is_some(), &self.exe, Some(facts.exe)) || (unknown && facts.exe.is_empty()))
            && (matches(selector.command.is_some(), &self.command, Some(facts.command))
                || (unknown && facts.command.is_empty()))
            && (matches(selector.service.is_some(), &self.service, Some(facts.service)) || unknown)
            && (selector.port.is_none_or(|port| facts.ports.contains(&port)) || unknown)
            && selector.pid.is_none_or(|pid| pid == facts.tgid.0)
            && (placed || unplaced)
            && container
            && netns
    }
}

#[cfg(test)]
mod tests;
