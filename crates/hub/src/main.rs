//! The `proactions-hub` program: reads its arguments and hands over to the library.

use std::process::ExitCode;

/// Gives memory back after a flood of connections, which the C library's allocator keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    proactions_hub::main()
}
