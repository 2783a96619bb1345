//! The `spoor` command as a user calls it, without an eBPF object if need be: what replay, configuration and doctor need.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The binary: `SPOOR_AGENT` where `cargo xtask test` set it, else built now with the profile of the tests.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(find).clone()
}

fn find() -> PathBuf {
    if let Some(path) = std::env::var_os("SPOOR_AGENT").map(PathBuf::from).filter(|path| path.is_file()) {
        return path;
    }
    // Tests are in `target/<profile>/deps`.
    let this = std::env::current_exe().expect("path of the test");
    let directory = this.parent().and_then(|deps| deps.parent()).expect("target directory");
    let release = directory.ends_with("release");
    let mut build = Command::new(env!("CARGO"));
    // What `cargo xtask build` builds: with other packages, dependencies would have other features and be built again.
    build.args([
        "build",
        "--quiet",
        "--workspace",
        "--exclude",
        "spoor-ebpf",
        "--exclude",
        "xtask",
        "--bins",
        "--test",
        "killed",
    ]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    build.args(release.then_some("--release"));
    let built = build.status().expect("cargo runs");
    assert!(built.success(), "the binary does not build");
    directory.join("spoor")
}

/// The newest statically linked binary that was built; the reason when there is none.
pub fn static_binary() -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = tests.with_file_name("target").join("x86_64-unknown-linux-musl");
    let files = ["release", "debug"].map(|profile| target.join(profile).join("spoor"));
    let newest = files
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
    newest.ok_or_else(|| {
        "no static binary: `cargo xtask build --target x86_64-unknown-linux-musl` makes one".to_owned()
    })
}

/// The command with nothing of this shell's settings in its environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let ours = |name: &str| name.starts_with("SPOOR_") || name.starts_with("OTEL_") || name == "RUST_LOG";
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the command to its end.
pub fn spoor(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let output = command(arguments).envs(environment.iter().copied()).output().expect("the command runs");
    said(output)
}

/// The exit code and the text of a command's output.
pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
