//! A tree's description → literals by it (section 4.2).

use super::bits::Backward;
use super::fse::Table;
use super::{End, Input};

/// "Maximum number of bits": no code is longer.
const MAX_BITS: u32 = 11;
/// Weights are described by tables of this size at most.
const WEIGHTS_LOG: u32 = 6;

/// What bits in front stand for: as many entries as there are values of `max_bits` bits.
#[derive(Clone, Debug)]
pub(super) struct Huffman {
    /// Symbol and length of its code.
    entries: Vec<(u8, u8)>,
    max_bits: u32,
}

impl Huffman {
    /// Section 4.2.1.
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self, End> {
        let head = usize::from(input.byte()?);
        let weights = match head.checked_sub(127) {
            // Four bits each.
            Some(count) if count > 0 => {
                let bytes = input.take(count.div_ceil(2))?;
                bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).take(count).collect()
            }
            _ => compressed_weights(Input(input.take(head)?))?,
        };
        Self::of_weights(weights)
    }

    fn of_weights(mut weights: Vec<u8>) -> Result<Self, End> {
        let mut sum = 0_u32;
        for weight in &weights {
            if u32::from(*weight) > MAX_BITS {
                return Err(End);
            }
            sum += if *weight == 0 { 0 } else { 1 << (weight - 1) };
        }
        let max_bits = sum.checked_ilog2().ok_or(End)? + 1;
        // The last weight is what makes the sum a power of two.
        let rest = (1_u32 << max_bits) - sum;
        if max_bits > MAX_BITS || !rest.is_power_of_two() || weights.len() > 255 {
            return Err(End);
        }
        weights.push(rest.ilog2() as u8 + 1);
        // Long codes first, equal ones by their symbols.
        let mut entries = Vec::with_capacity(1 << max_bits);
        for weight in 1..=max_bits {
            let with_it = weights.iter().enumerate().filter(|(_, other)| u32::from(**other) == weight);
            for (symbol, _) in with_it {
                let entry = (symbol as u8, (max_bits + 1 - weight) as u8);
                entries.resize(entries.len() + (1 << (weight - 1)), entry);
            }
        }
        if entries.len() == 1 << max_bits { Ok(Self { entries, max_bits }) } else { Err(End) }
    }

    /// Section 4.2.2: one stream, or four of which each has a quarter of the literals.
    pub(super) fn decode(
        &self,
        mut coded: Input<'_>,
        streams: usize,
        count: usize,
        literals: &mut Vec<u8>,
    ) -> Result<(), End> {
        if streams == 1 {
            return self.stream(coded.0, count, literals);
        }
        let lens = [coded.small(2)?, coded.small(2)?, coded.small(2)?];
        let quarter = count.div_ceil(4);
        let last = count.checked_sub(3 * quarter).ok_or(End)?;
        for len in lens {
            self.stream(coded.take(len)?, quarter, literals)?;
        }
        self.stream(coded.0, last, literals)
    }

    fn stream(&self, bytes: &[u8], count: usize, literals: &mut Vec<u8>) -> Result<(), End> {
        let mut bits = Backward::new(bytes)?;
        for _ in 0..count {
            let (symbol, len) = self.entries.get(bits.peek(self.max_bits) as usize).ok_or(End)?;
            bits.skip(u32::from(*len))?;
            literals.push(*symbol);
        }
        if bits.is_empty() { Ok(()) } else { Err(End) }
    }
}

/// Section 4.2.1.2: two states take turns until the bits are used up.
fn compressed_weights(mut input: Input<'_>) -> Result<Vec<u8>, End> {
    let table = Table::read(&mut input, WEIGHTS_LOG, MAX_BITS as u8 + 1)?;
    let mut bits = Backward::new(input.0)?;
    let mut states = [table.begin(&mut bits)?, table.begin(&mut bits)?];
    let mut weights = Vec::new();
    while weights.len() < 255 {
        let [first, second] = states;
        weights.push(table.symbol(first)?);
        let Ok(next) = table.step(first, &mut bits) else {
            weights.push(table.symbol(second)?);
            return Ok(weights);
        };
        states = [second, next];
    }
    Err(End)
}
