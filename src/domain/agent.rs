//! An agent's life: active, paused, contained, restoring.
//!
//! The state is durable and is read again inside every commit that admits a hold, so that a freeze
//! written by one process binds the next hold of every other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{AgentId, ContainmentId};

/// What an agent may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Holds are admitted.
    #[default]
    Active,
    /// Holds wait or are refused until a person resumes it; the cloud is untouched.
    Paused,
    /// Frozen, and the kill switch holds its cloud side down until a reset (C2).
    Contained,
    /// A reset is putting its cloud side back; it thaws last.
    Restoring,
}

impl AgentStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Contained => "contained",
            Self::Restoring => "restoring",
        }
    }

    /// Whether a new hold may be admitted.
    pub fn admits(self) -> bool {
        matches!(self, Self::Active)
    }

    /// The closed set of moves. A pause never loosens a containment, and only a restore that has
    /// finished makes a contained agent active.
    pub fn may_become(self, next: Self) -> bool {
        use AgentStatus::{Active, Contained, Paused, Restoring};
        matches!(
            (self, next),
            (Active, Paused | Contained)
                | (Paused, Active | Contained)
                | (Contained, Restoring)
                | (Restoring, Active | Paused | Contained)
        )
    }
}

/// An agent as the store knows it. Agents of the config that were never written are active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    pub id: AgentId,
    pub status: AgentStatus,
    pub since: Timestamp,
    /// Why, in a sentence for a person.
    pub reason: String,
    /// The containment that holds it, while contained or restoring.
    pub containment: Option<ContainmentId>,
    /// Raised by one at every change; writes are conditional on it.
    pub version: i64,
}

impl AgentState {
    /// The state of an agent about which nothing was ever written.
    pub fn initial(id: AgentId) -> Self {
        Self {
            id,
            status: AgentStatus::Active,
            since: Timestamp::UNIX_EPOCH,
            reason: String::new(),
            containment: None,
            version: 0,
        }
    }
}
