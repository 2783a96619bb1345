//! Bytes that traffic makes the core hold, by holder → whether they are too many, and who gives some up.
//!
//! ```text
//!   records that wait, sessions ──▶ connections ─┐
//!   operations until their tree is complete ─────┼─▶ Account ─ more than the bound ─▶ the holder of most gives
//!   trees on their way out ──────────────────────┘            until an eighth is free
//! ```
//!
//! Each holder knows its own sum by differences and tells it; nobody walks anything. A sum that drifts shows: when everything is
//! over it is not zero, which every test of the whole core asserts. What gives is the oldest of trees and the largest of
//! connections, so that who holds much loses it, and everybody else nothing.
//!
//! Bytes are those of texts, bodies and tables, and a fixed part for each entry ([`ENTRY_BYTES`]). The allocator's own
//! overhead, and tables that are bounded by number, are outside: [`Account::new`] leaves room for them.
//!
//! *Owns* the bound. *Must not know* what is held.

/// An entry of a table that grows with operations, in bytes, by the sizes of its types: some 80 of its own fields, as many of the
/// group it is in, and 24 in each of the ordered sets and maps that name both.
pub(crate) const ENTRY_BYTES: usize = 256;

/// Of the configured bytes, the part that the account hands out, in eighths. The rest is what no account sees: size classes and
/// pages that the allocator keeps (a tenth to a quarter under churn), and the tables that are bounded by number.
const USED: usize = 5;

/// Who holds bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Streams that wait for order or detection, and what sessions keep: bodies, header sections, tables, statements.
    Connections,
    /// Operations that are over, until their tree is complete and placed.
    Trees,
}

/// The bound, and what is held against it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    bound: usize,
    connections: usize,
    trees: usize,
    most: usize,
}

impl Account {
    /// For so many bytes of the process's memory.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        Self { bound: memory_bytes / 8 * USED, connections: 0, trees: 0, most: 0 }
    }

    /// What the holders hold now.
    pub(crate) fn set(&mut self, connections: usize, trees: usize) {
        (self.connections, self.trees) = (connections, trees);
        self.most = self.most.max(self.held());
    }

    /// Bytes held now.
    fn held(&self) -> usize {
        self.connections.saturating_add(self.trees)
    }

    /// The most that was held at once.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// So many bytes too many are held in spite of everything: what is on its way out goes too slowly.
    pub(crate) fn beyond(&self) -> Option<usize> {
        let hard = self.bound / 4 * 5;
        (self.held() > hard).then(|| self.held().saturating_sub(self.bound))
    }

    /// More is held than may be: who gives, and down to how many bytes of its own.
    pub(crate) fn asks(&self) -> Option<(Holder, usize)> {
        if self.held() <= self.bound {
            return None;
        }
        // Not just one byte: what it costs to find who holds most is paid once for many.
        let excess = self.held().saturating_sub(self.bound / 8 * 7);
        Some(if self.connections >= self.trees {
            (Holder::Connections, self.connections.saturating_sub(excess))
        } else {
            (Holder::Trees, self.trees.saturating_sub(excess))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_most_is_asked_for_what_is_too_much_and_an_eighth() {
        let check = |connections, trees, expected| {
            let mut account = Account::new(1280);
            account.set(connections, trees);
            assert_eq!(account.asks(), expected, "{connections} {trees}");
            assert_eq!((account.held(), account.most()), (connections + trees, connections + trees));
        };
        check(0, 0, None);
        check(400, 400, None);
        check(401, 400, Some((Holder::Connections, 300)));
        check(400, 401, Some((Holder::Trees, 300)));
        check(0, 10_000, Some((Holder::Trees, 700)));
    }
}
