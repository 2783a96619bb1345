//! Running other programs: a command → its success, output or a sentence about its failure.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The workspace's directory.
pub(crate) fn root() -> PathBuf {
    let manifest = env!("CARGO_MANIFEST_DIR");
    Path::new(manifest).parent().unwrap_or_else(|| Path::new(manifest)).to_path_buf()
}

/// What is fetched once and kept: `~/.cache/spoor`.
pub(crate) fn cache() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(cache.context("there is no home directory")?.join("spoor"))
}

/// `program` with `args`, in the workspace's directory.
pub(crate) fn command<I, S>(program: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// The cargo that started this program, with `args`.
pub(crate) fn cargo<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(&cargo, args);
    // What cargo has set for this program would look like a change to build scripts that watch it, and rebuild
    // half the dependencies each time that cargo is called directly in between.
    for (name, _) in env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if is_ours {
            command.env_remove(name);
        }
    }
    command
}

/// `cargo` of another toolchain. What the cargo that runs this has set for its own one is taken away: toolchain,
/// compiler, flags.
pub(crate) fn cargo_of<I, S>(toolchain: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = command("rustup", ["run", toolchain, "cargo"]);
    command.args(args);
    for name in [
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTC",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(name);
    }
    command
}

/// Says what is run, runs it with its output shown, and fails when it does.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs one step of a command and says how long it took, also when it failed.
pub(crate) fn timed<T>(step: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let outcome = run();
    let verdict = if outcome.is_ok() { "done" } else { "failed" };
    // Beside the commands, not among what a command is asked for, such as the path that `build` prints.
    eprintln!("{step} {verdict}, {:.1} s", start.elapsed().as_secs_f64());
    outcome
}

/// Runs it quietly; its standard output without surrounding white space, when it succeeds.
pub(crate) fn output(mut command: Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The time of the last commit, Unix seconds: no clock decides what is in a package or an image.
pub(crate) fn source_date() -> String {
    output(command("git", ["log", "-1", "--format=%ct"])).unwrap_or_else(|| "0".to_owned())
}

/// Runs it with its output kept back: shown only when it fails.
pub(crate) fn run_quietly(command: Command) -> Result<()> {
    run_for_errors(command).map(drop)
}

/// As [`run_quietly`]; what it wrote to standard error.
pub(crate) fn run_for_errors(mut command: Command) -> Result<String> {
    let shown = show(&command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let tail: Vec<&str> = text.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("`{shown}` failed ({}):\n{}", output.status, tail.join("\n"));
    }
    Ok(text)
}

/// Where `program` is on the path.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Servers live in `sbin`, which is not on everybody's path.
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs as root, by the kernel's own account.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().is_ok_and(|meta| meta.uid() == 0)
}

/// The command as one would type it.
fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}
