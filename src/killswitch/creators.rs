//! Who made what, as the cloud's own record of calls says: written by whoever reads that record, read by
//! every sweep. A runaway agent launches without the ownership tag; what its principals made is the agent's.
//!
//! With it stands how far the record was read, by region. A sweep takes both at once, so that it never holds
//! for read what it was not told of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::containment::attribution::Readings;
use crate::domain::fleet::asset::AssetRef;
use crate::domain::id::AgentId;

/// What each agent's principals made.
type Made = BTreeMap<AgentId, Arc<BTreeSet<AssetRef>>>;

/// What each agent's principals made, as far as it is known now, and how far that is.
#[derive(Debug, Default)]
pub struct Creators(ArcSwap<Told>);

#[derive(Debug, Clone, Default)]
struct Told {
    made: Arc<Made>,
    readings: Arc<Readings>,
}

impl Creators {
    /// Replaces what is known of every agent; `made` stays as it is where nothing new was found.
    pub fn set(&self, made: Option<BTreeMap<AgentId, BTreeSet<AssetRef>>>, readings: Readings) {
        let shared = |made: BTreeMap<AgentId, BTreeSet<AssetRef>>| -> Made {
            made.into_iter().map(|(agent, made)| (agent, Arc::new(made))).collect()
        };
        let made = made.map(|made| Arc::new(shared(made)));
        let readings = Arc::new(readings);
        self.0.rcu(|told| Told {
            made: made.clone().unwrap_or_else(|| Arc::clone(&told.made)),
            readings: Arc::clone(&readings),
        });
    }

    pub(super) fn of(&self, agent: &AgentId) -> (Arc<BTreeSet<AssetRef>>, Arc<Readings>) {
        let told = self.0.load();
        let made = told.made.get(agent).cloned().unwrap_or_default();
        (made, Arc::clone(&told.readings))
    }
}
