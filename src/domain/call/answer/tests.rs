//! Whole answers as the APIs give them.
//!
//! The shapes are documented: the types of the `openai` Python SDK 3.51.0 and the `anthropic` one 2.10.0.
//! Texts and numbers are synthetic.

use serde_json::{Value, json};

use super::*;
use crate::domain::call::route::Route;
use crate::domain::price::{ServiceTier, TokenClass as C};

fn read(route: Route, body: &Value) -> Answer {
    read_answer(route, body.to_string().as_bytes()).expect("it is JSON")
}

fn counted(answer: &Answer) -> Vec<(C, u64)> {
    assert_eq!(answer.fault, None);
    let usage = answer.usage.expect("a usage");
    usage.tokens.iter().collect()
}

/// A gate that looks at the names must hear of those that are not kept.
#[test]
fn a_call_under_no_name_or_beyond_the_last_is_told() {
    let others = |route, body: Value| read(route, &body).calls_others;
    let call = |name: Value| json!({"type": "function", "id": "c", "function": {"name": name, "arguments": "{}"}});
    let of = |calls: Vec<Value>| chat(json!({"role": "assistant", "tool_calls": calls}), "tool_calls");
    assert!(!others(Route::ChatCompletions, of(vec![call(json!("search"))])));
    for odd in [
        call(json!("")),
        call(json!(3)),
        call(json!("x".repeat(257))),
        json!({"type": "function", "id": "c"}),
        json!({"type": "function", "id": "c", "function": {"arguments": "{}"}}),
    ] {
        assert!(
            others(Route::ChatCompletions, of(vec![call(json!("search")), odd.clone()])),
            "{odd}"
        );
    }
    let many = |count: usize| (0..count).map(|n| call(json!(format!("t{n}")))).collect();
    assert!(!others(Route::ChatCompletions, of(many(1_000))));
    assert!(others(Route::ChatCompletions, of(many(1_001))));
    let message = |name: &str| json!({"type": "message", "content": [{"type": "tool_use", "name": name}]});
    assert!(others(Route::Messages, message("")) && !others(Route::Messages, message("search")));
}

/// The operator's word counts for what nobody here knows, and for nothing else.
#[test]
fn a_field_of_the_usage_may_be_declared_free() {
    let mut body = chat(json!({"role": "assistant", "content": "Hi"}), "stop");
    body["usage"]["vendor_latency"] = json!(0.7);
    body["usage"]["prompt_tokens_details"]["vendor_hint"] = json!("x");
    let free = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let read = |names: &[&str]| {
        let read = read_answer_with(Route::ChatCompletions, body.to_string().as_bytes(), &free(names));
        read.expect("it is JSON")
    };
    assert!(read(&[]).fault.is_some() && read(&["vendor_latency"]).fault.is_some());
    let known = [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "reasoning_tokens",
        "service_tier",
    ];
    let both = read(&[&["vendor_latency", "vendor_hint"][..], &known].concat());
    assert_eq!(
        counted(&both),
        [(C::Input, 15), (C::CacheRead, 4), (C::Output, 7), (C::Reasoning, 3)]
    );
    assert_eq!(both.usage.map(|usage| usage.tier), Some(ServiceTier::Flex));
}

fn chat(message: Value, reason: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_795_000_000, "model": "gpt-5-mini-2025-08-07",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": reason}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
                  "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                  "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0}},
        "service_tier": "flex"
    })
}

#[test]
fn a_chat_completion() {
    let answer = read(
        Route::ChatCompletions,
        &chat(json!({"role": "assistant", "content": "Hi"}), "stop"),
    );
    assert_eq!(
        counted(&answer),
        [(C::Input, 15), (C::CacheRead, 4), (C::Output, 7), (C::Reasoning, 3)]
    );
    assert_eq!(answer.usage.map(|usage| usage.tier), Some(ServiceTier::Flex));
    assert_eq!(answer.id.as_deref(), Some("chatcmpl-1"));
    assert_eq!(answer.model.as_deref(), Some("gpt-5-mini-2025-08-07"));
    assert!(!answer.on_limit && answer.tool_calls.is_empty());
    assert!(read(Route::ChatCompletions, &chat(json!({"content": "H"}), "length")).on_limit);

    let message = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "read", "arguments": "{}"}},
        {"id": "b", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
        {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    ], "function_call": {"name": "old", "arguments": "{}"}});
    let answer = read(Route::ChatCompletions, &chat(message, "tool_calls"));
    assert_eq!(answer.tool_calls, ["read", "sql", "old"]);
}

