#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    backstop_fuzz::let_panics_be_caught();
    backstop_fuzz::oracles::form(input);
});
