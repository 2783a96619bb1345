//! A PostgreSQL statement, or another unit of the frontend/backend protocol.

/// One statement and its result (PostgreSQL documentation, chapter "Frontend/Backend Protocol").
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    pub kind: StatementKind,
    /// As sent, bounded; `None` when it was prepared before the agent started.
    pub text: Option<String>,
    /// Text and parameters came apart: the text has `$n` placeholders.
    pub parameterised: bool,
    /// Name of the prepared statement; empty for the unnamed one.
    pub prepared_name: String,
    pub parameters: Vec<Parameter>,
    /// Column names of the result, when described.
    pub columns: Vec<String>,
    /// The first rows, bounded, for keys only; `None` is NULL.
    pub first_rows: Vec<Vec<Option<Cell>>>,
    /// Rows returned, counted from `DataRow`.
    pub returned_rows: u64,
    /// `CommandComplete` tag, e.g. `INSERT 0 1`.
    pub command_tag: Option<String>,
    pub error: Option<ServerError>,
    /// Database of the connection, when its startup was seen.
    pub database: Option<String>,
    /// User of the connection, when its startup was seen.
    pub user: Option<String>,
    /// Transaction block the statement ran in, numbered per connection from 1; `None` outside blocks.
    pub transaction: Option<u64>,
    /// Bytes moved by COPY.
    pub copy_len: u64,
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

/// ErrorResponse or NoticeResponse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    pub message: String,
}
