//! Facts ⇄ the bytes that are sealed: the number of the format, then zstd over postcard.

use crate::facts::Fact;

/// Format 1: `postcard` of `Vec<Fact>`, compressed by zstd. A later one adds a number and keeps this one readable.
const FORMAT: u8 = 1;
/// The level that costs least for texts of some kilobytes: 17 µs for 3 kB, and three times smaller.
const LEVEL: i32 = 3;
/// An order's facts are bounded, and so is what they unpack to: what is larger was not written here.
const MAX_UNPACKED: usize = 32 << 20;

pub(super) fn pack(facts: &[Fact]) -> Result<Vec<u8>, &'static str> {
    let plain = postcard::to_stdvec(facts).map_err(|_| "facts cannot be written")?;
    if plain.len() > MAX_UNPACKED {
        return Err("facts are larger than a row may be");
    }
    let mut packed = vec![FORMAT];
    packed.extend(zstd::bulk::compress(&plain, LEVEL).map_err(|_| "facts cannot be compressed")?);
    Ok(packed)
}

pub(super) fn unpack(packed: &[u8]) -> Result<Vec<Fact>, &'static str> {
    match packed.split_first() {
        Some((&FORMAT, rest)) => {
            let plain =
                zstd::bulk::decompress(rest, MAX_UNPACKED).map_err(|_| "its compression is broken")?;
            postcard::from_bytes(&plain).map_err(|_| "it is no list of facts")
        }
        Some(_) => Err("its format is not known here"),
        None => Err("it is empty"),
    }
}
