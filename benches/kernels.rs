//! Each kernel by itself.

fn main() {}
