//! A JSON body, possibly cut off → its scalar values with their paths.
//!
//! *Owns* a bounded, tolerant scan without a tree (RFC 8259). *Must not know* which names matter.
//!
//! Nothing is said about a value that was cut off, and nothing after the first byte that JSON does not allow. Values inside
//! arrays are held back by the caller until `Visitor::array` tells that the outermost array was seen to its end.

use std::borrow::Cow;

use memchr::memchr2;

use super::document::{At, MAX_HEAD, Visitor};

/// Deeper nesting ends the scan.
const MAX_DEPTH: usize = 64;
/// Of longer strings only the head is shown: no key or attribute is that long.
const MAX_VALUE: usize = 1024;

/// How far a scan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One value, to its end.
    Whole,
    /// It was cut off, or is not JSON from some point on.
    Partial,
    /// More than one value: a stream of documents, about no single thing.
    Several,
}

/// Scans `body`. `whole`: nothing follows it.
pub fn scan(body: &[u8], whole: bool, visitor: &mut dyn Visitor) -> Outcome {
    let mut scan = Scan { body, at: 0, whole, path: Vec::new(), containers: Vec::new(), arrays: 0 };
    if body.starts_with(&[0xef, 0xbb, 0xbf]) {
        scan.at = 3;
    }
    match scan.run(visitor) {
        None => Outcome::Partial,
        Some(()) => {
            scan.skip_blanks();
            match scan.peek() {
                None if whole => Outcome::Whole,
                None => Outcome::Partial,
                Some(_) => Outcome::Several,
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Container {
    Object,
    Array,
}

struct Scan<'a> {
    body: &'a [u8],
    at: usize,
    whole: bool,
    /// The member or place that each open object or array has come to.
    path: Vec<At<'a>>,
    containers: Vec<Container>,
    arrays: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// One value with all it contains. `None`: the body ended or is wrong.
    fn run(&mut self, visitor: &mut dyn Visitor) -> Option<()> {
        loop {
            self.skip_blanks();
            // A value begins here.
            match self.peek()? {
                b'{' => {
                    self.open(Container::Object)?;
                    self.skip_blanks();
                    let is_empty = self.peek()? == b'}';
                    visitor.container(&self.path, is_empty);
                    if is_empty {
                        self.at += 1;
                        self.containers.pop();
                    } else {
                        self.member()?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(Container::Array)?;
                    self.skip_blanks();
                    let is_empty = self.peek()? == b']';
                    visitor.container(&self.path, is_empty);
                    if is_empty {
                        self.at += 1;
                        self.close_array(visitor);
                    } else {
                        self.path.push(At::Index(0));
                        continue;
                    }
                }
                b'"' => {
                    let (raw, escaped) = self.string()?;
                    if raw.len() > MAX_VALUE {
                        visitor.long_text(&self.path, &head(raw));
                    } else if let Some(text) = text(raw, escaped) {
                        visitor.scalar(&self.path, &text, self.arrays > 0);
                    }
                }
                _ => {
                    let word = self.word()?;
                    match word {
                        "null" => visitor.null(&self.path),
                        word => visitor.scalar(&self.path, word, self.arrays > 0),
                    }
                }
            }
            // A value ended here.
            loop {
                let Some(container) = self.containers.last().copied() else { return Some(()) };
                self.skip_blanks();
                match (container, self.next()?) {
                    (Container::Object, b',') => {
                        self.path.pop();
                        self.member()?;
                        break;
                    }
                    (Container::Array, b',') => {
                        if let Some(At::Index(index)) = self.path.last_mut() {
                            *index = index.saturating_add(1);
                        }
                        break;
                    }
                    (Container::Object, b'}') => {
                        self.path.pop();
                        self.containers.pop();
                    }
                    (Container::Array, b']') => {
                        self.path.pop();
                        self.close_array(visitor);
                    }
                    _ => return None,
                }
            }
        }
    }

    fn open(&mut self, container: Container) -> Option<()> {
        self.at += 1;
        if self.containers.len() == MAX_DEPTH {
            return None;
        }
        self.arrays += usize::from(container == Container::Array);
        self.containers.push(container);
        Some(())
    }

    fn close_array(&mut self, visitor: &mut dyn Visitor) {
        self.containers.pop();
        self.arrays = self.arrays.saturating_sub(1);
        if self.arrays == 0 {
            visitor.array();
        }
    }

    /// A member's name and colon.
    fn member(&mut self) -> Option<()> {
        self.skip_blanks();
        if self.peek()? != b'"' {
            return None;
        }
        let (name, escaped) = self.string()?;
        let decoded = if escaped {
            text(name, true).map(|name| Cow::Owned(name.into_owned().into_bytes()))
        } else {
            None
        };
        self.path.push(At::Name(decoded.unwrap_or(Cow::Borrowed(name))));
        self.skip_blanks();
        (self.next()? == b':').then_some(())
    }

    /// The bytes between the quotes, and whether escapes are among them.
    fn string(&mut self) -> Option<(&'a [u8], bool)> {
        let start = self.at + 1;
        let mut escaped = false;
        let mut at = start;
        loop {
            at += memchr2(b'"', b'\\', self.body.get(at..)?)?;
            if self.body.get(at) == Some(&b'"') {
                self.at = at + 1;
                return Some((self.body.get(start..at)?, escaped));
            }
            escaped = true;
            at += 2;
        }
    }

    /// A number, `true`, `false` or `null`: not taken unless something shows that it ended.
    fn word(&mut self) -> Option<&'a str> {
        let rest = self.body.get(self.at..)?;
        let len =
            rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'+' | b'-' | b'.' | b'E'));
        let len = match len {
            Some(len) => len,
            None if self.whole => rest.len(),
            None => return None,
        };
        let word = std::str::from_utf8(rest.get(..len)?).ok()?;
        let is_number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        self.at += len;
        (is_number || matches!(word, "true" | "false" | "null")).then_some(word)
    }
}

/// What stands between the quotes. `None`: no UTF-8, or an escape that is none.
fn text(raw: &[u8], escaped: bool) -> Option<Cow<'_, str>> {
    let raw = std::str::from_utf8(raw).ok()?;
    if !escaped {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    unescape(raw, &mut out)?;
    Some(Cow::Owned(out))
}

/// The beginning of a long text, as far as it can be read.
fn head(raw: &[u8]) -> String {
    let head = raw.get(..MAX_HEAD).unwrap_or(raw);
    let valid = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let mut out = String::new();
    // Up to an escape that the cut goes through.
    let _ = unescape(valid, &mut out);
    out
}

/// RFC 8259, section 7. `None`: an escape that is none; what stood before it is in `out`.
fn unescape(raw: &str, out: &mut String) -> Option<()> {
    let mut chars = raw.chars();
    let hex4 = |chars: &mut std::str::Chars<'_>| {
        (0..4).try_fold(0u32, |sum, _| chars.next()?.to_digit(16).map(|digit| sum * 16 + digit))
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = hex4(&mut chars)?;
                let code = if (0xd800..0xdc00).contains(&unit) {
                    if chars.next()? != '\\' || chars.next()? != 'u' {
                        return None;
                    }
                    let low = hex4(&mut chars)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    0x10000 + ((unit - 0xd800) << 10) + low
                } else {
                    unit
                };
                char::from_u32(code)?
            }
            c @ ('"' | '\\' | '/') => c,
            _ => return None,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    fn shown(path: &[At<'_>]) -> String {
        let steps = path.iter().map(|at| match at {
            At::Name(name) => format!(".{}", String::from_utf8_lossy(name)),
            At::Index(index) => format!("[{index}]"),
        });
        steps.collect::<String>().trim_start_matches('.').to_owned()
    }

    impl Visitor for Log {
        fn scalar(&mut self, path: &[At<'_>], value: &str, in_array: bool) {
            self.0.push(format!("{}={value}{}", shown(path), if in_array { " in array" } else { "" }));
        }
        fn long_text(&mut self, path: &[At<'_>], head: &str) {
            self.0.push(format!("{}={} bytes", shown(path), head.len()));
        }
        fn array(&mut self) {
            self.0.push("]".to_owned());
        }
    }

    fn check(body: &str, whole: bool, outcome: Outcome, expected: &[&str]) {
        let mut log = Log::default();
        assert_eq!(scan(body.as_bytes(), whole, &mut log), outcome, "{body}");
        assert_eq!(log.0, expected, "{body}");
    }

    #[test]
    fn scalars_come_with_their_paths() {
        check(
            r#" {"id": 17, "order": {"id": "18", "lines": [{"n": 1}, {"n": 2}], "x": null}, "paid": true, "e": {}, "a": []}"#,
            true,
            Outcome::Whole,
            &[
                "id=17",
                "order.id=18",
                "order.lines[0].n=1 in array",
                "order.lines[1].n=2 in array",
                "]",
                "paid=true",
                "]",
            ],
        );
        check(r#"[[1],[2]]"#, true, Outcome::Whole, &["[0][0]=1 in array", "[1][0]=2 in array", "]"]);
        check("17", true, Outcome::Whole, &["=17"]);
        check(r#""a\u00e9\n\ud83d\ude00\/""#, true, Outcome::Whole, &["=aé\n😀/"]);
        check(r#"{"a\"b": {"c": 1}, "d": 2}"#, true, Outcome::Whole, &["a\"b.c=1", "d=2"]);
        check(r#"{"\u0438\u0434": 1, "bad\x": 2}"#, true, Outcome::Whole, &["ид=1", "bad\\x=2"]);
        check(
            r#"{"p": [[17, {"a": [8]}], 5], "q": 1}"#,
            true,
            Outcome::Whole,
            &["p[0][0]=17 in array", "p[0][1].a[0]=8 in array", "p[1]=5 in array", "]", "q=1"],
        );
        let long = format!(r#"{{"a": "\u0438{}", "b": 1}}"#, "x".repeat(2000));
        check(&long, true, Outcome::Whole, &["a=508 bytes", "b=1"]);
    }

    #[test]
    fn a_value_cut_off_is_not_told() {
        check(r#"{"id": 17"#, false, Outcome::Partial, &[]);
        check(r#"{"id": 17,"#, false, Outcome::Partial, &["id=17"]);
        check(r#"{"id": "17"#, false, Outcome::Partial, &[]);
        check(r#"{"id": "17\"#, true, Outcome::Partial, &[]);
        check(r#"{"o": [{"id": 17}, {"#, false, Outcome::Partial, &["o[0].id=17 in array"]);
        check("17", false, Outcome::Partial, &[]);
        check("", true, Outcome::Partial, &[]);
    }

    #[test]
    fn what_is_no_json_ends_the_scan() {
        check("order_id=17", true, Outcome::Partial, &[]);
        check(r#"{"a": 1, b: 2, "c": 3}"#, true, Outcome::Partial, &["a=1"]);
        check(r#"{"a": 1}}"#, true, Outcome::Several, &["a=1"]);
        check("{\"a\": 1}\n{\"a\": 2}\n", true, Outcome::Several, &["a=1"]);
        check(r#"{"a": 1] "b": 2}"#, true, Outcome::Partial, &["a=1"]);
        check(&"[".repeat(100_000), true, Outcome::Partial, &[]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            scan(&bytes, whole, &mut Log::default());
        }

        #[test]
        fn no_prefix_tells_what_the_whole_does_not(cut in 0usize..120) {
            let body = r#"{"a": 171, "b": [{"c": "x1"}, {"c": "x2"}], "d": {"e": "\u0041b"}, "f": [1, 2], "g": -1.5e3}"#;
            let mut whole = Log::default();
            scan(body.as_bytes(), true, &mut whole);
            let mut part = Log::default();
            scan(&body.as_bytes()[..cut.min(body.len())], false, &mut part);
            prop_assert!(whole.0.starts_with(&part.0), "{:?}", part.0);
        }
    }
}
