//! An asset: one thing in the cloud that costs money by the hour, or that starts things which do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rate::Meter;
use crate::domain::containment::target::Region;

/// What kind of thing it is, as its stable ids begin: `instance`, `group`, `ecs-service`, `function`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(Cow<'static, str>);

impl Kind {
    pub const INSTANCE: Self = Self::named("instance");

    /// Those besides instances that a config may choose from. It is a list of names and nothing more; the
    /// cloud's registry has the same, which a test there shows.
    pub const CHOICE: &'static [Self] = &[
        Self::named("address"),
        Self::named("balancer"),
        Self::named("classic-balancer"),
        Self::named("ecs-service"),
        Self::named("ecs-task"),
        Self::named("function"),
        Self::named("group"),
        Self::named("nat"),
        Self::named("volume"),
    ];

    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which asset. Its `Display` is its stable id, such as `group:eu-west-1/workers`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AssetRef {
    pub kind: Kind,
    pub region: Region,
    /// Unique within its kind and region, such as `i-0abc`, a group's name, `cluster/service`.
    pub id: String,
}

impl fmt::Display for AssetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.kind, self.region, self.id)
    }
}

/// Settings of an asset that the kill switch owns while it is capped, by name: nothing else of it is
/// ever changed. What a name and a value mean is known to the adapter alone.
pub type Settings = BTreeMap<String, String>;

/// One asset as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    pub what: AssetRef,
    /// The service under which it is billed, as AWS's bills name it, such as `AmazonEC2`.
    pub service: Cow<'static, str>,
    pub tags: BTreeMap<String, String>,
    /// ARNs of the roles and instance profiles that it acts with.
    pub acts_as: Vec<String>,
    /// Why some of what says whose it is (its tags, what it acts with) is there and could not be read. Where
    /// nothing else names an owner, its owner is not known: it must not be taken for nobody's.
    #[serde(default)]
    pub unread: Option<String>,
    /// What started it and would start it again: an instance's group, a task's service.
    pub parent: Option<AssetRef>,
    pub created_at: Option<Timestamp>,
    /// What it is charged for now. Empty when it costs nothing by the hour as it stands.
    pub meters: Vec<Meter>,
    pub brake: Brake,
}

/// How an asset can be halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "brake")]
pub enum Brake {
    /// By its own settings: it is capped when `now` equals `capped`. A reset puts back what was before.
    Cap { now: Settings, capped: Settings },
    /// By ending it, for good: a task that its service would start anew, or that somebody has to run again.
    End,
    /// Like an instance: in batches, by its own calls of the port.
    Stop,
    /// Only deletion would, and nothing is ever deleted: it is *still burning* while it is charged for. The
    /// text says what a person would have to do.
    Deletion { how: Cow<'static, str> },
    /// Not now, for a reason that may pass or that a person has to remove.
    Blocked { why: String },
}

impl Asset {
    /// Whether it is capped now; `None` for what is not halted by its settings.
    pub fn is_capped(&self) -> Option<bool> {
        match &self.brake {
            Brake::Cap { now, capped } => Some(now == capped),
            _ => None,
        }
    }
}
