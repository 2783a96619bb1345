//! A process → the pages of its memory that are there, piece by piece.
//!
//! *Owns* which mappings are read, and that reading changes nothing: only pages that are present are read, so none is faulted in,
//! none is taken from the swap, and no page table grows. *Must not know* what is looked for.
//! *Spec*: proc_pid_maps(5), proc_pid_mem(5), proc_pid_pagemap(5).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use procfs::ProcError;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use spoor_core::record::Tgid;
use spoor_core::time::BootTime;

use crate::service::began;

/// Bytes read at a time. Reading holds the lock that the process needs for `mmap`: a piece of this size takes some 0.1 ms.
pub(super) const PIECE: usize = 256 << 10;
const PAGE: u64 = 4096;
/// The bit of an entry of `pagemap` that says that the page is in memory.
const PRESENT: u64 = 1 << 63;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Pages asked for at once: a mapping of terabytes that is hardly used is gone over in parts, of half a millisecond each.
const MAX_LOOKED: u64 = 64 << 10;

/// Why a process' memory cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It ended, or another process has its number.
    Gone,
    /// The system does not allow it.
    Denied,
}

/// Device and inode of an executable: processes of the same program keep their secrets in the same way.
pub(super) type Program = (u64, u64);

/// One process, and never another one that gets its number later: its folder in `/proc` is held open.
#[derive(Debug)]
pub(super) struct Memory {
    process: Process,
    mem: File,
    pagemap: File,
    pub(super) program: Program,
    /// Bytes of it that were in memory when it was opened.
    pub(super) resident: u64,
    /// For the log.
    pub(super) name: String,
}

impl Memory {
    /// The process that had this number at a moment.
    pub(super) fn open(tgid: Tgid, at: BootTime) -> Result<Self, Refused> {
        let refused = |error: ProcError| match error {
            ProcError::PermissionDenied(_) => Refused::Denied,
            _ => Refused::Gone,
        };
        let number = i32::try_from(tgid.0).map_err(|_| Refused::Gone)?;
        let process = Process::new(number).map_err(refused)?;
        let stat = process.stat().map_err(refused)?;
        // What began later got the number after the process had gone.
        if began(&stat) > at {
            return Err(Refused::Gone);
        }
        let mem = process.mem().map_err(refused)?;
        let pagemap = process.open_relative("pagemap").map_err(refused)?;
        let program = program(&process);
        let resident = stat.rss.saturating_mul(PAGE);
        Ok(Self { process, mem, pagemap, program, resident, name: stat.comm })
    }

    /// Parts of its address space in which secrets may lie. A process that has become another program is not the one that was asked
    /// for: that one may be left alone.
    pub(super) fn regions(&self) -> Result<Vec<(u64, u64)>, Refused> {
        if program(&self.process) != self.program {
            return Err(Refused::Gone);
        }
        let maps = self.process.maps().map_err(|error| match error {
            ProcError::PermissionDenied(_) => Refused::Denied,
            _ => Refused::Gone,
        })?;
        Ok(maps.iter().filter(|map| may_hold(map)).map(|map| map.address).collect())
    }

    /// Whether an address is one of a file that it has mapped and does not execute: of constants, or of what begins as such.
    pub(super) fn is_of_file(&self, address: u64) -> bool {
        let Ok(maps) = self.process.maps() else { return false };
        let is_there = |map: &MemoryMap| (map.address.0..map.address.1).contains(&address);
        maps.iter().any(|map| {
            is_there(map)
                && matches!(map.pathname, MMapPath::Path(_))
                && !map.perms.contains(MMPermissions::EXECUTE)
        })
    }

    /// Whether it is still there, and runs the same program.
    pub(super) fn is_there(&self) -> bool {
        self.process.stat().is_ok() && program(&self.process) == self.program
    }

