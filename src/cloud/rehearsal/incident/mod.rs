//! Incidents as data: what an agent makes when, what that costs, and what the bill was.
//!
//! An incident is a TOML file, so that a real one can be written down next to its sources and run again:
//! against nothing, against AWS Budgets, against Backstop. It says what was published, what had to be
//! assumed, and the prices by which the rehearsal reckons its bill. A script is only as true as its bill:
//! a test holds that one that nobody stops costs what was published.
//!
//! The agent tries everything in its script at its time, whatever became of the rest; what its credentials
//! are refused is counted and not made.

mod play;
mod read;

use jiff::SignedDuration;
use serde::Deserialize;

use super::fleet::{FleetSpec, PrincipalSpec};
use crate::domain::containment::target::{CloudTargets, Principal, Region};
use crate::domain::id::AgentId;
use crate::domain::money::Usd;

pub use play::Played;
pub use read::IncidentError;

/// The ownership tag that an agent's things carry.
pub const TAG: &str = "backstop:agent";

/// An agent told to optimise cloud spend starts 500 services.
pub const FIVE_HUNDRED_SERVICES: &str = include_str!("500-services.toml");
/// A template for a network scan, applied again and again.
pub const NETWORK_SCAN: &str = include_str!("network-scan.toml");

/// One incident.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    pub name: String,
    /// What happened, in a sentence.
    pub story: String,
    pub agent: AgentId,
    /// The agent's role, which makes everything.
    pub role: String,
    pub account: String,
    pub region: Region,
    /// What the operator would have capped the agent at, a day.
    #[serde(deserialize_with = "read::dollars")]
    pub limit_usd: Usd,
    /// How long the bill is added up, from the first thing that is made.
    pub hours: u32,
    pub published: Published,
    /// What is not published and had to be assumed, for a person.
    pub assumptions: Vec<String>,
    #[serde(rename = "price")]
    pub prices: Vec<Price>,
    #[serde(rename = "wave")]
    pub waves: Vec<Wave>,
}

/// What is known of the bill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    #[serde(deserialize_with = "read::dollars")]
    pub usd: Usd,
    /// It is the order of magnitude, and this its least; otherwise it is the bill.
    #[serde(default)]
    pub at_least: bool,
    /// Documented, third party or synthetic: and where it can be read.
    pub source: String,
}

/// What a rate costs: an instance type, or a rate of anything else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub rate: String,
    #[serde(deserialize_with = "read::dollars")]
    pub usd_per_hour: Usd,
    pub source: String,
}

/// The same things, made again and again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    #[serde(default)]
    pub from_s: u32,
    #[serde(default)]
    pub every_s: u32,
    #[serde(default = "once")]
    pub times: u32,
    pub make: Vec<Make>,
}

fn once() -> u32 {
    1
}

/// So many of one thing, at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Make {
    #[serde(default = "once")]
    pub count: u32,
    /// Every so many of them (counted over all waves) carry no ownership tag, and only the cloud's own record
    /// says who made them; 0: all carry it.
    #[serde(default)]
    pub untagged_every: u32,
    pub of: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    Machine {
        #[serde(rename = "type")]
        instance_type: String,
    },
    /// An Auto Scaling group.
    Group {
        #[serde(rename = "type")]
        instance_type: String,
        members: u32,
    },
    /// An ECS service on Fargate; each task of so many vCPUs and GiB.
    Service { tasks: u32, vcpu: u32, gib: u32 },
    /// Somebody goes on invoking it, for so much an hour that no listing shows.
    Function {
        #[serde(deserialize_with = "read::dollars")]
        usd_per_hour: Usd,
    },
    /// An application load balancer.
    Balancer,
    /// A gp3 volume.
    Volume { gib: u32 },
    /// A public IPv4 address.
    Address,
}

impl Incident {
    pub fn lasts(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.hours))
    }

    pub fn principal(&self) -> Principal {
        Principal::Role(self.role.clone())
    }

    /// The cloud before it happens: the agent may do everything, and nothing runs.
    pub fn fleet(&self) -> FleetSpec {
        let mut spec = FleetSpec::new(&self.account, &[&self.region.0]).principal(PrincipalSpec::role(&self.role));
        let prices = self.prices.iter();
        spec.prices = prices.map(|price| (price.rate.clone(), price.usd_per_hour)).collect();
        spec
    }

    /// What an operator declares of the agent.
    pub fn targets(&self) -> CloudTargets {
        CloudTargets {
            account: self.account.clone(),
            principals: vec![self.principal()],
            tags: [(TAG.to_owned(), self.agent.to_string())].into(),
            regions: Vec::new(),
        }
    }

    /// Whether a bill is the published one: to half a percent, or above its least.
    pub fn is_as_published(&self, bill: Usd) -> bool {
        let (bill, published) = (bill.nanos(), self.published.usd.nanos());
        if self.published.at_least {
            // Of the same order: six figures are not seven.
            bill >= published && bill < published.saturating_mul(10)
        } else {
            bill.abs_diff(published) <= published.unsigned_abs() / 200
        }
    }
}
