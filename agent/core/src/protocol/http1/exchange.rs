//! One exchange on its way: filled from both directions, turned into an [`Operation`] when it is over.
//!
//! *Owns* what is kept of an exchange. *Must not know* how messages are found in bytes.

use super::multipart::Multipart;
use crate::operation::http::{Exchange, Headers};
use crate::operation::{Completeness, Detail, Extent, Kept, OpSide, Operation};
use crate::protocol::condense::{self, Condenser};
use crate::record::{OpId, Point, Role};
use crate::time::BootTime;

/// A request that was opened and not closed yet.
#[derive(Debug)]
pub(in crate::protocol) struct Open {
    pub(in crate::protocol) id: OpId,
    pub(in crate::protocol) request: Extent,
    /// The last byte of the request was seen, or its end was deduced from the response.
    pub(in crate::protocol) requested: bool,
    pub(in crate::protocol) response: Option<Extent>,
    /// The last byte of the response was seen.
    pub(in crate::protocol) answered: bool,
    /// Needed bytes that were not captured.
    pub(in crate::protocol) gap_len: u64,
    pub(in crate::protocol) exchange: Box<Exchange>,
    pub(in crate::protocol) multipart: Option<Box<Multipart>>,
    /// Of a JSON body that is larger than what is kept of bodies: of the request, of the response.
    condensers: [Option<Condenser>; 2],
    /// Bytes of it that count against the connection's budget.
    pub(in crate::protocol) retained: usize,
}

/// An exchange that is open holds so many bytes beside its texts.
pub(in crate::protocol) const OPEN_BYTES: usize = size_of::<Open>() + size_of::<Exchange>();

/// Which message of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Half {
    Request,
    Response,
}

impl Open {
    pub(in crate::protocol) fn new(id: OpId, start: Point, exchange: Exchange) -> Open {
        Open {
            id,
            request: Extent { start, end: start },
            requested: false,
            response: None,
            answered: false,
            gap_len: 0,
            exchange: Box::new(exchange),
            multipart: None,
            condensers: [None; 2],
            retained: 0,
        }
    }

    pub(in crate::protocol) fn headers(&mut self, half: Half) -> &mut Headers {
        match half {
            Half::Request => &mut self.exchange.request_headers,
            Half::Response => &mut self.exchange.response_headers,
        }
    }

    /// Adds body content, keeping at most `bound` bytes of it. Returns how many bytes more are held, the names of files among them.
    pub(in crate::protocol) fn content(&mut self, half: Half, content: &[u8], bound: usize) -> usize {
        let exchange = &mut *self.exchange;
        if half == Half::Request
            && let Some(multipart) = &mut self.multipart
        {
            let kept = &mut exchange.request_body;
            multipart.feed(content, &mut exchange.uploads, &mut kept.bytes, bound);
            kept.len = kept.len.saturating_add(content.len() as u64);
            if multipart.keeps() {
                kept.left_out = kept.len.saturating_sub(kept.bytes.len() as u64);
            }
            return multipart.more_held(kept.bytes.len());
        }
        let (kept, headers, condenser) = match (half, &mut self.condensers) {
            (Half::Request, [condenser, _]) => {
                (&mut exchange.request_body, &exchange.request_headers, condenser)
            }
            (Half::Response, [_, condenser]) => {
                (&mut exchange.response_body, &exchange.response_headers, condenser)
            }
        };
        // What follows a hole, or bytes left out for another bound, would not be a prefix any more.
        let goes_on = !kept.holed && kept.bytes.len() as u64 + kept.left_out == kept.len;
        let before = kept.bytes.len();
        let is_too_much = content.len() > bound.saturating_sub(before);
        if goes_on && is_too_much && condenser.is_none() && is_condensable(&kept.bytes, content, headers) {
            *condenser = Some(Condenser::over(&mut kept.bytes));
        }
        kept.len = kept.len.saturating_add(content.len() as u64);
        match condenser {
            _ if !goes_on => {}
            Some(condenser) => {
                if condenser.feed(content, &mut kept.bytes, bound) && kept.len <= condense::MAX_BODY_LEN {
                    kept.left_out = kept.len.saturating_sub(kept.bytes.len() as u64);
                }
            }
            None => {
                let room = bound.saturating_sub(before);
                kept.bytes.extend_from_slice(content.get(..room).unwrap_or(content));
            }
        }
        kept.bytes.len().saturating_sub(before)
    }

