//! Finding the price of a model: layers of lists, and a ceiling for what no list names.
//!
//! Three layers, each replacing the ones below it model by model: the operator's overrides, an imported
//! list, the built-in list. Within a layer a name that is listed wins over a pattern, since a provider
//! sells some dated snapshots at a price of their own. A model that no layer names is unknown: refused,
//! or charged at the operator's ceiling. It never takes the price of a model that looks like it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::entry::{Band, PriceEntry, Provenance, SourceKind, UnitRates, Uplifts};
use super::rate::{Permille, Rate, Rates};
use super::usage::{ServiceTier, TokenClass};
use crate::domain::id::{ModelId, ServiceId};

/// Which list an entry came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Layer {
    Override,
    Imported,
    Builtin,
}

impl Layer {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Imported => "imported",
            Self::Builtin => "built-in",
        }
    }
}

/// Why there is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupRejection {
    #[error(
        "no price is known for model {model:?} of {service}; import a list or name a price file that has it, \
         set a ceiling for unknown models, or report the amount in USD"
    )]
    UnknownModel { service: ServiceId, model: ModelId },
}

/// What an unknown model is charged at, when the operator prefers that to a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ceiling {
    /// A token of the input, whatever its class.
    pub input: Rate,
    /// A token of the output, whatever its class.
    pub output: Rate,
    /// A second of audio; without it, audio of an unknown model stays unpriced.
    pub second: Option<Rate>,
    pub character: Option<Rate>,
    pub image: Option<Rate>,
    pub web_search: Option<Rate>,
}

impl Ceiling {
    /// One rate for every token; what is not counted in tokens stays unpriced.
    pub const fn per_token(rate: Rate) -> Self {
        Self {
            input: rate,
            output: rate,
            second: None,
            character: None,
            image: None,
            web_search: None,
        }
    }

    fn entry(&self, service: ServiceId) -> PriceEntry {
        let mut rates = Rates::default();
        for class in TokenClass::ALL {
            rates.set(class, if class.is_input() { self.input } else { self.output });
        }
        let bands = ServiceTier::ALL.map(|tier| Band { tier, above: 0, rates });
        PriceEntry {
            service,
            model: "*".into(),
            bands: bands.into(),
            units: UnitRates {
                second: self.second,
                character: self.character,
                image: self.image,
                request: None,
                web_search: self.web_search,
            },
            // It is a ceiling, so nothing multiplies it; the operator set it with that in mind.
            uplifts: Uplifts {
                fast: Some(Permille::ONE),
                us: None,
                eu: None,
            },
            min_seconds: None,
            context: None,
            max_output: None,
            provenance: Provenance {
                kind: SourceKind::Operator,
                source: "the configured ceiling for unknown models".into(),
                date: "".into(),
            },
        }
    }
}

/// A price with where it was found. The ceiling has no layer.
#[derive(Clone, Debug)]
pub struct Quote {
    pub entry: Arc<PriceEntry>,
    /// The name under which the model is known: what budgets match and add up by, whatever longer or
    /// dated name a client found for it. The price of this name is this price.
    pub model: ModelId,
    pub layer: Option<Layer>,
}

impl Quote {
    /// Whether the model was unknown and the ceiling stands in for its price.
    pub const fn is_ceiling(&self) -> bool {
        self.layer.is_none()
    }
}

#[derive(Clone, Default, Debug)]
struct Index {
    exact: HashMap<ServiceId, HashMap<Arc<str>, Arc<PriceEntry>>>,
    patterns: Vec<Arc<PriceEntry>>,
}

impl Index {
    fn build(entries: impl IntoIterator<Item = PriceEntry>) -> Self {
        let mut index = Self::default();
        for mut entry in entries {
            entry.sort();
            let entry = Arc::new(entry);
            if entry.is_pattern() {
                index.patterns.push(entry);
            } else {
                let models = index.exact.entry(entry.service.clone()).or_default();
                models.insert(entry.model.clone(), entry);
            }
        }
        index
    }

