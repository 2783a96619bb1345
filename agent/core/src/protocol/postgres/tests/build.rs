//! Messages as both sides send them, built from their description in section 55.7.

use super::Step;
use crate::record::Sender;

/// A message with a tag.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn untagged(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

fn strings(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| [part.as_bytes(), b"\0"].concat()).collect()
}

pub(super) fn client(messages: &[Vec<u8>]) -> Step {
    (Sender::Client, messages.concat())
}

pub(super) fn server(messages: &[Vec<u8>]) -> Step {
    (Sender::Server, messages.concat())
}

pub(super) fn startup(parameters: &[&str]) -> Vec<u8> {
    untagged(&[&196_608u32.to_be_bytes()[..], &strings(parameters), b"\0"].concat())
}

pub(super) fn request_code(code: u32, rest: &[u8]) -> Vec<u8> {
    untagged(&[&code.to_be_bytes()[..], rest].concat())
}

pub(super) fn query(text: &str) -> Vec<u8> {
    message(b'Q', &strings(&[text]))
}

pub(super) fn parse(name: &str, text: &str, oids: &[u32]) -> Vec<u8> {
    let mut body = strings(&[name, text]);
    body.extend((oids.len() as u16).to_be_bytes());
    oids.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    message(b'P', &body)
}

/// Bind with formats for parameters and results.
pub(super) fn bind_with(
    portal: &str,
    name: &str,
    formats: &[u16],
    values: &[Option<&[u8]>],
    results: &[u16],
) -> Vec<u8> {
    let mut body = strings(&[portal, name]);
    let codes = |codes: &[u16], body: &mut Vec<u8>| {
        body.extend((codes.len() as u16).to_be_bytes());
        codes.iter().for_each(|code| body.extend(code.to_be_bytes()));
    };
    codes(formats, &mut body);
    body.extend((values.len() as u16).to_be_bytes());
    values.iter().for_each(|value| cell(*value, &mut body));
    codes(results, &mut body);
    message(b'B', &body)
}

/// Bind with everything as text.
pub(super) fn bind(portal: &str, name: &str, values: &[&str]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    bind_with(portal, name, &[], &values, &[])
}

fn cell(value: Option<&[u8]>, body: &mut Vec<u8>) {
    match value {
        None => body.extend((-1i32).to_be_bytes()),
        Some(value) => {
            body.extend((value.len() as u32).to_be_bytes());
            body.extend(value);
        }
    }
}

pub(super) fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[kind][..], &strings(&[name])].concat())
}

pub(super) fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[&[kind][..], &strings(&[name])].concat())
}

pub(super) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[&strings(&[portal])[..], &rows.to_be_bytes()].concat())
}

pub(super) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(super) fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub(super) fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &strings(&[tag]))
}

/// RowDescription: name, table, type, format of each column.
pub(super) fn columns(columns: &[(&str, u32, u32, u16)]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for (name, table, type_oid, format) in columns {
        body.extend(strings(&[name]));
        body.extend(table.to_be_bytes());
        body.extend([0, 1]);
        body.extend(type_oid.to_be_bytes());
        body.extend([0, 4, 0xff, 0xff, 0xff, 0xff]);
        body.extend(format.to_be_bytes());
    }
    message(b'T', &body)
}

pub(super) fn row(cells: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (cells.len() as u16).to_be_bytes().to_vec();
    cells.iter().for_each(|value| cell(*value, &mut body));
    message(b'D', &body)
}

pub(super) fn text_row(cells: &[&str]) -> Vec<u8> {
    row(&cells.iter().map(|value| Some(value.as_bytes())).collect::<Vec<_>>())
}

pub(super) fn parameter_types(oids: &[u32]) -> Vec<u8> {
    let mut body = (oids.len() as u16).to_be_bytes().to_vec();
    oids.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    message(b't', &body)
}

pub(super) fn fields(tag: u8, fields: &[(u8, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, value) in fields {
        body.push(*code);
        body.extend(strings(&[value]));
    }
    body.push(0);
    message(tag, &body)
}

pub(super) fn error(code: &str, text: &str) -> Vec<u8> {
    fields(b'E', &[(b'S', "FEHLER"), (b'V', "ERROR"), (b'C', code), (b'M', text)])
}

pub(super) fn parse_complete() -> Vec<u8> {
    message(b'1', b"")
}

pub(super) fn bind_complete() -> Vec<u8> {
    message(b'2', b"")
}

/// A connection's start with a password, ready for statements: three steps.
pub(super) fn start() -> Vec<Step> {
    vec![
        client(&[startup(&["user", "shop", "database", "orders"])]),
        server(&[message(b'R', &[0, 0, 0, 3])]),
        client(&[message(b'p', b"secret\0")]),
        server(&[
            message(b'R', &[0, 0, 0, 0]),
            message(b'S', b"server_version\x0015.18\0"),
            message(b'K', &[0; 8]),
            ready(b'I'),
        ]),
    ]
}

/// A started connection and what follows; its first step has number 5.
pub(super) fn started(steps: &[Step]) -> Vec<Step> {
    let mut all = start();
    all.extend(steps.iter().cloned());
    all
}
