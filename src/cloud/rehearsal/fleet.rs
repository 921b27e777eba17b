//! What a fleet is made of, and how it looks from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::functions::FunctionSpec;
use super::groups::GroupSpec;
use super::services::{ServiceSpec, TaskSpec};
use super::standing::StandingSpec;
use crate::domain::containment::observed::{InstanceState, SpotKind};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::fleet::asset::Settings;
use crate::domain::money::Usd;

/// A fleet to start with.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    pub account: String,
    /// Who the daemon is there.
    pub identity: String,
    pub regions: Vec<Region>,
    pub principals: Vec<PrincipalSpec>,
    pub machines: Vec<MachineSpec>,
    pub groups: Vec<GroupSpec>,
    pub services: Vec<ServiceSpec>,
    /// Tasks that no service started.
    pub tasks: Vec<TaskSpec>,
    pub functions: Vec<FunctionSpec>,
    pub standing: Vec<StandingSpec>,
    /// Dollars an hour by instance type, and by rate for everything else; what is not listed costs nothing
    /// here and says so in `unpriced` of the snapshot.
    pub prices: BTreeMap<String, Usd>,
    pub timing: Timing,
}

impl FleetSpec {
    pub fn new(account: &str, regions: &[&str]) -> Self {
        Self {
            account: account.to_owned(),
            identity: format!("arn:aws:iam::{account}:role/backstop"),
            regions: regions.iter().map(|region| Region((*region).to_owned())).collect(),
            principals: Vec::new(),
            machines: Vec::new(),
            groups: Vec::new(),
            services: Vec::new(),
            tasks: Vec::new(),
            functions: Vec::new(),
            standing: Vec::new(),
            prices: BTreeMap::new(),
            timing: Timing::default(),
        }
    }

    #[must_use]
    pub fn principal(mut self, principal: PrincipalSpec) -> Self {
        self.principals.push(principal);
        self
    }

    #[must_use]
    pub fn machine(mut self, machine: MachineSpec) -> Self {
        self.machines.push(machine);
        self
    }

    #[must_use]
    pub fn group(mut self, group: GroupSpec) -> Self {
        self.groups.push(group);
        self
    }

    #[must_use]
    pub fn service(mut self, service: ServiceSpec) -> Self {
        self.services.push(service);
        self
    }

    #[must_use]
    pub fn task(mut self, task: TaskSpec) -> Self {
        self.tasks.push(task);
        self
    }

    #[must_use]
    pub fn function(mut self, function: FunctionSpec) -> Self {
        self.functions.push(function);
        self
    }

    #[must_use]
    pub fn standing(mut self, standing: StandingSpec) -> Self {
        self.standing.push(standing);
        self
    }
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub starting: Duration,
    pub stopping: Duration,
    /// Until a change of a policy binds (IAM is eventually consistent).
    pub policy: Duration,
    /// Until a machine that was started passes its checks.
    pub checks: Duration,
    /// Until the record of calls tells of a call, as CloudTrail's does within a quarter of an hour.
    pub record: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            starting: Duration::from_secs(4),
            stopping: Duration::from_secs(8),
            policy: Duration::from_secs(1),
            checks: Duration::from_secs(20),
            record: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Clone)]
pub struct PrincipalSpec {
    pub principal: Principal,
    /// Users only: id and whether it is active.
    pub keys: Vec<(String, bool)>,
    /// Users only: credentials of single services, by id and whether they are active.
    pub service_credentials: Vec<(String, bool)>,
    /// What its own inline policies take of their room.
    pub inline_chars: usize,
    /// It has as many managed policies as it may have.
    pub attachments_full: bool,
    /// Roles only.
    pub profile_arns: Vec<String>,
    /// Roles only: who may assume it.
    pub trusted: Vec<String>,
}

impl PrincipalSpec {
    pub fn role(arn: &str) -> Self {
        Self {
            principal: Principal::Role(arn.to_owned()),
            keys: Vec::new(),
            service_credentials: Vec::new(),
            inline_chars: 0,
            attachments_full: false,
            profile_arns: Vec::new(),
            trusted: Vec::new(),
        }
    }

    pub fn user(arn: &str, keys: &[(&str, bool)]) -> Self {
        Self {
            principal: Principal::User(arn.to_owned()),
            keys: keys.iter().map(|&(id, active)| (id.to_owned(), active)).collect(),
            service_credentials: Vec::new(),
            inline_chars: 0,
            attachments_full: false,
            profile_arns: Vec::new(),
            trusted: Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct MachineSpec {
    pub region: Region,
    /// Made up when it is launched; given in a fleet to start with, if wanted.
    pub id: Option<String>,
    pub instance_type: String,
    pub tags: BTreeMap<String, String>,
    pub profile_arn: Option<String>,
    pub spot: Option<SpotKind>,
    pub root_is_instance_store: bool,
    pub stop_protected: bool,
    pub group: Option<String>,
    /// In a fleet to start with; what is launched begins as pending.
    pub state: InstanceState,
}

impl MachineSpec {
    pub fn new(region: &str, instance_type: &str) -> Self {
        Self {
            region: Region(region.to_owned()),
            id: None,
            instance_type: instance_type.to_owned(),
            tags: BTreeMap::new(),
            profile_arn: None,
            spot: None,
            root_is_instance_store: false,
            stop_protected: false,
            group: None,
            state: InstanceState::Running,
        }
    }

    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn profile(mut self, arn: &str) -> Self {
        self.profile_arn = Some(arn.to_owned());
        self
    }
}

/// The fleet as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetSnapshot {
    /// By `region/id`; terminated ones as well.
    pub machines: BTreeMap<String, InstanceState>,
    /// The inline policies of the name that the kill switch uses, by ARN.
    pub denies: BTreeMap<String, Option<String>>,
    /// Whether the managed policy of that name is attached, by ARN.
    pub attached: BTreeMap<String, bool>,
    /// What the managed policy says, while there is one.
    pub managed: Option<String>,
    /// By `user/key`.
    pub keys: BTreeMap<String, bool>,
    /// By `user/id`.
    pub service_credentials: BTreeMap<String, bool>,
    /// Settings of groups, services and functions, by stable id.
    pub settings: BTreeMap<String, Settings>,
    /// How many tasks run, by the stable id of what started them; `-` for nothing.
    pub tasks: BTreeMap<String, usize>,
    /// Instance types and rates without a price.
    pub unpriced: Vec<String>,
}

impl FleetSnapshot {
    pub fn count(&self, state: InstanceState) -> usize {
        self.machines.values().filter(|&&is| is == state).count()
    }
}
