//! Usage objects of Anthropic's Messages API.
//!
//! Field names and meanings: documented, the types of the `anthropic` Python SDK 2.10.0 (`Usage`,
//! `BetaUsage`, `ServerToolUsage`, `BetaIterationsUsage`).
//!
//! Unlike at OpenAI, the cached tokens are beside `input_tokens`, not inside it. What was written to the
//! cache is given in all and, by newer versions, by how long it is kept; what was written for a time that
//! is not given is charged at the dearest. Thinking is part of the output and has no price of its own.

use super::quantity::{Fields, UsageRejection};
use crate::domain::price::{Region, ServiceTier, TokenClass, Tokens, Usage};

const TOKEN_FIELDS: [&str; 6] = [
    "input_tokens",
    "output_tokens",
    "cache_creation",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens_details",
];

/// The counts that an iteration and a whole message have in common.
fn tokens(fields: Fields<'_>) -> Result<Tokens, UsageRejection> {
    let mut tokens = Tokens::default();
    let made = fields.count("output_tokens")?;
    if let Some(details) = fields.object("output_tokens_details")? {
        details.only(&["thinking_tokens"])?;
        details.part("thinking_tokens", made, "output_tokens")?;
    }
    let written = fields.maybe("cache_creation_input_tokens")?;
    let (mut short, mut hour) = (0, 0);
    if let Some(by_time) = fields.object("cache_creation")? {
        by_time.only(&["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"])?;
        short = by_time.maybe("ephemeral_5m_input_tokens")?.unwrap_or(0);
        hour = by_time.maybe("ephemeral_1h_input_tokens")?.unwrap_or(0);
    }
    let unstated = match written {
        Some(written) => written.checked_sub(short + hour).ok_or(UsageRejection::SubsetLarger {
            part: "cache_creation",
            total: "cache_creation_input_tokens",
        })?,
        None => 0,
    };
    for (class, count) in [
        (TokenClass::Input, fields.count("input_tokens")?),
        (
            TokenClass::CacheRead,
            fields.maybe("cache_read_input_tokens")?.unwrap_or(0),
        ),
        (TokenClass::CacheWrite, short),
        (TokenClass::CacheWrite1h, hour),
        (TokenClass::CacheWriteUnstated, unstated),
        (TokenClass::Output, made),
    ] {
        tokens.add(class, count);
    }
    Ok(tokens)
}

/// Brings in the iterations of a server-side loop. Those that sampled the message are in the totals
/// already (where they say more, they are believed); a compaction is billed beside them; an adviser or a
/// fallback is another model's, so its price is not this entry's.
fn iterations(fields: Fields<'_>, tokens: &mut Tokens) -> Result<(), UsageRejection> {
    let mut sampled = Tokens::default();
    let mut beside = Tokens::default();
    for item in fields.list("iterations")? {
        let item = item
            .as_object()
            .map(|_| fields.within(item))
            .ok_or(UsageRejection::WrongType {
                field: "iterations",
                expected: "a list of objects",
            })??;
        let into = match item.text("type")? {
            Some("message") => &mut sampled,
            Some("compaction") => &mut beside,
            Some("advisor_message" | "fallback_message") => {
                return Err(UsageRejection::OtherModel { field: "iterations" });
            }
            Some(other) => {
                return Err(UsageRejection::UnknownValue {
                    field: "iterations",
                    value: super::quantity::shown(other),
                });
            }
            None => return Err(UsageRejection::Missing { field: "type" }),
        };
        let mut known = TOKEN_FIELDS.to_vec();
        known.extend(["type", "model"]);
        item.only(&known)?;
        for (class, count) in self::tokens(item)?.iter() {
            into.add(class, count);
        }
    }
    for class in TokenClass::ALL {
        let total = tokens
            .get(class)
            .max(sampled.get(class))
            .saturating_add(beside.get(class));
        if total > super::MAX_TOKENS {
            return Err(UsageRejection::Absurd { field: "iterations" });
        }
        tokens.set(class, total);
    }
    Ok(())
}

/// The tier that served a message, as Anthropic names it.
pub(super) fn tier(name: &str) -> Result<ServiceTier, UsageRejection> {
    match name {
        // Priority capacity is paid in advance for a term, at most at the standard price of its tokens.
        "standard" | "priority" => Ok(ServiceTier::Standard),
        "batch" => Ok(ServiceTier::Batch),
        other => Err(UsageRejection::UnknownValue {
            field: "service_tier",
            value: super::quantity::shown(other),
        }),
    }
}

/// `usage` of a message.
pub(super) fn messages(fields: Fields<'_>) -> Result<Usage, UsageRejection> {
    let mut known = TOKEN_FIELDS.to_vec();
    known.extend([
        "iterations",
        "server_tool_use",
        "service_tier",
        "inference_geo",
        "speed",
        // A credit never reduces spend against a cap, so what became of one does not matter here.
        "fallback_credit",
    ]);
    fields.only(&known)?;
    let mut usage = Usage::one_call();
    usage.tokens = tokens(fields)?;
    iterations(fields, &mut usage.tokens)?;
    if let Some(tools) = fields.object("server_tool_use")? {
        // A fetch costs the tokens that it brings and nothing else.
        tools.only(&["web_search_requests", "web_fetch_requests"])?;
        usage.web_searches = tools.maybe("web_search_requests")?.unwrap_or(0);
        tools.maybe("web_fetch_requests")?;
    }
    if let Some(name) = fields.text("service_tier")? {
        usage.tier = tier(name)?;
    }
    usage.region = match fields.text("inference_geo")? {
        None | Some("" | "global" | "not_available") => Region::Global,
        Some("us") => Region::Us,
        Some("eu") => Region::Eu,
        Some(_) => Region::Other,
    };
    usage.fast = match fields.text("speed")? {
        None | Some("standard") => false,
        Some("fast") => true,
        Some(other) => {
            return Err(UsageRejection::UnknownValue {
                field: "speed",
                value: super::quantity::shown(other),
            });
        }
    };
    Ok(usage)
}
