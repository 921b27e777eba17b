//! The price catalogue in force: the built-in list under the operator's price files.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::config::settings::{Settings, UnknownModel};
use crate::domain::price::litellm::{self, Origin};
use crate::domain::price::{Catalogue, Ceiling, PriceEntry, Rate, read_list};

/// Reads the price files of the config. Later files win over earlier ones, and all of them over what is
/// built in.
pub(super) fn load(settings: &Settings) -> anyhow::Result<Catalogue> {
    let mut entries: Vec<PriceEntry> = Vec::new();
    for path in &settings.prices.files {
        let read = read(path).with_context(|| format!("the price file {}", path.display()))?;
        entries.retain(|old| {
            !read
                .iter()
                .any(|new| new.service == old.service && new.model == old.model)
        });
        entries.extend(read);
    }
    let ceiling = match settings.prices.unknown_model {
        UnknownModel::Refuse => None,
        UnknownModel::Ceiling { per_million } => {
            let rate = Rate::from_nanos_per_million(per_million.nanos())
                .map_err(|problem| anyhow::anyhow!("prices.ceiling_usd_per_million: {problem}"))?;
            Some(Ceiling {
                input: rate,
                output: rate,
                second: None,
                character: None,
                image: None,
                web_search: None,
            })
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
    let bytes = std::fs::read(path)?;
    let own = std::str::from_utf8(&bytes).ok().map(read_list);
    match own {
        Some(Ok(entries)) => Ok(entries),
        own => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let origin = Origin {
                source: &name,
                date: "",
            };
            match litellm::parse(&bytes, &origin) {
                Ok(import) if !import.entries.is_empty() => Ok(import.entries),
                Ok(_) => match own {
                    Some(Err(problem)) => bail!("is no price list: {problem}"),
                    _ => bail!("is no price list"),
                },
                Err(problem) => bail!("is no price list: {problem}"),
            }
        }
    }
}
