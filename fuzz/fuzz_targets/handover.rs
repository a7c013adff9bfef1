//! Fuzzes the decoder of what two workers' gateways say to each other. What must hold stands with the function it calls.
#![no_main]

#[path = "../../core/tests/corpus/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::run("handover", bytes));
