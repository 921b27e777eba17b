//! Other people's formats: parse and write, no I/O.
//!
//! What providers return as usage becomes a [`Usage`] in disjoint classes. The parsers are strict where
//! money is concerned (**L7**): a count that is negative, a fraction or absurd, a subset larger than its
//! total, or a field that nobody here knows and that may bear cost is refused by name, because an
//! accepted report is the last time that anybody looks. Fields that are known to bear no cost pass.

pub mod answer;
mod anthropic;
mod bedrock;
#[cfg(test)]
mod examples;
pub mod json;
mod openai;
mod quantity;
pub mod sse;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use quantity::{MAX_SECONDS, MAX_TOKENS, UsageRejection};

use quantity::Fields;

use crate::domain::price::{ServiceTier, Usage};

/// Which API's usage object it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageApi {
    OpenaiChat,
    OpenaiResponses,
    OpenaiEmbeddings,
    OpenaiTranscription,
    OpenaiImages,
    OpenaiSpeech,
    AnthropicMessages,
    BedrockConverse,
    BedrockInvoke,
}

impl UsageApi {
    pub const ALL: [Self; 9] = [
        Self::OpenaiChat,
        Self::OpenaiResponses,
        Self::OpenaiEmbeddings,
        Self::OpenaiTranscription,
        Self::OpenaiImages,
        Self::OpenaiSpeech,
        Self::AnthropicMessages,
        Self::BedrockConverse,
        Self::BedrockInvoke,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai_chat",
            Self::OpenaiResponses => "openai_responses",
            Self::OpenaiEmbeddings => "openai_embeddings",
            Self::OpenaiTranscription => "openai_transcription",
            Self::OpenaiImages => "openai_images",
            Self::OpenaiSpeech => "openai_speech",
            Self::AnthropicMessages => "anthropic_messages",
            Self::BedrockConverse => "bedrock_converse",
            Self::BedrockInvoke => "bedrock_invoke",
        }
    }

    /// The service whose price list this API's usage is settled by.
    pub const fn service(self) -> &'static str {
        match self {
            Self::OpenaiChat
            | Self::OpenaiResponses
            | Self::OpenaiEmbeddings
            | Self::OpenaiTranscription
            | Self::OpenaiImages
            | Self::OpenaiSpeech => "openai",
            Self::AnthropicMessages => "anthropic",
            Self::BedrockConverse | Self::BedrockInvoke => "bedrock",
        }
    }
}

impl fmt::Display for UsageApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no API whose usage is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an API whose usage is known; one of openai_chat, openai_responses, openai_embeddings, \
     openai_transcription, openai_images, openai_speech, anthropic_messages, bedrock_converse, bedrock_invoke"
)]
pub struct UnknownUsageApi;

impl FromStr for UsageApi {
    type Err = UnknownUsageApi;
    fn from_str(text: &str) -> Result<Self, UnknownUsageApi> {
        Self::ALL
            .into_iter()
            .find(|api| api.name() == text)
            .ok_or(UnknownUsageApi)
    }
}

/// Reads a usage object of this API.
pub fn usage_from(api: UsageApi, usage: &Value) -> Result<Usage, UsageRejection> {
    read(api, Fields::of(usage)?)
}

/// The same, where fields of these names bear no cost: the operator's word for those that nobody here knows.
/// It takes nothing away from fields that are known.
pub fn usage_with(api: UsageApi, usage: &Value, free: &BTreeSet<String>) -> Result<Usage, UsageRejection> {
    read(api, Fields::with(usage, free)?)
}

fn read(api: UsageApi, usage: Fields<'_>) -> Result<Usage, UsageRejection> {
    match api {
        UsageApi::OpenaiChat => openai::chat(usage),
        UsageApi::OpenaiResponses => openai::responses(usage),
        UsageApi::OpenaiEmbeddings => openai::embeddings(usage),
        UsageApi::OpenaiTranscription => openai::transcription(usage),
        UsageApi::OpenaiImages => openai::images(usage),
        UsageApi::OpenaiSpeech => openai::speech(usage),
        UsageApi::AnthropicMessages => anthropic::messages(usage),
        UsageApi::BedrockConverse => bedrock::converse(usage),
        UsageApi::BedrockInvoke => bedrock::invoke(usage),
    }
}

/// How many web searches are billed, by the object in which OpenAI counts the uses of its hosted tools, if it
/// says so.
pub fn searches_from(tool_usage: &Value) -> Result<Option<u64>, UsageRejection> {
    openai::searches(tool_usage)
}

/// The tier that served a call, as this API's responses name it beside their usage.
pub fn tier_from(api: UsageApi, name: &str) -> Result<ServiceTier, UsageRejection> {
    match api.service() {
        "anthropic" => anthropic::tier(name),
        "bedrock" => bedrock::tier(name),
        _ => openai::tier(name),
    }
}

