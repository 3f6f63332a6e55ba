//! Build, demo, test and bench entry points of the IPsec suite.
fn main() {}
