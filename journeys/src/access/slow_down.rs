//! Failures to sign → by account and by address, in; how long to wait before the next attempt.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::facts::At;
use crate::time::{MINUTE, SECOND};

/// Attempts before it becomes slow.
const FREE: u32 = 5;
/// Longest wait.
const MAX_WAIT: i64 = 15 * MINUTE;
/// Failures that are remembered; when there are more, those of longest ago are forgotten.
const MAX_ENTRIES: usize = 10_000;

/// Remembers failures.
#[derive(Debug)]
pub(super) struct SlowDown {
    failures: Mutex<HashMap<Whose, Failures>>,
    max_entries: usize,
}

impl Default for SlowDown {
    fn default() -> Self {
        Self { failures: Mutex::default(), max_entries: MAX_ENTRIES }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Account(String),
    Address(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: At,
}

impl Failures {
    fn wait(self) -> i64 {
        let over = self.count.saturating_sub(FREE);
        if self.count < FREE { 0 } else { (SECOND << over.min(20)).min(MAX_WAIT) }
    }
}

impl SlowDown {
    /// Whether an attempt may be made now.
    pub(super) fn may_try(&self, account: &str, address: IpAddr, now: At) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        whose(account, address).iter().all(|whose| {
            failures.get(whose).is_none_or(|failures| now >= failures.last.after(failures.wait()))
        })
    }

    pub(super) fn failed(&self, account: &str, address: IpAddr, now: At) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for whose in whose(account, address) {
            if failures.len() >= self.max_entries && !failures.contains_key(&whose) {
                let oldest =
                    failures.iter().min_by_key(|(_, failures)| failures.last).map(|(whose, _)| whose.clone());
                oldest.map(|oldest| failures.remove(&oldest));
            }
            let of = failures.entry(whose).or_insert(Failures { count: 0, last: now });
            // A quiet hour forgives.
            if now.since(of.last) > 60 * MINUTE {
                of.count = 0;
            }
            of.count = of.count.saturating_add(1);
            of.last = now;
        }
    }

    /// A right password forgives the account; others may come from the same address.
    pub(super) fn succeeded(&self, account: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&Whose::Account(account.to_owned()));
    }
}

fn whose(account: &str, address: IpAddr) -> [Whose; 2] {
    [Whose::Account(account.to_owned()), Whose::Address(address)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn guessing_becomes_slow_for_the_account_and_the_address() {
        let slow = SlowDown::default();
        for _ in 0..FREE {
            assert!(slow.may_try("anna", HOME, At(0)));
            slow.failed("anna", HOME, At(0));
        }
        assert!(!slow.may_try("anna", AWAY, At(SECOND - 1)), "the account from elsewhere");
        assert!(!slow.may_try("boris", HOME, At(SECOND - 1)), "other accounts from the same address");
        assert!(slow.may_try("boris", AWAY, At(0)));
        assert!(slow.may_try("anna", AWAY, At(SECOND)));
        for _ in 0..40 {
            slow.failed("anna", HOME, At(SECOND));
        }
        assert!(!slow.may_try("anna", AWAY, At(MAX_WAIT)), "longer with each failure");
        assert!(slow.may_try("anna", AWAY, At(SECOND + MAX_WAIT)), "but not for ever");
        slow.succeeded("anna");
        assert!(slow.may_try("anna", AWAY, At(SECOND)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let slow = SlowDown { max_entries: 20, ..SlowDown::default() };
        for n in 0..100 {
            slow.failed(&n.to_string(), HOME, At(n));
        }
        assert_eq!(slow.failures.lock().expect("no panic").len(), 20);
        assert!(!slow.may_try("x", HOME, At(0)), "the address, which fails all the time, stays");
    }
}
