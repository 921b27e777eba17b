//! A line: a budget's rule for one key and one window instance, with what is posted and held on it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::id::{AgentId, BudgetId};
use crate::domain::money::Usd;
use crate::domain::window::{Buckets, WindowInstance};

/// What a budget adds up by. Every scope but `Fleet` is per agent: two agents' task `1` are two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Fleet,
    Agent,
    Task,
    Model,
    Tool,
    Label,
}

/// What happens at a breach. Ordered from soft to hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Alert,
    Pause,
    /// A containment whose plan ends after the deny.
    Revoke,
    Contain,
}

/// Identifies a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LineKey {
    pub budget: BudgetId,
    /// `None` for the fleet scope only.
    pub agent: Option<AgentId>,
    /// The task, model, tool or label value (`key=value`); empty for the fleet and agent scopes.
    pub value: String,
    pub window: WindowInstance,
}

impl LineKey {
    /// The key before every other one of a budget.
    pub fn first_of(budget: &BudgetId) -> Self {
        Self {
            budget: budget.clone(),
            agent: None,
            value: String::new(),
            window: WindowInstance::UNBOUNDED,
        }
    }
}

/// The rule behind a line, copied from the config into the line when it is created or the config is
/// loaded again, so that a commit needs nothing but its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRule {
    pub scope: Scope,
    /// The configured limit; the line's own limit is this plus its raise.
    pub limit: Usd,
    /// Percentages of the limit at which an alert is sent, ascending, each once per line.
    pub alert_at: Vec<u16>,
    pub response: Response,
    /// For a rolling window: (length, bucket) in seconds.
    pub rolling: Option<(u32, u32)>,
}

/// What a call or report wants of a line: the key, and the rule to create it with if it is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineSpec {
    pub key: LineKey,
    pub rule: LineRule,
}

/// A live bucket of a rolling line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub start: Timestamp,
    pub posted: Usd,
    pub unresolved: Usd,
}

/// A line as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub key: LineKey,
    pub rule: LineRule,
    /// What an operator added by `reset --raise`, for this line only.
    pub raise: Usd,
    /// Raised by one whenever the limit changes; a breach triggers once per revision.
    pub revision: i64,
    /// Until then an operator lifted the limit (`reset --until`): what goes past it is an overage.
    pub lifted_until: Option<Timestamp>,
    /// The sum of its entries; for a rolling line, of the entries in its live buckets (L1).
    pub posted: Usd,
    /// The sum of the bounds of its open holds.
    pub held: Usd,
    /// The part of `posted` that is unresolved holds at their bounds (L3).
    pub unresolved: Usd,
    /// What was posted or left standing past the limit, or past a bound; never hidden (L2).
    pub overage: Usd,
    /// The highest alert percentage that was sent; 0 before the first.
    pub alerted: u16,
    /// The revision whose breach was triggered, if any.
    pub breached: Option<i64>,
    /// Live buckets, oldest first; empty for other windows.
    pub buckets: Vec<Bucket>,
}

impl Line {
    pub fn new(spec: &LineSpec) -> Self {
        Self {
            key: spec.key.clone(),
            rule: spec.rule.clone(),
            raise: Usd::ZERO,
            revision: 1,
            lifted_until: None,
            posted: Usd::ZERO,
            held: Usd::ZERO,
            unresolved: Usd::ZERO,
            overage: Usd::ZERO,
            alerted: 0,
            breached: None,
            buckets: Vec::new(),
        }
    }

    /// The limit in force: the rule's plus the raise.
    pub fn limit(&self) -> Usd {
        self.rule.limit.saturating_add(self.raise)
    }

    /// Room for another hold: limit - posted - held; negative when over.
    pub fn room(&self) -> Usd {
        self.limit().saturating_sub(self.posted).saturating_sub(self.held)
    }

    /// Posted without what is unresolved: what a breach is judged on (L3).
    pub fn settled(&self) -> Usd {
        self.posted.saturating_sub(self.unresolved)
    }

    /// What stands past the limit: max(0, posted + held - limit).
    pub fn past_limit(&self) -> Usd {
        let wide = |usd: Usd| i128::from(usd.nanos());
        let past = wide(self.posted) + wide(self.held) - wide(self.limit());
        Usd::from_i128(past.max(0)).unwrap_or(Usd::MAX)
    }

    /// As it is at `now`: without the buckets of a rolling window that are over. The stored row has them
    /// until the next commit on it, which drops them in the same way; who shows or judges a line that
    /// nothing was committed on must not count them.
    #[must_use]
    pub fn as_of(mut self, now: Timestamp) -> Self {
        let Some(rolling) = self.rule.rolling.map(Buckets::new) else {
            return self;
        };
        let before = self.past_limit();
        let (mut posted, mut unresolved) = (self.posted, self.unresolved);
        self.buckets.retain(|bucket| {
            let over = rolling.is_over(bucket.start, now);
            if over {
                posted = posted.saturating_sub(bucket.posted);
                unresolved = unresolved.saturating_sub(bucket.unresolved);
            }
            !over
        });
        (self.posted, self.unresolved) = (posted, unresolved);
        let past = self.past_limit();
        let most = past.saturating_add(self.posted.max(Usd::ZERO));
        self.overage = self.overage.saturating_sub(before.saturating_sub(past)).min(most);
        self
    }

    pub fn is_lifted(&self, now: Timestamp) -> bool {
        self.lifted_until.is_some_and(|until| now < until)
    }
}
