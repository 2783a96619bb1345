//! Handshake messages → the few facts that keys depend on.
//!
//! *Owns* ClientHello, ServerHello and KeyUpdate; other messages are passed over by their length.
//! *Must not know* records. *Spec*: RFC 8446 sections 4, 4.1 and 4.6.3; RFC 5246 section 7.4; RFC 6066 section 3; RFC 7366;
//! RFC 7301.

use super::secret::ClientRandom;

/// Longest hello that is read. Post-quantum key shares make a ClientHello of some 1,800 bytes.
const MAX_HELLO: usize = 32 << 10;
/// Longest server name that is kept: the longest name of DNS.
const MAX_NAME: usize = 253;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const KEY_UPDATE: u8 = 24;

/// The random number of a ServerHello that is a HelloRetryRequest (RFC 8446, section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a handshake says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Client(ClientHello),
    Server(ServerHello),
    KeyUpdate,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientHello {
    pub(super) random: ClientRandom,
    /// The server's name that the client asks for.
    pub(super) server_name: Option<String>,
    pub(super) offers_early_data: bool,
    pub(super) offers_encrypt_then_mac: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) random: [u8; 32],
    pub(super) suite: u16,
    /// 0x0304 for TLS 1.3.
    pub(super) version: u16,
    pub(super) is_compressed: bool,
    pub(super) encrypt_then_mac: bool,
    /// A HelloRetryRequest: the client says hello again.
    pub(super) is_retry: bool,
}

/// Puts messages together that lie across records.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// A message that is not whole yet.
    partial: Vec<u8>,
    /// Bytes left of one that is passed over.
    skip: usize,
}

impl Messages {
    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.partial.len()
    }

    /// What follows is not the continuation.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Takes the content of a handshake record.
    pub(super) fn push(&mut self, mut bytes: &[u8], found: &mut impl FnMut(Message)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let (skipped, rest) = bytes.split_at(self.skip.min(bytes.len()));
                self.skip -= skipped.len();
                bytes = rest;
                continue;
            }
            // A head is the type and 24 bits of length.
            let wanted = match self.partial.first_chunk::<4>() {
                Some([_, high, middle, low]) => {
                    4 + (usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low))
                }
                None => 4,
            };
            let (taken, rest) = bytes.split_at((wanted - self.partial.len().min(wanted)).min(bytes.len()));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            let Some([kind, high, middle, low]) = self.partial.first_chunk::<4>().copied() else { continue };
            let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            let is_read = matches!(kind, CLIENT_HELLO | SERVER_HELLO | KEY_UPDATE) && len <= MAX_HELLO;
            if !is_read {
                self.partial.clear();
                self.skip = len;
                found(Message::Other);
            } else if self.partial.len() == 4 + len {
                let body = self.partial.get(4..).unwrap_or_default();
                found(match kind {
                    CLIENT_HELLO => client_hello(body).map_or(Message::Other, Message::Client),
                    SERVER_HELLO => server_hello(body).map_or(Message::Other, Message::Server),
                    _ => Message::KeyUpdate,
                });
                self.partial = Vec::new();
            }
        }
    }
}

/// Takes fields from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }

    fn random(&mut self) -> Option<[u8; 32]> {
        self.take(32)?.first_chunk().copied()
    }

    /// The extensions that are left; there may be none at all before TLS 1.3.
    fn extensions(&mut self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut all = Fields(self.vector16().unwrap_or_default());
        std::iter::from_fn(move || Some((all.u16()?, all.vector16()?)))
    }
}

const SERVER_NAME: u16 = 0;
const ENCRYPT_THEN_MAC: u16 = 22;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;

fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut fields = Fields(body);
    let _legacy_version = fields.u16()?;
    let random = fields.random()?;
    let _session = fields.vector8()?;
    let _suites = fields.vector16()?;
    let _compression = fields.vector8()?;
    let mut hello =
        ClientHello { random, server_name: None, offers_early_data: false, offers_encrypt_then_mac: false };
    for (kind, value) in fields.extensions() {
        match kind {
            SERVER_NAME => hello.server_name = server_name(value),
            EARLY_DATA => hello.offers_early_data = true,
            ENCRYPT_THEN_MAC => hello.offers_encrypt_then_mac = true,
            _ => {}
        }
    }
    Some(hello)
}