    /// Reads what there is at an address. Returns how many bytes that are.
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        self.mem.read_at(to, at)
    }

    /// Reads the bytes around an address that are in memory, and together. Returns where they begin, and how many they are. `None`:
    /// what is at the address is not.
    pub(super) fn read_present(
        &self,
        (from, end): (u64, u64),
        address: u64,
        to: &mut [u8],
    ) -> Option<(u64, usize)> {
        let mut walk = Walk::new(vec![(from, end)], 0, to.len() as u64);
        loop {
            match walk.next(self, to) {
                Next::Piece(start, len) if address < start + len as u64 => {
                    return (start <= address).then_some((start, len));
                }
                Next::Piece(..) | Next::Nothing => {}
                Next::End => return None,
            }
        }
    }

    /// The next present bytes from an address on, before an end, and whether there are more right behind them: at most [`PIECE`] are
    /// taken at once, and so many pages looked at. `Err`: up to there, there are none.
    fn present(&self, from: u64, end: u64) -> io::Result<Result<Run, u64>> {
        let mut page = from / PAGE;
        let last = end.div_ceil(PAGE).min(page + MAX_LOOKED);
        let mut entries = [0; 8 * 512];
        let mut run: Option<Run> = None;
        while page < last {
            let count = (last - page).min(512) as usize;
            let Some(entries) = entries.get_mut(..8 * count) else { break };
            self.pagemap.read_exact_at(entries, page * ENTRY)?;
            let (entries, _) = entries.as_chunks::<8>();
            for (page, entry) in (page..).zip(entries) {
                let is_present = u64::from_ne_bytes(*entry) & PRESENT != 0;
                match &mut run {
                    None if is_present => {
                        let (start, until) = ((page * PAGE).max(from), ((page + 1) * PAGE).min(end));
                        run = Some(Run { start, until, goes_on: false });
                    }
                    None => {}
                    Some(found) if is_present && found.until - found.start + PAGE <= PIECE as u64 => {
                        found.until = ((page + 1) * PAGE).min(end);
                    }
                    Some(found) => {
                        found.goes_on = is_present;
                        return Ok(Ok(*found));
                    }
                }
            }
            page += count as u64;
        }
        let looked = (last * PAGE).min(end);
        if let Some(found) = &mut run {
            found.goes_on = found.until == looked && looked < end;
        }
        Ok(run.ok_or(looked))
    }
}

/// What it runs now.
fn program(process: &Process) -> Program {
    let exe = process.open_relative("exe").and_then(|exe| exe.metadata().map_err(ProcError::from));
    exe.map_or((0, 0), |meta| (meta.dev(), meta.ino()))
}

/// Bytes that are in memory.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    until: u64,
    goes_on: bool,
}

/// Secrets lie in memory that the process writes and nobody executes. Shared mappings are files and caches; ZGC's heap is the
/// exception.
fn may_hold(map: &MemoryMap) -> bool {
    let needed = MMPermissions::READ | MMPermissions::WRITE;
    if !map.perms.contains(needed) || map.perms.contains(MMPermissions::EXECUTE) {
        return false;
    }
    match &map.pathname {
        MMapPath::Vdso | MMapPath::Vvar | MMapPath::Vsyscall | MMapPath::Vsys(_) => false,
        MMapPath::Path(path) if path.starts_with("/dev") => false,
        path if map.perms.contains(MMPermissions::SHARED) => {
            let text = match path {
                MMapPath::Path(path) => path.to_string_lossy(),
                MMapPath::Other(text) => text.as_str().into(),
                _ => return false,
            };
            text.contains("memfd:java_heap")
        }
        _ => true,
    }
}

/// Goes over parts of an address space, piece by piece.
#[derive(Debug)]
pub(super) struct Walk {
    regions: std::vec::IntoIter<(u64, u64)>,
    /// What is left of the part that is walked.
    part: (u64, u64),
    /// Bytes that one piece and the next have in common.
    overlap: u64,
    /// Bytes that may still be read.
    left: u64,
}

impl Walk {
    pub(super) fn new(regions: Vec<(u64, u64)>, overlap: usize, most: u64) -> Self {
        Self { regions: regions.into_iter(), part: (0, 0), overlap: overlap as u64, left: most }
    }

    /// Goes on at an address of the last piece.
    pub(super) fn rewind(&mut self, address: u64, until: u64) {
        let (_, end) = self.part;
        let from = address.saturating_sub(self.overlap);
        self.part = (from, end.max(until));
        // What is read again counts once.
        self.left = self.left.saturating_add(until.saturating_sub(from));
    }

