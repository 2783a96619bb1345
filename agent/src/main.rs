//! The `spoor` command.

#![forbid(unsafe_code)]

/// Spans are many small allocations, freed in another order than made and by another thread.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    spoor::cli::main()
}
