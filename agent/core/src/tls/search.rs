//! A piece of memory → the secrets in it.
//!
//! ```text
//!   piece ─ every place that looks like a secret ─▶ candidates ─ proofs of connections ─▶ secrets, and where they lie
//! ```
//!
//! A secret is 32 or 48 bytes that look random; dense memory has some 8,000 such places in a megabyte. Libraries put theirs
//! in a few ways that hardly anything else has ([`Shape`]), so those are tried first.
//!
//! *Owns* what is tried, and in which order. *Must not know* processes, nor how memory is read.

use super::older::Salts;
pub use super::proof::Effort;
use super::proof::{Candidate, LENGTHS, Lengths, Proof};
use super::secret::{ClientRandom, Known, Label, MAX_SECRET, MIN_SECRET};

/// Bytes around a place that say what lies there: a length before it, the rest of its field after it.
pub const MARGIN: usize = 64 + 16;
/// How far from one secret of a connection the other one is looked for at every byte. In OpenSSL and GnuTLS they are 64 bytes
/// apart, in rustls 72, in Go 96 or 128, in BoringSSL 49.
pub const NEIGHBOURHOOD: usize = 1 << 10;

/// What is tried at once, in blocks of AES: some 5 ms. What is new is asked about meanwhile.
const MAX_COST: u64 = 1 << 20;

/// How secrets lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// After their length (arrays of JVMs: 32 bits; binaries of Erlang: 64 bits, in bytes or in bits), or in a field of 64 bytes
    /// of which the rest is zero (OpenSSL, GnuTLS, rustls).
    Marked,
    /// In a field of 48 bytes before their length, at any address (BoringSSL).
    BeforeLength,
    /// At multiples of 16 (Go, allocations of their own).
    Aligned,
    /// At multiples of 4.
    Words,
    /// Anywhere.
    Anywhere,
    /// Not the secrets themselves: what keys of TLS 1.2 are used with, which lies beside some of them and tells others.
    Salts,
}

impl Shape {
    /// Every way over a memory, in the order in which they are gone: what costs least first. Connections that were joined in the
    /// middle are looked for where there are few candidates.
    pub const WAYS: [(Shape, Effort); 11] = [
        (Shape::Marked, Effort::Begun),
        (Shape::BeforeLength, Effort::Begun),
        (Shape::Aligned, Effort::Begun),
        (Shape::Salts, Effort::Near),
        (Shape::Marked, Effort::Near),
        (Shape::Words, Effort::Begun),
        (Shape::Marked, Effort::Far),
        (Shape::BeforeLength, Effort::Near),
        (Shape::Aligned, Effort::Near),
        (Shape::Words, Effort::Keys),
        (Shape::Anywhere, Effort::Begun),
    ];

    fn step(self) -> usize {
        match self {
            Shape::Marked | Shape::Words | Shape::Salts => 4,
            Shape::Aligned => 16,
            Shape::BeforeLength | Shape::Anywhere => 1,
        }
    }
}

/// What one search is for.
#[derive(Debug, Default)]
pub struct Search {
    proofs: Vec<Proof>,
    /// What may be salts of any of its connections.
    salts: Salts,
    /// Candidates that were tried.
    pub candidates: u64,
    /// What that cost, in blocks of AES.
    cost: u64,
}

impl Search {
    /// A connection whose secrets are wanted; what was wanted of it before is replaced.
    pub fn add(&mut self, proof: Proof) {
        match self.proofs.iter_mut().find(|known| known.name() == proof.name()) {
            Some(known) => known.replace_by(proof),
            None => self.proofs.push(proof),
        }
    }

    /// What is still wanted.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    /// Takes out one connection, to look for its secrets alone.
    pub fn split_off(&mut self, name: &ClientRandom) -> Self {
        let proofs = self.take(name).into_iter().collect();
        Self { proofs, salts: std::mem::take(&mut self.salts), ..Self::default() }
    }

