//! Statements that differ in their values only → what has to be found out about them once.
//!
//! Programs send the same few statements with other values. What a statement looks like without its values is its shape; by
//! it are remembered the text and the summary that spans show, and where the values of columns stand.
//!
//! ```text
//!   UPDATE orders SET status = 'new' WHERE id = 17   ┐
//!   UPDATE orders SET status = 'paid' WHERE id = 18  ┘─▶ UPDATE orders SET status = ▯ WHERE id = ▯  ─▶  status ← value 0, id ← value 1
//! ```
//!
//! A shape is every token of the text, literals and comments replaced by what they are: whatever is remembered depends on
//! nothing else, and shapes are compared whole. A text in which a name turned out to be a value is not remembered at all.
//!
//! *Owns* what is remembered, within `MAX_BYTES`. *Must not know* what a column means to anybody.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::bindings::{Binding, BoundTo, bindings};
use super::sanitize::sanitize_telling;
use super::summary;
use super::token::{Kind, Token, tokens};
use crate::bounded::Bounded;
use crate::hash::Keyed;

/// Shapes remembered, and the bytes of all of them.
const MAX_SHAPES: usize = 4096;
const MAX_BYTES: usize = 1 << 20;
/// Longer texts are looked at anew each time: they are written by programs, or are few.
const MAX_TEXT: usize = 4 << 10;
/// What an entry takes beside its texts: its place in the table, and the counts of what is shared.
const ENTRY_BYTES: usize = 160;

// What stands for a token whose text is not a part of the shape; no byte of a text in UTF-8.
const TEXT: u8 = 0xff;
/// Whose value does not simply stand between its quotes: with escapes, of several parts, cut.
const ODD_TEXT: u8 = 0xfe;
const BITS: u8 = 0xfd;
const NUMBER: u8 = 0xfc;
/// `.5`
const POINT_NUMBER: u8 = 0xfb;
const COMMENT: u8 = 0xfa;

/// What spans show of a statement.
#[derive(Debug, PartialEq, Eq)]
pub struct Texts {
    /// As [`super::sanitize()`] makes it.
    pub sanitized: Box<str>,
    /// As [`super::summary()`] makes it.
    pub summary: Box<str>,
}

impl Texts {
    /// Those of a text, found out anew.
    pub fn of(text: &str) -> Self {
        Self { sanitized: super::sanitize(text).into(), summary: summary(text).into() }
    }
}

/// A column and its value, as [`Binding`], of a text whose shape is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    pub table: Option<&'a str>,
    pub column: &'a str,
    pub value: Value<'a>,
}

/// What stands for the value, as [`BoundTo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Parameter(u16),
    Elements(u16),
    Literal(Cow<'a, str>),
}

impl<'a> From<&'a Binding> for Bound<'a> {
    fn from(binding: &'a Binding) -> Self {
        let value = match &binding.value {
            BoundTo::Parameter(n) => Value::Parameter(*n),
            BoundTo::Elements(n) => Value::Elements(*n),
            BoundTo::Literal(text) => Value::Literal(Cow::Borrowed(text)),
        };
        Self { table: binding.table.as_deref(), column: &binding.column, value }
    }
}

/// What is known of a text by its shape.
#[derive(Debug)]
pub struct Seen<'a> {
    pub texts: &'a Arc<Texts>,
    /// `None`: where its values stand has to be found out.
    plan: Option<&'a Plan>,
    text: &'a str,
    literals: &'a [Literal],
}

impl<'a> Seen<'a> {
    /// The bindings of the text, if the shape tells them.
    pub fn bindings(&self) -> Option<impl Iterator<Item = Bound<'a>>> {
        let (text, literals) = (self.text, self.literals);
        Some(self.plan?.bindings.iter().map(move |planned| planned.bound(text, literals)))
    }

    /// Its first word is `UPDATE`, if the shape tells it.
    pub fn is_update(&self) -> Option<bool> {
        self.plan.map(|plan| plan.is_update)
    }
}

/// A text or number in a statement.
#[derive(Clone, Debug)]
struct Literal {
    /// Of a text what stands between its quotes.
    value: Range<usize>,
    is_number: bool,
}

#[derive(Debug)]
struct Known {
    texts: Arc<Texts>,
    plan: Planning,
    bytes: usize,
}

#[derive(Debug)]
enum Planning {
    /// The shape was seen once: most of those that programs put together are never seen again.
    SeenOnce,
    /// What is bound does not depend on the shape alone.
    Impossible,
    Done(Plan),
}

