//! Feeds libFuzzer to [`spoor_tests::fuzz::amqp`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spoor_tests::fuzz::amqp(data));
