//! Reads LiteLLM's price list: a JSON object of model names to their fields.
//!
//! The list is kept by many hands for another program, so it is read with suspicion:
//! - a zero may mean *free* and may mean *nobody knows*. It is taken at its word only for what runs on the
//!   reader's own machine or is documented as free; elsewhere a zero is no rate (**L7**);
//! - a field that is new here and looks like a cost makes its entry unreadable, by name, since what it
//!   adds to the bill is unknown;
//! - rates in units that no usage report carries (pages, pixels, sessions) are left out and counted;
//! - numbers are read from their text, never through a float;
//! - two names for one model fold into one entry, at the dearer rate of each class.
//!
//! What cannot be read is listed with its reason; the rest is imported.

mod entry;
mod field;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::entry::PriceEntry;
use crate::domain::wire::json::{self, JsonLimits, JsonRejection};

/// The most bytes that are read; the list of late 2026 has three million.
pub const MAX_BYTES: usize = 32 << 20;
/// The most models that are read.
pub const MAX_ENTRIES: usize = 50_000;

/// Why an entry was not imported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum SkipReason {
    #[error("describes the list and not a model")]
    NotAModel,
    #[error("its name cannot be a model's: {0}")]
    BadName(String),
    #[error("no price is given; it may be sold by subscription")]
    NoPrice,
    #[error("every price is zero, which may mean that nobody knows it")]
    ZeroMayBeUnknown,
    #[error("its {0} has no price or a zero, beside a price that is not")]
    HalfUnknown(&'static str),
    #[error("priced only by {0}, which no usage report carries")]
    OtherUnit(String),
    #[error("{0} is new and may bear cost")]
    UnknownCostField(String),
    #[error("{0} is not a number of dollars")]
    BadNumber(String),
    #[error("{0} is negative")]
    Negative(String),
    #[error("{0} is absurdly high, so its unit must be wrong")]
    Absurd(String),
    #[error("another name for {0}, into which it was folded")]
    SameAs(String),
}

impl SkipReason {
    /// The reason without its details, to count by.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NotAModel => "not a model",
            Self::BadName(_) => "bad name",
            Self::NoPrice => "no price",
            Self::ZeroMayBeUnknown => "zero may be unknown",
            Self::HalfUnknown(_) => "half may be unknown",
            Self::OtherUnit(_) => "priced in another unit",
            Self::UnknownCostField(_) => "unknown cost field",
            Self::BadNumber(_) => "bad number",
            Self::Negative(_) => "negative",
            Self::Absurd(_) => "absurd",
            Self::SameAs(_) => "another name of an entry",
        }
    }
}

/// Why a file is no price list at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportRejection {
    #[error(transparent)]
    Json(#[from] JsonRejection),
    #[error("not a price list: it must be a JSON object of model names to their prices")]
    NotAnObject,
    #[error("the list has {0} models, and at most {MAX_ENTRIES} are read")]
    TooMany(usize),
}

/// Where a list comes from, for the provenance of its entries.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The file, or the package and its version.
    pub source: &'a str,
    /// The day on which it was imported, as `2026-11-20`.
    pub date: &'a str,
}

/// What a list held.
#[derive(Debug, Clone, Default)]
pub struct Import {
    pub entries: Vec<PriceEntry>,
    /// What was not imported, with the reason, in the order of names.
    pub skipped: Vec<(String, SkipReason)>,
    /// Names in the list.
    pub read: usize,
    /// Fields that bear cost and were left out of imported entries, with how many entries had each.
    pub left_out: BTreeMap<String, usize>,
}

impl Import {
    /// How many were skipped, by kind of reason.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, reason) in &self.skipped {
            *counts.entry(reason.kind()).or_insert(0) += 1;
        }
        counts
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} names, {} imported", self.read, self.entries.len())?;
        for (kind, count) in self.counts() {
            write!(f, ", {count} {kind}")?;
        }
        Ok(())
    }
}

/// An object's fields with their values as they were written.
pub(super) type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The fields of an object that has passed [`json::check`]; `None` when it is something else.
pub(super) fn object(raw: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// Reads a list.
pub fn parse(bytes: &[u8], origin: &Origin<'_>) -> Result<Import, ImportRejection> {
    json::check(
        bytes,
        &JsonLimits {
            bytes: MAX_BYTES,
            depth: 12,
            values: 4_000_000,
        },
    )?;
    let names: Fields<'_> = serde_json::from_slice(bytes).map_err(|_| ImportRejection::NotAnObject)?;
    if names.len() > MAX_ENTRIES {
        return Err(ImportRejection::TooMany(names.len()));
    }
    let mut import = Import {
        read: names.len(),
        ..Import::default()
    };
    let mut by_model: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
    for (name, raw) in &names {
        let mut left_out = Vec::new();
        let entry = match entry::read(name, raw, origin, &mut left_out) {
            Ok(entry) => entry,
            Err(reason) => {
                import.skipped.push((name.to_string(), reason));
                continue;
            }
        };
        let key = (entry.service.as_str().to_owned(), entry.model.to_string());
        if let Some((at, first)) = by_model.get(&key) {
            entry::fold(&mut import.entries[*at], &entry);
            import
                .skipped
                .push((name.to_string(), SkipReason::SameAs(first.clone())));
            continue;
        }
        by_model.insert(key, (import.entries.len(), name.to_string()));
        import.entries.push(entry);
        for field in left_out {
            *import.left_out.entry(field).or_insert(0) += 1;
        }
    }
    Ok(import)
}

#[cfg(test)]
mod tests;
