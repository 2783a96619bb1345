//! `cargo xtask tidy`: the workspace's own conventions, checked by code.
//!
//! Files of the tree in, findings as `file:line: what, why` out. [`boundaries`] checks who may name whom,
//! [`layout`] where modules and their tests stand, [`reach`] that every file is compiled, [`text`] what every file has to look like, [`dependencies`] that each
//! dependency has a reason and a user, [`links`] that pages lead somewhere; [`rust`] gives all of them the code without
//! comments and literals.

mod boundaries;
mod dependencies;
mod journeys;
mod layout;
mod links;
mod reach;
mod rust;
mod text;

use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::shell;

/// One file of the tree.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    /// Empty when it is no text.
    pub(crate) text: String,
}

/// A broken convention.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    /// From 1.
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Tests in a file of their own: `tests.rs`, or `tests/x.rs`, in the folder of the module that they test.
    fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/src/") && self.path.contains("/tests/")
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let mut findings = check(&files);
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    findings.sort();
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    bail!("tidy: {} findings", findings.len())
}

fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        boundaries::check(file, &mut findings);
        journeys::check(file, &mut findings);
        text::check(file, &mut findings);
    }
    text::check_tree(files, &mut findings);
    links::check_tree(files, &mut findings);
    dependencies::check_tree(files, &mut findings);
    layout::check(files, &mut findings);
    reach::check(files, &mut findings);
    findings
}

/// What git tracks or would track.
fn files() -> Result<Vec<File>> {
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"];
    let list = shell::output(shell::command("git", list)).context("cannot list the tree's files with git")?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        // A file deleted but not yet staged is still listed.
        let Ok(bytes) = fs::read(shell::root().join(path)) else { continue };
        // Of captures and the like only the name counts.
        files.push(File { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default() });
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
