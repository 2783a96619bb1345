//! A PostgreSQL statement and its only row → offers for named columns.
//!
//! *Owns* which columns of a result may be believed. *Must not know* SQL's grammar; [`crate::sql`] does.

use super::collect::Collector;
use super::compile::{RuleId, Rules, Target};
use super::context::{self, InBand};
use super::explain::Place;
use super::names::{Buffer, normal};
use super::rules::Part;
use crate::operation::postgres::{Cell, Statement};
use crate::sql::shapes::{Bound, Seen, Value};
use crate::sql::token::{Kind, Token, literal, significant};
use crate::sql::{array_elements, bindings, comment_value, returning_table};

/// JSON documents of one statement that are looked into.
const MAX_DOCUMENTS: usize = 32;

/// Offers what the statement binds to named columns and what its only row has in them.
pub(super) fn offer(
    rules: &Rules,
    statement: &Statement,
    seen: Option<&Seen<'_>>,
    collector: &mut Collector<'_>,
) {
    // Of an EXECUTE the statement that it names: its own text has values, and no columns.
    let text = statement.executes.as_deref().or(statement.text.as_deref());
    let seen = seen.filter(|_| statement.executes.is_none());
    match (seen.and_then(|seen| seen.is_update().zip(seen.bindings())), text) {
        (Some((is_update, bindings)), _) => bound(rules, is_update, bindings, statement, collector),
        (None, Some(text)) => {
            let is_update = significant(text).next().is_some_and(|first| first.is("update"));
            let bindings = bindings(text);
            bound(rules, is_update, bindings.iter().map(Bound::from), statement, collector);
        }
        (None, None) => {}
    }
    documents(text, statement, collector);
    row(rules, text, statement, collector);
}

/// JSON documents that are values: an outbox has the message in one column.
fn documents(text: Option<&str>, statement: &Statement, collector: &mut Collector<'_>) {
    collector.place = Place::Document;
    let text = text.filter(|text| memchr::memchr(b'{', text.as_bytes()).is_some());
    let literals = text.into_iter().flat_map(significant).filter(|token| token.kind == Kind::Text);
    for literal in literals.filter_map(|token| literal(&token)).take(MAX_DOCUMENTS) {
        document(&literal, collector);
    }
    for parameter in statement.parameters.iter().take(MAX_DOCUMENTS) {
        if let Some(Cell::Text(value)) = &parameter.value {
            document(value, collector);
        }
    }
}

fn document(value: &str, collector: &mut Collector<'_>) {
    let value = value.trim_ascii_start();
    if value.starts_with('{') || value.starts_with("[{") {
        collector.json(value.as_bytes(), true, false);
    }
}

/// The trace context in a comment of the text, as sqlcommenter appends it. That of a named statement, and of one that is executed
/// again, is of the moment when it was prepared, not of this execution.
pub(super) fn context(statement: &Statement) -> Option<InBand> {
    let text = statement
        .text
        .as_deref()
        .filter(|_| statement.prepared_name.is_empty() && statement.text_is_fresh)?;
    // Most statements have no comment: they are not split into tokens for one.
    memchr::memmem::find(text.as_bytes(), b"/*")?;
    Some(context::read(|name| comment_value(text, name).map(str::as_bytes)))
}

/// In an UPDATE the first mention of a column is its new value, a later one the old value asked for.
fn bound<'a>(
    rules: &Rules,
    is_update: bool,
    bindings: impl Iterator<Item = Bound<'a>>,
    statement: &Statement,
    collector: &mut Collector<'_>,
) {
    let mut seen: Vec<&str> = Vec::new();
    collector.place = Place::Statement;
    for binding in bindings {
        if collector.notes.is_some() {
            show(&binding, statement, collector);
        }
        let named = by_column(rules, binding.table, binding.column);
        if named.is_empty() {
            continue;
        }
        let again = is_update && seen.contains(&binding.column);
        let mut offer = |value: &str| {
            for rule in &named {
                if !again || is_key(rules, *rule) {
                    collector.offer(*rule, value);
                }
            }
        };
        match &binding.value {
            Value::Literal(text) => offer(text),
            Value::Parameter(n) => parameter(statement, *n).into_iter().for_each(offer),
            Value::Elements(n) => {
                let elements = parameter(statement, *n).and_then(array_elements).unwrap_or_default();
                elements.iter().for_each(|element| offer(element));
            }
        }
        seen.push(binding.column);
    }
}

