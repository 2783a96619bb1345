//! Fields by their index: the static table, and the dynamic one as far as it can be known.
//!
//! *Owns* insertion, eviction, and what an index means. *Must not know* how fields are written.
//! *Spec*: RFC 7541, sections 2.3 and 4, Appendix A.
//!
//! A connection joined in the middle, or one that lost a header block, has entries nobody can know. Yet every entry that is
//! inserted afterwards has an index for certain, because indices count from the newest. So the table is a window: the entries
//! since then are known, what lies behind them is [`Lookup::Unknown`], and nothing is guessed. Eviction does not shift
//! indices; an encoder that evicted an entry does not name it any more.

use std::collections::VecDeque;

/// The static table, from index 1.
static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The first index of the dynamic table.
const FIRST_DYNAMIC: usize = STATIC.len() + 1;
/// What an entry counts besides its octets (section 4.1).
pub(super) const OVERHEAD: usize = 32;
/// The size of a table before any update (RFC 9113, section 6.5.2).
const DEFAULT_SIZE: usize = 4096;
/// Entries of at most this size together are remembered, whatever the connection allows.
const MAX_REMEMBERED: usize = 64 << 10;
/// Dead octets at the front of the block before it is moved together.
const COMPACT_LEN: usize = 4096;

/// One direction's dynamic table.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Names and values, oldest first; the first `dead` octets are of entries that are gone.
    block: Vec<u8>,
    dead: usize,
    /// Octets that were cut off the front of `block` since the start.
    moved: u64,
    /// By section 4.1, of the known entries.
    size: usize,
    /// The bound in force. `None`: it was set before the connection was joined.
    max: Option<usize>,
    /// Every entry of the encoder's table is in `entries`.
    complete: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position of the name in the stream of all octets ever inserted.
    start: u64,
    /// `None`: it cannot be known.
    name_len: Option<u32>,
    value_len: Option<u32>,
}

/// What stands at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// An entry; `None` for the parts that were not known when it was inserted.
    Entry(Option<&'a [u8]>, Option<&'a [u8]>),
    /// An entry from before the window.
    Unknown,
    /// No entry: the encoder made a mistake.
    Invalid,
}

impl Table {
    /// Of a connection seen from its first byte, or of one joined later.
    pub(super) fn new(from_start: bool) -> Table {
        Table {
            entries: VecDeque::new(),
            block: Vec::new(),
            dead: 0,
            moved: 0,
            size: 0,
            max: from_start.then_some(DEFAULT_SIZE),
            complete: from_start,
        }
    }

