//! What every agent may do now, as far as this process has heard.
//!
//! The state that counts is read inside the commit that admits a hold. This is for what has no commit to
//! wait for: a call that was parked because its agent is paused, and a stream that must be cut when its
//! agent is contained, by this process or another one. So it is read again every moment, at once when a
//! commit refused a hold for it, and whenever somebody who changed it says so; and whoever follows it is
//! woken only when it changed.
//!
//! It is a hint like the mirror: it may be a moment old, and it admits nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

use super::shared::Shared;
use crate::domain::agent::AgentStatus;
use crate::domain::id::AgentId;

/// The agents that are not active.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentStatuses {
    other: HashMap<AgentId, AgentStatus>,
}

impl AgentStatuses {
    pub fn of(&self, agent: &AgentId) -> AgentStatus {
        self.other.get(agent).copied().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Agents {
    current: watch::Sender<Arc<AgentStatuses>>,
    /// Raised by what a commit said, so that a reading from before it does not undo it.
    heard: AtomicU64,
    look: Notify,
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            current: watch::Sender::new(Arc::default()),
            heard: AtomicU64::new(0),
            look: Notify::new(),
        }
    }
}

impl Agents {
    pub(super) fn follow(&self) -> watch::Receiver<Arc<AgentStatuses>> {
        self.current.subscribe()
    }

    pub(super) fn of(&self, agent: &AgentId) -> AgentStatus {
        self.current.borrow().of(agent)
    }

    /// Something changed: the store is asked at once.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// A commit found the agent not to be active.
    pub(super) fn hear(&self, agent: &AgentId, status: AgentStatus) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.current.send_if_modified(|current| {
            // What a commit calls contained may be on its way back, which is known better here.
            let known = current.of(agent);
            let same = known == status || (known == AgentStatus::Restoring && status == AgentStatus::Contained);
            if !same {
                Arc::make_mut(current).other.insert(agent.clone(), status);
            }
            !same
        });
        self.look();
    }

    fn set(&self, read: AgentStatuses) {
        self.current.send_if_modified(|current| {
            let changed = **current != read;
            if changed {
                *current = Arc::new(read);
            }
            changed
        });
    }
}

/// Follows the store until it is dropped. While the store does not answer, the last reading stands.
pub(super) async fn follow_agents(shared: Arc<Shared>) {
    let agents = &shared.agents;
    loop {
        let heard = agents.heard.load(Ordering::Acquire);
        tokio::select! {
            biased;
            read = shared.store.agents() => {
                if let Ok(read) = read && agents.heard.load(Ordering::Acquire) == heard {
                    let other = read.into_iter().filter(|state| state.status != AgentStatus::Active);
                    let other = other.map(|state| (state.id, state.status)).collect();
                    agents.set(AgentStatuses { other });
                }
            }
            () = shared.clock.sleep(shared.settings.commit_limit) => {}
        }
        tokio::select! {
            biased;
            () = shared.clock.sleep(shared.settings.agents_every) => {}
            // Not more often than a commit takes, however much is said.
            () = agents.look.notified() => shared.clock.sleep(shared.settings.agents_every / 25).await,
        }
    }
}
