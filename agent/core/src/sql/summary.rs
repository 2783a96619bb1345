//! SQL text → its operations and targets: a name of low cardinality for spans and metrics.
//!
//! *Owns* which words are operations and which names are their targets. *Must not know* protocols, spans.
//! *Spec*: OpenTelemetry semantic conventions v1.44.0, "Generating a summary of the query".

use super::token::{Kind, Token, significant_list};

/// Longest summary, in characters.
pub const MAX_SUMMARY_CHARS: usize = 255;

/// Operations and targets in the order they stand in the text, as they are written, at most [`MAX_SUMMARY_CHARS`].
/// Empty when the text has no statement that is known.
///
/// Names made up at run time (prepared statements, cursors, savepoints, channels) are no targets, nor are common table
/// expressions: they would make a summary of each execution its own.
pub fn summary(text: &str) -> String {
    let tokens = significant_list(text);
    let mut walk =
        Walk { tokens: &tokens, at: 0, levels: vec![Level::start()], ctes: Vec::new(), out: Out::default() };
    walk.run();
    walk.out.text
}

/// What a level of parentheses is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A statement may begin here.
    Start,
    /// The next name is a target; more may follow after a comma when `list`.
    Target { list: bool },
    /// A list of targets: after a comma or `JOIN` comes the next one.
    List,
    /// Names mean nothing.
    Other,
}

/// The operation a level belongs to, as far as it matters for what `FROM`, `INTO` and `USING` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    None,
    Query,
    Insert,
    Merge,
    /// Any that is over with its first target.
    Plain,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    mode: Mode,
    operation: Operation,
}

impl Level {
    fn start() -> Self {
        Level { mode: Mode::Start, operation: Operation::None }
    }
}

#[derive(Debug, Default)]
struct Out {
    text: String,
    chars: usize,
    full: bool,
}

impl Out {
    /// Adds a part if it fits whole.
    fn push(&mut self, part: &str) {
        let space = usize::from(!self.text.is_empty());
        let chars = part.chars().count() + space;
        self.full |= self.chars + chars > MAX_SUMMARY_CHARS;
        if !self.full {
            if space == 1 {
                self.text.push(' ');
            }
            self.text.push_str(part);
            self.chars += chars;
        }
    }
}

struct Walk<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    levels: Vec<Level>,
    ctes: Vec<String>,
    out: Out,
}

/// Commands whose summary is the word alone.
#[rustfmt::skip]
const BARE: &[&str] = &[
    "abort", "begin", "checkpoint", "close", "comment", "commit", "deallocate", "discard", "do", "end",
    "execute", "fetch", "grant", "listen", "load", "move", "notify", "reassign", "release", "reset",
    "revoke", "rollback", "savepoint", "security", "set", "show", "unlisten",
];

/// Words between a command or an object type and its name.
#[rustfmt::skip]
const BEFORE_NAME: &[&str] = &[
    "analyze", "concurrently", "exists", "freeze", "full", "if", "not", "only", "verbose", "nowait",
    "skip_locked",
];

/// Words between `CREATE`, `ALTER` or `DROP` and the object type.
#[rustfmt::skip]
const BEFORE_TYPE: &[&str] = &[
    "default", "global", "local", "or", "procedural", "recursive", "replace", "temp", "temporary",
    "trusted", "unique", "unlogged",
];

/// Object types of two words.
const TWO_WORDS: &[(&str, &str)] = &[
    ("access", "method"),
    ("event", "trigger"),
    ("foreign", "table"),
    ("materialized", "view"),
    ("operator", "class"),
    ("operator", "family"),
    ("text", "search"),
    ("user", "mapping"),
];

/// Words after which a list of targets is over.
#[rustfmt::skip]
const AFTER_TARGETS: &[&str] = &[
    "connection", "do", "except", "fetch", "for", "from", "group", "having", "intersect", "limit", "offset",
    "on", "order", "returning", "set", "to", "union", "values", "when", "where", "window", "with",
];

impl<'a> Walk<'a> {
    fn run(&mut self) {
        while !self.out.full
            && let Some(token) = self.tokens.get(self.at).copied()
        {
            self.at += 1;
            match token.kind {
                Kind::Punct('(') => self.open(),
                Kind::Punct(')') => self.close(),
                Kind::Punct(';') => self.levels = vec![Level::start()],
                Kind::Punct(',') if self.level().mode == Mode::List => self.set(Mode::Target { list: true }),
                Kind::Word if self.is_operation(&token) => self.operation(&token),
                Kind::Word | Kind::Quoted => self.word(&token),
                _ => {
                    if matches!(self.level().mode, Mode::Target { .. } | Mode::Start) {
                        self.set(Mode::Other);
                    }
                }
            }
        }
    }