    /// One that another one was like: its fields, oldest first. A value that is not known any more only makes an entry count
    /// less than it does for the encoder.
    pub(super) fn resumed<'a>(
        fields: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
        max: Option<usize>,
        is_complete: bool,
    ) -> Table {
        let mut table = Table::new(false);
        let mut count = 0;
        for (name, value) in fields {
            table.insert(name.map(str::as_bytes), value.map(str::as_bytes));
            count += 1;
        }
        table.max = max;
        table.complete = is_complete && table.entries.len() == count;
        table
    }

    /// Every field, oldest first.
    pub(super) fn fields(&self) -> impl Iterator<Item = (Option<&[u8]>, Option<&[u8]>)> {
        self.entries.iter().rev().map(|entry| self.parts(entry))
    }

    /// The bound in force, where it is known.
    pub(super) fn bound(&self) -> Option<usize> {
        self.max
    }

    /// Whether it holds all that the encoder's does.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.block.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Insertions may have been missed: nothing is known of what is in it.
    pub(super) fn lose(&mut self) {
        *self = Table { block: std::mem::take(&mut self.block), ..Table::new(false) };
        self.block.clear();
    }

    /// The field at an index of both tables together (section 2.3.3).
    pub(super) fn get(&self, index: usize) -> Lookup<'_> {
        let Some(dynamic) = index.checked_sub(FIRST_DYNAMIC) else {
            let entry = index.checked_sub(1).and_then(|at| STATIC.get(at));
            return entry.map_or(Lookup::Invalid, |(name, value)| Lookup::Entry(Some(name), Some(value)));
        };
        match self.entries.get(dynamic) {
            Some(entry) => {
                let (name, value) = self.parts(entry);
                Lookup::Entry(name, value)
            }
            None if self.complete => Lookup::Invalid,
            None => Lookup::Unknown,
        }
    }

    /// Adds an entry; `None` for what cannot be known of it.
    pub(super) fn insert(&mut self, name: Option<&[u8]>, value: Option<&[u8]>) {
        let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let size = OVERHEAD.saturating_add(len(name)).saturating_add(len(value));
        if let Some(max) = self.max {
            self.shrink(max.saturating_sub(size));
            if size > max {
                // Not an error: it empties the table (section 4.4).
                self.complete = true;
                return;
            }
        }
        // Too large to remember, yet it has an index.
        let (name, value, size) =
            if size > MAX_REMEMBERED { (None, None, OVERHEAD) } else { (name, value, size) };
        while self.size.saturating_add(size) > MAX_REMEMBERED && self.pop() {
            self.complete = false;
        }
        let known_len = |part: Option<&[u8]>| part.and_then(|part| u32::try_from(part.len()).ok());
        let start = self.moved.saturating_add(self.block.len() as u64);
        self.entries.push_front(Entry { start, name_len: known_len(name), value_len: known_len(value) });
        self.block.extend_from_slice(name.unwrap_or_default());
        self.block.extend_from_slice(value.unwrap_or_default());
        self.size = self.size.saturating_add(size);
    }

    /// A dynamic table size update (section 4.3).
    pub(super) fn resize(&mut self, max: usize) {
        self.max = Some(max);
        self.shrink(max);
        if max == 0 {
            self.complete = true;
        }
    }

    /// Evicts until no more than `size` is left. What is older than an evicted entry was evicted too, known or not:
    /// sizes here are never larger than the encoder's.
    fn shrink(&mut self, size: usize) {
        while self.size > size && self.pop() {
            self.complete = true;
        }
    }

    fn pop(&mut self) -> bool {
        let Some(entry) = self.entries.pop_back() else { return false };
        let len = entry.name_len.unwrap_or(0) as usize + entry.value_len.unwrap_or(0) as usize;
        self.size = self.size.saturating_sub(OVERHEAD + len);
        self.dead = self.dead.saturating_add(len);
        if self.dead > COMPACT_LEN && self.dead > self.block.len() / 2 {
            self.block.drain(..self.dead.min(self.block.len()));
            self.moved = self.moved.saturating_add(self.dead as u64);
            self.dead = 0;
        }
        true
    }

    fn parts(&self, entry: &Entry) -> (Option<&[u8]>, Option<&[u8]>) {
        let start = usize::try_from(entry.start.saturating_sub(self.moved)).unwrap_or(usize::MAX);
        let value_at = start.saturating_add(entry.name_len.unwrap_or(0) as usize);
        let slice = |from: usize, len: Option<u32>| self.block.get(from..from.saturating_add(len? as usize));
        (slice(start, entry.name_len), slice(value_at, entry.value_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(from_start: bool, entries: usize) -> Table {
        let mut table = Table::new(from_start);
        (0..entries).for_each(|n| table.insert(Some(b"name"), Some(format!("{n:04}").as_bytes())));
        table
    }

    fn value(table: &Table, index: usize) -> String {
        match table.get(index) {
            Lookup::Entry(_, Some(value)) => String::from_utf8_lossy(value).into_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn indices_count_from_the_newest() {
        let table = filled(true, 3);
        assert_eq!(
            [62, 63, 64, 65, 0].map(|at| value(&table, at)),
            ["0002", "0001", "0000", "Invalid", "Invalid"]
        );
        assert_eq!(table.get(8), Lookup::Entry(Some(b":status"), Some(b"200")));
        assert_eq!(table.get(61), Lookup::Entry(Some(b"www-authenticate"), Some(b"")));
    }

    #[test]
    fn a_full_table_evicts_the_oldest() {
        // 40 each: 102 of them fit.
        let table = filled(true, 1000);
        assert_eq!((value(&table, 62), value(&table, 62 + 101)), ("0999".to_owned(), "0898".to_owned()));
        assert_eq!(value(&table, 62 + 102), "Invalid");
    }

    #[test]
    fn a_joined_table_knows_what_came_since() {
        let mut table = filled(false, 1000);
        assert_eq!((value(&table, 62), value(&table, 62 + 999)), ("0999".to_owned(), "0000".to_owned()));
        assert_eq!(value(&table, 62 + 1000), "Unknown");
        // An update says the bound; when a known entry goes, all before it went.
        table.resize(4096);
        assert_eq!(value(&table, 62 + 102), "Invalid");
        let mut table = filled(false, 1);
        table.resize(4096);
        assert_eq!(value(&table, 63), "Unknown");
        table.resize(0);
        assert_eq!(value(&table, 62), "Invalid");
    }

    #[test]
    fn an_entry_too_large_empties_the_table() {
        let mut table = filled(true, 3);
        table.insert(Some(b"x"), Some(&[b'y'; 5000]));
        assert_eq!(value(&table, 62), "Invalid");
    }

    #[test]
    fn memory_is_bounded_whatever_is_allowed() {
        let mut table = Table::new(true);
        table.resize(1 << 30);
        for n in 0..10_000 {
            table.insert(Some(b"name"), Some(&[b'y'; 1000]));
            assert!(table.block.capacity() <= 4 * MAX_REMEMBERED, "{n}");
        }
        table.insert(Some(b"name"), Some(&vec![b'y'; 1 << 20]));
        assert_eq!(table.get(62), Lookup::Entry(None, None));
        assert_eq!(value(&table, 63).len(), 1000);
        assert_eq!(table.get(62 + 2000), Lookup::Unknown);
    }
}
