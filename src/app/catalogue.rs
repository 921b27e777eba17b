//! The price catalogue in force: the built-in list under the operator's price files.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::config::settings::{Settings, UnknownModel};
use crate::domain::price::litellm::{self, Origin};
use crate::domain::price::{Catalogue, Ceiling, PriceEntry, Rate, read_prices};

/// Reads the price files of the config. Later files win over earlier ones, and all of them over what is
/// built in.
pub(super) fn load(settings: &Settings) -> anyhow::Result<Catalogue> {
    let mut entries: Vec<PriceEntry> = Vec::new();
    for path in &settings.prices.files {
        entries.extend(read(path).with_context(|| format!("the price file {}", path.display()))?);
    }
    let ceiling = match settings.prices.unknown_model {
        UnknownModel::Refuse => None,
        UnknownModel::Ceiling { per_million } => {
            let rate = Rate::from_nanos_per_million(per_million.nanos())
                .map_err(|problem| anyhow::anyhow!("prices.ceiling_usd_per_million: {problem}"))?;
            Some(Ceiling::per_token(rate))
        }
    };
    Ok(Catalogue::builtin().with_imported(entries).with_ceiling(ceiling))
}

/// A price file is Backstop's own list or a LiteLLM price list.
fn read(path: &Path) -> anyhow::Result<Vec<PriceEntry>> {
    let size = std::fs::metadata(path)?.len();
    if size > u64::try_from(litellm::MAX_BYTES).unwrap_or(u64::MAX) {
        bail!("has {size} bytes, and at most {} are read", litellm::MAX_BYTES);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(read_prices(
        &std::fs::read(path)?,
        &Origin {
            source: &name,
            date: "",
        },
    )?)
}
