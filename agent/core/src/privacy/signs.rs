//! A text → what kinds of characters it has.
//!
//! Nearly every text that leaves can hold nothing that would have to go, and its characters show that. *Must not know* what they
//! are looked at for.

/// What an e-mail address, a pair of name and value, or an escape has.
pub(super) const SIGN: u8 = 1;
/// What parts paths.
pub(super) const PART: u8 = 2;
/// What the shape of a token has: a capital, `_` or `-`.
pub(super) const SHAPE: u8 = 4;
const DIGIT: u8 = 8;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        kinds[byte] = match byte as u8 {
            b'@' | b'%' | b'=' | b':' | b' ' | b'\t' => SIGN,
            b';' | b'/' => PART,
            b'A'..=b'Z' | b'_' | b'-' => SHAPE,
            b'0'..=b'9' => DIGIT,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// The kinds of a text's characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signs {
    pub(super) digits: u32,
    /// Every kind that it has.
    pub(super) has: u8,
}

impl Signs {
    pub(super) fn of(text: &str) -> Self {
        let (mut digits, mut has) = (0, 0);
        for byte in text.bytes() {
            // A table has a place for every byte.
            let kind = KINDS[usize::from(byte)];
            has |= kind;
            digits += u32::from(kind / DIGIT);
        }
        Self { digits, has }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_characters_are_told_apart() {
        for (text, digits, has) in [
            ("", 0, 0),
            ("order é", 0, SIGN),
            ("a/b;c", 0, PART),
            ("A", 0, SHAPE),
            ("a-17_", 2, SHAPE | DIGIT),
            ("100%", 3, SIGN | DIGIT),
        ] {
            assert_eq!(Signs::of(text), Signs { digits, has }, "{text}");
        }
    }
}
