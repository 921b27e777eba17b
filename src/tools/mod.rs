//! Tool calls: may this agent use this tool now.
//!
//! The answer comes from the agent's manifest and from when it used the tool before, both in memory, so
//! that asking costs no more than the question. A grant *is* a use: whoever asks, asks right before it
//! calls the tool, and there is nothing to give back. The manifests follow the config; the uses do not,
//! or a reload would grant every limit anew.
//!
//! The uses are this process's own. Two daemons on one store each grant the whole rate, and one that
//! starts again knows of no earlier use: a rate protects what the tool calls from a loop, while what
//! must hold over crashes and hosts is money, and that is the ledger's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::domain::call::CallRejection;
use crate::domain::id::{AgentId, ToolName};
use crate::domain::manifest::{Manifest, Rate, RateLog, Tool};
use crate::ports::Clock;

/// What follows the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSettings {
    /// Of the agents that have one.
    pub manifests: BTreeMap<AgentId, Arc<Manifest>>,
    /// Of a tool whose manifest gives it none.
    pub default_rate: Rate,
}

/// A use that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub tool: ToolName,
    pub read_only: bool,
    /// How many more would be granted now.
    pub remaining: u32,
    pub rate: Rate,
}

/// How often what can be forgotten is looked for, in grants.
const SWEEP_EVERY: u32 = 100_000;

/// Grants uses of tools.
pub struct Tools {
    settings: Arc<ArcSwap<ToolSettings>>,
    clock: Arc<dyn Clock>,
    uses: Mutex<Uses>,
}

#[derive(Debug, Default)]
struct Uses {
    logs: HashMap<AgentId, HashMap<ToolName, RateLog>>,
    since_sweep: u32,
}

impl Uses {
    /// Logs of agents and tools that are gone from the config stay until nothing could be judged by them:
    /// to take a tool out and put it back is no way to a new rate.
    fn sweep(&mut self, now: Duration) {
        self.logs.retain(|_, tools| {
            tools.retain(|_, log| !log.is_over(now));
            !tools.is_empty()
        });
        self.since_sweep = 0;
    }

    fn log(&mut self, agent: &AgentId, tool: &ToolName) -> &mut RateLog {
        let tools = self.logs.entry(agent.clone()).or_default();
        tools.entry(tool.clone()).or_default()
    }
}

impl Tools {
    pub fn new(settings: Arc<ArcSwap<ToolSettings>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            uses: Mutex::default(),
        }
    }

    /// Whether the agent's manifest lists the tool. Nothing is used.
    pub fn check(&self, agent: &AgentId, tool: &str) -> Result<(), CallRejection> {
        self.listed(agent, tool).map(drop)
    }

    /// Grants one use, if the manifest lists the tool and its rate has room.
    pub fn take(&self, agent: &AgentId, tool: &str) -> Result<Permit, CallRejection> {
        let (name, tool, rate) = self.listed(agent, tool)?;
        let mut uses = self.lock();
        // Read with the lock held, so that uses are recorded in the order of their times.
        let now = self.clock.monotonic();
        uses.since_sweep = uses.since_sweep.saturating_add(1);
        if uses.since_sweep >= SWEEP_EVERY {
            uses.sweep(now);
        }
        match uses.log(agent, &name).take(rate, now) {
            Ok(granted) => Ok(Permit {
                tool: name,
                read_only: tool.read_only,
                remaining: granted.remaining,
                rate,
            }),
            Err(wait) => Err(CallRejection::ToolRate {
                tool: name.to_string(),
                requests: rate.requests(),
                per_seconds: rate.per_seconds(),
                // Up: a second less would be refused again.
                retry_after_s: wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
            }),
        }
    }

    fn listed(&self, agent: &AgentId, tool: &str) -> Result<(ToolName, Tool, Rate), CallRejection> {
        let settings = self.settings.load();
        let manifest = settings.manifests.get(agent).ok_or(CallRejection::NoManifest)?;
        let (name, tool) = manifest.tool(tool)?;
        Ok((name.clone(), *tool, tool.rate.unwrap_or(settings.default_rate)))
    }

    /// A thread that panicked while it held the lock left logs that are still logs.
    fn lock(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
