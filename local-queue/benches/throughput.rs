//! Placeholder until the measurement lands in this branch.
fn main() {}
