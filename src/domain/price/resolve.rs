//! Which rate applies: tiers, context bands, and classes that have no rate of their own.
//!
//! A price list is a sparse table, and what is missing must never make a call cheaper (**L7**). Three
//! rules fill it, each an upper bound that follows from how providers price:
//! - within one band, a class takes the dearest class that its tokens could be billed as;
//! - a longer context takes its own band's rates, and where that band is silent, the dearer of the
//!   shorter band's rate and what the first rule makes of its own;
//! - a tier that costs extra takes the dearer of its own and the standard rate, a discounted tier its own
//!   where it has one at this context, else the standard rate. A tier that costs extra and is not listed
//!   at all has no bound, so it is refused by name.

use super::entry::PriceEntry;
use super::rate::{Rate, Rates};
use super::usage::{ServiceTier, TokenClass};

impl Rates {
    /// The rate of a class, or the highest that could apply to it in this table.
    pub fn resolve(&self, class: TokenClass) -> Option<Rate> {
        use TokenClass as C;
        let stated = self.get(class);
        if stated.is_some() {
            return stated;
        }
        match class {
            // What is read from the cache costs at most what is not.
            C::CacheRead => self.resolve(C::Input),
            C::CacheReadAudio => self.resolve(C::InputAudio),
            C::CacheReadImage if self.get(C::InputImage).is_some() => self.get(C::InputImage),
            C::CacheReadImage if self.get(C::OutputImage).is_none() => self.resolve(C::CacheRead),
            // For a time that was not stated, the dearest of the times that the provider sells.
            C::CacheWriteUnstated => {
                let sold = [C::CacheWrite, C::CacheWrite1h, C::CacheWrite12h].map(|c| self.get(c));
                sold.into_iter().max().flatten().or_else(|| self.highest())
            }
            C::Reasoning => self.resolve(C::Output),
            // A provider that prices images apart says so; one that does not bills them as text.
            C::InputImage if self.get(C::OutputImage).is_none() && self.get(C::CacheReadImage).is_none() => {
                self.resolve(C::Input)
            }
            C::Input
            | C::CacheWrite
            | C::CacheWrite1h
            | C::CacheWrite12h
            | C::InputAudio
            | C::InputImage
            | C::CacheReadImage
            | C::Output
            | C::OutputAudio
            | C::OutputImage => self.highest(),
        }
    }

    /// This table with `upper`'s rates on top; where `upper` is silent, the dearer of the two readings.
    fn overlaid(&self, upper: &Self) -> Self {
        let mut out = *upper;
        for (class, rate) in self.iter() {
            if upper.get(class).is_none() {
                out.put(class, upper.resolve(class).max(Some(rate)));
            }
        }
        out
    }

    /// For each class the dearer of the two tables.
    fn dearer(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for class in TokenClass::ALL {
            let rate = match (self.get(class), other.get(class)) {
                (None, None) => None,
                _ => self.resolve(class).max(other.resolve(class)),
            };
            out.put(class, rate);
        }
        out
    }
}

/// The rates of one tier for an input of this size, and the threshold of the last band that applied.
fn tier_rates(entry: &PriceEntry, tier: ServiceTier, input: u64) -> Option<(Rates, u64)> {
    let mut applied: Option<(Rates, u64)> = None;
    for band in entry
        .tier_bands(tier)
        .filter(|band| band.above == 0 || input > band.above)
    {
        applied = Some(match applied {
            None => (band.rates, band.above),
            Some((lower, _)) => (lower.overlaid(&band.rates), band.above),
        });
    }
    applied
}

/// The table of rates for a call in this tier whose input has this size. `None` when a tier that costs
/// extra is not listed.
pub(super) fn rates(entry: &PriceEntry, tier: ServiceTier, input: u64) -> Option<Rates> {
    let (standard, standard_above) = tier_rates(entry, ServiceTier::Standard, input).unwrap_or_default();
    if tier == ServiceTier::Standard {
        return Some(standard);
    }
    let own = tier_rates(entry, tier, input);
    if tier.is_discount() {
        return Some(match own {
            // A discount that is listed for short inputs only says nothing about long ones.
            Some((own, above)) if above >= standard_above => {
                let mut out = standard;
                for (class, rate) in own.iter() {
                    out.set(class, rate);
                }
                out
            }
            _ => standard,
        });
    }
    match own {
        Some((own, _)) => Some(own.dearer(&standard)),
        // No token is priced, so no token's tier matters; what is not counted in tokens has no tiers.
        None if entry.bands.is_empty() => Some(standard),
        None => None,
    }
}
