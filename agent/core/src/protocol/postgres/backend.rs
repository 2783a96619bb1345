//! Messages of the server in: each answers the first thing asked that has no answer yet.
//!
//! *Owns* which answer ends what. *Must not know* bytes on the wire.
//! *Spec*: PostgreSQL documentation, sections 55.2.2 "Simple Query" to 55.2.8 "Asynchronous Operations".

use std::sync::Arc;

use super::core::{Core, MAX_ROWS, Phase, Unit, What};
use super::frame::{Message, Next};
use super::open::Open;
use super::parse;
use crate::charset::Charset;
use crate::operation::postgres::{ServerError, Statement, StatementKind};
use crate::operation::{Completeness, Extent};
use crate::protocol::{Discard, Event, Events};
use crate::time::BootTime;

impl Core {
    pub(super) fn backend(&mut self, message: &Message<'_>, out: &mut Events) -> Next {
        if let Phase::Startup { request, is_answered } = &mut self.phase {
            let request = *request;
            *is_answered = true;
            match message.tag {
                b'Z' => {
                    self.phase = Phase::Ready;
                    self.nothing_is_asked();
                    self.open.block.ready(message.body.first().copied().unwrap_or(b'I'));
                    return Next::Tagged;
                }
                b'E' => {
                    self.phase = Phase::Ready;
                    let error = parse::server_error(message.body, self.charset);
                    self.startup_ended(
                        request,
                        Some((error, message)),
                        message.end.at,
                        Completeness::Complete,
                        out,
                    );
                    return Next::Tagged;
                }
                _ => {}
            }
        }
        // Answers to something that was asked.
        if b"123tTnDCIsEGHdV".contains(&message.tag) {
            let behind_loss = self.lost.is_some();
            if !self.is_certain(message.tag, out) {
                if message.tag == b'E' && behind_loss {
                    self.error_of_something(message.end.at, out);
                }
                return Next::Tagged;
            }
            match self.units.front().map(|unit| (unit.is_answered_by(message.tag), unit.current())) {
                Some((true, Some(key))) => {
                    self.open.respond(key, message.start, message.end);
                    self.open.add_missing(key, message.missing);
                }
                // The answer to something that was not seen, so others may have been as well.
                Some((false, _)) => self.doubt(),
                _ => {}
            }
        }
        match message.tag {
            b'1' => self.pop(|unit| matches!(unit.what, What::Parse { .. })),
            b'2' => self.pop(|unit| matches!(unit.what, What::Bind)),
            b'3' => self.pop(|unit| matches!(unit.what, What::Close)),
            b't' => {
                if let Some(What::Describe { name, is_statement: true }) =
                    self.units.front().map(|unit| &unit.what)
                {
                    let oids = parse::parameter_description(message.body);
                    let forgotten = self.catalog.describe(name, |prepared| prepared.oids = oids);
                    count_forgotten(forgotten, out);
                }
            }
            b'T' => self.described(parse::row_description(message.body, self.charset), out),
            b'n' => self.pop(|unit| matches!(unit.what, What::Describe { .. })),
            b'D' => self.row(message, out),
            b'C' => self.complete(Some(parse::command_tag(message.body)), message.end.at, out),
            b'I' => self.complete(None, message.end.at, out),
            b's' => self.suspended(message.end.at, out),
            b'E' => self.error(message, out),
            b'N' => self.notice(message),
            b'Z' => self.ready(message, out),
            b'V' => {
                if let Some(key) =
                    self.front(|unit| matches!(unit.what, What::Call)).and_then(|unit| unit.key)
                {
                    self.open.close(key, message.end.at, Completeness::Complete, out);
                }
            }
            b'G' => self.copy_in(),
            b'H' => {
                if let Some(open) = self.running().and_then(|key| self.open.get(key)) {
                    open.statement.kind = StatementKind::Copy;
                }
            }
            b'd' => {
                if let Some(open) = self.running().and_then(|key| self.open.get(key)) {
                    open.statement.copy_len = open.statement.copy_len.saturating_add(message.len);
                }
            }
            // CopyBothResponse: replication streams from here on, and that is left alone.
            b'W' => {
                for key in self.open.keys() {
                    self.open.close(key, message.end.at, Completeness::Complete, out);
                }
                self.units.clear();
                return Next::Opaque;
            }
            b'S' => match parse::parameter_status(message.body) {
                (b"standard_conforming_strings", value) => self.backslash_escapes = value == b"off",
                (b"client_encoding", value) => self.charset = Charset::of_postgres(value),
                _ => {}
            },
            // Authentication, keys, notifications, CopyDone, NegotiateProtocolVersion.
            _ => {}
        }
        Next::Tagged
    }

