//! One entry of the list.

use serde_json::value::RawValue;

use super::field::{self, Meaning, What};
use super::{Origin, SkipReason, object};
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::price::entry::{Band, MAX_BANDS, PriceEntry, Provenance, SourceKind, UnitRates, Uplifts};
use crate::domain::price::rate::{Permille, Rate, RateRejection};
use crate::domain::price::usage::{ServiceTier, TokenClass};

/// What runs on the reader's own machine: there a zero is a price.
const FREE_PROVIDERS: [&str; 2] = ["ollama", "lemonade"];

/// The service as the rest of the house names it. The list splits some by the code that talks to them.
fn service(provider: &str) -> &str {
    match provider {
        "bedrock_converse" => "bedrock",
        "text-completion-openai" => "openai",
        "azure_text" => "azure",
        "cohere_chat" => "cohere",
        "text-completion-codestral" => "codestral",
        "text-completion-inception" => "inception",
        "fireworks_ai-embedding-models" => "fireworks_ai",
        _ if provider.starts_with("vertex_ai-") => "vertex_ai",
        other => other,
    }
}

/// The rates of an entry while it is read.
#[derive(Default)]
struct Draft {
    bands: Vec<Band>,
    units: UnitRates,
    image_in: Option<Rate>,
    image_out: Option<Rate>,
    uplifts: Uplifts,
    /// Whether any rate was given, and whether any was not zero.
    priced: bool,
    charged: bool,
    left_out: Vec<String>,
}

fn dearer<T: Ord>(slot: &mut Option<T>, value: T) {
    *slot = slot.take().max(Some(value));
}

impl Draft {
    fn band(&mut self, tier: ServiceTier, above: u64) -> Option<&mut Band> {
        let at = match self
            .bands
            .iter()
            .position(|band| (band.tier, band.above) == (tier, above))
        {
            Some(at) => at,
            None if self.bands.len() >= MAX_BANDS => return None,
            None => {
                self.bands.push(Band {
                    tier,
                    above,
                    rates: Default::default(),
                });
                self.bands.len() - 1
            }
        };
        self.bands.get_mut(at)
    }

    fn put(&mut self, name: &str, what: What, tier: ServiceTier, above: u64, raw: &RawValue) -> Result<(), SkipReason> {
        let rate = match Rate::per_unit(raw.get()) {
            Ok(rate) if !matches!(what, What::Token(_)) || rate <= Rate::MAX_PER_TOKEN => rate,
            Ok(_) | Err(RateRejection::Absurd) => return Err(SkipReason::Absurd(name.to_owned())),
            Err(RateRejection::Negative) => return Err(SkipReason::Negative(name.to_owned())),
            Err(RateRejection::NotDecimal) => return Err(SkipReason::BadNumber(name.to_owned())),
        };
        self.priced = true;
        if rate.is_zero() {
            return Ok(());
        }
        self.charged = true;
        match what {
            What::Token(class) => {
                let Some(band) = self.band(tier, above) else {
                    return Err(SkipReason::Absurd(name.to_owned()));
                };
                let listed = band.rates.get(class).max(Some(rate));
                band.rates.put(class, listed);
            }
            // What is not counted in tokens has one rate here: the dearest of all tiers and sizes.
            What::Second => dearer(&mut self.units.second, rate),
            What::Character => dearer(&mut self.units.character, rate),
            What::ImageIn => dearer(&mut self.image_in, rate),
            What::ImageOut => dearer(&mut self.image_out, rate),
            What::Request => dearer(&mut self.units.request, rate),
        }
        Ok(())
    }

    fn read(&mut self, name: &str, raw: &RawValue, video: bool) -> Result<(), SkipReason> {
        if raw.get() == "null" {
            return Ok(());
        }
        let bad = || SkipReason::BadNumber(name.to_owned());
        match field::meaning(name) {
            Meaning::Other => {}
            Meaning::Unknown => return Err(SkipReason::UnknownCostField(name.to_owned())),
            Meaning::Rate { what, tier, above } => self.put(name, what, tier, above, raw)?,
            // The one unit of a model that makes videos is their length.
            Meaning::LeftOut if video && name.ends_with("_cost_per_video_per_second") => {
                self.put(name, What::Second, ServiceTier::Standard, 0, raw)?;
            }
            Meaning::LeftOut => self.left_out.push(name.to_owned()),
            Meaning::WebSearch => {
                for (_, raw) in object(raw).ok_or_else(bad)? {
                    let rate = Rate::per_unit(raw.get()).map_err(|_| bad())?;
                    if !rate.is_zero() {
                        dearer(&mut self.units.web_search, rate);
                    }
                }
            }
            Meaning::Ranges => self.ranges(name, raw)?,
            Meaning::ProviderFactors => {
                for (key, raw) in object(raw).ok_or_else(bad)? {
                    let Ok(factor) = Permille::factor(raw.get()) else {
                        // Settings of the program that the list is for are texts and objects.
                        if raw.get().starts_with(['"', '{']) {
                            continue;
                        }
                        return Err(bad());
                    };
                    match key.as_ref() {
                        "fast" => dearer(&mut self.uplifts.fast, factor),
                        "us" => dearer(&mut self.uplifts.us, factor),
                        "eu" => dearer(&mut self.uplifts.eu, factor),
                        _ => return Err(SkipReason::UnknownCostField(format!("{name}.{key}"))),
                    }
                }
            }
            Meaning::FactorUs => dearer(&mut self.uplifts.us, Permille::factor(raw.get()).map_err(|_| bad())?),
            Meaning::FactorEu => dearer(&mut self.uplifts.eu, Permille::factor(raw.get()).map_err(|_| bad())?),
            Meaning::FactorAnyRegion => {
                let factor = Permille::factor(raw.get()).map_err(|_| bad())?;
                dearer(&mut self.uplifts.us, factor);
                dearer(&mut self.uplifts.eu, factor);
            }
        }
        Ok(())
    }

