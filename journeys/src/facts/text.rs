//! Foreign text → text of bounded length that cannot play tricks on a reader.
//!
//! Escaping is the pages' business; what no page, terminal or log should ever get is removed here, once.

/// At most so many characters of `text`, without control characters and without the marks that turn the direction of
/// writing (Unicode, UAX #9), with which `gpj.exe` is shown as `exe.jpg`.
pub(crate) fn tidy(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(max_chars).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` with `…` for a word, wherever it stands alone; `None` when it does not stand there.
pub(crate) fn without_word(text: &str, word: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut found = false;
    while let Some((before, behind)) = rest.split_once(word).filter(|_| !word.is_empty()) {
        let last = before.chars().next_back().or_else(|| out.chars().next_back());
        let joins = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !joins(last) && !joins(behind.chars().next());
        out.push_str(before);
        out.push_str(if alone { "…" } else { word });
        found |= alone;
        rest = behind;
    }
    out.push_str(rest);
    found.then_some(out)
}

/// Letters and digits of one number stand in at most so many groups: those of a UUID are five.
const MAX_GROUPS: usize = 5;

/// The words of a text that may be somebody's number, alone or joined: `GET /user-42.x` has `GET`, `user`, `user-42`,
/// `user-42.x`, `42`, `42.x` and `x`.
pub(super) fn words(text: &str) -> Vec<&str> {
    let joins = |c: char| matches!(c, '-' | '_' | '.' | '@' | '+');
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (at, c) in text.char_indices().filter(|(_, c)| c.is_alphanumeric()) {
        match groups.last_mut().filter(|(_, end)| *end == at) {
            Some((_, end)) => *end += c.len_utf8(),
            None => groups.push((at, at + c.len_utf8())),
        }
    }
    let mut words = Vec::new();
    for (first, (from, _)) in groups.iter().enumerate() {
        let mut end_before = None;
        for (start, end) in groups.iter().skip(first).take(MAX_GROUPS) {
            let between = end_before.and_then(|before| text.get(before..*start)).unwrap_or("");
            if !between.chars().all(joins) {
                break;
            }
            words.extend(text.get(*from..*end));
            end_before = Some(*end);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_leaves_a_text_where_it_stands_alone() {
        for (text, expected) in [
            ("user user-42 is blocked", Some("user … is blocked")),
            ("user-42", Some("…")),
            ("user-421 and xuser-42", None),
            ("user-42user-42", None),
            ("user-42/user-42", Some("…/…")),
            ("", None),
        ] {
            assert_eq!(without_word(text, "user-42").as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn words_of_a_text_are_what_may_be_a_number() {
        let found = words("GET /user-42.x?mail=a.b@house.example, «Анна-7».");
        for word in
            ["GET", "user", "user-42", "user-42.x", "42", "x", "a.b@house.example", "house.example", "Анна-7"]
        {
            assert!(found.contains(&word), "{word}: {found:?}");
        }
        assert!(found.iter().all(|word| !word.contains([' ', '/', '«'])), "{found:?}");
        let uuid = "0191f0aa-77b0-7cc2-9d54-4f1f2d1b9a51";
        assert!(words(&format!("user/{uuid}.json")).contains(&uuid));
        assert!(words(&"a.".repeat(1_000)).len() <= 5_000, "so many for each group of letters");
        assert_eq!(words(" /-_/ "), Vec::<&str>::new());
    }

    #[test]
    fn control_characters_and_turned_writing_leave() {
        for (given, kept) in [
            ("priced", "priced"),
            ("pri\u{0}ced\n", "priced"),
            ("\u{202e}gnp.exe", "gnp.exe"),
            ("готов", "готов"),
            ("0123456789abcdefXYZ", "0123456789abcdef"),
        ] {
            assert_eq!(tidy(given, 16), kept, "{given:?}");
        }
    }
}
