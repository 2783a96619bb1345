//! `spoor-serve` as a process, as whoever runs it has it.

mod alerts;
mod browser;
mod kept;
mod killed;
mod server;
mod tools;
