//! A creation: who made something, as the cloud's own record of calls says.
//!
//! A runaway agent launches machines without the ownership tag. The record (CloudTrail, or the same event by
//! EventBridge) names the principal that called, and what it made belongs to that principal's agent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::asset::AssetRef;
use crate::domain::containment::target::Region;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    /// The event's own id: the same event by two ways is one.
    pub event: String,
    /// The call, such as `RunInstances`.
    pub call: String,
    pub at: Timestamp,
    pub account: String,
    pub region: Region,
    /// The ARN of the role or user that called; of an assumed role the role, not its session.
    pub by: String,
    pub made: Vec<AssetRef>,
}
