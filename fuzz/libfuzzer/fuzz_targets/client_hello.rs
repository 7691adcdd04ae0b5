//! See `client_hello` in strongroom-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom_fuzz::run("client_hello", bytes));
