//! Agents that say that they are there → when each was last heard of, and when one is silent.
//!
//! *Owns* the table of agents. In clear: names of machines and services are the house's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use rusqlite::Connection;

use super::{Sqlite, doing};
use crate::facts::{At, Beat};
use crate::model::Agent;
use crate::store::{Store, StoreError};
use crate::time::DAY;

/// Agents remembered; one that is not heard of for so long is not there any more.
const MAX_AGENTS: usize = 10_000;
const KEPT: i64 = 7 * DAY;
/// Orders heard of last, whose pages are told to look again.
const MAX_TOLD: i64 = 1_000;
/// Services are kept as one text; no name has this in it.
const BETWEEN: char = '\n';

impl Sqlite {
    pub(super) fn agents_alive(&self, beats: Vec<Beat>, now: At) -> Result<(), StoreError> {
        if beats.is_empty() {
            return Ok(());
        }
        let mut db = self.writer();
        let known = self.usual();
        let mut heard: BTreeMap<String, Agent> = BTreeMap::new();
        for Beat { agent, node, every, services } in beats {
            let is_known = known.agents.contains_key(&agent) || heard.contains_key(&agent);
            if is_known || known.agents.len() + heard.len() < MAX_AGENTS {
                let services = services.into_iter().collect();
                heard.insert(agent, Agent { node, at: now, awaited_from: now, every, services });
            }
        }
        let write = |db: &mut Connection| {
            let transaction = db.transaction()?;
            for (id, Agent { node, at, every, services, .. }) in &heard {
                let services = services.iter().map(String::as_str).collect::<Vec<_>>();
                transaction
                    .prepare_cached(
                        "INSERT INTO agents(id, node, at, every, services) VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT DO UPDATE SET node = ?2, at = ?3, every = ?4, services = ?5",
                    )?
                    .execute((id, node, at.0, every, services.join(&BETWEEN.to_string())))?;
            }
            transaction.commit()
        };
        write(&mut db).map_err(doing("cannot write when an agent was heard of"))?;
        // While the writer is held: who learns something else reads what is usual only then.
        self.change_usual(|usual| usual.agents.extend(heard));
        Ok(())
    }

    /// Warns of agents that became silent, and of those that are back. Cheap where none did.
    pub(super) fn look_at_agents(&self, now: At) -> Result<(), StoreError> {
        let usual = self.usual();
        let silent: BTreeSet<String> = usual.silent(now).map(|(id, _)| id.to_owned()).collect();
        let mut before = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == silent {
            return Ok(());
        }
        self.look_at_places(now)?;
        *before = silent;
        drop(before);
        // Pages of all orders may say something else.
        let recent = self.reading(|db| {
            db.prepare_cached("SELECT id FROM orders ORDER BY last_at DESC, id DESC LIMIT ?1")
                .and_then(|mut statement| statement.query_map([MAX_TOLD], |row| row.get(0))?.collect())
                .map_err(doing("cannot read the latest orders"))
        })?;
        self.tell(recent);
        Ok(())
    }
}

/// Lets go those that are not heard of any more; whether there were any.
pub(super) fn forget(db: &Connection, now: At) -> Result<usize, StoreError> {
    db.execute("DELETE FROM agents WHERE at < ?1", [now.0.saturating_sub(KEPT)])
        .map_err(doing("cannot forget agents"))
}

/// All that are known.
pub(super) fn all(db: &Connection) -> Result<Vec<(String, Agent)>, StoreError> {
    db.prepare("SELECT id, node, at, every, services FROM agents")
        .and_then(|mut statement| {
            let row = |row: &rusqlite::Row<'_>| {
                let services: String = row.get(4)?;
                let services = services.split(BETWEEN).filter(|name| !name.is_empty()).map(str::to_owned);
                let (node, at, every) = (row.get(1)?, At(row.get(2)?), row.get(3)?);
                let awaited_from = at;
                Ok((row.get(0)?, Agent { node, at, awaited_from, every, services: services.collect() }))
            };
            statement.query_map([], row)?.collect()
        })
        .map_err(doing("cannot read when agents were heard of"))
}
