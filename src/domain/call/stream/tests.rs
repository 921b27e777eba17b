//! Streams as the APIs send them.
//!
//! The shapes are documented: the event types of the `openai` Python SDK 3.51.0 and the `anthropic` one
//! 2.10.0. What is marked *copies* is what others that copy OpenAI's form are known to send. Texts and
//! numbers are synthetic.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::call::UsageFault;
use crate::domain::price::{ServiceTier, TokenClass as C, Usage};

const DONE: &str = "data: [DONE]\n\n";

fn data(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn named(event: &Value) -> String {
    format!(
        "event: {}\ndata: {event}\n\n",
        event["type"].as_str().unwrap_or("message")
    )
}

fn chat_chunk(choices: Value, usage: Value) -> String {
    data(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_795_000_000, "model": "gpt-5-mini",
        "service_tier": "default", "system_fingerprint": "fp_1", "choices": choices, "usage": usage,
        "obfuscation": "xYz"
    }))
}

fn delta(delta: Value) -> String {
    chat_chunk(
        json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]),
        Value::Null,
    )
}

fn finish(reason: &str) -> String {
    chat_chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]), Value::Null)
}

fn chat_usage(prompt: u64, completion: u64) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
           "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}})
}

fn usage_chunk(prompt: u64, completion: u64) -> String {
    chat_chunk(json!([]), chat_usage(prompt, completion))
}

fn hello() -> String {
    [
        delta(json!({"role": "assistant", "content": "", "refusal": null})),
        delta(json!({"content": "Hel"})),
        delta(json!({"content": "lo"})),
        finish("stop"),
        usage_chunk(9, 2),
        DONE.to_owned(),
    ]
    .concat()
}

fn gate(tools: &[&str]) -> ToolGate {
    ToolGate::Only(Arc::new(tools.iter().map(|tool| (*tool).to_owned()).collect()))
}

struct Outcome {
    forwarded: String,
    fault: Option<StreamFault>,
    answer: Answer,
}

/// Feeds these chunks as the gateway does: what passed before a fault is forwarded, then the error.
fn feed(route: Route, rules: StreamRules, chunks: &[&[u8]], closes: bool) -> Outcome {
    let mut meter = StreamMeter::new(route, rules);
    let mut forwarded = Vec::new();
    let mut fault = None;
    let mut steps: Vec<Option<&[u8]>> = chunks.iter().map(|chunk| Some(*chunk)).collect();
    if closes {
        steps.push(None);
    }
    for step in steps {
        let fed = match step {
            Some(chunk) => meter.feed(Bytes::copy_from_slice(chunk)),
            None => meter.close(),
        };
        match fed {
            Ok(passed) => {
                assert!(fault.is_none() || passed.is_empty(), "nothing passes after a cut");
                forwarded.extend(passed.concat());
            }
            Err(why) => {
                assert_eq!(fault, None, "a stream is cut once");
                forwarded.extend(meter.passed().concat());
                fault = Some(why);
            }
        }
    }
    Outcome {
        forwarded: String::from_utf8(forwarded).expect("text"),
        fault,
        answer: meter.end(),
    }
}

fn whole(route: Route, rules: StreamRules, stream: &str) -> Outcome {
    feed(route, rules, &[stream.as_bytes()], true)
}

fn counted(answer: &Answer) -> Vec<(C, u64)> {
    assert_eq!(answer.fault, None);
    answer
        .usage
        .iter()
        .flat_map(|usage| usage.tokens.iter().collect::<Vec<_>>())
        .collect()
}

#[test]
fn chat_passes_untouched_and_is_metered_by_its_last_chunk() {
    let outcome = whole(Route::ChatCompletions, StreamRules::default(), &hello());
    assert_eq!((outcome.forwarded, outcome.fault), (hello(), None));
    let answer = outcome.answer;
    assert_eq!(counted(&answer), [(C::Input, 9), (C::Output, 2)]);
    assert_eq!(
        (answer.id.as_deref(), answer.model.as_deref()),
        (Some("chatcmpl-1"), Some("gpt-5-mini"))
    );
    assert!(!answer.on_limit);
}

