//! SQL text → which column is set to, or compared for equality with, which parameter or literal.
//!
//! ```text
//!   UPDATE orders o SET status = $1 WHERE o.id = 17   ─▶   orders.status = $1, orders.id = '17'
//! ```
//!
//! An argument that is passed by its name (`confirm(order_id => 17)`) is a column of no table.
//!
//! A value counts only when it stands alone: no arithmetic, no function around it, no negation before it. Tables come from
//! the `FROM` list of the query a column stands in; a column without qualifier gets its table when there is only one.
//!
//! *Owns* the shapes of `VALUES`, `SET` and conditions. *Must not know* what a column means to anybody.
//! *Spec*: PostgreSQL documentation, part VI "SQL Commands"; sections 4.2, 4.3.2 and 9.24.

mod array;
mod cursor;
mod find;

pub use array::array_elements;
pub(super) use cursor::Cursor;
use cursor::RESERVED;

use super::token::{Kind, Token, name, significant_list};

/// A column and the one value it gets or is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Lower case, without schema; `None` when the text does not tell.
    pub table: Option<String>,
    /// Lower case.
    pub column: String,
    pub value: BoundTo,
    /// The row of a multi-row `VALUES`, from 0; 0 everywhere else.
    pub row: u32,
}

/// What stands for the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundTo {
    /// `$n`, counted from 1.
    Parameter(u16),
    /// Each element of the array `$n` (`col = ANY($n)`); see [`array_elements`].
    Elements(u16),
    /// A literal in text form, without quotes.
    Literal(String),
}

/// Tables of one query that a column can be of.
const MAX_TABLES: usize = 64;

/// All bindings of a text, statement by statement. Linear in the text, and no more of them than the text has tokens.
pub fn bindings(text: &str) -> Vec<Binding> {
    let tokens = significant_list(text);
    let mut walk = Walk {
        tokens: Cursor(&tokens),
        at: 0,
        scopes: vec![Scope::query()],
        ctes: Vec::new(),
        found: Vec::new(),
    };
    walk.run();
    walk.found
}

/// What the tokens of a level of parentheses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clause {
    /// Nothing that binds.
    Other,
    /// A `FROM` list; the next name is a table when `expect`.
    From { expect: bool },
    /// A condition; after `ON` a comma leads back to the `FROM` list.
    Condition { on: bool },
    /// Assignments.
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    /// The text itself or a query in parentheses: it has tables of its own.
    Query,
    /// Parentheses that only group.
    Group,
    /// Arguments of a function: nothing binds in them.
    Arguments,
}

#[derive(Debug)]
struct Scope {
    opened: Opened,
    /// Index of the innermost query: of this scope when it is one.
    query: usize,
    clause: Clause,
    /// Stands in a `FROM` list: an alias may follow it.
    is_table: bool,
    /// Depth of `CASE … END`.
    cases: usize,
    /// `FROM` means a list of tables here.
    has_from: bool,
    /// Table that `SET` and `INSERT` write to.
    target: Option<String>,
    /// Alias (or name) and table; the table is `None` for derived ones.
    tables: Vec<(String, Option<String>)>,
    pending: Vec<Pending>,
}

/// A binding whose table is not known before the query's `FROM` list is.
#[derive(Debug)]
struct Pending {
    qualifier: Option<String>,
    column: String,
    value: BoundTo,
}

impl Scope {
    fn query() -> Self {
        Scope {
            opened: Opened::Query,
            query: 0,
            clause: Clause::Other,
            is_table: false,
            cases: 0,
            has_from: false,
            target: None,
            tables: Vec::new(),
            pending: Vec::new(),
        }
    }
}

struct Walk<'a> {
    tokens: Cursor<'a>,
    at: usize,
    /// Never empty.
    scopes: Vec<Scope>,
    /// Names of common table expressions.
    ctes: Vec<String>,
    found: Vec<Binding>,
}

impl<'a> Walk<'a> {
    fn run(&mut self) {
        while let Some(token) = self.tokens.token(self.at) {
            match token.kind {
                Kind::Punct('(') => {
                    self.condition_or_assignment();
                    self.open();
                }
                Kind::Punct(')') => self.close(),
                Kind::Punct(';') => {
                    while self.scopes.len() > 1 {
                        self.leave();
                    }
                    self.leave();
                    self.ctes.clear();
                    self.enter(Scope::query());
                    self.at += 1;
                }
                Kind::Punct(',') => {
                    if let Some(scope) = self.scopes.last_mut()
                        && matches!(scope.clause, Clause::From { .. } | Clause::Condition { on: true })
                    {
                        scope.clause = Clause::From { expect: true };
                    }
                    self.at += 1;
                }
                Kind::Word | Kind::Quoted => self.name(token),
                _ => {
                    self.condition_or_assignment();
                    self.at += 1;
                }
            }
        }
        while !self.scopes.is_empty() {
            self.leave();
        }
    }

    fn previous(&self, back: usize) -> Option<&'a Token<'a>> {
        self.at.checked_sub(back).and_then(|at| self.tokens.token(at))
    }