    /// `[{"range": [0, 256000], "input_cost_per_token": ...}, ...]`
    fn ranges(&mut self, name: &str, raw: &RawValue) -> Result<(), SkipReason> {
        let bad = || SkipReason::BadNumber(name.to_owned());
        let ranges: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| bad())?;
        for range in ranges {
            let fields = object(range).ok_or_else(bad)?;
            // A search is priced by ranges of its results instead; there the dearest counts.
            let above = match fields.get("range") {
                Some(bounds) => {
                    let bounds: Vec<serde_json::Number> = serde_json::from_str(bounds.get()).map_err(|_| bad())?;
                    bounds.first().and_then(whole).ok_or_else(bad)?
                }
                None => 0,
            };
            for (key, raw) in &fields {
                match field::meaning(key) {
                    Meaning::Rate { what, tier, above: 0 } => self.put(key, what, tier, above, raw)?,
                    Meaning::Other => {}
                    Meaning::LeftOut => self.left_out.push(key.to_string()),
                    _ => return Err(SkipReason::UnknownCostField(format!("{name}.{key}"))),
                }
            }
        }
        Ok(())
    }

    /// Says that every token is free, for what is known to be.
    fn set_free(&mut self) {
        let mut rates = crate::domain::price::Rates::default();
        for class in TokenClass::ALL
            .into_iter()
            .filter(|&class| class != TokenClass::CacheWriteUnstated)
        {
            rates.set(class, Rate::ZERO);
        }
        self.bands = ServiceTier::ALL.map(|tier| Band { tier, above: 0, rates }).into();
        self.units = UnitRates {
            second: Some(Rate::ZERO),
            ..UnitRates::default()
        };
    }
}

/// A count that some write as `256000.0`.
fn whole(number: &serde_json::Number) -> Option<u64> {
    number.as_u64().or_else(|| {
        let text = number.to_string();
        text.strip_suffix(".0")?.parse().ok()
    })
}

fn text<'a>(fields: &super::Fields<'a>, key: &str) -> Option<std::borrow::Cow<'a, str>> {
    let raw = fields.get(key)?;
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);
    serde_json::from_str::<Text<'a>>(raw.get()).ok().map(|text| text.0)
}

fn size(fields: &super::Fields<'_>, key: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Number>(fields.get(key)?.get())
        .ok()
        .as_ref()
        .and_then(whole)
}

/// Reads one entry.
pub(super) fn read(
    name: &str,
    raw: &RawValue,
    origin: &Origin<'_>,
    left_out: &mut Vec<String>,
) -> Result<PriceEntry, SkipReason> {
    let fields = object(raw).ok_or(SkipReason::NotAModel)?;
    let Some(provider) = text(&fields, "litellm_provider").filter(|_| name != "sample_spec") else {
        // One real model has no provider, and its name says whose it is.
        return match name.split_once('/') {
            Some((provider, _)) if fields.contains_key("mode") => read_as(name, provider, &fields, origin, left_out),
            _ => Err(SkipReason::NotAModel),
        };
    };
    read_as(name, &provider, &fields, origin, left_out)
}

