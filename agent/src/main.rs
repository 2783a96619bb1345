//! The `spoor` command.

#![forbid(unsafe_code)]

/// Spans are many small allocations, freed in another order than made: a third of the core's time with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    spoor::cli::main()
}
