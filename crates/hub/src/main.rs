//! The `proactions-hub` program: reads its arguments and hands over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    proactions_hub::main()
}
