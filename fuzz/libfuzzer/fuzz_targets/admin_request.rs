//! See `admin_request` in strongroom-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom_fuzz::run("admin_request", bytes));
