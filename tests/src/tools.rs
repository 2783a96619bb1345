//! Programs and libraries that `cargo xtask setup` brings, or the system has: a name → where it is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A program in the directory that `SPOOR_TOOLS` names, where `cargo xtask setup` leaves it, or of the system.
pub fn tool(name: &str) -> Option<PathBuf> {
    let more = env::var_os("SPOOR_TOOLS").unwrap_or_default();
    let left = env::split_paths(&more).chain(cache().map(|cache| cache.join("tools/bin")));
    left.map(|directory| directory.join(name)).find(|file| file.is_file()).or_else(|| program(name))
}

/// A program of the system; servers live in `sbin`, which is not on everybody's path.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(servers).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The modules of Node.js that were installed by this very lock file.
pub fn node_modules(lock: &Path) -> Option<PathBuf> {
    Some(installed(lock, "node_modules/.package-lock.json")?.join("node_modules"))
}

/// The folder that `cargo xtask setup` filled by this very list; `witness` is in it when that is done.
pub fn installed(list: &Path, witness: &str) -> Option<PathBuf> {
    let (wanted, name) = (fs::read(list).ok()?, list.file_name()?);
    let folders = fs::read_dir(cache()?).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders = folders.filter(|folder| {
        folder.join(witness).is_file() && fs::read(folder.join(name)).is_ok_and(|other| other == wanted)
    });
    folders.next()
}

/// `~/.cache/spoor`.
fn cache() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    Some(cache.or_else(|| env::home_dir().map(|home| home.join(".cache")))?.join("spoor"))
}
