//! The program: everything is in the library.

use std::process::ExitCode;

// A request is some forty small allocations; glibc gives memory back and takes it again between them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    plimsoll::cli::main()
}