    /// Answers do not fit questions: nothing that is open can be sure of its own.
    fn doubt(&mut self) {
        for key in self.units.iter().filter_map(Unit::current).collect::<Vec<_>>() {
            self.open.add_missing(key, 1);
        }
    }

    /// What waits first for its answer, if it is of this kind.
    fn front(&mut self, is: impl Fn(&Unit) -> bool) -> Option<&mut Unit> {
        self.units.front_mut().filter(|unit| is(unit))
    }

    fn pop(&mut self, is: impl Fn(&Unit) -> bool) {
        if self.front(is).is_some() {
            self.units.pop_front();
        }
    }

    /// The operation that runs now: of an Execute or a simple query.
    fn running(&self) -> Option<super::catalog::Key> {
        let unit = self.units.front()?;
        matches!(unit.what, What::Execute | What::Query { .. }).then(|| unit.current())?
    }

    pub(super) fn wants_row(&self) -> bool {
        self.running().is_some_and(|key| self.open.rows_kept(key).is_some_and(|rows| rows < MAX_ROWS))
    }

    /// RowDescription: of a statement, a portal, or the result that comes.
    fn described(&mut self, columns: Arc<[parse::Column]>, out: &mut Events) {
        let Some(unit) = self.units.front() else { return };
        match &unit.what {
            What::Describe { name, is_statement: true } => {
                let forgotten = self.catalog.describe(name, |prepared| prepared.columns = columns);
                count_forgotten(forgotten, out);
                self.units.pop_front();
            }
            What::Describe { name, is_statement: false } => {
                if let Some(open) = unit.key.and_then(|key| self.open.get(key)) {
                    open.columns = columns.clone();
                }
                if let Some(portal) =
                    self.catalog.portal(name).filter(|portal| unit.key == Some(portal.claim.key))
                {
                    // The statement's as well: drivers describe one execution and remember.
                    let (statement, text) = (portal.statement.clone(), portal.prepared.text.clone());
                    self.catalog.describe_portal(name, &columns);
                    let forgotten = self.catalog.describe(&statement, |prepared| {
                        if same_text(prepared.text.as_ref(), text.as_ref()) {
                            prepared.columns = columns;
                        }
                    });
                    count_forgotten(forgotten, out);
                }
                self.units.pop_front();
            }
            What::Query { .. } => {
                if let Some(open) = unit.current().and_then(|key| self.open.get(key)) {
                    open.columns = columns;
                }
            }
            _ => {}
        }
    }

    fn row(&mut self, message: &Message<'_>, out: &mut Events) {
        let Some(key) = self.running() else { return };
        self.adopt_columns(key);
        let Some(open) = self.open.get(key) else { return };
        open.statement.returned_rows += 1;
        let is_wanted =
            open.statement.first_rows.len() < MAX_ROWS && open.statement.returned_rows <= MAX_ROWS as u64;
        if is_wanted && !open.answer_holed {
            let cells =
                parse::data_row(message.body, &open.columns, self.charset, |index| open.is_binary(index));
            self.open.add_row(key, cells, out);
        }
    }

    /// Takes the columns that a Describe of the statement told after it was bound.
    fn adopt_columns(&mut self, key: super::catalog::Key) {
        let Some(open) = self.open.get(key).filter(|open| open.columns.is_empty()) else { return };
        let Some(prepared) = self.catalog.statement(&open.statement.prepared_name) else { return };
        if same_text(open.text.as_ref(), prepared.text.as_ref()) {
            open.columns = prepared.columns.clone();
        }
    }

    /// A statement is over: CommandComplete, or EmptyQueryResponse without a tag.
    fn complete(&mut self, tag: Option<String>, at: BootTime, out: &mut Events) {
        let Some(key) = self.running() else { return };
        self.adopt_columns(key);
        if let Some(tag) = tag {
            if matches!(tag.as_str(), "PREPARE" | "DEALLOCATE" | "DEALLOCATE ALL" | "DISCARD ALL") {
                let open = self.open.get(key);
                let text = open
                    .and_then(|open| open.statement.text.clone().or(open.text.as_deref().map(str::to_owned)));
                self.prepared(&text.unwrap_or_default());
            }
            self.open.complete(key, tag);
        }
        self.copy_in.take_if(|copying| *copying == key);
        self.open.close(key, at, Completeness::Complete, out);
        self.next_statement();
    }

