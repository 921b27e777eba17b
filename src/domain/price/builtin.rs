//! The built-in list, compiled in: `builtin.json`, whose head says how to read it.

use std::sync::LazyLock;

use super::entry::PriceEntry;
use super::file;

const LIST: &str = include_str!("builtin.json");

static BUILTIN: LazyLock<Vec<PriceEntry>> = LazyLock::new(|| {
    // The text is part of the program, and a test reads it; it cannot differ at run time.
    file::read_own(LIST.as_bytes()).expect("the built-in list is read by a test")
});

/// The built-in prices. Each says where it comes from and when it was read.
pub fn builtin() -> &'static [PriceEntry] {
    &BUILTIN
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::id::{ModelId, ServiceId};
    use crate::domain::price::{Catalogue, TokenClass};

    #[test]
    fn every_price_is_whole() {
        use crate::domain::wire::json;
        assert_eq!(json::check(LIST.as_bytes(), &json::JsonLimits::default()), Ok(()));
        let entries = builtin();
        assert!(entries.len() > 150, "{} entries", entries.len());
        let mut seen = HashSet::new();
        for entry in entries {
            let name = format!("{}/{}", entry.service, entry.model);
            assert!(seen.insert(name.clone()), "{name} is listed twice");
            assert!(entry.provenance.source.contains("http"), "{name} has no page");
            let date = &entry.provenance.date;
            assert!(date.parse::<jiff::civil::Date>().is_ok(), "{name} was read on {date:?}");
            assert!(
                entry
                    .bands
                    .iter()
                    .all(|band| band.rates.iter().all(|(_, rate)| !rate.is_zero())),
                "{name}"
            );
            assert!(entry.units.iter().all(|(_, rate)| !rate.is_zero()), "{name}");
            assert!(
                entry.base().is_some() || entry.units.iter().next().is_some(),
                "{name} has no rate"
            );
            for band in entry.tier_bands(crate::domain::price::ServiceTier::Standard) {
                let rate = |class| band.rates.get(class);
                assert!(
                    rate(TokenClass::Input) >= rate(TokenClass::CacheRead),
                    "{name} reads dearer than it sends"
                );
                if let (Some(short), Some(long)) = (rate(TokenClass::CacheWrite), rate(TokenClass::CacheWrite1h)) {
                    assert!(
                        short < long,
                        "{name} writes for an hour at no more than for five minutes"
                    );
                }
            }
            for pair in entry.bands.windows(2).filter(|pair| pair[0].tier == pair[1].tier) {
                for (class, rate) in pair[1].rates.iter() {
                    assert!(
                        pair[0].rates.get(class) <= Some(rate),
                        "{name}: {} above {}",
                        class.name(),
                        pair[1].above
                    );
                }
            }
        }
    }

    #[test]
    fn the_models_that_people_use_are_listed() {
        let catalogue = Catalogue::builtin();
        for (service, model) in [
            ("openai", "gpt-6.1-sol"),
            ("openai", "gpt-5-mini"),
            ("openai", "gpt-4o-2024-05-13"),
            ("openai", "text-embedding-3-small"),
            ("openai", "whisper-1"),
            ("openai", "gpt-4o-transcribe"),
            ("openai", "tts-1"),
            ("openai", "gpt-image-2"),
            ("anthropic", "claude-opus-5-5"),
            ("anthropic", "claude-haiku-4-5-20251001"),
            ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
            ("bedrock", "us.anthropic.claude-opus-4-6-v1"),
            ("bedrock", "amazon.titan-embed-text-v2:0"),
        ] {
            let service = ServiceId::new(service).expect("a service name");
            let id = ModelId::new(model).expect("a model name");
            assert!(catalogue.lookup(&service, &id).is_ok(), "{model}");
        }
    }
}
