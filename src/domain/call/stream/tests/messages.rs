//! Messages: the usage comes in two parts.

use super::*;

pub(super) fn message_start(usage: Value) -> String {
    named(
        &json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [],
        "model": "claude-sonnet-4-5", "stop_reason": null, "stop_sequence": null, "usage": usage}}),
    )
}

pub(super) fn text_block() -> String {
    [
        named(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
        named(&json!({"type": "ping"})),
        named(&json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}})),
        named(&json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!"}})),
        named(&json!({"type": "content_block_stop", "index": 0})),
    ]
    .concat()
}

pub(super) fn message_delta(reason: Value, usage: Value) -> String {
    named(&json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": usage}))
}

#[test]
fn a_message_is_metered_by_its_start_and_its_deltas() {
    let start = message_start(
        json!({"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard"}),
    );
    let end = message_delta(
        json!("max_tokens"),
        json!({"output_tokens": 15, "input_tokens": null, "server_tool_use": null}),
    );
    let stop = named(&json!({"type": "message_stop"}));
    let stream = [start.as_str(), &text_block(), &end, &stop].concat();
    let rules = StreamRules {
        output_limit: Some(2),
        gate: gate(&[]),
        ..StreamRules::default()
    };
    let outcome = whole(Route::Messages, rules, &stream);
    assert_eq!((outcome.forwarded, outcome.fault), (stream, None));
    let classes = [(C::Input, 25), (C::CacheRead, 7), (C::CacheWrite, 10), (C::Output, 15)];
    assert_eq!(counted(&outcome.answer), classes);
    assert!(outcome.answer.on_limit);
    assert_eq!(outcome.answer.id.as_deref(), Some("msg_1"));

    // Totals replace: a loop at the provider reads more, searches, and says so at the end.
    let grown = json!({"input_tokens": 300, "output_tokens": 40, "cache_read_input_tokens": 9, "server_tool_use": {"web_search_requests": 2}});
    let stream = [
        start.as_str(),
        &message_delta(Value::Null, json!({"output_tokens": 3})),
        &message_delta(json!("end_turn"), grown),
        &stop,
    ]
    .concat();
    let answer = whole(Route::Messages, StreamRules::default(), &stream).answer;
    assert_eq!(
        counted(&answer),
        [(C::Input, 300), (C::CacheRead, 9), (C::CacheWrite, 10), (C::Output, 40)]
    );
    assert_eq!(answer.usage.map(|usage| usage.web_searches), Some(2));

    // Broken off: more was written than was said.
    for broken in [
        vec![start.clone()],
        vec![start.clone(), text_block()],
        vec![start.clone(), message_delta(Value::Null, json!({"output_tokens": 3}))],
    ] {
        let error = named(&json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}));
        for stream in [broken.concat(), [broken.concat(), error].concat()] {
            let outcome = whole(Route::Messages, StreamRules::default(), &stream);
            assert_eq!((outcome.forwarded, outcome.fault), (stream, None));
            assert_eq!((outcome.answer.usage, outcome.answer.fault), (None, None));
        }
    }
    // Its last delta says all; the stop after it adds nothing.
    let outcome = feed(
        Route::Messages,
        StreamRules::default(),
        &[[start, text_block(), end].concat().as_bytes()],
        false,
    );
    assert_eq!(counted(&outcome.answer), classes);
}

#[test]
fn a_message_is_gated_and_limited_like_any_other() {
    let block = |block: Value| named(&json!({"type": "content_block_start", "index": 1, "content_block": block}));
    let rules = StreamRules {
        gate: gate(&["read", "browser"]),
        ..StreamRules::default()
    };
    for good in [
        json!({"type": "tool_use", "id": "t", "name": "read", "input": {}}),
        json!({"type": "tool_use", "id": "t", "name": "find", "toolset_name": "browser", "input": {}}),
        json!({"type": "mcp_tool_result", "content": []}),
    ] {
        let outcome = whole(Route::Messages, rules.clone(), &block(good.clone()));
        assert_eq!((outcome.fault, outcome.forwarded), (None, block(good)));
    }
    for (bad, called) in [
        (json!({"type": "tool_use", "name": "drop", "input": {}}), "drop"),
        (
            json!({"type": "server_tool_use", "name": "web_search", "input": {}}),
            "web_search",
        ),
        (json!({"type": "mcp_tool_use", "name": "drop", "input": {}}), "drop"),
        (json!({"type": "tool_use", "input": {}}), ""),
    ] {
        let outcome = whole(Route::Messages, rules.clone(), &[text_block(), block(bad)].concat());
        assert_eq!(outcome.fault, Some(StreamFault::ToolNotListed(called.into())));
        assert_eq!(outcome.forwarded, text_block());
    }
    let one = StreamRules {
        output_limit: Some(1),
        ..StreamRules::default()
    };
    let outcome = whole(Route::Messages, one.clone(), &text_block());
    assert_eq!(outcome.fault, Some(StreamFault::PastLimit { limit: 1 }));
    // The input of a tool is cut into pieces of any size.
    let input = named(
        &json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{"}}),
    );
    assert_eq!(whole(Route::Messages, one, &input.repeat(10)).fault, None);
}

/// Counts only grow: a zero that comes later takes nothing back.
#[test]
fn a_later_count_that_is_less_takes_nothing_back() {
    let start = message_start(json!({
        "input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 10,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 0},
        "server_tool_use": {"web_search_requests": 2}
    }));
    let end = message_delta(
        json!("end_turn"),
        json!({"input_tokens": 0, "output_tokens": 15, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
               "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
               "server_tool_use": {"web_search_requests": 0}}),
    );
    let stop = named(&json!({"type": "message_stop"}));
    let answer = whole(Route::Messages, StreamRules::default(), &[start, end, stop].concat()).answer;
    let classes = [(C::Input, 25), (C::CacheRead, 7), (C::CacheWrite, 10), (C::Output, 15)];
    assert_eq!(counted(&answer), classes);
    assert_eq!(answer.usage.map(|usage| usage.web_searches), Some(2));
}
