//! What a containment may touch: an agent's principals and machines, within its declared accounts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::fleet::asset::AssetRef;

/// An AWS region, such as `eu-west-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Region(pub String);

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An IAM role or user, by ARN (`arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "arn")]
pub enum Principal {
    Role(String),
    User(String),
}

impl Principal {
    pub fn arn(&self) -> &str {
        match self {
            Self::Role(arn) | Self::User(arn) => arn,
        }
    }

    /// The friendly name: what follows the last `/`.
    pub fn name(&self) -> &str {
        self.arn().rsplit('/').next().unwrap_or_default()
    }
}

/// The cloud side of one agent, from the config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudTargets {
    pub account: String,
    pub principals: Vec<Principal>,
    /// Ownership tags: an instance with *any* of these tags (key and value) belongs to the agent.
    pub tags: BTreeMap<String, String>,
    /// Regions to observe; empty means every enabled region.
    pub regions: Vec<Region>,
}

impl CloudTargets {
    /// These, and what was declared before. Where the two contradict each other, these count: the
    /// account, and the value of one and the same tag.
    pub fn with_earlier(&self, earlier: &Self) -> Self {
        let mut all = self.clone();
        for principal in &earlier.principals {
            if !all.principals.contains(principal) {
                all.principals.push(principal.clone());
            }
        }
        for (key, value) in &earlier.tags {
            all.tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
        if earlier.regions.is_empty() {
            // Every one.
            all.regions.clear();
        } else if !all.regions.is_empty() {
            let more = earlier.regions.iter().filter(|region| !self.regions.contains(region));
            all.regions.extend(more.cloned());
        }
        all
    }
}

/// Who must never be a target (C5).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Guard {
    /// ARNs of the daemon's own role and of break-glass principals.
    pub principals: Vec<String>,
    /// The instance that the daemon runs on, if it runs on one.
    pub instances: Vec<String>,
}

/// A thing in the cloud that a before-image, a step or a coverage line is about.
/// Its `Display` is its stable id, as `reset --only` takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Resource {
    Principal {
        principal: Principal,
    },
    AccessKey {
        user: String,
        key_id: String,
    },
    /// A long-term credential for one service.
    ServiceCredential {
        user: String,
        id: String,
    },
    Instance {
        region: Region,
        id: String,
    },
    /// Anything else that is halted by its settings or ended: a group, a service, a function, a task.
    Asset {
        asset: AssetRef,
    },
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal {
                principal: Principal::Role(arn),
            } => write!(f, "role:{arn}"),
            Self::Principal {
                principal: Principal::User(arn),
            } => write!(f, "user:{arn}"),
            Self::AccessKey { user, key_id } => write!(f, "key:{user}/{key_id}"),
            Self::ServiceCredential { user, id } => write!(f, "credential:{user}/{id}"),
            Self::Instance { region, id } => write!(f, "instance:{region}/{id}"),
            Self::Asset { asset } => asset.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_declared_before_stays_in_sight() {
        let targets = |role: &str, tag: (&str, &str), regions: &[&str]| CloudTargets {
            account: "123456789012".to_owned(),
            principals: vec![Principal::Role(role.to_owned())],
            tags: BTreeMap::from([(tag.0.to_owned(), tag.1.to_owned())]),
            regions: regions.iter().map(|region| Region((*region).to_owned())).collect(),
        };
        let now = targets("b", ("k", "new"), &["eu-west-1"]);
        let all = now.with_earlier(&targets("a", ("k", "old"), &["us-east-1", "eu-west-1"]));
        assert_eq!(all.principals.len(), 2);
        assert_eq!(all.tags["k"], "new");
        assert_eq!(all.regions.len(), 2);
        assert_eq!(now.with_earlier(&now), now);
        assert_eq!(now.with_earlier(&targets("a", ("l", "x"), &[])).regions, []);
        let every = targets("b", ("k", "new"), &[]);
        assert_eq!(every.with_earlier(&now).regions, []);
    }
}
