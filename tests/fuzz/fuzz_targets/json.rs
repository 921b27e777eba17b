//! The strict reader accepts what `serde_json` accepts, less repeated keys and what is past its bounds.

#![no_main]

use backstop_fuzz::domain::wire::json::{JsonLimits, JsonRejection, check, parse_strict};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let limits = JsonLimits::default();
    let strict = parse_strict(input, &limits);
    let lax = serde_json::from_slice::<Value>(input);
    match (&strict, &lax) {
        (Ok(strict), Ok(lax)) => assert_eq!(strict, lax),
        (Ok(_), Err(error)) => panic!("accepted, and serde_json says {error}"),
        (Err(JsonRejection::Syntax { .. }), Ok(_)) => panic!("refused what serde_json reads: {strict:?}"),
        (Err(_), _) => {}
    }
    assert_eq!(check(input, &limits), strict.map(|_| ()));
    let small = JsonLimits {
        bytes: 512,
        depth: 3,
        values: 20,
    };
    if let Ok(value) = parse_strict(input, &small) {
        assert_eq!(lax.ok(), Some(value));
    }
});
