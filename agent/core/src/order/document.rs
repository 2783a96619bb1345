//! A document's values with their paths → what the rules take of them.
//!
//! JSON, XML and XML-RPC are read by scanners of their own and come here alike. *Owns* which values of a document count:
//! lists, weak names, contradictions. *Must not know* formats.
//!
//! A weak name says nothing of what it numbers: `id`. What it names depends on what stands beside it, so its values wait
//! for the end of the document:
//!
//! ```text
//!   {"id": 17, "status": "new"}                                      ─▶ 17
//!   {"jsonrpc": "2.0", "id": 1, "result": …}                         ─▶ nothing: the number of the call
//!   {"method": …, "params": […], "id": 1}                            ─▶ nothing: the same of JSON-RPC 1.0
//!   {"result": …, "error": null, "id": 1}                            ─▶ nothing: the number of its call
//!   {"error": {"id": "c0ffee", …}}   {"id": 5, "errors": […]}        ─▶ nothing: the number of the error
//!   {"type": …, "title": …, "status": 422, "id": 5} (RFC 9457)       ─▶ nothing: the number of the problem
//! ```

use std::borrow::Cow;

use super::call::Members;
use super::compile::{RuleId, Rules, Step};
use super::names::{Buffer, normal};

/// Values one document may offer.
const MAX_OFFERS: usize = 256;
/// Bytes of a long text that are shown: enough for the head of a query.
pub(super) const MAX_HEAD: usize = 512;

/// A step from a document's root to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At<'a> {
    Name(Cow<'a, [u8]>),
    /// Of an array, from 0.
    Index(u32),
}

