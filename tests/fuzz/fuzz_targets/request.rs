//! No body makes the reader of requests panic or grow, and what it renders it reads again.

#![no_main]

use backstop_fuzz::domain::call::{CallRules, Metering, OutputLimit, read};
use backstop_fuzz::{ROUTES, Steer};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let mut steer = Steer { rest: input };
    let route = steer.one_of(&ROUTES);
    let flags = steer.byte();
    let rules = CallRules {
        max_tokens: (flags & 1 != 0).then_some(100),
        ..CallRules::default()
    };
    let body = Bytes::copy_from_slice(steer.rest);
    let Ok(mut asked) = read(route, &body, &rules) else {
        return;
    };
    if flags & 2 != 0
        && let Some(tool) = asked.tools.first().cloned()
    {
        let _ = asked.strip(&[tool].into());
    }
    if let OutputLimit::Tokens {
        asked: Some(tokens), ..
    } = asked.output
        && rules.max_tokens.is_some()
    {
        assert!(tokens <= 100, "clamped to the rules");
    }
    let tokens = (flags & 4 != 0).then_some(50);
    let rendered = asked.body(tokens);
    if route.metering() == Metering::Free || body.is_empty() {
        return;
    }
    let again: Value = serde_json::from_slice(&rendered).expect("what is forwarded is JSON");
    assert!(again.is_object());
    let again = read(route, &rendered, &rules).expect("what is forwarded can be read");
    assert_eq!(again.model, asked.model);
    assert_eq!(again.stream, asked.stream);
    assert_eq!(again.tools, asked.tools);
});
