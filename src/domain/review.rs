//! A review: an item that waits for a person.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{AgentId, ReviewId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub id: ReviewId,
    pub agent: AgentId,
    pub opened_at: Timestamp,
    pub question: Question,
    /// One sentence for a person: what is asked and what happens on approve and on deny.
    pub summary: String,
    /// Bounded JSON text.
    pub evidence: String,
    pub decision: Option<Decision>,
}

/// What is asked. Two open reviews of one agent never ask the same thing (`dedupe_key`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Question {
    /// An agent was paused by a breach; approve resumes it.
    Paused { cause: String },
    /// A claim that we cannot confirm asks for more than revoke; approve contains.
    Contain { cause: String },
    /// An instance matches by tag outside the declared accounts or regions; approve stops it.
    ForeignMatch { resource: String },
}

impl Question {
    pub fn dedupe_key(&self) -> String {
        match self {
            Self::Paused { .. } => "paused".to_owned(),
            Self::Contain { .. } => "contain".to_owned(),
            Self::ForeignMatch { resource } => format!("foreign/{resource}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub approved: bool,
    pub by: String,
    pub at: Timestamp,
    pub note: String,
}
