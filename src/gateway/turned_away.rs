//! Whether a provider's refusal proves that the call cost nothing.
//!
//! A status alone proves nothing: it may come from anything on the way. The answer must be one of the
//! API's error bodies, read in one way only, with nothing of an answer in it.
//!
//! Anthropic documents its 400 as *an issue with the format or content of your request* ("Errors", API
//! reference): it is checked before the model runs, and an answer that fails later is a 500 or 529, but for
//! *Output blocked by content filtering policy*, which is a 400 of what was written (third party:
//! anthropics/claude-code issues 6195 and 43487, read 2026-11-20).
//!
//! At OpenAI, and at the many that copy its form, 400 and 422 have two meanings. Most are checks of the
//! request. But some are told once the model has run and its tokens are billed: *Could not finish the message
//! because max_tokens or model output limit was reached* (OpenAI), `json_validate_failed` and
//! `tool_use_failed` with the generation that failed (Groq), `content_filter` (Azure, whose billing counts
//! calls that were answered 400), `moderation_blocked` of an image that was drawn. So there one is free only
//! if it names the parameter that it did not take, or has a code that only a check of the request gives, and
//! shows no sign of a run. A sign of a run counts at every status.
//!
//! With tools at the provider the model runs between them, and most of what is told before a run may be told
//! within one: the context fills, a quota ends, a file is not found. There only this is free: our credential was
//! not taken (401), the model does not exist, or a setting was not taken that no run changes.

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

/// Parts of an error that tell of a run: what was written, and what a filter made of it.
const RUN_FIELDS: [&str; 5] = ["usage", "choices", "output", "failed_generation", "innererror"];

/// How messages begin that are of what was written.
const OF_THE_OUTPUT: [&str; 2] = ["could not finish the message", "output blocked by"];

/// How a context is told to be too small, where no code says so (OpenAI's embeddings, vLLM).
const CONTEXT_TOO_SMALL: &str = "this model's maximum context length is";

/// Settings of a message that stay as they are, whatever tools add to it.
const SETTINGS: [&str; 10] = [
    "max_tokens",
    "metadata",
    "model",
    "service_tier",
    "stop_sequences",
    "stream",
    "temperature",
    "thinking",
    "top_k",
    "top_p",
];

/// Whether this answer proves that the call cost nothing. With `tools` at the provider the model runs between
/// them, and may fail long after it began.
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
    let error = Told(error);
    if error.tells_of_a_run() {
        return false;
    }
    let taken = status != StatusCode::UNAUTHORIZED;
    match api {
        Api::Anthropic => {
            let in_form = body.get("type").and_then(Value::as_str) == Some("error");
            in_form && !(tools && taken && !error.is_of_a_setting(status))
        }
        Api::Openai if tools => !taken || error.is_of_the_request(status),
        Api::Openai => match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => error.is_checked_before(),
            _ => true,
        },
    }
}

fn is_there(object: &Map<String, Value>, field: &str) -> bool {
    object.get(field).is_some_and(|value| !value.is_null())
}

/// The code of an error, or else its type, for the log. Nothing else of it: the message may quote a credential.
pub(super) fn code_of(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(body)) = parse_strict(body, &LIMITS) else {
        return None;
    };
    let error = body.get("error")?;
    let is_code = |text: &&str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let text = |field: &str| error.get(field).and_then(Value::as_str).filter(is_code);
    text("code").or_else(|| text("type")).map(str::to_owned)
}

/// What an error says of itself.
struct Told<'e>(&'e Map<String, Value>);

impl Told<'_> {
    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn message(&self) -> String {
        self.text("message").to_ascii_lowercase()
    }

    /// Whether its code, or its type, is one of these.
    fn is_any(&self, known: &[&str]) -> bool {
        let mut codes = ["code", "type"]
            .map(|field| self.text(field).to_ascii_lowercase())
            .into_iter();
        codes.any(|code| known.contains(&code.as_str()))
    }

    /// Whether it says that the model, or a filter of what it wrote, has run.
    fn tells_of_a_run(&self) -> bool {
        let message = self.message();
        RUN_FIELDS.iter().any(|field| is_there(self.0, field))
            || self.is_any(&AFTER_THE_RUN)
            || OF_THE_OUTPUT.iter().any(|told| message.contains(told))
    }

    /// Whether there is nothing in it that nobody here knows.
    fn is_plain(&self) -> bool {
        let says_more = |(name, value): (&String, &Value)| !value.is_null() && !ERROR_FIELDS.contains(&name.as_str());
        !self.0.iter().any(says_more)
    }

    fn names_a_parameter(&self) -> bool {
        !self.text("param").is_empty()
    }

    /// Whether an error in OpenAI's form was told before the model ran, if nothing runs between.
    fn is_checked_before(&self) -> bool {
        self.is_plain()
            && (self.is_any(&BEFORE_THE_RUN)
                || self.names_a_parameter()
                || self.message().starts_with(CONTEXT_TOO_SMALL))
    }

    /// Whether it is of the request as it came, whatever ran since: of its model, or of a parameter that is not
    /// too long by now.
    fn is_of_the_request(&self, status: StatusCode) -> bool {
        let message = self.message();
        let is_of_the_context = self.is_any(&["context_length_exceeded"])
            || ["context length", "context window"]
                .iter()
                .any(|told| message.contains(told));
        let is_of_the_model = status == StatusCode::NOT_FOUND && self.is_any(&["model_not_found"]);
        self.is_plain() && !is_of_the_context && (is_of_the_model || self.names_a_parameter())
    }

    /// Whether an error of Anthropic's is of a setting that no run changes. It names the field first, as in
    /// `thinking.budget_tokens: Input should be ...`, and a model that does not exist as `model: ...`.
    fn is_of_a_setting(&self, status: StatusCode) -> bool {
        let field = self.text("message").split_once(':').map(|(path, _)| path);
        let field = field.and_then(|path| path.split('.').next()).unwrap_or_default();
        match (status, self.text("type")) {
            (StatusCode::BAD_REQUEST, "invalid_request_error") => SETTINGS.contains(&field),
            (StatusCode::NOT_FOUND, "not_found_error") => field == "model",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
