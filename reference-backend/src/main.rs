//! The reference backend as a program of its own; `plimsoll reference-backend` is the same.

use std::process::ExitCode;

use clap::Parser;
use reference_backend::cli;

// A request is some forty small allocations; glibc gives memory back and takes it again between them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A small, complete, provable backend on PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "reference-backend", version)]
struct Program {
    #[command(flatten)]
    command: cli::Command,
}

fn main() -> ExitCode {
    cli::run(Program::parse().command)
}
