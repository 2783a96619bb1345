//! A directory's path → the directory, opened so that nobody but root and the agent's user chose which one it is.
//!
//! Every step of the path is looked at after it was opened, never before. A directory in which others may make names is passed
//! only when it is sticky (`/tmp`): there they can add names, but not take away the agent's.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{FileError, OTHERS_MAY_WRITE, OWN_DIRECTORY, kind, own};

/// Links on the way, as many as the kernel follows.
const MAX_LINKS: u32 = 40;
/// In such a directory only its owner may take a name away.
const STICKY: u32 = 0o1000;

/// How to open a directory, or whatever stands in its place, without doing anything to it.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory of the agent's own. Missing ones on the way are made, for its user only, if `create`.
pub(super) fn open(path: &Path, create: bool) -> Result<OwnedFd, FileError> {
    let io = FileError::io;
    let whole = std::path::absolute(path).map_err(|source| FileError::Io {
        what: "open directory",
        path: path.to_owned(),
        source,
    })?;
    let mut left: VecDeque<OsString> = parts(&whole).collect();
    let mut shown = PathBuf::from("/");
    let mut at = root().map_err(io("open directory", &shown))?;
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        let name = shown.join(&part);
        let next = match rustix::fs::openat(&at, &part, LOOK, Mode::empty()) {
            Err(Errno::NOENT) if create => {
                match rustix::fs::mkdirat(&at, &part, OWN_DIRECTORY) {
                    // Somebody else was faster: it is looked at like any other.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(io("create directory", &name)(errno)),
                }
                rustix::fs::openat(&at, &part, LOOK, Mode::empty())
            }
            opened => opened,
        };
        let next = next.map_err(io("open directory", &name))?;
        let stat = rustix::fs::fstat(&next).map_err(io("look at", &name))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                passed(&stat, &name)?;
                (at, shown) = (next, name);
            }
            FileType::Symlink => {
                owned_by_us_or_root(&stat, &name)?;
                links += 1;
                if links > MAX_LINKS {
                    return Err(io("open directory", path)(Errno::LOOP));
                }
                // An empty name: the link that is open, not one that took its place.
                let target = rustix::fs::readlinkat(&next, "", Vec::new()).map_err(io("read", &name))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    shown = PathBuf::from("/");
                    at = root().map_err(io("open directory", &shown))?;
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(part);
                }
            }
            other => {
                return Err(FileError::Kind { path: name, found: kind(other), wanted: "a directory" });
            }
        }
    }
    // To list it and to make names in it, which a descriptor that only looks cannot.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&at, ".", flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(errno) => {
            // Whose it is says what helps; `EACCES` does not.
            own(&rustix::fs::fstat(&at).map_err(io("look at", path))?, path)?;
            return Err(io("open directory", path)(errno));
        }
    };
    let stat = rustix::fs::fstat(&opened).map_err(io("look at", path))?;
    own(&stat, path)?;
    Ok(opened)
}

fn root() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/", LOOK | OFlags::DIRECTORY, Mode::empty())
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Nobody else can have put the next name of the path there in the place of ours.
fn passed(stat: &Stat, name: &Path) -> Result<(), FileError> {
    owned_by_us_or_root(stat, name)?;
    let mode = stat.st_mode & 0o7777;
    if mode & OTHERS_MAY_WRITE != 0 && mode & STICKY == 0 {
        return Err(FileError::Writable { path: name.to_owned(), mode });
    }
    Ok(())
}

fn owned_by_us_or_root(stat: &Stat, name: &Path) -> Result<(), FileError> {
    let own = rustix::process::geteuid().as_raw();
    match stat.st_uid == 0 || stat.st_uid == own {
        true => Ok(()),
        false => Err(FileError::Owner { path: name.to_owned(), owner: stat.st_uid, own }),
    }
}