/// Groq names its tiers itself (docs: "Service Tiers"); a contract's own tier has no price here.
#[test]
fn the_usual_tier_of_groq_is_the_standard_one() {
    let mut body = json!({
        "id": "chatcmpl-g", "object": "chat.completion", "created": 1_795_000_000, "model": "llama-3.3-70b-versatile",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "logprobs": null,
                     "finish_reason": "stop"}],
        "usage": {"queue_time": 0.037, "prompt_tokens": 18, "prompt_time": 0.0007, "completion_tokens": 5,
                  "completion_time": 0.46, "total_tokens": 23, "total_time": 0.46},
        "usage_breakdown": null, "system_fingerprint": "fp_1", "x_groq": {"id": "req_1"}, "service_tier": "on_demand"
    });
    let answer = read(Route::ChatCompletions, &body);
    assert_eq!(counted(&answer), [(C::Input, 18), (C::Output, 5)]);
    assert_eq!(answer.usage.map(|usage| usage.tier), Some(ServiceTier::Standard));
    body["service_tier"] = json!("performance");
    let answer = read(Route::ChatCompletions, &body);
    assert!(answer.usage.is_none());
    assert!(matches!(
        answer.fault,
        Some(UsageFault::Usage(UsageRejection::UnknownValue {
            field: "service_tier",
            ..
        }))
    ));
}

#[test]
fn an_answer_that_does_not_say_what_it_used() {
    let mut silent = chat(json!({"role": "assistant", "content": "Hi"}), "stop");
    for nothing in [Value::Null, json!({}), json!([]), json!("")] {
        silent["usage"] = nothing;
        let answer = read(Route::ChatCompletions, &silent);
        assert_eq!((answer.usage, answer.fault), (None, None));
    }
    // Zero is what the provider says.
    silent["usage"] = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    assert_eq!(counted(&read(Route::ChatCompletions, &silent)), []);
    // What is not understood is not nothing.
    for strange in [
        json!(5),
        json!({"prompt_tokens": 1}),
        json!({"prompt_tokens": 1.5, "completion_tokens": 1}),
    ] {
        silent["usage"] = strange;
        let answer = read(Route::ChatCompletions, &silent);
        assert!(answer.usage.is_none() && answer.fault.is_some(), "{answer:?}");
    }
    let known = chat(json!({"content": "Hi"}), "stop").to_string();
    let tier = known.replace("flex", "hyper");
    let answer = read_answer(Route::ChatCompletions, tier.as_bytes()).expect("it is JSON");
    assert!(answer.usage.is_none() && answer.fault.is_some_and(|why| why.to_string().contains("hyper")));
}

