//! Tests that cannot run everywhere say so.

#![allow(dead_code)] // each test program uses its part

use std::io::Write;

/// Says why a test is skipped, past the test runner's capture.
pub fn skipped(why: &str) {
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}

/// The same for what CI must run: with `SOFTSTEP_TEST_ALL` set, that fails.
pub fn skipped_outside_ci(why: &str) {
    assert!(std::env::var_os("SOFTSTEP_TEST_ALL").is_none(), "not skipped, as SOFTSTEP_TEST_ALL is set: {why}");
    skipped(why);
}
