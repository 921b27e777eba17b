//! Price files: what an import writes, and what the daemon reads.
//!
//! Two forms are read. One is our own, the entries as they are; the other is LiteLLM's list, so that a
//! file which somebody fetched can be named in the config without an import. Our own form is read as
//! strictly as a foreign one: somebody may have edited it.

use serde::{Deserialize, Serialize};

use super::entry::{MAX_BANDS, PriceEntry};
use super::litellm::{self, ImportRejection, MAX_BYTES, MAX_ENTRIES, Origin};
use crate::domain::wire::json::{self, JsonLimits, JsonRejection};

/// What our own form is called in its file.
const FORMAT: &str = "backstop-prices-1";

/// A price file in our own form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceFile {
    format: String,
    entries: Vec<PriceEntry>,
}

/// Why a file holds no prices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceFileRejection {
    #[error(transparent)]
    Json(#[from] JsonRejection),
    #[error("not a price file: {0}")]
    Form(String),
    #[error("the price of {model} is not sound: {why}")]
    Entry { model: String, why: &'static str },
    #[error("the file has {0} entries, and at most {MAX_ENTRIES} are read")]
    TooMany(usize),
    #[error(transparent)]
    Import(#[from] ImportRejection),
    #[error("none of its {0} entries can be used")]
    Nothing(usize),
}

impl PriceFile {
    pub fn new(entries: Vec<PriceEntry>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            entries,
        }
    }

    /// One entry a line, so that two versions can be compared.
    pub fn to_json(&self) -> String {
        let line = |entry| serde_json::to_string(entry).expect("an entry has text keys and finite numbers");
        let lines: Vec<String> = self.entries.iter().map(line).collect();
        format!(
            "{{\"format\": \"{FORMAT}\", \"entries\": [\n{}\n]}}\n",
            lines.join(",\n")
        )
    }
}

/// Reads a price file in either form.
pub fn read(bytes: &[u8], origin: &Origin<'_>) -> Result<Vec<PriceEntry>, PriceFileRejection> {
    json::check(
        bytes,
        &JsonLimits {
            bytes: MAX_BYTES,
            ..JsonLimits::default()
        },
    )?;
    if !is_ours(bytes) {
        let import = litellm::parse(bytes, origin)?;
        if import.entries.is_empty() {
            return Err(PriceFileRejection::Nothing(import.read));
        }
        return Ok(import.entries);
    }
    let file: PriceFile = serde_json::from_slice(bytes).map_err(|error| PriceFileRejection::Form(error.to_string()))?;
    if file.entries.len() > MAX_ENTRIES {
        return Err(PriceFileRejection::TooMany(file.entries.len()));
    }
    file.entries.into_iter().map(sound).collect()
}

/// Ours says what it is; LiteLLM's has model names for its keys.
fn is_ours(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    serde_json::from_slice::<Head>(bytes).is_ok_and(|head| head.format == FORMAT)
}

fn sound(mut entry: PriceEntry) -> Result<PriceEntry, PriceFileRejection> {
    entry.sort();
    let priced = entry.bands.iter().any(|band| !band.rates.is_empty()) || entry.units.iter().next().is_some();
    let why = if entry.bands.len() > MAX_BANDS {
        "it has too many bands"
    } else if !priced {
        "it has no rate at all"
    } else {
        return Ok(entry);
    };
    Err(PriceFileRejection::Entry {
        model: entry.model.chars().take(100).collect(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::price::builtin;

    const ORIGIN: Origin<'static> = Origin {
        source: "test",
        date: "2026-11-20",
    };

    #[test]
    fn what_is_written_reads_back() {
        let entries = builtin().to_vec();
        let text = PriceFile::new(entries.clone()).to_json();
        assert_eq!(read(text.as_bytes(), &ORIGIN), Ok(entries));
    }

    #[test]
    fn the_foreign_form_is_read_as_well() {
        let text = br#"{"m": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6,
                        "output_cost_per_token": 2e-6}}"#;
        let entries = read(text, &ORIGIN).expect("a list");
        assert_eq!((entries.len(), entries[0].model.as_ref()), (1, "m"));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            "{\"format\": \"backstop-prices-1\"}",
            "{\"a\": 1, \"a\": 2}",
        ] {
            assert!(read(text.as_bytes(), &ORIGIN).is_err(), "{text}");
        }
        let entry = &builtin()[0];
        let empty = PriceEntry {
            bands: Vec::new(),
            units: Default::default(),
            ..entry.clone()
        };
        let text = PriceFile::new(vec![empty]).to_json();
        assert!(matches!(
            read(text.as_bytes(), &ORIGIN),
            Err(PriceFileRejection::Entry { .. })
        ));
    }
}