    /// Goes on after a statement: within the query, or with what was asked next.
    fn next_statement(&mut self) {
        match self.units.front_mut().map(|unit| &mut unit.what) {
            Some(What::Query { keys }) => {
                keys.next();
            }
            Some(What::Execute) => {
                self.units.pop_front();
            }
            _ => {}
        }
    }

    /// PortalSuspended: the rows asked for are there and more can be fetched by another Execute.
    fn suspended(&mut self, at: BootTime, out: &mut Events) {
        let Some(unit) = self.front(|unit| matches!(unit.what, What::Execute)) else { return };
        let key = unit.key;
        self.units.pop_front();
        let Some(key) = key else { return };
        let block = self.open.block.current();
        if let Some(open) = self.open.get(key) {
            open.statement.transaction = block;
        }
        if self.catalog.is_executing(key) {
            self.open.suspend(key, true);
        } else {
            // Its portal was closed or replaced meanwhile, or may have been in what was not seen.
            self.open.add_missing(key, self.unseen);
            self.open.close(key, at, Completeness::Complete, out);
        }
    }

    pub(super) fn copy_in(&mut self) {
        let Some(key) = self.running() else { return };
        if let Some(open) = self.open.get(key) {
            open.statement.kind = StatementKind::Copy;
        }
        self.copy_in = Some(key);
        // Data may have been among them.
        self.open.add_missing(key, self.unseen);
        if let Some(early) = self.early.take()
            && let Some(open) = self.open.get(key)
        {
            open.statement.copy_len = open.statement.copy_len.saturating_add(early.len);
            open.request.end = early.end;
            self.copy_in = self.copy_in.filter(|_| !early.is_over);
        }
        // A Sync sent before the data is read in copy-in mode, where it is ignored.
        if matches!(self.units.front().map(|unit| &unit.what), Some(What::Execute)) {
            let sync = self.units.get(1).is_some_and(|unit| matches!(unit.what, What::Sync));
            if sync {
                self.units.remove(1);
            }
        }
    }

    /// ErrorResponse: ends what runs, and what was asked up to the next Sync is discarded by the server.
    fn error(&mut self, message: &Message<'_>, out: &mut Events) {
        let error = parse::server_error(message.body, self.charset);
        let Some(unit) = self.units.front_mut() else { return };
        let current = unit.current();
        let at = message.end.at;
        self.copy_in = None;
        match &mut unit.what {
            What::Query { keys } => {
                let had_one = keys.next().is_some();
                let rest = std::mem::replace(keys, 0..0);
                if had_one {
                    self.fail(current, error, message, out);
                } else {
                    self.fail_without_operation(error, message, out);
                }
                for key in rest {
                    self.open.skip(key, at, out);
                }
            }
            What::Call => self.fail(current, error, message, out),
            _ => {
                match current.filter(|key| self.open.contains(*key)) {
                    Some(key) => self.fail(Some(key), error, message, out),
                    None => self.fail_without_operation(error, message, out),
                }
                self.skip_to_sync(out);
            }
        }
    }

    fn fail(
        &mut self,
        key: Option<super::catalog::Key>,
        error: ServerError,
        message: &Message<'_>,
        out: &mut Events,
    ) {
        let Some(key) = key else { return };
        self.open.fail(key, error);
        self.open.close(key, message.end.at, Completeness::Complete, out);
    }

    /// What failed is not the execution of a statement: its preparation, or the commit that a Sync does. That is an
    /// operation of its own.
    fn fail_without_operation(&mut self, error: ServerError, message: &Message<'_>, out: &mut Events) {
        let Some(unit) = self.units.front() else { return };
        // An operation that is not there was over the bound.
        if matches!(unit.what, What::Execute) {
            return;
        }
        let statement = Statement {
            kind: if matches!(unit.what, What::Query { .. }) {
                StatementKind::Simple
            } else {
                StatementKind::Extended
            },
            error: Some(error),
            transaction: self.open.block.current(),
            ..Statement::default()
        };
        let mut open = Open::new(statement, unit.extent);
        open.text = unit.text.clone();
        open.missing = unit.missing.saturating_add(message.missing).saturating_add(self.unaccounted());
        if let What::Parse { name, .. } = &unit.what {
            open.statement.prepared_name = name.to_string();
        }
        let key = self.open.new_key();
        self.open.open(key, open, out);
        self.open.respond(key, message.start, message.end);
        self.open.close(key, message.end.at, Completeness::Complete, out);
    }