    fn find(&self, service: &ServiceId, model: &ModelId) -> Option<&Arc<PriceEntry>> {
        self.exact
            .get(service)
            .and_then(|models| models.get(model.as_str()))
            .or_else(|| {
                self.patterns
                    .iter()
                    .rev()
                    .find(|entry| entry.service == *service && entry.matches(model))
            })
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<PriceEntry>> {
        self.exact.values().flat_map(HashMap::values).chain(&self.patterns)
    }
}

/// All known prices.
#[derive(Clone, Debug)]
pub struct Catalogue {
    layers: [(Layer, Index); 3],
    /// Every service that sells anything.
    services: BTreeSet<ServiceId>,
    ceiling: Option<Ceiling>,
}

impl Catalogue {
    /// The built-in list alone; unknown models are refused.
    pub fn builtin() -> Self {
        Self::new(super::builtin().to_vec())
    }

    /// A catalogue whose lowest layer is this list.
    pub fn new(builtin: Vec<PriceEntry>) -> Self {
        Self {
            layers: [
                (Layer::Override, Index::default()),
                (Layer::Imported, Index::default()),
                (Layer::Builtin, Index::build(builtin)),
            ],
            services: BTreeSet::new(),
            ceiling: None,
        }
        .counted()
    }

    fn counted(mut self) -> Self {
        let entries = self.layers.iter().flat_map(|(_, index)| index.iter());
        self.services = entries.map(|entry| entry.service.clone()).collect();
        self
    }

    /// With this imported list in place of the one before. Of two entries for a model the later one wins.
    #[must_use]
    pub fn with_imported(mut self, entries: Vec<PriceEntry>) -> Self {
        self.layers[1].1 = Index::build(entries);
        self.counted()
    }

    /// With these overrides in place of the ones before.
    #[must_use]
    pub fn with_overrides(mut self, entries: Vec<PriceEntry>) -> Self {
        self.layers[0].1 = Index::build(entries);
        self.counted()
    }

    /// With this ceiling for unknown models, or with none: then they are refused.
    #[must_use]
    pub const fn with_ceiling(mut self, ceiling: Option<Ceiling>) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// The listed price of a model, without the ceiling.
    pub fn lookup(&self, service: &ServiceId, model: &ModelId) -> Result<&PriceEntry, LookupRejection> {
        self.find(service, model)
            .map(|(_, entry)| entry.as_ref())
            .ok_or_else(|| LookupRejection::UnknownModel {
                service: service.clone(),
                model: model.clone(),
            })
    }

    /// The price to charge: the listed one, else the ceiling's, else none.
    pub fn quote(&self, service: &ServiceId, model: &ModelId) -> Result<Quote, LookupRejection> {
        if let Some((layer, entry)) = self.find(service, model) {
            return Ok(Quote {
                entry: entry.clone(),
                model: self.name_of(entry).unwrap_or_else(|| model.clone()),
                layer: Some(layer),
            });
        }
        match &self.ceiling {
            Some(ceiling) => Ok(Quote {
                entry: Arc::new(ceiling.entry(service.clone())),
                model: plain_name(service, model).unwrap_or_else(|| model.clone()),
                layer: None,
            }),
            None => Err(LookupRejection::UnknownModel {
                service: service.clone(),
                model: model.clone(),
            }),
        }
    }

    fn find(&self, service: &ServiceId, model: &ModelId) -> Option<(Layer, &Arc<PriceEntry>)> {
        let plain = plain_name(service, model);
        [Some(model), plain.as_ref()].into_iter().flatten().find_map(|model| {
            self.layers
                .iter()
                .find_map(|(layer, index)| Some((*layer, index.find(service, model)?)))
        })
    }

    /// The name under which a model is known, also for spend that comes with its own amount. A service
    /// that is not said is looked for: the first, in order, that knows the model.
    pub fn known_as(&self, service: Option<&ServiceId>, model: &ModelId) -> ModelId {
        let at = |service: &ServiceId| self.find(service, model).and_then(|(_, entry)| self.name_of(entry));
        let known = match service {
            Some(service) => at(service).or_else(|| plain_name(service, model)),
            None => self.services.iter().find_map(at),
        };
        known.unwrap_or_else(|| model.clone())
    }

