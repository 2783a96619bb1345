//! SQL text → tokens. Every byte of the text belongs to exactly one token.
//!
//! The text may be cut anywhere: a literal, quoted name or comment without an end runs to the end of the text. One pass,
//! each byte is looked at a bounded number of times.
//!
//! *Owns* PostgreSQL's lexical rules. *Must not know* statements.
//! *Spec*: PostgreSQL documentation, section 4.1 "Lexical Structure".

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Blanks and line ends.
    Space,
    /// `-- …` without its line end, or `/* … */`, nested.
    Comment,
    /// A name without quotes, or a keyword.
    Word,
    /// A name in double quotes, also `U&"…"`.
    Quoted,
    /// An unsigned number, in any base, with what is glued to it.
    Number,
    /// `'…'`, `E'…'`, `N'…'`, `U&'…'`, `$tag$…$tag$`.
    Text,
    /// `B'…'` or `X'…'`.
    Bits,
    /// `$n`; 0 when `n` is no parameter number.
    Parameter(u16),
    /// One operator, longest match with PostgreSQL's exceptions for a trailing sign.
    Operator,
    /// `::`
    Cast,
    /// One of `( ) [ ] , ; . :` or any other character.
    Punct(char),
}

/// A token and where it starts in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub at: usize,
}

impl Token<'_> {
    /// It is this keyword (given in any case), not quoted.
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// It is one of these keywords, not quoted.
    pub fn is_any(&self, keywords: &[&str]) -> bool {
        self.kind == Kind::Word && keywords.iter().any(|keyword| self.text.eq_ignore_ascii_case(keyword))
    }

    /// It is this character.
    pub fn is_punct(&self, c: char) -> bool {
        self.kind == Kind::Punct(c)
    }

    /// It is this operator.
    pub fn is_operator(&self, operator: &str) -> bool {
        self.kind == Kind::Operator && self.text == operator
    }

    /// It can be a name.
    pub fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted)
    }

    /// It carries meaning: neither blank nor comment.
    pub fn is_significant(&self) -> bool {
        !matches!(self.kind, Kind::Space | Kind::Comment)
    }

    /// Position after its last byte.
    pub fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

/// The tokens of a text. Iterates; the concatenation of all tokens is the text.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
    escapes: bool,
}

/// Splits a text into tokens.
pub fn tokens(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0, escapes: false }
}

/// Splits a text of a connection with `standard_conforming_strings` off: a backslash escapes in `'…'` too.
pub fn tokens_with_escapes(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0, escapes: true }
}

/// The tokens of a text that carry meaning, in a list.
pub fn significant_list(text: &str) -> Vec<Token<'_>> {
    // Of nearly every text they are fewer: the list does not grow.
    let mut list = Vec::with_capacity((text.len() / 3 + 1).min(256));
    list.extend(significant(text));
    list
}

/// The tokens of a text that carry meaning.
pub fn significant(text: &str) -> impl Iterator<Item = Token<'_>> {
    tokens(text).filter(Token::is_significant)
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (kind, len) = scan(rest, self.escapes);
        // Every rule ends at an ASCII character or at the end; should one not, the token grows to the next character.
        let mut len = len.clamp(1, rest.len());
        while !rest.is_char_boundary(len) {
            len += 1;
        }
        let token = Token { kind, text: &rest[..len], at: self.at };
        self.at += len;
        Some(token)
    }
}

