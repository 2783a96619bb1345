//! Statements of one database transaction have one cause.
//!
//! `t0 read a · t1 read b · t2 BEGIN · t3 UPDATE … order of a · t4 COMMIT · t5 answer a · t6 answer b ⇒ a caused BEGIN and COMMIT`
//!
//! Says nothing where members were decided for different causes, and around a loss.

use super::super::view::View;
use crate::record::OpId;

pub(in crate::causality::inside) fn judge(view: &View<'_>) -> Option<OpId> {
    view.transaction()?.cause.get().filter(|_| !view.is_near_loss())
}