    /// The one name of all that an entry prices. A pattern prices any date that somebody thinks of, so
    /// its snapshots are known by the name before the date, if that is sold at the same price, else all
    /// together by the date of noughts.
    fn name_of(&self, entry: &PriceEntry) -> Option<ModelId> {
        let Some((family, _)) = entry.model.split_once('#') else {
            return ModelId::new(&*entry.model).ok();
        };
        let is_same = |family: &ModelId| {
            let listed = self.find(&entry.service, family);
            listed.is_some_and(|(_, other)| {
                (&other.bands, other.units, other.uplifts) == (&entry.bands, entry.units, entry.uplifts)
            })
        };
        let family = ModelId::new(family.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())).ok();
        family
            .filter(is_same)
            .or_else(|| ModelId::new(entry.model.replace('#', "0")).ok())
    }

    /// Every price that is in force, sorted by service and model; what a higher layer replaced is left out.
    pub fn iter(&self) -> Vec<(Layer, &PriceEntry)> {
        let mut seen = HashMap::new();
        for (layer, index) in &self.layers {
            for entry in index.iter() {
                seen.entry((&entry.service, &entry.model))
                    .or_insert((*layer, entry.as_ref()));
            }
        }
        let mut all: Vec<_> = seen.into_values().collect();
        all.sort_by(|(_, a), (_, b)| (&a.service, &a.model).cmp(&(&b.service, &b.model)));
        all
    }
}

