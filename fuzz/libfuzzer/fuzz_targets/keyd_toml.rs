//! See `keyd_toml` in strongroom-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| strongroom_fuzz::run("keyd_toml", bytes));
