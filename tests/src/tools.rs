//! Programs that check what is deployed: a name → where it is.

use std::env;
use std::path::PathBuf;

/// A program in the directory that `SPOOR_TOOLS` names, where `cargo xtask setup` leaves it, or on the path.
pub fn tool(name: &str) -> Option<PathBuf> {
    let more = env::var_os("SPOOR_TOOLS").unwrap_or_default();
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&more)
        .chain(cache.map(|cache| cache.join("spoor/tools/bin")))
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
