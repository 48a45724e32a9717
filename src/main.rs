//! The softstep command.

fn main() {}
