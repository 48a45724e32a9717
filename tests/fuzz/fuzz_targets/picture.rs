#![no_main]

#[path = "../../hostile/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::picture(bytes));