#[test]
fn what_passes_is_the_chunk_itself() {
    let chunk = Bytes::from(hello());
    let mut meter = StreamMeter::new(Route::ChatCompletions, StreamRules::default());
    let passed = meter.feed(chunk.clone()).expect("it passes");
    assert_eq!(passed.len(), 1, "one slice");
    assert_eq!(
        (passed[0].as_ptr(), passed[0].len()),
        (chunk.as_ptr(), chunk.len()),
        "no copy"
    );
}

#[test]
fn a_usage_chunk_that_the_client_did_not_ask_for_is_taken_out() {
    let rules = StreamRules {
        strip_usage: true,
        ..StreamRules::default()
    };
    for newline in ["\n", "\r\n", "\r"] {
        let stream = hello().replace('\n', newline);
        let expected = stream.replace(&usage_chunk(9, 2).replace('\n', newline), "");
        assert_ne!(stream, expected);
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream);
        assert_eq!(outcome.forwarded, expected);
        assert_eq!(counted(&outcome.answer), [(C::Input, 9), (C::Output, 2)]);
    }
    // A usage in a chunk that also says something else stays.
    let both = chat_chunk(
        json!([{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]),
        chat_usage(9, 2),
    );
    let outcome = whole(Route::ChatCompletions, rules.clone(), &both);
    assert_eq!(outcome.forwarded, both);
    // So does a chunk without choices that has none.
    let filter = chat_chunk(json!([]), Value::Null);
    assert_eq!(whole(Route::ChatCompletions, rules, &filter).forwarded, filter);
}

#[test]
fn a_usage_counts_if_it_is_the_last_word() {
    let used = |stream: &[&str], closes: bool| {
        let stream = stream.concat();
        let outcome = feed(
            Route::ChatCompletions,
            StreamRules::default(),
            &[stream.as_bytes()],
            closes,
        );
        assert_eq!(outcome.forwarded, stream);
        counted(&outcome.answer)
    };
    let with_usage = |content: &str, reason: Value, completion: u64| {
        let choices = json!([{"index": 0, "delta": {"content": content}, "finish_reason": reason}]);
        chat_chunk(choices, chat_usage(9, completion))
    };
    let (hi, stop, alone) = (delta(json!({"content": "hi"})), finish("stop"), usage_chunk(9, 2));
    let full = [(C::Input, 9), (C::Output, 2)];
    assert_eq!(used(&[&hi, &stop, &alone], false), full, "cut off after the usage");
    assert_eq!(used(&[&hi, &stop], false), []);
    assert_eq!(used(&[&hi, &stop, DONE], true), [], "none was given");
    // Copies: in the last delta, or growing in each.
    let last = with_usage("hi", json!("stop"), 2);
    assert_eq!(used(&[&last, DONE], true), full);
    assert_eq!(used(&[&last], true), full);
    assert_eq!(used(&[&last], false), [], "another choice may have been on its way");
    let growing = [with_usage("h", Value::Null, 1), with_usage("i", Value::Null, 2)];
    assert_eq!(used(&[&growing[0], &growing[1], &stop, DONE], true), full);
    assert_eq!(used(&[&growing[0], &growing[1]], false), [], "it was broken off");
    assert_eq!(
        used(&[&growing[0], &hi, &stop, DONE], true),
        [],
        "more was written since"
    );
    // Zero is what the provider says.
    let zero = usage_chunk(0, 0);
    let outcome = whole(
        Route::ChatCompletions,
        StreamRules::default(),
        &[zero.as_str(), DONE].concat(),
    );
    assert_eq!(outcome.answer.usage, Some(Usage::one_call()));
}