    /// Reads the next piece.
    pub(super) fn next(&mut self, memory: &Memory, to: &mut [u8]) -> Next {
        let mut looked_at = 0;
        while self.left > 0 {
            let (from, end) = self.part;
            if from >= end {
                let Some(part) = self.regions.next() else { break };
                self.part = part;
                continue;
            }
            let Run { start, until, goes_on } = match memory.present(from, end) {
                Ok(Ok(run)) => run,
                Ok(Err(looked)) => {
                    self.part = (looked, end);
                    // Looking costs as well, and is a turn of its own where there is much of it.
                    let pages = looked.saturating_sub(from) / PAGE;
                    self.left = self.left.saturating_sub(pages * ENTRY);
                    looked_at += pages;
                    if looked_at >= MAX_LOOKED / 4 {
                        return Next::Nothing;
                    }
                    continue;
                }
                // A mapping that is gone by now has no pages.
                Err(_) => {
                    self.part = (0, 0);
                    continue;
                }
            };
            let wanted = (until - start).min(to.len() as u64).min(self.left);
            let Some(to) = to.get_mut(..wanted as usize) else { break };
            let Ok(len) = memory.read(start, to) else {
                self.part = (until, end);
                continue;
            };
            self.left -= wanted;
            // What lies over the end of a piece is seen whole in the next one.
            let is_whole = start + len as u64 == until && len as u64 > self.overlap;
            self.part = (if goes_on && is_whole { until - self.overlap } else { until }, end);
            if len > 0 {
                return Next::Piece(start, len);
            }
        }
        Next::End
    }
}

