//! What a proxy passes on has the content of what it was asked, and happens within it.
//!
//! `t0 read a: GET /shop/orders/17 · t1 write x: GET /orders/17 · t2 x is answered · t3 answer a ⇒ a caused x`
//!
//! Says nothing where several requests of the same content were in flight around it and none of them, or more than one, has not been
//! passed on yet; while one that may be of the same content is open, for that may be the one; and around a loss, for it may be what was
//! lost.

use super::super::view::View;
use super::Guess;

pub(super) fn judge(view: &View<'_>) -> Option<Guess> {
    let ended = view.op.closed_at?;
    let around: Vec<_> = view
        .echoes()
        .filter(|(_, asked)| {
            asked.opened.at <= view.at() && asked.closed_at.is_some_and(|over| over >= ended)
        })
        .collect();
    // Most operations have the content of nothing around them.
    if around.is_empty() || view.may_be_of_open() || view.is_near_loss() || view.is_near_any_loss() {
        return None;
    }
    match around.as_slice() {
        [(only, _)] => Some(Guess { cause: *only, contested: false }),
        several => {
            let mut waiting = several.iter().filter(|(_, asked)| !asked.forwarded);
            let (cause, _) = *waiting.next()?;
            waiting.next().is_none().then_some(Guess { cause, contested: true })
        }
    }
}
