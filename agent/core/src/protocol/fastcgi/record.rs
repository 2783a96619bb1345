//! The header of a FastCGI record.
//!
//! *Spec*: FastCGI Specification 1.0, sections 3.3 (records) and 8 (constants).

use crate::record::Sender;

pub(super) const HEADER_LEN: usize = 8;
const VERSION: u8 = 1;

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Begin,
    Abort,
    End,
    Params,
    Stdin,
    Stdout,
    Stderr,
    Data,
    /// Questions about the application, its answers, and what it does not know: of no request.
    Management,
}

/// One record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// 0 for management.
    pub(super) request: u16,
    /// Bytes of content, then of padding.
    pub(super) len: u16,
    pub(super) padding: u8,
}

/// The outcome of reading one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Complete(Header),
    Incomplete,
    Invalid,
}

/// Reads the header of a record that `from` sends. A prefix of a right one is incomplete, never invalid.
pub(super) fn read(bytes: &[u8], from: Sender) -> Parsed {
    match bytes.first() {
        None => return Parsed::Incomplete,
        Some(&VERSION) => {}
        Some(_) => return Parsed::Invalid,
    }
    let Some(kind) = bytes.get(1) else { return Parsed::Incomplete };
    let kind = match (kind, from) {
        (1, Sender::Client) => Kind::Begin,
        (2, Sender::Client) => Kind::Abort,
        (3, Sender::Server) => Kind::End,
        (4, Sender::Client) => Kind::Params,
        (5, Sender::Client) => Kind::Stdin,
        (6, Sender::Server) => Kind::Stdout,
        (7, Sender::Server) => Kind::Stderr,
        (8, Sender::Client) => Kind::Data,
        (9, Sender::Client) | (10 | 11, Sender::Server) => Kind::Management,
        _ => return Parsed::Invalid,
    };
    let Some([_, _, id1, id0, len1, len0, padding, _]) = bytes.first_chunk::<HEADER_LEN>() else {
        return Parsed::Incomplete;
    };
    let (request, len) = (u16::from_be_bytes([*id1, *id0]), u16::from_be_bytes([*len1, *len0]));
    let valid = match kind {
        // FCGI_BeginRequestBody and FCGI_EndRequestBody have eight bytes.
        Kind::Begin | Kind::End => request != 0 && len == 8,
        Kind::Abort => request != 0 && len == 0,
        Kind::Management => request == 0,
        Kind::Params | Kind::Stdin | Kind::Stdout | Kind::Stderr | Kind::Data => request != 0,
    };
    match valid {
        true => Parsed::Complete(Header { kind, request, len, padding: *padding }),
        false => Parsed::Invalid,
    }
}
