//! The open holds of this process: whose they are and which lines a release frees. The store has them
//! durably; this is what is needed without reading it.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::domain::id::{AgentId, HoldId};
use crate::domain::ledger::waitlist::LineIx;
use crate::domain::money::Usd;

#[derive(Debug, Clone)]
pub(super) struct OpenHold {
    pub(super) agent: AgentId,
    pub(super) bound: Usd,
    pub(super) lines: Vec<LineIx>,
    pub(super) expires_at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct OpenHolds {
    holds: HashMap<HoldId, OpenHold>,
}

impl OpenHolds {
    pub(super) fn len(&self) -> usize {
        self.holds.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    pub(super) fn insert(&mut self, id: HoldId, hold: OpenHold) {
        self.holds.insert(id, hold);
    }

    pub(super) fn remove(&mut self, id: HoldId) -> Option<OpenHold> {
        self.holds.remove(&id)
    }

    /// Drops those that expired before `time`: the store has ended all of these, so whoever is left was
    /// ended through another process.
    pub(super) fn drop_expired(&mut self, time: Timestamp) {
        self.holds.retain(|_, hold| hold.expires_at >= time);
    }

    pub(super) fn agent(&self, id: HoldId) -> Option<&AgentId> {
        self.holds.get(&id).map(|hold| &hold.agent)
    }

    pub(super) fn lines(&self) -> BTreeSet<LineIx> {
        self.holds
            .values()
            .flat_map(|hold| hold.lines.iter().copied())
            .collect()
    }
}
