//! A cgroup of its own for a process under test: a name → a cgroup, removed when it is dropped.
//!
//! *Owns* finding the hierarchy of version 2, which a machine may have beside that of version 1.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A cgroup.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one of version 2. The reason when this machine does not let us.
    pub fn new(name: &str) -> Result<Self, String> {
        Self::below("version 2", name, |kind, _| kind == "cgroup2")
    }

    /// Makes one of version 1's controller `pids`, by which the agent tells containers apart where there is no other way.
    pub fn version_1(name: &str) -> Result<Self, String> {
        Self::below("version 1 for `pids`", name, |kind, options| {
            kind == "cgroup" && options.split(',').any(|option| option == "pids")
        })
    }

    /// proc_pid_mounts(5): device, directory, type, options.
    fn below(what: &str, name: &str, wanted: impl Fn(&str, &str) -> bool) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find_map(|fields| match fields.as_slice() {
                [_, directory, kind, options, ..] if wanted(kind, options) => Some(*directory),
                _ => None,
            })
            .ok_or_else(|| format!("no cgroup file system of {what} is mounted"))?;
        let path = PathBuf::from(mount).join(format!("spoor-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("cannot make a cgroup: {error}"))?;
        Ok(Self { path })
    }

    /// The file that a process is moved by.
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Moves a process into it.
    pub fn take(&self, tgid: u32) {
        fs::write(self.processes(), tgid.to_string()).expect("the process moves");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just ended is still in it for a moment. One that is left behind is empty.
        let end = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
