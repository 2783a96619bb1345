//! Files and folders that nobody but the server's own user reads.
//!
//! Commands may be run by root beside a server that has a user of its own: what they make belongs to whom the folder around
//! it belongs to, so that the server can use it. No link is followed on the way: whoever has the folder could name any file
//! of the machine by one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::OFlags;

/// Makes a folder with those above it; one that is there already stays as its owner made it.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        folder(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    adopt(path)
}

/// How to open a file; one that is made by it is its owner's alone.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(no_link());
    options
}

fn no_link() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// Makes the file if it is not there, and its owner's alone if others could read it.
pub(crate) fn file(path: &Path) -> io::Result<File> {
    let file = options().append(true).create(true).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    give(&file, path);
    Ok(file)
}

/// Makes an empty file, whatever was there.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = options().write(true).create(true).truncate(true).open(path)?;
    give(&file, path);
    Ok(file)
}

/// Copies a file to where there is none; the copy is its owner's alone, whoever could read the original. A link, a pipe or
/// anything else that is no file is an error.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // Whoever swaps the file for a pipe in between keeps nobody waiting.
    let flags = no_link() | OFlags::NONBLOCK.bits().cast_signed();
    let mut source = OpenOptions::new().read(true).custom_flags(flags).open(from)?;
    if !source.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut copy = options().write(true).create_new(true).open(to)?;
    give(&copy, to);
    io::copy(&mut source, &mut copy)?;
    copy.sync_all()
}

/// Gives a file or folder to whom the folder around it belongs. Only root can; for others both are their own already, or
/// stay as they are.
pub(crate) fn adopt(path: &Path) -> io::Result<()> {
    give(&OpenOptions::new().read(true).custom_flags(no_link()).open(path)?, path);
    Ok(())
}

fn give(file: &File, path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(own), Ok(around)) = (file.metadata(), fs::metadata(parent))
        && (own.uid(), own.gid()) != (around.uid(), around.gid())
    {
        let _ = fchown(file, Some(around.uid()), Some(around.gid()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn no_link_is_followed() {
        let outer = tempfile::tempdir().expect("a folder");
        let (other, link) = (outer.path().join("other"), outer.path().join("link"));
        fs::write(&other, "of somebody else").expect("a file");
        symlink(&other, &link).expect("a link");
        assert!(file(&link).is_err() && create(&link).is_err() && adopt(&link).is_err());
        assert_eq!(fs::read_to_string(&other).expect("a file"), "of somebody else");
    }

    #[test]
    fn a_copy_is_of_a_file_and_its_owners_alone() {
        let outer = tempfile::tempdir().expect("a folder");
        let path = |name: &str| outer.path().join(name);
        fs::write(path("file"), "content").expect("a file");
        fs::set_permissions(path("file"), fs::Permissions::from_mode(0o644)).expect("a mode");
        symlink(path("file"), path("link")).expect("a link");
        copy(&path("file"), &path("copy")).expect("copied");
        assert_eq!(fs::read_to_string(path("copy")).expect("a file"), "content");
        assert_eq!(fs::metadata(path("copy")).expect("there").mode() & 0o777, 0o600);
        assert!(copy(&path("link"), &path("other")).is_err());
        assert!(copy(outer.path(), &path("other")).is_err());
        assert!(copy(&path("file"), &path("copy")).is_err(), "nothing is written over");
        assert!(!path("other").exists());
    }

    #[test]
    fn what_root_makes_belongs_to_the_servers_user() {
        let outer = tempfile::tempdir().expect("a folder");
        let data = outer.path().join("data");
        folder(&data).expect("a folder");
        if chown(&data, Some(12_345), Some(12_346)).is_err() {
            eprintln!("skipped what_root_makes_belongs_to_the_servers_user: only root gives files away");
            return;
        }
        folder(&data.join("a/b")).expect("folders");
        file(&data.join("a/b/file")).expect("a file");
        create(&data.join("a/b/new")).expect("a file");
        fs::write(data.join("copy"), "").expect("a file");
        adopt(&data.join("copy")).expect("given");
        for name in ["a", "a/b", "a/b/file", "a/b/new", "copy"] {
            let found = fs::metadata(data.join(name)).expect("there");
            assert_eq!((found.uid(), found.gid()), (12_345, 12_346), "{name}");
            if name != "copy" {
                assert_eq!(found.mode() & 0o077, 0, "{name}");
            }
        }
    }
}