#[derive(Debug)]
struct Plan {
    bindings: Vec<Planned>,
    is_update: bool,
}

#[derive(Debug)]
struct Planned {
    table: Option<Box<str>>,
    column: Box<str>,
    value: Source,
}

#[derive(Debug)]
enum Source {
    Parameter(u16),
    Elements(u16),
    /// The literal of this index.
    Literal {
        index: usize,
        is_negative: bool,
    },
    /// A word that is a value.
    Word(Box<str>),
}

impl Planned {
    fn bound<'a>(&'a self, text: &'a str, literals: &[Literal]) -> Bound<'a> {
        let literal =
            |index: usize| literals.get(index).and_then(|at| text.get(at.value.clone())).unwrap_or("");
        let value = match &self.value {
            Source::Parameter(n) => Value::Parameter(*n),
            Source::Elements(n) => Value::Elements(*n),
            Source::Literal { index, is_negative: false } => Value::Literal(Cow::Borrowed(literal(*index))),
            Source::Literal { index, is_negative: true } => {
                Value::Literal(Cow::Owned(["-", literal(*index)].concat()))
            }
            Source::Word(word) => Value::Literal(Cow::Borrowed(word)),
        };
        Bound { table: self.table.as_deref(), column: &self.column, value }
    }

    fn bytes(&self) -> usize {
        let word = if let Source::Word(word) = &self.value { word.len() } else { 0 };
        size_of::<Self>() + self.table.as_ref().map_or(0, |table| table.len()) + self.column.len() + word
    }
}

/// Shapes of statements.
#[derive(Debug)]
pub struct Shapes {
    known: Bounded<Box<[u8]>, Known, Keyed>,
    bytes: usize,
    /// Of the text that is looked at.
    shape: Vec<u8>,
    literals: Vec<Literal>,
}

impl Default for Shapes {
    fn default() -> Self {
        Self {
            known: Bounded::for_foreign_keys(MAX_SHAPES),
            bytes: 0,
            shape: Vec::new(),
            literals: Vec::new(),
        }
    }
}

impl Shapes {
    /// What is known of a text. `None`: it is not to be remembered.
    pub fn look<'a>(&'a mut self, text: &'a str) -> Option<Seen<'a>> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let is_plannable = self.read(text);
        let slot = match self.known.slot(self.shape.as_slice()) {
            Some(slot) => {
                self.known.touch(slot);
                let known = self.known.at_mut(slot)?;
                if matches!(known.plan, Planning::SeenOnce) {
                    let plan = if is_plannable { plan(text, &self.literals) } else { None };
                    let bytes =
                        plan.as_ref().map_or(0, |plan| plan.bindings.iter().map(Planned::bytes).sum());
                    known.plan = plan.map_or(Planning::Impossible, Planning::Done);
                    known.bytes += bytes;
                    self.bytes += bytes;
                    self.trim();
                }
                slot
            }
            None => self.enter(text)?,
        };
        let known = self.known.at(slot)?;
        let plan = if let Planning::Done(plan) = &known.plan { Some(plan) } else { None };
        let seen = Seen { texts: &known.texts, plan, text, literals: &self.literals };
        if cfg!(test) {
            assert_eq!(**seen.texts, Texts::of(text), "{text}");
        }
        if cfg!(test)
            && let Some(by_shape) = seen.bindings()
        {
            let all = bindings(text);
            assert_eq!(
                by_shape.collect::<Vec<_>>(),
                all.iter().map(Bound::from).collect::<Vec<_>>(),
                "{text}"
            );
        }
        Some(seen)
    }

    /// Shapes that were forgotten for newer ones.
    pub fn forgotten(&self) -> u64 {
        self.known.forgotten()
    }

    /// Reads a text into `shape` and `literals`. Returns whether its literals stand where a plan can find them.
    fn read(&mut self, text: &str) -> bool {
        self.shape.clear();
        self.literals.clear();
        let (mut is_plannable, mut asks_any, mut has_text) = (true, false, false);
        for token in tokens(text) {
            match token.kind {
                Kind::Text => match between_quotes(&token) {
                    Some(value) => {
                        has_text = true;
                        self.shape.push(TEXT);
                        self.literals.push(Literal { value, is_number: false });
                    }
                    None => {
                        is_plannable = false;
                        self.shape.push(ODD_TEXT);
                    }
                },
                Kind::Number => {
                    self.shape.push(if token.text.starts_with('.') { POINT_NUMBER } else { NUMBER });
                    self.literals.push(Literal { value: token.at..token.end(), is_number: true });
                }
                Kind::Bits => self.shape.push(BITS),
                Kind::Comment => self.shape.push(COMMENT),
                Kind::Word => {
                    asks_any |= matches!(token.text.len(), 3 | 4) && token.is_any(&["any", "some"]);
                    self.shape.extend_from_slice(token.text.as_bytes());
                }
                _ => self.shape.extend_from_slice(token.text.as_bytes()),
            }
        }
        // Of `= ANY ('{17,18}')` the text itself tells how many values there are.
        is_plannable && !(asks_any && has_text)
    }

    /// Remembers the shape that was read.
    fn enter(&mut self, text: &str) -> Option<crate::bounded::Slot> {
        let (sanitized, has_name) = sanitize_telling(text);
        // The name would stay here, and nobody else has it.
        if has_name {
            self.shape.fill(0);
            self.shape.clear();
            return None;
        }
        let texts = Texts { sanitized: sanitized.into(), summary: summary(text).into() };
        let bytes = self.shape.len() + texts.sanitized.len() + texts.summary.len() + ENTRY_BYTES;
        let known = Known { texts: Arc::new(texts), plan: Planning::SeenOnce, bytes };
        self.bytes += bytes;
        let (slot, forgotten) = self.known.insert_new(self.shape.as_slice().into(), known);
        self.bytes -= forgotten.map_or(0, |(_, known)| known.bytes);
        self.trim();
        Some(slot)
    }

    /// Forgets the oldest over the bound, never the one that was looked at last.
    fn trim(&mut self) {
        while self.bytes > MAX_BYTES
            && self.known.len() > 1
            && let Some((_, known)) = self.known.forget_oldest()
        {
            self.bytes -= known.bytes;
        }
    }
}

