//! What a call can cost at most, at a price: what its hold must cover before a byte goes upstream (**L4**).
//!
//! Every unknown is taken at its dearest. Input is the body's bytes or the model's context window,
//! whichever is less; where content comes from elsewhere, the window. A limit on the output that the
//! request states is paid in full, for each output; a missing one is left open to be filled in by what the
//! lines have left. The rates are the highest that could apply (see [`worst_case`]).

use super::asked::{Asked, ContentFrom, OutputLimit, Widened};
use super::media;
use super::rejection::CallRejection;
use super::route::Metering;
use super::rules::CallRules;
use super::tokenizer::takes_texts_as_they_are;
use crate::domain::ledger::bound::{Bound, TokenBound};
use crate::domain::money::{MAX_POSTING, Usd};
use crate::domain::price::{CallBound, PriceEntry, ServiceTier, SettleRejection, output_rate, worst_case};
use crate::domain::rejection::Rejection;

/// The bound of this call at this price.
///
/// # Errors
/// A part of it has no price or no bound, or it is more than can be posted.
pub fn bound(asked: &Asked, entry: &PriceEntry, rules: &CallRules) -> Result<Bound, Rejection> {
    if asked.route.metering() == Metering::Free {
        return Ok(Bound::Fixed(Usd::ZERO));
    }
    if let Some(worst) = media::worst_case(asked, entry) {
        return worst.map(Bound::Fixed);
    }
    let most = CallBound {
        input_tokens: input(asked, entry)?,
        ..asked.most
    };
    let unpriced = |why: SettleRejection| match why {
        SettleRejection::TooLarge => CallRejection::Absurd.into(),
        why => Rejection::PriceUnknown {
            what: format!("{} ({why})", entry.model),
        },
    };
    let costs = |output_tokens: u64| -> Result<Usd, Rejection> {
        let mut dearest = asked.fees;
        for tier in tiers(most.tier) {
            let most = CallBound {
                output_tokens,
                tier,
                ..most
            };
            let cost = worst_case(&most, entry).map_err(unpriced)?;
            dearest = dearest.max(cost.saturating_add(asked.fees));
        }
        if dearest > MAX_POSTING {
            return Err(CallRejection::Absurd.into());
        }
        Ok(dearest)
    };
    let longest = longest(entry, asked.widened);
    match asked.output {
        OutputLimit::None => costs(most.output_tokens).map(Bound::Fixed),
        OutputLimit::Tokens {
            asked: Some(limit),
            times,
        } => {
            let each = longest.map_or(limit, |longest| limit.min(longest));
            let output = each
                .checked_mul(times)
                .and_then(|all| all.checked_add(most.output_tokens));
            costs(output.ok_or(CallRejection::Absurd)?).map(Bound::Fixed)
        }
        OutputLimit::Tokens { asked: None, times } => {
            let base = costs(most.output_tokens)?;
            let mut rate = 0;
            for tier in tiers(most.tier) {
                rate = rate.max(output_rate(&CallBound { tier, ..most }, entry).map_err(unpriced)?);
            }
            let filled = asked.draft.limit.as_ref().and_then(|limit| limit.most);
            let caps = [Some(filled.unwrap_or(rules.default_max_tokens)), longest];
            let wanted = caps.into_iter().flatten().min().unwrap_or(0);
            let tokens = TokenBound {
                base,
                nanos_per_million: rate.checked_mul(times).ok_or(CallRejection::Absurd)?,
                wanted,
                least: rules.least_tokens.min(wanted),
            };
            let bound = Bound::Tokens(tokens);
            bound.check().map_err(|_| CallRejection::Absurd)?;
            Ok(bound)
        }
    }
}

/// The model writes no more than it can, unless a header lets it.
pub(super) fn longest(entry: &PriceEntry, widened: Widened) -> Option<u64> {
    entry.max_output.map(|most| most.max(widened.output.unwrap_or(0)))
}

/// What the models that think write for one answer, of all that are known here: the longest that the price list
/// (2026-11) has, or that a header lets one write. A model that writes more has its own entry. A model reads the
/// blocks of some others too (Anthropic's page on preserved thinking names such pairs), so that its own longest
/// answer is no bound of a block.
const LONGEST_THOUGHT: u64 = 307_200;

/// The input tokens at most.
fn input(asked: &Asked, entry: &PriceEntry) -> Result<u64, Rejection> {
    let context = entry
        .context
        .map(|window| window.max(asked.widened.context.unwrap_or(0)));
    let window = context.map(|window| window.saturating_mul(asked.inputs));
    let growth = if takes_texts_as_they_are(asked) {
        0
    } else {
        asked.growth
    };
    let written = asked.most.input_tokens.saturating_add(growth);
    let in_request = match (asked.content, asked.thoughts) {
        (ContentFrom::Request, 0) => Some(written),
        (ContentFrom::Request, thoughts) => longest(entry, asked.widened)
            .map(|longest| longest.max(LONGEST_THOUGHT).saturating_mul(thoughts))
            .map(|thought| written.saturating_add(thought)),
        (ContentFrom::Elsewhere, _) => None,
    };
    let input = match (in_request, window) {
        (Some(tokens), Some(window)) => tokens.min(window),
        (Some(tokens), None) => tokens,
        (None, Some(window)) => window,
        (None, None) => return Err(CallRejection::ContextUnknown(entry.model.to_string()).into()),
    };
    // A window that a header widens has its own price where it is wider, and a list that ends before says
    // nothing of it.
    let is_priced = |listed: u64| input <= listed || entry.bands.iter().any(|band| band.above >= listed);
    match entry.context {
        Some(listed) if asked.widened.context > Some(listed) && !is_priced(listed) => Err(Rejection::PriceUnknown {
            what: format!("{} above {listed} input tokens", entry.model),
        }),
        _ => Ok(input),
    }
}

/// The tiers that may serve the call. A provider may serve one that was asked for in the standard one
/// (OpenAI: the tier of the answer "may be different from the value set in the parameter").
fn tiers(asked: Option<ServiceTier>) -> impl Iterator<Item = Option<ServiceTier>> {
    let standard = asked
        .filter(|&tier| tier != ServiceTier::Standard)
        .map(|_| Some(ServiceTier::Standard));
    [Some(asked), standard].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::headers::widest_output;
    use crate::domain::price::builtin;

    #[test]
    fn no_model_that_is_known_thinks_longer_than_a_thought_is_taken_to_be() {
        let listed = builtin().iter().filter_map(|entry| entry.max_output).max();
        assert!(listed.is_some_and(|longest| longest <= LONGEST_THOUGHT), "{listed:?}");
        assert!(widest_output().is_some_and(|longest| longest <= LONGEST_THOUGHT));
    }
}
