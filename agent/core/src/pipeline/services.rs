//! Spans that leave → the services that whoever takes them hears of.
//!
//! Programs of which no span leaves are named nowhere: that they run here is nobody's business.
//!
//! *Owns* these names, bounded. *Must not know* who is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::span::{Resource, Span};

/// Services remembered; a node has some tens.
const MAX_SERVICES: usize = 256;

/// Services of spans that left.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) names: BTreeSet<String>,
    /// That of the last span: the next one is mostly of the same.
    last: Option<Arc<Resource>>,
}

impl Services {
    /// A span leaves, if it is sampled.
    pub(super) fn leaves(&mut self, span: &Span) {
        let is_last = self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &span.resource));
        if !span.sampled || is_last {
            return;
        }
        self.last = Some(Arc::clone(&span.resource));
        let service = &span.resource.service;
        if !service.is_empty() && self.names.len() < MAX_SERVICES && !self.names.contains(service) {
            self.names.insert(service.clone());
        }
    }
}
