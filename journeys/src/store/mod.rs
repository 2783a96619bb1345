//! Facts → kept; orders by number and by state.
//!
//! *Owns* what a store is ([`Store`]) and the one there is ([`sqlite::Sqlite`]). *Must not know* HTTP, roles or pages.
//!
//! A store keeps facts, not journeys: a journey is folded when it is asked for, so it is right for any model and time of
//! day. What lists need (stage, outcome, since when) is kept beside the facts in clear; everything else is sealed.

pub mod alerts;
mod blob;
mod pragma;
pub mod seal;
pub mod sqlite;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::broadcast;

pub(crate) use self::pragma::set_pragmas;
use crate::facts::{At, Beat, Fact, Key};
use crate::fold::{Journey, Outcome, Verdict};
use crate::model::Usual;

/// An order's row; stable while the order is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OrderId(pub i64);

/// What a list shows of an order without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    pub id: OrderId,
    pub stage: Option<String>,
    pub stage_since: Option<At>,
    pub outcome: Outcome,
    /// Equal for orders with the same trouble at the same place: what the *Stuck* page groups by.
    pub group: String,
    /// Since when the outcome is so.
    pub since: At,
    pub first_at: At,
    pub last_at: At,
    pub pinned: bool,
}

/// An order, opened: what it is at the time it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub head: Head,
    /// In time. For the waterfall and the evidence.
    pub facts: Vec<Fact>,
    pub journey: Journey,
    pub verdict: Verdict,
}

/// Which orders, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// One of these; all when empty.
    pub outcomes: Vec<Outcome>,
    pub stage: Option<String>,
    pub group: Option<String>,
    pub sort: Sort,
    /// At most [`MAX_PAGE`].
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Longest in its state first.
    #[default]
    Oldest,
    /// Shortest in its state first.
    Newest,
    /// Last heard of first. Of all orders: a filter looks at every order on the way.
    Heard,
}

/// A place in a list: the sorted time and the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cursor {
    pub at: At,
    pub id: OrderId,
}

/// Orders of one page, and where the next one begins.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub orders: Vec<Order>,
    pub next: Option<Cursor>,
}

/// Longest page of a list.
pub const MAX_PAGE: usize = 200;

/// How many orders there are: kept as they change, never counted over the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub outcomes: Vec<(Outcome, u64)>,
    /// Stage, outcome, orders.
    pub stages: Vec<(String, Outcome, u64)>,
}

/// Orders with the same trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub group: String,
    pub outcome: Outcome,
    pub orders: u64,
    pub oldest: At,
    /// The one that has been so for longest.
    pub example: OrderId,
}

/// The identity of a trace.
pub type TraceId = [u8; 16];

/// What is kept of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In time; empty when none is.
    pub facts: Vec<Fact>,
    /// Operations were left out: of an order with more of them than are kept, of a trace with more than are given, or of a
    /// row that does not open.
    pub truncated: bool,
    /// Otherwise orders that an older version wrote are not found by their traces yet.
    pub all_indexed: bool,
}

/// Who walks through operations.
pub trait Look {
    /// Asked before each row: no ends the walk. Here time and amount are bounded.
    fn goes_on(&mut self) -> bool;

    /// The operations of one row, in time.
    fn see(&mut self, facts: Vec<Fact>);
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ingested {
    /// Facts that were not known before, or only in part.
    pub new: u64,
    pub repeated: u64,
    pub orders: u64,
}

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Microseconds since an order was last heard of.
    pub keep_micros: i64,
    /// Bytes of the file; the orders longest silent leave first.
    pub max_bytes: u64,
}

/// What left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retained {
    pub expired: u64,
    /// Left because of the size.
    pub evicted: u64,
}

/// Why a store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the disk is full or the store may grow no further: nothing of this batch was kept, its sender will repeat it"
    )]
    Full(#[source] rusqlite::Error),
    #[error("{doing}")]
    Sqlite {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{0}")]
    Seal(#[from] seal::SealError),
    #[error(
        "the store's file was made by a newer version (format {found}, this one knows {known}): install that version"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "the store's file was made by an older version (format {found}, this one writes {known}): start `spoor-serve run` once, which brings it up to this one"
    )]
    Older { found: i64, known: i64 },
    #[error("{} is in use by another process that writes, perhaps `spoor-serve run`: stop it, or send to it", .0.display())]
    Locked(PathBuf),
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    #[error("a row of the store cannot be read: {0}")]
    Damaged(&'static str),
    #[error("the store is being closed")]
    Closed,
}

impl StoreError {
    /// It concerns one order; all others are as they were.
    pub fn is_of_one_row(&self) -> bool {
        use seal::SealError::{Forged, NoDayKey};
        matches!(self, Self::Damaged(_) | Self::Seal(Forged | NoDayKey(_)))
    }
}

/// Orders that changed, batch by batch.
pub type Changes = broadcast::Receiver<Arc<BTreeSet<OrderId>>>;

/// Keeps orders. All methods may block on a disk: tasks call them where blocking is allowed.
pub trait Store: fmt::Debug + Send + Sync {
    /// Keeps facts. When this returns, they are on disk. The same facts again change nothing.
    fn ingest(&self, facts: Vec<Fact>, now: At) -> Result<Ingested, StoreError>;

    /// Agents said that they are there.
    fn alive(&self, beats: Vec<Beat>, now: At) -> Result<(), StoreError>;

    /// Orders that have this number: more than one where a number is used twice.
    fn find(&self, key: &Key) -> Result<Vec<OrderId>, StoreError>;

    /// Opens an order, judged at `now`.
    fn order(&self, id: OrderId, now: At) -> Result<Option<Order>, StoreError>;

    fn list(&self, query: &Query, now: At) -> Result<Page, StoreError>;

    /// Groups of stuck, lost and failed orders, the largest first.
    fn groups(&self, limit: usize) -> Result<Vec<Group>, StoreError>;

    fn counts(&self) -> Result<Counts, StoreError>;

    /// Numbers last heard of, as examples for somebody whose search found nothing.
    fn recent(&self, limit: usize) -> Result<Vec<Key>, StoreError>;

    /// All operations of a trace that are kept, whichever orders they are of.
    fn trace(&self, id: &TraceId) -> Result<Trace, StoreError>;

    /// Shows the operations of what was heard of between two times, one row of an order after the other, last heard of first.
    /// Nothing is judged: this is for who looks for operations.
    fn walk(&self, from: At, to: At, look: &mut dyn Look) -> Result<(), StoreError>;

    /// Judges again what is due, at most `limit` orders; how many it were.
    fn judge_due(&self, now: At, limit: usize) -> Result<usize, StoreError>;

    /// A pinned order does not expire.
    fn pin(&self, id: OrderId, pinned: bool) -> Result<(), StoreError>;

    fn retain(&self, retention: Retention, now: At) -> Result<Retained, StoreError>;

    /// What usually happens, as it was learned.
    fn usual(&self) -> Arc<Usual>;

    /// Tells, from now on, which orders changed, once it is on disk. Whoever does not keep up hears that something did.
    fn changes(&self) -> Changes;

    /// What is wrong with the files: every row is read and opened. Empty when nothing is.
    fn check(&self) -> Result<Vec<String>, StoreError>;
}
