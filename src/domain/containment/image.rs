//! A before-image: what was there before we changed it (C1).
//!
//! It is written before the change and read back. The first one that was not restored survives every
//! later containment of the agent, because only it knows how things were before Backstop.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::observed::InstanceState;
use super::target::Resource;
use crate::domain::fleet::asset::{AssetRef, Settings};
use crate::domain::id::{AgentId, ContainmentId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeImage {
    pub agent: AgentId,
    pub resource: Resource,
    pub before: Before,
    /// The containment that recorded it first.
    pub containment: ContainmentId,
    /// The account in which it was seen: only credentials of this account can tell what became of it.
    #[serde(default)]
    pub account: Option<String>,
    pub recorded_at: Timestamp,
    /// What we did to it, once we did.
    pub changed_at: Option<Timestamp>,
    /// Set when it was put back, or given up for a reason that `outcome` names.
    pub restored_at: Option<Timestamp>,
    pub outcome: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "was")]
pub enum Before {
    /// The inline policy of our name; `None` is the ordinary case.
    Principal {
        deny_document: Option<String>,
        /// Whether the managed policy of our name was attached.
        #[serde(default)]
        deny_attached: bool,
    },
    AccessKey {
        active: bool,
    },
    ServiceCredential {
        active: bool,
    },
    Instance {
        state: InstanceState,
    },
    /// The settings that we own while it is capped: as they were, and as the cap leaves them, so that a
    /// reset can tell what is still as we left it.
    Settings {
        were: Settings,
        capped: Settings,
    },
    /// It ran, and was ended: it does not come back by itself.
    Ran {
        /// What started it, and starts another in its place.
        #[serde(default)]
        parent: Option<AssetRef>,
    },
}
