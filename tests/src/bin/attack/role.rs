//! The same program in another part: started by a link of another name, in a cgroup of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use spoor_tests::kernel::Cgroup;
use spoor_tests::peers::Process;

use crate::{attackers, victim};

/// Which part this process plays.
pub(crate) const ROLE: &str = "SPOOR_ATTACK_ROLE";
pub(crate) const ATTACKER: &str = "attacker";
const NEIGHBOUR: &str = "neighbour";
/// Files by which it goes into its cgroups, one a line.
const CGROUPS: &str = "SPOOR_ATTACK_CGROUPS";

/// Plays the part that the environment names; `None`: it names none.
pub(crate) fn play() -> Option<Result<()>> {
    let role = std::env::var(ROLE).ok()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    Some(enter().and_then(|()| match (role.as_str(), arguments.as_slice()) {
        (ATTACKER, arguments) => attackers::run(arguments),
        (NEIGHBOUR, [path, stop]) => victim::serve_and_ask(path, Path::new(stop)),
        _ => bail!("there is no part {role:?} with {arguments:?}"),
    }))
}

fn enter() -> Result<()> {
    let files = std::env::var(CGROUPS).unwrap_or_default();
    for file in files.lines() {
        fs::write(file, std::process::id().to_string()).with_context(|| format!("cannot enter {file}"))?;
    }
    Ok(())
}

/// Cgroups of one part, of the versions that this machine has.
#[derive(Debug)]
pub(crate) struct Place {
    groups: Vec<Cgroup>,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let groups =
            [Cgroup::new(name), Cgroup::version_1(name)].into_iter().filter_map(Result::ok).collect();
        Self { groups }
    }

    /// Not even one: the agent tells the parts apart by their processes then.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.groups.is_empty()
    }

    fn files(&self) -> String {
        let files: Vec<String> =
            self.groups.iter().map(|group| group.processes().to_string_lossy().into_owned()).collect();
        files.join("\n")
    }
}

/// Starts this program as an attacker, or as a neighbour. `bin` is where it is linked under the names it goes by.
pub(crate) fn start_attacker(dir: &Path, name: &str, place: &Place, arguments: &[String]) -> Result<Process> {
    start(dir, name, ATTACKER, place, arguments)
}

/// As [`start_attacker`]; it asks for paths that begin with `path` until the file is there.
pub(crate) fn start_neighbour(
    dir: &Path,
    name: &str,
    place: &Place,
    path: &str,
    stop: &Path,
) -> Result<Process> {
    let arguments = [path.to_owned(), stop.to_string_lossy().into_owned()];
    let mut process = start(dir, name, NEIGHBOUR, place, &arguments)?;
    process.wait_for_line("ready")?;
    Ok(process)
}

fn start(dir: &Path, name: &str, role: &str, place: &Place, arguments: &[String]) -> Result<Process> {
    let program = link(dir, name)?;
    let mut command = Command::new(program);
    command.args(arguments).env(ROLE, role).env(CGROUPS, place.files());
    command.env_remove("SPOOR_AGENT");
    Process::start(name, &mut command, &dir.join(format!("{name}.log")))
}

/// This program under another name: by it the agent names the service.
pub(crate) fn link(dir: &Path, name: &str) -> Result<std::path::PathBuf> {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    let (this, link) = (std::env::current_exe()?, bin.join(name));
    if !link.exists() && fs::hard_link(&this, &link).is_err() {
        // Another file system.
        fs::copy(&this, &link).with_context(|| format!("cannot write {}", link.display()))?;
    }
    Ok(link)
}
