//! Finished operations and edges → whole trees, held until nothing more is expected of them.
//!
//! ```text
//!   opened ─▶ ┌────────── held ──────────┐      quiet for `linger`, all settled
//!   closed ─▶ │ groups of operations     │ ───▶ Tree
//!   edge   ─▶ │ joined by edges          │      or `max_hold`, or too many held: oldest first
//!             └──────────────────────────┘
//! ```
//!
//! Wire edges and edges inside a process make one group of both operations. Message edges do not: a consumer's tree can
//! be hours later than its producer's. It is only released after the producer's, which decides its place.
//!
//! Bytes are counted as they come and go: an operation's when it is over, an entry's ([`ENTRY_BYTES`]) when it is announced. They
//! leave with the tree, which counts them on until it is placed.
//!
//! *Owns* grouping and when to let go. *Must not know* identifiers, spans.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::account::ENTRY_BYTES;
use crate::causality::{Edge, Passage, Rule};
use crate::queue::Queue;
use crate::record::OpId;
use crate::time::BootTime;
use crate::trees::Finished;

/// How long and how much to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) linger: Duration,
    pub(crate) max_hold: Duration,
    pub(crate) max_operations: usize,
}

/// A released group.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Operations that are over, in the order they began.
    pub(crate) finished: Vec<Member>,
    /// Operations still open when the group had to be released: they belong to this tree when they are over.
    pub(crate) open: Vec<(OpId, Option<Edge>)>,
    /// Bytes that it holds.
    pub(crate) bytes: usize,
}

/// One operation of a tree.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) finished: Box<Finished>,
    pub(crate) edge: Option<Edge>,
    /// More about the way of its message.
    pub(crate) passage: Option<Box<Passage>>,
    /// Bytes that it holds.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Node {
    group: u64,
    edge: Option<Edge>,
    /// Few have one.
    passage: Option<Box<Passage>>,
    finished: Option<Box<Finished>>,
    settled: bool,
    /// What it holds when it is over.
    bytes: usize,
}

impl Node {
    /// The publish whose tree decides the place of this operation's.
    fn publish(&self) -> Option<OpId> {
        let edge = self.edge.filter(|edge| edge.rule == Rule::Message);
        edge.or(self.passage.as_ref().map(|passage| passage.edge)).map(|edge| edge.parent)
    }
}

#[derive(Debug)]
struct Group {
    members: Vec<OpId>,
    /// Members that are open or whose cause is not decided.
    unfinished: usize,
    created: BootTime,
    due: BootTime,
    /// Under which moment it is entered in [`Hold::due`]: never a later one than `due`.
    queued: BootTime,
}

/// Everything held.
#[derive(Debug)]
pub(crate) struct Hold {
    limits: Limits,
    nodes: FxHashMap<OpId, Node>,
    groups: FxHashMap<u64, Group>,
    /// When to look at a group. Nearly all that happens to one puts it off: that is entered when its moment has come, not each time.
    due: Queue<u64, 3>,
    by_age: Queue<u64>,
    next_group: u64,
    ready: VecDeque<Tree>,
    forced_count: u64,
    /// Bytes of all nodes, and of the trees in `ready`.
    bytes: usize,
    ready_bytes: usize,
    given_up: GivenUp,
}

/// Trees that were given up to keep to the bound on bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// Released before they were quiet.
    pub(crate) early: u64,
    /// Operations that waited in trees to be placed, and are no spans because nobody took those before.
    pub(crate) operations: u64,
}

/// How much later a tree is released than the one whose place it waits for.
const BEHIND: Duration = Duration::from_millis(1);
/// Steps up a chain of parents that are looked at to keep edges free of cycles.
const MAX_DEPTH: usize = 4096;

