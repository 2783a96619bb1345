//! Rust source → its code without comments and literals, and the paths that code names.
//!
//! No parser: a lexer that knows comments, strings and characters, and the shape of `use` trees.

/// The source with comments and the insides of literals replaced by blanks; line breaks stay.
pub(super) fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let len = literal_len(rest, out.chars().last());
        if len == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[len..];
        }
    }
    out
}

/// Length of the comment or literal that `text` starts with; 0 when it starts with code.
fn literal_len(text: &str, before: Option<char>) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment_len(text);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && let Some(len) = raw_string_len(text) {
        return len;
    }
    if let Some(inside) = text.strip_prefix('"') {
        return 1 + quoted_len(inside, '"');
    }
    if let Some(inside) = text.strip_prefix('\'') {
        // `'a'` and `'\n'` are characters, `'a` alone is a lifetime.
        let mut chars = inside.char_indices();
        let first = chars.next().map(|(_, c)| c);
        let second = chars.next();
        return match (first, second) {
            (Some('\\'), _) => 1 + quoted_len(inside, '\''),
            (Some(_), Some((at, '\''))) => 1 + at + 1,
            _ => 0,
        };
    }
    0
}

fn block_comment_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`.
fn raw_string_len(text: &str) -> Option<usize> {
    let after = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let prefix = text.len() - inside.len();
    Some(inside.find(&close).map_or(text.len(), |at| prefix + at + close.len()))
}

/// Length up to and with the closing `quote`, over escapes.
fn quoted_len(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    inside.len()
}

/// Code up to the first `#[cfg(test)]`: tests come last and may do what the code may not.
pub(super) fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]").map_or(code, |at| &code[..at])
}

/// Every path the code names, with its line from 1: `use` trees are spelled out, single words are paths of one.
pub(super) fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let tokens = tokens(code);
    let mut at = 0;
    while let Some(&(line, token)) = tokens.get(at) {
        if !is_word(token) {
            at += 1;
        } else if token == "use" {
            at = tree(&tokens, at + 1, "", &mut found);
        } else {
            let mut path = token.to_owned();
            at += 1;
            while let [(_, "::"), (_, word)] = tokens.get(at..at + 2).unwrap_or_default()
                && is_word(word)
            {
                path.push_str("::");
                path.push_str(word);
                at += 2;
            }
            found.push((line, path));
        }
    }
    found
}

/// Reads one branch of a `use` tree from `at`; the index after it.
fn tree(tokens: &[(usize, &str)], mut at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let mut path = prefix.to_owned();
    let mut line = tokens.get(at).map_or(1, |token| token.0);
    while let Some(&(here, token)) = tokens.get(at) {
        match token {
            "::" => {}
            "{" => {
                at += 1;
                while let Some(&(_, token)) = tokens.get(at) {
                    match token {
                        "}" => return at + 1,
                        "," => at += 1,
                        _ => at = tree(tokens, at, &path, found),
                    }
                }
                return at;
            }
            "as" => at += 1,
            word if is_word(word) || word == "*" => {
                line = here;
                let step = if path.is_empty() { "" } else { "::" };
                path = format!("{path}{step}{word}");
            }
            // `,`, `}` or `;` end the branch and belong to the caller.
            _ => break,
        }
        at += 1;
    }
    if path != prefix {
        found.push((line, path));
    }
    at
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single signs, with their lines.
pub(super) fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let len = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                found.push((number + 1, &rest[..len]));
            }
            rest = &rest[len..];
        }
    }
    found
}

/// `path` is `start`, lies below it, or is a crate of its family (`opentelemetry_sdk` of `opentelemetry`).
pub(super) fn begins(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with("::") || (start == "opentelemetry" && rest.starts_with('_'))
    })
}

/// The lower-case words of an identifier: `parse_httpHeader` is `parse`, `http`, `header`.
pub(super) fn words(identifier: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut was_lower = false;
    for c in identifier.chars() {
        let starts = found.is_empty() || !c.is_alphanumeric() || (c.is_uppercase() && was_lower);
        was_lower = c.is_lowercase() || c.is_numeric();
        if starts {
            found.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(last) = found.last_mut()
        {
            last.extend(c.to_lowercase());
        }
    }
    found.retain(|word| !word.is_empty());
    found
}
