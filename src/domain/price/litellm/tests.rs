use proptest::prelude::*;

use super::*;
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::money::Usd;
use crate::domain::price::{Catalogue, ServiceTier, TokenClass, Usage, settle};

const LIST: &str = include_str!("../../../../tests/fixtures/litellm/prices.json");
const ORIGIN: Origin<'_> = Origin {
    source: "litellm 1.109.1",
    date: "2026-11-20",
};

fn list() -> Import {
    parse(LIST.as_bytes(), &ORIGIN).expect("the fixture is a list")
}

/// One entry with these fields, as a model of one service.
fn one(fields: &str) -> Result<PriceEntry, SkipReason> {
    let text = format!(r#"{{"m": {{"litellm_provider": "p", "mode": "chat", {fields}}}}}"#);
    let mut import = parse(text.as_bytes(), &ORIGIN).expect("it is a list");
    match import.skipped.pop() {
        Some((_, reason)) => Err(reason),
        None => Ok(import.entries.remove(0)),
    }
}

fn price(service: &str, model: &str, usage: Usage) -> Usd {
    let catalogue = Catalogue::new(Vec::new()).with_imported(list().entries);
    let service = ServiceId::new(service).expect("a service name");
    let model = ModelId::new(model).expect("a model name");
    let entry = catalogue.lookup(&service, &model).expect("the model is listed");
    settle(&usage, entry).expect("it has a price")
}

/// Third party: the package litellm 1.109.1. Each name ends in exactly one place.
#[test]
fn every_name_is_imported_or_skipped_with_a_reason() {
    let import = list();
    assert_eq!(import.read, import.entries.len() + import.skipped.len());
    let expected = "502 names, 374 imported, 44 another name of an entry, 4 bad name, 14 half may be unknown, \
        12 no price, 2 not a model, 26 priced in another unit, 2 unknown cost field, 24 zero may be unknown";
    assert_eq!(import.to_string(), expected);
    for entry in &import.entries {
        assert!(entry.provenance.source.starts_with("litellm 1.109.1"), "{entry:?}");
        let priced = entry.bands.iter().any(|band| !band.rates.is_empty()) || entry.units.iter().next().is_some();
        assert!(priced, "{entry:?}");
    }
}

/// The list has no least length, and its provider bills one.
#[test]
fn groq_bills_ten_seconds_of_each_recording_at_least() {
    let of = |provider: &str, unit: &str| {
        let text = format!(
            r#"{{"{provider}/m": {{"litellm_provider": "{provider}", "mode": "audio_transcription",
                "{unit}": 0.00003083}}}}"#
        );
        parse(text.as_bytes(), &ORIGIN)
            .expect("it is a list")
            .entries
            .remove(0)
            .min_seconds
    };
    assert_eq!(of("groq", "input_cost_per_second"), Some(10));
    assert_eq!(of("groq", "input_cost_per_token"), None);
    assert_eq!(of("openai", "input_cost_per_second"), None);
}

#[test]
fn rates_are_read_as_they_are_listed() {
    let million = |class| Usage::one_call().token(class, 1_000_000);
    let cents = |cents: i64| Usd::from_nanos(cents * 10_000_000);
    // 272,000 tokens are a short input and one more is a long one.
    let short = Usage::one_call().token(TokenClass::Input, 272_000);
    assert_eq!(price("openai", "gpt-5.4", short), cents(68));
    assert_eq!(price("openai", "gpt-5.4", million(TokenClass::Input)), cents(500));
    let flex = Usage {
        tier: ServiceTier::Flex,
        ..short
    };
    assert_eq!(price("openai", "gpt-5.4", flex), cents(34));
    // The prompt is long when its cached part makes it so.
    let cached = short.token(TokenClass::CacheRead, 1);
    assert_eq!(
        price("openai", "gpt-5.4", cached),
        cents(136).saturating_add(Usd::from_nanos(500))
    );

    let fast = Usage {
        fast: true,
        ..million(TokenClass::Output)
    };
    assert_eq!(price("anthropic", "claude-opus-5-5", fast), cents(4_000));
    assert_eq!(
        price("anthropic", "claude-opus-5-5", million(TokenClass::CacheWrite1h)),
        cents(800)
    );
    assert_eq!(
        price("anthropic", "claude-opus-5-5", million(TokenClass::CacheWriteUnstated)),
        cents(800)
    );

    // Two rates for one second of audio are two names of one rate.
    let minute = Usage {
        micros: 60_000_000,
        ..Usage::one_call()
    };
    assert_eq!(price("openai", "whisper-1", minute), Usd::from_nanos(6_000_000));
}

