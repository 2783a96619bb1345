//! The services' own account of what they did, and how exported spans compare with it.
//!
//! Every service of the flow writes one JSON line per HTTP request served, HTTP request sent, SQL statement, publish and
//! delivery, with the order it was for. Nothing of that travels between the services or is seen by the agent.
//! [`compare`](compare::compare) counts spans against it.

pub mod compare;
pub mod history;
mod sql;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `kind` `http.server`.
    Served {
        method: String,
        path: String,
        status: u64,
    },
    /// `kind` `http.client`.
    Called {
        method: String,
        path: String,
        status: u64,
    },
    /// `kind` `sql`, `error` is an SQLSTATE.
    Statement {
        text: String,
        error: Option<String>,
    },
    /// `body` is a digest.
    Published {
        exchange: String,
        routing_key: String,
        body: String,
    },
    Delivered {
        exchange: String,
        routing_key: String,
        queue: String,
        body: String,
        settled: String,
    },
}

/// One operation as the service that did it saw it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unique.
    pub nonce: String,
    pub service: String,
    pub pid: u64,
    /// The entry this one was done for: a request served or a message delivered; `None` for these themselves.
    pub cause: Option<String>,
    /// `None`: work for no order.
    pub order: Option<String>,
    pub start_ns: u64,
    pub end_ns: u64,
    pub fact: Fact,
}

impl Entry {
    /// For messages to people.
    pub fn describe(&self) -> String {
        let what = match &self.fact {
            Fact::Served { method, path, status } => format!("served {method} {path} → {status}"),
            Fact::Called { method, path, status } => format!("called {method} {path} → {status}"),
            Fact::Statement { text, error: None } => format!("executed {text:?}"),
            Fact::Statement { text, error: Some(code) } => format!("executed {text:?} → {code}"),
            Fact::Published { exchange, routing_key, .. } => format!("published {exchange}:{routing_key}"),
            Fact::Delivered { exchange, routing_key, queue, settled, .. } => {
                format!("received {exchange}:{routing_key} from {queue}, {settled}")
            }
        };
        let order = self.order.as_ref().map_or("no order".to_owned(), |order| format!("order {order}"));
        format!("{} {what} for {order}", self.service)
    }
}

/// Reads all logs of the folder. Files are written line by line: an unfinished last one is left out.
pub fn load(folder: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = file?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let json: Value =
                serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))?;
            entries.push(read(&json).with_context(|| format!("{}: {line}", path.display()))?);
        }
    }
    give_orders_to_the_store(&mut entries);
    entries.sort_by_key(|entry| entry.start_ns);
    Ok(entries)
}

fn read(json: &Value) -> Result<Entry> {
    let text = |key: &str| json[key].as_str().unwrap_or("").to_owned();
    let status = json["status"].as_u64().unwrap_or(0);
    let kind = text("kind");
    let fact = match kind.as_str() {
        "http.server" => Fact::Served { method: text("method"), path: text("path"), status },
        "http.client" => Fact::Called { method: text("method"), path: text("path"), status },
        "sql" => Fact::Statement { text: text("text"), error: json["error"].as_str().map(str::to_owned) },
        "publish" => Fact::Published {
            exchange: text("exchange"),
            routing_key: text("routing_key"),
            body: text("body"),
        },
        "deliver" => Fact::Delivered {
            exchange: text("exchange"),
            routing_key: text("routing_key"),
            queue: text("queue"),
            body: text("body"),
            settled: text("settled"),
        },
        other => bail!("there is no kind {other:?}"),
    };
    let (start_ns, end_ns) = times(json)?;
    Ok(Entry {
        nonce: text("nonce"),
        service: text("service"),
        pid: json["pid"].as_u64().context("no pid")?,
        cause: json["cause"].as_str().map(str::to_owned),
        order: json["order"].as_u64().map(|order| order.to_string()),
        start_ns,
        end_ns,
        fact,
    })
}

/// Start and end. nginx writes its end and what the request took, both to the millisecond.
fn times(json: &Value) -> Result<(u64, u64)> {
    if let Some(end) = json["end_msec"].as_str() {
        let millis = |text: &str| text.replace('.', "").parse::<u64>();
        let end = millis(end)?;
        let took = millis(json["took_s"].as_str().context("no took_s")?)?;
        return Ok((end.saturating_sub(took + 1) * 1_000_000, (end + 1) * 1_000_000));
    }
    Ok((json["start_ns"].as_u64().context("no start_ns")?, json["end_ns"].as_u64().context("no end_ns")?))
}

/// The object store does not know orders: a request for a model belongs to the order of whoever sent it.
fn give_orders_to_the_store(entries: &mut [Entry]) {
    let mut callers: BTreeMap<(String, String), Option<String>> = BTreeMap::new();
    for entry in entries.iter() {
        if let Fact::Called { method, path, .. } = &entry.fact {
            callers.insert((method.clone(), path.clone()), entry.order.clone());
        }
    }
    for entry in entries.iter_mut().filter(|entry| entry.service == "store") {
        if let Fact::Served { method, path, .. } = &entry.fact
            && let Some(order) = callers.get(&(method.clone(), path.clone()))
        {
            entry.order.clone_from(order);
        }
    }
}

/// What one side has on file and the other has not, or not yet: requests by method, path and status, messages by body.
pub fn unbalanced(entries: &[Entry]) -> Vec<String> {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for entry in entries {
        let (key, side) = match &entry.fact {
            Fact::Called { method, path, status } => (format!("{method} {path} → {status}"), 1),
            Fact::Served { method, path, status } => (format!("{method} {path} → {status}"), -1),
            Fact::Published { exchange, routing_key, body } => {
                (format!("{exchange}:{routing_key} {body}"), 1)
            }
            Fact::Delivered { exchange, routing_key, body, settled, .. } => {
                if settled == "reject" {
                    // RabbitMQ publishes it again, to the dead-letter exchange.
                    *sums.entry(format!("orders.dead:{routing_key} {body}")).or_default() += 1;
                }
                (format!("{exchange}:{routing_key} {body}"), -1)
            }
            Fact::Statement { .. } => continue,
        };
        *sums.entry(key).or_default() += side;
    }
    let describe = |(key, sum): (String, i64)| match sum {
        0 => None,
        more if more > 0 => Some(format!("{key}: sent {more} times more than received")),
        less => Some(format!("{key}: received {} times more than sent", -less)),
    };
    sums.into_iter().filter_map(describe).collect()
}

#[cfg(test)]
mod tests;