    /// The same, to look for them elsewhere.
    pub fn take(&mut self, name: &ClientRandom) -> Option<Proof> {
        let at = self.proofs.iter().position(|proof| proof.name() == name)?;
        Some(self.proofs.remove(at))
    }

    /// Puts back what is left of it.
    pub fn put_back(&mut self, part: Self) {
        self.candidates += part.candidates;
        self.cost += part.cost;
        if self.salts.all().is_empty() {
            self.salts = part.salts;
        }
        self.proofs.extend(part.proofs.into_iter().filter(|proof| !proof.is_done()));
    }

    /// A secret of a connection came to be known elsewhere: its other end has it.
    pub fn know(&mut self, name: &ClientRandom, label: Label) {
        self.proofs.iter_mut().filter(|proof| proof.name() == name).for_each(|proof| proof.know(label));
        self.proofs.retain(|proof| !proof.is_done());
    }

    /// Takes out what is no longer wanted.
    pub fn retain(&mut self, wanted: impl Fn(&Proof) -> bool) {
        self.proofs.retain(|proof| wanted(proof));
    }

    /// Everything was found, or nothing was wanted.
    pub fn is_done(&self) -> bool {
        self.proofs.iter().all(Proof::is_done)
    }

    /// Something is wanted that may be found with so much effort.
    pub fn wants(&self, effort: Effort) -> bool {
        self.proofs.iter().any(|proof| proof.wants(effort))
    }

    /// Tries a secret that was found for another connection: the other end of one that was joined in the middle has the same.
    pub fn try_known(&mut self, known: &Known, found: &mut impl FnMut(Known)) {
        let mut candidate = Candidate::new(known.secret.bytes(), &[]);
        for proof in &mut self.proofs {
            self.cost += proof.test_known(known, &mut candidate, found);
        }
        self.cost += candidate.cost;
        self.proofs.retain(|proof| !proof.is_done());
    }

    /// Tries the bytes at one place.
    pub fn try_at(&mut self, bytes: &[u8], effort: Effort, found: &mut impl FnMut(Known)) {
        self.try_lengths(bytes, self.lengths(effort), effort, found);
    }

    /// Tries as many bytes as these lengths say.
    fn try_lengths(&mut self, bytes: &[u8], lengths: Lengths, effort: Effort, found: &mut impl FnMut(Known)) {
        for len in LENGTHS.into_iter().zip(lengths).filter_map(|(len, is)| is.then_some(len)) {
            let Some(candidate) = bytes.get(..len).filter(|bytes| looks_random(bytes)) else { continue };
            self.candidates += 1;
            let mut candidate = Candidate::new(candidate, self.salts.all());
            for proof in &mut self.proofs {
                self.cost += proof.test(&mut candidate, effort, found);
            }
            self.cost += candidate.cost;
        }
        self.proofs.retain(|proof| !proof.is_done());
    }

    /// Tries every place of a piece that lies at `address`. The last [`MARGIN`] bytes are those of the next piece as well.
    /// Places before `from` were tried. `found` hears where a secret lies, too. Returns where to go on, if that is enough for once
    /// (`MAX_COST`).
    pub fn scan(
        &mut self,
        piece: &[u8],
        address: u64,
        from: u64,
        (shape, effort): (Shape, Effort),
        found: &mut impl FnMut(u64, Known),
    ) -> Option<u64> {
        if shape == Shape::Salts {
            self.collect(piece, address, found);
            return None;
        }
        let most = self.cost.saturating_add(MAX_COST);
        let step = shape.step();
        // Addresses, not places in the piece, are multiples of something.
        let begin = from.max(address).next_multiple_of(step as u64);
        let mut place = usize::try_from(begin - address).unwrap_or(usize::MAX);
        let mut lengths = self.lengths(effort);
        // From where on it is not known whether there can be a secret.
        let mut looked = place;
        while place < piece.len() && place + MIN_SECRET <= piece.len() && lengths != [false; 3] {
            if shape == Shape::Marked && place >= looked {
                if !may_be_marked(piece, place) {
                    place += MARKED_BLOCK;
                    looked = place;
                    continue;
                }
                looked = place + MARKED_BLOCK;
            }
            let fits = fitting(shape, piece, place, lengths);
            if fits != [false; 3]
                && let Some(name) = self.hits(piece, address, place, (fits, effort), found)
            {
                // The other direction's is near, and not always where this shape has it.
                self.look_around((piece, address, place), &name, 1, found);
                lengths = self.lengths(effort);
            }
            place += step;
            if self.cost > most {
                return Some(address + place as u64);
            }
        }
        None
    }

