//! The profile of the agent's system calls → standard output, or the directory where a container runtime looks for it.
//!
//! The profile is the one file in `deploy/kubernetes/seccomp`: what a run under `strace` called, what the same functions call on
//! the other architecture and with the other C library, and what a runtime needs to start it. It travels in the binary, so that a profile and the agent it is for cannot be of
//! different versions.

use std::io::Write;
use std::path::Path;

use super::Failure;
use crate::files::Directory;

/// As `seccomp.json` of the kubelet, Docker and the OCI runtimes.
const PROFILE: &str = include_str!("../../../deploy/kubernetes/seccomp/spoor.json");

/// Prints the profile, or writes it into a file, whose directory is made when it is missing.
pub(super) fn run(file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else {
        // A reader that has seen enough is no failure.
        let _ = std::io::stdout().write_all(PROFILE.as_bytes());
        return Ok(());
    };
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        return Err(Failure::Usage(format!("`{}` names no file", file.display())));
    };
    // A bare name is a file of the working directory.
    let whole = std::path::absolute(file)
        .map_err(|error| Failure::Usage(format!("`{}` names no file: {error}", file.display())))?;
    let directory = whole.parent().unwrap_or(Path::new("/"));
    let directory = Directory::open_or_create(directory).map_err(Failure::Profile)?;
    directory.replace(name, PROFILE.as_bytes(), true).map_err(Failure::Profile)?;
    crate::telemetry::say(&format!("`{}` is there", file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_put_where_it_is_wanted() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("seccomp/spoor/spoor-1.json");
        run(Some(&file)).unwrap();
        run(Some(&file)).unwrap();
        let entries = std::fs::read_dir(file.parent().unwrap()).unwrap();
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["spoor-1.json"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), PROFILE);
        assert!(run(Some(&file.join("below.json"))).is_err());
        assert!(run(Some(Path::new("/"))).is_err());
    }

    #[test]
    fn the_profile_allows_by_name_and_refuses_everything_else() {
        let profile: serde_json::Value = serde_json::from_str(PROFILE).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let rules = profile["syscalls"].as_array().unwrap();
        let allowed = |name: &str| {
            rules.iter().any(|rule| {
                let names = rule["names"].as_array().unwrap();
                rule["action"] == "SCMP_ACT_ALLOW" && names.iter().any(|known| known == name)
            })
        };
        for name in ["bpf", "perf_event_open", "execve", "futex"] {
            assert!(allowed(name), "{name}");
        }
        // What would let it out of its container, or change a traced process.
        for name in [
            "ptrace",
            "process_vm_writev",
            "mount",
            "setns",
            "unshare",
            "init_module",
            "keyctl",
            "io_uring_setup",
        ] {
            assert!(!allowed(name), "{name}");
        }
    }
}
