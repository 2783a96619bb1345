//! Packages of Node.js by their lock files, in a cache outside the tree: the client libraries of the demo's CRM, what drives a
//! browser over the pages of `spoor-serve`, and what applications of `cargo xtask stacks` are made with.
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
    look: || look(CRM, "pg and amqplib"),
    install: || install(CRM),
};

/// Chromium is one of the optional packages of Debian.
pub(crate) const BROWSER: Need = Need {
    name: "what drives a browser",
    why: "tests look at the pages of spoor-serve with chromium and check that everybody can use them",
    look: || look(PAGES, "playwright-core and axe-core"),
    install: || install(PAGES),
};

/// The Node.js applications of `cargo xtask stacks`.
pub(crate) const STACKS: Need = Need {
    name: "Node.js libraries of the stacks",
    why: "`cargo xtask stacks` runs applications with them",
    look: || look(APPS, "express, nestjs, pg and amqplib"),
    install: || install(APPS),
};

/// Folders with a `package-lock.json`.
const CRM: &str = "tests/services/crm";
const APPS: &str = "tests/src/bin/stacks/apps";
const PAGES: &str = "journeys/tests/program/browser";

fn look(of: &str, packages: &str) -> Found {
    match folder(of) {
        // Written last by npm: an installation that was broken off has none.
        Ok(folder) if folder.join("node_modules/.package-lock.json").is_file() => {
            Found::Present(folder.display().to_string())
        }
        Ok(_) => Found::Missing(packages.to_owned()),
        Err(error) => Found::Missing(format!("a place for {packages}: {error:#}")),
    }
}

fn install(of: &str) -> Result<()> {
    let folder = folder(of)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(shell::root().join(of).join(name), folder.join(name))
            .with_context(|| format!("cannot copy {name}"))?;
    }
    let mut npm = shell::command("npm", ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.current_dir(&folder);
    shell::run_quietly(npm)
}

/// `~/.cache/spoor/node-<hash of the lock file>`.
fn folder(of: &str) -> Result<PathBuf> {
    let lock = fs::read(shell::root().join(of).join("package-lock.json"))
        .with_context(|| format!("cannot read the package-lock.json of {of}"))?;
    let digest: String = Sha256::digest(&lock).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Ok(shell::cache()?.join(format!("node-{digest}")))
}