    /// Notes what keys of TLS 1.2 are used with, and tries what lies beside it.
    fn collect(&mut self, piece: &[u8], address: u64, found: &mut impl FnMut(u64, Known)) {
        let mut near = Vec::new();
        for proof in &mut self.proofs {
            let name = *proof.name();
            near.extend(proof.collect(piece).into_iter().map(|place| (name, place)));
        }
        if self.proofs.iter().any(Proof::needs_salts) {
            self.salts.collect_arrays(piece, address);
        }
        for (name, place) in near {
            // In OpenSSL's contexts everything is a word.
            self.look_around((piece, address, place), &name, 4, found);
        }
    }

    /// Tries the places around one for one connection.
    fn look_around(
        &mut self,
        (piece, address, place): (&[u8], u64, usize),
        name: &ClientRandom,
        step: usize,
        found: &mut impl FnMut(u64, Known),
    ) {
        // Addresses, not places in the piece, are multiples of something, and not the one that they are around.
        let first = address.saturating_add(place.saturating_sub(NEIGHBOURHOOD) as u64);
        let from = usize::try_from(first.next_multiple_of(step as u64) - address).unwrap_or(usize::MAX);
        let until = (place + NEIGHBOURHOOD).min(piece.len());
        let mut of = self.split_off(name);
        for near in (from..until).step_by(step) {
            let lengths = of.lengths(Effort::Near);
            of.hits(piece, address, near, (lengths, Effort::Near), found);
        }
        self.put_back(of);
    }

    /// Tries one place. Returns whose secret lay there.
    fn hits(
        &mut self,
        piece: &[u8],
        address: u64,
        place: usize,
        (lengths, effort): (Lengths, Effort),
        found: &mut impl FnMut(u64, Known),
    ) -> Option<ClientRandom> {
        let bytes = piece.get(place..)?;
        let mut hit = None;
        self.try_lengths(bytes, lengths, effort, &mut |known| {
            hit = Some(known.client_random);
            found(address + place as u64, known);
        });
        hit
    }

    fn lengths(&self, effort: Effort) -> Lengths {
        self.proofs.iter().fold([false; 3], |all, proof| {
            let [key, short, long] = proof.lengths(effort);
            [all[0] || key, all[1] || short, all[2] || long]
        })
    }
}

/// Places that are looked at together for what [`Shape::Marked`] asks: 16 words.
const MARKED_BLOCK: usize = 64;

/// Whether one of the next places can be marked: a small multiple of 16 before it, which may be a length, or zeros 56 bytes behind what
/// is none. Nearly all memory is passed over by this, 16 places at a time in the processor's vectors.
fn may_be_marked(piece: &[u8], place: usize) -> bool {
    const BEFORE: usize = 8;
    const BEHIND: usize = 64;
    let around = place.checked_sub(BEFORE).and_then(|from| piece.get(from..place + MARKED_BLOCK + BEHIND));
    // At the ends of a piece every place is looked at.
    let Some(around) = around else { return true };
    let (words, _) = around.as_chunks::<4>();
    let word = |at: usize| words.get(at).map_or(0, |word| u32::from_le_bytes(*word));
    let mut may_be = false;
    for at in 0..MARKED_BLOCK / 4 {
        let (before, here) = (at, at + BEFORE / 4);
        let is_len = |word: u32| (word.wrapping_sub(1) < 8 * MAX_SECRET as u32) & word.is_multiple_of(16);
        may_be |= is_len(word(before)) | is_len(word(before + 1));
        may_be |= ((word(here + 14) | word(here + 15)) == 0) & (word(here) != 0) & (word(here + 7) != 0);
    }
    may_be
}

