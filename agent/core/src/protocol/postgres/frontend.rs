//! Messages of the client in: what they ask for is noted, and operations are opened.
//!
//! *Owns* which messages belong to one operation. *Must not know* answers.
//! *Spec*: PostgreSQL documentation, sections 55.2.2 "Simple Query" to 55.2.6 "COPY Operations".

use std::sync::Arc;

use super::backend::count_forgotten;
use super::catalog::{Claim, Portal, Prepared};
use super::core::{Core, Early, Phase, Unit, What};
use super::frame::{Message, Next};
use super::open::Open;
use super::parse;
use crate::operation::postgres::{Cell, Parameter, Statement, StatementKind};
use crate::operation::{Completeness, Extent};
use crate::protocol::{Discard, Event, Events};
use crate::record::Point;
use crate::sql::{self, prepare};
use crate::time::BootTime;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

impl Core {
    /// A message without a tag.
    pub(super) fn untagged(&mut self, message: &Message<'_>) -> Next {
        let mut body = super::body::Body::new(message.body);
        match body.u32() {
            // Its only content is a secret; nothing is answered.
            Some(CANCEL_REQUEST) => Next::Opaque,
            Some(SSL_REQUEST | GSSENC_REQUEST) => {
                self.phase = Phase::Encryption;
                Next::Untagged
            }
            _ => {
                let startup = parse::startup(body);
                self.open.user = startup.user;
                self.open.database = startup.database;
                self.charset = startup.charset;
                if startup.replication {
                    self.phase = Phase::Ready;
                    return Next::Opaque;
                }
                let request = Extent { start: message.start, end: message.end };
                self.phase = Phase::Startup { request, is_answered: false };
                Next::Tagged
            }
        }
    }

    /// A message with a tag.
    pub(super) fn frontend(&mut self, message: &Message<'_>, out: &mut Events) {
        // A Sync by itself, with which pools try a connection, is a turn as well.
        let is_turn = message.tag == b'S' && self.units.back().is_some_and(Unit::ends_turn);
        if is_turn || matches!(message.tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F') {
            self.settle(message.start.at, out);
        }
        if message.tag == b'd' && self.copy_in.is_none() && self.lost.is_some() && self.is_certain(b'G', out)
        {
            // The server's consent is among the lost bytes.
            self.copy_in();
        }
        match message.tag {
            b'Q' => self.query(message, out),
            b'P' => self.parse(message, out),
            b'B' => self.bind(message, out),
            b'E' => self.execute(message, out),
            b'D' => {
                let (kind, name) = parse::kind_and_name(message.body, self.charset);
                let is_statement = kind == b'S';
                let mut unit =
                    Unit::new(What::Describe { name: name.as_str().into(), is_statement }, message);
                if is_statement && let Some(prepared) = self.catalog.statement(&name) {
                    unit = unit.about(prepared);
                } else if !is_statement && let Some(portal) = self.catalog.portal(&name) {
                    unit = unit.about(&portal.prepared);
                    unit.key = Some(portal.executing.unwrap_or(portal.claim.key));
                }
                self.push(unit, out);
            }
            b'C' => {
                let (kind, name) = parse::kind_and_name(message.body, self.charset);
                if kind == b'S' {
                    self.catalog.undefine(&name);
                } else if let Some(key) = self.catalog.close(&name) {
                    self.portal_gone(key, message.end.at, out);
                }
                self.push(Unit::new(What::Close, message), out);
            }
            b'S' => {
                // "The backend ignores Flush and Sync messages received during copy-in mode" (section 55.2.6).
                if self.copy_in.is_none() {
                    self.skipping = false;
                    self.push(Unit::new(What::Sync, message), out);
                }
                self.segment += 1;
            }
            b'F' => {
                let statement = Statement { kind: StatementKind::FunctionCall, ..Statement::default() };
                let key = self.open.new_key();
                let request = Extent { start: message.start, end: message.end };
                let mut open = Open::new(statement, request);
                open.missing = self.unaccounted();
                self.open.open(key, open, out);
                self.push(Unit { key: Some(key), ..Unit::new(What::Call, message) }, out);
            }
            b'd' => match self.copy_in.and_then(|key| self.open.get(key)) {
                Some(open) => {
                    open.statement.copy_len = open.statement.copy_len.saturating_add(message.len);
                    open.request.end = message.end;
                }
                None => {
                    let early = self.early.get_or_insert_default();
                    early.len = early.len.saturating_add(message.len);
                    early.end = message.end;
                }
            },
            b'c' | b'f' => match self.copy_in.take().and_then(|key| self.open.get(key)) {
                Some(open) => open.request.end = message.end,
                None => {
                    let len = self.early.map_or(0, |early| early.len);
                    self.early = Some(Early { len, end: message.end, is_over: true });
                }
            },
            // Flush, Terminate, and authentication: nothing of the latter is looked at.
            _ => {}
        }
    }

