//! The `keystile` program: everything is in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Small records by the million, freed on other threads than they were made on: mimalloc fragments least. Each piece is
/// wiped when it is freed: tokens pass through buffers of HTTP, gRPC and JSON that are not ours to wipe.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

pub(crate) fn main() -> ExitCode {
    keystile::cli::run(std::env::args_os())
}
