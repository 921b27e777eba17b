//! What a person sees of the fleet: what burns, whose it is, how old the looks are and what fails.

use jiff::Timestamp;
use serde::Serialize;

use super::Fleet;
use super::state::Standing;
use crate::domain::burn::BurnRow;
use crate::domain::containment::hourly::Hourly;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind};
use crate::domain::fleet::owner::Owner;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;

/// The whole of it.
#[derive(Debug, Clone)]
pub struct FleetReport {
    pub standing: Standing,
    pub account: Option<String>,
    pub burn: Vec<BurnRow>,
    pub regions: Vec<RegionReport>,
    /// Kinds of assets that are switched off.
    pub not_looked_at: Vec<Kind>,
    /// What is wrong besides the looks: about what, since when, why.
    pub troubles: Vec<(String, Timestamp, String)>,
    /// What agents have spent that is not posted yet.
    pub unposted: Usd,
    pub saved_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct RegionReport {
    pub region: Region,
    /// The oldest of the newest looks at its kinds; none while a kind was never seen.
    pub looked_at: Option<Timestamp>,
    pub assets: usize,
    /// Kinds that cannot be looked at, since when, and why.
    pub failing: Vec<(Kind, Timestamp, String)>,
    /// Until when it was read who made what.
    pub creations_read_at: Option<Timestamp>,
    /// Since when that cannot be read, and why.
    pub creations_failing: Option<(Timestamp, String)>,
}

/// One asset with its owner and price.
#[derive(Debug, Clone)]
pub struct AssetRow {
    pub what: AssetRef,
    pub service: String,
    pub owner: Owner,
    /// `None`: it costs nothing by the hour as it stands.
    pub hourly: Option<Hourly>,
    pub state: AssetState,
    /// What only a person can do about it, or why it cannot be halted.
    pub note: Option<String>,
    pub parent: Option<AssetRef>,
    pub created_at: Option<Timestamp>,
    pub seen_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetState {
    /// It is charged for.
    Burning,
    /// It is not, as it stands.
    Idle,
    /// Its own settings keep it from starting anything.
    Capped,
}

/// Which assets.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub agent: Option<AgentId>,
    pub orphans: bool,
    pub offset: usize,
    pub limit: usize,
}

/// The dearest first.
#[derive(Debug, Clone)]
pub struct Page {
    pub rows: Vec<AssetRow>,
    pub total: usize,
    /// Of all of them.
    pub usd_per_hour: Usd,
}

impl Fleet {
    pub fn report(&self) -> FleetReport {
        let state = self.state();
        let regions = state.regions.iter().map(|(region, seeing)| RegionReport {
            region: region.clone(),
            looked_at: seeing.kinds.values().map(|looked| looked.at).min().flatten(),
            assets: seeing.kinds.values().map(|looked| looked.assets.len()).sum(),
            failing: seeing
                .kinds
                .iter()
                .filter_map(|(kind, looked)| {
                    let trouble = looked.trouble.as_ref()?;
                    Some((kind.clone(), trouble.since, trouble.why.clone()))
                })
                .collect(),
            creations_read_at: state.read.get(region).and_then(|reading| reading.until),
            creations_failing: state.read.get(region).and_then(|reading| reading.failing.clone()),
        });
        let burn = state.book.burn();
        let mut agents: Vec<&AgentId> = burn.iter().filter_map(|row| row.agent.as_ref()).collect();
        agents.extend(state.outbox.iter().map(super::outbox::Owed::agent));
        agents.extend(state.book.cells().map(|(cell, _)| &cell.agent));
        agents.sort_unstable();
        agents.dedup();
        let unposted = agents.iter().map(|agent| state.unposted(agent));
        FleetReport {
            standing: state.standing,
            account: state.account.clone(),
            regions: regions.collect(),
            not_looked_at: self.cloud.kinds_off(),
            troubles: state
                .troubles
                .iter()
                .map(|(about, trouble)| ((*about).to_owned(), trouble.since, trouble.why.clone()))
                .collect(),
            unposted: unposted.fold(Usd::ZERO, Usd::saturating_add),
            saved_at: state.saved_at,
            burn,
        }
    }

    /// What an agent burns now, by service and region.
    pub fn burn_of(&self, agent: &AgentId) -> Vec<BurnRow> {
        let mut rows = self.state().book.burn();
        rows.retain(|row| row.agent.as_ref() == Some(agent));
        rows
    }

    pub fn assets(&self, wanted: &Wanted) -> Page {
        let state = self.state();
        let mut rows: Vec<AssetRow> = Vec::new();
        for seeing in state.regions.values() {
            for looked in seeing.kinds.values() {
                for asset in &looked.assets {
                    let Some(owner) = seeing.owners.get(&asset.what) else {
                        continue;
                    };
                    let is_wanted = match (&wanted.agent, wanted.orphans) {
                        (Some(agent), _) => owner.agent() == Some(agent),
                        (None, true) => owner.agent().is_none(),
                        (None, false) => true,
                    };
                    if is_wanted {
                        rows.push(row(asset, owner, state.prices.asset(asset), looked.at));
                    }
                }
            }
        }
        let cost = |row: &AssetRow| row.hourly.map_or(Usd::ZERO, |hourly| hourly.usd);
        rows.sort_by(|a, b| cost(b).cmp(&cost(a)).then_with(|| a.what.cmp(&b.what)));
        Page {
            total: rows.len(),
            usd_per_hour: rows.iter().map(cost).fold(Usd::ZERO, Usd::saturating_add),
            rows: rows.into_iter().skip(wanted.offset).take(wanted.limit).collect(),
        }
    }
}

fn row(asset: &Asset, owner: &Owner, hourly: Option<Hourly>, seen_at: Option<Timestamp>) -> AssetRow {
    let note = match &asset.brake {
        Brake::Deletion { how } => Some(how.clone().into_owned()),
        Brake::Blocked { why } => Some(why.clone()),
        Brake::Cap { .. } | Brake::End | Brake::Stop => None,
    };
    let state = match (asset.is_capped(), hourly) {
        (Some(true), _) => AssetState::Capped,
        (_, Some(_)) => AssetState::Burning,
        _ => AssetState::Idle,
    };
    AssetRow {
        what: asset.what.clone(),
        service: asset.service.clone().into_owned(),
        owner: owner.clone(),
        hourly,
        state,
        note,
        parent: asset.parent.clone(),
        created_at: asset.created_at,
        seen_at,
    }
}