#[test]
fn a_usage_that_is_not_understood_is_a_fault_and_not_nothing() {
    let used = |usage: Value| {
        let stream = [chat_chunk(json!([]), usage), DONE.to_owned()].concat();
        let answer = whole(Route::ChatCompletions, StreamRules::default(), &stream).answer;
        (answer.usage, answer.fault.map(|fault| fault.to_string()))
    };
    assert_eq!(
        used(json!({"prompt_tokens": -1, "completion_tokens": 2})),
        (None, Some("prompt_tokens is negative".into()))
    );
    let unknown = json!({"prompt_tokens": 1, "completion_tokens": 2, "video_tokens": 3});
    assert!(used(unknown).1.is_some_and(|why| why.contains("video_tokens")));
    let twice =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"prompt_tokens\":2,\"completion_tokens\":1}}\n\n";
    let answer = whole(Route::ChatCompletions, StreamRules::default(), twice).answer;
    assert!(matches!(answer.fault, Some(UsageFault::Json(_))), "{answer:?}");
}

#[test]
fn the_tier_that_served_a_stream_prices_it() {
    let chunk =
        |tier: Value, usage: Value| data(&json!({"id": "c", "choices": [], "service_tier": tier, "usage": usage}));
    let stream = [
        chunk(json!("priority"), Value::Null),
        chunk(Value::Null, chat_usage(1, 1)),
        DONE.into(),
    ]
    .concat();
    let answer = whole(Route::ChatCompletions, StreamRules::default(), &stream).answer;
    assert_eq!(answer.usage.map(|usage| usage.tier), Some(ServiceTier::Priority));
    let stream = [chunk(json!("hyper"), chat_usage(1, 1)), DONE.into()].concat();
    let answer = whole(Route::ChatCompletions, StreamRules::default(), &stream).answer;
    assert!(answer.usage.is_none() && answer.fault.is_some());
}

fn tool(index: u64, id: Value, name: Value, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]})
}

#[test]
fn a_call_of_an_unlisted_tool_does_not_reach_the_client() {
    let begin = delta(json!({"role": "assistant", "content": null}));
    let listed = [
        delta(tool(0, json!("a"), json!("read"), "")),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})),
    ]
    .concat();
    let rules = StreamRules {
        gate: gate(&["read", "get_weather"]),
        ..StreamRules::default()
    };
    let good = [begin.as_str(), &listed, &finish("tool_calls"), &usage_chunk(5, 5), DONE].concat();
    let outcome = whole(Route::ChatCompletions, rules.clone(), &good);
    assert_eq!((outcome.forwarded, outcome.fault), (good, None));
    assert_eq!(outcome.answer.tool_calls, ["read"]);

    for bad in [
        tool(1, json!("b"), json!("delete_all"), ""),
        tool(0, json!("b"), json!("delete_all"), ""),
        tool(0, Value::Null, json!("delete_all"), ""),
        json!({"function_call": {"name": "delete_all", "arguments": ""}}),
        json!({"tool_calls": [{"index": 1, "id": "x", "type": "custom", "custom": {"name": "delete_all", "input": ""}}]}),
        json!({"tool_calls": [{"id": "x", "function": {"name": "delete_all"}}]}),
    ] {
        let stream = [
            begin.as_str(),
            &listed,
            &delta(bad.clone()),
            &finish("tool_calls"),
            &usage_chunk(5, 5),
            DONE,
        ]
        .concat();
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream);
        let called = match &outcome.fault {
            Some(StreamFault::ToolNotListed(name)) => name.clone(),
            fault => panic!("{bad}: {fault:?}"),
        };
        assert!(called.ends_with("delete_all"), "{called}");
        assert_eq!(outcome.forwarded, [begin.as_str(), listed.as_str()].concat(), "{bad}");
        assert_eq!(
            counted(&outcome.answer),
            [(C::Input, 5), (C::Output, 5)],
            "what came after is still metered"
        );
    }
}

