//! A table's description → a table of finite state entropy, and symbols by it (section 4.1).

use super::bits::{Backward, Forward};
use super::{End, Input};

/// A state: what it stands for, and how the next one is found.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    symbol: u8,
    bits: u8,
    baseline: u16,
}

/// A decoding table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    accuracy_log: u32,
}

/// Where a decoder stands in a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct State(usize);

/// Most symbols of any table here: 52 is the largest code of match lengths.
const MAX_SYMBOLS: usize = 256;

impl Table {
    /// Reads a description (section 4.1.1). No symbol is larger than `max_symbol`.
    pub(super) fn read(input: &mut Input<'_>, max_log: u32, max_symbol: u8) -> Result<Self, End> {
        let mut bits = Forward::new(input.0);
        let accuracy_log = bits.read(4)? as u32 + 5;
        if accuracy_log > max_log {
            return Err(End);
        }
        let mut left = 1_i64 << accuracy_log;
        let mut probabilities = Vec::new();
        while left > 0 {
            let probability = probability(&mut bits, left)?;
            left -= probability.abs();
            probabilities.push(probability);
            if probability == 0 {
                loop {
                    let zeros = bits.read(2)? as usize;
                    probabilities.resize(probabilities.len() + zeros, 0);
                    if zeros < 3 || probabilities.len() > MAX_SYMBOLS {
                        break;
                    }
                }
            }
            if probabilities.len() > usize::from(max_symbol) + 1 {
                return Err(End);
            }
        }
        input.take(bits.bytes_read())?;
        if left < 0 { Err(End) } else { Self::new(&probabilities, accuracy_log) }
    }

    /// Section 4.1.1, "from normalized distribution to decoding tables". −1 is "less than one".
    pub(super) fn new(probabilities: &[i64], accuracy_log: u32) -> Result<Self, End> {
        let size = 1_usize << accuracy_log;
        let mut entries = vec![Entry::default(); size];
        let mut high = size;
        let mut next = vec![0_u16; probabilities.len()];
        for (symbol, probability) in probabilities.iter().enumerate() {
            let next = next.get_mut(symbol).ok_or(End)?;
            if *probability == -1 {
                high = high.checked_sub(1).ok_or(End)?;
                entries.get_mut(high).ok_or(End)?.symbol = symbol as u8;
                *next = 1;
            } else {
                *next = u16::try_from(*probability).map_err(|_| End)?;
            }
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut position = 0;
        for (symbol, probability) in probabilities.iter().enumerate() {
            for _ in 0..*probability {
                entries.get_mut(position).ok_or(End)?.symbol = symbol as u8;
                loop {
                    position = (position + step) & (size - 1);
                    if position < high {
                        break;
                    }
                    // Only where all are rare: then no symbol is placed by steps.
                    if high == 0 {
                        return Err(End);
                    }
                }
            }
        }
        for entry in &mut entries {
            let next = next.get_mut(usize::from(entry.symbol)).ok_or(End)?;
            let number = *next;
            *next = next.checked_add(1).ok_or(End)?;
            let bits = accuracy_log.checked_sub(number.checked_ilog2().ok_or(End)?).ok_or(End)?;
            entry.bits = bits as u8;
            entry.baseline = u16::try_from((usize::from(number) << bits).checked_sub(size).ok_or(End)?)
                .map_err(|_| End)?;
        }
        Ok(Self { entries, accuracy_log })
    }

    /// One symbol for ever ("RLE mode").
    pub(super) fn constant(symbol: u8) -> Self {
        Self { entries: vec![Entry { symbol, bits: 0, baseline: 0 }], accuracy_log: 0 }
    }

    pub(super) fn begin(&self, bits: &mut Backward<'_>) -> Result<State, End> {
        bits.read(self.accuracy_log).map(|state| State(state as usize))
    }

    pub(super) fn symbol(&self, state: State) -> Result<u8, End> {
        self.entries.get(state.0).map(|entry| entry.symbol).ok_or(End)
    }

    /// The next state; an error when the bits do not suffice.
    pub(super) fn step(&self, state: State, bits: &mut Backward<'_>) -> Result<State, End> {
        let entry = self.entries.get(state.0).ok_or(End)?;
        let more = bits.read(u32::from(entry.bits))? as usize;
        Ok(State(usize::from(entry.baseline) + more))
    }
}

/// One probability where `left` points are to be given out: small values take one bit less (section 4.1.1).
fn probability(bits: &mut Forward<'_>, left: i64) -> Result<i64, End> {
    let largest = u64::try_from(left + 1).map_err(|_| End)?;
    let width = largest.ilog2() + 1;
    let short = (1_u64 << width) - 1 - largest;
    let value = bits.peek(width);
    let low = value & ((1 << (width - 1)) - 1);
    let value = if low < short {
        bits.skip(width - 1)?;
        low
    } else {
        bits.skip(width)?;
        if value >> (width - 1) == 0 { value } else { value - short }
    };
    Ok(value as i64 - 1)
}