/// The text of parameter `$n`, from 1.
fn parameter(statement: &Statement, n: u16) -> Option<&str> {
    let at = usize::from(n).checked_sub(1)?;
    match statement.parameters.get(at)?.value.as_ref()? {
        Cell::Text(text) => Some(text),
        Cell::Opaque(_) => None,
    }
}

/// A value that stands alone, for whoever wants to see what there is.
fn show(binding: &Bound<'_>, statement: &Statement, collector: &mut Collector<'_>) {
    let value = match &binding.value {
        Value::Literal(text) => Some(&**text),
        Value::Parameter(n) => parameter(statement, *n),
        Value::Elements(_) => None,
    };
    if let Some(value) = value {
        collector.show(binding.column, "column", value);
    }
}

/// A row names an order only if the command tag says that it is the only one.
fn row(rules: &Rules, text: Option<&str>, statement: &Statement, collector: &mut Collector<'_>) {
    let tag = statement.command_tag.as_deref().unwrap_or("");
    let says_one = tag.rsplit_once(' ').is_some_and(|(_, count)| count == "1");
    let [row] = statement.first_rows.as_slice() else { return };
    if !says_one || statement.returned_rows != 1 {
        return;
    }
    collector.part(Part::Response);
    collector.place = Place::Row;
    let table = text.and_then(returning_table);
    for (at, (column, cell)) in statement.columns.iter().zip(row).enumerate() {
        let Some(Cell::Text(value)) = cell else { continue };
        let is_computed = statement.column_tables.get(at) == Some(&0);
        let is_own = !is_computed && text.is_some_and(|text| !is_alias(text, column));
        let from = table.as_deref().filter(|_| is_own);
        collector.show(column, "column", value);
        collector.offer_all(&by_column(rules, from, column), value);
        document(value, collector);
    }
    collector.part(Part::Request);
}

/// Rules that name this column: of any table, or of the table the text tells.
fn by_column(rules: &Rules, table: Option<&str>, column: &str) -> Vec<RuleId> {
    let mut buffer = Buffer::new();
    let Some(entries) = normal(column.as_bytes(), &mut buffer).and_then(|column| rules.columns.get(column))
    else {
        return Vec::new();
    };
    let mut buffer = Buffer::new();
    let table = table.and_then(|table| normal(table.as_bytes(), &mut buffer));
    let fits = |wanted: &Option<Box<[u8]>>| match wanted.as_deref() {
        None => true,
        Some([b'*', end @ ..]) => table.is_some_and(|table| table.ends_with(end)),
        Some(wanted) => table == Some(wanted),
    };
    entries.iter().filter(|(wanted, _)| fits(wanted)).map(|(_, rule)| *rule).collect()
}

fn is_key(rules: &Rules, rule: RuleId) -> bool {
    rules.rules.get(usize::from(rule)).is_some_and(|rule| matches!(rule.target, Target::Key { .. }))
}

/// Whether a result column may be something else under this name: `count(*) AS id`, `quantity id`.
fn is_alias(text: &str, column: &str) -> bool {
    let mut in_list = false;
    let mut before: Option<Token<'_>> = None;
    for token in significant(text) {
        if token.is_any(&["select", "returning"]) {
            in_list = true;
        } else if token.is("from") {
            in_list = false;
        } else if in_list && token.is_name() && crate::sql::token::name(&token).eq_ignore_ascii_case(column) {
            let plain = before.is_some_and(|before| {
                before.is_punct(',')
                    || before.is_punct('.')
                    || before.is_any(&["select", "returning", "distinct", "all"])
            });
            if !plain {
                return true;
            }
        }
        before = Some(token);
    }
    false
}
