//! What the cloud port saw. Plain data, so that the rehearsal fleet and AWS answer alike.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::target::{Principal, Region};
use crate::domain::fleet::asset::{AssetRef, Kind};

/// The kind of an Auto Scaling group: an instance names its own by name alone.
const GROUP: Kind = Kind::named("group");

/// An instance's state as EC2 names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

impl InstanceState {
    /// Whether it costs compute now or is about to.
    pub fn is_chargeable(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    /// Whether it is gone for good.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

/// An EC2 instance, with what classification needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub region: Region,
    pub id: String,
    pub state: InstanceState,
    pub instance_type: String,
    pub tags: BTreeMap<String, String>,
    /// The ARN of its instance profile, if it has one.
    pub profile_arn: Option<String>,
    pub launched_at: Option<Timestamp>,
    /// `spot` and its request type, if it is one.
    pub spot: Option<SpotKind>,
    /// An instance-store root cannot be stopped, only terminated.
    pub root_is_instance_store: bool,
    /// `DisableApiStop`; `None` until it was asked for (it is one call an instance).
    pub stop_protected: Option<bool>,
    /// The Auto Scaling group that owns it, from the `aws:autoscaling:groupName` tag.
    pub group: Option<String>,
    /// The fleet or spot request that started it, if it was one.
    #[serde(default)]
    pub request: Option<AssetRef>,
    /// As what it is sold, where that is not plain Linux on shared hardware: see
    /// [`rate`](crate::domain::fleet::instance).
    #[serde(default)]
    pub sold_as: Option<String>,
}

impl Instance {
    /// What started it, and replaces it when it stops.
    pub fn parent(&self) -> Option<AssetRef> {
        self.group.as_ref().map(|name| AssetRef {
            kind: GROUP,
            region: self.region.clone(),
            id: name.clone(),
        })
    }

    /// What started it, whether that can be capped or not: whoever made it, made this.
    pub fn started_by(&self) -> Option<AssetRef> {
        self.parent().or_else(|| self.request.clone())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpotKind {
    /// Cannot be stopped, only terminated.
    OneTime,
    Persistent,
}

/// A role or user, with what revoking it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalState {
    pub principal: Principal,
    pub exists: bool,
    /// The document of the inline policy of our name, decoded, if there is one.
    pub deny_document: Option<String>,
    /// Whether the managed policy of our name is attached: the fallback where no inline one fits.
    pub deny_attached: bool,
    /// What that policy says now, decoded, if it is attached.
    pub attached_document: Option<String>,
    /// Characters without white space of its inline policies, but for ours: IAM allows 10,240 for a role and
    /// 2,048 for a user, in all. `None` while they were not asked for, which costs a call a policy.
    pub inline_chars: Option<usize>,
    /// Users only.
    pub keys: Vec<AccessKey>,
    /// Users only: credentials of single services, such as Bedrock's long-term API keys.
    pub service_credentials: Vec<ServiceCredential>,
    /// Why its keys could not be listed. No deny waits for them: it binds whatever is signed with them.
    pub keys_unseen: Option<Blind>,
    /// Likewise of its service credentials.
    pub credentials_unseen: Option<Blind>,
    /// Roles only: instance profiles that carry the role.
    pub profile_arns: Vec<String>,
    /// Why those could not be listed: machines that carry them may be missed, but the deny is put (C3).
    pub profiles_unseen: Option<Blind>,
    /// Roles only: the roles and users that its trust policy lets assume it, as ARNs.
    pub trusted: Vec<String>,
    /// The ARN of its permission boundary, if it has one.
    #[serde(default)]
    pub boundary: Option<String>,
}

impl PrincipalState {
    /// As nobody has it, and as a look begins.
    pub fn absent(principal: Principal) -> Self {
        Self {
            principal,
            exists: false,
            deny_document: None,
            deny_attached: false,
            attached_document: None,
            inline_chars: None,
            keys: Vec::new(),
            service_credentials: Vec::new(),
            keys_unseen: None,
            credentials_unseen: None,
            profile_arns: Vec::new(),
            profiles_unseen: None,
            trusted: Vec::new(),
            boundary: None,
        }
    }
}

/// A part of a look that failed while the rest of it succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    pub why: String,
    /// It is refused as long as nobody changes something: a fact to report. Else the next look may see it.
    pub refused: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub id: String,
    pub active: bool,
}

/// A long-term credential for one service, which outlives the deactivation of all access keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCredential {
    pub id: String,
    /// Such as `bedrock.amazonaws.com`.
    pub service: String,
    pub active: bool,
}

/// What a policy simulation says of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulated {
    /// Such as `ec2:RunInstances`.
    pub action: String,
    pub allowed: bool,
}

/// Who the daemon itself is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub account: String,
    /// The role or user behind the credentials (an assumed-role session is reduced to its role).
    pub arn: String,
}

/// What became of each instance of one stop or start call. Of one that is on neither list nobody knows:
/// it may have been stopped or started, and must be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchResult {
    /// The call was accepted for these.
    pub accepted: Vec<String>,
    /// Those of the accepted that were stopping or stopped before a stop: this call did not stop them.
    pub already: Vec<String>,
    /// These were refused one by one, with AWS's error code and message.
    pub refused: Vec<(String, Refused)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// AWS's error code, such as `OperationNotPermitted`.
    pub code: String,
    pub message: String,
    /// Whether trying again can help without anyone changing anything.
    pub transient: bool,
}