/// Receives what a scan finds.
pub trait Visitor {
    /// A string, number or boolean. `path` leads to it from the root; `in_array`: an array lies between.
    fn scalar(&mut self, path: &[At<'_>], value: &str, in_array: bool);

    /// A `null`.
    fn null(&mut self, _path: &[At<'_>]) {}

    /// A string too long for a value: how it begins.
    fn long_text(&mut self, _path: &[At<'_>], _head: &str) {}

    /// An object or array begins.
    fn container(&mut self, _path: &[At<'_>], _is_empty: bool) {}

    /// The outermost array around the latest values ended.
    fn array(&mut self);
}

/// The name that a path ends in, past the places in arrays.
pub(super) fn last_name<'p>(path: &'p [At<'_>]) -> Option<&'p [u8]> {
    path.iter().rev().find_map(|at| match at {
        At::Name(name) => Some(&**name),
        At::Index(_) => None,
    })
}

/// A name that says nothing of what it numbers; in normal form.
pub(super) fn is_weak(name: &[u8]) -> bool {
    const WEAK: [&str; 14] =
        ["id", "uid", "uuid", "guid", "pk", "key", "no", "num", "nr", "number", "code", "ид", "номер", "код"];
    WEAK.iter().any(|weak| weak.as_bytes() == name)
}

/// Gathers the values of one document for the rules that name them.
pub(super) struct Sink<'r> {
    rules: &'r Rules,
    pub(super) offers: Vec<Offer>,
    /// Inside an open array: the only value so far of each rule, `None` after a second one.
    in_array: Vec<(RuleId, Option<String>, Weak)>,
    /// More was there than is taken.
    pub(super) overflow: bool,
    /// What the root's members, or those of its envelope, say of a weak name beside them.
    signs: Signs,
    /// What makes the document a call; of HTTP only.
    pub(super) members: Members,
    is_http: bool,
}

/// A value for a rule.
pub(super) struct Offer {
    pub(super) rule: RuleId,
    pub(super) value: String,
    pub(super) weak: Weak,
}

/// How much of what a value means depends on what stands beside it; the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weak {
    /// Nothing: its name or its place says it.
    No,
    /// A weak name, deeper in the document.
    Inner,
    /// A weak name, a member of the document itself.
    Root,
}

/// Members that make a document something else than a thing with an `id`.
#[derive(Clone, Copy, Default)]
struct Signs {
    rpc: bool,
    /// `method` and `params`, `result` and `error`: what calls and answers of JSON-RPC 1.0 have, which do not say what they are
    /// ("When there was an error, result is null; error is null if there was no error", sections 1.1 and 1.2).
    method: bool,
    parameters: bool,
    result: bool,
    outcome: bool,
    error: bool,
    /// `type`, `title`, `detail` or `instance`, and a `status` that is an error: members of a problem document.
    problem: bool,
    status: bool,
}

impl Signs {
    /// A member of the root, whatever it holds. Names of JSON-RPC are in small letters.
    fn see_root(&mut self, name: &[u8]) {
        match name {
            b"method" => self.method = true,
            b"params" => self.parameters = true,
            b"result" => self.result = true,
            b"error" => self.outcome = true,
            _ => {}
        }
    }

    /// A member of the root or of its envelope. `value` is `None` for an object or array.
    fn see(&mut self, name: &[u8], value: Option<&str>) {
        let mut lower = [0; 10];
        let Some(lower) = lower.get_mut(..name.len()) else { return };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let says_so = value.is_none_or(|value| !matches!(value, "" | "0" | "false" | "ok" | "null"));
        match &*lower {
            b"jsonrpc" => self.rpc = true,
            b"error" | b"errors" | b"fault" | b"exception" => self.error |= says_so,
            b"success" | b"ok" => self.error |= value == Some("false"),
            b"type" | b"title" | b"detail" | b"instance" if value.is_some() => self.problem = true,
            b"status" | b"statuscode" => {
                self.status |= value.is_some_and(|value| {
                    matches!(value.as_bytes(), [b'4' | b'5', rest @ ..] if rest.len() == 2 && rest.iter().all(u8::is_ascii_digit))
                });
            }
            _ => {}
        }
    }

    fn deny(self, weak: Weak) -> bool {
        let is_error = self.error || (self.status && self.problem);
        let is_call = (self.method && self.parameters) || (self.result && self.outcome);
        match weak {
            Weak::No => false,
            Weak::Root => self.rpc || is_call || is_error,
            Weak::Inner => is_error,
        }
    }
}

impl<'r> Sink<'r> {
    pub(super) fn new(rules: &'r Rules, is_http: bool) -> Self {
        Self {
            rules,
            offers: Vec::new(),
            in_array: Vec::new(),
            overflow: false,
            signs: Signs::default(),
            members: Members::default(),
            is_http,
        }
    }

    /// The document is the message of a call, or of the answer to one.
    pub(super) fn mark_as_call(&mut self) {
        self.signs.rpc = true;
    }

    /// The document is over: what its weak names number is known.
    pub(super) fn finish(&mut self) {
        let signs = self.signs;
        self.offers.retain(|offer| !signs.deny(offer.weak));
    }

    fn accept(&mut self, rule: RuleId, value: &str, weak: Weak) {
        // The same value may stand under a name that says what it is, too.
        if let Some(known) = self.offers.iter_mut().find(|offer| offer.rule == rule && offer.value == value) {
            known.weak = known.weak.min(weak);
            return;
        }
        if self.offers.len() == MAX_OFFERS {
            self.overflow = true;
            return;
        }
        self.offers.push(Offer { rule, value: value.to_owned(), weak });
    }

    fn hold(&mut self, rule: RuleId, value: &str, weak: Weak) {
        match self.in_array.iter_mut().find(|(r, ..)| *r == rule) {
            Some((_, only, known)) if only.as_deref() == Some(value) => *known = weak.min(*known),
            Some((_, only, _)) => *only = None,
            None => self.in_array.push((rule, Some(value.to_owned()), weak)),
        }
    }

    fn sign(&mut self, path: &[At<'_>], value: Option<&str>) {
        if self.is_http && path.len() <= 2 {
            self.members.see(path, value);
        }
        // Of the root, and of the one object that envelopes put the thing into.
        match member(path) {
            [At::Name(name)] => {
                self.signs.see_root(name);
                self.signs.see(name, value);
            }
            [At::Name(envelope), At::Name(name)]
                if matches!(&**envelope, b"data" | b"result" | b"response") =>
            {
                self.signs.see(name, value);
            }
            _ => {}
        }
    }
}

impl Visitor for Sink<'_> {
    fn scalar(&mut self, path: &[At<'_>], value: &str, in_array: bool) {
        self.sign(path, Some(value));
        let Some(name) = last_name(path) else { return };
        let mut buffer = Buffer::new();
        let Some(name) = normal(name, &mut buffer) else { return };
        let rules = self.rules;
        let (fields, paths) = (rules.fields.of(name), rules.json_paths.get(name));
        if fields.is_empty() && paths.is_none() {
            return;
        }
        let weak = match (is_weak(name), member(path).len()) {
            (false, _) => Weak::No,
            (true, _) if in_error(path) => return,
            (true, 1) => Weak::Root,
            (true, _) => Weak::Inner,
        };
        for rule in fields {
            if in_array { self.hold(*rule, value, weak) } else { self.accept(*rule, value, weak) }
        }
        for (steps, rule) in paths.into_iter().flatten() {
            if is_at(steps, path) {
                self.accept(*rule, value, if is_envelope(path) { weak } else { Weak::No });
            }
        }
    }

    fn null(&mut self, path: &[At<'_>]) {
        if let [At::Name(name)] = member(path) {
            self.signs.see_root(name);
        }
    }

    fn long_text(&mut self, path: &[At<'_>], head: &str) {
        if self.is_http {
            self.members.see(path, Some(head));
        }
        self.null(path);
    }

    fn container(&mut self, path: &[At<'_>], is_empty: bool) {
        // No errors are none; a call without parameters is a call.
        if !is_empty {
            self.sign(path, None);
            return;
        }
        if self.is_http && path.len() <= 2 {
            self.members.see(path, None);
        }
        self.null(path);
    }

    fn array(&mut self) {
        for (rule, only, weak) in std::mem::take(&mut self.in_array) {
            if let Some(value) = only {
                self.accept(rule, &value, weak);
            }
        }
    }
}

/// The path inside the document itself, or inside each of a list of them: a batch of calls (JSON-RPC 2.0, section 6).
fn member<'p, 'a>(path: &'p [At<'a>]) -> &'p [At<'a>] {
    match path {
        [At::Index(_), inner @ ..] => inner,
        all => all,
    }
}

/// Nothing but the document's frame stands around the value: its name alone says what it is.
fn is_envelope(path: &[At<'_>]) -> bool {
    path.iter().rev().skip(1).all(|at| match at {
        At::Name(name) => matches!(&**name, b"data" | b"result" | b"response" | b"attributes"),
        At::Index(_) => true,
    })
}

/// It is a part of an error.
fn in_error(path: &[At<'_>]) -> bool {
    path.iter().any(|at| {
        let At::Name(name) = at else { return false };
        [&b"error"[..], b"errors", b"fault", b"exception"]
            .iter()
            .any(|error| name.eq_ignore_ascii_case(error))
    })
}

/// The value stands exactly there.
pub(super) fn is_at(steps: &[Step], path: &[At<'_>]) -> bool {
    steps.len() == path.len()
        && steps.iter().zip(path).all(|pair| match pair {
            (Step::Index(wanted), At::Index(index)) => wanted == index,
            (Step::Name(wanted), At::Name(name)) => normal(name, &mut Buffer::new()) == Some(wanted),
            _ => false,
        })
}
