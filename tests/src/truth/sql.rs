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
    without_truths(&out)
}

/// `TRUE` and `FALSE` are literals, too, but not in `IS TRUE`.
fn without_truths(text: &str) -> String {
    let mut before = "";
    let words = text.split(' ').map(|word| {
        let end = word.trim_start_matches(|c: char| c.is_alphabetic());
        let bare = word.strip_suffix(end).unwrap_or(word);
        let is_value = ["true", "false"].iter().any(|truth| bare.eq_ignore_ascii_case(truth));
        let is_test = ["is", "not"].iter().any(|test| before.eq_ignore_ascii_case(test));
        before = word;
        if is_value && !is_test { format!("?{end}") } else { word.to_owned() }
    });
    words.collect::<Vec<String>>().join(" ")
}
