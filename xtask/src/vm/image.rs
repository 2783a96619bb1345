//! The guest's file system: the tests' program → a compressed initial RAM file system.
//!
//! It holds the tests, the trap program they watch, the libraries of both, busybox, and an init that runs the tests and
//! switches the machine off.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{arch::Arch, kernels};
use crate::shell;
use crate::test::live::{CAPTURE, PROGRAM};

/// The programs that go into the guest.
pub(crate) struct Tests {
    live: PathBuf,
    trap: PathBuf,
}

/// What busybox is called as.
const APPLETS: &[&str] =
    &["sh", "mount", "ip", "uname", "cat", "poweroff", "sleep", "mkdir", "grep", "sed", "ls"];

/// A busybox that needs no libraries.
pub(crate) fn busybox() -> Option<PathBuf> {
    let busybox = shell::which("busybox")?;
    // Of a dynamic one, the libraries would be named.
    let libraries = libraries(&busybox).ok()?;
    libraries.is_empty().then_some(busybox)
}

/// Compiles the tests and the trap.
pub(crate) fn tests(arch: Arch) -> Result<Tests> {
    let mut build = shell::cargo(["test", "--no-run", "--message-format=json", "--package", "spoor"]);
    build.args(["--package", "spoor-tests", "--test", PROGRAM]);
    if let Some(target) = arch.target() {
        // Statically linked: no library of that processor goes into the guest.
        build.args(["--target", target.triple]).envs(target.environment());
    }
    build.stderr(Stdio::inherit());
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the live-kernel tests do not compile");
    }
    let live = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == PROGRAM)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo names no program of the live-kernel tests")?;
    let trap = directory()?.join("spoor-trap");
    let compiler = arch.target().map_or("cc", |target| target.compiler);
    let mut cc = shell::command(compiler, ["-O1", "-static", "-pthread", "-o"]);
    cc.arg(&trap).arg(shell::root().join("tests/fixtures/kernel/trap.c"));
    shell::run_quietly(cc)?;
    Ok(Tests { live, trap })
}

fn directory() -> Result<PathBuf> {
    let directory = shell::root().join("target/vm");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Builds the file system; the path of its archive.
pub(crate) fn build(arch: Arch, tests: &Tests, filter: Option<&str>) -> Result<PathBuf> {
    let root = directory()?.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    for below in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
        let path = root.join(below);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let busybox = match arch {
        Arch::Amd64 => busybox().context("busybox-static is not there")?,
        other => kernels::busybox(other)?,
    };
    put(&busybox, &root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    put(&tests.trap, &root.join("bin/spoor-trap"))?;
    let live = root.join("bin").join(PROGRAM);
    let objcopy = arch.target().map_or("objcopy", |target| target.objcopy);
    let mut strip = shell::command(objcopy, ["--strip-debug"]);
    strip.arg(&tests.live).arg(&live);
    shell::run_quietly(strip)?;
    if arch.target().is_none() {
        for library in libraries(&tests.live)? {
            let below = library.strip_prefix("/").unwrap_or(&library);
            put(&library, &root.join(below))?;
        }
    }
    let init = root.join("init");
    fs::write(&init, script(filter)).with_context(|| format!("cannot write {}", init.display()))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("cannot make init executable")?;
    let archive = directory()?.join("root.cpio.gz");
    let mut pack = shell::command("sh", ["-c", "find . | cpio -o -H newc --quiet | gzip -1 > \"$0\""]);
    pack.arg(&archive).current_dir(&root);
    shell::run_quietly(pack)?;
    Ok(archive)
}

fn put(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The shared libraries of a program, its loader among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}

/// What the guest does. `RUNG` comes from the kernel's command line; lines that begin with `vm:` are for the host.
///
/// The tests are those of one module whose name contains `filter`. The module alone names no test: where nothing contains
/// `filter`, it keeps the program from taking that for all tests.
fn script(filter: Option<&str>) -> String {
    let filter = filter.unwrap_or_default();
    format!(
        "#!/bin/sh\n\
         export PATH=/bin RUST_BACKTRACE=0 SPOOR_TRAP=/bin/spoor-trap SPOOR_SKIPPED=/tmp/skipped\n\
         export SPOOR_TEST_MAY_SET_CLOCK=1\n\
         mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         ip link set lo up\n\
         echo \"vm: release $(uname -r)\"\n\
         : > /tmp/skipped\n\
         names=$({PROGRAM} --list --format terse {CAPTURE} | sed -n 's/: test$//p' | grep -F -e '{filter}')\n\
         SPOOR_TEST_RUNG=$RUNG {PROGRAM} --test-threads=1 --exact {CAPTURE} $names\n\
         echo \"vm: skipped $(grep -c . /tmp/skipped)\"; cat /tmp/skipped\n\
         poweroff -f\n"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn guest_runs_the_tests_on_the_rung_it_is_given_and_ends() {
        let script = super::script(Some("vectors"));
        assert!(script.contains("capture:: | sed -n 's/: test$//p' | grep -F -e 'vectors')\n"), "{script}");
        assert!(script.contains("SPOOR_TEST_RUNG=$RUNG live --test-threads=1 --exact"), "{script}");
        assert!(script.ends_with("poweroff -f\n"), "{script}");
    }
}
