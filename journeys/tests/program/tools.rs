//! Programs that `cargo xtask setup` brings, and what is said where they are not.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// Where `cargo xtask setup` keeps what it brings.
pub(crate) fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.map(|cache| cache.join("spoor"))
}

/// A program that was brought, or of the path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let brought = cache().map(|cache| cache.join("tools/bin").join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    brought
        .into_iter()
        .chain(std::env::split_paths(&path).map(|folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// Says why something is skipped and counts it, as the harness of the live tests does.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    if let Some(path) = std::env::var_os("SPOOR_SKIPPED") {
        let file = fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| writeln!(file, "{test}\t{reason}")).expect("a skip is counted");
    }
}
