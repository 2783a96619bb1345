//! A 64-bit ELF file → its libraries, sections and exported symbols, within bounds.
//!
//! *Owns* the bounds: one piece is at most [`MAX_PIECE`] bytes and all of a file's together at most [`MAX_READ`],
//! whatever its headers claim; counts that a linker never makes are cut. Nothing is mapped: a file that shrinks while it
//! is read costs an answer, not the agent.
//! *Must not know* runtimes. *Spec*: System V ABI, chapters 4 and 5; GNU hash sections.

use std::cell::Cell;
use std::io::{Read, Seek};
use std::ops::Range;

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{
    FileHeader as _, GnuHashTable, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _,
    SymbolTable, VersionTable,
};
use object::read::{ReadCache, ReadRef};

/// One piece. The largest that is read of a well-made file is its table of exported symbols: 24 bytes each, of which
/// the largest programs met (Node.js) have 75,000.
const MAX_PIECE: u64 = 8 << 20;
/// All pieces of one file, those read again counted again: what bounds the time that a file can cost.
const MAX_READ: u64 = 32 << 20;
/// The least that a piece counts, so that a million small ones do not pass for a megabyte.
const LEAST: u64 = 64;
/// Programs name a few dozen libraries.
const MAX_NEEDED: usize = 256;
/// Linked programs have 30 to 60 sections.
const MAX_SECTIONS: usize = 1024;

type Header = FileHeader64<Endianness>;

/// A file to be read in pieces.
#[derive(Debug)]
pub(crate) struct Source<R: Read + Seek> {
    cache: ReadCache<R>,
    left: Cell<u64>,
}

impl<R: Read + Seek> Source<R> {
    pub(crate) fn new(file: R) -> Self {
        Self { cache: ReadCache::new(file), left: Cell::new(MAX_READ) }
    }

    /// Takes the price of a piece from what is left.
    fn charge(&self, len: u64) -> Result<(), ()> {
        let price = len.max(LEAST);
        if len > MAX_PIECE {
            return Err(());
        }
        self.left.set(self.left.get().checked_sub(price).ok_or(())?);
        Ok(())
    }
}

impl<'a, R: Read + Seek> ReadRef<'a> for &'a Source<R> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.charge(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.charge(LEAST)?;
        // The cache gives up after 4 KiB.
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

/// A part of a file with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    /// Where it is in the file.
    pub(super) offset: u64,
    /// Bytes in memory; as many are in the file unless it is all zeros there.
    pub(super) len: u64,
    /// It has bytes in the file.
    pub(super) in_file: bool,
}

/// A file whose headers make sense.
pub(crate) struct Image<'a, R: Read + Seek> {
    source: &'a Source<R>,
    endian: Endianness,
    header: &'a Header,
    table: SectionTable<'a, Header, &'a Source<R>>,
}

impl<'a, R: Read + Seek> Image<'a, R> {
    pub(crate) fn parse(source: &'a Source<R>) -> Result<Self, object::Error> {
        let header = Header::parse(source)?;
        let endian = header.endian()?;
        // A file may have no sections, and still tell something.
        let table = header.sections(endian, source).unwrap_or_default();
        Ok(Self { source, endian, header, table })
    }

    /// Libraries it asks for.
    pub(super) fn needed(&self) -> Vec<String> {
        let Ok(dynamic) = self.table.dynamic_table(self.endian, self.source) else { return Vec::new() };
        let asked = dynamic.iter().filter(|entry| entry.tag == elf::DT_NEEDED);
        let names = asked.take(MAX_NEEDED).filter_map(|entry| dynamic.string(entry).ok());
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    pub(super) fn sections(&self) -> Vec<Section> {
        let headers = self.table.iter().skip(1).take(MAX_SECTIONS);
        headers
            .filter_map(|header| {
                let name = self.table.section_name(self.endian, header).ok()?;
                Some(Section {
                    name: String::from_utf8_lossy(name).into_owned(),
                    offset: header.sh_offset(self.endian),
                    len: header.sh_size(self.endian),
                    in_file: header.file_range(self.endian).is_some(),
                })
            })
            .collect()
    }

    /// The bytes of a section, where the file has them all and they are at most `max`.
    pub(super) fn bytes(&self, section: &Section, max: u64) -> Option<&'a [u8]> {
        if !section.in_file || section.len > max {
            return None;
        }
        self.source.read_bytes_at(section.offset, section.len).ok()
    }

    /// `len` bytes of what lies at `address` when it is loaded.
    pub(super) fn bytes_at(&self, address: u64, len: u64) -> Option<&'a [u8]> {
        let segments = self.header.program_headers(self.endian, self.source).ok()?;
        let loaded = segments.iter().filter(|segment| segment.p_type(self.endian) == elf::PT_LOAD);
        for segment in loaded {
            let (offset, size) = segment.file_range(self.endian);
            let Some(into) = address.checked_sub(segment.p_vaddr(self.endian)) else { continue };
            if into.checked_add(len).is_some_and(|end| end <= size) {
                return self.source.read_bytes_at(offset.checked_add(into)?, len).ok();
            }
        }
        None
    }

    /// Where the byte at `offset` of the file is when it is loaded, before it is moved: of a part that is mapped from there on.
    pub(crate) fn address_of(&self, offset: u64) -> Option<u64> {
        /// Parts are mapped by whole pages.
        const PAGE: u64 = 4096;
        let segments = self.header.program_headers(self.endian, self.source).ok()?;
        let mut loaded = segments.iter().filter(|segment| segment.p_type(self.endian) == elf::PT_LOAD);
        loaded.find_map(|segment| {
            let (from, _) = segment.file_range(self.endian);
            (from / PAGE == offset / PAGE).then(|| segment.p_vaddr(self.endian).wrapping_sub(from % PAGE))
        })
    }

    pub(super) fn is_little_endian(&self) -> bool {
        self.endian == Endianness::Little
    }

    /// What it exports, by the GNU hash table that every linker of today writes.
    pub(crate) fn exports(&self) -> Option<Exports<'a, R>> {
        // The library shifts by it without a look.
        let header = self.table.gnu_hash_header(self.endian, self.source).ok()??;
        if header.bloom_shift.get(self.endian) >= u32::BITS {
            return None;
        }
        let (hashes, of) = self.table.gnu_hash(self.endian, self.source).ok()??;
        if self.table.section(of).ok()?.sh_type(self.endian) != elf::SHT_DYNSYM {
            return None;
        }
        let symbols = self.table.symbol_table_by_index(self.endian, self.source, of).ok()?;
        Some(Exports { endian: self.endian, hashes, symbols })
    }
}

/// The exported symbols of a file.
pub(crate) struct Exports<'a, R: Read + Seek> {
    endian: Endianness,
    hashes: GnuHashTable<'a, Header>,
    symbols: SymbolTable<'a, Header, &'a Source<R>>,
}

impl<R: Read + Seek> Exports<'_, R> {
    /// Where an exported function or object is in memory, before the program is moved.
    pub(crate) fn find(&self, name: &str) -> Option<u64> {
        let hash = elf::gnu_hash(name.as_bytes());
        let any = VersionTable::default();
        let (_, found) = self.hashes.find(self.endian, name.as_bytes(), hash, None, &self.symbols, &any)?;
        // What is not defined here is asked of a library.
        (!found.is_undefined(self.endian)).then(|| found.st_value(self.endian))
    }
}
