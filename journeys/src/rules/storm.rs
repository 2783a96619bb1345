//! Alerts of one rule at one place, one after the other → one alert of many.
//!
//! `t0 order 1 fires · t1 … · t5 order 6 fires, all within five minutes ⇒ one alert of six orders; order 7 joins it silently`

use crate::time::{MINUTE, SECOND};

/// More orders than this within [`WITHIN`] are a storm.
pub const MANY: u64 = 5;
pub const WITHIN: i64 = 5 * MINUTE;
/// What fires is told after so long: whether it is a storm is known by then. A warning has ten seconds in all.
pub const PATIENCE: i64 = 4 * SECOND;

/// What becomes of an alert that fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// It is told by itself.
    Alone,
    /// It goes into the group that there is.
    Joins,
    /// With those before it, it makes a group.
    Founds,
}

/// `others` fired at the same place within [`WITHIN`] and are still open.
pub fn company(has_group: bool, others: u64) -> Company {
    match (has_group, others) {
        (true, _) => Company::Joins,
        (false, others) if others >= MANY => Company::Founds,
        _ => Company::Alone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_five_are_a_storm() {
        assert_eq!((company(false, 4), company(false, 5)), (Company::Alone, Company::Founds));
        assert_eq!(company(true, 0), Company::Joins);
    }
}
