//! The command line in, `spoor-serve` out.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    spoor_journeys::cli::main()
}
