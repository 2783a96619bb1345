//! Where the probes find fields in this kernel: its type information → [`Offsets`].
//!
//! aya cannot relocate Rust programs, so the loader passes offsets as globals.

use spoor_common::{
    Offsets,
    config::{FIELDS, MISSING, Need},
};

use super::btf::Btf;

/// All offsets, or the names of fields that every supported kernel has and this one lacks.
pub fn resolve(btf: &Btf) -> Result<Offsets, Vec<String>> {
    let mut words = [MISSING; Offsets::LEN];
    let mut missing = Vec::new();
    for (word, field) in words.iter_mut().zip(FIELDS) {
        match btf.offset(field.owner, field.path) {
            Some(offset) => *word = offset,
            None if field.need == Need::Always => missing.push(format!("{}.{}", field.owner, field.path)),
            None => {}
        }
    }
    if missing.is_empty() { Ok(Offsets::from_words(words)) } else { Err(missing) }
}
