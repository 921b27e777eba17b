//! `[gateway]`: the rules of every call through it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reader::{Item, Table};
use super::settings::Gateway;
use super::values;
use crate::domain::call::{Route, Unlisted};
use crate::domain::money::{MAX_POSTING, Usd};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// No model writes more in one answer; a larger number is a slip.
const MAX_TOKENS: u64 = 10_000_000;
const MAX_NAMES: usize = 1_000;
/// Bytes of a field's or a beta's name at most.
const MAX_NAME: usize = 200;

pub(super) fn gateway(table: &Table<'_>) -> Option<Gateway> {
    let tokens = |key, low| table.get(key).and_then(|item| item.integer(low..=MAX_TOKENS));
    let max_tokens = tokens("max_tokens", 0);
    let default_max_tokens = tokens("default_max_tokens", 1);
    let least_tokens = tokens("least_tokens", 1);
    let unlisted_tools = table
        .get("unlisted_tools")
        .and_then(|item| item.word(&[("refuse", Unlisted::Refuse), ("strip", Unlisted::Strip)]));
    let free_fields = table
        .get("free_fields")
        .and_then(|item| item.texts(MAX_NAMES, free_field));
    let free_betas = table
        .get("free_betas")
        .and_then(|item| item.texts(MAX_NAMES, free_beta));
    let server_tools = table
        .get("server_tools")
        .and_then(|item| amounts(&item.table()?, tool_name));
    let searches_per_call = table
        .get("searches_per_call")
        .and_then(|item| item.integer(1..=1_000_u64));
    let max_calls = table.get("max_calls").and_then(|item| item.integer(1..=100_000_u32));
    let max_parked = table.get("max_parked").and_then(|item| item.integer(0..=100_000_u32));
    let limit = |key, low: Duration, high: Duration| table.get(key).and_then(|item| item.duration(low..=high));
    let park_wait = limit("park_wait", Duration::ZERO, 24 * HOUR);
    let response_timeout = limit("response_timeout", SECOND, HOUR);
    let idle_timeout = limit("idle_timeout", SECOND, HOUR);
    let call_timeout = limit("call_timeout", SECOND, 12 * HOUR);
    let max_response_bytes = table
        .get("max_response_bytes")
        .and_then(|item| item.integer(1024..=1_073_741_824_usize));
    let response_memory_bytes = table
        .get("response_memory_bytes")
        .and_then(|item| item.integer(2048..=1_099_511_627_776_u64));
    if let (Some(most), Some(memory)) = (max_response_bytes, response_memory_bytes)
        && usize::try_from(memory).is_ok_and(|memory| memory < most.saturating_mul(2))
        && let Some(item) = culprit(table, ["response_memory_bytes", "max_response_bytes"])
    {
        item.error(
            "gateway.response_memory_bytes must be at least twice gateway.max_response_bytes",
            "the largest answer must come to its end while others wait for their agents",
        );
    }
    let drain = limit("drain", Duration::ZERO, HOUR);
    let insecure_upstream = table.get("insecure_upstream").and_then(|item| item.boolean());
    if let (Some(default), Some(least), Some(item)) = (default_max_tokens, least_tokens, table.get("least_tokens"))
        && least > default
    {
        item.error(
            "is above default_max_tokens",
            "a limit that is filled in is lowered to it, never raised",
        );
    }
    table.finish();
    Some(Gateway {
        max_tokens: Some(max_tokens?).filter(|&tokens| tokens > 0),
        default_max_tokens: default_max_tokens?,
        least_tokens: least_tokens?,
        unlisted_tools: unlisted_tools?,
        free_fields: free_fields?.into_iter().collect::<BTreeSet<_>>(),
        free_betas: free_betas?.into_iter().collect::<BTreeSet<_>>(),
        server_tools: server_tools?,
        searches_per_call: searches_per_call?,
        max_calls: max_calls?,
        max_parked: max_parked?,
        park_wait: park_wait?,
        response_timeout: response_timeout?,
        idle_timeout: idle_timeout?,
        call_timeout: call_timeout?,
        max_response_bytes: max_response_bytes?,
        response_memory_bytes: response_memory_bytes?,
        drain: drain?,
        insecure_upstream: insecure_upstream?,
    })
}

/// Which of two settings that do not fit together somebody set.
fn culprit<'a>(table: &Table<'a>, keys: [&'static str; 2]) -> Option<Item<'a>> {
    let mut items = keys.into_iter().filter_map(|key| table.get(key));
    let first = items.next()?;
    match items.next() {
        Some(second) if first.is_built_in() => Some(second),
        _ => Some(first),
    }
}

/// `chat/completions:vendor_hint`
fn free_field(item: &Item<'_>, text: &str) -> Option<String> {
    const FORM: &str = "a route and a field of it, such as \"chat/completions:vendor_hint\"";
    let sound = text.len() <= MAX_NAME
        && text
            .split_once(':')
            .is_some_and(|(route, field)| Route::is_name(route) && !field.is_empty());
    if !sound {
        item.error(&format!("{} names no field of a route", values::shown(text)), FORM);
    }
    sound.then(|| text.to_owned())
}

fn free_beta(item: &Item<'_>, text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/=".contains(&b);
    let sound = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(plain);
    if !sound {
        item.error(
            &format!("{} is no value of a beta header", values::shown(text)),
            "one value each, such as \"context-1m-2025-08-07\"",
        );
    }
    sound.then(|| text.to_owned())
}

fn tool_name(item: &Item<'_>, name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let sound = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain);
    if !sound {
        item.error(
            &format!("{} is no type of a tool", values::shown(name)),
            "its type without the date, such as web_search",
        );
    }
    sound
}

/// A table of names of the user's own and what each may cost.
pub(super) fn amounts(table: &Table<'_>, is_name: impl Fn(&Item<'_>, &str) -> bool) -> Option<BTreeMap<String, Usd>> {
    let read: Vec<Option<(String, Usd)>> = table
        .items()
        .iter()
        .map(|(name, item)| {
            let amount = item.usd()?;
            if amount <= Usd::ZERO || amount > MAX_POSTING {
                item.error("must be above zero, in dollars", None);
                return None;
            }
            is_name(item, name).then(|| ((*name).to_owned(), amount))
        })
        .collect();
    read.into_iter().collect()
}
