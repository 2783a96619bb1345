//! An operation → whether it only sets a connection up, or looks after it.
//!
//! Programs that connect for each request (PHP) and pools that test their connections make more of these than of everything else, and
//! none of them is work for an order. One that failed is: it tells why nothing came after it.
//!
//! *Owns* which they are. *Must not know* what is done with them.

use super::amqp::{ActionKind, Method};
use super::postgres::Statement;
use super::{Completeness, Detail, Operation};

/// Methods that open and close, declare, bind and subscribe. What deletes or purges is none of them.
const METHODS: [&str; 21] = [
    "connection.start-ok",
    "connection.secure-ok",
    "connection.tune-ok",
    "connection.open",
    "connection.close",
    "connection.update-secret",
    "channel.open",
    "channel.close",
    "channel.flow",
    "access.request",
    "exchange.declare",
    "exchange.bind",
    "queue.declare",
    "queue.bind",
    "basic.qos",
    "basic.consume",
    "basic.cancel",
    "confirm.select",
    "tx.select",
    "exchange.unbind",
    "queue.unbind",
];
/// Words that statements about the session begin with.
const COMMANDS: [&str; 5] = ["DEALLOCATE", "DISCARD", "RESET", "SET", "SHOW"];
/// What pools send to see whether somebody answers.
const TESTS: [&str; 4] = ["", "SELECT", "SELECT 1", "SELECT 1 AS RESULT"];

impl Operation {
    /// It only sets its connection up, or looks after it, and did not fail.
    pub fn is_setup(&self) -> bool {
        if self.completeness == Completeness::Cut {
            return false;
        }
        match &self.detail {
            Detail::Http(_) => false,
            Detail::Amqp(action) => {
                matches!(&action.kind, ActionKind::Method(method) if is_setup_method(method))
            }
            Detail::Postgres(statement) => is_setup_statement(statement),
        }
    }
}

fn is_setup_method(method: &Method) -> bool {
    method.error.is_none() && METHODS.contains(&method.name.as_str())
}

fn is_setup_statement(statement: &Statement) -> bool {
    if statement.error.is_some() || statement.skipped {
        return false;
    }
    let Some(text) = statement.text.as_deref() else {
        // Of a statement without a text the command tag tells, where that says all.
        let tag = statement.command_tag.as_deref().unwrap_or_default();
        return ["DEALLOCATE", "DEALLOCATE ALL", "DISCARD ALL", "RESET", "SET", "SHOW"].contains(&tag);
    };
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == ';');
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    COMMANDS.iter().any(|command| first.eq_ignore_ascii_case(command))
        || TESTS.iter().any(|test| text.eq_ignore_ascii_case(test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::amqp::Action;
    use crate::operation::postgres::ServerError;
    use crate::operation::testing::operation;

    fn sql(text: &str) -> Operation {
        let statement = Statement { text: Some(text.to_owned()), ..Statement::default() };
        operation(Detail::Postgres(Box::new(statement)))
    }

    fn method(name: &str) -> Operation {
        let method = Method { name: name.to_owned(), ..Method::default() };
        operation(Detail::Amqp(Box::new(Action {
            channel: 1,
            vhost: None,
            kind: ActionKind::Method(method),
        })))
    }

    #[test]
    fn statements_about_the_session() {
        for text in [
            "DEALLOCATE pdo_stmt_00000001",
            "set search_path to shop",
            "SELECT 1",
            "select 1;",
            ";",
            "",
            "SHOW server_version",
            "DISCARD ALL",
        ] {
            assert!(sql(text).is_setup(), "{text}");
        }
        for text in [
            "SELECT 1 FROM orders",
            "SELECT 11",
            "UPDATE orders SET a = 1",
            "SETTLE",
            "BEGIN",
            "SELECT now()",
            "-- x\nSELECT 1",
        ] {
            assert!(!sql(text).is_setup(), "{text}");
        }
    }

    #[test]
    fn methods_that_change_nothing_for_others() {
        for name in ["queue.declare", "channel.open", "connection.close", "basic.qos"] {
            assert!(method(name).is_setup(), "{name}");
        }
        for name in [
            "queue.delete",
            "queue.purge",
            "exchange.delete",
            "tx.commit",
            "connection.blocked",
            "basic.recover",
        ] {
            assert!(!method(name).is_setup(), "{name}");
        }
    }

    #[test]
    fn what_fails_is_work() {
        let mut failed = sql("SET x TO 1");
        if let Detail::Postgres(statement) = &mut failed.detail {
            statement.error = Some(ServerError::default());
        }
        let error = Some((406, String::new()));
        let refused = Method { name: "queue.declare".to_owned(), error, ..Method::default() };
        let kind = ActionKind::Method(refused);
        let refused = operation(Detail::Amqp(Box::new(Action { channel: 1, vhost: None, kind })));
        let cut = Operation { completeness: Completeness::Cut, ..method("channel.open") };
        assert!(!failed.is_setup() && !refused.is_setup() && !cut.is_setup());
    }
}
