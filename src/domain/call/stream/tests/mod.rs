//! Streams as the APIs send them.
//!
//! The shapes are documented: the event types of the `openai` Python SDK 3.51.0 and the `anthropic` one
//! 2.10.0. What is marked *copies* is what others that copy OpenAI's form are known to send. Texts and
//! numbers are synthetic.

mod chat;
mod chunks;
mod media;
mod messages;
mod responses;
mod tools;

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
