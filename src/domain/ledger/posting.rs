//! A posting: an immutable row of money spent, and its entries, one per line that it counts on (L1).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::line::LineKey;
use crate::domain::id::{
    AgentId, EpochId, HoldId, LabelKey, ModelId, PostingId, ReportId, ServiceId, TaskId, ToolName,
};
use crate::domain::money::Usd;

/// Whose word a posting rests on (C7), from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The agent's own key. Confirmed against that agent alone: it never counts on a fleet line.
    Agent,
    /// A message or bill that nothing of ours has confirmed.
    Unconfirmed,
    /// Metered by our own gateway.
    Gateway,
    /// The provider's usage data.
    Provider,
    /// Our own observation of the cloud.
    Cloud,
    /// A person, over the admin interface.
    Operator,
}

impl Trust {
    /// Whether a posting of this class counts on fleet lines.
    pub fn counts_on_fleet(self) -> bool {
        self >= Self::Gateway
    }
}

/// How an amount is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    Metered,
    Reported,
    Estimated,
    Billed,
}

/// What kind of posting it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostingKind {
    /// A usage report.
    Report,
    /// A hold that was captured.
    Capture,
    /// A hold that ended unresolved, at its bound.
    Unresolved,
    /// The difference that replaces what another posting said, or all of it taken back; `corrects` names it.
    Correction,
}

/// To whom and what a posting or hold belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    pub agent: AgentId,
    pub task: TaskId,
    pub service: Option<ServiceId>,
    pub model: Option<ModelId>,
    pub tool: Option<ToolName>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<LabelKey, String>,
}

/// The posting that takes an agent's claim back because evidence tells of the same expense: an id made
/// from the claim's, so that it is the same one however often that is decided.
pub fn taking_back(claim: PostingId) -> PostingId {
    let digest = Sha256::new()
        .chain_update(b"backstop claim taken back 1\0")
        .chain_update(claim.0.as_bytes())
        .finalize();
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    PostingId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// A posting as stored. Nothing edits or deletes one (L1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    pub id: PostingId,
    pub kind: PostingKind,
    pub attribution: Attribution,
    pub amount: Usd,
    pub basis: Basis,
    pub trust: Trust,
    pub occurred_at: Timestamp,
    pub recorded_at: Timestamp,
    pub report: Option<ReportId>,
    pub hold: Option<HoldId>,
    pub corrects: Option<PostingId>,
    /// The provider's id of the request, by which a call that was metered and then reported is
    /// recognised (L6).
    pub upstream_request: Option<String>,
    pub epoch: EpochId,
    /// Quantities as reported (token classes, seconds), for a person; bounded JSON text.
    pub detail: Option<String>,
}

/// A posting's share on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub posting: PostingId,
    pub line: LineKey,
    pub amount: Usd,
    /// How much of it counts as unresolved (positive), or resolves what was (negative).
    pub unresolved: Usd,
    /// For a rolling line, the start of its bucket.
    pub bucket: Option<Timestamp>,
}