    fn level(&self) -> Level {
        self.levels.last().copied().unwrap_or_else(Level::start)
    }

    fn set(&mut self, mode: Mode) {
        if let Some(level) = self.levels.last_mut() {
            level.mode = mode;
        }
    }

    fn peek(&self, ahead: usize) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at + ahead)
    }

    /// The token before the one just taken.
    fn previous(&self, back: usize) -> Option<&'a Token<'a>> {
        self.at.checked_sub(back + 1).and_then(|at| self.tokens.get(at))
    }

    /// A parenthesis opens: a join in parentheses goes on with targets, anything else starts anew.
    fn open(&mut self) {
        let Level { mode, operation } = self.level();
        let inner = match mode {
            Mode::Target { list: true } => {
                // What is in parentheses is the target, or holds it.
                self.set(Mode::List);
                Level { mode: Mode::Target { list: true }, operation: Operation::Query }
            }
            Mode::Target { list: false } => {
                self.set(Mode::Other);
                Level::start()
            }
            Mode::Start => Level { mode: Mode::Start, operation },
            Mode::List | Mode::Other => Level { mode: Mode::Other, operation: Operation::None },
        };
        self.levels.push(inner);
    }

    fn close(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
        }
    }

    /// Whether this word starts an operation here. `SELECT` is reserved and always does; the others can be names.
    fn is_operation(&self, token: &Token<'_>) -> bool {
        let previous = self.previous(1);
        if previous.is_some_and(|token| token.is_punct('.'))
            || self.peek(0).is_some_and(|next| next.is_punct('.'))
        {
            return false;
        }
        if token.is("select") {
            return true;
        }
        if self.level().mode == Mode::Start {
            return true;
        }
        let begins = previous.is_none_or(|token| {
            matches!(token.kind, Kind::Punct('(' | ')'))
                || token.is_any(&["as", "instead", "also", "materialized"])
        });
        let next = self.peek(0);
        begins
            && match () {
                () if token.is("insert") || token.is("merge") => next.is_some_and(|next| next.is("into")),
                () if token.is("delete") => next.is_some_and(|next| next.is("from")),
                () if token.is("update") => {
                    next.is_some_and(Token::is_name) && self.peek(1).is_some_and(|next| !next.is_punct(')'))
                }
                () => false,
            }
    }

    fn operation(&mut self, token: &Token<'a>) {
        let start = self.level().mode == Mode::Start;
        let (mode, operation) = match () {
            () if token.is("select") => (Mode::Other, Operation::Query),
            () if token.is("insert") => (Mode::Other, Operation::Insert),
            () if token.is("merge") => (Mode::Other, Operation::Merge),
            () if token.is("delete") => (Mode::Other, Operation::Query),
            () if token.is("update") => (Mode::Target { list: false }, Operation::Query),
            () if !start => return,
            () if token.is("with") => {
                self.common_table_expressions();
                return;
            }
            () if token.is("values") => (Mode::Other, Operation::Plain),
            () if token.is("explain") => {
                self.out.push(token.text);
                self.skip(&["analyze", "verbose"]);
                if self.peek(0).is_some_and(|next| next.is_punct('(')) {
                    self.skip_parentheses();
                }
                return;
            }
            () if token.is("prepare") || token.is("declare") => {
                self.out.push(token.text);
                self.set(Mode::Other);
                return;
            }
            () if token.is("start") => {
                self.out.push(token.text);
                self.push_next_if("transaction");
                self.set(Mode::Other);
                return;
            }
            () if token.is_any(BARE) => (Mode::Other, Operation::Plain),
            () if token.is_any(&["create", "alter", "drop"]) => {
                self.definition(token);
                return;
            }
            () if token.is_any(&["truncate", "lock"]) => {
                self.out.push(token.text);
                self.skip(&["table"]);
                self.expect(Mode::Target { list: true }, Operation::Plain);
                return;
            }
            () if token.is_any(&["vacuum", "analyze", "analyse"]) => {
                self.out.push(token.text);
                if self.peek(0).is_some_and(|next| next.is_punct('(')) {
                    self.skip_parentheses();
                }
                self.expect(Mode::Target { list: true }, Operation::Plain);
                return;
            }
            () if token.is_any(&["copy", "call", "table", "cluster"]) => {
                self.out.push(token.text);
                self.expect(Mode::Target { list: false }, Operation::Plain);
                return;
            }
            () if token.is_any(&["refresh", "reindex", "import"]) => {
                self.definition(token);
                return;
            }
            () => {
                // Not a command of PostgreSQL: say nothing about it.
                self.expect(Mode::Other, Operation::None);
                return;
            }
        };
        self.out.push(token.text);
        self.expect(mode, operation);
    }

    /// Sets what the level is doing.
    fn expect(&mut self, mode: Mode, operation: Operation) {
        if let Some(level) = self.levels.last_mut() {
            *level = Level { mode, operation };
        }
    }

    /// `CREATE`, `ALTER`, `DROP` and their kin: the object's type and name.
    fn definition(&mut self, token: &Token<'a>) {
        self.out.push(token.text);
        self.expect(Mode::Other, Operation::Plain);
        self.skip(BEFORE_TYPE);
        if self.peek(0).is_some_and(|next| next.is_punct('(')) {
            self.skip_parentheses();
        }
        let Some(first) = self.peek(0).filter(|next| next.kind == Kind::Word) else { return };
        self.at += 1;
        self.out.push(first.text);
        let second = self.peek(0).filter(|second| TWO_WORDS.iter().any(|(a, b)| first.is(a) && second.is(b)));
        if let Some(second) = second {
            self.at += 1;
            self.out.push(second.text);
        }
        self.set(Mode::Target { list: token.is("drop") });
        if first.is("index") && token.is("create") {
            self.skip(BEFORE_NAME);
            let unnamed = self.peek(0).is_some_and(|next| next.is("on"));
            if !unnamed && let Some(name) = self.peek(0).copied().filter(Token::is_name) {
                self.at += 1;
                self.target(&name);
            }
            self.skip(&["on"]);
            self.set(Mode::Target { list: false });
        }
    }

    /// A word that starts no operation: a target, or a word that says what comes next.
    fn word(&mut self, token: &Token<'a>) {
        let Level { mode, operation } = self.level();
        let qualified = self.previous(1).is_some_and(|token| token.is_punct('.'));
        match mode {
            Mode::Target { .. } if token.is_any(BEFORE_NAME) || token.is_any(&["lateral", "rows"]) => {
                if token.is("rows") && !self.peek(0).is_some_and(|next| next.is("from")) {
                    self.target(token);
                    self.after_target(mode);
                }
            }
            Mode::Target { .. } if token.is("into") => {}
            // `FROM (VALUES …)` and `FROM (WITH …)` name no table here.
            Mode::Target { list: true } if token.is("values") => self.set(Mode::Other),
            Mode::Target { list: true } if token.is("with") && operation == Operation::Query => {
                self.expect(Mode::Start, Operation::None);
                self.operation(token);
            }
            Mode::Target { .. } => {
                self.target(token);
                self.after_target(mode);
            }
            Mode::Start => self.set(Mode::Other),
            Mode::List | Mode::Other => {
                if token.kind != Kind::Word || qualified {
                    return;
                }
                let query = matches!(operation, Operation::Query | Operation::Merge);
                match () {
                    () if token.is("join") && mode == Mode::List => self.set(Mode::Target { list: true }),
                    () if token.is("from") && query && !self.is_distinct_from() => {
                        self.set(Mode::Target { list: true })
                    }
                    () if token.is("into") && matches!(operation, Operation::Insert | Operation::Merge) => {
                        self.set(Mode::Target { list: false });
                    }
                    () if token.is("using")
                        && query
                        && !self.peek(0).is_some_and(|next| next.is_punct('(')) =>
                    {
                        self.set(Mode::Target { list: true });
                    }
                    () if token.is("using") && operation == Operation::Merge => {
                        self.set(Mode::Target { list: true })
                    }
                    () if mode == Mode::List && token.is("on") => {}
                    () if mode == Mode::List && token.is_any(AFTER_TARGETS) => self.set(Mode::Other),
                    () => {}
                }
            }
        }
    }

    /// `IS [NOT] DISTINCT FROM` compares; it opens no list of tables.
    fn is_distinct_from(&self) -> bool {
        self.previous(1).is_some_and(|token| token.is("distinct"))
            && self.previous(2).is_some_and(|token| token.is_any(&["is", "not"]))
    }

    fn after_target(&mut self, mode: Mode) {
        self.set(if mode == (Mode::Target { list: true }) { Mode::List } else { Mode::Other });
    }

    /// Adds the name that starts with `token`, with its qualifiers.
    fn target(&mut self, token: &Token<'a>) {
        let mut name = token.text.to_owned();
        while self.peek(0).is_some_and(|dot| dot.is_punct('.'))
            && let Some(part) = self.peek(1).filter(|part| part.is_name())
        {
            name.push('.');
            name.push_str(part.text);
            self.at += 2;
        }
        if !self.ctes.iter().any(|cte| cte.eq_ignore_ascii_case(&name)) {
            self.out.push(&name);
        }
    }

    /// Notes the names of `WITH [RECURSIVE] a [(…)] AS (…), b AS (…)`; their bodies are walked as usual.
    fn common_table_expressions(&mut self) {
        let mut depth = 0usize;
        let mut name_next = true;
        for token in self.tokens.get(self.at..).unwrap_or_default() {
            match token.kind {
                Kind::Punct('(') => depth += 1,
                Kind::Punct(')') if depth == 0 => break,
                Kind::Punct(')') => depth -= 1,
                Kind::Punct(',') if depth == 0 => name_next = true,
                Kind::Punct(';') => break,
                Kind::Word | Kind::Quoted if depth == 0 => {
                    if token.is_any(&["select", "insert", "update", "delete", "merge", "values"])
                        && !name_next
                    {
                        break;
                    }
                    if name_next && !token.is("recursive") {
                        self.ctes.push(token.text.to_owned());
                        name_next = false;
                    }
                }
                _ => {}
            }
        }
        self.expect(Mode::Other, Operation::None);
    }

    fn push_next_if(&mut self, keyword: &str) {
        if let Some(next) = self.peek(0).filter(|next| next.is(keyword)) {
            self.at += 1;
            self.out.push(next.text);
        }
    }

    fn skip(&mut self, words: &[&str]) {
        while self.peek(0).is_some_and(|next| next.is_any(words)) {
            self.at += 1;
        }
    }

    fn skip_parentheses(&mut self) {
        let mut depth = 0usize;
        while let Some(token) = self.peek(0) {
            self.at += 1;
            match token.kind {
                Kind::Punct('(') => depth += 1,
                Kind::Punct(')') if depth <= 1 => return,
                Kind::Punct(')') => depth -= 1,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(summary(text), expected, "{text}");
    }

    #[test]
    fn statements_name_their_targets() {
        check("select * from a, b c, d as e where f = 1", "select a b d");
        check(
            "SELECT 1 FROM \"song list\" s LEFT OUTER JOIN shop.\"x\" USING (id)",
            "SELECT \"song list\" shop.\"x\"",
        );
        check("UPDATE ONLY orders SET status = $1 FROM c WHERE c.id = orders.c", "UPDATE orders c");
        check("DELETE FROM orders o USING carts c WHERE o.id = c.o", "DELETE orders carts");
        check("INSERT INTO shop.orders (id, from_x) VALUES ($1, $2) RETURNING id", "INSERT shop.orders");
        check("INSERT INTO o (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", "INSERT o");
        check("MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN UPDATE SET x = 1", "MERGE a b");
        check("TRUNCATE TABLE a, b", "TRUNCATE a b");
        check("COPY orders (id) FROM STDIN", "COPY orders");
        check("COPY (SELECT * FROM orders) TO STDOUT", "COPY SELECT orders");
        check("CALL shop.settle($1)", "CALL shop.settle");
        check("LOCK TABLE orders IN SHARE MODE", "LOCK orders");
        check("VACUUM (ANALYZE) orders", "VACUUM orders");
        check("TABLE orders", "TABLE orders");
        check("SELECT * FROM generate_series(1, 10) g", "SELECT generate_series");
    }

    #[test]
    fn nested_queries_and_unions_are_kept_in_order() {
        check("SELECT a FROM x WHERE i IN (SELECT i FROM y) AND j = 1", "SELECT x SELECT y");
        check("SELECT a FROM x UNION ALL SELECT b FROM y", "SELECT x SELECT y");
        check("(SELECT a FROM x)", "SELECT x");
        check("SELECT (SELECT max(i) FROM y), b FROM x", "SELECT SELECT y x");
        check("SELECT * FROM (a JOIN b ON a.i = b.i) JOIN c ON true", "SELECT a b c");
        check("SELECT * FROM a, LATERAL (SELECT * FROM b) s, c", "SELECT a SELECT b c");
        check("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM a", "EXPLAIN SELECT a");
        check("PREPARE p1 AS UPDATE a SET b = $1", "PREPARE UPDATE a");
        check("DECLARE c17 CURSOR FOR SELECT * FROM a", "DECLARE SELECT a");
        check("CREATE TABLE a AS SELECT * FROM b", "CREATE TABLE a SELECT b");
        check("SELECT * FROM (VALUES (1), (2)) v, a", "SELECT a");
        check("SELECT * FROM (WITH n AS (SELECT 1 FROM a) SELECT * FROM n) v, b", "SELECT SELECT a SELECT b");
        check("VALUES (1), (2)", "VALUES");
    }

    #[test]
    fn common_table_expressions_are_not_targets() {
        check("WITH n AS (SELECT * FROM a) SELECT * FROM n JOIN b USING (i)", "SELECT a SELECT b");
        check(
            "WITH RECURSIVE t(i) AS (VALUES (1) UNION ALL SELECT i+1 FROM t), u AS MATERIALIZED (DELETE FROM a \
             RETURNING *) INSERT INTO b SELECT * FROM u",
            "SELECT DELETE a INSERT b SELECT",
        );
    }

    #[test]
    fn from_inside_functions_is_no_list_of_tables() {
        check("SELECT extract(year FROM made_at), trim(both 'x' from n) FROM orders", "SELECT orders");
        check("SELECT a IS DISTINCT FROM b FROM c WHERE d IS NOT DISTINCT FROM e", "SELECT c");
        check("SELECT * FROM a WHERE x = 1 FOR UPDATE OF b", "SELECT a");
        check("SELECT a.from_, update FROM t ORDER BY delete, insert", "SELECT t");
    }

    #[test]
    fn names_made_at_run_time_are_left_out() {
        for (text, expected) in [
            ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN"),
            ("START TRANSACTION READ ONLY", "START TRANSACTION"),
            ("COMMIT", "COMMIT"),
            ("ROLLBACK TO SAVEPOINT s17", "ROLLBACK"),
            ("SAVEPOINT s17", "SAVEPOINT"),
            ("EXECUTE p17 ('secret')", "EXECUTE"),
            ("FETCH FORWARD 100 FROM c17", "FETCH"),
            ("SET search_path TO shop", "SET"),
            ("NOTIFY ch, 'secret'", "NOTIFY"),
            ("DO $$ SELECT secret $$", "DO"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn definitions_name_type_and_object() {
        check(
            "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON shop.orders (a)",
            "CREATE INDEX i shop.orders",
        );
        check("CREATE INDEX ON orders (a)", "CREATE INDEX orders");
        check("CREATE OR REPLACE VIEW v AS SELECT * FROM orders", "CREATE VIEW v SELECT orders");
        check("DROP TABLE IF EXISTS a, b CASCADE", "DROP TABLE a b");
        check("CREATE TEMP TABLE t (a int REFERENCES orders ON DELETE CASCADE)", "CREATE TABLE t");
        check("REFRESH MATERIALIZED VIEW CONCURRENTLY v", "REFRESH MATERIALIZED VIEW v");
        check("ALTER ROLE joe PASSWORD 'secret'", "ALTER ROLE joe");
    }

    #[test]
    fn what_is_no_statement_has_no_summary() {
        for text in ["", " -- x", ";", "hello world", "'a'", "17"] {
            check(text, "");
        }
        check("; SELECT 1; DELETE FROM a", "SELECT DELETE a");
    }

    #[test]
    fn a_summary_ends_before_the_name_that_does_not_fit() {
        let many: Vec<String> = (0..60).map(|i| format!("table_{i}")).collect();
        let found = summary(&format!("SELECT * FROM {}", many.join(", ")));
        assert!(found.len() <= MAX_SUMMARY_CHARS && found.len() > MAX_SUMMARY_CHARS - 10, "{}", found.len());
        assert!(found.split(' ').skip(1).all(|name| many.iter().any(|known| known == name)), "{found}");
        assert_eq!(summary(&format!("SELECT * FROM {}", "x".repeat(300))), "SELECT");
    }
}
