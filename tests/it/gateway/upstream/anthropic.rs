//! Anthropic's answers: a message, or its events.
//!
//! The shapes are documented: the types of the `anthropic` Python SDK 2.10.0, which reads them in the
//! tests. What was cached is beside `input_tokens`, and a stream tells its usage in two parts.

use serde_json::{Value, json};

use super::manner::Manner;
use super::openai::{bytes_of, is_elsewhere};
use super::prices::Used;
use super::{Answered, Reply, Routed, Telling, model_of, much, words};

fn usage_of(used: &Used) -> Value {
    json!({
        "input_tokens": used.input, "output_tokens": used.output + used.reasoning,
        "cache_read_input_tokens": used.cache_read,
        "cache_creation_input_tokens": used.cache_write + used.cache_write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.cache_write, "ephemeral_1h_input_tokens": used.cache_write_1h,
        },
        "service_tier": "standard",
    })
}

pub(super) fn message(asked: &Value, manner: &Manner, telling: Telling) -> Routed {
    let model = model_of(asked);
    let Some(limit) = asked["max_tokens"].as_u64() else {
        return Routed::Wrong(400, "max_tokens: Field required".to_owned());
    };
    let input = match is_elsewhere(&asked["messages"].to_string()) {
        true => model.map_or(0, |model| model.context),
        false => much(manner.prompt, bytes_of(&asked["messages"]) + bytes_of(&asked["system"])),
    };
    let used = Used {
        input,
        cache_read: manner.cached,
        cache_write: manner.written.0,
        cache_write_1h: manner.written.1,
        output: much(manner.output, limit).min(limit),
        ..Used::default()
    };
    let told = match telling {
        Telling::Zero => Used::default(),
        _ => used,
    };
    let tells = telling != Telling::Nothing;
    let reply = match asked["stream"].as_bool() {
        Some(true) => Reply::Events(events(asked, manner, &told, tells)),
        _ => Reply::Json(whole(asked, manner, &told, tells)),
    };
    Routed::Call(Box::new(Answered { model, used, reply }))
}

fn content(manner: &Manner) -> Value {
    match &manner.tool {
        Some((name, input)) => json!({ "type": "tool_use", "id": "toolu_1", "name": name, "input": input }),
        None => json!({ "type": "text", "text": words(manner.pieces).concat(), "citations": null }),
    }
}

fn frame(asked: &Value, manner: &Manner, content: Value, stop: Value) -> Value {
    json!({ "id": manner.id("msg_"), "type": "message", "role": "assistant", "model": asked["model"],
        "content": content, "stop_reason": stop, "stop_sequence": null })
}

fn stop(asked: &Value, manner: &Manner, used: &Used) -> &'static str {
    match asked["max_tokens"].as_u64() == Some(used.output) {
        true => "max_tokens",
        false if manner.tool.is_some() => "tool_use",
        false => "end_turn",
    }
}

fn whole(asked: &Value, manner: &Manner, used: &Used, tells: bool) -> Value {
    let mut whole = frame(
        asked,
        manner,
        json!([content(manner)]),
        stop(asked, manner, used).into(),
    );
    if tells {
        whole["usage"] = usage_of(used);
    }
    whole
}

fn events(asked: &Value, manner: &Manner, used: &Used, tells: bool) -> Vec<String> {
    let mut begun = frame(asked, manner, json!([]), Value::Null);
    // The start tells what went in, and a token or two of what comes.
    let mut start = usage_of(used);
    start["output_tokens"] = 1.min(used.output).into();
    let mut delta = json!({ "type": "message_delta", "delta": { "stop_reason": stop(asked, manner, used), "stop_sequence": null } });
    if tells {
        begun["usage"] = start;
        delta["usage"] = json!({ "output_tokens": used.output });
    }
    let mut events = vec![json!({ "type": "message_start", "message": begun })];
    match &manner.tool {
        Some((name, input)) => {
            let block = json!({ "type": "tool_use", "id": "toolu_1", "name": name, "input": {} });
            events.push(json!({ "type": "content_block_start", "index": 0, "content_block": block }));
            let json = json!({ "type": "input_json_delta", "partial_json": input.to_string() });
            events.push(json!({ "type": "content_block_delta", "index": 0, "delta": json }));
        }
        None => {
            let block = json!({ "type": "text", "text": "", "citations": null });
            events.push(json!({ "type": "content_block_start", "index": 0, "content_block": block }));
            events.push(json!({ "type": "ping" }));
            for word in words(manner.pieces) {
                let text = json!({ "type": "text_delta", "text": word });
                events.push(json!({ "type": "content_block_delta", "index": 0, "delta": text }));
            }
        }
    }
    events.push(json!({ "type": "content_block_stop", "index": 0 }));
    events.push(delta);
    events.push(json!({ "type": "message_stop" }));
    let written = |event: &Value| {
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().unwrap_or_default()
        )
    };
    events.iter().map(written).collect()
}
