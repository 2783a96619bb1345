//! Lines of a key log → [`Known`] secrets.
//!
//! ```text
//!   # a comment
//!   CLIENT_RANDOM            <64 hex digits>  <96 hex digits>       TLS 1.2: the master secret
//!   CLIENT_TRAFFIC_SECRET_0  <64 hex digits>  <64 or 96 hex digits> TLS 1.3
//!   SERVER_TRAFFIC_SECRET_0  <64 hex digits>  <64 or 96 hex digits> TLS 1.3
//! ```
//!
//! The first number is the client's random of the ClientHello. Labels for which the agent has no use (handshake, early
//! and exporter secrets, ECH) are counted and left.
//!
//! *Owns* the format, in any pieces. *Must not know* files. *Spec*: RFC 9850, sections 1 and 2.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::secret::{ClientRandom, Known, Label, MAX_SECRET, Origin, Secret};

/// A line of a known label has at most 23 + 1 + 64 + 1 + 96 bytes; longer ones are of labels that are left (ECH_CONFIG).
const MAX_LINE: usize = 256;

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub secrets: u64,
    /// Of labels that are not used.
    pub other: u64,
    /// Not in the format.
    pub invalid: u64,
}

/// Reads a key log that comes in pieces.
#[derive(Default)]
pub struct Reader {
    /// The beginning of a line whose end has not come.
    partial: Zeroizing<Vec<u8>>,
    /// It is longer than any that is used.
    is_too_long: bool,
    counts: Counts,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Reader {
    /// Takes the next bytes; `found` is called for every secret in them.
    pub fn read(&mut self, bytes: &[u8], mut found: impl FnMut(Known)) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            self.keep(line);
            self.line(&mut found);
        }
        self.keep(rest);
    }

    /// No more bytes: the last line may have no end.
    pub fn finish(&mut self, mut found: impl FnMut(Known)) {
        self.line(&mut found);
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.partial.len() + bytes.len() > MAX_LINE {
            self.is_too_long = true;
            return;
        }
        if self.partial.capacity() < MAX_LINE {
            // Once: growing would leave copies behind that nobody wipes.
            self.partial.reserve_exact(MAX_LINE);
        }
        self.partial.extend_from_slice(bytes);
    }

    /// A whole line was kept.
    fn line(&mut self, found: &mut impl FnMut(Known)) {
        let is_too_long = std::mem::take(&mut self.is_too_long);
        let line = self.partial.trim_ascii();
        if is_too_long {
            self.counts.other += 1;
        } else if !line.is_empty() && !line.starts_with(b"#") {
            match parse(line) {
                Some(Line::Secret(known)) => {
                    self.counts.secrets += 1;
                    found(known);
                }
                Some(Line::Other) => self.counts.other += 1,
                None => self.counts.invalid += 1,
            }
        }
        // Keeps its room.
        self.partial.as_mut_slice().zeroize();
        self.partial.clear();
    }
}

enum Line {
    Secret(Known),
    Other,
}

fn parse(line: &[u8]) -> Option<Line> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (label, random, secret) = (words.next()?, words.next()?, words.next()?);
    let is_label =
        label.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
    if !is_label || words.next().is_some() {
        return None;
    }
    let label = match label {
        b"CLIENT_RANDOM" => Label::Master,
        b"CLIENT_TRAFFIC_SECRET_0" => Label::ClientTraffic,
        b"SERVER_TRAFFIC_SECRET_0" => Label::ServerTraffic,
        _ => return Some(Line::Other),
    };
    let mut client_random = ClientRandom::default();
    unhex(random, &mut client_random).filter(|len| *len == client_random.len())?;
    let mut bytes = Zeroizing::new([0; MAX_SECRET]);
    let len = unhex(secret, bytes.as_mut_slice())?;
    let is_right = match label {
        Label::Master => len == 48,
        Label::ClientTraffic | Label::ServerTraffic => len == 32 || len == 48,
    };
    let secret = Secret::new(bytes.get(..len)?).filter(|_| is_right)?;
    Some(Line::Secret(Known { client_random, label, secret, origin: Origin::Given, joined: None }))
}

/// Hexadecimal digits as bytes: how many. `None`: other characters, half a byte, or more than there is room for.
fn unhex(digits: &[u8], to: &mut [u8]) -> Option<usize> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    if pairs.len() > to.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (to, [high, low]) in to.iter_mut().zip(pairs) {
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(pairs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], cut: usize) -> (Vec<(u8, Label, usize)>, Counts) {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        let mut push = |known: Known| {
            found.push((known.client_random[0], known.label, known.secret.bytes().len()));
        };
        let (first, second) = text.split_at(cut.min(text.len()));
        reader.read(first, &mut push);
        reader.read(second, &mut push);
        reader.finish(&mut push);
        (found, reader.counts())
    }

    fn line(label: &str, random: u8, len: usize) -> String {
        format!("{label} {} {}\n", format!("{random:02x}").repeat(32), "5A".repeat(len))
    }

    #[test]
    fn every_split_gives_the_same_secrets() {
        let text = [
            "# SSL/TLS secrets log file, generated by OpenSSL\r\n".to_owned(),
            line("CLIENT_HANDSHAKE_TRAFFIC_SECRET", 1, 32),
            line("CLIENT_TRAFFIC_SECRET_0", 1, 32),
            line("SERVER_TRAFFIC_SECRET_0", 1, 48),
            "\n".to_owned(),
            format!("ECH_CONFIG {} {}\n", "00".repeat(32), "77".repeat(300)),
            line("CLIENT_RANDOM", 2, 48).trim_end().to_owned(),
        ]
        .concat();
        let expected = (
            vec![(1, Label::ClientTraffic, 32), (1, Label::ServerTraffic, 48), (2, Label::Master, 48)],
            Counts { secrets: 3, other: 2, invalid: 0 },
        );
        for cut in 0..=text.len() {
            assert_eq!(all(text.as_bytes(), cut), expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_in_the_format_is_counted() {
        for text in [
            line("CLIENT_RANDOM", 1, 32),
            line("CLIENT_TRAFFIC_SECRET_0", 1, 33),
            line("CLIENT_TRAFFIC_SECRET_0", 1, 48).replace('5', "g"),
            line("client_random", 1, 48),
            "CLIENT_RANDOM 00\n".to_owned(),
            format!("CLIENT_RANDOM {} {} more\n", "00".repeat(32), "00".repeat(48)),
            format!("CLIENT_RANDOM {} {}\n", "00".repeat(31), "00".repeat(48)),
            format!("CLIENT_RANDOM {} {}0\n", "00".repeat(32), "00".repeat(48)),
            "\u{fffd} x y\n".to_owned(),
        ] {
            assert_eq!(
                all(text.as_bytes(), 3),
                (Vec::new(), Counts { invalid: 1, ..Counts::default() }),
                "{text}"
            );
        }
    }
}