/// The host name of a ServerNameList.
fn server_name(list: &[u8]) -> Option<String> {
    let mut names = Fields(Fields(list).vector16()?);
    let (kind, name) = (names.u8()?, names.vector16()?);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_host = kind == 0 && (1..=MAX_NAME).contains(&name.len()) && name.iter().all(is_name);
    is_host.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let mut fields = Fields(body);
    let legacy_version = fields.u16()?;
    let random = fields.random()?;
    let _session = fields.vector8()?;
    let suite = fields.u16()?;
    let is_compressed = fields.u8()? != 0;
    let mut hello = ServerHello {
        random,
        suite,
        version: legacy_version,
        is_compressed,
        encrypt_then_mac: false,
        is_retry: random == RETRY,
    };
    for (kind, value) in fields.extensions() {
        match kind {
            SUPPORTED_VERSIONS => hello.version = Fields(value).u16()?,
            ENCRYPT_THEN_MAC => hello.encrypt_then_mac = true,
            _ => {}
        }
    }
    Some(hello)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 0, (body.len() >> 8) as u8, body.len() as u8], body].concat()
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    fn client(name: &[u8]) -> Vec<u8> {
        let list = [&[0][..], &(name.len() as u16).to_be_bytes(), name].concat();
        let list = [&(list.len() as u16).to_be_bytes()[..], &list].concat();
        let extensions = [extension(0, &list), extension(22, &[]), extension(43, &[2, 3, 4])].concat();
        let len = (extensions.len() as u16).to_be_bytes();
        let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &len, &extensions].concat();
        message(1, &body)
    }

    fn server(random: [u8; 32]) -> Vec<u8> {
        let extensions = extension(43, &[3, 4]);
        let len = (extensions.len() as u16).to_be_bytes();
        message(2, &[&[3, 3][..], &random, &[0], &[0x13, 2], &[0], &len, &extensions].concat())
    }

    fn read(bytes: &[u8], cut: usize) -> Vec<Message> {
        let (mut messages, mut found) = (Messages::default(), Vec::new());
        messages.push(&bytes[..cut], &mut |message| found.push(message));
        messages.push(&bytes[cut..], &mut |message| found.push(message));
        found
    }

    #[test]
    fn every_split_gives_the_same_facts() {
        let all =
            [client(b"Shop.example"), server([9; 32]), message(11, &[5; 700]), message(24, &[0])].concat();
        let hello = ClientHello {
            random: [7; 32],
            server_name: Some("shop.example".to_owned()),
            offers_early_data: false,
            offers_encrypt_then_mac: true,
        };
        let answer = ServerHello {
            random: [9; 32],
            suite: 0x1302,
            version: 0x0304,
            is_compressed: false,
            encrypt_then_mac: false,
            is_retry: false,
        };
        let expected = [Message::Client(hello), Message::Server(answer), Message::Other, Message::KeyUpdate];
        for cut in 0..=all.len() {
            assert_eq!(read(&all, cut), expected, "cut at {cut}");
        }
    }

    #[test]
    fn every_prefix_is_incomplete() {
        let all = server([9; 32]);
        for len in 0..all.len() {
            assert_eq!(read(&all[..len], len), [], "{len}");
        }
    }

    #[test]
    fn a_retry_is_told_from_an_answer_and_a_name_that_is_none_is_left() {
        assert!(matches!(
            &read(&server(RETRY), 3)[..],
            [Message::Server(ServerHello { is_retry: true, .. })]
        ));
        for name in [&b"a b"[..], b"\xff", b"", &[b'a'; 254]] {
            assert!(matches!(
                &read(&client(name), 3)[..],
                [Message::Client(ClientHello { server_name: None, .. })]
            ));
        }
    }

    #[test]
    fn a_message_of_any_length_is_passed_over() {
        let mut messages = Messages::default();
        let mut found = Vec::new();
        messages.push(&[1, 0xff, 0xff, 0xff], &mut |message| found.push(message));
        for _ in 0..64 {
            messages.push(&[0x5a; 16 << 10], &mut |message| found.push(message));
            assert_eq!(messages.held(), 0);
        }
        assert_eq!(found, [Message::Other]);
    }
}
