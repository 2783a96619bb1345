//! An HTTP exchange.

use super::Kept;

/// One header field, name in lower case, value without surrounding blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub value: Vec<u8>,
}

/// One request and its response (RFC 9110, section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// As sent; empty when the request was not seen.
    pub method: String,
    /// Request target as sent: path and query, absolute form, authority form or `*`.
    pub target: String,
    /// `Host` or `:authority`; empty when absent.
    pub authority: String,
    pub request_headers: Vec<Field>,
    pub request_body: Kept,
    /// Final status; `None` when no response was seen.
    pub status: Option<u16>,
    pub response_headers: Vec<Field>,
    pub response_body: Kept,
    /// Files in a multipart request body.
    pub uploads: Vec<Upload>,
}

/// A file inside a multipart body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    pub field: String,
    pub file_name: String,
    pub content_type: String,
    /// Bytes of the file; `None` when its end was not seen.
    pub len: Option<u64>,
}

impl Exchange {
    /// The first value of a request header; `name` in lower case.
    pub fn request_header(&self, name: &str) -> Option<&[u8]> {
        find(&self.request_headers, name)
    }

    /// The first value of a response header; `name` in lower case.
    pub fn response_header(&self, name: &str) -> Option<&[u8]> {
        find(&self.response_headers, name)
    }

    /// The path of the target, without query.
    pub fn path(&self) -> &str {
        let target = match self.target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => &self.target,
        };
        target.split(['?', '#']).next().unwrap_or("")
    }

    /// The query of the target, without `?`; `None` when there is none.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query.split('#').next().unwrap_or(""))
    }
}

fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name == name).map(|field| field.value.as_slice())
}