#[test]
fn a_name_in_pieces_is_held_back_until_it_is_whole() {
    let rules = StreamRules {
        gate: gate(&["get_weather", "get_time"]),
        ..StreamRules::default()
    };
    let piece = |name: &str| delta(json!({"tool_calls": [{"index": 0, "function": {"name": name}}]}));
    let first = delta(tool(0, json!("a"), json!("get_"), ""));
    let arguments = delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}));

    // Piece by piece: nothing passes before the name is one that is listed.
    let mut meter = StreamMeter::new(Route::ChatCompletions, rules.clone());
    assert_eq!(meter.feed(Bytes::from(first.clone())), Ok(vec![]));
    assert_eq!(meter.feed(Bytes::from(piece("wea"))), Ok(vec![]));
    let passed = meter.feed(Bytes::from(piece("ther"))).expect("listed").concat();
    assert_eq!(
        String::from_utf8_lossy(&passed),
        [first.clone(), piece("wea"), piece("ther")].concat()
    );
    assert_eq!(meter.end().tool_calls, ["get_weather"]);

    for (stream, called) in [
        (vec![first.clone(), piece("secret")], "get_secret"),
        (vec![first.clone(), arguments.clone()], "get_"),
        (vec![first.clone(), finish("tool_calls")], "get_"),
        (vec![first.clone()], "get_"),
        (vec![first.clone(), ": ping\n\n".into(), DONE.into()], "get_"),
        (
            vec![first.clone(), piece("wea"), delta(json!({"content": "x"}))],
            "get_wea",
        ),
    ] {
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream.concat());
        assert_eq!(outcome.fault, Some(StreamFault::ToolNotListed(called.into())));
        assert_eq!(outcome.forwarded, "");
    }
    // A name that is listed may not grow into one that is not.
    let stream = [delta(tool(0, json!("a"), json!("get_time"), "")), piece("_machine")];
    let outcome = whole(Route::ChatCompletions, rules.clone(), &stream.concat());
    assert_eq!(
        outcome.fault,
        Some(StreamFault::ToolNotListed("get_time_machine".into()))
    );
    assert_eq!(outcome.forwarded, stream[0]);
    // Copies: the whole name in every piece; the same index for each of several whole calls.
    let again =
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "get_time", "arguments": "{}"}}]}));
    for second in [
        again,
        delta(tool(0, json!(""), json!("get_weather"), "{}")),
        delta(tool(0, json!("b"), json!("get_weather"), "{}")),
    ] {
        let stream = [delta(tool(0, json!("a"), json!("get_time"), "")), second].concat();
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream);
        assert_eq!((outcome.fault, outcome.forwarded), (None, stream));
    }
}

#[test]
fn what_cannot_be_read_passes_no_gate() {
    for event in [
        "data: {\"choices\": [\n\n",
        "data: hello\n\n",
        "data: [1]\n\n",
        "data: {\"choices\":[],\"choices\":[]}\n\n",
    ] {
        let outcome = whole(Route::ChatCompletions, StreamRules::default(), event);
        assert_eq!((outcome.forwarded.as_str(), outcome.fault), (event, None));
        let rules = StreamRules {
            gate: gate(&["read"]),
            ..StreamRules::default()
        };
        let outcome = whole(Route::ChatCompletions, rules, event);
        assert_eq!(
            (outcome.forwarded.as_str(), outcome.fault),
            ("", Some(StreamFault::Unreadable))
        );
    }
}

#[test]
fn output_past_the_hold_cuts_the_stream() {
    let limit = |limit: u64| StreamRules {
        output_limit: Some(limit),
        ..StreamRules::default()
    };
    let word = || delta(json!({"content": "word "}));
    let stream = [
        delta(json!({"role": "assistant", "content": ""})),
        word(),
        word(),
        word(),
        finish("stop"),
        usage_chunk(9, 3),
        DONE.into(),
    ];
    let outcome = whole(Route::ChatCompletions, limit(3), &stream.concat());
    assert_eq!(
        (outcome.fault, outcome.forwarded),
        (None, stream.concat()),
        "the hold covers it"
    );
    let outcome = whole(Route::ChatCompletions, limit(2), &stream.concat());
    assert_eq!(outcome.fault, Some(StreamFault::PastLimit { limit: 2 }));
    assert_eq!(outcome.forwarded, stream[..3].concat());
    // A long piece is many tokens; no token has a thousand bytes.
    let long = delta(json!({"content": "x".repeat(10_000)}));
    assert!(whole(Route::ChatCompletions, limit(9), &long).fault.is_none());
    assert_eq!(
        whole(Route::ChatCompletions, limit(8), &long).fault,
        Some(StreamFault::PastLimit { limit: 8 })
    );
    // The provider's own count is better than ours, both ways.
    let grown = |completion: u64| {
        chat_chunk(
            json!([{"index": 0, "delta": {"content": "x"}}]),
            chat_usage(9, completion),
        )
    };
    assert!(
        whole(Route::ChatCompletions, limit(4), &[grown(5), word()].concat())
            .fault
            .is_some()
    );
    let pieces = [word(), word(), grown(1), word()].concat();
    assert!(whole(Route::ChatCompletions, limit(3), &pieces).fault.is_none());
    assert!(
        whole(Route::ChatCompletions, limit(1), &[grown(1), word()].concat())
            .fault
            .is_some()
    );
    // What is over is not cut: it would only hide its usage.
    let outcome = whole(
        Route::ChatCompletions,
        limit(2),
        &[word(), finish("length"), usage_chunk(9, 7), DONE.into()].concat(),
    );
    assert_eq!(outcome.fault, None);
    assert!(outcome.answer.on_limit);
    assert_eq!(counted(&outcome.answer), [(C::Input, 9), (C::Output, 7)]);
}

