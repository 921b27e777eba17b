//! No answer makes the reader panic, grow, or say of a tool or a usage what is not in it.

#![no_main]

use backstop_fuzz::domain::call::read_answer;
use backstop_fuzz::{ROUTES, Steer};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn holds(value: &Value, text: &str) -> bool {
    match value {
        // A kind of call may stand for its tool's name.
        Value::String(string) => string.starts_with(text) || text == "programmatic_tool_calling" && string == "program",
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(fields) => fields.values().any(|value| holds(value, text)),
        _ => false,
    }
}

fuzz_target!(|input: &[u8]| {
    let mut steer = Steer { rest: input };
    let route = steer.one_of(&ROUTES);
    let body = steer.rest;
    let Ok(answer) = read_answer(route, body) else { return };
    assert!(answer.usage.is_none() || answer.fault.is_none());
    assert!(answer.tool_calls.iter().all(|tool| tool.len() <= 256));
    // What nobody reads is skipped, so it may hold what another reader refuses; and of a key that repeats
    // there, another reader takes one.
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        for name in answer.tool_calls.iter().chain(&answer.id).chain(&answer.model) {
            assert!(holds(&value, name), "{name:?}");
        }
    }
});
