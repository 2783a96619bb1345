//! Operations whose end has not come: opened by requests, filled by responses, closed into [`Operation`]s.
//!
//! *Owns* their bounds, their events and transaction blocks. *Must not know* which message answers which.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::Key;
use super::parse::{Column, Formats};
use crate::operation::postgres::{
    Cell, InTransaction, ServerError, Statement, StatementKind, TransactionEnd, TransactionNumber,
};
use crate::operation::{Completeness, Detail, Extent, OpSide, Operation};
use crate::protocol::{Discard, Event, Events};
use crate::record::{OpId, Point, Role};
use crate::time::BootTime;

/// Bytes of parameters and rows kept by the open operations of a connection.
const MAX_RETAINED_BYTES: usize = 1 << 20;

/// No connection has had more transaction blocks.
const MAX_BLOCKS: u64 = 1 << 48;

/// An open operation.
#[derive(Debug)]
pub(super) struct Open {
    id: OpId,
    pub(super) request: Extent,
    pub(super) response: Option<Extent>,
    pub(super) statement: Statement,
    /// The text of a prepared statement, shared with it. That of a simple query is in the statement already.
    pub(super) text: Option<Arc<str>>,
    pub(super) columns: Arc<[Column]>,
    /// Formats of the result as Bind asked for them; `None`: as the description says.
    pub(super) results: Option<Formats>,
    /// Bytes inside it that were not captured.
    pub(super) missing: u64,
    /// Messages of its answer were lost, or how to read them: rows are counted and not kept.
    pub(super) answer_holed: bool,
    /// The portal was suspended; the operation goes on with its next Execute.
    pub(super) suspended: bool,
    /// Bytes of values, which are bounded for the connection.
    retained: usize,
    /// Bytes that it holds beside them.
    weight: usize,
}

impl Open {
    pub(super) fn new(statement: Statement, request: Extent) -> Self {
        let retained = retained(&statement);
        Self {
            id: OpId::default(),
            request,
            response: None,
            statement,
            text: None,
            columns: Arc::default(),
            results: None,
            missing: 0,
            answer_holed: false,
            suspended: false,
            retained,
            weight: 0,
        }
    }

    /// The statement's text, where it is known.
    fn text(&self) -> Option<&str> {
        self.text.as_deref().or(self.statement.text.as_deref())
    }

    pub(super) fn is_binary(&self, index: usize) -> bool {
        match &self.results {
            Some(formats) => formats.is_binary(index),
            None => self.columns.get(index).is_some_and(|column| column.binary),
        }
    }
}

/// Bytes of values a statement holds.
fn retained(statement: &Statement) -> usize {
    let len = |cell: &Option<Cell>| match cell {
        Some(Cell::Text(text)) => text.len() + size_of::<Cell>(),
        _ => size_of::<Cell>(),
    };
    let parameters = statement.parameters.iter().map(|parameter| len(&parameter.value));
    parameters.chain(statement.first_rows.iter().flatten().map(len)).sum()
}

/// All open operations of a connection.
#[derive(Debug)]
pub(super) struct OpenOperations {
    role: Role,
    max: usize,
    open: BTreeMap<Key, Open>,
    retained: usize,
    weight: usize,
    next_key: Key,
    /// How many are suspended.
    suspended: usize,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) block: Block,
}

impl OpenOperations {
    pub(super) fn new(role: Role, max: usize) -> Self {
        Self {
            role,
            max,
            open: BTreeMap::new(),
            retained: 0,
            weight: 0,
            next_key: 0,
            suspended: 0,
            database: None,
            user: None,
            block: Block::default(),
        }
    }

    pub(super) fn new_key(&mut self) -> Key {
        self.next_key += 1;
        self.next_key
    }

