//! `[[agent]]`

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::arn::Identity;
use super::cloud::{self, Owners};
use super::manifests;
use super::reader::{Item, Table};
use super::references::References;
use super::sections::path;
use super::settings::Agent;
use super::tree::Origin;
use crate::domain::containment::target::Region;
use crate::domain::id::AgentId;

/// Agents at most: each has lines, keys and a place in every listing.
const MAX_AGENTS: usize = 10_000;

/// What was read. `whole` says whether every agent could be, so that later checks may rely on it.
pub(super) struct Agents {
    pub(super) list: Vec<Agent>,
    /// Where each of them was written.
    pub(super) origins: Vec<Origin>,
    pub(super) whole: bool,
}

pub(super) fn agents(
    item: Option<Item<'_>>,
    base: &Path,
    references: &References<'_>,
    guarded: &BTreeSet<Identity>,
    default_regions: &[Region],
) -> Agents {
    let mut read = Agents {
        list: Vec::new(),
        origins: Vec::new(),
        whole: true,
    };
    let Some(item) = item else { return read };
    let Some(tables) = item.tables() else {
        read.whole = false;
        return read;
    };
    if tables.len() > MAX_AGENTS {
        item.error(
            &format!("{} agents, and at most {MAX_AGENTS} are taken", tables.len()),
            None,
        );
        read.whole = false;
        return read;
    }
    let mut seen: BTreeMap<AgentId, &Origin> = BTreeMap::new();
    let mut owners = Owners::default();
    for table in &tables {
        match agent(
            table,
            base,
            references,
            guarded,
            default_regions,
            &mut owners,
            &mut seen,
        ) {
            Some(agent) => {
                read.list.push(agent);
                read.origins.push(table.origin().clone());
            }
            None => read.whole = false,
        }
    }
    read.whole &= tables.len() == item.len();
    read
}

fn agent<'a>(
    table: &Table<'a>,
    base: &Path,
    references: &References<'_>,
    guarded: &BTreeSet<Identity>,
    default_regions: &[Region],
    owners: &mut Owners,
    seen: &mut BTreeMap<AgentId, &'a Origin>,
) -> Option<Agent> {
    let id = table.required("id", "every agent has an id = \"…\"").and_then(|item| {
        let id = AgentId::new(item.text()?).map_err(|error| item.no_name(&error)).ok()?;
        if let Some(first) = seen.insert(id.clone(), item.origin()) {
            item.error(
                &format!("agent {id} is named twice, first {}", place(first)),
                "ids are unique",
            );
            return None;
        }
        Some(id)
    });
    let manifest_file = table.get("manifest").map(|item| (path(&item, base), item));
    let manifest = match &manifest_file {
        Some((file, item)) => file
            .as_ref()
            .and_then(|file| manifests::manifest(item, file, references, id.as_ref()))
            .map(Some),
        None => Some(None),
    };
    let cloud = match table.get("aws") {
        Some(item) => item
            .table()
            .and_then(|table| {
                let name = id.as_ref().map_or("without a sound id", AgentId::as_str);
                cloud::targets(&table, name, guarded, default_regions, owners)
            })
            .map(Some),
        None => Some(None),
    };
    table.finish();
    Some(Agent {
        id: id?,
        manifest: manifest?,
        manifest_file: manifest_file.and_then(|(file, _)| file),
        cloud: cloud?,
    })
}

/// `on line 12`
pub(super) fn place(origin: &Origin) -> String {
    origin
        .line
        .map_or_else(|| format!("in {}", origin.source), |line| format!("on line {line}"))
}