    /// A simple query: each statement of its text is an operation, and their parts of the message tile it.
    fn query(&mut self, message: &Message<'_>, out: &mut Events) {
        // "A simple Query message also destroys the unnamed" statement and portal (section 55.2.3).
        self.catalog.undefine("");
        if let Some(key) = self.catalog.close("") {
            self.portal_gone(key, message.end.at, out);
        }
        let sql_len = usize::try_from(message.len).unwrap_or(usize::MAX).saturating_sub(1);
        let kept = message.body.get(..sql_len).unwrap_or(message.body);
        let whole = message.missing == 0 && kept.len() == sql_len;
        let text = parse::sql(kept, whole, self.limits.max_statement_bytes, self.charset);
        let text = self.standard(text);
        let first = self.open.next_key();
        let mut statements = sql::each_statement(&text);
        let (one, mut next) = (statements.next(), statements.next());
        match one {
            Some(one) if next.is_some() => {
                let mut statement = one;
                let mut start = message.start;
                loop {
                    // The next statement starts where its text does; the last one ends with the message.
                    let end = match next {
                        Some(next) => {
                            let before = text.get(..offset(&text, next)).unwrap_or(&text);
                            let offset = self.charset.encoded_len(before) as u64;
                            let pos = message.start.pos.saturating_add(5).saturating_add(offset);
                            pos.clamp(start.pos, message.end.pos)
                        }
                        None => message.end.pos,
                    };
                    let extent = Extent { start, end: Point { pos: end, ..message.end } };
                    self.simple(statement.to_owned(), extent, message.missing, out);
                    start = Point { pos: end, ..message.start };
                    let Some(following) = next else { break };
                    statement = following;
                    next = statements.next();
                }
            }
            one => {
                let extent = Extent { start: message.start, end: message.end };
                let one = one.unwrap_or_else(|| text.trim());
                let part = (one.len() < text.len()).then(|| one.to_owned());
                drop(statements);
                self.simple(part.unwrap_or(text), extent, message.missing, out);
            }
        }
        let what = What::Query { keys: first..self.open.next_key() };
        self.push(Unit::new(what, message), out);
    }

    /// Opens the operation of one statement of a simple query.
    fn simple(&mut self, text: String, extent: Extent, missing: u64, out: &mut Events) {
        let (executes, parameters) = self.executed(&text).unzip();
        let statement = Statement {
            kind: StatementKind::Simple,
            text: Some(text),
            text_is_fresh: true,
            executes,
            parameters: parameters.unwrap_or_default(),
            ..Statement::default()
        };
        let mut open = Open::new(statement, extent);
        open.missing = missing.saturating_add(self.unaccounted());
        let key = self.open.new_key();
        self.open.open(key, open, out);
    }

    fn parse(&mut self, message: &Message<'_>, out: &mut Events) {
        let (name, text, oids) = parse::parse(message.body, self.limits.max_statement_bytes, self.charset);
        let claim = Claim { key: self.open.new_key(), start: message.start, segment: self.segment };
        let mut prepared = Prepared::new(self.standard(text), oids, claim);
        let about = prepared.clone();
        prepared.missing = message.missing;
        let (previous, forgotten) = self.catalog.define(&name, prepared);
        count_forgotten(forgotten, out);
        let what = What::Parse { name: name.into_boxed_str(), previous: previous.map(Box::new) };
        let unit = Unit::new(what, message).about(&about);
        self.push(Unit { key: Some(claim.key), ..unit }, out);
    }