    /// The key that the next call of [`OpenOperations::new_key`] gives.
    pub(super) fn next_key(&self) -> Key {
        self.next_key + 1
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Open> {
        self.open.get_mut(&key)
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.open.contains_key(&key)
    }

    pub(super) fn is_suspended(&self, key: Key) -> bool {
        self.open.get(&key).is_some_and(|open| open.suspended)
    }

    /// Bytes inside an operation were not captured.
    pub(super) fn add_missing(&mut self, key: Key, len: u64) {
        if let Some(open) = self.open.get_mut(&key) {
            open.missing = open.missing.saturating_add(len);
        }
    }

    /// Bytes of it may have been among those that were not captured.
    pub(super) fn add_missing_if_none(&mut self, key: Key, len: u64) {
        if let Some(open) = self.open.get_mut(&key).filter(|open| open.missing == 0) {
            open.missing = len;
        }
    }

    /// The most bytes that are missing inside one operation.
    pub(super) fn most_missing(&self) -> u64 {
        self.open.values().map(|open| open.missing).max().unwrap_or(0)
    }

    /// Messages of the server were lost while it waited for them.
    pub(super) fn answers_lost(&mut self, len: u64) {
        for open in self.open.values_mut() {
            open.missing = open.missing.saturating_add(len);
            open.answer_holed = true;
        }
    }

    /// Messages of its answer went by without being known as such.
    pub(super) fn answer_passed(&mut self, key: Key) {
        if let Some(open) = self.open.get_mut(&key) {
            open.answer_holed = true;
        }
    }

    /// Rows kept of an operation.
    pub(super) fn rows_kept(&self, key: Key) -> Option<usize> {
        self.open.get(&key).map(|open| open.statement.first_rows.len())
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.open.keys().copied().collect()
    }

    /// What a database server does for its clients passes through it; it is never a cause of anything else there.
    fn shape(&self) -> OpSide {
        match self.role {
            Role::Client => OpSide::Outgoing,
            Role::Server => OpSide::Relayed,
        }
    }

    /// Opens an operation whose request is complete. Over the bound it is counted and not opened.
    pub(super) fn open(&mut self, key: Key, mut open: Open, out: &mut Events) {
        if self.open.len() >= self.max {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: open.request.len() });
            return;
        }
        if self.retained + open.retained > MAX_RETAINED_BYTES {
            open.statement.parameters = Vec::new();
            out.push(Event::Discarded { reason: Discard::Limit, bytes: open.retained as u64 });
            open.retained = 0;
        }
        self.retained += open.retained;
        // Texts of the extended protocol are the catalog's as well, unless their name has been given to another since.
        let text = open.text.as_deref().or(open.statement.text.as_deref()).map_or(0, str::len);
        open.weight = size_of::<Open>() + text;
        self.weight += open.weight;
        open.id = out.new_op();
        out.push(Event::Opened { op: open.id, shape: self.shape(), point: open.request.start });
        out.push(Event::Requested { op: open.id, point: open.request.end });
        self.open.insert(key, open);
    }

    /// Bytes that open operations hold.
    pub(super) fn held(&self) -> usize {
        self.retained + self.weight
    }

    /// Gives up parameters and rows of all that is open, and keeps no more rows of it.
    pub(super) fn forget_values(&mut self) {
        for open in self.open.values_mut() {
            open.statement.parameters = Vec::new();
            open.statement.first_rows = Vec::new();
            open.answer_holed = true;
            open.retained = 0;
        }
        self.retained = 0;
    }

    /// A message of the response came, from `start` to `end`.
    pub(super) fn respond(&mut self, key: Key, start: Point, end: Point) {
        let Some(open) = self.open.get_mut(&key) else { return };
        match &mut open.response {
            Some(response) => response.end = end,
            None => open.response = Some(Extent { start, end }),
        }
    }

    /// Keeps a row, if there is room.
    pub(super) fn add_row(&mut self, key: Key, row: Vec<Option<Cell>>, out: &mut Events) {
        let Some(open) = self.open.get_mut(&key) else { return };
        let before = open.retained;
        open.statement.first_rows.push(row);
        open.retained = retained(&open.statement);
        let more = open.retained.saturating_sub(before);
        if self.retained + more > MAX_RETAINED_BYTES {
            open.statement.first_rows.pop();
            open.retained = before;
            out.push(Event::Discarded { reason: Discard::Limit, bytes: more as u64 });
        } else {
            self.retained += more;
        }
    }

    pub(super) fn suspend(&mut self, key: Key, is_suspended: bool) {
        if let Some(open) = self.open.get_mut(&key)
            && open.suspended != is_suspended
        {
            open.suspended = is_suspended;
            self.suspended = if is_suspended { self.suspended + 1 } else { self.suspended.saturating_sub(1) };
        }
    }

    /// Operations whose portal is suspended.
    pub(super) fn suspended(&self) -> Vec<Key> {
        match self.suspended {
            0 => Vec::new(),
            _ => self.open.iter().filter(|(_, open)| open.suspended).map(|(key, _)| *key).collect(),
        }
    }

    /// Closes an operation. `how` tells what is known of its end; bytes missing inside it make it incomplete anyhow.
    pub(super) fn close(&mut self, key: Key, ended_at: BootTime, how: Completeness, out: &mut Events) {
        self.suspend(key, false);
        let Some(mut open) = self.open.remove(&key) else { return };
        self.retained = self.retained.saturating_sub(open.retained);
        self.weight = self.weight.saturating_sub(open.weight);
        debug_assert!(
            !self.open.is_empty() || (self.retained, self.weight) == (0, 0),
            "what is held has drifted"
        );
        // The server may have got it, and may have done it.
        if how != Completeness::Complete
            && open.statement.transaction.is_none()
            && self.block.current().is_some()
            && open.text().is_some_and(is_commit)
        {
            open.statement.transaction = self.block.current();
            open.statement.ends = Some(TransactionEnd::Unknown);
        }
        let completeness = match how {
            Completeness::Complete if open.missing > 0 => Completeness::Gap(open.missing),
            how => how,
        };
        if let Some(text) = &open.text {
            open.statement.text = Some(text.to_string());
        }
        open.statement.columns = open.columns.iter().map(|column| column.name.clone()).collect();
        open.statement.column_tables = open.columns.iter().map(|column| column.table).collect();
        open.statement.database.clone_from(&self.database);
        open.statement.user.clone_from(&self.user);
        out.push(Event::Closed(Box::new(Operation {
            id: open.id,
            shape: self.shape(),
            role: self.role,
            request: open.request,
            response: open.response,
            ended_at,
            completeness,
            detail: Detail::Postgres(Box::new(open.statement)),
        })));
    }

    /// Closes what the server never executed.
    pub(super) fn skip(&mut self, key: Key, at: BootTime, out: &mut Events) {
        if let Some(open) = self.open.get_mut(&key) {
            open.statement.skipped = true;
            self.close(key, at, Completeness::Complete, out);
        }
    }

    /// Closes at the last byte of its response, as far as it was seen, or at `otherwise`.
    pub(super) fn close_at_last_byte(
        &mut self,
        key: Key,
        otherwise: BootTime,
        how: Completeness,
        out: &mut Events,
    ) {
        let response = self.open.get(&key).and_then(|open| open.response);
        self.close(key, response.map_or(otherwise, |response| response.end.at), how, out);
    }

    /// A statement ended with this tag: notes its transaction block and moves the block on.
    pub(super) fn complete(&mut self, key: Key, tag: String) {
        let kind = |kind: StatementKind| kind != StatementKind::FunctionCall;
        let Some(open) = self.open.get_mut(&key).filter(|open| kind(open.statement.kind)) else {
            self.block.statement(&tag, None, false);
            return;
        };
        let text = open.text.as_deref().or(open.statement.text.as_deref());
        let warning = open.statement.warning.as_ref().map(|warning| warning.code.as_str());
        (open.statement.transaction, open.statement.ends) =
            self.block.statement(&tag, text, warning == Some(ALREADY_BEGUN));
        open.statement.command_tag = Some(tag);
    }

    /// What is known so far of a statement.
    pub(super) fn peek(&self, op: OpId) -> Option<Operation> {
        let open = self.open.values().find(|open| open.id == op)?;
        let mut statement = open.statement.clone();
        statement.text = statement.text.or_else(|| open.text.as_deref().map(str::to_owned));
        Some(Operation {
            id: op,
            shape: self.shape(),
            role: self.role,
            request: open.request,
            response: open.response,
            ended_at: open.request.end.at,
            completeness: Completeness::Abandoned,
            detail: Detail::Postgres(Box::new(statement)),
        })
    }

    /// A statement failed: notes its transaction block, which a `COMMIT` that fails ends.
    pub(super) fn fail(&mut self, key: Key, error: ServerError) {
        let block = self.block.current();
        let Some(open) = self.open.get_mut(&key) else { return };
        // A server that shuts down may have committed before.
        let is_over = matches!(error.severity.as_str(), "FATAL" | "PANIC");
        let how = if is_over { TransactionEnd::Unknown } else { TransactionEnd::RolledBack };
        let is_commit = block.is_some() && open.text().is_some_and(is_commit);
        open.statement.transaction = block.map(|block| InTransaction { is_end: is_commit, ..block });
        open.statement.ends = is_commit.then_some(how);
        open.statement.error = Some(error);
    }
}

