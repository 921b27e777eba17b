//! What one model costs at one service.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rate::{Permille, Rate, Rates};
use super::usage::{MICROS_PER_SECOND, Region, ServiceTier};
use crate::domain::id::{ModelId, ServiceId};

/// Bands an entry may have. The fullest on any list has ten.
pub const MAX_BANDS: usize = 64;
/// A least length above a day is a slip.
pub const MAX_MIN_SECONDS: u64 = 86_400;

/// Rates that hold for one service tier when the input has more than `above` tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Band {
    pub tier: ServiceTier,
    /// The whole request takes this band's rates when its input is larger; zero is every request.
    pub above: u64,
    pub rates: Rates,
}

/// Rates for what is not counted in tokens.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct UnitRates {
    /// A second of audio or video.
    pub second: Option<Rate>,
    /// A character of text to be spoken.
    pub character: Option<Rate>,
    /// An image that is made.
    pub image: Option<Rate>,
    /// A call, on top of what it uses. Absent means that the provider has no such fee.
    pub request: Option<Rate>,
    /// A web search that the provider runs.
    pub web_search: Option<Rate>,
}

impl UnitRates {
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Rate)> {
        [
            ("seconds", self.second),
            ("characters", self.character),
            ("images", self.image),
            ("requests", self.request),
            ("web searches", self.web_search),
        ]
        .into_iter()
        .filter_map(|(name, rate)| Some((name, rate?)))
    }
}

/// What multiplies the price of a whole call.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Uplifts {
    /// The provider's fast mode.
    pub fast: Option<Permille>,
    pub us: Option<Permille>,
    pub eu: Option<Permille>,
}

impl Uplifts {
    /// The surcharge of a region; none is listed means that the provider has none.
    pub fn region(&self, region: Region) -> Permille {
        let listed = match region {
            Region::Global => None,
            Region::Us => self.us,
            Region::Eu => self.eu,
            Region::Other => self.us.max(self.eu),
        };
        // A region that is not listed beside one that is: charged as the dearest that is.
        match (listed, region) {
            (Some(listed), _) => listed,
            (None, Region::Global) => Permille::ONE,
            (None, _) => self.highest_region(),
        }
    }

    pub fn highest_region(&self) -> Permille {
        self.us.max(self.eu).unwrap_or(Permille::ONE)
    }
}

/// Who says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// The provider's own documentation.
    Documented,
    /// Somebody else's list.
    ThirdParty,
    /// The operator's config.
    Operator,
}

impl SourceKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::ThirdParty => "third party",
            Self::Operator => "operator",
        }
    }
}

/// Where a price comes from and when it was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Provenance {
    pub kind: SourceKind,
    /// A page, a package with its version, or a file.
    pub source: Arc<str>,
    /// The day on which it was read, as `2026-11-20`.
    pub date: Arc<str>,
}

/// What one model costs at one service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PriceEntry {
    pub service: ServiceId,
    /// The model's name; in a pattern, `#` stands for one digit, so that a dated snapshot is matched.
    pub model: Arc<str>,
    /// Sorted by tier and threshold. A tier's rates hold from its first band on.
    pub bands: Vec<Band>,
    #[serde(default)]
    pub units: UnitRates,
    #[serde(default)]
    pub uplifts: Uplifts,
    /// The seconds that each request is billed for at least, however short it is.
    #[serde(default)]
    pub min_seconds: Option<u64>,
    /// The most tokens that the model reads in one call.
    #[serde(default)]
    pub context: Option<u64>,
    /// The most tokens that the model writes in one call.
    #[serde(default)]
    pub max_output: Option<u64>,
    pub provenance: Provenance,
}

impl PriceEntry {
    /// The rates for this tier at every input size, ascending.
    pub fn tier_bands(&self, tier: ServiceTier) -> impl Iterator<Item = &Band> {
        self.bands.iter().filter(move |band| band.tier == tier)
    }

    pub fn has_tier(&self, tier: ServiceTier) -> bool {
        self.tier_bands(tier).next().is_some()
    }

    /// Whether any token that goes in costs anything, in any tier.
    pub fn charges_input(&self) -> bool {
        self.charges_tokens(true)
    }

    /// Whether any token that comes out costs anything, in any tier.
    pub fn charges_output(&self) -> bool {
        self.charges_tokens(false)
    }

    fn charges_tokens(&self, input: bool) -> bool {
        let mut rates = self.bands.iter().flat_map(|band| band.rates.iter());
        rates.any(|(class, rate)| class.is_input() == input && !rate.is_zero())
    }

    /// The microseconds that are billed for so many of sound, in so many requests. A model that is sold by time
    /// alone is billed for the least of each request, one without sound too.
    pub fn billed_micros(&self, micros: u64, requests: u64) -> u64 {
        let by_time = micros > 0 || self.bands.is_empty() && self.units.second.is_some();
        let each = self.min_seconds.filter(|_| by_time).unwrap_or(0);
        micros.max(each.saturating_mul(MICROS_PER_SECOND).saturating_mul(requests))
    }

    /// The standard rates for short inputs, if the model is priced by tokens at all.
    pub fn base(&self) -> Option<&Rates> {
        self.tier_bands(ServiceTier::Standard).next().map(|band| &band.rates)
    }

    /// Puts bands into their order. Every constructor ends with it.
    pub(super) fn sort(&mut self) {
        self.bands.sort_by_key(|band| (band.tier, band.above));
    }

    pub fn is_pattern(&self) -> bool {
        self.model.contains('#')
    }

    /// Whether this entry prices that model.
    pub fn matches(&self, model: &ModelId) -> bool {
        matches_pattern(&self.model, model.as_str())
    }
}

/// `#` in the pattern stands for one digit; all else stands for itself.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    pattern.len() == name.len()
        && pattern
            .bytes()
            .zip(name.bytes())
            .all(|(p, n)| if p == b'#' { n.is_ascii_digit() } else { p == n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_dated_snapshots_only() {
        assert!(matches_pattern("gpt-5.4-####-##-##", "gpt-5.4-2026-03-05"));
        assert!(!matches_pattern("gpt-5.4-####-##-##", "gpt-5.4-pro-2026-03-05"));
        assert!(!matches_pattern("gpt-5.4-####-##-##", "gpt-5.4"));
        assert!(!matches_pattern("gpt-5.4-####-##-##", "gpt-5.4-latest-now"));
        assert!(matches_pattern("gpt-5.4", "gpt-5.4"));
    }

    #[test]
    fn a_region_that_is_not_listed_takes_the_dearest_that_is() {
        let Ok(eleven) = Permille::new(1_100) else {
            unreachable!()
        };
        let uplifts = Uplifts {
            us: Some(eleven),
            ..Uplifts::default()
        };
        assert_eq!(uplifts.region(Region::Global), Permille::ONE);
        assert_eq!(uplifts.region(Region::Us), eleven);
        assert_eq!(uplifts.region(Region::Eu), eleven);
        assert_eq!(uplifts.region(Region::Other), eleven);
        assert_eq!(Uplifts::default().region(Region::Other), Permille::ONE);
    }
}
