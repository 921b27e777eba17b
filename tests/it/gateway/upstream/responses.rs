//! The Responses API: a whole response, or its events.

use serde_json::{Value, json};

use super::manner::Manner;
use super::openai::{bytes_of, filling, is_elsewhere, is_on_limit, told, used};
use super::prices::Used;
use super::{Answered, Reply, Routed, Telling, model_of, words};

fn usage_of(used: &Used) -> Value {
    let (sent, made) = (used.sent(), used.output + used.reasoning);
    json!({
        "input_tokens": sent, "output_tokens": made, "total_tokens": sent + made,
        "input_tokens_details": { "cached_tokens": used.cache_read },
        "output_tokens_details": { "reasoning_tokens": used.reasoning },
    })
}

pub(super) fn respond(asked: &Value, manner: &Manner, telling: Telling) -> Routed {
    let model = model_of(asked);
    let most = model.map_or(0, |model| model.max_output);
    let used = match is_elsewhere(&asked.to_string()) {
        // What it brings from elsewhere fills the window.
        true => used(asked, &filling(manner), model.map_or(0, |model| model.context), most, 1),
        false => {
            let sent = bytes_of(&asked["input"]) + bytes_of(&asked["instructions"]);
            used(asked, manner, sent, most, 1)
        }
    };
    let usage = told(telling, &used, usage_of);
    let whole = |status: &str, output: Value, usage: Option<Value>| {
        let mut whole = json!({
            "id": manner.id("resp_"), "object": "response", "created_at": 1_700_000_000, "status": status,
            "background": false, "error": null, "incomplete_details": null,
            "instructions": asked["instructions"], "max_output_tokens": asked["max_output_tokens"],
            "metadata": {}, "model": asked["model"], "output": output, "parallel_tool_calls": true,
            "previous_response_id": asked["previous_response_id"], "reasoning": { "effort": null, "summary": null },
            "service_tier": manner.tier, "store": true, "temperature": 1.0, "text": { "format": { "type": "text" } },
            "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "user": null, "usage": null,
        });
        if let Some(usage) = usage {
            whole["usage"] = usage;
        }
        whole
    };
    let text = words(manner.pieces).concat();
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
    let item = |status: &str, content: Value| match &manner.tool {
        Some((name, arguments)) => json!({ "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name,
            "arguments": arguments.to_string(), "status": status }),
        None => json!({ "type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content }),
    };
    let output = json!([item("completed", json!([part(&text)]))]);
    let on_limit = is_on_limit(asked, &used, 1);
    let done = match on_limit {
        false => whole("completed", output, usage),
        true => {
            let mut cut = whole("incomplete", output, usage);
            cut["incomplete_details"] = json!({ "reason": "max_output_tokens" });
            cut
        }
    };
    if asked["stream"] != true {
        let reply = Reply::Json(done);
        return Routed::Call(Box::new(Answered { model, used, reply }));
    }

    let begun = whole("in_progress", json!([]), None);
    let at = json!({ "item_id": "msg_1", "output_index": 0, "content_index": 0 });
    let with = |kind: &str, more: Value| {
        let mut event = at.clone();
        event["type"] = kind.into();
        let more = more.as_object().cloned().unwrap_or_default();
        event.as_object_mut().expect("an object").extend(more);
        event
    };
    let mut events = vec![
        json!({ "type": "response.created", "response": begun }),
        json!({ "type": "response.in_progress", "response": begun }),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": item("in_progress", json!([])) }),
    ];
    if manner.tool.is_none() {
        events.push(with("response.content_part.added", json!({ "part": part("") })));
        let delta = |word: &String| with("response.output_text.delta", json!({ "delta": word, "logprobs": [] }));
        events.extend(words(manner.pieces).iter().map(delta));
        events.push(with(
            "response.output_text.done",
            json!({ "text": text, "logprobs": [] }),
        ));
        events.push(with("response.content_part.done", json!({ "part": part(&text) })));
    }
    let finished = item("completed", json!([part(&text)]));
    events.push(json!({ "type": "response.output_item.done", "output_index": 0, "item": finished }));
    let last = if on_limit {
        "response.incomplete"
    } else {
        "response.completed"
    };
    events.push(json!({ "type": last, "response": done }));
    let numbered = events.iter_mut().enumerate().map(|(number, event)| {
        event["sequence_number"] = number.into();
        let kind = event["type"].as_str().unwrap_or_default();
        format!("event: {kind}\ndata: {event}\n\n")
    });
    let reply = Reply::Events(numbered.collect());
    Routed::Call(Box::new(Answered { model, used, reply }))
}
