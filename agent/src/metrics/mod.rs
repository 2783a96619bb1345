//! Counts of all stages and durations of finished spans → what the agent says of itself in numbers.
//!
//! ```text
//!   run: readings ─▶ ╭ Board ╮ ─▶ prometheus ─▶ server: /metrics, /live, /ready
//!   durations ─────▶ ╰───────╯ ─▶ export: OTLP metrics
//! ```
//!
//! *Owns* the names, units and labels of all metrics, the [`Board`] on which the newest numbers stand, and the port that shows
//! them. *Must not know* how numbers are sent: [`export`](crate::export) takes them from the board.

mod board;
pub mod durations;
pub mod prometheus;
pub mod readings;
mod series;
pub mod server;

pub use board::Board;
pub use server::Server;
