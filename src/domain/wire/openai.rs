//! Usage objects of OpenAI, and of the many that copy its form.
//!
//! Field names and meanings: documented, the types of the `openai` Python SDK 3.51.0 (`CompletionUsage`,
//! `ResponseUsage`, `CreateEmbeddingResponse.Usage`, `Transcription.Usage`, `ImagesResponse.Usage`).
//!
//! Details are parts of their total: cached, written, audio and image tokens of the prompt, reasoning and
//! audio tokens of the completion. Where parts may overlap and the API does not say how (cached audio, a
//! written image), tokens go where they cost most: what is cached is taken out of the text first, then
//! out of the images, and out of the audio last.

use serde_json::Value;

use super::quantity::{Fields, UsageRejection};
use crate::domain::price::{ServiceTier, TokenClass, Usage};

/// The parts of a prompt, as their API reported them.
struct Prompt {
    total: u64,
    cached: u64,
    /// Written to the cache, by how long it is kept: short, twelve hours, not stated.
    written: [u64; 3],
    audio: u64,
    image: u64,
}

impl Prompt {
    /// Splits the prompt into classes that do not overlap and add up to its total.
    fn classes(&self, usage: &mut Usage) {
        let mut text = self.total.saturating_sub(self.audio).saturating_sub(self.image);
        let mut image = self.image;
        let mut audio = self.audio;
        let take = |from: &mut u64, wanted: u64| {
            let taken = wanted.min(*from);
            *from -= taken;
            taken
        };
        let [short, twelve_hours, unstated] = self.written;
        for (class, written) in [
            (TokenClass::CacheWriteUnstated, unstated),
            (TokenClass::CacheWrite12h, twelve_hours),
            (TokenClass::CacheWrite, short),
        ] {
            let from_text = take(&mut text, written);
            let from_image = take(&mut image, written - from_text);
            usage.tokens.add(class, from_text + from_image);
        }
        let cached_text = take(&mut text, self.cached);
        let cached_image = take(&mut image, self.cached - cached_text);
        let cached_audio = take(&mut audio, self.cached - cached_text - cached_image);
        for (class, count) in [
            (TokenClass::CacheRead, cached_text),
            (TokenClass::CacheReadImage, cached_image),
            (TokenClass::CacheReadAudio, cached_audio),
            (TokenClass::Input, text),
            (TokenClass::InputImage, image),
            (TokenClass::InputAudio, audio),
        ] {
            usage.tokens.add(class, count);
        }
    }
}

/// Reads the details of a prompt of `total` tokens.
fn prompt(total: u64, name: &'static str, details: Option<Fields<'_>>) -> Result<Prompt, UsageRejection> {
    let mut prompt = Prompt {
        total,
        cached: 0,
        written: [0; 3],
        audio: 0,
        image: 0,
    };
    let Some(details) = details else { return Ok(prompt) };
    details.only(&[
        "cached_tokens",
        "cache_write_tokens",
        "cache_write_tokens_details",
        "audio_tokens",
        "image_tokens",
        "text_tokens",
    ])?;
    prompt.cached = details.part("cached_tokens", total, name)?;
    prompt.audio = details.part("audio_tokens", total, name)?;
    prompt.image = details.part("image_tokens", total - prompt.audio, name)?;
    details.part("text_tokens", total, name)?;
    let written = details.part("cache_write_tokens", total, name)?;
    let mut unstated = written;
    if let Some(by_time) = details.object("cache_write_tokens_details")? {
        by_time.only(&["ttl_30m_tokens", "ttl_12h_tokens"])?;
        prompt.written[0] = by_time.part("ttl_30m_tokens", unstated, "cache_write_tokens")?;
        unstated -= prompt.written[0];
        prompt.written[1] = by_time.part("ttl_12h_tokens", unstated, "cache_write_tokens")?;
        unstated -= prompt.written[1];
    }
    prompt.written[2] = unstated;
    Ok(prompt)
}

/// Splits a completion of `total` tokens into classes.
fn completion(
    total: u64,
    name: &'static str,
    details: Option<Fields<'_>>,
    usage: &mut Usage,
) -> Result<(), UsageRejection> {
    let (mut reasoning, mut audio, mut image) = (0, 0, 0);
    if let Some(details) = details {
        details.only(&[
            "reasoning_tokens",
            "audio_tokens",
            "image_tokens",
            "text_tokens",
            // Parts of the completion that are billed like the rest of it.
            "accepted_prediction_tokens",
            "rejected_prediction_tokens",
        ])?;
        reasoning = details.part("reasoning_tokens", total, name)?;
        audio = details.part("audio_tokens", total - reasoning, name)?;
        image = details.part("image_tokens", total - reasoning - audio, name)?;
        for part in [
            "text_tokens",
            "accepted_prediction_tokens",
            "rejected_prediction_tokens",
        ] {
            details.part(part, total, name)?;
        }
    }
    usage.tokens.add(TokenClass::Reasoning, reasoning);
    usage.tokens.add(TokenClass::OutputAudio, audio);
    usage.tokens.add(TokenClass::OutputImage, image);
    usage.tokens.add(TokenClass::Output, total - reasoning - audio - image);
    Ok(())
}

