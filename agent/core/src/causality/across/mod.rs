//! Operations at both ends of something → edges between processes.
//!
//! *Owns* what needs no look inside a process: both ends of a connection ([`wire`]), a message's way through a broker
//! ([`message`]), and which other agents there are ([`covered`]). *Must not know* threads, nor who was doing what.

pub mod covered;
pub mod message;
pub mod wire;
