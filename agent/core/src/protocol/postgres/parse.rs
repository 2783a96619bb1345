//! The kept beginning of a message body → its meaning. Every list is bounded; what was cut off is left out.
//!
//! *Owns* the layout of the messages. *Must not know* what was sent before.
//! *Spec*: PostgreSQL documentation, sections 55.7 "Message Formats" and 55.8 "Error and Notice Message Fields".

use std::sync::Arc;

use super::body::{Body, text};
use super::value::{self, Form};
use crate::charset::Charset;
use crate::operation::postgres::{Cell, Parameter, ServerError, TEXT_CUT};

/// Longest name of a statement, portal, column, user or database that is kept.
pub(super) const MAX_NAME_BYTES: usize = 512;
/// Columns of a result that are kept.
pub(super) const MAX_COLUMNS: usize = 64;
/// Parameters of a statement that are kept.
pub(super) const MAX_PARAMETERS: usize = 1024;
/// Longest parameter that is kept.
pub(super) const MAX_PARAMETER_BYTES: usize = 4096;
/// Longest cell of a result that is kept.
pub(super) const MAX_CELL_BYTES: usize = 1024;
/// Longest field of an error that is kept.
const MAX_ERROR_BYTES: usize = 1024;

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Table it comes from; 0 when computed.
    pub(super) table: u32,
    pub(super) type_oid: u32,
    pub(super) binary: bool,
}

/// Format codes: none means text for all, one holds for all, else one for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Formats(Vec<bool>);

impl Formats {
    fn read(body: &mut Body<'_>) -> Option<Self> {
        let count = usize::from(body.u16()?);
        let mut kept = Vec::with_capacity(count.min(MAX_COLUMNS));
        for _ in 0..count {
            let code = body.u16()?;
            if kept.len() < MAX_PARAMETERS {
                kept.push(code == 1);
            }
        }
        Some(Self(kept))
    }

    pub(super) fn is_binary(&self, index: usize) -> bool {
        match self.0.as_slice() {
            [all] => *all,
            each => each.get(index).copied().unwrap_or(false),
        }
    }
}

/// StartupMessage: what matters of its parameters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Startup {
    pub(super) user: Option<String>,
    pub(super) database: Option<String>,
    pub(super) replication: bool,
    /// `client_encoding`: how the client's texts are encoded, and the server's for it.
    pub(super) charset: Charset,
}

/// Protocol number, then pairs of name and value up to an empty name (section 55.7, StartupMessage).
pub(super) fn startup(mut body: Body<'_>) -> Startup {
    let mut found = Startup::default();
    while let (Some(name), Some(value)) = (body.string().filter(|name| !name.is_empty()), body.string()) {
        match name {
            b"user" => found.user = Some(text(value, MAX_NAME_BYTES, Charset::UTF8)),
            b"database" => found.database = Some(text(value, MAX_NAME_BYTES, Charset::UTF8)),
            b"client_encoding" => found.charset = Charset::of_postgres(value),
            b"options" => found.charset = charset_of_options(value).unwrap_or(found.charset),
            // "true", "on", "yes", "1" or "database" ask for replication.
            b"replication" => {
                let off: [&[u8]; 4] = [b"false", b"off", b"no", b"0"];
                found.replication = !off.contains(&value.to_ascii_lowercase().as_slice());
            }
            _ => {}
        }
    }
    // "If not specified, the database name defaults to the user name."
    found.database = found.database.filter(|name| !name.is_empty()).or_else(|| found.user.clone());
    found
}

/// `-c client_encoding=WIN1251` among command-line arguments (section 55.7, StartupMessage).
fn charset_of_options(options: &[u8]) -> Option<Charset> {
    let name = b"client_encoding=";
    let at = memchr::memmem::rfind(options, name)?;
    let value = options.get(at + name.len()..)?;
    Some(Charset::of_postgres(value.split(u8::is_ascii_whitespace).next().unwrap_or(value)))
}

/// SQL text of at most `max` bytes. A text that goes on is cut after its last whole token, so that no name or number is taken for
/// a shorter one, and says so ([`TEXT_CUT`]).
pub(super) fn sql(bytes: &[u8], whole: bool, max: usize, charset: Charset) -> String {
    let mut kept = text(bytes, max, charset);
    if !whole || bytes.len() > max {
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | '(' | ')' | ';');
        let end = kept.rfind(ends).map_or(0, |at| at + 1);
        kept.truncate(end);
        kept.truncate(kept.trim_ascii_end().len());
        kept.push(TEXT_CUT);
    }
    kept
}

/// Parse: name, text, types of parameters.
pub(super) fn parse(body: &[u8], max_text: usize, charset: Charset) -> (String, String, Vec<u32>) {
    let mut body = Body::new(body);
    let (name, _) = body.string_or_cut();
    let (sql_text, whole) = body.string_or_cut();
    let count = usize::from(body.u16().unwrap_or(0)).min(MAX_PARAMETERS);
    let oids = (0..count).map_while(|_| body.u32()).collect();
    (text(name, MAX_NAME_BYTES, charset), sql(sql_text, whole, max_text, charset), oids)
}

/// Bind without its names: parameters, decoded as far as their types are known, and formats of the result.
#[derive(Debug, Default)]
pub(super) struct Bind {
    pub(super) parameters: Vec<Parameter>,
    pub(super) results: Formats,
    /// Parameters that were sent but not kept.
    pub(super) unkept: usize,
}

