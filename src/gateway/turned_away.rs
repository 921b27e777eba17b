//! Whether a provider's refusal proves that the call cost nothing.
//!
//! A status alone proves nothing: it may come from anything on the way. The answer must be one of the
//! API's error bodies, read in one way only, with nothing of an answer in it.
//!
//! Anthropic documents its 400 as *an issue with the format or content of your request* ("Errors", API
//! reference): it is checked before the model runs, and an answer that fails later is a 500 or 529.
//!
//! At OpenAI, and at the many that copy its form, 400 and 422 have two meanings. Most are checks of the
//! request. But some are told once the model has run and its tokens are billed: *Could not finish the message
//! because max_tokens or model output limit was reached* (OpenAI), `json_validate_failed` and
//! `tool_use_failed` with the generation that failed (Groq), `content_filter` (Azure, whose billing counts
//! calls that were answered 400), `moderation_blocked` of an image that was drawn. So there one is free only
//! if it names the parameter that it did not take, or has a code that only a check of the request gives, and
//! shows no sign of a run.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::domain::call::Api;
use crate::domain::wire::json::{JsonLimits, parse_strict};

/// The statuses of requests that a provider may have turned away before it did anything.
const TURNED_AWAY: [StatusCode; 7] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::TOO_MANY_REQUESTS,
];

/// An error body is short.
const LIMITS: JsonLimits = JsonLimits {
    bytes: 1 << 20,
    depth: 16,
    values: 10_000,
};

/// Codes that only a check of the request gives.
const BEFORE_THE_RUN: [&str; 42] = [
    "array_above_max_length",
    "array_below_min_length",
    "billing_hard_limit_reached",
    "context_length_exceeded",
    "decimal_above_max_value",
    "decimal_below_min_value",
    "empty_array",
    "empty_string",
    "image_parse_error",
    "image_too_large",
    "image_too_small",
    "integer_above_max_value",
    "integer_below_min_value",
    "invalid_api_key",
    "invalid_base64_image",
    "invalid_encrypted_content",
    "invalid_function_parameters",
    "invalid_image",
    "invalid_image_format",
    "invalid_image_mode",
    "invalid_image_url",
    "invalid_json",
    "invalid_json_schema",
    "invalid_language_format",
    "invalid_model",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "model_decommissioned",
    "model_not_active",
    "model_not_found",
    "object_above_max_properties",
    "previous_response_not_found",
    "rate_limit_exceeded",
    "string_above_max_length",
    "string_below_min_length",
    "unknown_parameter",
    "unsupported_file",
    "unsupported_image_media_type",
    "unsupported_model",
    "unsupported_parameter",
    "unsupported_value",
];

/// Codes of requests that the model, or a filter of what it wrote, has seen; some come with a `param`.
const AFTER_THE_RUN: [&str; 9] = [
    "content_filter",
    "content_policy_violation",
    "invalid_prompt",
    "json_validate_failed",
    "moderation_blocked",
    "output_parse_failed",
    "responsibleaipolicyviolation",
    "image_generation_user_error",
    "tool_use_failed",
];

/// What an error of this form says, and nothing else.
const ERROR_FIELDS: [&str; 4] = ["message", "type", "param", "code"];

/// Parts of an answer: where one is, something ran.
const ANSWER_FIELDS: [&str; 6] = ["usage", "choices", "output", "content", "data", "failed_generation"];

/// Whether this answer proves that the call cost nothing. With `tools` at the provider the model runs between
/// them, and may go past its context long after it began.
pub(super) fn is_turned_away(api: Api, status: StatusCode, body: &[u8], tools: bool) -> bool {
    if !TURNED_AWAY.contains(&status) {
        return false;
    }
    let Ok(Value::Object(body)) = parse_strict(body, &LIMITS) else {
        return false;
    };
    let Some(Value::Object(error)) = body.get("error") else {
        return false;
    };
    if !error.contains_key("message") || ANSWER_FIELDS.iter().any(|field| is_there(&body, field)) {
        return false;
    }
    match api {
        Api::Anthropic => body.get("type").and_then(Value::as_str) == Some("error"),
        Api::Openai => {
            let is_of_the_request = [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY].contains(&status);
            !is_of_the_request || is_checked_before(error, tools)
        }
    }
}

fn is_there(object: &Map<String, Value>, field: &str) -> bool {
    object.get(field).is_some_and(|value| !value.is_null())
}

/// Whether an error in OpenAI's form was told before the model ran.
fn is_checked_before(error: &Map<String, Value>, tools: bool) -> bool {
    let says_more = |(name, value): (&String, &Value)| !value.is_null() && !ERROR_FIELDS.contains(&name.as_str());
    if error.iter().any(says_more) {
        return false;
    }
    let text = |field| error.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("message")
        .to_ascii_lowercase()
        .contains("could not finish the message")
    {
        return false;
    }
    let codes = ["code", "type"].map(|field| text(field).to_ascii_lowercase());
    let any = |known: &[&str]| codes.iter().any(|code| known.contains(&code.as_str()));
    if any(&AFTER_THE_RUN) || tools && any(&["context_length_exceeded"]) {
        return false;
    }
    any(&BEFORE_THE_RUN) || !text("param").is_empty()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_context_may_fill_while_tools_run() {
        let body = openai(json!({"message": "too long", "param": "input", "code": "context_length_exceeded"}));
        assert!(is_turned_away(
            Api::Openai,
            StatusCode::BAD_REQUEST,
            body.as_bytes(),
            false
        ));
        assert!(!is_turned_away(
            Api::Openai,
            StatusCode::BAD_REQUEST,
            body.as_bytes(),
            true
        ));
    }
}
