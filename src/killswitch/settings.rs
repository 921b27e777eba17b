//! The kill switch's settings. `app` fills them from the config and replaces them at a reload.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::containment::plan::PlanRules;
use crate::domain::containment::target::{CloudTargets, Guard};
use crate::domain::id::AgentId;

#[derive(Debug, Clone, PartialEq)]
pub struct KillSettings {
    /// The cloud side of each agent that has one; empty regions mean every enabled region.
    pub targets: BTreeMap<AgentId, CloudTargets>,
    /// Who is never a target (C5); the daemon's own identity is added when it is learnt.
    pub guard: Guard,
    pub rules: PlanRules,
    /// Between two quiet sweeps that are to prove a containment.
    pub sweep_spacing: Duration,
    /// Between sweeps, and between passes of a restore, while there is something to do.
    pub settle_spacing: Duration,
    /// Between sweeps once contained (C2).
    pub hold_sweep_every: Duration,
    /// A phase that takes longer is still carried on, but later ones go ahead.
    pub step_patience: Duration,
    /// One call to the cloud; a listing of many pages is one.
    pub call_limit: Duration,
    /// How long a restore waits for machines, from the reset on; then they stay owed.
    pub restore_patience: Duration,
    /// How long a machine that was started again may take to pass its checks before its group is uncapped.
    pub health_patience: Duration,
    pub lease_ttl: Duration,
    /// How often to look for containments that need work, besides when poked.
    pub poll_every: Duration,
    /// Containments that are worked on at once.
    pub concurrent: usize,
    /// Calls at once: regions, and principals.
    pub concurrent_regions: usize,
    /// Stop or start calls at once in one region.
    pub concurrent_batches: usize,
}

impl KillSettings {
    /// From a step's record to the end of its last call.
    pub(super) fn longest_step(&self) -> Duration {
        self.step_patience.saturating_add(self.call_limit)
    }

    /// How long a lease is taken for: never less than two steps.
    pub(super) fn lease_time(&self) -> Duration {
        self.lease_ttl.max(self.longest_step().saturating_mul(2))
    }
}

impl Default for KillSettings {
    fn default() -> Self {
        Self {
            targets: BTreeMap::new(),
            guard: Guard::default(),
            rules: PlanRules::default(),
            sweep_spacing: Duration::from_secs(10),
            settle_spacing: Duration::from_secs(2),
            hold_sweep_every: Duration::from_secs(60),
            step_patience: Duration::from_secs(10),
            call_limit: Duration::from_secs(30),
            restore_patience: Duration::from_secs(600),
            health_patience: Duration::from_secs(300),
            lease_ttl: Duration::from_secs(40),
            poll_every: Duration::from_secs(1),
            concurrent: 16,
            concurrent_regions: 40,
            concurrent_batches: 4,
        }
    }
}
