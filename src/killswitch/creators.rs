//! Who made what, as the cloud's own record of calls says: written by whoever reads that record, read by
//! every sweep. A runaway agent launches without the ownership tag; what its principals made is the agent's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::fleet::asset::AssetRef;
use crate::domain::id::AgentId;

/// What each agent's principals made, as far as it is known now.
#[derive(Debug, Default)]
pub struct Creators(ArcSwap<BTreeMap<AgentId, Arc<BTreeSet<AssetRef>>>>);

impl Creators {
    /// Replaces what is known of every agent.
    pub fn set(&self, made: BTreeMap<AgentId, BTreeSet<AssetRef>>) {
        let made = made.into_iter().map(|(agent, made)| (agent, Arc::new(made)));
        self.0.store(Arc::new(made.collect()));
    }

    pub(super) fn of(&self, agent: &AgentId) -> Arc<BTreeSet<AssetRef>> {
        self.0.load().get(agent).cloned().unwrap_or_default()
    }
}
