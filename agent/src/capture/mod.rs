//! The live kernel: the eBPF object → [`Record`](spoor_core::record::Record)s, verdicts back.
//!
//! *Owns* loading and attaching the programs ([`load`], [`attach`]), where fields lie in this kernel
//! ([`offsets`]), reading the rings ([`ring`]), the layouts' meaning ([`decode`]), verdicts and counters, whose tasks are followed ([`follow`]), of
//! whom is copied what a stack points to ([`look`]), what the kernel side says in the log ([`log`]), and what `spoor doctor` says about all this ([`doctor`]). Only this module
//! names `aya`.
//! *Must not know* protocols.

pub mod attach;
pub mod btf;
pub mod decode;
pub mod doctor;
pub mod error;
pub mod follow;
mod jumps;
pub mod load;
pub mod log;
pub mod look;
pub mod offsets;
pub mod ring;
pub mod system;
pub mod verdict;

pub use error::CaptureError;
pub use load::{Capture, Options};