/// Compares the grand total with its parts. A total below its parts is a fault. One above them counts
/// tokens that the parts leave out (some that copy the form leave the reasoning out), and these are
/// charged as `rest`.
fn total(fields: Fields<'_>, parts: u64, rest: TokenClass, usage: &mut Usage) -> Result<(), UsageRejection> {
    if let Some(total) = fields.maybe("total_tokens")? {
        match total.checked_sub(parts) {
            Some(extra) => usage.tokens.add(rest, extra),
            None => return Err(UsageRejection::PartsDiffer { total: "total_tokens" }),
        }
    }
    Ok(())
}

/// The tier that served a call, as OpenAI's responses name it, and Groq's (console.groq.com/docs/service-tiers,
/// read 2026-11-20: `on_demand` "is the default tier if you omit service_tier", and flex has its price). Groq's
/// `performance` is sold by contract, at a price that no list has, so it stays unknown.
pub(super) fn tier(name: &str) -> Result<ServiceTier, UsageRejection> {
    match name {
        // Scaled capacity is paid in advance; at the standard rates its use is not undercounted. `auto` is
        // what a client may ask for and no call is served in; it stands for the project's default.
        "default" | "standard" | "on_demand" | "scale" | "auto" => Ok(ServiceTier::Standard),
        "batch" => Ok(ServiceTier::Batch),
        "flex" => Ok(ServiceTier::Flex),
        "priority" | "fast" => Ok(ServiceTier::Priority),
        "ultrafast" => Ok(ServiceTier::Ultrafast),
        other => Err(UsageRejection::UnknownValue {
            field: "service_tier",
            value: super::quantity::shown(other),
        }),
    }
}

fn start(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    let mut usage = Usage::one_call();
    if let Some(name) = fields.text("service_tier")? {
        usage.tier = tier(name)?;
    }
    Ok(usage)
}

/// What those that copy the form say beside the counts, and what costs nothing by itself: how long it took
/// (Groq), what the provider makes of the counts in money (OpenRouter, xAI), and the parts of the prompt by
/// the cache (DeepSeek), which are read apart. The searches of xAI (`num_sources_used`) are billed, so they
/// are not among these; none, which is zero, passes.
const DESCRIPTIVE: [&str; 10] = [
    "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens",
    "queue_time",
    "prompt_time",
    "completion_time",
    "total_time",
    "cost",
    "is_byok",
    "cost_details",
    "cost_in_usd_ticks",
];

/// The part of a prompt that DeepSeek had in its cache; with the part that it had not, it is all of it.
fn cache_hit(fields: Fields<'_>, sent: u64, name: &'static str) -> Result<Option<u64>, UsageRejection> {
    let Some(hit) = fields.maybe("prompt_cache_hit_tokens")? else {
        return Ok(None);
    };
    let missed = fields.maybe("prompt_cache_miss_tokens")?;
    match missed.unwrap_or(sent.saturating_sub(hit)).checked_add(hit) {
        Some(all) if all == sent => Ok(Some(hit)),
        _ => Err(UsageRejection::PartsDiffer { total: name }),
    }
}

/// What an API calls the two counts and their details.
struct Names {
    sent: &'static str,
    made: &'static str,
    sent_details: &'static str,
    made_details: &'static str,
}

const CHAT: Names = Names {
    sent: "prompt_tokens",
    made: "completion_tokens",
    sent_details: "prompt_tokens_details",
    made_details: "completion_tokens_details",
};

const RESPONSES: Names = Names {
    sent: "input_tokens",
    made: "output_tokens",
    sent_details: "input_tokens_details",
    made_details: "output_tokens_details",
};

impl Names {
    /// Reads the totals of a usage object that has these fields and no others.
    fn read(&self, fields: Fields<'_>) -> Result<(Usage, u64, u64), UsageRejection> {
        let mut known = DESCRIPTIVE.to_vec();
        known.extend([self.sent, self.made, self.sent_details, self.made_details]);
        known.extend(["total_tokens", "service_tier"]);
        fields.only(&known)?;
        Ok((start(fields)?, fields.count(self.sent)?, fields.count(self.made)?))
    }

    /// What a model read and wrote.
    fn conversation(&self, fields: Fields<'_>) -> Result<Usage, UsageRejection> {
        let (mut usage, sent, mut made) = self.read(fields)?;
        let details = fields.object(self.sent_details)?;
        let mut read = prompt(sent, self.sent, details)?;
        if let Some(hit) = cache_hit(fields, sent, self.sent)? {
            // Where both are told, what costs more is believed.
            read.cached = match details.is_some_and(|details| details.has("cached_tokens")) {
                true => hit.min(read.cached),
                false => hit,
            };
        }
        read.classes(&mut usage);
        let details = fields.object(self.made_details)?;
        let reasoning = details.map(|details| details.maybe("reasoning_tokens")).transpose()?;
        // xAI counts the reasoning beside the completion; the grand total tells.
        if let Some(beside) = reasoning.flatten()
            && fields.maybe("total_tokens")? == Some(sent + made + beside)
        {
            made += beside;
        }
        completion(made, self.made, details, &mut usage)?;
        total(fields, sent + made, TokenClass::Reasoning, &mut usage)?;
        Ok(usage)
    }
}

