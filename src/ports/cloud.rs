//! The port to the cloud: what the kill switch and the watcher of the fleet need of it.
//!
//! A [`Cloud`] is one account, seen with credentials of that account: nothing of the port names an account, and
//! [`Cloud::identity`] says which one it is. So far a daemon has one, and all its agents have to declare the same
//! account (the config refuses a second one); an agent of another account than the credentials' is refused by
//! every plan, by a line that names both.
//!
//! A second account comes as a second `Cloud`, made in `app` with credentials of a role that is assumed there.
//! What stands beside it is made for that: the watcher's lease, its book and the record of who made what are
//! kept by account, so it has one watcher more; before-images and notes of regions name theirs, and
//! [`Frame::in_scope`](crate::domain::containment::plan::Frame::in_scope) holds an agent's declared account against
//! the cloud's. The kill switch has one `Cloud` in its driver, and is to choose it by the account of the
//! containment's targets when it makes a pass: nothing below the driver knows that there is more than one.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Retry;
use crate::domain::containment::observed::{BatchResult, Identity, Instance, PrincipalState, Simulated};
use crate::domain::containment::state::Action;
use crate::domain::containment::target::{Principal, Region, Resource};
use crate::domain::drill::predict::Limits;
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::rate::RateKey;
use crate::domain::iam::simulation::{Question, Ruling};
use crate::domain::money::Usd;

