//! A process identifier → what is known of the process: its executable, its service, its container, and whether it is
//! traced.
//!
//! *Owns* reading `/proc` and executables ([`executable`]), and the rules that name services ([`name`], [`kubernetes`]) and
//! choose them ([`select`]).
//! *Must not know* records, connections, spans. *Spec*: semantic conventions 1.44.0 `resource/`, proc(5).

pub mod cgroup;
pub mod container;
pub mod executable;
pub mod kubernetes;
pub mod lookup;
pub mod name;
pub mod port;
pub mod select;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use procfs::process::Process;

use crate::clock;
use crate::config::{Config, Select, Services};
use container::{Container, Runtimes};
use executable::{Executables, Runtime};
use kubernetes::Pods;
use name::Facts;
use select::{Choice, Selection};
use spoor_core::record::{ProcessInfo, Tgid};
use spoor_core::time::BootTime;

pub use lookup::Lookup;

/// What a look at a process found.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    /// `at` is not set.
    pub info: ProcessInfo,
    pub choice: Choice,
    /// Kubernetes may know more of it later.
    pub unfinished: bool,
}

/// Looks at processes as the configuration says.
#[derive(Debug)]
pub struct Inspector {
    services: Services,
    selection: Selection,
    runtimes: Runtimes,
    pods: Option<Arc<Pods>>,
    well_known_labels: bool,
    /// Containers the runtime was asked for, also those it does not know.
    containers: HashMap<String, Option<Arc<Container>>>,
    executables: Executables,
    boot_unix: u64,
    host_netns: u64,
}

/// Containers remembered at once.
const MAX_CONTAINERS: usize = 4096;
/// Attributes taken from a process' own declaration at most, and their longest value.
const MAX_DECLARED: usize = 16;
const MAX_DECLARED_VALUE: usize = 256;

impl Inspector {
    /// `pods` is where Kubernetes' knowledge comes from.
    pub fn new(config: &Config, pods: Option<Arc<Pods>>) -> Self {
        Self {
            services: config.services.clone(),
            selection: Selection::new(&config.select, &config.services.exclude),
            runtimes: Runtimes::default(),
            pods,
            well_known_labels: config.kubernetes.well_known_labels,
            containers: HashMap::new(),
            executables: Executables::default(),
            boot_unix: procfs::boot_time_secs().unwrap_or(0),
            host_netns: netns(Tgid(1)),
        }
    }

    /// For sources without a machine: names by rules alone, nothing left out.
    pub fn plain(services: &Services) -> Self {
        let select = Select { default_excludes: false, ..Select::default() };
        let config = Config { services: services.clone(), select, ..Config::default() };
        Self::new(&config, None)
    }

    /// Grows when Kubernetes knows more than before.
    pub fn generation(&self) -> u64 {
        self.pods.as_ref().map_or(0, |pods| pods.generation())
    }

    /// Whether a process that is gone is traced, by its name.
    pub fn judge(&self, comm: &str) -> Choice {
        self.selection.judge(comm)
    }

