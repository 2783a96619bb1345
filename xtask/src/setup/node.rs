//! The Node.js client libraries of the demo's CRM, by its lock file, in a cache outside the tree.
//!
//! The cache's name carries a hash of the lock file: a fresh clone finds it, a changed lock gets a new one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{Found, Need};
use crate::shell;

pub(crate) const MODULES: Need = Need {
    name: "Node.js client libraries",
    why: "the demo's CRM speaks PostgreSQL and AMQP through `pg` and `amqplib`",
    look,
    install,
};

fn look() -> Found {
    match folder() {
        // Written last by npm: an installation that was broken off has none.
        Ok(folder) if folder.join("node_modules/.package-lock.json").is_file() => {
            Found::Present(folder.display().to_string())
        }
        Ok(_) => Found::Missing("pg and amqplib".to_owned()),
        Err(error) => Found::Missing(format!("a place for pg and amqplib: {error:#}")),
    }
}

fn install() -> Result<()> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source().join(name), folder.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    let mut npm = shell::command("npm", ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.current_dir(&folder);
    shell::run_quietly(npm)
}

/// `~/.cache/spoor/node-<hash of the lock file>`.
fn folder() -> Result<PathBuf> {
    let lock =
        fs::read(source().join("package-lock.json")).context("cannot read the CRM's package-lock.json")?;
    let digest: String = Sha256::digest(&lock).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Ok(shell::cache()?.join(format!("node-{digest}")))
}

fn source() -> PathBuf {
    shell::root().join("tests/services/crm")
}
