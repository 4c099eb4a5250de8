//! The autarky command.
fn main() {}
