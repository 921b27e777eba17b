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
    by_agent: HashMap<AgentId, usize>,
}

impl OpenHolds {
    pub(super) fn len(&self) -> usize {
        self.holds.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    pub(super) fn insert(&mut self, id: HoldId, hold: OpenHold) {
        *self.by_agent.entry(hold.agent.clone()).or_insert(0) += 1;
        if let Some(old) = self.holds.insert(id, hold) {
            self.leave(&old.agent);
        }
    }

    /// How many of them this agent has.
    pub(super) fn of(&self, agent: &AgentId) -> usize {
        self.by_agent.get(agent).copied().unwrap_or(0)
    }

    fn leave(&mut self, agent: &AgentId) {
        if let Some(count) = self.by_agent.get_mut(agent) {
            *count -= 1;
            if *count == 0 {
                self.by_agent.remove(agent);
            }
        }
    }

    pub(super) fn remove(&mut self, id: HoldId) -> Option<OpenHold> {
        let hold = self.holds.remove(&id)?;
        self.leave(&hold.agent);
        Some(hold)
    }

    /// Drops those that expired before `time`: the store has ended all of these, so whoever is left was
    /// ended through another process.
    pub(super) fn drop_expired(&mut self, time: Timestamp) {
        let expired: Vec<AgentId> = self
            .holds
            .extract_if(|_, hold| hold.expires_at < time)
            .map(|(_, hold)| hold.agent)
            .collect();
        for agent in &expired {
            self.leave(agent);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_counted_by_agent_however_they_go() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let (a, b) = (AgentId::new("a").expect("a name"), AgentId::new("b").expect("a name"));
        let hold = |agent: &AgentId, second| OpenHold {
            agent: agent.clone(),
            bound: Usd::ZERO,
            lines: Vec::new(),
            expires_at: at(second),
        };
        let id = |n| HoldId(uuid::Uuid::from_u128(n));
        let mut open = OpenHolds::default();
        for (n, agent, second) in [(1, &a, 10), (2, &a, 20), (3, &a, 30), (4, &b, 10), (3, &a, 30)] {
            open.insert(id(n), hold(agent, second));
        }
        assert_eq!((open.of(&a), open.of(&b)), (3, 1));
        open.drop_expired(at(20));
        assert_eq!((open.of(&a), open.of(&b), open.len()), (2, 0, 2));
        assert!(open.remove(id(2)).is_some() && open.remove(id(2)).is_none());
        assert_eq!(open.of(&a), 1);
    }
}
