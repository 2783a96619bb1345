//! Machines the agent is built for beside this one: a target triple → the compilers that building for it needs.
//!
//! *Owns* which targets there are and what each needs. *Must not know* what is built.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Found, Need, debian};
use crate::shell;

/// A target, and the C tools for it, of which the allocator and the decoders are built.
pub(crate) struct Target {
    pub(crate) triple: &'static str,
    pub(crate) compiler: &'static str,
    pub(crate) objcopy: &'static str,
    /// Debian's packages with these tools and the C library.
    packages: &'static [&'static str],
}

pub(crate) const TRIPLES: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-gnu"];

/// One static binary for any x86-64.
pub(crate) const STATIC: Target =
    Target { triple: TRIPLES[0], compiler: "musl-gcc", objcopy: "objcopy", packages: &["musl-tools"] };

pub(crate) const ARM64: Target = Target {
    triple: TRIPLES[1],
    compiler: "aarch64-linux-gnu-gcc",
    objcopy: "aarch64-linux-gnu-objcopy",
    packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
};

/// The target of that name.
pub(crate) fn named(triple: &str) -> Option<&'static Target> {
    [&STATIC, &ARM64].into_iter().find(|target| target.triple == triple)
}

impl Target {
    /// What cargo and build scripts must be told.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let name = self.triple.replace('-', "_");
        let mut all = vec![(format!("CC_{name}"), self.compiler.to_owned())];
        if self.triple.starts_with("aarch64") {
            let cargo = format!("CARGO_TARGET_{}", name.to_uppercase());
            all.push((format!("{cargo}_LINKER"), self.compiler.to_owned()));
            // The C library inside, as musl's targets have it by themselves.
            all.push((format!("{cargo}_RUSTFLAGS"), "-Ctarget-feature=+crt-static".to_owned()));
            // Pages are of 4, 16 or 64 KiB there, and the allocator must work with the largest.
            all.push(("JEMALLOC_SYS_WITH_LG_PAGE".to_owned(), "16".to_owned()));
        }
        all
    }
}

pub(crate) const IMAGE: Need = Need {
    name: "static target",
    why: "images hold one binary without libraries; a test runs it alone in an empty root directory",
    look: || match missing(&STATIC).as_slice() {
        [] => Found::Present(STATIC.triple.to_owned()),
        parts => Found::Missing(parts.join(" and ")),
    },
    install: || need(&STATIC),
};

/// What building for a target lacks.
pub(crate) fn missing(target: &Target) -> Vec<String> {
    let mut parts = Vec::new();
    if shell::which(target.compiler).is_none() {
        parts.push(format!("{} of the packages {}", target.compiler, target.packages.join(" ")));
    }
    if !has_library(target) {
        parts.push(format!("the standard library for {}", target.triple));
    }
    parts
}

fn has_library(target: &Target) -> bool {
    let sysroot = shell::output(shell::command("rustc", ["--print", "sysroot"]));
    sysroot.is_some_and(|sysroot| Path::new(&sysroot).join("lib/rustlib").join(target.triple).is_dir())
}

/// Installs what building for a target needs and is missing.
pub(crate) fn need(target: &Target) -> Result<()> {
    if shell::which(target.compiler).is_none() {
        eprintln!("setup: missing a C compiler for {}", target.triple);
        debian::update()?;
        debian::install(target.packages)?;
    }
    if !has_library(target) {
        eprintln!("setup: missing the standard library for {}", target.triple);
        let remedy = "rustup could not bring it; with a network, run the command above";
        shell::run(shell::command("rustup", ["target", "add", target.triple])).context(remedy)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{TRIPLES, named};

    #[test]
    fn every_target_tells_build_scripts_its_compiler() {
        for triple in TRIPLES {
            let target = named(triple).expect("a target of that name");
            let name = format!("CC_{}", triple.replace('-', "_"));
            assert!(target.environment().contains(&(name, target.compiler.to_owned())), "{triple}");
        }
    }
}
