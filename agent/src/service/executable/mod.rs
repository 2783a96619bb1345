//! An executable's file → the runtime its program runs on.
//!
//! *Owns* reading executables (`image`: bounded reading of ELF; `runtime`: who made it; `go`: Go's build
//! information) and remembering what was read ([`Executables`]). *Must not know* processes' memory, nor what the runtime is for.
//!
//! An executable is the word of whoever built it: it may be huge, cut short or made to mislead. No number in it is
//! believed before it is compared with the file's length and the bounds in `image`, and what cannot be read is left
//! out. The runtime describes and never decides a join: which threads are goroutines, for one, the kernel side tells from
//! registers and stacks, whatever the file says.

mod go;
pub(crate) mod image;
mod runtime;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;

use spoor_core::record::Tgid;

use image::{Image, Source};
pub use runtime::{Kind, Runtime};

/// Executables remembered at once. A machine runs a few hundred; beyond it all are read again when they are next met.
const MAX_REMEMBERED: usize = 1024;

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    #[error("cannot read the executable: {0}")]
    Io(#[from] io::Error),
    #[error("not a regular file")]
    NotAFile,
    #[error("not a 64-bit ELF file, or cut short: {0}")]
    Elf(#[from] object::Error),
}

/// What the program in a file runs on; `None` where nothing in it tells. `name` is the last part of its path, which tells a few
/// programs that nothing else tells.
fn read(file: impl Read + Seek, name: &str) -> Result<Option<Runtime>, ExecutableError> {
    let source = Source::new(file);
    let image = Image::parse(&source)?;
    Ok(runtime::of(&image, name))
}

/// One state of one file. A new build at the same path is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    len: u64,
}

/// Executables by what they are, each read when a process of it is first met.
#[derive(Debug, Default)]
pub struct Executables {
    /// Also those that cannot be read or show no runtime, so that they are not tried for each of their processes.
    known: HashMap<Identity, Option<Runtime>>,
}

impl Executables {
    /// The runtime of a process, also where its executable was replaced or lies in another mount namespace.
    pub fn runtime(&mut self, tgid: Tgid, name: &str) -> Option<Runtime> {
        // The kernel's own link to the mapped file: no path is followed.
        self.of_file(File::open(format!("/proc/{tgid}/exe")).ok()?, name)
    }

    /// None was read yet.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn of_file(&mut self, file: File, name: &str) -> Option<Runtime> {
        let metadata = file.metadata().ok()?;
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            len: metadata.len(),
        };
        if let Some(known) = self.known.get(&identity) {
            return known.clone();
        }
        let read = if metadata.is_file() { read(file, name) } else { Err(ExecutableError::NotAFile) };
        let runtime = read.unwrap_or_else(|error| {
            tracing::debug!("nothing is known of the executable `{name}`: {error}");
            None
        });
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(identity, runtime.clone());
        runtime
    }
}
