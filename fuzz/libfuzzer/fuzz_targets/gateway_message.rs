//! See `gateway_message` in strongroom-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom_fuzz::run("gateway_message", bytes));
