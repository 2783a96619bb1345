//! Tokens and a position → the shape that stands there: a column, a value, a list, a comparison.
//!
//! Nothing here moves: each function returns the position after what it read, or `None`.

use super::super::token::{Kind, Token, literal, name};
use super::{BoundTo, array_elements};

/// Words that are never a column, an alias or a function's name.
#[rustfmt::skip]
pub(super) const RESERVED: &[&str] = &[
    "all", "and", "any", "array", "as", "asc", "between", "by", "case", "check", "collate", "conflict",
    "cross", "desc", "distinct", "do", "else", "end", "except", "exists", "fetch", "filter", "for", "from",
    "full", "group", "having", "ilike", "in", "inner", "intersect", "into", "is", "join", "lateral", "left",
    "like", "limit", "natural", "not", "null", "offset", "on", "only", "or", "order", "outer", "over",
    "returning", "right", "select", "set", "similar", "some", "tablesample", "then", "union", "using",
    "values", "when", "where", "window", "with",
];

/// Words that go on with an expression, so that what stood before was not alone.
#[rustfmt::skip]
const CONTINUES: &[&str] = &[
    "at", "between", "ilike", "in", "is", "isnull", "like", "not", "notnull", "operator", "overlaps",
    "similar",
];

/// Tokens of one expression that are looked over. A longer one is no value alone.
const MAX_LOOKAHEAD: usize = 512;