impl Hold {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: FxHashMap::default(),
            groups: FxHashMap::default(),
            due: Queue::default(),
            by_age: Queue::default(),
            next_group: 0,
            ready: VecDeque::new(),
            forced_count: 0,
            bytes: 0,
            ready_bytes: 0,
            given_up: GivenUp::default(),
        }
    }

    /// An operation began: its tree is held at least until it is over.
    pub(crate) fn opened(&mut self, op: OpId, now: BootTime) {
        if self.nodes.contains_key(&op) {
            return;
        }
        self.next_group += 1;
        let group = self.next_group;
        self.nodes.insert(
            op,
            Node { group, edge: None, passage: None, finished: None, settled: false, bytes: ENTRY_BYTES },
        );
        self.bytes += ENTRY_BYTES;
        let due = now + self.limits.max_hold;
        self.groups.insert(group, Group { members: vec![op], unfinished: 1, created: now, due, queued: due });
        self.due.insert(due, group);
        self.by_age.insert(now, group);
        if self.nodes.len() > self.limits.max_operations
            && let Some((_, oldest)) = self.by_age.first()
        {
            self.release(oldest, true);
        }
    }

    /// An operation is over. `settled`: its cause is decided too.
    pub(crate) fn closed(&mut self, finished: Box<Finished>, settled: bool, now: BootTime) {
        let op = finished.operation.id;
        // Released while open, or never announced: a tree of its own, placed by what was released before.
        self.opened(op, now);
        let Some(node) = self.nodes.get_mut(&op) else { return };
        if node.finished.is_some() {
            return;
        }
        let bytes = finished.held();
        node.bytes += bytes;
        self.bytes += bytes;
        node.finished = Some(finished);
        node.settled |= settled;
        let (group, done) = (node.group, node.settled);
        self.changed(group, done, now);
    }

    /// The cause of an operation has been decided.
    pub(crate) fn settled(&mut self, op: OpId, now: BootTime) {
        let Some(node) = self.nodes.get_mut(&op) else { return };
        if node.settled {
            return;
        }
        node.settled = true;
        let (group, done) = (node.group, node.finished.is_some());
        self.changed(group, done, now);
    }

    /// Enters an edge. The first edge of a child stays.
    pub(crate) fn edge(&mut self, edge: Edge, now: BootTime) {
        if !self.is_sound(&edge) {
            return;
        }
        let Some(child) = self.nodes.get_mut(&edge.child) else { return };
        child.edge = Some(edge);
        let child_group = child.group;
        if edge.rule != Rule::Message
            && let Some(parent) = self.nodes.get(&edge.parent)
        {
            self.unite(child_group, parent.group);
        }
        if let Some(group) = self.nodes.get(&edge.child).map(|child| child.group) {
            self.touch(group, now);
        }
    }

    /// Two operations belong into one trace, though neither caused the other.
    pub(crate) fn bond(&mut self, op: OpId, other: OpId, now: BootTime) {
        let (Some(one), Some(two)) = (self.nodes.get(&op), self.nodes.get(&other)) else { return };
        let (one, two) = (one.group, two.group);
        self.unite(one, two);
        if let Some(group) = self.nodes.get(&op).map(|node| node.group) {
            self.touch(group, now);
        }
    }

    /// Enters more about the way of an operation's message. The first stays.
    pub(crate) fn passage(&mut self, passage: Passage, now: BootTime) {
        let Some(node) = self.nodes.get_mut(&passage.edge.child) else { return };
        node.passage.get_or_insert_with(|| Box::new(passage));
        let group = node.group;
        self.touch(group, now);
    }

    /// Releases what is due.
    pub(crate) fn handle_timeout(&mut self, now: BootTime) {
        while let Some((at, id)) = self.due.pop_due(now) {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            if group.due != at {
                group.queued = group.due;
                self.due.insert(group.due, id);
                continue;
            }
            let overdue = group.created + self.limits.max_hold <= now;
            if !overdue && let Some(wait) = self.waits_for(id) {
                let later = self.groups.get(&wait).map_or(now, |parent| parent.due).max(now) + BEHIND;
                if let Some(group) = self.groups.get_mut(&id) {
                    (group.due, group.queued) = (later, later);
                    self.due.insert(later, id);
                }
                continue;
            }
            self.release(id, overdue && self.groups.get(&id).is_some_and(|group| group.unfinished > 0));
        }
    }

    /// When [`Hold::handle_timeout`] has something to do next.
    pub(crate) fn next_timeout(&self) -> Option<BootTime> {
        self.due.first().map(|(due, _)| due)
    }

    /// Releases everything, oldest first.
    pub(crate) fn release_all(&mut self) {
        while let Some((_, oldest)) = self.by_age.first() {
            self.release(oldest, false);
        }
    }

    pub(crate) fn poll_tree(&mut self) -> Option<Tree> {
        let tree = self.ready.pop_front()?;
        self.ready_bytes = self.ready_bytes.saturating_sub(tree.bytes);
        Some(tree)
    }

    /// Bytes held, those of trees that wait to be placed among them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.saturating_add(self.ready_bytes)
    }

    /// Bytes of trees that wait to be placed.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Releases the oldest trees until no more than so many bytes are held in trees that are not ready.
    pub(crate) fn release_down_to(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some((_, oldest)) = self.by_age.first()
        {
            self.given_up.early += 1;
            self.release(oldest, true);
        }
    }

    /// Gives up the oldest trees that are ready, until no more than so many bytes are left of them.
    pub(crate) fn drop_down_to(&mut self, bytes: usize) {
        while self.ready_bytes > bytes
            && let Some(tree) = self.poll_tree()
        {
            self.given_up.operations += tree.finished.len() as u64;
        }
    }

    /// Lets go of all trees that are ready. Returns how many operations were in them.
    pub(crate) fn abandon(&mut self) -> u64 {
        self.ready_bytes = 0;
        self.ready.drain(..).map(|tree| tree.finished.len() as u64).sum()
    }

    /// What was given up for the bound on bytes.
    pub(crate) fn given_up(&self) -> GivenUp {
        self.given_up
    }

    /// The tree that an operation is in, as far as it goes by now; `None`: it is not held.
    pub(crate) fn group_of(&self, op: OpId) -> Option<u64> {
        self.nodes.get(&op).map(|node| node.group)
    }

    /// The operations of such a tree, those that are over with what is known of them.
    pub(crate) fn members(
        &self,
        group: u64,
    ) -> impl Iterator<Item = (OpId, Option<&Finished>, Option<Edge>)> {
        let members = self.groups.get(&group).into_iter().flat_map(|group| &group.members);
        let known = |op: &OpId| self.nodes.get(op).map(|node| (*op, node.finished.as_deref(), node.edge));
        members.filter_map(known)
    }

    /// Operations held.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Trees released by a bound before they were quiet.
    pub(crate) fn forced_count(&self) -> u64 {
        self.forced_count
    }

    fn is_sound(&self, edge: &Edge) -> bool {
        if edge.child == edge.parent || self.nodes.get(&edge.child).is_none_or(|child| child.edge.is_some()) {
            return false;
        }
        let mut above = edge.parent;
        for _ in 0..MAX_DEPTH {
            match self.nodes.get(&above).and_then(|node| node.edge) {
                Some(next) if next.parent == edge.child => return false,
                Some(next) => above = next.parent,
                None => return true,
            }
        }
        false
    }

    fn changed(&mut self, group: u64, member_done: bool, now: BootTime) {
        if member_done && let Some(group) = self.groups.get_mut(&group) {
            group.unfinished = group.unfinished.saturating_sub(1);
        }
        self.touch(group, now);
    }

    fn touch(&mut self, id: u64, now: BootTime) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let bound = group.created + self.limits.max_hold;
        let quiet = now + self.limits.linger;
        let due = if group.unfinished == 0 { quiet.min(bound) } else { bound };
        group.due = due;
        if due < group.queued {
            self.due.remove(group.queued, id);
            group.queued = due;
            self.due.insert(due, id);
        }
    }

    fn unite(&mut self, a: u64, b: u64) {
        if a == b {
            return;
        }
        let len = |id: &u64| self.groups.get(id).map_or(0, |group| group.members.len());
        let (keep, merge) = if len(&a) >= len(&b) { (a, b) } else { (b, a) };
        let Some(merged) = self.groups.remove(&merge) else { return };
        self.due.remove(merged.queued, merge);
        self.by_age.remove(merged.created, merge);
        for op in &merged.members {
            if let Some(node) = self.nodes.get_mut(op) {
                node.group = keep;
            }
        }
        if let Some(group) = self.groups.get_mut(&keep) {
            if merged.created < group.created {
                self.by_age.remove(group.created, keep);
                group.created = merged.created;
                self.by_age.insert(group.created, keep);
            }
            group.unfinished += merged.unfinished;
            group.members.extend(merged.members);
        }
    }

    /// Another held group that decides this one's place: the producer's.
    fn waits_for(&self, id: u64) -> Option<u64> {
        let group = self.groups.get(&id)?;
        group.members.iter().find_map(|op| {
            let parent = self.nodes.get(&self.nodes.get(op)?.publish()?)?.group;
            (parent != id && !self.reaches(parent, id)).then_some(parent)
        })
    }

    /// `from` waits, directly or not, for `to`: then neither waits for the other.
    fn reaches(&self, from: u64, to: u64) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut stack = vec![from];
        while let Some(id) = stack.pop() {
            let Some(group) = self.groups.get(&id) else { continue };
            for op in &group.members {
                let publish = self.nodes.get(op).and_then(Node::publish);
                let Some(parent) = publish.and_then(|publish| self.nodes.get(&publish)) else { continue };
                if parent.group == to {
                    return true;
                }
                if seen.len() < MAX_DEPTH && seen.insert(parent.group) {
                    stack.push(parent.group);
                }
            }
        }
        false
    }

    fn release(&mut self, id: u64, forced: bool) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.due.remove(group.queued, id);
        self.by_age.remove(group.created, id);
        self.forced_count += u64::from(forced);
        let mut tree = Tree::default();
        for op in group.members {
            let Some(node) = self.nodes.remove(&op) else { continue };
            self.bytes = self.bytes.saturating_sub(node.bytes);
            tree.bytes += node.bytes;
            match node.finished {
                Some(finished) => tree.finished.push(Member {
                    finished,
                    edge: node.edge,
                    passage: node.passage,
                    bytes: node.bytes,
                }),
                None => tree.open.push((op, node.edge)),
            }
        }
        self.ready_bytes += tree.bytes;
        tree.finished.sort_by_key(|leaf| {
            let operation = &leaf.finished.operation;
            (operation.request.start.at, operation.id)
        });
        self.ready.push_back(tree);
    }
}

#[cfg(test)]
impl Hold {
    /// The same as [`Hold::bytes`] by walking everything.
    pub(crate) fn walked(&self) -> usize {
        let of = |finished: &Finished| ENTRY_BYTES + finished.held();
        let nodes = self.nodes.values().map(|node| node.finished.as_deref().map_or(ENTRY_BYTES, of));
        let ready = self.ready.iter().map(|tree| {
            tree.finished.iter().map(|leaf| of(&leaf.finished)).sum::<usize>() + tree.open.len() * ENTRY_BYTES
        });
        nodes.chain(ready).sum()
    }
}

#[cfg(test)]
pub(in crate::trees) mod tests;
