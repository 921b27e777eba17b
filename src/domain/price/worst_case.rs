//! The bound of a hold: what a call can cost at most, from what it can use at most.
//!
//! Every rate that could apply is taken at its highest: each tier, each context band that the input could
//! reach, the dearest class that a token could be billed as, every surcharge. For every usage within the
//! bound, [`settle`](super::settle()) gives at most this; a property test holds it to that.
//!
//! One thing is left out on purpose: tokens written to a cache by a model whose price knows no writing. To
//! bound each input token by what that unknown might cost would hold eight times what a call can use.
//! Should a provider bill it after all, settlement charges it at the highest rate and the excess over the
//! bound is an overage, which is never hidden (**L2**).

use super::entry::PriceEntry;
use super::rate::{Rate, Rates};
use super::resolve;
use super::settle::{SettleRejection, Sum};
use super::usage::{Region, ServiceTier, TokenClass};
use crate::domain::money::Usd;

/// What a call can use at most, and what about it is already certain.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CallBound {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Seconds of audio or video, in microseconds.
    pub micros: u64,
    pub characters: u64,
    pub images: u64,
    pub requests: u64,
    pub web_searches: u64,
    /// The only tier it can be served in; `None` when the provider may choose any that is listed.
    pub tier: Option<ServiceTier>,
    /// The only region it can be served in; `None` when it may be any.
    pub region: Option<Region>,
    /// Whether it may be served in the fast mode.
    pub fast: bool,
    /// Whether audio may go in or come out.
    pub audio: bool,
    /// Whether images may go in or come out.
    pub image: bool,
}

impl CallBound {
    fn could_use(&self, class: TokenClass, rates: &Rates) -> bool {
        use TokenClass as C;
        match class {
            C::InputAudio | C::CacheReadAudio | C::OutputAudio => self.audio,
            C::InputImage | C::CacheReadImage | C::OutputImage => self.image,
            C::CacheWrite | C::CacheWrite1h | C::CacheWrite12h | C::CacheWriteUnstated => rates.get(class).is_some(),
            C::Input | C::CacheRead | C::Output | C::Reasoning => true,
        }
    }

    /// The highest rates of an input and of an output token over everything that could apply.
    fn highest(&self, entry: &PriceEntry) -> Result<(Option<Rate>, Option<Rate>), SettleRejection> {
        let mut thresholds: Vec<u64> = entry.bands.iter().map(|band| band.above).collect();
        thresholds.push(0);
        thresholds.retain(|&above| above == 0 || above < self.input_tokens);
        let mut highest = (None, None);
        for tier in ServiceTier::ALL {
            let certain = self.tier == Some(tier);
            if !(certain || self.tier.is_none() && (tier == ServiceTier::Standard || entry.has_tier(tier))) {
                continue;
            }
            for &above in &thresholds {
                let Some(rates) = resolve::rates(entry, tier, above.saturating_add(1)) else {
                    if certain {
                        return Err(SettleRejection::TierUnpriced { tier });
                    }
                    // Listed for longer inputs only, so it is not sold at this size.
                    continue;
                };
                for class in TokenClass::ALL
                    .into_iter()
                    .filter(|&class| self.could_use(class, &rates))
                {
                    let slot = if class.is_input() {
                        &mut highest.0
                    } else {
                        &mut highest.1
                    };
                    *slot = rates.resolve(class).max(*slot);
                }
            }
        }
        Ok(highest)
    }
}

/// What multiplies all of a call within this bound, in thousandths.
fn uplifts(bound: &CallBound, entry: &PriceEntry) -> Result<[u32; 2], SettleRejection> {
    let fast = match (bound.fast, entry.uplifts.fast) {
        (false, _) => 1_000,
        (true, Some(factor)) => factor.thousandths(),
        (true, None) => return Err(SettleRejection::FastUnpriced),
    };
    let region = match bound.region {
        Some(region) => entry.uplifts.region(region),
        None => entry.uplifts.highest_region(),
    };
    Ok([fast, region.thousandths()])
}

/// What a million output tokens of a call within this bound can cost at most, in nano-dollars, rounded up:
/// so much more is its worst case for each million that it may write beyond the bound's own.
pub fn output_rate(bound: &CallBound, entry: &PriceEntry) -> Result<u64, SettleRejection> {
    let (_, output) = bound.highest(entry)?;
    let rate = output.ok_or(SettleRejection::Unpriced { what: "output tokens" })?;
    let [fast, region] = uplifts(bound, entry)?.map(u128::from);
    let nanos = u128::from(rate.nanos_per_million().unsigned_abs());
    let product = nanos.checked_mul(fast * region).ok_or(SettleRejection::TooLarge)?;
    u64::try_from(product.div_ceil(1_000_000)).map_err(|_| SettleRejection::TooLarge)
}

/// What a call within this bound can cost at most.
pub fn worst_case(bound: &CallBound, entry: &PriceEntry) -> Result<Usd, SettleRejection> {
    let (input, output) = bound.highest(entry)?;
    let uplifts = uplifts(bound, entry)?;
    let units = &entry.units;
    let mut sum = Sum::default();
    let micros = entry.billed_micros(bound.micros, bound.requests);
    if micros > 0 {
        let rate = units.second.ok_or(SettleRejection::Unpriced {
            what: "seconds of audio",
        })?;
        sum = sum.micros(micros, rate).ok_or(SettleRejection::TooLarge)?;
    }
    for (what, count, rate) in [
        ("input tokens", bound.input_tokens, input),
        ("output tokens", bound.output_tokens, output),
        ("characters", bound.characters, units.character),
        ("images", bound.images, units.image),
        ("web searches", bound.web_searches, units.web_search),
        ("requests", bound.requests, Some(units.request.unwrap_or(Rate::ZERO))),
    ] {
        if count > 0 {
            let rate = rate.ok_or(SettleRejection::Unpriced { what })?;
            sum = sum.units(count, rate).ok_or(SettleRejection::TooLarge)?;
        }
    }
    sum.round_up(uplifts).ok_or(SettleRejection::TooLarge)
}
