//! Usage of Amazon Bedrock: the Converse API's own object, and what InvokeModel passes through.
//!
//! Converse: documented, `TokenUsage` of the Bedrock Runtime service model (botocore 1.44.5). As at
//! Anthropic, the cached tokens are beside `inputTokens`. `totalTokens` leaves them out for some models
//! and not for others, so it is only used to notice tokens that no other field has.
//!
//! InvokeModel returns each maker's own body: Anthropic's messages, Amazon's Nova (as Converse) and Titan,
//! Meta's Llama; a stream ends with `amazon-bedrock-invocationMetrics`, whose names are its own.

use super::anthropic;
use super::quantity::{Fields, UsageRejection};
use crate::domain::price::{ServiceTier, TokenClass, Usage};

/// The tier that served a call, as Bedrock names it.
pub(super) fn tier(name: &str) -> Result<ServiceTier, UsageRejection> {
    match name {
        // Reserved capacity is paid in advance.
        "default" | "standard" | "reserved" => Ok(ServiceTier::Standard),
        "flex" => Ok(ServiceTier::Flex),
        "priority" => Ok(ServiceTier::Priority),
        "batch" => Ok(ServiceTier::Batch),
        other => Err(UsageRejection::UnknownValue {
            field: "service_tier",
            value: super::quantity::shown(other),
        }),
    }
}

/// Adds what was written to the cache, by its time where that is given.
fn written(fields: Fields<'_>, total: u64, usage: &mut Usage) -> Result<(), UsageRejection> {
    let mut unstated = total;
    for item in fields.list("cacheDetails")? {
        let item = item
            .as_object()
            .map(|_| fields.within(item))
            .ok_or(UsageRejection::WrongType {
                field: "cacheDetails",
                expected: "a list of objects",
            })??;
        item.only(&["ttl", "inputTokens"])?;
        let class = match item.text("ttl")? {
            Some("5m") => TokenClass::CacheWrite,
            Some("1h") => TokenClass::CacheWrite1h,
            _ => TokenClass::CacheWriteUnstated,
        };
        let count = item.part("inputTokens", unstated, "cacheWriteInputTokens")?;
        usage.tokens.add(class, count);
        unstated -= count;
    }
    usage.tokens.add(TokenClass::CacheWriteUnstated, unstated);
    Ok(())
}

/// `usage` of a Converse response.
pub(super) fn converse(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    fields.only(&[
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
        // The same counts under the names that some models' responses use.
        "cacheReadInputTokenCount",
        "cacheWriteInputTokenCount",
        "cacheDetails",
        "service_tier",
    ])?;
    let mut usage = Usage::one_call();
    if let Some(name) = fields.text("service_tier")? {
        usage.tier = tier(name)?;
    }
    let sent = fields.count("inputTokens")?;
    let made = fields.count("outputTokens")?;
    let either = |a, b| Ok::<_, UsageRejection>(fields.maybe(a)?.max(fields.maybe(b)?).unwrap_or(0));
    let read = either("cacheReadInputTokens", "cacheReadInputTokenCount")?;
    let wrote = either("cacheWriteInputTokens", "cacheWriteInputTokenCount")?;
    usage.tokens.add(TokenClass::Input, sent);
    usage.tokens.add(TokenClass::CacheRead, read);
    written(fields, wrote, &mut usage)?;
    usage.tokens.add(TokenClass::Output, made);
    if let Some(total) = fields.maybe("totalTokens")? {
        if total < sent + made {
            return Err(UsageRejection::PartsDiffer { total: "totalTokens" });
        }
        usage
            .tokens
            .add(TokenClass::Reasoning, total.saturating_sub(sent + made + read + wrote));
    }
    Ok(usage)
}

/// The usage of an InvokeModel response: the part of its body that counts.
pub(super) fn invoke(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    if fields.has("inputTokens") || fields.has("outputTokens") {
        return converse(fields);
    }
    let mut counted = Usage::one_call();
    if fields.has("inputTextTokenCount") {
        // Titan: an embedding has no more than this, a text one result for each completion.
        fields.only(&["inputTextTokenCount", "results"])?;
        counted
            .tokens
            .add(TokenClass::Input, fields.count("inputTextTokenCount")?);
        for item in fields.list("results")? {
            let item = item
                .as_object()
                .map(|_| fields.within(item))
                .ok_or(UsageRejection::WrongType {
                    field: "results",
                    expected: "a list of objects",
                })??;
            item.only(&["tokenCount", "outputText", "completionReason"])?;
            counted.tokens.add(TokenClass::Output, item.count("tokenCount")?);
        }
        if counted.tokens.output() > super::MAX_TOKENS {
            return Err(UsageRejection::Absurd { field: "results" });
        }
        return Ok(counted);
    }
    if fields.has("prompt_token_count") {
        fields.only(&[
            "prompt_token_count",
            "generation_token_count",
            "generation",
            "stop_reason",
        ])?;
        counted
            .tokens
            .add(TokenClass::Input, fields.count("prompt_token_count")?);
        counted
            .tokens
            .add(TokenClass::Output, fields.count("generation_token_count")?);
        return Ok(counted);
    }
    if fields.has("inputTokenCount") {
        fields.only(&[
            "inputTokenCount",
            "outputTokenCount",
            "cacheReadInputTokenCount",
            "cacheWriteInputTokenCount",
            "invocationLatency",
            "firstByteLatency",
        ])?;
        counted.tokens.add(TokenClass::Input, fields.count("inputTokenCount")?);
        counted.tokens.add(
            TokenClass::CacheRead,
            fields.maybe("cacheReadInputTokenCount")?.unwrap_or(0),
        );
        written(
            fields,
            fields.maybe("cacheWriteInputTokenCount")?.unwrap_or(0),
            &mut counted,
        )?;
        counted
            .tokens
            .add(TokenClass::Output, fields.count("outputTokenCount")?);
        return Ok(counted);
    }
    anthropic::messages(fields)
}