/// Reads shapes at a position without moving.
#[derive(Clone, Copy)]
pub(in crate::sql) struct Cursor<'a>(pub(in crate::sql) &'a [Token<'a>]);

/// A column as written: qualifier (table or alias) and name, lower case.
pub(super) type Column = (Option<String>, String);

impl<'a> Cursor<'a> {
    pub(in crate::sql) fn token(&self, at: usize) -> Option<&'a Token<'a>> {
        self.0.get(at)
    }

    pub(in crate::sql) fn punct(&self, at: usize, c: char) -> Option<usize> {
        self.token(at).filter(|token| token.is_punct(c)).map(|_| at + 1)
    }

    pub(super) fn word(&self, at: usize, word: &str) -> Option<usize> {
        self.token(at).filter(|token| token.is(word)).map(|_| at + 1)
    }

    pub(super) fn operator(&self, at: usize, operator: &str) -> Option<usize> {
        self.token(at).filter(|token| token.is_operator(operator)).map(|_| at + 1)
    }

    /// `a`, `b.a`, `c.b.a`: the last two parts and what follows.
    pub(super) fn dotted(&self, at: usize) -> Option<(Column, usize)> {
        let mut last =
            name(self.token(at).filter(|token| token.is_name() && !token.is_any(RESERVED))?).to_lowercase();
        let mut qualifier = None;
        let mut at = at + 1;
        while let Some(part) = self.punct(at, '.') {
            let part_name = name(self.token(part).filter(|token| token.is_name())?).to_lowercase();
            qualifier = Some(std::mem::replace(&mut last, part_name));
            at = part + 1;
        }
        Some(((qualifier, last), at))
    }

    /// A column, with casts or inside `CAST(… AS type)`.
    pub(super) fn column(&self, at: usize) -> Option<(Column, usize)> {
        if let Some(inner) = self.word(at, "cast").and_then(|at| self.punct(at, '(')) {
            let (column, at) = self.dotted(inner)?;
            let at = self.type_name(self.word(at, "as")?)?;
            return Some((column, self.punct(at, ')')?));
        }
        let (column, at) = self.dotted(at)?;
        if self.punct(at, '(').is_some() {
            return None;
        }
        Some((column, self.casts(at)))
    }

    /// After any number of `::type`.
    pub(super) fn casts(&self, mut at: usize) -> usize {
        while let Some(after) =
            self.token(at).filter(|token| token.kind == Kind::Cast).and_then(|_| self.type_name(at + 1))
        {
            at = after;
        }
        at
    }

    /// After a type: `int`, `character varying(10)`, `shop."Status"[]`, `timestamp with time zone`.
    fn type_name(&self, at: usize) -> Option<usize> {
        let mut at = self.token(at).filter(|token| token.is_name()).map(|_| at + 1)?;
        while let Some(part) = self.punct(at, '.') {
            at = part + usize::from(self.token(part).is_some_and(Token::is_name));
        }
        let skip = |mut at: usize, words: &[&str]| {
            while self.token(at).is_some_and(|token| token.is_any(words)) {
                at += 1;
            }
            at
        };
        at = skip(at, &["varying", "precision"]);
        if let Some(mut inner) = self.punct(at, '(') {
            while self.token(inner).is_some_and(|token| token.kind == Kind::Number || token.is_punct(',')) {
                inner += 1;
            }
            at = self.punct(inner, ')')?;
        }
        if self.token(at).is_some_and(|token| token.is_any(&["with", "without"]))
            && self.word(at + 1, "time").is_some()
        {
            at = skip(at + 1, &["time", "zone"]);
        }
        while let Some(inner) = self.punct(at, '[') {
            at = self.punct(
                inner + usize::from(self.token(inner).is_some_and(|token| token.kind == Kind::Number)),
                ']',
            )?;
        }
        Some(at)
    }

    /// A parameter or literal with its casts, parentheses and `CAST`.
    pub(in crate::sql) fn value(&self, at: usize) -> Option<(BoundTo, usize)> {
        let mut at = at;
        let mut parentheses = 0;
        while let Some(inner) = self.punct(at, '(').filter(|_| parentheses < 4) {
            parentheses += 1;
            at = inner;
        }
        let (value, mut at) = match self.word(at, "cast").and_then(|at| self.punct(at, '(')) {
            Some(inner) => {
                let (value, at) = self.bare_value(inner)?;
                let at = self.type_name(self.word(self.casts(at), "as")?)?;
                (value, self.punct(at, ')')?)
            }
            None => self.bare_value(at)?,
        };
        at = self.casts(at);
        for _ in 0..parentheses {
            at = self.casts(self.punct(at, ')')?);
        }
        Some((value, at))
    }

    fn bare_value(&self, at: usize) -> Option<(BoundTo, usize)> {
        let token = self.token(at)?;
        match token.kind {
            Kind::Parameter(n) if n > 0 => Some((BoundTo::Parameter(n), at + 1)),
            Kind::Number => Some((BoundTo::Literal(token.text.to_owned()), at + 1)),
            Kind::Text => Some((BoundTo::Literal(self.text(at)?), at + 1)),
            Kind::Operator if matches!(token.text, "-" | "+") => {
                let number = self.token(at + 1).filter(|next| next.kind == Kind::Number)?;
                let sign = if token.text == "-" { "-" } else { "" };
                Some((BoundTo::Literal(format!("{sign}{}", number.text)), at + 2))
            }
            Kind::Word if token.is_any(&["true", "false"]) => {
                Some((BoundTo::Literal(token.text.to_lowercase()), at + 1))
            }
            // `uuid '…'`, `date '…'`
            Kind::Word
                if !token.is_any(RESERVED)
                    && self.token(at + 1).is_some_and(|next| next.kind == Kind::Text) =>
            {
                Some((BoundTo::Literal(self.text(at + 1)?), at + 2))
            }
            _ => None,
        }
    }

    /// A text literal, unless the text was cut inside it.
    fn text(&self, at: usize) -> Option<String> {
        let token = self.token(at)?;
        let quote = if token.text.starts_with('$') { '$' } else { '\'' };
        let whole = token.text.ends_with(quote) && token.text.matches(quote).nth(1).is_some();
        literal(token).filter(|_| whole)
    }

    /// What stood before `at` stood alone: nothing that goes on with the expression follows.
    pub(super) fn is_over(&self, at: usize) -> bool {
        self.token(at).is_none_or(|token| match token.kind {
            Kind::Punct(')' | ',' | ';') => true,
            Kind::Word => !token.is_any(CONTINUES),
            _ => false,
        })
    }

    /// `(v, v, …)` where each is a value alone; position after the parenthesis.
    pub(super) fn values(&self, at: usize, open: char, close: char) -> Option<(Vec<BoundTo>, usize)> {
        let mut values = Vec::new();
        let mut at = self.punct(at, open)?;
        loop {
            let (value, after) = self.value(at)?;
            values.push(value);
            match self.punct(after, ',') {
                Some(next) => at = next,
                None => return Some((values, self.punct(after, close)?)),
            }
        }
    }

    /// `(a, b, …)`: names and position after the parenthesis.
    pub(super) fn names(&self, at: usize) -> Option<(Vec<Column>, usize)> {
        let mut names = Vec::new();
        let mut at = self.punct(at, '(')?;
        loop {
            let (column, after) = self.dotted(at)?;
            names.push(column);
            match self.punct(after, ',') {
                Some(next) => at = next,
                None => return Some((names, self.punct(after, ')')?)),
            }
        }
    }

    /// After one expression of a list: at its comma, at what closes the list, or at the end.
    pub(in crate::sql) fn expression_end(&self, at: usize, stop: &[&str]) -> usize {
        self.end_within(at, stop, usize::MAX)
    }

    /// As [`Cursor::expression_end`], but no farther than [`MAX_LOOKAHEAD`]: for looks from inside one another, where the
    /// same tokens are looked at again.
    pub(super) fn near_end(&self, at: usize, stop: &[&str]) -> usize {
        self.end_within(at, stop, MAX_LOOKAHEAD)
    }

    fn end_within(&self, mut at: usize, stop: &[&str], most: usize) -> usize {
        let last = at.saturating_add(most);
        let mut depth = 0usize;
        while let Some(token) = self.token(at).filter(|_| at < last) {
            match token.kind {
                Kind::Punct('(' | '[') => depth += 1,
                Kind::Punct(')' | ']' | ',' | ';') if depth == 0 => break,
                Kind::Word if depth == 0 && token.is_any(stop) => break,
                Kind::Punct(')' | ']') => depth -= 1,
                _ => {}
            }
            at += 1;
        }
        at
    }
}

/// What a column is compared with, for equality, from the operator on.
pub(super) fn compared(tokens: Cursor<'_>, at: usize) -> Option<Vec<BoundTo>> {
    if let Some(list) = tokens.word(at, "in") {
        let (values, after) = tokens.values(list, '(', ')')?;
        return tokens.is_over(after).then_some(values);
    }
    let same =
        |at| tokens.word(tokens.word(tokens.word(tokens.word(at, "is")?, "not")?, "distinct")?, "from");
    let at = tokens.operator(at, "=").or_else(|| same(at))?;
    let any = tokens.word(at, "any").or_else(|| tokens.word(at, "some"));
    if let Some(inner) = any.and_then(|at| tokens.punct(at, '(')) {
        let (values, after) = array(tokens, inner)?;
        let after = tokens.punct(after, ')')?;
        return tokens.is_over(after).then_some(values);
    }
    let (value, after) = tokens.value(at)?;
    tokens.is_over(after).then(|| vec![value])
}

/// An array: a parameter, a literal, or `ARRAY[…]`.
fn array(tokens: Cursor<'_>, at: usize) -> Option<(Vec<BoundTo>, usize)> {
    if let Some(list) = tokens.word(at, "array") {
        let (values, after) = tokens.values(list, '[', ']')?;
        return Some((values, tokens.casts(after)));
    }
    let (value, after) = tokens.value(at)?;
    let values = match value {
        BoundTo::Parameter(n) => vec![BoundTo::Elements(n)],
        BoundTo::Literal(text) => array_elements(&text)?.into_iter().map(BoundTo::Literal).collect(),
        BoundTo::Elements(_) => return None,
    };
    Some((values, after))
}
