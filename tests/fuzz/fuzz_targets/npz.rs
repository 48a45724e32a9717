#![no_main]

#[path = "../../command_line/hostile/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::npz(bytes));
