//! The command line in, `spoor-serve` out.

#![forbid(unsafe_code)]

fn main() {}
