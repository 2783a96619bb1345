//! SQL text → its shape without values: statements of a log and of a span compare equal by it.
//!
//! Not the agent's sanitiser on purpose: what is compared must not share its mistakes.

/// Literals, numbers and placeholders become `?`, white space one blank.
pub(super) fn shape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.trim().trim_end_matches(';').chars().peekable();
    while let Some(c) = chars.next() {
        let in_word = out.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_');
        match c {
            '\'' => {
                while let Some(inside) = chars.next() {
                    if inside == '\'' && chars.next_if_eq(&'\'').is_none() {
                        break;
                    }
                }
                out.push('?');
            }
            '$' | '0'..='9' if !in_word => {
                while chars.next_if(|next| next.is_alphanumeric() || *next == '.').is_some() {}
                out.push('?');
            }
            c if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}