    /// Gives up the bytes of both bodies, and keeps none that come. Returns how many that were.
    pub(in crate::protocol) fn forget_bodies(&mut self) -> usize {
        if let Some(multipart) = &mut self.multipart {
            multipart.forget(self.exchange.request_body.bytes.len());
        }
        let mut freed = 0;
        for body in [&mut self.exchange.request_body, &mut self.exchange.response_body] {
            freed += body.bytes.len();
            body.forget_bytes();
        }
        self.retained = self.retained.saturating_sub(freed);
        freed
    }

    /// `len` bytes of content were not seen.
    pub(in crate::protocol) fn content_gap(&mut self, half: Half, len: u64, bound: usize) {
        if half == Half::Request
            && let Some(multipart) = &mut self.multipart
        {
            // A field that is cut is left out with the rest of it.
            let kept = &mut self.exchange.request_body;
            multipart.gap(&mut kept.bytes);
            if multipart.keeps() {
                kept.left_out = kept.len.saturating_sub(kept.bytes.len() as u64);
            }
        }
        let kept = self.kept(half);
        // Past what is kept nothing is missed: there the kernel may have been told to copy nothing.
        if kept.holed || (kept.bytes.len() < bound && kept.bytes.len() as u64 + kept.left_out == kept.len) {
            kept.holed = true;
            self.gap_len = self.gap_len.saturating_add(len);
        }
        let kept = self.kept(half);
        kept.len = kept.len.saturating_add(len);
    }

    /// Bytes of content may be among `len` that were not seen: what comes now does not continue what came.
    pub(in crate::protocol) fn content_doubt(&mut self, half: Half, len: u64) {
        if half == Half::Request
            && let Some(multipart) = &mut self.multipart
        {
            multipart.gap(&mut self.exchange.request_body.bytes);
        }
        self.kept(half).holed = true;
        self.gap_len = self.gap_len.saturating_add(len);
    }

    /// Nothing but the length of this body's coming bytes is of use.
    pub(in crate::protocol) fn is_satisfied(&self, half: Half, bound: usize) -> bool {
        let exchange = &*self.exchange;
        let (kept, headers, parts) = match half {
            Half::Request => (&exchange.request_body, &exchange.request_headers, self.multipart.is_some()),
            Half::Response => (&exchange.response_body, &exchange.response_headers, false),
        };
        let is_full = kept.bytes.len() >= bound && !is_condensable(&kept.bytes, b"", headers);
        !parts && (kept.holed || is_full || (kept.bytes.len() as u64) + kept.left_out < kept.len)
    }

    /// The operation, over at `at`. `completeness` is how it ended; a hole in it shows unless the end is worse.
    pub(in crate::protocol) fn close(
        self,
        role: Role,
        at: BootTime,
        completeness: Completeness,
    ) -> Operation {
        let completeness = match completeness {
            Completeness::Complete if self.gap_len > 0 => Completeness::Gap(self.gap_len),
            other => other,
        };
        Operation {
            id: self.id,
            shape: shape(role),
            role,
            request: self.request,
            response: self.response,
            ended_at: at,
            completeness,
            detail: Detail::Http(self.exchange),
        }
    }

    /// The operation as it would be if it were given up now, once its request is complete.
    pub(in crate::protocol) fn peek(&self, role: Role) -> Option<Operation> {
        self.requested.then(|| Operation {
            id: self.id,
            shape: shape(role),
            role,
            request: self.request,
            response: self.response,
            ended_at: self.request.end.at,
            completeness: Completeness::Abandoned,
            detail: Detail::Http(self.exchange.clone()),
        })
    }

    /// Bytes that it holds, walked; sessions with more than one at a time keep a sum.
    pub(in crate::protocol) fn held(&self) -> usize {
        let multipart = self.multipart.as_ref().map_or(0, |multipart| multipart.held());
        OPEN_BYTES + self.exchange.held() + multipart
    }

    fn kept(&mut self, half: Half) -> &mut Kept {
        match half {
            Half::Request => &mut self.exchange.request_body,
            Half::Response => &mut self.exchange.response_body,
        }
    }
}

/// A server's exchange is work that came to it, a client's is work it asks for.
pub(in crate::protocol) fn shape(role: Role) -> OpSide {
    match role {
        Role::Server => OpSide::Incoming,
        Role::Client => OpSide::Outgoing,
    }
}

/// A JSON body without content coding, in which values may stand behind long ones.
fn is_condensable(kept: &[u8], content: &[u8], headers: &Headers) -> bool {
    let start = if kept.is_empty() { content } else { kept };
    condense::is_json(start) && headers.get("content-encoding").is_none()
}
