//! How something stands to a rule, and what its alert was → what its alert is now, and when to look again.
//!
//! ```text
//!            holds                    `for` is over                    quiet for `keep_firing_for`
//! (nothing) ───────▶ pending ───────────────────────▶ firing ◀──────▶ ─────────────────────────────▶ resolved
//!                       └── quiet ──▶ (nothing)
//! ```
//!
//! That somebody took it, or does not want to hear of it for a while, changes what is told, not what is so.

use serde::{Deserialize, Serialize};

use super::{Held, Standing};
use crate::facts::At;
use crate::time::MINUTE;

/// An alert that fires so long after it was due says that it is late.
pub const LATE: i64 = MINUTE;

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Firing,
    Resolved,
}

impl State {
    pub const ALL: [State; 3] = [State::Pending, State::Firing, State::Resolved];

    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Firing => "firing",
            State::Resolved => "resolved",
        }
    }
}

/// What is remembered of an alert to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub state: State,
    pub held: Held,
    pub fired_at: Option<At>,
    pub resolved_at: Option<At>,
    /// Since when it is not so any more, while it still fires.
    pub clear_at: Option<At>,
    /// It fired long after it was due: nobody looked, or the facts came late.
    pub late: bool,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing that anybody is told.
    Stays,
    Fired,
    Resolved,
    /// It never fired.
    Gone,
}

/// Goes on with an open alert, or begins one. `hold` and `keep` are the rule's.
pub fn step(
    before: Option<Life>,
    standing: &Standing,
    hold: i64,
    keep: i64,
    now: At,
) -> (Option<Life>, Step, Option<At>) {
    let open = before.filter(|life| life.state != State::Resolved);
    match (standing, open) {
        (Standing::Holds(held), open) => holds(open, held, hold, now),
        (_, None) => (None, Step::Stays, standing.next()),
        (_, Some(life)) if life.state == State::Pending => (None, Step::Gone, standing.next()),
        (_, Some(mut life)) => {
            let clear = life.clear_at.unwrap_or(now);
            let end = clear.after(keep);
            if now < end {
                life.clear_at = Some(clear);
                return (Some(life), Step::Stays, earlier(standing.next(), Some(end)));
            }
            life.state = State::Resolved;
            life.resolved_at = Some(now);
            (Some(life), Step::Resolved, standing.next())
        }
    }
}

fn holds(open: Option<Life>, held: &Held, hold: i64, now: At) -> (Option<Life>, Step, Option<At>) {
    let begin = || Life {
        state: State::Pending,
        held: held.clone(),
        fired_at: None,
        resolved_at: None,
        clear_at: None,
        late: false,
    };
    let mut life = open.unwrap_or_else(begin);
    life.held = held.clone();
    life.clear_at = None;
    if life.state == State::Firing {
        return (Some(life), Step::Stays, held.until);
    }
    let fires = held.due.after(hold);
    if now < fires {
        return (Some(life), Step::Stays, earlier(held.until, Some(fires)));
    }
    life.state = State::Firing;
    life.fired_at = Some(now);
    life.late = now.since(fires) > LATE;
    (Some(life), Step::Fired, held.until)
}

pub(super) fn earlier(a: Option<At>, b: Option<At>) -> Option<At> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Measured;
    use crate::time::SECOND;

    fn at(second: i64) -> At {
        At(second * SECOND)
    }

    fn held(due: i64) -> Standing {
        Standing::Holds(Held {
            since: at(0),
            due: at(due),
            until: None,
            place: "priced".to_owned(),
            measured: Measured::Fact,
        })
    }

    /// Looks at (second, since when it holds) and says what happened, and when the next look is due.
    fn run(hold: i64, keep: i64, looks: &[(i64, Option<i64>)]) -> Vec<(&'static str, Step, Option<i64>)> {
        let mut life = None;
        let look = |(second, due): &(i64, Option<i64>)| {
            let standing = due.map_or(Standing::NEVER, held);
            let (after, step, next) = step(life.take(), &standing, hold * SECOND, keep * SECOND, at(*second));
            let state = after.as_ref().map_or("", |life: &Life| life.state.name());
            life = after;
            (state, step, next.map(|next| next.0 / SECOND))
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn it_fires_when_it_was_so_for_long_enough_and_ends_when_it_is_not() {
        assert_eq!(
            run(30, 0, &[(10, Some(10)), (39, Some(10)), (40, Some(10)), (50, Some(10)), (60, None)]),
            [
                ("pending", Step::Stays, Some(40)),
                ("pending", Step::Stays, Some(40)),
                ("firing", Step::Fired, None),
                ("firing", Step::Stays, None),
                ("resolved", Step::Resolved, None),
            ]
        );
    }

    #[test]
    fn what_was_so_for_too_short_a_time_is_never_told() {
        assert_eq!(
            run(30, 0, &[(10, Some(10)), (20, None), (25, Some(25)), (54, Some(25)), (55, Some(25))]),
            [
                ("pending", Step::Stays, Some(40)),
                ("", Step::Gone, None),
                ("pending", Step::Stays, Some(55)),
                ("pending", Step::Stays, Some(55)),
                ("firing", Step::Fired, None),
            ]
        );
    }

    #[test]
    fn what_comes_and_goes_is_one_alert() {
        assert_eq!(
            run(0, 60, &[(0, Some(0)), (10, None), (40, Some(40)), (50, None), (109, None), (110, None)]),
            [
                ("firing", Step::Fired, None),
                ("firing", Step::Stays, Some(70)),
                ("firing", Step::Stays, None),
                ("firing", Step::Stays, Some(110)),
                ("firing", Step::Stays, Some(110)),
                ("resolved", Step::Resolved, None),
            ]
        );
    }

    #[test]
    fn after_its_end_it_may_begin_anew_and_what_fires_long_after_it_was_due_is_late() {
        let (life, ..) = step(None, &held(0), 0, 0, at(61));
        assert!(life.as_ref().is_some_and(|life| life.late));
        let (ended, ..) = step(life, &Standing::NEVER, 0, 0, at(70));
        let (life, found, _) = step(ended, &held(80), 0, 0, at(80));
        assert_eq!(found, Step::Fired);
        assert!(life.is_some_and(|life| !life.late && life.resolved_at.is_none()));
    }
}
