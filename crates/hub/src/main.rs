//! The `proactions-hub` program.
fn main() {}
