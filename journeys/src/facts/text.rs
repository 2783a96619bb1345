//! Foreign text → text of bounded length that cannot play tricks on a reader.
//!
//! Escaping is the pages' business; what no page, terminal or log should ever get is removed here, once.

/// At most so many characters of `text`, without control characters and without the marks that turn the direction of
/// writing (Unicode, UAX #9), with which `gpj.exe` is shown as `exe.jpg`.
pub(super) fn tidy(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(max_chars).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
