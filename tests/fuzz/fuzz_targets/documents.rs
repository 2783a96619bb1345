//! Feeds libFuzzer to [`spoor_tests::fuzz::documents`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spoor_tests::fuzz::documents(data));
