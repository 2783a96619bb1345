//! The walk's position → the bindings that start there. Nothing here moves the walk.

use super::cursor::{Column, compared};
use super::{Binding, Clause, Pending, Walk};
use crate::sql::token::{Token, name};

impl Walk<'_> {
    /// `(columns) VALUES (…), (…)` or `(columns) SELECT …` at the current position. Does not move.
    pub(super) fn insert(&mut self) {
        let Some((columns, mut at)) = self.tokens.names(self.at) else { return };
        if self.tokens.word(at, "overriding").is_some() {
            at += 3;
        }
        let table = self.scopes.last().and_then(|scope| scope.target.clone());
        if let Some(first) = self.tokens.word(at, "values") {
            let mut next = self.tokens.punct(first, '(');
            let mut row = 0;
            while let Some(start) = next {
                let end = self.row(&columns, table.as_deref(), start, row, &[]);
                let after = self.tokens.punct(end, ')').and_then(|at| self.tokens.punct(at, ','));
                next = after.and_then(|at| self.tokens.punct(at, '('));
                row += 1;
            }
        } else if let Some(start) = self.tokens.word(at, "select") {
            // The inserted table is no table of the query that follows.
            self.change(|scope| scope.tables.clear());
            let stop = &[
                "from",
                "where",
                "union",
                "intersect",
                "except",
                "group",
                "order",
                "limit",
                "on",
                "returning",
            ];
            self.row(&columns, table.as_deref(), start, 0, stop);
        }
    }

    /// Binds the expressions from `at` to the columns, one after the other. Returns the position after the last.
    fn row(&mut self, columns: &[Column], table: Option<&str>, at: usize, row: u32, stop: &[&str]) -> usize {
        let mut at = at;
        let mut columns = columns.iter();
        loop {
            let end = self.tokens.near_end(at, stop);
            if let Some((_, column)) = columns.next()
                && let Some((value, after)) = self.tokens.value(at)
                && after == end
            {
                self.found.push(Binding {
                    table: table.map(str::to_owned),
                    column: column.clone(),
                    value,
                    row,
                });
            }
            match self.tokens.punct(end, ',') {
                Some(next) => at = next,
                None => return end,
            }
        }
    }

    /// The value of a named argument (section 4.3.2), whose name was the last token. Functions give the names of their
    /// parameters a prefix, to tell them from columns. Does not move.
    pub(super) fn argument(&mut self, named: &Token<'_>) {
        const PREFIXES: [&str; 4] = ["p_", "in_", "i_", "v_"];
        let tokens = self.tokens;
        let colon = || tokens.operator(tokens.punct(self.at, ':')?, "=");
        let Some(at) = tokens.operator(self.at, "=>").or_else(colon) else { return };
        let Some((value, after)) = tokens.value(at) else { return };
        if !tokens.is_over(after) {
            return;
        }
        let column = name(named).to_lowercase();
        let bare = PREFIXES.iter().find_map(|prefix| column.strip_prefix(prefix)).map(str::to_owned);
        self.found.push(Binding { table: None, column: bare.unwrap_or(column), value, row: 0 });
    }

    /// Looks for a binding that starts at the current token. Does not move.
    pub(super) fn condition_or_assignment(&mut self) {
        let Some(before) = self.previous(1).copied() else { return };
        match self.clause() {
            Clause::Condition { .. } if !self.in_case() => {
                let opens = before.is_any(&["where", "and", "or", "on"])
                    || (before.is_punct('(') && !self.is_query());
                if opens {
                    self.condition();
                }
            }
            Clause::Set if before.is("set") || before.is_punct(',') => self.assignment(),
            _ => {}
        }
    }

    fn assignment(&mut self) {
        let tokens = self.tokens;
        let table = self.scopes.last().and_then(|scope| scope.target.clone());
        let mut bind = |(_, column): Column, value| {
            self.found.push(Binding { table: table.clone(), column, value, row: 0 });
        };
        if let Some((column, at)) = tokens.dotted(self.at) {
            if let Some(at) = tokens.operator(at, "=")
                && let Some((value, after)) = tokens.value(at)
                && tokens.is_over(after)
            {
                bind(column, value);
            }
        } else if let Some((columns, at)) = tokens.names(self.at)
            && let Some(at) = tokens.operator(at, "=")
            && let Some((values, _)) = tokens.values(tokens.word(at, "row").unwrap_or(at), '(', ')')
        {
            columns.into_iter().zip(values).for_each(|(column, value)| bind(column, value));
        }
    }

    fn condition(&mut self) {
        let tokens = self.tokens;
        let bound = (|| {
            if let Some((column, at)) = tokens.column(self.at) {
                return Some(
                    compared(tokens, at)?
                        .into_iter()
                        .map(|value| (column.clone(), value))
                        .collect::<Vec<_>>(),
                );
            }
            if let Some((columns, at)) = tokens.names(self.at) {
                let at = tokens.operator(at, "=")?;
                let (values, after) = tokens.values(tokens.word(at, "row").unwrap_or(at), '(', ')')?;
                return tokens.is_over(after).then(|| columns.into_iter().zip(values).collect());
            }
            let (value, at) = tokens.value(self.at)?;
            let (column, after) = tokens.column(tokens.operator(at, "=")?)?;
            tokens.is_over(after).then(|| vec![(column, value)])
        })();
        let bound = bound.into_iter().flatten();
        if let Some(query) = self.query() {
            query.pending.extend(bound.map(|((qualifier, column), value)| Pending {
                qualifier,
                column,
                value,
            }));
        }
    }
}