    /// "The backend issues ErrorResponse, then reads and discards messages until a Sync is reached" (section 55.2.3).
    fn skip_to_sync(&mut self, out: &mut Events) {
        while let Some(unit) = self.units.pop_front() {
            // What was asked behind lost bytes may be behind a Sync in them.
            if matches!(unit.what, What::Sync) || unit.late {
                self.units.push_front(unit);
                return;
            }
            self.skip(unit, out);
        }
        self.skipping = true;
    }

    /// An error behind lost bytes, of one of several things: none of them is over in a way that is known.
    fn error_of_something(&mut self, at: BootTime, out: &mut Events) {
        self.copy_in = None;
        while let Some(mut unit) = self.units.pop_front() {
            self.give_up(&unit, at, out);
            if unit.ends_turn() {
                if let What::Query { keys } = &mut unit.what {
                    *keys = 0..0;
                }
                self.units.push_front(unit);
                return;
            }
        }
        self.skipping = true;
    }

    fn notice(&mut self, message: &Message<'_>) {
        if self.lost.is_some() || self.unpaired || self.units.front().is_some_and(|unit| unit.late) {
            return;
        }
        let Some(open) = self.units.front().and_then(Unit::current).and_then(|key| self.open.get(key)) else {
            return;
        };
        let notice = parse::server_error(message.body, self.charset);
        if notice.severity == "WARNING" && open.statement.warning.is_none() {
            open.statement.warning = Some(notice);
        }
    }

    /// ReadyForQuery: everything asked up to the next Sync, query or call is answered.
    fn ready(&mut self, message: &Message<'_>, out: &mut Events) {
        let status = message.body.first().copied().unwrap_or(b'I');
        self.open.block.ready(status);
        if self.unfollowed > 0 {
            self.unfollowed -= 1;
            return;
        }
        if self.unpaired {
            return;
        }
        let Some(turn) = self.units.iter().position(Unit::ends_turn) else {
            // The answer to something that was not seen.
            self.skipping = false;
            self.nothing_is_asked();
            return;
        };
        let lost = self.lost.take();
        if lost.is_some() && self.units.iter().skip(turn.saturating_add(1)).any(Unit::ends_turn) {
            // Which of them it ends cannot be told.
            self.unpair(message.end.at, out);
            return;
        }
        let mut segment = 0;
        for _ in 0..=turn {
            let Some(unit) = self.units.pop_front() else { break };
            segment = unit.segment;
            for key in unit.keys() {
                match lost {
                    Some(lost) => self.answer_lost(key, lost.at, status != b'I', out),
                    None if unit.late => {
                        self.open.answer_passed(key);
                        self.answer_lost(key, message.end.at, status != b'I', out);
                    }
                    // Our reading of the text found more statements than the server did.
                    None => self.open.skip(key, message.end.at, out),
                }
            }
        }
        self.nothing_is_asked();
        if status == b'I' {
            // "Portals exist only within a transaction" (section 55.2.3).
            self.catalog.end_transaction(segment);
            for key in self.open.suspended() {
                if !self.catalog.is_executing(key) {
                    self.open.close_at_last_byte(key, message.end.at, Completeness::Complete, out);
                }
            }
        }
    }

    /// After the end of a turn: when nothing is left that waits, nothing that was not seen waits either, unless the client
    /// asks before it has its answers.
    fn nothing_is_asked(&mut self) {
        if !self.units.is_empty() {
            return;
        }
        self.lost = None;
        if self.unseen > 0 {
            match self.pipelined {
                true => self.unpaired = true,
                false => self.unseen = 0,
            }
        }
    }

    /// The connection's start failed or was never answered.
    pub(super) fn startup_ended(
        &mut self,
        request: Extent,
        error: Option<(ServerError, &Message<'_>)>,
        at: BootTime,
        how: Completeness,
        out: &mut Events,
    ) {
        let key = self.open.new_key();
        let statement = Statement { kind: StatementKind::Startup, ..Statement::default() };
        self.open.open(key, Open::new(statement, request), out);
        if let Some((error, message)) = error {
            self.open.respond(key, message.start, message.end);
            if let Some(open) = self.open.get(key) {
                open.statement.error = Some(error);
                open.missing = message.missing;
            }
        }
        self.open.close(key, at, how, out);
    }
}

/// Statements had to go for others.
pub(super) fn count_forgotten(forgotten: usize, out: &mut Events) {
    if forgotten > 0 {
        out.push(Event::Discarded { reason: Discard::Limit, bytes: 0 });
    }
}

/// Both are the text of one and the same Parse.
fn same_text(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
}
