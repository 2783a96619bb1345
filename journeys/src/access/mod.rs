//! Requests → who asks, from where, whether they may, and a line in the log.
//!
//! *Owns* people, sessions, tokens, addresses, and the log that says who saw what. *Must not know* orders: what was shown
//! is told to it by the pages (`Shown`).
//!
//! ```text
//! address ─▶ identity ─▶ may they? ─▶ same origin, form token ─▶ page ─▶ line in the log ─▶ answer
//! ```
//!
//! One gate stands before all routes, and each route names what it does. A route that does not is never answered.

mod address;
mod directory;
mod gate;
mod log;
mod oidc;
mod password;
mod proxy;
mod role;
mod sign_in;
mod slow_down;

pub use self::address::Addresses;
pub use self::directory::{Directory, DirectoryError};
pub use self::gate::{Gate, Who};
pub(crate) use self::gate::{Shown, cookie, gate, guarded};
pub use self::log::{AccessLog, Entry, LogError, LogReader, Wanted};
pub use self::oidc::{Oidc, OidcError, OidcSettings};
pub use self::proxy::{ProxyError, ProxySignOn};
pub use self::role::{Action, Role, allow};
pub(crate) use self::sign_in::router;
