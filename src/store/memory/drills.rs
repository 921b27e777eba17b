//! Drills: the newest of each agent, with their reports.

use std::collections::BTreeMap;

use super::disk::Disk;
use crate::domain::drill::{Drill, DrillHead, KEPT};
use crate::domain::id::{AgentId, DrillId};
use crate::ports::StoreError;

impl Disk {
    /// A drill ends once.
    pub(super) fn check_drills(&self, drills: &[Drill]) -> Result<(), StoreError> {
        let known = |id: DrillId| self.drills.iter().any(|one| one.head.id == id);
        if drills.iter().any(|drill| known(drill.head.id)) {
            return Err(StoreError::Conflict { what: "the drill" });
        }
        Ok(())
    }

    pub(super) fn keep_drills(&mut self, drills: &[Drill]) {
        for drill in drills {
            self.drills.push(drill.clone());
            let own = self.drills.iter().filter(|one| one.head.agent == drill.head.agent);
            let mut over = own.count().saturating_sub(KEPT);
            self.drills.retain(|one| {
                let goes = over > 0 && one.head.agent == drill.head.agent;
                over -= usize::from(goes);
                !goes
            });
        }
    }

    pub(super) fn drills(&self, agent: &AgentId, limit: usize) -> Vec<DrillHead> {
        let own = self.drills.iter().rev().filter(|one| one.head.agent == *agent);
        own.take(limit).map(|one| one.head.clone()).collect()
    }

    pub(super) fn drill(&self, id: DrillId) -> Option<Drill> {
        self.drills.iter().find(|one| one.head.id == id).cloned()
    }

    pub(super) fn last_drills(&self) -> Vec<DrillHead> {
        let key = |head: &DrillHead| (head.agent.clone(), head.kind.as_str());
        let newest: BTreeMap<_, &DrillHead> = self.drills.iter().map(|one| (key(&one.head), &one.head)).collect();
        newest.into_values().cloned().collect()
    }
}