/// The name under which a list knows a model that a client named in a longer way: with its service in
/// front, as an ARN of Bedrock, or as a fine-tuned model with its owner behind.
fn plain_name(service: &ServiceId, model: &ModelId) -> Option<ModelId> {
    let name = model.as_str();
    if let Some(rest) = name.strip_prefix("arn:aws") {
        // `arn:aws:bedrock:eu-west-1:1234:inference-profile/eu.anthropic.claude-...`. An application
        // profile's name says nothing about its model, so it stays unknown.
        let (kind, model) = rest.rsplit_once('/')?;
        let known = kind.ends_with(":foundation-model") || kind.ends_with(":inference-profile");
        return known.then(|| ModelId::new(model).ok()).flatten();
    }
    if let Some(rest) = name.strip_prefix("ft:") {
        // `ft:gpt-4.1-2025-04-14:owner:suffix:id`
        let base = rest.split(':').next()?;
        return ModelId::new(format!("ft:{base}")).ok();
    }
    let rest = name.strip_prefix(service.as_str())?.strip_prefix('/')?;
    ModelId::new(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Usd;
    use crate::domain::price::{Usage, settle};

    fn name(service: &str, model: &str) -> (ServiceId, ModelId) {
        (
            ServiceId::new(service).expect("a service name"),
            ModelId::new(model).expect("a model name"),
        )
    }

    fn entry(model: &str, input: i64) -> PriceEntry {
        let rates = Rates::default().with(TokenClass::Input, Rate::from_nanos_per_million(input).expect("a rate"));
        PriceEntry {
            service: ServiceId::new("s").expect("a service name"),
            model: model.into(),
            bands: vec![Band {
                tier: ServiceTier::Standard,
                above: 0,
                rates,
            }],
            units: UnitRates::default(),
            uplifts: Uplifts::default(),
            min_seconds: None,
            context: None,
            max_output: None,
            provenance: Provenance {
                kind: SourceKind::ThirdParty,
                source: "synthetic".into(),
                date: "-".into(),
            },
        }
    }

    fn input_rate(catalogue: &Catalogue, model: &str) -> Option<i64> {
        let (service, model) = name("s", model);
        let entry = catalogue.lookup(&service, &model).ok()?;
        Some(entry.base()?.get(TokenClass::Input)?.nanos_per_million())
    }

    #[test]
    fn a_layer_replaces_the_one_below_model_by_model() {
        let catalogue = Catalogue::new(vec![entry("a", 1), entry("b", 1), entry("c", 1)])
            .with_imported(vec![entry("b", 2), entry("c", 2)])
            .with_overrides(vec![entry("c", 3)]);
        let found = ["a", "b", "c"].map(|model| input_rate(&catalogue, model));
        assert_eq!(found, [Some(1), Some(2), Some(3)]);
        let listed: Vec<_> = catalogue
            .iter()
            .iter()
            .map(|(layer, e)| (e.model.to_string(), *layer))
            .collect();
        assert_eq!(
            listed,
            [
                ("a".into(), Layer::Builtin),
                ("b".into(), Layer::Imported),
                ("c".into(), Layer::Override)
            ]
        );
    }

    #[test]
    fn a_listed_snapshot_wins_over_the_pattern() {
        let catalogue = Catalogue::new(vec![entry("m-####-##-##", 1), entry("m-2024-05-13", 9)]);
        assert_eq!(input_rate(&catalogue, "m-2024-05-13"), Some(9));
        assert_eq!(input_rate(&catalogue, "m-2026-01-01"), Some(1));
        assert_eq!(input_rate(&catalogue, "m"), None);
    }

    #[test]
    fn long_names_are_found_by_the_model_in_them() {
        let catalogue = Catalogue::builtin();
        for (service, model) in [
            ("openai", "openai/gpt-5-mini"),
            ("openai", "ft:gpt-4.1-2025-04-14:acme:support:abc123"),
            (
                "bedrock",
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0",
            ),
        ] {
            let (service, model) = name(service, model);
            assert!(catalogue.lookup(&service, &model).is_ok(), "{model}");
        }
        let (service, model) = name(
            "bedrock",
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
        );
        assert!(catalogue.lookup(&service, &model).is_err());
    }

    /// However a client writes a model, budgets see one name, which has the price that was charged.
    #[test]
    fn a_model_is_known_by_one_name() {
        let catalogue = Catalogue::builtin();
        let known = |service: &str, model: &str| {
            let (service, model) = name(service, model);
            let quote = catalogue.quote(&service, &model).expect("listed");
            let again = catalogue.quote(&service, &quote.model).expect("its name is listed too");
            assert_eq!(
                (&quote.entry.bands, &quote.model),
                (&again.entry.bands, &again.model),
                "{model}"
            );
            assert_eq!(catalogue.known_as(Some(&service), &model), quote.model);
            quote.model.to_string()
        };
        assert_eq!(known("openai", "gpt-5-mini"), "gpt-5-mini");
        assert_eq!(known("openai", "openai/gpt-5-mini"), "gpt-5-mini");
        assert_eq!(known("openai", "gpt-5-mini-2031-01-01"), "gpt-5-mini");
        assert_eq!(known("openai", "openai/gpt-5-mini-2031-01-02"), "gpt-5-mini");
        let (_, long) = name("openai", "openai/gpt-5-mini");
        assert_eq!(catalogue.known_as(None, &long).as_str(), "gpt-5-mini");
        let (_, other) = name("openai", "my-own-model");
        assert_eq!(catalogue.known_as(None, &other), other);

        // Snapshots that have a price of their own are one model, and not the family.
        let catalogue = Catalogue::new(vec![entry("m", 1), entry("m-####", 9)]);
        let (service, dated) = name("s", "m-2031");
        let quote = catalogue.quote(&service, &dated).expect("listed");
        assert_eq!(quote.model.as_str(), "m-0000");
        assert_eq!(input_rate(&catalogue, "m-0000"), Some(9));
    }

    /// **L7**: an unknown model is refused, or charged at the ceiling in every tier and class.
    #[test]
    fn an_unknown_model_is_never_free() {
        let catalogue = Catalogue::builtin();
        let (service, model) = name("openai", "gpt-99");
        assert_eq!(
            catalogue.lookup(&service, &model),
            Err(LookupRejection::UnknownModel {
                service: service.clone(),
                model: model.clone()
            })
        );
        assert!(catalogue.quote(&service, &model).is_err());

        let ceiling = Ceiling {
            input: Rate::per_million("100").expect("a rate"),
            output: Rate::per_million("500").expect("a rate"),
            second: None,
            character: None,
            image: None,
            web_search: None,
        };
        let catalogue = catalogue.with_ceiling(Some(ceiling));
        let quote = catalogue.quote(&service, &model).expect("the ceiling stands in");
        assert!(quote.is_ceiling());
        for class in TokenClass::ALL {
            for tier in ServiceTier::ALL {
                let usage = Usage {
                    tier,
                    fast: true,
                    ..Usage::default()
                }
                .token(class, 1_000_000);
                let dollars = if class.is_input() { 100 } else { 500 };
                assert_eq!(
                    settle(&usage, &quote.entry),
                    Ok(Usd::from_dollars(dollars)),
                    "{class:?} {tier}"
                );
            }
        }
    }
}