/// Which API a usage object is from, if its fields leave one answer.
///
/// Anthropic's and OpenAI's Responses API share the names `input_tokens` and `output_tokens` but not
/// their meaning (the cached part is beside the total here and inside it there), so an object with these
/// alone is taken by its service; without one it is refused rather than guessed.
pub fn detect(service: Option<&str>, usage: &Value) -> Result<UsageApi, UsageRejection> {
    let object = usage.as_object().ok_or(UsageRejection::NotAnObject)?;
    let has = |key: &str| object.contains_key(key);
    let nested = |key: &str, part: &str| {
        object
            .get(key)
            .and_then(Value::as_object)
            .is_some_and(|o| o.contains_key(part))
    };
    if has("inputTokens") || has("outputTokens") {
        return Ok(UsageApi::BedrockConverse);
    }
    if has("inputTextTokenCount") || has("inputTokenCount") {
        return Ok(UsageApi::BedrockInvoke);
    }
    if has("prompt_tokens") {
        return Ok(if has("completion_tokens") {
            UsageApi::OpenaiChat
        } else {
            UsageApi::OpenaiEmbeddings
        });
    }
    if has("seconds") || has("duration") || has("input_token_details") {
        return Ok(UsageApi::OpenaiTranscription);
    }
    if object.get("type").and_then(Value::as_str) == Some("tokens") {
        return Ok(UsageApi::OpenaiTranscription);
    }
    let bedrock = service == Some("bedrock");
    let anthropic = [
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "cache_creation",
        "server_tool_use",
    ];
    if anthropic.into_iter().any(has) || has("inference_geo") || nested("output_tokens_details", "thinking_tokens") {
        return Ok(if bedrock {
            UsageApi::BedrockInvoke
        } else {
            UsageApi::AnthropicMessages
        });
    }
    if nested("input_tokens_details", "image_tokens") || nested("output_tokens_details", "image_tokens") {
        return Ok(UsageApi::OpenaiImages);
    }
    if has("input_tokens_details") || nested("output_tokens_details", "reasoning_tokens") {
        return Ok(UsageApi::OpenaiResponses);
    }
    if has("input_tokens") || has("output_tokens") {
        return match service {
            Some("anthropic") => Ok(UsageApi::AnthropicMessages),
            Some("bedrock") => Ok(UsageApi::BedrockInvoke),
            Some("openai") => Ok(UsageApi::OpenaiResponses),
            _ => Err(UsageRejection::Ambiguous),
        };
    }
    Err(UsageRejection::NothingCounted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_api_is_named_or_found() {
        for api in UsageApi::ALL {
            assert_eq!(api.name().parse(), Ok(api));
            assert_eq!(serde_json::to_value(api).ok(), Some(json!(api.name())));
        }
        assert_eq!("openai".parse::<UsageApi>(), Err(UnknownUsageApi));

        for (usage, service, api) in [
            (
                json!({"prompt_tokens": 1, "completion_tokens": 2}),
                None,
                UsageApi::OpenaiChat,
            ),
            (
                json!({"prompt_tokens": 1, "total_tokens": 1}),
                None,
                UsageApi::OpenaiEmbeddings,
            ),
            (
                json!({"type": "duration", "seconds": 3}),
                None,
                UsageApi::OpenaiTranscription,
            ),
            (
                json!({"type": "tokens", "input_tokens": 3}),
                None,
                UsageApi::OpenaiTranscription,
            ),
            (
                json!({"input_tokens": 3, "input_tokens_details": {"image_tokens": 1}}),
                None,
                UsageApi::OpenaiImages,
            ),
            (
                json!({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}}),
                None,
                UsageApi::OpenaiResponses,
            ),
            (
                json!({"input_tokens": 3, "cache_read_input_tokens": 1}),
                None,
                UsageApi::AnthropicMessages,
            ),
            (
                json!({"input_tokens": 3, "cache_read_input_tokens": 1}),
                Some("bedrock"),
                UsageApi::BedrockInvoke,
            ),
            (
                json!({"input_tokens": 3, "output_tokens": 1}),
                Some("anthropic"),
                UsageApi::AnthropicMessages,
            ),
            (
                json!({"input_tokens": 3, "output_tokens": 1}),
                Some("openai"),
                UsageApi::OpenaiResponses,
            ),
            (
                json!({"inputTokens": 3, "outputTokens": 1}),
                None,
                UsageApi::BedrockConverse,
            ),
            (json!({"inputTextTokenCount": 3}), None, UsageApi::BedrockInvoke),
        ] {
            assert_eq!(detect(service, &usage), Ok(api), "{usage}");
        }
        let thinking = json!({"input_tokens": 3, "output_tokens_details": {"thinking_tokens": 1}});
        assert_eq!(detect(None, &thinking), Ok(UsageApi::AnthropicMessages));
        let reasoning = json!({"input_tokens": 3, "output_tokens_details": {"reasoning_tokens": 1}});
        assert_eq!(detect(None, &reasoning), Ok(UsageApi::OpenaiResponses));
        let bare = json!({"input_tokens": 3, "output_tokens": 1});
        assert_eq!(detect(None, &bare), Err(UsageRejection::Ambiguous));
        assert_eq!(detect(None, &json!({"tokens": 3})), Err(UsageRejection::NothingCounted));
        assert_eq!(detect(None, &json!([])), Err(UsageRejection::NotAnObject));
    }

    fn value() -> impl Strategy<Value = Value> {
        let keys = prop_oneof![
            Just("input_tokens"),
            Just("output_tokens"),
            Just("prompt_tokens"),
            Just("completion_tokens"),
            Just("total_tokens"),
            Just("cached_tokens"),
            Just("audio_tokens"),
            Just("type"),
            Just("seconds"),
            Just("prompt_tokens_details"),
            Just("input_tokens_details"),
            Just("cache_creation"),
            Just("iterations"),
            Just("cache_creation_input_tokens"),
            Just("server_tool_use"),
            Just("inputTokens"),
            Just("cacheDetails"),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (0_u64..1000).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys.clone().prop_map(String::from), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever is sent, the answer is a usage within bounds or a rejection.
        #[test]
        fn no_value_panics(value in value()) {
            for api in UsageApi::ALL {
                if let Ok(usage) = usage_from(api, &value) {
                    prop_assert!(usage.tokens.input() <= 4 * MAX_TOKENS);
                    prop_assert!(usage.tokens.output() <= 4 * MAX_TOKENS);
                }
            }
            let _ = detect(None, &value);
        }
    }
}
