//! A process identifier in, what is known of the process out: its executable, its service, its container.
//!
//! *Owns* reading `/proc` and the rules that name services ([`name`]).
//! *Must not know* records, connections, spans. *Spec*: semantic conventions 1.44.0 `resource/`, proc(5).

pub mod cgroup;
pub mod lookup;
pub mod name;
pub mod port;

use procfs::process::Process;

use crate::config::Services;
use crate::record::ProcessInfo;
use name::Facts;

pub use lookup::Lookup;

/// A running process; `None` when it is gone. `at` is not set.
pub fn inspect(tgid: u32, services: &Services) -> Option<ProcessInfo> {
    let process = Process::new(i32::try_from(tgid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    let cgroup = cgroup::of(&process);
    let facts = Facts {
        // A replaced executable reads `/usr/bin/shop (deleted)`.
        exe: process
            .exe()
            .map(|path| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
            .unwrap_or_default(),
        comm: stat.comm.clone(),
        command: process.cmdline().unwrap_or_default(),
        directory: process.cwd().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        environment: name::Environment::of(&process),
        unit: cgroup.unit.filter(|_| is_main_of_unit(&stat)),
        // Only looked for when a rule asks: it reads all descriptors of the process.
        ports: if services.names.iter().any(|rule| rule.port.is_some()) {
            port::listening(&process)
        } else {
            Vec::new()
        },
    };
    let name = name::service(&facts, services);
    let tick_ns = 1_000_000_000 / procfs::ticks_per_second().max(1);
    Some(ProcessInfo {
        at: 0,
        tgid,
        start_ns: stat.starttime.saturating_mul(tick_ns),
        exe: facts.exe,
        comm: stat.comm,
        service: name.service,
        service_namespace: name.namespace,
        container_id: cgroup.container,
        attributes: Vec::new(),
    })
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

    #[test]
    fn this_process_is_known() {
        let info = inspect(std::process::id(), &Services::default()).unwrap();
        assert_eq!(info.tgid, std::process::id());
        assert!(info.exe.contains("spoor"), "{info:?}");
        assert!(info.service.contains("spoor"), "{info:?}");
        assert!(info.start_ns > 0 && info.start_ns <= crate::clock::boot_ns(), "{info:?}");
    }

    #[test]
    fn missing_process_is_none() {
        assert_eq!(inspect(u32::MAX, &Services::default()), None);
        assert_eq!(inspect(0, &Services::default()), None);
    }

    #[test]
    fn environment_of_a_child_names_it() {
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .env("OTEL_SERVICE_NAME", "sleeper")
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=beds")
            .spawn()
            .unwrap();
        // The child is in `execve` for a moment, with this process's environment.
        let named = (0..200).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            inspect(child.id(), &Services::default()).filter(|info| info.service == "sleeper")
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let info = named.expect("named by its environment");
        assert_eq!(info.service_namespace.as_deref(), Some("beds"));
    }
}
