//! Judgement, leases and credentials: conditional writes, all of a judgement or none of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::disk::Disk;
use crate::domain::agent::AgentState;
use crate::domain::audit::AuditEntry;
use crate::domain::containment::state::{Containment, Phase};
use crate::domain::id::{AgentId, KeyId, ReviewId};
use crate::domain::review::{Decision, Review};
use crate::ports::{AgentKey, Judgement, Lease, StoreError};

/// The records that a judgement writes. Few, so that one is tried on a copy.
#[derive(Clone, Default)]
pub(super) struct Control {
    pub(super) agents: BTreeMap<AgentId, AgentState>,
    /// In the order in which they were opened.
    pub(super) containments: Vec<Containment>,
    pub(super) reviews: Vec<Review>,
}

fn conflict<T>(what: &'static str) -> Result<T, StoreError> {
    Err(StoreError::Conflict { what })
}

impl Control {
    pub(super) fn agent(&self, id: &AgentId) -> AgentState {
        let known = self.agents.get(id).cloned();
        known.unwrap_or_else(|| AgentState::initial(id.clone()))
    }

    pub(super) fn live_containments(&self) -> impl Iterator<Item = &Containment> {
        self.containments
            .iter()
            .filter(|containment| containment.phase != Phase::Closed)
    }

    fn write(&mut self, judgement: &Judgement) -> Result<(), StoreError> {
        for state in &judgement.agents {
            self.put_agent(state)?;
        }
        for containment in &judgement.update {
            self.update(containment)?;
        }
        for containment in &judgement.open {
            self.open(containment)?;
        }
        for review in &judgement.reviews {
            self.ask(review);
        }
        for (id, decision) in &judgement.decide {
            self.decide(*id, decision)?;
        }
        Ok(())
    }

    fn put_agent(&mut self, state: &AgentState) -> Result<(), StoreError> {
        if state.version.checked_sub(1) != Some(self.agent(&state.id).version) {
            return conflict("the agent");
        }
        self.agents.insert(state.id.clone(), state.clone());
        Ok(())
    }

    fn update(&mut self, next: &Containment) -> Result<(), StoreError> {
        let stored = self.containments.iter_mut().find(|stored| stored.id == next.id);
        match stored {
            Some(stored) if next.version.checked_sub(1) == Some(stored.version) => {
                *stored = next.clone();
                Ok(())
            }
            _ => conflict("the containment"),
        }
    }

    /// One live containment an agent (C1).
    fn open(&mut self, containment: &Containment) -> Result<(), StoreError> {
        let taken = self.containments.iter().any(|stored| stored.id == containment.id)
            || (containment.phase != Phase::Closed
                && self.live_containments().any(|live| live.agent == containment.agent));
        if taken {
            return conflict("the agent's containment");
        }
        self.containments.push(containment.clone());
        Ok(())
    }

    /// A question that is open already is not asked again.
    fn ask(&mut self, review: &Review) {
        let asked = self.reviews.iter().any(|stored| {
            let open = stored.decision.is_none() && review.decision.is_none();
            let same = stored.question.dedupe_key() == review.question.dedupe_key();
            stored.id == review.id || (open && same && stored.agent == review.agent)
        });
        if !asked {
            self.reviews.push(review.clone());
        }
    }

    fn decide(&mut self, id: ReviewId, decision: &Decision) -> Result<(), StoreError> {
        let review = self.reviews.iter_mut().find(|review| review.id == id);
        let review = review.ok_or(StoreError::NotFound { what: "the review" })?;
        if review.decision.is_some() {
            return conflict("the review");
        }
        review.decision = Some(decision.clone());
        Ok(())
    }
}

impl Disk {
    pub(super) fn judge(
        &mut self,
        fence: Option<&Lease>,
        judgement: &Judgement,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        if let Some(lease) = fence {
            self.check_lease(lease)?;
        }
        let mut settled = std::collections::BTreeSet::new();
        for id in &judgement.settle {
            // A trigger is settled once, so that its response happens once.
            if !self.triggers.contains_key(id) || !settled.insert(*id) {
                return conflict("a trigger");
            }
        }
        let mut control = self.control.clone();
        control.write(judgement)?;
        self.check_drills(&judgement.drills)?;
        self.control = control;
        self.fold(&judgement.fold);
        self.keep_drills(&judgement.drills);
        self.triggers.retain(|id, _| !settled.contains(id));
        Ok(self.append_audit(&judgement.audit))
    }

    /// A token never falls, even when a lease is released: its row stays, without a holder.
    pub(super) fn take_lease(&mut self, name: &str, holder: &str, now: Timestamp, ttl: Duration) -> Option<Lease> {
        // A lease past the end of time has no end.
        let expires_at = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        let token = match self.leases.get(name) {
            None => 1,
            Some(stored) if stored.holder == holder => stored.token,
            Some(stored) if stored.expires_at <= now || self.is_dead(&stored.holder) => stored.token + 1,
            Some(_) => return None,
        };
        let lease = Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            token,
            expires_at,
        };
        self.leases.insert(name.to_owned(), lease.clone());
        Some(lease)
    }

    /// Whether a holder lived in an epoch that is closed.
    fn is_dead(&self, holder: &str) -> bool {
        let epoch = Lease::epoch_of(holder).and_then(|epoch| self.epochs.get(&epoch));
        epoch.is_some_and(|epoch| epoch.closed)
    }

    /// One that has passed on is not ours to give back.
    pub(super) fn release_lease(&mut self, lease: &Lease) {
        if let Some(stored) = self.leases.get_mut(&lease.name)
            && stored.holder == lease.holder
            && stored.token == lease.token
        {
            stored.holder.clear();
            stored.expires_at = Timestamp::MIN;
        }
    }

    /// The fence: it is the token, not the time. A driver whose lease ran out and was taken by nobody may
    /// still write, and one that was overtaken may not.
    pub(super) fn check_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        let stored = self.leases.get(&lease.name);
        let held = stored.is_some_and(|stored| stored.holder == lease.holder && stored.token == lease.token);
        if held { Ok(()) } else { conflict("the lease") }
    }

    pub(super) fn add_key(&mut self, key: &AgentKey) -> Result<(), StoreError> {
        let taken = |stored: &AgentKey| stored.id == key.id || stored.hash == key.hash;
        if self.keys.iter().any(taken) {
            return conflict("the key");
        }
        self.keys.push(key.clone());
        Ok(())
    }

    /// A key that was revoked stays revoked since the first time.
    pub(super) fn revoke_key(&mut self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        let key = self.keys.iter_mut().find(|key| key.id == id);
        let key = key.ok_or(StoreError::NotFound { what: "the key" })?;
        key.revoked_at.get_or_insert(now);
        Ok(())
    }
}
