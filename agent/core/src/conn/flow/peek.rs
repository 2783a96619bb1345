//! An open operation of a connection → what its session knows of it so far.

use super::{Flow, State};
use crate::operation::Operation;
use crate::record::OpId;

impl Flow {
    /// See [`crate::protocol::Session::peek`].
    pub(in crate::conn) fn peek(&self, op: OpId) -> Option<Operation> {
        match &self.state {
            State::Speaking(talk) => talk.session.peek(op),
            State::Detecting(_) | State::Ignored => None,
        }
    }
}
