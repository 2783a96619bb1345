//! A PostgreSQL statement, or another unit of the frontend/backend protocol.

use std::fmt;
use std::sync::Arc;

/// The last character of a text that went on: what follows was not captured, or is past `max_statement_bytes`.
pub const TEXT_CUT: char = '…';

/// One statement and its result (PostgreSQL documentation, chapter "Frontend/Backend Protocol").
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    pub kind: StatementKind,
    /// As sent, bounded ([`TEXT_CUT`]); `None` when it was prepared before the agent started.
    pub text: Option<String>,
    /// The text came with this execution: a simple query, or the first Bind after its Parse. Otherwise what its comments say is of
    /// another moment.
    pub text_is_fresh: bool,
    /// Name of the prepared statement; empty for the unnamed one.
    pub prepared_name: String,
    pub parameters: Vec<Parameter>,
    /// Text of the statement that an `EXECUTE` names; `parameters` are then its arguments.
    pub executes: Option<Arc<str>>,
    /// Column names of the result, when described; bounded.
    pub columns: Vec<String>,
    /// For each of `columns` the object identifier of the table it comes from; 0 when it is computed.
    pub column_tables: Vec<u32>,
    /// The first rows, bounded, for keys only; `None` is NULL.
    pub first_rows: Vec<Vec<Option<Cell>>>,
    /// Rows returned, counted from `DataRow`.
    pub returned_rows: u64,
    /// `CommandComplete` tag, e.g. `INSERT 0 1`.
    pub command_tag: Option<String>,
    pub error: Option<ServerError>,
    /// The first notice of severity WARNING that came while it ran.
    pub warning: Option<ServerError>,
    /// The server never executed it: an earlier statement of its batch failed. No statement ran, so it is no span of one.
    pub skipped: bool,
    /// Database of the connection, when its startup was seen.
    pub database: Option<String>,
    /// User of the connection, when its startup was seen.
    pub user: Option<String>,
    /// Transaction block the statement ran in; `None` outside blocks, and where bytes that would tell were lost.
    pub transaction: Option<InTransaction>,
    /// It ended that block, and how.
    pub ends: Option<TransactionEnd>,
    /// Bytes of data moved by COPY, in either direction.
    pub copy_len: u64,
}

impl Statement {
    /// Bytes that it holds beside its own fields.
    pub(crate) fn held(&self) -> usize {
        let texts = [&self.text, &self.command_tag, &self.database, &self.user];
        let texts = texts.into_iter().flatten().map(String::capacity).sum::<usize>();
        let parameters =
            self.parameters.iter().map(|parameter| held_by_cell(&parameter.value)).sum::<usize>();
        let rows = self.first_rows.iter().flatten().map(held_by_cell).sum::<usize>();
        let columns = self.columns.iter().map(|name| size_of::<String>() + name.capacity()).sum::<usize>();
        let errors = self.error.iter().chain(&self.warning).map(ServerError::held).sum::<usize>();
        texts
            + self.prepared_name.capacity()
            + parameters
            + rows
            + columns
            + self.column_tables.capacity() * 4
            + errors
    }
}

fn held_by_cell(cell: &Option<Cell>) -> usize {
    size_of::<Parameter>() + if let Some(Cell::Text(text)) = cell { text.capacity() } else { 0 }
}

/// Number of a transaction block on its connection, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionNumber(pub u64);

impl fmt::Display for TransactionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a statement is to its transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTransaction {
    pub number: TransactionNumber,
    /// The block was seen from its beginning on.
    pub is_begun: bool,
    /// The statement ended it: not a `ROLLBACK TO SAVEPOINT`, nor what may be one.
    pub is_end: bool,
}

/// What became of a transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionEnd {
    Committed,
    /// By `ROLLBACK`; by `COMMIT` of a block in which a statement had failed, which the server answers with `ROLLBACK`; by a `COMMIT`
    /// that failed.
    RolledBack,
    /// The answer to its end was not seen, or it is decided later (`PREPARE TRANSACTION`).
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// Simple query.
    #[default]
    Simple,
    /// Extended query: Parse/Bind/Execute.
    Extended,
    /// COPY in either direction.
    Copy,
    /// Function call.
    FunctionCall,
    /// Connection start-up and authentication, reported when it fails.
    Startup,
}

/// A value bound to a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Type object identifier from Parse or ParameterDescription; 0 when unknown.
    pub type_oid: u32,
    /// `None` is NULL.
    pub value: Option<Cell>,
}

/// A value in text form, decoded from text or binary; bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Text(String),
    /// A binary value of a type that is not decoded: its length.
    Opaque(u32),
}

/// ErrorResponse or NoticeResponse: its fields, bounded. Empty when absent.
///
/// `message` is the server's own text and can hold values (`invalid input syntax for type integer: "4711x"`). The fields
/// that always do (detail, hint, context, the failing query) are not kept at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, `WARNING`, …: not localised where the server says so (9.6 and later).
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    pub message: String,
    pub schema: String,
    pub table: String,
    pub column: String,
    pub data_type: String,
    pub constraint: String,
    /// Where in the text the server sees the error, in characters from 1; 0 when absent.
    pub position: u32,
}

impl ServerError {
    fn held(&self) -> usize {
        let names = [&self.schema, &self.table, &self.column, &self.data_type, &self.constraint];
        let names = names.into_iter().map(String::capacity).sum::<usize>();
        self.severity.capacity() + self.code.capacity() + self.message.capacity() + names
    }
}
