//! What a field of the list means.
//!
//! Names are built from a base and suffixes: `cache_read_input_token_cost_above_272k_tokens_flex` is the
//! base `cache_read_input_token_cost`, above 272,000 tokens, in the flex tier.

use crate::domain::price::{ServiceTier, TokenClass};

/// What a rate is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Token(TokenClass),
    Second,
    Character,
    /// An image that goes in, or one that comes out.
    ImageIn,
    ImageOut,
    Request,
}

/// What a field is to a price.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// A rate for one unit, in this tier, for inputs above this many tokens.
    Rate {
        what: What,
        tier: ServiceTier,
        above: u64,
    },
    /// A cost in a unit, a tier or an hour of the day that no usage report carries.
    LeftOut,
    /// Fees of a web search by how much it reads.
    WebSearch,
    /// Rates by size of the input, as a list of ranges.
    Ranges,
    /// Factors by region and speed.
    ProviderFactors,
    /// A factor for processing in a region.
    FactorUs,
    FactorEu,
    FactorAnyRegion,
    /// No cost.
    Other,
    /// It looks like a cost and is not known.
    Unknown,
}

fn token(base: &str) -> Option<TokenClass> {
    match base {
        "input_cost_per_token" => Some(TokenClass::Input),
        "cache_read_input_token_cost" | "input_cost_per_token_cache_hit" | "explicit_cache_read_input_token_cost" => {
            Some(TokenClass::CacheRead)
        }
        "cache_creation_input_token_cost" => Some(TokenClass::CacheWrite),
        "cache_creation_input_token_cost_above_1hr" => Some(TokenClass::CacheWrite1h),
        "cache_creation_input_token_cost_above_12hr" => Some(TokenClass::CacheWrite12h),
        "input_cost_per_audio_token" => Some(TokenClass::InputAudio),
        "cache_read_input_audio_token_cost" => Some(TokenClass::CacheReadAudio),
        "input_cost_per_image_token" => Some(TokenClass::InputImage),
        "cache_read_input_image_token_cost" => Some(TokenClass::CacheReadImage),
        "output_cost_per_token" => Some(TokenClass::Output),
        "output_cost_per_reasoning_token" => Some(TokenClass::Reasoning),
        "output_cost_per_audio_token" => Some(TokenClass::OutputAudio),
        "output_cost_per_image_token" => Some(TokenClass::OutputImage),
        _ => None,
    }
}

fn unit(base: &str) -> Option<What> {
    match base {
        "input_cost_per_second" | "output_cost_per_second" | "cost_per_second" | "input_cost_per_audio_per_second" => {
            Some(What::Second)
        }
        "input_cost_per_character" | "output_cost_per_character" => Some(What::Character),
        "input_cost_per_image" => Some(What::ImageIn),
        "output_cost_per_image" => Some(What::ImageOut),
        "input_cost_per_query" | "input_cost_per_request" => Some(What::Request),
        // The rate of one resolution. A report does not say which, so the dearest counts.
        _ if base.starts_with("output_cost_per_second_") => Some(What::Second),
        _ if base.starts_with("output_cost_per_image_") => Some(What::ImageOut),
        _ => None,
    }
}

/// Cuts a tier's suffix off. The second part is false for a tier that no usage report names.
fn tier(name: &str) -> (&str, Option<ServiceTier>) {
    for (suffix, tier) in [
        ("_batches", Some(ServiceTier::Batch)),
        ("_flex", Some(ServiceTier::Flex)),
        ("_priority", Some(ServiceTier::Priority)),
        ("_ultrafast", Some(ServiceTier::Ultrafast)),
        ("_balanced", None),
        ("_decisions", None),
    ] {
        if let Some(base) = name.strip_suffix(suffix) {
            return (base, tier);
        }
    }
    (name, Some(ServiceTier::Standard))
}

/// Cuts `_above_272k_tokens` off.
fn above(name: &str) -> Option<(&str, u64)> {
    let Some(head) = name.strip_suffix("_tokens") else {
        return Some((name, 0));
    };
    let Some((base, size)) = head.rsplit_once("_above_") else {
        return Some((name, 0));
    };
    let (digits, scale) = match size.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => (size, 1),
    };
    let size: u64 = digits.parse().ok()?;
    Some((base, size.checked_mul(scale)?))
}

