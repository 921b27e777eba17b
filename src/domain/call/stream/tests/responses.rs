//! Responses: the last event has the usage.

use super::*;

pub(super) fn responses_stream(last: &str, usage: Value) -> String {
    let response = |status: &str, output: Value, usage: Value| {
        let why = if status == "incomplete" {
            json!({"reason": "max_output_tokens"})
        } else {
            Value::Null
        };
        json!({"id": "resp_1", "object": "response", "model": "gpt-5", "status": status, "output": output, "usage": usage,
               "service_tier": if status == "in_progress" { "auto" } else { "flex" }, "incomplete_details": why,
               "instructions": "Be brief.", "tools": [{"type": "function", "name": "read"}], "error": null})
    };
    let call =
        json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "read", "arguments": "{\"a\":1}"});
    let mut events = vec![
        json!({"type": "response.created", "response": response("in_progress", json!([]), Value::Null)}),
        json!({"type": "response.in_progress", "response": response("in_progress", json!([]), Value::Null)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "msg_1", "content": [], "role": "assistant"}}),
        json!({"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}}),
        json!({"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hel", "logprobs": []}),
        json!({"type": "response.output_text.delta", "item_id": "msg_1", "delta": "lo", "logprobs": []}),
        json!({"type": "response.output_text.done", "text": "Hello"}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "name": "read", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "delta": "{\"a\":"}),
        json!({"type": "response.function_call_arguments.delta", "delta": "1}"}),
        json!({"type": "response.function_call_arguments.done", "arguments": "{\"a\":1}"}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": call}),
        json!({"type": format!("response.{last}"), "response": response(last, json!([call]), usage)}),
    ];
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    events.iter().map(named).collect()
}

#[test]
fn responses_are_metered_by_their_last_event() {
    let usage = json!({"input_tokens": 36, "output_tokens": 87, "total_tokens": 123,
                       "input_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 80}});
    let rules = StreamRules {
        gate: gate(&["read"]),
        output_limit: Some(4),
        ..StreamRules::default()
    };
    for (last, on_limit) in [("completed", false), ("incomplete", true), ("failed", false)] {
        let stream = responses_stream(last, usage.clone());
        let outcome = whole(Route::Responses, rules.clone(), &stream);
        assert_eq!((outcome.forwarded, outcome.fault), (stream, None));
        let answer = outcome.answer;
        assert_eq!(
            counted(&answer),
            [(C::Input, 30), (C::CacheRead, 6), (C::Output, 7), (C::Reasoning, 80)]
        );
        assert_eq!(answer.usage.map(|usage| usage.tier), Some(ServiceTier::Flex));
        assert_eq!(
            (answer.on_limit, answer.tool_calls),
            (on_limit, vec!["read".to_owned()])
        );
        assert_eq!(
            (answer.id.as_deref(), answer.model.as_deref()),
            (Some("resp_1"), Some("gpt-5"))
        );
    }
    let failed = whole(
        Route::Responses,
        rules.clone(),
        &responses_stream("failed", Value::Null),
    );
    assert_eq!((failed.answer.usage, failed.answer.fault), (None, None));
    let stream = responses_stream("completed", usage.clone());
    let broken = stream.split_inclusive("\n\n").take(12).collect::<String>();
    assert_eq!(
        feed(Route::Responses, rules, &[broken.as_bytes()], false).answer.usage,
        None
    );

    let few = StreamRules {
        output_limit: Some(3),
        ..StreamRules::default()
    };
    let outcome = whole(Route::Responses, few, &stream);
    assert_eq!(outcome.fault, Some(StreamFault::PastLimit { limit: 3 }));
    assert_eq!(
        outcome.forwarded,
        stream.split_inclusive("\n\n").take(9).collect::<String>()
    );
    assert!(outcome.answer.usage.is_some(), "it was read to its end");
}

#[test]
fn a_response_calls_only_listed_tools() {
    let added = |item: Value| named(&json!({"type": "response.output_item.added", "item": item}));
    let rules = StreamRules {
        gate: gate(&["read", "web_search", "computer_use_preview", "shell"]),
        ..StreamRules::default()
    };
    for item in [
        json!({"type": "web_search_call", "action": {"type": "search"}}),
        json!({"type": "computer_call"}),
        json!({"type": "shell_call"}),
        json!({"type": "shell_call_output", "name": "x"}),
        json!({"type": "custom_tool_call", "name": "read"}),
        json!({"type": "reasoning", "summary": []}),
        json!({"type": "mcp_list_tools", "tools": [{"name": "x"}]}),
    ] {
        let outcome = whole(Route::Responses, rules.clone(), &added(item.clone()));
        assert_eq!((outcome.fault, outcome.forwarded), (None, added(item)));
    }
    for (item, called) in [
        (
            json!({"type": "function_call", "name": "drop", "arguments": ""}),
            "drop",
        ),
        (json!({"type": "custom_tool_call", "name": "drop"}), "drop"),
        (json!({"type": "mcp_call", "name": "drop"}), "drop"),
        (json!({"type": "mcp_approval_request", "name": "drop"}), "drop"),
        (json!({"type": "local_shell_call"}), "local_shell"),
        (json!({"type": "apply_patch_call"}), "apply_patch"),
        (json!({"type": "file_search_call"}), "file_search"),
        (json!({"type": "program", "code": "x()"}), "programmatic_tool_calling"),
        (json!({"type": "what_is_this", "name": "drop"}), "drop"),
        (json!({"type": "function_call", "arguments": ""}), "function"),
    ] {
        let last = named(&json!({"type": "response.completed", "response": {"status": "completed", "output": [item]}}));
        let queued = named(&json!({"type": "response.queued", "response": {"status": "queued", "output": [item]}}));
        for stream in [added(item.clone()), last, queued] {
            let outcome = whole(Route::Responses, rules.clone(), &stream);
            assert_eq!(outcome.fault, Some(StreamFault::ToolNotListed(called.into())), "{item}");
            assert_eq!(outcome.forwarded, "");
        }
    }
}
