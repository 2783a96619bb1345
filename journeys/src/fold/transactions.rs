//! Statements and the ends of transactions → whether a statement's work holds.
//!
//! An agent that names transactions exactly (`spoor.db.transaction.id`) needs no guess. Else a transaction is known by its
//! number on a connection that has no name: its end is the next one of the same process and number, of the same request
//! where there is one.
//!
//! `t0 UPDATE (4) · t1 COMMIT (4) ⇒ the update holds since t1`; `t0 UPDATE (4) · t1 INSERT (4) fails · t2 COMMIT (4) ⇒ it does not`:
//! PostgreSQL rolls back a transaction in which a statement failed (documentation, "COMMIT").

use crate::facts::{End, Fact, Step, Transaction};

/// What became of a statement's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    /// There was no transaction: it holds by itself.
    Alone,
    /// Committed by this fact, which is the statement itself where the agent said so.
    Committed(&'a Fact),
    RolledBack,
    NotSeen,
}

/// The fate of what `statement`, one of `facts`, did.
pub(super) fn fate<'a>(facts: &'a [Fact], statement: &'a Fact) -> Fate<'a> {
    let Step::Wrote { transaction: Some(transaction), .. } = &statement.step else { return Fate::Alone };
    if let Transaction::Id(_, Some(how)) = transaction {
        return match how {
            End::Committed => Fate::Committed(end(facts, statement, transaction).unwrap_or(statement)),
            End::RolledBack => Fate::RolledBack,
            End::Unknown => Fate::NotSeen,
        };
    }
    let Some(end) = end(facts, statement, transaction) else { return Fate::NotSeen };
    let Step::Ended { how, .. } = end.step else { return Fate::NotSeen };
    let failed_between = facts.iter().any(|fact| {
        fact.trouble.is_some()
            && fact.instance == statement.instance
            && fact.parent == statement.parent
            && fact.from >= statement.to
            && fact.to <= end.from
            && matches!(&fact.step, Step::Wrote { transaction: Some(other), .. } if same(other, transaction))
    });
    match how {
        _ if failed_between => Fate::RolledBack,
        End::Committed => Fate::Committed(end),
        End::RolledBack => Fate::RolledBack,
        End::Unknown => Fate::NotSeen,
    }
}

/// The next end of `transaction` after `statement`, rather one of the same request.
fn end<'a>(facts: &'a [Fact], statement: &Fact, transaction: &Transaction) -> Option<&'a Fact> {
    let ends = facts.iter().filter(|fact| {
        fact.from >= statement.to
            && fact.service == statement.service
            && fact.instance == statement.instance
            && matches!(&fact.step, Step::Ended { transaction: other, .. } if same(other, transaction))
    });
    ends.min_by_key(|end| (end.parent != statement.parent, end.from, end.id))
}

fn same(a: &Transaction, b: &Transaction) -> bool {
    match (a, b) {
        (Transaction::Id(a, _), Transaction::Id(b, _)) => a == b,
        (Transaction::Number(a), Transaction::Number(b)) => a == b,
        _ => false,
    }
}
