//! Fuzzes the decoder of the first message of a TLS connection. What must hold stands with the function it calls.
#![no_main]

#[path = "../../core/tests/corpus/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::run("client_hello", bytes));