/// It asks for what the block did to be kept.
fn is_commit(text: &str) -> bool {
    let mut tokens = crate::sql::token::significant(text);
    let first = tokens.next();
    first.is_some_and(|first| {
        first.is("commit")
            || first.is("end")
            || (first.is("prepare") && tokens.next().is_some_and(|second| second.is("transaction")))
    })
}

/// SQLSTATE of the warning that a BEGIN inside a block gives (`active_sql_transaction`).
const ALREADY_BEGUN: &str = "25001";

/// The transaction block of a connection, numbered from 1.
///
/// Tags tell when one begins and ends; the status of ReadyForQuery corrects what tags leave open (`ROLLBACK` is also the
/// tag of `ROLLBACK TO SAVEPOINT`) and what was not seen.
#[derive(Debug, Default)]
pub(super) struct Block {
    current: Option<InTransaction>,
    count: u64,
    /// The block that a `ROLLBACK` of unknown text may or may not have ended.
    doubtful: Option<InTransaction>,
}

impl Block {
    pub(super) fn current(&self) -> Option<InTransaction> {
        self.current
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Goes on where another one was.
    pub(super) fn resume(&mut self, current: Option<u64>, count: u64) {
        // More than a connection can have; so that counting goes on.
        let (current, count) = (current.map(|block| block.min(MAX_BLOCKS)), count.min(MAX_BLOCKS));
        let count = count.max(current.unwrap_or(0));
        let current = current.map(|block| Self::at(block, false));
        *self = Self { current, count, doubtful: None };
    }

    /// Answers were lost: a block may have ended in them, or begun.
    pub(super) fn lost(&mut self) {
        self.current = None;
        self.doubtful = None;
    }

    fn at(number: u64, is_begun: bool) -> InTransaction {
        InTransaction { number: TransactionNumber(number), is_begun, is_end: false }
    }

    /// `is_begun`: its beginning is what was seen.
    fn begin(&mut self, is_begun: bool) -> Option<InTransaction> {
        self.count += 1;
        self.current = Some(Self::at(self.count, is_begun));
        self.current
    }

    /// The block of a statement that ended with this tag; and how that ended, if it did for certain. `was_begun`: the server warned
    /// that a block had begun before.
    fn statement(
        &mut self,
        tag: &str,
        text: Option<&str>,
        was_begun: bool,
    ) -> (Option<InTransaction>, Option<TransactionEnd>) {
        let has = |word: &str| {
            text.is_some_and(|text| crate::sql::token::significant(text).any(|token| token.is(word)))
        };
        match tag {
            "BEGIN" | "START TRANSACTION" => (self.current.or_else(|| self.begin(!was_begun)), None),
            "ROLLBACK" if has("to") => (self.current, None),
            "COMMIT" | "ROLLBACK" | "PREPARE TRANSACTION" => {
                let ended = self.current.take();
                self.doubtful = ended.filter(|_| text.is_none() && tag == "ROLLBACK");
                let is_end = self.doubtful.is_none();
                if has("chain") && !has("no") {
                    self.begin(true);
                }
                let how = match tag {
                    "COMMIT" => TransactionEnd::Committed,
                    "ROLLBACK" => TransactionEnd::RolledBack,
                    _ => TransactionEnd::Unknown,
                };
                let how = ended.filter(|_| is_end).map(|_| how);
                (ended.map(|ended| InTransaction { is_end, ..ended }), how)
            }
            _ => (self.current, None),
        }
    }

    /// ReadyForQuery: `I` outside a block, `T` in one, `E` in a failed one.
    pub(super) fn ready(&mut self, status: u8) {
        match status {
            b'I' => self.current = None,
            b'T' | b'E' if self.current.is_none() => {
                self.current = self.doubtful;
                if self.current.is_none() {
                    self.begin(false);
                }
            }
            _ => {}
        }
        self.doubtful = None;
    }
}