/// Kind and length in bytes of the token at the start of `rest`, which is not empty.
fn scan(rest: &str, escapes: bool) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    match at(0) {
        b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => (Kind::Space, run(bytes, 0, is_space)),
        b'-' if at(1) == b'-' => (Kind::Comment, memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len())),
        b'/' if at(1) == b'*' => (Kind::Comment, block_comment(bytes)),
        b'\'' => (Kind::Text, literal_text(bytes, 1, escapes)),
        b'"' => (Kind::Quoted, quoted(bytes, 1, b'"', false)),
        b'e' | b'E' if at(1) == b'\'' => (Kind::Text, literal_text(bytes, 2, true)),
        b'n' | b'N' if at(1) == b'\'' => (Kind::Text, literal_text(bytes, 2, escapes)),
        b'b' | b'B' | b'x' | b'X' if at(1) == b'\'' => (Kind::Bits, quoted(bytes, 2, b'\'', false)),
        b'u' | b'U' if at(1) == b'&' && at(2) == b'\'' => (Kind::Text, quoted(bytes, 3, b'\'', false)),
        b'u' | b'U' if at(1) == b'&' && at(2) == b'"' => (Kind::Quoted, quoted(bytes, 3, b'"', false)),
        b'0'..=b'9' => (Kind::Number, number(bytes)),
        b'.' if at(1).is_ascii_digit() => (Kind::Number, number(bytes)),
        b'$' if at(1).is_ascii_digit() => {
            let len = run(bytes, 1, |byte| byte.is_ascii_digit());
            (Kind::Parameter(rest.get(1..len).and_then(|n| n.parse().ok()).unwrap_or(0)), len)
        }
        b'$' => match dollar_quoted(bytes) {
            Some(len) => (Kind::Text, len),
            None => (Kind::Punct('$'), 1),
        },
        b':' if at(1) == b':' => (Kind::Cast, 2),
        byte if is_operator(byte) => (Kind::Operator, operator(bytes)),
        byte if is_word_start(byte) => (Kind::Word, run(bytes, 1, is_word)),
        _ => (Kind::Punct(rest.chars().next().unwrap_or(' ')), rest.chars().next().map_or(1, char::len_utf8)),
    }
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Letters, underscore and everything outside ASCII (section 4.1.1).
fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?".contains(&byte)
}

/// The end of the run of bytes from `from` for which `holds`.
fn run(bytes: &[u8], from: usize, holds: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !holds(*byte)).unwrap_or(rest.len())
}

/// The end of a quoted text whose content starts at `from`. A doubled quote stands for one; with `escapes` a
/// backslash hides the next byte (section 4.1.2.2).
fn quoted(bytes: &[u8], from: usize, quote: u8, escapes: bool) -> usize {
    let mut i = from;
    while let Some(rest) = bytes.get(i..) {
        let found = if escapes { memchr::memchr2(quote, b'\\', rest) } else { memchr::memchr(quote, rest) };
        let Some(found) = found else { break };
        i += found;
        if bytes.get(i) == Some(&b'\\') || bytes.get(i + 1) == Some(&quote) {
            i += 2;
        } else {
            return i + 1;
        }
    }
    bytes.len()
}

/// The end of a text literal, with the parts of it that stand on further lines: they are read as the first is (section 4.1.2.1).
fn literal_text(bytes: &[u8], from: usize, escapes: bool) -> usize {
    let mut end = quoted(bytes, from, b'\'', escapes);
    while let Some(next) = continued(bytes, end) {
        end = quoted(bytes, next, b'\'', escapes);
    }
    end
}

