//! A reply was caused by the message that it answers: it goes where that message asks for it, with that message's correlation ID.
//!
//! `t0 take a: reply to q, correlation 7 · t1 publish x to q, correlation 7 ⇒ a caused x`
//!
//! *Spec*: AMQP 0-9-1, section 1.8.1 (`reply-to`, `correlation-id`); RabbitMQ, "Direct Reply-to".

use super::super::Interaction;
use super::super::view::View;
use super::Guess;

pub(super) fn judge(view: &View<'_>) -> Option<Guess> {
    if view.op.family != Interaction::Message {
        return None;
    }
    let mut asked = view.echoes().filter(|(_, asked)| asked.opened.at <= view.at());
    let (cause, _) = asked.next()?;
    // A message that came twice asks twice.
    asked.next().is_none().then_some(Guess { cause, contested: false })
}

/// Every message that may ask for the same is over, and known; where nothing more is waited for, those that are open ask for something
/// else.
pub(super) fn holds_before_keys(view: &View<'_>, _: &Guess) -> bool {
    !view.is_blocked() || (view.forced && !view.may_be_of_open())
}