#[test]
fn an_error_in_the_middle_passes_and_leaves_the_usage_unknown() {
    let error = data(&json!({"error": {"message": "overloaded", "type": "server_error", "code": null, "param": null}}));
    let stream = [delta(json!({"content": "hi"})), error].concat();
    let rules = StreamRules {
        gate: gate(&[]),
        strip_usage: true,
        output_limit: Some(5),
        ..StreamRules::default()
    };
    let outcome = whole(Route::ChatCompletions, rules, &stream);
    assert_eq!((outcome.forwarded, outcome.fault), (stream, None));
    assert_eq!((outcome.answer.usage, outcome.answer.fault), (None, None));
}

fn responses_stream(last: &str, usage: Value) -> String {
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

fn message_start(usage: Value) -> String {
    named(
        &json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [],
        "model": "claude-sonnet-4-5", "stop_reason": null, "stop_sequence": null, "usage": usage}}),
    )
}

fn text_block() -> String {
    [
        named(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
        named(&json!({"type": "ping"})),
        named(&json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}})),
        named(&json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!"}})),
        named(&json!({"type": "content_block_stop", "index": 0})),
    ]
    .concat()
}

fn message_delta(reason: Value, usage: Value) -> String {
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

#[test]
fn sound_and_images_are_metered_by_their_last_event() {
    let spoken = [
        data(&json!({"type": "transcript.text.delta", "delta": "Hi"})),
        data(
            &json!({"type": "transcript.text.done", "text": "Hi", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 4,
            "total_tokens": 18, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}}),
        ),
    ];
    let outcome = whole(Route::Transcriptions, StreamRules::default(), &spoken.concat());
    assert_eq!(outcome.forwarded, spoken.concat());
    assert_eq!(counted(&outcome.answer), [(C::InputAudio, 14), (C::Output, 4)]);
    assert_eq!(
        whole(Route::Transcriptions, StreamRules::default(), &spoken[0])
            .answer
            .usage,
        None
    );

    let speech = [
        data(&json!({"type": "speech.audio.delta", "audio": "AAAA"})),
        data(
            &json!({"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}),
        ),
    ];
    let answer = whole(Route::Speech, StreamRules::default(), &speech.concat()).answer;
    assert_eq!(counted(&answer), [(C::Input, 14), (C::OutputAudio, 101)]);

    let image = |kind: &str, usage: Value| named(&json!({"type": kind, "b64_json": "A".repeat(5_000), "usage": usage}));
    let usage = json!({"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}});
    let partial = image("image_generation.partial_image", Value::Null);
    let made = image("image_generation.completed", usage.clone());
    let classes = [(C::Input, 10), (C::InputImage, 40), (C::OutputImage, 1056)];
    let stream = [partial.as_str(), &made].concat();
    assert_eq!(
        counted(&whole(Route::ImageGenerations, StreamRules::default(), &stream).answer),
        classes
    );
    let broken = feed(
        Route::ImageGenerations,
        StreamRules::default(),
        &[stream.as_bytes()],
        false,
    );
    assert_eq!(broken.answer.usage, None, "another image may have been on its way");
    let two = whole(Route::ImageGenerations, StreamRules::default(), &made.repeat(2)).answer;
    assert_eq!((two.usage, two.fault), (None, Some(UsageFault::Several)));
}

#[test]
fn an_event_has_a_bound() {
    let rules = StreamRules {
        max_event: Some(1_000),
        ..StreamRules::default()
    };
    let hi = delta(json!({"content": "hi"}));
    let stream = [hi.clone(), delta(json!({"content": "x".repeat(2_000)})), hi.clone()].concat();
    let outcome = whole(Route::ChatCompletions, rules, &stream);
    assert_eq!(
        outcome.fault,
        Some(StreamFault::EventTooLong(EventTooLong { max: 1_000 }))
    );
    assert_eq!(outcome.forwarded, hi);
}

#[test]
fn a_cut_stream_ends_with_an_error_that_the_sdks_raise() {
    let text = |route: Route| {
        let meter = StreamMeter::new(route, StreamRules::default());
        String::from_utf8_lossy(&meter.error_event("output_limit", "too \"much\"\n")).into_owned()
    };
    let error = json!({"message": "too \"much\"\n", "type": "backstop_error", "param": null, "code": "output_limit"});
    assert_eq!(
        text(Route::ChatCompletions),
        format!("data: {}\n\n", json!({ "error": error }))
    );
    assert_eq!(
        text(Route::Transcriptions),
        format!("event: error\ndata: {}\n\n", json!({ "error": error }))
    );
    let expected = json!({"type": "error", "code": "output_limit", "message": "too \"much\"\n", "param": null, "sequence_number": 1, "error": error});
    assert_eq!(text(Route::Responses), format!("event: error\ndata: {expected}\n\n"));
    let error = json!({"type": "api_error", "message": "too \"much\"\n", "code": "output_limit"});
    assert_eq!(
        text(Route::Messages),
        format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error}))
    );
}

fn streams() -> impl Strategy<Value = (Route, String)> {
    let usage = json!({"input_tokens": 36, "output_tokens": 87, "total_tokens": 123});
    let tools = [
        delta(tool(0, json!("a"), json!("re"), "")),
        delta(json!({"tool_calls": [{"index": 0, "function": {"name": "ad", "arguments": "{}"}}]})),
        delta(tool(1, json!("b"), json!("drop"), "")),
        finish("tool_calls"),
        usage_chunk(3, 3),
        DONE.to_owned(),
    ];
    let message = [
        message_start(json!({"input_tokens": 25, "output_tokens": 1})),
        text_block(),
        message_delta(json!("end_turn"), json!({"output_tokens": 15})),
    ];
    let stream = prop_oneof![
        Just((Route::ChatCompletions, hello())),
        Just((Route::ChatCompletions, tools.concat())),
        Just((Route::Responses, responses_stream("completed", usage))),
        Just((Route::Messages, message.concat())),
    ];
    (stream, prop_oneof![Just("\n"), Just("\r\n"), Just("\r")])
        .prop_map(|((route, stream), newline)| (route, stream.replace('\n', newline)))
}

proptest! {
    /// However a stream is cut into chunks, the client gets the same bytes and the meter reads the same.
    #[test]
    fn any_chunking_is_metered_alike(
        (route, stream) in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        strip_usage: bool, gated: bool, limit in prop::option::of(0_u64..8),
    ) {
        let rules = StreamRules {
            strip_usage,
            gate: if gated { gate(&["read"]) } else { ToolGate::All },
            output_limit: limit,
            max_event: None,
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream.as_bytes()[cut[0]..cut[1]]).collect();
        let one = whole(route, rules.clone(), &stream);
        let many = feed(route, rules, &chunks, true);
        prop_assert_eq!(one.fault, many.fault);
        prop_assert_eq!(one.forwarded, many.forwarded);
        prop_assert_eq!(one.answer, many.answer);
    }
}
