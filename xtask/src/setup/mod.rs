//! `cargo xtask setup`: looks for what build, tests and demo need, and installs what is missing.
//!
//! Every step looks first, so a second run changes nothing and needs no network.

pub(crate) mod debian;
pub(crate) mod node;
pub(crate) mod python;
pub(crate) mod targets;
pub(crate) mod toolchain;
pub(crate) mod tools;

use anyhow::{Result, bail};

use crate::shell;

/// Install what building, testing and the demo need; say what and why. Does nothing where all is there.
///
/// The eBPF toolchain (a nightly compiler with rust-src, LLVM, bpf-linker) goes where rustup and cargo put it.
/// Servers and client libraries for tests and demo are Debian packages; none of them is started, the tests run
/// private ones on loopback. The Node.js client libraries go to ~/.cache/spoor, and so do the programs that check what is
/// deployed (promtool, helm, kubectl, kubernetes-validate) and what drives a browser over the pages of spoor-serve. buildah
/// and runc, which build and run the container image, and chromium are Debian packages, too. The stacks of the field that
/// `cargo xtask stacks` runs are Debian packages, and libraries of Python and Node.js in ~/.cache/spoor.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing; fail when something is.
    #[arg(long)]
    dry_run: bool,
    /// Only what building needs.
    #[arg(long)]
    build: bool,
}

/// One thing that must be there.
pub(crate) struct Need {
    /// What it is called in messages.
    pub(crate) name: &'static str,
    /// What it is needed for, as a clause.
    pub(crate) why: &'static str,
    /// What is there (its version or place), or what is missing.
    pub(crate) look: fn() -> Found,
    /// Brings it here.
    pub(crate) install: fn() -> Result<()>,
}

/// What a look found.
pub(crate) enum Found {
    Present(String),
    Missing(String),
}

/// What the eBPF build needs.
pub(crate) const BUILD: &[Need] = &[toolchain::NIGHTLY, toolchain::BPF_LINKER];
/// What the demo and the end-to-end tests need beyond that.
pub(crate) const SERVICES: &[Need] = &[debian::PACKAGES, node::MODULES];

/// What some tests can do without: they say what they skip.
pub(crate) const OPTIONAL: &[Need] = &[
    tools::TOOLS,
    targets::IMAGE,
    debian::CONTAINERS,
    debian::CHROMIUM,
    node::BROWSER,
    debian::STACKS,
    python::STACKS,
    node::STACKS,
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut missing = 0;
    let others: &[&[Need]] = if args.build { &[] } else { &[SERVICES, OPTIONAL] };
    let needs: Vec<&Need> = BUILD.iter().chain(others.iter().copied().flatten()).collect();
    for need in &needs {
        let is_optional = OPTIONAL.iter().any(|optional| optional.name == need.name);
        let what = match (need.look)() {
            Found::Present(what) => {
                eprintln!("setup: {}: {what}", need.name);
                continue;
            }
            Found::Missing(what) => what,
        };
        eprintln!("setup: {}: missing {what} ({})", need.name, need.why);
        missing += u32::from(!is_optional);
        if args.dry_run {
            continue;
        }
        let installed = shell::timed(&format!("setup: installing the {}", need.name), need.install);
        if let (Err(error), true) = (&installed, is_optional) {
            eprintln!("setup: {}: not here, some tests are skipped: {error:#}", need.name);
            continue;
        }
        installed?;
        match (need.look)() {
            Found::Present(what) => eprintln!("setup: {}: installed, {what}", need.name),
            Found::Missing(what) => bail!("{} was installed, but {what} is still missing", need.name),
        }
    }
    if args.dry_run && missing > 0 {
        bail!("{missing} of {} needs are missing: run `cargo xtask setup`", needs.len());
    }
    eprintln!("setup: done");
    Ok(())
}

/// What of `needs` is missing, as sentences.
pub(crate) fn missing(needs: &[Need]) -> Vec<String> {
    let look = |need: &Need| match (need.look)() {
        Found::Present(_) => None,
        Found::Missing(what) => Some(format!("{}: missing {what}", need.name)),
    };
    needs.iter().filter_map(look).collect()
}
