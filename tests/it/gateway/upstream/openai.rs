//! OpenAI's answers: chat completions, completions, embeddings, images, moderations.
//!
//! The shapes are documented: the types of the `openai` Python SDK 3.51.0, which reads them in the tests.

use multer::Multipart;
use serde_json::{Value, json};

use super::manner::{Manner, Much};
use super::prices::Used;
use super::{Answered, Reply, Routed, Seen, Telling, model_of, much, words};

/// How often the request is multiplied: prompts times outputs of each.
struct Times {
    prompts: u64,
    outputs: u64,
}

fn limit_of(asked: &Value) -> Option<u64> {
    let fields = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    fields.iter().find_map(|field| asked[field].as_u64())
}

/// A chat's or a completion's usage; `sent` bytes are in the request.
pub(super) fn used(asked: &Value, manner: &Manner, sent: u64, most: u64, times: u64) -> Used {
    let limit = limit_of(asked).unwrap_or(most);
    let output = much(manner.output, limit).min(limit) * times;
    let reasoning = manner.reasoned.min(output);
    let prompt = much(manner.prompt, sent);
    let cached = manner.cached.min(prompt);
    Used {
        input: prompt - cached,
        cache_read: cached,
        output: output - reasoning,
        reasoning,
        tier: manner.tier,
        ..Used::default()
    }
}

/// Whether a request brings content that is not in it.
pub(super) fn is_elsewhere(text: &str) -> bool {
    ["file_id", "https://", "previous_response_id"]
        .iter()
        .any(|sign| text.contains(sign))
}

/// The same manner, with as much prompt as there can be.
pub(super) fn filling(manner: &Manner) -> Manner {
    Manner {
        prompt: Much::AllThatIsAllowed,
        ..manner.clone()
    }
}

/// Whether each output ended because its limit was reached.
pub(super) fn is_on_limit(asked: &Value, used: &Used, times: u64) -> bool {
    let made = used.output + used.reasoning;
    limit_of(asked).is_some_and(|limit| limit * times == made)
}