/// Portal and statement of a Bind.
pub(super) fn bind_names(body: &[u8], charset: Charset) -> (String, String) {
    let mut body = Body::new(body);
    let (portal, _) = body.string_or_cut();
    let (statement, _) = body.string_or_cut();
    (text(portal, MAX_NAME_BYTES, charset), text(statement, MAX_NAME_BYTES, charset))
}

pub(super) fn bind(bytes: &[u8], oids: &[u32], charset: Charset) -> Bind {
    let mut bind = Bind::default();
    let mut body = Body::new(bytes);
    body.string_or_cut();
    body.string_or_cut();
    let Some(formats) = Formats::read(&mut body) else { return bind };
    let count = usize::from(body.u16().unwrap_or(0));
    for index in 0..count {
        let type_oid = oids.get(index).copied().unwrap_or(0);
        let form = Form { type_oid, binary: formats.is_binary(index), charset };
        let Some(value) = cell(&mut body, form, MAX_PARAMETER_BYTES) else {
            bind.unkept = count - bind.parameters.len().min(count);
            return bind;
        };
        if bind.parameters.len() < MAX_PARAMETERS {
            bind.parameters.push(Parameter { type_oid, value });
        } else {
            bind.unkept += 1;
        }
    }
    bind.results = Formats::read(&mut body).unwrap_or_default();
    bind
}

/// One value with its length; `-1` is NULL. `None`: it is not there whole.
fn cell(body: &mut Body<'_>, form: Form, max: usize) -> Option<Option<Cell>> {
    let len = body.i32()?;
    let Ok(len) = usize::try_from(len) else { return Some(None) };
    let bytes = body.take(len)?;
    Some(Some(value::decode(form, bytes, max)))
}

/// Execute: the portal.
pub(super) fn execute(body: &[u8], charset: Charset) -> String {
    text(Body::new(body).string_or_cut().0, MAX_NAME_BYTES, charset)
}

/// Describe and Close: `S` or `P`, and a name.
pub(super) fn kind_and_name(body: &[u8], charset: Charset) -> (u8, String) {
    let mut body = Body::new(body);
    let kind = body.u8().unwrap_or(0);
    (kind, text(body.string_or_cut().0, MAX_NAME_BYTES, charset))
}

/// RowDescription.
pub(super) fn row_description(body: &[u8], charset: Charset) -> Arc<[Column]> {
    let mut body = Body::new(body);
    let count = usize::from(body.u16().unwrap_or(0)).min(MAX_COLUMNS);
    let column = |body: &mut Body<'_>| {
        let name = text(body.string()?, MAX_NAME_BYTES, charset);
        let table = body.u32()?;
        let _attribute = body.u16()?;
        let type_oid = body.u32()?;
        let _size = body.u16()?;
        let _modifier = body.u32()?;
        Some(Column { name, table, type_oid, binary: body.u16()? == 1 })
    };
    (0..count).map_while(|_| column(&mut body)).collect()
}

/// ParameterDescription.
pub(super) fn parameter_description(body: &[u8]) -> Arc<[u32]> {
    let mut body = Body::new(body);
    let count = usize::from(body.u16().unwrap_or(0)).min(MAX_PARAMETERS);
    (0..count).map_while(|_| body.u32()).collect()
}

/// DataRow: its first cells. `binary` tells the format of a column by its index. A cell that is cut, and all after it,
/// are left out.
pub(super) fn data_row(
    body: &[u8],
    columns: &[Column],
    charset: Charset,
    binary: impl Fn(usize) -> bool,
) -> Vec<Option<Cell>> {
    let mut body = Body::new(body);
    let count = usize::from(body.u16().unwrap_or(0)).min(MAX_COLUMNS);
    let mut cells = Vec::with_capacity(count);
    for index in 0..count {
        let type_oid = columns.get(index).map_or(0, |column| column.type_oid);
        match cell(&mut body, Form { type_oid, binary: binary(index), charset }, MAX_CELL_BYTES) {
            Some(value) => cells.push(value),
            None => break,
        }
    }
    cells
}

/// CommandComplete: the tag.
pub(super) fn command_tag(body: &[u8]) -> String {
    text(Body::new(body).string_or_cut().0, MAX_NAME_BYTES, Charset::UTF8)
}

/// ErrorResponse and NoticeResponse: a code byte and a string per field.
pub(super) fn server_error(body: &[u8], charset: Charset) -> ServerError {
    let mut body = Body::new(body);
    let mut error = ServerError::default();
    while let Some(code) = body.u8().filter(|code| *code != 0) {
        let (value, _) = body.string_or_cut();
        let value = || text(value, MAX_ERROR_BYTES, charset);
        match code {
            b'S' if error.severity.is_empty() => error.severity = value(),
            // Never localised, present since 9.6.
            b'V' => error.severity = value(),
            b'C' => error.code = value(),
            b'M' => error.message = value(),
            b'P' => error.position = value().parse().unwrap_or(0),
            b's' => error.schema = value(),
            b't' => error.table = value(),
            b'c' => error.column = value(),
            b'd' => error.data_type = value(),
            b'n' => error.constraint = value(),
            _ => {}
        }
    }
    error
}

/// ParameterStatus: name and value.
pub(super) fn parameter_status(body: &[u8]) -> (&[u8], &[u8]) {
    let mut body = Body::new(body);
    (body.string_or_cut().0, body.string_or_cut().0)
}
