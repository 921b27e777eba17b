//! Prices as people write them: the form of the built-in list and of price files.
//!
//! Rates are decimal dollars in quotes, per million tokens or per unit, exactly as the provider's page
//! prints them. An unknown key is an error, since a misspelt rate would otherwise be a missing one.

use serde::{Deserialize, Serialize};

use super::entry::{Band, MAX_BANDS, MAX_MIN_SECONDS, PriceEntry, Provenance, SourceKind, UnitRates, Uplifts};
use super::rate::{Permille, Rate, RateRejection, Rates};
use super::usage::{ServiceTier, TokenClass};
use crate::domain::id::{ModelId, NameError, ServiceId};

/// One price as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPrice {
    pub service: String,
    /// Names that share the price; `#` stands for one digit.
    pub models: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bands: Vec<RawBand>,
    /// Dollars a second of audio or video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// The seconds that each request is billed for at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_seconds: Option<u64>,
    /// Dollars a character of speech.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub character: Option<String>,
    /// Dollars an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Dollars a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Dollars a web search that the provider runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_search: Option<String>,
    #[serde(default, skip_serializing_if = "RawUplifts::is_empty")]
    pub uplift: RawUplifts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
    /// `documented`, `third_party` or `operator`.
    #[serde(default = "operator")]
    pub kind: SourceKind,
    pub source: String,
    pub date: String,
}

const fn operator() -> SourceKind {
    SourceKind::Operator
}

/// Rates per million tokens for one tier and size of input.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBand {
    #[serde(default, skip_serializing_if = "is_standard")]
    pub tier: ServiceTier,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub above: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_12h: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_audio: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_audio: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_audio: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_image: Option<String>,
}

/// Factors on the price of a whole call, such as `"1.1"`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUplifts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub us: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eu: Option<String>,
}

