//! One connection's packets and each of them left out in turn → whether what is told without it is true.
//!
//! *Owns* the rules for what a lost packet may cost: what was over before is told exactly, what begins after the next
//! certain boundary too, nothing is told that was not so, and what is called complete is. *Must not know* protocols: a
//! [`Judge`] does.

use std::collections::BTreeSet;

use spoor_core::operation::{Completeness, Operation};
use spoor_core::protocol::{End, Session};

use super::{Packet, run};
use spoor_core::time::BootTime;

/// What one protocol's operations have to say.
pub trait Judge {
    /// Without what depends on how many operations were told before.
    fn normal(&self, operation: &Operation) -> Operation;

    /// Both are views of one operation: they begin, or end, with the same byte.
    fn is_same(&self, found: &Operation, whole: &Operation) -> bool;

    /// When it was known that it is over.
    fn known_at(&self, whole: &Operation) -> BootTime {
        whole.ended_at
    }

    /// What is told in `found` is so, as far as it is told.
    fn is_part(&self, found: &Operation, whole: &Operation) -> bool;

    /// All of it is told, but for what an earlier part of the connection would have said of it.
    fn is_exact(&self, found: &Operation, whole: &Operation) -> bool;

    /// What begins after a loss is as it would be without one, but for what the lost packet said of it.
    fn is_told(&self, found: &Operation, whole: &Operation) -> bool {
        found.completeness == whole.completeness && self.is_exact(found, whole)
    }

    /// Seen apart from what it belongs to in the whole: told beside that, and rightly so.
    fn is_apart(&self, _found: &Operation, _whole: &Operation) -> bool {
        false
    }

    /// Operations that begin after this moment are told exactly, though that packet is lost. `None`: there is none.
    fn certain_after(&self, packets: &[Packet], lost: usize) -> Option<BootTime>;

    /// Besides that: what is true of all that is told together.
    fn check_all(&self, _found: &[Operation], _whole: &[Operation], _what: &str) {}
}

/// Differences that are shown when a test fails.
const MAX_SHOWN: usize = 10;

/// What was found, so that a test can tell that there was something to find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations that were over before the loss.
    pub before: usize,
    /// Operations that began after the next certain boundary.
    pub after: usize,
    /// Operations told as incomplete.
    pub incomplete: usize,
    /// What is told and was not so, or is not told and should be.
    pub wrong: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.before += other.before;
        self.after += other.after;
        self.incomplete += other.incomplete;
        self.wrong.extend(other.wrong);
    }

    /// Nothing is wrong, and there was much to find.
    #[track_caller]
    pub fn check(&self, at_least: usize) {
        println!("{} before, {} after, {} incomplete", self.before, self.after, self.incomplete);
        let shown: Vec<&str> = self.wrong.iter().map(String::as_str).take(MAX_SHOWN).collect();
        assert!(shown.is_empty(), "{} differences:\n{}", self.wrong.len(), shown.join("\n\n"));
        assert!(self.before > at_least && self.after > at_least && self.incomplete > at_least / 20);
    }
}

/// Leaves out each packet for which `chosen` holds.
pub fn without_any_packet(
    name: &str,
    packets: &[Packet],
    chosen: impl Fn(usize) -> bool,
    new: impl Fn() -> Box<dyn Session>,
    judge: &impl Judge,
) -> Tally {
    let whole = run(new(), packets, None, usize::MAX, End::Closed).operations;
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for lost in (0..packets.len()).filter(|lost| chosen(*lost)) {
        let packet = &packets[lost];
        let what = format!(
            "{name} without packet {} of {} from the {:?}, bytes {} to {}",
            packet.at.as_nanos(),
            packets.len(),
            packet.from,
            packet.pos,
            packet.pos + packet.data.len() as u64
        );
        let found = run(new(), packets, Some(lost), usize::MAX, End::Closed).operations;
        judge.check_all(&found, &whole, &what);
        let mut taken = BTreeSet::new();
        let mut views: Vec<Option<&Operation>> = vec![None; whole.len()];
        for operation in &found {
            let same = |(at, one): &(usize, &Operation)| {
                let is_free = !taken.contains(at) || judge.is_apart(operation, one);
                is_free && judge.is_same(operation, one) && judge.is_part(operation, one)
            };
            let Some((at, one)) = whole.iter().enumerate().find(same) else {
                let like = whole.iter().find(|one| judge.is_same(operation, one));
                wrong.push(format!("{what}: invented:\n{operation:?}\nin place of\n{like:?}"));
                continue;
            };
            if judge.is_apart(operation, one) {
                continue;
            }
            taken.insert(at);
            views[at] = Some(operation);
            if operation.completeness == Completeness::Complete {
                if !judge.is_exact(operation, one) {
                    wrong.push(format!("{what}: called complete:\n{operation:?}\nbut it is\n{one:?}"));
                }
            } else {
                tally.incomplete += 1;
                if let Completeness::Gap(missing) = operation.completeness {
                    assert!(missing > 0, "{what}: {operation:?}");
                }
            }
        }
        let certain = judge.certain_after(packets, lost);
        for (one, view) in whole.iter().zip(&views) {
            if judge.known_at(one) < packet.at {
                if view.map(|view| judge.normal(view)) != Some(judge.normal(one)) {
                    wrong.push(format!("{what}: over before:\n{one:?}\nbut it is\n{view:?}"));
                }
                tally.before += 1;
            } else if certain.is_some_and(|certain| one.request.start.at > certain) {
                let is_told = view.is_some_and(|view| judge.is_told(view, one));
                if !is_told {
                    wrong.push(format!("{what}: exact after {certain:?}:\n{one:?}\nbut it is\n{view:?}"));
                }
                tally.after += 1;
            }
        }
    }
    Tally { wrong, ..tally }
}
