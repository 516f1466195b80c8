//! The `keystile` program: everything is in the library.

use std::process::ExitCode;

/// Small records by the million, freed on other threads than they were made on: mimalloc fragments least.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keystile::cli::run(std::env::args_os())
}