/// `usage` of a chat completion or a completion.
pub(super) fn chat(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    CHAT.conversation(fields)
}

/// `usage` of a response of the Responses API.
pub(super) fn responses(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    RESPONSES.conversation(fields)
}

/// `usage` at the end of a stream of speech: all that is made is audio.
pub(super) fn speech(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    let (mut usage, sent, made) = RESPONSES.read(fields)?;
    prompt(sent, RESPONSES.sent, fields.object(RESPONSES.sent_details)?)?.classes(&mut usage);
    if let Some(details) = fields.object(RESPONSES.made_details)? {
        details.only(&["audio_tokens"])?;
        details.part("audio_tokens", made, RESPONSES.made)?;
    }
    usage.tokens.add(TokenClass::OutputAudio, made);
    total(fields, sent + made, TokenClass::OutputAudio, &mut usage)?;
    Ok(usage)
}

/// The searches that are billed, of the object in which hosted tools are counted beside the usage. What
/// they wrote with another model has that model's price, not this entry's.
pub(super) fn searches(tool_usage: &Value) -> Result<Option<u64>, UsageRejection> {
    let fields = Fields::of(tool_usage)?;
    fields.only(&["image_gen", "web_search"])?;
    if let Some(images) = fields.object("image_gen")? {
        let other = UsageRejection::OtherModel { field: "image_gen" };
        images.only(&[]).map_err(|_| other)?;
    }
    match fields.object("web_search")? {
        Some(searches) => {
            searches.only(&["num_requests"])?;
            searches.count("num_requests").map(Some)
        }
        None => Ok(None),
    }
}

/// `usage` of an embeddings response.
pub(super) fn embeddings(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    fields.only(&["prompt_tokens", "total_tokens", "service_tier"])?;
    let mut usage = start(fields)?;
    let sent = fields.count("prompt_tokens")?;
    usage.tokens.add(TokenClass::Input, sent);
    total(fields, sent, TokenClass::Input, &mut usage)?;
    Ok(usage)
}

/// `usage` of a transcription or translation, by tokens or by duration; or a verbose response's
/// `duration`, from before there was a usage object.
pub(super) fn transcription(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    let kind = fields.text("type")?;
    if kind == Some("tokens") || kind.is_none() && fields.has("input_tokens") {
        return transcription_tokens(fields);
    }
    if let Some(other) = kind.filter(|&kind| kind != "duration") {
        return Err(UsageRejection::UnknownValue {
            field: "type",
            value: super::quantity::shown(other),
        });
    }
    fields.only(&["type", "seconds", "duration", "service_tier"])?;
    let mut usage = start(fields)?;
    // Both say the same; where they differ, the longer one is charged.
    let micros = fields.micros("seconds")?.max(fields.micros("duration")?);
    usage.micros = micros.ok_or(UsageRejection::Missing { field: "seconds" })?;
    Ok(usage)
}

fn transcription_tokens(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    fields.only(&[
        "type",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "input_token_details",
        "service_tier",
    ])?;
    let mut usage = start(fields)?;
    let sent = fields.count("input_tokens")?;
    let made = fields.count("output_tokens")?;
    let mut text = 0;
    if let Some(details) = fields.object("input_token_details")? {
        details.only(&["audio_tokens", "text_tokens"])?;
        text = details.part("text_tokens", sent, "input_tokens")?;
        details.part("audio_tokens", sent - text, "input_tokens")?;
    }
    // What is not said to be text is audio, which costs at least as much.
    usage.tokens.add(TokenClass::Input, text);
    usage.tokens.add(TokenClass::InputAudio, sent - text);
    usage.tokens.add(TokenClass::Output, made);
    total(fields, sent + made, TokenClass::Reasoning, &mut usage)?;
    Ok(usage)
}

/// `usage` of an image that was made or edited.
pub(super) fn images(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    let (mut usage, sent, made) = RESPONSES.read(fields)?;
    let details = fields.object("input_tokens_details")?;
    let mut parts = prompt(sent, "input_tokens", details)?;
    let text = match details {
        Some(details) => details.part("text_tokens", sent - parts.image, "input_tokens")?,
        None => 0,
    };
    // What is not said to be text is an image, which costs at least as much.
    parts.image = sent - parts.audio - text.min(sent - parts.audio);
    parts.classes(&mut usage);
    let mut written = 0;
    if let Some(details) = fields.object("output_tokens_details")? {
        details.only(&["image_tokens", "text_tokens", "reasoning_tokens"])?;
        let reasoning = details.part("reasoning_tokens", made, "output_tokens")?;
        let text = details.part("text_tokens", made, "output_tokens")?;
        details.part("image_tokens", made - text, "output_tokens")?;
        written = text.max(reasoning);
    }
    usage.tokens.add(TokenClass::Output, written);
    usage.tokens.add(TokenClass::OutputImage, made - written);
    total(fields, sent + made, TokenClass::OutputImage, &mut usage)?;
    Ok(usage)
}
