//! An executable's file → what it says of itself: build ID, runtime, libraries, sections, symbols.
//!
//! *Owns* reading executables (`image`: bounded reading of ELF; `runtime`: who made it; `go`: Go's build
//! information) and remembering them ([`Executables`]). *Must not know* processes' memory, nor what the facts are for.
//!
//! An executable is the word of whoever built it: it may be huge, cut short or made to mislead. No number in it is
//! believed before it is compared with the file's length and the bounds in `image`, and what cannot be read is left
//! out. The facts describe and never decide a join: which threads are goroutines, for one, the kernel side tells from
//! registers and stacks, whatever the file says.

mod go;
mod image;
mod runtime;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use spoor_core::record::Tgid;

use image::{Image, Source};
pub use image::{Section, Symbol};
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

/// What an executable, or a library, says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executable {
    /// The linker's GNU build ID, at most `image::MAX_BUILD_ID` bytes. The same for each copy of one build.
    pub build_id: Option<Vec<u8>>,
    /// What runs the program, where the file shows it.
    pub runtime: Option<Runtime>,
    /// Libraries that it names to be loaded with it, in order.
    pub needed: Vec<String>,
    /// Its sections, in order, without the first, which is none.
    pub sections: Vec<Section>,
}

impl Executable {
    /// Reads a file. `name` is the last part of its path, which tells a few programs that nothing else tells.
    pub fn read(file: impl Read + Seek, name: &str) -> Result<Self, ExecutableError> {
        let source = Source::new(file);
        let image = Image::parse(&source)?;
        let needed = image.needed();
        let sections = image.sections();
        let runtime = runtime::of(&image, &needed, &sections, name);
        Ok(Self { build_id: image.build_id(), runtime, needed, sections })
    }

    /// A section by its name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Its code is Go's.
    pub fn is_go(&self) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.kind == Kind::Go)
    }
}

/// Looks for exported symbols, in the order of `names`: through the file's own hash table, so that a table of many
/// thousands costs no more than a small one.
pub fn symbols(file: impl Read + Seek, names: &[&str]) -> Result<Vec<Option<Symbol>>, ExecutableError> {
    let source = Source::new(file);
    let image = Image::parse(&source)?;
    let exports = image.exports();
    Ok(names.iter().map(|name| exports.as_ref().and_then(|exports| exports.find(name))).collect())
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
    /// Also those that cannot be read, so that they are not tried for each of their processes.
    known: HashMap<Identity, Option<Arc<Executable>>>,
}

impl Executables {
    /// The executable of a process, also one that was replaced or that lies in another mount namespace.
    pub fn of_process(&mut self, tgid: Tgid, name: &str) -> Option<Arc<Executable>> {
        // The kernel's own link to the mapped file: no path is followed.
        self.of_file(File::open(format!("/proc/{tgid}/exe")).ok()?, name)
    }

    fn of_file(&mut self, file: File, name: &str) -> Option<Arc<Executable>> {
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
        let read =
            if metadata.is_file() { Executable::read(file, name) } else { Err(ExecutableError::NotAFile) };
        let executable = match read {
            Ok(executable) => Some(Arc::new(executable)),
            Err(error) => {
                tracing::debug!("nothing is known of the executable `{name}`: {error}");
                None
            }
        };
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(identity, executable.clone());
        executable
    }
}
