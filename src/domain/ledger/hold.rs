//! A hold: a durable reservation of a call's worst case on all its lines (L3, L4).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::line::LineKey;
use super::posting::{Attribution, Trust};
use crate::domain::id::{EpochId, HoldId, PostingId};
use crate::domain::money::Usd;

/// The posting that a hold gets when its epoch died: an id made from the hold's, so that it is the same
/// one whoever buries it, and however often.
pub fn posting_of_dead(hold: HoldId) -> PostingId {
    let digest = Sha256::new()
        .chain_update(b"backstop unresolved posting 1\0")
        .chain_update(hold.0.as_bytes())
        .finalize();
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    PostingId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Where a hold stands. It leaves `Open` exactly once (L3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    Open,
    /// Settled at what the call cost.
    Captured,
    /// Ended at nothing, because the call provably cost nothing.
    Voided,
    /// Posted at its bound because nobody knows what it cost: it expired, or its epoch died.
    Unresolved,
}

impl HoldState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Unresolved => "unresolved",
        }
    }
}

/// A hold as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub id: HoldId,
    pub epoch: EpochId,
    pub attribution: Attribution,
    /// Who placed it: `Trust::Agent` when the agent did with its own key, outside the gateway.
    pub trust: Trust,
    pub bound: Usd,
    pub lines: Vec<LineKey>,
    pub state: HoldState,
    pub opened_at: Timestamp,
    pub expires_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}
