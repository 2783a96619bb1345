//! Literals and sequences of copies → output (sections 3.1.1.3.2 and 3.1.1.4).

use super::bits::Backward;
use super::fse::Table;
use super::{End, Input, MAX_BLOCK};

/// Where copies may come from, and how much is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Where the frame begins in the output.
    pub(super) begin: usize,
    pub(super) len: usize,
    pub(super) bound: usize,
}

/// What the sequences of a frame have in common.
#[derive(Debug)]
pub(super) struct Sequences {
    tables: [Option<Table>; 3],
    offsets: [usize; 3],
}

impl Default for Sequences {
    fn default() -> Self {
        Self { tables: [None, None, None], offsets: [1, 4, 8] }
    }
}

/// One of the three kinds of codes: its default table, and the bounds of others.
struct Kind {
    defaults: &'static [i64],
    default_log: u32,
    max_log: u32,
    max_symbol: u8,
}

/// In the order of their descriptions (section 3.1.1.3.2.1; defaults in 3.1.1.3.2.2).
const KINDS: [Kind; 3] = [
    Kind { defaults: &LITERAL_LENGTHS, default_log: 6, max_log: 9, max_symbol: 35 },
    Kind { defaults: &OFFSETS, default_log: 5, max_log: 8, max_symbol: 31 },
    Kind { defaults: &MATCH_LENGTHS, default_log: 6, max_log: 9, max_symbol: 52 },
];
#[rustfmt::skip]
const LITERAL_LENGTHS: [i64; 36] = [
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
];
#[rustfmt::skip]
const MATCH_LENGTHS: [i64; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, -1, -1, -1, -1, -1, -1, -1,
];
#[rustfmt::skip]
const OFFSETS: [i64; 29] = [
    1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
];

impl Sequences {
    /// Writes what a block's sequences say, until the output has what is wanted of it.
    pub(super) fn run(
        &mut self,
        mut block: Input<'_>,
        literals: &[u8],
        window: Window,
        plain: &mut Vec<u8>,
    ) -> Result<(), End> {
        let mut literals = Input(literals);
        let block_begin = plain.len();
        let count = match usize::from(block.byte()?) {
            few @ 0..128 => few,
            255 => block.small(2)? + 0x7f00,
            high => (high - 128) << 8 | usize::from(block.byte()?),
        };
        if count > 0 {
            let modes = block.byte()?;
            if modes & 3 != 0 {
                return Err(End);
            }
            for (at, kind) in KINDS.iter().enumerate() {
                let mode = modes >> (6 - 2 * at) & 3;
                self.read_table(at, kind, mode, &mut block)?;
            }
            self.copies(block.0, count, &mut literals, window, plain)?;
        }
        plain.extend_from_slice(literals.0);
        if plain.len() - block_begin > MAX_BLOCK { Err(End) } else { Ok(()) }
    }

    fn read_table(&mut self, at: usize, kind: &Kind, mode: u8, block: &mut Input<'_>) -> Result<(), End> {
        let table = self.tables.get_mut(at).ok_or(End)?;
        match mode {
            0 => *table = Some(Table::new(kind.defaults, kind.default_log)?),
            1 => {
                let symbol = block.byte()?;
                if symbol > kind.max_symbol {
                    return Err(End);
                }
                *table = Some(Table::constant(symbol));
            }
            2 => *table = Some(Table::read(block, kind.max_log, kind.max_symbol)?),
            // "Repeat_Mode": the table of the block before.
            _ if table.is_none() => return Err(End),
            _ => {}
        }
        Ok(())
    }

