//! A PostgreSQL statement → its part of a span.
//!
//! *Owns* the database client's names, statuses and attributes. *Must not know* SQL; [`crate::sql`] does.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "Database client spans" and "PostgreSQL"; PostgreSQL documentation,
//! appendix A "Error Codes".

use super::build::{Draft, Placed, int, server_end, set_peer, set_server};
use crate::operation::Completeness;
use crate::operation::postgres::{Statement, StatementKind, TEXT_CUT, TransactionEnd};
use crate::order::ids;
use crate::privacy::{NO_KEYS, messages, redact};
use crate::protocol::postgres::is_chosen_name;
use crate::record::Endpoint;
use crate::span::{SpanKind, semconv};
use crate::sql::shapes::Texts;
use crate::trace::hex_text;

const DEFAULT_PORT: u16 = 5432;

pub(super) fn draft(placed: &Placed<'_>, statement: &Statement) -> Draft {
    // The server's view stands for the client's: one kind for both.
    let mut draft = Draft::new(placed.op, SpanKind::Client);
    let attributes = &mut draft.attributes;
    attributes.set(semconv::DB_SYSTEM_NAME, semconv::POSTGRESQL);
    // The database of the start-up message; the schema changes with the search path and is not on the wire.
    if let Some(database) = &statement.database {
        attributes.set(semconv::DB_NAMESPACE, database.as_str());
    }
    let server = server_end(placed);
    set_server(attributes, server, Some(DEFAULT_PORT));
    set_peer(attributes, server);
    let summary = match &statement.text {
        Some(text) => {
            let found_out;
            let texts = match placed.texts {
                Some(known) => known,
                None => {
                    found_out = Texts::of(text);
                    &found_out
                }
            };
            attributes.set(semconv::DB_QUERY_TEXT, &*texts.sanitized);
            if text.ends_with(TEXT_CUT) {
                attributes.set(semconv::SPOOR_DB_TEXT_CUT, true);
            }
            String::from(&*texts.summary)
        }
        None => {
            if !is_of_connection(statement) && !statement.skipped {
                attributes.set(semconv::SPOOR_DB_TEXT_UNKNOWN, true);
            }
            String::new()
        }
    };
    draft.name = if summary.is_empty() {
        let operation = operation(statement);
        if let Some(operation) = operation {
            attributes.set(semconv::DB_OPERATION_NAME, operation);
        }
        name_without_text(statement, operation, server)
    } else {
        attributes.set(semconv::DB_QUERY_SUMMARY, summary.as_str());
        summary
    };
    rows(statement, &mut draft);
    if let Some(transaction) = statement.transaction {
        draft.attributes.set(semconv::SPOOR_DB_TRANSACTION, int(transaction.number.0));
        // The number is the connection's own: whoever receives the span needs one that no other connection has.
        let id = ids::transaction_id(placed.conn, transaction.number);
        draft.attributes.set(semconv::SPOOR_DB_TRANSACTION_ID, hex_text(&id));
        if let Some(end) = placed.transaction_end {
            let outcome = match end {
                TransactionEnd::Committed => "committed",
                TransactionEnd::RolledBack => "rolled_back",
                TransactionEnd::Unknown => "unknown",
            };
            draft.attributes.set(semconv::SPOOR_DB_TRANSACTION_OUTCOME, outcome);
        }
    }
    if statement.copy_len > 0 {
        draft.attributes.set(semconv::SPOOR_DB_COPY_SIZE, int(statement.copy_len));
    }
    if let Some(error) = &statement.error {
        draft.attributes.set(semconv::DB_RESPONSE_STATUS_CODE, error.code.as_str());
        // The objects of the schema that it concerns, so that nobody has to take the message apart.
        for (key, name) in [
            (semconv::SPOOR_DB_ERROR_TABLE, &error.table),
            (semconv::SPOOR_DB_ERROR_COLUMN, &error.column),
            (semconv::SPOOR_DB_ERROR_CONSTRAINT, &error.constraint),
        ] {
            if !name.is_empty() {
                draft.attributes.set(key, name.as_str());
            }
        }
        // Class 00 is success, class 01 a warning.
        if error.code.get(..2).is_some_and(|class| class >= "02") {
            draft.error(
                error.code.as_str(),
                messages::postgres(&error.code, &error.message, statement.text.as_deref()),
            );
        }
    } else if let Some(warning) = &statement.warning {
        draft.attributes.set(semconv::DB_RESPONSE_STATUS_CODE, warning.code.as_str());
    }
    if statement.skipped {
        draft.attributes.set(semconv::SPOOR_DB_SKIPPED, true);
    } else if statement.error.is_none() && placed.op.completeness == Completeness::Cut {
        draft.error("connection_closed", String::new());
    }
    draft
}

/// What the protocol itself says was done, when the text is not known: the command tag's words before its counts.
fn operation(statement: &Statement) -> Option<&str> {
    match statement.kind {
        StatementKind::Startup => return Some("CONNECT"),
        StatementKind::FunctionCall => return Some("FUNCTION CALL"),
        StatementKind::Simple | StatementKind::Extended | StatementKind::Copy => {}
    }
    let tag = statement.command_tag.as_deref()?;
    let words = tag.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
    Some(words).filter(|words| !words.is_empty())
}

/// `{operation} {target}`, else the target, else the system. A statement's target is the table that its error names, else the name
/// that the application prepared it under, else its database; a server's address would say nothing of it.
fn name_without_text(statement: &Statement, operation: Option<&str>, server: &Endpoint) -> String {
    let error = statement.error.as_ref().map(|error| error.table.as_str()).filter(|table| !table.is_empty());
    let prepared = Some(statement.prepared_name.as_str()).filter(|name| is_chosen_name(name));
    let of_statement = error.or(prepared).filter(|_| !is_of_connection(statement));
    let known = of_statement.or(statement.database.as_deref());
    let target = known.map(|name| redact::text(name, NO_KEYS).into_owned()).or_else(|| match server {
        Endpoint::Inet(address) if is_of_connection(statement) => Some(address.to_string()),
        Endpoint::Inet(_) | Endpoint::Unix(_) | Endpoint::Unknown => None,
    });
    match (operation, target) {
        (Some(operation), Some(target)) => format!("{operation} {target}"),
        (Some(operation), None) => operation.to_owned(),
        (None, Some(target)) => target,
        (None, None) => semconv::POSTGRESQL.to_owned(),
    }
}

/// It concerns no table.
fn is_of_connection(statement: &Statement) -> bool {
    matches!(statement.kind, StatementKind::Startup | StatementKind::FunctionCall)
}

fn rows(statement: &Statement, draft: &mut Draft) {
    let tag = statement.command_tag.as_deref().unwrap_or("");
    let (verb, count) =
        (tag.split(' ').next().unwrap_or(""), tag.rsplit(' ').next().and_then(|n| n.parse().ok()));
    let returns = statement.returned_rows > 0 || matches!(verb, "SELECT" | "FETCH");
    if returns {
        draft.attributes.set(semconv::DB_RESPONSE_RETURNED_ROWS, int(statement.returned_rows));
    }
    if let (Some(count), "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY") = (count, verb) {
        draft.attributes.set(semconv::SPOOR_DB_AFFECTED_ROWS, int(count));
    }
}

#[cfg(test)]
mod tests;
