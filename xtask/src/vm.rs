//! `cargo xtask vm`: the live-kernel tests on older kernels, on every rung of the hook ladder that each offers.
//!
//! *Owns* which kernels and rungs; where kernels come from is in `kernels`, the guest's file system in `image`, and
//! running it in `guest`.

mod guest;
mod image;
mod kernels;

use anyhow::{Result, bail};

use crate::setup::{Found, Need, debian};
use crate::{build, shell};

/// Run the live-kernel tests on Debian's 6.1 and 6.12 kernels in QEMU, on every rung of the hook ladder.
///
/// QEMU emulates the processor in software, so this needs no virtualisation, and takes a few minutes. Kernels are
/// fetched once, by apt and with its signatures checked, and kept in ~/.cache/spoor. Needs root, to install QEMU where it
/// is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this kernel.
    #[arg(long, value_parser = kernels::NAMES)]
    kernel: Option<String>,
    /// Only this rung.
    #[arg(long, value_parser = ["A", "B", "C", "D"], ignore_case = true)]
    rung: Option<String>,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

const NEED: Need = Need {
    name: "virtual machine",
    why: "boots older kernels",
    look: || match missing().as_slice() {
        [] => Found::Present("QEMU, busybox, cpio".to_owned()),
        packages => Found::Missing(format!("the packages {}", packages.join(" "))),
    },
    install: || {
        debian::update()?;
        debian::install(&missing())
    },
};

fn missing() -> Vec<&'static str> {
    let wanted = [
        ("qemu-system-x86", shell::which("qemu-system-x86_64").is_some()),
        ("busybox-static", image::busybox().is_some()),
        ("cpio", shell::which("cpio").is_some()),
    ];
    wanted.into_iter().filter(|(_, there)| !there).map(|(package, _)| package).collect()
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the guests are x86-64: run this on an x86-64 machine");
    }
    if let Found::Missing(what) = (NEED.look)() {
        println!("vm: missing {what} ({})", NEED.why);
        shell::timed(&format!("vm: installing the {}", NEED.name), NEED.install)?;
    }
    build::build(false)?;
    let tests = image::tests()?;
    let mut failed = 0;
    for kernel in kernels::KERNELS {
        if args.kernel.as_deref().is_some_and(|wanted| wanted != kernel.name) {
            continue;
        }
        let wanted = |rung: &&&str| args.rung.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(rung));
        let rungs: Vec<&str> = kernel.rungs.iter().filter(wanted).copied().collect();
        if rungs.is_empty() {
            println!("vm: kernel {} does not offer that rung", kernel.name);
            continue;
        }
        let image = shell::timed(&format!("vm: kernel {}", kernel.name), || kernels::fetch(kernel))?;
        let root = image::build(&tests, &rungs, args.filter.as_deref())?;
        let report = shell::timed(&format!("vm: guest with kernel {}", kernel.name), || {
            guest::run(&image, &root, kernel.name)
        })?;
        for rung in &rungs {
            match report.of(rung) {
                Some(outcome) => {
                    println!(
                        "vm: kernel {} ({}), rung {rung}: {} passed, {} failed, {} skipped",
                        kernel.name, report.release, outcome.passed, outcome.failed, outcome.skipped
                    );
                    failed += outcome.failed;
                    if outcome.passed == 0 {
                        println!("vm: rung {rung} was not used at all");
                        failed += 1;
                    }
                }
                None => {
                    println!("vm: kernel {}, rung {rung}: the guest ended before", kernel.name);
                    failed += 1;
                }
            }
        }
    }
    if failed > 0 {
        bail!("{failed} failures; the guests' output is above");
    }
    Ok(())
}
