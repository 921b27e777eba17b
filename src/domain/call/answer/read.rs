//! Reading a whole answer.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Answer, AnswerRejection, Stated, Told, UsageFault, media, openai};
use crate::domain::call::route::Route;
use crate::domain::wire::answer::chat::Chat;
use crate::domain::wire::answer::media::Media;
use crate::domain::wire::answer::messages::Message;
use crate::domain::wire::answer::responses::Response;
use crate::domain::wire::answer::{Unreadable, read, says_something};
use crate::domain::wire::json::{JsonLimits, parse_strict};
use crate::domain::wire::{UsageApi, tier_from, usage_with};

/// A usage is small: the longest has an entry for each turn of a loop at the provider.
const USAGE_LIMITS: JsonLimits = JsonLimits {
    bytes: 1 << 20,
    depth: 8,
    values: 100_000,
};

impl From<Unreadable> for AnswerRejection {
    fn from(_: Unreadable) -> Self {
        Self::Unreadable
    }
}

/// Reads the whole answer to a call on this route. A transcription may be plain text and speech is a
/// file: they say nothing of what they used. Elsewhere what is no JSON is rejected, and whoever has a
/// gate must not pass it on.
pub fn read_answer(route: Route, body: &[u8]) -> Result<Answer, AnswerRejection> {
    read_answer_with(route, body, &BTreeSet::new())
}

/// The same, where fields of these names of its usage bear no cost.
pub fn read_answer_with(route: Route, body: &[u8], free: &BTreeSet<String>) -> Result<Answer, AnswerRejection> {
    match route {
        Route::ChatCompletions | Route::Completions => Ok(chat(route, &read(body)?, free)),
        Route::Responses => Ok(response(&read(body)?, free)),
        Route::Messages => Ok(message(&read(body)?, free)),
        Route::Transcriptions | Route::Translations | Route::Speech => {
            Ok(read(body).map(|answer| other(route, &answer, free)).unwrap_or_default())
        }
        Route::Embeddings
        | Route::ImageGenerations
        | Route::ImageEdits
        | Route::ImageVariations
        | Route::Moderations
        | Route::OpenaiModels
        | Route::CountTokens
        | Route::AnthropicModels => Ok(other(route, &read(body)?, free)),
    }
}

fn chat(route: Route, chat: &Chat<'_>, free: &BTreeSet<String>) -> Answer {
    let mut answer = Answer::default();
    answer.says(&chat.id, &chat.model);
    for choice in &chat.choices.0 {
        answer.on_limit |= choice.finish_reason.get() == Some("length");
        for tool in choice.message.0.iter().flat_map(openai::tools_of) {
            answer.calls(tool);
        }
    }
    let usage = chat.usage.filter(|raw| says_something(Some(raw)));
    let tier = chat.service_tier.get();
    answer.settle_by(usage.map(|raw| usage_of(route, raw.get(), tier, free)).transpose());
    answer
}

pub(in crate::domain::call) fn response(response: &Response<'_>, free: &BTreeSet<String>) -> Answer {
    let mut answer = Answer::default();
    answer.says(&response.id, &response.model);
    answer.on_limit = response.is_on_limit();
    for tool in response.output.0.iter().filter_map(|item| item.tool()) {
        answer.calls(&tool);
    }
    answer.calls_remote = response.output.0.iter().any(|item| item.is_remote());
    // One that is not over is being worked on in the background, and its usage grows.
    let usage = response.usage.filter(|raw| says_something(Some(raw)));
    let usage = usage.filter(|_| response.is_over() || response.status.get().is_none());
    let usage = usage.map(|raw| {
        let mut told = usage_of(Route::Responses, raw.get(), response.service_tier.get(), free)?;
        openai::hosted_tools(&mut told, response.tool_usage, &response.output.0)?;
        Ok(told)
    });
    answer.settle_by(usage.transpose());
    answer
}

fn message(message: &Message<'_>, free: &BTreeSet<String>) -> Answer {
    let mut answer = Answer::default();
    answer.says(&message.id, &message.model);
    answer.on_limit = message.stop_reason.get() == Some("max_tokens");
    for tool in message.content.0.iter().filter_map(|block| block.tool()) {
        answer.calls(tool);
    }
    answer.calls_remote = message.content.0.iter().any(|block| block.is_remote());
    let usage = message.usage.filter(|raw| says_something(Some(raw)));
    let usage = usage.map(|raw| usage_of(Route::Messages, raw.get(), None, free));
    answer.settle_by(usage.transpose());
    answer
}

fn other(route: Route, media: &Media<'_>, free: &BTreeSet<String>) -> Answer {
    let mut answer = Answer::default();
    answer.says(&media.id, &media.model);
    answer.settle_by(media::usage(route, media, free));
    answer
}

/// Which form the usage of this route has.
const fn api_of(route: Route) -> UsageApi {
    match route {
        Route::ChatCompletions | Route::Completions => UsageApi::OpenaiChat,
        Route::Responses => UsageApi::OpenaiResponses,
        Route::Embeddings | Route::Moderations | Route::OpenaiModels => UsageApi::OpenaiEmbeddings,
        Route::Transcriptions | Route::Translations => UsageApi::OpenaiTranscription,
        Route::Speech => UsageApi::OpenaiSpeech,
        Route::ImageGenerations | Route::ImageEdits | Route::ImageVariations => UsageApi::OpenaiImages,
        Route::Messages | Route::CountTokens | Route::AnthropicModels => UsageApi::AnthropicMessages,
    }
}

pub(in crate::domain::call) fn strict(raw: &str) -> Result<Value, UsageFault> {
    Ok(parse_strict(raw.as_bytes(), &USAGE_LIMITS)?)
}

/// Reads a usage, and the tier that the answer names beside it.
pub(in crate::domain::call) fn usage_of(
    route: Route,
    raw: &str,
    tier: Option<&str>,
    free: &BTreeSet<String>,
) -> Result<Told, UsageFault> {
    merged_usage(route, &strict(raw)?, tier, free)
}

/// The same of one that was put together from parts.
pub(in crate::domain::call) fn merged_usage(
    route: Route,
    usage: &Value,
    tier: Option<&str>,
    free: &BTreeSet<String>,
) -> Result<Told, UsageFault> {
    let api = api_of(route);
    let mut read = usage_with(api, usage, free)?;
    if let Some(tier) = tier {
        read.tier = tier_from(api, tier)?;
    }
    let stated = stated(usage, tier);
    Ok(Told { usage: read, stated })
}

/// What this usage, and the tier beside it, say that moves the price. `auto` is no tier, and a region that is
/// not available is none.
fn stated(usage: &Value, tier: Option<&str>) -> Stated {
    let text = |field: &str| usage.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let searches = usage
        .get("server_tool_use")
        .and_then(|used| used.get("web_search_requests"));
    Stated {
        tier: tier.or(text("service_tier")).is_some_and(|tier| tier != "auto"),
        fast: text("speed").is_some(),
        region: text("inference_geo").is_some_and(|region| region != "not_available"),
        searches: searches.is_some_and(|searches| !searches.is_null()),
    }
}