    fn copies(
        &mut self,
        coded: &[u8],
        count: usize,
        literals: &mut Input<'_>,
        window: Window,
        plain: &mut Vec<u8>,
    ) -> Result<(), End> {
        let [Some(literal_lens), Some(offsets), Some(match_lens)] = &self.tables else { return Err(End) };
        let mut bits = Backward::new(coded)?;
        let mut literal_state = literal_lens.begin(&mut bits)?;
        let mut offset_state = offsets.begin(&mut bits)?;
        let mut match_state = match_lens.begin(&mut bits)?;
        let block_begin = plain.len();
        for number in 1..=count {
            let code = u32::from(offsets.symbol(offset_state)?);
            let offset = (1_usize << code) + bits.read(code)? as usize;
            let (base, more) = match_length(match_lens.symbol(match_state)?);
            let match_len = base + bits.read(more)? as usize;
            let (base, more) = literal_length(literal_lens.symbol(literal_state)?);
            let literal_len = base + bits.read(more)? as usize;
            if number < count {
                literal_state = literal_lens.step(literal_state, &mut bits)?;
                match_state = match_lens.step(match_state, &mut bits)?;
                offset_state = offsets.step(offset_state, &mut bits)?;
            } else if !bits.is_empty() {
                return Err(End);
            }
            plain.extend_from_slice(literals.take(literal_len)?);
            let offset = recent(&mut self.offsets, offset, literal_len)?;
            if plain.len() + match_len - block_begin > MAX_BLOCK {
                return Err(End);
            }
            copy(plain, offset, match_len, window)?;
            if plain.len() >= window.bound {
                // The rest is not wanted, and nothing after it.
                literals.0 = &[];
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Section 3.1.1.5: the first three values stand for offsets that were used lately.
fn recent(offsets: &mut [usize; 3], value: usize, literal_len: usize) -> Result<usize, End> {
    let [first, second, third] = *offsets;
    // Without literals in front, the latest one would only make the match before longer: all are one further.
    let which = value + usize::from(literal_len == 0);
    let offset = match (value, which) {
        (4.., _) => value - 3,
        (_, 1) => return Ok(first),
        (_, 2) => {
            *offsets = [second, first, third];
            return Ok(second);
        }
        (_, 3) => third,
        _ => first.checked_sub(1).ok_or(End)?,
    };
    *offsets = [offset, first, second];
    if offset == 0 { Err(End) } else { Ok(offset) }
}

/// Copies what lies `offset` bytes before the end to the end; it may reach into what it writes.
fn copy(plain: &mut Vec<u8>, offset: usize, len: usize, window: Window) -> Result<(), End> {
    let from = plain.len().checked_sub(offset).filter(|from| *from >= window.begin).ok_or(End)?;
    if offset > window.len.max(1) || offset == 0 {
        return Err(End);
    }
    let mut left = len.min(window.bound.saturating_sub(plain.len()));
    while left > 0 {
        // What was written meanwhile repeats, so each round can take twice as much.
        let some = left.min(plain.len() - from);
        plain.extend_from_within(from..from + some);
        left -= some;
    }
    Ok(())
}

/// Base and number of further bits (section 3.1.1.3.2.1.1).
fn literal_length(code: u8) -> (usize, u32) {
    const FROM_16: [(usize, u32); 20] = [
        (16, 1),
        (18, 1),
        (20, 1),
        (22, 1),
        (24, 2),
        (28, 2),
        (32, 3),
        (40, 3),
        (48, 4),
        (64, 6),
        (128, 7),
        (256, 8),
        (512, 9),
        (1024, 10),
        (2048, 11),
        (4096, 12),
        (8192, 13),
        (16_384, 14),
        (32_768, 15),
        (65_536, 16),
    ];
    let further = usize::from(code).checked_sub(16).and_then(|at| FROM_16.get(at).copied());
    further.unwrap_or((usize::from(code), 0))
}

/// The same for matches, which are three bytes long at least.
fn match_length(code: u8) -> (usize, u32) {
    const FROM_32: [(usize, u32); 21] = [
        (35, 1),
        (37, 1),
        (39, 1),
        (41, 1),
        (43, 2),
        (47, 2),
        (51, 3),
        (59, 3),
        (67, 4),
        (83, 4),
        (99, 5),
        (131, 7),
        (259, 8),
        (515, 9),
        (1027, 10),
        (2051, 11),
        (4099, 12),
        (8195, 13),
        (16_387, 14),
        (32_771, 15),
        (65_539, 16),
    ];
    let further = usize::from(code).checked_sub(32).and_then(|at| FROM_32.get(at).copied());
    further.unwrap_or((usize::from(code) + 3, 0))
}