    fn bind(&mut self, message: &Message<'_>, out: &mut Events) {
        let (portal_name, statement) = parse::bind_names(message.body, self.charset);
        let mut prepared = self.catalog.bind(&statement, self.segment).unwrap_or_default();
        let bind = parse::bind(message.body, &prepared.oids, self.charset);
        if bind.unkept > 0 && message.missing == 0 {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: message.len });
        }
        let claim = match prepared.claim.take() {
            Some(claim) => claim,
            None => Claim { key: self.open.new_key(), start: message.start, segment: self.segment },
        };
        let unit = Unit { key: Some(claim.key), ..Unit::new(What::Bind, message).about(&prepared) };
        let portal = Portal {
            statement,
            prepared,
            parameters: bind.parameters,
            missing: message.missing,
            is_unseen: false,
            results: bind.results,
            claim,
            ..Portal::default()
        };
        let (replaced, had_room) = self.catalog.open(portal_name, portal);
        if !had_room {
            out.push(Event::Discarded { reason: Discard::Limit, bytes: 0 });
        }
        if let Some(key) = replaced {
            self.portal_gone(key, message.end.at, out);
        }
        self.push(unit, out);
    }

    /// An Execute opens an operation, or goes on with the one that its portal is executing.
    fn execute(&mut self, message: &Message<'_>, out: &mut Events) {
        let name = parse::execute(message.body, self.charset);
        let segment = self.segment;
        let mut unit = Unit::new(What::Execute, message);
        if self.catalog.portal(&name).is_none() {
            // Bound before it could be seen; a later Execute may go on with it.
            let claim = Claim { key: self.open.new_key(), start: message.start, segment };
            let missing = self.client_lost_len;
            self.catalog.open(name.clone(), Portal { claim, missing, is_unseen: true, ..Portal::default() });
        }
        let Some(portal) = self.catalog.portal(&name) else { return };
        unit = unit.about(&portal.prepared);
        if let Some(key) = portal.executing.filter(|key| self.open.contains(*key)) {
            unit.key = Some(key);
            let unaccounted = self.unaccounted();
            if unaccounted > 0 {
                self.open.add_missing(key, unaccounted);
                self.open.answer_passed(key);
            }
            self.push(unit, out);
            return;
        }
        if portal.executing.is_some() && self.unpaired {
            // It was told already, as far as it can be told.
            return;
        }
        let claim = match portal.executing {
            None if portal.claim.segment == segment => portal.claim,
            _ => Claim { key: self.open.new_key(), start: message.start, segment },
        };
        portal.executing = Some(claim.key);
        let parameters = std::mem::take(&mut portal.parameters);
        let mut open = Open::new(
            Statement {
                kind: StatementKind::Extended,
                text_is_fresh: std::mem::take(&mut portal.prepared.is_fresh),
                prepared_name: portal.statement.clone(),
                parameters,
                ..Statement::default()
            },
            Extent { start: claim.start, end: message.end },
        );
        open.text = portal.prepared.text.clone();
        open.columns = portal.prepared.columns.clone();
        open.results = Some(portal.results.clone());
        // In which format it asked for its rows is not known.
        open.answer_holed = portal.is_unseen;
        open.missing =
            portal.missing.saturating_add(portal.prepared.missing).saturating_add(self.unaccounted());
        if let Some((text, arguments)) = open.text.as_deref().and_then(|text| self.executed(text)) {
            open.statement.executes = Some(text);
            open.statement.parameters = arguments;
        }
        unit.key = Some(claim.key);
        self.open.open(claim.key, open, out);
        self.push(unit, out);
    }

    /// The statement that an `EXECUTE` names, if its text is known, and its arguments.
    fn executed(&self, text: &str) -> Option<(Arc<str>, Vec<Parameter>)> {
        if !prepare::may_be_command(text) {
            return None;
        }
        let Some(prepare::Command::Execute { name, values }) = prepare::command(text) else { return None };
        let text = self.catalog.statement(&name)?.text.clone()?;
        let parameter = |value: Option<String>| Parameter { type_oid: 0, value: value.map(Cell::Text) };
        Some((text, values.into_iter().map(parameter).collect()))
    }

    /// A command on prepared statements has been executed.
    pub(super) fn prepared(&mut self, text: &str) {
        match prepare::command(text) {
            Some(prepare::Command::Prepare { name, text }) => {
                let mut prepared = Prepared::known(text.into(), Vec::new(), Vec::new(), 0);
                prepared.by_sql = true;
                self.catalog.define(&name, prepared);
            }
            Some(prepare::Command::Deallocate { name }) => {
                self.catalog.undefine(&name);
            }
            Some(prepare::Command::DeallocateAll) => self.catalog.undefine_named(),
            Some(prepare::Command::Execute { .. }) | None => {}
        }
    }

    /// The text as it would read with `standard_conforming_strings` on.
    fn standard(&self, text: String) -> String {
        if self.backslash_escapes { sql::with_explicit_escapes(&text) } else { text }
    }

    /// A portal is closed or replaced: the operation it executed, if suspended, ended with its last row.
    pub(super) fn portal_gone(&mut self, key: super::catalog::Key, at: BootTime, out: &mut Events) {
        if self.open.is_suspended(key) {
            self.open.close_at_last_byte(key, at, Completeness::Complete, out);
        }
    }
}

fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}
