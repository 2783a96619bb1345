//! `cargo xtask vm`: the live-kernel tests on older kernels, on every rung of the hook ladder that each offers.
//!
//! *Owns* which kernels and rungs; where kernels come from is in `kernels`, the guest's file system in `image`, and
//! running it in `guest`.

mod arch;
mod guest;
mod image;
mod kernels;

use anyhow::{Result, bail};

use self::arch::Arch;
use crate::setup::{debian, targets};
use crate::{build, shell};

/// Run the live-kernel tests on Debian's 6.1 and 6.12 kernels in QEMU, on every rung of the hook ladder.
///
/// With `--arch arm64` the guests are arm64: the tests are then cross-compiled, statically linked, which takes several
/// minutes the first time. QEMU emulates the processor in software, so this needs no virtualisation; a rung takes about a
/// minute. Kernels are fetched once, by apt and with its signatures checked, and kept in ~/.cache/spoor. Needs root, to
/// install QEMU where it is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this kernel.
    #[arg(long, value_parser = kernels::NAMES)]
    kernel: Option<String>,
    /// Processor of the guests.
    #[arg(long, value_enum, default_value_t)]
    arch: Arch,
    /// Only this rung.
    #[arg(long, value_parser = ["A", "B", "C", "D"], ignore_case = true)]
    rung: Option<String>,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Debian's packages that are missing for guests of that kind.
fn missing(arch: Arch) -> Vec<&'static str> {
    let wanted = [
        (arch.qemu_package(), shell::which(arch.qemu()).is_some()),
        ("busybox-static", arch != Arch::Amd64 || image::busybox().is_some()),
        ("cpio", shell::which("cpio").is_some()),
    ];
    wanted.into_iter().filter(|(_, there)| !there).map(|(package, _)| package).collect()
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the guests' programs are built on x86-64: run this on an x86-64 machine");
    }
    let arch = args.arch;
    let packages = missing(arch);
    if !packages.is_empty() {
        println!("vm: missing the packages {} (boots other kernels)", packages.join(" "));
        shell::timed("vm: installing the virtual machine", || {
            debian::update()?;
            debian::install(&packages)
        })?;
    }
    build::objects()?;
    if let Some(target) = arch.target() {
        targets::need(target)?;
    }
    let root = image::build(arch, &image::tests(arch)?, args.filter.as_deref())?;
    let mut failed = 0;
    for kernel in kernels::KERNELS {
        if args.kernel.as_deref().is_some_and(|wanted| wanted != kernel.name) {
            continue;
        }
        let wanted = |rung: &&&str| args.rung.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(rung));
        let rungs: Vec<&str> = kernel.rungs(arch).iter().filter(wanted).copied().collect();
        if rungs.is_empty() {
            println!("vm: kernel {} ({arch}) does not offer that rung", kernel.name);
            continue;
        }
        let image = shell::timed(&format!("vm: kernel {}", kernel.name), || kernels::fetch(kernel, arch))?;
        for rung in rungs {
            let what = format!("vm: kernel {} ({arch}), rung {rung}", kernel.name);
            let report = shell::timed(&what, || guest::run(arch, &image, &root, rung))?;
            let Some(outcome) = report.outcome else {
                println!("{what} ({}): the guest ended before the tests did", report.release);
                failed += 1;
                continue;
            };
            println!(
                "{what} ({}): {} passed, {} failed, {} skipped",
                report.release, outcome.passed, outcome.failed, outcome.skipped
            );
            failed += outcome.failed;
            // A rung that does not load makes its tests skip.
            if outcome.passed == 0 {
                println!("{what}: not one test has run");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} failures; the guests' output is above");
    }
    Ok(())
}
