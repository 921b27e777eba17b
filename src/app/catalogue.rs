//! The price catalogue in force: the built-in list under the operator's price files.

use anyhow::Context as _;

use crate::config::price_files;
use crate::config::settings::{Settings, UnknownModel};
use crate::domain::price::{Catalogue, Ceiling, PriceEntry, Rate};

/// Reads the imported price files and those of the config. Later files win over earlier ones, and all of them over what is
/// built in.
pub(super) fn load(settings: &Settings) -> anyhow::Result<Catalogue> {
    let mut entries: Vec<PriceEntry> = Vec::new();
    for path in &price_files::list(settings).context("the directory of imported prices cannot be read")? {
        let read =
            price_files::read(path).map_err(|why| anyhow::anyhow!("the price file {}: {why}", path.display()))?;
        entries.extend(read);
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
