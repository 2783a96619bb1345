//! The command line → `spoor-serve`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    spoor_journeys::cli::main()
}
