//! A PostgreSQL statement and its only row → offers for named columns.
//!
//! *Owns* which columns of a result may be believed. *Must not know* SQL's grammar; [`crate::sql`] does.

use super::collect::Collector;
use super::compile::{RuleId, Rules, Target, normal};
use super::rules::Part;
use super::{TraceContext, context};
use crate::operation::postgres::{Cell, Statement};
use crate::sql::token::{Token, significant};
use crate::sql::{BoundTo, array_elements, bindings, comment_value, returning_table};

/// Offers what the statement binds to named columns and what its only row has in them.
pub(super) fn offer(rules: &Rules, statement: &Statement, collector: &mut Collector<'_>) {
    if rules.columns.is_empty() {
        return;
    }
    if let Some(text) = statement.text.as_deref() {
        bound(rules, text, statement, collector);
    }
    row(rules, statement, collector);
}

/// The trace context in a comment of the text, as sqlcommenter appends it. That of a named statement, and of one that is executed
/// again, is of the moment when it was prepared, not of this execution.
pub(super) fn context(statement: &Statement) -> Option<TraceContext> {
    let text = statement
        .text
        .as_deref()
        .filter(|_| statement.prepared_name.is_empty() && statement.text_is_fresh)?;
    // Most statements have no comment: they are not split into tokens for one.
    memchr::memmem::find(text.as_bytes(), b"/*")?;
    context::read(|name| comment_value(text, name).map(str::as_bytes))
}

fn bound(rules: &Rules, text: &str, statement: &Statement, collector: &mut Collector<'_>) {
    // In an UPDATE the first mention of a column is its new value, a later one the old value asked for.
    let is_update = significant(text).next().is_some_and(|first| first.is("update"));
    let mut seen: Vec<String> = Vec::new();
    for binding in bindings(text) {
        let named = by_column(rules, binding.table.as_deref(), &binding.column);
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
        let parameter = |n: u16| {
            let index = usize::from(n).checked_sub(1)?;
            match statement.parameters.get(index)?.value.as_ref()? {
                Cell::Text(text) => Some(text.as_str()),
                Cell::Opaque(_) => None,
            }
        };
        match &binding.value {
            BoundTo::Literal(text) => offer(text),
            BoundTo::Parameter(n) => parameter(*n).into_iter().for_each(offer),
            BoundTo::Elements(n) => {
                let elements = parameter(*n).and_then(array_elements).unwrap_or_default();
                elements.iter().for_each(|element| offer(element));
            }
        }
        seen.push(binding.column);
    }
}

/// A row names an order only if the command tag says that it is the only one.
fn row(rules: &Rules, statement: &Statement, collector: &mut Collector<'_>) {
    let tag = statement.command_tag.as_deref().unwrap_or("");
    let says_one = tag.rsplit_once(' ').is_some_and(|(_, count)| count == "1");
    let [row] = statement.first_rows.as_slice() else { return };
    if !says_one || statement.returned_rows != 1 {
        return;
    }
    collector.part(Part::Response);
    let text = statement.text.as_deref();
    let table = text.and_then(returning_table);
    for (at, (column, cell)) in statement.columns.iter().zip(row).enumerate() {
        let Some(Cell::Text(value)) = cell else { continue };
        let is_computed = statement.column_tables.get(at) == Some(&0);
        let is_own = !is_computed && text.is_some_and(|text| !is_alias(text, column));
        let from = table.as_deref().filter(|_| is_own);
        collector.offer_all(&by_column(rules, from, column), value);
    }
    collector.part(Part::Request);
}

/// Rules that name this column: of any table, or of the table the text tells.
fn by_column(rules: &Rules, table: Option<&str>, column: &str) -> Vec<RuleId> {
    let mut buffer = [0; 64];
    let Some(entries) = normal(column.as_bytes(), &mut buffer).and_then(|column| rules.columns.get(column))
    else {
        return Vec::new();
    };
    let mut buffer = [0; 64];
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
