//! `cargo xtask image`: a static binary and `deploy/docker/Dockerfile` → the container image of the DaemonSet.
//!
//! *Owns* which program builds the image and what lies beside the Dockerfile. *Must not know* what the image says of
//! itself: that is the Dockerfile's.
//! *Spec*: OCI image specification 1.1, predefined annotation keys; System V ABI, ELF header and program header.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Architecture, Endianness, Object, elf};

use crate::setup::targets::{self, Target};
use crate::{build, shell};

/// Build the container image: one static binary and the certificates of public authorities; print its name.
///
/// Needs buildah, podman or docker, but no base image and no network: the binary is built here, as by
/// `cargo xtask build --release --target T`. The same binary and commit give the same image, whenever it is built (by
/// buildah and podman). Nothing is pushed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine it is for; without it, this one.
    #[arg(long, value_name = "TRIPLE", value_parser = targets::TRIPLES, conflicts_with = "binary")]
    target: Option<String>,
    /// Put this static binary into the image instead of building one; the image is for the machine it is for.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Name of the image; without it, localhost/spoor:VERSION.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// Write the image to this file, too, for `docker load`, `ctr images import` or `kind load image-archive`.
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// The program that builds it; without it, the first of these that is on the path.
    #[arg(long, value_name = "PROGRAM", value_parser = BUILDERS)]
    builder: Option<String>,
}

const BUILDERS: [&str; 3] = ["buildah", "podman", "docker"];
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(crate) fn run(args: &Args) -> Result<()> {
    let builder = match &args.builder {
        Some(builder) => builder.as_str(),
        None => BUILDERS
            .into_iter()
            .find(|builder| shell::which(builder).is_some())
            .context("no program that builds images is here: install buildah, podman or docker")?,
    };
    // Programs are started in the workspace's directory.
    let here =
        |path: &Path| absolute(path).with_context(|| format!("cannot tell where {} is", path.display()));
    let binary = match &args.binary {
        Some(binary) => here(binary)?,
        None => {
            let this = if cfg!(target_arch = "aarch64") { &targets::ARM64 } else { &targets::STATIC };
            build::build_for(args.target.as_deref().and_then(targets::named).unwrap_or(this), true)?
        }
    };
    let tag = args.tag.clone().unwrap_or_else(|| format!("localhost/spoor:{}", env!("CARGO_PKG_VERSION")));
    let files = Files::gather(&binary)?;
    shell::run_quietly(files.build(builder, &tag))?;
    if let Some(archive) = &args.archive {
        shell::run_quietly(save(builder, &tag, &here(archive)?))?;
    }
    println!("{tag}");
    Ok(())
}

/// What the Dockerfile copies, in a directory that is removed afterwards.
struct Files {
    directory: PathBuf,
    platform: &'static str,
}

impl Files {
    fn gather(binary: &Path) -> Result<Self> {
        let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
        let (target, platform) = machine(&bytes).with_context(|| format!("{}", binary.display()))?;
        let directory = shell::root().join(format!("target/image/{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let files = Self { directory, platform };
        // Debug information is half of the binary.
        let mut strip = shell::command(target.objcopy, ["--strip-debug"]);
        strip.arg(binary).arg(files.path("spoor"));
        shell::run_quietly(strip)?;
        let missing = format!("cannot copy {CERTIFICATES}: install the package ca-certificates");
        fs::copy(CERTIFICATES, files.path("ca-certificates.crt")).context(missing)?;
        for (name, mode) in [("spoor", 0o755), ("ca-certificates.crt", 0o644)] {
            // Whatever the umask is.
            fs::set_permissions(files.path(name), fs::Permissions::from_mode(mode))
                .with_context(|| format!("cannot change {name}"))?;
        }
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn build(&self, builder: &str, tag: &str) -> Command {
        let mut build = shell::command(builder, ["build", "--file", "deploy/docker/Dockerfile"]);
        build.args(["--target", "prebuilt", "--platform", self.platform, "--tag", tag]);
        let date = shell::source_date();
        if builder == "docker" {
            build.env("SOURCE_DATE_EPOCH", date);
        } else {
            build.args(["--timestamp", &date]);
        }
        build.arg("--build-arg").arg(concat!("VERSION=", env!("CARGO_PKG_VERSION")));
        if let Some(revision) = revision() {
            build.arg("--build-arg").arg(format!("REVISION={revision}"));
        }
        build.arg(&self.directory);
        build
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("warning: {} could not be removed: {error}", self.directory.display());
        }
    }
}

/// The target that a binary was built for, and what images call it. One that needs a loader would find none there.
fn machine(binary: &[u8]) -> Result<(&'static Target, &'static str)> {
    let elf = ElfFile64::<Endianness>::parse(binary).context("this is no 64-bit ELF file")?;
    let needs_loader =
        elf.elf_program_headers().iter().any(|header| header.p_type(elf.endian()) == elf::PT_INTERP);
    if needs_loader {
        bail!(
            "it needs libraries that the image does not have; `cargo xtask build --target T` makes a static one"
        );
    }
    match elf.architecture() {
        Architecture::X86_64 => Ok((&targets::STATIC, "linux/amd64")),
        Architecture::Aarch64 => Ok((&targets::ARM64, "linux/arm64")),
        other => bail!("it is for {other:?}, which Spoor does not run on"),
    }
}

/// The commit, and whether there is more than that in the tree.
fn revision() -> Option<String> {
    let describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"];
    shell::output(shell::command("git", describe))
}

fn save(builder: &str, tag: &str, archive: &Path) -> Command {
    match builder {
        "buildah" => {
            let mut push = shell::command(builder, ["push", tag]);
            push.arg(format!("docker-archive:{}:{tag}", archive.display()));
            push
        }
        _ => {
            let mut save = shell::command(builder, ["save", "--output"]);
            save.arg(archive).arg(tag);
            save
        }
    }
}

#[cfg(test)]
mod tests {
    use super::machine;

    /// The head of an ELF file for `machine` with one program header of `kind`.
    fn elf(machine: u16, kind: u32) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(3_u16.to_le_bytes());
        file.extend(machine.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        for offset in [0_u64, 64, 0] {
            file.extend(offset.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        for size in [64_u16, 56, 1, 64, 0, 0] {
            file.extend(size.to_le_bytes());
        }
        file.extend(kind.to_le_bytes());
        file.extend([0; 52]);
        file
    }

    #[test]
    fn an_image_is_for_the_machine_of_its_binary_which_brings_all_it_needs() {
        let platform = |binary: &[u8]| match machine(binary) {
            Ok((target, platform)) => format!("{} {platform}", target.triple),
            Err(error) => error.to_string(),
        };
        for (binary, expected) in [
            (elf(62, 1), "x86_64-unknown-linux-musl linux/amd64"),
            (elf(183, 1), "aarch64-unknown-linux-gnu linux/arm64"),
            (elf(62, 3), "it needs libraries that the image does not have"),
            (elf(243, 1), "it is for Riscv64"),
            (b"#!/bin/sh\n".to_vec(), "this is no 64-bit ELF file"),
        ] {
            assert!(platform(&binary).starts_with(expected), "{} is not {expected}", platform(&binary));
        }
    }
}