/// `usage` as a chat reports it: details are parts of their totals.
fn chat_usage(used: &Used) -> Value {
    let (sent, made) = (used.sent(), used.output + used.reasoning);
    json!({
        "prompt_tokens": sent, "completion_tokens": made, "total_tokens": sent + made,
        "prompt_tokens_details": { "cached_tokens": used.cache_read, "audio_tokens": used.input_audio },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

pub(super) fn told(telling: Telling, used: &Used, usage: impl Fn(&Used) -> Value) -> Option<Value> {
    match telling {
        Telling::Truth => Some(usage(used)),
        Telling::Nothing => None,
        Telling::Zero => Some(usage(&Used::default())),
    }
}

/// UTF-8 bytes of all texts below this value, names of fields left out.
pub(super) fn bytes_of(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::try_from(text.len()).expect("a small text"),
        Value::Array(all) => all.iter().map(bytes_of).sum(),
        Value::Object(all) => all.values().map(bytes_of).sum(),
        _ => 0,
    }
}

pub(super) fn chat(asked: &Value, manner: &Manner, telling: Telling) -> Routed {
    let model = model_of(asked);
    let times = asked["n"].as_u64().unwrap_or(1);
    let most = model.map_or(0, |model| model.max_output);
    let text = asked["messages"].to_string();
    let mut used = match is_elsewhere(&text) {
        // What it brings from elsewhere fills the window.
        true => used(
            asked,
            &filling(manner),
            model.map_or(0, |model| model.context),
            most,
            times,
        ),
        false => used(asked, manner, bytes_of(&asked["messages"]), most, times),
    };
    if text.contains("input_audio") {
        used.input_audio = used.input / 2;
        used.input -= used.input_audio;
    }
    let usage = told(telling, &used, chat_usage);
    let finish = match is_on_limit(asked, &used, times) {
        true => "length",
        false if manner.tool.is_some() => "tool_calls",
        false => "stop",
    };
    let reply = match asked["stream"].as_bool() {
        Some(true) => Reply::Events(chat_events(asked, manner, usage, times, finish)),
        _ => Reply::Json(chat_whole(asked, manner, usage, times, finish)),
    };
    Routed::Call(Box::new(Answered { model, used, reply }))
}

fn tool_calls(manner: &Manner) -> Option<Value> {
    let (name, arguments) = manner.tool.as_ref()?;
    let call = json!({ "index": 0, "id": "call_1", "type": "function",
        "function": { "name": name, "arguments": arguments.to_string() } });
    Some(json!([call]))
}

fn chat_whole(asked: &Value, manner: &Manner, usage: Option<Value>, times: u64, finish: &str) -> Value {
    let message = match tool_calls(manner) {
        Some(calls) => json!({ "role": "assistant", "content": null, "refusal": null, "tool_calls": calls }),
        None => json!({ "role": "assistant", "content": words(manner.pieces).concat(), "refusal": null }),
    };
    let choice = |index: u64| json!({ "index": index, "message": message, "logprobs": null, "finish_reason": finish });
    let mut whole = json!({
        "id": manner.id("chatcmpl-"), "object": "chat.completion", "created": 1_700_000_000,
        "model": asked["model"], "service_tier": manner.tier, "system_fingerprint": "fp_fixture",
        "choices": (0..times).map(choice).collect::<Vec<_>>(),
    });
    if let Some(usage) = usage {
        whole["usage"] = usage;
    }
    whole
}

pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn chat_events(asked: &Value, manner: &Manner, usage: Option<Value>, times: u64, finish: &str) -> Vec<String> {
    let tells = asked["stream_options"]["include_usage"] == true;
    let chunk = |choices: Value| {
        let mut chunk = json!({
            "id": manner.id("chatcmpl-"), "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": asked["model"], "service_tier": manner.tier, "system_fingerprint": "fp_fixture",
            "choices": choices,
        });
        if tells {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let mut events = Vec::new();
    for index in 0..times {
        let choice = |delta: Value, finish: Value| json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]);
        events.push(chunk(choice(
            json!({ "role": "assistant", "content": "" }),
            Value::Null,
        )));
        if let Some(calls) = tool_calls(manner) {
            events.push(chunk(choice(json!({ "tool_calls": calls }), Value::Null)));
            events.push(chunk(choice(json!({}), finish.into())));
        } else {
            for word in words(manner.pieces) {
                events.push(chunk(choice(json!({ "content": word }), Value::Null)));
            }
            events.push(chunk(choice(json!({}), finish.into())));
        }
    }
    if let (true, Some(usage)) = (tells, usage) {
        let mut last = chunk(json!([]));
        last["usage"] = usage;
        events.push(last);
    }
    let mut events: Vec<String> = events.iter().map(event).collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// Prompts: a text, a list of texts, tokens, or a list of lists of tokens.
fn prompts(prompt: &Value) -> u64 {
    match prompt {
        Value::Array(all) if all.first().is_some_and(|first| !first.is_number()) => {
            u64::try_from(all.len()).expect("few")
        }
        _ => 1,
    }
}

pub(super) fn complete(asked: &Value, manner: &Manner, telling: Telling) -> Routed {
    let model = model_of(asked);
    let times = Times {
        prompts: prompts(&asked["prompt"]),
        outputs: asked["n"]
            .as_u64()
            .unwrap_or(1)
            .max(asked["best_of"].as_u64().unwrap_or(1)),
    };
    let most = model.map_or(0, |model| model.max_output);
    let sent = bytes_of(&asked["prompt"]);
    let used = used(asked, manner, sent, most, times.prompts * times.outputs);
    let finish = match is_on_limit(asked, &used, times.prompts * times.outputs) {
        true => "length",
        false => "stop",
    };
    let usage = told(telling, &used, chat_usage);
    let frame = |choices: Value| {
        json!({ "id": manner.id("cmpl-"), "object": "text_completion", "created": 1_700_000_000,
            "model": asked["model"], "choices": choices })
    };
    let choice =
        |text: &str, finish: Value| json!([{ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }]);
    let reply = if asked["stream"] == true {
        let mut events: Vec<Value> = words(manner.pieces)
            .iter()
            .map(|word| frame(choice(word, Value::Null)))
            .collect();
        if let (true, Some(usage)) = (asked["stream_options"]["include_usage"] == true, usage) {
            let mut last = frame(json!([]));
            last["usage"] = usage;
            events.push(last);
        }
        let mut events: Vec<String> = events.iter().map(event).collect();
        events.push("data: [DONE]\n\n".to_owned());
        Reply::Events(events)
    } else {
        let mut whole = frame(choice(&words(manner.pieces).concat(), finish.into()));
        if let Some(usage) = usage {
            whole["usage"] = usage;
        }
        Reply::Json(whole)
    };
    Routed::Call(Box::new(Answered { model, used, reply }))
}

/// A token for four bytes of each input.
pub(super) fn embed(asked: &Value, telling: Telling) -> Routed {
    let inputs: Vec<&Value> = match &asked["input"] {
        Value::Array(all) if all.first().is_some_and(|first| !first.is_number()) => all.iter().collect(),
        one => vec![one],
    };
    let tokens = |input: &&Value| match input {
        Value::Array(tokens) => u64::try_from(tokens.len()).expect("few"),
        text => bytes_of(text).div_ceil(4),
    };
    let used = Used {
        input: inputs.iter().map(tokens).sum(),
        ..Used::default()
    };
    let vector = |(index, _): (usize, &&Value)| {
        let numbers = json!([0.25, -0.5, 1.0]);
        // Three little-endian floats, as the SDK asks for them by itself.
        let encoded = "AACAPgAAAL8AAIA/";
        let embedding = if asked["encoding_format"] == "base64" {
            json!(encoded)
        } else {
            numbers
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let mut whole = json!({ "object": "list", "model": asked["model"],
        "data": inputs.iter().enumerate().map(vector).collect::<Vec<_>>() });
    let usage = |used: &Used| json!({ "prompt_tokens": used.input, "total_tokens": used.input });
    if let Some(usage) = told(telling, &used, usage) {
        whole["usage"] = usage;
    }
    Routed::Call(Box::new(Answered {
        model: model_of(asked),
        used,
        reply: Reply::Json(whole),
    }))
}

fn images(model: &str, count: u64) -> Routed {
    let image = json!({ "b64_json": "iVBORw0KGgo=", "revised_prompt": "a line" });
    Routed::Call(Box::new(Answered {
        model: super::prices::model(model),
        used: Used {
            images: count,
            ..Used::default()
        },
        reply: Reply::Json(
            json!({ "created": 1_700_000_000, "data": vec![image; usize::try_from(count).expect("few")] }),
        ),
    }))
}

pub(super) fn paint(asked: &Value) -> Routed {
    let model = asked["model"].as_str().unwrap_or_default();
    images(model, asked["n"].as_u64().unwrap_or(1))
}

/// The parts of a form: names with their contents, a file's as its length.
pub(super) async fn form(seen: &Seen) -> Option<Vec<(String, String)>> {
    let kind = seen.headers.get("content-type")?.to_str().ok()?;
    let boundary = multer::parse_boundary(kind).ok()?;
    let body = seen.body.clone();
    let whole = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut form = Multipart::new(whole, boundary);
    let mut parts = Vec::new();
    while let Ok(Some(field)) = form.next_field().await {
        let name = field.name().unwrap_or_default().to_owned();
        let is_file = field.file_name().is_some();
        let bytes = field.bytes().await.ok()?;
        let content = match is_file {
            true => bytes.len().to_string(),
            false => String::from_utf8_lossy(&bytes).into_owned(),
        };
        parts.push((name, content));
    }
    Some(parts)
}

/// A field of a form.
pub(super) fn field<'a>(parts: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = parts.iter().find(|(found, _)| found == name);
    found.map(|(_, content)| content.as_str())
}

pub(super) async fn edit_image(seen: &Seen) -> Routed {
    let Some(parts) = form(seen).await else {
        return Routed::Wrong(400, "the body is no form".to_owned());
    };
    if !parts.iter().any(|(name, _)| name == "image" || name == "image[]") {
        return Routed::Wrong(400, "there is no image".to_owned());
    }
    let count = field(&parts, "n").and_then(|n| n.parse().ok()).unwrap_or(1);
    images(field(&parts, "model").unwrap_or_default(), count)
}

pub(super) fn moderate(asked: &Value) -> Value {
    json!({ "id": "modr-fixture", "model": asked["model"], "results": [{
        "flagged": false, "categories": {}, "category_scores": {}, "category_applied_input_types": {},
    }] })
}
