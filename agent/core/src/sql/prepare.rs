//! SQL text → what it says of prepared statements: `PREPARE`, `EXECUTE`, `DEALLOCATE`.
//!
//! ```text
//!   PREPARE confirm(int, text) AS UPDATE orders SET status = $2 WHERE id = $1   ─▶ confirm: UPDATE orders …
//!   EXECUTE confirm(17, 'paid')                                                 ─▶ confirm: $1 = 17, $2 = paid
//! ```
//!
//! *Owns* these commands' shapes. *Must not know* connections.
//! *Spec*: PostgreSQL documentation, part VI "SQL Commands": PREPARE, EXECUTE, DEALLOCATE, DISCARD.

use super::bindings::{BoundTo, Cursor};
use super::token::{Token, name, significant_list};

/// Arguments of an `EXECUTE` that are looked at.
const MAX_ARGUMENTS: usize = 1024;

/// What a command does with prepared statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Prepare {
        name: String,
        text: &'a str,
    },
    /// The values in their places; `None` where one is no literal alone.
    Execute {
        name: String,
        values: Vec<Option<String>>,
    },
    Deallocate {
        name: String,
    },
    DeallocateAll,
}

/// Whether the text may be such a command, told by its first letters: nearly none is.
pub fn may_be_command(text: &str) -> bool {
    let start = text.trim_ascii_start().as_bytes();
    let is = |word: &[u8]| start.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    is(b"prepare") || is(b"execute") || is(b"deallocate") || is(b"discard")
}

/// Reads such a command; `None` when it is none.
pub fn command(text: &str) -> Option<Command<'_>> {
    if !may_be_command(text) {
        return None;
    }
    let tokens = significant_list(text);
    let named = |at: usize| tokens.get(at).filter(|token| token.is_name()).map(name);
    let first = tokens.first()?;
    let at = 1 + usize::from(tokens.get(1).is_some_and(|token| token.is("prepare")));
    match () {
        () if first.is("prepare") => {
            let name = named(1).filter(|_| !tokens.get(1).is_some_and(|token| token.is("transaction")))?;
            let body = tokens.iter().position(|token| token.is("as")).filter(|at| *at >= 2)?;
            let text = text.get(tokens.get(body)?.end()..)?.trim();
            Some(Command::Prepare { name, text })
        }
        () if first.is("execute") => Some(Command::Execute { name: named(1)?, values: values(&tokens, 2) }),
        () if first.is("deallocate") && tokens.get(at).is_some_and(|token| token.is("all")) => {
            Some(Command::DeallocateAll)
        }
        () if first.is("deallocate") => Some(Command::Deallocate { name: named(at)? }),
        () if first.is("discard") && tokens.get(1).is_some_and(|token| token.is("all")) => {
            Some(Command::DeallocateAll)
        }
        () => None,
    }
}

fn values(tokens: &[Token<'_>], at: usize) -> Vec<Option<String>> {
    let tokens = Cursor(tokens);
    let mut values = Vec::new();
    let Some(mut at) = tokens.punct(at, '(') else { return values };
    while values.len() < MAX_ARGUMENTS && tokens.token(at).is_some() {
        let end = tokens.expression_end(at, &[]);
        values.push(match tokens.value(at) {
            Some((BoundTo::Literal(text), after)) if after == end => Some(text),
            _ => None,
        });
        match tokens.punct(end, ',') {
            Some(next) => at = next,
            None => break,
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_apart() {
        let prepared = |text: &str| match command(text) {
            Some(Command::Prepare { name, text }) => Some((name, text.to_owned())),
            _ => None,
        };
        let body = "UPDATE orders SET status = $2 WHERE id = $1";
        for head in
            ["PREPARE p AS", "prepare P (int, character varying(10)) as", "/* x */ PREPARE \"p\"(int) AS\n"]
        {
            let found = prepared(&format!("{head} {body}"));
            // A comment before the command is seldom; that one is not looked for.
            assert_eq!(found, (!head.starts_with('/')).then(|| ("p".to_owned(), body.to_owned())), "{head}");
        }
        assert_eq!(prepared("PREPARE TRANSACTION 'x'"), None);
        assert_eq!(prepared("PREPARE p"), None);
        let executed = |text: &str| match command(text) {
            Some(Command::Execute { name, values }) => Some((name, values)),
            _ => None,
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            executed("EXECUTE p(17, 'paid'::text, now(), NULL, -1, $$x$$);"),
            Some(("p".to_owned(), vec![some("17"), some("paid"), None, None, some("-1"), some("x")]))
        );
        assert_eq!(executed("execute p"), Some(("p".to_owned(), vec![])));
        assert_eq!(executed("EXECUTE p(17, 'cut"), Some(("p".to_owned(), vec![some("17"), None])));
        assert_eq!(executed("EXECUTE"), None);
        assert_eq!(command("DEALLOCATE PREPARE p"), Some(Command::Deallocate { name: "p".to_owned() }));
        assert_eq!(command("DEALLOCATE p"), Some(Command::Deallocate { name: "p".to_owned() }));
        assert_eq!(command("deallocate all"), Some(Command::DeallocateAll));
        assert_eq!(command("DISCARD ALL"), Some(Command::DeallocateAll));
        for other in ["DISCARD PLANS", "SELECT 1", "", "executed", "PREPARE"] {
            assert_eq!(command(other), None, "{other}");
        }
    }
}
