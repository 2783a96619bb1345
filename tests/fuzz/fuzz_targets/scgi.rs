//! Feeds libFuzzer to [`spoor_tests::fuzz::scgi`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spoor_tests::fuzz::scgi(data));
