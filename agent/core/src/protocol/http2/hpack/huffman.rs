//! A Huffman-coded string → its octets.
//!
//! *Owns* the code of RFC 7541, Appendix B, and a decoder that takes four bits at a time. *Must not know* fields.
//!
//! The code is canonical: codes of one length count upwards in the order of their symbols, and each length goes on where
//! the shorter one ended. So the lengths say it all; the decoder's table is made from them by the compiler.

/// The length of each symbol's code in bits; the last one is EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
const EOS: u16 = 256;
const LONGEST: u8 = 30;
/// Inner nodes of a binary tree with 257 leaves.
const NODES: usize = 256;
/// Children below this are nodes, from here on they are leaves: symbol + 256.
const LEAF: u16 = 256;
const NONE: u16 = u16::MAX;

/// What four bits do to a decoder in some state.
#[derive(Clone, Copy)]
struct Step {
    /// The next state: an inner node.
    next: u8,
    /// What came out, if [`EMITS`].
    symbol: u8,
    flags: u8,
}

/// Four bits complete at most one symbol: no code is shorter than five.
const EMITS: u8 = 1;
/// EOS: never part of a string (section 5.2).
const FAILS: u8 = 2;
/// A string may end here: what is pending is less than eight bits of EOS's code, all ones (section 5.2).
const MAY_END: u8 = 4;

static STEPS: [[Step; 16]; NODES] = steps();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "run by the compiler over a constant; a mistake does not compile"
)]
const fn steps() -> [[Step; 16]; NODES] {
    let tree = tree();
    let mut ends = [false; NODES];
    let (mut node, mut depth) = (0, 0);
    // The padding's path: up to seven ones from the root.
    while depth < 8 {
        ends[node as usize] = true;
        node = tree[node as usize][1];
        depth += 1;
    }
    let mut steps = [[Step { next: 0, symbol: 0, flags: 0 }; 16]; NODES];
    let mut state = 0;
    while state < NODES {
        let mut bits = 0;
        while bits < 16 {
            let mut step = Step { next: 0, symbol: 0, flags: 0 };
            let mut at = state as u16;
            let mut bit = 4;
            while bit > 0 {
                bit -= 1;
                at = tree[at as usize][bits >> bit & 1];
                if at == LEAF + EOS {
                    step.flags |= FAILS;
                    at = 0;
                } else if at >= LEAF {
                    step.flags |= EMITS;
                    step.symbol = (at - LEAF) as u8;
                    at = 0;
                }
            }
            step.next = at as u8;
            if ends[at as usize] {
                step.flags |= MAY_END;
            }
            steps[state][bits] = step;
            bits += 1;
        }
        state += 1;
    }
    steps
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "run by the compiler over a constant; a mistake does not compile"
)]
const fn tree() -> [[u16; 2]; NODES] {
    let mut tree = [[NONE; 2]; NODES];
    let mut nodes = 1;
    let mut code: u32 = 0;
    let mut len = 1;
    while len <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == len {
                let (mut at, mut bit) = (0, len);
                while bit > 1 {
                    bit -= 1;
                    let child = (code >> bit & 1) as usize;
                    if tree[at][child] == NONE {
                        tree[at][child] = nodes;
                        nodes += 1;
                    }
                    at = tree[at][child] as usize;
                }
                tree[at][(code & 1) as usize] = LEAF + symbol as u16;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        len += 1;
    }
    tree
}

/// Appends the decoded octets to `out`. `false`: `coded` is not a string of this code, and `out` has part of it.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(coded.len().saturating_mul(8) / 5);
    walk(coded, |symbol| out.push(symbol))
}

/// Whether `coded` is a string of this code.
pub(super) fn is_valid(coded: &[u8]) -> bool {
    walk(coded, |_| {})
}

fn walk(coded: &[u8], mut emit: impl FnMut(u8)) -> bool {
    let mut state = 0_u8;
    let mut flags = MAY_END;
    for byte in coded {
        for bits in [byte >> 4, byte & 15] {
            let Some(step) = STEPS.get(usize::from(state)).and_then(|row| row.get(usize::from(bits))) else {
                return false;
            };
            flags = step.flags;
            if flags & FAILS != 0 {
                return false;
            }
            if flags & EMITS != 0 {
                emit(step.symbol);
            }
            state = step.next;
        }
    }
    flags & MAY_END != 0
}

/// The other way, for tests.
#[cfg(test)]
pub(super) fn encode(plain: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0_u32);
    for symbol in plain {
        let (code, len) = code_of(usize::from(*symbol));
        bits = bits << len | u64::from(code);
        count += u32::from(len);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

#[cfg(test)]
fn code_of(wanted: usize) -> (u32, u8) {
    let mut order: Vec<usize> = (0..257).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut code = 0;
    let mut len = LENGTHS[order[0]];
    for symbol in order {
        code <<= LENGTHS[symbol] - len;
        len = LENGTHS[symbol];
        if symbol == wanted {
            return (code, len);
        }
        code += 1;
    }
    unreachable!("every symbol has a code")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hex: &str, expected: Option<&[u8]>) {
        let coded: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let mut out = Vec::new();
        let decoded = decode(&coded, &mut out).then_some(&out[..]);
        assert_eq!(decoded, expected, "{hex}");
        assert_eq!(is_valid(&coded), expected.is_some(), "{hex}");
    }

    #[test]
    fn strings_of_the_standard() {
        // RFC 7541, Appendix C.4 and C.6.
        check("f1e3c2e5f23a6ba0ab90f4ff", Some(b"www.example.com"));
        check("a8eb10649cbf", Some(b"no-cache"));
        check("25a849e95bb8e8b4bf", Some(b"custom-value"));
        check("d07abe941054d444a8200595040b8166e082a62d1bff", Some(b"Mon, 21 Oct 2013 20:13:21 GMT"));
        check("", Some(b""));
    }

    #[test]
    fn every_octet_has_a_code() {
        for symbol in 0..=255_u8 {
            let (mut coded, mut out) = (Vec::new(), Vec::new());
            encode(&[symbol], &mut coded);
            assert!(decode(&coded, &mut out), "{symbol}");
            assert_eq!(out, [symbol]);
        }
    }

    #[test]
    fn padding_is_short_and_all_ones() {
        check("ff", None);
        check("1fff", None);
        // "0" is five zeros; then three bits that are not ones.
        check("07", Some(b"0"));
        check("06", None);
        // EOS itself.
        check("fffffffc", None);
        check("ffffffff", None);
    }
}
