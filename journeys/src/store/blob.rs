//! Facts ⇄ the bytes that are sealed: the number of the format, then zstd over postcard.

use crate::facts::Fact;
use crate::fold::Gathered;

/// Format 2: `postcard` of whether facts were left out, and of `Vec<Fact>`, compressed by zstd. A later one adds a number
/// and keeps this one readable.
const FORMAT: u8 = 2;
/// The facts alone.
const WITHOUT_BOUND: u8 = 1;
/// The level that costs least for texts of some kilobytes: 17 µs for 3 kB, and three times smaller.
const LEVEL: i32 = 3;
/// An order's facts are bounded, and so is what they unpack to: what is larger was not written here.
const MAX_UNPACKED: usize = 32 << 20;

pub(super) fn pack(gathered: &Gathered) -> Result<Vec<u8>, &'static str> {
    let plain =
        postcard::to_stdvec(&(gathered.truncated, &gathered.facts)).map_err(|_| "facts cannot be written")?;
    if plain.len() > MAX_UNPACKED {
        return Err("facts are larger than a row may be");
    }
    let mut packed = vec![FORMAT];
    packed.extend(zstd::bulk::compress(&plain, LEVEL).map_err(|_| "facts cannot be compressed")?);
    Ok(packed)
}

pub(super) fn unpack(packed: &[u8]) -> Result<Gathered, &'static str> {
    let (format, rest) = packed.split_first().ok_or("it is empty")?;
    if !matches!(*format, FORMAT | WITHOUT_BOUND) {
        return Err("its format is not known here");
    }
    let plain = zstd::bulk::decompress(rest, MAX_UNPACKED).map_err(|_| "its compression is broken")?;
    let (truncated, facts): (bool, Vec<Fact>) = match *format {
        WITHOUT_BOUND => postcard::from_bytes(&plain).map(|facts| (false, facts)),
        _ => postcard::from_bytes(&plain),
    }
    .map_err(|_| "it is no list of facts")?;
    Ok(Gathered { facts, truncated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::wrote;

    #[test]
    fn what_is_packed_unpacks_and_so_does_the_format_before() {
        let facts = vec![wrote("7", 1, 1, "shop", "orders", "created")];
        let gathered = Gathered { facts: facts.clone(), truncated: true };
        assert_eq!(unpack(&pack(&gathered).expect("packed")), Ok(gathered));
        let plain = postcard::to_stdvec(&facts).expect("written");
        let mut old = vec![WITHOUT_BOUND];
        old.extend(zstd::bulk::compress(&plain, LEVEL).expect("compressed"));
        assert_eq!(unpack(&old), Ok(Gathered { facts, truncated: false }));
        for wrong in [&[][..], &[9, 1, 2], &[FORMAT, 1, 2], &[FORMAT]] {
            assert!(unpack(wrong).is_err(), "{wrong:?}");
        }
    }
}
