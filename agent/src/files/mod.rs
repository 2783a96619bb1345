//! Names of what the agent keeps → open directories and files that only its own user can have made.
//!
//! The agent has capabilities that others lack, so a name is never believed:
//!
//! | what stands there | what happens |
//! |---|---|
//! | a link that somebody else made, a directory that others may write | the directory is refused, with the remedy |
//! | a link in the place of a file | refused: the kernel does not follow it (`O_NOFOLLOW`) |
//! | a FIFO, a device, a socket, a directory in the place of a file | refused before it is opened: opening and closing one can harm whoever uses it |
//! | a file of another user, or one that others may write | refused |
//! | nothing | made, for the agent's user only (0700, 0600) |
//!
//! *Owns* these rules: a directory is looked at once, from the root down, and everything in it is then opened relative to that
//! open directory, so that nobody can put another one in its place. *Must not know* what is in the files.

mod directory;
mod walk;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

pub use directory::Directory;

/// Who may write besides the owner.
const OTHERS_MAY_WRITE: u32 = 0o022;
/// For the agent's user only.
const OWN_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const OWN_DIRECTORY: Mode = Mode::RWXU;

/// Why a name cannot be used, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {what} `{path}`: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{path}` is {found}, not {wanted}: remove it, or name another one")]
    Kind { path: PathBuf, found: &'static str, wanted: &'static str },
    #[error(
        "`{path}` belongs to user {owner}, not to the agent's user {own}: `chown {own}` it, or name another one"
    )]
    Owner { path: PathBuf, owner: u32, own: u32 },
    #[error("others may write `{path}` (mode {mode:o}): `chmod go-w` it, or name another one")]
    Writable { path: PathBuf, mode: u32 },
    #[error("`{path}` is larger than {max} bytes")]
    TooLarge { path: PathBuf, max: u64 },
}

impl FileError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.to_owned();
        move |errno| Self::Io { what, path, source: errno.into() }
    }

    /// What the system said, for a caller that names the path itself.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Io { source, .. } => source,
            other => io::Error::other(other),
        }
    }

    /// Nothing has this name.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A file that another program wrote for the agent (a certificate, a key), read whole: at most `max` bytes. Links are followed, for
/// Kubernetes mounts secrets as links.
///
/// What is no file is not opened at all: the writer of a FIFO would get `EPIPE` from a reader that comes and goes, a terminal or a
/// watchdog does something when it is opened. So the name is taken hold of first (`O_PATH` opens nothing), looked at, and then what
/// is held is opened, whatever has got its name by then.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    read_all(&open(path)?, path, max)
}

/// Opens a plain file to be read, in the way of [`read`].
pub fn open(path: &Path) -> Result<File, FileError> {
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(FileError::io("read", path))?;
    let stat = rustix::fs::fstat(&held).map_err(FileError::io("read", path))?;
    plain(&stat, path)?;
    let file = match File::open(format!("/proc/self/fd/{}", held.as_raw_fd())) {
        // Without `/proc`, as in a bare root: by its name again, if that is still the same file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = rustix::fs::open(path, OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
                .map_err(FileError::io("read", path))?;
            let now = rustix::fs::fstat(&file).map_err(FileError::io("read", path))?;
            if (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino) {
                Ok(File::from(file))
            } else {
                Err(io::Error::other("another file took its place meanwhile"))
            }
        }
        opened => opened,
    };
    file.map_err(|source| FileError::Io { what: "read", path: path.to_owned(), source })
}

/// Makes a file that takes the place of `path` at once: a new one for the agent's user only, whoever had the old one open or
/// owned it. What is no plain file is left and refused; a link is neither followed nor replaced.
pub fn replace(path: &Path) -> Result<File, FileError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { what, path, source }
    };
    match rustix::fs::lstat(path) {
        Ok(stat) => plain(&stat, path)?,
        Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(FileError::io("look at", path)(errno)),
    }
    let name = path.file_name().unwrap_or_default();
    // Beside it, under a name that nobody can foresee; an existing one is not opened.
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{:016x}", fastrand::u64(..)));
    let beside = path.with_file_name(beside);
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(OWN_FILE.bits())
        .open(&beside)
        .map_err(io("create", path))?;
    if let Err(error) = std::fs::rename(&beside, path) {
        let _ = std::fs::remove_file(&beside);
        return Err(io("replace", path)(error));
    }
    Ok(file)
}

fn read_all(mut file: &File, path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = Read::by_ref(&mut file).take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| FileError::Io { what: "read", path: path.to_owned(), source })?;
    if bytes.len() as u64 > max {
        return Err(FileError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

/// Only a plain file is read or written: anything else can wait for ever, or do something when it is opened.
fn plain(stat: &Stat, path: &Path) -> Result<(), FileError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        other => Err(FileError::Kind { path: path.to_owned(), found: kind(other), wanted: "a plain file" }),
    }
}

/// It belongs to the agent's user, and nobody else may write it.
fn own(stat: &Stat, path: &Path) -> Result<(), FileError> {
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(FileError::Owner { path: path.to_owned(), owner: stat.st_uid, own });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & OTHERS_MAY_WRITE != 0 {
        return Err(FileError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn kind(found: FileType) -> &'static str {
    match found {
        FileType::RegularFile => "a plain file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}

#[cfg(test)]
mod tests;