    /// A running process; `None` when it is gone, or when too little of it is left to say that it is traced.
    pub fn inspect(&mut self, tgid: Tgid) -> Option<Inspected> {
        let process = Process::new(i32::try_from(tgid.0).ok()?).ok()?;
        let stat = process.stat().ok()?;
        let cgroups = cgroup::paths(&process);
        let cgroup = cgroup::of(&cgroups);
        let (container, unfinished) = match &cgroup.container {
            Some(id) => self.container(id),
            None => (None, false),
        };
        let named = container.as_ref().map(|container| kubernetes::name(container, self.well_known_labels));
        // Only looked for when a rule asks: it reads all descriptors of the process.
        let wants_ports =
            self.selection.needs_ports() || self.services.names.iter().any(|rule| rule.port.is_some());
        let command = process.cmdline().unwrap_or_default();
        let facts = Facts {
            // A replaced executable reads `/usr/bin/shop (deleted)`.
            exe: process
                .exe()
                .map(|path| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
                .unwrap_or_default(),
            comm: stat.comm.clone(),
            parent_command: parent_command(&command, &stat),
            command,
            directory: process.cwd().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
            environment: name::Environment::of(&process),
            kubernetes: named.unwrap_or_default(),
            container: container.as_ref().map(|container| container.name.clone()),
            unit: cgroup.unit.filter(|_| is_main_of_unit(&stat)),
            ports: if wants_ports { port::listening(&process) } else { Vec::new() },
        };
        let name = name::service(&facts, &self.services);
        let netns = netns(tgid);
        let command = facts.command.join(" ");
        let judged = select::Facts {
            tgid,
            exe: &facts.exe,
            comm: &facts.comm,
            command: &command,
            service: &name.service,
            ports: &facts.ports,
            container_id: cgroup.container.as_deref(),
            container: container.as_deref(),
            cgroups: &cgroups,
            netns,
            host_netns: netns != 0 && netns == self.host_netns,
            instrumented: facts.environment.instrumented,
            ended: false,
        };
        let choice = self.selection.choose(&judged);
        // Asked after everything was read: what was read of a process that lives on is all there is.
        if choice == Choice::Traced && has_ended(&process) {
            let judged = select::Facts { ended: true, ..judged };
            if self.selection.choose(&judged) == Choice::Excluded {
                return None;
            }
        }
        // The file of a process that is left alone is left alone, too.
        let program = facts.exe.rsplit('/').next().unwrap_or_default();
        let traced = choice == Choice::Traced;
        let runtime = traced.then(|| self.executables.runtime(tgid, program)).flatten();
        let started_at = began(&stat);
        let since_boot = started_at.since(BootTime::ZERO);
        let info = ProcessInfo {
            at: BootTime::ZERO,
            tgid,
            started_at,
            attributes: self.attributes(&facts, container.as_deref(), runtime.as_ref(), since_boot),
            exe: facts.exe,
            comm: stat.comm,
            service: name.service,
            service_namespace: name.namespace,
            container_id: cgroup.container,
        };
        Some(Inspected { info, choice, unfinished })
    }

    /// What Kubernetes or the runtime know of a container, and whether Kubernetes may know more later.
    fn container(&mut self, id: &str) -> (Option<Arc<Container>>, bool) {
        if let Some(pods) = &self.pods
            && let Some(known) = pods.find(id)
        {
            return (Some(known), false);
        }
        if self.containers.len() >= MAX_CONTAINERS {
            self.containers.clear();
        }
        let runtimes = &self.runtimes;
        let known = self.containers.entry(id.to_owned()).or_insert_with(|| runtimes.find(id).map(Arc::new));
        (known.clone(), self.pods.is_some())
    }

    fn attributes(
        &self,
        facts: &Facts,
        container: Option<&Container>,
        runtime: Option<&Runtime>,
        since_boot: Duration,
    ) -> Vec<(String, String)> {
        let mut all = Vec::new();
        if self.boot_unix > 0 {
            let start = clock::utc(Duration::from_secs(self.boot_unix) + since_boot).to_string();
            all.push(("process.creation.time".to_owned(), start));
        }
        // What the process says of itself wins over what others say of it.
        for (key, value) in facts.environment.declared().into_iter().take(MAX_DECLARED) {
            if !all.iter().any(|(known, _)| *known == key) {
                all.push((key, value.chars().take(MAX_DECLARED_VALUE).collect()));
            }
        }
        for (key, value) in runtime.into_iter().flat_map(|runtime| {
            let name = Some(("process.runtime.name", runtime.kind.name().to_owned()));
            name.into_iter()
                .chain(runtime.version.clone().map(|version| ("process.runtime.version", version)))
        }) {
            if !all.iter().any(|(known, _)| known == key) {
                all.push((key.to_owned(), value));
            }
        }
        for (key, value) in
            container.map(|known| kubernetes::attributes(known, self.well_known_labels)).into_iter().flatten()
        {
            if !all.iter().any(|(known, _)| *known == key) {
                all.push((key, value));
            }
        }
        all
    }
}

/// When a process began, to the tick before: never later than it did.
pub(crate) fn began(stat: &procfs::process::Stat) -> BootTime {
    let tick_ns = 1_000_000_000 / procfs::ticks_per_second().max(1);
    BootTime::from_nanos(stat.starttime.saturating_mul(tick_ns))
}

/// Whether a process has begun to end. From then on the kernel shows neither its executable nor its arguments, though the
/// process is there until its parent has asked how it ended.
fn has_ended(process: &Process) -> bool {
    /// `PF_EXITING` of the kernel's `sched.h`: set before the memory is let go of, and the state becomes `Z` after that.
    const EXITING: u32 = 0x4;
    process.stat().map_or(true, |stat| stat.flags & EXITING != 0 || matches!(stat.state, 'Z' | 'X' | 'x'))
}

/// Inode of a process' network namespace; 0 when it cannot be read.
fn netns(tgid: Tgid) -> u64 {
    std::fs::metadata(format!("/proc/{tgid}/ns/net")).map_or(0, |namespace| namespace.ino())
}

/// The arguments of the process that started a process, where those are what names it.
fn parent_command(command: &[String], stat: &procfs::process::Stat) -> Vec<String> {
    let parent =
        name::is_spawned(command).then(|| Process::new(stat.ppid).and_then(|parent| parent.cmdline()));
    parent.and_then(Result::ok).unwrap_or_default()
}

/// Started by the service manager itself, or forked from such a process of the same name: what else runs in a unit (a
/// shell, a runner of jobs and its jobs) is not the unit's service.
fn is_main_of_unit(stat: &procfs::process::Stat) -> bool {
    const MAX_GENERATIONS: usize = 4;
    let mut parent = stat.ppid;
    for _ in 0..MAX_GENERATIONS {
        if parent == 1 {
            return true;
        }
        let above = Process::new(parent).and_then(|process| process.stat());
        match above {
            Ok(above) if above.comm == stat.comm => parent = above.ppid,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Selector;

    #[test]
    fn process_that_has_ended_and_is_not_waited_for_is_left_out_where_its_executable_is_asked_for() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let process = Process::new(child.id() as i32).unwrap();
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        while !has_ended(&process) {
            assert!(std::time::Instant::now() < patience, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let inspect = |select: Select| {
            let config = Config { select, ..Config::default() };
            Inspector::new(&config, None).inspect(Tgid(process.pid as u32)).map(|found| found.choice)
        };
        let exe = |path: &str| vec![Selector { exe: Some(path.to_owned()), ..Selector::default() }];
        let by_default = inspect(Select::default());
        let excluded = inspect(Select { exclude: exe("/**/true"), ..Select::default() });
        let included = inspect(Select { include: exe("/opt/mes"), ..Select::default() });
        child.wait().unwrap();
        assert_eq!(by_default, Some(Choice::Traced), "nothing could have said otherwise");
        assert_eq!(excluded, None, "it may have been any program");
        assert_eq!(included, Some(Choice::Excluded));
    }

    #[test]
    fn this_process_is_known() {
        let inspected = Inspector::plain(&Services::default()).inspect(Tgid(std::process::id())).unwrap();
        assert_eq!((inspected.choice, inspected.unfinished), (Choice::Traced, false));
        let info = inspected.info;
        assert_eq!(info.tgid.0, std::process::id());
        assert!(info.exe.contains("spoor"), "{info:?}");
        assert!(info.service.contains("spoor"), "{info:?}");
        assert!(info.started_at > BootTime::ZERO && info.started_at <= clock::boot(), "{info:?}");
        let attribute =
            |key| info.attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        assert!(attribute("process.creation.time").is_some_and(|value| value.ends_with('Z')), "{info:?}");
        assert_eq!(attribute("process.runtime.name"), Some("rustc"), "{info:?}");
        assert!(
            attribute("process.runtime.version").is_some_and(|value| value.starts_with("1.")),
            "{info:?}"
        );
    }

    #[test]
    fn the_executable_of_a_process_that_is_left_alone_is_not_read() {
        let select = Select {
            exclude: vec![Selector { pid: Some(std::process::id()), ..Default::default() }],
            ..Select::default()
        };
        let mut inspector = Inspector::new(&Config { select, ..Config::default() }, None);
        let inspected = inspector.inspect(Tgid(std::process::id())).unwrap();
        assert_eq!(inspected.choice, Choice::Excluded);
        assert!(inspector.executables.is_empty(), "{inspected:?}");
    }

    #[test]
    fn missing_process_is_none() {
        let mut inspector = Inspector::plain(&Services::default());
        assert_eq!(inspector.inspect(Tgid(u32::MAX)), None);
        assert_eq!(inspector.inspect(Tgid(0)), None);
    }

    #[test]
    fn environment_of_a_child_names_it() {
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .env("OTEL_SERVICE_NAME", "sleeper")
            .env(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.namespace=beds,deployment.environment.name=test,api.token=x",
            )
            .spawn()
            .unwrap();
        // The child is in `execve` for a moment, with this process's environment.
        let mut inspector = Inspector::plain(&Services::default());
        let named = (0..200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            inspector
                .inspect(Tgid(child.id()))
                .map(|found| found.info)
                .filter(|info| info.service == "sleeper")
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let info = named.expect("named by its environment");
        assert_eq!(info.service_namespace.as_deref(), Some("beds"));
        let declared = ("deployment.environment.name".to_owned(), "test".to_owned());
        assert!(info.attributes.contains(&declared), "{info:?}");
        assert!(!info.attributes.iter().any(|(key, _)| key == "api.token"), "{info:?}");
    }
}
