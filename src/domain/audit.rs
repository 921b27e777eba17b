//! The audit log's entries.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::AgentId;

/// A decision to record (D3). The texts are bounded by [`NewAudit::MAX_TEXT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAudit {
    pub at: Timestamp,
    /// Who decided: `backstop`, `operator:<name>`, `agent:<id>`.
    pub actor: String,
    /// What: `refused`, `paused`, `resumed`, `contained`, `reset`, `raised`, `key_added` …
    pub action: String,
    pub agent: Option<AgentId>,
    pub reason: String,
    /// JSON text.
    pub evidence: String,
}

impl NewAudit {
    /// Bytes of `reason` and of `evidence` at most.
    pub const MAX_TEXT: usize = 16 * 1024;
}

/// An entry in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts from 1 without gaps.
    pub seq: i64,
    pub entry: NewAudit,
    /// SHA-256 over the previous entry's hash and this entry's canonical bytes.
    pub hash: [u8; 32],
}