/// Where the content of a literal's next part begins: behind blanks, comments and at least one end of a line.
fn continued(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut has_line_end = false;
    loop {
        match bytes.get(at)? {
            b'\n' | b'\r' => {
                has_line_end = true;
                at += 1;
            }
            byte if is_space(*byte) => at += 1,
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at += memchr::memchr2(b'\n', b'\r', bytes.get(at..)?)?;
            }
            b'\'' if has_line_end => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The end of a block comment. They nest (section 4.1.5).
fn block_comment(bytes: &[u8]) -> usize {
    let mut depth = 1usize;
    let mut i = 2;
    while let Some(found) = memchr::memchr2(b'*', b'/', bytes.get(i..).unwrap_or_default()) {
        i += found;
        match (bytes.get(i), bytes.get(i + 1)) {
            (Some(b'*'), Some(b'/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            (Some(b'/'), Some(b'*')) => {
                depth += 1;
                i += 2;
            }
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The length of `$tag$ … $tag$`; `None` when this is no opening tag (section 4.1.2.4).
fn dollar_quoted(bytes: &[u8]) -> Option<usize> {
    let tag_start = *bytes.get(1)?;
    if tag_start != b'$' && !is_word_start(tag_start) {
        return None;
    }
    let tag_end = run(bytes, 1, |byte| byte != b'$' && is_word(byte));
    if bytes.get(tag_end) != Some(&b'$') {
        return None;
    }
    let tag = bytes.get(..=tag_end)?;
    let body = bytes.get(tag_end + 1..)?;
    Some(memchr::memmem::find(body, tag).map_or(bytes.len(), |found| tag_end + 1 + found + tag.len()))
}

/// The end of a number: digits, fraction, exponent, other bases, and letters glued to it (section 4.1.2.6).
fn number(bytes: &[u8]) -> usize {
    let glued = |from| run(bytes, from, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80);
    let based = bytes.first() == Some(&b'0') && bytes.get(1).is_some_and(|b| b"xXoObB".contains(b));
    if based {
        return glued(1);
    }
    let digits = |from| run(bytes, from, |byte| byte.is_ascii_digit() || byte == b'_');
    let mut end = digits(0);
    // `1..10` is a range, not a fraction.
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1 + sign);
        }
    }
    glued(end)
}

/// Longest operator (section 4.1.3): `NAMEDATALEN` less one.
const MAX_OPERATOR_LEN: usize = 63;

/// The end of an operator: it stops before a comment, and does not end in a sign unless it has one of the characters
/// that SQL's own operators lack (section 4.1.3).
fn operator(bytes: &[u8]) -> usize {
    // No more than a name's length is looked at, so that a run of signs, each of them a token, costs no more than its length.
    let bytes = bytes.get(..MAX_OPERATOR_LEN).unwrap_or(bytes);
    let mut end = run(bytes, 0, is_operator);
    let run_of = bytes.get(..end).unwrap_or_default();
    if let Some(comment) = run_of.windows(2).position(|pair| pair == b"--" || pair == b"/*") {
        end = comment.max(1);
    }
    let own = bytes.get(..end).is_some_and(|run| run.iter().any(|byte| b"~!@#%^&|`?".contains(byte)));
    while !own && end > 1 && matches!(bytes.get(end - 1), Some(b'+' | b'-')) {
        end -= 1;
    }
    end
}

/// What a name means: quotes removed, or folded to lower case when there were none.
pub fn name(token: &Token<'_>) -> String {
    match token.kind {
        Kind::Quoted => {
            let inner = token.text.trim_start_matches(['u', 'U']).trim_start_matches('&');
            let inner = inner.strip_prefix('"').unwrap_or(inner);
            inner.strip_suffix('"').unwrap_or(inner).replace("\"\"", "\"")
        }
        _ => token.text.to_lowercase(),
    }
}

/// What a text literal stands for. `None`: it is no text literal, or its escapes make no text.
pub fn literal(token: &Token<'_>) -> Option<String> {
    if token.kind != Kind::Text {
        return None;
    }
    let text = token.text;
    if text.starts_with('$') {
        let tag_len = text.get(1..)?.find('$')? + 2;
        let (tag, body) = text.split_at(tag_len);
        return Some(body.strip_suffix(tag).unwrap_or(body).to_owned());
    }
    let quote = text.find('\'')?;
    if quoted(text.as_bytes(), quote + 1, b'\'', text.starts_with(['e', 'E'])) < text.len() {
        // Parts on several lines.
        return None;
    }
    let (prefix, body) = text.split_at(quote);
    let body = body.strip_prefix('\'')?;
    let body = body.strip_suffix('\'').unwrap_or(body).replace("''", "'");
    match prefix {
        "e" | "E" => unescape(&body),
        "u&" | "U&" if body.contains('\\') => None,
        _ => Some(body),
    }
}

/// Resolves the escapes of `E'…'` (table 4.1).
fn unescape(body: &str) -> Option<String> {
    let mut out = String::with_capacity(body.len());
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escaped = chars.next()?;
        let (radix, most, first) = match escaped {
            'x' => (16, 2, None),
            'u' => (16, 4, None),
            'U' => (16, 8, None),
            '0'..='7' => (8, 3, escaped.to_digit(8)),
            _ => {
                out.push(match escaped {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                });
                continue;
            }
        };
        let mut value = first.unwrap_or(0);
        let mut taken = usize::from(first.is_some());
        while let Some(digit) = chars.peek().filter(|_| taken < most).and_then(|c| c.to_digit(radix)) {
            value = value.checked_mul(radix)?.checked_add(digit)?;
            taken += 1;
            chars.next();
        }
        out.push(char::from_u32(value).filter(|_| taken > 0)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[(Kind, &str)]) {
        let found: Vec<_> = significant(text).map(|token| (token.kind, token.text)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn each_lexical_form_is_one_token() {
        use Kind::*;
        check("ab_c$1 Ünï", &[(Word, "ab_c$1"), (Word, "Ünï")]);
        check(r#""a ""b" U&"d!0061""#, &[(Quoted, r#""a ""b""#), (Quoted, r#"U&"d!0061""#)]);
        check(
            "1 1.5 .5 1e9 1.5E-3 0x1F 1_000 1.",
            &[
                (Number, "1"),
                (Number, "1.5"),
                (Number, ".5"),
                (Number, "1e9"),
                (Number, "1.5E-3"),
                (Number, "0x1F"),
                (Number, "1_000"),
                (Number, "1."),
            ],
        );
        check("1..2", &[(Number, "1"), (Punct('.'), "."), (Number, ".2")]);
        check("12abc", &[(Number, "12abc")]);
        check(
            r"'it''s' 'a\' E'a\'b' N'n' U&'u'",
            &[(Text, "'it''s'"), (Text, r"'a\'"), (Text, r"E'a\'b'"), (Text, "N'n'"), (Text, "U&'u'")],
        );
        check("B'01' x'1F'", &[(Bits, "B'01'"), (Bits, "x'1F'")]);
        check("$$a'b$$ $t$a$$b$t$", &[(Text, "$$a'b$$"), (Text, "$t$a$$b$t$")]);
        check(
            "$1 $12 $99999 $x",
            &[
                (Parameter(1), "$1"),
                (Parameter(12), "$12"),
                (Parameter(0), "$99999"),
                (Punct('$'), "$"),
                (Word, "x"),
            ],
        );
        check(
            "a::int[1]",
            &[(Word, "a"), (Cast, "::"), (Word, "int"), (Punct('['), "["), (Number, "1"), (Punct(']'), "]")],
        );
        check("a -- 'x\nb /* 'y /* z */ */ c", &[(Word, "a"), (Word, "b"), (Word, "c")]);
    }

    #[test]
    fn operators_end_before_signs_and_comments() {
        use Kind::*;
        check("a=-1", &[(Word, "a"), (Operator, "="), (Operator, "-"), (Number, "1")]);
        check("a<=b", &[(Word, "a"), (Operator, "<="), (Word, "b")]);
        check("a@-b", &[(Word, "a"), (Operator, "@-"), (Word, "b")]);
        check("a->>'k'", &[(Word, "a"), (Operator, "->>"), (Text, "'k'")]);
        check("a*--x\nb", &[(Word, "a"), (Operator, "*"), (Word, "b")]);
        check("a+/*x*/b", &[(Word, "a"), (Operator, "+"), (Word, "b")]);
    }

    #[test]
    fn text_cut_inside_a_token_runs_to_the_end() {
        use Kind::*;
        for cut in ["'abc", "E'ab\\'", "$t$abc$t", "U&'x", "'a''"] {
            check(cut, &[(Text, cut)]);
        }
        check("\"ab", &[(Quoted, "\"ab")]);
        check("/* a /* b */", &[]);
        check("-- a", &[]);
    }

    #[test]
    fn literals_are_unquoted() {
        let value = |text: &str| tokens(text).next().and_then(|token| literal(&token));
        assert_eq!(value("'it''s'").as_deref(), Some("it's"));
        assert_eq!(value(r"'a\n'").as_deref(), Some(r"a\n"));
        assert_eq!(value(r"E'a\n\'\x41\101\u0042\\'").as_deref(), Some("a\n'AAB\\"));
        assert_eq!(value("$q$it's$q$").as_deref(), Some("it's"));
        assert_eq!(value(r"U&'\0061'"), None);
        assert_eq!(value(r"E'\UFFFFFFFF'"), None);
        assert_eq!(value("17"), None);
    }

    #[test]
    fn names_fold_unless_quoted() {
        let name_of = |text: &str| tokens(text).next().map(|token| name(&token));
        assert_eq!(name_of("Orders").as_deref(), Some("orders"));
        assert_eq!(name_of(r#""Order ""Line""#).as_deref(), Some(r#"Order "Line"#));
    }

    proptest! {
        #[test]
        fn tokens_tile_any_text(text in r#"([a-zé0-9$'"./*\\+\-:=() \n]|--|/\*|E'|\$t\$){0,60}"#) {
            let joined: String = tokens(&text).map(|token| token.text).collect();
            prop_assert_eq!(joined, text.clone());
            for token in tokens(&text) {
                let _ = (name(&token), literal(&token));
            }
        }

        #[test]
        fn tokens_tile_any_unicode(text in ".{0,40}") {
            let joined: String = tokens(&text).map(|token| token.text).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
