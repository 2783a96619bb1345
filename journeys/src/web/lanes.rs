//! Visits → lanes with folded waits as numbers of a drawing.
//!
//! An order waits far longer than it is worked on. A time in which nothing happens and that is longer than a twentieth of
//! all work is drawn as a narrow strip with its length written under it, so what happened stays legible.

use std::collections::BTreeSet;

use crate::facts::At;
use crate::fold::{Place, Visit};

/// Widths of the drawing, in its own units.
pub(super) const WIDTH: i64 = 1_000;
const FOLD_WIDTH: i64 = 40;
/// Visits are at least so wide that one can see them.
const MIN_WIDTH: i64 = 4;
/// Waits longer than this part of the time at work are folded.
const FOLD_PART: i64 = 20;
/// Lanes and folds that are drawn; what is more is told, not drawn.
const MAX_LANES: usize = 24;
const MAX_FOLDS: usize = 12;

/// A drawing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    pub lanes: Vec<Lane>,
    pub folds: Vec<Fold>,
    /// Places that are not drawn.
    pub more: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub place: Place,
    pub bars: Vec<Bar>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub x: i64,
    pub width: i64,
    pub from: At,
    pub micros: i64,
    pub failed: bool,
    pub count: u32,
}

/// A strip that stands for a wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fold {
    pub x: i64,
    pub width: i64,
    pub micros: i64,
}

pub(super) fn lanes(visits: &[Visit]) -> Lanes {
    let busy = busy(visits);
    let total: i64 = busy.iter().map(|(from, to)| to.since(*from)).sum::<i64>().max(1);
    let mut waits: Vec<(At, At)> = busy.iter().zip(busy.iter().skip(1)).map(|(a, b)| (a.1, b.0)).collect();
    waits.retain(|(from, to)| to.since(*from) > total / FOLD_PART);
    // The longest ones are folded; then all in time.
    waits.sort_by_key(|(from, to)| std::cmp::Reverse(to.since(*from)));
    waits.truncate(MAX_FOLDS);
    waits.sort();
    let scale = Scale::new(visits, &waits);
    let folds =
        waits.iter().map(|(from, to)| Fold { x: scale.x(*from), width: FOLD_WIDTH, micros: to.since(*from) });
    let folds = folds.collect();
    let mut lanes: Vec<Lane> = Vec::new();
    let mut more: BTreeSet<&Place> = BTreeSet::new();
    for visit in visits {
        let x = scale.x(visit.from).min(WIDTH - MIN_WIDTH);
        let bar = Bar {
            x,
            width: (scale.x(visit.to) - x).max(MIN_WIDTH),
            from: visit.from,
            micros: visit.to.since(visit.from),
            failed: visit.failed,
            count: visit.count,
        };
        let has_room = lanes.len() < MAX_LANES;
        match lanes.iter_mut().find(|lane| lane.place == visit.place) {
            Some(lane) => lane.bars.push(bar),
            None if has_room => lanes.push(Lane { place: visit.place.clone(), bars: vec![bar] }),
            None => {
                more.insert(&visit.place);
            }
        }
    }
    Lanes { lanes, folds, more: more.len() }
}

/// Times in which the order was anywhere, without overlaps.
fn busy(visits: &[Visit]) -> Vec<(At, At)> {
    let mut busy: Vec<(At, At)> = Vec::new();
    for visit in visits {
        match busy.last_mut().filter(|last| visit.from <= last.1) {
            Some(last) => last.1 = last.1.max(visit.to),
            None => busy.push((visit.from, visit.to)),
        }
    }
    busy
}

/// Time → place on the drawing, with every fold as narrow as any other.
struct Scale<'a> {
    begin: At,
    /// Microseconds outside folds, and the width they have.
    open: i64,
    width: i64,
    folds: &'a [(At, At)],
}

impl<'a> Scale<'a> {
    fn new(visits: &[Visit], folds: &'a [(At, At)]) -> Self {
        let begin = visits.iter().map(|visit| visit.from).min().unwrap_or_default();
        let end = visits.iter().map(|visit| visit.to).max().unwrap_or_default();
        let folded: i64 = folds.iter().map(|(from, to)| to.since(*from)).sum();
        let count = i64::try_from(folds.len()).unwrap_or(0);
        Self {
            begin,
            open: end.since(begin).saturating_sub(folded).max(1),
            width: (WIDTH - count * FOLD_WIDTH).max(1),
            folds,
        }
    }

    fn x(&self, at: At) -> i64 {
        let mut open = at.since(self.begin);
        let mut strips = 0;
        for (from, to) in self.folds {
            if at >= *to {
                open = open.saturating_sub(to.since(*from));
                strips += FOLD_WIDTH;
            } else if at > *from {
                open = from.since(self.begin).saturating_sub(self.folded_before(*from));
                break;
            }
        }
        let x = i128::from(open) * i128::from(self.width) / i128::from(self.open);
        (i64::try_from(x).unwrap_or(WIDTH) + strips).clamp(0, WIDTH)
    }

    fn folded_before(&self, at: At) -> i64 {
        self.folds.iter().filter(|(_, to)| *to <= at).map(|(from, to)| to.since(*from)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(place: &str, from: i64, to: i64) -> Visit {
        Visit {
            place: Place::Service(place.to_owned()),
            from: At(from),
            to: At(to),
            failed: false,
            count: 1,
            evidence: Vec::new(),
        }
    }

    #[test]
    fn a_long_wait_is_a_narrow_strip() {
        let drawn = lanes(&[visit("shop", 0, 100), visit("crm", 1_000_000, 1_000_100)]);
        assert_eq!(drawn.folds.len(), 1);
        let fold = &drawn.folds[0];
        assert_eq!((fold.width, fold.micros), (FOLD_WIDTH, 999_900));
        let [shop, crm] = [&drawn.lanes[0].bars[0], &drawn.lanes[1].bars[0]];
        assert_eq!(shop.width, crm.width, "equal work is equally wide");
        assert_eq!(fold.x, shop.x + shop.width);
        assert_eq!(crm.x, fold.x + FOLD_WIDTH);
        assert_eq!(crm.x + crm.width, WIDTH);
    }

    #[test]
    fn nothing_leaves_the_drawing() {
        let visits: Vec<Visit> =
            (0..500).map(|n| visit(&format!("s{}", n % 40), n * n * 1_000, n * n * 1_000 + 7)).collect();
        let drawn = lanes(&visits);
        assert_eq!(drawn.lanes.len(), MAX_LANES);
        assert_eq!(drawn.more, 40 - MAX_LANES);
        assert!(drawn.folds.len() <= MAX_FOLDS);
        for bar in drawn.lanes.iter().flat_map(|lane| &lane.bars) {
            assert!(
                bar.x >= 0 && bar.width >= MIN_WIDTH && bar.x + bar.width <= WIDTH + MIN_WIDTH,
                "{bar:?}"
            );
        }
        assert_eq!(lanes(&[]), Lanes::default());
    }
}
