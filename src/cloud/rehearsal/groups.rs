//! Auto Scaling groups: each keeps as many members as it is to have, and destroys a member that is down, or
//! that runs and does not pass its checks, for as long as its processes are not suspended. A group that goes by
//! its balancer gives those that it launches their time, and none to one that somebody else started again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::dial::{Dial, all};
use super::fleet::MachineSpec;
use super::world::{Machine, World, after};
use crate::domain::containment::observed::InstanceState;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind};

pub(super) const GROUP: Kind = Kind::named("group");

/// The processes of a group, each of which can be suspended.
const PROCESSES: [&str; 8] = [
    "Launch",
    "Terminate",
    "HealthCheck",
    "ReplaceUnhealthy",
    "AZRebalance",
    "AlarmNotification",
    "ScheduledActions",
    "InstanceRefresh",
];

/// A group of a fleet to start with; its members run already.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    pub name: String,
    pub desired: usize,
    pub tags: BTreeMap<String, String>,
    /// What it launches. A member carries these tags, and not the group's.
    pub member: MachineSpec,
    /// Processes that somebody suspended before.
    pub suspended: Vec<String>,
    /// It goes by its balancer, which finds a member healthy so long after its start.
    pub balanced: Option<Duration>,
}

impl GroupSpec {
    pub fn new(name: &str, desired: usize, member: MachineSpec) -> Self {
        Self {
            name: name.to_owned(),
            desired,
            tags: BTreeMap::new(),
            member,
            suspended: Vec::new(),
            balanced: None,
        }
    }

    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn balanced(mut self, healthy_after: Duration) -> Self {
        self.balanced = Some(healthy_after);
        self
    }

    #[must_use]
    pub fn suspended(mut self, process: &str) -> Self {
        self.suspended.push(process.to_owned());
        self
    }
}

pub(super) struct Group {
    pub dial: Dial,
    desired: usize,
    pub tags: BTreeMap<String, String>,
    pub balanced: Option<Duration>,
    member: MachineSpec,
}

impl Group {
    pub fn new(spec: GroupSpec) -> (AssetRef, Self) {
        let what = AssetRef {
            kind: GROUP,
            region: spec.member.region.clone(),
            id: spec.name.clone(),
        };
        let mut processes = all(&PROCESSES, "active");
        processes.extend(
            spec.suspended
                .into_iter()
                .map(|process| (process, "suspended".to_owned())),
        );
        let mut member = spec.member;
        member.group = Some(spec.name);
        let group = Self {
            dial: Dial::new(processes),
            desired: spec.desired,
            tags: spec.tags,
            balanced: spec.balanced,
            member,
        };
        (what, group)
    }

    fn works(&self, processes: &[&str]) -> bool {
        processes.iter().all(|process| self.dial.is(process, "active"))
    }

    pub fn asset(&self, what: &AssetRef, stale: Option<Duration>, now: Timestamp) -> Asset {
        Asset {
            what: what.clone(),
            service: "AmazonEC2".into(),
            tags: self.tags.clone(),
            acts_as: self.member.profile_arn.iter().cloned().collect(),
            parent: None,
            created_at: None,
            meters: Vec::new(),
            brake: Brake::Cap {
                now: self.dial.seen(stale, now),
                capped: all(&PROCESSES, "suspended"),
            },
        }
    }
}

impl World {
    /// Lets every group do what it does.
    pub fn react_groups(&mut self, now: Timestamp) {
        let names: Vec<AssetRef> = self.groups.keys().cloned().collect();
        for what in names {
            let Some(group) = self.groups.get(&what) else { continue };
            let replaces = group.works(&["HealthCheck", "ReplaceUnhealthy", "Terminate"]);
            let launches = group.works(&["Launch"]);
            let (desired, member) = (group.desired, group.member.clone());
            if replaces {
                let down = self.members(&what.region, &what.id, |state| {
                    matches!(state, InstanceState::Stopping | InstanceState::Stopped)
                });
                let running = self.members(&what.region, &what.id, |state| state == InstanceState::Running);
                let sick = running.into_iter().filter(|id| self.is_unfit(id, now));
                let sick: Vec<String> = sick.collect();
                for id in down.iter().chain(&sick) {
                    self.destroy(id, now);
                }
            }
            if launches {
                let running = self.members(&what.region, &what.id, InstanceState::is_chargeable).len();
                for _ in running..desired {
                    self.add(member.clone(), now);
                }
            }
        }
    }

    /// Whether its group would take a running machine for a sick one.
    fn is_unfit(&self, id: &str, now: Timestamp) -> bool {
        let machine = self.machines.get(id);
        machine.is_some_and(|machine| machine.is_sick || !self.balancer_finds_well(machine, now))
    }

    /// Whether the balancer of its group finds a machine healthy, if the group goes by one.
    pub fn balancer_finds_well(&self, machine: &Machine, now: Timestamp) -> bool {
        let group = machine.seen.group.as_ref().and_then(|name| {
            self.groups.get(&AssetRef {
                kind: GROUP,
                region: machine.seen.region.clone(),
                id: name.clone(),
            })
        });
        let takes = group.and_then(|group| group.balanced).filter(|_| machine.is_restarted);
        let well_at = takes.and_then(|takes| Some(after(machine.bill.since()?, takes)));
        well_at.is_none_or(|at| at <= now)
    }

    fn members(&self, region: &Region, group: &str, wanted: impl Fn(InstanceState) -> bool) -> Vec<String> {
        let machines = self.machines.values().filter(|machine| {
            let seen = &machine.seen;
            seen.region == *region && seen.group.as_deref() == Some(group) && wanted(seen.state)
        });
        machines.map(|machine| machine.seen.id.clone()).collect()
    }
}
