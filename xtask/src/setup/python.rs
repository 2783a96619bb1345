//! Packages of PyPI by a list of versions, in an environment of `/usr/bin/python3` outside the tree: what the applications of
//! `cargo xtask stacks` are made with.
//!
//! The environment's name carries a hash of the list: a fresh clone finds it, a changed list gets a new one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{Found, Need};
use crate::shell;

pub(crate) const STACKS: Need = Need {
    name: "Python libraries of the stacks",
    why: "`cargo xtask stacks` runs applications with them",
    look,
    install,
};

/// The list of packages.
const LIST: &str = "tests/src/bin/stacks/apps/requirements.txt";

fn look() -> Found {
    match folder() {
        // Written last: an installation that was broken off has none.
        Ok(folder) if folder.join("requirements.txt").is_file() => {
            Found::Present(folder.display().to_string())
        }
        Ok(_) => Found::Missing("gunicorn, FastAPI, Celery and others".to_owned()),
        Err(error) => Found::Missing(format!("a place for them: {error:#}")),
    }
}

fn install() -> Result<()> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let environment = folder.join("venv");
    // Debian's own, whatever comes first on the path: its servers and libraries are beside it.
    let mut venv = shell::command("/usr/bin/python3", ["-m", "venv", "--clear"]);
    venv.arg(&environment);
    shell::run_quietly(venv)?;
    let python = environment.join("bin/python");
    let mut pip = shell::command(&python.to_string_lossy(), ["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", "--only-binary", ":all:", "--requirement", LIST]);
    shell::run_quietly(pip)?;
    let list = shell::root().join(LIST);
    fs::copy(list, folder.join("requirements.txt")).context("cannot copy the list of packages")?;
    Ok(())
}

/// `~/.cache/spoor/python-<hash of the list>`.
fn folder() -> Result<PathBuf> {
    let list = fs::read(shell::root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let digest: String = Sha256::digest(&list).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Ok(shell::cache()?.join(format!("python-{digest}")))
}
