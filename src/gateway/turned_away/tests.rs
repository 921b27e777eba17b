//! Refusals as providers tell them, and what only looks like one.

use serde_json::json;

use super::*;

fn turned_away(api: Api, status: u16, body: &str) -> bool {
    is_turned_away(api, StatusCode::from_u16(status).unwrap(), body.as_bytes(), false)
}

fn openai(error: Value) -> String {
    json!({ "error": error }).to_string()
}

#[test]
fn only_a_documented_refusal_in_the_apis_own_form_is_free() {
    let named = openai(json!({"message": "no", "type": "invalid_request_error", "param": "n", "code": null}));
    let anthropic = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#;
    for status in [400, 401, 403, 404, 413, 422, 429] {
        assert!(turned_away(Api::Openai, status, &named), "{status}");
        assert!(turned_away(Api::Anthropic, status, anthropic), "{status}");
    }
    for (api, status, body) in [
        (Api::Openai, 500, named.as_str()),
        (Api::Openai, 408, &named),
        (Api::Openai, 409, &named),
        (Api::Openai, 200, &named),
        (Api::Openai, 400, "<html>bad gateway</html>"),
        (Api::Openai, 400, ""),
        (Api::Openai, 429, r#"{"error":"quota"}"#),
        (
            Api::Openai,
            429,
            r#"{"error":{"message":"slow"},"usage":{"total_tokens":9}}"#,
        ),
        (Api::Openai, 401, r#"{"error":{"message":"a"},"error":{"message":"b"}}"#),
        (Api::Openai, 400, r#"{"choices":[],"usage":{}}"#),
        (Api::Anthropic, 400, &named),
        (Api::Anthropic, 529, anthropic),
        (
            Api::Anthropic,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error",
                "message":"Output blocked by content filtering policy"}}"#,
        ),
    ] {
        assert!(!turned_away(api, status, body), "{status} {body}");
    }
}

#[test]
fn a_check_of_the_request_is_free_and_a_run_that_failed_is_not() {
    let error = |code: Value, param: Value| {
        openai(json!({"message": "no", "type": "invalid_request_error", "param": param, "code": code}))
    };
    for free in [
        error(json!("unsupported_parameter"), json!("max_tokens")),
        error(json!("context_length_exceeded"), json!("messages")),
        error(json!("model_not_found"), Value::Null),
        error(Value::Null, json!("messages[0].role")),
        error(json!("integer_above_max_value"), Value::Null),
    ] {
        assert!(turned_away(Api::Openai, 400, &free), "{free}");
    }
    let finished = "Could not finish the message because max_tokens or model output limit was reached. \
                    Please try again with higher max_tokens.";
    for charged in [
        // Says nothing of when it was told.
        error(Value::Null, Value::Null),
        error(json!(400), Value::Null),
        openai(json!({"message": finished, "type": "invalid_request_error", "param": null, "code": null})),
        openai(json!({"message": finished, "type": "invalid_request_error", "param": "max_tokens", "code": null})),
        openai(
            json!({"message": "Failed to generate JSON.", "type": "invalid_request_error",
                      "code": "json_validate_failed", "failed_generation": "{"}),
        ),
        openai(json!({"message": "no", "param": "tools", "code": null, "failed_generation": "<function"})),
        error(json!("tool_use_failed"), json!("tools")),
        openai(
            json!({"message": "filtered", "type": null, "param": "prompt", "code": "content_filter",
                      "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
        ),
        error(json!("content_filter"), json!("prompt")),
        openai(
            json!({"message": "no", "type": "image_generation_user_error", "param": null,
                      "code": "moderation_blocked"}),
        ),
        error(json!("invalid_prompt"), json!("input")),
    ] {
        assert!(!turned_away(Api::Openai, 400, &charged), "{charged}");
        assert!(!turned_away(Api::Openai, 422, &charged), "{charged}");
    }
}

fn with_tools(api: Api, status: u16, body: &str) -> bool {
    is_turned_away(api, StatusCode::from_u16(status).unwrap(), body.as_bytes(), true)
}

/// Its context fills between the tools, its quota may end there, and a file that a tool wants may be missing.
#[test]
fn while_tools_run_at_the_provider_little_proves_that_nothing_ran() {
    let error = |code: Value, param: Value| {
        openai(json!({"message": "no", "type": "invalid_request_error", "param": param, "code": code}))
    };
    let full = error(json!("context_length_exceeded"), json!("input"));
    assert!(turned_away(Api::Openai, 400, &full) && !with_tools(Api::Openai, 400, &full));
    for (status, free) in [
        (401, error(json!("invalid_api_key"), Value::Null)),
        (404, error(json!("model_not_found"), Value::Null)),
        (400, error(json!("unsupported_parameter"), json!("temperature"))),
        (400, error(Value::Null, json!("tools[0].type"))),
    ] {
        assert!(with_tools(Api::Openai, status, &free), "{status} {free}");
    }
    for (status, charged) in [
        (400, error(json!("model_not_found"), Value::Null)),
        (400, error(json!("integer_above_max_value"), Value::Null)),
        (403, error(Value::Null, Value::Null)),
        (404, error(Value::Null, Value::Null)),
        (413, error(Value::Null, Value::Null)),
        (429, error(json!("rate_limit_exceeded"), Value::Null)),
        (429, error(json!("context_length_exceeded"), json!("input"))),
    ] {
        assert!(!with_tools(Api::Openai, status, &charged), "{status} {charged}");
    }
    let anthropic =
        |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
    let long = "prompt is too long: 208310 tokens > 200000 maximum";
    for (status, kind, message) in [
        (400, "invalid_request_error", long),
        (
            400,
            "invalid_request_error",
            "messages.7.content.0: a tool_result is missing",
        ),
        (403, "permission_error", "no"),
        (404, "not_found_error", "File not found"),
        (413, "request_too_large", "Request exceeds the maximum size"),
        (429, "rate_limit_error", "slow down"),
    ] {
        let body = anthropic(kind, message);
        assert!(turned_away(Api::Anthropic, status, &body), "{status} {body}");
        assert!(!with_tools(Api::Anthropic, status, &body), "{status} {body}");
    }
    for (status, kind, message) in [
        (401, "authentication_error", "invalid x-api-key"),
        (404, "not_found_error", "model: claude-nothing"),
        (
            400,
            "invalid_request_error",
            "max_tokens: 999999 > 64000, which is the most",
        ),
        (400, "invalid_request_error", "temperature: range: 0..1"),
    ] {
        let body = anthropic(kind, message);
        assert!(with_tools(Api::Anthropic, status, &body), "{status} {body}");
    }
}

#[test]
fn a_sign_of_a_run_counts_at_every_status() {
    for charged in [
        json!({"message": "no", "code": "tool_use_failed", "failed_generation": "<function"}),
        json!({"message": "no", "type": "invalid_request_error", "param": "prompt", "code": "content_filter"}),
        json!({"message": "no", "code": null, "failed_generation": "{"}),
        json!({"message": "no", "code": null, "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
    ] {
        let charged = openai(charged);
        for status in [400, 403, 404, 413, 422, 429] {
            assert!(!turned_away(Api::Openai, status, &charged), "{status} {charged}");
            assert!(!with_tools(Api::Openai, status, &charged), "{status} {charged}");
        }
    }
    // What a router says of whom it asked is none.
    let busy = json!({"message": "busy", "code": 429, "metadata": {"raw": "busy", "provider_name": "p"}});
    assert!(turned_away(Api::Openai, 429, &openai(busy)));
}

/// OpenAI refuses inputs of embeddings that are too long without a code, or the name of a parameter.
#[test]
fn a_context_that_was_too_small_from_the_start_is_told_by_the_message_alone() {
    let message = "This model's maximum context length is 8192 tokens, however you requested 9001 tokens \
                   (9001 in your prompt; 0 for the completion). Please reduce your prompt; or completion length.";
    let body = openai(json!({"message": message, "type": "invalid_request_error", "param": null, "code": null}));
    assert!(turned_away(Api::Openai, 400, &body));
    assert!(!with_tools(Api::Openai, 400, &body));
    let other = body.replace("This model's", "After a while this model's");
    assert!(!turned_away(Api::Openai, 400, &other));
}
