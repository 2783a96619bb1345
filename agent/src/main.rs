//! The `spoor` command.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    spoor::cli::main()
}