    fn clause(&self) -> Clause {
        self.scopes.last().map_or(Clause::Other, |scope| scope.clause)
    }

    fn set_clause(&mut self, clause: Clause) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.clause = clause;
        }
    }

    /// The innermost query.
    fn query(&mut self) -> Option<&mut Scope> {
        let query = self.scopes.last()?.query;
        self.scopes.get_mut(query)
    }

    fn enter(&mut self, mut scope: Scope) {
        scope.query = match (scope.opened, self.scopes.last()) {
            (Opened::Group | Opened::Arguments, Some(outer)) => outer.query,
            _ => self.scopes.len(),
        };
        self.scopes.push(scope);
    }

    fn open(&mut self) {
        let clause = self.clause();
        let is_table = clause == Clause::From { expect: true };
        let before = self.previous(1);
        let starts_query = |token: &Token<'_>| {
            token.is_any(&["select", "with", "insert", "update", "delete", "merge", "values", "table"])
        };
        let is_query = self.tokens.token(self.at + 1).is_some_and(starts_query);
        let called = before.is_some_and(|token| match token.kind {
            Kind::Quoted => true,
            Kind::Word => !token.is_any(RESERVED),
            _ => false,
        });
        let negated = before.is_some_and(|token| token.is("not"));
        let mut scope = Scope { is_table, ..Scope::query() };
        if !is_query {
            (scope.opened, scope.clause) = match clause {
                Clause::From { expect: true } => (Opened::Group, clause),
                Clause::Condition { .. } if !called && !negated && !self.in_case() => {
                    (Opened::Group, Clause::Condition { on: false })
                }
                _ => (Opened::Arguments, Clause::Other),
            };
        }
        if is_table {
            self.set_clause(Clause::From { expect: false });
        }
        self.enter(scope);
        self.at += 1;
    }

    fn close(&mut self) {
        self.at += 1;
        if self.scopes.len() < 2 {
            return;
        }
        let was_table =
            self.scopes.last().is_some_and(|scope| scope.is_table && scope.opened == Opened::Query);
        self.leave();
        if was_table && let Some(alias) = self.alias() {
            self.add_table(alias, None);
        }
    }

    /// Ends the innermost scope and gives its bindings their tables.
    fn leave(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        let mut outer = Vec::new();
        for pending in scope.pending {
            let table = match &pending.qualifier {
                Some(qualifier) => match scope.tables.iter().find(|(alias, _)| alias == qualifier) {
                    Some((_, table)) => table.clone(),
                    // An outer query's table, if there is an outer query.
                    None if !self.scopes.is_empty() => {
                        outer.push(pending);
                        continue;
                    }
                    None => None,
                },
                None => match scope.tables.as_slice() {
                    [(_, table)] => table.clone(),
                    _ => None,
                },
            };
            self.found.push(Binding { table, column: pending.column, value: pending.value, row: 0 });
        }
        if let Some(query) = self.query() {
            query.pending.extend(outer);
        }
    }

    /// Starts the next query of a `UNION` and the like on the same level.
    fn next_query(&mut self) {
        if let Some(scope) = self.scopes.last()
            && scope.opened == Opened::Query
        {
            let is_table = scope.is_table;
            self.leave();
            self.enter(Scope { is_table, has_from: true, ..Scope::query() });
        }
    }

    fn in_case(&self) -> bool {
        self.scopes.last().is_some_and(|scope| scope.cases > 0)
    }

    fn name(&mut self, token: &Token<'_>) {
        if self.clause() == (Clause::From { expect: true })
            && !token.is_any(&["only", "lateral", "select", "values"])
        {
            self.table();
            return;
        }
        self.condition_or_assignment();
        let previous = self.previous(1).copied();
        let after = |words: &[&str]| previous.is_some_and(|token| token.is_any(words));
        let dotted = previous.is_some_and(|token| token.is_punct('.'));
        self.at += 1;
        if self.scopes.last().is_some_and(|scope| scope.opened == Opened::Arguments) && !dotted {
            self.argument(token);
        }
        if token.kind != Kind::Word || dotted {
            return;
        }
        let next = self.tokens.token(self.at);
        match () {
            () if token.is("with") && self.at == 1 + self.statement_start() => {
                self.common_table_expressions()
            }
            () if token.is("case") => self.change(|scope| scope.cases += 1),
            () if token.is("end") => self.change(|scope| scope.cases = scope.cases.saturating_sub(1)),
            () if token.is("select") => self.change(|scope| {
                scope.clause = Clause::Other;
                scope.has_from = true;
            }),
            () if token.is("delete") && next.is_some_and(|next| next.is("from")) => {
                self.change(|scope| scope.has_from = true);
            }
            () if token.is("update") && !after(&["for", "key", "do", "on", "then"]) => self.target(self.at),
            () if token.is_any(&["insert", "merge"]) && next.is_some_and(|next| next.is("into")) => {
                self.target(self.at + 1);
                if token.is("insert") {
                    self.insert();
                }
            }
            () if token.is("insert") && after(&["then"]) => self.insert(),
            () if token.is("from") => {
                let compares =
                    after(&["distinct"]) && self.previous(3).is_some_and(|t| t.is_any(&["is", "not"]));
                if self.scopes.last().is_some_and(|scope| scope.has_from) && !compares {
                    self.set_clause(Clause::From { expect: true });
                }
            }
            () if token.is("join") && self.clause() != Clause::Other => {
                self.set_clause(Clause::From { expect: true })
            }
            () if token.is("using") && !next.is_some_and(|next| next.is_punct('(')) => {
                if self.scopes.last().is_some_and(|scope| scope.has_from) {
                    self.set_clause(Clause::From { expect: true });
                }
            }
            () if token.is("set") && self.scopes.last().is_some_and(|scope| scope.target.is_some()) => {
                self.set_clause(Clause::Set);
                // The position of `SET` is an opening of its own.
            }
            () if token.is("where") && self.is_query() => self.set_clause(Clause::Condition { on: false }),
            () if token.is("on") && matches!(self.clause(), Clause::From { .. }) => {
                self.set_clause(Clause::Condition { on: true });
            }
            () if token.is_any(&["union", "intersect", "except"]) => self.next_query(),
            () if token.is_any(&[
                "group",
                "order",
                "having",
                "limit",
                "offset",
                "returning",
                "window",
                "for",
                "fetch",
            ]) && self.is_query() =>
            {
                self.set_clause(Clause::Other);
            }
            () => {}
        }
    }

    fn is_query(&self) -> bool {
        self.scopes.last().is_some_and(|scope| scope.opened == Opened::Query)
    }

    fn change(&mut self, change: impl FnOnce(&mut Scope)) {
        if let Some(scope) = self.scopes.last_mut() {
            change(scope);
        }
    }

    /// Position of the first token of the query we are in.
    fn statement_start(&self) -> usize {
        let opens = |at: &usize| {
            self.tokens.token(*at).is_some_and(|token| matches!(token.kind, Kind::Punct('(' | ';')))
        };
        match self.at.checked_sub(2).filter(|at| opens(at)) {
            Some(at) => at + 1,
            None if self.at == 1 => 0,
            None => usize::MAX - 1,
        }
    }

    /// `WITH [RECURSIVE] name [(…)] AS (…), …`: notes the names. Bodies are walked as usual.
    fn common_table_expressions(&mut self) {
        let mut at = self.at + usize::from(self.tokens.word(self.at, "recursive").is_some());
        while let Some(((None, name), after)) = self.tokens.dotted(at) {
            self.ctes.push(name);
            let end = self.tokens.near_end(after, &["select", "insert", "update", "delete", "merge"]);
            match self.tokens.punct(end, ',') {
                Some(next) => at = next,
                None => break,
            }
        }
    }

    /// The table at the current position of a `FROM` list, with its alias.
    fn table(&mut self) {
        let Some(((_, table), after)) = self.tokens.dotted(self.at) else {
            self.set_clause(Clause::Other);
            self.at += 1;
            return;
        };
        self.set_clause(Clause::From { expect: false });
        self.at = after;
        if self.tokens.punct(self.at, '(').is_some() {
            // A function's rows: walk over its arguments, then its alias.
            self.at = self.tokens.expression_end(self.at + 1, &[]);
            while self.tokens.punct(self.at, ',').is_some() {
                self.at = self.tokens.expression_end(self.at + 1, &[]);
            }
            self.at += usize::from(self.tokens.punct(self.at, ')').is_some());
            let alias = self.alias().unwrap_or(table);
            self.add_table(alias, None);
            return;
        }
        self.at += usize::from(self.tokens.operator(self.at, "*").is_some());
        let alias = self.alias().unwrap_or_else(|| table.clone());
        let table = Some(table).filter(|table| !self.ctes.contains(table));
        self.add_table(alias, table);
    }

    /// `[AS] alias` at the current position.
    fn alias(&mut self) -> Option<String> {
        let explicit = self.tokens.word(self.at, "as");
        let at = explicit.unwrap_or(self.at);
        let token = self.tokens.token(at).filter(|token| token.is_name() && !token.is_any(RESERVED))?;
        self.at = at + 1;
        Some(name(token).to_lowercase())
    }

    fn add_table(&mut self, alias: String, table: Option<String>) {
        // Of more tables than this, which one is meant is not worth the search.
        if let Some(query) = self.query().filter(|query| query.tables.len() < MAX_TABLES) {
            query.tables.push((alias, table));
        }
    }

    /// The table written to, at `at`.
    fn target(&mut self, at: usize) {
        let at = self.tokens.word(at, "only").unwrap_or(at);
        let Some(((_, table), after)) = self.tokens.dotted(at) else { return };
        self.at = after + usize::from(self.tokens.operator(after, "*").is_some());
        let alias = self.alias().unwrap_or_else(|| table.clone());
        self.change(|scope| {
            scope.clause = Clause::Other;
            scope.has_from = true;
            scope.target = Some(table.clone());
            scope.tables.push((alias, Some(table)));
        });
    }
}

#[cfg(test)]
mod tests;