/// What came of reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many bytes that lie at this address.
    Piece(u64, usize),
    /// Nothing yet: many pages are not in memory.
    Nothing,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(walk: &mut Walk, memory: &Memory, to: &mut [u8]) -> Option<(u64, usize)> {
        loop {
            match walk.next(memory, to) {
                Next::Piece(address, len) => return Some((address, len)),
                Next::Nothing => {}
                Next::End => return None,
            }
        }
    }

    fn own() -> Memory {
        Memory::open(Tgid(std::process::id()), crate::clock::boot()).expect("its own memory")
    }

    #[test]
    fn what_the_process_wrote_is_read_once_and_whole() {
        let mark = [0x5a_u8, 0xc3, 0x99, 0x1e, 0x77, 0x42, 0xd0, 0x0b].repeat(8);
        let page = [mark.clone(), vec![0; 3 * PIECE]].concat();
        let at = page.as_ptr() as u64;
        let memory = own();
        let mut piece = vec![0; PIECE];
        let mut walk = Walk::new(vec![(at, at + page.len() as u64)], 80, u64::MAX);
        let mut seen = Vec::new();
        while let Some((address, len)) = next(&mut walk, &memory, &mut piece) {
            seen.push((address - at, len as u64, piece[..len].starts_with(&mark)));
        }
        assert!(seen[0] == (0, seen[0].1, true), "{seen:?}");
        let end = seen.iter().map(|(from, len, _)| from + len).max();
        assert_eq!(end, Some(page.len() as u64), "{seen:?}");
        for pair in seen.windows(2) {
            assert_eq!(pair[1].0, pair[0].0 + pair[0].1 - 80, "pieces overlap: {seen:?}");
        }
    }

    #[test]
    fn a_hole_in_memory_ends_a_piece_and_nothing_is_read_twice() {
        // Every other page is touched: written through a pointer of its own, the rest stays as the kernel gave it.
        let mut pages: Vec<u8> = Vec::with_capacity(64 * PAGE as usize + PIECE);
        let base = pages.as_ptr() as u64;
        for (page, byte) in pages.spare_capacity_mut().chunks_mut(PAGE as usize).enumerate() {
            if page % 2 == 0
                && let Some(byte) = byte.first_mut()
            {
                byte.write(1);
            }
        }
        let memory = own();
        let (from, end) = (base.next_multiple_of(PAGE), (base + 60 * PAGE) / PAGE * PAGE);
        let mut walk = Walk::new(vec![(from, end)], 80, u64::MAX);
        let mut piece = vec![0; PIECE];
        let mut read = 0;
        let mut last = 0;
        while let Some((address, len)) = next(&mut walk, &memory, &mut piece) {
            assert!(address >= last, "{address:#x} comes after {last:#x}");
            (last, read) = (address + len as u64, read + len as u64);
            assert!(read <= end - from, "it ends");
        }
        assert!(read >= 20 * PAGE && last <= end, "{read} bytes");
    }

    #[test]
    fn pages_that_were_never_touched_are_not_read() {
        let untouched: Vec<u8> = Vec::with_capacity(64 << 20);
        let at = untouched.as_ptr() as u64;
        let memory = own();
        let mut walk = Walk::new(vec![(at + (1 << 20), at + (63 << 20))], 80, u64::MAX);
        assert_eq!(next(&mut walk, &memory, &mut vec![0; PIECE]), None);
        // A place where a secret lay before: its page may have been given back.
        let at = at + (32 << 20);
        assert_eq!(memory.read_present((at - 1024, at + 1024), at, &mut [0; 2048]), None);
    }

    #[test]
    fn a_large_mapping_is_looked_at_in_parts_and_looking_has_an_end() {
        let large: Vec<u8> = Vec::with_capacity(3 * (MAX_LOOKED * PAGE) as usize);
        let at = (large.as_ptr() as u64).next_multiple_of(PAGE);
        let part = vec![(at + PAGE, at + 5 * MAX_LOOKED * PAGE / 2)];
        let memory = own();
        let mut piece = vec![0; PIECE];
        let mut walk = Walk::new(part.clone(), 80, u64::MAX);
        let all: Vec<Next> = std::iter::repeat_with(|| walk.next(&memory, &mut piece)).take(4).collect();
        assert_eq!(all, [Next::Nothing, Next::Nothing, Next::Nothing, Next::End]);
        let mut walk = Walk::new(part, 80, MAX_LOOKED * ENTRY);
        let all: Vec<Next> = std::iter::repeat_with(|| walk.next(&memory, &mut piece)).take(2).collect();
        assert_eq!(all, [Next::Nothing, Next::End]);
    }

    #[test]
    fn what_lies_around_an_address_is_read_where_it_is_in_memory() {
        let bytes = Vec::from_iter((0..4096_u32).flat_map(u32::to_le_bytes));
        let at = bytes.as_ptr() as u64 + 8000;
        let mut around = [0; 2048];
        let (start, len) = own().read_present((at - 1024, at + 1024), at, &mut around).expect("it is");
        let place = (at - start) as usize;
        assert_eq!(around[place..len][..8], bytes[8000..8008]);
    }

    #[test]
    fn what_is_read_again_counts_once() {
        let bytes = vec![1; 4 * PIECE];
        let at = bytes.as_ptr() as u64;
        let mut walk = Walk::new(vec![(at, at + bytes.len() as u64)], 80, bytes.len() as u64);
        let (memory, mut piece) = (own(), vec![0; PIECE]);
        for _ in 0..20 {
            let Some((address, len)) = next(&mut walk, &memory, &mut piece) else { panic!("it goes on") };
            walk.rewind(address + 100, address + len as u64);
        }
        assert!(walk.left >= bytes.len() as u64 - 4 * PAGE, "{}", walk.left);
    }

    #[test]
    fn a_process_that_became_another_program_is_read_no_more() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read go; exec sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let memory = loop {
            // Until it is the shell.
            let memory = Memory::open(Tgid(child.id()), crate::clock::boot()).expect("its memory");
            if memory.program != own().program {
                break memory;
            }
        };
        assert!(memory.regions().is_ok_and(|regions| !regions.is_empty()));
        drop(child.stdin.take());
        let begun = std::time::Instant::now();
        while memory.regions() != Err(Refused::Gone) {
            assert!(begun.elapsed().as_secs() < 20, "it is `sleep` by now");
        }
        child.kill().expect("it sleeps");
        child.wait().expect("it ended");
    }

    #[test]
    fn a_process_that_began_later_is_another_one() {
        let own = Tgid(std::process::id());
        assert_eq!(Memory::open(own, BootTime::ZERO).err(), Some(Refused::Gone));
        assert_eq!(Memory::open(Tgid(u32::MAX), crate::clock::boot()).err(), Some(Refused::Gone));
    }
}
