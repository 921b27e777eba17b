//! Judgement's settings. `app` fills them from the config and replaces them at a reload.

use std::time::Duration;

use crate::domain::id::AgentId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// Every agent of the config: whom a fleet line's breach pauses, with those the store knows.
    pub agents: Vec<AgentId>,
    /// How often to look for triggers, besides when poked.
    pub poll_every: Duration,
    /// Triggers that are read at once.
    pub batch: u32,
    /// How often a decision is made again when what it was made from changed meanwhile.
    pub attempts: u32,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            agents: Vec::new(),
            poll_every: Duration::from_secs(1),
            batch: 256,
            attempts: 16,
        }
    }
}
