//! What is known → what may leave the process.
//!
//! | file | question it answers |
//! |---|---|
//! | `numbers`, `personal` | does a text tell of a person? |
//! | `secret` | does a name, or a text, carry credentials? |
//! | `redact` | what stays of a path, a query, a URL, a text? |
//! | `messages` | what stays of an error that a server tells? |
//! | `pseudonym` | what stands for keys that are not to leave? |
//! | `last_look` | which texts of a finished span are looked at, and how? |
//!
//! SQL loses its literals in [`crate::sql::sanitize`]. A span goes through [`look`] when it is built and through
//! [`Pseudonyms::apply`](pseudonym::Pseudonyms::apply) when it is placed; nothing else leaves.
//! *Owns* what counts as personal or secret. *Must not know* where texts come from, nor where they go.

mod last_look;
pub mod messages;
mod numbers;
mod personal;
pub mod pseudonym;
pub mod redact;
mod secret;
mod signs;

pub use self::last_look::{Outgoing, look};
pub use self::numbers::{NO_KEYS, Own, is_same};
pub use self::personal::is_personal;
pub(crate) use self::secret::{MAX_FIELD, is_harmless_field, is_secret_header};
pub use self::secret::{hides, is_secret};

/// What a process declares of itself (`OTEL_RESOURCE_ATTRIBUTES`) may be shown.
pub fn may_declare(name: &str, value: &str) -> bool {
    !is_secret(name) && !is_telling(value)
}

/// It tells a terminal or a page to do something instead of standing for itself: control characters, and marks without a width
/// that turn the direction of writing (Unicode, UAX #9) or hide, with which `gpj.exe` is shown as `exe.jpg`.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// A span would not show the text as it is: it tells of a person, or holds a secret.
pub fn is_telling(text: &str) -> bool {
    redact::text(text, NO_KEYS) != text
}