impl RawUplifts {
    const fn is_empty(&self) -> bool {
        self.fast.is_none() && self.us.is_none() && self.eu.is_none()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(above: &u64) -> bool {
    *above == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_standard(tier: &ServiceTier) -> bool {
    *tier == ServiceTier::Standard
}

/// What is wrong with a written price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RawPriceRejection {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("a price names at least one model")]
    NoModel,
    #[error("{key} = {text:?}: {why}")]
    Rate {
        key: &'static str,
        text: String,
        why: RateRejection,
    },
    #[error("a price has at most {MAX_BANDS} bands")]
    TooManyBands,
    #[error("two bands have the tier {tier} and above = {above}")]
    SameBand { tier: ServiceTier, above: u64 },
    #[error("a price has at least one rate")]
    NoRate,
    #[error("min_seconds = {0}: the least that is billed is 1 to {MAX_MIN_SECONDS} seconds, and has a rate for them")]
    MinSeconds(u64),
    #[error("a price says where it comes from and when it was read: {key} is empty")]
    NoProvenance { key: &'static str },
}

fn rate(key: &'static str, text: Option<&String>, per_unit: bool) -> Result<Option<Rate>, RawPriceRejection> {
    let Some(text) = text else { return Ok(None) };
    let read = if per_unit {
        Rate::per_unit(text)
    } else {
        Rate::per_million(text)
    };
    let bound = if per_unit { Rate::MAX } else { Rate::MAX_PER_TOKEN };
    match read {
        Ok(rate) if rate <= bound => Ok(Some(rate)),
        Ok(_) => Err(RawPriceRejection::Rate {
            key,
            text: text.clone(),
            why: RateRejection::Absurd,
        }),
        Err(why) => Err(RawPriceRejection::Rate {
            key,
            text: text.clone(),
            why,
        }),
    }
}

fn factor(key: &'static str, text: Option<&String>) -> Result<Option<Permille>, RawPriceRejection> {
    text.map(|text| {
        Permille::factor(text).map_err(|why| RawPriceRejection::Rate {
            key,
            text: text.clone(),
            why,
        })
    })
    .transpose()
}

impl RawBand {
    fn read(&self) -> Result<Band, RawPriceRejection> {
        use TokenClass as C;
        let mut rates = Rates::default();
        for (class, key, text) in [
            (C::Input, "input", &self.input),
            (C::CacheRead, "cache_read", &self.cache_read),
            (C::CacheWrite, "cache_write", &self.cache_write),
            (C::CacheWrite1h, "cache_write_1h", &self.cache_write_1h),
            (C::CacheWrite12h, "cache_write_12h", &self.cache_write_12h),
            (C::InputAudio, "input_audio", &self.input_audio),
            (C::CacheReadAudio, "cache_read_audio", &self.cache_read_audio),
            (C::InputImage, "input_image", &self.input_image),
            (C::CacheReadImage, "cache_read_image", &self.cache_read_image),
            (C::Output, "output", &self.output),
            (C::Reasoning, "reasoning", &self.reasoning),
            (C::OutputAudio, "output_audio", &self.output_audio),
            (C::OutputImage, "output_image", &self.output_image),
        ] {
            rates.put(class, rate(key, text.as_ref(), false)?);
        }
        if rates.is_empty() {
            return Err(RawPriceRejection::NoRate);
        }
        Ok(Band {
            tier: self.tier,
            above: self.above,
            rates,
        })
    }
}

impl RawPrice {
    /// The entries that this price stands for: one for each model that it names.
    pub fn entries(&self) -> Result<Vec<PriceEntry>, RawPriceRejection> {
        let service = ServiceId::new(&self.service)?;
        if self.bands.len() > MAX_BANDS {
            return Err(RawPriceRejection::TooManyBands);
        }
        for (key, text) in [("source", &self.source), ("date", &self.date)] {
            if text.trim().is_empty() {
                return Err(RawPriceRejection::NoProvenance { key });
            }
        }
        let mut bands = self.bands.iter().map(RawBand::read).collect::<Result<Vec<_>, _>>()?;
        bands.sort_by_key(|band| (band.tier, band.above));
        for pair in bands.windows(2) {
            if (pair[0].tier, pair[0].above) == (pair[1].tier, pair[1].above) {
                return Err(RawPriceRejection::SameBand {
                    tier: pair[0].tier,
                    above: pair[0].above,
                });
            }
        }
        let units = UnitRates {
            second: rate("second", self.second.as_ref(), true)?,
            character: rate("character", self.character.as_ref(), true)?,
            image: rate("image", self.image.as_ref(), true)?,
            request: rate("request", self.request.as_ref(), true)?,
            web_search: rate("web_search", self.web_search.as_ref(), true)?,
        };
        if bands.is_empty() && units == UnitRates::default() {
            return Err(RawPriceRejection::NoRate);
        }
        let is_sound = |least: u64| (1..=MAX_MIN_SECONDS).contains(&least) && units.second.is_some();
        if let Some(least) = self.min_seconds.filter(|&least| !is_sound(least)) {
            return Err(RawPriceRejection::MinSeconds(least));
        }
        let uplifts = Uplifts {
            fast: factor("uplift.fast", self.uplift.fast.as_ref())?,
            us: factor("uplift.us", self.uplift.us.as_ref())?,
            eu: factor("uplift.eu", self.uplift.eu.as_ref())?,
        };
        let provenance = Provenance {
            kind: self.kind,
            source: self.source.as_str().into(),
            date: self.date.as_str().into(),
        };
        if self.models.is_empty() {
            return Err(RawPriceRejection::NoModel);
        }
        self.models
            .iter()
            .map(|model| {
                // A pattern is a name too, once its digits are filled in.
                ModelId::new(model.replace('#', "0"))?;
                Ok(PriceEntry {
                    service: service.clone(),
                    model: model.as_str().into(),
                    bands: bands.clone(),
                    units,
                    uplifts,
                    min_seconds: self.min_seconds,
                    context: self.context,
                    max_output: self.max_output,
                    provenance: provenance.clone(),
                })
            })
            .collect()
    }
}

impl From<&Band> for RawBand {
    fn from(band: &Band) -> Self {
        use TokenClass as C;
        let text = |class| {
            band.rates
                .get(class)
                .map(|rate: Rate| rate.usd_per_million().to_string())
        };
        Self {
            tier: band.tier,
            above: band.above,
            input: text(C::Input),
            cache_read: text(C::CacheRead),
            cache_write: text(C::CacheWrite),
            cache_write_1h: text(C::CacheWrite1h),
            cache_write_12h: text(C::CacheWrite12h),
            input_audio: text(C::InputAudio),
            cache_read_audio: text(C::CacheReadAudio),
            input_image: text(C::InputImage),
            cache_read_image: text(C::CacheReadImage),
            output: text(C::Output),
            reasoning: text(C::Reasoning),
            output_audio: text(C::OutputAudio),
            output_image: text(C::OutputImage),
        }
    }
}

impl From<&PriceEntry> for RawPrice {
    fn from(entry: &PriceEntry) -> Self {
        // Exact for any rate: dollars a million units, moved by six places.
        let unit = |rate: Option<Rate>| rate.map(|rate| format!("{}e-6", rate.usd_per_million()));
        let factor = |factor: Option<Permille>| {
            factor.map(|factor| format!("{}.{:03}", factor.thousandths() / 1_000, factor.thousandths() % 1_000))
        };
        Self {
            service: entry.service.as_str().to_owned(),
            models: vec![entry.model.to_string()],
            bands: entry.bands.iter().map(RawBand::from).collect(),
            second: unit(entry.units.second),
            character: unit(entry.units.character),
            image: unit(entry.units.image),
            request: unit(entry.units.request),
            web_search: unit(entry.units.web_search),
            uplift: RawUplifts {
                fast: factor(entry.uplifts.fast),
                us: factor(entry.uplifts.us),
                eu: factor(entry.uplifts.eu),
            },
            min_seconds: entry.min_seconds,
            context: entry.context,
            max_output: entry.max_output,
            kind: entry.provenance.kind,
            source: entry.provenance.source.to_string(),
            date: entry.provenance.date.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<PriceEntry>, String> {
        let raw: RawPrice = toml::from_str(text).map_err(|e| e.to_string())?;
        raw.entries().map_err(|e| e.to_string())
    }

    const HEAD: &str = "service = 's'\nmodels = ['a', 'b-####']\nsource = 'here'\ndate = '2026-11-20'\n";

    #[test]
    fn a_written_price_is_one_entry_a_model() {
        let text = format!("{HEAD}bands = [{{ input = '1.25', output = '10' }}]\nsecond = '0.0001'\nmin_seconds = 10");
        let entries = read(&text).expect("it is well written");
        let names: Vec<_> = entries.iter().map(|entry| entry.model.to_string()).collect();
        assert_eq!(names, ["a", "b-####"]);
        let base = entries[0].base().expect("a standard band");
        assert_eq!(base.get(TokenClass::Input), Rate::per_million("1.25").ok());
        assert_eq!(entries[0].units.second, Rate::per_unit("0.0001").ok());
        assert_eq!(entries[0].min_seconds, Some(10));
        assert_eq!(RawPrice::from(&entries[0]).min_seconds, Some(10));
        assert_eq!(entries[0].provenance.kind, SourceKind::Operator);
    }

    #[test]
    fn each_mistake_is_named() {
        for (body, expected) in [
            ("", "at least one rate"),
            ("bands = [{ }]", "at least one rate"),
            ("bands = [{ imput = '1' }]", "imput"),
            ("bands = [{ input = '-1' }]", "input = \"-1\""),
            ("bands = [{ input = '2000000' }]", "a thousand dollars"),
            ("bands = [{ input = '1' }, { input = '2' }]", "two bands"),
            ("second = 'x'", "not a decimal"),
            ("second = '1'\nuplift = { fast = '0.5' }", "uplift.fast"),
            ("second = '1'\nmin_seconds = 0", "min_seconds = 0"),
            ("second = '1'\nmin_seconds = 86401", "min_seconds = 86401"),
            ("image = '1'\nmin_seconds = 10", "has a rate for them"),
        ] {
            let error = read(&format!("{HEAD}{body}")).expect_err(body);
            assert!(error.contains(expected), "{body}: {error}");
        }
        let error = read("service='s'\nmodels=[]\nsource='x'\ndate='y'\nsecond='1'").expect_err("no model");
        assert!(error.contains("at least one model"), "{error}");
        let error = read("service='s'\nmodels=['m']\nsource=''\ndate='y'\nsecond='1'").expect_err("no source");
        assert!(error.contains("source is empty"), "{error}");
    }
}