/// Of these lengths, those that a secret may have that lies there in this way: the cheap half of the question.
fn fitting(shape: Shape, piece: &[u8], place: usize, lengths: Lengths) -> Lengths {
    let before = |len: usize| place.checked_sub(len).and_then(|from| piece.get(from..place));
    let marked = |len: usize| {
        let is_array = before(4)
            .and_then(|bytes| bytes.first_chunk())
            .is_some_and(|said| u32::from_le_bytes(*said) as usize == len);
        // A JVM without compressed class pointers puts 4 bytes between an array's length and its elements. In Erlang the length
        // is in bytes, or since OTP 27 in bits.
        let is_long = before(8).and_then(|bytes| bytes.first_chunk()).is_some_and(|said| {
            let said = u64::from_le_bytes(*said);
            said == len as u64 || said == 8 * len as u64
        });
        let rest = piece.get(place + len..place + 64);
        is_array || is_long || rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    };
    let is_said_behind =
        |len: usize| piece.get(place + MAX_SECRET).is_some_and(|said| usize::from(*said) == len);
    let fits = |len: usize| match shape {
        Shape::Marked => marked(len),
        Shape::BeforeLength => is_said_behind(len),
        Shape::Aligned | Shape::Words | Shape::Anywhere => true,
        Shape::Salts => false,
    };
    let [key, short, long] = LENGTHS;
    [lengths[0] && fits(key), lengths[1] && fits(short), lengths[2] && fits(long)]
}

/// The first 32 bytes, or all 16 of a key, are as random ones are: of those, 99.9 % pass; pointers, text and small numbers do not.
fn looks_random(bytes: &[u8]) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    // 32 random bytes have 30 different values, and fewer than 22 once in ten million times; 16 have fewer than 12 once in 46,000.
    let (words, usual, least) = match words {
        [a, b, c, d, ..] => (&[*a, *b, *c, *d][..], 5..=27, 22),
        [a, b, ..] => (&[*a, *b][..], 2..=14, 12),
        _ => return false,
    };
    let (mut high, mut zeros) = (0, 0);
    for word in words {
        let word = u64::from_le_bytes(*word);
        high += (word & 0x8080_8080_8080_8080).count_ones();
        // Bytes that are zero; a one after a zero counts as well, which does no harm.
        zeros += (word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080).count_ones();
    }
    if zeros > 2 || !usual.contains(&high) {
        return false;
    }
    let mut seen = [0_u64; 4];
    for byte in words.as_flattened() {
        if let Some(part) = seen.get_mut(usize::from(byte >> 6)) {
            *part |= 1 << (byte & 63);
        }
    }
    seen.iter().map(|part| part.count_ones()).sum::<u32>() >= least
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Looking at many places at once passes over none that would be tried.
        #[test]
        fn what_is_passed_over_is_not_marked(
            words in proptest::collection::vec(
                prop_oneof![3 => Just(0_u32), 1 => prop::sample::select(vec![16, 32, 48, 256, 384]), 6 => any::<u32>()],
                64..200,
            ),
            at in 0..40_usize,
        ) {
            let piece: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let place = 4 * at;
            if !may_be_marked(&piece, place) {
                for place in (place..place + MARKED_BLOCK).step_by(4) {
                    let fits = fitting(Shape::Marked, &piece, place, [true; 3]);
                    let tried = LENGTHS.into_iter().zip(fits).any(|(len, fits)| {
                        fits && piece.get(place..place + len).is_some_and(looks_random)
                    });
                    prop_assert!(!tried, "{place}");
                }
            }
        }
    }
}
