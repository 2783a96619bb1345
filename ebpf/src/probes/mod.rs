//! The programs: one function per hook, each a few lines around the shared routines.

#[cfg(not(feature = "untyped"))]
mod function_exit;
#[cfg(feature = "untyped")]
mod function_probe;
mod process;
#[cfg(not(feature = "untyped"))]
mod socket_length;
mod state;
#[cfg(feature = "untyped")]
mod syscall_exit;