/// Where the value of a literal stands that is nothing but a value in quotes.
fn between_quotes(token: &Token<'_>) -> Option<Range<usize>> {
    let inner = token.text.strip_prefix('\'')?.strip_suffix('\'')?;
    memchr::memchr(b'\'', inner.as_bytes()).is_none().then(|| token.at + 1..token.end() - 1)
}

/// Where the values of a shape's columns stand: told by a text of the shape in which every literal is another one. `None`: that
/// does not tell.
fn plan(text: &str, literals: &[Literal]) -> Option<Plan> {
    const DIGITS: usize = 8;
    let mut asked = String::with_capacity(text.len() + literals.len() * DIGITS);
    let mut at = 0;
    for (index, literal) in literals.iter().enumerate() {
        asked.push_str(text.get(at..literal.value.start)?);
        asked.push_str(&if literal.is_number { format!("9{index:07}") } else { format!("\u{1}{index}") });
        at = literal.value.end;
    }
    asked.push_str(text.get(at..)?);
    // It is of the same shape only if the same tokens are in it.
    let is_same = |(a, b): (Token<'_>, Token<'_>)| {
        a.kind == b.kind && (matches!(a.kind, Kind::Text | Kind::Number) || a.text == b.text)
    };
    let is_same =
        tokens(text).zip(tokens(&asked)).all(is_same) && tokens(text).count() == tokens(&asked).count();
    if !is_same {
        return None;
    }
    let source = |value: &str| {
        let (digits, is_negative) = value.strip_prefix('-').map_or((value, false), |digits| (digits, true));
        let number = || digits.strip_prefix('9').filter(|digits| digits.len() == DIGITS - 1)?.parse().ok();
        let index: Option<usize> =
            value.strip_prefix('\u{1}').map_or_else(number, |index| index.parse().ok());
        match index {
            Some(index) => Source::Literal { index, is_negative },
            None => Source::Word(value.into()),
        }
    };
    let bindings_of = bindings(&asked).into_iter().map(|binding| Planned {
        table: binding.table.map(String::into_boxed_str),
        column: binding.column.into_boxed_str(),
        value: match &binding.value {
            BoundTo::Parameter(n) => Source::Parameter(*n),
            BoundTo::Elements(n) => Source::Elements(*n),
            BoundTo::Literal(value) => source(value),
        },
    });
    let first = tokens(text).find(Token::is_significant);
    let plan =
        Plan { bindings: bindings_of.collect(), is_update: first.is_some_and(|first| first.is("update")) };
    let all = bindings(text);
    let is_right = plan.bindings.len() == all.len()
        && plan
            .bindings
            .iter()
            .zip(&all)
            .all(|(planned, binding)| planned.bound(text, literals) == binding.into());
    is_right.then_some(plan)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `look` itself compares with what is found out anew, and what it has for a text now.
    fn look(shapes: &mut Shapes, text: &str) -> Option<String> {
        let seen = shapes.look(text)?;
        let bound = seen.bindings().map(|all| {
            let all = all.map(|bound| match bound.value {
                Value::Literal(text) => format!("{}={text}", bound.column),
                Value::Parameter(n) => format!("{}=${n}", bound.column),
                Value::Elements(n) => format!("{}=each of ${n}", bound.column),
            });
            all.collect::<Vec<_>>().join(" ")
        });
        Some(bound.unwrap_or_else(|| "?".to_owned()))
    }

    #[test]
    fn statements_that_differ_in_values_are_one_shape() {
        let mut shapes = Shapes::default();
        let update = |status: &str, id: i32| format!("UPDATE orders SET status = '{status}' WHERE id = {id}");
        assert_eq!(look(&mut shapes, &update("new", 17)).as_deref(), Some("?"));
        assert_eq!(look(&mut shapes, &update("new", 18)).as_deref(), Some("status=new id=18"));
        assert_eq!(look(&mut shapes, &update("", -9)).as_deref(), Some("?"), "a sign is a token");
        assert_eq!(look(&mut shapes, &update("x", -9)).as_deref(), Some("status=x id=-9"));
        assert_eq!(look(&mut shapes, &update("it''s", 1)).as_deref(), Some("?"));
        assert_eq!(look(&mut shapes, &update("it''s", 2)).as_deref(), Some("?"), "quotes in a text");
        assert_eq!(
            look(&mut shapes, &update("90000000", 90_000_001)).as_deref(),
            Some("status=90000000 id=90000001")
        );
        let any = |ids: &str| format!("SELECT 1 FROM orders WHERE id = ANY('{ids}')");
        for ids in ["x", "{1}", "{1,2}"] {
            assert_eq!(look(&mut shapes, &any(ids)).as_deref(), Some("?"));
        }
        assert_eq!(shapes.forgotten(), 0);
    }

    #[test]
    fn a_text_with_a_value_that_looks_like_a_name_is_not_remembered() {
        let mut shapes = Shapes::default();
        for text in
            ["SET app.jwt = zq9", "ALTER ROLE joe PASSWORD \"zq9\"", "SELECT 1 FROM t WHERE a = \"zq9\""]
        {
            assert!(shapes.look(text).is_none(), "{text}");
        }
        assert!(shapes.known.is_empty());
        assert!(shapes.look(&format!("SELECT {}", "1, ".repeat(MAX_TEXT))).is_none());
    }

    #[test]
    fn shapes_are_bounded_in_bytes_and_what_is_forgotten_is_counted() {
        let mut shapes = Shapes::default();
        for n in 0..2000 {
            shapes.look(&format!("SELECT a{n} FROM t{}", " ".repeat(1000)));
            let bytes: usize = shapes.known.values().map(|known| known.bytes).sum();
            assert_eq!(shapes.bytes, bytes);
            assert!(bytes <= MAX_BYTES, "{bytes} bytes");
        }
        assert_eq!(shapes.forgotten() + shapes.known.len() as u64, 2000);
        assert!(shapes.forgotten() > 0);
    }

    proptest! {
        /// `look` compares.
        #[test]
        fn a_shape_tells_what_the_text_would(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "SELECT ", "UPDATE orders SET ", "INSERT INTO t (a, b) VALUES (", "WHERE ", "AND ", "FROM t ", "a = ", "b IN (",
                "▯", "▯", "▯", ", ", ") ", "- ", "-", ".", "..", "\"q\" ", "= ", "ANY(", "E", "x", "::int ", "$1 ", "true ", "/*c*/", "--c\n",
                "$$", ";", "'", "(", "SET app.x = ", "PASSWORD ",
            ]), 0..16),
            values in prop::collection::vec(prop::sample::select(vec![
                "17", "'a'", "''", "'it''s'", ".5", "1.", "1e3", "E'\\n'", "B'01'", "'{1,2}'", "$$x$$", "'a'\n'b'", "90000001", "'\u{1}1'",
            ]), 48),
        ) {
            let mut shapes = Shapes::default();
            for round in 0..3 {
                let mut values = values.iter().skip(16 * round);
                let text: String = pieces.iter().map(|piece| match *piece {
                    "▯" => values.next().copied().unwrap_or("1"),
                    other => other,
                }).collect();
                look(&mut shapes, &text);
                look(&mut shapes, &text);
            }
        }
    }
}