fn read_as(
    name: &str,
    provider: &str,
    fields: &super::Fields<'_>,
    origin: &Origin<'_>,
    left_out: &mut Vec<String>,
) -> Result<PriceEntry, SkipReason> {
    let service = service(provider);
    let plain = [provider, service]
        .into_iter()
        .find_map(|prefix| name.strip_prefix(prefix)?.strip_prefix('/'))
        .unwrap_or(name);
    let bad_name = |why: crate::domain::id::NameError| SkipReason::BadName(why.to_string());
    let model = ModelId::new(plain).map_err(bad_name)?;
    let service = ServiceId::new(service).map_err(bad_name)?;

    let mode = text(fields, "mode").unwrap_or_default();
    let mut draft = Draft::default();
    for (key, raw) in fields {
        draft.read(key, raw, mode == "video_generation")?;
    }
    if mode.starts_with("image_") {
        // An edit may cost for what goes in and for what comes out.
        let both = draft
            .image_in
            .map_or(0, Rate::nanos_per_million)
            .saturating_add(draft.image_out.map_or(0, Rate::nanos_per_million));
        if both > 0 {
            let rate = Rate::from_nanos_per_million(both).map_err(|_| SkipReason::Absurd("the image rate".into()))?;
            draft.units.image = Some(rate);
        }
    } else {
        draft.units.image = draft.image_out;
        if draft.image_in.is_some() {
            draft.left_out.push("input_cost_per_image".to_owned());
        }
    }
    let free = FREE_PROVIDERS.contains(&provider) || provider == "openai" && mode == "moderation";
    if draft.bands.is_empty() && draft.units == UnitRates::default() {
        if draft.priced && !draft.charged && draft.left_out.is_empty() {
            if !free {
                return Err(SkipReason::ZeroMayBeUnknown);
            }
            draft.set_free();
        } else if let Some(field) = draft.left_out.first() {
            return Err(SkipReason::OtherUnit(field.clone()));
        } else {
            return Err(SkipReason::NoPrice);
        }
    } else if draft.bands.is_empty() && draft.units.web_search.is_some() && !draft.charged {
        // A fee for searching is not the model's price.
        return Err(if draft.priced {
            SkipReason::ZeroMayBeUnknown
        } else {
            SkipReason::NoPrice
        });
    }
    if matches!(mode.as_ref(), "chat" | "completion" | "responses") {
        let base = draft
            .bands
            .iter()
            .find(|band| (band.tier, band.above) == (ServiceTier::Standard, 0));
        let rate = |class| base.and_then(|band| band.rates.get(class));
        // A router adds its fee to what the model behind it costs, and the list has the fee alone.
        match (rate(TokenClass::Input), rate(TokenClass::Output)) {
            (Some(_), None) => return Err(SkipReason::HalfUnknown("output")),
            (None, Some(_)) => return Err(SkipReason::HalfUnknown("input")),
            _ => {}
        }
    }
    if provider == "xai" {
        // Its dearer rates begin at the threshold, not above it.
        for band in draft.bands.iter_mut().filter(|band| band.above > 0) {
            band.above -= 1;
        }
    }
    left_out.append(&mut draft.left_out);
    let cites = text(fields, "source").filter(|source| source.starts_with("http"));
    let source = match cites {
        Some(page) => format!(
            "{}, which cites {}",
            origin.source,
            page.chars().take(300).collect::<String>()
        ),
        None => origin.source.to_owned(),
    };
    let mut entry = PriceEntry {
        service,
        model: model.as_str().into(),
        bands: draft.bands,
        units: draft.units,
        uplifts: draft.uplifts,
        min_seconds: min_seconds(provider).filter(|_| draft.units.second.is_some()),
        context: size(fields, "max_input_tokens"),
        max_output: size(fields, "max_output_tokens"),
        provenance: Provenance {
            kind: SourceKind::ThirdParty,
            source: source.into(),
            date: origin.date.into(),
        },
    };
    entry.sort();
    Ok(entry)
}

/// The seconds that a provider bills for each request at least, of which the list says nothing: Groq takes
/// recordings for "a minimum of 10 seconds per segment" (console.groq.com/docs/model/distil-whisper-large-v3-en,
/// read 2026-11-20).
fn min_seconds(provider: &str) -> Option<u64> {
    (provider == "groq").then_some(10)
}

/// Folds a second entry of the same model into the first: the dearer rate of each.
pub(super) fn fold(first: &mut PriceEntry, second: &PriceEntry) {
    for band in &second.bands {
        match first
            .bands
            .iter_mut()
            .find(|known| (known.tier, known.above) == (band.tier, band.above))
        {
            Some(known) => {
                for (class, rate) in band.rates.iter() {
                    let listed = known.rates.get(class).max(Some(rate));
                    known.rates.put(class, listed);
                }
            }
            None => first.bands.push(*band),
        }
    }
    let units = &mut first.units;
    units.second = units.second.max(second.units.second);
    units.character = units.character.max(second.units.character);
    units.image = units.image.max(second.units.image);
    units.request = units.request.max(second.units.request);
    units.web_search = units.web_search.max(second.units.web_search);
    first.min_seconds = first.min_seconds.max(second.min_seconds);
    let uplifts = &mut first.uplifts;
    uplifts.fast = uplifts.fast.max(second.uplifts.fast);
    uplifts.us = uplifts.us.max(second.uplifts.us);
    uplifts.eu = uplifts.eu.max(second.uplifts.eu);
    first.sort();
}
