//! What is known → what may leave the process.
//!
//! *Owns* what counts as personal or secret. *Must not know* where texts come from, nor where they go.

mod personal;
pub mod pseudonym;
pub mod redact;
mod secret;

pub use self::personal::is_personal;
pub use self::secret::is_secret;
pub(crate) use self::secret::{MAX_FIELD, is_harmless_field, is_secret_header};
