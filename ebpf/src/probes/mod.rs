//! The programs: one function per hook, each a few lines around the shared routines.

mod process;
mod socket_length;
mod state;