/// An operational failure of the cloud.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed{}: {message}", region.as_ref().map(|r| format!(" in {r}")).unwrap_or_default())]
pub struct CloudError {
    /// The API operation, such as `ec2:StopInstances`.
    pub operation: &'static str,
    pub region: Option<Region>,
    /// The provider's error code, if it answered with one.
    pub code: Option<String>,
    pub message: String,
    pub retry: Retry,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The cloud side of an agent. Every change is safe to run twice.
#[async_trait]
pub trait Cloud: Send + Sync + 'static {
    /// Who the daemon is there.
    async fn identity(&self) -> Result<Identity, CloudError>;
    /// A mark of the credentials in use: the same for as long as they are the same, never that of
    /// others, and telling nothing of them. It asks where the credentials come from, and not the services
    /// that they are for. `None` if there are none, or none that can be told apart.
    async fn credentials_mark(&self) -> Option<String>;
    /// The regions that are enabled for the account.
    async fn regions(&self) -> Result<Vec<Region>, CloudError>;
    /// Every instance of a region that is not terminated, all pages.
    async fn instances(&self, region: &Region, filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError>;
    /// Whether an instance is protected against being stopped (`DisableApiStop`).
    async fn stop_protection(&self, region: &Region, instance: &str) -> Result<bool, CloudError>;
    async fn principal(&self, principal: &Principal, policy_name: &str) -> Result<PrincipalState, CloudError>;
    /// Characters without white space of its inline policies, but for ours: for a rehearsal, a call a policy.
    async fn inline_chars(&self, principal: &Principal, policy_name: &str) -> Result<usize, CloudError>;
    /// Puts the inline policy of our name. Where inline policies leave no room for it, it is refused with
    /// the code [`NO_ROOM`](crate::domain::containment::deny::NO_ROOM).
    async fn put_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError>;
    /// Deletes the inline policy of our name; fine if it is not there.
    async fn delete_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError>;
    /// ARNs of the account's roles whose trust policy lets one of these principals assume them. A cloud
    /// that cannot tell says so, and the coverage with it (C3): it never answers with nothing.
    async fn trusting(&self, _principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        Err(not_here("iam:ListRoles", "trust policies are not looked at here"))
    }
    /// Attaches the managed policy of this name, made if it is not there, and made to say this if it says
    /// something else: for a principal whose inline policies leave no room. Where it may have no more managed
    /// policies either, it is refused with the same code as [`Self::put_deny`].
    async fn attach_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError>;
    /// Detaches it, and deletes it once nobody has it; fine if it is not attached.
    async fn detach_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError>;
    async fn set_service_credential(&self, user: &str, id: &str, active: bool) -> Result<(), CloudError>;
    /// What the cloud's policy simulation says that the principal may do.
    async fn simulate(&self, principal: &Principal, actions: &[String]) -> Result<Vec<Simulated>, CloudError>;
    /// How many calls it lets through, for foretelling how long many take.
    fn limits(&self) -> Limits {
        Limits::default()
    }
    /// The permission of ours that a change needs; `us` is the ARN of our own identity. `None` where this
    /// cloud has no word for it.
    fn permission(&self, _us: &str, _asking: &Asking<'_>) -> Option<Permission> {
        None
    }
    /// What the cloud's policy simulation says of permissions of our own, in their order; `None` of one that
    /// it did not answer for.
    async fn simulate_each(&self, _us: &str, _asked: &[Permission]) -> Result<Vec<Option<bool>>, CloudError> {
        Err(CloudError {
            operation: "iam:SimulatePrincipalPolicy",
            region: None,
            code: None,
            message: "permissions are not simulated here".to_owned(),
            retry: Retry::Never,
            source: None,
        })
    }
    async fn set_access_key(&self, user: &str, key_id: &str, active: bool) -> Result<(), CloudError>;
    /// Stops instances of one region. A batch that AWS refuses as a whole is bisected, so that one
    /// bad instance does not keep the others running; the result has a line for each.
    async fn stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError>;
    async fn start(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError>;
    /// Whether stopping would be allowed, without doing it (EC2 DryRun).
    async fn may_stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError>;
    async fn terminate(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError>;
    /// Whether running instances pass the checks by which they are judged: the cloud's own and, for members of
    /// a group that goes by its balancers, those as well. One that is not mentioned is not known.
    async fn health(&self, region: &Region, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError>;

    // --- everything but instances -----------------------------------------------------------------
    /// The kinds of assets besides instances that are looked for here.
    fn kinds(&self) -> Vec<Kind>;
    /// Those that it knows and was told not to look for. [`Self::assets`] shows them all the same, so that
    /// what was halted before is put back; every report names them (C3).
    fn kinds_off(&self) -> Vec<Kind> {
        Vec::new()
    }
    /// Every asset of one kind in a region, all pages, whoever's it is.
    async fn assets(&self, region: &Region, kind: &Kind) -> Result<Vec<Asset>, CloudError>;
    /// Brings these settings of an asset to these values and leaves its others alone; caps and uncaps.
    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError>;
    /// Ends an asset for good; fine if it has ended.
    async fn end(&self, asset: &AssetRef) -> Result<(), CloudError>;
    /// One page of who made what in a region, as far as the cloud has recorded it: it may be minutes behind,
    /// and an event may come after a later one.
    async fn creations(&self, region: &Region, wanted: &LookUp<'_>) -> Result<Recorded, CloudError>;
    /// List prices of rates by the hour and unit, on demand; `None` for a rate that the list does not have. One
    /// that could not be asked for is left out.
    async fn list_prices(
        &self,
        region: &Region,
        rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError>;
    /// What the cloud's policy simulation says that a principal may do, to what, in which request. A cloud
    /// that has no simulation says so; it is never taken for a yes or a no.
    async fn rule(&self, _principal: &Principal, _question: &Question) -> Result<Vec<Ruling>, CloudError> {
        Err(not_here(
            "iam:SimulatePrincipalPolicy",
            "policies are not simulated here",
        ))
    }
    /// The looks that can be tried, the first of each service first.
    fn probes(&self) -> &'static [Probe] {
        &[]
    }
    /// Tries one of them: whether it is answered, and when. It changes nothing and costs nothing.
    async fn probe(&self, _region: &Region, action: &'static str) -> Result<Answered, CloudError> {
        Err(not_here(action, "nothing is tried here"))
    }
}

/// Which part of the record of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp<'a> {
    /// A name of [`CALLS`](crate::domain::fleet::creation_event::CALLS).
    pub call: &'a str,
    pub since: Timestamp,
    /// Nothing later than this; `None`: up to now.
    pub until: Option<Timestamp>,
    /// What the page before it gave.
    pub page: Option<String>,
}

/// A page of the record of calls, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    pub creations: Vec<Creation>,
    /// When the oldest event of the page was, whether it made something or not.
    pub oldest: Option<Timestamp>,
    /// Why it is not known who made something: an event that cannot be read.
    pub unread: Option<String>,
    /// There is more, and it is older.
    pub next: Option<String>,
}

fn not_here(operation: &'static str, message: &str) -> CloudError {
    CloudError {
        operation,
        region: None,
        code: None,
        message: message.to_owned(),
        retry: Retry::Never,
        source: None,
    }
}

/// A look that can be tried without harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The permission that it needs, such as `ec2:DescribeInstances`.
    pub action: &'static str,
    /// Whether its service is one in each region, or one for all of them.
    pub in_each_region: bool,
}

/// The answer to a probe.
#[derive(Debug)]
pub struct Answered {
    /// What time it was there.
    pub at: Option<Timestamp>,
    /// It answered, and refused: not allowed, not enabled, too many.
    pub refused: Option<CloudError>,
}

/// A change that a drill asks about.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub action: Action,
    pub resource: &'a Resource,
    /// Whose it is, for keys and credentials.
    pub principal: Option<&'a Principal>,
    /// The ownership tags that it carries.
    pub tags: &'a BTreeMap<String, String>,
}

/// A permission, as the policy simulation asks about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// Such as `ec2:StopInstances`.
    pub action: String,
    /// The ARN of what it is about.
    pub resource: String,
    /// Condition keys, with the value of each.
    pub context: BTreeMap<String, String>,
}

/// Whether a machine passes its checks; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Passing,
    /// Not yet, or not known.
    Pending,
    Failing,
}

/// Which instances to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceFilter {
    /// Every one.
    All,
    /// Any of these tags.
    Tags(Vec<(String, String)>),
    /// Any of these instance profiles, by ARN.
    Profiles(Vec<String>),
    Ids(Vec<String>),
    /// The members of any of these groups, by name.
    Groups(Vec<String>),
}
