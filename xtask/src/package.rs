//! `cargo xtask package`: the agent's binary and the files of `deploy/` → a Debian package.
//!
//! *Owns* what is in the package and where. *Must not know* how the agent is built: that is `build`.
//! *Spec*: Debian Policy 4.6; deb-control(5), deb-conffiles(5).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, shell};

/// Build a Debian package: the binary, its configuration, unit, manual pages and completions; print its path.
///
/// Needs dpkg-deb and gzip, which every Debian has, and no privileges.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Package this binary instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the package goes; without it, target/package.
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

const CONTROL: &str = "\
Package: spoor
Version: {version}
Architecture: {architecture}
Maintainer: Spoor developers <spoor@localhost>
Installed-Size: {size}
Depends: libc6 (>= 2.34)
Recommends: ca-certificates
Section: admin
Priority: optional
Description: zero-code tracer: one trace per business order
 An eBPF agent reads the HTTP, AMQP and PostgreSQL traffic that crosses the
 kernel's sockets, rebuilds each request, message and statement as an
 OpenTelemetry span, and joins the spans of one business order into one trace.
 Nothing in a traced program changes.
";

/// Configuration that an upgrade does not overwrite.
const CONFFILES: [&str; 2] = ["/etc/spoor/spoor.yaml", "/etc/default/spoor"];

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::build(true)?,
    };
    let root = shell::root();
    let output = args.output.clone().unwrap_or_else(|| root.join("target/package"));
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let stage = output.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot clear {}", stage.display()))?;
    }
    let package = Stage { root, stage, binary };
    package.files()?;
    let path = package.pack(&output)?;
    println!("{}", path.display());
    Ok(())
}

struct Stage {
    root: PathBuf,
    stage: PathBuf,
    binary: PathBuf,
}

impl Stage {
    fn files(&self) -> Result<()> {
        self.copy(&self.binary, "usr/bin/spoor", 0o755)?;
        // Debug information is half of the binary.
        shell::run_quietly(command("strip", ["--strip-debug"], &[&self.stage.join("usr/bin/spoor")]))?;
        for (from, to, mode) in [
            ("deploy/systemd/spoor.service", "usr/lib/systemd/system/spoor.service", 0o644),
            ("deploy/debian/spoor.yaml", "etc/spoor/spoor.yaml", 0o644),
            ("deploy/debian/default", "etc/default/spoor", 0o644),
            ("deploy/alerting/spoor.rules.yaml", "usr/share/spoor/alerting/spoor.rules.yaml", 0o644),
            ("deploy/collector/agent.yaml", "usr/share/spoor/collector/agent.yaml", 0o644),
            ("deploy/collector/gateway.yaml", "usr/share/spoor/collector/gateway.yaml", 0o644),
            ("deploy/debian/copyright", "usr/share/doc/spoor/copyright", 0o644),
        ] {
            self.copy(&self.root.join(from), to, mode)?;
        }
        // As they stand in the workspace, so that links from page to page lead on.
        for page in pages(&self.root)? {
            self.copy(&self.root.join(&page), &format!("usr/share/doc/spoor/{page}"), 0o644)?;
        }
        self.write("usr/share/doc/spoor/default.yaml", &self.said(&["config", "default"])?, 0o644)?;
        self.compress("usr/share/doc/spoor/changelog.gz", &changelog())?;
        for (shell, to) in [
            ("bash", "usr/share/bash-completion/completions/spoor"),
            ("zsh", "usr/share/zsh/vendor-completions/_spoor"),
            ("fish", "usr/share/fish/vendor_completions.d/spoor.fish"),
        ] {
            self.write(to, &self.said(&["completions", shell])?, 0o644)?;
        }
        self.compress("usr/share/man/man1/spoor.1.gz", &self.said(&["man"])?)?;
        for name in ["run", "record", "replay", "doctor", "config"] {
            self.compress(&format!("usr/share/man/man1/spoor-{name}.1.gz"), &self.said(&["man", name])?)?;
        }
        Ok(())
    }

    fn pack(&self, output: &Path) -> Result<PathBuf> {
        let version = env!("CARGO_PKG_VERSION");
        let architecture = shell::output(command("dpkg", ["--print-architecture"], &[]))
            .context("dpkg does not say what architecture this is")?;
        let size = size(&self.stage)?.div_ceil(1024).to_string();
        let control = CONTROL
            .replace("{version}", version)
            .replace("{architecture}", &architecture)
            .replace("{size}", &size);
        self.write("DEBIAN/control", &control, 0o644)?;
        self.write("DEBIAN/conffiles", &(CONFFILES.join("\n") + "\n"), 0o644)?;
        for script in ["postinst", "prerm", "postrm"] {
            self.copy(&self.root.join("deploy/debian").join(script), &format!("DEBIAN/{script}"), 0o755)?;
        }
        let path = output.join(format!("spoor_{version}_{architecture}.deb"));
        // The same files give the same package.
        let mut pack = command("dpkg-deb", ["--root-owner-group", "--build"], &[&self.stage, &path]);
        pack.env("SOURCE_DATE_EPOCH", shell::source_date());
        shell::run_quietly(pack)?;
        fs::remove_dir_all(&self.stage).with_context(|| format!("cannot remove {}", self.stage.display()))?;
        Ok(path)
    }

    /// What the packaged binary itself prints.
    fn said(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        if !output.status.success() {
            bail!("`spoor {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        String::from_utf8(output.stdout).context("it printed no text")
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.place(to, &bytes, mode)
    }

    fn write(&self, to: &str, text: &str, mode: u32) -> Result<()> {
        self.place(to, text.as_bytes(), mode)
    }

    /// `to` ends in `.gz`.
    fn compress(&self, to: &str, text: &str) -> Result<()> {
        let plain = to.trim_end_matches(".gz");
        self.write(plain, text, 0o644)?;
        shell::run_quietly(command("gzip", ["-9", "--no-name", "--force"], &[&self.stage.join(plain)]))
            .map(drop)
    }

    fn place(&self, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.stage.join(to);
        let failed = || format!("cannot write {}", path.display());
        // Whatever the umask is: dpkg wants 755.
        let mut directory = self.stage.clone();
        for part in Path::new(to).parent().into_iter().flat_map(Path::iter) {
            directory.push(part);
            fs::create_dir_all(&directory).with_context(failed)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).with_context(failed)?;
        }
        fs::set_permissions(&self.stage, fs::Permissions::from_mode(0o755)).with_context(failed)?;
        fs::write(&path, bytes).with_context(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(failed)
    }
}

fn command<const N: usize>(program: &str, options: [&str; N], paths: &[&Path]) -> Command {
    let mut command = shell::command(program, options);
    command.args(paths);
    command
}

fn size(directory: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        total += if kind.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(total)
}

/// The pages for people, relative to the workspace.
fn pages(root: &Path) -> Result<Vec<String>> {
    let mut pages = ["README.md", "agent/CHANGELOG.md", "deploy/README.md"].map(str::to_owned).to_vec();
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root.join(&folder)).with_context(|| format!("cannot read {folder}"))?;
        for entry in entries {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() { folders.push(path) } else { pages.push(path) }
        }
    }
    Ok(pages)
}

fn changelog() -> String {
    let date = shell::output(shell::command("git", ["log", "-1", "--format=%cD"]));
    let date = date.unwrap_or_else(|| "Thu, 01 Jan 1970 00:00:00 +0000".to_owned());
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "spoor ({version}) unstable; urgency=medium\n\n  * See agent/CHANGELOG.md beside this file.\n\n -- Spoor developers <spoor@localhost>  {date}\n"
    )
}
