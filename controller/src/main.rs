//! The `hale` command.
fn main() {}
