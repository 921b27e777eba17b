//! From a reported usage to money.
//!
//! Sums of products in `i128`, in units of 10⁻¹² nano-dollars so that microseconds and tokens share a
//! scale, then one division that rounds up. A sum past `i128` or past a billion dollars is no posting.

use super::entry::PriceEntry;
use super::rate::Rate;
use super::resolve;
use super::usage::{ServiceTier, Usage};
use crate::domain::money::{MAX_POSTING, Usd};

/// Why a usage has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleRejection {
    #[error("this price has no rate for the {tier} tier; add one, or report the amount in USD")]
    TierUnpriced { tier: ServiceTier },
    #[error("this price has no rate for the fast mode; add one, or report the amount in USD")]
    FastUnpriced,
    #[error("this price has no rate for {what}; add one, or report the amount in USD")]
    Unpriced { what: &'static str },
    #[error("this usage would cost more than a billion dollars, so it is kept as a claim and not posted")]
    TooLarge,
}

/// Scale of the sums: a product of a rate (nano-dollars a million units) and microunits.
const DENOMINATOR: i128 = 1_000_000_000_000;
/// What turns whole units into the scale of the sums.
const MICROUNITS: i128 = 1_000_000;

/// A sum of products that has not been rounded yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(i128);

impl Sum {
    /// Adds `units` whole units at `rate`.
    pub(super) fn units(self, units: u64, rate: Rate) -> Option<Self> {
        let product = i128::from(units)
            .checked_mul(MICROUNITS)?
            .checked_mul(i128::from(rate.nanos_per_million()))?;
        self.0.checked_add(product).map(Self)
    }

    /// Adds `micros` millionths of a unit at `rate`.
    pub(super) fn micros(self, micros: u64, rate: Rate) -> Option<Self> {
        let product = i128::from(micros).checked_mul(i128::from(rate.nanos_per_million()))?;
        self.0.checked_add(product).map(Self)
    }

    /// The amount, multiplied by these thousandths and rounded up: the one rounding.
    pub(super) fn round_up(self, uplifts: [u32; 2]) -> Option<Usd> {
        let mut sum = self.0;
        let mut denominator = DENOMINATOR;
        for uplift in uplifts.into_iter().filter(|&thousandths| thousandths != 1_000) {
            sum = sum.checked_mul(i128::from(uplift))?;
            denominator *= 1_000;
        }
        let nanos = sum / denominator + i128::from(sum % denominator != 0);
        Usd::from_i128(nanos).filter(|&usd| usd <= MAX_POSTING)
    }
}

/// What this usage costs at this price, rounded up once.
pub fn settle(usage: &Usage, entry: &PriceEntry) -> Result<Usd, SettleRejection> {
    let rates = resolve::rates(entry, usage.tier, usage.tokens.input())
        .ok_or(SettleRejection::TierUnpriced { tier: usage.tier })?;
    let fast = match (usage.fast, entry.uplifts.fast) {
        (false, _) => 1_000,
        (true, Some(factor)) => factor.thousandths(),
        (true, None) => return Err(SettleRejection::FastUnpriced),
    };
    let mut sum = Sum::default();
    for (class, count) in usage.tokens.iter() {
        let rate = rates
            .resolve(class)
            .ok_or(SettleRejection::Unpriced { what: class.name() })?;
        sum = sum.units(count, rate).ok_or(SettleRejection::TooLarge)?;
    }
    let units = &entry.units;
    let micros = entry.billed_micros(usage.micros, usage.requests);
    if micros > 0 {
        let rate = units.second.ok_or(SettleRejection::Unpriced {
            what: "seconds of audio",
        })?;
        sum = sum.micros(micros, rate).ok_or(SettleRejection::TooLarge)?;
    }
    for (what, count, rate) in [
        ("characters", usage.characters, units.character),
        ("images", usage.images, units.image),
        ("web searches", usage.web_searches, units.web_search),
        // A provider that charges a fee for a call lists it, so here no rate is no fee.
        ("requests", usage.requests, Some(units.request.unwrap_or(Rate::ZERO))),
    ] {
        if count > 0 {
            let rate = rate.ok_or(SettleRejection::Unpriced { what })?;
            sum = sum.units(count, rate).ok_or(SettleRejection::TooLarge)?;
        }
    }
    sum.round_up([fast, entry.uplifts.region(usage.region).thousandths()])
        .ok_or(SettleRejection::TooLarge)
}
