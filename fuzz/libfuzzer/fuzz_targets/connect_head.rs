//! See `connect_head` in strongroom-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom_fuzz::run("connect_head", bytes));
