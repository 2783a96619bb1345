//! Feeds libFuzzer to [`spoor_tests::fuzz::fastcgi`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spoor_tests::fuzz::fastcgi(data));
