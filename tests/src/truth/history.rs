//! What the databases say each order's status was → whether the orders' page tells the same.
//!
//! A trigger in each database writes every status that a committed row had, in order. No service reads that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::customers::Outcome;
use crate::serve::Server;

/// The statuses of one order's rows, by table, in the order in which they were.
type Chains = BTreeMap<String, Vec<String>>;

/// All status changes of all orders.
#[derive(Clone, Debug, Default)]
pub struct History(BTreeMap<u64, Chains>);

impl History {
    /// Takes rows of `record`, `order_id` and `status`, as psql prints them.
    pub fn add(&mut self, rows: &str) -> Result<()> {
        for row in rows.lines() {
            let mut columns = row.split('\t');
            let mut column = || columns.next().with_context(|| format!("a row of three columns: {row:?}"));
            let (record, order, status) = (column()?, column()?, column()?);
            let order = order.parse().with_context(|| format!("an order's number: {row:?}"))?;
            let chains = self.0.entry(order).or_default();
            chains.entry(record.to_owned()).or_default().push(status.to_owned());
        }
        Ok(())
    }

    /// Asks the server for each of these orders.
    pub fn compare(&self, outcomes: &[Outcome], server: &Server) -> Result<Told> {
        let mut told = Told::default();
        for outcome in outcomes {
            let nothing = Chains::new();
            let is = self.0.get(&outcome.order).unwrap_or(&nothing);
            told.changes += is.values().map(Vec::len).sum::<usize>();
            let answer = server.order(outcome.order)?.unwrap_or_default();
            told.compare(outcome, is, &answer);
        }
        Ok(told)
    }
}

/// What the server says of some orders. An empty list is what one wants to see.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Status changes in the databases, and how many of them are told in their place.
    pub changes: usize,
    pub right: usize,
    pub differences: Vec<String>,
    /// The sentence on top of each order's page.
    pub sentences: BTreeMap<u64, String>,
}

impl Told {
    fn compare(&mut self, outcome: &Outcome, is: &Chains, answer: &Value) {
        let says = chains(answer);
        let tables: BTreeSet<&String> = is.keys().chain(says.keys()).collect();
        let nothing = Vec::new();
        for table in tables {
            let (is, says) = (is.get(table).unwrap_or(&nothing), says.get(table).unwrap_or(&nothing));
            if is == says {
                self.right += is.len();
                continue;
            }
            self.right += is.iter().zip(says).take_while(|(is, says)| is == says).count();
            let order = outcome.order;
            self.differences.push(format!(
                "order {order}, {table}: was {}, is told as {}",
                is.join(" → "),
                says.join(" → ")
            ));
        }
        let (state, wanted) =
            (answer["outcome"].as_str(), if outcome.scenario.fails() { "failed" } else { "finished" });
        if state != Some(wanted) {
            self.differences.push(format!("order {} has {wanted}, is told as {state:?}", outcome.order));
        }
        let sentence = answer["sentence"].as_str().unwrap_or_default().to_owned();
        self.sentences.insert(outcome.order, sentence);
    }
}

/// What the API says of each record.
fn chains(answer: &Value) -> Chains {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = list(&answer["records"]).into_iter();
    let chain = |record: &Value| {
        list(&record["changes"]).iter().map(|change| text(&change["to"])).collect::<Vec<_>>()
    };
    records.map(|record| (text(&record["collection"]), chain(&record))).collect()
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let orders = self.sentences.len();
        writeln!(
            f,
            "{} of {} status changes of {orders} orders are told in their place by the orders' page",
            self.right, self.changes
        )?;
        self.differences.iter().take(20).try_for_each(|difference| writeln!(f, "  {difference}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::customers::Scenario;

    const OUTCOME: Outcome = Outcome { order: 7, scenario: Scenario::Good };

    fn history() -> History {
        let mut history = History::default();
        history.add("orders\t7\tcreated\norders\t8\tcreated\norders\t7\tpriced\n").expect("rows");
        history
    }

    fn told(answer: &Value) -> Told {
        let mut told = Told { changes: 2, ..Told::default() };
        told.compare(&OUTCOME, &history().0[&7], answer);
        told
    }

    #[test]
    fn what_is_told_otherwise_or_not_at_all_is_a_difference() {
        let change = |to: &str| json!({ "to": to });
        let record = |table: &str, changes: &[Value]| json!({ "collection": table, "changes": changes });
        let right = record("orders", &[change("created"), change("priced")]);
        let answer = told(&json!({ "outcome": "finished", "sentence": "Done.", "records": [right] }));
        assert_eq!((answer.right, answer.differences.len()), (2, 0), "{answer}");
        let short = record("orders", &[change("created")]);
        let more = record("bills", &[change("paid")]);
        let answer = told(&json!({ "outcome": "failed", "records": [short, more] }));
        assert_eq!((answer.right, answer.differences.len()), (1, 3), "{answer}");
        let answer = told(&Value::Null);
        assert_eq!((answer.right, answer.differences.len()), (0, 2), "{answer}");
    }

    #[test]
    fn a_row_that_is_none_is_an_error() {
        assert!(History::default().add("orders\tseven\tcreated").is_err());
        assert!(History::default().add("orders\t7").is_err());
    }
}
