//! Price files: the form in which prices are kept and laid over the built-in ones.
//!
//! A file is JSON: `{"about": [...], "price": [...]}`, each price as `RawPrice` says. The built-in list has
//! the same form. LiteLLM's list is read too, so that an operator may name it directly, but it is better
//! imported: then what was skipped has been seen, and the file holds exactly what is in force.

use serde::{Deserialize, Serialize};

use super::entry::PriceEntry;
use super::litellm::{self, ImportRejection, Origin};
use super::raw::{RawPrice, RawPriceRejection};
use crate::domain::wire::json::{self, JsonLimits, JsonRejection};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// For whoever reads the file.
    #[serde(default)]
    about: Vec<String>,
    price: Vec<RawPrice>,
}

/// Why a file holds no prices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceFileRejection {
    #[error(transparent)]
    Json(#[from] JsonRejection),
    #[error(transparent)]
    List(#[from] ImportRejection),
    #[error("not a price file: {0}")]
    Form(String),
    #[error("the price of {models} of {service}: {why}")]
    Price {
        service: String,
        models: String,
        why: RawPriceRejection,
    },
    #[error("the file holds no price")]
    Empty,
}

/// Reads a price file, or a list of LiteLLM. In several files the later ones win: give their entries to
/// the catalogue in that order.
pub fn read_prices(bytes: &[u8], origin: &Origin<'_>) -> Result<Vec<PriceEntry>, PriceFileRejection> {
    json::check(
        bytes,
        &JsonLimits {
            bytes: litellm::MAX_BYTES,
            depth: 12,
            values: 4_000_000,
        },
    )?;
    let entries = if is_own_form(bytes) {
        read_own(bytes)?
    } else {
        litellm::parse(bytes, origin)?.entries
    };
    if entries.is_empty() {
        Err(PriceFileRejection::Empty)
    } else {
        Ok(entries)
    }
}

/// Writes these entries as a price file that reads back as the same entries.
pub fn write_prices(about: &[&str], entries: &[PriceEntry]) -> String {
    let file = File {
        about: about.iter().map(|&line| line.to_owned()).collect(),
        price: entries.iter().map(RawPrice::from).collect(),
    };
    // Texts and lists of texts: there is nothing in it that JSON cannot hold.
    serde_json::to_string_pretty(&file).expect("a price file is plain data")
}

/// Whether the document has the key that only our own form has.
fn is_own_form(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        #[expect(dead_code, reason = "only its being there and a list matters")]
        price: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Probe>(bytes).is_ok()
}

/// Reads our own form.
pub(super) fn read_own(bytes: &[u8]) -> Result<Vec<PriceEntry>, PriceFileRejection> {
    let file: File = serde_json::from_slice(bytes).map_err(|why| PriceFileRejection::Form(why.to_string()))?;
    let mut entries = Vec::new();
    for price in &file.price {
        let read = price.entries().map_err(|why| PriceFileRejection::Price {
            service: price.service.chars().take(64).collect(),
            models: price.models.join(", ").chars().take(200).collect(),
            why,
        })?;
        entries.extend(read);
        if entries.len() > litellm::MAX_ENTRIES {
            return Err(ImportRejection::TooMany(entries.len()).into());
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ModelId, ServiceId};
    use crate::domain::price::{Catalogue, builtin};

    const ORIGIN: Origin<'_> = Origin {
        source: "prices.json",
        date: "2026-11-20",
    };
    const LIST: &str = include_str!("../../../tests/fixtures/litellm/prices.json");

    #[test]
    fn what_was_written_reads_back_as_it_was() {
        let imported = litellm::parse(LIST.as_bytes(), &ORIGIN)
            .expect("the fixture is a list")
            .entries;
        for entries in [imported, builtin().to_vec()] {
            let text = write_prices(&["Imported."], &entries);
            let read = read_prices(text.as_bytes(), &ORIGIN).expect("it was just written");
            assert_eq!(read.len(), entries.len());
            for (read, written) in read.iter().zip(&entries) {
                assert_eq!(read, written);
            }
        }
    }

    #[test]
    fn a_list_of_litellm_is_read_as_it_is() {
        let read = read_prices(LIST.as_bytes(), &ORIGIN).expect("it is a list");
        let imported = litellm::parse(LIST.as_bytes(), &ORIGIN).expect("it is a list");
        assert_eq!(read, imported.entries);
    }

    #[test]
    fn in_several_files_the_later_ones_win() {
        let file = |models: &str, rate: &str| {
            let text = format!(
                r#"{{"price": [{{"service": "s", "models": [{models}], "second": "{rate}", "source": "us", "date": "2026-11-20"}}]}}"#
            );
            read_prices(text.as_bytes(), &ORIGIN).expect("it is well written")
        };
        let files = [
            file(r#""a", "m-##""#, "0.1"),
            file(r#""a", "m-##""#, "0.2"),
            file(r#""b""#, "0.3"),
        ];
        let catalogue = Catalogue::new(Vec::new()).with_imported(files.concat());
        for (model, expected) in [("a", 200), ("m-12", 200), ("b", 300)] {
            let service = ServiceId::new("s").expect("a service name");
            let id = ModelId::new(model).expect("a model name");
            let entry = catalogue.lookup(&service, &id).expect("it is listed");
            let rate = entry.units.second.expect("it has a rate").nanos_per_million();
            assert_eq!(rate, expected * 1_000_000_000_000, "{model}");
        }
    }

    #[test]
    fn a_file_without_prices_is_refused() {
        for (text, expected) in [
            ("{", "not JSON"),
            ("[]", "not a price list"),
            ("{}", "no price"),
            (r#"{"price": []}"#, "no price"),
            (r#"{"price": [], "price": []}"#, "twice"),
            (r#"{"price": [], "prices": []}"#, "unknown field `prices`"),
            (r#"{"price": [{"service": "s"}]}"#, "missing field"),
            (
                r#"{"price": [{"service": "s", "models": ["m"], "second": "-1", "source": "x", "date": "y"}]}"#,
                "the price of m of s: second = \"-1\": a rate cannot be negative",
            ),
        ] {
            let error = read_prices(text.as_bytes(), &ORIGIN).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