#[test]
fn what_can_be_read_in_two_ways_is_not_read() {
    let call = |name: &str| format!(r#"{{"choices":[{{"message":{{"tool_calls":[{{"function":{name}}}]}}}}]}}"#);
    let good = read_answer(Route::ChatCompletions, call(r#"{"name":"a"}"#).as_bytes());
    assert_eq!(good.map(|answer| answer.tool_calls), Ok(vec!["a".to_owned()]));
    for body in [
        call(r#"{"name":"a","name":"b"}"#),
        call(r#"{"name":"a","\u006eame":"b"}"#),
        r#"{"choices":[],"choices":[]}"#.to_owned(),
        "[]".to_owned(),
        "<html>".to_owned(),
        String::new(),
        r#"{"choices":[]"#.to_owned(),
        r#"{"choices":[]} {}"#.to_owned(),
    ] {
        let read = read_answer(Route::ChatCompletions, body.as_bytes());
        assert_eq!(read, Err(AnswerRejection::Unreadable), "{body}");
    }
}

#[test]
fn a_response() {
    let whole = |status: &str, reason: Value, output: Value| {
        json!({"id": "resp_1", "object": "response", "status": status, "model": "gpt-5", "incomplete_details": reason,
               "service_tier": "default", "output": output,
               "usage": {"input_tokens": 328, "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 0},
                         "output_tokens": 52, "output_tokens_details": {"reasoning_tokens": 12}, "total_tokens": 380}})
    };
    let text = json!([{"type": "reasoning", "summary": []}, {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]);
    let answer = read(Route::Responses, &whole("completed", Value::Null, text.clone()));
    assert_eq!(
        counted(&answer),
        [
            (C::Input, 228),
            (C::CacheRead, 100),
            (C::Output, 40),
            (C::Reasoning, 12)
        ]
    );
    assert!(!answer.on_limit && answer.tool_calls.is_empty());
    assert!(
        read(
            Route::Responses,
            &whole("incomplete", json!({"reason": "max_output_tokens"}), text.clone())
        )
        .on_limit
    );
    assert!(
        !read(
            Route::Responses,
            &whole("incomplete", json!({"reason": "content_filter"}), text.clone())
        )
        .on_limit
    );
    // One that is worked on in the background has used more when it is over.
    for status in ["queued", "in_progress"] {
        assert_eq!(
            read(Route::Responses, &whole(status, Value::Null, text.clone())).usage,
            None
        );
    }
    let mut failed = whole("failed", Value::Null, json!([]));
    failed["usage"] = Value::Null;
    assert_eq!(read(Route::Responses, &failed).usage, None);

    let calls = json!([{"type": "function_call", "name": "read", "arguments": "{}"}, {"type": "custom_tool_call", "name": "sql"},
                       {"type": "web_search_call", "action": {"type": "search"}}, {"type": "mcp_call", "name": "roll"},
                       {"type": "web_search_call", "action": {"type": "open_page"}}, {"type": "web_search_call"}]);
    let mut called = whole("completed", Value::Null, calls);
    let answer = read(Route::Responses, &called);
    assert_eq!(answer.tool_calls, ["read", "sql", "web_search", "roll"]);
    assert_eq!(
        answer.usage.map(|usage| usage.web_searches),
        Some(2),
        "those that are billed"
    );
    // What the provider counts is better than the calls.
    let none = json!({"input_tokens": 0, "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}, "output_tokens": 0, "total_tokens": 0});
    called["tool_usage"] = json!({"image_gen": none, "web_search": {"num_requests": 7}});
    assert_eq!(
        read(Route::Responses, &called).usage.map(|usage| usage.web_searches),
        Some(7)
    );
    called["tool_usage"]["image_gen"]["output_tokens"] = json!(1056);
    let field = "image_gen";
    assert_eq!(
        read(Route::Responses, &called).fault,
        Some(UsageFault::Usage(UsageRejection::OtherModel { field }))
    );
}

#[test]
fn a_message() {
    let message = |reason: &str, content: Value| {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": content,
               "stop_reason": reason, "stop_sequence": null,
               "usage": {"input_tokens": 2095, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 20,
                         "output_tokens": 503, "service_tier": "standard"}})
    };
    let answer = read(
        Route::Messages,
        &message("end_turn", json!([{"type": "text", "text": "Hi"}])),
    );
    assert_eq!(
        counted(&answer),
        [(C::Input, 2095), (C::CacheRead, 20), (C::Output, 503)]
    );
    assert_eq!(
        (answer.id.as_deref(), answer.model.as_deref()),
        (Some("msg_1"), Some("claude-sonnet-4-5"))
    );
    let content = json!([{"type": "thinking", "thinking": "..."}, {"type": "tool_use", "id": "t", "name": "read", "input": {}},
                         {"type": "server_tool_use", "name": "web_search", "input": {}}, {"type": "web_search_tool_result", "content": []},
                         {"type": "tool_use", "name": "click", "toolset_name": "browser", "input": {}}]);
    let answer = read(Route::Messages, &message("max_tokens", content));
    assert_eq!(answer.tool_calls, ["read", "web_search", "browser"]);
    assert!(answer.on_limit);
}

#[test]
fn embeddings_sound_and_images() {
    let embedded = json!({"object": "list", "data": [{"object": "embedding", "embedding": [0.1, -0.2], "index": 0}],
                          "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}});
    assert_eq!(counted(&read(Route::Embeddings, &embedded)), [(C::Input, 8)]);

    for (body, micros) in [
        (
            json!({"text": "Hi", "usage": {"type": "duration", "seconds": 9}}),
            Some(9_000_000),
        ),
        (
            json!({"task": "transcribe", "language": "english", "duration": 8.47, "text": "Hi", "segments": []}),
            Some(8_470_000),
        ),
        (
            json!({"duration": 8.47, "text": "Hi", "usage": {"type": "duration", "seconds": 9}}),
            Some(9_000_000),
        ),
        (json!({"duration": 0.0, "text": ""}), Some(0)),
        (json!({"text": "Hi"}), None),
    ] {
        let answer = read(Route::Transcriptions, &body);
        assert_eq!(
            (answer.usage.map(|usage| usage.micros), answer.fault),
            (micros, None),
            "{body}"
        );
    }
    let tokens = json!({"text": "Hi", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59,
                        "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}});
    assert_eq!(
        counted(&read(Route::Transcriptions, &tokens)),
        [(C::InputAudio, 14), (C::Output, 45)]
    );
    for text in ["Hello.\n", "1\n00:00:00,000 --> 00:00:01,000\nHello.\n", "WEBVTT\n"] {
        assert_eq!(read_answer(Route::Translations, text.as_bytes()), Ok(Answer::default()));
    }
    assert_eq!(
        read_answer(Route::Speech, &[0xff, 0xf3, 0x44, 0xc4]),
        Ok(Answer::default())
    );

    let mut image = json!({"created": 1_795_000_000, "data": [{"b64_json": "AAAA"}, {"b64_json": "AAAA"}], "usage":
        {"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}});
    assert_eq!(
        counted(&read(Route::ImageEdits, &image)),
        [(C::Input, 10), (C::InputImage, 40), (C::OutputImage, 1056)]
    );
    image["svg_usage"] = json!({"input_tokens": 1, "output_tokens": 2, "model": "gpt-5"});
    assert!(
        read(Route::ImageEdits, &image).fault.is_some(),
        "it has another model's price"
    );
    let images =
        json!({"created": 1, "data": [{"url": "https://example.com/1.png"}, {"url": "https://example.com/2.png"}]});
    assert_eq!(
        read(Route::ImageGenerations, &images).usage.map(|usage| usage.images),
        Some(2)
    );
    assert_eq!(read(Route::ImageGenerations, &json!({"data": []})).usage, None);
}

#[test]
fn a_gate_knows_what_a_tool_is_offered_as() {
    let gate = ToolGate::Only(Arc::new(["read", "web_search_preview"].map(str::to_owned).into()));
    for (tool, allowed, may_become) in [
        ("read", true, true),
        ("web_search", true, true),
        ("rea", false, true),
        ("", false, true),
        ("reader", false, false),
        ("Read", false, false),
        ("z", false, false),
    ] {
        assert_eq!(
            (gate.allows(tool), gate.may_become(tool)),
            (allowed, may_become),
            "{tool}"
        );
    }
    assert!(ToolGate::All.allows("anything"));
}

#[test]
fn names_are_kept_in_bounds() {
    let long = "x".repeat(300);
    let calls: Vec<Value> = (0..2_000)
        .map(|n| json!({"function": {"name": format!("tool-{n}")}}))
        .collect();
    let message = json!({"tool_calls": calls, "function_call": {"name": long}});
    let body = json!({"id": long, "model": long, "choices": [{"message": message}]});
    let answer = read(Route::ChatCompletions, &body);
    assert_eq!(
        (answer.id, answer.model, answer.tool_calls.len()),
        (None, None, MAX_TOOL_CALLS)
    );
}