#[test]
fn ranges_and_thresholds_are_bands() {
    let entry = one(r#""tiered_pricing": [
            {"range": [0, 256000.0], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07},
            {"range": [256000.0, 1000000.0], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06}]"#)
    .expect("it is read");
    let bands: Vec<_> = entry.bands.iter().map(|band| (band.tier, band.above)).collect();
    assert_eq!(bands, [(ServiceTier::Standard, 0), (ServiceTier::Standard, 256_000)]);

    let text = r#"{"xai/g": {"litellm_provider": "xai", "mode": "chat", "input_cost_per_token": 2e-06,
        "output_cost_per_token": 6e-06, "input_cost_per_token_above_200k_tokens": 4e-06}}"#;
    let import = parse(text.as_bytes(), &ORIGIN).expect("it is a list");
    let at = Usage::one_call().token(TokenClass::Input, 200_000);
    assert_eq!(
        settle(&at, &import.entries[0]),
        Ok(Usd::from_nanos(800_000_000)),
        "xAI's threshold is inclusive"
    );
}

/// **L7**: a zero is a price only where it is known to be one.
#[test]
fn zero_may_be_unknown() {
    let zero = r#""input_cost_per_token": 0.0, "output_cost_per_token": 0"#;
    assert_eq!(one(zero), Err(SkipReason::ZeroMayBeUnknown));
    let text = format!(r#"{{"ollama/llama3": {{"litellm_provider": "ollama", "mode": "chat", {zero}}}}}"#);
    let import = parse(text.as_bytes(), &ORIGIN).expect("it is a list");
    let usage = Usage {
        tier: ServiceTier::Priority,
        ..Usage::one_call()
    }
    .token(TokenClass::Output, 1_000_000);
    assert_eq!(settle(&usage, &import.entries[0]), Ok(Usd::ZERO));

    let half = r#""input_cost_per_token": 1.4e-07, "output_cost_per_token": 0"#;
    assert_eq!(one(half), Err(SkipReason::HalfUnknown("output")));

    // A zero beside rates that are not is no rate, so the class takes the highest.
    let write =
        r#""input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06, "cache_creation_input_token_cost": 0"#;
    let entry = one(write).expect("it is read");
    let usage = Usage::one_call().token(TokenClass::CacheWrite, 1_000_000);
    assert_eq!(settle(&usage, &entry), Ok(Usd::from_dollars(4)));
}

#[test]
fn what_cannot_be_read_is_skipped_by_name() {
    for (fields, expected) in [
        (r#""max_tokens": 5"#, SkipReason::NoPrice),
        (
            r#""input_cost_per_token": -1e-06"#,
            SkipReason::Negative("input_cost_per_token".into()),
        ),
        (
            r#""input_cost_per_token": "NaN""#,
            SkipReason::BadNumber("input_cost_per_token".into()),
        ),
        (
            r#""input_cost_per_token": "0.1""#,
            SkipReason::BadNumber("input_cost_per_token".into()),
        ),
        (
            r#""input_cost_per_token": [1]"#,
            SkipReason::BadNumber("input_cost_per_token".into()),
        ),
        (
            r#""input_cost_per_token": 2.5"#,
            SkipReason::Absurd("input_cost_per_token".into()),
        ),
        (
            r#""input_cost_per_second": 1e300"#,
            SkipReason::Absurd("input_cost_per_second".into()),
        ),
        (
            r#""output_cost_per_thought": 1e-06"#,
            SkipReason::UnknownCostField("output_cost_per_thought".into()),
        ),
        (
            r#""ocr_cost_per_page": 0.001"#,
            SkipReason::OtherUnit("ocr_cost_per_page".into()),
        ),
        (
            r#""input_cost_per_token": 1e-06, "provider_specific_entry": {"moon": 1.5}"#,
            SkipReason::UnknownCostField("provider_specific_entry.moon".into()),
        ),
        (
            r#""input_cost_per_token": 1e-06, "provider_specific_entry": {"us": 0.5}"#,
            SkipReason::BadNumber("provider_specific_entry".into()),
        ),
        (
            r#""tiered_pricing": [{"range": ["x"]}]"#,
            SkipReason::BadNumber("tiered_pricing".into()),
        ),
        (
            r#""tiered_pricing": {"range": 1}"#,
            SkipReason::BadNumber("tiered_pricing".into()),
        ),
    ] {
        assert_eq!(one(fields), Err(expected), "{fields}");
    }
    let many: Vec<_> = (1..=100)
        .map(|n| format!(r#""input_cost_per_token_above_{n}k_tokens": 1e-06"#))
        .collect();
    assert!(
        matches!(one(&many.join(",")), Err(SkipReason::Absurd(_))),
        "an entry has a bounded number of bands"
    );

    let text = r#"{"a*b": {"litellm_provider": "p", "input_cost_per_second": 1}, "sample_spec": {}, "n": 3}"#;
    let import = parse(text.as_bytes(), &ORIGIN).expect("it is a list");
    let kinds: Vec<_> = import
        .skipped
        .iter()
        .map(|(name, reason)| (name.as_str(), reason.kind()))
        .collect();
    assert_eq!(
        kinds,
        [
            ("a*b", "bad name"),
            ("n", "not a model"),
            ("sample_spec", "not a model")
        ]
    );
}

#[test]
fn two_names_of_one_model_fold_at_the_dearer_rate() {
    let text = r#"{
        "p/m": {"litellm_provider": "p", "input_cost_per_second": 0.1, "output_cost_per_second": 0.2},
        "m": {"litellm_provider": "p", "input_cost_per_second": 0.3}}"#;
    let import = parse(text.as_bytes(), &ORIGIN).expect("it is a list");
    assert_eq!(import.skipped, [("p/m".to_owned(), SkipReason::SameAs("m".to_owned()))]);
    let second = Usage {
        micros: 1_000_000,
        ..Usage::one_call()
    };
    assert_eq!(settle(&second, &import.entries[0]), Ok(Usd::from_nanos(300_000_000)));
}

#[test]
fn a_file_that_is_no_list_is_refused() {
    for text in ["[]", "3", "\"x\"", "null"] {
        assert_eq!(
            parse(text.as_bytes(), &ORIGIN).err(),
            Some(ImportRejection::NotAnObject),
            "{text}"
        );
    }
    for text in ["", "{", r#"{"a": {}, "a": {}}"#, r#"{"a": {"x": 1, "x": 2}}"#, "{} {}"] {
        assert!(
            matches!(parse(text.as_bytes(), &ORIGIN), Err(ImportRejection::Json(_))),
            "{text}"
        );
    }
    let many: Vec<_> = (0..=MAX_ENTRIES).map(|n| format!("\"{n}\":0")).collect();
    let text = format!("{{{}}}", many.join(","));
    assert_eq!(
        parse(text.as_bytes(), &ORIGIN).err(),
        Some(ImportRejection::TooMany(MAX_ENTRIES + 1))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A list that was cut or changed anywhere is refused or read, and what is read has a source.
    #[test]
    fn a_damaged_list_never_panics(at in 0..LIST.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = LIST.as_bytes().to_vec();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(import) = parse(&bytes, &ORIGIN) {
            prop_assert_eq!(import.read, import.entries.len() + import.skipped.len());
        }
    }
}
