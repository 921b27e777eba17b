//! Settings of the service, with the defaults of the design.

use std::time::Duration;

use crate::domain::ledger::batch::{LedgerRules, MAX_BATCH};
use crate::domain::ledger::waitlist::WaitRules;

/// The longest that a client is ever told to wait before it tries again.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The longest that a hold waits for open ones to settle.
    pub hold_wait: Duration,
    /// How long a hold may be open when its caller says nothing; then it is charged at its bound.
    pub hold_ttl: Duration,
    pub max_overtakes: u32,
    /// Holds that wait at most; whoever comes then is held at once.
    pub max_waiters: usize,
    /// Open holds of this process at most; whoever comes then is held at once.
    pub max_open_holds: usize,
    /// Operations in one commit; never above [`MAX_BATCH`].
    pub max_batch: usize,
    /// Operations that wait for a commit at most.
    pub max_queue: usize,
    /// Lines in the mirror at most; those that nobody uses are forgotten first.
    pub max_lines: usize,
    /// How long a caller waits for a commit before it is told that the store is down. What was given
    /// to the store goes on.
    pub commit_wait: Duration,
    /// How long one try of a commit may take; then its outcome is unknown and it is sent again.
    pub commit_limit: Duration,
    /// How often the mirror is refreshed while somebody waits, and expired holds are looked for.
    pub refresh_every: Duration,
    /// How often it is looked whether an agent was paused, contained or resumed.
    pub agents_every: Duration,
    /// How often a waiter is tried without regard to the mirror.
    pub probe_every: Duration,
    /// How long a refusal for good, freshly read, answers for the same line without another commit.
    pub refusal_fresh: Duration,
    /// What a held client is told to wait.
    pub retry_after: Duration,
    /// How often dead epochs are looked for, and the clock's durable mark is raised.
    pub bury_every: Duration,
    pub mark_every: Duration,
    /// How long a stopping daemon waits for its open holds to end.
    pub drain_wait: Duration,
    pub rules: LedgerRules,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            hold_wait: Duration::from_secs(60),
            hold_ttl: Duration::from_secs(600),
            max_overtakes: 16,
            max_waiters: 4_096,
            max_open_holds: 100_000,
            max_batch: MAX_BATCH,
            max_queue: 16_384,
            max_lines: 100_000,
            commit_wait: Duration::from_secs(5),
            commit_limit: Duration::from_secs(30),
            refresh_every: Duration::from_secs(1),
            agents_every: Duration::from_millis(250),
            probe_every: Duration::from_secs(5),
            refusal_fresh: Duration::from_secs(1),
            retry_after: Duration::from_secs(5),
            bury_every: Duration::from_secs(30),
            mark_every: Duration::from_secs(10),
            drain_wait: Duration::from_secs(20),
            rules: LedgerRules::default(),
        }
    }
}

impl LedgerSettings {
    pub(super) fn batch(&self) -> usize {
        self.max_batch.clamp(1, MAX_BATCH)
    }

    pub(super) fn retry_after(&self) -> Duration {
        self.retry_after.clamp(Duration::from_secs(1), MAX_RETRY_AFTER)
    }

    pub(super) fn wait_rules(&self) -> WaitRules {
        WaitRules {
            max_overtakes: self.max_overtakes,
            capacity: self.max_waiters,
            probe_every: self.probe_every,
        }
    }
}