/// Costs in units that no usage report carries, or that no report of ours is settled by.
const LEFT_OUT: [&str; 24] = [
    "input_cost_per_pixel",
    "output_cost_per_pixel",
    "input_cost_per_video_token",
    "output_cost_per_video_token",
    "input_cost_per_video_per_second",
    "output_cost_per_video_per_second",
    "input_cost_per_video_per_second_above_15s_interval",
    "input_cost_per_video_per_second_above_8s_interval",
    "cache_creation_input_audio_token_cost",
    "annotation_cost_per_page",
    "ocr_cost_per_page",
    "ocr_cost_per_credit",
    "citation_cost_per_token",
    "code_interpreter_cost_per_session",
    "computer_use_input_cost_per_1k_tokens",
    "computer_use_output_cost_per_1k_tokens",
    "file_search_cost_per_1k_calls",
    "file_search_cost_per_gb_per_day",
    "vector_store_cost_per_gb_per_day",
    "google_maps_grounding_cost_per_query",
    "guardrail_cost_per_unit",
    "input_cost_per_text_message",
    "input_dbu_cost_per_token",
    "output_dbu_cost_per_token",
];

/// What this field is to a price.
pub(super) fn meaning(name: &str) -> Meaning {
    match name {
        "search_context_cost_per_query" => return Meaning::WebSearch,
        "tiered_pricing" => return Meaning::Ranges,
        // Cheaper at night; the day's rate is the bound.
        "off_peak_pricing" => return Meaning::LeftOut,
        "provider_specific_entry" => return Meaning::ProviderFactors,
        "regional_processing_uplift_multiplier_us" => return Meaning::FactorUs,
        "regional_processing_uplift_multiplier_eu" => return Meaning::FactorEu,
        "regional_endpoint_uplift_multiplier" => return Meaning::FactorAnyRegion,
        _ => {}
    }
    let (head, known_tier) = tier(name);
    if let Some((base, above)) = above(head) {
        // A tier's suffix is found before the threshold too.
        let (base, known_tier) = match (tier(base), known_tier) {
            ((base, Some(ServiceTier::Standard)), outer) => (base, outer),
            ((base, inner), Some(ServiceTier::Standard)) => (base, inner),
            _ => return Meaning::Unknown,
        };
        let what = token(base).map(What::Token).or_else(|| unit(base));
        match (what, known_tier) {
            (Some(what), Some(tier)) => return Meaning::Rate { what, tier, above },
            (Some(_), None) => return Meaning::LeftOut,
            (None, _) if LEFT_OUT.contains(&base) => return Meaning::LeftOut,
            (None, _) => {}
        }
    }
    if LEFT_OUT.contains(&name) {
        return Meaning::LeftOut;
    }
    let lower = name.to_ascii_lowercase();
    let costs = ["cost", "price", "pricing", "multiplier", "fee", "usd"];
    if costs.iter().any(|word| lower.contains(word)) {
        Meaning::Unknown
    } else {
        Meaning::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_prices() {
        let rate = |class, tier, above| Meaning::Rate {
            what: What::Token(class),
            tier,
            above,
        };
        for (name, expected) in [
            (
                "input_cost_per_token",
                rate(TokenClass::Input, ServiceTier::Standard, 0),
            ),
            (
                "input_cost_per_token_above_200k_tokens",
                rate(TokenClass::Input, ServiceTier::Standard, 200_000),
            ),
            (
                "input_cost_per_token_priority_above_128_tokens",
                rate(TokenClass::Input, ServiceTier::Priority, 128),
            ),
            (
                "cache_creation_input_token_cost_above_12hr_above_272k_tokens_flex",
                rate(TokenClass::CacheWrite12h, ServiceTier::Flex, 272_000),
            ),
            (
                "cache_creation_input_token_cost_above_1hr",
                rate(TokenClass::CacheWrite1h, ServiceTier::Standard, 0),
            ),
            ("output_cost_per_token_decisions", Meaning::LeftOut),
            ("ocr_cost_per_page_batches", Meaning::LeftOut),
            ("output_cost_per_token_above_lots_tokens", Meaning::Unknown),
            ("output_cost_per_thought", Meaning::Unknown),
            ("weekend_price", Meaning::Unknown),
            ("supports_vision", Meaning::Other),
            ("max_input_tokens", Meaning::Other),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
        let image = Meaning::Rate {
            what: What::ImageOut,
            tier: ServiceTier::Standard,
            above: 0,
        };
        assert_eq!(meaning("output_cost_per_image_4K"), image);
    }
}
