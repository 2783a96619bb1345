//! A directory of the agent's own, and the files in it by their names.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{FileError, OWN_FILE, own, plain, read_all, walk};

/// Never through a link, and never waiting for the other end of a FIFO.
const SAFELY: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// An open directory that belongs to the agent's user and that nobody else may write.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory. What is missing of it is made.
    pub fn open_or_create(path: &Path) -> Result<Self, FileError> {
        Ok(Self { fd: walk::open(path, true)?, path: path.to_owned() })
    }

    /// Opens a directory that is there. `None`: there is none.
    pub fn existing(path: &Path) -> Result<Option<Self>, FileError> {
        match walk::open(path, false) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole path of a name in it, for messages.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file to read. `None`: there is none.
    pub fn open(&self, name: &str) -> Result<Option<File>, FileError> {
        self.file(name, OFlags::RDONLY)
    }

    /// Opens a file to change. `None`: there is none.
    pub fn edit(&self, name: &str) -> Result<Option<File>, FileError> {
        self.file(name, OFlags::RDWR)
    }

    /// All of a file, if it has at most `max` bytes. `None`: there is none.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, FileError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        read_all(&file, &self.path_of(name), max).map(Some)
    }

    /// Makes a new file to append to. Fails when there is anything of that name.
    pub fn create_new(&self, name: &str) -> Result<File, FileError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::APPEND;
        self.openat(name, flags).map(File::from).map_err(FileError::io("create", &self.path_of(name)))
    }

    /// Replaces a file, or makes it: whoever reads it sees the old one or the new one. `durable`: also after a power cut.
    pub fn replace(&self, name: &str, bytes: &[u8], durable: bool) -> Result<(), FileError> {
        // One name for all: what an agent that was killed left is in nobody's way.
        let new = format!("{name}.new");
        self.remove(&new)?;
        let mut file = self.create_new(&new)?;
        let io = |source| FileError::Io { what: "write", path: self.path_of(&new), source };
        let written = file.write_all(bytes).and_then(|()| if durable { file.sync_all() } else { Ok(()) });
        if let Err(error) = written {
            let _ = self.remove(&new);
            return Err(io(error));
        }
        rustix::fs::renameat(&self.fd, &new, &self.fd, name)
            .map_err(FileError::io("replace", &self.path_of(name)))?;
        if durable {
            // The new name outlives a power cut only when the directory is written, too.
            rustix::fs::fsync(&self.fd).map_err(FileError::io("write", &self.path))?;
        }
        Ok(())
    }

    /// Removes a file; one that is not there is no failure.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FileError::io("remove", &self.path_of(name))(errno)),
        }
    }

    /// Locks a file, which is made when it is missing, until the returned one is closed. `None`: another process has it.
    pub fn lock(&self, name: &str) -> Result<Option<File>, FileError> {
        let path = self.path_of(name);
        self.look(name)?;
        let file = self
            .openat(name, OFlags::CREATE | OFlags::RDWR)
            .map(File::from)
            .map_err(|errno| self.refused(name, "lock", errno))?;
        checked(&file, &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(FileError::Io { what: "lock", path, source }),
        }
    }

    /// The names in it, in no order.
    pub fn names(&self) -> Result<Vec<OsString>, FileError> {
        let io = || FileError::io("list", &self.path);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(io())? {
            let entry = entry.map_err(io())?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn file(&self, name: &str, how: OFlags) -> Result<Option<File>, FileError> {
        let path = self.path_of(name);
        self.look(name)?;
        let file = match self.openat(name, how) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.refused(name, "open", errno)),
        };
        checked(&file, &path)?;
        Ok(Some(file))
    }

    /// What is no plain file is not opened: that alone may do something to whoever uses it. Nobody but the agent's user can put
    /// another thing there before it is opened; [`checked`] looks again.
    fn look(&self, name: &str) -> Result<(), FileError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => plain(&stat, &self.path_of(name)),
            // Missing, or whatever opening it says.
            Err(_) => Ok(()),
        }
    }

    /// Why a name could not be opened: what stands there says it better than the kernel does (`ELOOP`, `ENXIO`, `EISDIR`,
    /// `EACCES`).
    fn refused(&self, name: &str, what: &'static str, errno: Errno) -> FileError {
        let path = self.path_of(name);
        let stands = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        match stands.map(|stat| plain(&stat, &path).and_then(|()| own(&stat, &path))) {
            Ok(Err(better)) => better,
            _ => FileError::io(what, &path)(errno),
        }
    }

    fn openat(&self, name: &str, how: OFlags) -> rustix::io::Result<OwnedFd> {
        let mode = if how.contains(OFlags::CREATE) { OWN_FILE } else { Mode::empty() };
        rustix::fs::openat(&self.fd, name, how | SAFELY, mode)
    }
}

/// A plain file of the agent's own: looked at after it was opened, so that it is the one that is read.
fn checked(file: &File, path: &Path) -> Result<(), FileError> {
    let stat = rustix::fs::fstat(file).map_err(FileError::io("look at", path))?;
    plain(&stat, path)?;
    own(&stat, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_may_not_be_opened_is_told_with_what_helps() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_create(parent.path()).unwrap();
        directory.replace("theirs", b"x", false).unwrap();
        let refused = || directory.refused("theirs", "open", Errno::ACCESS);
        assert!(matches!(refused(), FileError::Io { .. }), "nothing better is known");
        let path = parent.path().join("theirs");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(refused().to_string().contains("chmod go-w"), "{}", refused());
        if std::os::unix::fs::lchown(&path, Some(12_345), Some(12_345)).is_ok() {
            assert!(matches!(refused(), FileError::Owner { owner: 12_345, .. }), "{}", refused());
        }
    }
}
