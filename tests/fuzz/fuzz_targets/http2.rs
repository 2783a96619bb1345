//! Feeds libFuzzer to [`spoor_tests::fuzz::http2`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spoor_tests::fuzz::http2(data));
