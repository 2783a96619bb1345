//! A process → its mapped files that may be a runtime, their symbols, and words of its memory.
//!
//! *Owns* reading. *Must not know* what is looked for.
//! *Spec*: proc_pid_maps(5), proc_pid_mem(5).

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use procfs::ProcError;
use procfs::process::{FDTarget, MMapPath, MemoryMap, Process};
use spoor_common::chain::Memory;
use spoor_core::record::Tgid;
use spoor_core::time::BootTime;

use super::Refusal;
use crate::files;
use crate::service::began;
use crate::service::executable::image::{Image, Source};

/// Bytes read at once.
const MOST: usize = 1 << 20;

/// One process, held open: never another one that gets its number later, nor another program that it becomes.
#[derive(Debug)]
pub struct ProcessMemory {
    process: Process,
    mem: File,
}

/// A file that is mapped, and by how much its addresses are moved.
#[derive(Debug)]
pub(super) struct Loaded {
    file: File,
    /// Its first mapping: where, and from which place in the file.
    start: u64,
    offset: u64,
}

impl ProcessMemory {
    /// The process that had this number at a moment.
    pub fn open(tgid: Tgid, at: BootTime) -> Result<Self, Refusal> {
        let number = i32::try_from(tgid.0).map_err(|_| Refusal::Gone)?;
        let process = Process::new(number).map_err(refused)?;
        // What began later got the number after the process had gone.
        if began(&process.stat().map_err(refused)?) > at {
            return Err(Refusal::Gone);
        }
        let mem = process.mem().map_err(refused)?;
        Ok(Self { process, mem })
    }

    /// `len` bytes from an address on.
    pub(super) fn bytes(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        if len > MOST {
            return None;
        }
        let mut bytes = vec![0; len];
        self.mem.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    /// Whether a descriptor of the process is one that waits for others.
    pub(super) fn is_epoll(&self, fd: u64) -> bool {
        let info = i32::try_from(fd).ok().and_then(|fd| self.process.fd_from_fd(fd).ok());
        info.is_some_and(|info| matches!(&info.target, FDTarget::AnonInode(kind) if kind == "[eventpoll]"))
    }

    /// The executable, and libraries whose name begins so.
    pub(super) fn loaded(&self, library: &str) -> Result<Vec<Loaded>, Refusal> {
        let maps = self.process.maps().map_err(refused)?;
        let exe = self.process.exe().map_err(refused)?;
        let root = PathBuf::from(format!("/proc/{}/root", self.process.pid()));
        let mut found: Vec<(PathBuf, Loaded)> = Vec::new();
        for map in &maps {
            let MMapPath::Path(path) = &map.pathname else { continue };
            let is_library = || {
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(library))
            };
            if (*path != exe && !is_library()) || found.iter().any(|(known, _)| known == path) {
                continue;
            }
            let file =
                if *path == exe { self.process.open_relative("exe").ok() } else { open(&root, path, map) };
            if let Some(file) = file {
                found.push((path.clone(), Loaded { file, start: map.address.0, offset: map.offset }));
            }
        }
        Ok(found.into_iter().map(|(_, loaded)| loaded).collect())
    }
}

impl Memory for ProcessMemory {
    fn words<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        let bytes = self.bytes(at, N * 8)?;
        let (words, _) = bytes.as_chunks::<8>();
        let mut out = [0; N];
        out.iter_mut().zip(words).for_each(|(to, from)| *to = u64::from_ne_bytes(*from));
        Some(out)
    }
}

impl Loaded {
    /// Where exported symbols are in the process, in the order of their names. `None`: one is missing, or the file is no such one.
    pub(super) fn symbols<const N: usize>(&self, names: [&str; N]) -> Option<[u64; N]> {
        let source = Source::new(&self.file);
        let image = Image::parse(&source).ok()?;
        let moved = self.start.wrapping_sub(image.address_of(self.offset)?);
        let exports = image.exports()?;
        let mut out = [0; N];
        for (to, name) in out.iter_mut().zip(names) {
            *to = exports.find(name)?.wrapping_add(moved);
        }
        Some(out)
    }
}

/// The file behind a mapping, unless another one is at its path by now.
fn open(root: &Path, path: &Path, map: &MemoryMap) -> Option<File> {
    // What has got its name may be no file: opening a FIFO waits for whoever writes to it.
    let file = files::open(&root.join(path.strip_prefix("/").ok()?)).ok()?;
    (file.metadata().ok()?.ino() == map.inode).then_some(file)
}

fn refused(error: ProcError) -> Refusal {
    match error {
        ProcError::PermissionDenied(_) => Refusal::Denied,
        _ => Refusal::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_by_now_is_not_waited_for() {
        let process = Process::myself().expect("it is there");
        let maps = process.maps().expect("its mappings");
        let path = |map: &MemoryMap| match &map.pathname {
            MMapPath::Path(path) if path.is_file() => Some(path.clone()),
            _ => None,
        };
        let (map, file) = maps.iter().find_map(|map| Some((map, path(map)?))).expect("it has a program");
        assert!(open(Path::new("/"), &file, map).is_some());
        let dir = std::env::temp_dir().join(format!("spoor-chains-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let fifo = dir.join("libpython3.so");
        let _ = std::fs::remove_file(&fifo);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("a FIFO");
        // Else this would never end.
        assert!(open(&dir, Path::new("/libpython3.so"), map).is_none());
        std::fs::remove_dir_all(&dir).expect("it is removed");
    }
}
